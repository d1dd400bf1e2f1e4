//! The MAIL and RCPT lines for the MTA, where tracking changes what the client wrote. Nothing here speaks to it.
//!
//! A carry header makes a message larger, by some 300 octets, and no mail is to be too large for that: where its size is
//! known before it goes (`SIZE=`, or one chunk that is all of it) and leaves no room, it goes untracked. Behind DATA, or
//! in several chunks, a message without `SIZE=` is not known before its end, and one so close to the MTA's limit is refused.
//! How close that is only the MTA knows, which may count what it adds: Postfix its Received field and the envelope, 800
//! octets for one recipient and 60 for each more. So the last thirty-second of what it takes is left to it.

use tracing::info;

use super::Ingress;
use super::arrival::carry;
use crate::hop::Tracking;
use crate::hop::transaction::{Tracked, without};
use crate::smtp::command::Command;
use crate::smtp::envelope::EnvelopeCommand;
use crate::smtp::xtext;
use crate::track::TrackRequest;
use crate::track::carry::CARRY_OCTETS_MAX;
use crate::track::wish::Wish;

/// The limit that an MTA offers, divided by this, is left for what it may count besides.
const MARGIN_DIVISOR: u64 = 32;

impl Ingress<'_> {
    /// The MAIL line for the MTA, where it is not as written: without TRACK and MTRK where the MTA does not offer
    /// them, and with a SIZE= that has room for the carry header that may come; false if that would be too large.
    pub(super) fn outgoing_mail(
        &self,
        mail: &EnvelopeCommand<'_>,
        tracked: Option<&Tracked>,
        wish: Option<Wish>,
    ) -> (Option<Vec<u8>>, bool) {
        let takes_mtrk = self.takes_mtrk(mail);
        if tracked.is_none() && wish.is_none() && mail.param("TRACK").is_none() && !takes_mtrk {
            return (None, true);
        }
        let stripped = mail.without("TRACK");
        let (mut line, room) = match tracked {
            Some(tracked) if self.next_hop_tracks() => {
                let value = self.passed_on(tracked).map(|request| request.to_value());
                let line = value.map(|value| mail.with_value("TRACK", &value));
                (line.unwrap_or(stripped), true)
            }
            None if wish.is_none() => (stripped, true),
            _ => self.roomy(mail, stripped, tracked),
        };
        if takes_mtrk {
            line = without(&line, "MTRK");
        }
        line.extend_from_slice(b"\r\n");
        (Some(line), room)
    }

    /// `stripped`, which is `mail` without TRACK, with a SIZE= that has room for the carry header of `tracked`,
    /// or of any request where none is known yet (RFC 1870, 6.3 allows an estimate); as it is, and false, if the MTA
    /// takes no mail of that size.
    fn roomy(
        &self,
        mail: &EnvelopeCommand<'_>,
        stripped: Vec<u8>,
        tracked: Option<&Tracked>,
    ) -> (Vec<u8>, bool) {
        let size = mail
            .param("SIZE")
            .flatten()
            .and_then(|v| std::str::from_utf8(v).ok()?.parse::<u64>().ok());
        let (Some(size), Some(tracking)) = (size, self.site.hop.tracking.get()) else {
            return (stripped, true);
        };
        let Some(roomy) = self.with_carry(size, tracked, tracking) else {
            return (stripped, false);
        };
        let line = Command::parse(&stripped)
            .and_then(|command| Ok(command.envelope()?.with_value("SIZE", &roomy.to_string())));
        line.map_or((stripped, false), |line| (line, true))
    }

    /// The size of a message with the carry header; `None` if the MTA takes no mail of that size, or may not.
    fn with_carry(&self, size: u64, tracked: Option<&Tracked>, tracking: &Tracking) -> Option<u64> {
        let known = tracked.map(|tracked| carry(self.site, tracked).octets_max(&tracking.keys));
        let roomy = size.saturating_add(known.unwrap_or(CARRY_OCTETS_MAX));
        let offer = self.offer.as_ref();
        let size_max = offer.and_then(|offer| offer.keywords.size_max());
        if size_max.is_some_and(|max| roomy > max - max / MARGIN_DIVISOR) {
            info!(hop = %self.site.hop.hostname, size, "no room for a carry header: untracked");
            return None;
        }
        Some(roomy)
    }

    /// A message of this size is about to go: it goes untracked if the MTA takes none that is as large with its carry
    /// header.
    pub(super) fn keep_to_size(&mut self, size: u64) {
        let (Some(envelope), Some(tracking)) = (&self.envelope, self.site.hop.tracking.get())
        else {
            return;
        };
        let tracked = envelope.tracked.as_deref();
        let passed = tracked.is_some() && self.next_hop_tracks();
        let asked = envelope.may_be_tracked();
        if asked && !passed && self.with_carry(size, tracked, tracking).is_none() {
            let envelope = self.envelope.as_mut();
            if let Some(envelope) = envelope {
                (envelope.tracked, envelope.wish) = (None, None);
            }
        }
    }

    /// The request for an MTA that tracks by itself. Its parent is the last step that is reported.
    fn passed_on(&self, tracked: &Tracked) -> Option<TrackRequest> {
        let mut request = tracked.request.for_next_hop(tracked.step, 0)?;
        if !self.site.tells_arrivals(tracked.asked.by) {
            request.up = tracked.request.up;
        }
        Some(request)
    }

    /// The RCPT line for the MTA, where it is not as written: for a message known to be tracked with the ORCPT that
    /// lets an alias be seen behind the MTA, where the client gave none (RFC 3461, 5.2.1 d allows a relay to add
    /// it).
    pub(super) fn outgoing_rcpt(
        &self,
        rcpt: &EnvelopeCommand<'_>,
        wish: Option<Wish>,
    ) -> Option<Vec<u8>> {
        let envelope = self.envelope.as_ref();
        let tracked = wish == Some(Wish::Ruled)
            || envelope.is_some_and(|envelope| envelope.tracked.is_some());
        let offered = self.offer.as_ref().is_some_and(|offer| offer.dsn);
        let mailbox = rcpt.mailbox();
        let mut line = if tracked && offered && rcpt.param("ORCPT").is_none() && mailbox.is_ascii()
        {
            rcpt.with_value("ORCPT", &["rfc822;", &xtext::encode(mailbox)].concat())
        } else if rcpt.param("TRACK").is_some() {
            rcpt.without("TRACK")
        } else {
            return None;
        };
        line.extend_from_slice(b"\r\n");
        Some(line)
    }
}
