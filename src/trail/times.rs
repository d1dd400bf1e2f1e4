//! The moments of a step on its hop's clock, and the durations between them.

use super::clock::only;
use crate::track::{Event, Exchange, HopReport, RecipientStatus, Stage};

impl HopReport {
    /// When its message was sent, or came to the hop if that is not known, µs.
    pub fn sent_or_came_us(&self) -> i64 {
        let in_us = |ms| i64::try_from(ms).ok()?.checked_mul(1000);
        self.sent_ms.and_then(in_us).unwrap_or(self.arrival_us)
    }

    /// When the whole message was here: its last octet came in. µs of the hop's clock.
    pub fn arrived_us(&self) -> i64 {
        only(&self.times_in, Stage::Dot).map_or(self.arrival_us, |dot| dot.command_us)
    }

    /// When its last octet went out in this step; `None` if none did. µs of the hop's clock.
    pub fn left_us(&self) -> Option<i64> {
        only(&self.times_out, Stage::Dot).map(|dot| dot.command_us)
    }

    /// When the attempt of this step began, with MAIL. µs of the hop's clock.
    pub fn attempt_began_us(&self) -> Option<i64> {
        only(&self.times_out, Stage::Mail).map(|mail| mail.command_us)
    }

    /// How long it took, from MAIL to the next hop's last reply, µs.
    pub fn attempt_us(&self) -> Option<i64> {
        let began_us = self.attempt_began_us()?;
        let ended_us = self.times_out.iter().map(|e| e.reply_us).max()?;
        between(began_us, ended_us)
    }

    /// How long of a span it waited for replies of the next hop in this step, µs: commands that went out together
    /// (RFC 2920) are waited for once.
    pub fn awaited_us(&self, from_us: i64, to_us: i64) -> i64 {
        let mut seen_us = from_us;
        let mut awaited_us = 0_i64;
        for exchange in &self.times_out {
            let (sent_us, heard_us) = (
                exchange.command_us.max(seen_us),
                exchange.reply_us.min(to_us),
            );
            if sent_us < heard_us {
                awaited_us = awaited_us.saturating_add(heard_us.saturating_sub(sent_us));
                seen_us = heard_us;
            }
        }
        awaited_us
    }

    /// How long after the last octet of the message the reply to it was given when it came in, µs: the time
    /// in which the MTA, and what filters content before its queue, looked at it.
    pub fn pause_in_us(&self) -> Option<i64> {
        only(&self.times_in, Stage::Dot).and_then(pause_us)
    }

    /// The same at the next hop, as seen from here.
    pub fn pause_out_us(&self) -> Option<i64> {
        only(&self.times_out, Stage::Dot).and_then(pause_us)
    }

    /// How long after its arrival the hop's content filter gave the message back, µs: the time in the queue before
    /// the filter, and in it.
    pub fn filter_us(&self) -> Option<i64> {
        between(self.arrived_us(), self.filtered_us?)
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

    /// Whether a group of it was over before the attempt began that it gives the times of. A group tells of the last attempt for
    /// its recipient (RFC 3464, 2.3.7), so beside another one for the same this one tells of an attempt before that.
    pub fn is_of_earlier(&self, group: &RecipientStatus) -> bool {
        let times = self.ended_us(group).zip(self.attempt_began_us());
        times.is_some_and(|(ended_us, began_us)| ended_us < began_us)
    }

    /// How long it was inside the hop until then, µs; `None` if that is not known or the hop's clock
    /// went back meanwhile.
    pub fn dwell_us(&self, group: &RecipientStatus) -> Option<i64> {
        between(self.arrived_us(), self.ended_us(group)?)
    }
}

fn pause_us(dot: Exchange) -> Option<i64> {
    between(dot.command_us, dot.reply_us)
}

/// `None` where a clock went back.
fn between(from_us: i64, to_us: i64) -> Option<i64> {
    to_us.checked_sub(from_us).filter(|us| *us >= 0)
}
