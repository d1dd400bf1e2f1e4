//! Whether a report is about mail this user sent: its Auth is keyed with B, and only who has the secret
//! (or saw the request on its way) can make B.

use serde::Serialize;

use crate::report::Received;
use crate::track::{HopReport, Secret};

/// What is known of a report's origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Truth {
    /// Its maker knew the request of this user's message.
    Verified,
    /// It claims a proof that is wrong.
    NotOurs,
    /// There is a secret, and the report brings no proof: anybody can have made it.
    Unproved,
    /// There is no secret to judge it by.
    Unverifiable,
}

/// Judges a report.
pub fn truth(received: &Received, secret: Option<&Secret>) -> Truth {
    let report = &received.report;
    let Some(secret) = secret else {
        return Truth::Unverifiable;
    };
    let (Some(auth), Some(message_id), Some(sent_ms)) =
        (&received.auth, &report.message_id, report.sent_ms)
    else {
        return Truth::Unproved;
    };
    let certificate = secret.certificate(message_id, sent_ms);
    if certificate.verifies(&received.canonical, auth) {
        Truth::Verified
    } else {
        Truth::NotOurs
    }
}

/// A report and whether to believe it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judged {
    /// Whether it is about mail of this user.
    pub truth: Truth,
    /// What it says.
    pub report: HopReport,
    /// What else it says, as in [`Received::others`].
    pub others: Vec<HopReport>,
    /// The address in its From.
    pub from: Option<String>,
}

impl Judged {
    /// Judges a report.
    pub fn by(received: Received, secret: Option<&Secret>) -> Self {
        Self {
            truth: truth(&received, secret),
            report: received.report,
            others: received.others,
            from: received.from,
        }
    }
}
