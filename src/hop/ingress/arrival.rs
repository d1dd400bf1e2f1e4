//! The arrival of a message at this hop: what its start tells, what is put on top of it, and the `Step` that
//! is on record before the client has its 250. No sockets.

use tracing::info;

use super::wish::{grant, take_request};
use super::{filter, ring};
use crate::hop::body::Head;
use crate::hop::claim::{Claim, Start};
use crate::hop::held::is_gone;
use crate::hop::transaction::{Envelope, Outcome, Recipient, Tracked, field_value};
use crate::hop::{Arrival, Site};
use crate::smtp::data::{header_fields, takes_field_before};
use crate::smtp::reply::Reply;
use crate::track::carry::{CARRY, Carry, Opened};
use crate::track::wish::Wish;
use crate::track::{
    Asked, Event, Form, HopReport, RecipientStatus, Role, Stage, Stay, Step, TrackRequest,
};

/// How a message came, for what is done with its start.
#[derive(Clone, Copy)]
pub struct Manner {
    /// Who the client is, if it needs no proof: a field of it may ask, and its carry header of another hop is
    /// honoured.
    pub trusted: Option<Asked>,
    /// The MTA tracks by itself: it needs no carry header where MAIL brought the request.
    pub passes: bool,
    /// In chunks: a header block that goes on behind the first one is not looked at, and the carry header
    /// binds no Message-ID.
    pub chunked: bool,
}

/// Whether there is anything to do about a message: its sender asks, or a field stands in its header that may be
/// a request, whoever made that. Any other message passes without its start being taken out of the stream.
pub fn concerns_us(site: &Site, envelope: Option<&Envelope>, header: Option<&[u8]>) -> bool {
    let asks =
        |envelope: &Envelope| envelope.tracked.is_some() || envelope.wish == Some(Wish::Ruled);
    let asking_field = site.listener.wishes.header.as_deref();
    let may_ask = |field: &[u8]| {
        let named = |name: &str| field_value(field, name).is_some();
        named(CARRY) || asking_field.is_some_and(named)
    };
    let holds = |block: &[u8]| header_fields(block).any(|field| may_ask(&block[field]));
    site.hop.tracking.is_some() && (envelope.is_some_and(asks) || header.is_some_and(holds))
}

/// Looks at the start of a message: takes out a carry header of our own making and a field that asks, honours
/// what is a request (a carry header if a hop that shares our key made it; no other counts beside it, or a message
/// that came back would be tracked anew), and puts our carry header on top. Returns what to send, and the
/// Message-ID.
pub async fn prepare(
    site: &Site,
    manner: Manner,
    mut head: Head,
    envelope: Option<&mut Envelope>,
) -> (Vec<u8>, Option<String>) {
    if head.header.is_none() && !manner.chunked {
        if let Some(tracked) = envelope.and_then(|envelope| envelope.tracked.take()) {
            info!(hop = %site.hop.hostname, envid = %tracked.id, "header block over the limit: untracked");
        }
        return (head.text, None);
    }
    if site.listener.content_filter && filter::stamp(site, &mut head) {
        if let Some(envelope) = envelope {
            // No other request counts beside it.
            envelope.tracked = None;
        }
        return (head.text, None);
    }
    let found = Found {
        carried: site.take_carry(&mut head),
        asked: manner.trusted.and_then(|_| take_request(site, &mut head)),
    };
    let Some(envelope) = envelope else {
        return (head.text, None);
    };
    if let Some(why) = untrackable(site, envelope, &head) {
        if let Some(tracked) = envelope.tracked.take() {
            info!(hop = %site.hop.hostname, envid = %tracked.id, "{why}: untracked");
        }
        return (head.text, None);
    }
    let message_id = head.message_id();
    if track(site, manner, found, envelope, &head).await
        && let Some(field) = carry_field(site, envelope, message_id.as_deref())
    {
        return ([field, head.text].concat(), message_id);
    }
    (head.text, message_id)
}

/// What a header held that may be a request.
struct Found {
    carried: Option<Opened>,
    asked: Option<TrackRequest>,
}

/// Settles whether a message is tracked, by what MAIL brought or else by what was found in its header. False if the
/// MTA, which tracks by itself, was given the request with MAIL.
async fn track(
    site: &Site,
    manner: Manner,
    found: Found,
    envelope: &mut Envelope,
    head: &Head,
) -> bool {
    let start = Start {
        head,
        chunked: manner.chunked,
    };
    let reverse_path = &envelope.reverse_path;
    Claim::settle(site, &mut envelope.tracked, reverse_path, Some(start)).await;
    let passed = manner.passes && envelope.tracked.is_some();
    if envelope.tracked.is_none() {
        envelope.tracked = match found.carried {
            Some(opened) => {
                let id = head.message_id();
                let id = id.as_deref();
                Box::pin(take_up(site, manner.trusted, opened, envelope, id)).await
            }
            None => grant(site, found.asked, manner.trusted, envelope, head.block()),
        };
    }
    if let Some(tracked) = &mut envelope.tracked {
        if !passed && !site.listener.content_filter {
            ring::look(site, tracked, &envelope.recipients).await;
        }
        tracked.received = site.received(tracked.asked.by, head.block());
    }
    !passed
}

/// The carry header for a message, if it is tracked from here on.
fn carry_field(site: &Site, envelope: &Envelope, message_id: Option<&str>) -> Option<Vec<u8>> {
    let (tracked, tracking) = (envelope.tracked.as_ref()?, site.hop.tracking.as_ref()?);
    if !tracked.ring.is_empty() {
        return None;
    }
    let id = message_id.map(str::as_bytes);
    Some(carry(site, tracked).write(&tracking.keys, &envelope.reverse_path, id))
}

