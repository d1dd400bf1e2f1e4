//! The originator's certificate: A = H(message id, time stamp, secret) stays with the sender,
//! B = H(A) travels in the request. Every hop knows B and keys its report's Auth with it, so the reader
//! who can make B again knows that the report is about mail this user really sent.
//!
//! Wire format (version 1), all strings as octets, `0x00` a zero octet:
//!
//! ```text
//! A = SHA-256( "hoptrail/A/1" 0x00 message-id 0x00 decimal(t in ms) 0x00 secret(32 octets) )
//! B = SHA-256( "hoptrail/B/1" 0x00 A )
//! ```
//!
//! The message id stands without angle brackets. Neither it nor the decimal can hold a zero octet, so no
//! two inputs run together. Test vector, for message id `m1@example.org`, t 1795478400000 and the secret
//! that is the octets 00, 01, .. 1f:
//!
//! ```text
//! A = 35090ed5130de1353a66f4aaa266256d3b0da38fc1bfb6b125370eed837a0c4e   (hex)
//! B = b-QP-kiVKnBx4pTM9M2QJjFzvmLyxnP84RK3JL63cQw                        (base64url)
//! HMAC-SHA256(key B, "abc") = 9ea1d954cbe2bd19788a9a7f1a1c77129ec430d001f3c282fcb979e0b53c4f92
//! ```

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};

use super::letters::Letters;
use super::stored::{self, Stored};

/// The per-user secret behind every A: 32 random octets, never sent anywhere.
#[derive(Clone)]
pub struct Secret([u8; 32]);

impl Secret {
    /// Takes 32 random octets.
    pub fn new(octets: [u8; 32]) -> Self {
        Self(octets)
    }

    /// The octets, for the secret's own file only.
    pub fn octets(&self) -> &[u8; 32] {
        &self.0
    }

    /// A: the proof that stays with the sender. `sent_ms` is the originator's time stamp.
    pub fn proof(&self, message_id: &str, sent_ms: u64) -> [u8; 32] {
        Sha256::new()
            .chain_update(b"hoptrail/A/1\0")
            .chain_update(message_id)
            .chain_update(b"\0")
            .chain_update(itoa::Buffer::new().format(sent_ms))
            .chain_update(b"\0")
            .chain_update(self.0)
            .finalize()
            .into()
    }

    /// B for this message.
    pub fn certificate(&self, message_id: &str, sent_ms: u64) -> Certificate {
        Certificate::of_proof(&self.proof(message_id, sent_ms))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// B, the certificate in the request; known to every hop on the way.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Certificate([u8; 32]);

impl Certificate {
    /// B out of A.
    pub fn of_proof(proof: &[u8; 32]) -> Self {
        Self(
            Sha256::new()
                .chain_update(b"hoptrail/B/1\0")
                .chain_update(proof)
                .finalize()
                .into(),
        )
    }

    /// Takes the octets of B.
    pub fn new(octets: [u8; 32]) -> Self {
        Self(octets)
    }

    /// Reads the `c256/` attribute: 43 base64url characters, no padding, no spare bits.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() != 43 {
            return None;
        }
        // One octet more than it has: so much four letters each could be.
        let mut octets = [0; 33];
        let len = URL_SAFE_NO_PAD.decode_slice(text, &mut octets).ok()?;
        octets.get(..len)?.try_into().ok().map(Self)
    }

    /// A number that no two messages share but by the rarest chance.
    pub fn number(&self) -> u64 {
        self.0.first_chunk().copied().map_or(0, u64::from_le_bytes)
    }

    pub(super) fn letters(&self) -> Letters<43> {
        Letters::base64url(&self.0)
    }

    /// HMAC-SHA256 with key B over a report's canonical fields.
    pub fn authenticate(&self, canonical: &[u8]) -> [u8; 32] {
        keyed(&self.0, canonical).finalize().into_bytes().into()
    }

    /// Whether `tag` is the one [`authenticate`](Self::authenticate) makes; in constant time.
    pub fn verifies(&self, canonical: &[u8], tag: &[u8]) -> bool {
        keyed(&self.0, canonical).verify_slice(tag).is_ok()
    }
}

fn keyed(key: &[u8; 32], text: &[u8]) -> Hmac<Sha256> {
    // HMAC takes a key of any length (RFC 2104), and this one has exactly the digest's.
    #[allow(clippy::expect_used)]
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(text);
    mac
}

impl fmt::Display for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.letters())
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Certificate({self})")
    }
}

impl Stored for Certificate {
    const EXPECTED: &'static str = "a certificate";

    fn of_word(word: &str) -> Option<Self> {
        Self::parse(word)
    }

    fn of_octets(octets: &[u8]) -> Option<Self> {
        octets.try_into().ok().map(Self)
    }
}

impl<'de> Deserialize<'de> for Certificate {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        stored::read(from)
    }
}

impl Serialize for Certificate {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        if to.is_human_readable() {
            to.serialize_str(&self.letters())
        } else {
            to.serialize_bytes(&self.0)
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::fmt::Write as _;

    use super::*;

    fn secret() -> Secret {
        Secret::new(std::array::from_fn(|i| u8::try_from(i).unwrap()))
    }

    fn hex(octets: &[u8]) -> String {
        octets.iter().fold(String::new(), |mut text, octet| {
            write!(text, "{octet:02x}").unwrap();
            text
        })
    }

    /// The published vector; the expected values come from another implementation (Python's hashlib).
    #[test]
    fn the_published_vector_holds() {
        let proof = secret().proof("m1@example.org", 1_795_478_400_000);
        assert_eq!(
            hex(&proof),
            "35090ed5130de1353a66f4aaa266256d3b0da38fc1bfb6b125370eed837a0c4e"
        );
        let b = secret().certificate("m1@example.org", 1_795_478_400_000);
        assert_eq!(b.to_string(), "b-QP-kiVKnBx4pTM9M2QJjFzvmLyxnP84RK3JL63cQw");
        let tag = b.authenticate(b"abc");
        assert_eq!(
            hex(&tag),
            "9ea1d954cbe2bd19788a9a7f1a1c77129ec430d001f3c282fcb979e0b53c4f92"
        );
        assert!(b.verifies(b"abc", &tag));
        assert!(!b.verifies(b"abd", &tag));
    }

    #[test]
    fn only_the_canonical_writing_of_b_is_read() {
        let text = "b-QP-kiVKnBx4pTM9M2QJjFzvmLyxnP84RK3JL63cQw";
        assert_eq!(Certificate::parse(text).unwrap().to_string(), text);
        let spare_bits = text.replace("cQw", "cQx");
        assert_eq!(Certificate::parse(&spare_bits), None);
        assert_eq!(Certificate::parse(&text[..42]), None);
        assert_eq!(Certificate::parse(&format!("{text}=")), None);
    }

    #[test]
    fn nothing_prints_the_secret() {
        assert_eq!(format!("{:?}", secret()), "Secret(..)");
    }
}
