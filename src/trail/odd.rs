//! Hops whose clock cannot be right if one is that no hop compares with theirs: the originator's, or that of the machine
//! this is read on.

use super::custody::CLOCKS_US;
use super::message::Message;

/// What lies by more than this after now was told by another clock than ours, µs.
const AHEAD_US: i64 = 3 * 60 * 1_000_000;

/// A hop whose clock and another one cannot both be right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OddClock<'a> {
    /// Its name.
    pub host: &'a str,
    /// The other one.
    pub of: Than,
    /// By how much its own is ahead at least, µs; less than nothing where it is behind.
    pub ahead_us: i64,
}

/// With whose clock a hop's is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Than {
    /// That of the machine this is read on.
    Reader,
    /// The originator's, by its stamp.
    Sender,
}

/// The hops that tell of what is still to come, or had the message before it was sent. One whose clock is known against
/// the first hop's is not named beside that.
pub fn odd_clocks(message: &Message, now_us: i64) -> Vec<OddClock<'_>> {
    let in_us = |ms| i64::try_from(ms).ok()?.checked_mul(1000);
    let sent_us = message.sent_ms.and_then(in_us);
    let measure = message.measure();
    let mut odd = Vec::new();
    for (n, stay) in message.stays.iter().enumerate() {
        let is_compared = measure != Some(n) && stay.offset.bounds().is_some();
        let told = stay.host.as_deref().zip(stay.lasted());
        let Some((host, (from_us, to_us))) = told.filter(|_| !is_compared) else {
            continue;
        };
        let mut note = |of, ahead_us| odd.push(OddClock { host, of, ahead_us });
        let ahead_us = to_us.saturating_sub(now_us);
        if ahead_us > AHEAD_US {
            note(Than::Reader, ahead_us);
        }
        let ahead_us = sent_us.map_or(0, |sent_us| from_us.saturating_sub(sent_us));
        if ahead_us < -CLOCKS_US {
            note(Than::Sender, ahead_us);
        }
    }
    odd
}
