//! The dialogue of egress and delivery. Whether a message is tracked, and by whom, stands in its header,
//! so greeting, hello, MAIL, RCPT and DATA are answered here; then the transaction is opened at the next
//! hop, the message streams on, and each recipient gets the next hop's own reply after the dot, or after the
//! last chunk. Nothing is ever accepted on our own account.
//!
//! Over LMTP there is a reply for each recipient; over SMTP there is one, so a transaction takes one
//! recipient (452 4.5.3 for more).

mod chunks;

use std::time::Duration;

use futures_util::future::{join, join_all};
use tokio::time::timeout;
use tracing::info;

use super::chunk::DATA_AFTER_BDAT;
use super::client::{Client, End, HELLO_FIRST, Heard, NOT_IMPLEMENTED, early_message};
use super::deadline::Timer;
use super::departure::Part;
use super::dispatch::{Dispatch, Peers};
use super::head::Head;
use super::leg::Framing;
use super::next_hop::Protocol;
use super::notify::{notification, wants_success};
use super::onward::{MAIL_PARAMETERS, RCPT_PARAMETERS, is_binary};
use super::passage::{Passage, Wired, leaves_unfollowed};
use super::transaction::{Batch, Envelope, Mail, Recipient, Times, mtrk};
use super::{Site, log_step, parameters};
use crate::smtp::capability::Capabilities;
use crate::smtp::command::{Command, Verb};
use crate::smtp::envelope::EnvelopeCommand;
use crate::smtp::refusal::Refusal;
use crate::smtp::reply::Reply;
use crate::track::{Exchange, Stage};
use chunks::Chunks;

const NO_RECIPIENT: Refusal = Refusal::new(503, "5.5.1", "need RCPT command");
/// RFC 3030, 3.
const BINARY_IN_DATA: Refusal = Refusal::new(503, "5.5.1", "BODY=BINARYMIME needs BDAT");
/// The next hops have been told of those that came before.
const RCPT_AFTER_BDAT: Refusal = Refusal::new(503, "5.5.1", "RCPT after BDAT");

/// Between the replies to the end of a message, where the client takes one thing at a time. `OpenSMTPD` breaks off when
/// it finds a second reply behind the first, and later sends again what the next hop has taken.
const REPLY_GAP: Duration = Duration::from_millis(50);

/// For all the gaps of a message together: who has not had his reply when the session breaks off is sent to again.
const REPLY_GAPS_MAX: Duration = Duration::from_secs(1);

/// Serves one client of an egress or a delivery.
pub async fn run(site: &Site, client: &mut Client) {
    let greeting = format!("{} {}", site.hop.hostname, greeting(site));
    client.say(220, "", &greeting);
    let mut session = Transfer {
        site,
        client,
        peers: Peers::default(),
        hello: None,
        track_offered: false,
        pipelines: false,
        mail: None,
        chunks: None,
    };
    let end = session.dialogue().await;
    session.forget();
    let Transfer { client, peers, .. } = session;
    client.close(&site.hop, end).await;
    peers.quit().await;
}

fn greeting(site: &Site) -> &'static str {
    match site.listener.protocol {
        Protocol::Smtp => "ESMTP hoptrail",
        Protocol::Lmtp => "LMTP hoptrail",
    }
}

struct Transfer<'a> {
    site: &'a Site,
    client: &'a mut Client,
    /// Connections to next hops, kept for the next transaction.
    peers: Peers,
    hello: Option<Exchange>,
    track_offered: bool,
    /// The client does not wait for each reply.
    pipelines: bool,
    mail: Option<Mail>,
    /// Its message, where it comes in chunks, from the first to the last.
    chunks: Option<Chunks<'a>>,
}

