//! One mail transaction as the proxy knows it: the envelope, what was asked, when things happened, how
//! each recipient fared; and the `Step` that comes of it. No sockets.

use super::claim::Claim;
use crate::smtp::command::Command;
use crate::smtp::envelope::EnvelopeCommand;
use crate::smtp::refusal::Refusal;
use crate::smtp::reply::Reply;
use crate::smtp::xtext;
use crate::track::asker::Asker;
use crate::track::mtrk::Mtrk;
use crate::track::wish::Wish;
use crate::track::{
    Asked, Event, Exchange, RecipientStatus, Security, Stage, Status, StepId, TrackRequest,
    TrackingId, own,
};
use compact_str::CompactString;

const MALFORMED_MTRK: Refusal = Refusal::new(501, "5.5.4", "malformed MTRK parameter");

/// The envelope of a transaction under way.
pub struct Envelope {
    /// The mailbox of MAIL FROM as written, empty for the null reverse-path.
    pub reverse_path: Vec<u8>,
    /// The decoded ENVID.
    pub envid: Option<String>,
    /// The accepted recipients, in order.
    pub recipients: Vec<Recipient>,
    /// There were more recipients than are kept; such a transaction is not tracked, since a recipient that is
    /// not on record would be taken for a member of an alias behind the MTA.
    pub overflown: bool,
    /// The tracking of this transaction, if there is any.
    pub tracked: Option<Box<Tracked>>,
    /// What may still ask for it, where MAIL did not.
    pub wish: Option<Wish>,
    /// The exchanges with the client.
    pub times: Times,
}

impl Envelope {
    /// An accepted MAIL.
    pub fn of(mail: &EnvelopeCommand<'_>, tracked: Option<Box<Tracked>>, times: Times) -> Self {
        Self {
            reverse_path: mail.mailbox().to_vec(),
            envid: envid(mail),
            recipients: Vec::new(),
            overflown: false,
            tracked,
            wish: None,
            times,
        }
    }

    /// Whether it is tracked, or may come to be.
    pub fn may_be_tracked(&self) -> bool {
        self.tracked.is_some() || self.wish.is_some()
    }

    /// Keeps an accepted recipient, up to `recipients_max` of them.
    pub fn admit(&mut self, recipient: Recipient, recipients_max: usize) {
        if self.recipients.len() < recipients_max {
            self.recipients.push(recipient);
        } else {
            self.overflown = true;
        }
    }
}

/// A transaction as the client wrote it.
pub struct Mail {
    /// What it means.
    pub envelope: Envelope,
    /// The MAIL line, without TRACK.
    pub line: Vec<u8>,
    /// The RCPT lines, beside `envelope.recipients`.
    pub rcpts: Vec<Vec<u8>>,
    /// Its header block is known, and ASCII.
    pub plain_header: bool,
}

impl Mail {
    /// It goes on without so many of its octets, and SIZE= says so: a next hop is not to refuse it for what it does not
    /// get.
    pub fn lose(&mut self, octets: u64) {
        if octets > 0
            && let Some(line) = with_less(&self.line, octets)
        {
            self.line = line;
        }
    }
}

/// A MAIL line (without CRLF) whose SIZE=, if it has one, is by so many octets less.
fn with_less(line: &[u8], octets: u64) -> Option<Vec<u8>> {
    let mail = Command::parse(line).ok()?.envelope().ok()?;
    let size = std::str::from_utf8(mail.param("SIZE")??).ok()?;
    let left = size.parse::<u64>().ok()?.saturating_sub(octets);
    Some(mail.with_value("SIZE", &left.to_string()))
}

/// One accepted recipient.
#[derive(Clone, Debug)]
pub struct Recipient {
    /// RCPT as this hop accepted it.
    pub address: String,
    /// The address in ORCPT, if the client gave one.
    pub original: Option<String>,
}

impl Recipient {
    /// Takes an accepted RCPT.
    pub fn of(command: &EnvelopeCommand<'_>) -> Self {
        let orcpt = command.param("ORCPT").flatten();
        Self {
            address: String::from_utf8_lossy(command.mailbox()).into_owned(),
            original: orcpt.and_then(original_recipient),
        }
    }
}

/// The address in an ORCPT value `rfc822;xtext` (RFC 3461, 4.2).
fn original_recipient(orcpt: &[u8]) -> Option<String> {
    let at = orcpt.iter().position(|b| *b == b';')?;
    let (kind, address) = orcpt.split_at(at);
    if !kind.eq_ignore_ascii_case(b"rfc822") {
        return None;
    }
    xtext::decode_printable(address.get(1..)?)
}

/// A request that this hop honours.
pub struct Tracked {
    /// The tracking id.
    pub id: TrackingId,
    /// This hop's step.
    pub step: StepId,
    /// The request as it reached this hop; `id` is set exactly when no ENVID names the message.
    pub request: TrackRequest,
    /// The standard's own request that came with it, where the MTA does not take it.
    pub mtrk: Option<Mtrk>,
    /// Who asked.
    pub asked: Asked,
    /// The Received fields seen here, if he may know them.
    pub received: Option<String>,
    /// What a stranger has yet to prove; unproven, the request comes to nothing.
    pub claim: Option<Claim>,
    /// The ring in which the message came back to this hop, as in its report; empty if it did not.
    pub ring: Vec<String>,
    /// It crosses the MTA in a carry header, by which the message is seen leaving.
    pub crosses: bool,
}

impl Tracked {
    /// The same, with the MTRK beside it; without an ENVID that names nothing (RFC 3885, 3.2).
    pub fn with(mut self: Box<Self>, mtrk: Option<Mtrk>) -> Box<Self> {
        self.mtrk = mtrk.filter(|_| self.request.id.is_none());
        self
    }

