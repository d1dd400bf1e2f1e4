//! Mail as a test reads it, by a parser that shares nothing with the library: what lies in a Maildir, what
//! is above and below the trace headers, and the fields of a tracking report.

use std::fmt;
use std::fs;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::{PATIENCE, wait_until};

/// A message that holds what relays like to change; lines end with LF.
pub const MESSAGE: &[u8] = include_bytes!("../lab/message.eml");

/// A message with the line ends of the wire.
pub fn wire(message: &[u8]) -> Vec<u8> {
    replace_all(message, b"\n", b"\r\n")
}

/// A mail as it was found; lines end with LF, whatever the store made of them.
#[derive(Clone, PartialEq, Eq)]
pub struct Mail(Vec<u8>);

/// The header fields a store or relay adds at the top.
const TRACE: [&str; 3] = ["return-path", "delivered-to", "received"];

impl Mail {
    /// Takes the octets of a mail.
    pub fn new(octets: &[u8]) -> Self {
        Self(replace_all(octets, b"\r\n", b"\n"))
    }

    /// All mails in `new` and `cur` of a Maildir; none if it is not there yet.
    pub fn in_maildir(maildir: &Path) -> Vec<Self> {
        ["new", "cur"]
            .iter()
            .filter_map(|part| fs::read_dir(maildir.join(part)).ok())
            .flatten()
            .filter_map(|entry| fs::read(entry.ok()?.path()).ok())
            .map(|octets| Self::new(&octets))
            .collect()
    }

    /// Waits until a Maildir holds so many mails, and gives them; more than that is a failure.
    pub fn wait_in_maildir(maildir: &Path, count: usize) -> Vec<Self> {
        let mails = wait_until(PATIENCE, &format!("{count} mails"), || {
            let mails = Self::in_maildir(maildir);
            if mails.len() < count {
                return Err(format!("{mails:?}"));
            }
            Ok(mails)
        });
        assert_eq!(mails.len(), count, "too many mails: {mails:?}");
        mails
    }

    /// How long it is.
    pub fn octets(&self) -> usize {
        self.0.len()
    }

    /// The fields of the header block, each with its name and its unfolded value.
    pub fn header(&self) -> Vec<(String, String)> {
        let text = String::from_utf8_lossy(&self.0);
        fields(text.split("\n\n").next().unwrap_or_default())
    }

    /// The value of the first header field of that name.
    pub fn field(&self, name: &str) -> Option<String> {
        first(&self.header(), name)
    }

    /// Everything below the trace headers at the top: what the sender wrote, if nobody meddled with it.
    pub fn below_trace(&self) -> &[u8] {
        let mut rest = &self.0[..];
        let mut in_trace = false;
        while let Some(end) = rest.iter().position(|&octet| octet == b'\n') {
            let line = String::from_utf8_lossy(&rest[..end]).to_ascii_lowercase();
            let name = line.split(':').next().unwrap_or_default();
            let folded = line.starts_with([' ', '\t']);
            in_trace = TRACE.contains(&name) || (folded && in_trace);
            if !in_trace {
                break;
            }
            rest = &rest[end + 1..];
        }
        rest
    }

    /// Whether a Received field says that this host took the mail.
    pub fn passed(&self, host: &str) -> bool {
        let by = format!("by {host} ");
        let mut header = self.header().into_iter();
        header.any(|(name, value)| name == "Received" && value.contains(&by))
    }

    /// The names of header fields that hoptrail must not have left.
    pub fn hoptrail_fields(&self) -> Vec<String> {
        let names = self.header().into_iter().map(|(name, _)| name);
        names
            .filter(|name| name.to_ascii_lowercase().contains("hoptrail"))
            .collect()
    }

    /// The tracking report it carries, if it is one.
    pub fn report(&self) -> Option<Report> {
        let kind = self.field("Content-Type")?.to_ascii_lowercase();
        if !kind.contains("multipart/report") || !kind.contains("tracking-status") {
            return None;
        }
        let text = String::from_utf8_lossy(&self.0).into_owned();
        let (_, from) = text.split_once("Content-Type: message/tracking-status")?;
        let (_, body) = from.split_once("\n\n")?;
        let body = body.split("\n--").next().unwrap_or_default();
        let mut groups = body.split("\n\n").map(fields).filter(|g| !g.is_empty());
        Some(Report {
            message: groups.next()?,
            recipients: groups.collect(),
        })
    }
}

impl fmt::Debug for Mail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mail:\n{}", String::from_utf8_lossy(&self.0))
    }
}

/// The fields of a `message/tracking-status` part (RFC 3886, 3.2).
#[derive(Clone, Debug)]
pub struct Report {
    message: Vec<(String, String)>,
    recipients: Vec<Vec<(String, String)>>,
}

