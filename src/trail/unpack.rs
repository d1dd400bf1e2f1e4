//! Packed records read back. Total: where something else stands than should, there is no report.
//!
//! Must not know disk or mail; the format stands at the top of `pack`.

use super::codes::{ROLES, SUITES, TRUTHS};
use super::reader::{Mask, Reader, Text};
use super::verify::Judged;
use crate::report::Trace;
use crate::report::notice::{Fate, Notice, Said};
use crate::track::clean::EXCHANGES_MAX;
use crate::track::{
    Event, Exchange, HopReport, RecipientStatus, Role, Security, Stage, Status, StepId, TrackingId,
};

/// What tells which message a record is about, without the rest of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct About<'a> {
    /// The tracking id.
    pub id: &'a str,
    /// Message-ID without angle brackets.
    pub message_id: Option<&'a str>,
}

/// What the record at a place is about.
pub fn about(octets: &[u8], place: u32) -> Option<About<'_>> {
    let head = first_head(octets, place)?;
    Some(About {
        id: head.id.words()?,
        message_id: match head.message_id {
            Some(id) => Some(id.words()?),
            None => None,
        },
    })
}

/// The tracking id of [`about`].
pub fn id(octets: &[u8], place: u32) -> Option<&str> {
    first_head(octets, place)?.id.words()
}

fn first_head(octets: &[u8], place: u32) -> Option<Head<'_>> {
    let mut reader = Reader::at(octets, place)?;
    reader.octet()?;
    reader.passed_text()?;
    reader.number()?;
    reader.head()
}

/// The report at a place, if there is one.
pub fn unpack(octets: &[u8], place: u32) -> Option<Judged<'_>> {
    unpack_next(octets, place, &mut None)
}

/// The same of several, most of which bear the same tracking id, which they share.
pub fn unpack_next<'a>(
    octets: &'a [u8],
    place: u32,
    last: &mut Option<TrackingId>,
) -> Option<Judged<'a>> {
    let mut reader = Reader::at(octets, place)?;
    let truth = reader.one_of(&TRUTHS)?;
    let from = reader.text()?;
    let others = reader.count()?.checked_sub(1)?;
    let some = |text: &'a str| Some(text.into()).filter(|_| !text.is_empty());
    Some(Judged {
        truth,
        from: some(from),
        report: Box::new(reader.report(last)?),
        others: reader.several(others, |r| r.report(last))?,
        to: some(reader.text()?),
        trace: reader.list(Reader::trace)?,
    })
}

/// The tracking id that a text says: the last one, if it is that again.
fn id_of(text: Text, last: &mut Option<TrackingId>) -> Option<TrackingId> {
    let octets = text.octets()?;
    if last
        .as_ref()
        .is_none_or(|last| last.as_str().as_bytes() != octets)
    {
        *last = Some(TrackingId::new(std::str::from_utf8(octets).ok()?)?);
    }
    last.clone()
}

/// What others say at a place, if there is anything.
pub fn notice(octets: &[u8], place: u32) -> Option<Notice> {
    let mut reader = Reader::at(octets, place)?;
    let mut mask = Mask(reader.octet()?);
    let mut text = || Some(mask.next(|| reader.text())?.map(str::to_owned));
    let [envid, host, from] = [text()?, text()?, text()?];
    Some(Notice {
        envid,
        host,
        from,
        date_us: mask.next(|| reader.moment())?,
        message_ids: reader.list(|r| r.text().map(str::to_owned))?,
        fates: reader.list(Reader::fate)?,
    })
}

/// How a report begins.
struct Head<'a> {
    id: Text<'a>,
    message_id: Option<Text<'a>>,
    hop: u8,
    role: Role,
    reporting_mta: Text<'a>,
    step: StepId,
    arrival_us: i64,
    parent: Option<StepId>,
    sent_ms: Option<u64>,
    mask: Mask,
}

impl<'a> Reader<'a> {
    fn step(&mut self) -> Option<StepId> {
        self.eight().map(StepId)
    }

