//! The commands of the program, one file each.

pub mod secret;
pub mod send;
