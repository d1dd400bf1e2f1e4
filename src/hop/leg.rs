//! One leg of a transaction at an egress or a delivery: the recipients that go to one destination, from
//! MAIL to the last reply. Whatever goes wrong becomes a recipient's reply; nothing is ever accepted here.

mod opening;

use std::time::Duration;

use futures_util::FutureExt;
use tracing::warn;

use super::Site;
use super::deadline::Wait;
use super::departure::{Departure, Part};
use super::peer::Peer;
use super::route::Destination;
use super::transaction::{Batch, Fate, Outcome, Times, no_verdict};
use super::wire::{Wire, WireError};
use crate::smtp::reply::Reply;
use crate::track::{Stage, own};

/// How long a next hop that broke off is listened to for its reason.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// How a message goes over the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// Behind DATA, up to the dot.
    Data,
    /// In chunks, by count (RFC 3030).
    Chunks,
}

/// One leg under way.
pub struct Leg<'a> {
    site: &'a Site,
    to: Destination,
    peer: Option<Peer>,
    /// Of a tracked message.
    departure: Option<Departure>,
    /// Whose fate is decided here: places in `Mail::rcpts`, in order.
    members: Vec<usize>,
    /// How they fared, beside `members`; `None` while the next hop has it in hand.
    fates: Vec<Option<Outcome>>,
    /// How the message goes to it.
    framing: Framing,
    /// The transaction is open, or has come to nothing.
    opened: bool,
    /// The moment just before the end of the message went out, µs.
    end_us: i64,
    /// How long the next reply to it is waited for.
    patience: Wait,
    /// The exchanges with the next hop.
    times: Times,
    /// The next hop was given the request: it will report by itself.
    tracks: bool,
}

impl<'a> Leg<'a> {
    /// A leg for `members`, over the connection that is there, if any.
    pub fn new(
        site: &'a Site,
        to: Destination,
        members: Vec<usize>,
        peer: Option<Peer>,
        departure: Option<Departure>,
    ) -> Self {
        let fates = vec![None; members.len()];
        Self {
            site,
            to,
            peer,
            departure,
            members,
            fates,
            framing: Framing::Data,
            opened: false,
            end_us: 0,
            patience: Wait::For(site.hop.timeouts.final_reply()),
            times: Times::default(),
            tracks: false,
        }
    }

    /// The time to open the transaction is over: one that is not open is given up, and nothing of the message goes
    /// there.
    pub fn cease_opening(&mut self) {
        if !self.opened {
            warn!(next_hop = %self.to, "not ready for the message in time");
            self.give_up(Reply::new(451, "4.4.1", own::NOT_READY));
        }
    }

    /// What the next hop says ahead of the message is not its word about it; one that does cannot be followed.
    fn stay_in_step(&mut self) {
        let step = self.peer.as_ref().map(|peer| peer.wire.in_step());
        if let Some(Err(error)) = step {
            self.broke(&error);
        }
    }

    /// How the message goes to the next hop, if it awaits it.
    pub fn awaits(&self) -> Option<Framing> {
        let open = self.peer.is_some() && self.fates.iter().any(Option::is_none);
        open.then_some(self.framing)
    }

    /// Where the message goes, if the next hop awaits it.
    pub fn sink(&mut self) -> Option<&mut Wire> {
        self.awaits()?;
        self.peer.as_mut().map(|peer| &mut peer.wire)
    }

    /// The next hop went away in the message; if it said why, that is what the members are told.
    pub async fn failed(&mut self, error: WireError) {
        let octets_max = self.site.hop.limits.reply_octets_max;
        let last = match self.peer.as_mut() {
            Some(peer) => peer.wire.reply(octets_max, LAST_WORDS).await.ok(),
            None => None,
        };
        match last {
            Some(reply) => self.give_up(not_positive(reply)),
            None => self.broke(&error),
        }
    }

    /// Sends octets of the message, to its end or that of a chunk if it `ends`; a next hop that breaks off, or has answered
    /// for it already, drops out.
    pub async fn send(&mut self, octets: &[u8], ends: bool) {
        let Some(wire) = self.sink() else {
            return;
        };
        let sent = if ends && wire.is_ahead().await {
            Err(WireError::OutOfStep)
        } else {
            wire.write(octets).await
        };
        if let Err(error) = sent {
            self.failed(error).await;
        }
    }

    /// Reads the reply to a chunk that is not the last.
    pub async fn chunk_taken(&mut self) {
        if self.awaits() != Some(Framing::Chunks) {
            return;
        }
        let Some(peer) = self.peer.as_mut() else {
            return;
        };
        match peer.reply().await {
            Ok(reply) if reply.is_positive() => self.stay_in_step(),
            Ok(reply) => self.refused(reply).await,
            Err(error) => self.broke(&error),
        }
    }

    /// What the next hop has of the message must not be completed: this is its members' fate.
    pub fn give_up(&mut self, reply: Reply) {
        let outcome = self.outcome(reply);
        self.seal(&outcome);
        self.peer = None;
    }

    /// The end of the message goes out at `end_us`: the dot, or the last chunk from its command on. The first reply
    /// to it is waited for no longer than `patience`.
    pub fn ends(&mut self, end_us: i64, patience: Duration) {
        self.end_us = end_us;
        self.patience = Wait::For(patience);
    }

