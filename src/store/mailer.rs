//! The worker that mails what waits in the outbox: at once when something is put, later what failed.
//!
//! A report is marked done right after its acceptance, so each is mailed exactly once unless the process
//! dies in between; then it is mailed again, with the same Message-ID. What was accepted but could not be
//! marked is remembered here and never mailed a second time by this process.
//!
//! Must not know how a report is worded or by which way it leaves.

use std::collections::{HashMap, HashSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::watch;
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::{Instant, sleep, timeout};

use super::bundle::{Bundle, bundles};
use super::outage::Outage;
use super::transport::{Session, Transport};
use super::via::Failure;
use super::{Due, Noted, Store};
use crate::clock::Clock;
use crate::track::{Step, StepId};

/// The first wait after a failure, ms; each further one is twice as long.
const RETRY_FIRST_MS: i64 = 60 * 1000;
/// The longest wait between two attempts, ms.
const RETRY_LONGEST_MS: i64 = 3600 * 1000;
/// How long a report is tried before it is kept for a person, ms.
const GIVE_UP_MS: i64 = 5 * 24 * 3600 * 1000;

/// Sessions at a time.
const LANES_MAX: usize = 4;
/// Reports given to a session at a time.
const LOT_REPORTS_MAX: usize = 50;
/// Reports over one session; `OpenSMTPD` takes so many.
const SESSION_REPORTS_MAX: usize = 100;
/// How long a session is kept open for more reports.
const SESSION_IDLE_SECONDS: u64 = 1;

/// The longest sleep between two looks into the outbox.
const IDLE_SECONDS: u64 = 60;
/// The wait between two looks while parts of a message gather: each that comes would have all of them read again.
const GATHERING_MS: u64 = 100;
/// The wait after the store failed to answer, or a lane to end well.
const TROUBLE_SECONDS: u64 = 5;
/// What lanes get to finish their current report at shutdown.
const GRACE_SECONDS: u64 = 5;
/// The longest reason kept with a report.
const REASON_CHARS_MAX: usize = 500;

/// What every lane needs.
struct Work<C> {
    store: Store,
    transport: Transport,
    compose: C,
    clock: Clock,
    shutdown: watch::Receiver<bool>,
    /// Accepted by the other side, but the store could not take note.
    unmarked: Mutex<HashSet<StepId>>,
    /// The store cannot take note of what became of reports.
    notes: Outage,
    /// The outbox cannot be read.
    outbox: Outage,
    /// Sessions that are open and have nothing to do.
    idle: Mutex<Vec<Open>>,
}

/// An open session.
struct Open {
    session: Session,
    /// Reports it has taken.
    reports: usize,
    last_used: Instant,
}

/// Mails reports until `shutdown` holds true or its sender is gone. `compose` makes the mail of a step, or of
/// several that share one, at a time in µs; a step for which it makes nothing (or panics) is held for a person.
pub async fn run(
    store: Store,
    transport: Transport,
    compose: impl Fn(&[&Step], i64) -> Vec<u8> + Send + Sync + 'static,
    clock: Clock,
    mut shutdown: watch::Receiver<bool>,
) {
    let work = Arc::new(Work {
        store,
        transport,
        compose,
        clock,
        shutdown: shutdown.clone(),
        unmarked: Mutex::default(),
        notes: Outage::default(),
        outbox: Outage::default(),
        idle: Mutex::default(),
    });
    let mut lanes = JoinSet::new();
    let mut in_hand: HashMap<Id, Vec<StepId>> = HashMap::new();
    while !stopping(&shutdown) {
        let pause = dispatch(&work, &mut lanes, &mut in_hand).await;
        let pause = pause.min(work.close_idle(Duration::from_secs(SESSION_IDLE_SECONDS)));
        tokio::select! {
            // An error means that the sender is gone; the loop's condition sees both.
            _ = shutdown.changed() => {}
            () = work.store.queued(), if lanes.len() < LANES_MAX => {}
            Some(ended) = lanes.join_next_with_id() => release(&mut in_hand, ended).await,
            () = sleep(pause) => {}
        }
    }
    let end = async {
        while lanes.join_next().await.is_some() {}
        // The store has said why, if it could not.
        let _ = work.store.book().await;
        let idle = std::mem::take(&mut *work.idle());
        join_all(idle.into_iter().map(|open| open.session.close())).await;
    };
    // What is cut off here is mailed after the next start.
    let _ = timeout(Duration::from_secs(GRACE_SECONDS), end).await;
}

fn stopping(shutdown: &watch::Receiver<bool>) -> bool {
    *shutdown.borrow() || shutdown.has_changed().is_err()
}

/// Gives what is due to free lanes; returns how long there is nothing more to do.
async fn dispatch<C>(
    work: &Arc<Work<C>>,
    lanes: &mut JoinSet<()>,
    in_hand: &mut HashMap<Id, Vec<StepId>>,
) -> Duration
where
    C: Fn(&[&Step], i64) -> Vec<u8> + Send + Sync + 'static,
{
    let idle = Duration::from_secs(IDLE_SECONDS);
    let free = LANES_MAX.saturating_sub(lanes.len());
    if free == 0 {
        return idle;
    }
    let now_ms = work.clock.now_ms();
    let held_by_lanes = in_hand.values().flatten().copied().collect();
    let due = work
        .store
        .due(now_ms, free * LOT_REPORTS_MAX, held_by_lanes);
    let found = match due.await {
        Ok(found) => {
            let well = || tracing::info!("the outbox can be read again");
            work.outbox.is_over(well);
            found
        }
        Err(cause) => {
            let alarm = || tracing::error!(%cause, "the outbox cannot be read; tried again");
            work.outbox.goes_on(alarm);
            return Duration::from_secs(TROUBLE_SECONDS);
        }
    };
    let (bundles, gathered_ms) = bundles(found.reports, now_ms);
    let mut bundles = bundles.into_iter().peekable();
    while bundles.peek().is_some() {
        let lot: Vec<Bundle> = bundles.by_ref().take(LOT_REPORTS_MAX).collect();
        let steps = lot.iter().flatten().map(|due| due.step).collect();
        let lane = lanes.spawn(lane(Arc::clone(work), lot));
        in_hand.insert(lane.id(), steps);
    }
    if gathered_ms.is_some() {
        sleep(Duration::from_millis(GATHERING_MS)).await;
    }
    let due_ms = found.next_ms.map(|ms| ms - now_ms);
    let next_ms = due_ms.into_iter().chain(gathered_ms).min();
    let next = next_ms.and_then(|ms| u64::try_from(ms).ok());
    next.map_or(idle, |ms| idle.min(Duration::from_millis(ms)))
}

/// A lane has ended: what it left undone is due again. One that died waits, lest it die in a circle.
async fn release(in_hand: &mut HashMap<Id, Vec<StepId>>, ended: Result<(Id, ()), JoinError>) {
    match ended {
        Ok((id, ())) => {
            in_hand.remove(&id);
        }
        Err(died) => {
            in_hand.remove(&died.id());
            tracing::error!(%died, "a session of the mailer died");
            sleep(Duration::from_secs(TROUBLE_SECONDS)).await;
        }
    }
}

/// One lot of mails, one after the other over one session.
async fn lane<C>(work: Arc<Work<C>>, lot: Vec<Bundle>)
where
    C: Fn(&[&Step], i64) -> Vec<u8> + Send + Sync + 'static,
{
    let mut open = work.idle().pop();
    let mut notes = Vec::with_capacity(lot.len());
    let mut lot = VecDeque::from(lot);
    while let Some(bundle) = lot.pop_front() {
        if stopping(&work.shutdown) {
            break;
        }
        let (sent, bundle) = work.set_sent_aside(bundle);
        notes.extend(sent.iter().map(|due| work.settle(due, Fate::Sent)));
        if bundle.is_empty() {
            continue;
        }
        let (fate, goes_on) = match work.mail(&bundle, &mut open).await {
            Outcome::Settled(fate) => (fate, true),
            Outcome::Broke(reason) => {
                // A session that took other reports may have had enough; one that took none broke at this
                // mail, which has to wait. The others get a session of their own.
                if open.take().is_some_and(|open| open.reports > 0) {
                    lot.push_front(bundle);
                    continue;
                }
                (Fate::Later(reason), false)
            }
            Outcome::NoSession(reason) => {
                // Nobody's fault in particular, so that everybody waits.
                for due in lot.drain(..).flatten() {
                    notes.push(work.settle(&due, Fate::Later(reason.clone())));
                }
                (Fate::Later(reason), false)
            }
        };
        notes.extend(bundle.iter().map(|due| work.settle(due, fate.clone())));
        if !goes_on {
            break;
        }
    }
    work.idle().extend(open);
    if join_all(notes).await.contains(&false) {
        // What could not be noted is due again at once; without a pause this would go in a circle.
        sleep(Duration::from_secs(TROUBLE_SECONDS)).await;
    }
}

/// What came of one attempt.
enum Outcome {
    Settled(Fate),
    Broke(String),
    NoSession(String),
}

/// What is noted of a report.
#[derive(Clone)]
enum Fate {
    Sent,
    Later(String),
    Never(String),
}

impl<C> Work<C>
where
    C: Fn(&[&Step], i64) -> Vec<u8> + Send + Sync + 'static,
{
    /// What was accepted already, and what is to be mailed.
    fn set_sent_aside(&self, bundle: Bundle) -> (Vec<Due>, Bundle) {
        let unmarked = self.unmarked();
        let is_sent = |due: &Due| unmarked.contains(&due.step);
        bundle.into_iter().partition(is_sent)
    }

    /// One attempt, over the open session or a new one.
    async fn mail(&self, bundle: &[Due], open: &mut Option<Open>) -> Outcome {
        let (recipient, mail) = match self.composed(bundle) {
            Ok(mail) => mail,
            Err(reason) => return Outcome::Settled(Fate::Never(reason)),
        };
        if let Some(full) = open.take_if(|open| open.reports >= SESSION_REPORTS_MAX) {
            full.session.close().await;
        }
        let used = match open {
            Some(used) => used,
            None => match self.open().await {
                Ok(new) => open.insert(new),
                Err(reason) => return Outcome::NoSession(reason),
            },
        };
        let sent = used.session.send(&recipient, mail).await;
        used.last_used = Instant::now();
        match sent {
            Ok(()) => {
                used.reports += 1;
                count(&self.store.counters().sent);
                // Until the mark is durable.
                self.unmarked().extend(bundle.iter().map(|due| due.step));
                Outcome::Settled(Fate::Sent)
            }
            Err(Failure::Later(reason)) => Outcome::Settled(Fate::Later(reason)),
            Err(Failure::Never(reason)) => Outcome::Settled(Fate::Never(reason)),
            Err(Failure::Broken(reason)) => Outcome::Broke(reason),
        }
    }

    /// In a task of its own, because lettre panics at an EHLO line of blanks only, and a server's reply must
    /// not take the lane down.
    async fn open(&self) -> Result<Open, String> {
        let transport = self.transport.clone();
        let session = tokio::spawn(async move { transport.open().await })
            .await
            .unwrap_or_else(|_| Err("the server's greeting cannot be read".to_owned()))?;
        Ok(Open {
            session,
            reports: 0,
            last_used: Instant::now(),
        })
    }

    /// Takes leave of sessions that have had nothing to do for so long; returns when to look again.
    fn close_idle(&self, limit: Duration) -> Duration {
        let mut idle = self.idle();
        let over = |open: &mut Open| open.last_used.elapsed() >= limit;
        for open in idle.extract_if(.., over) {
            tokio::spawn(open.session.close());
        }
        let longest = idle.iter().map(|open| open.last_used.elapsed()).max();
        longest.map_or(Duration::MAX, |longest| limit.saturating_sub(longest))
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Open>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The envelope recipient and the mail, or why there is none.
    fn composed(&self, bundle: &[Due]) -> Result<(String, Vec<u8>), String> {
        let steps = bundle.iter().map(|due| due.content.as_ref());
        let steps: Vec<&Step> = steps.collect::<Result<_, _>>().map_err(Clone::clone)?;
        let originator = steps.first().map(|step| step.originator.clone());
        let compose = AssertUnwindSafe(|| (self.compose)(&steps, self.clock.now_us()));
        match (catch_unwind(compose), originator) {
            (Ok(mail), Some(originator)) if !mail.is_empty() => Ok((originator, mail)),
            _ => Err("the report could not be composed".to_owned()),
        }
    }

    /// Orders the note now, so that nothing comes between acceptance and mark. The commit is awaited by
    /// the future, which tells whether it came about.
    fn settle(self: &Arc<Self>, due: &Due, fate: Fate) -> impl Future<Output = bool> + use<C> {
        let step = due.step;
        let sent = matches!(fate, Fate::Sent);
        let noted = match fate {
            Fate::Sent => self.store.done(step),
            Fate::Later(reason) => self.defer(due, &reason),
            Fate::Never(reason) => self.hold(step, &reason),
        };
        let work = Arc::clone(self);
        async move {
            let noted = noted.await;
            if let Err(cause) = &noted {
                let alarm = || {
                    tracing::error!(
                        %step,
                        %cause,
                        "the store cannot take note of what became of a report; of this and others it is tried again"
                    );
                };
                work.notes.goes_on(alarm);
                return false;
            }
            let mut unmarked = work.unmarked();
            if sent {
                unmarked.remove(&step);
            }
            // That one was noted in memory alone says nothing of those that could not be.
            if unmarked.is_empty() {
                let well =
                    || tracing::info!("the store takes note of what becomes of reports again");
                work.notes.is_over(well);
            }
            true
        }
    }

    fn defer(&self, due: &Due, reason: &str) -> Noted {
        let next_ms = self.clock.now_ms() + retry_after_ms(due.failures);
        if next_ms - due.first_ms > GIVE_UP_MS {
            return self.hold(due.step, reason);
        }
        count(&self.store.counters().deferred);
        tracing::warn!(step = %due.step, reason, "a report waits");
        self.store.defer(due.step, next_ms, brief(reason))
    }

    fn hold(&self, step: StepId, reason: &str) -> Noted {
        count(&self.store.counters().held);
        tracing::error!(
            %step,
            reason,
            again = self.store.revival(step),
            "a report is given up and kept in the store: run `again` and restart hoptrail to have it tried once more"
        );
        self.store.hold(step, brief(reason))
    }

    fn unmarked(&self) -> MutexGuard<'_, HashSet<StepId>> {
        self.unmarked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// 1, 2, 4, .. minutes, an hour at the most, after so many earlier failures.
fn retry_after_ms(failures: u32) -> i64 {
    RETRY_FIRST_MS
        .saturating_mul(1_i64.checked_shl(failures.min(32)).unwrap_or(i64::MAX))
        .min(RETRY_LONGEST_MS)
}

fn brief(reason: &str) -> String {
    reason.chars().take(REASON_CHARS_MAX).collect()
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_from_a_minute_to_an_hour() {
        let minutes = [0, 1, 2, 3, 4, 5, 6, 7, u32::MAX].map(|n| retry_after_ms(n) / 60_000);
        assert_eq!(minutes, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
    }
}
