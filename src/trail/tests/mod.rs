//! Trails made by hand, from mails in a Maildir to what people and programs read.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod indexed;
mod shown;
mod sources;
mod told;
mod world;
