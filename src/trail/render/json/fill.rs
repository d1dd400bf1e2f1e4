//! Trails into the structs of the schema, and those into text.

use jiff::tz::TimeZone;

use super::{
    BoundsJson, ClaimJson, ClockJson, Counts, CustodyJson, Document, ElsewhereJson, ExchangeJson,
    FateJson, HopJson, JumpJson, MessageJson, NotOursJson, OddClockJson, OriginJson, PartJson,
    RecipientJson, SCHEMA, SkippedJson, StepJson, TlsJson, WayJson, WordJson,
};
use crate::report::{Origin, Trace};
use crate::track::clean::is_hidden;
use crate::track::{Exchange, HopReport, RecipientStatus, Security, TrackingId};
use crate::trail::clock::{Bounds, Offset};
use crate::trail::custody::custody;
use crate::trail::message::{Elsewhere, Jump, Word};
use crate::trail::odd::odd_clocks;
use crate::trail::render::View;
use crate::trail::render::format::{put, rfc3339};
use crate::trail::render::verdict::{total, verdict};
use crate::trail::ring::ring;
use crate::trail::verify::agreement;
use crate::trail::way::{Part, way};
use crate::trail::{Message, NotOurs, Recipient, Stay, Trails};

/// The document as indented text with a final newline.
pub fn document(trails: &Trails, now_us: i64) -> String {
    let view = View {
        now_us,
        zone: TimeZone::UTC,
        width: None,
        colours: false,
    };
    let document = Document {
        schema: SCHEMA,
        counts: Counts {
            mails: trails.counts.mails,
            reports: trails.counts.reports,
            skipped: trails.skipped.len(),
            not_ours: trails.not_ours.len(),
        },
        messages: trails.messages.iter().map(|m| message(m, &view)).collect(),
        not_ours: trails.not_ours.iter().map(not_ours).collect(),
        skipped: skipped(&trails.skipped),
    };
    // Strings, numbers and lists always make JSON.
    let text = serde_json::to_string_pretty(&document).unwrap_or_default();
    escaped(&text) + "\n"
}

/// JSON without a character that steers a terminal: such ones stand in strings only, where
/// an escape means the same.
pub fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            c if c != '\n' && is_hidden(c) => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    put(&mut out, format_args!("\\u{unit:04x}"));
                }
            }
            c => out.push(c),
        }
    }
    out
}

/// A report set apart.
pub fn not_ours(report: &NotOurs) -> NotOursJson<'_> {
    NotOursJson {
        id: report.id.as_str(),
        host: &report.host,
        from: report.from.as_deref(),
        why: report.why,
    }
}

/// What was not read, and why.
pub fn skipped(places: &[(String, String)]) -> Vec<SkippedJson<'_>> {
    let places = places.iter();
    places
        .map(|(place, why)| SkippedJson { place, why })
        .collect()
}

/// A message, in the words of the view.
pub fn message<'a>(message: &'a Message, view: &View) -> MessageJson<'a> {
    let sent_us = message.sent_ms.and_then(|ms| i64::try_from(ms).ok());
    MessageJson {
        id: message.id.as_str(),
        other_ids: message.other_ids.iter().map(TrackingId::as_str).collect(),
        message_id: message.message_id.as_deref(),
        sent: sent_us.and_then(|ms| rfc3339(ms.checked_mul(1000)?)),
        sent_ms: message.sent_ms,
        truth: message.truth,
        names: message.names.first().map(TrackingId::as_str),
        unproved: message.unproved,
        outcome: message.outcome(),
        verdict: verdict(message, view, false),
        total: total(message).map(bounds),
        untold: message.untold(),
        odd_clocks: (odd_clocks(message, view.now_us).iter())
            .map(|odd| OddClockJson {
                host: odd.host,
                of: odd.of,
                ahead_us: odd.ahead_us,
            })
            .collect(),
        recipients: (message.recipients.iter())
            .map(|r| recipient(message, r, view.now_us))
            .collect(),
        words: message.words.iter().map(word).collect(),
        hops: (0..)
            .zip(&message.stays)
            .map(|(n, stay)| hop(message, n, stay))
            .collect(),
    }
}

fn bounds(bounds: Bounds) -> BoundsJson {
    BoundsJson {
        low_us: bounds.low_us,
        high_us: bounds.high_us,
    }
}

fn recipient<'a>(message: &'a Message, recipient: &'a Recipient, now_us: i64) -> RecipientJson<'a> {
    RecipientJson {
        address: &recipient.address,
        state: recipient.state,
        host: &recipient.host,
        remote: recipient.remote.as_deref(),
        at: rfc3339(recipient.at_us),
        at_us: recipient.at_us,
        status: recipient.status.to_string(),
        reply: recipient.reply.as_deref(),
        delays: recipient.delays,
        refusals: recipient.refusals.len(),
        deliveries: recipient.deliveries,
        later_us: message.came_later_us(recipient),
        apart: recipient.apart.as_ref().map(elsewhere),
        also_failed: recipient.also_failed.as_ref().map(elsewhere),
        origin: origin(message.origin(recipient.step)),
        custody: custody(message, recipient, now_us).map(|custody| CustodyJson {
            host: custody.host,
            since: rfc3339(custody.since_us),
            since_us: custody.since_us,
            since_first: (message.stays.get(recipient.stay))
                .and_then(|stay| stay.on_first_clock(custody.since_us))
                .map(bounds),
            silence: custody.silence,
        }),
        way: way(message, recipient).into_iter().map(part).collect(),
    }
}

