//! A transaction of an egress or a delivery spread over its destinations: the legs are opened side by
//! side, the message streams to all of them at once, and the outcomes come back in the client's order, each as
//! soon as it is known and so are those before it.
//!
//! A client gives up a message whose end is not answered in time (RFC 5321, 4.5.3.2.6: 10 minutes), and sends again
//! what some of its recipients have. So everything that may come before its first reply has one bound: the opening, at
//! all destinations together, `open_s`; and that with the wait for the reply `final_reply_s`. The next replies have
//! that time each, as they have of the client.

mod chunks;

use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::join_all;
use futures_util::stream::FuturesUnordered;
use tokio::time::timeout;

use super::Site;
use super::body::{Body, BodyError};
use super::deadline::Timer;
use super::departure::Part;
use super::leg::{Framing, Leg};
use super::passage::Passage;
use super::peer::Peer;
use super::route::Destination;
use super::transaction::{Batch, Fate, Mail};
use crate::smtp::data::stuff::Stuffer;

/// Connections a session keeps for its next transaction.
const KEPT_MAX: usize = 8;

/// What is to be told of recipients together waits so long for more of them: a store that answers for one after the
/// other makes one report of it.
const GATHER: Duration = Duration::from_millis(200);

/// Open connections of a session, by where they lead.
#[derive(Default)]
pub struct Peers {
    open: Vec<(Destination, Peer)>,
    /// For the opening of its transactions.
    timer: Timer,
}

impl Peers {
    fn take(&mut self, to: &Destination) -> Option<Peer> {
        let at = self.open.iter().position(|(known, _)| known == to)?;
        Some(self.open.swap_remove(at).1)
    }

    /// Says goodbye to all.
    pub async fn quit(self) {
        join_all(self.open.into_iter().map(|(_, peer)| peer.quit())).await;
    }
}

/// A transaction under way. Dropped before its end, as when the client goes away, it cuts every connection, so
/// that no next hop completes what the client did not.
pub struct Dispatch<'a> {
    site: &'a Site,
    legs: Vec<Leg<'a>>,
    /// For each recipient, in the client's order, the leg and the place there.
    places: Vec<(usize, usize)>,
    /// How long it took to open it.
    opening: Duration,
    /// What chunks become for next hops that take none.
    stuffer: Stuffer,
}

impl<'a> Dispatch<'a> {
    /// Opens the transaction at every recipient's next hop, for a message that came so.
    pub async fn open(
        site: &'a Site,
        peers: &mut Peers,
        mail: &Mail,
        passage: Option<&Passage>,
        came: Framing,
    ) -> Self {
        let begun_us = site.hop.clock.now_us();
        let groups = destinations(site, mail);
        let places = places(&groups, mail.rcpts.len());
        let mut legs: Vec<Leg<'_>> = groups
            .into_iter()
            .enumerate()
            .map(|(n, (to, members))| {
                let peer = peers.take(&to);
                let departure = passage.and_then(|passage| passage.departure(site, n));
                Leg::new(site, to, members, peer, departure)
            })
            .collect();
        let opening = join_all(legs.iter_mut().map(|leg| leg.open(mail, passage, came)));
        let limit = site.hop.timeouts.open();
        if peers.timer.within(limit, opening).await.is_none() {
            legs.iter_mut().for_each(Leg::cease_opening);
        }
        Self {
            site,
            legs,
            places,
            opening: since(begun_us, site),
            stuffer: Stuffer::new(site.listener.bare_newline),
        }
    }

    /// A message that came behind DATA, to every leg that awaits it; a leg that breaks off drops out, the
    /// others go on.
    pub async fn body(&mut self, head: Vec<u8>, body: &mut Body<'_>) -> Result<(), BodyError> {
        let broken = {
            let mut sinks: Vec<_> = self.legs.iter_mut().map(Leg::sink).collect();
            body.pass_to(head, &mut sinks).await?
        };
        for (place, error) in broken {
            if let Some(leg) = self.legs.get_mut(place) {
                leg.failed(error).await;
            }
        }
        body.drain().await?;
        let (dot_us, patience) = (body.dot_us, self.patience(body.dot_us));
        self.legs
            .iter_mut()
            .for_each(|leg| leg.ends(dot_us, patience));
        Ok(())
    }

