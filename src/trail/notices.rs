//! What other mail systems say of tracked messages ([`report::notice`]), joined to the trails they are about. Nobody
//! proves such words, so they change no state and no outcome: they stand beside what the hops reported.
//!
//! [`report::notice`]: crate::report::notice

use std::collections::{HashMap, HashSet};

use serde::Serialize;

use super::Message;
use super::state::{Outcome, Recipient};
use crate::report::notice::{Fate, Notice, Said};

/// What somebody says of a recipient of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word {
    /// Whom it names: the originator's recipient, where it says so.
    pub address: String,
    /// That recipient's place in [`Message::recipients`]; `None` if no hop has told of it.
    pub recipient: Option<usize>,
    /// The host or mail program that says it, by its own account.
    pub host: Option<String>,
    /// The address its mail says it is from.
    pub from: Option<String>,
    /// What it says.
    pub fate: Fate,
    /// When, µs of its own clock: the attempt, or else the date of the mail.
    pub at_us: Option<i64>,
    /// What it was joined by.
    pub joined: Joined,
}

impl Word {
    /// Who says it: the host, or else the address its mail is from.
    pub fn speaker(&self) -> Option<&str> {
        self.host.as_deref().or(self.from.as_deref())
    }
}

/// What a word and a message have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Joined {
    /// The ENVID, which is the tracking id.
    Envid,
    /// The Message-ID.
    MessageId,
    /// The address alone: just one message that may still be on its way has it, and the word names no other.
    Recipient,
}

/// The messages by what words may know of them.
struct Known {
    by_id: HashMap<String, Vec<usize>>,
    by_message_id: HashMap<String, Vec<usize>>,
    open_by_recipient: HashMap<String, Vec<usize>>,
}

/// Gives each message the words about it, in the order of their time; a copy of a notice says nothing new.
pub fn join(messages: &mut [Message], notices: &[Notice]) {
    if notices.is_empty() {
        return;
    }
    let known = Known::new(messages);
    let mut seen = HashSet::new();
    let mut about: HashMap<usize, Vec<(Joined, &Notice)>> = HashMap::new();
    for notice in notices.iter().filter(|notice| seen.insert(*notice)) {
        let (joined, named) = known.about(notice);
        for n in named {
            about.entry(n).or_default().push((joined, notice));
        }
    }
    for (n, notices) in about {
        if let Some(message) = messages.get_mut(n) {
            tell(message, &notices);
        }
    }
}

/// Gives a message its words, and each of its recipients the last one on it.
fn tell(message: &mut Message, notices: &[(Joined, &Notice)]) {
    let recipients = message.recipients.iter().enumerate();
    let places: HashMap<String, usize> = recipients
        .map(|(n, r)| (r.address.to_lowercase(), n))
        .collect();
    let words = notices.iter().flat_map(|(joined, notice)| {
        let word = |fate| word(&places, notice, fate, *joined);
        notice.fates.iter().map(word)
    });
    message.words = words.collect();
    message.words.sort_by_key(|word| word.at_us);
    for (n, word) in message.words.iter().enumerate() {
        let recipient = word.recipient.and_then(|r| message.recipients.get_mut(r));
        // What ended it outweighs what came before, whatever clock it was by.
        let counts = |before: usize| {
            let before = message.words.get(before);
            word.fate.said != Said::Delayed || before.is_none_or(|b| b.fate.said == Said::Delayed)
        };
        if let Some(recipient) = recipient.filter(|r| r.word.is_none_or(counts)) {
            recipient.word = Some(n);
        }
    }
}

impl Known {
    fn new(messages: &[Message]) -> Self {
        let mut known = Self {
            by_id: HashMap::new(),
            by_message_id: HashMap::new(),
            open_by_recipient: HashMap::new(),
        };
        let put = |map: &mut HashMap<String, Vec<usize>>, key: &str, n| {
            map.entry(key.to_owned()).or_default().push(n);
        };
        for (n, message) in messages.iter().enumerate() {
            put(&mut known.by_id, message.id.as_str(), n);
            if let Some(id) = &message.message_id {
                put(&mut known.by_message_id, id, n);
            }
            let open = |r: &&Recipient| message.outcome_for(r) == Outcome::Open;
            for recipient in message.recipients.iter().filter(open) {
                let address = recipient.address.to_lowercase();
                put(&mut known.open_by_recipient, &address, n);
            }
        }
        known
    }

    /// The messages a notice is about. One that names a message nobody knows is about that one.
    fn about(&self, notice: &Notice) -> (Joined, Vec<usize>) {
        let envids = notice.envid.iter().flat_map(|envid| readings(envid));
        let mut by_envid = envids.filter_map(|envid| self.by_id.get(&envid));
        if let Some(about) = by_envid.next() {
            return (Joined::Envid, about.clone());
        }
        let ids = notice.message_ids.iter();
        let mut by_message_id = ids.filter_map(|id| self.by_message_id.get(id));
        if let Some(about) = by_message_id.next() {
            return (Joined::MessageId, about.clone());
        }
        let nameless = notice.envid.is_none() && notice.message_ids.is_empty();
        let addresses = notice.fates.iter().filter(|_| nameless);
        let mut about: Vec<usize> = addresses
            .flat_map(|fate| readings(&fate.address))
            .filter_map(|address| self.open_by_recipient.get(&address.to_lowercase()))
            .flatten()
            .copied()
            .collect();
        about.sort_unstable();
        about.dedup();
        if about.len() > 1 {
            about.clear();
        }
        (Joined::Recipient, about)
    }
}

fn word(places: &HashMap<String, usize>, notice: &Notice, fate: &Fate, joined: Joined) -> Word {
    let names = [&fate.address, &fate.recipient];
    let mut names = names.into_iter().flat_map(|name| readings(name));
    Word {
        address: fate.address.clone(),
        recipient: names.find_map(|name| places.get(&name.to_lowercase()).copied()),
        host: notice.host.clone(),
        from: notice.from.clone(),
        fate: fate.clone(),
        at_us: fate.attempted_us.or(notice.date_us),
        joined,
    }
}

/// A name as it stands, and with its xtext (RFC 3461, 4) decoded, which Exim leaves to the reader.
fn readings(name: &str) -> Vec<String> {
    let mut decoded = Vec::new();
    let mut rest = name.as_bytes();
    while let Some((octet, behind)) = rest.split_first() {
        let escaped = match behind {
            [high, low, after @ ..] if *octet == b'+' => hex(*high, *low).map(|o| (o, after)),
            _ => None,
        };
        let (octet, behind) = escaped.unwrap_or((*octet, behind));
        decoded.push(octet);
        rest = behind;
    }
    let mut readings = vec![name.to_owned()];
    readings.extend(String::from_utf8(decoded).ok().filter(|text| text != name));
    readings
}

fn hex(high: u8, low: u8) -> Option<u8> {
    let digit = |c: u8| u8::try_from(char::from(c).to_digit(16)?).ok();
    Some(digit(high)? * 16 + digit(low)?)
}

impl Message {
    /// The last word of others on one of its recipients.
    pub fn last_word(&self, recipient: &Recipient) -> Option<&Word> {
        self.words.get(recipient.word?)
    }
}
