//! The end of a wait. One timer serves all the waits of a session, one after the other: most waits end long
//! before their time, so it is moved only when it fires too early or stands too late, not at every wait.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::task::coop::has_budget_remaining;
use tokio::time::{Instant, Sleep, sleep_until};

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
        let timer = self.set.get_or_insert_with(|| Box::pin(sleep_until(end)));
        let wakes_us = |waker: &Waker| waker.will_wake(context.waker());
        let in_time = timer.deadline() <= end && !timer.is_elapsed();
        if in_time && self.wakes.as_ref().is_some_and(wakes_us) {
            return Poll::Pending;
        }
        if timer.deadline() != end {
            timer.as_mut().reset(end);
        }
        // Where the task has used up its turn the timer takes no waker: it is asked again in the next one.
        self.wakes = has_budget_remaining().then(|| context.waker().clone());
        timer.as_mut().poll(context)
    }
}

#[cfg(test)]
mod tests {
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