    /// The Message-ID that goes with an id, if there is one. Without the outer one something else stands there than
    /// should.
    #[allow(clippy::option_option)]
    fn message_id(&mut self, id: &Text<'a>) -> Option<Option<Text<'a>>> {
        match (self.count()?, id) {
            (0, _) => Some(None),
            (1, Text::Before(id)) => Some(Some(Text::Behind(id.clone()))),
            (count, _) => Some(Some(Text::Here(self.take(count.checked_sub(2)?)?))),
        }
    }

    fn trace(&mut self) -> Option<Trace> {
        let by = self.text()?.to_owned();
        let mut mask = Mask(self.octet()?);
        Some(Trace {
            by,
            client: mask.next(|| self.text())?.map(str::to_owned),
            id: mask.next(|| self.words())?.map(str::to_owned),
            at_us: mask.next(|| self.moment())?,
        })
    }

    fn fate(&mut self) -> Option<Fate> {
        let (address, recipient) = (self.text()?.to_owned(), self.text()?.to_owned());
        let said = self.one_of(&Said::ALL)?;
        let mut mask = Mask(self.octet()?);
        Some(Fate {
            address,
            recipient,
            said,
            status: mask.next(|| self.status())?,
            remote: mask.next(|| self.text())?.map(str::to_owned),
            reply: mask.next(|| self.words())?.map(str::to_owned),
            attempted_us: mask.next(|| self.moment())?,
        })
    }

    fn status(&mut self) -> Option<Status> {
        Some(Status {
            class: self.octet()?,
            subject: self.number()?.try_into().ok()?,
            detail: self.number()?.try_into().ok()?,
        })
    }

    fn head(&mut self) -> Option<Head<'a>> {
        let id = self.passed_text()?;
        let message_id = self.message_id(&id)?;
        let hop = self.octet()?;
        let role = self.one_of(&ROLES)?;
        let reporting_mta = self.passed_text()?;
        let step = self.step()?;
        let mut mask = Mask(self.octet()?);
        Some(Head {
            id,
            message_id,
            hop,
            role,
            reporting_mta,
            step,
            arrival_us: self.moment()?,
            parent: mask.next(|| self.step())?,
            sent_ms: mask.next(|| self.number())?,
            mask,
        })
    }

    fn report(&mut self, last: &mut Option<TrackingId>) -> Option<HopReport> {
        let mut head = self.head()?;
        let mask = &mut head.mask;
        Some(HopReport {
            id: id_of(head.id, last)?,
            step: head.step,
            parent: head.parent,
            hop: head.hop,
            role: head.role,
            reporting_mta: head.reporting_mta.words()?.into(),
            arrival_us: head.arrival_us,
            message_id: match head.message_id {
                Some(id) => Some(id.words()?.to_owned()),
                None => None,
            },
            sent_ms: head.sent_ms,
            queue_id: mask.next(|| self.words())?.map(Into::into),
            size: mask.next(|| self.number())?,
            tls_in: mask.next(|| self.security())?,
            tls_out: mask.next(|| self.security())?,
            filtered_us: mask.next(|| self.moment())?,
            came_for: match self.octet()? {
                0 => None,
                _ => Some(self.count()?),
            },
            ring: self.list(|r| r.text().map(str::to_owned))?,
            times_in: self.exchanges()?,
            times_out: self.exchanges()?,
            recipients: self.list(Self::recipient)?,
        })
    }

    fn exchanges(&mut self) -> Option<Vec<Exchange>> {
        let number = self.count()?;
        let usual = number & 1 == 1;
        // Nobody writes more; what is damaged may say so.
        let mut exchanges = Vec::with_capacity((number / 2).min(EXCHANGES_MAX));
        for n in 0..number / 2 {
            exchanges.push(Exchange {
                stage: if usual {
                    *Stage::ALL.get(n)?
                } else {
                    self.one_of(&Stage::ALL)?
                },
                command_us: self.moment()?,
                reply_us: self.moment()?,
            });
        }
        Some(exchanges)
    }

    fn security(&mut self) -> Option<Security> {
        let code = self.octet()?;
        let verified = code % 2 == 0;
        Some(match code {
            0 => Security::Plain,
            1..=2 => Security::tls(self.text()?, self.text()?, verified),
            _ => {
                let (version, cipher) = *SUITES.get(usize::from(code - 3) / 2)?;
                Security::Tls {
                    version: version.into(),
                    cipher: cipher.into(),
                    verified,
                }
            }
        })
    }

    fn recipient(&mut self) -> Option<RecipientStatus> {
        let original = self.text()?;
        let event = self.one_of(&Event::ALL)?;
        let status = self.status()?;
        let mut mask = Mask(self.octet()?);
        let recipient = mask.next(|| self.text())?.unwrap_or(original);
        let remote_mta = mask.next(|| self.text())?;
        let attempted_us = mask.next(|| self.moment())?;
        let reply = mask.next(|| self.words())?;
        let queue_id = mask.next(|| self.queue_id_in(reply.unwrap_or_default()))?;
        let parted = mask.next(|| Some((self.text()?, self.words()?)))?;
        let whole = parted.map(|(reply, queue_id)| [reply, queue_id].concat());
        let queue_id = parted.map(|(_, queue_id)| queue_id).or(queue_id);
        Some(RecipientStatus {
            original: original.into(),
            recipient: recipient.into(),
            event,
            status,
            remote_mta: remote_mta.map(Into::into),
            attempted_us,
            reply: whole.or_else(|| reply.map(str::to_owned)),
            remote_queue_id: queue_id.map(Into::into),
        })
    }

