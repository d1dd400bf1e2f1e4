//! `HopReport` to the bytes of a mail. Pure: the same report and mailing make the same bytes.
//!
//! Whatever a report holds, no value can begin a new field, header or MIME part: it is brought into
//! normal form first (`track::clean`), and what stands beside it here is our own.

use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use mail_builder::MessageBuilder;
use mail_builder::headers::address::Address;
use mail_builder::headers::content_type::ContentType;
use mail_builder::headers::message_id::MessageId;
use mail_builder::headers::raw::Raw;
use mail_builder::mime::MimePart;

use super::field::{self, AUTH_ALGORITHM, Group, PLAIN, UNVERIFIED, VERIFIED, canonical};
use super::name::Name;
use super::{address, date, words};
use crate::track::{Certificate, Exchange, HopReport, RecipientStatus, Security};

/// What a report needs besides itself to become a mail.
#[derive(Clone, Debug)]
pub struct Mailing<'a> {
    /// The hop's own address, for From.
    pub from: &'a str,
    /// The originator's address, for To.
    pub to: &'a str,
    /// Date of the mail, µs since 1970-01-01 UTC.
    pub date_us: i64,
    /// B, the key of Auth; without it the report carries none.
    pub certificate: Option<&'a Certificate>,
    /// The Received fields to show, lines ended by CRLF.
    pub received: Option<&'a str>,
    /// The MIME boundary: up to 60 letters and digits at random, so that no peer can guess it.
    pub boundary: &'a str,
}

/// The preferred length of a line, octets (RFC 5322, 2.1.1).
const LINE_OCTETS: usize = 78;

/// The whole mail, lines ended by CRLF.
pub fn write(report: &HopReport, mailing: &Mailing) -> Vec<u8> {
    write_together(std::slice::from_ref(report), mailing)
}

/// One mail for several reports that agree in all but the step, how its message left, and its recipients. None
/// without a report.
pub fn write_together(reports: &[HopReport], mailing: &Mailing) -> Vec<u8> {
    let reports: Vec<HopReport> = reports.iter().cloned().map(HopReport::clean).collect();
    let Some(first) = reports.first() else {
        return Vec::new();
    };
    let recipients = reports.iter().flat_map(|report| &report.recipients);
    let whole = HopReport {
        recipients: recipients.cloned().collect(),
        ..first.clone()
    };
    let status = fields(&groups(&reports, mailing.certificate));
    let text = words::text(&whole);
    let received = mailing.received.unwrap_or_default();
    let boundary = unheld(mailing.boundary, &[&text, &status, received]);
    let words = Words {
        subject: words::subject(&whole),
        text,
    };
    mail(&whole, mailing, words, "tracking-status", status, &boundary)
}

/// What people read of a mail.
pub(super) struct Words {
    pub subject: String,
    pub text: String,
}

/// A `multipart/report` (RFC 6522) around a machine part `message/KIND`.
pub(super) fn mail(
    report: &HopReport,
    mailing: &Mailing,
    words: Words,
    kind: &'static str,
    status: String,
    boundary: &str,
) -> Vec<u8> {
    let mut parts = vec![
        MimePart::new("text/plain", words.text),
        // As bytes with a named encoding: any other way adds a charset or base64, and the types
        // allow neither (RFC 3886, 3.1; RFC 3464, 2.1).
        MimePart::new(format!("message/{kind}"), status.into_bytes()).transfer_encoding("7bit"),
    ];
    if let Some(received) = mailing.received.filter(|fields| !fields.is_empty()) {
        let fields = MimePart::new("text/rfc822-headers", received.as_bytes().to_vec());
        parts.push(fields.transfer_encoding("7bit"));
    }
    let multipart = ContentType::new("multipart/report")
        .attribute("report-type", kind)
        .attribute("boundary", boundary.to_owned());
    let host = &report.reporting_mta;
    let mut mail = MessageBuilder::new()
        .from((format!("hop reports at {host}"), mailing.from.to_owned()))
        .to(to(mailing.to))
        .header("Date", Raw::new(date::mail_date(mailing.date_us)))
        .message_id(format!("trk.{}@{}", report.step, id_domain(host)))
        .subject(words.subject)
        .header("Auto-Submitted", Raw::new("auto-replied"));
    if let Some(id) = report.message_id.as_deref().filter(|id| is_msg_id(id)) {
        mail = mail
            .in_reply_to(MessageId::new(id.to_owned()))
            .references(MessageId::new(id.to_owned()));
    }
    // MIME-Version is the builder's.
    let built = mail.body(MimePart::new(multipart, parts)).write_to_vec();
    // Writing to memory has no way to fail.
    built.unwrap_or_default()
}

