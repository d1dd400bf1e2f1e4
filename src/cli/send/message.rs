//! The message as `hoptrail send` was given it, and as it goes out: what is added, what is removed, and
//! nothing else. Bytes in, bytes out.
//!
//! Must not know SMTP, files or the clock.

use std::ops::Range;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use lettre::Address;
use mail_builder::headers::Header;
use mail_builder::headers::address::Address as Mailbox;
use mail_parser::{HeaderName, MessageParser};

use crate::hop::header::message_id;

/// Longest host part of an id; with 32 random digits and `@` an ENVID has to stay within 100 octets.
const ID_HOST_OCTETS_MAX: usize = 64;

/// The fields that name recipients, and those that do in a message sent again (RFC 5322, 3.6.3 and 3.6.6).
const TO: [(&str, HeaderName<'_>); 3] = [
    ("To", HeaderName::To),
    ("Cc", HeaderName::Cc),
    ("Bcc", HeaderName::Bcc),
];
const RESENT_TO: [(&str, HeaderName<'_>); 3] = [
    ("Resent-To", HeaderName::ResentTo),
    ("Resent-Cc", HeaderName::ResentCc),
    ("Resent-Bcc", HeaderName::ResentBcc),
];

/// Why a message cannot be sent as it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum MessageError {
    #[error("there is no message: standard input or the file is empty")]
    Empty,
    #[error(
        "line {0} is neither a header field nor the rest of one: a message begins with its header, \
         then comes an empty line, then the text"
    )]
    NotAField(usize),
    #[error("the Message-ID is empty or holds characters that it must not")]
    MessageId,
    #[error(
        "no report can carry the Message-ID, so none on this message could be proved: between < and > go at most 250 \
         printable ASCII characters without a blank; take the field out, and one is made"
    )]
    Unprovable,
    #[error("the From field does not name exactly one address: say with --from who sends")]
    From,
    #[error("{0:?} in the {1} field is not an address that can be sent to")]
    Recipient(String, &'static str),
    #[error("{0:?} is not an address that can be sent to")]
    Address(String),
    #[error("the To, Cc and Bcc fields name nobody")]
    NoRecipients,
}

/// A message with CRLF line ends, its header taken apart.
#[derive(Clone, Debug)]
pub(super) struct Draft {
    octets: Vec<u8>,
    fields: Vec<Field>,
    /// Where the empty line or, without one, the end is.
    header_end: usize,
    /// A field that is put on top.
    on_top: Option<Vec<u8>>,
}

#[derive(Clone, Debug)]
struct Field {
    name: String,
    octets: Range<usize>,
}

/// A message ready to go.
#[derive(Clone, Debug)]
pub(super) struct Message {
    /// The octets, CRLF at the end.
    pub(super) octets: Vec<u8>,
    /// Its Message-ID as each hop reads it, without angle brackets; `None` if no report can carry that.
    pub(super) id: Option<String>,
    /// Whether the header is UTF-8 beyond ASCII (RFC 6532).
    pub(super) header_is_utf8: bool,
}

impl Draft {
    /// Takes a message apart. Each line end, be it CRLF, LF or CR, becomes CRLF, because nothing else may
    /// be sent (RFC 5321, 2.3.8); a last line without end gets one.
    pub(super) fn parse(input: &[u8]) -> Result<Self, MessageError> {
        if input.is_empty() {
            return Err(MessageError::Empty);
        }
        match Self::take_apart(with_crlf(input)) {
            (draft, None) => Ok(draft),
            (_, Some(line)) => Err(MessageError::NotAField(line)),
        }
    }

    /// The same for any text, as sendmail takes it: what is no header is the body, and the `From ` line of an mbox
    /// is left out.
    pub(super) fn parse_any(input: &[u8]) -> Self {
        let mut octets = with_crlf(input);
        if octets.starts_with(b"From ") {
            let end = memchr::memchr(b'\n', &octets).map_or(octets.len(), |at| at + 1);
            octets.drain(..end);
        }
        let (mut draft, not_a_field) = Self::take_apart(octets);
        if not_a_field.is_some() {
            let at = draft.header_end;
            draft.octets.splice(at..at, *b"\r\n");
        }
        draft
    }

