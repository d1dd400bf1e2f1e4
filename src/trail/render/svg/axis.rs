//! Where a time lies on the width of a picture, and the axis that tells it.

use maud::{Markup, html};

use super::super::picture::Picture;

/// The left and the right end of known time, and how far the open end goes, percent of the width.
const LEFT: f64 = 2.0;
const RIGHT: f64 = 97.0;
const RIGHT_IF_OPEN: f64 = 84.0;
const EDGE: f64 = 99.0;
/// Nothing that is there is narrower, percent of the width.
const THIN: f64 = 0.4;
/// What is to be told from what lies beside it is so far apart, percent of the width.
const APART: f64 = 2.0;
/// Ticks besides the one at nothing.
const TICKS_MAX: i64 = 5;

const SECOND: i64 = 1_000_000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// Times to places.
pub struct Scale {
    from_us: i64,
    span_us: i64,
    right: f64,
}

impl Scale {
    /// The scale on which all of a picture has room.
    pub fn new(picture: &Picture) -> Self {
        Self {
            from_us: picture.from_us,
            span_us: picture.to_us.saturating_sub(picture.from_us).max(1),
            right: if picture.open { RIGHT_IF_OPEN } else { RIGHT },
        }
    }

    /// Beyond either end is drawn at that end.
    #[allow(clippy::cast_precision_loss)] // A place needs no more digits than a screen has.
    fn percent(&self, us: i64) -> f64 {
        let share = us.saturating_sub(self.from_us) as f64 / self.span_us as f64;
        LEFT + share.clamp(0.0, 1.0) * (self.right - LEFT)
    }

    /// The place of a time.
    pub fn x(&self, us: i64) -> String {
        format!("{:.2}%", self.percent(us))
    }

    /// The same, and the open end for `None`.
    pub fn x_or_edge(&self, us: Option<i64>) -> String {
        us.map_or_else(|| format!("{EDGE:.2}%"), |us| self.x(us))
    }

    /// The width of a time that passes.
    pub fn width(&self, from_us: i64, to_us: i64) -> String {
        format!(
            "{:.2}%",
            (self.percent(to_us) - self.percent(from_us)).max(THIN)
        )
    }

    /// Whether a stretch so long can be seen.
    pub fn shows(&self, us: i64) -> bool {
        self.percent(self.from_us.saturating_add(us)) - LEFT > THIN
    }

    /// Those stretches of time, in their order, that can be told from what is beside them; what lies between two and cannot
    /// be seen is taken for part of them.
    pub fn seen(&self, stretches_us: &[(i64, i64)]) -> Vec<(i64, i64)> {
        let mut seen: Vec<(i64, i64)> = Vec::new();
        for (from_us, to_us) in stretches_us {
            match seen.last_mut() {
                Some((_, end)) if !self.shows(from_us.saturating_sub(*end)) => *end = *to_us,
                _ => seen.push((*from_us, *to_us)),
            }
        }
        let wide = |(from_us, to_us): &(i64, i64)| self.percent(*to_us) - self.percent(*from_us);
        seen.retain(|stretch| wide(stretch) > APART);
        seen
    }

    /// Those times that do not lie on top of each other.
    pub fn apart(&self, times_us: &[i64]) -> Vec<i64> {
        let mut apart: Vec<i64> = Vec::new();
        let mut sorted = times_us.to_vec();
        sorted.sort_unstable();
        for us in sorted {
            let last = apart.last().map(|last| self.percent(*last));
            if last.is_none_or(|last| self.percent(us) - last > APART) {
                apart.push(us);
            }
        }
        apart
    }

    /// The times on the axis after its beginning, µs, and their names.
    fn ticks(&self) -> Vec<(i64, String)> {
        let step_us = step_us(self.span_us);
        let count = self.span_us / step_us;
        (0..=count)
            .map(|n| {
                (
                    n.saturating_mul(step_us),
                    label(n.saturating_mul(step_us), self.span_us),
                )
            })
            .collect()
    }
}

