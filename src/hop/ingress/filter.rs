//! Messages that the MTA's content filter hands back, at a listener declared for that: the same message at the same
//! hop, so the carry header stays, and is told when the filter was done. For the content filter of Postfix's
//! `content_filter`, and whatever else stands behind a queue and submits anew.

use tracing::debug;

use crate::hop::Site;
use crate::hop::head::Head;

/// Notes the return in the carry header that one of our keys made; false if there is none. Whether it belongs to this
/// mail is asked where the mail leaves.
pub fn stamp(site: &Site, head: &mut Head) -> bool {
    let found = site.carries(head.block()).next();
    let Some((field, opened)) = found else {
        return false;
    };
    let (hop, carry) = (&site.hop, &opened.carry);
    debug!(hop = %hop.hostname, envid = %carry.id, step = %carry.step, "back from the content filter");
    head.replace(field, &opened.returned(hop.clock.now_ms()));
    true
}
