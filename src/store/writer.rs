//! The one thread that writes. It takes everything that waits (up to a batch) into one transaction and
//! answers after the commit; it never waits for more to come. A failed commit fails its batch and
//! nothing else: the next one starts afresh.

use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use rusqlite::Connection;
use tokio::sync::oneshot;

use super::{Put, Shared, StoreError, journal};
use crate::clock::Clock;
use crate::track::{Step, StepId};

/// Orders in one transaction; bounds the wait of the first for the last.
const BATCH_ORDERS_MAX: usize = 256;

/// Rows deleted in one go by retention; more wait for the next go.
const PRUNE_ROWS_MAX: usize = 500;

/// Seconds between two looks for old rows, when the last look found no more than one go.
const PRUNE_EVERY_SECONDS: u64 = 3600;

/// Seconds between two goes when old rows remain, so that mail is served in between.
const PRUNE_MORE_SECONDS: u64 = 1;

const DAY_MS: i64 = 24 * 3600 * 1000;

/// What to write.
#[derive(Debug)]
pub(super) enum Work {
    Put(Box<Step>),
    Done(StepId),
    Defer {
        step: StepId,
        next_ms: i64,
        reason: String,
    },
    Hold {
        step: StepId,
        reason: String,
    },
}

/// Work, and who waits for its commit. Only a put has something to say.
#[derive(Debug)]
pub(super) struct Order {
    pub(super) work: Work,
    pub(super) answer: oneshot::Sender<Result<Option<Put>, StoreError>>,
}

/// Serves orders until every handle of the store is gone.
pub(super) fn run(
    mut db: Connection,
    orders: &Receiver<Order>,
    shared: &Shared,
    retention_days: u32,
) {
    let mut next_prune = Instant::now();
    loop {
        if Instant::now() >= next_prune {
            next_prune = Instant::now() + prune(&db, retention_days);
        }
        let idle = next_prune.saturating_duration_since(Instant::now());
        match orders.recv_timeout(idle) {
            Ok(first) => {
                let mut batch = vec![first];
                batch.extend(orders.try_iter().take(BATCH_ORDERS_MAX - 1));
                serve(&mut db, batch, shared);
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
}

fn serve(db: &mut Connection, batch: Vec<Order>, shared: &Shared) {
    match commit(db, &batch) {
        Ok(outcomes) => {
            let counters = &shared.counters;
            counters.commits.fetch_add(1, Ordering::Relaxed);
            let stored = outcomes.iter().flatten().count();
            counters.stored.fetch_add(stored as u64, Ordering::Relaxed);
            if outcomes.contains(&Some(Put::Queued)) {
                shared.queued.notify_one();
            }
            for (order, outcome) in batch.into_iter().zip(outcomes) {
                // Who stopped waiting has no use for the answer; the work is done all the same.
                let _ = order.answer.send(Ok(outcome));
            }
        }
        Err(cause) => {
            tracing::error!(%cause, orders = batch.len(), "the store could not commit");
            let error = StoreError::from(cause);
            for order in batch {
                let _ = order.answer.send(Err(error.clone()));
            }
        }
    }
}

/// One transaction; dropped without commit it rolls back.
fn commit(db: &mut Connection, batch: &[Order]) -> rusqlite::Result<Vec<Option<Put>>> {
    let transaction = db.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    let outcomes = batch
        .iter()
        .map(|order| apply(&transaction, &order.work))
        .collect::<rusqlite::Result<_>>()?;
    transaction.commit()?;
    Ok(outcomes)
}

fn apply(db: &Connection, work: &Work) -> rusqlite::Result<Option<Put>> {
    match work {
        Work::Put(step) => return journal::put(db, step).map(Some),
        Work::Done(step) => journal::done(db, *step)?,
        Work::Defer {
            step,
            next_ms,
            reason,
        } => journal::defer(db, *step, *next_ms, reason)?,
        Work::Hold { step, reason } => journal::hold(db, *step, reason)?,
    }
    Ok(None)
}

/// Drops rows past the retention; returns when to look again.
fn prune(db: &Connection, retention_days: u32) -> Duration {
    let before_ms = Clock::system().now_ms() - i64::from(retention_days) * DAY_MS;
    let seconds = match journal::prune(db, before_ms, PRUNE_ROWS_MAX) {
        Ok(true) => PRUNE_MORE_SECONDS,
        Ok(false) => PRUNE_EVERY_SECONDS,
        Err(cause) => {
            tracing::warn!(%cause, "old rows of the store could not be deleted");
            PRUNE_EVERY_SECONDS
        }
    };
    Duration::from_secs(seconds)
}