    /// The message is over: reads the next reply to its end, and what has come with that. Each holds for its
    /// recipient, whatever becomes of the others: one who is told to send again what was taken gets it twice.
    /// Cancel-safe.
    pub async fn hear(&mut self) {
        let reply = self.verdict().await;
        self.heard(reply);
        while self.awaits().is_some()
            && let Some(reply) = self.verdict().now_or_never()
        {
            self.heard(reply);
        }
    }

    async fn verdict(&mut self) -> Result<Reply, WireError> {
        let is_last = self
            .fates
            .iter()
            .filter(|fate| fate.is_none())
            .nth(1)
            .is_none();
        match self.peer.as_mut() {
            Some(peer) => peer.verdict(is_last, &mut self.patience).await,
            None => Err(WireError::Closed),
        }
    }

    fn heard(&mut self, reply: Result<Reply, WireError>) {
        let now_us = self.site.hop.clock.now_us();
        self.times.record(Stage::Dot, self.end_us, now_us);
        self.patience = Wait::For(self.site.hop.timeouts.final_reply());
        match reply {
            Ok(reply) if !matches!(reply.class(), 2 | 4 | 5) => self.give_up(no_verdict(&reply)),
            Ok(reply) => {
                let outcome = self.outcome(reply);
                if !self.peer.as_ref().is_some_and(Peer::answers_each) {
                    self.seal(&outcome);
                } else if let Some(next) = self.fates.iter_mut().find(|fate| fate.is_none()) {
                    *next = Some(outcome);
                }
            }
            Err(error) => self.broke(&error),
        }
    }

    /// Whether it is known how this member fared.
    pub fn knows(&self, member: usize) -> bool {
        self.peer.is_none() || self.fates.get(member).is_some_and(Option::is_some)
    }

    /// How this member fared, if that is known.
    pub fn fate(&self, member: usize) -> Option<Fate> {
        let lost = || self.peer.is_none().then(|| self.outcome(broken()));
        let outcome = self.fates.get(member)?.clone().or_else(lost)?;
        Some(Fate {
            outcome,
            tracks: self.tracks,
            notifies: self.offers("DSN"),
        })
    }

    /// What is to be told of a batch here, if the message is tracked and members are in it.
    pub fn part(&mut self, batch: &Batch) -> Option<Part<'_>> {
        let begin = self.members.partition_point(|place| *place < batch.from);
        let end = self.members.partition_point(|place| *place < batch.end());
        let places = self.members.get(begin..end).filter(|p| !p.is_empty())?;
        let fates = places.iter().filter_map(|place| batch.fate(*place));
        let went_on = self.tracks && { fates }.any(|fate| !fate.outcome.reply.is_permanent());
        let all = places.len() == self.members.len();
        let departure = self.departure.as_mut()?;
        Some(Part {
            step: departure.next_step(self.site, all, went_on)?,
            places,
            times_out: self.times.clone(),
        })
    }

    /// The connection, if it can be used again.
    pub fn kept(self) -> Option<(Destination, Peer)> {
        let unused = |peer: &Peer| peer.wire.in_step().is_ok();
        let peer = self.peer.filter(unused)?;
        Some((self.to, peer))
    }

    /// What the next hop offers; nothing is known of one that was not reached.
    pub fn offers(&self, keyword: &str) -> bool {
        self.peer
            .as_ref()
            .is_some_and(|peer| peer.capabilities.offers(keyword))
    }

    /// Gives everybody whose fate is open this one.
    fn seal(&mut self, outcome: &Outcome) {
        for fate in &mut self.fates {
            fate.get_or_insert_with(|| outcome.clone());
        }
    }

    /// The next hop wants no more of this transaction.
    async fn refused(&mut self, reply: Reply) {
        let outcome = self.outcome(not_positive(reply));
        self.seal(&outcome);
        self.reset().await;
    }

    /// Ends a transaction that came to nothing, so that the connection can be used again.
    async fn reset(&mut self) {
        let Some(peer) = self.peer.as_mut() else {
            return;
        };
        let reply = peer.command(b"RSET").await;
        if !reply.is_ok_and(|reply| reply.is_positive()) {
            self.peer = None;
        }
    }

    fn outcome(&self, reply: Reply) -> Outcome {
        let configured = || match &self.to {
            Destination::Fixed(next_hop) => next_hop.host.clone(),
            Destination::Domain(domain) => domain.clone(),
        };
        Outcome {
            reply: reply.in_one_code(),
            remote_mta: self
                .peer
                .as_ref()
                .map_or_else(configured, |peer| peer.name.clone()),
            at_us: self.site.hop.clock.now_us(),
        }
    }

    /// The connection broke: it is given up, and with it everybody whose fate is open.
    fn broke(&mut self, error: &WireError) {
        warn!(next_hop = %self.to, "{error}");
        self.give_up(broken());
    }
}

fn broken() -> Reply {
    Reply::new(451, "4.4.2", own::LOST)
}

/// A reply where only a failure can stand: a server that says 2xx there has not taken the message.
fn not_positive(reply: Reply) -> Reply {
    if reply.is_transient() || reply.is_permanent() {
        reply
    } else {
        broken()
    }
}
