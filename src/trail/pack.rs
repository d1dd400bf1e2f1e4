//! Judged reports made small: what the reader keeps of a mail, in memory and in its index alike. A tenth of the
//! mail, because a text that was written before is written as the place where it stands, and a moment as its
//! distance from the one before.
//!
//! ```text
//! record    = truth octet, from?, number of reports, report...
//! report    = id text, hop octet, role octet, step 8 octets, mask octet, arrival moment
//!             [parent 8 octets] [message-id text] [sent number] [queue-id words] [size number]
//!             [security in] [security out], exchanges in, exchanges out, number of recipients, recipient...
//! recipient = original text, recipient text, event octet, class octet, subject number, detail number, mask octet
//!             [remote text] [attempted moment] [reply words] [queue-id words]
//! exchanges = number, (stage octet, command moment, reply moment)...
//! security  = 0 | 1 or 2 (verified), version text, cipher text
//! number    = LEB128; moment = zigzag LEB128 of the difference from the moment before, µs, the first from 0
//! words     = number of octets + 1, octets
//! text      = words | 0, number: the place of equal words before
//! ```
//!
//! The bits of a mask say which of the `[...]` behind it are there, the first the lowest. Must not know disk or mail.

use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;

use super::verify::{Judged, Truth};
use crate::track::{
    Event, Exchange, HopReport, RecipientStatus, Role, Security, Stage, Status, StepId, TrackingId,
};

const TRUTHS: [Truth; 4] = [
    Truth::Verified,
    Truth::NotOurs,
    Truth::Unproved,
    Truth::Unverifiable,
];
const ROLES: [Role; 3] = [Role::Ingress, Role::Egress, Role::Delivery];

/// The shortest text that a place is shorter than, octets.
const TEXT_OCTETS_MIN: usize = 6;

/// Records one behind the other.
#[derive(Default)]
pub struct Packer {
    octets: Vec<u8>,
    /// The places of texts.
    texts: HashTable<u32>,
    hasher: RandomState,
    moment: i64,
}

impl Packer {
    /// Appends a report and tells its place; `None` if there is no room for more.
    pub fn push(&mut self, judged: &Judged) -> Option<u32> {
        let place = u32::try_from(self.octets.len()).ok()?;
        self.moment = 0;
        self.one_of(&TRUTHS, judged.truth);
        self.text(judged.from.as_deref().unwrap_or_default());
        self.count(1 + judged.others.len());
        self.report(&judged.report);
        for other in &judged.others {
            self.report(other);
        }
        Some(place)
    }

    /// Appends words that are no report and tells their place.
    pub fn push_words(&mut self, words: &str) -> Option<u32> {
        let place = u32::try_from(self.octets.len()).ok()?;
        self.words(words);
        Some(place)
    }

    /// How much it holds, octets.
    pub fn len(&self) -> usize {
        self.octets.len()
    }

    /// All records.
    pub fn into_octets(self) -> Vec<u8> {
        self.octets
    }

    fn report(&mut self, report: &HopReport) {
        self.text(report.id.as_str());
        self.octets.push(report.hop);
        self.one_of(&ROLES, report.role);
        self.text(&report.reporting_mta);
        self.step(report.step);
        self.mask([
            report.parent.is_some(),
            report.message_id.is_some(),
            report.sent_ms.is_some(),
            report.queue_id.is_some(),
            report.size.is_some(),
            report.tls_in.is_some(),
            report.tls_out.is_some(),
        ]);
        self.moment(report.arrival_us);
        report.parent.into_iter().for_each(|p| self.step(p));
        report.message_id.iter().for_each(|m| self.text(m));
        report.sent_ms.into_iter().for_each(|s| self.number(s));
        report.queue_id.iter().for_each(|q| self.words(q));
        report.size.into_iter().for_each(|s| self.number(s));
        report.tls_in.iter().for_each(|s| self.security(s));
        report.tls_out.iter().for_each(|s| self.security(s));
        self.exchanges(&report.times_in);
        self.exchanges(&report.times_out);
        self.count(report.recipients.len());
        for recipient in &report.recipients {
            self.recipient(recipient);
        }
    }

