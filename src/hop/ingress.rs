//! The verbatim dialogue in front of an MTA: each command goes to the MTA as it was written, each reply
//! comes back as it was given, so that the MTA's own greeting, AUTH, policy and refusals stay in force.
//! The exceptions: the EHLO keyword list, what TRACK adds and takes away, and commands nobody could
//! follow, which are answered here.
//!
//! Commands go to the MTA one at a time, whatever the client pipelines: replies keep their order by
//! themselves, a DATA behind a refused MAIL gets the MTA's own 503, and an MTA without PIPELINING is safe.

use tracing::{debug, info, warn};

use super::body::{BodyError, Head};
use super::client::{Client, End, Heard, MALFORMED_TRACK, NOT_IMPLEMENTED, bare_newline};
use super::next_hop::introduce;
use super::transaction::{Envelope, Outcome, Recipient, Times, Tracked, envid};
use super::wire::{Wire, WireError};
use super::{Site, log_step};
use crate::smtp::capability::{Capabilities, UNDERSTOOD};
use crate::smtp::command::{Command, Refusal, Verb};
use crate::smtp::envelope::EnvelopeCommand;
use crate::smtp::reply::Reply;
use crate::smtp::xtext;
use crate::track::carry::{Carry, Opened};
use crate::track::{Event, Exchange, HopReport, Role, Stage, Step, TrackRequest};

/// Mechanisms whose exchange is lines and leaves the stream as it is. Others put a security layer
/// over it (RFC 4954, 4) or bind to a TLS channel that ends here.
const MECHANISMS: [&str; 7] = [
    "PLAIN",
    "LOGIN",
    "CRAM-MD5",
    "SCRAM-SHA-1",
    "SCRAM-SHA-256",
    "XOAUTH2",
    "OAUTHBEARER",
];

/// Serves one client of an ingress.
pub async fn run(site: &Site, mut client: Client) {
    let listener = &site.listener;
    let ends = (client.address, client.local);
    let met = introduce(
        &listener.next_hop,
        ends,
        listener.client_address,
        site.manners(),
    )
    .await;
    let (next, greeting) = match met {
        Ok(met) => met,
        Err(error) => {
            warn!(next_hop = %listener.next_hop, "{error}");
            let text = format!(
                "{} cannot reach its mail server, try again later",
                site.hop.hostname
            );
            return client
                .close(&site.hop, End::Refuse(Reply::new(421, "4.4.1", &text)))
                .await;
        }
    };
    client.tell(greeting.raw());
    let mut session = Ingress {
        site,
        client,
        next,
        offer: None,
        track_offered: false,
        hello: None,
        envelope: None,
    };
    let end = if greeting.code == 421 {
        End::Done
    } else {
        session.dialogue().await
    };
    let Ingress {
        client, mut next, ..
    } = session;
    client.close(&site.hop, end).await;
    next.shut().await;
}

struct Ingress<'a> {
    site: &'a Site,
    client: Client,
    next: Wire,
    /// What the MTA offered to the last EHLO.
    offer: Option<Capabilities>,
    track_offered: bool,
    hello: Option<Exchange>,
    envelope: Option<Envelope>,
}