fn elsewhere(told: &Elsewhere) -> ElsewhereJson<'_> {
    ElsewhereJson {
        state: told.state,
        host: &told.host,
        at: rfc3339(told.at_us),
        at_us: told.at_us,
    }
}

fn part(part: Part) -> WayJson {
    let parts = part.parts.into_iter();
    WayJson {
        hop: part.stay,
        wire: part.wire.map(bounds),
        dwell_us: part.dwell_us,
        parts: parts
            .map(|p| PartJson {
                kind: p.kind,
                us: p.us,
                awaited_us: p.awaited_us,
            })
            .collect(),
    }
}

fn word(word: &Word) -> WordJson<'_> {
    WordJson {
        address: &word.address,
        recipient: word.recipient,
        said: word.fate.said,
        host: word.host.as_deref(),
        from: word.from.as_deref(),
        remote: word.fate.remote.as_deref(),
        status: word.fate.status.map(|status| status.to_string()),
        reply: word.fate.reply.as_deref(),
        at: word.at_us.and_then(rfc3339),
        at_us: word.at_us,
        joined: word.joined,
    }
}

fn claim(claim: &Trace) -> ClaimJson<'_> {
    ClaimJson {
        by: &claim.by,
        id: claim.id.as_deref(),
        at: claim.at_us.and_then(rfc3339),
        at_us: claim.at_us,
    }
}

fn hop<'a>(message: &'a Message, n: usize, stay: &'a Stay) -> HopJson<'a> {
    let (state, offset) = match stay.offset {
        Offset::Known(offset) => ("known", Some(bounds(offset))),
        Offset::Unknown => ("unknown", None),
        Offset::Contradiction => ("contradiction", None),
    };
    HopJson {
        hop: stay.hop,
        host: stay.host.as_deref(),
        parent: stay.parent,
        missing: stay.is_missing(),
        agreement: agreement(message, stay),
        claims: stay.claims.iter().map(claim).collect(),
        clock: ClockJson {
            state,
            offset,
            offset_at_us: stay.offset_at_us,
            link: stay.link.bounds().map(bounds),
            jump: stay.jump.as_deref().map(jump),
        },
        steps: stay.steps.iter().map(|s| step(message, n, s)).collect(),
    }
}

fn jump(jump: &Jump) -> JumpJson<'_> {
    JumpJson {
        against: &jump.against,
        own: jump.is_own,
        by: bounds(jump.by),
        from_us: jump.from_us,
        to_us: jump.to_us,
        seen_from_us: jump.seen_us.0,
        seen_to_us: jump.seen_us.1,
    }
}

fn step<'a>(message: &'a Message, n: usize, report: &'a HopReport) -> StepJson<'a> {
    StepJson {
        step: report.step.to_string(),
        parent: report.parent.map(|p| p.to_string()),
        role: report.role,
        arrived: rfc3339(report.arrived_us()),
        arrived_us: report.arrived_us(),
        left: report.left_us().and_then(rfc3339),
        left_us: report.left_us(),
        queue_id: report.queue_id.as_deref(),
        size: report.size,
        filtered: report.filtered_us.and_then(rfc3339),
        filtered_us: report.filtered_us,
        filter_us: report.filter_us(),
        ring: ring(message, n, report),
        times_in: report.times_in.iter().map(exchange).collect(),
        times_out: report.times_out.iter().map(exchange).collect(),
        attempt_us: report.attempt_us(),
        pause_in_us: report.pause_in_us(),
        pause_out_us: report.pause_out_us(),
        tls_in: report.tls_in.as_ref().map(tls),
        tls_out: report.tls_out.as_ref().map(tls),
        origin: origin(message.origin(report.step)),
        recipients: report.recipients.iter().map(|g| fate(report, g)).collect(),
    }
}

fn origin(origin: &Origin) -> OriginJson<'_> {
    let (state, domain, vouches) = match origin {
        Origin::Unchecked => ("unchecked", None, None),
        Origin::Unsigned => ("unsigned", None, None),
        Origin::Signed { domain, vouches } => ("signed", Some(domain), Some(*vouches)),
        Origin::NoKey { domain } => ("no-key", Some(domain), None),
        Origin::NoAnswer { domain } => ("no-answer", Some(domain), None),
        Origin::UnfitKey { domain } => ("unfit-key", Some(domain), None),
        Origin::Altered { domain } => ("altered", Some(domain), None),
    };
    OriginJson {
        state,
        domain: domain.map(String::as_str),
        vouches,
    }
}

fn tls(security: &Security) -> TlsJson<'_> {
    let (on, version, cipher, verified) = match security {
        Security::Plain => (false, None, None, false),
        Security::Tls {
            version,
            cipher,
            verified,
        } => (true, Some(&**version), Some(&**cipher), *verified),
    };
    TlsJson {
        on,
        version,
        cipher,
        verified,
    }
}

fn exchange(exchange: &Exchange) -> ExchangeJson {
    ExchangeJson {
        stage: exchange.stage,
        command_us: exchange.command_us,
        reply_us: exchange.reply_us,
    }
}

fn fate<'a>(report: &HopReport, group: &'a RecipientStatus) -> FateJson<'a> {
    FateJson {
        original: &group.original,
        recipient: &group.recipient,
        event: group.event,
        status: group.status.to_string(),
        remote: group.remote_mta.as_deref(),
        attempted: group.attempted_us.and_then(rfc3339),
        attempted_us: group.attempted_us,
        dwell_us: report.dwell_us(group),
        reply: group.reply.as_deref(),
        remote_queue_id: group.remote_queue_id.as_deref(),
    }
}
