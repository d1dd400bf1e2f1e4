//! How the transaction of a leg is opened, at the first host of its destination that does not put it off. Until one
//! awaits the message nothing of that has gone anywhere, so the next one can be tried (RFC 5321, 5.1).

use std::time::Duration;
use std::{mem, vec};

use tokio::time::{Instant, timeout};
use tracing::{debug, warn};

use super::{Framing, Leg, broken, not_positive};
use crate::hop::next_hop::{ConnectError, NextHopAddr};
use crate::hop::onward::{mail_line, obstacle, obstacle_for, rcpt_line};
use crate::hop::passage::{Onward, Passage};
use crate::hop::peer::Peer;
use crate::hop::route::Destination;
use crate::hop::transaction::{Mail, Outcome, Times};
use crate::hop::wire::WireError;
use crate::smtp::reply::Reply;
use crate::track::{Stage, own};

/// The hosts of a destination, and the time there is for all of them.
struct Hosts {
    /// Those that were not tried, the best first; `None` before they were looked up.
    left: Option<vec::IntoIter<NextHopAddr>>,
    /// One that was tried before that, over a connection that was there.
    tried: Option<NextHopAddr>,
    /// There are others than one.
    several: bool,
    end: Instant,
}

impl Hosts {
    fn of(to: &Destination, limit: Duration) -> Self {
        Self {
            left: None,
            tried: None,
            several: matches!(to, Destination::Domain(_)),
            end: Instant::now() + limit,
        }
    }

    /// How many can be tried behind the one that is, as far as that is known.
    fn others(&self) -> usize {
        let left = self.left.as_ref().map_or(1, ExactSizeIterator::len);
        if self.several { left } else { 0 }
    }

    /// What `work` at one host comes to, if it does in that host's share of the time: one that is silent must leave some
    /// to those behind it, and the last has all that is left.
    async fn in_share<T>(&self, work: impl Future<Output = T>) -> Result<T, WireError> {
        let Ok(others @ 1..) = u32::try_from(self.others()) else {
            return Ok(work.await);
        };
        let share = self.end.saturating_duration_since(Instant::now()) / (others + 1);
        timeout(share, work).await.map_err(|_| WireError::TimedOut)
    }

    fn next(&mut self) -> Option<NextHopAddr> {
        let tried = self.tried.as_ref();
        self.left.as_mut()?.find(|host| Some(host) != tried)
    }
}

