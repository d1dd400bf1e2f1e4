//! What other mail systems say of a message, read from their mail: delivery status notifications (RFC 3464), also the
//! odd ones of MTAs out there, and disposition notifications of mail programs (RFC 8098). Nothing proves them.
//!
//! Takes any bytes without panicking, and reads a notice only where it is the mail itself.

use mail_parser::{DateTime, Message, MessageParser, MessagePart, MimeHeaders};

use super::address;
use super::name::Name;
use super::split::{Fields, Part};
use crate::track::{Status, clean};

/// A notice as it came.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Notice {
    /// The ENVID it names.
    pub envid: Option<String>,
    /// The Message-IDs it names, without angle brackets: the returned message's, and those it answers.
    pub message_ids: Vec<String>,
    /// The host, or the mail program, that says it.
    pub host: Option<String>,
    /// The address the mail says it is from.
    pub from: Option<String>,
    /// The date of the mail, µs since 1970-01-01 UTC.
    pub date_us: Option<i64>,
    /// What it says of each recipient.
    pub fates: Vec<Fate>,
}

/// What a notice says of a recipient.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Fate {
    /// The address as the originator had it, or else as the speaker has it.
    pub address: String,
    /// The address as the speaker has it.
    pub recipient: String,
    /// What happened.
    pub said: Said,
    /// The enhanced status code.
    pub status: Option<Status>,
    /// The host that one spoke to.
    pub remote: Option<String>,
    /// What that answered.
    pub reply: Option<String>,
    /// When the last attempt was made, µs since 1970-01-01 UTC.
    pub attempted_us: Option<i64>,
}

/// A word of such a notice: Action (RFC 3464, 2.3.3), or the disposition of a mail program (RFC 8098, 3.2.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Said {
    /// It will not arrive.
    Failed,
    /// It is tried again.
    Delayed,
    /// It went on to a system that tells nothing.
    Relayed,
    /// It went on to several addresses.
    Expanded,
    /// It is in the mailbox.
    Delivered,
    /// It was shown to its reader.
    Displayed,
    /// It was deleted, maybe unread.
    Deleted,
}

impl Said {
    /// Every word.
    pub const ALL: [Self; 7] = [
        Self::Failed,
        Self::Delayed,
        Self::Relayed,
        Self::Expanded,
        Self::Delivered,
        Self::Displayed,
        Self::Deleted,
    ];

    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Delayed => "delayed",
            Self::Relayed => "relayed",
            Self::Expanded => "expanded",
            Self::Delivered => "delivered",
            Self::Displayed => "displayed",
            Self::Deleted => "deleted",
        }
    }

    /// What a field says, up to a comment: Sendmail writes `relayed (to non-DSN-aware mailer)`.
    fn read(value: &str) -> Option<Self> {
        let word = value.split('(').next().unwrap_or_default().trim();
        Self::ALL
            .into_iter()
            .find(|said| said.as_str().eq_ignore_ascii_case(word))
    }
}

/// Most recipients of one notice that are read.
const FATES_MAX: usize = 1_000;

/// Reads a mail; `None` if it is no notice, or none that tells anything.
pub fn read(mail: &[u8]) -> Option<Notice> {
    let message = MessageParser::new().parse(mail)?;
    let children = message.parts.first()?.sub_parts()?;
    let child = |id: &u32| message.parts.get(usize::try_from(*id).ok()?);
    let parts: Vec<&MessagePart> = children.iter().filter_map(child).collect();
    let is = |part: &&&MessagePart, kind: &str| part.is_content_type("message", kind);
    let part = |kind: &str| parts.iter().find(|p| is(p, kind)).map(|p| p.contents());
    let status = part("delivery-status").or_else(|| part("global-delivery-status"));
    let part = status.or_else(|| part("disposition-notification"))?;
    let part = Part::cut(part).ok()?;
    let (head, fates) = match status {
        Some(_) => of_delivery(&part)?,
        None => of_disposition(&part)?,
    };
    let original = head.get(Name::OriginalMessageId).map(bare);
    let returned = parts.iter().find_map(|part| returned_id(&message, part));
    let answered = [message.in_reply_to(), message.references()];
    let answered = answered
        .into_iter()
        .filter_map(mail_parser::HeaderValue::as_text_list);
    let answered = answered.flatten().map(|id| bare(id));
    let mut message_ids: Vec<String> = original
        .into_iter()
        .chain(returned)
        .chain(answered)
        .collect();
    message_ids.dedup();
    let speaker = head
        .get(Name::ReportingMta)
        .or_else(|| head.get(Name::ReportingUa));
    (!fates.is_empty()).then(|| Notice {
        envid: head.get(Name::OriginalEnvelopeId).map(clean::line),
        message_ids,
        host: speaker.and_then(host),
        from: message
            .from()
            .and_then(|from| from.first()?.address.as_deref().map(clean::address)),
        date_us: message.date().and_then(moment_us),
        fates,
    })
}