impl Ingress<'_> {
    async fn dialogue(&mut self) -> End {
        loop {
            let idle = self.envelope.is_none();
            let heard = self
                .client
                .listen(&self.site.hop, idle, self.next.fill())
                .await;
            let step = match heard {
                Ok(Heard::Line(line)) => self.follow(&line).await,
                Ok(Heard::Other(heard)) => self.unasked(heard).await,
                Err(end) => Err(end),
            };
            if let Err(end) = step {
                return end;
            }
        }
    }

    /// The MTA said something nobody asked for (421, most likely): its words go to the client, then both
    /// sides close.
    async fn unasked(&mut self, heard: Result<(), WireError>) -> Result<(), End> {
        heard.map_err(End::NextHop)?;
        let reply = self.reply().await?;
        self.client.tell(reply.raw());
        Err(End::Done)
    }

    async fn follow(&mut self, line: &[u8]) -> Result<(), End> {
        let text = line.strip_suffix(b"\r\n").unwrap_or(line);
        let command = match Command::parse(text) {
            Ok(command) => command,
            Err(refusal) => return self.refuse(&refusal),
        };
        match command.verb {
            Verb::Ehlo | Verb::Helo => self.hello(&command, line).await,
            Verb::Mail => self.mail(&command).await,
            Verb::Rcpt => self.rcpt(&command).await,
            Verb::Data => self.data(line).await,
            Verb::Rset => self.rset(line).await,
            Verb::Auth => self.auth(line).await,
            Verb::Noop | Verb::Vrfy | Verb::Expn | Verb::Help => {
                self.exchange(line).await.map(drop)
            }
            Verb::Quit => {
                self.exchange(line).await?;
                Err(End::Done)
            }
            // Its octets follow at once, whatever is answered (RFC 3030, 2).
            Verb::Bdat => Err(End::Refuse(Reply::new(
                502,
                "5.5.1",
                "CHUNKING is not offered",
            ))),
            _ => self.refuse(&NOT_IMPLEMENTED),
        }
    }

    fn refuse(&mut self, refusal: &Refusal) -> Result<(), End> {
        self.client.refuse(&self.site.hop, refusal)
    }

    /// One command to the MTA and its reply to the client, both as they are.
    async fn exchange(&mut self, line: &[u8]) -> Result<Reply, End> {
        let reply = self.ask(line).await?;
        self.answer(&reply)?;
        Ok(reply)
    }

    async fn ask(&mut self, line: &[u8]) -> Result<Reply, End> {
        self.next.write(line).await.map_err(End::NextHop)?;
        self.reply().await
    }

    async fn reply(&mut self) -> Result<Reply, End> {
        let (limits, timeouts) = (&self.site.hop.limits, &self.site.hop.timeouts);
        self.next
            .reply(limits.reply_octets_max, timeouts.reply())
            .await
            .map_err(End::NextHop)
    }

    /// Passes a reply on. After a 421 the MTA is gone (RFC 5321, 3.8), and so are we.
    fn answer(&mut self, reply: &Reply) -> Result<(), End> {
        self.client.tell(reply.raw());
        if reply.code == 421 {
            Err(End::Done)
        } else {
            Ok(())
        }
    }

    async fn hello(&mut self, command: &Command<'_>, line: &[u8]) -> Result<(), End> {
        let command_us = self.site.hop.clock.now_us();
        let reply = self.ask(line).await?;
        if !reply.is_positive() {
            return self.answer(&reply);
        }
        self.envelope = None;
        let reply_us = self.site.hop.clock.now_us();
        self.hello = Some(Exchange {
            stage: Stage::Ehlo,
            command_us,
            reply_us,
        });
        if command.verb == Verb::Helo {
            self.offer = None;
            self.track_offered = false;
            return self.answer(&reply);
        }
        let offer = Capabilities::of(&reply);
        let mut shown = offer.clone();
        let mechanisms = mechanisms(&offer);
        shown.retain(|keyword| UNDERSTOOD.contains(&keyword));
        if let Some(mechanisms) = &mechanisms {
            shown.add(&format!("AUTH {mechanisms}"));
        }
        self.track_offered = self.site.offers_track(&self.client, mechanisms.is_some());
        if self.track_offered {
            shown.add("TRACK NOW");
        }
        self.offer = Some(offer);
        self.client.tell(&shown.to_reply());
        Ok(())
    }

    /// An AUTH exchange: after a 334 the client's lines are no commands (RFC 4954, 4). Nothing of it is
    /// ever logged.
    async fn auth(&mut self, line: &[u8]) -> Result<(), End> {
        let mut reply = self.exchange(line).await?;
        while reply.code == 334 {
            let response = self.client.response(&self.site.hop).await?;
            reply = self.exchange(&response).await?;
        }
        if reply.code == 235 {
            self.client.authenticated = true;
        }
        Ok(())
    }

    async fn rset(&mut self, line: &[u8]) -> Result<(), End> {
        let reply = self.exchange(line).await?;
        if reply.is_positive() {
            self.envelope = None;
        }
        Ok(())
    }

    async fn mail(&mut self, command: &Command<'_>) -> Result<(), End> {
        let mail = match command.envelope() {
            Ok(mail) => mail,
            Err(refusal) => return self.refuse(&refusal),
        };
        let tracked = match self.request(&mail) {
            Ok(tracked) => tracked,
            Err(refusal) => return self.refuse(&refusal),
        };
        let (tracked, line) = self.outgoing_mail(&mail, tracked);
        let command_us = self.site.hop.clock.now_us();
        let reply = self.ask(&line).await?;
        let reply_us = self.site.hop.clock.now_us();
        if reply.is_positive() {
            let mut times = Times::after(self.hello);
            times.record(Stage::Mail, command_us, reply_us);
            self.envelope = Some(Envelope {
                reverse_path: mail.mailbox().to_vec(),
                envid: envid(&mail),
                recipients: Vec::new(),
                tracked,
                times,
            });
        }
        self.answer(&reply)
    }

    /// What MAIL asks for, if this client may ask. A stranger's TRACK is dropped in silence; one that saw
    /// our offer is told about a mistake.
    fn request(&self, mail: &EnvelopeCommand<'_>) -> Result<Option<Tracked>, Refusal> {
        let Some(value) = mail.param("TRACK") else {
            return Ok(None);
        };
        if !self.track_offered {
            return Ok(None);
        }
        let value = value
            .filter(|_| mail.count("TRACK") == 1)
            .ok_or(MALFORMED_TRACK)?;
        let request = TrackRequest::parse(value).map_err(|error| {
            debug!("{error}");
            MALFORMED_TRACK
        })?;
        if !self.site.honours(&self.client) {
            return Ok(None);
        }
        Ok(self
            .site
            .honour(request, mail.mailbox(), envid(mail).as_deref()))
    }

    /// The MAIL line for the MTA: without TRACK where the MTA does not offer it, and with a SIZE= that
    /// has room for the carry header. A message that would only then be too large goes on untracked.
    fn outgoing_mail(
        &self,
        mail: &EnvelopeCommand<'_>,
        tracked: Option<Tracked>,
    ) -> (Option<Tracked>, Vec<u8>) {
        let crlf = |mut line: Vec<u8>| {
            line.extend_from_slice(b"\r\n");
            line
        };
        let Some(tracked) = tracked else {
            return (None, crlf(mail.without("TRACK")));
        };
        if self.next_hop_tracks() {
            let value = self.passed_on(&tracked).map(|request| request.to_value());
            let line = value.map_or_else(
                || mail.without("TRACK"),
                |value| mail.with_value("TRACK", &value),
            );
            return (Some(tracked), crlf(line));
        }
        let stripped = mail.without("TRACK");
        let size = mail
            .param("SIZE")
            .flatten()
            .and_then(|v| std::str::from_utf8(v).ok()?.parse::<u64>().ok());
        let (Some(size), Some(tracking)) = (size, &self.site.hop.tracking) else {
            return (Some(tracked), crlf(stripped));
        };
        let grown = size.saturating_add(carry(self.site, &tracked).octets_max(&tracking.keys));
        let size_max = self.offer.as_ref().and_then(Capabilities::size_max);
        if size_max.is_some_and(|max| grown > max) {
            info!(hop = %self.site.hop.hostname, envid = %tracked.id, "no room for the carry header: untracked");
            return (None, crlf(stripped));
        }
        let line = Command::parse(&stripped)
            .and_then(|command| Ok(command.envelope()?.with_value("SIZE", &grown.to_string())))
            .unwrap_or(stripped);
        (Some(tracked), crlf(line))
    }

    fn next_hop_tracks(&self) -> bool {
        self.offer.as_ref().is_some_and(Capabilities::offers_track)
    }

    /// The request for an MTA that tracks by itself. Its parent is the last step that is reported.
    fn passed_on(&self, tracked: &Tracked) -> Option<TrackRequest> {
        let mut request = tracked.request.for_next_hop(tracked.step, 0)?;
        if !self.site.hop.reports_arrivals {
            request.up = tracked.request.up;
        }
        Some(request)
    }

    async fn rcpt(&mut self, command: &Command<'_>) -> Result<(), End> {
        let rcpt = match command.envelope() {
            Ok(rcpt) => rcpt,
            Err(refusal) => return self.refuse(&refusal),
        };
        let mut line = self.outgoing_rcpt(&rcpt);
        line.extend_from_slice(b"\r\n");
        let command_us = self.site.hop.clock.now_us();
        let reply = self.ask(&line).await?;
        let reply_us = self.site.hop.clock.now_us();
        if let Some(envelope) = &mut self.envelope {
            envelope.times.record(Stage::Rcpt, command_us, reply_us);
            // Untracked mail needs no list; and a list that grew without bound would be a hole.
            if reply.is_positive()
                && envelope.recipients.len() < self.site.hop.limits.recipients_max
            {
                envelope.recipients.push(Recipient::of(&rcpt));
            }
        }
        self.answer(&reply)
    }

    /// RCPT as written; for a tracked message with the ORCPT that lets an alias be seen behind the MTA,
    /// where the client gave none (RFC 3461, 5.2.1 d allows a relay to add it).
    fn outgoing_rcpt(&self, rcpt: &EnvelopeCommand<'_>) -> Vec<u8> {
        let tracked = self
            .envelope
            .as_ref()
            .is_some_and(|envelope| envelope.tracked.is_some());
        let offered = self.offer.as_ref().is_some_and(|offer| offer.offers("DSN"));
        let mailbox = rcpt.mailbox();
        if tracked && offered && rcpt.param("ORCPT").is_none() && mailbox.is_ascii() {
            rcpt.with_value("ORCPT", &format!("rfc822;{}", xtext::encode(mailbox)))
        } else {
            rcpt.without("TRACK")
        }
    }

    async fn data(&mut self, line: &[u8]) -> Result<(), End> {
        let command_us = self.site.hop.clock.now_us();
        let reply = self.exchange(line).await?;
        let reply_us = self.site.hop.clock.now_us();
        if reply.code != 354 {
            return Ok(());
        }
        // A 354 without a MAIL we saw accepted is the MTA's business; there is nothing to track then.
        let mut envelope = self.envelope.take();
        if let Some(envelope) = &mut envelope {
            envelope.times.record(Stage::Data, command_us, reply_us);
        }
        self.message(envelope).await
    }

    /// The message itself, from behind the 354 to the MTA's last word about it.
    async fn message(&mut self, mut envelope: Option<Envelope>) -> Result<(), End> {
        let (passes, may_ask) = (self.next_hop_tracks(), self.site.honours(&self.client));
        let mut body = self
            .client
            .body(&self.site.hop, self.site.listener.bare_newline)
            .await?;
        let head = body.head(self.site.hop.limits.header_octets_max).await?;
        let (text, noted) = prepare(self.site, may_ask, head, envelope.as_mut(), passes).await;
        let clock = self.site.hop.clock;
        let sent = body.pass(text, &mut self.next, clock).await;
        let octets = body.octets;
        let dot_us = clock.now_us();
        let reply = match sent {
            Ok(_) => self.final_reply().await?,
            Err(BodyError::NextHop(error)) => {
                debug!("next hop went away in the message: {error}");
                body.drain().await?;
                self.last_words().await
            }
            Err(BodyError::Bare) => {
                body.drain().await?;
                return Err(End::Refuse(bare_newline(550)));
            }
            Err(error @ BodyError::Client(_)) => return Err(error.into()),
        };
        if let (Some(envelope), true) = (envelope, reply.is_positive()) {
            self.arrived(envelope, noted, octets, dot_us, &reply).await;
        }
        self.answer(&reply)
    }

    async fn final_reply(&mut self) -> Result<Reply, End> {
        let (limits, timeouts) = (&self.site.hop.limits, &self.site.hop.timeouts);
        match self
            .next
            .reply(limits.reply_octets_max, timeouts.final_reply())
            .await
        {
            Ok(reply) => Ok(reply),
            Err(error) => {
                // A duplicate is possible now, a loss is not (RFC 1047).
                warn!("no reply to the end of data: {error}");
                Err(End::Refuse(Reply::new(
                    451,
                    "4.4.2",
                    "no answer from the mail server, try again",
                )))
            }
        }
    }

    /// What an MTA said before it went away in the middle of a message; never a success.
    async fn last_words(&mut self) -> Reply {
        let limit = std::time::Duration::from_secs(1);
        match self
            .next
            .reply(self.site.hop.limits.reply_octets_max, limit)
            .await
        {
            Ok(reply) if !reply.is_positive() => reply,
            _ => Reply::new(
                421,
                "4.4.2",
                "connection to the mail server lost, try again",
            ),
        }
    }

    /// The MTA has the message: a step, durable before the client hears of it.
    async fn arrived(
        &self,
        envelope: Envelope,
        message_id: Option<String>,
        octets: u64,
        dot_us: i64,
        reply: &Reply,
    ) {
        let hop = &self.site.hop;
        let Some(tracked) = envelope.tracked else {
            return;
        };
        let now_us = hop.clock.now_us();
        let outcome = Outcome {
            reply: reply.clone(),
            remote_mta: hop.hostname.clone(),
            at_us: now_us,
        };
        let mut times = envelope.times;
        times.record(Stage::Dot, dot_us, now_us);
        let status = |recipient: Recipient| {
            let original = recipient
                .original
                .unwrap_or_else(|| recipient.address.clone());
            outcome.status(original, recipient.address, Event::Accepted)
        };
        let step = Step {
            report: HopReport {
                id: tracked.id.clone(),
                step: tracked.step,
                parent: tracked.request.up,
                hop: tracked.hop(),
                role: Role::Ingress,
                reporting_mta: hop.hostname.clone(),
                arrival_us: dot_us,
                message_id,
                sent_ms: tracked.request.sent_ms,
                queue_id: reply.queue_id(),
                size: Some(octets),
                times_in: times.exchanges(),
                times_out: Vec::new(),
                recipients: envelope.recipients.into_iter().map(status).collect(),
            },
            originator: String::from_utf8_lossy(&envelope.reverse_path).into_owned(),
            certificate: tracked.request.certificate,
            mailed: hop.reports_arrivals,
        };
        log_step(hop, &step);
        hop.record(step).await;
    }
}

