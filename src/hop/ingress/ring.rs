//! Messages that come to this hop for the second time: that is told once, with the ring they go, and they are
//! followed no further. The mail itself goes on: that it ends is for the MTA's own count of hops.
//!
//! A message that went out by the egress names a step of this hop in `up` or `via`; one that never did still bears
//! the hop's carry header.

use tokio::time::timeout;
use tracing::info;

use crate::hop::transaction::{Envelope, Recipient, Tracked};
use crate::hop::{Hop, Site};
use crate::track::carry::Carry;
use crate::track::{HopReport, Role, Step, UNSEEN};

/// Notes the ring of a message that was here before on its way to the same recipients.
pub async fn look(site: &Site, tracked: &mut Tracked, recipients: &[Recipient]) {
    if tracked.request.passed().next().is_none() {
        return;
    }
    let find = Box::pin(earlier(&site.hop, tracked, recipients));
    // A mail waits no longer for all look-ups than for one.
    let found = timeout(site.hop.timeouts.store(), find).await;
    if let Ok(Some(earlier)) = found {
        note(site, tracked, &earlier.report, recipients);
    }
}

/// The step of this message's time here before.
async fn earlier(hop: &Hop, tracked: &Tracked, recipients: &[Recipient]) -> Option<Step> {
    for id in tracked.request.passed() {
        if let Some(earlier) = hop.recall(id).await
            && earlier.report.id == tracked.id
            && is_for(&earlier.report, recipients)
        {
            return Some(earlier);
        }
    }
    None
}

/// The tracking of a message that bears the carry header of its `earlier` arrival.
pub fn back(
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

/// Whether all of these are among those of an earlier step. Others would be members of an alias or a list, who
/// may live where the message has been.
fn is_for(earlier: &HopReport, recipients: &[Recipient]) -> bool {
    recipients.iter().all(|recipient| {
        let mut known = earlier.recipients.iter();
        known.any(|known| known.recipient.eq_ignore_ascii_case(&recipient.address))
    })
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
            .find_map(|to| to.remote_mta.clone()),
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
