//! Two periods against each other: which routes are new or gone, and what became slower or faster than clocks and
//! chance can explain.

use std::collections::BTreeMap;

use super::{Key, Percentiles, Table, Tally};

/// Fewer times than these tell nothing of a change.
const TIMES_MIN: usize = 5;

/// A change by less is none: a quarter, and this many µs.
const CHANGE_MIN_US: i64 = 1_000;

/// What changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    /// Not there in the earlier period.
    New,
    /// Not there in the later one.
    Gone,
    /// The median is longer by a quarter at least, wherever it lies within its bounds.
    Slower,
    /// The same for shorter.
    Faster,
}

/// A change of a route, a hop or a pair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct News {
    /// What.
    pub change: Change,
    /// Of what.
    pub key: Key,
    /// Messages in the earlier period, and in the later.
    pub messages: (u64, u64),
    /// Times in the earlier period, and in the later, where there are any.
    pub times: (Option<Percentiles>, Option<Percentiles>),
}

/// What changed between an earlier and a later period, the most messages first.
pub fn compare(before: Vec<(Key, Tally)>, now: Vec<(Key, Tally)>) -> Vec<News> {
    let told = |key: &Key| matches!(key.table, Table::Route | Table::Hop | Table::Pair);
    let mut both: BTreeMap<Key, (Tally, Tally)> = BTreeMap::new();
    for (key, tally) in before.into_iter().filter(|(key, _)| told(key)) {
        both.entry(key).or_default().0 = tally;
    }
    for (key, tally) in now.into_iter().filter(|(key, _)| told(key)) {
        both.entry(key).or_default().1 = tally;
    }
    let news = both.into_iter().filter_map(|(key, (before, now))| {
        let messages = (before.messages, now.messages);
        let times = (before.time.percentiles(), now.time.percentiles());
        let change = match messages {
            (0, _) => Change::New,
            (_, 0) => Change::Gone,
            _ => paced(times.0?, times.1?)?,
        };
        Some(News {
            change,
            key,
            messages,
            times,
        })
    });
    let mut news: Vec<News> = news.collect();
    news.sort_by_key(|n| {
        (
            n.key.table,
            n.change,
            std::cmp::Reverse(n.messages.0.max(n.messages.1)),
        )
    });
    news
}

fn paced(before: Percentiles, now: Percentiles) -> Option<Change> {
    if before.count.min(now.count) < TIMES_MIN {
        return None;
    }
    // Even if the later one is as short, and the earlier one as long, as they can be.
    let longer = |long: Percentiles, short: Percentiles| {
        let by_us = long.p50.low_us.saturating_sub(short.p50.high_us);
        by_us >= CHANGE_MIN_US && by_us >= short.p50.high_us / 4
    };
    if longer(now, before) {
        Some(Change::Slower)
    } else if longer(before, now) {
        Some(Change::Faster)
    } else {
        None
    }
}
