//! The hop's clock. A value, so that tests and the demo can run a hop a few seconds off, and so that
//! nothing that makes a report asks the system for the time behind its caller's back.

use std::time::{SystemTime, UNIX_EPOCH};

/// Wall-clock time, off the system's by a fixed amount.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clock {
    offset_us: i64,
}

impl Clock {
    /// The system's clock.
    pub fn system() -> Self {
        Self::default()
    }

    /// The system's clock, `offset_us` µs ahead (or behind, if negative).
    pub fn shifted(offset_us: i64) -> Self {
        Self { offset_us }
    }

    /// Microseconds since 1970-01-01 UTC.
    pub fn now_us(self) -> i64 {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        i64::try_from(since.as_micros())
            .unwrap_or(i64::MAX)
            .saturating_add(self.offset_us)
    }

    /// Milliseconds since 1970-01-01 UTC.
    pub fn now_ms(self) -> i64 {
        self.now_us().div_euclid(1000)
    }
}
