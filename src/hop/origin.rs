//! Who a recipient on the way out was when the message came into the hop: the same, or a member of an alias or a list, who
//! must not be named to the originator (RFC 3464, 2.3.2).

use std::collections::HashMap;

use super::transaction::Recipient;
use crate::track::RecipientStatus;
use crate::track::address::is_same;
use compact_str::CompactString;

/// Who a recipient was when the message came into this hop.
#[derive(Clone, Copy)]
pub enum Origin<'a> {
    /// The same.
    Same(Named<'a>),
    /// A member of what this address stood for, as far as that can be told.
    MemberOf(Option<Named<'a>>),
    /// A member, to whom the message came under his own address as well.
    Also {
        /// Whose member he is.
        of: Named<'a>,
        /// Himself.
        himself: Named<'a>,
    },
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

/// Places of recipients by what they are called, in whatever letters: there may be thousands, and as many are looked for.
#[derive(Debug)]
pub struct Names(HashMap<CompactString, Vec<usize>>);

impl Names {
    /// The names of these.
    pub fn of(recipients: &[RecipientStatus]) -> Self {
        let mut names: HashMap<_, Vec<_>> = HashMap::with_capacity(recipients.len());
        for (place, one) in recipients.iter().enumerate() {
            let name = one.recipient.to_lowercase();
            names.entry(name).or_default().push(place);
        }
        Self(names)
    }
}

/// For whom a message came into this hop.
#[derive(Clone, Copy)]
pub struct CameFor<'a> {
    /// All of them.
    pub all: &'a [RecipientStatus],
    /// What they are called.
    pub names: &'a Names,
}

impl<'a> CameFor<'a> {
    /// The recipient who is called so now; in other letters only if no other one is.
    fn known(&self, address: &str) -> Option<&'a RecipientStatus> {
        let alike = self.names.0.get(address.to_lowercase().as_str())?;
        let alike = || alike.iter().filter_map(|place| self.all.get(*place));
        let as_is = alike().find(|r| is_same(&r.recipient, address));
        // Some MTAs write a local part in lower case.
        let only = || {
            let first = alike().next()?;
            alike().all(|other| is_one(first, other)).then_some(first)
        };
        as_is.or_else(only)
    }
}

impl<'a> Origin<'a> {
    /// Who one of a message is that came into this hop for these. Sent anew by a list or a forward, all are members.
    pub fn known(came_for: CameFor<'a>, recipient: &Recipient, reoriginated: bool) -> Self {
        let himself = came_for.known(&recipient.address);
        let himself = himself.or_else(|| user(came_for, recipient));
        let himself = himself.filter(|_| !reoriginated);
        let original = recipient.original.as_deref();
        let of = original.and_then(|original| asked_as(came_for, original, himself));
        let only = || match came_for.all {
            [only] => Some(only),
            _ => None,
        };
        match (himself, of) {
            (Some(himself), Some(of)) if !is_one(himself, of) => Self::Also {
                of: of.into(),
                himself: himself.into(),
            },
            (Some(himself), _) => Self::Same(himself.into()),
            (None, of) => Self::MemberOf(of.or_else(only).map(Named::from)),
        }
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

    /// Of whom something is seen when this one leaves: as the hop accepted him; `None` if that cannot be told.
    pub fn seen(&self) -> impl Iterator<Item = Option<&'a str>> {
        let (of, himself) = match self {
            Self::Same(named) => (Some(named), None),
            Self::MemberOf(of) => (of.as_ref(), None),
            Self::Also { of, himself } => (Some(of), Some(himself)),
        };
        let all = std::iter::once(of).chain(himself.map(Some));
        all.map(|named| named.map(|named| named.accepted))
    }
}

/// The recipients of one transaction, together. An ORCPT that belongs to another of them, who comes under his own name, is
/// no member's: `OpenSMTPD` 6.8 keeps the DSN parameters of one RCPT for those behind it.
pub fn together<'a>(origins: &[Origin<'a>]) -> Vec<Origin<'a>> {
    let settled = origins.iter().map(|origin| match *origin {
        Origin::Also { of, himself } if has(origins, of) => Origin::Same(himself),
        origin => origin,
    });
    settled.collect()
}

