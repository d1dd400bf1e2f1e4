//! Where the time of a message went on its way to one recipient: inside each hop, by that hop's own clock,
//! and between hops, within the bounds of their clocks.

use compact_str::CompactString;

use super::clock::Bounds;
use super::{Message, Recipient, State, Stay, spent};
use crate::track::{Event, HopReport, RecipientStatus};

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
    /// The next hop, as this one names it.
    pub next: Option<CompactString>,
}

/// The way to a recipient, the first hop first, as far as it is known.
pub fn way(message: &Message, recipient: &Recipient) -> Vec<Part> {
    let mut parts = Vec::new();
    back(message, recipient, |at| {
        let leg = at
            .left_in
            .map(|(s, group)| spent::leg(message, at.n, s, group));
        parts.push(Part {
            stay: at.n,
            wire: at.wire(message),
            dwell_us: leg.as_ref().and_then(|leg| leg.dwell_us),
            parts: leg.map(|leg| leg.parts).unwrap_or_default(),
            next: at.left_in.and_then(|(_, group)| group.remote_mta.clone()),
        });
        Some(())
    });
    parts.reverse();
    parts
}

/// How long the way to a recipient took, if every part of it is known: as [`total`] of [`way`].
pub fn took(message: &Message, recipient: &Recipient) -> Option<Bounds> {
    let mut took = Bounds::ZERO;
    let mut wire = Some(Bounds::ZERO);
    back(message, recipient, |at| {
        let (step, group) = at.left_in?;
        let dwell_us = spent::dwell_us(at.stay, step, group)?;
        took = took.plus(wire?).plus(Bounds::measured(dwell_us));
        wire = at.wire(message);
        Some(())
    })?;
    Some(never_negative(took))
}

/// A hop on the way: the step and the part of it in which the message left or the attempt ended, and the one in which
/// it came, if they are known.
struct At<'a> {
    n: usize,
    stay: &'a Stay,
    left_in: Option<(&'a HopReport, &'a RecipientStatus)>,
    came_in: Option<&'a HopReport>,
}

impl At<'_> {
    fn wire(&self, message: &Message) -> Option<Bounds> {
        message.transit(self.n, self.came_in?)
    }
}

/// Goes the way to a recipient back, hop by hop, as long as there is something to `see`.
fn back<'a>(
    message: &'a Message,
    recipient: &'a Recipient,
    mut see: impl FnMut(At<'a>) -> Option<()>,
) -> Option<()> {
    let mut next = Some((recipient.stay, Some(recipient.step)));
    while let Some((n, step)) = next {
        let Some(stay) = message.stays.get(n) else {
            break;
        };
        let named = step.and_then(|id| stay.step(id));
        // A transaction that is told in parts gave its next hop one name: that part may not be about this recipient.
        let of_him = named.filter(|step| group(stay, step, recipient).is_some());
        let step = of_him.or_else(|| handover(stay, recipient)).or(named);
        let came_in = step.map(|step| stay.entrance(step));
        let left_in = step.and_then(|step| Some((step, group(stay, step, recipient)?)));
        see(At {
            n,
            stay,
            left_in,
            came_in,
        })?;
        // A parent stands before its children, so this ends.
        next = stay.parent.map(|p| (p, came_in.and_then(|s| s.parent)));
    }
    Some(())
}

/// How long the way took, if every part of it is known.
pub fn total(parts: &[Part]) -> Option<Bounds> {
    let mut total = Bounds::ZERO;
    for (n, part) in parts.iter().enumerate() {
        let wire = if n == 0 { Bounds::ZERO } else { part.wire? };
        total = total.plus(wire).plus(Bounds::measured(part.dwell_us?));
    }
    Some(never_negative(total))
}

fn never_negative(took: Bounds) -> Bounds {
    Bounds {
        low_us: took.low_us.max(0),
        ..took
    }
}

/// The step in which a stay handed a recipient's message on.
fn handover<'a>(stay: &'a Stay, recipient: &'a Recipient) -> Option<&'a HopReport> {
    let mut told = stay.told_of(&recipient.address);
    let handed = |step| group(stay, step, recipient).is_some_and(|g| g.event == Event::Transferred);
    let (step, _) = told.find(|(step, _)| handed(step))?;
    Some(step)
}

/// What a step tells of a recipient: where it tells more than once of it, what counts at the end of its way, and before that
/// the last time it was handed on.
fn group<'a>(
    stay: &'a Stay,
    step: &'a HopReport,
    recipient: &'a Recipient,
) -> Option<&'a RecipientStatus> {
    let is_end = step.step == recipient.step;
    let counts = |g: &RecipientStatus| {
        let is_told = State::of(g.event) == recipient.state;
        let is_last = is_told && step.ended_us(g) == Some(recipient.at_us);
        is_last || !is_end && g.event == Event::Transferred
    };
    let of_him = || stay.told_in(step, &recipient.address);
    let mut counting = of_him().filter(|g| counts(g));
    let counting = if is_end {
        counting.next()
    } else {
        counting.last()
    };
    counting.or_else(|| of_him().next())
}
