//! The one thread that writes. It takes everything that waits (up to a batch) into one transaction and
//! answers after the commit; it never waits for more to come. A failed commit fails its batch and
//! nothing else: the next one starts afresh.
//!
//! A put is answered as soon as its row is in the journal. The books are kept behind that, between batches
//! and many rows at a time, and so is the write-ahead log.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::entry::{Entry, Fact, Unbooked};
use super::fresh::Note;
use super::journal::{self, Intake};
use super::outage::Outage;
use super::place::Place;
use super::queue::{Order, Work};
use super::wal::Wal;
use super::{Put, Shared, StoreError, answer, layout, once};
use crate::clock::Clock;
use crate::track::StepId;

/// Seconds until the books are tried again after they could not be kept.
const BOOK_AGAIN_SECONDS: u64 = 1;

/// Rows deleted in one go by retention; more wait for the next go.
const PRUNE_ROWS_MAX: usize = 500;

/// Seconds between two trials of a store that could not commit.
const TRIAL_SECONDS: u64 = 1;

/// Seconds between two looks for old rows, when the last look found no more than one go.
const PRUNE_EVERY_SECONDS: u64 = 3600;

/// Seconds between two goes when old rows remain, so that mail is served in between.
const PRUNE_MORE_SECONDS: u64 = 1;

const DAY_MS: i64 = 24 * 3600 * 1000;

/// The writer's own.
pub(super) struct Writer {
    db: Connection,
    shared: Arc<Shared>,
    retention_days: u32,
    next_prune: Instant,
    /// The books are not tried before.
    next_booking: Instant,
    /// When it is tried whether commits succeed again; `None` while they do.
    next_trial: Option<Instant>,
    /// The books cannot be kept.
    books: Outage,
    place: Place,
    wal: Wal,
}

impl Writer {
    pub(super) fn new(
        mut db: Connection,
        place: Place,
        shared: Arc<Shared>,
        retention_days: u32,
    ) -> rusqlite::Result<Self> {
        Ok(Self {
            wal: Wal::of(&mut db, place.path())?,
            db,
            shared,
            retention_days,
            next_prune: Instant::now(),
            next_booking: Instant::now(),
            next_trial: None,
            books: Outage::default(),
            place,
        })
    }

    /// Books what an earlier process did not get to.
    pub(super) fn take_over(&mut self) -> rusqlite::Result<()> {
        self.shared.fresh().booked_to(Clock::system().now_us());
        let left = journal::unbooked(&self.db)?;
        transact(&self.db, |db| journal::book(db, &left))?;
        self.look_into_outbox();
        Ok(())
    }

    /// Serves orders until every handle of the store is gone.
    pub(super) fn run(mut self) {
        loop {
            self.do_chores();
            match self.shared.queue.take(self.idle()) {
                Some(batch) if batch.is_empty() => {}
                Some(batch) => self.serve(batch),
                None => break,
            }
        }
        let rest = self.shared.fresh().begin_booking_all();
        self.book(&rest);
    }

    fn serve(&mut self, batch: Vec<Order>) {
        let committed = self.commit(&batch);
        self.went(committed.is_ok());
        match committed {
            Ok(outcomes) => {
                let stored = outcomes.iter().flatten().count();
                let counter = &self.shared.counters.stored;
                counter.fetch_add(stored as u64, Ordering::Relaxed);
                let queued = outcomes.contains(&Some(Put::Queued));
                let askers = batch.into_iter().map(|order| order.asker);
                answer::send(askers.zip(outcomes.into_iter().map(Ok)));
                if queued {
                    self.shared.queued.notify_one();
                }
            }
            Err(cause) => {
                // Each of those who ordered hears it, and says what it costs.
                tracing::debug!(%cause, orders = batch.len(), "the store could not commit");
                let error = StoreError::from(cause);
                let failed = |order: Order| (order.asker, Err(error.clone()));
                answer::send(batch.into_iter().map(failed));
            }
        }
    }

    /// A commit came to this.
    fn went(&mut self, well: bool) {
        self.shared.failing.store(!well, Ordering::Relaxed);
        let again = || Instant::now() + Duration::from_secs(TRIAL_SECONDS);
        self.next_trial = (!well).then(again);
    }

