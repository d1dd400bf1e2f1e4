//! MTRK in front of an MTA that does not know it: offered beside TRACK, taken off MAIL, and kept with a tracked
//! message for whoever comes behind the MTA (see `track::mtrk`).

use super::Ingress;
use super::offer::Offer;
use crate::hop::transaction::{Tracked, mtrk};
use crate::smtp::envelope::EnvelopeCommand;
use crate::smtp::refusal::Refusal;

impl Ingress<'_> {
    /// Whether MTRK is ours to offer and to take: before an MTA that lacks it and has DSN, whose ENVID it needs
    /// (RFC 3885, 2).
    pub(super) fn keeps_mtrk(&self, offer: &Offer) -> bool {
        self.track_offered && offer.dsn && !offer.mtrk
    }

    /// Whether the MTRK of this MAIL is ours to take.
    pub(super) fn takes_mtrk(&self, mail: &EnvelopeCommand<'_>) -> bool {
        let keeps = |offer: &Offer| self.keeps_mtrk(offer);
        mail.param("MTRK").is_some() && self.offer.as_deref().is_some_and(keeps)
    }

    /// What MAIL asks for, with the MTRK beside it.
    pub(super) fn request(
        &self,
        mail: &EnvelopeCommand<'_>,
    ) -> Result<Option<Box<Tracked>>, Refusal> {
        let tracked = self.site.request(self.client, mail, self.track_offered)?;
        if !self.takes_mtrk(mail) {
            return Ok(tracked);
        }
        let mtrk = mtrk(mail)?;
        Ok(tracked.map(|tracked| tracked.with(mtrk)))
    }
}
