//! One leg of a transaction at an egress or a delivery: the recipients that go to one destination, from
//! MAIL to the last reply. Whatever goes wrong becomes a recipient's reply; nothing is ever accepted here.

use std::time::Duration;

use futures_util::FutureExt;
use tracing::{debug, warn};

use super::Site;
use super::deadline::Wait;
use super::next_hop::{ConnectError, NextHopAddr};
use super::onward::{mail_line, obstacle, rcpt_line};
use super::passage::{Onward, Passage};
use super::peer::Peer;
use super::route::Destination;
use super::transaction::{Fate, Mail, Outcome, Times};
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
    /// Whose fate is decided here: places in `Mail::rcpts`.
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
    pub times: Times,
    /// The next hop was given the request: it will report by itself.
    pub tracks: bool,
}

impl<'a> Leg<'a> {
    /// A leg for `members`, over the connection that is there, if any.
    pub fn new(site: &'a Site, to: Destination, members: Vec<usize>, peer: Option<Peer>) -> Self {
        let fates = vec![None; members.len()];
        Self {
            site,
            to,
            peer,
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

    /// MAIL, RCPT and, unless the message came in chunks and can go on so, DATA. Afterwards the next hop
    /// awaits the message ([`sink`](Self::sink)), or every member's fate is sealed.
    pub async fn open(&mut self, mail: &Mail, passage: Option<&Passage>, came: Framing) {
        self.begin(mail, passage, came).await;
        self.opened = true;
    }

    /// The time to open the transaction is over: one that is not open is given up, and nothing of the message goes
    /// there.
    pub fn cease_opening(&mut self) {
        if !self.opened {
            warn!(next_hop = %self.to, "not ready for the message in time");
            self.give_up(Reply::new(451, "4.4.1", own::NOT_READY));
        }
    }

    async fn begin(&mut self, mail: &Mail, passage: Option<&Passage>, came: Framing) {
        if let Err(outcome) = self.mail_accepted(mail, passage).await {
            return self.seal(&outcome);
        }
        self.recipients(mail).await;
        if self.fates.iter().all(Option::is_some) {
            return self.reset().await;
        }
        if came == Framing::Chunks && self.offers("CHUNKING") {
            self.framing = Framing::Chunks;
        } else {
            self.data().await;
        }
        self.stay_in_step();
    }

    /// What the next hop says ahead of the message is not its word about it; one that does cannot be followed.
    fn stay_in_step(&mut self) {
        let step = self.peer.as_ref().map(|peer| peer.wire.in_step());
        if let Some(Err(error)) = step {
            self.broke(&error);
        }
    }

    async fn data(&mut self) {
        let Some(peer) = self.peer.as_mut() else {
            return;
        };
        let clock = self.site.hop.clock;
        let command_us = clock.now_us();
        let reply = peer.command(b"DATA").await;
        self.times.record(Stage::Data, command_us, clock.now_us());
        match reply {
            Ok(reply) if reply.code == 354 => {}
            Ok(reply) => self.refused(reply).await,
            Err(error) => self.broke(&error),
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

    /// Sends octets of the message; a next hop that breaks off drops out.
    pub async fn send(&mut self, octets: &[u8]) {
        if let Some(wire) = self.sink()
            && let Err(error) = wire.write(octets).await
        {
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
        match self.peer.as_mut() {
            Some(peer) => peer.verdict(&mut self.patience).await,
            None => Err(WireError::Closed),
        }
    }

    fn heard(&mut self, reply: Result<Reply, WireError>) {
        let now_us = self.site.hop.clock.now_us();
        self.times.record(Stage::Dot, self.end_us, now_us);
        self.patience = Wait::For(self.site.hop.timeouts.final_reply());
        match reply {
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

    /// MAIL, on the connection that is there or on a new one: one that was used before may have been
    /// closed meanwhile, which is no failure.
    async fn mail_accepted(
        &mut self,
        mail: &Mail,
        passage: Option<&Passage>,
    ) -> Result<(), Outcome> {
        loop {
            let reused = self.peer.as_ref().is_some_and(|peer| peer.used);
            if self.peer.is_none() {
                self.peer = Some(self.connect().await?);
            }
            let reply = match self.mail(mail, passage).await {
                Ok(reply) => reply,
                Err(refusal) => return Err(self.outcome(refusal)),
            };
            match reply {
                Ok(reply) if reply.is_positive() => return Ok(()),
                Ok(reply) if !(reused && reply.code == 421) => {
                    return Err(self.outcome(not_positive(reply)));
                }
                Err(error) if !reused => {
                    warn!(next_hop = %self.to, "at MAIL: {error}");
                    let outcome = self.outcome(broken());
                    self.peer = None;
                    return Err(outcome);
                }
                _ => self.peer = None,
            }
        }
    }

    /// A connection to the destination: to the first of its hosts that can be used.
    async fn connect(&self) -> Result<Peer, Outcome> {
        let hosts: Vec<NextHopAddr> = match &self.to {
            Destination::Fixed(next_hop) => vec![next_hop.clone()],
            Destination::Domain(domain) => {
                let found = self
                    .site
                    .hop
                    .names
                    .hosts(domain, &self.site.hop.hostname)
                    .await;
                found.map_err(|error| self.outcome(error.reply()))?
            }
        };
        let mut last = None;
        for host in hosts {
            match Peer::connect(&host, self.site.manners(&host)).await {
                Ok(peer) => return Ok(peer),
                // One that greets with 5xx has no service now (RFC 5321, 3.1): that says nothing of the mail.
                Err(error) => {
                    debug!(next_hop = %host, "{error}");
                    last = Some((host, error));
                }
            }
        }
        Err(self.outcome(match last {
            // Or never will (RFC 7504, 3).
            Some((_, ConnectError::Refused(reply)))
                if reply.is_transient() || reply.code == 521 =>
            {
                reply
            }
            Some((host, error)) => Reply::new(
                451,
                error.status(),
                &format!("{}{host}: {error}", own::NEXT_HOP),
            ),
            None => Reply::new(451, "4.4.1", own::NO_NEXT_HOP),
        }))
    }

    /// Sends MAIL with what the next hop takes; the outer error is a refusal of our own.
    async fn mail(
        &mut self,
        mail: &Mail,
        passage: Option<&Passage>,
    ) -> Result<Result<Reply, WireError>, Reply> {
        let Some(peer) = self.peer.as_mut() else {
            return Ok(Err(WireError::Closed));
        };
        let clock = self.site.hop.clock;
        let members = self
            .members
            .iter()
            .filter_map(|place| mail.envelope.recipients.get(*place));
        let onward = passage.map(|p| p.onward(members, &peer.capabilities, clock.now_ms()));
        let onward = onward.unwrap_or_default();
        let rcpts = self
            .members
            .iter()
            .filter_map(|place| mail.rcpts.get(*place));
        if let Some(refusal) = obstacle(mail, rcpts.map(Vec::as_slice), &peer.capabilities) {
            return Err(refusal);
        }
        let line = mail_line(mail, passage, &onward, &peer.capabilities);
        peer.used = true;
        self.tracks = onward.track.is_some();
        self.times = Times::after(Some(peer.hello), peer.wire.security());
        let command_us = clock.now_us();
        let mut reply = peer.command(&line).await;
        if self.tracks && matches!(&reply, Ok(refusal) if refusal.is_permanent()) {
            // Mail outranks tracking: it may be the request that is refused, offered or not.
            self.tracks = false;
            let line = mail_line(mail, passage, &Onward::default(), &peer.capabilities);
            reply = peer.command(&line).await;
        }
        self.times.record(Stage::Mail, command_us, clock.now_us());
        Ok(reply)
    }

    /// RCPT for each member; the fate of those the next hop does not take is sealed.
    async fn recipients(&mut self, mail: &Mail) {
        let clock = self.site.hop.clock;
        for place in 0..self.members.len() {
            let (Some(peer), Some(rcpt)) =
                (self.peer.as_mut(), mail.rcpts.get(self.members[place]))
            else {
                return;
            };
            let line = rcpt_line(rcpt, &peer.capabilities);
            let command_us = clock.now_us();
            let reply = peer.command(&line).await;
            self.times.record(Stage::Rcpt, command_us, clock.now_us());
            match reply {
                Ok(reply) if reply.is_positive() => {}
                Ok(reply) => self.fates[place] = Some(self.outcome(not_positive(reply))),
                // Those it had taken are lost with the connection.
                Err(error) => return self.broke(&error),
            }
        }
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
            reply,
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