    fn queue_id_in(&mut self, reply: &'a str) -> Option<&'a str> {
        if !self.zero()? {
            return self.words();
        }
        let start = self.count()?;
        reply.get(start..start.checked_add(self.count()?)?)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::borrow::Cow;

    use proptest::prelude::*;

    use super::*;
    use crate::report::tests::samples::any_report;
    use crate::trail::pack::Packer;
    use crate::trail::reader::words_at;

    fn judged(reports: Vec<HopReport>, truth: usize, from: Option<String>) -> Judged<'static> {
        let (mut reports, from) = (reports.into_iter(), from.map(Cow::Owned));
        Judged {
            truth: TRUTHS[truth],
            to: from.clone(),
            from,
            trace: vec![],
            report: Box::new(reports.next().unwrap()),
            others: reports.collect(),
        }
    }

    fn some_text() -> impl Strategy<Value = Option<String>> {
        proptest::option::of("[ -~]{0,12}")
    }

    prop_compose! {
        fn any_trace()(by in "[ -~]{0,9}", client in some_text(), id in some_text(), at_us: Option<i64>) -> Trace {
            Trace { by, client, id, at_us }
        }
    }

    prop_compose! {
        fn any_fate()(
            address in "[ -~]{0,9}", recipient in "[ -~]{0,9}", said in 0..Said::ALL.len(),
            status in proptest::option::of((2u8..6, 0u16..999, 0u16..999)),
            remote in some_text(), reply in some_text(), attempted_us: Option<i64>,
        ) -> Fate {
            let status = status.map(|(class, subject, detail)| Status { class, subject, detail });
            Fate { address, recipient, said: Said::ALL[said], status, remote, reply, attempted_us }
        }
    }

    prop_compose! {
        fn any_notice()(
            envid in some_text(), message_ids in proptest::collection::vec("[ -~]{0,9}", 0..3),
            host in some_text(), from in some_text(), date_us: Option<i64>,
            fates in proptest::collection::vec(any_fate(), 0..3),
        ) -> Notice {
            Notice { envid, message_ids, host, from, date_us, fates }
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
            let mut last = None;
            for (place, one) in places.iter().zip(twice) {
                prop_assert_eq!(unpack(&octets, *place), Some(one.clone()));
                prop_assert_eq!(unpack_next(&octets, *place, &mut last), Some(one.clone()));
                let about = about(&octets, *place).unwrap();
                prop_assert_eq!(about.id, one.report.id.as_str());
                prop_assert_eq!(about.message_id, one.report.message_id.as_deref());
            }
        }

        #[test]
        fn what_others_say_and_claim_comes_back(
            notices in proptest::collection::vec(any_notice(), 1..4),
            traces in proptest::collection::vec(any_trace(), 0..4),
            report in any_report(),
        ) {
            let mut packer = Packer::default();
            let one = Judged { trace: traces, ..judged(vec![report], 0, None) };
            let report = packer.push(&one).unwrap();
            let places: Vec<u32> = notices.iter().map(|n| packer.push_notice(n).unwrap()).collect();
            let octets = packer.into_octets();
            prop_assert_eq!(unpack(&octets, report), Some(one));
            for (place, said) in places.iter().zip(&notices) {
                prop_assert_eq!(notice(&octets, *place), Some(said.clone()));
            }
        }

        /// The tracking id is anybody's to choose: reports that agree in it may differ in the rest.
        #[test]
        fn message_ids_of_one_id_come_back(
            report in any_report(),
            ids in proptest::collection::vec(proptest::option::of("[ab]{0,2}"), 1..8),
        ) {
            let with = |message_id| HopReport { message_id, ..report.clone() };
            let all: Vec<Judged> = ids.into_iter().map(|id| judged(vec![with(id)], 0, None)).collect();
            let mut packer = Packer::default();
            let places: Vec<u32> = all.iter().map(|one| packer.push(one).unwrap()).collect();
            let octets = packer.into_octets();
            for (place, one) in places.iter().zip(&all) {
                prop_assert_eq!(unpack(&octets, *place), Some(one.clone()));
                let about = about(&octets, *place).unwrap();
                prop_assert_eq!(about.message_id, one.report.message_id.as_deref());
                prop_assert_eq!(id(&octets, *place), Some(about.id));
            }
        }

        #[test]
        fn any_octets_are_survived(octets in any::<Vec<u8>>(), place in 0u32..40) {
            let _ = (unpack(&octets, place), notice(&octets, place), about(&octets, place), words_at(&octets, place));
            let _ = id(&octets, place);
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