/// Looks at the start of a message: takes out a carry header of our own making, honours it where it is a
/// request from a hop that shares our key, and puts ours on top. Returns what to send, and the Message-ID.
async fn prepare(
    site: &Site,
    may_ask: bool,
    mut head: Head,
    envelope: Option<&mut Envelope>,
    passes: bool,
) -> (Vec<u8>, Option<String>) {
    if head.header.is_none() {
        if let Some(tracked) = envelope.and_then(|envelope| envelope.tracked.take()) {
            info!(hop = %site.hop.hostname, envid = %tracked.id, "header block over the limit: untracked");
        }
        return (head.text, None);
    }
    let carried = site.take_carry(&mut head);
    let Some(envelope) = envelope else {
        return (head.text, None);
    };
    let message_id = head.message_id();
    if let (Some(opened), None) = (carried, &envelope.tracked) {
        envelope.tracked = take_up(site, may_ask, opened, envelope, message_id.as_deref()).await;
    }
    if let (Some(tracked), false, Some(tracking)) = (&envelope.tracked, passes, &site.hop.tracking)
    {
        let id = message_id.as_deref().map(str::as_bytes);
        let mut carry = carry(site, tracked).write(&tracking.keys, &envelope.reverse_path, id);
        carry.extend_from_slice(&head.text);
        head.text = carry;
    }
    (head.text, message_id)
}

