//! The verbatim dialogue in front of an MTA: each command goes to the MTA as it was written, each reply
//! comes back as it was given, so that the MTA's own greeting, AUTH, policy and refusals stay in force.
//! The exceptions: the EHLO keyword list, what TRACK adds and takes away, and commands nobody could
//! follow, which are answered here.
//!
//! Commands go to the MTA one at a time, whatever the client pipelines: replies keep their order by
//! themselves, a DATA behind a refused MAIL gets the MTA's own 503, and an MTA without PIPELINING is safe.

mod arrival;
mod carried;
mod filter;
mod forward;
mod hello;
mod message;
mod mtrk;
mod offer;
mod outgoing;
mod ring;
mod stranger;
mod wish;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::yield_now;
use tracing::warn;

use message::Chunks;
pub use offer::Offers;
use offer::{Offer, Shown};

use super::Site;
use super::client::{Client, End, HELLO_FIRST, Heard, NOT_IMPLEMENTED};
use super::deadline::Wait;
use super::introduce::introduce;
use super::tls::ServerTls;
use super::transaction::{Envelope, Recipient, Times};
use super::wire::{Wire, WireError};
use crate::smtp::command::{Command, Verb};
use crate::smtp::refusal::Refusal;
use crate::smtp::reply::Reply;
use crate::track::{Exchange, Stage};

/// How long replies to a pipelined group wait for the next one, so as to leave in one write with it. More than an MTA
/// takes that has nothing to ask of others, and next to nothing of a client's patience.
const AT_ONCE: Duration = Duration::from_millis(20);
/// RFC 4954, 6.
const TLS_FIRST: Refusal = Refusal {
    code: 538,
    status: "5.7.11",
    text: "encryption required for authentication",
};
/// The same, where it can be had.
const STARTTLS_FIRST: Refusal = Refusal {
    text: "encryption required for authentication, say STARTTLS first",
    ..TLS_FIRST
};

/// Serves one client of an ingress.
///
/// Most sessions wait most of the time, so what a waiting one does not need is boxed, here and below.
pub async fn run(site: &Site, client: &mut Client) {
    let Some((mut session, code)) = Box::pin(meet(site, client)).await else {
        return;
    };
    let end = if code == 421 {
        End::Done
    } else {
        loop {
            let heard = session.listen().await;
            if let Err(end) = Box::pin(session.act(heard)).await {
                break end;
            }
        }
    };
    if let End::Client(_) = end {
        // Nobody waits for what is left to do; others may.
        yield_now().await;
    }
    Box::pin(session.part(end)).await;
}

/// Connects to the MTA in the client's name and passes its greeting on. A client whose MTA cannot be reached, or
/// does not want it, is told so. With the code of the greeting.
async fn meet<'a>(site: &'a Site, client: &'a mut Client) -> Option<(Ingress<'a>, u16)> {
    let listener = &site.listener;
    // The configuration lets no other route stand behind an ingress.
    let next_hop = listener.routes.fixed()?;
    let manners = site.manners(next_hop);
    match introduce(next_hop, &client.ends, listener.client_address, manners).await {
        Ok((mut next, greeting)) => {
            client.take_timer_back(&mut next);
            let code = greeting.code;
            client.answer(greeting);
            Some((Ingress::new(site, client, next), code))
        }
        Err(error) => {
            warn!(%next_hop, "{error}");
            let text = format!(
                "{} cannot reach its mail server, try again later",
                site.hop.hostname
            );
            let busy = Reply::new(421, error.status(), &text);
            Box::pin(client.close(&site.hop, End::Refuse(busy))).await;
            None
        }
    }
}

struct Ingress<'a> {
    site: &'a Site,
    client: &'a mut Client,
    next: Wire,
    /// What the MTA offered to the last EHLO.
    offer: Option<Arc<Offer>>,
    track_offered: bool,
    hello: Option<Box<Exchange>>,
    /// The name in it, where strangers may ask.
    helo: Option<Box<str>>,
    /// What the MTA is told about the client before each transaction, if it wants that.
    xforward: Option<Box<[u8]>>,
    envelope: Option<Box<Envelope>>,
    /// A message that comes in chunks, from its first to its last.
    chunks: Option<Box<Chunks>>,
}

impl<'a> Ingress<'a> {
    fn new(site: &'a Site, client: &'a mut Client, next: Wire) -> Self {
        Self {
            site,
            client,
            next,
            offer: None,
            track_offered: false,
            hello: None,
            helo: None,
            xforward: None,
            envelope: None,
            chunks: None,
        }
    }
}

