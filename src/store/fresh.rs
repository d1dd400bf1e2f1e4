//! The newest steps, in memory: on disk in the journal, but not yet in the books (the index by step and the
//! outbox). Who looks up a step, or what is due, looks here first; and a report that is mailed while its step
//! is here never was in the outbox.
//!
//! Must not know the database.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::journal::{self, Due, Unbooked};
use crate::track::{Step, StepId};

/// The oldest is booked then, with all that are half as old. The others are left for the next time, because
/// most will have been mailed by then.
const BOOK_AFTER: Duration = Duration::from_millis(300);

/// So many are kept at the most.
const STEPS_MAX: usize = 2000;

/// Steps that are not in the books, in the order of their rows.
#[derive(Debug, Default)]
pub(super) struct Fresh {
    entries: VecDeque<Entry>,
    /// The number of each step's entry. The first one has the number `first`, and so on.
    numbers: HashMap<StepId, u64>,
    first: u64,
    /// Entries with smaller numbers are being booked.
    booking_to: u64,
    /// Entries with smaller numbers do not wait.
    waiting_from: u64,
}

#[derive(Debug)]
struct Entry {
    row: i64,
    step: Arc<Step>,
    /// Its report is still to be mailed.
    waits: bool,
    since: Instant,
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
    pub(super) fn enter(&mut self, row: i64, step: Arc<Step>, waits: bool) {
        let number = self.first + self.entries.len() as u64;
        self.numbers.insert(step.report.step, number);
        self.entries.push_back(Entry {
            row,
            step,
            waits,
            since: Instant::now(),
        });
    }

    /// The step of this id.
    pub(super) fn step(&self, id: StepId) -> Option<&Arc<Step>> {
        let number = self.numbers.get(&id)?;
        self.entry(*number).map(|entry| &entry.step)
    }

    /// Reports that wait, the oldest first; at most `reports_max`, none of `in_hand`.
    pub(super) fn due(&self, reports_max: usize, in_hand: &HashSet<StepId>) -> Vec<Due> {
        let from = usize::try_from(self.waiting_from - self.first).unwrap_or(usize::MAX);
        let waiting = self.entries.iter().skip(from).filter(|entry| entry.waits);
        waiting
            .filter(|entry| !in_hand.contains(&entry.step.report.step))
            .take(reports_max)
            .map(|entry| Due {
                step: entry.step.report.step,
                first_ms: journal::happened_ms(&entry.step),
                failures: 0,
                content: Ok(Arc::clone(&entry.step)),
            })
            .collect()
    }

    /// The report of this step was mailed.
    pub(super) fn done(&mut self, id: StepId) -> Note {
        let Some(number) = self.numbers.get(&id).copied() else {
            return Note::Unknown;
        };
        if number < self.booking_to {
            return Note::TooLate;
        }
        if let Some(entry) = self.entry_mut(number) {
            entry.waits = false;
        }
        while self.entry(self.waiting_from).is_some_and(|e| !e.waits) {
            self.waiting_from += 1;
        }
        Note::Taken
    }

    /// More steps than there should ever be: the books are behind.
    pub(super) fn is_overfull(&self) -> bool {
        self.entries.len() >= 2 * STEPS_MAX
    }

    /// When the next booking is due.
    pub(super) fn booking_due(&self) -> Option<Instant> {
        let oldest = self.entries.front()?;
        let full = self.entries.len() >= STEPS_MAX;
        Some(oldest.since + if full { Duration::ZERO } else { BOOK_AFTER })
    }

    /// Begins to book what is old enough.
    pub(super) fn begin_booking(&mut self) -> Vec<Unbooked> {
        let half = Instant::now().checked_sub(BOOK_AFTER / 2);
        let old = self.entries.partition_point(|e| Some(e.since) <= half);
        let surplus = self.entries.len().saturating_sub(STEPS_MAX / 2);
        self.begin_booking_of(old.max(surplus))
    }

    /// Begins to book everything.
    pub(super) fn begin_booking_all(&mut self) -> Vec<Unbooked> {
        self.begin_booking_of(self.entries.len())
    }

    fn begin_booking_of(&mut self, count: usize) -> Vec<Unbooked> {
        self.booking_to = self.first + count as u64;
        let unbooked = |entry: &Entry| Unbooked {
            row: entry.row,
            id: entry.step.report.step,
            at_ms: journal::happened_ms(&entry.step),
            waits: entry.waits,
            step: Some(Arc::clone(&entry.step)),
        };
        self.entries.iter().take(count).map(unbooked).collect()
    }

    /// The books have what was begun.
    pub(super) fn end_booking(&mut self) {
        while self.first < self.booking_to {
            if let Some(entry) = self.entries.pop_front() {
                self.numbers.remove(&entry.step.report.step);
            }
            self.first += 1;
        }
        self.waiting_from = self.waiting_from.max(self.first);
    }

    /// The books do not have what was begun.
    pub(super) fn cancel_booking(&mut self) {
        self.booking_to = self.first;
    }

    fn entry(&self, number: u64) -> Option<&Entry> {
        let place = number.checked_sub(self.first)?;
        self.entries.get(usize::try_from(place).ok()?)
    }

    fn entry_mut(&mut self, number: u64) -> Option<&mut Entry> {
        let place = number.checked_sub(self.first)?;
        self.entries.get_mut(usize::try_from(place).ok()?)
    }
}
