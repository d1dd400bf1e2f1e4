//! The reader: reports out of a mailbox, put together into the way of each message.
//!
//! Must not know how a report is laid out in a mail (that is `report`), nor where the secret lies.
//! Everything it is given may come from strangers.

pub mod assemble;
pub mod bundle;
pub mod clock;
pub mod examine;
pub mod render;
pub mod source;
pub mod state;
pub mod stats;
mod times;
pub mod verify;
pub mod way;

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::report;
use crate::track::{Secret, TrackingId};

pub use assemble::{Message, Stay};
pub use source::maildir::NotAMaildir;
pub use state::{Outcome, Recipient, State};
pub use verify::{Agreement, Truth};

/// What a mailbox tells.
#[derive(Clone, Debug, Default)]
pub struct Trails {
    /// The messages, the oldest first.
    pub messages: Vec<Message>,
    /// Reports that are set apart, not about mail of this user or altered; part of no message.
    pub not_ours: Vec<NotOurs>,
    /// What was looked at.
    pub counts: Counts,
    /// Mails that call themselves tracking reports and could not be read, and why.
    pub skipped: Vec<(PathBuf, String)>,
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotOurs {
    /// The tracking id it claims.
    pub id: TrackingId,
    /// The host it claims to be.
    pub host: String,
    /// The address in its From.
    pub from: Option<String>,
    /// Why it is set apart.
    pub why: Why,
}

/// Why a report is set apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Why {
    /// Its proof is that of no mail of this user.
    WrongProof,
    /// It names a message of this user, and its proof does not fit what it says: altered, or made up.
    Altered,
    /// The domain that reports signed something else.
    BrokenSignature,
    /// It says something else of a step than its host does under its signature.
    Contradicted,
}

/// Reads a Maildir and changes nothing in it.
pub fn load(maildir: &Path, secret: Option<&Secret>) -> Result<Trails, NotAMaildir> {
    let mut received = Vec::new();
    let mut counts = Counts::default();
    let mut skipped = Vec::new();
    let limit = report::read::REPORT_OCTETS_MAX;
    source::maildir::visit(
        maildir,
        limit,
        report::read::may_be_report,
        |path, found| {
            counts.mails += 1;
            match found {
                Ok(None) => {}
                Ok(Some(mail)) => match report::read(&mail) {
                    Ok(Some(report)) => received.push(report),
                    Ok(None) => {}
                    Err(why) => skipped.push((path.to_owned(), why.to_string())),
                },
                Err(why) => skipped.push((path.to_owned(), why.to_string())),
            }
        },
    )?;
    counts.reports = received.len();
    let (messages, not_ours) = assemble::assemble(received, secret);
    Ok(Trails {
        messages,
        not_ours,
        counts,
        skipped,
    })
}

#[cfg(test)]
mod tests;