/// The originator for people. Beyond ASCII it stands as the name of an empty group (RFC 6857, 3.1.7), so
/// that the mail is valid however it travels; the envelope has the address itself.
fn to(address: &str) -> Address<'_> {
    if address.is_ascii() {
        Address::new_address(None::<&str>, address)
    } else {
        Address::new_group(Some(address), Vec::new())
    }
}

/// The boundary, made longer if a text holds it all the same: readers find it even within a line.
pub(super) fn unheld(boundary: &str, texts: &[&str]) -> String {
    let mut boundary = boundary.to_owned();
    while texts.iter().any(|text| text.contains(&boundary)) {
        boundary.push('0');
    }
    boundary
}

/// The field groups of the machine part: the message's, with Auth last, and one for each recipient. Where a
/// further step begins, its first recipient's group says so.
fn groups<'a>(reports: &'a [HopReport], certificate: Option<&Certificate>) -> Vec<Group<'a>> {
    let mut groups: Vec<Group> = reports.iter().take(1).map(message_group).collect();
    for (n, report) in reports.iter().enumerate() {
        let first = groups.len();
        groups.extend(report.recipients.iter().map(recipient_group));
        if let Some(group) = groups.get_mut(first).filter(|_| n > 0) {
            group.push(Name::Step, report.step.to_string());
            group.push_some(Name::TimesOut, times(&report.times_out));
            group.push_some(Name::TlsOut, report.tls_out.as_ref().map(security));
        }
    }
    if let Some(certificate) = certificate {
        let tag = URL_SAFE_NO_PAD.encode(certificate.authenticate(&canonical(&groups)));
        if let Some(message) = groups.first_mut() {
            message.push(Name::Auth, format!("{AUTH_ALGORITHM}; {tag}"));
        }
    }
    groups
}

fn message_group(report: &HopReport) -> Group<'_> {
    let mut group = Group::default();
    group.push(Name::OriginalEnvelopeId, report.id.as_str());
    group.push(Name::ReportingMta, format!("dns; {}", report.reporting_mta));
    group.push(Name::ArrivalDate, date::mail_date(report.arrival_us));
    group.push(Name::Version, field::VERSION);
    group.push(Name::Step, report.step.to_string());
    group.push_some(Name::Parent, report.parent.map(|p| p.to_string()));
    group.push(Name::Hop, report.hop.to_string());
    group.push(Name::Role, report.role.as_str());
    group.push(Name::Arrived, report.arrival_us.to_string());
    group.push_some(Name::MessageId, report.message_id.as_deref());
    group.push_some(Name::Sent, report.sent_ms.map(|t| t.to_string()));
    group.push_some(Name::QueueId, report.queue_id.as_deref());
    group.push_some(Name::Size, report.size.map(|s| s.to_string()));
    group.push_some(Name::CameFor, report.came_for.map(|n| n.to_string()));
    group.push_some(Name::Filtered, report.filtered_us.map(|t| t.to_string()));
    let ring = (!report.ring.is_empty()).then(|| report.ring.join(" "));
    group.push_some(Name::Ring, ring);
    group.push_some(Name::TimesIn, times(&report.times_in));
    group.push_some(Name::TimesOut, times(&report.times_out));
    group.push_some(Name::TlsIn, report.tls_in.as_ref().map(security));
    group.push_some(Name::TlsOut, report.tls_out.as_ref().map(security));
    group
}

