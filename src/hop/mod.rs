//! The proxy: the only listening sockets of hoptrail, and what happens on them. Joins the wire
//! (`smtp`) with the meaning (`track`), hands steps to the `store` before the client is answered, and
//! knows nothing of how a report is written or mailed.
//!
//! - `listener`: accepts, bounds, drains. `workers`: the threads that do the rest.
//! - `ingress`: the verbatim dialogue in front of an MTA.
//! - `transfer`: the dialogue of egress and delivery, which answer by themselves until the recipients' fate is known.
//! - `relay`, `passage`: its transaction at the next hop, and what is told of it.
//! - `client`, `wire`, `buffer`, `body`, `transaction`, `next_hop`, `limits`: what both dialogues are made of.
//!
//! The rule of the whole: mail outranks tracking. A client is answered with the next hop's own reply;
//! whatever fails on the tracking side costs a report and a log line.

mod body;
mod buffer;
mod client;
mod ingress;
pub mod limits;
pub mod listener;
pub mod next_hop;
mod passage;
mod relay;
mod transaction;
mod transfer;
mod wire;
pub mod workers;

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use tokio::sync::watch;
use tokio::time::timeout;
use tracing::{debug, error, info};

use crate::clock::Clock;
use crate::smtp::capability::Capabilities;
use crate::smtp::data::header_fields;
use crate::store::Store;
use crate::track::carry::{CARRY, Carry, Keyring, Opened};
use crate::track::{Step, StepId, TrackRequest, TrackingId};
use body::Head;
use client::Client;
use limits::{Limits, Timeouts};
use listener::Listener;
use next_hop::Manners;
use transaction::{Tracked, field_value, identify};

/// What all listeners of a hop share.
pub struct Hop {
    /// The hop's name.
    pub hostname: String,
    /// The hop's clock.
    pub clock: Clock,
    /// Where steps become durable, with the keys that sign carry headers; without them nothing is tracked.
    pub tracking: Option<Tracking>,
    /// An ingress mails its `accepted`.
    pub reports_arrivals: bool,
    /// Bounds.
    pub limits: Limits,
    /// Waits.
    pub timeouts: Timeouts,
    /// Turns true when hoptrail is told to stop.
    pub stopping: watch::Receiver<bool>,
}

/// What tracking needs beside the mail.
pub struct Tracking {
    /// The outbox and the journal.
    pub store: Store,
    /// The keys of the carry header.
    pub keys: Keyring,
}

impl Hop {
    /// A fresh step id; `None` (and no tracking) if the system has no randomness to give.
    pub fn step_id(&self) -> Option<StepId> {
        getrandom::u64().ok().map(StepId)
    }

    /// Makes a step durable, waiting no longer than configured. Never fails: a step that cannot be
    /// stored is a report lost, counted and logged, and the mail goes on.
    pub async fn record(&self, step: Step) {
        let Some(tracking) = &self.tracking else {
            return;
        };
        let (envid, id) = (step.report.id.clone(), step.report.step);
        let why = match timeout(self.timeouts.store(), tracking.store.put(step)).await {
            Ok(Ok(_)) => {
                debug!(hop = %self.hostname, envid = %envid, step = %id, "step recorded");
                return;
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => {
                tracking
                    .store
                    .counters()
                    .lost
                    .fetch_add(1, Ordering::Relaxed);
                format!("not durable within {} ms", self.timeouts.store_ms)
            }
        };
        error!(hop = %self.hostname, envid = %envid, step = %id, "report lost, mail goes on: {why}");
    }

    /// What the journal knows of a step.
    pub async fn recall(&self, id: StepId) -> Option<Step> {
        let tracking = self.tracking.as_ref()?;
        match timeout(self.timeouts.store(), tracking.store.step(id)).await {
            Ok(Ok(step)) => step,
            Ok(Err(error)) => {
                error!(hop = %self.hostname, step = %id, "journal unreadable: {error}");
                None
            }
            Err(_) => None,
        }
    }
}

/// One listener with the hop it belongs to.
pub struct Site {
    /// The hop.
    pub hop: Arc<Hop>,
    /// The listener.
    pub listener: Listener,
    /// What the next hop last offered; egress and delivery offer no more than that.
    pub known: Mutex<Option<Capabilities>>,
}

impl Site {
    /// What a connection to the next hop needs to know.
    pub fn manners(&self) -> Manners<'_> {
        Manners {
            hostname: &self.hop.hostname,
            clock: self.hop.clock,
            limits: &self.hop.limits,
            timeouts: &self.hop.timeouts,
        }
    }

    /// Whether a client of this listener is offered TRACK; `may_log_in` if AUTH is offered to it.
    pub fn offers_track(&self, client: &Client, may_log_in: bool) -> bool {
        let policy = &self.listener.policy;
        self.hop.tracking.is_some()
            && (self.honours(client) || (may_log_in && policy.allows_authenticated()))
    }

    /// Whether a request of this client is honoured.
    pub fn honours(&self, client: &Client) -> bool {
        self.hop.tracking.is_some()
            && self
                .listener
                .policy
                .allows(client.address.ip(), client.authenticated)
    }

    /// Takes up a request, unless it is for the null reverse-path (there is nobody to report to) or has
    /// come to its last hop.
    pub fn honour(
        &self,
        mut request: TrackRequest,
        reverse_path: &[u8],
        envid: Option<&str>,
    ) -> Option<Tracked> {
        if reverse_path.is_empty() || request.exhausted() {
            return None;
        }
        let step = self.hop.step_id()?;
        let random = u128::from(getrandom::u64().ok()?) << 64 | u128::from(getrandom::u64().ok()?);
        let id = identify(&mut request, envid, TrackingId::mint(random));
        Some(Tracked { id, step, request })
    }

    /// Takes every carry header that one of our keys made out of a message's start, and opens the first.
    /// Headers that no key of ours made are not ours and stay.
    pub fn take_carry(&self, head: &mut Head) -> Option<Opened> {
        let keys = &self.hop.tracking.as_ref()?.keys;
        let block = head.block();
        let found: Vec<_> = header_fields(block)
            .filter_map(|field| {
                let value = field_value(&block[field.clone()], CARRY)?;
                Some((field, Carry::open(value, keys)?))
            })
            .collect();
        let mut first = None;
        for (field, opened) in found.into_iter().rev() {
            head.remove(field);
            first = Some(opened);
        }
        first
    }
}

/// Logs how a tracked transaction went, with what an operator searches by.
fn log_step(hop: &Hop, step: &Step) {
    for recipient in &step.report.recipients {
        info!(
            hop = %hop.hostname,
            envid = %step.report.id,
            step = %step.report.step,
            event = %recipient.event,
            status = %recipient.status,
            queue_id = step.report.queue_id.as_deref().unwrap_or("-"),
            "tracked"
        );
    }
}