impl Leg<'_> {
    /// MAIL, RCPT and, unless the message came in chunks and can go on so, DATA. Afterwards the next hop
    /// awaits the message ([`sink`](Self::sink)), or every member's fate is sealed.
    pub async fn open(&mut self, mail: &Mail, passage: Option<&Passage>, came: Framing) {
        let mut hosts = Hosts::of(&self.to, self.site.hop.timeouts.open());
        let mut put_off = None;
        loop {
            if self.peer.is_none()
                && let Err(outcome) = self.connect(&mut hosts).await
            {
                // What a host said tells more than that the others cannot be reached.
                match put_off {
                    Some(fates) => self.fates = fates,
                    None => self.seal(&outcome),
                }
                break;
            }
            self.begin(mail, passage, came, &hosts).await;
            if self.is_put_off() && hosts.others() > 0 {
                debug!(next_hop = %self.to, "put off by a host, the next one is tried");
                let nobody = vec![None; self.members.len()];
                put_off = Some(mem::replace(&mut self.fates, nobody));
                self.leave(&mut hosts).await;
            } else if self.peer.is_some() || self.fates.iter().all(Option::is_some) {
                break;
            }
        }
        self.opened = true;
    }

    /// The host wants nobody of the members now.
    fn is_put_off(&self) -> bool {
        let transient = |fate: &Outcome| fate.reply.is_transient();
        let mut fates = self.fates.iter();
        fates.all(|fate| fate.as_ref().is_some_and(transient))
    }

    async fn leave(&mut self, hosts: &mut Hosts) {
        if let Some(peer) = self.peer.take() {
            hosts.tried = hosts.tried.take().or_else(|| Some(peer.to.clone()));
            peer.quit().await;
        }
    }

    /// All of it at one host. One whose connection was there before may have closed it meanwhile, which is no failure:
    /// then there is no connection any more, and nobody's fate is sealed.
    async fn begin(
        &mut self,
        mail: &Mail,
        passage: Option<&Passage>,
        came: Framing,
        hosts: &Hosts,
    ) {
        self.refuse_those_it_cannot_name(mail);
        if self.fates.iter().all(Option::is_some) {
            return;
        }
        match hosts.in_share(self.mail_accepted(mail, passage)).await {
            Ok(true) => {}
            Ok(false) => return,
            Err(error) => return self.broke(&error),
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

    fn refuse_those_it_cannot_name(&mut self, mail: &Mail) {
        let Some(peer) = &self.peer else {
            return;
        };
        let refusals = self.members.iter().map(|place| {
            let rcpt = mail.rcpts.get(*place)?;
            obstacle_for(rcpt, mail, &peer.capabilities)
        });
        let refusals: Vec<_> = refusals.map(|r| r.map(|r| self.outcome(r))).collect();
        self.fates = refusals;
    }

    /// MAIL; whether it was accepted.
    async fn mail_accepted(&mut self, mail: &Mail, passage: Option<&Passage>) -> bool {
        let reused = self.peer.as_ref().is_some_and(|peer| peer.used);
        let outcome = match self.mail(mail, passage).await {
            Ok(Ok(reply)) if reply.is_positive() => return true,
            Ok(Ok(reply)) if !(reused && reply.code == 421) => self.outcome(not_positive(reply)),
            Ok(Err(error)) if !reused => {
                warn!(next_hop = %self.to, "at MAIL: {error}");
                let outcome = self.outcome(broken());
                self.peer = None;
                outcome
            }
            Ok(_) => {
                self.peer = None;
                self.fates.fill(None);
                return false;
            }
            Err(refusal) => self.outcome(refusal),
        };
        self.seal(&outcome);
        false
    }

    /// A connection to the destination: to the first of its hosts that can be used.
    async fn connect(&mut self, hosts: &mut Hosts) -> Result<(), Outcome> {
        if hosts.left.is_none() {
            hosts.left = Some(self.look_up().await?.into_iter());
        }
        let mut last = None;
        while let Some(host) = hosts.next() {
            let connecting = Peer::connect(&host, self.site.manners(&host));
            let connected = hosts.in_share(connecting).await;
            match connected.unwrap_or_else(|error| Err(error.into())) {
                Ok(peer) => {
                    self.peer = Some(peer);
                    return Ok(());
                }
                // One that greets with 5xx has no service now (RFC 5321, 3.1): that says nothing of the mail.
                Err(error) => {
                    debug!(next_hop = %host, "{error}");
                    last = Some((host, error));
                }
            }
        }
        Err(self.outcome(unreachable(last)))
    }

    async fn look_up(&self) -> Result<Vec<NextHopAddr>, Outcome> {
        let hop = &self.site.hop;
        match &self.to {
            Destination::Fixed(next_hop) => Ok(vec![next_hop.clone()]),
            Destination::Domain(domain) => {
                let found = hop.names.hosts(domain, &hop.hostname).await;
                found.map_err(|error| self.outcome(error.reply()))
            }
        }
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
        let followed = passage.zip(self.departure.as_ref());
        let onward = followed.map(|(passage, departure)| {
            let (step, now_ms) = (departure.step_id(), clock.now_ms());
            passage.onward(step, members, &peer.capabilities, now_ms)
        });
        let onward = onward.unwrap_or_default();
        if let Some(refusal) = obstacle(mail, &peer.capabilities) {
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

    /// RCPT for each member whose fate is open; that of those the next hop does not take is sealed.
    async fn recipients(&mut self, mail: &Mail) {
        let clock = self.site.hop.clock;
        for place in 0..self.members.len() {
            if self.fates[place].is_some() {
                continue;
            }
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
}

/// What is said where no host can be used, of which this was the last.
fn unreachable(last: Option<(NextHopAddr, ConnectError)>) -> Reply {
    match last {
        // Or never will (RFC 7504, 3).
        Some((_, ConnectError::Refused(reply))) if reply.is_transient() || reply.code == 521 => {
            reply
        }
        Some((host, error)) => Reply::new(
            451,
            error.status(),
            &format!("{}{host}: {error}", own::NEXT_HOP),
        ),
        None => Reply::new(451, "4.4.1", own::NO_NEXT_HOP),
    }
}
