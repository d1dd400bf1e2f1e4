//! What is known of a mail of a mailbox without what is kept of it: what it is, and by what those on one message are found.

use super::source::Key;

/// A mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What names it in its Maildir.
    pub key: Key,
    /// What it is.
    pub kind: Kind,
    /// Of a report, by what its message is known: by what its proof is for or would have to be for, whatever tracking id
    /// it bears; else by the hash of that. Equal in every run.
    pub message: u64,
    /// Of a report, the hash of its tracking id.
    pub id: u64,
    /// Where what is kept of it stands.
    pub segment: u16,
    /// The place in the segment.
    pub place: u32,
}

/// What a mail is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Something else.
    Other,
    /// A report that is not proved; its record is kept.
    Report,
    /// No report, though it says so, or unreadable; the reason is kept.
    Broken,
    /// What another mail system says of a message; its record is kept.
    Notice,
    /// A report that is proved; its record is kept.
    Proved,
}

impl Entry {
    /// A mail of which nothing is kept yet, and no report, or one whose message is still to be told.
    pub fn new(key: Key, kind: Kind) -> Self {
        Self {
            key,
            kind,
            message: 0,
            id: 0,
            segment: 0,
            place: 0,
        }
    }

    /// It is a report, proved or not.
    pub fn is_report(&self) -> bool {
        matches!(self.kind, Kind::Report | Kind::Proved)
    }
}

/// Into how many shares reports are told apart: 2 to the power of this.
pub const SHARES_BITS: u32 = 3;

/// The share of a report, by what its message is known by: reports of other shares have their records elsewhere if there
/// are many.
pub fn share_of(message: u64) -> usize {
    usize::try_from(message >> (u64::BITS - SHARES_BITS)).unwrap_or_default()
}
