//! hoptrail gives mail a waybill: every hop reports each step back to the originator, and a timeline
//! shows where a message is, how long each step took and where it got stuck.
//!
//! The life of a tracked message, one direction only:
//!
//! ```text
//! bytes ─▶ smtp ─▶ hop::ingress ─▶ (MTA) ─▶ hop::transfer ─▶ next hop
//!                     │ track::carry crosses the MTA │
//!                     └──────────── track::Step ─────┘
//!                                      ▼
//!                     store (durable before the client's 250) ─▶ report::write ─▶ mail
//!                                                                                 │
//! trail::render ◀─ trail::assemble ◀─ report::read ◀─ trail::source (mailbox) ◀──┘
//! ```

pub mod cli;
pub mod clock;
pub mod config;
pub mod hop;
pub mod observe;
pub mod report;
pub mod smtp;
pub mod store;
pub mod track;
pub mod trail;
