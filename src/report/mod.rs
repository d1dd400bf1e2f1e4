//! The mail of a report: `HopReport` to bytes and back. `multipart/report` outside (RFC 6522), a
//! `message/tracking-status` part inside (RFC 3886), which together are a profile of our own: RFC 3886
//! itself knows its part only as the body of a query's answer.
//!
//! Must not know the clock, randomness, disk or network: all of it comes in as values.

mod address;
mod date;
pub mod field;
pub mod notice;
pub mod notification;
pub mod read;
pub mod sign;
mod split;
mod words;
pub mod write;

pub use notice::Notice;
pub use read::{ReadError, Received, Trace, read};
pub use write::{Mailing, write, write_together};

/// A mail that tells of others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// A tracking report.
    Report(Box<Received>),
    /// A notice of another mail system.
    Notice(Box<Notice>),
}

/// Reads a mail of either kind. `Ok(None)`: it is neither.
pub fn told(mail: &[u8]) -> Result<Option<Told>, ReadError> {
    let report = read(mail)?.map(|report| Told::Report(Box::new(report)));
    let notice = || notice::read(mail).map(|notice| Told::Notice(Box::new(notice)));
    Ok(report.or_else(notice))
}

#[cfg(test)]
mod tests;
