//! The commands, a file each: arguments in, text and exit code out.

pub mod secret;
pub mod timeline;
