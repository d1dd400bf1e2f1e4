//! Who had a message last, and why nothing more is known: what was to be expected against what came.

use super::message::{Message, Recipient, State};
use crate::track::HopReport;

/// A hop that is equipped says at once that it passed a message on or could not; reports may be delayed as any mail is.
/// After so long it is called silent, µs.
pub const SILENT_AFTER_US: i64 = 15 * 60 * 1_000_000;

/// By no more do clocks differ that somebody keeps, µs.
pub const CLOCKS_US: i64 = 1_000_000;

/// Why nothing more is known of a recipient.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Silence {
    /// The hop that has it was not asked to report, mostly since it does not know how to: no sign of trouble.
    NotEquipped,
    /// The hop that has it reports, and may still.
    Awaited,
    /// The hop that has it reports, and has not for long.
    Silent,
    /// The same, though it has reported on others that came with it.
    SilentOnThis,
    /// A report in its name was left out, so nobody can say that it told nothing.
    LeftOut,
    /// A report in its name is not proved, so nobody can say that it told nothing.
    Unproved,
    /// Nothing here is proved, and it names a message of which other reports are: what that hop told stands there.
    ToldElsewhere,
}

/// The last known holder of a message for a recipient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Custody<'a> {
    /// Its name, if that is known.
    pub host: Option<&'a str>,
    /// Since when, µs of the clock of the host that told.
    pub since_us: i64,
    /// Why nothing more is known; `None` if the holder itself told the last of it.
    pub silence: Option<Silence>,
}

/// What is known of a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Since {
    /// When it was on the first hop's clock, µs.
    Known(i64),
    /// When it was on a clock that nobody can compare with that, or that the sender's or ours contradicts, µs.
    Claimed(i64),
    /// Its clock is wrong: nobody can compare it, and by it the moment lies before the sending or is still to come.
    Unknown,
}

impl Since {
    /// When a moment of a stay's clock, µs, was.
    pub fn of(message: &Message, stay: usize, us: i64, now_us: i64) -> Self {
        let stay_of = message.stays.get(stay);
        let bounds = stay_of.and_then(|stay| stay.on_first_clock(us));
        let is_measured = message.measure() != Some(stay) || stay_of.is_some_and(|s| s.hop == 1);
        let known = bounds.filter(|_| is_measured);
        let since = known.map_or(Self::Claimed(us), |at| Self::Known(at.middle_us()));
        let from_us = message.sent_or_arrived_us().saturating_sub(CLOCKS_US);
        let possible = from_us..=now_us.saturating_add(CLOCKS_US);
        match since.us() {
            Some(us) if possible.contains(&us) => since,
            _ => known.map_or(Self::Unknown, |at| Self::Claimed(at.middle_us())),
        }
    }

    /// One of two moments, known no better than the one of which less is known.
    #[must_use]
    pub fn or(self, other: Self, choose: impl FnOnce(i64, i64) -> i64) -> Self {
        let (Some(one), Some(two)) = (self.us(), other.us()) else {
            return Self::Unknown;
        };
        match (self, other) {
            (Self::Known(_), Self::Known(_)) => Self::Known(choose(one, two)),
            _ => Self::Claimed(choose(one, two)),
        }
    }

    /// The moment, µs, if anything is known of it.
    pub fn us(self) -> Option<i64> {
        match self {
            Self::Known(us) | Self::Claimed(us) => Some(us),
            Self::Unknown => None,
        }
    }
}

/// Who has it, as far as hops told; `None` if nobody has: it arrived, failed, or became others.
pub fn custody<'a>(
    message: &Message,
    recipient: &'a Recipient,
    now_us: i64,
) -> Option<Custody<'a>> {
    let host = match recipient.state {
        State::Failed | State::Expanded | State::Delivered => return None,
        State::OnItsWay | State::Relayed => recipient.remote.as_deref(),
        State::Looped | State::Held | State::Delayed | State::Accepted => {
            Some(recipient.host.as_str())
        }
    };
    let (since_us, silence) = match recipient.state {
        State::Relayed => (recipient.at_us, Some(Silence::NotEquipped)),
        State::OnItsWay | State::Accepted => {
            let silence = aside(message, host).unwrap_or_else(|| match recipient.state {
                // Mostly it tells that since it does not see the message leave: no more is to be expected of it.
                State::Accepted => Silence::Awaited,
                _ => silence(message, recipient, now_us),
            });
            (recipient.at_us, Some(silence))
        }
        _ => (recipient.arrived_us, None),
    };
    Some(Custody {
        host,
        since_us,
        silence,
    })
}

/// Why a host of this name, or any that has none, is not silent though nothing that counts came from it.
pub fn aside(message: &Message, host: Option<&str>) -> Option<Silence> {
    if !message.names.is_empty() {
        return Some(Silence::ToldElsewhere);
    }
    if message.leaves_out(host) {
        return Some(Silence::LeftOut);
    }
    message.has_unproved(host).then_some(Silence::Unproved)
}

/// Why nothing is known of the hop that a recipient's message was handed to, if it was to one: that it told of others alone
/// is known at once.
pub fn beyond(message: &Message, recipient: &Recipient, now_us: i64) -> Option<Silence> {
    let is_handed_on = matches!(recipient.state, State::OnItsWay | State::Relayed);
    let silence = custody(message, recipient, now_us)?.silence?;
    let silence = match silence {
        Silence::Awaited if is_told_of_others(message, recipient) => Silence::SilentOnThis,
        silence => silence,
    };
    is_handed_on.then_some(silence)
}

fn silence(message: &Message, recipient: &Recipient, now_us: i64) -> Silence {
    let stay = message.stays.get(recipient.stay);
    let on_first = stay.and_then(|stay| stay.on_first_clock(recipient.at_us));
    let since_us = match Since::of(message, recipient.stay, recipient.at_us, now_us) {
        Since::Known(us) => on_first.map_or(us, |at| at.high_us),
        Since::Claimed(us) => us,
        // Not before that.
        Since::Unknown => message.sent_or_arrived_us(),
    };
    if now_us.saturating_sub(since_us) < SILENT_AFTER_US {
        return Silence::Awaited;
    }
    if is_told_of_others(message, recipient) {
        Silence::SilentOnThis
    } else {
        Silence::Silent
    }
}

/// Whether a hop that a recipient's message was handed to tells of others that came with it: this one may still be there,
/// or have become others, of whom nobody told whose members they are.
pub fn is_told_of_others(message: &Message, recipient: &Recipient) -> bool {
    let stays = message.stays.iter();
    let mut behind = stays.filter(|stay| stay.parent == Some(recipient.stay));
    let told = |step: &HopReport| step.parent == Some(recipient.step);
    behind.any(|stay| stay.steps.iter().any(told))
}