/// Why a message that could be tracked must not be.
fn untrackable(site: &Site, envelope: &Envelope, head: &Head) -> Option<&'static str> {
    if envelope.overflown {
        return Some("more recipients than the limit");
    }
    if !takes_field_before(&head.text) {
        return Some("begins with no header field");
    }
    site.caused(head.block(), &envelope.recipients)
}

/// What a carry header with a good MAC means in front of an MTA, if it is that of this very mail and comes from a
/// client that may ask: the request itself, if another hop that shares the key made it; a loop, if this hop did. Any
/// other is a replay, and the mail passes untracked.
async fn take_up(
    site: &Site,
    trusted: Option<Asked>,
    opened: Opened,
    envelope: &Envelope,
    message_id: Option<&str>,
) -> Option<Box<Tracked>> {
    let (hop, now_ms) = (&site.hop, site.hop.clock.now_ms());
    let carry = &opened.carry;
    let belongs = opened.is_from(&envelope.reverse_path)
        && opened.is_of(message_id.map(str::as_bytes))
        && !opened.expired(now_ms);
    let (true, Some(client)) = (belongs, trusted) else {
        info!(hop = %hop.hostname, envid = %carry.id, step = %carry.step, "carry header not honoured");
        return None;
    };
    if let Some(earlier) = hop.recall(carry.step).await {
        let tracked = ring::back(site, carry, &earlier, envelope);
        is_gone(site, earlier).await;
        return tracked;
    }
    let asked = Asked {
        // A proof that lies in another hop's journal is none here.
        by: carry.asker?.carried(),
        from: client.from,
    };
    let elapsed_s = u64::try_from((now_ms - carry.at_ms) / 1000).unwrap_or(0);
    let mut request = carry.request.for_next_hop(carry.step, elapsed_s)?;
    let envid = envelope
        .envid
        .as_deref()
        .filter(|envid| *envid == carry.id.as_str());
    request.id = Some(carry.id.clone());
    let mtrk = carry.mtrk.as_ref().and_then(|mtrk| mtrk.after(elapsed_s));
    let tracked = site.honour(request, asked, &envelope.reverse_path, envid)?;
    Some(tracked.with(mtrk))
}

/// What crosses the MTA with this transaction.
pub fn carry(site: &Site, tracked: &Tracked) -> Carry {
    Carry {
        id: tracked.id.clone(),
        step: tracked.step,
        at_ms: site.hop.clock.now_ms(),
        back_ms: None,
        told: site.tells_arrivals(tracked.asked.by),
        asker: tracked.known_asker(),
        request: tracked.request.clone(),
        mtrk: tracked.mtrk.clone(),
    }
}

/// From the end of data until the step is on record, whoever asks for it waits: the MTA may be faster.
pub fn arriving(site: &Site, envelope: Option<&Envelope>) -> Option<Arrival> {
    let step = envelope?.tracked.as_ref()?.step;
    Some(site.hop.tracking.as_ref()?.arriving.begin(step))
}

/// The step of a message that the MTA has; `None` if it is not tracked.
pub async fn arrived(
    site: &Site,
    mut envelope: Envelope,
    message_id: Option<String>,
    octets: u64,
    dot_us: i64,
    reply: &Reply,
) -> Option<Step> {
    let hop = &site.hop;
    let now_us = hop.clock.now_us();
    Claim::conclude(site, &mut envelope.tracked).await;
    let tracked = envelope.tracked?;
    let outcome = Outcome {
        reply: reply.clone(),
        remote_mta: hop.hostname.clone(),
        at_us: now_us,
    };
    let mut times = envelope.times;
    times.record(Stage::Dot, dot_us, now_us);
    // The same for all, but for the address.
    let event = if tracked.ring.is_empty() {
        Event::Accepted
    } else {
        Event::Looped
    };
    let told = outcome.status(String::new(), String::new(), event);
    let queue_id = told.remote_queue_id.clone();
    let status = |recipient: Recipient| RecipientStatus {
        original: recipient
            .original
            .unwrap_or_else(|| recipient.address.clone()),
        recipient: recipient.address,
        ..told.clone()
    };
    Some(Step {
        report: HopReport {
            id: tracked.id.clone(),
            step: tracked.step,
            parent: tracked.request.up,
            hop: tracked.hop(),
            role: Role::Ingress,
            reporting_mta: hop.hostname.clone(),
            arrival_us: dot_us,
            message_id,
            sent_ms: tracked.request.sent_ms,
            queue_id,
            size: Some(octets),
            came_for: None,
            filtered_us: None,
            ring: tracked.ring,
            tls_in: times.security.take(),
            times_in: times.exchanges(),
            times_out: Vec::new(),
            tls_out: None,
            recipients: envelope.recipients.into_iter().map(status).collect(),
        },
        originator: String::from_utf8_lossy(&envelope.reverse_path).into_owned(),
        certificate: tracked.request.certificate,
        told: (hop.reports_arrivals || event == Event::Looped).then_some(Form::Report),
        asked: Some(tracked.asked),
        organisation: None,
        received: tracked.received,
        partial: false,
        // One that came back is followed no further.
        stay: hop
            .held_after
            .filter(|_| event == Event::Accepted)
            .map(|_| Stay::Begins),
    })
}
