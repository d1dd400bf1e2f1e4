//! The arrival of a message at this hop: what its start tells, what is put on top of it, and the `Step` that
//! is on record before the client has its 250. No sockets.

use std::iter::repeat_n;

use tracing::info;

use super::carried::Carried;
use super::stranger::settle;
use super::wish::{grant, take_request};
use super::{filter, ring};
use crate::hop::arriving::Arrival;
use crate::hop::claim::Start;
use crate::hop::head::Head;
use crate::hop::header::field_value;
use crate::hop::transaction::{Envelope, Recipient, Tracked, fared};
use crate::hop::{Site, Tracking};
use crate::smtp::data::{header_fields, takes_field_before};
use crate::smtp::reply::Reply;
use crate::track::carry::{CARRY, Carry};
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
    /// In chunks: of a header block that goes on behind the first one its fields there are looked at, and the carry
    /// header binds no Message-ID.
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
    site.hop.tracking.get().is_some() && (envelope.is_some_and(asks) || header.is_some_and(holds))
}

/// Looks at the start of a message: takes out a carry header of our own making and a field that asks, honours
/// what is a request (a carry header if a hop that shares our key made it; no other counts beside it, or a message
/// that came back would be tracked anew), and puts our carry header on top, or behind what has gone on. Returns the
/// start as it is to be sent, and the Message-ID.
pub async fn prepare(
    site: &Site,
    manner: Manner,
    mut head: Head,
    envelope: Option<&mut Envelope>,
) -> (Vec<u8>, Option<String>) {
    if !head.is_whole() && !manner.chunked {
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
    let found = Found::in_head(site, manner, &mut head, envelope.as_deref()).await;
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
    let id = message_id.as_deref();
    let carry = if track(site, manner, found, envelope, &head, id).await {
        carry_field(site, envelope, id)
    } else {
        None
    };
    if let Some(tracked) = &mut envelope.tracked {
        tracked.crosses = carry.is_some();
    }
    if let (Some(field), Some(place)) = (carry, head.place()) {
        head.put(place, &field);
    }
    (head.text, message_id)
}

/// What a header held that may be a request. Few hold a carry header: no message has room made for that.
struct Found {
    carried: Option<Box<Carried>>,
    asked: Option<TrackRequest>,
}

impl Found {
    /// Takes it out of the header.
    async fn in_head(
        site: &Site,
        manner: Manner,
        head: &mut Head,
        envelope: Option<&Envelope>,
    ) -> Self {
        let carried = site.take_carry(head).map(Box::new);
        let asked = manner.trusted.and_then(|_| take_request(site, head));
        let carried = match carried.zip(envelope) {
            Some((opened, envelope)) => {
                let id = head.message_id();
                let carried = Carried::of(site, *opened, manner.trusted, envelope, id.as_deref());
                Some(Box::new(Box::pin(carried).await))
            }
            None => None,
        };
        Self { carried, asked }
    }
}

/// Settles whether a message is tracked, by what MAIL brought or else by what was found in its header. False if the
/// MTA, which tracks by itself, was given the request with MAIL.
async fn track(
    site: &Site,
    manner: Manner,
    found: Found,
    envelope: &mut Envelope,
    head: &Head,
    message_id: Option<&str>,
) -> bool {
    let start = Start {
        head,
        chunked: manner.chunked,
    };
    let reverse_path = &envelope.reverse_path;
    settle(site, &mut envelope.tracked, reverse_path, Some(start)).await;
    let passed = manner.passes && envelope.tracked.is_some();
    if envelope.tracked.is_none() {
        envelope.tracked = match found.carried {
            Some(carried) => carried.take_up(site, envelope),
            None => grant(site, found.asked, manner.trusted, envelope, head.block()),
        };
    }
    if let Some(tracked) = &mut envelope.tracked {
        if !passed && !site.listener.content_filter {
            ring::look(site, tracked, &envelope.recipients, message_id).await;
        }
        tracked.received = site.received(tracked.asked.by, head.block());
    }
    !passed
}

/// The carry header for a message, if it is tracked from here on.
fn carry_field(site: &Site, envelope: &Envelope, message_id: Option<&str>) -> Option<Vec<u8>> {
    let (tracked, tracking) = (envelope.tracked.as_ref()?, site.hop.tracking.get()?);
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
    if head.place().is_none() {
        return Some("no place left for a carry header");
    }
    site.caused(head.block(), &envelope.recipients)
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
    Some(site.hop.tracking.get()?.arriving.begin(step))
}

/// How a message has come in.
pub struct Coming {
    /// Its Message-ID.
    pub message_id: Option<String>,
    /// Its size, octets.
    pub octets: u64,
    /// When its end went to the MTA, µs.
    pub dot_us: i64,
    /// When the MTA had answered for it, µs.
    pub taken_us: i64,
}

/// The step of a message that the MTA has; `None` if it is not tracked.
pub fn arrived(site: &Site, envelope: Envelope, coming: Coming, reply: &Reply) -> Option<Step> {
    let hop = &site.hop;
    let tracked = envelope.tracked?;
    let stay = watched(site, &tracked).then_some(Stay::Begins);
    let mut times = envelope.times;
    times.record(Stage::Dot, coming.dot_us, coming.taken_us);
    let event = if tracked.ring.is_empty() {
        Event::Accepted
    } else {
        Event::Looped
    };
    let told = fared(event, reply, &hop.hostname, coming.taken_us);
    Some(Step {
        report: HopReport {
            step: tracked.step,
            parent: tracked.request.up,
            hop: tracked.hop(),
            role: Role::Ingress,
            reporting_mta: hop.hostname.as_str().into(),
            arrival_us: coming.dot_us,
            message_id: coming.message_id,
            sent_ms: tracked.request.sent_ms,
            queue_id: told.remote_queue_id.clone(),
            size: Some(coming.octets),
            came_for: None,
            filtered_us: None,
            tls_in: times.security.take(),
            times_in: times.exchanges(),
            times_out: Vec::new(),
            tls_out: None,
            recipients: groups(envelope.recipients, told),
            id: tracked.id,
            ring: tracked.ring,
        },
        originator: String::from_utf8_lossy(&envelope.reverse_path).into_owned(),
        certificate: tracked.request.certificate,
        told: (hop.reports_arrivals || event == Event::Looped).then_some(Form::Report),
        asked: Some(tracked.asked),
        organisation: None,
        received: tracked.received,
        partial: false,
        stay,
        together: None,
    })
}

/// A group for each recipient: the same for all, but for the address.
fn groups(recipients: Vec<Recipient>, told: RecipientStatus) -> Vec<RecipientStatus> {
    let told = repeat_n(told, recipients.len());
    let group = |(recipient, told): (Recipient, _)| RecipientStatus {
        original: recipient
            .original
            .as_deref()
            .unwrap_or(&recipient.address)
            .into(),
        recipient: recipient.address.into(),
        ..told
    };
    recipients.into_iter().zip(told).map(group).collect()
}

/// Whether the message will be seen leaving, and has not been already: an MTA may hand it on before it answers for it.
fn watched(site: &Site, tracked: &Tracked) -> bool {
    let has_left = |tracking: &Tracking| tracking.arriving.is_missed(tracked.step);
    site.hop.held_after.is_some()
        && tracked.crosses
        && !site.hop.tracking.get().is_some_and(has_left)
}
