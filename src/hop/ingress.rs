//! The verbatim dialogue in front of an MTA: each command goes to the MTA as it was written, each reply
//! comes back as it was given, so that the MTA's own greeting, AUTH, policy and refusals stay in force.
//! The exceptions: the EHLO keyword list, what TRACK adds and takes away, and commands nobody could
//! follow, which are answered here.
//!
//! Commands go to the MTA one at a time, whatever the client pipelines: replies keep their order by
//! themselves, a DATA behind a refused MAIL gets the MTA's own 503, and an MTA without PIPELINING is safe.

mod arrival;
mod forward;
mod message;
mod stranger;

use std::net::IpAddr;

use tracing::{info, warn};

use arrival::carry;
use message::Chunks;

use super::Site;
use super::client::{Client, End, Heard, NOT_IMPLEMENTED};
use super::introduce::introduce;
use super::transaction::{Envelope, Recipient, Times, Tracked};
use super::wire::{Wire, WireError};
use crate::smtp::capability::{Capabilities, UNDERSTOOD};
use crate::smtp::command::{Command, Refusal, Verb};
use crate::smtp::envelope::EnvelopeCommand;
use crate::smtp::reply::Reply;
use crate::smtp::xtext;
use crate::track::{Exchange, Stage, TrackRequest};

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

/// To MAIL and AUTH between STARTTLS and the hello that has to follow it.
const HELLO_FIRST: Refusal = Refusal {
    code: 503,
    status: "5.5.1",
    text: "say EHLO again after STARTTLS",
};
/// RFC 4954, 6.
const TLS_FIRST: Refusal = Refusal {
    code: 538,
    status: "5.7.11",
    text: "encryption required for authentication",
};

