//! What other mail systems say of tracked messages ([`report::notice`]), joined to the trails they are about. Nobody
//! proves such words, so they change no state and no outcome: they stand beside what the hops reported.
//!
//! [`report::notice`]: crate::report::notice

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use super::message::{Joined, Message, Outcome, Recipient, Word};
use crate::report::notice::{Fate, Notice, Said};

impl Word {
    /// Whether it stands in this notice.
    pub fn is_of(&self, notice: &Notice) -> bool {
        let says = |fate: &Fate| *fate == self.fate && self.at_us == told_us(notice, fate);
        self.host == notice.host && self.from == notice.from && notice.fates.iter().any(says)
    }
}

/// The words of others, by the names of messages that stand in them.
#[derive(Default)]
pub struct Heard {
    notices: Vec<Notice>,
    /// For each name of a message the notices that bear it, and as which of the names they bear: an ENVID goes before a
    /// Message-ID, and the notice's own reading of a name before ours.
    named: HashMap<Name<'static>, Vec<(usize, usize)>>,
    /// The hashes of these names.
    hashes: HashSet<u64>,
}

/// By what a notice may name a message.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Name<'a> {
    Envid(Cow<'a, str>),
    MessageId(Cow<'a, str>),
    /// In lower case, of notices that bear no other name.
    Recipient(Cow<'a, str>),
}

/// What messages have of the names that notices bear.
#[derive(Default)]
pub struct Found(HashMap<usize, Best>);

/// The best that is known of a notice.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Best {
    /// Messages have this of its names.
    Named(usize),
    /// This one has the recipient, and may still be on its way.
    Alone(u64),
    /// So have several.
    Several,
}

impl Best {
    fn or(self, other: Self) -> Self {
        match (self, other) {
            (Self::Named(one), Self::Named(other)) => Self::Named(one.min(other)),
            (one, other) if one == other => one,
            _ => Self::Several,
        }
    }
}

impl Found {
    /// Takes in what other messages have.
    pub fn join(&mut self, others: Self) {
        for (notice, best) in others.0 {
            self.note(notice, best);
        }
    }

    fn note(&mut self, notice: usize, best: Best) {
        let known = self.0.entry(notice).or_insert(best);
        *known = known.or(best);
    }
}

/// Gives each message the words about it, in the order of their time; a copy of a notice says nothing new.
pub fn join(messages: &mut [Message], notices: Vec<Notice>) {
    let heard = Heard::new(notices);
    let mut found = Found::default();
    for message in messages.iter() {
        heard.see(message, &mut found);
    }
    for message in messages {
        heard.tell(message, &found);
    }
}

impl Heard {
    /// Words that are about messages still to be seen.
    pub fn new(mut notices: Vec<Notice>) -> Self {
        let mut seen = HashSet::new();
        let new: Vec<bool> = notices.iter().map(|notice| seen.insert(notice)).collect();
        drop(seen);
        let mut new = new.into_iter();
        notices.retain(|_| new.next() == Some(true));
        let mut named: HashMap<Name<'static>, Vec<(usize, usize)>> = HashMap::new();
        for (n, notice) in notices.iter().enumerate() {
            for (rank, name) in names(notice).into_iter().enumerate() {
                named.entry(name).or_default().push((n, rank));
            }
        }
        let hashes = named.keys().map(Name::hash_of).collect();
        Self {
            notices,
            named,
            hashes,
        }
    }

    /// Whether nobody says anything.
    pub fn is_empty(&self) -> bool {
        self.notices.is_empty()
    }

    /// Notes which notices a message may be what is meant by.
    pub fn see(&self, message: &Message, found: &mut Found) {
        for (name, notices) in self.about(message) {
            for (notice, rank) in notices {
                let best = match name {
                    Name::Recipient(_) => Best::Alone(key(message)),
                    _ => Best::Named(*rank),
                };
                found.note(*notice, best);
            }
        }
    }

    /// Gives a message the words about it; all messages have been seen.
    pub fn tell(&self, message: &mut Message, found: &Found) {
        let mut about: Vec<(usize, Joined)> = Vec::new();
        for (name, notices) in self.about(message) {
            for (notice, rank) in notices {
                let (joined, best) = match name {
                    Name::Envid(_) => (Joined::Envid, Best::Named(*rank)),
                    Name::MessageId(_) => (Joined::MessageId, Best::Named(*rank)),
                    Name::Recipient(_) => (Joined::Recipient, Best::Alone(key(message))),
                };
                if found.0.get(notice) == Some(&best) {
                    about.push((*notice, joined));
                }
            }
        }
        about.sort_unstable();
        about.dedup();
        let about = about.into_iter();
        let about = about.filter_map(|(n, joined)| Some((joined, self.notices.get(n)?)));
        let about: Vec<(Joined, &Notice)> = about.collect();
        if !about.is_empty() {
            tell(message, &about);
        }
    }

    /// The names that a message has and notices bear.
    fn about<'a>(&'a self, message: &'a Message) -> Vec<(Name<'a>, &'a [(usize, usize)])> {
        if self.is_empty() {
            return Vec::new();
        }
        let borne = |name: Name<'a>| {
            let notices = self.named.get(&name)?;
            Some((name, notices.as_slice()))
        };
        names_of(message).into_iter().filter_map(borne).collect()
    }

    /// What of a message [`Heard::knows`] can be asked about.
    pub fn hashes_of(message: &Message) -> impl ExactSizeIterator<Item = u64> {
        names_of(message).into_iter().map(|name| name.hash_of())
    }

    /// Whether a notice may bear the name of this hash.
    pub fn knows(&self, hash: u64) -> bool {
        self.hashes.contains(&hash)
    }
}

