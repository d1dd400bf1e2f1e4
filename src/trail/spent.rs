//! Where the time of a message went, for each step in which it left a hop or an attempt to do so ended: on the wire to
//! the hop, within the bounds of two clocks, and inside it, by its own clock.
//!
//! Inside a hop a message is looked at before it is taken (by the MTA, and what filters content before its queue),
//! waits in the queue for its first attempt, is tried, and where the next hop puts it off, or refuses it and the hop keeps
//! it all the same, waits for the next one.

use serde::Serialize;

use super::clock::Bounds;
use super::places::Told;
use super::{Message, Stay};
use crate::track::{Event, HopReport, RecipientStatus, StepId};

/// A hop's part in the time of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leg {
    /// The stay, by its place in [`Message::stays`].
    pub stay: usize,
    /// The step with which the part ended: the message left, or the last attempt so far was over.
    pub step: StepId,
    /// How it ended.
    pub event: Event,
    /// The time on the wire from the hop before, if that is known.
    pub wire: Option<Bounds>,
    /// The time inside, µs; `None` if its clock was set meanwhile, as far as that shows, or if it came back in a ring,
    /// in which it was not followed any further.
    pub dwell_us: Option<i64>,
    /// What the time inside is made of, in that order; adds up to it.
    pub parts: Vec<Part>,
}

/// A part of the time inside a hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// What the message did.
    pub kind: Kind,
    /// For how long, µs; more than nothing.
    pub us: i64,
    /// How much of that the hop waited for replies of the next hop, µs.
    pub awaited_us: i64,
}

/// What a message does inside a hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// It is all here, and the hop has not yet said that it takes it.
    Filter,
    /// It waits for the hop's content filter, and is in it until that hands it back.
    ContentFilter,
    /// It waits for its first attempt.
    Queue,
    /// It is offered to the next hop, from MAIL to its last octet, or to the reply that ends the attempt.
    Attempt,
    /// It waits because the next hop, or the way there, put it off.
    PutOff,
    /// It waits because the next hop calls that greylisting.
    Greylisted,
    /// It waits though the next hop refused it for good: it was tried again.
    Refused,
}

impl Kind {
    /// Every kind, in the order a message meets them.
    pub const ALL: [Self; 7] = [
        Self::Filter,
        Self::ContentFilter,
        Self::Queue,
        Self::Attempt,
        Self::PutOff,
        Self::Greylisted,
        Self::Refused,
    ];

    /// What it is to wait for the next attempt after one that ended so.
    fn behind(group: &RecipientStatus) -> Self {
        match group.event {
            Event::Failed => Self::Refused,
            _ if is_greylisting(group) => Self::Greylisted,
            _ => Self::PutOff,
        }
    }
}

/// Every part of a message's time, in the order of its stays and their steps. A step that several recipients share
/// counts once, by the first of those it went well for.
pub fn spent(message: &Message) -> Vec<Leg> {
    let mut legs = Vec::new();
    for (n, stay) in message.stays.iter().enumerate() {
        for step in &stay.steps {
            let best = step
                .recipients
                .iter()
                .max_by_key(|g| (!step.is_of_earlier(g), g.event.is_final(), g.event));
            legs.extend(
                best.filter(|g| !waits(stay, step, g))
                    .map(|g| leg(message, n, step, g)),
            );
        }
    }
    legs
}

/// The part that ended with this step for a recipient.
pub fn leg(message: &Message, stay: usize, step: &HopReport, group: &RecipientStatus) -> Leg {
    let here = message.stays.get(stay);
    let dwell_us = here.and_then(|here| dwell_us(here, step, group));
    let parts = here.zip(dwell_us).map(|(here, _)| parts(here, step, group));
    Leg {
        stay,
        step: step.step,
        event: group.event,
        wire: here.and_then(|here| message.transit(stay, here.entrance(step))),
        dwell_us,
        parts: parts.unwrap_or_default(),
    }
}

/// The time inside, as in [`Leg`].
pub fn dwell_us(stay: &Stay, step: &HopReport, group: &RecipientStatus) -> Option<i64> {
    // By a clock that was set meanwhile nobody knows.
    step.dwell_us(group)
        .filter(|_| stay.jump.is_none())
        .filter(|_| group.event != Event::Looped)
}

/// The time inside without what the hop waited for replies of the next hop, µs: its own part in it.
pub fn own_us(stay: &Stay, step: &HopReport, group: &RecipientStatus) -> Option<i64> {
    let dwell_us = dwell_us(stay, step, group)?;
    Some(dwell_us.saturating_sub(awaited_us(&parts(stay, step, group))))
}

