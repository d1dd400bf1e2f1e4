//! The bytes of a mail to `HopReport`. It and [`super::notice`] are the only files that know mail-parser.
//!
//! Takes any bytes without panicking. Reads a report only where it is the mail itself: one that was
//! forwarded or is part of another mail is not what its hop sent.

use std::str::FromStr;
use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use compact_str::CompactString;
use mail_parser::{Address, HeaderName, Host, Message, MessageParser, MessagePart, MimeHeaders};
use thiserror::Error;

use super::field::{AUTH_ALGORITHM, VERSION};
use super::name::Name;
use super::notice::moment_us;
use super::split::{Fields, Part};
use super::value::{self, typed, uncommented};
use super::{address, extent, layout, split};
use crate::track::clean;
use crate::track::{Exchange, HopReport, RecipientStatus, Role, TrackingId};

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
    /// What it says, in normal form, which is much to be moved about.
    pub report: Box<HopReport>,
    /// What else it says: the hop's further steps with this message that it tells together with the first.
    pub others: Vec<HopReport>,
    /// The tag out of `X-Hoptrail-Auth`, if there is a well-formed one.
    pub auth: Option<Vec<u8>>,
    /// The fields as Auth covers them.
    pub canonical: String,
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
    #[error("its end is missing")]
    Cut,
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
    // The size is judged first: nothing larger is parsed.
    let is_big = mail.len() > REPORT_OCTETS_MAX;
    let usual = read_usual(mail, &mut String::new());
    if let Some(usual) = usual.filter(|_| !is_big) {
        return usual.map(Some);
    }
    if !says(header_block(mail), &REPORT) {
        return Ok(None);
    }
    if is_big {
        return Err(ReadError::TooBig);
    }
    if !extent::has_header(mail) {
        return Err(ReadError::Cut);
    }
    read_mime(mail)
}

/// Reads a mail of the layout that hops give it, of which nothing is missing at its end. The room is taken for the
/// canonical form, whatever stands there.
pub fn read_usual(mail: &[u8], room: &mut String) -> Option<Result<Received, ReadError>> {
    let usual = layout::of(mail)?;
    let addresses = [Some(usual.from), usual.to].map(|a| a.map(clean::address));
    Some(received(usual.tracking, addresses, usual.header, room))
}

/// Reads a mail of any layout.
pub(super) fn read_mime(mail: &[u8]) -> Result<Option<Received>, ReadError> {
    let Some(message) = PARSER.parse(mail).filter(is_report) else {
        return Ok(None);
    };
    let part = part(&message, "message", "tracking-status");
    let lack = || {
        if extent::is_whole(mail) {
            ReadError::NoPart
        } else {
            ReadError::Cut
        }
    };
    let part = part.ok_or_else(lack)?;
    // What its last octets say may be half of a word.
    if goes_to_the_end(part, mail) {
        return Err(ReadError::Cut);
    }
    let addresses = [message.from(), message.to()].map(address_in);
    let header = self::part(&message, "text", "rfc822-headers");
    let header = header.filter(|header| !goes_to_the_end(header, mail));
    let header = header.map(MessagePart::contents);
    received(part.contents(), addresses, header, &mut String::new()).map(Some)
}