    fn recipient(&mut self, recipient: &RecipientStatus) {
        self.text(&recipient.original);
        self.text(&recipient.recipient);
        self.one_of(&Event::ALL, recipient.event);
        self.octets.push(recipient.status.class);
        self.number(recipient.status.subject.into());
        self.number(recipient.status.detail.into());
        self.mask([
            recipient.remote_mta.is_some(),
            recipient.attempted_us.is_some(),
            recipient.reply.is_some(),
            recipient.remote_queue_id.is_some(),
        ]);
        recipient.remote_mta.iter().for_each(|r| self.text(r));
        recipient
            .attempted_us
            .into_iter()
            .for_each(|a| self.moment(a));
        recipient.reply.iter().for_each(|r| self.words(r));
        recipient.remote_queue_id.iter().for_each(|q| self.words(q));
    }

    fn exchanges(&mut self, exchanges: &[Exchange]) {
        self.count(exchanges.len());
        for exchange in exchanges {
            self.one_of(&Stage::ALL, exchange.stage);
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
                self.octets.push(1 + u8::from(*verified));
                self.text(version);
                self.text(cipher);
            }
        }
    }

    fn step(&mut self, step: StepId) {
        self.octets.extend_from_slice(&step.0.to_le_bytes());
    }

    fn mask<const N: usize>(&mut self, there: [bool; N]) {
        let bits = there.iter().rev();
        self.octets
            .push(bits.fold(0, |mask, bit| mask << 1 | u8::from(*bit)));
    }

    fn one_of<T: PartialEq>(&mut self, all: &[T], one: T) {
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

    fn count(&mut self, count: usize) {
        self.number(count as u64);
    }

    fn moment(&mut self, us: i64) {
        let difference = us.wrapping_sub(self.moment);
        self.moment = us;
        self.number((difference << 1 ^ difference >> 63).cast_unsigned());
    }

    fn words(&mut self, words: &str) {
        self.count(words.len() + 1);
        self.octets.extend_from_slice(words.as_bytes());
    }

    fn text(&mut self, text: &str) {
        if text.len() < TEXT_OCTETS_MIN {
            return self.words(text);
        }
        let hash = self.hasher.hash_one(text);
        let same = |place: &u32| words_at(&self.octets, *place) == text;
        if let Some(place) = self.texts.find(hash, same).copied() {
            self.octets.push(0);
            return self.number(place.into());
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
            let again = |place: &u32| hasher.hash_one(words_at(octets, *place));
            texts.insert_unique(hash, place, again);
        }
    }
}

/// The lowest eight bits.
fn low(number: u64) -> u8 {
    number.to_le_bytes()[0]
}

/// The words at a place; none where there are none.
pub fn words_at(octets: &[u8], place: u32) -> &str {
    Reader::at(octets, place)
        .and_then(|mut r| r.words())
        .unwrap_or_default()
}

/// What tells which message a record is about, without the rest of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct About<'a> {
    /// The tracking id.
    pub id: &'a str,
    /// Message-ID without angle brackets.
    pub message_id: Option<&'a str>,
    /// When it was sent, or came to the hop if that is not known, µs.
    pub when_us: i64,
}

/// What the record at a place is about.
pub fn about(octets: &[u8], place: u32) -> Option<About<'_>> {
    let mut reader = Reader::at(octets, place)?;
    reader.octet()?;
    reader.text()?;
    reader.number()?;
    let head = reader.head()?;
    let sent_us = head
        .sent_ms
        .and_then(|ms| i64::try_from(ms).ok()?.checked_mul(1000));
    Some(About {
        id: head.id,
        message_id: head.message_id,
        when_us: sent_us.unwrap_or(head.arrival_us),
    })
}