/// Serves one client of an ingress.
pub async fn run(site: &Site, mut client: Client) {
    let listener = &site.listener;
    // The configuration lets no other route stand behind an ingress.
    let Some(next_hop) = listener.routes.fixed() else {
        return;
    };
    // Most sessions wait most of the time, so what a waiting one does not need is boxed, here and below.
    let manners = site.manners(next_hop);
    let met = Box::pin(introduce(
        next_hop,
        client.ends,
        listener.client_address,
        manners,
    ))
    .await;
    let (next, greeting) = match met {
        Ok(met) => met,
        Err(error) => {
            warn!(%next_hop, "{error}");
            let text = format!(
                "{} cannot reach its mail server, try again later",
                site.hop.hostname
            );
            let busy = Reply::new(421, error.status(), &text);
            return client.close(&site.hop, End::Refuse(busy)).await;
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
        helo: None,
        xforward: None,
        forgotten: false,
        envelope: None,
        chunks: None,
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
    /// The name in it, where strangers may ask.
    helo: Option<String>,
    /// What the MTA is told about the client before each transaction, if it wants that.
    xforward: Option<Vec<u8>>,
    /// The MTA still knows a hello from before STARTTLS, which no longer counts.
    forgotten: bool,
    envelope: Option<Envelope>,
    /// A message that comes in chunks, from its first to its last.
    chunks: Option<Chunks>,
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
            Verb::Mail | Verb::Auth if self.forgotten => self.refuse(&HELLO_FIRST),
            Verb::Starttls => self.starttls().await,
            Verb::Ehlo | Verb::Helo => self.hello(&command, line).await,
            Verb::Mail => self.mail(&command).await,
            Verb::Rcpt => self.rcpt(&command).await,
            Verb::Data => Box::pin(self.data(line)).await,
            Verb::Rset => self.rset(line).await,
            Verb::Auth => self.auth(line).await,
            Verb::Noop | Verb::Vrfy | Verb::Expn | Verb::Help => {
                self.exchange(line).await.map(drop)
            }
            Verb::Quit => {
                self.exchange(line).await?;
                Err(End::Done)
            }
            Verb::Bdat => Box::pin(self.bdat(&command, line)).await,
            _ if self.is_safe(&command) => self.exchange(line).await.map(drop),
            _ => self.refuse(&NOT_IMPLEMENTED),
        }
    }

    /// A verb of one line and one reply: ETRN (RFC 1985), or one the configuration vouches for.
    fn is_safe(&self, command: &Command<'_>) -> bool {
        let verb = command
            .line()
            .split(|b| *b == b' ')
            .next()
            .unwrap_or_default();
        let named = |keyword: &str| verb.eq_ignore_ascii_case(keyword.as_bytes());
        let vouched = self
            .site
            .listener
            .safe_keywords
            .iter()
            .any(|keyword| named(keyword));
        let offered =
            |offer: &Capabilities| std::str::from_utf8(verb).is_ok_and(|v| offer.offers(v));
        command.verb == Verb::Other
            && (vouched || named("ETRN"))
            && self.offer.as_ref().is_some_and(offered)
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
        if command.verb == Verb::Helo {
            self.ask_for_offer(command).await?;
        }
        let command_us = self.site.hop.clock.now_us();
        let reply = self.ask(line).await?;
        if !reply.is_positive() {
            return self.answer(&reply);
        }
        self.forget();
        self.forgotten = false;
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
        self.note_helo(command);
        let offer = Capabilities::of(&reply);
        self.note_forward(&offer);
        let mut shown = offer.clone();
        let mechanisms = mechanisms(&offer).filter(|_| self.may_log_in());
        let safe = &self.site.listener.safe_keywords;
        let vouched = |keyword: &str| safe.iter().any(|known| known.eq_ignore_ascii_case(keyword));
        shown.retain(|keyword| UNDERSTOOD.contains(&keyword) || vouched(keyword));
        if let Some(mechanisms) = &mechanisms {
            shown.add(&format!("AUTH {mechanisms}"));
        }
        self.track_offered = self.site.offers_track(&self.client, mechanisms.is_some());
        if self.client.starttls(self.site).is_some() {
            shown.add("STARTTLS");
        }
        if self.track_offered {
            shown.add("TRACK NOW");
        }
        self.offer = Some(offer);
        self.client.tell(&shown.to_reply());
        Ok(())
    }

    fn may_log_in(&self) -> bool {
        let (client, next) = (&self.client, &self.next);
        login_is_private(
            client.is_secure(),
            next.is_secure(),
            client.ends.client.ip(),
        )
    }

    async fn starttls(&mut self) -> Result<(), End> {
        let in_transaction = self.envelope.is_some();
        if self.client.start_tls(self.site, in_transaction).await? {
            // What came in plaintext came from anybody (RFC 3207, 4.2).
            self.hello = None;
            self.offer = None;
            self.track_offered = false;
            self.forgotten = true;
        }
        Ok(())
    }

    /// An AUTH exchange: after a 334 the client's lines are no commands (RFC 4954, 4). Nothing of it is
    /// ever logged.
    async fn auth(&mut self, line: &[u8]) -> Result<(), End> {
        if !self.may_log_in() {
            return self.refuse(&TLS_FIRST);
        }
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

    /// There is no transaction any more.
    fn forget(&mut self) {
        self.envelope = None;
        self.chunks = None;
    }

    async fn rset(&mut self, line: &[u8]) -> Result<(), End> {
        let reply = self.exchange(line).await?;
        if reply.is_positive() {
            self.forget();
        }
        Ok(())
    }

    async fn mail(&mut self, command: &Command<'_>) -> Result<(), End> {
        let mail = match command.envelope() {
            Ok(mail) => mail,
            Err(refusal) => return self.refuse(&refusal),
        };
        let tracked = match self.site.request(&self.client, &mail, self.track_offered) {
            Ok(tracked) => tracked,
            Err(refusal) => return self.refuse(&refusal),
        };
        let tracked = self.claimed(&mail, tracked).await;
        let (tracked, line) = self.outgoing_mail(&mail, tracked);
        self.forward().await?;
        let command_us = self.site.hop.clock.now_us();
        let reply = self.ask(&line).await?;
        let reply_us = self.site.hop.clock.now_us();
        if reply.is_positive() {
            let mut times = Times::after(self.hello);
            times.record(Stage::Mail, command_us, reply_us);
            self.forget();
            self.envelope = Some(Envelope::of(&mail, tracked, times));
        }
        self.answer(&reply)
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
        if !self.site.tells_arrivals(tracked.asked.by) {
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
            if reply.is_positive() {
                envelope.admit(Recipient::of(&rcpt), self.site.hop.limits.recipients_max);
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
}

/// An MTA that is spoken to under TLS may offer AUTH for that reason alone; a password is not to cross a
/// network in plaintext on its way to hoptrail instead.
fn login_is_private(client_secure: bool, next_secure: bool, client: IpAddr) -> bool {
    client_secure || !next_secure || client.to_canonical().is_loopback()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_password_crosses_a_network_in_plaintext_because_the_mta_sees_tls() {
        let (here, there) = (IpAddr::from([127, 0, 0, 1]), IpAddr::from([192, 0, 2, 1]));
        assert!(!login_is_private(false, true, there));
        assert!(login_is_private(true, true, there));
        assert!(login_is_private(false, true, here));
        // As the MTA itself would have it.
        assert!(login_is_private(false, false, there));
    }
}
