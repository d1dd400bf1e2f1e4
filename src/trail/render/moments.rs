//! What a stay tells, moment by moment, in the order of its clock: those who fared alike at a time are one entry.

use std::collections::BTreeMap;

use crate::track::address::is_same;
use crate::track::{Event, HopReport, RecipientStatus};
use crate::trail::refusal::TriedAgain;
use crate::trail::{Message, Stay};

/// What a stay tells of one moment.
pub enum Moment<'a> {
    /// The message came in; the steps that go back to this arrival.
    Arrival(Vec<&'a HopReport>),
    /// It was back from the hop's content filter, as this step tells.
    Filtered(&'a HopReport),
    /// A step did this with these recipients.
    Fate(&'a HopReport, Vec<&'a RecipientStatus>),
}

/// Everything a stay tells in the order of its clock, µs; nothing stands before its own arrival, whatever
/// the clock did meanwhile.
pub fn moments<'a>(message: &Message, stay: &'a Stay) -> Vec<(i64, Moment<'a>)> {
    let mut arrivals: BTreeMap<i64, Vec<&HopReport>> = BTreeMap::new();
    for step in &stay.steps {
        arrivals.entry(step.arrived_us()).or_default().push(step);
    }
    let fates = stay.steps.iter().flat_map(|step| {
        let at_us = |group: &[&RecipientStatus]| group.first().map(|first| fate_us(step, first));
        groups(message, step).into_iter().filter_map(move |group| {
            let at_us = at_us(&group)?.max(step.arrived_us());
            Some((at_us, Moment::Fate(step, group)))
        })
    });
    let fates: Vec<_> = fates.collect();
    let returns = stay.steps.iter().filter_map(|step| {
        let at_us = step.filtered_us?.max(step.arrived_us());
        Some((at_us, step))
    });
    let returns: BTreeMap<i64, &HopReport> = returns.collect();
    let arrivals = arrivals.into_iter();
    let mut moments: Vec<_> = arrivals
        .map(|(at_us, steps)| (at_us, Moment::Arrival(steps)))
        .chain(
            returns
                .into_iter()
                .map(|(at_us, step)| (at_us, Moment::Filtered(step))),
        )
        .chain(fates)
        .collect();
    // Stable: an arrival goes before what happened at the same time.
    moments.sort_by_key(|(at_us, _)| *at_us);
    moments
}

/// The recipients of a step, those who fared alike together.
fn groups<'a>(message: &Message, step: &'a HopReport) -> Vec<Vec<&'a RecipientStatus>> {
    let tried_again = TriedAgain::after(step, message);
    let is_like = |a, b| alike(step, a, b) && tried_again.has(a) == tried_again.has(b);
    let mut groups: Vec<Vec<&RecipientStatus>> = Vec::new();
    for recipient in &step.recipients {
        let same = groups
            .iter_mut()
            .find(|g| g.first().is_some_and(|f| is_like(f, recipient)));
        match same {
            Some(group) => group.push(recipient),
            None => groups.push(vec![recipient]),
        }
    }
    groups
}

/// When a step was over for a recipient, µs of its hop's clock.
pub fn fate_us(step: &HopReport, recipient: &RecipientStatus) -> i64 {
    step.ended_us(recipient)
        .unwrap_or_else(|| step.arrived_us())
}

/// When the wait of all these recipients was over at this stay, µs of its clock; `None` if one of them
/// waits still, or none ever did.
pub fn over_us(stay: &Stay, waiting: &[&RecipientStatus], from_us: i64) -> Option<i64> {
    let over = |waiting: &&RecipientStatus| {
        if !matches!(waiting.event, Event::Delayed | Event::Held) {
            return None;
        }
        let fates = stay
            .steps
            .iter()
            .flat_map(|step| step.recipients.iter().map(move |r| (fate_us(step, r), r)));
        let ends = fates.filter(|(at_us, r)| {
            *at_us >= from_us && r.event.is_final() && is_same(&r.original, &waiting.original)
        });
        ends.map(|(at_us, _)| at_us).min()
    };
    let all: Option<Vec<i64>> = waiting.iter().map(over).collect();
    all?.into_iter().max()
}

/// Whether two recipients of a step make one entry: the same happened to both, at a time.
fn alike(step: &HopReport, a: &RecipientStatus, b: &RecipientStatus) -> bool {
    /// The replies after the dot come one after the other (RFC 2033, 4.2).
    const TOGETHER_US: u64 = 10_000;
    let together = match (step.ended_us(a), step.ended_us(b)) {
        (Some(a), Some(b)) => a.abs_diff(b) <= TOGETHER_US,
        (a, b) => a == b,
    };
    together && a.event == b.event && a.remote_mta == b.remote_mta && a.reply == b.reply
}
