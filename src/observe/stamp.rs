//! The time on a line of the log, UTC to the microsecond. Written out anew once a second, not for every line.

use std::cell::RefCell;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;

/// A second that this thread has logged in: how long after 1970 it began, s, and its text.
struct Second {
    since_s: u64,
    text: String,
}

thread_local! {
    static LAST: RefCell<Second> = const { RefCell::new(Second { since_s: 0, text: String::new() }) };
}

/// Writes the time that it is now.
pub fn write(to: &mut String) {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    LAST.with_borrow_mut(|last| last.write(now.unwrap_or_default(), to));
}

impl Second {
    fn write(&mut self, now: Duration, to: &mut String) {
        if self.text.is_empty() || self.since_s != now.as_secs() {
            self.since_s = now.as_secs();
            self.text = text(self.since_s);
        }
        let mut micros = *b".000000Z";
        let mut rest = now.subsec_micros();
        for digit in micros[1..7].iter_mut().rev() {
            *digit = b"0123456789"[(rest % 10) as usize];
            rest /= 10;
        }
        to.push_str(&self.text);
        // Never anything but ASCII.
        to.push_str(std::str::from_utf8(&micros).unwrap_or_default());
    }
}

/// Date and time of a second, as ISO 8601 has them.
fn text(since_s: u64) -> String {
    let second = i64::try_from(since_s).map(Timestamp::from_second);
    let second = second.ok().and_then(Result::ok).unwrap_or_default();
    second.strftime("%Y-%m-%dT%H:%M:%S").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_moment_is_written_as_it_is() {
        let mut second = Second {
            since_s: 0,
            text: String::new(),
        };
        for (now, text) in [
            ((0, 0), "1970-01-01T00:00:00.000000Z"),
            ((0, 1_999), "1970-01-01T00:00:00.000001Z"),
            ((1_795_478_400, 123_456_000), "2026-11-24T00:00:00.123456Z"),
            ((1_795_478_400, 999_999_999), "2026-11-24T00:00:00.999999Z"),
            ((1_795_478_401, 60_000), "2026-11-24T00:00:01.000060Z"),
            // The clock is set back.
            ((951_782_399, 5_000_000), "2000-02-28T23:59:59.005000Z"),
            ((951_782_400, 0), "2000-02-29T00:00:00.000000Z"),
        ] {
            let mut line = String::new();
            second.write(Duration::new(now.0, now.1), &mut line);
            assert_eq!(line, text);
        }
    }
}
