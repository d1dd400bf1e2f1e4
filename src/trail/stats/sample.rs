//! Times of many messages, and which of them the slowest are.

use crate::trail::clock::Bounds;

/// Times, each exact or within bounds.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    lows: Vec<i64>,
    /// Empty as long as every time is exact.
    highs: Vec<i64>,
}

/// The median, and what nine in ten and ninety-nine in a hundred times do not exceed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Percentiles {
    /// Times there are.
    pub count: usize,
    /// The median.
    pub p50: Bounds,
    /// Nine in ten.
    pub p90: Bounds,
    /// Ninety-nine in a hundred.
    pub p99: Bounds,
}

impl Sample {
    /// Adds a time that is known exactly, µs.
    pub fn add(&mut self, us: i64) {
        self.add_within(Bounds {
            low_us: us,
            high_us: us,
        });
    }

    /// Adds a time that lies within bounds.
    pub fn add_within(&mut self, bounds: Bounds) {
        let exact = bounds.low_us == bounds.high_us;
        if self.highs.is_empty() && !exact {
            self.highs.clone_from(&self.lows);
        }
        if !self.highs.is_empty() || !exact {
            self.highs.push(bounds.high_us);
        }
        self.lows.push(bounds.low_us);
    }

    /// Adds all of another.
    pub fn join(&mut self, other: Self) {
        if self.highs.is_empty() && !other.highs.is_empty() {
            self.highs.clone_from(&self.lows);
        }
        if !self.highs.is_empty() || !other.highs.is_empty() {
            let highs = if other.highs.is_empty() {
                &other.lows
            } else {
                &other.highs
            };
            self.highs.extend_from_slice(highs);
        }
        self.lows.extend(other.lows);
    }

    /// The percentiles by nearest rank: the least time that so many in a hundred do not exceed. That of the lower
    /// ends and that of the upper ends bound the one of the true times, since the k-th of a list is no less than
    /// the k-th of a list that is no greater in any place.
    pub fn percentiles(mut self) -> Option<Percentiles> {
        self.lows.sort_unstable();
        self.highs.sort_unstable();
        let highs = if self.highs.is_empty() {
            &self.lows
        } else {
            &self.highs
        };
        let at = |percent: usize| {
            let rank = (self.lows.len() * percent).div_ceil(100).checked_sub(1)?;
            Some(Bounds {
                low_us: *self.lows.get(rank)?,
                high_us: *highs.get(rank)?,
            })
        };
        Some(Percentiles {
            count: self.lows.len(),
            p50: at(50)?,
            p90: at(90)?,
            p99: at(99)?,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    fn nearest_rank(mut times: Vec<i64>, percent: usize) -> i64 {
        times.sort_unstable();
        let enough =
            |t: &&i64| times.iter().filter(|u| u <= t).count() * 100 >= percent * times.len();
        *times.iter().find(enough).unwrap()
    }

    proptest! {
        /// Wherever the true times lie within their bounds, their percentiles lie within those of the bounds; and
        /// those of exact times are exact.
        #[test]
        fn the_truth_lies_within(
            times in proptest::collection::vec((0i64..10_000, 0i64..3_000, 0i64..3_000), 1..200),
            exact in 0usize..200,
            cut in any::<prop::sample::Index>(),
        ) {
            let bounds: Vec<Bounds> = times.iter().enumerate().map(|(n, (t, below, above))| {
                let (below, above) = if n < exact { (0, 0) } else { (*below, *above) };
                Bounds { low_us: t - below, high_us: t + above }
            }).collect();
            let fill = |part: &[Bounds]| {
                let mut sample = Sample::default();
                for bounds in part {
                    sample.add_within(*bounds);
                }
                sample
            };
            let (first, second) = bounds.split_at(cut.index(bounds.len()));
            let mut joined = fill(first);
            joined.join(fill(second));
            let told = fill(&bounds).percentiles().unwrap();
            prop_assert_eq!(joined.percentiles(), Some(told));
            prop_assert_eq!(told.count, times.len());
            for (percent, within) in [(50, told.p50), (90, told.p90), (99, told.p99)] {
                let truth = nearest_rank(times.iter().map(|t| t.0).collect(), percent);
                prop_assert!(within.low_us <= truth && truth <= within.high_us);
                prop_assert!(exact < times.len() || within.low_us == within.high_us);
            }
        }
    }

    #[test]
    fn nothing_has_no_percentiles() {
        assert_eq!(Sample::default().percentiles(), None);
    }
}
