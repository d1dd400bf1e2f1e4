//! Clocks of hops against each other. Two neighbours stamp both ends of the same exchanges; since no
//! command arrives before it was sent and no reply before it was given, the offset θ = (child's clock) -
//! (parent's clock) is bounded: T3 - T4 <= θ <= T2 - T1, where the parent sent the command at T1 and had
//! the reply at T4, and the child got the command at T2 and replied at T3.
//!
//! Bounds of several exchanges are put together by this rule, which [`super::pairs`] carries over all messages of a
//! pair of hops:
//!
//! - a clock runs wrong by [`RATE_PPM`] at most (the most that NTP makes it gain or lose), so bounds grow by twice that
//!   with the time between them and the moment they are asked for;
//! - or it is set, and then by [`SET_BY_US`] at least. Bounds that have nothing in common show that ([`super::tears`]
//!   tells where, and [`super::doubt`] what it puts in doubt); bounds that are so wide that it could hide in them are not put together;
//! - within one transaction no clock is set, unless the stamps show it.
//!
//! Under these assumptions the truth lies within. Midpoints are estimates.

use crate::track::{Exchange, Stage};

/// How much a clock that nobody sets may gain or lose, millionths: ntpd and the Linux kernel slew no faster.
pub const RATE_PPM: i64 = 500;

/// The least by which a clock is set in a step, µs; less is slewed (ntpd from 128 ms on, others from more).
pub const SET_BY_US: i64 = 100_000;

/// Exchanges so long before the last one of a transaction are none of its own, µs: a connection was kept.
const KEPT_US: i64 = 50_000_000;

/// How far two clocks may have run apart in that time, whole µs as stamps are.
pub fn apart_us(us: i64) -> i64 {
    let us = i128::from(us.unsigned_abs()) * i128::from(2 * RATE_PPM);
    i64::try_from(us / 1_000_000).unwrap_or(i64::MAX / 2)
}

/// Bounds of a time or an offset, both ends included, µs. Never empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Lower end.
    pub low_us: i64,
    /// Upper end.
    pub high_us: i64,
}

impl Bounds {
    /// Exactly nothing.
    pub const ZERO: Self = Self {
        low_us: 0,
        high_us: 0,
    };

    /// A duration that one clock measured.
    pub fn measured(us: i64) -> Self {
        Self {
            low_us: us,
            high_us: us,
        }
        .wider((apart_us(us) + 1) / 2)
    }

    /// The middle.
    pub fn middle_us(self) -> i64 {
        self.low_us + self.high_us.saturating_sub(self.low_us) / 2
    }

    /// How far the ends are from each other.
    pub fn width_us(self) -> i64 {
        self.high_us.saturating_sub(self.low_us)
    }

    /// Half the width: how far from the middle the truth may lie.
    pub fn margin_us(self) -> i64 {
        let width = self.width_us();
        width / 2 + width % 2
    }

    /// Sum of two.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            low_us: self.low_us.saturating_add(other.low_us),
            high_us: self.high_us.saturating_add(other.high_us),
        }
    }

    /// How far one lies from the other.
    #[must_use]
    pub fn less(self, other: Self) -> Self {
        Self {
            low_us: self.low_us.saturating_sub(other.high_us),
            high_us: self.high_us.saturating_sub(other.low_us),
        }
    }

    /// Longer by so much at both ends.
    #[must_use]
    pub fn wider(self, by_us: i64) -> Self {
        Self {
            low_us: self.low_us.saturating_sub(by_us),
            high_us: self.high_us.saturating_add(by_us),
        }
    }

    /// An offset's bounds so long before or after the moment they hold for.
    #[must_use]
    pub fn aged(self, us: i64) -> Self {
        self.wider(apart_us(us))
    }

    /// What lies within both; `None` if nothing does.
    pub fn and(self, other: Self) -> Option<Self> {
        let both = Self {
            low_us: self.low_us.max(other.low_us),
            high_us: self.high_us.min(other.high_us),
        };
        (both.low_us <= both.high_us).then_some(both)
    }

    /// `time - self`: where a time lies once an offset within these bounds is taken off.
    #[must_use]
    pub fn taken_from(self, time_us: i64) -> Self {
        Self {
            low_us: time_us.saturating_sub(self.high_us),
            high_us: time_us.saturating_sub(self.low_us),
        }
    }
}

