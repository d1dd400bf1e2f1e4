//! Times, durations and foreign strings as people read them.

use std::fmt::Write;

use jiff::{Timestamp, ZonedDateTime};

use super::View;
use crate::track::clean::is_hidden;
use crate::trail::clock::Bounds;

/// Appends to a text.
pub fn put(out: &mut String, text: std::fmt::Arguments) {
    // A String takes all there is.
    let _ = out.write_fmt(text);
}

/// Appends a text, and blanks where it has less than so many characters.
pub fn put_wide(out: &mut String, text: &str, width: usize) {
    out.push_str(text);
    let blanks = width.saturating_sub(text.chars().count());
    out.extend(std::iter::repeat_n(' ', blanks));
}

/// Appends a number of two digits, the first of which is `zero` where there is none.
fn put_two(out: &mut String, zero: char, number: i8) {
    let number = number.unsigned_abs();
    let digit = |number| char::from(b'0' + number % 10);
    out.push(if number < 10 {
        zero
    } else {
        digit(number / 10)
    });
    out.push(digit(number));
}

/// A foreign string without anything that steers a terminal or misleads the eye.
pub fn plain(text: &str) -> String {
    if text.bytes().all(|octet| matches!(octet, b' '..=b'~')) {
        return text.to_owned();
    }
    text.chars()
        .map(|c| if is_hidden(c) { '\u{fffd}' } else { c })
        .collect()
}

/// A foreign string cut to so many characters.
pub fn cut(text: &str, chars_max: usize) -> String {
    let text = plain(text);
    if text.chars().count() <= chars_max {
        return text;
    }
    let mut short: String = text.chars().take(chars_max.saturating_sub(1)).collect();
    short.push('…');
    short
}

/// Text of several lines, each without anything that steers a terminal.
pub fn plain_lines(text: &str) -> String {
    text.lines().map(plain).collect::<Vec<_>>().join("\n")
}

impl View {
    /// The columns left beside so many.
    pub fn room(&self, used: usize) -> usize {
        self.width.map_or(usize::MAX, |w| w.saturating_sub(used))
    }

    /// A foreign string cut to so many characters, if there is a width to keep to.
    pub fn cut(&self, text: &str, chars_max: usize) -> String {
        cut(text, self.width.map_or(usize::MAX, |_| chars_max))
    }

    fn zoned(&self, us: i64) -> Option<ZonedDateTime> {
        let time = Timestamp::from_microsecond(us).ok()?;
        Some(time.to_zoned_datetime(self.zone.clone()))
    }

    fn show(&self, us: i64, format: &str) -> String {
        self.zoned(us)
            .map_or_else(|| "?".to_owned(), |t| t.strftime(format).to_string())
    }

    /// `17:05:09.120`; `+1d 17:05:09` on a day after that of `from_us`, `-1d` on one before; far away with the date.
    pub fn time(&self, us: i64, from_us: i64) -> String {
        const DAYS_TOLD: i32 = 99;
        let day = |us| self.zoned(us).map(|t| t.date());
        let days = day(us)
            .zip(day(from_us))
            .map(|(at, from)| (at - from).get_days());
        match days {
            Some(0) => self.show(us, "%H:%M:%S%.3f"),
            Some(days) if days.abs() <= DAYS_TOLD => {
                format!("{days:+}d {}", self.show(us, "%H:%M:%S"))
            }
            _ => self.stamp(us),
        }
    }

    /// The same for a time that is told in whole seconds.
    pub fn second(&self, us: i64, from_us: i64) -> String {
        let time = self.time(us, from_us);
        time.strip_suffix(".000").unwrap_or(&time).to_owned()
    }

    /// `17:05:09.120 and 17:05:11.000`; both with their dates where these differ.
    pub fn span(&self, from_us: i64, to_us: i64) -> String {
        let day = |us| self.zoned(us).map(|t| t.date());
        let format = match (day(from_us), day(to_us)) {
            (Some(from), Some(to)) if from == to => "%H:%M:%S%.3f",
            _ => "%Y-%m-%d %H:%M:%S%.3f",
        };
        let show = |us| match day(us) {
            Some(_) => self.show(us, format),
            None => "a time beyond all calendars".to_owned(),
        };
        format!("{} and {}", show(from_us), show(to_us))
    }

    /// `Mon 2026-11-23 17:05:09.120 CET (UTC+01:00)`.
    pub fn date_time(&self, us: i64) -> String {
        let zone = match self.zoned(us) {
            Some(t) if t.offset().is_zero() => "UTC".to_owned(),
            Some(t) => t.strftime("%Z (UTC%:z)").to_string(),
            None => String::new(),
        };
        format!("{} {zone}", self.show(us, "%a %Y-%m-%d %H:%M:%S%.3f"))
    }

