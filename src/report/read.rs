//! The bytes of a mail to `HopReport`. It and [`super::notice`] are the only files that know mail-parser.
//!
//! Takes any bytes without panicking. Reads a report only where it is the mail itself: one that was
//! forwarded or is part of another mail is not what its hop sent.

use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use mail_parser::{Address, HeaderName, Host, Message, MessageParser, MessagePart, MimeHeaders};
use thiserror::Error;

use super::field::{AUTH_ALGORITHM, Group, PLAIN, UNVERIFIED, VERIFIED, VERSION, canonical, name};
use super::notice::moment_us;
use super::{address, layout, split};
use crate::track::clean::{self, EXCHANGES_MAX};
use crate::track::{Exchange, HopReport, RecipientStatus, Role, Security, Stage, TrackingId};

/// Largest report that is read, octets: ten thousand recipients with long addresses and replies.
pub const REPORT_OCTETS_MAX: usize = 8 * 1024 * 1024;

/// What a report's structure needs; all other header fields are passed over.
static PARSER: LazyLock<MessageParser> = LazyLock::new(|| {
    MessageParser::new()
        .header_content_type(HeaderName::ContentType)
        .header_text(HeaderName::ContentTransferEncoding)
        .header_address(HeaderName::From)
        .header_address(HeaderName::To)
        .default_header_ignore()
});

/// What the header that a hop saw tells of its way.
static TRACE_PARSER: LazyLock<MessageParser> = LazyLock::new(|| {
    MessageParser::new()
        .header_received(HeaderName::Received)
        .default_header_ignore()
});

/// A report as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// What it says, in normal form.
    pub report: HopReport,
    /// What else it says: the hop's further steps with this message that it tells together with the first.
    pub others: Vec<HopReport>,
    /// The tag out of `X-Hoptrail-Auth`, if there is a well-formed one.
    pub auth: Option<Vec<u8>>,
    /// The fields as Auth covers them.
    pub canonical: Vec<u8>,
    /// The address the mail says it is from; nothing vouches for it.
    pub from: Option<String>,
    /// The address the mail is to: the originator of the message it tells of.
    pub to: Option<String>,
    /// The Received fields the hop saw, the newest first, if it shows them. Auth does not cover them.
    pub trace: Vec<Trace>,
}

/// A Received field (RFC 5321, 4.4): what some host claims of its having had the message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    /// The host that wrote it.
    pub by: String,
    /// Who it says gave it the message: an address, else a name.
    pub client: Option<String>,
    /// The queue id there.
    pub id: Option<String>,
    /// When, µs since 1970-01-01 UTC by that host's clock, in whole seconds.
    pub at_us: Option<i64>,
}

/// Who gave the message to the MTA of a hop in this role, by the Received fields it shows, the newest first.
pub fn client(role: Role, trace: &[Trace]) -> Option<&str> {
    // In front of the MTA, its field is not there yet.
    let newest = trace.first().filter(|_| role != Role::Ingress)?;
    newest.client.as_deref()
}