/// What is known of a clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offset {
    /// It lies within.
    Known(Bounds),
    /// No exchange was stamped on both ends.
    Unknown,
    /// No offset fits all stamps: a clock was set meanwhile, or a stamp is made up.
    Contradiction,
}

impl Offset {
    /// The bounds, if there are any.
    pub fn bounds(self) -> Option<Bounds> {
        match self {
            Self::Known(bounds) => Some(bounds),
            Self::Unknown | Self::Contradiction => None,
        }
    }
}

/// The offset of the child's clock from the parent's at the moment the parent sent the last command of a
/// transaction, and that moment by the parent's clock, µs; out of the parent's exchanges with the next hop and the
/// child's with its client.
pub fn offset(out: &[Exchange], into: &[Exchange]) -> (i64, Offset) {
    let both = singles(out).into_iter().zip(singles(into)).rev();
    let both = both.filter_map(|(parent, child)| parent.zip(child));
    let mut at: Option<i64> = None;
    let mut known: Option<(i64, i64)> = None;
    for (parent, child) in both {
        let at_us = *at.get_or_insert(parent.command_us);
        let since = |us: i64| at_us.saturating_sub(us);
        if since(parent.command_us) > KEPT_US {
            break;
        }
        let low = child.reply_us.saturating_sub(parent.reply_us);
        let low = low.saturating_sub(apart_us(since(parent.reply_us)));
        let high = child.command_us.saturating_sub(parent.command_us);
        let high = high.saturating_add(apart_us(since(parent.command_us)));
        known = Some(known.map_or((low, high), |(l, h)| (l.max(low), h.min(high))));
    }
    let offset = match known {
        None => Offset::Unknown,
        Some((low, high)) if low > high => Offset::Contradiction,
        Some((low_us, high_us)) => Offset::Known(Bounds { low_us, high_us }),
    };
    (at.unwrap_or_default(), offset)
}

/// The exchange of each stage, if there is just one, as [`only`] has it.
fn singles(exchanges: &[Exchange]) -> [Option<&Exchange>; Stage::ALL.len()] {
    let (mut singles, mut seen) = ([None; Stage::ALL.len()], [false; Stage::ALL.len()]);
    for exchange in exchanges {
        let stage = exchange.stage as usize;
        if let (Some(single), Some(seen)) = (singles.get_mut(stage), seen.get_mut(stage)) {
            *single = (!*seen).then_some(exchange);
            *seen = true;
        }
    }
    singles
}

