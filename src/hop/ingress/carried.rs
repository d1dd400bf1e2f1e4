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
    /// The client, if it is honoured, or why it is not.
    client: Result<Asked, &'static str>,
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
        let now_ms = site.hop.clock.now_ms();
        let client = belongs(&opened, trusted, envelope, message_id, now_ms);
        let back = Back::of(site, carry.step, &envelope.recipients, client.is_ok()).await;
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
        let has_left = self.back.as_ref().is_some_and(|back| !back.may_loop);
        let client = match self.client {
            Ok(_) if has_left => Err("its message has left, or was for others"),
            client => client,
        };
        let client = client
            .inspect_err(|why| {
                info!(hop = %hop.hostname, envid = %carry.id, step = %carry.step, why, "carry header not honoured");
            })
            .ok()?;
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

/// Whether a carry header with a good MAC is that of this very mail and comes from a client that may ask: who that
/// is, or why not.
fn belongs(
    opened: &Opened,
    trusted: Option<Asked>,
    envelope: &Envelope,
    message_id: Option<&str>,
    now_ms: i64,
) -> Result<Asked, &'static str> {
    if opened.expired(now_ms) {
        Err("expired")
    } else if !opened.is_of(message_id.map(str::as_bytes)) {
        Err("made for another message")
    } else if !opened.is_from(&envelope.reverse_path) {
        Err("made for another reverse-path")
    } else {
        trusted.ok_or("the client may not ask")
    }
}