/// The report at a place, if there is one.
pub fn unpack(octets: &[u8], place: u32) -> Option<Judged> {
    let mut reader = Reader::at(octets, place)?;
    let truth = reader.one_of(&TRUTHS)?;
    let from = reader.text()?;
    let others = reader.count()?.checked_sub(1)?;
    Some(Judged {
        truth,
        from: Some(from.to_owned()).filter(|f| !f.is_empty()),
        report: reader.report()?,
        others: (0..others)
            .map(|_| reader.report())
            .collect::<Option<_>>()?,
    })
}

/// A place among the records; going on from there ends where something else stands than should.
struct Reader<'a> {
    octets: &'a [u8],
    rest: &'a [u8],
    moment: i64,
}

/// How a report begins.
struct Head<'a> {
    id: &'a str,
    hop: u8,
    role: Role,
    reporting_mta: &'a str,
    step: StepId,
    arrival_us: i64,
    parent: Option<StepId>,
    message_id: Option<&'a str>,
    sent_ms: Option<u64>,
    mask: Mask,
}

/// What is there, the next first.
struct Mask(u8);

impl Mask {
    /// What comes next, if it is there.
    fn next<T>(&mut self, read: impl FnOnce() -> Option<T>) -> Option<Option<T>> {
        let there = self.0 & 1 == 1;
        self.0 >>= 1;
        if there { read().map(Some) } else { Some(None) }
    }
}

impl<'a> Reader<'a> {
    fn at(octets: &'a [u8], place: u32) -> Option<Self> {
        let rest = octets.get(usize::try_from(place).ok()?..)?;
        Some(Self {
            octets,
            rest,
            moment: 0,
        })
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(count)?;
        self.rest = rest;
        Some(taken)
    }