    /// `2026-11-23 17:05:09`.
    pub fn stamp(&self, us: i64) -> String {
        self.show(us, "%Y-%m-%d %H:%M:%S")
    }

    /// `23 Nov 17:05`; the date alone if the year is another one.
    pub fn minute(&self, us: i64) -> String {
        self.minute_in(self.this_year(), us)
    }

    /// The year that it is.
    pub fn this_year(&self) -> Option<i16> {
        self.zoned(self.now_us).map(|now| now.year())
    }

    /// [`Self::minute`] where many are told.
    pub fn minute_in(&self, this_year: Option<i16>, us: i64) -> String {
        let Some(time) = self.zoned(us) else {
            return "?".to_owned();
        };
        let month = usize::from(time.month().unsigned_abs()) - 1;
        let this_year = this_year.filter(|year| *year == time.year());
        match MONTHS.get(month).filter(|_| this_year.is_some()) {
            Some(month) => {
                let mut text = String::with_capacity("23 Nov 17:05".len());
                put_two(&mut text, ' ', time.day());
                for part in [" ", month, " "] {
                    text.push_str(part);
                }
                put_two(&mut text, '0', time.hour());
                text.push(':');
                put_two(&mut text, '0', time.minute());
                text
            }
            None => time.strftime("%Y-%m-%d").to_string(),
        }
    }

    /// `17:05`, or with the day if it is not today.
    pub fn since(&self, us: i64) -> String {
        let day = |us| self.zoned(us).map(|t| t.date());
        if day(us) == day(self.now_us) {
            self.show(us, "%H:%M")
        } else {
            self.minute(us).trim_start().to_owned()
        }
    }
}

/// RFC 3339 in UTC with microseconds, for programs.
pub fn rfc3339(us: i64) -> Option<String> {
    let time = Timestamp::from_microsecond(us).ok()?;
    Some(time.strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string())
}

/// As `%b` has them; that costs more than the rest of a line.
const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];

const SECOND: i64 = 1_000_000;
/// 365 days and a quarter.
const YEAR: i64 = 31_557_600 * SECOND;
/// From so many on years are told.
const YEARS_FROM: i64 = 100;

/// What [`duration`] rounds to, µs.
fn resolution_us(us: i64) -> i64 {
    match us {
        ..9_950 => 100,
        9_950..999_500 => 1_000,
        999_500..59_995_000 => 10_000,
        _ if us < 3_600 * SECOND => SECOND,
        _ if us < 86_400 * SECOND => 60 * SECOND,
        _ if us < YEARS_FROM * YEAR => 3_600 * SECOND,
        _ => YEAR,
    }
}

/// `<0.1 ms`, `0.4 ms`, `360 ms`, `3.61 s`, `12 min 3 s`, `3 h 12 min`, `2 d 3 h`, `7954 years`. Negative ones are
/// not durations.
pub fn duration(us: i64) -> String {
    let us = us.max(0);
    let seconds = us / SECOND;
    match us {
        0..50 => "<0.1 ms".to_owned(),
        50..9_950 => two((us + 50) / 1000, ".", (us + 50) % 1000 / 100, " ms"),
        9_950..999_500 => format!("{} ms", (us + 500) / 1000),
        999_500..59_995_000 => {
            let hundredths = (us + 5_000) / 10_000;
            let point = if hundredths % 100 < 10 { ".0" } else { "." };
            two(hundredths / 100, point, hundredths % 100, " s")
        }
        _ if seconds < 3600 => two(seconds / 60, " min ", seconds % 60, " s"),
        _ if seconds < 86_400 => two(seconds / 3600, " h ", seconds % 3600 / 60, " min"),
        _ if us < YEARS_FROM * YEAR => two(seconds / 86_400, " d ", seconds % 86_400 / 3600, " h"),
        _ => format!("{} years", us / YEAR),
    }
}

/// Two numbers, each with what stands behind it: a list has many, and the machinery for all formats costs more than the rest
/// of a line.
fn two(first: i64, behind_first: &str, second: i64, behind_second: &str) -> String {
    let mut digits = [itoa::Buffer::new(), itoa::Buffer::new()];
    let [of_first, of_second] = &mut digits;
    let parts = [
        of_first.format(first),
        behind_first,
        of_second.format(second),
        behind_second,
    ];
    parts.concat()
}