impl Ingress<'_> {
    fn listen(&mut self) -> impl Future<Output = Result<Heard, End>> {
        let idle = self.envelope.is_none();
        let next = Some(&mut self.next);
        self.client.listen(&self.site.hop, idle, next)
    }

    async fn act(&mut self, heard: Result<Heard, End>) -> Result<(), End> {
        match heard? {
            Heard::Line(line) => self.follow(&line).await,
            Heard::NextHop(heard) => self.unasked(heard).await,
        }
    }

    async fn part(self, end: End) {
        self.client.close(&self.site.hop, end).await;
        self.next.close().await;
    }

    /// The MTA said something nobody asked for (421, most likely): its words go to the client, then both
    /// sides close.
    async fn unasked(&mut self, heard: Result<(), WireError>) -> Result<(), End> {
        heard.map_err(End::NextHop)?;
        let reply = self.reply().await?;
        if reply.is_positive() {
            // It would be taken for the answer to the client's next command.
            return Err(End::NextHop(WireError::OutOfStep));
        }
        self.client.tell(reply.raw());
        Err(End::Done)
    }

    async fn follow(&mut self, line: &[u8]) -> Result<(), End> {
        let text = line.strip_suffix(b"\r\n").unwrap_or(line);
        let command = match Command::parse(text) {
            Ok(command) => command,
            Err(refusal) => {
                let (hop, meant) = (&self.site.hop, Verb::meant(text));
                return self.client.refuse_line(hop, meant, &refusal).await;
            }
        };
        match command.verb {
            // The MTA still knows the hello from before STARTTLS. A chunk is read and refused as one without a MAIL.
            Verb::Mail | Verb::Rcpt | Verb::Auth | Verb::Other if self.client.hello_due => {
                self.refuse(&HELLO_FIRST)
            }
            Verb::Starttls => self.starttls().await,
            Verb::Ehlo | Verb::Helo => self.hello(&command, line).await,
            Verb::Mail => self.mail(command, line).await,
            Verb::Rcpt => self.rcpt(command, line).await,
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
            |offer: &Offer| std::str::from_utf8(verb).is_ok_and(|v| offer.keywords.offers(v));
        command.verb == Verb::Other
            && (vouched || named("ETRN"))
            && self.offer.as_deref().is_some_and(offered)
    }

    fn refuse(&mut self, refusal: &Refusal) -> Result<(), End> {
        self.client.refuse(&self.site.hop, refusal)
    }

    /// One command to the MTA and its reply to the client, both as they are; the reply's code.
    async fn exchange(&mut self, line: &[u8]) -> Result<u16, End> {
        let reply = self.ask(line).await?;
        let code = reply.code;
        self.answer(reply)?;
        Ok(code)
    }

    async fn ask(&mut self, line: &[u8]) -> Result<Reply, End> {
        self.next.in_step().map_err(End::NextHop)?;
        self.next.write(line).await.map_err(End::NextHop)?;
        self.reply().await
    }

    /// The MTA's next reply. Those before it, which the client still has to get, wait for one that comes at once; an MTA
    /// that takes its time for each of a pipelined group must not make the client wait for the last.
    async fn reply(&mut self) -> Result<Reply, End> {
        if self.client.is_owed() {
            match self.reply_within(&mut Wait::For(AT_ONCE)).await {
                Err(WireError::TimedOut) => self.client.flush().await?,
                reply => return reply.map_err(End::NextHop),
            }
        }
        let mut wait = Wait::For(self.site.hop.timeouts.reply());
        self.reply_within(&mut wait).await.map_err(End::NextHop)
    }

    /// The MTA's next reply. It is waited for with the client's timer, which has nothing else to do meanwhile.
    async fn reply_within(&mut self, wait: &mut Wait) -> Result<Reply, WireError> {
        let octets_max = self.site.hop.limits.reply_octets_max;
        self.client.lend_timer(&mut self.next);
        let reply = self.next.reply_by(octets_max, wait).await;
        self.client.take_timer_back(&mut self.next);
        reply
    }

    /// Passes a reply on. After a 421 the MTA is gone (RFC 5321, 3.8), and so are we.
    fn answer(&mut self, reply: Reply) -> Result<(), End> {
        let code = reply.code;
        self.client.answer(reply);
        if code == 421 { Err(End::Done) } else { Ok(()) }
    }

    async fn hello(&mut self, command: &Command<'_>, line: &[u8]) -> Result<(), End> {
        if command.verb == Verb::Helo {
            self.ask_for_offer(command).await?;
        }
        let command_us = self.site.hop.clock.now_us();
        let reply = self.ask(line).await?;
        let known = self.offer_to_a_second(command.verb, &reply).await?;
        if !reply.is_positive() && known.is_none() {
            return self.answer(reply);
        }
        self.forget();
        self.client.hello_due = false;
        let reply_us = self.site.hop.clock.now_us();
        self.hello = Some(Box::new(Exchange {
            stage: Stage::Ehlo,
            command_us,
            reply_us,
        }));
        if command.verb == Verb::Helo {
            self.offer = None;
            self.track_offered = false;
            return self.answer(reply);
        }
        self.note_helo(command);
        let safe = &self.site.listener.safe_keywords;
        let shown = match known {
            Some(offer) => Arc::new(Shown::of(offer, safe)),
            None => self.site.offers.of(&reply, safe),
        };
        self.note_forward(&shown.offer.keywords);
        let reply = self.show(&shown);
        self.offer = Some(Arc::clone(&shown.offer));
        self.client.answer(reply);
        Ok(())
    }

    /// The reply to EHLO: what passes of the MTA's offer, and what is offered here beside it.
    fn show(&mut self, shown: &Shown) -> Reply {
        let mut lines = shown.lines.clone();
        let auth = shown.auth.as_deref().filter(|_| self.may_log_in());
        self.track_offered = self.site.offers_track(self.client, auth.is_some());
        let starttls = self.client.starttls(self.site).is_some();
        let added = [
            auth,
            starttls.then_some("STARTTLS"),
            self.keeps_mtrk(&shown.offer).then_some("MTRK"),
            self.track_offered.then_some("TRACK NOW"),
        ];
        for line in added.into_iter().flatten() {
            lines.add(line);
        }
        lines.into_reply()
    }

    fn may_log_in(&self) -> bool {
        let (client, next) = (&self.client, &self.next);
        let waits_for_tls = |tls: &ServerTls| !tls.auth_in_clear;
        !client.starttls(self.site).is_some_and(waits_for_tls)
            && login_is_private(
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
            self.helo = None;
            self.offer = None;
            self.track_offered = false;
        }
        Ok(())
    }

    /// An AUTH exchange: after a 334 the client's lines are no commands (RFC 4954, 4). Nothing of it is
    /// ever logged.
    async fn auth(&mut self, line: &[u8]) -> Result<(), End> {
        if !self.may_log_in() {
            let offered = self.client.starttls(self.site).is_some();
            let refusal = if offered { STARTTLS_FIRST } else { TLS_FIRST };
            return self.refuse(&refusal);
        }
        let mut code = self.exchange(line).await?;
        while code == 334 {
            let response = self.client.response(&self.site.hop).await?;
            code = self.exchange(&response).await?;
        }
        if code == 235 {
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
        if self.exchange(line).await? / 100 == 2 {
            self.forget();
        }
        Ok(())
    }

    async fn mail(&mut self, command: Command<'_>, line: &[u8]) -> Result<(), End> {
        let mail = match command.envelope() {
            Ok(mail) => mail,
            Err(refusal) => return self.refuse(&refusal),
        };
        let tracked = match self.request(&mail) {
            Ok(tracked) => tracked,
            Err(refusal) => return self.refuse(&refusal),
        };
        let tracked = match tracked {
            Some(tracked) => Box::pin(self.claimed(&mail, tracked)).await,
            None => None,
        };
        let wish = match tracked {
            Some(_) => None,
            None => self.wish(&mail),
        };
        let (changed, room) = self.outgoing_mail(&mail, tracked.as_deref(), wish);
        let line = changed.as_deref().unwrap_or(line);
        self.forward().await?;
        let command_us = self.site.hop.clock.now_us();
        let reply = self.ask(line).await?;
        let reply_us = self.site.hop.clock.now_us();
        if reply.is_positive() {
            let mut times = Times::after(self.hello.as_deref().copied(), self.client.security());
            times.record(Stage::Mail, command_us, reply_us);
            self.forget();
            self.envelope = Some(Box::new(Envelope {
                wish: wish.filter(|_| room),
                ..Envelope::of(&mail, tracked.filter(|_| room), times)
            }));
        }
        self.answer(reply)
    }

    fn next_hop_tracks(&self) -> bool {
        self.offer.as_ref().is_some_and(|offer| offer.tracks)
    }

    async fn rcpt(&mut self, command: Command<'_>, line: &[u8]) -> Result<(), End> {
        let rcpt = match command.envelope() {
            Ok(rcpt) => rcpt,
            Err(refusal) => return self.refuse(&refusal),
        };
        let wish = self.wish_with(&rcpt);
        let changed = self.outgoing_rcpt(&rcpt, wish);
        let command_us = self.site.hop.clock.now_us();
        let reply = self.ask(changed.as_deref().unwrap_or(line)).await?;
        let reply_us = self.site.hop.clock.now_us();
        if let Some(envelope) = &mut self.envelope {
            envelope.times.record(Stage::Rcpt, command_us, reply_us);
            if reply.is_positive() {
                envelope.wish = wish;
                envelope.admit(Recipient::of(&rcpt), self.site.hop.limits.recipients_max);
            }
        }
        self.answer(reply)
    }
}

/// An MTA that is spoken to under TLS may offer AUTH for that reason alone; a password is not to cross a
/// network in plaintext on its way to hoptrail instead.
fn login_is_private(client_secure: bool, next_secure: bool, client: IpAddr) -> bool {
    client_secure || !next_secure || client.to_canonical().is_loopback()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Up to here the allocator is quick, and leaves no holes between what sessions hold.
    #[test]
    fn what_a_session_begins_and_ends_with_is_small() {
        fn octets<A, B, F>(_: impl FnOnce(A, B) -> F) -> usize {
            size_of::<F>()
        }
        let (first, last) = (octets(meet), octets(Ingress::part));
        assert!(first <= 1032 && last <= 1032, "{first} {last}");
    }

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
