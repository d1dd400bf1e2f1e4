//! What an operator sees of a running hop.

mod backlog;
mod json;
pub mod log;
mod outlet;
pub mod session;
mod stamp;
pub mod turn;
