//! Clocks of hops against each other. Two neighbours stamp both ends of the same exchanges; since no
//! command arrives before it was sent and no reply before it was given, the offset θ = (child's clock) -
//! (parent's clock) is bounded: T3 - T4 <= θ <= T2 - T1, where the parent sent the command at T1 and had
//! the reply at T4, and the child got the command at T2 and replied at T3. All exchanges together give
//! the intersection. Midpoints are estimates; the bounds are certain as long as no clock was set
//! meanwhile.

use crate::track::{Exchange, Stage};

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

    /// The middle.
    pub fn middle_us(self) -> i64 {
        self.low_us + self.high_us.saturating_sub(self.low_us) / 2
    }

    /// Half the width: how far from the middle the truth may lie.
    pub fn margin_us(self) -> i64 {
        let width = self.high_us.saturating_sub(self.low_us);
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

/// The offset of the child's clock from the parent's, out of the pairs (parent's exchanges with the next
/// hop, child's exchanges with its client).
pub fn offset<'a>(pairs: impl Iterator<Item = (&'a [Exchange], &'a [Exchange])>) -> Offset {
    let mut known: Option<(i64, i64)> = None;
    for (out, into) in pairs {
        for stage in Stage::ALL {
            let (Some(parent), Some(child)) = (only(out, stage), only(into, stage)) else {
                continue;
            };
            let low = child.reply_us.saturating_sub(parent.reply_us);
            let high = child.command_us.saturating_sub(parent.command_us);
            known = Some(known.map_or((low, high), |(l, h)| (l.max(low), h.min(high))));
        }
    }
    match known {
        None => Offset::Unknown,
        Some((low, high)) if low > high => Offset::Contradiction,
        Some((low_us, high_us)) => Offset::Known(Bounds { low_us, high_us }),
    }
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
            let Offset::Known(bounds) = offset(std::iter::once((&out[..], &into[..]))) else {
                return Err(TestCaseError::fail("unknown"));
            };
            prop_assert!(bounds.low_us <= theta && theta <= bounds.high_us);
            prop_assert!((bounds.middle_us() - theta).abs() <= bounds.margin_us());
        }

        #[test]
        fn any_stamps_are_survived(stamps in any::<[i64; 4]>(), time in any::<i64>()) {
            let [a, b, c, d] = stamps;
            let pair = ([exchange(Stage::Dot, a, b)], [exchange(Stage::Dot, c, d)]);
            if let Offset::Known(bounds) = offset(std::iter::once((&pair.0[..], &pair.1[..]))) {
                prop_assert!(bounds.low_us <= bounds.high_us);
                let taken = bounds.plus(bounds).taken_from(time);
                prop_assert!(taken.low_us <= taken.high_us);
                let _ = (taken.middle_us(), taken.margin_us());
            }
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
        assert_eq!(
            offset(std::iter::once((&out[..], &into[..]))),
            Offset::Contradiction
        );
    }

    #[test]
    fn repeated_exchanges_do_not_count() {
        let out = [exchange(Stage::Rcpt, 0, 100)];
        let into = [exchange(Stage::Rcpt, 40, 60), exchange(Stage::Rcpt, 61, 62)];
        assert_eq!(
            offset(std::iter::once((&out[..], &into[..]))),
            Offset::Unknown
        );
        assert_eq!(offset(std::iter::empty()), Offset::Unknown);
    }
}
