//! The orders on their way to the writer's thread. Whoever adds one never waits for a place.
//!
//! An order is in the queue at once, and a writer that is awake finds it there. Waking it is a thing apart, so
//! that the orders of one turn of an event loop can come before one wake, and into one commit.

use std::collections::VecDeque;
use std::mem;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::StoreError;
use super::answer::Asker;
use super::entry::Entry;
use crate::track::StepId;

/// Orders that may wait; one more is refused at once.
pub(super) const ORDERS_MAX: usize = 4096;

/// Orders in one transaction; bounds the wait of the first for the last.
const BATCH_ORDERS_MAX: usize = 256;

/// What to write.
#[derive(Debug)]
pub(super) enum Work {
    Put(Entry),
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
    /// Bring the books up to date.
    Book,
}

/// Work, and who waits for its commit.
#[derive(Debug)]
pub(super) struct Order {
    pub(super) work: Work,
    pub(super) asker: Asker,
}

#[derive(Debug, Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    wake: Condvar,
}

#[derive(Debug, Default)]
struct State {
    orders: VecDeque<Order>,
    /// The writer waits to be woken.
    asleep: bool,
    /// Somebody is about to wake it.
    to_be_woken: bool,
    closed: bool,
}

impl Queue {
    /// Adds an order; says whether the writer is to be woken for it, as nobody else is about to.
    pub(super) fn push(&self, order: Order) -> Result<bool, StoreError> {
        let mut state = self.state();
        if state.closed {
            return Err(StoreError::Stopped);
        }
        if state.orders.len() >= ORDERS_MAX {
            return Err(StoreError::Full);
        }
        state.orders.push_back(order);
        Ok(state.asleep && !mem::replace(&mut state.to_be_woken, true))
    }

    /// Wakes the writer, unless somebody has done so or it has found the orders by itself.
    pub(super) fn wake(&self) {
        let mut state = self.state();
        state.to_be_woken = false;
        if state.asleep && !state.orders.is_empty() {
            state.asleep = false;
            self.wake.notify_one();
        }
    }

    /// For the writer: the next batch, empty if there was none for so long; `None` if there will be no more.
    pub(super) fn take(&self, patience: Duration) -> Option<Vec<Order>> {
        let mut state = self.state();
        if state.orders.is_empty() && !state.closed {
            state.asleep = true;
            let sleeping = |state: &mut State| state.asleep && !state.closed;
            let woken = self.wake.wait_timeout_while(state, patience, sleeping);
            (state, _) = woken.unwrap_or_else(PoisonError::into_inner);
            state.asleep = false;
        }
        let batch = state.orders.len().min(BATCH_ORDERS_MAX);
        (batch > 0 || !state.closed).then(|| state.orders.drain(..batch).collect())
    }

    /// No more orders: the writer serves those that are here, and ends.
    pub(super) fn close(&self) {
        self.state().closed = true;
        self.wake.notify_one();
    }

    /// There is no writer any more: who waits for it is told.
    pub(super) fn abandon(&self) {
        self.close();
        self.state().orders.clear();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::thread;

    use super::*;

    #[test]
    fn one_of_those_that_come_together_wakes_the_writer() {
        let queue = Queue::default();
        let push = || {
            let (work, (asker, _)) = (Work::Book, Asker::new());
            queue.push(Order { work, asker }).unwrap()
        };
        thread::scope(|scope| {
            for _ in 0..2 {
                let writer = scope.spawn(|| queue.take(Duration::from_secs(10)));
                while !queue.state().asleep {
                    thread::yield_now();
                }
                assert_eq!([push(), push(), push()], [true, false, false]);
                queue.wake();
                assert_eq!(writer.join().unwrap().unwrap().len(), 3);
            }
        });
        assert!(!push(), "it is awake");
    }
}