impl Transfer<'_> {
    async fn dialogue(&mut self) -> End {
        loop {
            let idle = self.mail.is_none();
            let step = match self.client.listen(&self.site.hop, idle, None).await {
                Ok(Heard::Line(line)) => self.follow(&line).await,
                // Nobody else is listened to.
                Ok(Heard::NextHop(_)) => Err(End::Done),
                Err(end) => Err(end),
            };
            if let Err(end) = step {
                return end;
            }
        }
    }

    fn refuse(&mut self, refusal: &Refusal) -> Result<(), End> {
        self.client.refuse(&self.site.hop, refusal)
    }

    async fn refuse_data(&mut self, refusal: &Refusal) -> Result<(), End> {
        self.client.refuse_data(&self.site.hop, refusal).await
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
        let lmtp = self.site.listener.protocol == Protocol::Lmtp;
        match command.verb {
            Verb::Lhlo | Verb::Ehlo if lmtp == (command.verb == Verb::Lhlo) => {
                self.hello(true);
                Ok(())
            }
            Verb::Helo if !lmtp => {
                self.hello(false);
                Ok(())
            }
            Verb::Mail if self.client.hello_due => self.refuse(&HELLO_FIRST),
            Verb::Mail => self.mail(command),
            Verb::Rcpt => self.rcpt(command),
            Verb::Data => Box::pin(self.data()).await,
            Verb::Starttls => self.starttls().await,
            Verb::Quit => {
                self.client.say(221, "2.0.0", "Bye");
                Err(End::Done)
            }
            Verb::Bdat => Box::pin(self.bdat(&command)).await,
            verb => self.small_talk(verb),
        }
    }

    /// There is no transaction any more; what next hops have of its message is not completed.
    fn forget(&mut self) {
        self.mail = None;
        self.chunks = None;
    }

    /// Commands that move no mail.
    fn small_talk(&mut self, verb: Verb) -> Result<(), End> {
        match verb {
            Verb::Rset => {
                self.forget();
                self.client.say(250, "2.0.0", "Ok");
            }
            Verb::Noop => self.client.say(250, "2.0.0", "Ok"),
            Verb::Vrfy => self.client.say(252, "2.5.2", "cannot verify, will try"),
            Verb::Help => self
                .client
                .say(214, "2.0.0", "hoptrail, in front of the next hop"),
            _ => self.refuse(&NOT_IMPLEMENTED)?,
        }
        Ok(())
    }

    async fn starttls(&mut self) -> Result<(), End> {
        if self
            .client
            .start_tls(self.site, self.mail.is_some())
            .await?
        {
            // What came in plaintext came from anybody (RFC 3207, 4.2).
            self.hello = None;
            self.track_offered = false;
        }
        Ok(())
    }

    /// Our own offer, the same whatever the next hops take: it is made before they are known.
    fn hello(&mut self, extended: bool) {
        let command_us = self.site.hop.clock.now_us();
        self.forget();
        self.client.hello_due = false;
        let hostname = self.site.hop.hostname.clone();
        if !extended {
            self.track_offered = false;
            self.client.say(250, "", &hostname);
            return;
        }
        self.track_offered = self.site.offers_track(self.client, false);
        let mut offer = Capabilities::of(&Reply::new(250, "", &hostname));
        for keyword in [
            "PIPELINING",
            "ENHANCEDSTATUSCODES",
            "8BITMIME",
            "CHUNKING",
            "BINARYMIME",
            "SMTPUTF8",
            "SIZE",
        ] {
            offer.add(keyword);
        }
        let tracking = self.site.hop.tracking.get();
        if tracking.is_some_and(|tracking| tracking.store.is_well()) {
            // Where a next hop lacks DSN its duties become ours, which takes a store. MTRK goes with it.
            offer.add("DSN");
            offer.add("MTRK");
        }
        if self.client.starttls(self.site).is_some() {
            offer.add("STARTTLS");
        }
        if self.track_offered {
            offer.add("TRACK NOW");
        }
        self.client.answer(offer.into_reply());
        let reply_us = self.site.hop.clock.now_us();
        self.hello = Some(Exchange {
            stage: Stage::Ehlo,
            command_us,
            reply_us,
        });
    }

    fn mail(&mut self, command: Command<'_>) -> Result<(), End> {
        if self.mail.is_some() {
            return self.refuse(&Refusal {
                code: 503,
                status: "5.5.1",
                text: "nested MAIL command",
            });
        }
        let mail = match command.envelope() {
            Ok(mail) => mail,
            Err(refusal) => return self.refuse(&refusal),
        };
        if let Some(refusal) = unknown_parameter(&mail, &MAIL_PARAMETERS) {
            return self.refuse(&refusal);
        }
        if let Err(refusal) = mtrk(&mail).and(parameters::check(&mail)) {
            return self.refuse(&refusal);
        }
        let tracked = match self.site.request(self.client, &mail, self.track_offered) {
            Ok(tracked) => tracked,
            Err(refusal) => return self.refuse(&refusal),
        };
        let now_us = self.site.hop.clock.now_us();
        let mut times = Times::after(self.hello, self.client.security());
        times.record(Stage::Mail, now_us, now_us);
        self.mail = Some(Mail {
            envelope: Envelope::of(&mail, tracked, times),
            line: mail.without("TRACK"),
            rcpts: Vec::new(),
            plain_header: false,
        });
        self.pipelines |= self.client.is_early();
        self.client.say(250, "2.1.0", "Ok");
        Ok(())
    }

    fn rcpt(&mut self, command: Command<'_>) -> Result<(), End> {
        if self.chunks.is_some() {
            return self.refuse(&RCPT_AFTER_BDAT);
        }
        let rcpt = match command.envelope() {
            Ok(rcpt) => rcpt,
            Err(refusal) => return self.refuse(&refusal),
        };
        if let Some(refusal) = unknown_parameter(&rcpt, &RCPT_PARAMETERS) {
            return self.refuse(&refusal);
        }
        if let Err(refusal) = parameters::check(&rcpt) {
            return self.refuse(&refusal);
        }
        let recipients_max = match self.site.listener.protocol {
            Protocol::Smtp => 1,
            Protocol::Lmtp => self.site.hop.limits.recipients_max,
        };
        let now_us = self.site.hop.clock.now_us();
        let Some(mail) = &mut self.mail else {
            return self.refuse(&Refusal {
                code: 503,
                status: "5.5.1",
                text: "need MAIL command",
            });
        };
        if mail.rcpts.len() >= recipients_max {
            self.client
                .say(452, "4.5.3", "too many recipients for one transaction");
            return Ok(());
        }
        mail.envelope.times.record(Stage::Rcpt, now_us, now_us);
        mail.envelope.recipients.push(Recipient::of(&rcpt));
        mail.rcpts.push(rcpt.without("TRACK"));
        self.pipelines |= self.client.is_early();
        self.client.say(250, "2.1.5", "Ok");
        Ok(())
    }

    async fn data(&mut self) -> Result<(), End> {
        let command_us = self.site.hop.clock.now_us();
        if self.chunks.is_some() {
            // RFC 3030, 2: the state is indeterminate, until RSET.
            self.chunks = Some(Chunks::Failed);
            return self.refuse_data(&DATA_AFTER_BDAT).await;
        }
        if self.mail.as_ref().is_none_or(|mail| mail.rcpts.is_empty()) {
            return self.refuse_data(&NO_RECIPIENT).await;
        }
        if self.mail.as_ref().is_some_and(|mail| is_binary(&mail.line)) {
            return self.refuse_data(&BINARY_IN_DATA).await;
        }
        let Some(mut mail) = self.mail.take() else {
            return Ok(());
        };
        if self.client.is_early() {
            return Err(End::Refuse(early_message()));
        }
        self.client.say(354, "", "go ahead, end with CRLF.CRLF");
        mail.envelope
            .times
            .record(Stage::Data, command_us, self.site.hop.clock.now_us());
        self.message(mail).await
    }

    /// The message, from behind the 354 to the replies after the dot.
    async fn message(&mut self, mut mail: Mail) -> Result<(), End> {
        let (site, arrival_us) = (self.site, self.site.hop.clock.now_us());
        let mut body = self
            .client
            .body(&site.hop, site.listener.bare_newline)
            .await?;
        let mut head = body
            .head(site.hop.limits.leaving_header_octets_max())
            .await?;
        let known = Known::of(site, &mut mail, &mut head, arrival_us).await;
        let passage = known.passage.as_ref();
        let mut dispatch =
            Dispatch::open(site, &mut self.peers, &mail, passage, Framing::Data).await;
        dispatch.body(head.text, &mut body).await?;
        let octets = body.octets;
        self.conclude(mail, known, octets, dispatch).await
    }

    /// Answers for each recipient of a message of so many octets that is over, as soon as his reply is known and what
    /// is to be told of it is on record: what a client has heard of is not sent again, whatever becomes of the rest
    /// (RFC 1047). One that goes away is no reason not to hear the rest, which is told too.
    async fn conclude(
        &mut self,
        mail: Mail,
        known: Known,
        octets: u64,
        mut dispatch: Dispatch<'_>,
    ) -> Result<(), End> {
        let several = mail.rcpts.len() > 1;
        let notified = || mail.rcpts.iter().any(|line| wants_success(line));
        let gathers = several && (known.passage.is_some() || notified());
        let (mut from, mut answered) = (0, Ok(()));
        while from < mail.rcpts.len() {
            let batch = dispatch.next(from, gathers).await;
            let parts = dispatch.parts(&batch);
            self.record(&mail, &known, octets, &batch, parts).await;
            if answered.is_ok() {
                answered = self.answer_each(&batch, mail.rcpts.len()).await;
            }
            from = batch.end();
        }
        dispatch.keep(&mut self.peers);
        answered
    }

    /// What is to be told of some recipients, made durable.
    async fn record(
        &mut self,
        mail: &Mail,
        known: &Known,
        octets: u64,
        batch: &Batch,
        parts: impl Iterator<Item = Part<'_>>,
    ) {
        let (site, arrival_us) = (self.site, known.arrival_us);
        let (passage, message_id) = (known.passage.as_ref(), known.message_id.as_deref());
        let notification = notification(site, mail, passage, message_id, batch, arrival_us);
        if let Some(step) = notification {
            site.record(step, self.client.timer()).await;
        }
        let Some(passage) = passage else {
            return;
        };
        let wired = Wired {
            arrival_us,
            octets: octets - known.removed,
            message_id,
        };
        let mut steps = passage
            .steps(site, &mail.envelope, wired, batch, parts)
            .inspect(|step| log_step(&site.hop, step));
        let Some(first) = steps.next() else {
            return;
        };
        // Side by side: however many there are, the client waits for the store once.
        let more = steps.map(|step| async move { site.record(step, &mut Timer::default()).await });
        join(site.record(first, self.client.timer()), join_all(more)).await;
    }

    /// The reply for each recipient of a batch, of a transaction with so many. It is on its way before more is waited for.
    async fn answer_each(&mut self, batch: &Batch, recipients: usize) -> Result<(), End> {
        let replies = u32::try_from(recipients).unwrap_or(u32::MAX);
        let gap = REPLY_GAP.min(REPLY_GAPS_MAX / replies.max(1));
        for (place, fate) in (batch.from..).zip(&batch.fates) {
            if place > 0 && !self.pipelines {
                self.client.flush().await?;
                self.pause(gap).await;
            }
            self.client.tell(fate.outcome.reply.raw());
        }
        if batch.end() < recipients {
            self.client.flush().await?;
        }
        Ok(())
    }

    /// Waits so long, but no more when hoptrail is told to stop.
    async fn pause(&self, gap: Duration) {
        let mut stopping = self.site.hop.stopping.clone();
        // It does not matter which of the two ended the wait.
        let _ = timeout(gap, stopping.wait_for(|stop| *stop)).await;
    }
}