/// How long the hop waited for replies of the next hop in all these, µs.
pub fn awaited_us(parts: &[Part]) -> i64 {
    let awaited = parts.iter().map(|part| part.awaited_us);
    awaited.fold(0, i64::saturating_add)
}

/// Whether a later attempt of the same stay goes on where this one left a recipient: put off, or refused and tried again.
fn waits(stay: &Stay, step: &HopReport, group: &RecipientStatus) -> bool {
    let failed = group.event == Event::Failed;
    let end_us = |step: &HopReport, group: &_| step.ended_us(group).unwrap_or(step.arrived_us());
    let now_us = end_us(step, group);
    let is_later = |(other, fate): (&HopReport, &RecipientStatus)| {
        let then_us = end_us(other, fate);
        let is_other = other.step != step.step || step.is_of_earlier(group);
        is_other && (then_us > now_us || then_us == now_us && !failed && other.step != step.step)
    };
    (failed || !group.event.is_final()) && told_with(stay, step, group).any(is_later)
}

/// What the steps of a stay that go back to the same arrival tell of a recipient.
fn told_with<'a>(
    stay: &'a Stay,
    step: &HopReport,
    group: &'a RecipientStatus,
) -> impl Iterator<Item = Told<'a>> {
    let arrived_us = step.arrived_us();
    let told = stay.told_of(&group.original);
    told.filter(move |(step, _)| step.arrived_us() == arrived_us)
}

/// What a hop did for a recipient, and when that began and was over, µs of its clock.
struct Attempt<'a> {
    from_us: i64,
    to_us: i64,
    step: &'a HopReport,
    group: &'a RecipientStatus,
}

fn parts(stay: &Stay, last: &HopReport, group: &RecipientStatus) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::new();
    let mut now_us = last.arrived_us();
    let mut until = |to_us: i64, kind, tried: Option<&HopReport>| {
        let us = to_us.saturating_sub(now_us);
        if us > 0 {
            let awaited_us = tried.map_or(0, |step| step.awaited_us(now_us, to_us));
            now_us = to_us;
            parts.push(Part {
                kind,
                us,
                awaited_us,
            });
        }
    };
    let attempts = attempts(stay, last, group);
    let taken_us = last
        .arrived_us()
        .saturating_add(last.pause_in_us().unwrap_or(0));
    // An MTA may begin to pass a message on before its word that it took it has gone out.
    let first_us = attempts.first().map_or(taken_us, |first| first.from_us);
    until(taken_us.min(first_us), Kind::Filter, None);
    if let Some(back_us) = last.filtered_us {
        until(back_us.min(first_us), Kind::ContentFilter, None);
    }
    let mut waits = Kind::Queue;
    for attempt in attempts {
        // The greeting of a new connection goes before the attempt.
        until(attempt.from_us, waits, Some(attempt.step));
        until(attempt.to_us, Kind::Attempt, Some(attempt.step));
        waits = Kind::behind(attempt.group);
    }
    parts
}

/// The attempts for a recipient that came with this arrival, up to a step.
fn attempts<'a>(
    stay: &'a Stay,
    last: &'a HopReport,
    group: &'a RecipientStatus,
) -> Vec<Attempt<'a>> {
    let attempt = |step: &'a HopReport, group: &'a RecipientStatus| {
        let to_us = step.ended_us(group)?;
        let began_us = step.attempt_began_us().filter(|us| *us <= to_us);
        Some(Attempt {
            from_us: began_us.unwrap_or(to_us),
            to_us,
            step,
            group,
        })
    };
    let last_one = attempt(last, group);
    let end_us = last_one.as_ref().map_or(i64::MIN, |a| a.to_us);
    let earlier = told_with(stay, last, group);
    let earlier = earlier.filter(|(s, g)| s.step != last.step || s.is_of_earlier(g));
    let put_off = earlier.filter(|(_, g)| matches!(g.event, Event::Delayed | Event::Failed));
    let mut attempts: Vec<_> = put_off.filter_map(|(s, g)| attempt(s, g)).collect();
    attempts.retain(|a| a.to_us <= end_us);
    attempts.sort_by_key(|a| a.to_us);
    attempts.extend(last_one);
    attempts
}

/// Whether the next hop says that it puts off whom it does not know; there is no code for it.
pub fn is_greylisting(group: &RecipientStatus) -> bool {
    let words = group.reply.as_deref().unwrap_or_default().to_lowercase();
    let says = |colour: &str| {
        words.match_indices(colour).any(|(at, _)| {
            let behind = words.get(at + colour.len()..).unwrap_or_default();
            behind.trim_start_matches([' ', '-']).starts_with("list")
        })
    };
    group.event == Event::Delayed && (says("grey") || says("gray"))
}