impl Report {
    /// The reports of the single steps that are told together here: a group with a step of its own begins the next.
    pub fn steps(self) -> Vec<Self> {
        let mut steps: Vec<Self> = Vec::new();
        for group in self.recipients {
            let own = first(&group, "X-Hoptrail-Step");
            if let (Some(last), None) = (steps.last_mut(), &own) {
                last.recipients.push(group);
                continue;
            }
            let mut message = self.message.clone();
            let step = message
                .iter_mut()
                .find(|(name, _)| name.eq_ignore_ascii_case("X-Hoptrail-Step"));
            if let (Some((_, step)), Some(own)) = (step, own) {
                *step = own;
            }
            steps.push(Self {
                message,
                recipients: vec![group],
            });
        }
        steps
    }

    /// A field about the whole message; a missing one is a failure.
    pub fn field(&self, name: &str) -> String {
        first(&self.message, name).unwrap_or_else(|| panic!("no {name} in {self:?}"))
    }

    /// A field of every recipient, in the order of the report.
    pub fn of_recipients(&self, name: &str) -> Vec<String> {
        let value = |group: &Vec<(String, String)>| {
            first(group, name).unwrap_or_else(|| panic!("no {name} in {group:?}"))
        };
        self.recipients.iter().map(value).collect()
    }

    /// Whether its Auth is the one that B makes of its fields, as `src/report/field.rs` describes it.
    pub fn is_proved_by(&self, b: &[u8; 32]) -> bool {
        let auth = first(&self.message, "X-Hoptrail-Auth");
        let Some(tag) = auth
            .as_deref()
            .and_then(|a| a.strip_prefix("hmac-sha256; "))
        else {
            return false;
        };
        let groups = std::iter::once(&self.message).chain(&self.recipients);
        let group = |group: &Vec<(String, String)>| -> String {
            let covered = group.iter().filter(|(name, _)| name != "X-Hoptrail-Auth");
            let lines =
                covered.map(|(name, value)| [&name.to_lowercase(), ":", value, "\n"].concat());
            lines.collect()
        };
        let canonical = groups.map(group).collect::<Vec<_>>().join("\n");
        let mut mac = Hmac::<Sha256>::new_from_slice(b).expect("any key");
        mac.update(canonical.as_bytes());
        URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()) == tag
    }

    /// The value behind the type of a field such as `Reporting-MTA: dns; mx1.example.net`.
    pub fn reporting_mta(&self) -> String {
        behind_type(&self.field("Reporting-MTA"))
    }

    /// The addresses it tells of, sorted.
    pub fn final_recipients(&self) -> Vec<String> {
        let mut all = self.of_recipients("Final-Recipient");
        for recipient in &mut all {
            *recipient = behind_type(recipient);
        }
        all.sort();
        all
    }
}

/// `dns; mx1.example.net` without the type in front.
pub fn behind_type(value: &str) -> String {
    let (_, value) = value.split_once(';').unwrap_or(("", value));
    value.trim().to_owned()
}

/// The fields of one block, unfolded.
fn fields(block: &str) -> Vec<(String, String)> {
    let mut all: Vec<(String, String)> = Vec::new();
    for line in block.lines() {
        if line.starts_with([' ', '\t']) {
            if let Some((_, value)) = all.last_mut() {
                value.push(' ');
                value.push_str(line.trim());
            }
        } else if let Some((name, value)) = line.split_once(':') {
            all.push((name.to_owned(), value.trim().to_owned()));
        }
    }
    all
}

fn first(fields: &[(String, String)], wanted: &str) -> Option<String> {
    let mut hits = fields
        .iter()
        .filter(|(name, _)| name.eq_ignore_ascii_case(wanted));
    hits.next().map(|(_, value)| value.clone())
}

fn replace_all(text: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut all = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(&octet) = rest.first() {
        if let Some(behind) = rest.strip_prefix(from) {
            all.extend_from_slice(to);
            rest = behind;
        } else {
            all.push(octet);
            rest = &rest[1..];
        }
    }
    all
}

/// A report as a stranger to this program would write it by RFC 3886.
pub fn report(id: &str, event: &str) -> String {
    let (action, status) = match event {
        "failed" => ("failed", "5.1.1"),
        "delivered" => ("delivered", "2.0.0"),
        _ => ("transferred", "2.0.0"),
    };
    format!(
        "From: hoptrail@mx1.example.net
To: alice@example.org
Subject: Mail trail
MIME-Version: 1.0
Content-Type: multipart/report; report-type=tracking-status; boundary=b0

--b0
Content-Type: text/plain

News.

--b0
Content-Type: message/tracking-status

Original-Envelope-Id: {id}
Reporting-MTA: dns; mx1.example.net
Arrival-Date: Mon, 23 Nov 2026 16:05:09 +0000
X-Hoptrail-Version: 1
X-Hoptrail-Step: 1122334455667788
X-Hoptrail-Hop: 1
X-Hoptrail-Role: delivery
X-Hoptrail-Arrived: 1795449909000000

Original-Recipient: rfc822; bob@example.net
Final-Recipient: rfc822; bob@example.net
Action: {action}
Status: {status}
Last-Attempt-Date: Mon, 23 Nov 2026 16:05:10 +0000
X-Hoptrail-Event: {event}
X-Hoptrail-Attempted: 1795449910000000

--b0--
"
    )
}