/// A bound, rounded up so that it still holds.
pub fn duration_up(us: i64) -> String {
    let step = resolution_us(us);
    let rest = us.max(0) % step;
    let short = if rest == 0 { 0 } else { step - rest };
    duration(us.saturating_add(short))
}

/// The same, not cut but rounded: `2 h 0 min` for a µs less.
pub fn nearest(us: i64) -> String {
    let step = resolution_us(us);
    duration(us.saturating_add(step / 2) / step * step)
}

/// A duration known within bounds: `5.2 ms ± 0.3 ms`; `≤ 0.6 ms` where the bounds say little else;
/// `3.61 s` where they are closer than what is shown.
pub fn bounded(bounds: Bounds) -> String {
    let (middle_us, margin_us) = (bounds.middle_us(), bounds.margin_us());
    if middle_us < margin_us.saturating_mul(2) {
        format!("≤ {}", duration_up(bounds.high_us.max(1)))
    } else if margin_us < resolution_us(middle_us) {
        duration(middle_us)
    } else {
        format!("{} ± {}", duration(middle_us), duration_up(margin_us))
    }
}

/// How far a clock is off: `5.00 s ahead (± 0.3 ms)`; `within 0.9 ms` where that is next to nothing.
pub fn clock(offset: Bounds) -> String {
    /// Hosts that are set by NTP differ by this much, and nobody cares.
    const TOLD_FROM_US: i64 = 5_000;
    if offset.low_us >= -TOLD_FROM_US && offset.high_us <= TOLD_FROM_US {
        let farthest_us = offset.high_us.max(offset.low_us.saturating_neg());
        return format!("within {}", duration_up(farthest_us));
    }
    let middle = offset.middle_us();
    let side = if middle < 0 { "behind" } else { "ahead" };
    let amount = nearest(i64::try_from(middle.unsigned_abs()).unwrap_or(i64::MAX));
    match offset.margin_us() {
        0 => format!("{amount} {side}"),
        margin => format!("{amount} {side} (± {})", duration_up(margin)),
    }
}

/// How far a time of day may be off, where that shows in milliseconds: ` ± 20 ms`.
pub fn unsure(margin_us: i64) -> String {
    if margin_us < 1_000 {
        String::new()
    } else {
        format!(" ± {}", duration_up(margin_us))
    }
}

