//! The reader: reports out of a mailbox, put together into the way of each message.
//!
//! Must not know how a report is laid out in a mail (that is `report`), nor where the secret lies.
//! Everything it is given may come from strangers.

pub mod assemble;
pub mod clock;
pub mod index;
mod pack;
pub mod render;
pub mod reports;
pub mod source;
pub mod state;
mod stock;
mod times;
mod unpack;
pub mod verify;
pub mod way;

use std::path::Path;

use crate::track::{Secret, TrackingId};

pub use assemble::{Message, Stay};
pub use reports::Reports;
pub use source::{Source, SourceError};
pub use state::{Outcome, Recipient, State};
pub use verify::Truth;

/// What a mailbox tells.
#[derive(Clone, Debug, Default)]
pub struct Trails {
    /// The messages, the oldest first.
    pub messages: Vec<Message>,
    /// Reports that prove to be about no mail of this user; part of no message.
    pub not_ours: Vec<NotOurs>,
    /// What was looked at.
    pub counts: Counts,
    /// Where mails lie that could not be read, or that call themselves tracking reports and are not, and why.
    pub skipped: Vec<(String, String)>,
}

/// What was looked at, in mails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Mails seen.
    pub mails: usize,
    /// Reports read, copies of the same one included.
    pub reports: usize,
}

/// A report that claims a message it has no key of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotOurs {
    /// The tracking id it claims.
    pub id: TrackingId,
    /// The host it claims to be.
    pub host: String,
    /// The address in its From.
    pub from: Option<String>,
}

/// Reads what lies at a path, a Maildir or another [`Source`], and changes nothing in it.
pub fn load(path: &Path, secret: Option<&Secret>) -> Result<Trails, SourceError> {
    let mut reports = Reports::of([Source::at(path)?], secret);
    reports.update()?;
    Ok(reports.trails())
}

#[cfg(test)]
mod tests;
