//! Where the ways of a message begin. Mostly that is one place; where somebody gives the message to a hop once more, or a
//! hop does not say who gave it, there are others, and nobody is known to have handed it on to there.

use super::Stay;
use crate::track::HopReport;

/// Puts that start in front, with its own way on, whose hop had the message nearest to when it was sent, ms. Only hops of
/// the lowest number that name nobody who gave it can be meant.
pub fn lead(stays: &mut [Stay], sent_ms: Option<u64>) {
    let sent = sent_ms.and_then(|ms| i64::try_from(ms).ok()?.checked_mul(1000));
    let Some(sent) = sent.filter(|_| !is_one(stays)) else {
        return;
    };
    let starts: Vec<usize> = (0..stays.len())
        .filter(|n| stays.get(*n).is_some_and(|stay| stay.parent.is_none()))
        .collect();
    let hop = stays.first().map(|stay| stay.hop);
    let after_us = |n: &usize| {
        let stay = stays.get(*n)?;
        let alone = stay.steps.iter().filter(|step| step.parent.is_none());
        let came_us = alone.map(HopReport::arrived_us).min();
        came_us.map(|us| us.abs_diff(sent))
    };
    let named = |n: &&usize| stays.get(**n).map(|stay| stay.hop) == hop;
    let candidates = starts.iter().filter(named);
    let candidates = candidates.filter_map(|n| Some((after_us(n)?, *n)));
    let Some((_, first)) = candidates.min().filter(|(_, first)| *first > 0) else {
        return;
    };
    let end = starts.iter().find(|n| **n > first);
    let end = end.copied().unwrap_or(stays.len());
    let moved = end - first;
    let Some(turned) = stays.get_mut(..end) else {
        return;
    };
    turned.rotate_right(moved);
    for (n, stay) in turned.iter_mut().enumerate() {
        let place = |parent: usize| {
            if n < moved {
                parent.saturating_sub(first)
            } else {
                parent + moved
            }
        };
        stay.parent = stay.parent.map(place);
    }
}

/// Whether there is no start but the first, as mostly.
fn is_one(stays: &[Stay]) -> bool {
    stays.iter().skip(1).all(|stay| stay.parent.is_some())
}

/// For each stay the one at which its way begins, nothing where that is the first for all; a parent stands before its
/// children.
pub fn starts(stays: &[Stay]) -> Vec<usize> {
    if is_one(stays) {
        return Vec::new();
    }
    let mut starts: Vec<usize> = Vec::with_capacity(stays.len());
    for (n, stay) in stays.iter().enumerate() {
        let start = stay.parent.and_then(|parent| starts.get(parent).copied());
        starts.push(start.unwrap_or(n));
    }
    starts
}

/// Whether a start is another one than the first, where a step says that nobody reported in front of it.
pub fn is_apart(stays: &[Stay], start: usize) -> bool {
    let alone = |stay: &Stay| stay.steps.iter().any(|step| step.parent.is_none());
    start > 0 && stays.get(start).is_some_and(alone)
}
