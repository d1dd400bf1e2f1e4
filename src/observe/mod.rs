//! What an operator sees of a running hop.

mod json;
pub mod log;
pub mod session;
mod stamp;
pub mod turn;
