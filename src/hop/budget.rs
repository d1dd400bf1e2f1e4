//! How many reports an originator, a client and a message may cause in an hour. Whatever asks, and however
//! many ask, a hop mails nobody more than that; over budget the mail passes, and its step is only remembered.
//!
//! An hour begins with the first report in it. The counts stand in a table of fixed size, so a flood of
//! invented originators makes nothing grow: where there is no room, the count that has come least far is
//! forgotten, and that is never one that is about to be spent. A restart forgets them all.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::networks::counted_as;
use crate::track::Step;
use crate::track::asker::Asker;

const HOUR_S: u32 = 3600;

/// A client may cause so many times the reports of one originator: it may be a relay of many.
const CLIENT_SHARE: u32 = 10;
/// Reports that one message may cause in an hour, whatever its originator may.
const MESSAGE_REPORTS_MAX: u32 = 200;

/// Places for counts: a key has those of its set. 1 MiB.
const SETS: usize = 8192;
const WAYS: usize = 8;

/// The counts of a hop; clones share them.
#[derive(Clone)]
pub struct Budgets(Arc<Shared>);

struct Shared {
    sets: Mutex<Vec<[Count; WAYS]>>,
    /// Keys nobody can guess: else a set could be filled on purpose.
    keys: RandomState,
    over: AtomicU64,
}

/// The reports of one key in an hour.
#[derive(Clone, Copy, Default)]
struct Count {
    key: u64,
    /// When the hour began, seconds since 1970.
    since_s: u32,
    reports: u32,
}

/// What a report was counted under.
pub struct Spent(Vec<u64>);

impl Default for Budgets {
    fn default() -> Self {
        Self(Arc::new(Shared {
            sets: Mutex::default(),
            keys: RandomState::new(),
            over: AtomicU64::new(0),
        }))
    }
}

impl Budgets {
    /// Counts the report of a step; `None`, and nothing counted, if a budget is spent. `reports_max` is an
    /// originator's, from 1 on.
    pub fn spend(&self, step: &Step, reports_max: u32, now_ms: i64) -> Option<Spent> {
        let seconds = u32::try_from(now_ms.div_euclid(1000)).unwrap_or(0);
        let mut budgets = self.budgets(step, reports_max);
        let mut sets = self.sets();
        if step.partial {
            let burst = self.burst(step, seconds);
            if count(&mut sets, burst, seconds).reports > 0 {
                return Some(Spent(Vec::new()));
            }
            budgets.push((burst, u32::MAX));
        }
        let spent = |(key, max): &(u64, u32)| count(&mut sets, *key, seconds).reports >= *max;
        if budgets.iter().any(spent) {
            self.0.over.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        for (key, _) in &budgets {
            count(&mut sets, *key, seconds).reports += 1;
        }
        Some(Spent(budgets.into_iter().map(|(key, _)| key).collect()))
    }

    /// The report was not mailed after all.
    pub fn give_back(&self, spent: Spent) {
        let mut sets = self.sets();
        for key in spent.0 {
            if let Some(count) = set(&mut sets, key).iter_mut().find(|c| c.key == key) {
                count.reports = count.reports.saturating_sub(1);
            }
        }
    }

    /// Reports that were not mailed since the start.
    pub fn over(&self) -> u64 {
        self.0.over.load(Ordering::Relaxed)
    }

    /// Each budget a step falls under, and how far it goes. Those of the trusted and of strangers are kept apart,
    /// so that a stranger's spending is nobody else's.
    fn budgets(&self, step: &Step, reports_max: u32) -> Vec<(u64, u32)> {
        let stranger = step.asked.map(|asked| asked.by) == Some(Asker::Verified);
        let originator = mailbox(&step.originator);
        let key = |name: &str, who: &str| self.0.keys.hash_one((name, stranger, who));
        let message = [&originator, " ", step.report.id.as_str()].concat();
        let mut budgets = vec![
            (key("originator", &originator), reports_max),
            (key("message", &message), MESSAGE_REPORTS_MAX),
        ];
        if let Some(client) = step.asked.and_then(|asked| asked.from) {
            let client = counted_as(client).to_string();
            budgets.push((
                key("client", &client),
                reports_max.saturating_mul(CLIENT_SHARE),
            ));
        }
        budgets
    }

    /// The parts of a message that go out in the same second with the same news: they share a mail, which counts
    /// once.
    fn burst(&self, step: &Step, seconds: u32) -> u64 {
        let report = &step.report;
        let news = report.recipients.first().map(|recipient| recipient.event);
        let which = (&step.originator, report.id.as_str(), report.parent, news);
        self.0.keys.hash_one(("burst", which, seconds))
    }

    /// The table, which a hop without reports does without.
    fn sets(&self) -> MutexGuard<'_, Vec<[Count; WAYS]>> {
        let mut sets = self.0.sets.lock().unwrap_or_else(PoisonError::into_inner);
        if sets.is_empty() {
            *sets = vec![[Count::default(); WAYS]; SETS];
        }
        sets
    }
}

/// The address as it is counted: `victim+1@` and `victim+2@` are one mailbox.
fn mailbox(address: &str) -> String {
    let (local, domain) = address.rsplit_once('@').unwrap_or((address, ""));
    let local = local.split('+').next().unwrap_or_default();
    [local, "@", domain].concat().to_ascii_lowercase()
}

fn set(sets: &mut [[Count; WAYS]], key: u64) -> &mut [Count; WAYS] {
    let places = sets.len() as u64;
    // The remainder is smaller than the length it was made with.
    &mut sets[usize::try_from(key % places).unwrap_or(0)]
}

/// The place of a key: its own, or the one whose count is missed least. A count whose hour is over is at zero.
fn count(sets: &mut [[Count; WAYS]], key: u64, now_s: u32) -> &mut Count {
    let set = set(sets, key);
    for count in set.iter_mut() {
        // A clock that was set back counts as an hour gone.
        if now_s.wrapping_sub(count.since_s) >= HOUR_S {
            *count = Count {
                since_s: now_s,
                ..Count::default()
            };
        }
    }
    let own = set.iter().position(|count| count.key == key);
    let least = (0..WAYS).min_by_key(|at| set[*at].reports);
    let place = &mut set[own.or(least).unwrap_or(0)];
    if place.key != key {
        *place = Count {
            key,
            since_s: now_s,
            reports: 0,
        };
    }
    place
}

#[cfg(test)]
mod tests;
