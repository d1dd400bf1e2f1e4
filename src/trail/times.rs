//! The two moments of a step on its hop's clock, by which every duration is measured.

use super::clock::only;
use crate::track::{Event, HopReport, RecipientStatus, Stage};

impl HopReport {
    /// When the whole message was here: its last octet came in. µs of the hop's clock.
    pub fn arrived_us(&self) -> i64 {
        only(&self.times_in, Stage::Dot).map_or(self.arrival_us, |dot| dot.command_us)
    }

    /// When its last octet went out in this step; `None` if none did. µs of the hop's clock.
    pub fn left_us(&self) -> Option<i64> {
        only(&self.times_out, Stage::Dot).map(|dot| dot.command_us)
    }

    /// When this step was over for a recipient: the last octet went out to the next hop, or else the
    /// attempt ended. µs of the hop's clock.
    pub fn ended_us(&self, group: &RecipientStatus) -> Option<i64> {
        let left = match group.event {
            Event::Transferred | Event::Relayed | Event::Expanded => self.left_us(),
            _ => None,
        };
        left.or(group.attempted_us)
    }

    /// How long it was inside the hop until then, µs; `None` if that is not known or the hop's clock
    /// went back meanwhile.
    pub fn dwell_us(&self, group: &RecipientStatus) -> Option<i64> {
        let dwell = self.ended_us(group)?.checked_sub(self.arrived_us())?;
        Some(dwell).filter(|us| *us >= 0)
    }
}
