//! Strangers at an ingress: what they say of themselves, and the claim that goes with their requests.

use tracing::info;

use super::Ingress;
use crate::hop::Site;
use crate::hop::claim::{Claim, Proof, Start};
use crate::hop::digest::Digest;
use crate::hop::transaction::{Envelope, Tracked};
use crate::smtp::command::Command;
use crate::smtp::envelope::EnvelopeCommand;
use crate::track::asker::Asker;

impl Ingress<'_> {
    /// Keeps the name in EHLO, which SPF wants to know.
    pub(super) fn note_helo(&mut self, ehlo: &Command<'_>) {
        if self.site.hears_strangers() {
            self.helo = Some(String::from_utf8_lossy(ehlo.argument()).into());
        }
    }

    /// A request as it is to be taken: that of a stranger with its claim. An MTA that tracks by itself is given
    /// it with MAIL, so there it must hold at once.
    pub(super) async fn claimed(
        &mut self,
        mail: &EnvelopeCommand<'_>,
        mut tracked: Box<Tracked>,
    ) -> Option<Box<Tracked>> {
        if tracked.asked.by == Asker::Verified {
            let helo = self.helo.as_deref().unwrap_or_default();
            let client = self.client.ends.client.ip();
            let claim = Claim::begin(self.site, client, helo, mail.mailbox());
            tracked.claim = Some(claim);
        }
        let mut tracked = Some(tracked);
        if self.next_hop_tracks() {
            settle(self.site, &mut tracked, mail.mailbox(), None).await;
        }
        tracked
    }
}

/// Settles what a stranger has to prove as far as that goes before the body. A request for which nobody will vouch
/// is gone after this.
pub async fn settle(
    site: &Site,
    request: &mut Option<Box<Tracked>>,
    reverse_path: &[u8],
    start: Option<Start<'_>>,
) {
    let Some(tracked) = request else { return };
    let Some(claim) = tracked.claim.take() else {
        return;
    };
    // Most requests need no proof, and are not to have room made for it.
    match Box::pin(claim.settle(site, reverse_path, start)).await {
        Proof::Given => {}
        Proof::Awaited(claim) => tracked.claim = Some(claim),
        Proof::Lacking => drop_request(site, request),
    }
}

/// Settles the rest, when the message has passed whole.
pub async fn conclude(site: &Site, request: &mut Option<Box<Tracked>>) {
    let Some(claim) = request.as_mut().and_then(|tracked| tracked.claim.take()) else {
        return;
    };
    if !Box::pin(claim.conclude(site)).await {
        drop_request(site, request);
    }
}

/// What wants to see the body of this message.
pub fn digest(envelope: Option<&mut Envelope>) -> Option<&mut Digest> {
    envelope?.tracked.as_mut()?.claim.as_mut()?.digest()
}

fn drop_request(site: &Site, request: &mut Option<Box<Tracked>>) {
    if let Some(tracked) = request.take() {
        info!(hop = %site.hop.hostname, envid = %tracked.id, "nobody vouches for the asker: untracked");
    }
}