    /// One transaction for the whole batch. Where an order needs the books, they are brought up to date
    /// first, and every put of the batch goes straight into them.
    fn commit(&mut self, batch: &[Order]) -> rusqlite::Result<Vec<Option<Put>>> {
        let in_books = needs_books(&self.db, &self.shared, batch)?;
        let unbooked = if in_books {
            self.shared.fresh().begin_booking_all()
        } else {
            Vec::new()
        };
        let mut entered = Vec::new();
        let outcomes = transact(&self.db, |db| {
            if in_books {
                journal::book(db, &unbooked)?;
            }
            let mut clerk = Clerk {
                db,
                intake: Intake::new(db)?,
                shared: &self.shared,
                in_books,
                since: Instant::now(),
                entered: &mut entered,
            };
            let work = batch.iter().map(|order| &order.work);
            work.map(|work| clerk.apply(work)).collect()
        });
        if in_books {
            self.end_booking(outcomes.is_ok());
        }
        if outcomes.is_ok() {
            self.count_commit();
            let mut fresh = self.shared.fresh();
            for fact in entered {
                fresh.enter(fact);
            }
            if in_books {
                let puts = batch.iter().filter_map(put);
                puts.for_each(|entry| fresh.booked_to(entry.kept.marks.arrival_us));
            }
        }
        outcomes
    }

    fn book(&mut self, unbooked: &[Unbooked]) {
        let booked = transact(&self.db, |db| journal::book(db, unbooked));
        self.end_booking(booked.is_ok());
        match booked {
            Ok(()) => {
                self.count_commit();
                let well = || tracing::info!("the store's books are kept again");
                self.books.is_over(well);
            }
            Err(cause) => {
                let alarm =
                    || tracing::error!(%cause, "the store's books cannot be kept; tried again");
                self.books.goes_on(alarm);
                self.next_booking = Instant::now() + Duration::from_secs(BOOK_AGAIN_SECONDS);
            }
        }
    }

    fn end_booking(&self, booked: bool) {
        if !booked {
            return self.shared.fresh().cancel_booking();
        }
        // Before the steps leave the memory, or whoever looks for what is due could find a report nowhere.
        self.look_into_outbox();
        self.shared.fresh().end_booking();
    }

    fn look_into_outbox(&self) {
        // Better to look in vain than never.
        let waits = journal::any_waits(&self.db).unwrap_or(true);
        self.shared.outbox_waits.store(waits, Ordering::Release);
        if waits {
            self.shared.queued.notify_one();
        }
    }

    fn count_commit(&self) {
        self.shared.counters.commits.fetch_add(1, Ordering::Relaxed);
    }

    /// When the next booking is due.
    fn booking_due(&self) -> Option<Instant> {
        let due = self.shared.fresh().booking_due()?;
        Some(due.max(self.next_booking))
    }

    /// How long there is nothing to do but orders.
    fn idle(&self) -> Duration {
        let next = self
            .booking_due()
            .into_iter()
            .chain(self.next_trial)
            .fold(self.next_prune, Ord::min);
        next.saturating_duration_since(Instant::now())
    }

    fn do_chores(&mut self) {
        let now = Instant::now();
        if self.booking_due().is_some_and(|due| due <= now) {
            let unbooked = self.shared.fresh().begin_booking();
            self.book(&unbooked);
        }
        if self.next_trial.is_some_and(|due| due <= now) {
            let tried = transact(&self.db, layout::write_again);
            self.went(tried.is_ok());
        }
        self.wal.empty_if_long(&self.db);
        self.wal.make_room(&self.db);
        self.place.look(now);
        if self.next_prune <= now {
            self.next_prune = now + self.prune();
        }
    }

    /// Drops rows past the retention; returns when to look again.
    fn prune(&self) -> Duration {
        let now_ms = Clock::system().now_ms();
        let before_ms = now_ms - i64::from(self.retention_days) * DAY_MS;
        let pruned = transact(&self.db, |db| {
            journal::prune(db, before_ms, now_ms, PRUNE_ROWS_MAX)
        });
        let seconds = match pruned {
            Ok(true) => PRUNE_MORE_SECONDS,
            Ok(false) => PRUNE_EVERY_SECONDS,
            Err(cause) => {
                tracing::warn!(%cause, "old rows of the store could not be deleted");
                PRUNE_EVERY_SECONDS
            }
        };
        Duration::from_secs(seconds)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.shared.queue.abandon();
    }
}