/// Why a mail that calls itself a tracking report cannot be read as one of ours.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[allow(missing_docs)]
pub enum ReadError {
    #[error("larger than {REPORT_OCTETS_MAX} octets")]
    TooBig,
    #[error("has no message/tracking-status part")]
    NoPart,
    #[error(transparent)]
    Split(#[from] split::SplitError),
    #[error("field {0} is missing")]
    Missing(&'static str),
    #[error("field {0} is not understood")]
    Invalid(&'static str),
    #[error("has no recipient")]
    NoRecipient,
}

/// Reads a mail. `Ok(None)`: it is no tracking report.
pub fn read(mail: &[u8]) -> Result<Option<Received>, ReadError> {
    if !says(header_block(mail), &REPORT) {
        return Ok(None);
    }
    // The size is judged first: nothing larger is parsed.
    if mail.len() > REPORT_OCTETS_MAX {
        return Err(ReadError::TooBig);
    }
    match layout::of(mail) {
        Some(usual) => {
            let addresses = [Some(usual.from), usual.to].map(|a| a.map(clean::address));
            received(usual.tracking, addresses, usual.header).map(Some)
        }
        None => read_mime(mail),
    }
}

/// Reads a mail of any layout.
pub(super) fn read_mime(mail: &[u8]) -> Result<Option<Received>, ReadError> {
    let Some(message) = PARSER.parse(mail).filter(is_report) else {
        return Ok(None);
    };
    let part = tracking_part(&message).ok_or(ReadError::NoPart)?;
    let addresses = [message.from(), message.to()].map(address_in);
    let header = self::part(&message, "text", "rfc822-headers");
    received(part, addresses, header).map(Some)
}

/// What a tracking part says, and what stands beside it: the addresses in From and To, the header that the hop saw.
fn received(
    part: &[u8],
    [from, to]: [Option<String>; 2],
    header: Option<&[u8]>,
) -> Result<Received, ReadError> {
    let text = split::unfold(part)?;
    let groups = split::groups(&text)?;
    let Some((head, recipients)) = groups.split_first() else {
        return Err(ReadError::Missing(name::ORIGINAL_ENVELOPE_ID));
    };
    let further = recipients
        .iter()
        .skip(1)
        .position(|g| g.get(name::STEP).is_some());
    let (of_first, of_others) = recipients.split_at(further.map_or(recipients.len(), |at| at + 1));
    let report = report(head, of_first)?.clean();
    let others = others(&report, of_others)?;
    Ok(Received {
        report,
        others: others.into_iter().map(HopReport::clean).collect(),
        auth: auth(head),
        canonical: canonical(&groups),
        from,
        to,
        trace: header.map_or_else(Vec::new, trace),
    })
}

/// What the header block of a report holds.
const REPORT: Words<1> = Words {
    words: [b"tracking-status"],
    rare: 4,
};

/// What that of a notice holds: its type, or the words by which `OpenSMTPD` says it in the subject.
const DELIVERY: Words<2> = Words {
    words: [b"delivery-status", b"delivery status notification"],
    rare: 4,
};
const DISPOSITION: Words<1> = Words {
    words: [b"disposition-notification"],
    rare: 3,
};

/// The cheap test on the beginning of a mail: its header block holds a word that reports do, or notices of other mail
/// systems.
pub fn may_be_report(head: &[u8]) -> bool {
    let header = header_block(head);
    says(header, &REPORT) || says(header, &DELIVERY) || says(header, &DISPOSITION)
}

fn header_block(head: &[u8]) -> &[u8] {
    let gap = |at: &usize| {
        let next = head.get(at + 1..).unwrap_or_default();
        next.starts_with(b"\n") || next.starts_with(b"\r\n")
    };
    let end = memchr::memchr_iter(b'\n', head).find(gap);
    head.get(..end.unwrap_or(head.len())).unwrap_or_default()
}

/// Words, and where in all of them stands a letter that is rare in a header.
struct Words<const N: usize> {
    words: [&'static [u8]; N],
    rare: usize,
}

/// Whether a header block holds one of some words, in any case.
fn says<const N: usize>(header: &[u8], wanted: &Words<N>) -> bool {
    let letter = wanted.words.iter().find_map(|word| word.get(wanted.rare));
    let letter = letter.copied().unwrap_or_default();
    let stands = |at: usize, word: &[u8]| {
        let from = at.checked_sub(wanted.rare);
        let here = from.and_then(|from| header.get(from..from + word.len()));
        here.is_some_and(|here| here.eq_ignore_ascii_case(word))
    };
    memchr::memchr2_iter(letter, letter.to_ascii_uppercase(), header)
        .any(|at| wanted.words.iter().any(|word| stands(at, word)))
}

fn is_report(message: &Message) -> bool {
    message.content_type().is_some_and(|kind| {
        kind.ctype().eq_ignore_ascii_case("multipart")
            && kind
                .subtype()
                .is_some_and(|s| s.eq_ignore_ascii_case("report"))
            && kind
                .attribute("report-type")
                .is_some_and(|t| t.eq_ignore_ascii_case("tracking-status"))
    })
}

/// The octets of the tracking part.
fn tracking_part<'a>(message: &'a Message) -> Option<&'a [u8]> {
    part(message, "message", "tracking-status")
}

/// The octets of the first such part among the direct children of the mail's own multipart.
fn part<'a>(message: &'a Message, kind: &str, subtype: &str) -> Option<&'a [u8]> {
    let children = message.parts.first()?.sub_parts()?;
    children
        .iter()
        .filter_map(|id| message.parts.get(usize::try_from(*id).ok()?))
        .find(|part| part.is_content_type(kind, subtype))
        .map(MessagePart::contents)
}