    /// How long the first reply to a message may take whose end went out at `end_us`. What it took to open the
    /// transaction is taken off: the client may have sent all of it before. But a next hop that has a message is not
    /// left without time for its reply, whatever the configuration says.
    fn patience(&self, end_us: i64) -> Duration {
        let limit = self.site.hop.timeouts.final_reply();
        let passed = self.opening.saturating_add(since(end_us, self.site));
        limit.saturating_sub(passed).max(limit / 2)
    }

    /// The message is over: how those fared who come next in the client's order, from this place on, as soon as that is
    /// known of the first. `gathers` waits a moment for more of them.
    pub async fn next(&mut self, from: usize, gathers: bool) -> Batch {
        while !self.is_known(from) {
            self.hear().await;
        }
        if gathers && self.is_awaited() {
            let all = async {
                while self.is_awaited() {
                    self.hear().await;
                }
            };
            // It does not matter which of the two ended the wait.
            let _ = timeout(GATHER, all).await;
        }
        let fates = (from..self.places.len()).map_while(|place| self.fate(place));
        Batch {
            from,
            fates: fates.collect(),
        }
    }

    /// Waits until more is known. Cancel-safe.
    async fn hear(&mut self) {
        if let [only] = self.legs.as_mut_slice() {
            return only.hear().await;
        }
        let awaited = self.legs.iter_mut().filter(|leg| leg.awaits().is_some());
        let mut heard: FuturesUnordered<_> = awaited.map(Leg::hear).collect();
        heard.next().await;
    }

    fn is_awaited(&self) -> bool {
        self.legs.iter().any(|leg| leg.awaits().is_some())
    }

    fn is_known(&self, place: usize) -> bool {
        let (leg, member) = self.places.get(place).copied().unwrap_or_default();
        self.legs.get(leg).is_none_or(|leg| leg.knows(member))
    }

    fn fate(&self, place: usize) -> Option<Fate> {
        let (leg, member) = *self.places.get(place)?;
        self.legs.get(leg)?.fate(member)
    }

    /// What is to be told of a batch, by the next hop.
    pub fn parts<'b>(&'b mut self, batch: &'b Batch) -> impl Iterator<Item = Part<'b>> {
        self.legs.iter_mut().filter_map(|leg| leg.part(batch))
    }

    /// Everything is known: keeps the connections that can be used again.
    pub fn keep(self, peers: &mut Peers) {
        let kept = self.legs.into_iter().filter_map(Leg::kept);
        peers.open.extend(kept);
        peers.open.truncate(KEPT_MAX);
    }
}

/// The time since then, by the hop's clock.
fn since(us: i64, site: &Site) -> Duration {
    let passed_us = site.hop.clock.now_us().saturating_sub(us);
    Duration::from_micros(u64::try_from(passed_us).unwrap_or(0))
}

/// The recipients by where they go, in a fixed order.
fn destinations(site: &Site, mail: &Mail) -> Vec<(Destination, Vec<usize>)> {
    let mut groups: Vec<(Destination, Vec<usize>)> = Vec::new();
    for (place, recipient) in mail.envelope.recipients.iter().enumerate() {
        let to = site.listener.routes.of(&recipient.address);
        match groups.iter_mut().find(|(known, _)| *known == to) {
            Some((_, members)) => members.push(place),
            None => groups.push((to, vec![place])),
        }
    }
    groups
}

/// For each recipient the group and the place there.
fn places(groups: &[(Destination, Vec<usize>)], recipients: usize) -> Vec<(usize, usize)> {
    let mut places = vec![(0, 0); recipients];
    for (group, (_, members)) in groups.iter().enumerate() {
        for (member, place) in members.iter().enumerate() {
            places[*place] = (group, member);
        }
    }
    places
}
