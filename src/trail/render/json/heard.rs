//! What others say of a message and prove nothing.

use serde::Serialize;

use crate::report::notice::Said;
use crate::trail::message::Joined;

/// What somebody says who proves nothing.
#[derive(Debug, Serialize)]
pub struct WordJson<'a> {
    /// Whom it names.
    pub address: &'a str,
    /// The place of that one in `recipients`.
    pub recipient: Option<usize>,
    /// `failed`, `delayed`, `relayed`, `expanded`, `delivered`, `displayed` or `deleted`.
    pub said: Said,
    /// The host or mail program that says so, by its own account.
    pub host: Option<&'a str>,
    /// The address its mail says it is from.
    pub from: Option<&'a str>,
    /// The host it spoke to.
    pub remote: Option<&'a str>,
    /// Enhanced status code.
    pub status: Option<String>,
    /// What that host answered.
    pub reply: Option<&'a str>,
    /// When: the attempt, or else the date of the mail.
    pub at: Option<String>,
    /// The same, µs.
    pub at_us: Option<i64>,
    /// `envid`, `message-id` or `recipient`.
    pub joined: Joined,
}

/// A Received field.
#[derive(Debug, Serialize)]
pub struct ClaimJson<'a> {
    /// The host that wrote it.
    pub by: &'a str,
    /// The queue id there.
    pub id: Option<&'a str>,
    /// When, by its own clock, in whole seconds.
    pub at: Option<String>,
    /// The same, µs.
    pub at_us: Option<i64>,
}
