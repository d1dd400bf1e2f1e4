//! The arrival of a message at this hop: what its start tells, what is put on top of it, and the `Step` that
//! is on record before the client has its 250. No sockets.

use tracing::info;

use crate::hop::body::Head;
use crate::hop::transaction::{Envelope, Outcome, Recipient, Tracked, is_report};
use crate::hop::{Arrival, Site, log_step};
use crate::smtp::data::takes_field_before;
use crate::smtp::reply::Reply;
use crate::track::carry::{Carry, Opened};
use crate::track::{Event, Form, HopReport, RecipientStatus, Role, Stage, Step};

/// How a message came, for what is done with its start.
#[derive(Clone, Copy)]
pub struct Manner {
    /// A carry header of another hop is honoured from this client.
    pub may_ask: bool,
    /// The MTA tracks by itself: it has the request, and needs no carry header.
    pub passes: bool,
    /// In chunks: a header block that goes on behind the first one is not looked at, and the carry header
    /// binds no Message-ID.
    pub chunked: bool,
}

/// Looks at the start of a message: takes out a carry header of our own making, honours it where it is a
/// request from a hop that shares our key, and puts ours on top. Returns what to send, and the Message-ID.
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
    let carried = site.take_carry(&mut head);
    let Some(envelope) = envelope else {
        return (head.text, None);
    };
    if let Some(why) = untrackable(envelope, &head) {
        if envelope.tracked.take().is_some() {
            info!(hop = %site.hop.hostname, "{why}: untracked");
        }
        return (head.text, None);
    }
    if !takes_field_before(&head.text) {
        if let Some(tracked) = envelope.tracked.take() {
            info!(hop = %site.hop.hostname, envid = %tracked.id, "begins with no header field: untracked");
        }
        return (head.text, None);
    }
    let message_id = head.message_id();
    if let (Some(opened), None) = (carried, &envelope.tracked) {
        envelope.tracked = take_up(
            site,
            manner.may_ask,
            opened,
            envelope,
            message_id.as_deref(),
        )
        .await;
    }
    if let (Some(tracked), false, Some(tracking)) =
        (&envelope.tracked, manner.passes, &site.hop.tracking)
    {
        let id = message_id.as_deref().map(str::as_bytes);
        let mut carry = carry(site, tracked).write(&tracking.keys, &envelope.reverse_path, id);
        carry.extend_from_slice(&head.text);
        head.text = carry;
    }
    (head.text, message_id)
}

/// Why a message that could be tracked must not be.
fn untrackable(envelope: &Envelope, head: &Head) -> Option<&'static str> {
    if envelope.overflown {
        return Some("more recipients than the limit");
    }
    is_report(head.block()).then_some("a tracking report itself")
}

/// What a carry header with a good MAC means in front of an MTA: the request itself, if another hop that
/// shares the key made it for this very mail; a loop or a content filter's re-entry, if this hop made it; a
/// replay otherwise. In the latter cases the mail passes untracked.
async fn take_up(
    site: &Site,
    may_ask: bool,
    opened: Opened,
    envelope: &Envelope,
    message_id: Option<&str>,
) -> Option<Tracked> {
    let (hop, now_ms) = (&site.hop, site.hop.clock.now_ms());
    let carry = &opened.carry;
    if hop.recall(carry.step).await.is_some() {
        info!(hop = %hop.hostname, envid = %carry.id, step = %carry.step, "came back to this hop: not tracked again");
        return None;
    }
    let belongs = opened.is_from(&envelope.reverse_path)
        && opened.is_of(message_id.map(str::as_bytes))
        && !opened.expired(now_ms);
    if !belongs || !may_ask {
        info!(hop = %hop.hostname, envid = %carry.id, step = %carry.step, "carry header not honoured");
        return None;
    }
    let elapsed_s = u64::try_from((now_ms - carry.at_ms) / 1000).unwrap_or(0);
    let mut request = carry.request.for_next_hop(carry.step, elapsed_s)?;
    let envid = envelope
        .envid
        .as_deref()
        .filter(|envid| *envid == carry.id.as_str());
    request.id = Some(carry.id.clone());
    site.honour(request, &envelope.reverse_path, envid)
}

/// What crosses the MTA with this transaction.
pub fn carry(site: &Site, tracked: &Tracked) -> Carry {
    Carry {
        id: tracked.id.clone(),
        step: tracked.step,
        at_ms: site.hop.clock.now_ms(),
        told: site.hop.reports_arrivals,
        request: tracked.request.clone(),
    }
}

/// From the end of data until the step is on record, whoever asks for it waits: the MTA may be faster.
pub fn arriving(site: &Site, envelope: Option<&Envelope>) -> Option<Arrival> {
    let step = envelope?.tracked.as_ref()?.step;
    Some(site.hop.tracking.as_ref()?.arriving.begin(step))
}

/// The MTA has the message: a step, durable before the client hears of it.
pub async fn arrived(
    site: &Site,
    envelope: Envelope,
    message_id: Option<String>,
    octets: u64,
    dot_us: i64,
    reply: &Reply,
) {
    let hop = &site.hop;
    let Some(tracked) = envelope.tracked else {
        return;
    };
    let now_us = hop.clock.now_us();
    let outcome = Outcome {
        reply: reply.clone(),
        remote_mta: hop.hostname.clone(),
        at_us: now_us,
    };
    let mut times = envelope.times;
    times.record(Stage::Dot, dot_us, now_us);
    // The same for all, but for the address.
    let told = outcome.status(String::new(), String::new(), Event::Accepted);
    let queue_id = told.remote_queue_id.clone();
    let status = |recipient: Recipient| RecipientStatus {
        original: recipient
            .original
            .unwrap_or_else(|| recipient.address.clone()),
        recipient: recipient.address,
        ..told.clone()
    };
    let step = Step {
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
            times_in: times.exchanges(),
            times_out: Vec::new(),
            recipients: envelope.recipients.into_iter().map(status).collect(),
        },
        originator: String::from_utf8_lossy(&envelope.reverse_path).into_owned(),
        certificate: tracked.request.certificate,
        told: hop.reports_arrivals.then_some(Form::Report),
    };
    log_step(hop, &step);
    hop.record(step).await;
}
