//! The two identities of tracking: the tracking id of a message (its ENVID, or one minted by the first
//! hop) and the id of a step, one report's node in the tree of hops.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};

use super::clean::all;
use super::letters::Letters;
use super::stored::{self, Stored};

/// What names a tracked message at every hop: the decoded ENVID, or a minted token.
///
/// 1 to 100 printable ASCII characters (RFC 3461, 4.4 allows no more in an ENVID), never starting or
/// ending with a blank, so that it can stand in a header line and come back unchanged. Shared, because a message on
/// its way has it in several places.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct TrackingId(Arc<str>);

/// Longest tracking id, in octets (RFC 3461, 4.4).
pub const TRACKING_ID_OCTETS_MAX: usize = 100;

impl TrackingId {
    /// Takes a decoded ENVID or an `id/` attribute; `None` if it could not stand in a report safely.
    pub fn new(text: &str) -> Option<Self> {
        let printable = all(text.as_bytes(), |octet| matches!(octet, b' '..=b'~'));
        let trimmed = !text.starts_with(' ') && !text.ends_with(' ');
        (printable && trimmed && !text.is_empty() && text.len() <= TRACKING_ID_OCTETS_MAX)
            .then(|| Self(text.into()))
    }

    /// A fresh id out of 128 random bits, for a message that came without ENVID.
    pub fn mint(random: u128) -> Self {
        Self((*Letters::<32>::hex(random)).into())
    }

    /// The id as it stands in reports.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TrackingId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for TrackingId {
    type Error = &'static str;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::new(&text).ok_or("a tracking id is 1 to 100 printable ASCII characters")
    }
}

impl Serialize for TrackingId {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&self.0)
    }
}

/// One step of a message's way: 64 bits, written as 16 lower-case hex digits, like a span id. It is no secret: every hop
/// behind it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StepId(pub u64);

impl StepId {
    /// A fresh id: 16 bits of the second in which the step began, so that those of one time stand together in a hop's
    /// index, and 48 random ones. Among a hundred million of a month the odds are 1 in 3000 that any two are the same;
    /// if they all began in one hour, 1 in 200.
    #[must_use]
    pub fn mint(at_us: i64, random: u64) -> Self {
        let second = at_us.div_euclid(1_000_000).cast_unsigned();
        Self(second << 48 | random >> 16)
    }

    pub(super) fn letters(self) -> Letters<16> {
        Letters::hex(self.0.into())
    }

    /// The step that tells of a second time of this one with these recipients: the same id whenever it is asked for.
    #[must_use]
    pub fn again<'a>(self, recipients: impl Iterator<Item = &'a str>) -> Self {
        let mut recipients: Vec<String> = recipients.map(str::to_ascii_lowercase).collect();
        recipients.sort();
        let mut digest = Sha256::new();
        digest.update(self.0.to_be_bytes());
        for recipient in recipients {
            digest.update(recipient);
            digest.update([0]);
        }
        let octets: [u8; 32] = digest.finalize().into();
        let (first, _) = octets.as_chunks::<8>();
        Self(
            first
                .first()
                .map_or(0, |octets| u64::from_be_bytes(*octets)),
        )
    }
}

impl fmt::Display for StepId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.letters())
    }
}

impl FromStr for StepId {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digit = |octet| match octet {
            b'0'..=b'9' => Some(octet - b'0'),
            b'a'..=b'f' => Some(octet - b'a' + 10),
            _ => None,
        };
        let add = |number: u64, octet| Some(number << 4 | u64::from(digit(octet)?));
        let number = text.bytes().try_fold(0, add);
        let id = number.filter(|_| text.len() == 16).map(Self);
        id.ok_or("a step id is 16 lower-case hex digits")
    }
}

impl Stored for StepId {
    const EXPECTED: &'static str = "a step id";

    fn of_word(word: &str) -> Option<Self> {
        word.parse().ok()
    }

    fn of_number(number: u64) -> Option<Self> {
        Some(Self(number))
    }
}

impl<'de> Deserialize<'de> for StepId {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        stored::read(from)
    }
}

impl Serialize for StepId {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        if to.is_human_readable() {
            to.serialize_str(&self.letters())
        } else {
            to.serialize_u64(self.0)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fresh_step_has_its_second_in_front_and_chance_behind() {
        let mint = |second: i64, us, random| StepId::mint(second * 1_000_000 + us, random);
        let first = mint(0x7_2345, 0, 0xabcd_ef01_2345_6789);
        assert_eq!(first.to_string(), "2345abcdef012345");
        let last = mint(0x7_2345, 999_999, u64::MAX);
        assert_eq!(last.to_string(), "2345ffffffffffff");
        let next = mint(0x7_2346, 0, 0);
        assert_eq!(next.to_string(), "2346000000000000");
        let before_1970 = mint(-1, 0, 0);
        assert_eq!(before_1970.to_string(), "ffff000000000000");
    }
}