fn recipient_group(recipient: &RecipientStatus) -> Group<'_> {
    let mut group = Group::default();
    group.push(Name::OriginalRecipient, address::write(&recipient.original));
    group.push(Name::FinalRecipient, address::write(&recipient.recipient));
    group.push(Name::Action, recipient.event.action());
    group.push(Name::Status, recipient.status.to_string());
    let remote = recipient.remote_mta.as_ref().map(|r| format!("dns; {r}"));
    group.push_some(Name::RemoteMta, remote);
    group.push_some(
        Name::LastAttemptDate,
        recipient.attempted_us.map(date::mail_date),
    );
    group.push(Name::Event, recipient.event.as_str());
    group.push_some(
        Name::Attempted,
        recipient.attempted_us.map(|t| t.to_string()),
    );
    group.push_some(Name::Reply, recipient.reply.as_deref());
    group.push_some(Name::QueueId, recipient.remote_queue_id.as_deref());
    group
}

/// `ehlo=COMMAND/REPLY mail=…`, µs.
fn times(exchanges: &[Exchange]) -> Option<String> {
    let mut all = String::new();
    for exchange in exchanges {
        let blank = if all.is_empty() { "" } else { " " };
        let (stage, command_us, reply_us) = (*exchange).into();
        // Writing to a String cannot fail.
        let _ = write!(all, "{blank}{}={command_us}/{reply_us}", stage.as_str());
    }
    (!all.is_empty()).then_some(all)
}

/// `none`, or `VERSION; CIPHER; verified`.
fn security(security: &Security) -> String {
    match security {
        Security::Plain => PLAIN.to_owned(),
        Security::Tls {
            version,
            cipher,
            verified,
        } => {
            let verified = if *verified { VERIFIED } else { UNVERIFIED };
            format!("{version}; {cipher}; {verified}")
        }
    }
}

/// The groups as they stand in the part, each ended by an empty line.
pub(super) fn fields(groups: &[Group]) -> String {
    let mut text = String::new();
    for group in groups {
        for (name, value) in &group.0 {
            fold(&mut text, name, value);
        }
        text.push_str("\r\n");
    }
    text
}

/// Writes `Name: value`, folded in front of blanks. Taking the CRLFs out gives the value back exactly:
/// a line is broken only between a character and a blank, so none ends in blanks or holds only such.
pub(super) fn fold(out: &mut String, name: &str, value: &str) {
    out.push_str(name);
    out.push_str(": ");
    let mut room = LINE_OCTETS.saturating_sub(name.len() + 2);
    let mut rest = value;
    while rest.len() > room {
        let Some(at) = fold_point(rest, room) else {
            break;
        };
        let (line, next) = rest.split_at(at);
        out.push_str(line);
        out.push_str("\r\n");
        (rest, room) = (next, LINE_OCTETS);
    }
    out.push_str(rest);
    out.push_str("\r\n");
}

/// Where to break: the last good blank within `room`, else the first one after it.
fn fold_point(text: &str, room: usize) -> Option<usize> {
    let good = |pair: &[u8]| matches!(pair, [before, b' '] if *before != b' ');
    let octets = text.as_bytes();
    let within = octets.get(..=room.min(octets.len().saturating_sub(1)));
    let last = within.and_then(|w| w.windows(2).rposition(good));
    last.or_else(|| octets.windows(2).position(good))
        .map(|at| at + 1)
}

/// The host name as the right side of a Message-ID.
fn id_domain(host: &str) -> String {
    host.chars()
        .map(|c| match c {
            'a'..='z' | 'A'..='Z' | '0'..='9' | '.' | '-' | '_' => c,
            _ => '-',
        })
        .collect()
}

/// Whether an id can stand between angle brackets in a header of ours.
fn is_msg_id(id: &str) -> bool {
    let sane = |c: char| c.is_ascii_graphic() && !matches!(c, '<' | '>' | '(' | ')' | ',' | '"');
    let halves = id.split_once('@');
    halves
        .is_some_and(|(left, right)| !left.is_empty() && !right.is_empty() && !right.contains('@'))
        && id.len() <= 250
        && id.chars().all(sane)
}