/// The Received fields of a header that say who wrote them.
fn trace(header: &[u8]) -> Vec<Trace> {
    /// More than any MTA lets pass (RFC 5321, 6.3).
    const FIELDS_MAX: usize = 128;
    let Some(header) = TRACE_PARSER.parse_headers(header) else {
        return Vec::new();
    };
    let fields = header.received_all().take(FIELDS_MAX).filter_map(|field| {
        let address = field.from_ip().map(|address| address.to_string());
        Some(Trace {
            by: host(field.by.as_ref()?),
            client: address.or_else(|| field.from().map(host)),
            id: field.id.as_deref().map(clean::line),
            at_us: field.date.as_ref().and_then(moment_us),
        })
    });
    fields.collect()
}

fn host(host: &Host) -> String {
    match host {
        Host::Name(name) => clean::line(name),
        Host::IpAddr(address) => address.to_string(),
    }
}

/// The first address of a field; beyond ASCII it stands as the name of an empty group, as the writer puts it.
fn address_in(field: Option<&Address>) -> Option<String> {
    let field = field?;
    let first = field.first().and_then(|first| first.address.as_deref());
    let group = || field.as_group()?.first()?.name.as_deref();
    first.or_else(group).map(clean::address)
}

/// The tag of the algorithm we know; another one is as good as none.
fn auth(head: &Group) -> Option<Vec<u8>> {
    let (algorithm, tag) = head.get(name::AUTH)?.split_once(';')?;
    let known = algorithm.trim().eq_ignore_ascii_case(AUTH_ALGORITHM);
    known
        .then(|| URL_SAFE_NO_PAD.decode(tag.trim()).ok())
        .flatten()
}

/// The further steps of a mail: a recipient's group that names a step begins one, which is like the first in all
/// but what stands there.
fn others(first: &HopReport, recipients: &[Group]) -> Result<Vec<HopReport>, ReadError> {
    let of_steps = recipients.chunk_by(|_, next| next.get(name::STEP).is_none());
    let other = |of_step: &[Group]| {
        let begins = of_step.first().ok_or(ReadError::NoRecipient)?;
        Ok(HopReport {
            step: parsed(begins, name::STEP)?.ok_or(ReadError::Missing(name::STEP))?,
            times_out: times(begins, name::TIMES_OUT)?,
            tls_out: security(begins, name::TLS_OUT)?,
            recipients: of_step.iter().map(recipient).collect::<Result<_, _>>()?,
            ..first.clone()
        })
    };
    of_steps.map(other).collect()
}

fn report(head: &Group, recipients: &[Group]) -> Result<HopReport, ReadError> {
    if required(head, name::VERSION)? != VERSION {
        return Err(ReadError::Invalid(name::VERSION));
    }
    if recipients.is_empty() {
        return Err(ReadError::NoRecipient);
    }
    let id = required(head, name::ORIGINAL_ENVELOPE_ID)?;
    let hop = number(head, name::HOP)?.ok_or(ReadError::Missing(name::HOP))?;
    if hop == 0 {
        return Err(ReadError::Invalid(name::HOP));
    }
    Ok(HopReport {
        id: TrackingId::new(id).ok_or(ReadError::Invalid(name::ORIGINAL_ENVELOPE_ID))?,
        step: parsed(head, name::STEP)?.ok_or(ReadError::Missing(name::STEP))?,
        parent: parsed(head, name::PARENT)?,
        hop,
        role: role(head)?,
        reporting_mta: typed(required(head, name::REPORTING_MTA)?).to_owned(),
        arrival_us: number(head, name::ARRIVED)?.ok_or(ReadError::Missing(name::ARRIVED))?,
        message_id: head.get(name::MESSAGE_ID).map(str::to_owned),
        sent_ms: number(head, name::SENT)?,
        queue_id: head.get(name::QUEUE_ID).map(str::to_owned),
        size: number(head, name::SIZE)?,
        came_for: number(head, name::CAME_FOR)?,
        filtered_us: number(head, name::FILTERED)?,
        ring: ring(head),
        times_in: times(head, name::TIMES_IN)?,
        times_out: times(head, name::TIMES_OUT)?,
        tls_in: security(head, name::TLS_IN)?,
        tls_out: security(head, name::TLS_OUT)?,
        recipients: recipients.iter().map(recipient).collect::<Result<_, _>>()?,
    })
}

/// The hops of a ring.
fn ring(head: &Group) -> Vec<String> {
    let names = head.get(name::RING).unwrap_or_default();
    names.split_ascii_whitespace().map(str::to_owned).collect()
}

