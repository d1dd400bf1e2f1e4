//! The proxy: the only listening sockets of hoptrail, and what happens on them. Joins the wire
//! (`smtp`) with the meaning (`track`), hands steps to the `store` before the client is answered, and
//! knows nothing of how a report is written or mailed.
//!
//! - `site`: a listener with its hop: who may ask there, and how much he is told.
//! - `listener`: accepts, bounds, drains. `workers`: the threads that do the rest.
//! - `admit`, `proxy`, `networks`: who gets a session, and who a client behind a balancer is.
//! - `ingress`: the verbatim dialogue in front of an MTA.
//! - `claim`: whether the domain of its reverse-path vouches for a stranger who asks.
//! - `transfer`: the dialogue of egress and delivery, which answer by themselves until the recipients' fate is known.
//! - `route`, `dispatch`, `leg`, `onward`: where its recipients go, and the transaction at each next hop.
//! - `carried`: which carry headers are the hop's own, and go no further.
//! - `passage`, `departure`, `origin`, `notify`: what is told of it, and of whom. `budget`: how much of that is mailed.
//! - `arriving`: what is on its way to the journal. `held`: what has come in and is not seen leaving.
//! - `introduce`: how an MTA learns who the client is.
//! - `client`, `wire`, `buffer`, `deadline`, `random`, `stopping`, `trouble`, `tls`, `head`, `header`, `body`, `chunk`,
//!   `digest`, `transaction`, `next_hop`, `connect`, `peer`, `limits`, `dsn`: what both dialogues are made of.
//!
//! The rule of the whole: mail outranks tracking. A client is answered with the next hop's own reply;
//! whatever fails on the tracking side costs a report and a log line.

mod admit;
mod arriving;
mod body;
mod budget;
mod buffer;
mod carried;
mod chunk;
mod claim;
mod client;
mod connect;
mod deadline;
mod departure;
mod digest;
mod dispatch;
mod head;
pub mod header;
pub mod held;
mod ingress;
pub mod introduce;
mod leg;
pub mod limits;
pub mod listener;
pub mod networks;
pub mod next_hop;
mod notify;
mod onward;
mod origin;
mod parameters;
mod passage;
mod peer;
mod proxy;
mod random;
pub mod route;
mod site;
mod stopping;
pub mod tls;
mod transaction;
mod transfer;
mod trouble;
mod wire;
pub mod workers;

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::timeout;
use tracing::{debug, error, info};

use crate::clock::Clock;
use crate::observe::turn;
use crate::store::{Put, Staying, Store};
use crate::track::carry::Keyring;
use crate::track::{Step, StepId};
pub use admit::Crowd;
pub use arriving::Arriving;
pub use budget::Budgets;
use deadline::Timer;
use limits::{Limits, Timeouts};
use route::Names;
pub use site::Site;
use trouble::Trouble;

/// What all listeners of a hop share. A reload makes a new one, for the sessions that begin after it.
pub struct Hop {
    /// The hop's name.
    pub hostname: String,
    /// The name for those who are told no more.
    pub organisation: String,
    /// The address its reports come from: mail to it answers one.
    pub reports_from: String,
    /// The hop's clock.
    pub clock: Clock,
    /// Where steps become durable, with the keys that sign carry headers. Until it is there nothing is tracked; from
    /// then on everything is, also in the sessions that are open: what one of them lets in leaves by another.
    pub tracking: Arc<OnceLock<Tracking>>,
    /// The name servers, for routes by MX.
    pub names: Arc<Names>,
    /// An ingress mails its `accepted`.
    pub reports_arrivals: bool,
    /// After how long what is not seen leaving is told of as held; `None` for never.
    pub held_after: Option<Duration>,
    /// Bounds.
    pub limits: Limits,
    /// Waits.
    pub timeouts: Timeouts,
    /// Who has how many sessions.
    pub crowd: Crowd,
    /// Who has caused how many reports.
    pub budgets: Budgets,
    /// Turns true when hoptrail is told to stop.
    pub stopping: watch::Receiver<bool>,
    /// Rung behind that, for the sessions that wait: they are many, and this is the smallest ear.
    pub bell: Arc<Notify>,
}

