//! Judged reports made small: what the reader keeps of a mail, in memory and in its index alike. A tenth of the
//! mail, because a text that was written before is written as the place where it stands, and a moment as its
//! distance from the one before.
//!
//! ```text
//! record    = truth octet, from?, number of reports, report..., to text, number of Received fields, trace...
//! report    = id text, message-id of id, hop octet, role octet, step 8 octets, mask octet, arrival moment
//!             [parent 8 octets] [sent number] [queue-id words] [size number]
//!             [security in] [security out] [filtered moment], 0 | 1, came-for number,
//!             number of hops in the ring, text..., exchanges in, exchanges out, number of recipients, recipient...
//! recipient = original text, event octet, class octet, subject number, detail number, mask octet
//!             [recipient text, if it is another] [remote text] [attempted moment] [reply words] [queue-id of next]
//!             [reply in front of the queue id text, queue-id words: where it ends in that, instead of both]
//! trace     = by text, mask octet [client text] [id words] [at moment]
//! notice    = mask octet, [envid text] [host text] [from text] [date moment], number of Message-IDs, text...,
//!             number of fates, fate...
//! fate      = address text, recipient text, said octet, mask octet, [class octet, subject number, detail number]
//!             [remote text] [reply words] [attempted moment]
//! of id     = 0 none | 1 what stands behind the words of the id, where these stood before
//!           | number of octets + 2, octets
//! of next   = words | 0, number: where in the reply it begins, number: its octets
//! exchanges = number * 2 + 1, (command moment, reply moment)... for the stages in order, the first first
//!           | number * 2, (stage octet, command moment, reply moment)... for others
//! security  = 0 | 1 or 2 (verified), version text, cipher text
//!           | 3 or 4 (verified) and 2 more for each place in the list of suites that are usual
//! number    = LEB128; moment = zigzag LEB128 of the difference from the moment before, µs, the first from 0
//! words     = number of octets + 1, octets
//! text      = words | 0, number: the place of equal words before
//! ```
//!
//! The bits of a mask say which of the `[...]` behind it are there, the first the lowest. Must not know disk or mail. The way
//! back is `unpack`.

use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};

use super::codes::{ROLES, SUITES, TRUTHS};
use super::reader::{octets_at, words_behind};
use super::segment;
use super::verify::Judged;
use crate::report::Trace;
use crate::report::notice::{Fate, Notice, Said};
use crate::track::{Event, Exchange, HopReport, RecipientStatus, Security, Stage, Status, StepId};

/// The shortest text that a place is shorter than, octets.
const TEXT_OCTETS_MIN: usize = 6;

/// Records one behind the other.
pub struct Packer {
    octets: Vec<u8>,
    /// The places of texts.
    texts: HashTable<u32>,
    hasher: DefaultHashBuilder,
    moment: i64,
}

impl Default for Packer {
    fn default() -> Self {
        Self::within(segment::room())
    }
}

impl Packer {
    /// Writes into this room, which is empty.
    pub fn within(octets: Vec<u8>) -> Self {
        Self {
            octets,
            texts: HashTable::new(),
            hasher: DefaultHashBuilder::default(),
            moment: 0,
        }
    }

    /// Where the next record begins; `None` if there is no room for more.
    pub fn begin(&mut self) -> Option<u32> {
        self.moment = 0;
        u32::try_from(self.octets.len()).ok()
    }

    /// Appends a report and tells its place; `None` if there is no room for more.
    pub fn push(&mut self, judged: &Judged) -> Option<u32> {
        let place = self.begin()?;
        self.one_of(&TRUTHS, judged.truth);
        self.text(judged.from.as_deref().unwrap_or_default());
        self.count(1 + judged.others.len());
        self.report(&judged.report);
        for other in &judged.others {
            self.report(other);
        }
        self.text(judged.to.as_deref().unwrap_or_default());
        self.count(judged.trace.len());
        for trace in &judged.trace {
            self.trace(trace);
        }
        Some(place)
    }

    /// Appends what others say and tells its place; `None` if there is no room for more.
    pub fn push_notice(&mut self, notice: &Notice) -> Option<u32> {
        let place = self.begin()?;
        self.mask([
            notice.envid.is_some(),
            notice.host.is_some(),
            notice.from.is_some(),
            notice.date_us.is_some(),
        ]);
        let texts = [&notice.envid, &notice.host, &notice.from];
        texts.into_iter().flatten().for_each(|t| self.text(t));
        notice.date_us.into_iter().for_each(|us| self.moment(us));
        self.count(notice.message_ids.len());
        notice.message_ids.iter().for_each(|id| self.text(id));
        self.count(notice.fates.len());
        for fate in &notice.fates {
            self.fate(fate);
        }
        Some(place)
    }

