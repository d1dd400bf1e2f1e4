//! The reader: reports out of a mailbox, put together into the way of each message.
//!
//! Must not know how a report is laid out in a mail (that is `report`), nor where the secret lies.
//! Everything it is given may come from strangers.

pub mod assemble;
mod blame;
pub mod bundle;
pub mod clock;
mod codes;
pub mod custody;
mod doubt;
mod draft;
mod entry;
pub mod examine;
mod forest;
mod ghosts;
mod gist;
pub mod groups;
pub mod index;
mod kin;
pub mod message;
mod named;
pub mod notices;
pub mod odd;
mod pack;
pub mod pairs;
mod part;
mod places;
mod reader;
mod refusal;
pub mod render;
pub mod reports;
pub mod ring;
mod scratch;
mod segment;
pub mod source;
pub mod spent;
mod starts;
pub mod state;
pub mod stats;
mod stock;
mod tears;
mod ties;
mod times;
mod together;
mod tray;
mod unpack;
pub mod verify;
pub mod way;

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::track::{Secret, TrackingId};

pub use message::Truth;
pub use message::{Message, Stay};
pub use message::{Outcome, Recipient, State};
pub use reports::Reports;
pub use source::{Source, SourceError};
pub use verify::Agreement;

/// What a mailbox tells.
#[derive(Clone, Debug, Default)]
pub struct Trails {
    /// The messages, the oldest first.
    pub messages: Vec<Message>,
    /// Reports that are set apart, not about mail of this user or altered; part of no message.
    pub not_ours: Vec<NotOurs>,
    /// What was looked at.
    pub counts: Counts,
    /// Where mails lie that could not be read, or that call themselves tracking reports and are not, and places that are
    /// not looked into; and why.
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

/// A report that is part of no message, and what it claims.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NotOurs {
    /// The tracking id it claims; of one that is altered, that of the message it names, if it claims another.
    pub id: TrackingId,
    /// The host it claims to be.
    pub host: String,
    /// By which name the hop knows that host which handed it the message, where that is another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub known_as: Option<String>,
    /// The address in its From.
    pub from: Option<String>,
    /// Why it is set apart.
    pub why: Why,
}

/// Why a report is set apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Why {
    /// Its proof is that of no mail of this user.
    WrongProof,
    /// It names a message of this user, and its proof does not fit what it says: altered, or made up.
    Altered,
    /// Nothing proves it, and its signature does not fit.
    BrokenSignature,
    /// It says something else of a step than its host does under its signature.
    Contradicted,
}

/// Reads what lies at a path, a Maildir or another [`Source`], and changes nothing in it.
pub fn load(path: &Path, secret: Option<&Secret>) -> Result<Trails, SourceError> {
    let mut reports = Reports::of([Source::at(path)?], secret);
    reports.update()?;
    Ok(reports.trails())
}

#[cfg(test)]
pub(crate) mod tests;
