//! Times within bounds, and the clocks they come from.

use serde::Serialize;

/// A time that lies within bounds.
#[derive(Debug, Serialize)]
pub struct BoundsJson {
    /// Lower bound, µs.
    pub low_us: i64,
    /// Upper bound, µs.
    pub high_us: i64,
}

/// A hop's clock.
#[derive(Debug, Serialize)]
pub struct ClockJson<'a> {
    /// Against the first hop's: `known`, `unknown` or `contradiction` (no offset fits all stamps).
    pub state: &'static str,
    /// How far it is ahead of the first hop's clock, if known.
    pub offset: Option<BoundsJson>,
    /// For which moment of its own; `null` where it is the first hop's clock itself, or nothing is known.
    pub offset_at_us: Option<i64>,
    /// How far it was ahead of the clock of the hop it came from, when the message left there, if known.
    pub link: Option<BoundsJson>,
    /// It may have been set while the message was here.
    pub jump: Option<JumpJson<'a>>,
}

/// A clock was set, or a stamp is made up.
#[derive(Debug, Serialize)]
pub struct JumpJson<'a> {
    /// The neighbour against whose clock it shows.
    pub against: &'a str,
    /// It was this hop's clock, as others show; `false` if it may have been that neighbour's.
    pub own: bool,
    /// By how much, the clock of the later hop of the two against that of the earlier.
    pub by: BoundsJson,
    /// Not before this, by this hop's clock, µs.
    pub from_us: i64,
    /// Not after this.
    pub to_us: i64,
    /// The handovers between which it shows, by the neighbour's clock, µs.
    pub seen_from_us: i64,
    /// The one after it.
    pub seen_to_us: i64,
}
