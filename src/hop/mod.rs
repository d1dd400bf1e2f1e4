//! The proxy: the only listening sockets of hoptrail, and what happens on them. Joins the wire
//! (`smtp`) with the meaning (`track`), hands steps to the `store` before the client is answered, and
//! knows nothing of how a report is written or mailed.
//!
//! - `listener`: accepts, bounds, drains. `workers`: the threads that do the rest.
//! - `admit`, `proxy`, `networks`: who gets a session, and who a client behind a balancer is.
//! - `ingress`: the verbatim dialogue in front of an MTA.
//! - `claim`: whether the domain of its reverse-path vouches for a stranger who asks.
//! - `transfer`: the dialogue of egress and delivery, which answer by themselves until the recipients' fate is known.
//! - `route`, `dispatch`, `leg`, `onward`: where its recipients go, and the transaction at each next hop.
//! - `carried`: which carry headers are the hop's own, and go no further.
//! - `passage`, `origin`, `notify`: what is told of it, and of whom. `budget`: how much of that is mailed.
//! - `arriving`: what is on its way to the journal. `held`: what has come in and is not seen leaving.
//! - `introduce`: how an MTA learns who the client is.
//! - `client`, `wire`, `buffer`, `deadline`, `random`, `stopping`, `tls`, `head`, `header`, `body`, `chunk`, `digest`,
//!   `transaction`, `next_hop`, `connect`, `peer`, `limits`: what both dialogues
//!   are made of.
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
mod digest;
mod dispatch;
mod head;
mod header;
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
mod passage;
mod peer;
mod proxy;
mod random;
pub mod route;
mod stopping;
pub mod tls;
mod transaction;
mod transfer;
mod wire;
pub mod workers;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::timeout;
use tracing::{debug, error, info, warn};

use crate::clock::Clock;
use crate::smtp::envelope::EnvelopeCommand;
use crate::smtp::refusal::Refusal;
use crate::store::{Put, Staying, Store};
use crate::track::asker::Asker;
use crate::track::carry::Keyring;
use crate::track::disclosure::Extent;
use crate::track::{Asked, Form, Role, Step, StepId, TrackRequest, TrackingId};
pub use admit::Crowd;
pub use arriving::Arriving;
pub use budget::Budgets;
use budget::Spent;
use client::{Client, MALFORMED_TRACK};
use deadline::Timer;
use header::{is_caused, received};
use ingress::Offers;
use limits::{Limits, Timeouts};
use listener::Listener;
use next_hop::{Manners, NextHopAddr};
use route::Names;
use transaction::{Recipient, Tracked, envid, identify};

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
    /// Where steps become durable, with the keys that sign carry headers; without them nothing is tracked.
    pub tracking: Option<Tracking>,
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
}

impl Hop {
    /// A fresh step id; `None` (and no tracking) if the system has no randomness to give.
    pub fn step_id(&self) -> Option<StepId> {
        random::number().map(StepId)
    }

    /// Makes a step durable, waiting no longer than configured. Never fails: a step that cannot be
    /// stored is a report lost, counted and logged, and the mail goes on.
    fn keep(&self, step: Step, timer: &mut Timer) -> impl Future<Output = Option<Put>> {
        let (envid, id) = (step.report.id.clone(), step.report.step);
        let store = self.tracking.as_ref().map(|tracking| &tracking.store);
        let put = store.map(|store| store.put(step));
        async move {
            let why = match timer.within(self.timeouts.store(), put?).await {
                Some(Ok(put)) => {
                    debug!(hop = %self.hostname, envid = %envid, step = %id, "step recorded");
                    return Some(put);
                }
                Some(Err(error)) => error.to_string(),
                None => {
                    store?.counters().lost.fetch_add(1, Ordering::Relaxed);
                    format!("not durable within {} ms", self.timeouts.store_ms)
                }
            };
            error!(hop = %self.hostname, envid = %envid, step = %id, "report lost, mail goes on: {why}");
            None
        }
    }

    /// What the journal knows of a step. One that is on its way there is waited for: an MTA may pass a
    /// message on before it has answered for it.
    pub async fn recall(&self, id: StepId) -> Option<Step> {
        let tracking = self.tracking.as_ref()?;
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
        let store = &self.tracking.as_ref()?.store;
        let stay = timeout(self.timeouts.store(), store.stay_of(arrival)).await;
        stay.ok()?.ok()?
    }
}

/// One listener with the hop it belongs to.
pub struct Site {
    /// The hop.
    pub hop: Arc<Hop>,
    /// The listener.
    pub listener: Listener,
    /// What the MTA behind an ingress offers.
    offers: Offers,
}

impl Site {
    /// A listener of this hop, its next hop not yet known.
    pub fn new(hop: Arc<Hop>, listener: Listener) -> Self {
        Self {
            hop,
            listener,
            offers: Offers::default(),
        }
    }

