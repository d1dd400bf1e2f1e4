//! A transaction of an egress or a delivery spread over its destinations: the legs are opened side by
//! side, the message streams to all of them at once, and the outcomes come back in the client's order.

mod chunks;

use futures_util::future::join_all;

use super::Site;
use super::body::{Body, BodyError};
use super::leg::{Framing, Leg};
use super::passage::Passage;
use super::peer::Peer;
use super::route::Destination;
use super::transaction::{Fate, Mail, Times};
use crate::smtp::data::stuff::Stuffer;

/// Connections a session keeps for its next transaction.
const KEPT_MAX: usize = 8;

/// Open connections of a session, by where they lead.
#[derive(Default)]
pub struct Peers(Vec<(Destination, Peer)>);

/// How a transaction went.
pub struct Dispatched {
    /// For each recipient, in the client's order.
    pub fates: Vec<Fate>,
    /// The exchanges with the next hop, where there was one only.
    pub times: Times,
}

impl Peers {
    fn take(&mut self, to: &Destination) -> Option<Peer> {
        let at = self.0.iter().position(|(known, _)| known == to)?;
        Some(self.0.swap_remove(at).1)
    }

    /// Says goodbye to all.
    pub async fn quit(self) {
        join_all(self.0.into_iter().map(|(_, peer)| peer.quit())).await;
    }
}

/// A transaction under way. Dropped before its end, as when the client goes away, it cuts every connection, so
/// that no next hop completes what the client did not.
pub struct Dispatch<'a> {
    site: &'a Site,
    legs: Vec<Leg<'a>>,
    recipients: usize,
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
        let mut legs: Vec<Leg<'_>> = destinations(site, mail)
            .into_iter()
            .map(|(to, members)| {
                let peer = peers.take(&to);
                Leg::new(site, to, members, peer)
            })
            .collect();
        join_all(legs.iter_mut().map(|leg| leg.open(mail, passage, came))).await;
        Self {
            site,
            legs,
            recipients: mail.rcpts.len(),
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
        let dot_us = body.dot_us;
        self.legs.iter_mut().for_each(|leg| leg.ends(dot_us));
        Ok(())
    }

    /// The message is over: how everybody fared.
    pub async fn finish(mut self, peers: &mut Peers) -> Dispatched {
        join_all(self.legs.iter_mut().map(Leg::finish)).await;
        gather(self.legs, self.recipients, peers)
    }
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

fn gather(legs: Vec<Leg<'_>>, recipients: usize, peers: &mut Peers) -> Dispatched {
    let mut fates: Vec<Option<Fate>> = (0..recipients).map(|_| None).collect();
    let single = legs.len() == 1;
    let mut times = Times::default();
    for mut leg in legs {
        if single {
            times = std::mem::take(&mut leg.times);
        }
        let (tracks, notifies) = (leg.tracks, leg.offers("DSN"));
        let done = leg.done();
        for (place, outcome) in done.fates {
            if let Some(fate) = fates.get_mut(place) {
                *fate = Some(Fate {
                    outcome,
                    tracks,
                    notifies,
                });
            }
        }
        peers.0.extend(done.kept);
    }
    peers.0.truncate(KEPT_MAX);
    // Every recipient is in exactly one leg.
    Dispatched {
        fates: fates.into_iter().flatten().collect(),
        times,
    }
}
