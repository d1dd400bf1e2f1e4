//! What a carry header with a good MAC means in front of an MTA. It is honoured if it is that of this very mail, from a
//! client that may ask: then it is the request, if another hop that shares our key made it; if this hop did, the message
//! is back. Any other is a replay, and the mail passes untracked. No sockets.

use tracing::info;

use super::ring::{self, Back};
use crate::hop::Site;
use crate::hop::transaction::{Envelope, Tracked};
use crate::track::Asked;
use crate::track::carry::Opened;

/// A carry header that was taken out of a message.
pub struct Carried {
    opened: Opened,
    /// The client, if it is honoured.
    client: Option<Asked>,
    /// This hop has made it.
    back: Option<Back>,
}

impl Carried {
    /// What it says of a message that comes so. `trusted` is a client that may ask.
    pub async fn of(
        site: &Site,
        opened: Opened,
        trusted: Option<Asked>,
        envelope: &Envelope,
        message_id: Option<&str>,
    ) -> Self {
        let carry = &opened.carry;
        let belongs = opened.is_from(&envelope.reverse_path)
            && opened.is_of(message_id.map(str::as_bytes))
            && !opened.expired(site.hop.clock.now_ms());
        let client = trusted.filter(|_| belongs);
        let back = Back::of(site, carry.step, &envelope.recipients, client.is_some()).await;
        Self {
            opened,
            client,
            back,
        }
    }

    /// The tracking of the message, if it is honoured.
    pub fn take_up(self, site: &Site, envelope: &Envelope) -> Option<Box<Tracked>> {
        let hop = &site.hop;
        let carry = &self.opened.carry;
        let may_loop = self.back.as_ref().is_none_or(|back| back.may_loop);
        let (true, Some(client)) = (may_loop, self.client) else {
            info!(hop = %hop.hostname, envid = %carry.id, step = %carry.step, "carry header not honoured");
            return None;
        };
        if let Some(back) = self.back {
            return ring::told(site, carry, &back.earlier, envelope);
        }
        let asked = Asked {
            // A proof that lies in another hop's journal is none here.
            by: carry.asker?.carried(),
            from: client.from,
        };
        let elapsed_s = u64::try_from((hop.clock.now_ms() - carry.at_ms) / 1000).unwrap_or(0);
        let mut request = carry.request.for_next_hop(carry.step, elapsed_s)?;
        let envid = envelope.envid.as_deref();
        let envid = envid.filter(|envid| *envid == carry.id.as_str());
        request.id = Some(carry.id.clone());
        let mtrk = carry.mtrk.as_ref().and_then(|mtrk| mtrk.after(elapsed_s));
        let tracked = site.honour(request, asked, &envelope.reverse_path, envid)?;
        Some(tracked.with(mtrk))
    }
}
