//! The mail of a report: `HopReport` to bytes and back. `multipart/report` outside (RFC 6522), a
//! `message/tracking-status` part inside (RFC 3886), which together are a profile of our own: RFC 3886
//! itself knows its part only as the body of a query's answer.
//!
//! Must not know the clock, randomness, disk or network: all of it comes in as values.

mod address;
mod date;
pub mod extent;
pub mod field;
mod layout;
mod name;
pub mod notice;
pub mod notification;
pub mod origin;
pub mod read;
pub mod sign;
mod split;
mod value;
mod words;
pub mod write;

pub use origin::{Keys, Origin, Record};
pub use read::{ReadError, Received, Trace, read};
pub use write::{Mailing, write, write_together};

#[cfg(test)]
pub(crate) mod tests;