impl Name<'_> {
    /// The same in every run.
    fn hash_of(&self) -> u64 {
        let mut hash = DefaultHasher::new();
        self.hash(&mut hash);
        hash.finish()
    }
}

/// The names of a message by which others may speak of it.
fn names_of(message: &Message) -> Vec<Name<'_>> {
    // Mostly it has one of each.
    let mut names = Vec::with_capacity(2);
    names.extend(message.ids().map(|id| Name::Envid(id.as_str().into())));
    let message_id = message.message_id.as_deref();
    names.extend(message_id.map(|id| Name::MessageId(id.into())));
    let open = |r: &&Recipient| message.outcome_for(r) == Outcome::Open;
    let open = message.recipients.iter().filter(open);
    names.extend(open.map(|r| Name::Recipient(r.address.as_str().to_lowercase().into())));
    names
}

/// What tells a message from others.
fn key(message: &Message) -> u64 {
    let mut key = DefaultHasher::new();
    (&message.id, &message.message_id, message.sent_ms).hash(&mut key);
    key.finish()
}

/// The names of messages that a notice bears, the best first. One that names a message nobody knows is about that one.
fn names(notice: &Notice) -> Vec<Name<'static>> {
    let envids = notice.envid.iter().flat_map(|envid| readings(envid));
    let ids = notice.message_ids.iter().cloned();
    let mut names: Vec<Name> = envids
        .map(|envid| Name::Envid(envid.into()))
        .chain(ids.map(|id| Name::MessageId(id.into())))
        .collect();
    if names.is_empty() {
        let addresses = notice.fates.iter().flat_map(|fate| readings(&fate.address));
        names.extend(addresses.map(|address| Name::Recipient(address.to_lowercase().into())));
    }
    names
}

/// Gives a message its words, and each of its recipients the last one on it.
fn tell(message: &mut Message, notices: &[(Joined, &Notice)]) {
    let recipients = message.recipients.iter().enumerate();
    let places: HashMap<String, usize> = recipients
        .map(|(n, r)| (r.address.as_str().to_lowercase(), n))
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

fn word(places: &HashMap<String, usize>, notice: &Notice, fate: &Fate, joined: Joined) -> Word {
    let names = [&fate.address, &fate.recipient];
    let mut names = names.into_iter().flat_map(|name| readings(name));
    Word {
        address: fate.address.clone(),
        recipient: names.find_map(|name| places.get(&name.to_lowercase()).copied()),
        host: notice.host.clone(),
        from: notice.from.clone(),
        fate: fate.clone(),
        at_us: told_us(notice, fate),
        joined,
    }
}

/// When a notice says that it happened, µs.
fn told_us(notice: &Notice, fate: &Fate) -> Option<i64> {
    fate.attempted_us.or(notice.date_us)
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