/// What is known of a message once its header block has been looked at.
struct Known {
    /// When it began to come, µs.
    arrival_us: i64,
    message_id: Option<String>,
    passage: Option<Passage>,
    /// Octets of carry headers, which were taken out.
    removed: u64,
}

impl Known {
    async fn of(site: &Site, mail: &mut Mail, head: &mut Head, arrival_us: i64) -> Self {
        let whole = head.text.len();
        let mut carried = site.take_carry(head);
        if !head.is_whole()
            && let Some(opened) = carried.take()
        {
            let (hop, envid) = (&site.hop.hostname, &opened.carry.id);
            info!(%hop, %envid, "header block grown over the limit: untracked");
            leaves_unfollowed(site, &opened).await;
        }
        mail.plain_header = head.is_whole() && head.block().is_ascii();
        let message_id = head.message_id();
        let removed = (whole - head.text.len()) as u64;
        mail.lose(removed);
        let envelope = &mut mail.envelope;
        if site.caused(head.block(), &envelope.recipients).is_some() {
            envelope.tracked = None;
        }
        let mut passage = Passage::of(site, envelope, carried, message_id.as_deref()).await;
        if let Some(passage) = &mut passage {
            passage.look(site, head.block());
        }
        Self {
            arrival_us,
            message_id,
            passage,
            removed,
        }
    }
}

/// A parameter we would have to drop without knowing what it asks (RFC 5321, 4.1.1.11).
fn unknown_parameter(command: &EnvelopeCommand<'_>, known: &[(&str, &str)]) -> Option<Refusal> {
    let is_known = |keyword: &[u8]| {
        keyword.eq_ignore_ascii_case(b"TRACK")
            || known
                .iter()
                .any(|(name, _)| keyword.eq_ignore_ascii_case(name.as_bytes()))
    };
    (!command.params().all(|(keyword, _)| is_known(keyword))).then_some(Refusal {
        code: 555,
        status: "5.5.4",
        text: "unsupported parameter",
    })
}