    /// The message, and the number of the line, from 1, that ends the header though it is not empty.
    fn take_apart(octets: Vec<u8>) -> (Self, Option<usize>) {
        let mut draft = Self {
            octets: Vec::new(),
            fields: Vec::new(),
            header_end: 0,
            on_top: None,
        };
        let mut not_a_field = None;
        for (index, line) in octets.split_inclusive(|b| *b == b'\n').enumerate() {
            if line == b"\r\n" {
                break;
            }
            let next = draft.header_end + line.len();
            match (line.first(), draft.fields.last_mut(), field_name(line)) {
                (Some(b' ' | b'\t'), Some(field), _) => field.octets.end = next,
                (_, _, Some(name)) => draft.fields.push(Field {
                    name,
                    octets: draft.header_end..next,
                }),
                _ => {
                    not_a_field = Some(index + 1);
                    break;
                }
            }
            draft.header_end = next;
        }
        draft.octets = octets;
        (draft, not_a_field)
    }

    /// Whether there is such a field; `name` is in lower case.
    pub(super) fn has(&self, name: &str) -> bool {
        self.fields.iter().any(|field| field.name == name)
    }

    /// Puts a From field on top; `name` is the person's own.
    pub(super) fn with_from(self, name: Option<&str>, address: &Address) -> Self {
        let mut field = b"From: ".to_vec();
        let column = field.len();
        Mailbox::new_address(name, address.to_string()).write_header(&mut field, column);
        Self {
            on_top: Some(field),
            ..self
        }
    }

    /// The single address of the From field. `domain` is that of a name without one.
    pub(super) fn sender(&self, domain: Option<&str>) -> Result<Address, MessageError> {
        let message = self.header();
        let mut named = message
            .iter()
            .filter_map(|m| m.from())
            .flat_map(|from| from.iter());
        match (named.next(), named.next()) {
            (Some(one), None) => one
                .address()
                .or(one.name())
                .and_then(|text| complete(text, domain))
                .ok_or(MessageError::From),
            _ => Err(MessageError::From),
        }
    }

    /// The addresses of To, Cc and Bcc, each once, in their order; of their Resent- twins, where there are any.
    pub(super) fn recipients(&self, domain: Option<&str>) -> Result<Vec<Address>, MessageError> {
        let message = self.header().ok_or(MessageError::NoRecipients)?;
        let resent = |(_, name): &(_, HeaderName<'static>)| message.header(name.clone()).is_some();
        let fields = if RESENT_TO.iter().any(resent) {
            RESENT_TO
        } else {
            TO
        };
        let mut recipients = Vec::new();
        for (field, name) in fields {
            let lists = message.header_values(name).filter_map(|v| v.as_address());
            for named in lists.flat_map(|list| list.iter()) {
                let text = named.address().or(named.name()).unwrap_or_default();
                let address = complete(text, domain)
                    .ok_or_else(|| MessageError::Recipient(text.to_owned(), field))?;
                if !recipients.contains(&address) {
                    recipients.push(address);
                }
            }
        }
        if recipients.is_empty() {
            return Err(MessageError::NoRecipients);
        }
        Ok(recipients)
    }

    /// Removes Bcc and puts the fields that are missing above the header: Message-ID (`random` at `host`)
    /// and Date.
    pub(super) fn finish(
        self,
        host: &str,
        random: u128,
        sent_ms: i64,
    ) -> Result<Message, MessageError> {
        let mut octets = Vec::with_capacity(self.octets.len() + 256);
        if !self.has_message_id()? {
            let line = format!("Message-ID: <{random:032x}@{host}>\r\n");
            octets.extend_from_slice(line.as_bytes());
        }
        if !self.has("date") {
            octets.extend_from_slice(format!("Date: {}\r\n", date(sent_ms)).as_bytes());
        }
        octets.extend_from_slice(self.on_top.as_deref().unwrap_or_default());
        let hidden = |f: &&Field| !["bcc", "resent-bcc"].contains(&f.name.as_str());
        for field in self.fields.iter().filter(hidden) {
            octets.extend_from_slice(&self.octets[field.octets.clone()]);
        }
        let id = message_id(&octets).map(|id| String::from_utf8_lossy(id).into_owned());
        let header_is_utf8 = !octets.is_ascii() && std::str::from_utf8(&octets).is_ok();
        octets.extend_from_slice(&self.octets[self.header_end..]);
        Ok(Message {
            octets,
            id,
            header_is_utf8,
        })
    }

    /// Whether there is a Message-ID field, of which the first one holds an id.
    fn has_message_id(&self) -> Result<bool, MessageError> {
        let Some(field) = self.fields.iter().find(|f| f.name == "message-id") else {
            return Ok(false);
        };
        let text = String::from_utf8_lossy(&self.octets[field.octets.clone()]).replace("\r\n", "");
        let (_, value) = text.split_once(':').ok_or(MessageError::MessageId)?;
        let id = match value.split_once('<') {
            Some((_, rest)) => rest.split_once('>').map_or(rest, |(id, _)| id),
            None => value,
        };
        let id = id.trim();
        let usable = |c: char| !c.is_control() && c != char::REPLACEMENT_CHARACTER;
        if id.is_empty() || !id.chars().all(usable) {
            return Err(MessageError::MessageId);
        }
        Ok(true)
    }

    fn header(&self) -> Option<mail_parser::Message<'_>> {
        // The empty line goes along, because the parser wants to see the end of the header.
        let end = self.octets.len().min(self.header_end + 2);
        MessageParser::default().parse_headers(&self.octets[..end])
    }
}

