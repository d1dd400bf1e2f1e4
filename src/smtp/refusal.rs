//! The reply to a command that goes no further, in our own words.

use std::fmt;

/// The reply to a command that goes no further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The reply code.
    pub code: u16,
    /// The enhanced status code (RFC 3463).
    pub status: &'static str,
    /// What is wrong, for a person.
    pub text: &'static str,
}

impl Refusal {
    /// A refusal in our own words; `text` is printable ASCII.
    pub const fn new(code: u16, status: &'static str, text: &'static str) -> Self {
        Self { code, status, text }
    }

    /// The reply line as it is sent, CRLF included.
    pub fn to_line(&self) -> Vec<u8> {
        format!("{self}\r\n").into_bytes()
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.code, self.status, self.text)
    }
}

impl std::error::Error for Refusal {}
