//! Where the time of a message went on its way to one recipient: inside each hop, by that hop's own clock,
//! and between hops, within the bounds of their clocks.

use super::clock::Bounds;
use super::pairs::Handover;
use super::{Message, Recipient, Stay, spent};
use crate::track::{Event, HopReport, RecipientStatus, StepId};

/// A hop on the way to a recipient, as far as it is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Its place in [`Message::stays`].
    pub stay: usize,
    /// The time on the wire from the hop before, if that is known.
    pub wire: Option<Bounds>,
    /// The time inside the hop until the message left or the attempt ended, µs, if that is known.
    pub dwell_us: Option<i64>,
    /// What the time inside was made of.
    pub parts: Vec<spent::Part>,
}

/// The way to a recipient, the first hop first, as far as it is known.
pub fn way(message: &Message, recipient: &Recipient) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut next = Some((recipient.stay, Some(recipient.step)));
    while let Some((n, step)) = next {
        let Some(stay) = message.stays.get(n) else {
            break;
        };
        let step = step
            .and_then(|id| stay.steps.iter().find(|s| s.step == id))
            .or_else(|| handover(stay, recipient));
        let entrance = step.map(|step| entrance(stay, step));
        let leg = step.and_then(|s| Some(spent::leg(message, n, s, group(s, recipient)?)));
        parts.push(Part {
            stay: n,
            wire: entrance.and_then(|step| transit(message, n, step)),
            dwell_us: leg.as_ref().and_then(|leg| leg.dwell_us),
            parts: leg.map(|leg| leg.parts).unwrap_or_default(),
        });
        // A parent stands before its children, so this ends.
        next = stay.parent.map(|p| (p, entrance.and_then(|s| s.parent)));
    }
    parts.reverse();
    parts
}

/// How long the way took, if every part of it is known.
pub fn total(parts: &[Part]) -> Option<Bounds> {
    let mut total = Bounds::ZERO;
    for (n, part) in parts.iter().enumerate() {
        let wire = if n == 0 { Bounds::ZERO } else { part.wire? };
        total = total.plus(wire).plus(Bounds::measured(part.dwell_us?));
    }
    Some(Bounds {
        low_us: total.low_us.max(0),
        ..total
    })
}

/// The time from the last octet's leaving the hop before to its coming to this stay in this step; never negative.
pub fn transit(message: &Message, stay: usize, step: &HopReport) -> Option<Bounds> {
    let stay = message.stays.get(stay)?;
    let came = |h: &&Handover| (Some(h.from), h.arrived_us) == (step.parent, step.arrived_us());
    let handover = stay.handovers.iter().find(came)?;
    let raw_us = handover.arrived_us.checked_sub(handover.left_us)?;
    let took = handover.link.bounds()?.taken_from(raw_us);
    let at_least = Bounds {
        low_us: 0,
        high_us: i64::MAX,
    };
    took.and(at_least)
}

fn find(stay: &Stay, id: StepId) -> Option<&HopReport> {
    stay.steps.iter().find(|s| s.step == id)
}

/// The step by which the message came to a stay: this one, or the entrance it goes back to.
pub fn entrance<'a>(stay: &'a Stay, step: &'a HopReport) -> &'a HopReport {
    let mut first = step;
    // Links of hostile reports may run in a circle.
    for _ in &stay.steps {
        match first.parent.and_then(|id| find(stay, id)) {
            Some(before) => first = before,
            None => break,
        }
    }
    first
}

/// The step in which a stay handed a recipient's message on.
fn handover<'a>(stay: &'a Stay, recipient: &Recipient) -> Option<&'a HopReport> {
    let handed =
        |step: &&HopReport| group(step, recipient).is_some_and(|g| g.event == Event::Transferred);
    stay.steps.iter().find(handed)
}

fn group<'a>(step: &'a HopReport, recipient: &Recipient) -> Option<&'a RecipientStatus> {
    let address = recipient.address.to_lowercase();
    let is = |g: &&RecipientStatus| g.original.to_lowercase() == address;
    step.recipients.iter().find(is)
}
