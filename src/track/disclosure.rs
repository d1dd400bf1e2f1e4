//! What a hop tells of itself to whoever asks: all it knows, its organisation's name and the time, or nothing.

use std::fmt;

use serde::de::value::{MapAccessDeserializer, StrDeserializer};
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::asker::Asker;
use super::{HopReport, RecipientStatus, Status};

/// How much is told, each less than the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Extent {
    /// Everything.
    Full,
    /// What happened when, in the organisation's name.
    Organisation,
    /// Nothing; the request goes on.
    Silent,
}

/// How much each asker is told: one word for all of them, or a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disclosure {
    authenticated: Extent,
    networks: Extent,
    carry: Extent,
    verified: Extent,
}

impl Default for Disclosure {
    /// Everything to those we know, no names of machines to strangers.
    fn default() -> Self {
        Self {
            verified: Extent::Organisation,
            ..Self::all(Extent::Full)
        }
    }
}

impl Disclosure {
    /// The same for everybody.
    fn all(extent: Extent) -> Self {
        Self {
            authenticated: extent,
            networks: extent,
            carry: extent,
            verified: extent,
        }
    }

    /// What this asker is told.
    pub fn to(&self, asker: Asker) -> Extent {
        match asker {
            Asker::Authenticated => self.authenticated,
            Asker::Network => self.networks,
            Asker::Carry => self.carry,
            Asker::Verified => self.verified,
        }
    }
}

/// The table; an asker that is left out is told what is usual.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    authenticated: Option<Extent>,
    networks: Option<Extent>,
    carry: Option<Extent>,
    verified: Option<Extent>,
}

impl<'de> Deserialize<'de> for Disclosure {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct WordOrTable;
        impl<'de> Visitor<'de> for WordOrTable {
            type Value = Disclosure;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"full\", \"organisation\", \"silent\" or a table of these by asker")
            }

            fn visit_str<E: serde::de::Error>(self, word: &str) -> Result<Disclosure, E> {
                Extent::deserialize(StrDeserializer::new(word)).map(Disclosure::all)
            }

            fn visit_map<M: MapAccess<'de>>(self, map: M) -> Result<Disclosure, M::Error> {
                let table = Table::deserialize(MapAccessDeserializer::new(map))?;
                let usual = Disclosure::default();
                Ok(Disclosure {
                    authenticated: table.authenticated.unwrap_or(usual.authenticated),
                    networks: table.networks.unwrap_or(usual.networks),
                    carry: table.carry.unwrap_or(usual.carry),
                    verified: table.verified.unwrap_or(usual.verified),
                })
            }
        }
        from.deserialize_any(WordOrTable)
    }
}

impl HopReport {
    /// The report in the name of `organisation`: what happened to whom, and when. No machine, no queue, no
    /// address but those the asker has written, and nobody's words. What one dialogue after the other took,
    /// what protected it, or how a message had grown, would tell of machines too.
    #[must_use]
    pub fn in_the_name_of(&self, organisation: &str) -> Self {
        Self {
            id: self.id.clone(),
            step: self.step,
            parent: self.parent,
            hop: self.hop,
            role: self.role,
            reporting_mta: organisation.into(),
            arrival_us: self.arrival_us,
            message_id: self.message_id.clone(),
            sent_ms: self.sent_ms,
            queue_id: None,
            size: None,
            came_for: None,
            filtered_us: None,
            ring: Vec::new(),
            times_in: Vec::new(),
            times_out: Vec::new(),
            tls_in: None,
            tls_out: None,
            recipients: self.recipients.iter().map(unadorned).collect(),
        }
    }
}

fn unadorned(group: &RecipientStatus) -> RecipientStatus {
    // 2.1.9 is a part of what `relayed` means (RFC 3886, 3.3.4); any other code is the next hop's word.
    let status = if group.status == Status::RELAYED {
        Status::RELAYED
    } else {
        Status::of_class(group.status.class)
    };
    RecipientStatus {
        original: group.original.clone(),
        recipient: group.original.clone(),
        event: group.event,
        status,
        remote_mta: None,
        attempted_us: group.attempted_us,
        reply: None,
        remote_queue_id: None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[derive(Debug, Deserialize)]
    struct File {
        disclose: Disclosure,
    }

    fn told(text: &str) -> Result<[Extent; 4], String> {
        let file: File = toml::from_str(&format!("disclose = {text}"))
            .map_err(|error: toml::de::Error| error.message().to_owned())?;
        let disclosure = file.disclose;
        let askers = [
            Asker::Authenticated,
            Asker::Network,
            Asker::Carry,
            Asker::Verified,
        ];
        Ok(askers.map(|asker| disclosure.to(asker)))
    }

    #[test]
    fn one_word_or_one_for_each_asker() {
        use Extent::{Full, Organisation, Silent};
        assert_eq!(told("'full'").unwrap(), [Full; 4]);
        assert_eq!(told("'silent'").unwrap(), [Silent; 4]);
        assert_eq!(told("{}").unwrap(), [Full, Full, Full, Organisation]);
        assert_eq!(
            told("{ networks = 'organisation', carry = 'silent' }").unwrap(),
            [Full, Organisation, Silent, Organisation]
        );
        assert!(told("'all'").unwrap_err().contains("`organisation`"));
        assert!(
            told("{ strangers = 'full' }")
                .unwrap_err()
                .contains("`verified`")
        );
        assert!(told("true").unwrap_err().contains("a table of these"));
    }
}
