//! MTRK in front of an MTA that does not know it: offered beside TRACK, taken off MAIL, and kept with a tracked
//! message for whoever comes behind the MTA (see `track::mtrk`).

use super::Ingress;
use crate::hop::transaction::{mtrk, without};
use crate::smtp::capability::Capabilities;
use crate::smtp::command::Refusal;
use crate::smtp::envelope::EnvelopeCommand;
use crate::track::mtrk::Mtrk;

impl Ingress<'_> {
    /// Whether MTRK is ours to offer and to take: before an MTA that lacks it and has DSN, whose ENVID it needs
    /// (RFC 3885, 2).
    pub(super) fn keeps_mtrk(&self, offer: &Capabilities) -> bool {
        self.track_offered && offer.offers("DSN") && !offer.offers("MTRK")
    }

    /// The MTRK of a MAIL, where it is ours to take.
    pub(super) fn mtrk(&self, mail: &EnvelopeCommand<'_>) -> Result<Option<Mtrk>, Refusal> {
        match &self.offer {
            Some(offer) if self.keeps_mtrk(offer) => mtrk(mail),
            _ => Ok(None),
        }
    }
}

/// The MAIL line for an MTA that lacks MTRK.
pub(super) fn taken_off(line: &[u8]) -> Vec<u8> {
    let mut line = without(line.strip_suffix(b"\r\n").unwrap_or(line), "MTRK");
    line.extend_from_slice(b"\r\n");
    line
}