/// The groups of a delivery status: about the message, and about each recipient.
fn of_delivery(part: &Part) -> Option<(Fields<'_>, Vec<Fate>)> {
    let mut groups = part.groups();
    let head = groups.next()?;
    let fates = groups.filter_map(|group| fate(&group, Said::read(group.get(Name::Action)?)?));
    Some((head, fates.take(FATES_MAX).collect()))
}

/// The one group of a disposition: `Disposition: manual-action/MDN-sent-manually; displayed`.
fn of_disposition(part: &Part) -> Option<(Fields<'_>, Vec<Fate>)> {
    let head = part.groups().next()?;
    let (_, word) = head.get(Name::Disposition)?.split_once(';')?;
    // Modifiers stand behind a slash.
    let said = Said::read(word.split('/').next()?)?;
    let fate = fate(&head, said)?;
    Some((head, vec![fate]))
}

fn fate(group: &Fields, said: Said) -> Option<Fate> {
    let address = |field| group.get(field).and_then(address::read);
    let recipient = address(Name::FinalRecipient);
    let original = address(Name::OriginalRecipient);
    let status = group.get(Name::Status).unwrap_or_default();
    let attempted = group.get(Name::LastAttemptDate);
    Some(Fate {
        address: original.clone().or_else(|| recipient.clone())?,
        recipient: recipient.or(original)?,
        said,
        status: status
            .split('(')
            .next()
            .unwrap_or_default()
            .trim()
            .parse()
            .ok(),
        remote: group.get(Name::RemoteMta).and_then(host),
        reply: group.get(Name::DiagnosticCode).and_then(host),
        attempted_us: attempted.and_then(|date| moment_us(&DateTime::parse_rfc822(date)?)),
    })
}

/// What stands behind the type in `dns; name`; a mail program's name and version have a semicolon between them.
fn host(value: &str) -> Option<String> {
    let name = value.split_once(';').map_or(value, |(_, name)| name);
    let name = clean::line(name);
    (!name.is_empty()).then_some(name)
}

/// The Message-ID in the header block of a returned message, or of what is left of it.
fn returned_id(message: &Message, part: &MessagePart) -> Option<String> {
    let whole =
        part.is_content_type("message", "rfc822") || part.is_content_type("message", "global");
    let header = part.is_content_type("text", "rfc822-headers")
        || part.is_content_type("message", "global-headers");
    let at = |offset: u32| usize::try_from(offset).unwrap_or(usize::MAX);
    let octets = at(part.raw_body_offset())..at(part.raw_end_offset());
    let octets = message
        .raw_message
        .get(octets)
        .filter(|_| whole || header)?;
    let returned = MessageParser::new().parse_headers(octets)?;
    returned.message_id().map(bare)
}

/// An id as Message-IDs are compared: without brackets, on one line.
fn bare(id: &str) -> String {
    clean::line(id).trim_matches(['<', '>']).to_owned()
}

/// A date that there is, µs since 1970-01-01 UTC.
pub(super) fn moment_us(date: &DateTime) -> Option<i64> {
    let seconds = date.is_valid().then(|| date.to_timestamp())?;
    seconds.checked_mul(1_000_000)
}
