//! How people ask whose client does not speak TRACK: a field in the header of their message, and rules of
//! the configuration.
//!
//! Must not know who may ask; that is the policy's to say before anything here counts.

use std::num::NonZeroU32;

use serde::Deserialize;

/// What a listener takes for a request besides TRACK.
#[derive(Clone, Debug, Default)]
pub struct Wishes {
    /// The name of the header field that asks.
    pub header: Option<String>,
    /// The rules; one that fits is enough.
    pub rules: Vec<Rule>,
}

/// What may still ask in a transaction whose MAIL brought no request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// A header field may, or a rule when the recipient is known; `lot` is drawn once for each message, so
    /// that one message in N is meant where a rule says so, and not one recipient.
    Open {
        /// Any number.
        lot: u64,
    },
    /// A rule asks.
    Ruled,
}

impl Wishes {
    /// Whether nothing but TRACK is a request.
    pub fn is_empty(&self) -> bool {
        self.header.is_none() && self.rules.is_empty()
    }

    /// What may ask for tracking of a message from this reverse-path; `None` if nothing can.
    pub fn at_mail(&self, from: &[u8], lot: u64) -> Option<Wish> {
        let mut fitting = self.rules.iter().filter(|rule| rule.takes(from, lot));
        if fitting.clone().any(|rule| rule.to.is_none()) {
            return Some(Wish::Ruled);
        }
        let open = self.header.is_some() || fitting.next().is_some();
        open.then_some(Wish::Open { lot })
    }

    /// Whether a rule asks because of this recipient.
    pub fn at_rcpt(&self, from: &[u8], to: &[u8], lot: u64) -> bool {
        let mut fitting = self.rules.iter().filter(|rule| rule.takes(from, lot));
        fitting.any(|rule| rule.to.as_ref().is_some_and(|party| party.holds(to)))
    }
}

/// Mail that is tracked though its sender does not ask. All that the rule names has to fit.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "RawRule")]
pub struct Rule {
    from: Option<Party>,
    to: Option<Party>,
    one_in: NonZeroU32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRule {
    from: Option<Party>,
    to: Option<Party>,
    one_in: Option<NonZeroU32>,
}

impl TryFrom<RawRule> for Rule {
    type Error = &'static str;
    fn try_from(raw: RawRule) -> Result<Self, Self::Error> {
        if raw.from.is_none() && raw.to.is_none() && raw.one_in.is_none() {
            return Err("a rule names from, to or one_in; { one_in = 1 } is all mail");
        }
        Ok(Self {
            from: raw.from,
            to: raw.to,
            one_in: raw.one_in.unwrap_or(NonZeroU32::MIN),
        })
    }
}

impl Rule {
    /// Whether the rule takes a message from there, its recipients aside.
    fn takes(&self, from: &[u8], lot: u64) -> bool {
        let sender = self.from.as_ref().is_none_or(|party| party.holds(from));
        sender && lot.is_multiple_of(self.one_in.get().into())
    }
}

/// One mailbox, or all of a domain: `alice@example.net`, `example.net`, or `.example.net` for all names below it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
struct Party(String);

impl TryFrom<String> for Party {
    type Error = String;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        let (local, domain) = text.rsplit_once('@').unwrap_or(("-", &text));
        let name = domain.strip_prefix('.').filter(|_| !text.contains('@'));
        let name = name.unwrap_or(domain);
        let harmless = |c: char| !c.is_whitespace() && !c.is_control() && !"<>@".contains(c);
        let sound = !local.is_empty() && name.split('.').all(|label| !label.is_empty());
        if sound && domain.chars().all(harmless) {
            Ok(Self(text))
        } else {
            Err(format!(
                "{text:?} is no address (alice@example.net), domain (example.net) or domain below (.example.net)"
            ))
        }
    }
}