/// An address, or one in the making: `domain` is that of a name without one.
fn complete(text: &str, domain: Option<&str>) -> Option<Address> {
    let missing = domain.filter(|_| !text.contains('@'));
    match missing {
        Some(domain) => Address::new(text, domain).ok(),
        None => text.parse().ok(),
    }
}

/// The addresses in a text such as `Bob <bob@example.org>, root`.
pub(super) fn addresses(text: &str, domain: &str) -> Result<Vec<Address>, MessageError> {
    let wrong = || MessageError::Address(text.to_owned());
    if text.contains(char::is_control) {
        return Err(wrong());
    }
    let draft = Draft::parse_any(format!("To: {text}\r\n").as_bytes());
    draft.recipients(Some(domain)).map_err(|_| wrong())
}

/// The host part of fresh ids: the sender's domain where that is a plain name, else this host's.
pub(super) fn id_host<'a>(sender: Option<&'a Address>, own_host: &'a str) -> &'a str {
    let plain = |text: &&str| {
        let harmless = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'.';
        !text.is_empty() && text.len() <= ID_HOST_OCTETS_MAX && text.bytes().all(harmless)
    };
    sender
        .map(Address::domain)
        .into_iter()
        .chain([own_host])
        .find(plain)
        .unwrap_or("localhost")
}

/// The name before the colon in lower case; `None` if the line is no field (RFC 5322, 2.2 and 4.5.8).
fn field_name(line: &[u8]) -> Option<String> {
    let colon = line.iter().position(|b| *b == b':')?;
    let name = line.get(..colon)?.trim_ascii_end();
    let printable = name.iter().all(|b| (b'!'..=b'~').contains(b));
    (!name.is_empty() && printable).then(|| String::from_utf8_lossy(name).to_ascii_lowercase())
}

fn with_crlf(input: &[u8]) -> Vec<u8> {
    let mut octets = Vec::with_capacity(input.len() + input.len() / 32 + 2);
    let mut rest = input;
    while let Some(end) = memchr::memchr2(b'\r', b'\n', rest) {
        let (line, from_end) = rest.split_at(end);
        octets.extend_from_slice(line);
        octets.extend_from_slice(b"\r\n");
        let ending = if from_end.starts_with(b"\r\n") { 2 } else { 1 };
        rest = from_end.split_at(ending).1;
    }
    octets.extend_from_slice(rest);
    if !rest.is_empty() {
        octets.extend_from_slice(b"\r\n");
    }
    octets
}

/// `Tue, 24 Nov 2026 01:20:00 +0100`, in the user's time zone.
fn date(ms: i64) -> String {
    let at = Timestamp::from_millisecond(ms).unwrap_or_default();
    let local = at.to_zoned_datetime(TimeZone::system());
    local.strftime("%a, %d %b %Y %H:%M:%S %z").to_string()
}

#[cfg(test)]
#[path = "message_tests.rs"]
mod tests;
