//! The two moments of a step on its hop's clock, by which every duration is measured.

use super::clock::only;
use crate::track::{HopReport, Stage};

impl HopReport {
    /// When the whole message was here: its last octet came in. µs of the hop's clock.
    pub fn arrived_us(&self) -> i64 {
        only(&self.times_in, Stage::Dot).map_or(self.arrival_us, |dot| dot.command_us)
    }

    /// When its last octet went out in this step; `None` if none did. µs of the hop's clock.
    pub fn left_us(&self) -> Option<i64> {
        only(&self.times_out, Stage::Dot).map(|dot| dot.command_us)
    }

    /// How long it was inside the hop, until it left or else was last offered, µs; `None` if that did
    /// not happen or the hop's clock went back meanwhile.
    pub fn dwell_us(&self) -> Option<i64> {
        let attempts = self.recipients.iter().filter_map(|r| r.attempted_us);
        let end = self.left_us().or(attempts.max())?;
        end.checked_sub(self.arrived_us()).filter(|us| *us >= 0)
    }
}