    fn octet(&mut self) -> Option<u8> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*first)
    }

    fn one_of<T: Copy>(&mut self, all: &[T]) -> Option<T> {
        all.get(usize::from(self.octet()?)).copied()
    }

    fn number(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let octet = self.octet()?;
            number |= u64::from(octet & 0x7f) << shift;
            if octet < 0x80 {
                return Some(number);
            }
        }
        None
    }

    fn count(&mut self) -> Option<usize> {
        self.number()?.try_into().ok()
    }

    fn moment(&mut self) -> Option<i64> {
        let zigzag = self.number()?;
        let difference = (zigzag >> 1).cast_signed() ^ -(zigzag & 1).cast_signed();
        self.moment = self.moment.wrapping_add(difference);
        Some(self.moment)
    }

    fn step(&mut self) -> Option<StepId> {
        let octets = self.take(8)?.try_into().ok()?;
        Some(StepId(u64::from_le_bytes(octets)))
    }

    fn words(&mut self) -> Option<&'a str> {
        let count = self.count()?.checked_sub(1)?;
        std::str::from_utf8(self.take(count)?).ok()
    }

    fn text(&mut self) -> Option<&'a str> {
        if *self.rest.first()? != 0 {
            return self.words();
        }
        self.octet()?;
        let place = self.number()?.try_into().ok()?;
        Self::at(self.octets, place)?.words()
    }

    fn head(&mut self) -> Option<Head<'a>> {
        let id = self.text()?;
        let hop = self.octet()?;
        let role = self.one_of(&ROLES)?;
        let reporting_mta = self.text()?;
        let step = self.step()?;
        let mut mask = Mask(self.octet()?);
        Some(Head {
            id,
            hop,
            role,
            reporting_mta,
            step,
            arrival_us: self.moment()?,
            parent: mask.next(|| self.step())?,
            message_id: mask.next(|| self.text())?,
            sent_ms: mask.next(|| self.number())?,
            mask,
        })
    }

    fn report(&mut self) -> Option<HopReport> {
        let mut head = self.head()?;
        let mask = &mut head.mask;
        Some(HopReport {
            id: TrackingId::new(head.id)?,
            step: head.step,
            parent: head.parent,
            hop: head.hop,
            role: head.role,
            reporting_mta: head.reporting_mta.to_owned(),
            arrival_us: head.arrival_us,
            message_id: head.message_id.map(str::to_owned),
            sent_ms: head.sent_ms,
            queue_id: mask.next(|| self.words())?.map(str::to_owned),
            size: mask.next(|| self.number())?,
            tls_in: mask.next(|| self.security())?,
            tls_out: mask.next(|| self.security())?,
            times_in: self.list(Self::exchange)?,
            times_out: self.list(Self::exchange)?,
            recipients: self.list(Self::recipient)?,
        })
    }

    fn list<T>(&mut self, mut read: impl FnMut(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        (0..self.count()?).map(|_| read(self)).collect()
    }

    fn exchange(&mut self) -> Option<Exchange> {
        Some(Exchange {
            stage: self.one_of(&Stage::ALL)?,
            command_us: self.moment()?,
            reply_us: self.moment()?,
        })
    }

    fn security(&mut self) -> Option<Security> {
        let verified = match self.octet()? {
            0 => return Some(Security::Plain),
            known @ 1..=2 => known == 2,
            _ => return None,
        };
        Some(Security::Tls {
            version: self.text()?.to_owned().into(),
            cipher: self.text()?.to_owned().into(),
            verified,
        })
    }

    fn recipient(&mut self) -> Option<RecipientStatus> {
        let original = self.text()?.to_owned();
        let recipient = self.text()?.to_owned();
        let event = self.one_of(&Event::ALL)?;
        let status = Status {
            class: self.octet()?,
            subject: self.number()?.try_into().ok()?,
            detail: self.number()?.try_into().ok()?,
        };
        let mut mask = Mask(self.octet()?);
        Some(RecipientStatus {
            original,
            recipient,
            event,
            status,
            remote_mta: mask.next(|| self.text())?.map(str::to_owned),
            attempted_us: mask.next(|| self.moment())?,
            reply: mask.next(|| self.words())?.map(str::to_owned),
            remote_queue_id: mask.next(|| self.words())?.map(str::to_owned),
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;
    use crate::report::tests::samples::any_report;

    fn judged(reports: Vec<HopReport>, truth: usize, from: Option<String>) -> Judged {
        let mut reports = reports.into_iter();
        Judged {
            truth: TRUTHS[truth],
            from,
            report: reports.next().unwrap(),
            others: reports.collect(),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn what_is_packed_comes_back(
            made in proptest::collection::vec(
                (proptest::collection::vec(any_report(), 1..3), 0usize..4, proptest::option::of("[a-z@]{1,9}")),
                1..6,
            )
        ) {
            let all: Vec<Judged> = made.into_iter().map(|(r, t, f)| judged(r, t, f)).collect();
            let mut packer = Packer::default();
            // Each twice: the second time all its texts stand there.
            let twice = all.iter().chain(&all);
            let places: Vec<u32> = twice.clone().map(|one| packer.push(one).unwrap()).collect();
            let octets = packer.into_octets();
            for (place, one) in places.iter().zip(twice) {
                prop_assert_eq!(unpack(&octets, *place), Some(one.clone()));
                let about = about(&octets, *place).unwrap();
                prop_assert_eq!(about.id, one.report.id.as_str());
                prop_assert_eq!(about.message_id, one.report.message_id.as_deref());
            }
        }

        #[test]
        fn any_octets_are_survived(octets in any::<Vec<u8>>(), place in 0u32..40) {
            let _ = (unpack(&octets, place), about(&octets, place), words_at(&octets, place));
        }

        #[test]
        fn damaged_records_are_survived(
            report in any_report(),
            damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..5),
        ) {
            let mut packer = Packer::default();
            let place = packer.push(&judged(vec![report], 0, None)).unwrap();
            let mut octets = packer.into_octets();
            for (at, octet) in damage {
                let at = at.index(octets.len());
                octets[at] = octet;
            }
            let _ = unpack(&octets, place);
        }
    }
}