    /// Who asked, where that is settled.
    pub fn known_asker(&self) -> Option<Asker> {
        self.claim.is_none().then_some(self.asked.by)
    }

    /// The number of this hop, 1 for the first.
    pub fn hop(&self) -> u8 {
        self.request.hop.saturating_add(1)
    }
}

/// The tracking id of a transaction: its ENVID, else the request's `id/`, else `minted`. In the latter
/// two cases the request says so from here on.
pub fn identify(request: &mut TrackRequest, envid: Option<&str>, minted: TrackingId) -> TrackingId {
    if let Some(id) = envid.and_then(TrackingId::new) {
        request.id = None;
        return id;
    }
    request.id.get_or_insert(minted).clone()
}

/// The decoded ENVID of a MAIL.
pub fn envid(mail: &EnvelopeCommand<'_>) -> Option<String> {
    xtext::decode_printable(mail.param("ENVID").flatten()?)
}

/// The MTRK of a MAIL; a refusal if it is malformed.
pub fn mtrk(mail: &EnvelopeCommand<'_>) -> Result<Option<Mtrk>, Refusal> {
    let Some(value) = mail.param("MTRK") else {
        return Ok(None);
    };
    let once = value.filter(|_| mail.count("MTRK") == 1);
    once.and_then(Mtrk::parse).map(Some).ok_or(MALFORMED_MTRK)
}

/// A MAIL or RCPT line (without CRLF) without this parameter.
pub fn without(line: &[u8], keyword: &str) -> Vec<u8> {
    Command::parse(line)
        .and_then(|command| Ok(command.envelope()?.without(keyword)))
        .unwrap_or_else(|_| line.to_vec())
}

/// The exchanges of one leg of a transaction, and what protected them.
#[derive(Clone, Debug, Default)]
pub struct Times {
    exchanges: Vec<Exchange>,
    /// The connection's, if there was just one.
    pub security: Option<Security>,
}

impl Times {
    /// A transaction on a connection whose hello was said then.
    pub fn after(hello: Option<Exchange>, security: Security) -> Self {
        let mut exchanges = Vec::with_capacity(Stage::ALL.len());
        exchanges.extend(hello);
        Self {
            exchanges,
            security: Some(security),
        }
    }

    /// Adds an exchange; several RCPTs make one, from the first command to the last reply.
    pub fn record(&mut self, stage: Stage, command_us: i64, reply_us: i64) {
        let mut known = self.exchanges.iter_mut();
        match known.find(|exchange| exchange.stage == stage) {
            Some(exchange) => exchange.reply_us = reply_us,
            None => self.exchanges.push(Exchange {
                stage,
                command_us,
                reply_us,
            }),
        }
    }

    /// What was recorded, in order.
    pub fn exchanges(self) -> Vec<Exchange> {
        self.exchanges
    }
}

/// How a recipient fared at the next hop.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The next hop's reply, or ours if it could not be reached.
    pub reply: Reply,
    /// Who was tried.
    pub remote_mta: String,
    /// When the reply was there, µs.
    pub at_us: i64,
}

impl Outcome {
    /// The per-recipient group of the report.
    pub fn status(
        &self,
        original: CompactString,
        recipient: CompactString,
        event: Event,
    ) -> RecipientStatus {
        RecipientStatus {
            original,
            recipient,
            ..fared(event, &self.reply, &self.remote_mta, self.at_us)
        }
    }
}

/// What a message is answered with whose end got a reply that says neither yes nor no.
pub fn no_verdict(reply: &Reply) -> Reply {
    let text = format!(
        "{}answered the end of the message with {}",
        own::NEXT_HOP,
        reply.code
    );
    Reply::new(451, "4.5.0", &text)
}

/// The per-recipient group of whoever it is that fared so; `at_us` is when the reply was there, µs.
pub fn fared(event: Event, reply: &Reply, remote_mta: &str, at_us: i64) -> RecipientStatus {
    RecipientStatus {
        original: CompactString::default(),
        recipient: CompactString::default(),
        event,
        status: status_of(event, reply),
        remote_mta: Some(remote_mta.into()),
        attempted_us: Some(at_us),
        reply: Some(reply.text()),
        remote_queue_id: reply.queue_id(),
    }
}

/// How a recipient fared, and what can be expected of where it went.
pub struct Fate {
    /// The reply.
    pub outcome: Outcome,
    /// The next hop was given the request.
    pub tracks: bool,
    /// The next hop took over the duties of NOTIFY.
    pub notifies: bool,
}

/// Recipients of a transaction who are answered together: one behind the other in the client's order.
pub struct Batch {
    /// The place of the first.
    pub from: usize,
    /// How they fared; never empty.
    pub fates: Vec<Fate>,
}

impl Batch {
    /// How the recipient at this place of the client's order fared, if he is in it.
    pub fn fate(&self, place: usize) -> Option<&Fate> {
        self.fates.get(place.checked_sub(self.from)?)
    }

    /// The place behind the last.
    pub fn end(&self) -> usize {
        self.from + self.fates.len()
    }
}

/// The status of an event: 2.1.9 exactly for `relayed` (RFC 3886, 3.3.4), 4.4.6 for a message in a ring, else the reply's own enhanced
/// code, else x.0.0 of its class.
pub fn status_of(event: Event, reply: &Reply) -> Status {
    if event == Event::Relayed {
        return Status::RELAYED;
    }
    if event == Event::Looped {
        return Status::LOOP;
    }
    match reply.enhanced() {
        Some((class, subject, detail)) => Status {
            class,
            subject,
            detail,
        },
        None => Status::of_class(reply.class()),
    }
}
