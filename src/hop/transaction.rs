//! One mail transaction as the proxy knows it: the envelope, what was asked, when things happened, how
//! each recipient fared; and the `Step` that comes of it. No sockets.

use super::claim::Claim;
use crate::smtp::command::{Command, Refusal};
use crate::smtp::data::header_fields;
use crate::smtp::envelope::EnvelopeCommand;
use crate::smtp::reply::Reply;
use crate::smtp::xtext;
use crate::track::mtrk::Mtrk;
use crate::track::policy::Asker;
use crate::track::wish::Wish;
use crate::track::{
    Asked, Event, Exchange, RecipientStatus, Security, Stage, Status, StepId, TrackRequest,
    TrackingId,
};

const MALFORMED_MTRK: Refusal = Refusal::new(501, "5.5.4", "malformed MTRK parameter");

/// Octets of Received fields in one report.
const RECEIVED_OCTETS_MAX: usize = 16 * 1024;
/// RFC 5322, 2.1.1.
const LINE_OCTETS_MAX: usize = 998;

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

    /// Keeps an accepted recipient, up to `recipients_max` of them.
    pub fn admit(&mut self, recipient: Recipient, recipients_max: usize) {
        if self.recipients.len() < recipients_max {
            self.recipients.push(recipient);
        } else {
            self.overflown = true;
        }
    }
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
        Self {
            exchanges: hello.into_iter().collect(),
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
    pub fn status(&self, original: String, recipient: String, event: Event) -> RecipientStatus {
        RecipientStatus {
            original,
            recipient,
            event,
            status: status_of(event, &self.reply),
            remote_mta: Some(self.remote_mta.clone()),
            attempted_us: Some(self.at_us),
            reply: Some(self.reply.text()),
            remote_queue_id: self.reply.queue_id(),
        }
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

/// The Message-ID in a header block, without its angle brackets, if it can stand in a report.
pub fn message_id(header: &[u8]) -> Option<&[u8]> {
    let value =
        header_fields(header).find_map(|field| field_value(&header[field], "Message-ID"))?;
    let value = value.trim_ascii();
    let value = value
        .strip_prefix(b"<")
        .and_then(|v| v.strip_suffix(b">"))
        .unwrap_or(value);
    let sane =
        !value.is_empty() && value.len() <= 250 && value.iter().all(|b| (b'!'..=b'~').contains(b));
    (sane && !value.contains(&b'<') && !value.contains(&b'>')).then_some(value)
}

/// What a message says it is, if that is an answer to something: to a report, it may be. What a machine sends of itself (RFC 3834, 5: `auto-generated`) was caused by none.
pub fn is_caused(header: &[u8]) -> Option<&'static str> {
    if is_report(header) {
        return Some("a tracking report itself");
    }
    let caused = |value: &[u8]| {
        let mut words = value.split(|b| b" \t\r\n;(".contains(b));
        let word = words.find(|word| !word.is_empty()).unwrap_or_default();
        !word.eq_ignore_ascii_case(b"no") && !word.eq_ignore_ascii_case(b"auto-generated")
    };
    header_fields(header)
        .filter_map(|field| field_value(&header[field], "Auto-Submitted"))
        .any(caused)
        .then_some("an automatic reply")
}

fn is_report(header: &[u8]) -> bool {
    header_fields(header)
        .filter_map(|field| field_value(&header[field], "Content-Type"))
        .any(|value| {
            let value = value.to_ascii_lowercase();
            let holds = |word: &[u8]| memchr::memmem::find(&value, word).is_some();
            holds(b"multipart/report") && holds(b"tracking-status")
        })
}

/// The Received fields of a header block as they stand there, the newest first, as far as a report takes them: in
/// ASCII, no line or all of them too long.
pub fn received(header: &[u8]) -> String {
    let mut text = String::new();
    for field in header_fields(header) {
        let field = &header[field];
        if field_value(field, "Received").is_none()
            || text.len() + field.len() > RECEIVED_OCTETS_MAX
        {
            continue;
        }
        let lines = field.split(|b| *b == b'\n');
        for line in lines.map(<[u8]>::trim_ascii_end).filter(|l| !l.is_empty()) {
            let printable = |b: &u8| matches!(b, b'\t' | b' '..=b'~');
            let shown = |b: &u8| if printable(b) { char::from(*b) } else { '?' };
            text.extend(line.iter().take(LINE_OCTETS_MAX).map(shown));
            text.push_str("\r\n");
        }
    }
    text
}

/// What stands behind the colon of a field called `name`.
pub fn field_value<'a>(field: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let (head, rest) = field.split_at_checked(name.len())?;
    let rest = rest.trim_ascii_start();
    if head.eq_ignore_ascii_case(name.as_bytes()) {
        rest.strip_prefix(b":")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn received_fields_are_told_as_they_stand_and_nothing_else() {
        let header = b"Received: by a;\r\n\tSun\r\nSubject: Received: no\r\nX-Received: by x\r\n\
            RECEIVED : by \xc3\xa4\x00 \r\n \r\nFrom: b@c\r\n\r\nReceived: in the body\r\n";
        assert_eq!(
            received(header),
            "Received: by a;\r\n\tSun\r\nRECEIVED : by ???\r\n"
        );
        let long = [b"Received: ".as_slice(), &[b'x'; 2000], b"\r\n"].concat();
        assert_eq!(received(&long).len(), LINE_OCTETS_MAX + 2);
        let many = b"Received: by somebody\r\n".repeat(1000);
        assert!((16_000..=RECEIVED_OCTETS_MAX).contains(&received(&many).len()));
    }
}