/// Whether he is among them under his own name.
pub fn has(origins: &[Origin<'_>], one: Named<'_>) -> bool {
    let is = |origin: &Origin<'_>| match origin {
        Origin::Same(named) => is_same(named.accepted, one.accepted),
        _ => false,
    };
    origins.iter().any(is)
}

/// The recipient who is this user, whom an MTA may hand over without a domain (Sendmail does by LMTP): the one that ORCPT
/// says, if that is his name, or else the only one of that name.
fn user<'a>(came_for: CameFor<'a>, now: &Recipient) -> Option<&'a RecipientStatus> {
    let named = |r: &&RecipientStatus| {
        let address = r.recipient.rsplit_once('@');
        address.is_some_and(|(local_part, _)| local_part.eq_ignore_ascii_case(&now.address))
    };
    let original = now.original.as_deref();
    if let Some(told) = original.and_then(|original| came_for.known(original)) {
        return Some(told).filter(named);
    }
    let mut all = came_for.all.iter().filter(named);
    all.next().filter(|_| all.next().is_none())
}

/// For whom this ORCPT was given, by the client or by the ingress: `himself`, if it may have been for him.
fn asked_as<'a>(
    came_for: CameFor<'a>,
    original: &str,
    himself: Option<&'a RecipientStatus>,
) -> Option<&'a RecipientStatus> {
    let asked = |r: &&RecipientStatus| r.original.eq_ignore_ascii_case(original);
    let as_is = |r: &&RecipientStatus| is_same(&r.original, original);
    let only = |of: &dyn Fn(&&'a RecipientStatus) -> bool| {
        let mut all = came_for.all.iter().filter(of);
        let first = all.next()?;
        all.all(|other| is_one(first, other)).then_some(first)
    };
    let only = || only(&as_is).or_else(|| only(&asked));
    let himself = himself.filter(|r| asked(r) || r.recipient.eq_ignore_ascii_case(original));
    himself.or_else(only).or_else(|| came_for.known(original))
}

fn is_one(one: &RecipientStatus, other: &RecipientStatus) -> bool {
    is_same(&one.recipient, &other.recipient)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn came_for(addresses: &[&str]) -> Vec<RecipientStatus> {
        let group = |address: &&str| {
            serde_json::json!({ "original": address, "recipient": address,
                "event": "accepted", "status": "2.0.0" })
        };
        let groups: Vec<_> = addresses.iter().map(group).collect();
        serde_json::from_value(groups.into()).unwrap()
    }

    /// Who each of these was, as the originator knows him.
    fn who(came: &[&str], now: &str, orcpt: Option<&str>) -> Option<String> {
        let came = came_for(came);
        let recipient = Recipient {
            address: now.to_owned(),
            original: orcpt.map(str::to_owned),
        };
        let came_for = CameFor {
            all: &came,
            names: &Names::of(&came),
        };
        match Origin::known(came_for, &recipient, false) {
            Origin::Same(named) => Some(named.original.to_owned()),
            _ => None,
        }
    }

    #[test]
    fn a_local_part_in_other_letters_is_another_one_where_both_are_there() {
        let both = ["NOBODY@dest.example", "nobody@dest.example"];
        for address in both {
            let same = Some(address.to_owned());
            assert_eq!(who(&both, address, None), same);
            assert_eq!(who(&both, address, Some(address)), same);
            assert_eq!(who(&both, &address.replace("dest", "DEST"), None), same);
        }
        // Which of the two an MTA has changed nobody can say.
        assert_eq!(who(&both, "Nobody@dest.example", None), None);
        let one = Some("NOBODY@dest.example".to_owned());
        assert_eq!(who(&both[..1], "nobody@dest.example", None), one);
        assert_eq!(
            who(
                &both[..1],
                "nobody@dest.example",
                Some("NOBODY@dest.example")
            ),
            one
        );
    }
}
