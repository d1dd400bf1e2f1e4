//! One connection of a step: its exchanges, and what protected it; and who signed the step.

use serde::Serialize;

use crate::track::Stage;

/// What protected a connection.
#[derive(Debug, Serialize)]
pub struct TlsJson<'a> {
    /// TLS did; otherwise nothing.
    pub on: bool,
    /// `1.3` or `1.2`.
    pub version: Option<&'a str>,
    /// The cipher suite as IANA has it.
    pub cipher: Option<&'a str>,
    /// The hop made sure of the peer by name and chain of its certificate.
    pub verified: bool,
}

/// One SMTP exchange.
#[derive(Debug, Serialize)]
pub struct ExchangeJson {
    /// `ehlo`, `mail`, `rcpt`, `data` or `dot`.
    pub stage: Stage,
    /// In `times_in` when the command was received, in `times_out` when it was sent, µs. Of the dot: the
    /// last octet of the message.
    pub command_us: i64,
    /// When the reply was sent, or received, µs.
    pub reply_us: i64,
}

/// Who signed a report.
#[derive(Debug, Serialize)]
pub struct OriginJson<'a> {
    /// `unchecked`, `unsigned`, `signed`, `no-key` where the domain shows none, `no-answer` where no name server said,
    /// `unfit-key` where it shows one that is malformed or of another kind, or `altered` where the signature does not
    /// fit.
    pub state: &'static str,
    /// In whose name.
    pub domain: Option<&'a str>,
    /// Whether the host lies in that domain, so that the signature vouches for it; `null` unless `signed`.
    pub vouches: Option<bool>,
}
