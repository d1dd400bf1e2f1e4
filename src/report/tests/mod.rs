//! What a report must keep on its way through the mail.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod fields;
mod golden;
mod hostile;
mod law;
mod notices;
pub mod samples;