/// What a carry header with a good MAC means in front of an MTA: the request itself, if another hop that
/// shares the key made it for this very mail; a loop or a content filter's re-entry, if this hop made it; a
/// replay otherwise. In the latter cases the mail passes untracked.
async fn take_up(
    site: &Site,
    may_ask: bool,
    opened: Opened,
    envelope: &Envelope,
    message_id: Option<&str>,
) -> Option<Tracked> {
    let (hop, now_ms) = (&site.hop, site.hop.clock.now_ms());
    let carry = &opened.carry;
    if hop.recall(carry.step).await.is_some() {
        info!(hop = %hop.hostname, envid = %carry.id, step = %carry.step, "came back to this hop: not tracked again");
        return None;
    }
    let belongs = opened.is_from(&envelope.reverse_path)
        && opened.is_of(message_id.map(str::as_bytes))
        && !opened.expired(now_ms);
    if !belongs || !may_ask {
        info!(hop = %hop.hostname, envid = %carry.id, step = %carry.step, "carry header not honoured");
        return None;
    }
    let elapsed_s = u64::try_from((now_ms - carry.at_ms) / 1000).unwrap_or(0);
    let mut request = carry.request.for_next_hop(carry.step, elapsed_s)?;
    let envid = envelope
        .envid
        .as_deref()
        .filter(|envid| *envid == carry.id.as_str());
    request.id = Some(carry.id.clone());
    site.honour(request, &envelope.reverse_path, envid)
}

fn carry(site: &Site, tracked: &Tracked) -> Carry {
    Carry {
        id: tracked.id.clone(),
        step: tracked.step,
        at_ms: site.hop.clock.now_ms(),
        request: tracked.request.clone(),
    }
}

/// The AUTH mechanisms that can be passed through.
fn mechanisms(offer: &Capabilities) -> Option<String> {
    let offered = String::from_utf8_lossy(offer.arguments("AUTH")?).to_ascii_uppercase();
    let passed: Vec<&str> = offered
        .split_whitespace()
        .filter(|m| MECHANISMS.contains(m))
        .collect();
    (!passed.is_empty()).then(|| passed.join(" "))
}
