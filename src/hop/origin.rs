//! Who a recipient on the way out was when the message came into the hop: the same, or a member of an alias or a list, who
//! must not be named to the originator (RFC 3464, 2.3.2).

use super::transaction::Recipient;
use crate::track::RecipientStatus;

/// Who a recipient was when the message came into this hop.
#[derive(Clone, Copy)]
pub enum Origin<'a> {
    /// The same.
    Same(Named<'a>),
    /// A member of what this address stood for, as far as that can be told.
    MemberOf(Option<Named<'a>>),
}

/// A recipient as the message came for him.
#[derive(Clone, Copy)]
pub struct Named<'a> {
    /// As the originator knows him.
    pub original: &'a str,
    /// As the hop accepted him.
    pub accepted: &'a str,
}

impl<'a> From<&'a RecipientStatus> for Named<'a> {
    fn from(known: &'a RecipientStatus) -> Self {
        Self {
            original: &known.original,
            accepted: &known.recipient,
        }
    }
}

impl<'a> Origin<'a> {
    /// Who one of a message is that came into this hop for these. Sent anew by a list or a forward, all are members.
    pub fn known(
        came_for: &'a [RecipientStatus],
        recipient: &Recipient,
        reoriginated: bool,
    ) -> Self {
        let known = |address: &str| known(came_for, address);
        let same = known(&recipient.address).or_else(|| user(came_for, recipient));
        if let (Some(one), false) = (same, reoriginated) {
            return Self::Same(one.into());
        }
        let only = || match came_for {
            [only] => Some(only),
            _ => None,
        };
        let told = recipient.original.as_deref().and_then(known);
        Self::MemberOf(told.or_else(only).map(Named::from))
    }

    /// Who one is of a message whose arrival is not on record, by his own ORCPT.
    pub fn said(recipient: &'a Recipient) -> Self {
        let named = |address: &'a str| Named {
            original: address,
            accepted: address,
        };
        match recipient.original.as_deref() {
            Some(original) if !original.eq_ignore_ascii_case(&recipient.address) => {
                Self::MemberOf(Some(named(original)))
            }
            _ => Self::Same(named(&recipient.address)),
        }
    }

    /// Nothing was opened.
    pub fn is_same(&self) -> bool {
        matches!(self, Self::Same(_))
    }

    /// Whom the hop accepted, if that can be told.
    pub fn accepted(&self) -> Option<&'a str> {
        match self {
            Self::Same(named) => Some(named.accepted),
            Self::MemberOf(named) => named.map(|named| named.accepted),
        }
    }
}

/// The recipient who is called so now.
fn known<'a>(recipients: &'a [RecipientStatus], address: &str) -> Option<&'a RecipientStatus> {
    recipients
        .iter()
        .find(|r| r.recipient.eq_ignore_ascii_case(address))
}

/// The recipient who is this user, whom an MTA may hand over without a domain (Sendmail does by LMTP): the one that ORCPT
/// says, if that is his name, or else the only one of that name.
fn user<'a>(recipients: &'a [RecipientStatus], now: &Recipient) -> Option<&'a RecipientStatus> {
    let named = |r: &&RecipientStatus| {
        let address = r.recipient.rsplit_once('@');
        address.is_some_and(|(local_part, _)| local_part.eq_ignore_ascii_case(&now.address))
    };
    let original = now.original.as_deref();
    if let Some(told) = original.and_then(|original| known(recipients, original)) {
        return Some(told).filter(named);
    }
    let mut all = recipients.iter().filter(named);
    all.next().filter(|_| all.next().is_none())
}