fn recipient(group: &Group) -> Result<RecipientStatus, ReadError> {
    let final_recipient = required(group, name::FINAL_RECIPIENT)?;
    let original = group.get(name::ORIGINAL_RECIPIENT);
    Ok(RecipientStatus {
        original: address::read(original.unwrap_or(final_recipient))
            .ok_or(ReadError::Invalid(name::ORIGINAL_RECIPIENT))?,
        recipient: address::read(final_recipient)
            .ok_or(ReadError::Invalid(name::FINAL_RECIPIENT))?,
        event: parsed(group, name::EVENT)?.ok_or(ReadError::Missing(name::EVENT))?,
        status: parsed(group, name::STATUS)?.ok_or(ReadError::Missing(name::STATUS))?,
        remote_mta: group.get(name::REMOTE_MTA).map(|r| typed(r).to_owned()),
        attempted_us: number(group, name::ATTEMPTED)?,
        reply: group.get(name::REPLY).map(str::to_owned),
        remote_queue_id: group.get(name::QUEUE_ID).map(str::to_owned),
    })
}

fn required<'a>(group: &'a Group, field: &'static str) -> Result<&'a str, ReadError> {
    group.get(field).ok_or(ReadError::Missing(field))
}

/// The name in `dns; name`.
fn typed(value: &str) -> &str {
    value.split_once(';').map_or(value, |(_, name)| name.trim())
}

/// A value up to a trailing `(comment)`.
fn uncommented(value: &str) -> &str {
    let end = memchr::memchr(b'(', value.as_bytes()).unwrap_or(value.len());
    value.get(..end).unwrap_or_default().trim_ascii()
}

fn parsed<T: std::str::FromStr>(
    group: &Group,
    field: &'static str,
) -> Result<Option<T>, ReadError> {
    let text = group.get(field).map(uncommented);
    text.map(|t| t.parse().map_err(|_| ReadError::Invalid(field)))
        .transpose()
}

/// A decimal number: digits, one minus sign at most, and what fits the type.
fn number<T: std::str::FromStr>(
    group: &Group,
    field: &'static str,
) -> Result<Option<T>, ReadError> {
    let digits = |octet: u8| octet.is_ascii_digit() || octet == b'-';
    match group.get(field).map(uncommented) {
        Some(text) if !text.bytes().all(digits) => Err(ReadError::Invalid(field)),
        _ => parsed(group, field),
    }
}

fn role(head: &Group) -> Result<Role, ReadError> {
    let word = uncommented(required(head, name::ROLE)?);
    [Role::Ingress, Role::Egress, Role::Delivery]
        .into_iter()
        .find(|role| role.as_str().eq_ignore_ascii_case(word))
        .ok_or(ReadError::Invalid(name::ROLE))
}

/// The exchanges of one leg; a stage that a later version may add is passed over.
fn times(head: &Group, field: &'static str) -> Result<Vec<Exchange>, ReadError> {
    let wrong = || ReadError::Invalid(field);
    let mut exchanges = Vec::with_capacity(Stage::ALL.len());
    for word in head.get(field).unwrap_or_default().split_ascii_whitespace() {
        let (stage, stamps) = word.split_once('=').ok_or_else(wrong)?;
        let (command, reply) = stamps.split_once('/').ok_or_else(wrong)?;
        let known = Stage::ALL.into_iter().find(|s| s.as_str() == stage);
        if let Some(stage) = known {
            exchanges.push(Exchange {
                stage,
                command_us: command.parse().map_err(|_| wrong())?,
                reply_us: reply.parse().map_err(|_| wrong())?,
            });
        }
        if exchanges.len() > EXCHANGES_MAX {
            return Err(wrong());
        }
    }
    Ok(exchanges)
}

/// What protected one leg.
fn security(head: &Group, field: &'static str) -> Result<Option<Security>, ReadError> {
    let Some(value) = head.get(field).map(uncommented) else {
        return Ok(None);
    };
    if value.eq_ignore_ascii_case(PLAIN) {
        return Ok(Some(Security::Plain));
    }
    let mut words = value.split(';').map(str::trim);
    let (Some(version), Some(cipher), Some(word), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(ReadError::Invalid(field));
    };
    let is = |known: &str| word.eq_ignore_ascii_case(known);
    let verified = is(VERIFIED);
    if !verified && !is(UNVERIFIED) {
        return Err(ReadError::Invalid(field));
    }
    Ok(Some(Security::tls(version, cipher, verified)))
}
