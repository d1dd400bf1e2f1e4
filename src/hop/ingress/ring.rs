//! Messages that come to this hop for the second time: that is told once, with the ring they go, and they are
//! followed no further. The mail itself goes on: that it ends is for the MTA's own count of hops.
//!
//! A message that went out by the egress names a step of this hop in `up` or `via`; one that never did still bears
//! the hop's carry header. Both can be copied, out of a MAIL command or a header, and sent again when the message has long
//! been delivered. So a ring is told of clients that may ask alone, to the originator alone, of the same message (id and
//! Message-ID) to the same recipients, never of one who was delivered to, or failed, at the step that is named; and by
//! a carry header only while nothing was seen leaving of any of them since, for a message takes none along by the egress.
//! What remains to a client that may ask: it can name a step that went out with TRACK, or, where nothing is watched
//! (`held_after_minutes = 0`, or no way out), replay a carry header for a week: once for each set of the message's own
//! recipients, within its budget.
//!
//! A stranger's word counts for nothing here, also where the carry header proves that the message was here before: who
//! has got a copy in any way has that too. That he has it shows all the same that the message is not known to wait here,
//! so it is not told to be held any more.

use tokio::time::timeout;
use tracing::info;

use crate::hop::held::see;
use crate::hop::transaction::{Envelope, Recipient, Tracked};
use crate::hop::{Hop, Site};
use crate::track::carry::Carry;
use crate::track::{Event, HopReport, RecipientStatus, Role, Stay, Step, StepId, UNSEEN};

/// Notes the ring of a message that was here before on its way to the same recipients.
pub async fn look(
    site: &Site,
    tracked: &mut Tracked,
    recipients: &[Recipient],
    message_id: Option<&str>,
) {
    if tracked.request.passed().next().is_none() {
        return;
    }
    let find = Box::pin(earlier(&site.hop, tracked, recipients, message_id));
    // A mail waits no longer for all look-ups than for one.
    let found = timeout(site.hop.timeouts.store(), find).await;
    if let Ok(Some(earlier)) = found {
        note(site, tracked, &earlier.report, recipients);
    }
}

/// The step of this message's time here before.
async fn earlier(
    hop: &Hop,
    tracked: &Tracked,
    recipients: &[Recipient],
    message_id: Option<&str>,
) -> Option<Step> {
    for id in tracked.request.passed() {
        if let Some(earlier) = hop.recall(id).await
            && earlier.report.id == tracked.id
            && may_be(&earlier.report, message_id)
            && is_for(&earlier.report, recipients)
        {
            return Some(earlier);
        }
    }
    None
}

/// A message that bears the carry header of its arrival here.
pub struct Back {
    /// The step of that arrival.
    pub earlier: Step,
    /// It is for recipients it came for then, and nothing of them was seen leaving since, as far as that is watched.
    pub may_loop: bool,
}

impl Back {
    /// What this hop knows of the arrival by whose carry header a message comes, and notes of it; `None` if it was not
    /// here. One that is `honoured` goes on untracked, for those whom it is for now.
    pub async fn of(
        site: &Site,
        step: StepId,
        recipients: &[Recipient],
        honoured: bool,
    ) -> Option<Self> {
        let earlier = site.hop.recall(step).await?;
        let mut may_loop = is_for(&earlier.report, recipients);
        if earlier.stay == Some(Stay::Begins) {
            let addresses = recipients.iter().map(|to| Some(&*to.address));
            let seen = if honoured {
                Stay::seen(&earlier.report, addresses)
            } else {
                Stay::Quiet(step)
            };
            let staying = see(site, &earlier, seen).await;
            let keeps = |place: usize| staying.as_ref().is_some_and(|stay| stay.keeps(place));
            let known = earlier.report.recipients.iter().enumerate();
            let mut now = known.filter(|(_, known)| recipients.iter().any(|to| is(known, to)));
            may_loop &= now.all(|(place, _)| keeps(place));
        }
        Some(Self { earlier, may_loop })
    }
}

/// The tracking of a message that is back with the carry header of its `earlier` arrival.
pub fn told(
    site: &Site,
    carry: &Carry,
    earlier: &Step,
    envelope: &Envelope,
) -> Option<Box<Tracked>> {
    let asked = earlier.asked?;
    let envid = carry.request.id.is_none().then(|| carry.id.as_str());
    let mut request = carry.request.clone();
    if carry.told {
        request.up = Some(carry.step);
    }
    let mut tracked = site.honour(request, asked, &envelope.reverse_path, envid)?;
    note(site, &mut tracked, &earlier.report, &envelope.recipients);
    Some(tracked)
}

