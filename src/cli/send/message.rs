//! The message as `hoptrail send` was given it, and as it goes out: what is added, what is removed, and
//! nothing else. Bytes in, bytes out.
//!
//! Must not know SMTP, files or the clock.

use std::ops::Range;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use lettre::Address;
use mail_parser::MessageParser;

/// Longest host part of an id; with 32 random digits and `@` an ENVID has to stay within 100 octets.
const ID_HOST_OCTETS_MAX: usize = 64;

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
    #[error("the From field does not name exactly one address: say with --from who sends")]
    From,
    #[error("{0:?} in the {1} field is not an address that can be sent to")]
    Recipient(String, &'static str),
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
    /// Its Message-ID, without angle brackets.
    pub(super) id: String,
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
        let octets = with_crlf(input);
        let mut fields: Vec<Field> = Vec::new();
        let mut at = 0;
        for (index, line) in octets.split_inclusive(|b| *b == b'\n').enumerate() {
            if line == b"\r\n" {
                break;
            }
            let next = at + line.len();
            match (line.first(), fields.last_mut()) {
                (Some(b' ' | b'\t'), Some(field)) => field.octets.end = next,
                _ => fields.push(Field {
                    name: field_name(line).ok_or(MessageError::NotAField(index + 1))?,
                    octets: at..next,
                }),
            }
            at = next;
        }
        Ok(Self {
            octets,
            fields,
            header_end: at,
        })
    }

    /// The single address of the From field.
    pub(super) fn sender(&self) -> Result<Address, MessageError> {
        let message = self.header();
        let mut named = message
            .iter()
            .filter_map(|m| m.from())
            .flat_map(|from| from.iter());
        match (named.next(), named.next()) {
            (Some(one), None) => one
                .address()
                .and_then(|text| text.parse().ok())
                .ok_or(MessageError::From),
            _ => Err(MessageError::From),
        }
    }

    /// The addresses of To, Cc and Bcc, each once, in their order.
    pub(super) fn recipients(&self) -> Result<Vec<Address>, MessageError> {
        let message = self.header().ok_or(MessageError::NoRecipients)?;
        let to = message.all_to().map(|field| ("To", field));
        let cc = message.all_cc().map(|field| ("Cc", field));
        let bcc = message.all_bcc().map(|field| ("Bcc", field));
        let mut recipients = Vec::new();
        for (field, addresses) in to.chain(cc).chain(bcc) {
            for named in addresses.iter() {
                let text = named.address().or(named.name()).unwrap_or_default();
                let address: Address = text
                    .parse()
                    .map_err(|_| MessageError::Recipient(text.to_owned(), field))?;
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
        let known = self.message_id()?;
        if known.is_none() {
            let line = format!("Message-ID: <{random:032x}@{host}>\r\n");
            octets.extend_from_slice(line.as_bytes());
        }
        if !self.fields.iter().any(|f| f.name == "date") {
            octets.extend_from_slice(format!("Date: {}\r\n", date(sent_ms)).as_bytes());
        }
        for field in self.fields.iter().filter(|f| f.name != "bcc") {
            octets.extend_from_slice(&self.octets[field.octets.clone()]);
        }
        let header_is_utf8 = !octets.is_ascii() && std::str::from_utf8(&octets).is_ok();
        octets.extend_from_slice(&self.octets[self.header_end..]);
        Ok(Message {
            octets,
            id: known.unwrap_or_else(|| format!("{random:032x}@{host}")),
            header_is_utf8,
        })
    }

    /// The id in the first Message-ID field, without its brackets.
    fn message_id(&self) -> Result<Option<String>, MessageError> {
        let Some(field) = self.fields.iter().find(|f| f.name == "message-id") else {
            return Ok(None);
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
        Ok(Some(id.to_owned()))
    }

    fn header(&self) -> Option<mail_parser::Message<'_>> {
        // The empty line goes along, because the parser wants to see the end of the header.
        let end = self.octets.len().min(self.header_end + 2);
        MessageParser::default().parse_headers(&self.octets[..end])
    }
}

/// The host part of fresh ids: the sender's domain where that is a plain name, else this host's.
pub(super) fn id_host<'a>(sender: &'a Address, own_host: &'a str) -> &'a str {
    let plain = |text: &&str| {
        let harmless = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'.';
        !text.is_empty() && text.len() <= ID_HOST_OCTETS_MAX && text.bytes().all(harmless)
    };
    [sender.domain(), own_host]
        .into_iter()
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
