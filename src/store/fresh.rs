//! The newest steps, in memory: on disk in the journal, but not yet in the books (the index by step and the
//! outbox). Who looks up a step, or what is due, looks here first; and a report that is mailed while its step
//! is here never was in the outbox.
//!
//! Must not know the database.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hashbrown::HashMap;

use super::entry::{Fact, Unbooked};
use crate::track::StepId;

/// The oldest is booked then, with all that are half as old. The others are left for the next time, because
/// most will have been mailed by then.
const BOOK_AFTER: Duration = Duration::from_millis(300);

/// So many are kept at the most.
const STEPS_MAX: usize = 2000;

/// Steps that are not in the books, in the order of their rows.
#[derive(Debug, Default)]
pub(super) struct Fresh {
    facts: VecDeque<Fact>,
    /// The number of each step. The first one has the number `first`, and so on.
    numbers: HashMap<StepId, u64>,
    first: u64,
    /// Steps with smaller numbers are being booked.
    booking_to: u64,
    /// Steps with smaller numbers do not wait.
    waiting_from: u64,
    /// The good news in these steps (`once`).
    news: HashSet<i64>,
    /// Of what came to the hop later than this, the books have no good news, µs.
    booked_to_us: i64,
}

/// What became of the note that a report was mailed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Note {
    /// The books will never hear of the report.
    Taken,
    /// The books are hearing of it right now.
    TooLate,
    /// No such step here.
    Unknown,
}

impl Fresh {
    /// A step that has just been committed.
    pub(super) fn enter(&mut self, fact: Fact) {
        let number = self.first + self.facts.len() as u64;
        self.numbers.insert(fact.kept.id, number);
        self.news.extend(&fact.kept.marks.news);
        self.facts.push_back(fact);
    }

    /// Whether a step here tells this.
    pub(super) fn tells(&self, news: i64) -> bool {
        self.news.contains(&news)
    }

    /// Whether a step in the books may tell good news of what came to the hop at `arrival_us`.
    pub(super) fn may_be_booked(&self, arrival_us: i64) -> bool {
        arrival_us <= self.booked_to_us
    }

    /// The books tell good news of what came to the hop up to `arrival_us`.
    pub(super) fn booked_to(&mut self, arrival_us: i64) {
        self.booked_to_us = self.booked_to_us.max(arrival_us);
    }

    /// The step of this id.
    pub(super) fn get(&self, id: StepId) -> Option<&Fact> {
        self.fact(*self.numbers.get(&id)?)
    }

    /// Steps whose reports wait, the oldest first; at most `reports_max`, none of `in_hand`.
    pub(super) fn due(&self, reports_max: usize, in_hand: &HashSet<StepId>) -> Vec<Fact> {
        let from = usize::try_from(self.waiting_from - self.first).unwrap_or(usize::MAX);
        let waiting = self.facts.iter().skip(from).filter(|fact| fact.waits);
        let free = waiting.filter(|fact| !in_hand.contains(&fact.kept.id));
        free.take(reports_max).cloned().collect()
    }

    /// The report of this step was mailed.
    pub(super) fn done(&mut self, id: StepId) -> Note {
        let Some(number) = self.numbers.get(&id).copied() else {
            return Note::Unknown;
        };
        if number < self.booking_to {
            return Note::TooLate;
        }
        if let Some(fact) = self.fact_mut(number) {
            fact.waits = false;
        }
        while self.fact(self.waiting_from).is_some_and(|f| !f.waits) {
            self.waiting_from += 1;
        }
        Note::Taken
    }

    /// More steps than there should ever be: the books are behind.
    pub(super) fn is_overfull(&self) -> bool {
        self.facts.len() >= 2 * STEPS_MAX
    }

    /// When the next booking is due.
    pub(super) fn booking_due(&self) -> Option<Instant> {
        let oldest = self.facts.front()?;
        let full = self.facts.len() >= STEPS_MAX;
        Some(oldest.since + if full { Duration::ZERO } else { BOOK_AFTER })
    }

    /// Begins to book what is old enough.
    pub(super) fn begin_booking(&mut self) -> Vec<Unbooked> {
        let half = Instant::now().checked_sub(BOOK_AFTER / 2);
        let old = self.facts.partition_point(|f| Some(f.since) <= half);
        let surplus = self.facts.len().saturating_sub(STEPS_MAX / 2);
        self.begin_booking_of(old.max(surplus))
    }

    /// Begins to book everything.
    pub(super) fn begin_booking_all(&mut self) -> Vec<Unbooked> {
        self.begin_booking_of(self.facts.len())
    }

    fn begin_booking_of(&mut self, count: usize) -> Vec<Unbooked> {
        self.booking_to = self.first + count as u64;
        let unbooked = |fact: &Fact| Unbooked {
            row: fact.row,
            waits: fact.waits,
            own_body: None,
            kept: Arc::clone(&fact.kept),
        };
        self.facts.iter().take(count).map(unbooked).collect()
    }

    /// Whether anything is being booked right now.
    #[cfg(test)]
    pub(super) fn is_booking(&self) -> bool {
        self.booking_to > self.first
    }

    /// The books have what was begun.
    pub(super) fn end_booking(&mut self) {
        while self.first < self.booking_to {
            if let Some(Fact { kept, .. }) = self.facts.pop_front() {
                self.numbers.remove(&kept.id);
                for news in &kept.marks.news {
                    self.news.remove(news);
                    self.booked_to(kept.marks.arrival_us);
                }
            }
            self.first += 1;
        }
        self.waiting_from = self.waiting_from.max(self.first);
    }

    /// The books do not have what was begun.
    pub(super) fn cancel_booking(&mut self) {
        self.booking_to = self.first;
    }

    fn fact(&self, number: u64) -> Option<&Fact> {
        let place = number.checked_sub(self.first)?;
        self.facts.get(usize::try_from(place).ok()?)
    }

    fn fact_mut(&mut self, number: u64) -> Option<&mut Fact> {
        let place = number.checked_sub(self.first)?;
        self.facts.get_mut(usize::try_from(place).ok()?)
    }
}