/// What tracking needs beside the mail.
pub struct Tracking {
    /// The outbox and the journal.
    pub store: Store,
    /// The keys of the carry header.
    pub keys: Keyring,
    /// Arrivals that are not on record yet.
    pub arriving: Arriving,
    /// Reports lost.
    losses: Mutex<Trouble>,
}

impl Tracking {
    /// One of a kind with these.
    pub fn new(store: Store, keys: Keyring, arriving: Arriving) -> Self {
        Self {
            store,
            keys,
            arriving,
            losses: Mutex::default(),
        }
    }
}

impl Hop {
    /// A fresh step id; `None` (and no tracking) if the system has no randomness to give.
    pub fn step_id(&self) -> Option<StepId> {
        random::number().map(|random| StepId::mint(self.clock.now_us(), random))
    }

    /// Makes a step durable, waiting no longer than configured. Never fails: a step that cannot be
    /// stored is a report lost, counted and logged, and the mail goes on. That may be so for every mail that comes, so
    /// the alarm is raised for many together.
    fn keep(&self, step: Step, timer: &mut Timer) -> impl Future<Output = Option<Put>> {
        let (envid, id) = (step.report.id.clone(), step.report.step);
        let tracking = self.tracking.get();
        // Each future around it would have room for it twice.
        let put = tracking.map(|tracking| Box::pin(tracking.store.put(step)));
        async move {
            let put = timer.within(self.timeouts.store(), put?).await;
            // What was logged of it is out before anybody hears of it.
            turn::end();
            let why = match put {
                Some(Ok(put)) => {
                    debug!(hop = %self.hostname, envid = %envid, step = %id, "step recorded");
                    return Some(put);
                }
                Some(Err(error)) => error.to_string(),
                None => {
                    let counters = tracking?.store.counters();
                    counters.lost.fetch_add(1, Ordering::Relaxed);
                    format!("not durable within {} ms", self.timeouts.store_ms)
                }
            };
            info!(hop = %self.hostname, envid = %envid, step = %id, "report lost, mail goes on");
            let losses = tracking?.losses.lock();
            losses
                .unwrap_or_else(PoisonError::into_inner)
                .count(|reports| {
                    error!(hop = %self.hostname, reports, "REPORTS ARE LOST, mail goes on: {why}");
                });
            None
        }
    }

    /// What the journal knows of a step. One that is on its way there is waited for: an MTA may pass a
    /// message on before it has answered for it.
    pub async fn recall(&self, id: StepId) -> Option<Step> {
        let tracking = self.tracking.get()?;
        let limit = self.timeouts.store();
        tracking.arriving.settled(id, limit).await;
        match timeout(limit, tracking.store.step(id)).await {
            Ok(Ok(step)) => step,
            Ok(Err(error)) => {
                error!(hop = %self.hostname, step = %id, "journal unreadable: {error}");
                None
            }
            Err(_) => None,
        }
    }

    /// The stay of the message that came with this step, if it goes on and is known in time.
    async fn stay_of(&self, arrival: StepId) -> Option<Staying> {
        let store = &self.tracking.get()?.store;
        let stay = timeout(self.timeouts.store(), store.stay_of(arrival)).await;
        stay.ok()?.ok()?
    }
}

/// Logs how a tracked transaction went, with what an operator searches by.
fn log_step(hop: &Hop, step: &Step) {
    for recipient in &step.report.recipients {
        info!(
            hop = hop.hostname,
            envid = step.report.id.as_str(),
            step = %step.report.step,
            event = recipient.event.as_str(),
            status = %recipient.status,
            queue_id = step.report.queue_id.as_deref().unwrap_or("-"),
            "tracked"
        );
    }
}