/// What a tracking part says, and what stands beside it: the addresses in From and To, the header that the hop saw.
fn received(
    part: &[u8],
    [from, to]: [Option<String>; 2],
    header: Option<&[u8]>,
    room: &mut String,
) -> Result<Received, ReadError> {
    let part = Part::cut_within(std::mem::take(room), part)?;
    let groups: Vec<Fields> = part.groups().collect();
    let Some((head, recipients)) = groups.split_first() else {
        return Err(ReadError::Missing(Name::OriginalEnvelopeId.as_str()));
    };
    let further = recipients
        .iter()
        .skip(1)
        .position(|g| g.get(Name::Step).is_some());
    let (of_first, of_others) = recipients.split_at(further.map_or(recipients.len(), |at| at + 1));
    let report = report(head, of_first)?;
    let others = others(&report, of_others)?;
    Ok(Received {
        report: Box::new(report),
        others,
        auth: part.auth().and_then(tag),
        canonical: part.into_canonical(),
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

/// The boundary of the mail's own multipart.
pub(super) fn boundary(mail: &[u8]) -> Option<String> {
    let header = PARSER.parse_headers(mail)?;
    let boundary = header.content_type()?.attribute("boundary")?;
    Some(boundary.to_owned())
}

/// What stands in front of the first empty line.
pub(super) fn header_block(mail: &[u8]) -> &[u8] {
    let is_gap = |end: &usize| {
        let next = mail.get(end + 1..).unwrap_or_default();
        next.starts_with(b"\n") || next.starts_with(b"\r\n")
    };
    let end = memchr::memchr_iter(b'\n', mail).find(is_gap);
    mail.get(..end.unwrap_or(mail.len())).unwrap_or_default()
}

/// Words, and where in all of them stands a letter that is rare in a header.
struct Words<const N: usize> {
    words: [&'static [u8]; N],
    rare: usize,
}

/// Whether a text holds one of some words, in any case.
fn says<const N: usize>(text: &[u8], wanted: &Words<N>) -> bool {
    let letter = wanted.words.iter().find_map(|word| word.get(wanted.rare));
    let letter = letter.copied().unwrap_or_default();
    let stands = |at: usize, word: &[u8]| {
        let from = at.checked_sub(wanted.rare);
        let here = from.and_then(|from| text.get(from..from + word.len()));
        here.is_some_and(|here| here.eq_ignore_ascii_case(word))
    };
    memchr::memchr2_iter(letter, letter.to_ascii_uppercase(), text)
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

/// The first such part among the direct children of the mail's own multipart.
fn part<'a>(message: &'a Message<'a>, kind: &str, subtype: &str) -> Option<&'a MessagePart<'a>> {
    let children = message.parts.first()?.sub_parts()?;
    children
        .iter()
        .filter_map(|id| message.parts.get(usize::try_from(*id).ok()?))
        .find(|part| part.is_content_type(kind, subtype))
}

/// Whether no boundary stands behind a part of a mail.
fn goes_to_the_end(part: &MessagePart, mail: &[u8]) -> bool {
    usize::try_from(part.raw_end_offset()).is_ok_and(|end| end >= mail.len())
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
fn tag(auth: &[u8]) -> Option<Vec<u8>> {
    let (algorithm, tag) = auth.split_at_checked(memchr::memchr(b';', auth)?)?;
    let algorithm = algorithm.trim_ascii();
    if !algorithm.eq_ignore_ascii_case(AUTH_ALGORITHM.as_bytes()) {
        return None;
    }
    let tag = tag.get(1..)?.trim_ascii();
    let mut octets = Vec::with_capacity(tag.len());
    URL_SAFE_NO_PAD.decode_vec(tag, &mut octets).ok()?;
    Some(octets)
}

/// The further steps of a mail: a recipient's group that names a step begins one, which is like the first in all
/// but what stands there. In normal form.
fn others(first: &HopReport, recipients: &[Fields]) -> Result<Vec<HopReport>, ReadError> {
    let of_steps = recipients.chunk_by(|_, next| next.get(Name::Step).is_none());
    let other = |of_step: &[Fields]| {
        let begins = of_step.first().ok_or(ReadError::NoRecipient)?;
        Ok(HopReport {
            step: required(begins, Name::Step, parsed)?,
            times_out: times(begins, Name::TimesOut)?,
            tls_out: optional(begins, Name::TlsOut, value::security)?,
            recipients: of_step.iter().map(recipient).collect::<Result<_, _>>()?,
            ..first.clone()
        }
        .clean())
    };
    of_steps.map(other).collect()
}

/// The first step of a mail, in normal form.
fn report(head: &Fields, recipients: &[Fields]) -> Result<HopReport, ReadError> {
    required(head, Name::Version, |version| {
        (version == VERSION).then_some(())
    })?;
    if recipients.is_empty() {
        return Err(ReadError::NoRecipient);
    }
    let text = |field| head.get(field).map(str::to_owned);
    let hop = |text: &str| number(text).filter(|hop| *hop > 0);
    Ok(HopReport {
        id: required(head, Name::OriginalEnvelopeId, TrackingId::new)?,
        hop: required(head, Name::Hop, hop)?,
        step: required(head, Name::Step, parsed)?,
        parent: optional(head, Name::Parent, parsed)?,
        role: required(head, Name::Role, value::role)?,
        reporting_mta: required(head, Name::ReportingMta, |mta| Some(typed(mta).into()))?,
        arrival_us: required(head, Name::Arrived, number)?,
        message_id: text(Name::MessageId),
        sent_ms: optional(head, Name::Sent, number)?,
        queue_id: head.get(Name::QueueId).map(CompactString::from),
        size: optional(head, Name::Size, number)?,
        came_for: optional(head, Name::CameFor, number)?,
        filtered_us: optional(head, Name::Filtered, number)?,
        ring: head.get(Name::Ring).map_or_else(Vec::new, value::ring),
        times_in: times(head, Name::TimesIn)?,
        times_out: times(head, Name::TimesOut)?,
        tls_in: optional(head, Name::TlsIn, value::security)?,
        tls_out: optional(head, Name::TlsOut, value::security)?,
        recipients: recipients.iter().map(recipient).collect::<Result<_, _>>()?,
    }
    .clean())
}

fn recipient(group: &Fields) -> Result<RecipientStatus, ReadError> {
    let recipient: CompactString = required(group, Name::FinalRecipient, address::read)?;
    let original = optional(group, Name::OriginalRecipient, address::read)?;
    let text = |field| group.get(field).map(CompactString::from);
    Ok(RecipientStatus {
        original: original.unwrap_or_else(|| recipient.clone()),
        recipient,
        event: required(group, Name::Event, parsed)?,
        status: required(group, Name::Status, parsed)?,
        remote_mta: group.get(Name::RemoteMta).map(|mta| typed(mta).into()),
        attempted_us: optional(group, Name::Attempted, number)?,
        reply: group.get(Name::Reply).map(str::to_owned),
        remote_queue_id: text(Name::QueueId),
    })
}

/// The exchanges of a leg, none where it is not told of.
fn times(group: &Fields, field: Name) -> Result<Vec<Exchange>, ReadError> {
    Ok(optional(group, field, value::exchanges)?.unwrap_or_default())
}

/// What a field says that has to be there.
fn required<T>(
    group: &Fields,
    field: Name,
    read: impl FnOnce(&str) -> Option<T>,
) -> Result<T, ReadError> {
    optional(group, field, read)?.ok_or(ReadError::Missing(field.as_str()))
}

/// What a field says, if it is there.
fn optional<T>(
    group: &Fields,
    field: Name,
    read: impl FnOnce(&str) -> Option<T>,
) -> Result<Option<T>, ReadError> {
    let value = group.get(field);
    value
        .map(|value| read(value).ok_or(ReadError::Invalid(field.as_str())))
        .transpose()
}

/// What a value says. Mostly no comment stands behind it.
fn parsed<T: FromStr>(value: &str) -> Option<T> {
    let parse = |text: &str| text.parse().ok();
    parse(value).or_else(|| parse(uncommented(value)))
}

fn number<T: TryFrom<i128>>(value: &str) -> Option<T> {
    value::number(value).or_else(|| value::number(uncommented(value)))
}
