//! Trails made by hand, from mails in a Maildir to what people and programs read.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod apart;
mod blamed;
mod clocks;
mod doubted;
mod drawn;
mod figures;
mod heard;
mod ids;
mod indexed;
mod lines;
mod listed;
mod many;
mod named;
mod odd;
mod paged;
mod refused;
mod several;
mod shown;
mod sources;
mod spent;
mod told;
mod trusted;
mod versions;
pub mod world;