/// The exchange of a stage, if there is just one: repeated ones cannot be told apart.
pub fn only(exchanges: &[Exchange], stage: Stage) -> Option<Exchange> {
    let mut of_stage = exchanges.iter().filter(|e| e.stage == stage);
    let first = of_stage.next()?;
    of_stage.next().is_none().then_some(*first)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use proptest::prelude::*;

    use super::*;

    fn exchange(stage: Stage, command_us: i64, reply_us: i64) -> Exchange {
        Exchange {
            stage,
            command_us,
            reply_us,
        }
    }

    proptest! {
        /// Whatever the delays, the true offset lies within; and no stamps make it panic.
        #[test]
        fn the_truth_lies_within(
            theta in -10_000_000i64..10_000_000,
            delays in proptest::collection::vec((0i64..50_000, 0i64..9_000, 0i64..50_000), 1..6),
        ) {
            let (mut out, mut into) = (Vec::new(), Vec::new());
            let mut t = 1_000_000_000;
            for ((forth, think, back), stage) in delays.into_iter().zip(Stage::ALL) {
                out.push(exchange(stage, t, t + forth + think + back));
                into.push(exchange(stage, t + forth + theta, t + forth + think + theta));
                t += forth + think + back + 100;
            }
            let (_, Offset::Known(bounds)) = offset(&out, &into) else {
                return Err(TestCaseError::fail("unknown"));
            };
            prop_assert!(bounds.low_us <= theta && theta <= bounds.high_us);
            prop_assert!((bounds.middle_us() - theta).abs() <= bounds.margin_us());
        }

        #[test]
        fn any_stamps_are_survived(stamps in any::<[i64; 4]>(), time in any::<i64>()) {
            let [a, b, c, d] = stamps;
            let pair = ([exchange(Stage::Dot, a, b)], [exchange(Stage::Dot, c, d)]);
            if let (_, Offset::Known(bounds)) = offset(&pair.0, &pair.1) {
                prop_assert!(bounds.low_us <= bounds.high_us);
                let taken = bounds.plus(bounds).taken_from(time);
                prop_assert!(taken.low_us <= taken.high_us);
                let _ = (taken.middle_us(), taken.margin_us());
            }
        }
    }

    proptest! {
        #[test]
        fn what_is_single_is_so_among_all_stages(
            stages in proptest::collection::vec(0..Stage::ALL.len(), 0..8),
        ) {
            let all = (0..).zip(stages).map(|(n, stage)| exchange(Stage::ALL[stage], n, n + 1));
            let all: Vec<Exchange> = all.collect();
            let singles = singles(&all).map(Option::<&_>::copied);
            prop_assert_eq!(singles, Stage::ALL.map(|stage| only(&all, stage)));
        }
    }

    #[test]
    fn a_stepped_clock_is_a_contradiction() {
        let out = [
            exchange(Stage::Mail, 0, 100),
            exchange(Stage::Dot, 200, 300),
        ];
        let into = [
            exchange(Stage::Mail, 40, 60),
            exchange(Stage::Dot, 5240, 5260),
        ];
        assert_eq!(offset(&out, &into).1, Offset::Contradiction);
    }

    /// What was said a day before on the same connection, since when a clock was set.
    #[test]
    fn a_hello_of_long_ago_is_none_of_a_transactions_own() {
        let day = 86_400_000_000;
        let out = [
            exchange(Stage::Ehlo, 0, 100),
            exchange(Stage::Dot, day, day + 100),
        ];
        let set_us = 3_600_000_000;
        let at = day + set_us;
        let into = [
            exchange(Stage::Ehlo, 40, 60),
            exchange(Stage::Dot, at + 40, at + 60),
        ];
        let bounds = offset(&out, &into).1.bounds().unwrap();
        assert_eq!((bounds.low_us, bounds.high_us), (set_us - 40, set_us + 40));
    }

    #[test]
    fn repeated_exchanges_do_not_count() {
        let out = [exchange(Stage::Rcpt, 0, 100)];
        let into = [exchange(Stage::Rcpt, 40, 60), exchange(Stage::Rcpt, 61, 62)];
        assert_eq!(offset(&out, &into).1, Offset::Unknown);
        assert_eq!(offset(&[], &[]).1, Offset::Unknown);
    }

    #[test]
    fn a_connection_that_was_kept_tells_what_its_age_allows() {
        let at = |us| {
            [
                exchange(Stage::Ehlo, 0, 100),
                exchange(Stage::Dot, us, us + 90_000),
            ]
        };
        let heard = |us| {
            [
                exchange(Stage::Ehlo, 40, 60),
                exchange(Stage::Dot, us + 45_000, us + 45_000),
            ]
        };
        let width = |us: i64| offset(&at(us), &heard(us)).1.bounds().unwrap().width_us();
        assert_eq!(width(1_000_000), 79 + 2 * 1000, "a second: 1 ms each way");
        assert_eq!(width(60_000_000), 90_090, "too long ago");
    }
}
