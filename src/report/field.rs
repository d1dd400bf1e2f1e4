//! The fields of a tracking report: one table of names for writer and reader, the group they stand in,
//! and the canonical form that Auth covers.
//!
//! Must not know MIME, nor what a value means.

/// Field names, as written. Reading ignores case.
pub mod name {
    #![allow(missing_docs)] // Each is its own text.

    // Per message (RFC 3886, 3.2), in the RFC's order, then ours.
    pub const ORIGINAL_ENVELOPE_ID: &str = "Original-Envelope-Id";
    pub const REPORTING_MTA: &str = "Reporting-MTA";
    pub const ARRIVAL_DATE: &str = "Arrival-Date";
    pub const VERSION: &str = "X-Hoptrail-Version";
    pub const STEP: &str = "X-Hoptrail-Step";
    pub const PARENT: &str = "X-Hoptrail-Parent";
    pub const HOP: &str = "X-Hoptrail-Hop";
    pub const ROLE: &str = "X-Hoptrail-Role";
    pub const ARRIVED: &str = "X-Hoptrail-Arrived";
    pub const MESSAGE_ID: &str = "X-Hoptrail-Message-Id";
    pub const SENT: &str = "X-Hoptrail-Sent";
    /// In a message's group the hop's own queue id, in a recipient's group the next hop's.
    pub const QUEUE_ID: &str = "X-Hoptrail-Queue-Id";
    pub const SIZE: &str = "X-Hoptrail-Size";
    pub const TIMES_IN: &str = "X-Hoptrail-Times-In";
    pub const TIMES_OUT: &str = "X-Hoptrail-Times-Out";
    pub const AUTH: &str = "X-Hoptrail-Auth";

    // Per recipient (RFC 3886, 3.3), in the RFC's order, then ours. Will-Retry-Until is left out: the
    // message waits in the MTA's queue, whose lifetime a proxy does not know.
    pub const ORIGINAL_RECIPIENT: &str = "Original-Recipient";
    pub const FINAL_RECIPIENT: &str = "Final-Recipient";
    pub const ACTION: &str = "Action";
    pub const STATUS: &str = "Status";
    pub const REMOTE_MTA: &str = "Remote-MTA";
    pub const LAST_ATTEMPT_DATE: &str = "Last-Attempt-Date";
    pub const EVENT: &str = "X-Hoptrail-Event";
    pub const ATTEMPTED: &str = "X-Hoptrail-Attempted";
    pub const REPLY: &str = "X-Hoptrail-Reply";
}

/// The version of our fields that this code writes and reads.
pub const VERSION: &str = "1";

/// The algorithm named in `X-Hoptrail-Auth`.
pub const AUTH_ALGORITHM: &str = "hmac-sha256";

/// Room for the canonical form of most reports.
const OCTETS_USUAL: usize = 2048;

/// Name and value of one field, unfolded and trimmed.
pub type Field = (String, String);

/// The fields between two empty lines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Group(pub Vec<Field>);

impl Group {
    /// Appends a field.
    pub fn push(&mut self, name: &str, value: impl Into<String>) {
        self.0.push((name.to_owned(), value.into()));
    }

    /// Appends a field if there is a value.
    pub fn push_some(&mut self, name: &str, value: Option<impl Into<String>>) {
        if let Some(value) = value {
            self.push(name, value);
        }
    }

    /// The first field of that name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }
}

/// What Auth covers: `lowercase-name:value LF` for every field but Auth itself, in order, and one more
/// LF between groups.
pub fn canonical(groups: &[Group]) -> Vec<u8> {
    let mut text = Vec::with_capacity(OCTETS_USUAL);
    for (n, group) in groups.iter().enumerate() {
        if n > 0 {
            text.push(b'\n');
        }
        for (name, value) in &group.0 {
            if !name.eq_ignore_ascii_case(name::AUTH) {
                text.extend(name.bytes().map(|b| b.to_ascii_lowercase()));
                text.push(b':');
                text.extend_from_slice(value.as_bytes());
                text.push(b'\n');
            }
        }
    }
    text
}
