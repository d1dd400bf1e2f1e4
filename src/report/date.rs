//! Dates of mail (RFC 5322, 3.3) out of microseconds.

use jiff::{Timestamp, tz::TimeZone};

/// `Mon, 23 Nov 2026 16:05:09 +0000`. A time that no mail date can show (before 1970, after 9999)
/// becomes the nearest one that can; the exact number stands in a field of its own.
pub fn mail_date(us: i64) -> String {
    const LAST_US: i64 = 253_402_300_799_000_000 - 86_400_000_000;
    let time = Timestamp::from_microsecond(us.clamp(0, LAST_US)).unwrap_or_default();
    let zoned = time.to_zoned_datetime(TimeZone::UTC);
    jiff::fmt::rfc2822::to_string(&zoned).unwrap_or_default()
}