/// Whether it may be the same message: an MTA may have given it the Message-ID that it came without.
fn may_be(earlier: &HopReport, message_id: Option<&str>) -> bool {
    let ids = earlier.message_id.as_deref().zip(message_id);
    ids.is_none_or(|(then, now)| then == now)
}

/// Whether all of these are among those of an earlier step for whom the message could go on. Others would be members of an
/// alias or a list, who may live where the message has been.
fn is_for(earlier: &HopReport, recipients: &[Recipient]) -> bool {
    let goes_on =
        |known: &RecipientStatus| !matches!(known.event, Event::Delivered | Event::Failed);
    recipients.iter().all(|recipient| {
        let mut known = earlier.recipients.iter();
        known.any(|known| is(known, recipient) && goes_on(known))
    })
}

fn is(known: &RecipientStatus, recipient: &Recipient) -> bool {
    known.recipient.eq_ignore_ascii_case(&recipient.address)
}

/// The step that tells of a ring has an id that comes of what it tells, so that it is told once.
fn note(site: &Site, tracked: &mut Tracked, earlier: &HopReport, recipients: &[Recipient]) {
    let addresses = recipients
        .iter()
        .map(|recipient| recipient.address.as_str());
    tracked.step = earlier.step.again(addresses);
    tracked.ring = ring(&site.hop.hostname, earlier, tracked.hop());
    info!(
        hop = site.hop.hostname,
        envid = %tracked.id,
        earlier = %earlier.step,
        ring = tracked.ring.join(" "),
        "back at this hop: followed no further"
    );
}

/// The ring as this hop knows it: whom it gave the message to, and by the numbers of hops whether there are others.
fn ring(own: &str, earlier: &HopReport, hop: u8) -> Vec<String> {
    let next = match earlier.role {
        Role::Ingress => None,
        _ => earlier
            .recipients
            .iter()
            .find_map(|to| to.remote_mta.as_ref().map(ToString::to_string)),
    };
    let legs = hop.saturating_sub(earlier.hop);
    let mut ring = vec![own.to_owned()];
    if legs != 1 {
        let known = next.is_some();
        ring.extend(next);
        if !known || legs != 2 {
            ring.push(UNSEEN.to_owned());
        }
    }
    ring.push(own.to_owned());
    ring
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn nobody_who_was_delivered_to_or_failed_comes_back() {
        let to = |address: &str| Recipient {
            address: address.to_owned(),
            original: None,
        };
        for (event, comes) in [
            ("accepted", true),
            ("transferred", true),
            ("delayed", true),
            ("delivered", false),
            ("failed", false),
        ] {
            let json = serde_json::json!({
                "id": "E1", "step": "00000000000000aa", "hop": 1, "role": "egress",
                "reporting_mta": "a", "arrival_us": 0, "recipients": [
                    { "original": "x@y", "recipient": "x@y", "event": event, "status": "2.0.0" },
                    { "original": "z@y", "recipient": "z@y", "event": "relayed", "status": "2.1.9" },
                ],
            });
            let earlier: HopReport = serde_json::from_value(json).unwrap();
            assert_eq!(is_for(&earlier, &[to("X@y"), to("z@Y")]), comes, "{event}");
            assert!(is_for(&earlier, &[to("z@y")]) && !is_for(&earlier, &[to("w@y")]));
        }
    }

    #[test]
    fn a_ring_is_told_as_far_as_it_is_known() {
        let told = |role: Role, earlier: u8, hop: u8| {
            let json = serde_json::json!({
                "id": "E1", "step": "00000000000000aa", "hop": earlier, "role": role.as_str(),
                "reporting_mta": "a", "arrival_us": 0,
                "recipients": [{ "original": "x@y", "recipient": "x@y", "event": "transferred",
                    "status": "2.0.0", "remote_mta": "b" }],
            });
            ring("a", &serde_json::from_value(json).unwrap(), hop).join(" ")
        };
        for (role, earlier, hop, shown) in [
            (Role::Egress, 1, 2, "a a"),
            (Role::Egress, 1, 3, "a b a"),
            (Role::Egress, 2, 5, "a b * a"),
            (Role::Ingress, 1, 1, "a * a"),
            (Role::Ingress, 1, 3, "a * a"),
        ] {
            assert_eq!(told(role, earlier, hop), shown, "{role:?} {earlier} {hop}");
        }
    }
}