fn put(order: &Order) -> Option<&Entry> {
    match &order.work {
        Work::Put(entry) => Some(entry),
        _ => None,
    }
}

/// Whether an order asks for more than a row in the journal or a change to one in the outbox. So does a step that
/// tells what was told before: in memory, in this batch or in the books.
fn needs_books(db: &Connection, shared: &Shared, batch: &[Order]) -> rusqlite::Result<bool> {
    let perhaps_booked: Vec<i64> = {
        let fresh = shared.fresh();
        let mut told_here = HashSet::new();
        let mut needs = |order: &Order| match &order.work {
            Work::Put(entry) => {
                let again = |news: &i64| fresh.tells(*news) || !told_here.insert(*news);
                entry.delayed.is_some() || entry.kept.marks.news.iter().any(again)
            }
            Work::Done(_) => false,
            Work::Defer { step, .. } | Work::Hold { step, .. } => fresh.get(*step).is_some(),
            Work::Book => true,
        };
        if fresh.is_overfull() || batch.iter().any(&mut needs) {
            return Ok(true);
        }
        let puts = batch.iter().filter_map(put);
        let old = puts.filter(|entry| fresh.may_be_booked(entry.kept.marks.arrival_us));
        old.flat_map(|entry| &entry.kept.marks.news)
            .copied()
            .collect()
    };
    once::any_told(db, &perhaps_booked)
}

/// Who carries out the orders of one batch, in its transaction.
struct Clerk<'a> {
    db: &'a Connection,
    intake: Intake<'a>,
    shared: &'a Shared,
    /// The books are up to date, and to stay so.
    in_books: bool,
    /// When the batch came.
    since: Instant,
    /// What has a row in the journal only.
    entered: &'a mut Vec<Fact>,
}

impl Clerk<'_> {
    fn apply(&mut self, work: &Work) -> rusqlite::Result<Option<Put>> {
        match work {
            Work::Put(entry) => return self.put(entry).map(Some),
            // The books heard of it while the order was on its way, or they will not.
            Work::Done(step) if self.shared.fresh().done(*step) == Note::Taken => {}
            Work::Done(step) => journal::done(self.db, *step)?,
            Work::Defer {
                step,
                next_ms,
                reason,
            } => journal::defer(self.db, *step, *next_ms, reason)?,
            Work::Hold { step, reason } => journal::hold(self.db, *step, reason)?,
            Work::Book => {}
        }
        Ok(None)
    }

    fn put(&mut self, entry: &Entry) -> rusqlite::Result<Put> {
        if let Some(outcome) = self.just_put(entry.kept.id) {
            return Ok(outcome);
        }
        let put = if self.in_books {
            journal::put(self.db, &mut self.intake, entry)?
        } else {
            self.append(entry)?
        };
        if let Some(outcome) = put {
            return Ok(outcome);
        }
        // Of a row that somebody has deleted nothing is told again.
        let known = self.intake.known(entry)?;
        Ok(known.unwrap_or_else(|| entry.outcome(false)))
    }

    /// A put that needs no more than the journal; `None` if the books have the step.
    fn append(&mut self, entry: &Entry) -> rusqlite::Result<Option<Put>> {
        let Some(row) = self.intake.append(entry, entry.told)? else {
            return Ok(None);
        };
        let outcome = entry.outcome(entry.told);
        self.entered.push(Fact {
            row,
            waits: entry.told,
            outcome,
            kept: Arc::clone(&entry.kept),
            since: self.since,
        });
        Ok(Some(outcome))
    }

    /// What the put of this step came to, if the books do not have it yet.
    fn just_put(&self, id: StepId) -> Option<Put> {
        let now = self.entered.iter().rfind(|fact| fact.kept.id == id);
        let outcome = now.map(|fact| fact.outcome);
        outcome.or_else(|| self.shared.fresh().get(id).map(|fact| fact.outcome))
    }
}

/// One transaction. Its statements are kept ready, because there is one for nearly every message.
fn transact<T>(
    db: &Connection,
    write: impl FnOnce(&Connection) -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    db.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
    let written = write(db).and_then(|written| {
        db.prepare_cached("COMMIT")?.execute([])?;
        Ok(written)
    });
    // After some errors SQLite has rolled back by itself.
    if written.is_err() && !db.is_autocommit() {
        // What went wrong first says more than what may go wrong here.
        let _ = db.execute_batch("ROLLBACK");
    }
    written
}
