//! The carry headers in the start of a message: which are this hop's, and so do not go out to the world. Must not know
//! what they ask for.
//!
//! A header is the hop's if one of its keys made it. Keys get lost, though (`carry.keys` deleted or restored from an
//! older copy, a state directory that cannot be read), while mail that carries their headers waits in the MTA. So where
//! a message leaves the MTA, a header of the right form under a key that is not here is the hop's by its place: the ingress
//! puts it on top, and the MTA behind it puts one Received field above (RFC 5321, 4.4). One of somebody else's hop has
//! the Received field of that hop's MTA above it, and then that of ours; it stays where it is. (It would not where an
//! MTA adds no Received field, or takes out those of others. And one of ours that a content filter brought back under
//! another Received field goes out, once its key is gone.)

use std::ops::Range;

use tracing::info;

use super::Site;
use super::head::Head;
use super::header::field_value;
use crate::smtp::data::header_fields;
use crate::track::Role;
use crate::track::carry::{CARRY, Carry, Keyring, Opened};

/// A field of a header block, with its place there.
type Field = Range<usize>;

impl Site {
    /// Takes every carry header of this hop out of a message's start, and opens the first that one of its keys made.
    pub fn take_carry(&self, head: &mut Head) -> Option<Opened> {
        let found: Vec<_> = fields(head.block()).collect();
        let mut first = None;
        for field in found.into_iter().rev() {
            if let Some(opened) = self.open(&head.block()[field.clone()]) {
                first = Some(opened);
            } else if !self.is_orphan(head.block(), &field) {
                continue;
            }
            head.remove(field);
        }
        first
    }

    /// The carry headers in a header block that one of our keys made, and where they stand.
    pub fn carries<'a>(&'a self, block: &'a [u8]) -> impl Iterator<Item = (Field, Opened)> + 'a {
        fields(block).filter_map(|field| Some((field.clone(), self.open(&block[field])?)))
    }

    fn open(&self, field: &[u8]) -> Option<Opened> {
        Carry::open(field_value(field, CARRY)?, self.keys()?)
    }

    fn keys(&self) -> Option<&Keyring> {
        self.hop.tracking.get().map(|tracking| &tracking.keys)
    }

    /// Whether a header under a key that is not here was put there by the ingress in front of this very MTA.
    fn is_orphan(&self, block: &[u8], field: &Field) -> bool {
        let leaves = self.listener.role != Role::Ingress || self.listener.content_filter;
        let value = field_value(&block[field.clone()], CARRY);
        let unverified = |value| Carry::unverified(value, self.keys());
        let Some(carry) = value.filter(|_| leaves).and_then(unverified) else {
            return false;
        };
        let above = header_fields(block).take_while(|other| other.start < field.start);
        let received =
            above.filter(|other| field_value(&block[other.clone()], "Received").is_some());
        let ours = received.take(2).count() < 2;
        if ours {
            info!(
                hop = %self.hop.hostname,
                envid = %carry.id,
                step = %carry.step,
                "carry header under a key that is not here: taken off, not tracked"
            );
        }
        ours
    }
}

/// Every carry header in a header block, whoever made it.
fn fields(block: &[u8]) -> impl Iterator<Item = Field> + '_ {
    header_fields(block).filter(|field| field_value(&block[field.clone()], CARRY).is_some())
}