impl Party {
    /// Whether the mailbox is meant. Case is never looked at: local parts that differ in nothing else are
    /// one person's.
    fn holds(&self, mailbox: &[u8]) -> bool {
        let wanted = self.0.as_bytes();
        if wanted.contains(&b'@') {
            return mailbox.eq_ignore_ascii_case(wanted);
        }
        let at = mailbox.iter().rposition(|b| *b == b'@');
        let domain = at.map_or(&b""[..], |at| &mailbox[at + 1..]);
        let Some(longer) = domain.len().checked_sub(wanted.len()) else {
            return false;
        };
        let whole = longer == 0 || wanted.starts_with(b".");
        whole && domain[longer..].eq_ignore_ascii_case(wanted)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[derive(Deserialize)]
    struct File {
        track: Vec<Rule>,
    }

    fn wishes(rules: &str) -> Result<Wishes, String> {
        let file: File =
            toml::from_str(&format!("track = [{rules}]")).map_err(|error| error.to_string())?;
        Ok(Wishes {
            header: None,
            rules: file.track,
        })
    }

    #[test]
    fn parties_are_mailboxes_domains_or_what_lies_below() {
        for (party, held, others) in [
            (
                "alice@example.net",
                &["alice@example.net", "Alice@Example.NET"][..],
                &["bob@example.net", "alice@sub.example.net", ""][..],
            ),
            (
                "example.net",
                &["alice@EXAMPLE.net", "\"a@b\"@example.net"],
                &["a@badexample.net", "a@sub.example.net", "example.net", ""],
            ),
            (
                ".example.net",
                &["a@sub.example.net", "a@x.y.Example.net"],
                &["a@example.net", "a@badexample.net"],
            ),
        ] {
            let party = Party::try_from(party.to_owned()).unwrap();
            assert!(held.iter().all(|m| party.holds(m.as_bytes())), "{party:?}");
            assert!(
                !others.iter().any(|m| party.holds(m.as_bytes())),
                "{party:?}"
            );
        }
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for rule in [
            "{}",
            "{ one_in = 0 }",
            "{ one_in = -1 }",
            "{ form = 'x.test' }",
            "{ from = '' }",
            "{ from = '@x.test' }",
            "{ from = 'a@.x.test' }",
            "{ from = 'alice@' }",
            "{ from = '<alice@x.test>' }",
            "{ from = 'x..test' }",
            "{ to = 'x test' }",
        ] {
            assert!(wishes(rule).is_err(), "{rule}");
        }
    }

    #[test]
    fn a_sender_is_enough_unless_the_rule_names_a_recipient() {
        let wishes = wishes("{ from = 'a.test' }, { from = 'b.test', to = 'c.test' }").unwrap();
        let open = Some(Wish::Open { lot: 7 });
        assert_eq!(wishes.at_mail(b"x@a.test", 7), Some(Wish::Ruled));
        assert_eq!(wishes.at_mail(b"x@b.test", 7), open);
        assert_eq!(wishes.at_mail(b"x@c.test", 7), None);
        assert!(wishes.at_rcpt(b"x@b.test", b"y@c.test", 7));
        assert!(!wishes.at_rcpt(b"x@b.test", b"y@d.test", 7));
        assert!(!wishes.at_rcpt(b"x@c.test", b"y@c.test", 7));
        let with_header = Wishes {
            header: Some("X-Track".to_owned()),
            ..wishes
        };
        assert_eq!(with_header.at_mail(b"x@c.test", 7), open);
    }

    #[test]
    fn one_in_n_is_drawn_for_the_message() {
        let wishes = wishes("{ to = 'c.test', one_in = 10 }").unwrap();
        let taken = |lot| wishes.at_rcpt(b"x@a.test", b"y@c.test", lot);
        assert_eq!((0..1000).filter(|lot| taken(*lot)).count(), 100);
        assert_eq!(
            wishes.at_mail(b"x@a.test", 11),
            None,
            "no recipient can fit"
        );
        assert_eq!(
            wishes.at_mail(b"x@a.test", 20),
            Some(Wish::Open { lot: 20 })
        );
    }
}
