//! The wire: SMTP and LMTP as octets. Bytes in, spans and verdicts out.
//!
//! Every function is total (any octets, any split) and hands back spans of what came, because a proxy
//! forwards what it received and never a re-made copy. Lone CR and LF end nothing here, neither a
//! command nor a reply nor the data; that is what keeps two parsers from reading one stream differently
//! (RFC 5321, 2.3.8 and 4.1.1.4).
//!
//! Must not know sockets, clocks, tracking or the configuration, and uses nothing else of this crate.

pub mod capability;
pub mod command;
pub mod data;
pub mod envelope;
pub mod line;
mod queue_id;
pub mod refusal;
pub mod reply;
pub mod xtext;
