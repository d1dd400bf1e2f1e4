//! The meaning of tracking: what an originator asks, how the request crosses a hop, and what a hop
//! has to say about a message. Pure values.
//!
//! Must not know SMTP syntax beyond attribute text, MIME, disk, network or the clock: times, ids and
//! randomness come in as values, so that every report can be reproduced.

pub mod action;
pub mod address;
pub mod asker;
pub mod carry;
pub mod certificate;
pub mod clean;
pub mod disclosure;
pub mod domain;
pub mod domain_key;
pub mod id;
mod letters;
pub mod mtrk;
pub mod own;
pub mod policy;
pub mod request;
pub mod stay;
pub mod step;
mod stored;
pub mod wish;

pub use action::{Event, Status};
pub use certificate::{Certificate, Secret};
pub use id::{StepId, TrackingId};
pub use request::TrackRequest;
pub use stay::Stay;
pub use step::{
    Asked, Exchange, Form, HopReport, RecipientStatus, Role, Security, Stage, Step, UNSEEN,
};