    /// What a connection to this next hop needs to know.
    pub fn manners(&self, to: &NextHopAddr) -> Manners<'_> {
        Manners {
            hostname: &self.hop.hostname,
            clock: self.hop.clock,
            limits: &self.hop.limits,
            timeouts: &self.hop.timeouts,
            tls: self.listener.next_hop_tls.towards(&to.host),
        }
    }

    /// Makes a step durable, and has it told as far as the asker may know and his budgets go. The wait is timed by
    /// the session's timer: one for each message would be the earliest of all, and setting that wakes the event loop.
    pub fn record(&self, mut step: Step, timer: &mut Timer) -> impl Future<Output = ()> {
        let spent = self.ration(&mut step);
        // Holds no step, which is large: there is one of these for each message under way.
        let kept = self.hop.keep(step, timer);
        async move {
            let put = kept.await;
            if let Some(spent) = spent.filter(|_| put != Some(Put::Queued)) {
                self.hop.budgets.give_back(spent);
            }
        }
    }

    /// Settles how much of a step is told. Returns what a report takes out of the budgets, if there is one.
    fn ration(&self, step: &mut Step) -> Option<Spent> {
        let (hop, policy) = (&self.hop, &self.listener.policy);
        // A delivery status notification is owed (RFC 3461, 5.2.2).
        let asked = step.asked.filter(|_| step.told == Some(Form::Report));
        let extent = asked.map(|asked| policy.disclose.to(asked.by));
        match extent {
            None | Some(Extent::Full) => {}
            Some(Extent::Organisation) => step.organisation = Some(hop.organisation.clone()),
            Some(Extent::Silent) => step.told = None,
        }
        let reports_max = asked.map_or(0, |asked| policy.reports_per_hour_max(asked.by));
        if step.told.is_none() || reports_max == 0 {
            return None;
        }
        let spent = hop.budgets.spend(step, reports_max, hop.clock.now_ms());
        if spent.is_none() {
            step.told = None;
            warn!(
                hop = %hop.hostname,
                envid = %step.report.id,
                step = %step.report.step,
                originator = step.originator,
                "over budget: remembered, not mailed"
            );
        }
        spent
    }

    /// Whether this asker is told anything here.
    pub fn tells(&self, asker: Asker) -> bool {
        self.listener.policy.disclose.to(asker) != Extent::Silent
    }

    /// The Received fields of a message, if this asker may know them.
    fn received(&self, asker: Asker, header: &[u8]) -> Option<String> {
        let policy = &self.listener.policy;
        let may_know = policy.received && policy.disclose.to(asker) == Extent::Full;
        may_know.then(|| received(header))
    }

    /// Whether this asker is told of an arrival by itself.
    pub fn tells_arrivals(&self, asker: Asker) -> bool {
        self.hop.reports_arrivals && self.tells(asker)
    }

    /// Whether a client of this listener is offered TRACK; `may_log_in` if AUTH is offered to it.
    pub fn offers_track(&self, client: &Client, may_log_in: bool) -> bool {
        let policy = &self.listener.policy;
        self.hop.tracking.is_some()
            && (self.asker(client).is_some()
                || (may_log_in && policy.allows_authenticated())
                || self.hears_strangers())
    }

    /// What a client is whose request needs no proof; nobody is where nothing is tracked.
    pub fn asker(&self, client: &Client) -> Option<Asked> {
        self.hop.tracking.as_ref()?;
        let ip = client.ends.client.ip();
        let by = self.listener.policy.asker(ip, client.authenticated)?;
        Some(Asked { by, from: Some(ip) })
    }

    /// Whether anybody may ask for whom the domain of the reverse-path vouches. Behind the MTA, which is then
    /// the client, that proves nothing.
    pub fn hears_strangers(&self) -> bool {
        self.listener.role == Role::Ingress && self.listener.policy.allows_strangers()
    }

    /// What MAIL asks for, if this client may ask; that of a stranger is still to be proven. Where strangers are
    /// not heard their TRACK is dropped in silence, whatever it says; who may ask is told about a mistake.
    pub fn request(
        &self,
        client: &Client,
        mail: &EnvelopeCommand<'_>,
        offered: bool,
    ) -> Result<Option<Box<Tracked>>, Refusal> {
        let Some(value) = mail.param("TRACK").filter(|_| offered) else {
            return Ok(None);
        };
        let stranger = || {
            self.hears_strangers().then(|| Asked {
                by: Asker::Verified,
                from: Some(client.ends.client.ip()),
            })
        };
        let Some(asked) = self.asker(client).or_else(stranger) else {
            return Ok(None);
        };
        let once = value.filter(|_| mail.count("TRACK") == 1);
        let request = TrackRequest::parse(once.ok_or(MALFORMED_TRACK)?).map_err(|error| {
            debug!("{error}");
            MALFORMED_TRACK
        })?;
        Ok(self.honour(request, asked, mail.mailbox(), envid(mail).as_deref()))
    }

    /// Takes up a request, unless its reverse-path is null or no text (there is nobody to report to) or it has
    /// come to its last hop.
    pub fn honour(
        &self,
        mut request: TrackRequest,
        asked: Asked,
        reverse_path: &[u8],
        envid: Option<&str>,
    ) -> Option<Box<Tracked>> {
        let nobody = reverse_path.is_empty() || !can_be_told(reverse_path);
        if nobody || request.exhausted() {
            return None;
        }
        let step = self.hop.step_id()?;
        let minted = TrackingId::mint(u128::from_be_bytes(random::octets()?));
        let id = identify(&mut request, envid, minted);
        Some(Box::new(Tracked {
            id,
            step,
            request,
            mtrk: None,
            asked,
            received: None,
            claim: None,
            ring: Vec::new(),
            crosses: false,
        }))
    }

    /// Why a message is one that nothing is ever reported on, whoever sends it: a report may have caused it.
    pub fn caused(&self, header: &[u8], recipients: &[Recipient]) -> Option<&'static str> {
        let to_us = |to: &Recipient| to.address.eq_ignore_ascii_case(&self.hop.reports_from);
        if recipients.iter().any(to_us) {
            return Some("an answer to a report");
        }
        is_caused(header)
    }
}

/// Whether a report can be addressed there: text, and nothing that would end an address early.
fn can_be_told(reverse_path: &[u8]) -> bool {
    let breaks = |b: &u8| matches!(b, b'<' | b'>');
    std::str::from_utf8(reverse_path).is_ok() && !reverse_path.iter().any(breaks)
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
