//! What a stay tells, moment by moment, in the order of its clock: those who fared alike at a time are one entry.

use std::collections::{BTreeMap, HashMap};
use std::ops::RangeInclusive;

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
    let mut groups: Vec<Vec<&RecipientStatus>> = Vec::new();
    // Where those are to whom the same happened, by the moment.
    let mut alike: HashMap<_, BTreeMap<Option<i64>, usize>> = HashMap::new();
    for recipient in &step.recipients {
        let words = (recipient.remote_mta.as_deref(), recipient.reply.as_deref());
        let same = (recipient.event, words, tried_again.has(recipient));
        let same = alike.entry(same).or_default();
        let ended_us = step.ended_us(recipient);
        let place = same.range(together(ended_us)).map(|(_, place)| *place);
        if let Some(group) = place.min().and_then(|place| groups.get_mut(place)) {
            group.push(recipient);
        } else {
            same.insert(ended_us, groups.len());
            groups.push(vec![recipient]);
        }
    }
    groups
}

/// The moments, µs, that are one with this.
fn together(ended_us: Option<i64>) -> RangeInclusive<Option<i64>> {
    /// The replies after the dot come one after the other (RFC 2033, 4.2).
    const TOGETHER_US: i64 = 10_000;
    let from_us = ended_us.map(|us| us.saturating_sub(TOGETHER_US));
    from_us..=ended_us.map(|us| us.saturating_add(TOGETHER_US))
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
        let told = stay.told_of(&waiting.original);
        let ends = told.filter(|(_, group)| group.event.is_final());
        let ends_us = ends.map(|(step, group)| fate_us(step, group));
        ends_us.filter(|us| *us >= from_us).min()
    };
    let all: Option<Vec<i64>> = waiting.iter().map(over).collect();
    all?.into_iter().max()
}
