//! Who had a message last, and why nothing more is known: what was to be expected against what came.

use super::message::{Message, Recipient, State};

/// A hop that is equipped says at once that it passed a message on or could not; reports may be delayed as any mail is.
/// After so long it is called silent, µs.
pub const SILENT_AFTER_US: i64 = 15 * 60 * 1_000_000;

/// Why nothing more is known of a recipient.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Silence {
    /// The hop that has it does not report: no sign of trouble.
    NotEquipped,
    /// The hop that has it reports, and may still.
    Awaited,
    /// The hop that has it reports, and has not for long.
    Silent,
    /// The same, though it has reported on others that came with it.
    SilentOnThis,
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
            (recipient.at_us, Some(silence(message, recipient, now_us)))
        }
        _ => (recipient.arrived_us, None),
    };
    Some(Custody {
        host,
        since_us,
        silence,
    })
}

fn silence(message: &Message, recipient: &Recipient, now_us: i64) -> Silence {
    let stay = message.stays.get(recipient.stay);
    let on_first = stay.and_then(|stay| stay.on_first_clock(recipient.at_us));
    let since_us = on_first.map_or(recipient.at_us, |at| at.high_us);
    if now_us.saturating_sub(since_us) < SILENT_AFTER_US {
        return Silence::Awaited;
    }
    let mut behind = message
        .stays
        .iter()
        .filter(|s| s.parent == Some(recipient.stay));
    let told = |step: &crate::track::HopReport| step.parent == Some(recipient.step);
    if behind.any(|stay| stay.steps.iter().any(told)) {
        Silence::SilentOnThis
    } else {
        Silence::Silent
    }
}