    fn fate(&mut self, fate: &Fate) {
        self.text(&fate.address);
        self.text(&fate.recipient);
        self.one_of(&Said::ALL, fate.said);
        self.mask([
            fate.status.is_some(),
            fate.remote.is_some(),
            fate.reply.is_some(),
            fate.attempted_us.is_some(),
        ]);
        fate.status.into_iter().for_each(|s| self.status(s));
        fate.remote.iter().for_each(|r| self.text(r));
        fate.reply.iter().for_each(|r| self.words(r));
        fate.attempted_us.into_iter().for_each(|us| self.moment(us));
    }

    fn trace(&mut self, trace: &Trace) {
        self.text(&trace.by);
        self.mask([
            trace.client.is_some(),
            trace.id.is_some(),
            trace.at_us.is_some(),
        ]);
        trace.client.iter().for_each(|c| self.text(c));
        trace.id.iter().for_each(|id| self.words(id));
        trace.at_us.into_iter().for_each(|us| self.moment(us));
    }

    fn status(&mut self, status: Status) {
        self.octets.push(status.class);
        self.number(status.subject.into());
        self.number(status.detail.into());
    }

    /// Appends words that are no report and tells their place.
    pub fn push_words(&mut self, words: &str) -> Option<u32> {
        let place = u32::try_from(self.octets.len()).ok()?;
        self.words(words);
        Some(place)
    }

    /// All records.
    pub fn octets(&self) -> &[u8] {
        &self.octets
    }

    /// Begins anew, in the same room.
    pub fn clear(&mut self) {
        self.octets.clear();
        self.texts.clear();
    }

    /// All records.
    pub fn into_octets(mut self) -> Vec<u8> {
        self.octets.shrink_to_fit();
        self.octets
    }

    fn report(&mut self, report: &HopReport) {
        let before = self.text_or_place(report.id.as_str());
        self.message_id(report.message_id.as_deref(), before);
        self.octets.push(report.hop);
        self.one_of(&ROLES, report.role);
        self.text(&report.reporting_mta);
        self.step(report.step);
        self.mask([
            report.parent.is_some(),
            report.sent_ms.is_some(),
            report.queue_id.is_some(),
            report.size.is_some(),
            report.tls_in.is_some(),
            report.tls_out.is_some(),
            report.filtered_us.is_some(),
        ]);
        self.moment(report.arrival_us);
        report.parent.into_iter().for_each(|p| self.step(p));
        report.sent_ms.into_iter().for_each(|s| self.number(s));
        report.queue_id.iter().for_each(|q| self.words(q));
        report.size.into_iter().for_each(|s| self.number(s));
        report.tls_in.iter().for_each(|s| self.security(s));
        report.tls_out.iter().for_each(|s| self.security(s));
        let filtered = report.filtered_us.into_iter();
        filtered.for_each(|us| self.moment(us));
        self.octets.push(u8::from(report.came_for.is_some()));
        report.came_for.into_iter().for_each(|n| self.count(n));
        self.count(report.ring.len());
        report.ring.iter().for_each(|host| self.text(host));
        self.exchanges(&report.times_in);
        self.exchanges(&report.times_out);
        self.count(report.recipients.len());
        for recipient in &report.recipients {
            self.recipient(recipient);
        }
    }

    /// Appends the Message-ID that goes with an id, whose words stood at a place before.
    fn message_id(&mut self, message_id: Option<&str>, id_before: Option<u32>) {
        let Some(message_id) = message_id else {
            return self.octets.push(0);
        };
        let behind = id_before.and_then(|place| words_behind(&self.octets, place));
        if behind == Some(message_id.as_bytes()) {
            return self.octets.push(1);
        }
        self.count(message_id.len() + 2);
        self.octets.extend_from_slice(message_id.as_bytes());
    }

    fn recipient(&mut self, recipient: &RecipientStatus) {
        let other = recipient.recipient != recipient.original;
        let (reply, queue_id) = (&recipient.reply, &recipient.remote_queue_id);
        // Nothing but the queue id is new in most replies.
        let parted = reply.as_ref().zip(queue_id.as_deref());
        let parted = parted.and_then(|(reply, id)| Some((reply.strip_suffix(id)?, id)));
        self.text(&recipient.original);
        self.one_of(&Event::ALL, recipient.event);
        self.status(recipient.status);
        self.mask([
            other,
            recipient.remote_mta.is_some(),
            recipient.attempted_us.is_some(),
            reply.is_some() && parted.is_none(),
            queue_id.is_some() && parted.is_none(),
            parted.is_some(),
        ]);
        if other {
            self.text(&recipient.recipient);
        }
        recipient.remote_mta.iter().for_each(|r| self.text(r));
        let attempted = recipient.attempted_us.into_iter();
        attempted.for_each(|a| self.moment(a));
        if let Some((reply, queue_id)) = parted {
            self.text(reply);
            return self.words(queue_id);
        }
        if let Some(reply) = reply {
            self.words(reply);
        }
        if let Some(queue_id) = queue_id {
            self.queue_id_in(reply.as_deref().unwrap_or_default(), queue_id);
        }
    }

