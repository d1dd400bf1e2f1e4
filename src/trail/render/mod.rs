//! Trails as text. Pure: the same trails, time, zone and width give the same string.
//!
//! Every string out of a report goes through [`format::plain`] on its way to a person.

pub mod evidence;
mod fates;
pub mod format;
pub mod html;
pub mod json;
pub mod line;
mod moments;
pub mod paint;
mod picture;
mod spent;
pub mod stats;
mod svg;
pub mod terminal;
mod tree;
mod trust;
pub mod verdict;
mod words;

use jiff::tz::TimeZone;

/// Columns of a terminal that does not tell.
pub const TERMINAL_COLUMNS: usize = 80;

/// Lines of prose as wide as a large screen are no help to the eye.
pub const COLUMNS_MAX: usize = 120;

/// When and where the reader is.
#[derive(Clone, Debug)]
pub struct View {
    /// Now, µs since 1970-01-01 UTC.
    pub now_us: i64,
    /// The zone in which people read times.
    pub zone: TimeZone,
    /// Columns to keep to; `None` where nobody counts them, so that nothing is cut or broken.
    pub width: Option<usize>,
    /// Whether colours show there. Where they do not, what is long is drawn without them, so that nobody has to look for
    /// them in it; in the rest printing drops them.
    pub colours: bool,
}
