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

/// A foreign string without anything that steers a terminal or misleads the eye.
pub fn plain(text: &str) -> String {
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

impl View {
    fn zoned(&self, us: i64) -> Option<ZonedDateTime> {
        let time = Timestamp::from_microsecond(us).ok()?;
        Some(time.to_zoned_datetime(self.zone.clone()))
    }

    fn show(&self, us: i64, format: &str) -> String {
        self.zoned(us)
            .map_or_else(|| "?".to_owned(), |t| t.strftime(format).to_string())
    }

    /// `17:05:09.120`.
    pub fn time(&self, us: i64) -> String {
        self.show(us, "%H:%M:%S%.3f")
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

    /// `23 Nov 17:05`, with the year if it is another one.
    pub fn minute(&self, us: i64) -> String {
        let year = |us| self.zoned(us).map(|t| t.year());
        if year(us) == year(self.now_us) {
            self.show(us, "%e %b %H:%M")
        } else {
            self.show(us, "%Y-%m-%d %H:%M")
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

/// `0.4 ms`, `360 ms`, `3.61 s`, `12 min 3 s`, `3 h 12 min`, `2 d 3 h`. Negative ones are not durations.
pub fn duration(us: i64) -> String {
    const SECOND: i64 = 1_000_000;
    let us = us.max(0);
    let seconds = us / SECOND;
    match us {
        0..9_950 => format!("{}.{} ms", (us + 50) / 1000, (us + 50) % 1000 / 100),
        9_950..999_500 => format!("{} ms", (us + 500) / 1000),
        999_500..59_995_000 => {
            let hundredths = (us + 5_000) / 10_000;
            format!("{}.{:02} s", hundredths / 100, hundredths % 100)
        }
        _ if seconds < 3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ if seconds < 86_400 => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

/// A duration that is only known within bounds: `0.5 ms ± 0.3 ms`.
pub fn bounded(bounds: Bounds) -> String {
    let margin_us = bounds.margin_us();
    if margin_us == 0 {
        return duration(bounds.middle_us());
    }
    format!("{} ± {}", duration(bounds.middle_us()), duration(margin_us))
}

/// A clock's offset: `5.00 s ahead ± 0.3 ms`.
pub fn clock(offset: Bounds) -> String {
    let middle = offset.middle_us();
    let side = if middle < 0 { "behind" } else { "ahead" };
    let amount = i64::try_from(middle.unsigned_abs()).unwrap_or(i64::MAX);
    let margin = duration(offset.margin_us());
    format!("{} {side} ± {margin}", duration(amount))
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