    /// A queue id, which mostly stands in the reply.
    fn queue_id_in(&mut self, reply: &str, queue_id: &str) {
        match reply.rfind(queue_id) {
            Some(place) => {
                self.octets.push(0);
                self.count(place);
                self.count(queue_id.len());
            }
            None => self.words(queue_id),
        }
    }

    fn exchanges(&mut self, exchanges: &[Exchange]) {
        let mut stages = exchanges.iter().zip(Stage::ALL);
        let in_order = stages.all(|(exchange, stage)| exchange.stage == stage);
        let usual = in_order && exchanges.len() <= Stage::ALL.len();
        self.count(exchanges.len() * 2 + usize::from(usual));
        for exchange in exchanges {
            if !usual {
                self.one_of(&Stage::ALL, exchange.stage);
            }
            self.moment(exchange.command_us);
            self.moment(exchange.reply_us);
        }
    }

    fn security(&mut self, security: &Security) {
        match security {
            Security::Plain => self.octets.push(0),
            Security::Tls {
                version,
                cipher,
                verified,
            } => {
                let usual = SUITES.iter().zip((3u8..).step_by(2));
                let mut usual = usual.filter(|((v, c), _)| v == version && c == cipher);
                let code = usual.next().map_or(1, |(_, code)| code);
                self.octets.push(code + u8::from(*verified));
                if code == 1 {
                    self.text(version);
                    self.text(cipher);
                }
            }
        }
    }

    fn step(&mut self, step: StepId) {
        self.eight(step.0);
    }

    /// Appends a number as eight octets.
    pub fn eight(&mut self, number: u64) {
        self.octets.extend_from_slice(&number.to_le_bytes());
    }

    /// Appends an octet.
    pub fn octet(&mut self, octet: u8) {
        self.octets.push(octet);
    }

    fn mask<const N: usize>(&mut self, there: [bool; N]) {
        let bits = there.iter().rev();
        self.octets
            .push(bits.fold(0, |mask, bit| mask << 1 | u8::from(*bit)));
    }

    /// Appends a value as its place among all.
    pub fn one_of<T: PartialEq + Copy>(&mut self, all: &[T], one: T) {
        let place = all.iter().position(|known| *known == one);
        // Every value stands in its list, and no list is long.
        self.octets
            .push(place.and_then(|p| u8::try_from(p).ok()).unwrap_or(u8::MAX));
    }

    fn number(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.octets.push(low(number) | 0x80);
            number >>= 7;
        }
        self.octets.push(low(number));
    }

    /// Appends how many there are.
    pub fn count(&mut self, count: usize) {
        self.number(count as u64);
    }

    /// Appends a moment, or what is near one, µs.
    pub fn moment(&mut self, us: i64) {
        let difference = us.wrapping_sub(self.moment);
        self.moment = us;
        self.number((difference << 1 ^ difference >> 63).cast_unsigned());
    }

    /// Appends a text that is likely to be new.
    pub fn words(&mut self, words: &str) {
        self.count(words.len() + 1);
        self.octets.extend_from_slice(words.as_bytes());
    }

    /// Appends a text that may stand there before.
    pub fn text(&mut self, text: &str) {
        self.text_or_place(text);
    }

    /// The same, and tells where it stood before.
    fn text_or_place(&mut self, text: &str) -> Option<u32> {
        if text.len() < TEXT_OCTETS_MIN {
            self.words(text);
            return None;
        }
        let hash = self.hasher.hash_one(text.as_bytes());
        let same = |place: &u32| octets_at(&self.octets, *place) == text.as_bytes();
        if let Some(place) = self.texts.find(hash, same).copied() {
            self.octets.push(0);
            self.number(place.into());
            return Some(place);
        }
        let place = u32::try_from(self.octets.len());
        self.words(text);
        let Self {
            octets,
            texts,
            hasher,
            ..
        } = self;
        if let Ok(place) = place {
            let again = |place: &u32| hasher.hash_one(octets_at(octets, *place));
            texts.insert_unique(hash, place, again);
        }
        None
    }
}

/// The lowest eight bits.
fn low(number: u64) -> u8 {
    number.to_le_bytes()[0]
}
