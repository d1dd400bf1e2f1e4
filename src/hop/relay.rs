//! One transaction at the next hop of an egress or a delivery: MAIL, RCPT, DATA, the message, and how each
//! recipient fared. Whatever goes wrong becomes a recipient's reply; nothing is ever accepted here.

use std::time::Duration;

use tracing::{debug, warn};

use super::Site;
use super::body::{Body, BodyError};
use super::next_hop::{ConnectError, Peer};
use super::passage::Passage;
use super::transaction::{Envelope, Outcome, Times};
use super::wire::WireError;
use crate::smtp::capability::Capabilities;
use crate::smtp::command::Command;
use crate::smtp::reply::Reply;
use crate::smtp::xtext;
use crate::track::Stage;

/// MAIL parameters that are passed on, each with the keyword a next hop must offer for it.
pub const MAIL_PARAMETERS: [(&str, &str); 5] = [
    ("SIZE", "SIZE"),
    ("BODY", "8BITMIME"),
    ("SMTPUTF8", "SMTPUTF8"),
    ("RET", "DSN"),
    ("ENVID", "DSN"),
];
/// The same for RCPT.
pub const RCPT_PARAMETERS: [(&str, &str); 2] = [("NOTIFY", "DSN"), ("ORCPT", "DSN")];
/// How long a next hop that broke off is listened to for its reason.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// A transaction as the client wrote it.
pub struct Mail {
    /// What it means.
    pub envelope: Envelope,
    /// The MAIL line, without TRACK.
    pub line: Vec<u8>,
    /// The RCPT lines, beside `envelope.recipients`.
    pub rcpts: Vec<Vec<u8>>,
}

/// Connects to the next hop of a listener, and remembers what it offers.
pub async fn connect(site: &Site) -> Result<Peer, ConnectError> {
    let peer = Peer::connect(&site.listener.next_hop, site.manners()).await?;
    if let Ok(mut known) = site.known.lock() {
        *known = Some(peer.capabilities.clone());
    }
    Ok(peer)
}

/// A transaction under way.
pub struct Relay<'a> {
    site: &'a Site,
    peer: &'a mut Option<Peer>,
    /// The exchanges with the next hop.
    pub times: Times,
    /// The next hop was given the request: it will report by itself.
    pub tracks: bool,
}

impl<'a> Relay<'a> {
    /// A transaction over the connection in `peer`, or a new one that is left there.
    pub fn new(site: &'a Site, peer: &'a mut Option<Peer>) -> Self {
        Self {
            site,
            peer,
            times: Times::default(),
            tracks: false,
        }
    }

    /// Carries the message over; one outcome for each recipient, in order. An error is the client's
    /// going away: then the next hop's connection is cut, so that nothing is completed.
    pub async fn run(
        &mut self,
        mail: &Mail,
        passage: Option<&Passage>,
        head: Vec<u8>,
        body: &mut Body<'_>,
    ) -> Result<Vec<Outcome>, BodyError> {
        if let Err(refusal) = self.open(mail, passage).await {
            return Ok(mail.rcpts.iter().map(|_| refusal.clone()).collect());
        }
        let mut fates = self.recipients(mail).await;
        let accepted = fates.iter().filter(|fate| fate.is_none()).count();
        if accepted > 0 {
            let mut replies = self.data(accepted, head, body).await?.into_iter();
            for fate in fates.iter_mut().filter(|fate| fate.is_none()) {
                *fate = replies.next();
            }
        } else {
            self.reset().await;
        }
        let lost = self.outcome(broken());
        Ok(fates
            .into_iter()
            .map(|fate| fate.unwrap_or_else(|| lost.clone()))
            .collect())
    }

