//! What an operator sees of a running hop.

pub mod log;
pub mod session;
