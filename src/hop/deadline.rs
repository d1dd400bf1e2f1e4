//! The end of a wait. One timer serves all the waits of a session, one after the other: most waits end long
//! before their time, so it is moved only when it fires too early or stands too late, not at every wait.
//!
//! A thread of sessions keeps a few that are done with, and leaves them set: setting the first of all timers wakes the
//! event loop, and a session that is short needs one for nothing else than to have it.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use tokio::task::coop::has_budget_remaining;
use tokio::time::{Instant, Sleep, sleep_until};

/// Timers that a thread keeps; a session that lasts has its own.
const SPARE_MAX: usize = 16;

thread_local! {
    /// None where none are kept: a timer is of no use outside the runtime that it was set in.
    static SPARE: RefCell<Option<Vec<Pin<Box<Sleep>>>>> = const { RefCell::new(None) };
}

/// Keeps timers on this thread, which is to run nothing else than one runtime.
pub fn keep_spares() {
    SPARE.set(Some(Vec::with_capacity(SPARE_MAX)));
}

/// One that was kept.
fn spare() -> Option<Pin<Box<Sleep>>> {
    SPARE.with_borrow_mut(|spare| spare.as_mut()?.pop())
}

/// Keeps one, if there is room for it and it may still be in time for somebody.
fn give(mut timer: Pin<Box<Sleep>>) {
    SPARE.with_borrow_mut(|spare| {
        if let Some(spare) = spare.as_mut().filter(|spare| spare.len() < SPARE_MAX) {
            // It holds on to whom it wakes.
            let mut nobody = Context::from_waker(Waker::noop());
            if timer.as_mut().poll(&mut nobody).is_pending() {
                spare.push(timer);
            }
        }
    });
}

/// A timer for waits that come one after the other.
#[derive(Debug, Default)]
pub struct Timer {
    set: Option<Pin<Box<Sleep>>>,
    /// Whom it wakes.
    wakes: Option<Waker>,
}

/// How long one wait may last. The clock is not asked before there is something to wait for.
#[derive(Clone, Copy, Debug)]
pub enum Wait {
    /// So long from the moment on in which the wait begins.
    For(Duration),
    /// The wait has begun.
    Until(Instant),
}

impl Wait {
    /// When it is over; it begins now, if it has not yet.
    pub fn end(&mut self) -> Instant {
        match *self {
            Self::Until(end) => end,
            Self::For(limit) => {
                let end = Instant::now() + limit;
                *self = Self::Until(end);
                end
            }
        }
    }
}

impl Timer {
    /// What `work` comes to, if it does within `limit`.
    pub async fn within<T>(&mut self, limit: Duration, work: impl Future<Output = T>) -> Option<T> {
        let (mut work, mut wait) = (pin!(work), Wait::For(limit));
        poll_fn(|context| match work.as_mut().poll(context) {
            Poll::Ready(done) => Poll::Ready(Some(done)),
            Poll::Pending => self.poll(wait.end(), context).map(|()| None),
        })
        .await
    }

    /// Whether it was ever waited for.
    pub fn is_set(&self) -> bool {
        self.set.is_some()
    }

    /// Ready when `end` has come.
    pub fn poll(&mut self, end: Instant, context: &mut Context<'_>) -> Poll<()> {
        let new = || spare().unwrap_or_else(|| Box::pin(sleep_until(end)));
        let timer = self.set.get_or_insert_with(new);
        let wakes_us = |waker: &Waker| waker.will_wake(context.waker());
        let in_time = timer.deadline() <= end && !timer.is_elapsed();
        if in_time && self.wakes.as_ref().is_some_and(wakes_us) {
            return Poll::Pending;
        }
        if !in_time {
            timer.as_mut().reset(end);
        }
        // Where the task has used up its turn the timer takes no waker: it is asked again in the next one.
        self.wakes = has_budget_remaining().then(|| context.waker().clone());
        ready!(timer.as_mut().poll(context));
        if timer.deadline() < end {
            // It has fired just now, for a wait that was over before.
            timer.as_mut().reset(end);
            return timer.as_mut().poll(context);
        }
        Poll::Ready(())
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        if let Some(timer) = self.set.take() {
            give(timer);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use tokio::task::coop::consume_budget;
    use tokio::time::timeout;

    use super::*;

    async fn wait(timer: &mut Timer, ms: u64) -> Duration {
        let start = Instant::now();
        let mut wait = Wait::For(Duration::from_millis(ms));
        poll_fn(|context| timer.poll(wait.end(), context)).await;
        start.elapsed()
    }

    /// A peer that takes much and then no more is written to until the turn of the task is used up.
    #[tokio::test(start_paused = true)]
    async fn a_wait_that_begins_at_the_end_of_a_turn_ends() {
        let (mut timer, mut first) = (Timer::default(), true);
        let mut wait = Wait::For(Duration::from_millis(10));
        let waited = poll_fn(|context| {
            while first && has_budget_remaining() {
                let _ = pin!(consume_budget()).poll(context);
            }
            first = false;
            timer.poll(wait.end(), context)
        });
        let ended = timeout(Duration::from_secs(1), waited).await;
        assert!(ended.is_ok(), "waits for ever");
    }

    /// A session takes the timer of one that is over as it stands, and waits as long as it should all the same.
    #[tokio::test(start_paused = true)]
    async fn a_timer_that_is_kept_ends_no_wait_before_its_time() {
        keep_spares();
        for ms in [5000, 20_000, 10_000, 10_001] {
            let mut timer = Timer::default();
            let cut = Duration::from_millis(100);
            assert!(timeout(cut, wait(&mut timer, 10_000)).await.is_err());
            let set_for = timer.set.as_ref().unwrap().deadline();
            drop(timer);
            let mut next = Timer::default();
            assert!(timeout(cut, wait(&mut next, 30_000)).await.is_err());
            assert_eq!(next.set.as_ref().unwrap().deadline(), set_for);
            let took = wait(&mut next, ms).await;
            assert!(took.as_millis().abs_diff(ms.into()) <= 1, "{ms}: {took:?}");
            // One that has fired is not kept.
            drop(next);
            assert!(spare().is_none());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn work_gets_its_time_and_no_more() {
        let mut timer = Timer::default();
        let (start, limit) = (Instant::now(), Duration::from_millis(10));
        for _ in 0..5 {
            assert_eq!(timer.within(limit, async { 1 }).await, Some(1));
            let soon = tokio::time::sleep(limit / 2);
            assert!(timer.within(limit, soon).await.is_some());
            let never = std::future::pending::<()>();
            assert!(timer.within(limit, never).await.is_none());
        }
        let took = start.elapsed().as_millis();
        assert!((75..=80).contains(&took), "{took} ms");
    }

    /// Waits of every length behind waits of every other end at their time: neither when an earlier one would
    /// have ended, nor later.
    #[tokio::test(start_paused = true)]
    async fn every_wait_ends_at_its_own_time() {
        let mut timer = Timer::default();
        let lengths = [5000, 40, 300_000, 1, 7000, 7000, 0];
        for ms in lengths {
            let cut = Duration::from_millis(ms / 2);
            let begun = tokio::time::timeout(cut, wait(&mut timer, ms)).await;
            assert!(ms < 2 || begun.is_err(), "ended after half its time");
            for next in lengths {
                let took = wait(&mut timer, next).await;
                assert!(
                    took.as_millis().abs_diff(next.into()) <= 1,
                    "{next}: {took:?}"
                );
            }
        }
    }
}
