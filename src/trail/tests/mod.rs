//! Trails made by hand, from mails in a Maildir to what people and programs read.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod figures;
mod shown;
mod told;
mod trusted;
mod world;
