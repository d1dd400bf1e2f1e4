//! The private keys of DKIM signatures, and the public half as the DNS shows it.
//!
//! Must not know files, nor what is signed.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::{Error as PemError, PemObject};
use sha2::{Digest, Sha256};
use thiserror::Error;

/// What stands before the 32 octets of an Ed25519 key in PKCS #8 (RFC 8410, 7).
const ED25519_PKCS8: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];
/// The algorithm of a `SubjectPublicKeyInfo` that holds an RSA key (RFC 3279, 2.3.1).
const RSA_ALGORITHM: [u8; 15] = [
    0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00,
];

/// How a key signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// RSA with PKCS #1 v1.5 padding, which every verifier knows.
    Rsa,
    /// Ed25519 (RFC 8463).
    Ed25519,
}

impl Algorithm {
    /// The word in `a=` of a signature.
    pub fn tag(self) -> &'static str {
        match self {
            Self::Rsa => "rsa-sha256",
            Self::Ed25519 => "ed25519-sha256",
        }
    }

    /// The word in `k=` of a record.
    fn key_type(self) -> &'static str {
        match self {
            Self::Rsa => "rsa",
            Self::Ed25519 => "ed25519",
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rsa => "RSA",
            Self::Ed25519 => "Ed25519",
        })
    }
}

/// A private key.
pub enum Key {
    /// 2048 to 4096 bits.
    Rsa(RsaKeyPair),
    /// 256 bits.
    Ed25519(Ed25519KeyPair),
}

/// Why a key is of no use.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum KeyError {
    /// It is no PEM file, or holds no private key.
    #[error("no PEM private key in it")]
    NoKey,
    /// It holds another one.
    #[error("DKIM needs an RSA key of 2048 to 4096 bits or an Ed25519 key, and this is none ({0})")]
    Refused(String),
}

impl Key {
    /// Reads the first private key in a PEM text (PKCS #8, or PKCS #1 for RSA).
    pub fn from_pem(text: &str) -> Result<Self, KeyError> {
        match PrivateKeyDer::from_pem_slice(text.as_bytes()) {
            Ok(PrivateKeyDer::Pkcs8(der)) => Self::from_pkcs8(der.secret_pkcs8_der()),
            Ok(PrivateKeyDer::Pkcs1(der)) => RsaKeyPair::from_der(der.secret_pkcs1_der())
                .map(Self::Rsa)
                .map_err(|why| KeyError::Refused(why.to_string())),
            Ok(_) => Err(KeyError::Refused("an EC key".to_owned())),
            Err(PemError::NoItemsFound) => Err(KeyError::NoKey),
            Err(why) => Err(KeyError::Refused(why.to_string())),
        }
    }

    fn from_pkcs8(der: &[u8]) -> Result<Self, KeyError> {
        // Without the public half too, as openssl writes it and we do.
        if let Ok(pair) = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der) {
            return Ok(Self::Ed25519(pair));
        }
        RsaKeyPair::from_pkcs8(der)
            .map(Self::Rsa)
            .map_err(|why| KeyError::Refused(why.to_string()))
    }

    /// How it signs.
    pub fn algorithm(&self) -> Algorithm {
        match self {
            Self::Rsa(_) => Algorithm::Rsa,
            Self::Ed25519(_) => Algorithm::Ed25519,
        }
    }

    /// The TXT record that shows the public half (RFC 6376, 3.6.1; RFC 8463, 4).
    pub fn record(&self) -> String {
        let public = match self {
            Self::Rsa(pair) => public_key_info(pair.public_key().as_ref()),
            Self::Ed25519(pair) => pair.public_key().as_ref().to_vec(),
        };
        format!(
            "v=DKIM1; k={}; p={}",
            self.algorithm().key_type(),
            STANDARD.encode(public)
        )
    }

    /// Signs the SHA-256 of `covered`; `None` if that fails, as it does where the machine miscomputes.
    pub(super) fn sign(&self, covered: &[u8]) -> Option<Vec<u8>> {
        match self {
            Self::Rsa(pair) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                // The random numbers blind the computation; the signature does not depend on them.
                pair.sign(
                    &RSA_PKCS1_SHA256,
                    &SystemRandom::new(),
                    covered,
                    &mut signature,
                )
                .ok()?;
                Some(signature)
            }
            // Of the digest, not of the text (RFC 8463, 3).
            Self::Ed25519(pair) => Some(pair.sign(&Sha256::digest(covered)).as_ref().to_vec()),
        }
    }
}

/// A new Ed25519 key out of 32 random octets, as PEM.
pub fn generate_ed25519(seed: [u8; 32]) -> String {
    let der = [&ED25519_PKCS8[..], &seed].concat();
    format!(
        "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
        STANDARD.encode(der)
    )
}

/// A `SubjectPublicKeyInfo` around an `RSAPublicKey`: what everybody publishes and reads, although RFC 6376
/// names the inner one.
fn public_key_info(key: &[u8]) -> Vec<u8> {
    let bits = [&[0][..], key].concat();
    let info = [&RSA_ALGORITHM[..], &tagged(0x03, &bits)].concat();
    tagged(0x30, &info)
}

/// Tag, length and content in DER. The keys we take are of 270 to 526 octets, so that a length always has two.
fn tagged(tag: u8, content: &[u8]) -> Vec<u8> {
    let [.., high, low] = content.len().to_be_bytes();
    [&[tag, 0x82, high, low], content].concat()
}