/// The axis and its lines through a picture so high.
pub fn draw(scale: &Scale, height: usize) -> Markup {
    html! {
        @for (us, label) in scale.ticks() {
            @let at = scale.from_us.saturating_add(us);
            line.grid x1=(scale.x(at)) y1="20" x2=(scale.x(at)) y2=(height) {}
            text.tick x=(scale.x(at)) y="14" { (label) }
        }
    }
}

/// A round time that goes into the span a few times.
fn step_us(span_us: i64) -> i64 {
    let decimal = (0..6).flat_map(|k| [1, 2, 5].map(|n| n * 10_i64.pow(k)));
    let clock = [
        SECOND,
        2 * SECOND,
        5 * SECOND,
        10 * SECOND,
        30 * SECOND,
        MINUTE,
        2 * MINUTE,
        5 * MINUTE,
        10 * MINUTE,
        30 * MINUTE,
        HOUR,
        2 * HOUR,
        6 * HOUR,
        12 * HOUR,
    ];
    let days = (0..8).flat_map(|k| [1, 2, 5].map(|n| n * 10_i64.pow(k) * DAY));
    let mut steps = decimal.chain(clock).chain(days);
    steps
        .find(|step| span_us / step <= TICKS_MAX)
        .unwrap_or(i64::MAX)
}

/// `0`, `500 ms`, `1.5 s`, `2 min`: in the greatest unit that the span fills.
fn label(us: i64, span_us: i64) -> String {
    let units = [
        (DAY, "d"),
        (HOUR, "h"),
        (MINUTE, "min"),
        (SECOND, "s"),
        (1_000, "ms"),
        (1, "µs"),
    ];
    let (unit_us, name) = *units
        .iter()
        .find(|(us, _)| span_us >= *us)
        .unwrap_or(&(1, "µs"));
    if us == 0 {
        return "0".to_owned();
    }
    let hundredths = i128::from(us) * 100 / i128::from(unit_us);
    let number = format!("{}.{:02}", hundredths / 100, hundredths % 100);
    format!(
        "{} {name}",
        number.trim_end_matches('0').trim_end_matches('.')
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(span_us: i64) -> String {
        let scale = Scale {
            from_us: 7,
            span_us,
            right: RIGHT,
        };
        scale
            .ticks()
            .into_iter()
            .map(|(_, label)| label)
            .collect::<Vec<_>>()
            .join(", ")
    }

    #[test]
    fn ticks_are_round_and_few() {
        for (span_us, expected) in [
            (1, "0, 1 µs"),
            (400, "0, 100 µs, 200 µs, 300 µs, 400 µs"),
            (2_640_000, "0, 0.5 s, 1 s, 1.5 s, 2 s, 2.5 s"),
            (1_200_000, "0, 0.5 s, 1 s"),
            (90 * SECOND, "0, 0.5 min, 1 min, 1.5 min"),
            (302 * SECOND, "0, 1 min, 2 min, 3 min, 4 min, 5 min"),
            (2 * DAY, "0, 0.5 d, 1 d, 1.5 d, 2 d"),
        ] {
            assert_eq!(labels(span_us), expected);
        }
        for exponent in 0..63 {
            let count = labels(1 << exponent).split(", ").count();
            assert!((2..=6).contains(&count), "{}", labels(1 << exponent));
        }
        assert!(!labels(i64::MAX).is_empty());
    }

    #[test]
    fn every_time_has_a_place_on_the_picture() {
        for (from_us, span_us) in [(0, 1), (i64::MIN, i64::MAX), (i64::MAX, 1), (-5, 10)] {
            let scale = Scale {
                from_us,
                span_us,
                right: RIGHT,
            };
            for us in [i64::MIN, -1, 0, 3, i64::MAX] {
                assert!((LEFT..=RIGHT).contains(&scale.percent(us)));
            }
        }
    }
}