/// Breaks text at blanks into lines of so many characters at most; a longer word stays whole.
pub fn fill(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ').filter(|w| !w.is_empty()) {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// The same for a list with commas, broken behind one of them if possible.
pub fn fill_list(text: &str, width: usize) -> Vec<String> {
    let two_blanks = text.as_bytes().windows(2).any(|two| two == b"  ");
    let at_ends = text.is_empty() || text.starts_with(' ') || text.trim_end() != text;
    let is_even = !two_blanks && !at_ends;
    // Mostly it is a line already. No octet is more than a character.
    if is_even && text.len() <= width {
        return vec![text.to_owned()];
    }
    let mut lines: Vec<String> = Vec::new();
    for part in text.split_inclusive(", ") {
        let length = part.trim_end().chars().count();
        match lines.last_mut() {
            Some(line) if (line.chars().count() + 1).saturating_add(length) <= width => {
                line.push(' ');
                line.push_str(part.trim_end());
            }
            _ => lines.extend(fill_all(part, width)),
        }
    }
    lines
}

/// The same for prose: a word longer than the width is broken too.
pub fn fill_all(text: &str, width: usize) -> Vec<String> {
    let width = width.max(1);
    let mut short = String::with_capacity(text.len());
    for word in text.split(' ') {
        for (n, c) in word.chars().enumerate() {
            if n > 0 && n % width == 0 {
                short.push(' ');
            }
            short.push(c);
        }
        short.push(' ');
    }
    fill(&short, width)
}

/// The same in so many lines at most; a text that is cut ends with `end`.
pub fn fill_short(text: &str, width: usize, lines_max: usize, end: &str) -> Vec<String> {
    let mut lines = fill_all(text, width);
    if lines.len() > lines_max {
        lines.truncate(lines_max);
        if let Some(last) = lines.last_mut() {
            let room = width.saturating_sub(end.chars().count());
            *last = last.chars().take(room).collect::<String>() + end;
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    fn bounds(low_us: i64, high_us: i64) -> Bounds {
        Bounds { low_us, high_us }
    }

    #[test]
    fn bounds_are_told_where_they_tell_something() {
        assert_eq!(bounded(bounds(0, 600)), "≤ 0.6 ms");
        assert_eq!(bounded(bounds(0, 601)), "≤ 0.7 ms");
        assert_eq!(bounded(bounds(0, 0)), "<0.1 ms");
        assert_eq!(bounded(bounds(3_609_900, 3_610_100)), "3.61 s");
        assert_eq!(bounded(bounds(4_900, 5_501)), "5.2 ms ± 0.4 ms");
        assert_eq!(bounded(bounds(1_000_000, 9_000_000)), "≤ 9.00 s");
    }

    #[test]
    fn hundredths_have_two_digits() {
        assert_eq!(duration(5_000_000), "5.00 s");
        assert_eq!(duration(1_050_000), "1.05 s");
        assert_eq!(duration(59_990_000), "59.99 s");
    }

    proptest! {
        #[test]
        fn a_minute_is_told_as_formats_have_it(us in 0i64..4_000_000_000_000_000) {
            let zone = jiff::tz::TimeZone::posix("CET-1").unwrap();
            let view = View { now_us: us, zone, width: None, colours: false };
            prop_assert_eq!(view.minute(us), view.show(us, "%e %b %H:%M"));
        }

        #[test]
        fn what_is_put_is_as_wide_as_formats_have_it(text in "\\PC{0,20}", width in 0usize..30) {
            let mut out = String::new();
            put_wide(&mut out, &text, width);
            prop_assert_eq!(out, format!("{text:width$}"));
        }
    }

    #[test]
    fn a_clock_is_told_to_the_nearest() {
        let told = |us: i64| clock(bounds(us - 50, us + 50));
        assert_eq!(told(7_199_999_900), "2 h 0 min ahead (± 0.1 ms)");
        assert_eq!(told(-7_199_999_900), "2 h 0 min behind (± 0.1 ms)");
        assert_eq!(told(3_599_600_000), "1 h 0 min ahead (± 0.1 ms)");
        assert_eq!(told(86_399_000_000), "1 d 0 h ahead (± 0.1 ms)");
        assert_eq!(told(7_140_000_000), "1 h 59 min ahead (± 0.1 ms)");
        assert_eq!(told(251_000_000_000_000_000), "7954 years ahead (± 0.1 ms)");
    }

    #[test]
    fn what_lasts_beyond_sense_is_told_in_years() {
        assert_eq!(duration(10_000 * 86_400_000_000), "10000 d 0 h");
        assert_eq!(duration(300 * YEAR), "300 years");
        assert_eq!(duration(i64::MAX), "292271 years");
    }

    #[test]
    fn a_clock_is_told_where_it_is_off() {
        let told = |low, high| clock(bounds(low, high));
        assert_eq!(told(-300, 200), "within 0.3 ms");
        assert_eq!(told(700, 1_301), "within 1.4 ms");
        assert_eq!(told(7_299_960, 7_300_040), "7.30 s ahead (± 0.1 ms)");
        assert_eq!(told(-40_600, -39_400), "40 ms behind (± 0.6 ms)");
        assert_eq!(told(20_000, 20_000), "20 ms ahead");
        assert_eq!(told(-200_000, 210_000), "5.0 ms ahead (± 205 ms)");
    }

    #[test]
    fn any_bounds_have_words() {
        for (low, high) in [
            (i64::MIN, i64::MAX),
            (i64::MAX, i64::MAX),
            (i64::MIN, i64::MIN),
        ] {
            assert!(!bounded(bounds(low, high)).is_empty());
            assert!(!clock(bounds(low, high)).is_empty());
        }
    }

    #[test]
    fn text_keeps_to_its_width() {
        assert_eq!(fill("a bc  def", 4), ["a bc", "def"]);
        assert_eq!(fill("abcdef g", 4), ["abcdef", "g"]);
        assert_eq!(fill_all("abcdef g", 4), ["abcd", "ef g"]);
        assert!(fill_all("", 4).is_empty());
        assert_eq!(fill_short("ab cd ef", 4, 3, "…"), ["ab", "cd", "ef"]);
        assert_eq!(fill_short("ab cd ef", 4, 2, "…"), ["ab", "cd…"]);
        assert_eq!(fill_short("abcd efgh i", 4, 2, "…"), ["abcd", "efg…"]);
        assert_eq!(fill_list("a b, c d, ef ghi", 8), ["a b,", "c d,", "ef ghi"]);
        assert_eq!(
            fill_list("a, b, c d, ef ghi", 8),
            ["a, b,", "c d,", "ef ghi"]
        );
        assert_eq!(fill_list("a b c, d", 4), ["a b", "c, d"]);
    }
}
