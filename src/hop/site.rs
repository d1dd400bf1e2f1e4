//! One listener with the hop it belongs to: who may ask there, whose request is taken up, and how much is told of it.
//! Speaks to nobody.

use std::sync::Arc;

use tracing::{debug, warn};

use super::Hop;
use super::budget::Spent;
use super::client::{Client, MALFORMED_TRACK};
use super::deadline::Timer;
use super::header::{is_caused, received};
use super::ingress::Offers;
use super::listener::Listener;
use super::next_hop::{Manners, NextHopAddr};
use super::random;
use super::transaction::{Recipient, Tracked, envid, identify};
use crate::smtp::envelope::EnvelopeCommand;
use crate::smtp::refusal::Refusal;
use crate::store::Put;
use crate::track::asker::Asker;
use crate::track::disclosure::Extent;
use crate::track::{Asked, Form, Role, Step, TrackRequest, TrackingId};

/// One listener with the hop it belongs to.
pub struct Site {
    /// The hop.
    pub hop: Arc<Hop>,
    /// The listener.
    pub listener: Listener,
    /// What the MTA behind an ingress offers.
    pub(super) offers: Offers,
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
    pub fn received(&self, asker: Asker, header: &[u8]) -> Option<String> {
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
        self.hop.tracking.get().is_some()
            && (self.asker(client).is_some()
                || (may_log_in && policy.allows_authenticated())
                || self.hears_strangers())
    }

    /// What a client is whose request needs no proof; nobody is where nothing is tracked.
    pub fn asker(&self, client: &Client) -> Option<Asked> {
        self.hop.tracking.get()?;
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
