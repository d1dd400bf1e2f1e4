//! Strangers at an ingress: what they say of themselves, and the claim that goes with their requests.

use super::Ingress;
use crate::hop::claim::Claim;
use crate::hop::transaction::Tracked;
use crate::smtp::command::Command;
use crate::smtp::envelope::EnvelopeCommand;
use crate::track::policy::Asker;

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
            let claim = Claim::begin(self.site, self.client, helo, mail.mailbox());
            tracked.claim = Some(claim);
        }
        let mut tracked = Some(tracked);
        if self.next_hop_tracks() {
            Claim::settle(self.site, &mut tracked, mail.mailbox(), None).await;
        }
        tracked
    }
}