    /// MAIL, on the connection that is there or on a new one: one that was used before may have been
    /// closed meanwhile, which is no failure.
    async fn open(&mut self, mail: &Mail, passage: Option<&Passage>) -> Result<(), Outcome> {
        loop {
            let reused = self.peer.as_ref().is_some_and(|peer| peer.used);
            if self.peer.is_none() {
                *self.peer = Some(
                    connect(self.site)
                        .await
                        .map_err(|error| self.unreachable(error))?,
                );
            }
            let reply = match self.mail(mail, passage).await {
                Ok(reply) => reply,
                Err(refusal) => return Err(self.outcome(refusal)),
            };
            match reply {
                Ok(reply) if reply.is_positive() => return Ok(()),
                Ok(reply) if !(reused && reply.code == 421) => return Err(self.outcome(reply)),
                Err(error) if !reused => {
                    warn!(next_hop = %self.site.listener.next_hop, "at MAIL: {error}");
                    let outcome = self.outcome(broken());
                    *self.peer = None;
                    return Err(outcome);
                }
                _ => *self.peer = None,
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
        let track =
            passage.and_then(|p| p.onward(&mail.envelope, &peer.capabilities, clock.now_ms()));
        let line = mail_line(mail, passage, track.as_deref(), &peer.capabilities)?;
        peer.used = true;
        self.tracks = track.is_some();
        self.times = Times::after(Some(peer.hello));
        let command_us = clock.now_us();
        let reply = peer.command(&line, self.site.manners()).await;
        self.times.record(Stage::Mail, command_us, clock.now_us());
        Ok(reply)
    }

    /// RCPT for each; `None` for those the next hop takes.
    async fn recipients(&mut self, mail: &Mail) -> Vec<Option<Outcome>> {
        let clock = self.site.hop.clock;
        let mut fates = Vec::with_capacity(mail.rcpts.len());
        for rcpt in &mail.rcpts {
            let Some(peer) = self.peer.as_mut() else {
                fates.push(Some(self.outcome(broken())));
                continue;
            };
            let line = only_offered(rcpt, &RCPT_PARAMETERS, &peer.capabilities);
            let command_us = clock.now_us();
            let reply = peer.command(&line, self.site.manners()).await;
            self.times.record(Stage::Rcpt, command_us, clock.now_us());
            let fate = match reply {
                Ok(reply) if reply.is_positive() => None,
                Ok(reply) => Some(self.outcome(reply)),
                Err(error) => {
                    warn!(next_hop = %self.site.listener.next_hop, "at RCPT: {error}");
                    let outcome = self.outcome(broken());
                    *self.peer = None;
                    // Those it had taken are lost with the connection.
                    for fate in &mut fates {
                        fate.get_or_insert_with(|| outcome.clone());
                    }
                    Some(outcome)
                }
            };
            fates.push(fate);
        }
        fates
    }

    /// DATA and the message; an outcome for each recipient the next hop had taken.
    async fn data(
        &mut self,
        accepted: usize,
        head: Vec<u8>,
        body: &mut Body<'_>,
    ) -> Result<Vec<Outcome>, BodyError> {
        let (clock, manners) = (self.site.hop.clock, self.site.manners());
        let Some(peer) = self.peer.as_mut() else {
            return Ok(Vec::new());
        };
        let command_us = clock.now_us();
        let reply = peer.command(b"DATA", manners).await;
        self.times.record(Stage::Data, command_us, clock.now_us());
        match reply {
            Ok(reply) if reply.code == 354 => {}
            Ok(reply) => {
                let outcome = self.outcome(not_positive(reply));
                self.reset().await;
                return Ok(vec![outcome; accepted]);
            }
            Err(error) => return Ok(vec![self.broke(&error); accepted]),
        }
        let dot_us = match body.pass(head, &mut peer.wire, clock).await {
            Ok(dot_us) => dot_us,
            Err(BodyError::NextHop(error)) => {
                let last = peer
                    .wire
                    .reply(manners.limits.reply_octets_max, LAST_WORDS)
                    .await;
                let mut outcome = self.broke(&error);
                if let Ok(reply) = last {
                    outcome.reply = not_positive(reply);
                }
                return Ok(vec![outcome; accepted]);
            }
            Err(error) => {
                // Cut, not completed: the message is not whole.
                *self.peer = None;
                return if matches!(error, BodyError::Bare) {
                    Ok(Vec::new())
                } else {
                    Err(error)
                };
            }
        };
        let replies = peer.final_replies(accepted, manners).await;
        self.times.record(Stage::Dot, dot_us, clock.now_us());
        match replies {
            Ok(replies) => Ok(replies
                .into_iter()
                .map(|reply| self.outcome(reply))
                .collect()),
            Err(error) => Ok(vec![self.broke(&error); accepted]),
        }
    }

    /// Ends a transaction that came to nothing, so that the connection can be used again.
    async fn reset(&mut self) {
        let Some(peer) = self.peer.as_mut() else {
            return;
        };
        let reply = peer.command(b"RSET", self.site.manners()).await;
        if !reply.is_ok_and(|reply| reply.is_positive()) {
            *self.peer = None;
        }
    }

    fn outcome(&self, reply: Reply) -> Outcome {
        let configured = || self.site.listener.next_hop.host.clone();
        Outcome {
            reply,
            remote_mta: self
                .peer
                .as_ref()
                .map_or_else(configured, |peer| peer.name.clone()),
            at_us: self.site.hop.clock.now_us(),
        }
    }

    /// The connection broke: what the recipients are told, with the connection given up.
    fn broke(&mut self, error: &WireError) -> Outcome {
        warn!(next_hop = %self.site.listener.next_hop, "in the message: {error}");
        let outcome = self.outcome(broken());
        *self.peer = None;
        outcome
    }

    fn unreachable(&self, error: ConnectError) -> Outcome {
        debug!(next_hop = %self.site.listener.next_hop, "{error}");
        self.outcome(match error {
            ConnectError::Refused(reply) => not_positive(reply),
            error => {
                let text = format!("next hop {}: {error}", self.site.listener.next_hop);
                Reply::new(451, "4.4.1", &text)
            }
        })
    }
}

/// The MAIL line for a next hop: what it does not offer is left out, a lost ENVID is restored, TRACK is
/// added. Internationalised mail cannot go where it is not offered (RFC 6531, 3.6).
fn mail_line(
    mail: &Mail,
    passage: Option<&Passage>,
    track: Option<&str>,
    offer: &Capabilities,
) -> Result<Vec<u8>, Reply> {
    let mut line = only_offered(&mail.line, &MAIL_PARAMETERS, offer);
    let asked = |line: &[u8], keyword: &str| {
        Command::parse(line)
            .and_then(|c| Ok(c.envelope()?.param(keyword).is_some()))
            .unwrap_or(false)
    };
    if asked(&mail.line, "SMTPUTF8") && !offer.offers("SMTPUTF8") {
        return Err(Reply::new(
            550,
            "5.6.7",
            "the next hop does not take internationalised mail",
        ));
    }
    if let Some(envid) = passage.and_then(Passage::envid)
        && offer.offers("DSN")
        && !asked(&line, "ENVID")
    {
        line = with_value(line, "ENVID", &xtext::encode(envid.as_bytes()));
    }
    if let Some(track) = track {
        line = with_value(line, "TRACK", track);
    }
    Ok(line)
}

fn with_value(line: Vec<u8>, keyword: &str, value: &str) -> Vec<u8> {
    Command::parse(&line)
        .and_then(|command| Ok(command.envelope()?.with_value(keyword, value)))
        .unwrap_or(line)
}

/// The line without the parameters whose keyword is not offered.
fn only_offered(line: &[u8], parameters: &[(&str, &str)], offer: &Capabilities) -> Vec<u8> {
    parameters
        .iter()
        .filter(|(_, keyword)| !offer.offers(keyword))
        .fold(line.to_vec(), |line, (name, _)| {
            Command::parse(&line)
                .and_then(|command| Ok(command.envelope()?.without(name)))
                .unwrap_or(line)
        })
}

fn broken() -> Reply {
    Reply::new(451, "4.4.2", "connection to the next hop lost")
}

/// A reply where only a failure can stand: a server that says 2xx there has not taken the message.
fn not_positive(reply: Reply) -> Reply {
    if reply.is_transient() || reply.is_permanent() {
        reply
    } else {
        broken()
    }
}
