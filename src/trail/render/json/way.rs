//! Who has a message, and where its time went.

use serde::Serialize;

use super::BoundsJson;
use crate::trail::custody::Silence;
use crate::trail::spent::Kind;

/// Who has a message for a recipient.
#[derive(Debug, Serialize)]
pub struct CustodyJson<'a> {
    /// Its name, if known.
    pub host: Option<&'a str>,
    /// Since when, by the clock of the host that told.
    pub since: Option<String>,
    /// The same, µs.
    pub since_us: i64,
    /// Where that lies on the first hop's clock, µs; `null` if nobody can say.
    pub since_first: Option<BoundsJson>,
    /// Why nothing more is known; `null` if it told the last of it itself.
    pub silence: Option<Silence>,
}

/// A hop on the way to a recipient.
#[derive(Debug, Serialize)]
pub struct WayJson {
    /// Place in `hops`.
    pub hop: usize,
    /// Time on the wire from the hop before.
    pub wire: Option<BoundsJson>,
    /// Time inside the hop until the message left it or the attempt ended, µs; not known where its clock was set,
    /// or where it came back in a ring.
    pub dwell_us: Option<i64>,
    /// What that is made of; adds up to it.
    pub parts: Vec<PartJson>,
}

/// A part of the time inside a hop.
#[derive(Debug, Serialize)]
pub struct PartJson {
    /// `filter`, `content-filter`, `queue`, `attempt`, `put-off` or `greylisted`.
    pub kind: Kind,
    /// How long, µs.
    pub us: i64,
    /// How much of that the hop waited for the next hop's replies, µs.
    pub awaited_us: i64,
}
