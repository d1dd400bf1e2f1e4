//! DKIM signatures of the mail a hop makes itself (RFC 6376; Ed25519: RFC 8463).
//!
//! The profile, which any verifier understands:
//!
//! - `a=rsa-sha256` with keys of 2048 to 4096 bits, or `a=ed25519-sha256`; one signature for each key, both in
//!   the same mail if both are configured, since many verifiers know RSA only.
//! - `c=relaxed/relaxed`, the whole body (no `l=`), no expiry (`x=`): a report may wait for days. `t=` is the Date
//!   of the mail. `d=` is the domain of its From or one above it, so that DMARC finds them aligned.
//! - `h=` names every field of [`SIGNED`] once more than it stands in the mail, so that a second From or a
//!   Reply-To put in on the way breaks the signature (RFC 6376, 8.15).
//!
//! Test vector: the mail
//!
//! ```text
//! From: hop reports at mx1 <hoptrail@football.example.com>
//! To: <alice@example.org>
//! Subject: Mail trail:  passed mx1
//!
//! Your message  passed.
//! ```
//!
//! its lines ended by CRLF and with two empty ones behind, signed with the Ed25519 key of RFC 8463, A.1 as
//! `d=football.example.com; s=brisbane`, `t=1528637909`, has on top
//!
//! ```text
//! DKIM-Signature: v=1; a=ed25519-sha256; c=relaxed/relaxed;
//!  d=football.example.com; s=brisbane; t=1528637909; h=From:From: To:To: Cc:
//!  Reply-To: Subject:Subject: Date: Message-ID: In-Reply-To: References:
//!  Auto-Submitted: MIME-Version: Content-Type: Content-Transfer-Encoding;
//!  bh=FyrgbPq9qMzdBPZiPrODpneE46IXJVcCCQjEfPiVSys=;
//!  b=h/3R+iU9E9Xk4svVGJ74prIEGnuaVU0U3CdIl9TBfFo1wk3d7YBK/WSJdKa3iUhS
//!  Xe58oVNKahfuyseXT5/ICQ==
//! ```
//!
//! The public half stands in the DNS at `SELECTOR._domainkey.DOMAIN` as `v=DKIM1; k=TYPE; p=KEY`, for RSA the
//! base64 of a `SubjectPublicKeyInfo`, for Ed25519 that of the 32 octets themselves.
//!
//! Must not know the clock, disk or DNS, nor how mail is made.

mod key;

use std::fmt;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};
use thiserror::Error;

use super::write::fold;
pub use key::{Algorithm, Key, KeyError, generate_ed25519};

/// The fields a signature covers, whether they stand in the mail or not.
pub const SIGNED: [&str; 13] = [
    "From",
    "To",
    "Cc",
    "Reply-To",
    "Subject",
    "Date",
    "Message-ID",
    "In-Reply-To",
    "References",
    "Auto-Submitted",
    "MIME-Version",
    "Content-Type",
    "Content-Transfer-Encoding",
];

const FIELD: &str = "DKIM-Signature";

/// Base64 characters of a signature between two places where a line may end.
const BLOCK_CHARS: usize = 64;

/// Signs in the name of a domain.
#[derive(Clone)]
pub struct Signer {
    domain: String,
    selector: String,
    key: Arc<Key>,
}

/// The key could not be used, which is a fault of the machine: keys are tried when they are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a DKIM key could not be used")]
pub struct SignError;

impl Signer {
    /// Signs with `key` as `d=domain; s=selector`, both host names.
    pub fn new(domain: String, selector: String, key: Key) -> Self {
        Self {
            domain,
            selector,
            key: Arc::new(key),
        }
    }

    /// The key.
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// Where in the DNS the public key is looked for (RFC 6376, 3.6.2.1).
    pub fn record_name(&self) -> String {
        format!("{}._domainkey.{}", self.selector, self.domain)
    }

    /// The signature field of a mail, with its final CRLF. `at_us` is the mail's date, µs.
    fn field(&self, mail: &[u8], at_us: i64) -> Result<String, SignError> {
        let (header, body) = halves(mail);
        let header = Header::of(header);
        let names = SIGNED.map(|name| vec![name; header.count(name) + 1].join(":"));
        let value = format!(
            "v=1; a={}; c=relaxed/relaxed; d={}; s={}; t={}; h={}; bh={}; b=",
            self.key.algorithm().tag(),
            self.domain,
            self.selector,
            at_us.max(0) / 1_000_000,
            // Blanks are where the line may end.
            names.join(": "),
            STANDARD.encode(Sha256::digest(relaxed_body(body))),
        );
        let fields = SIGNED.iter().flat_map(|name| header.all(name));
        let mut covered: Vec<u8> = fields.flatten().collect();
        // Itself without its signature, and without the CRLF (RFC 6376, 3.7).
        covered.extend_from_slice(relaxed_field(FIELD, value.as_bytes()).trim_ascii_end());
        let signature = self.key.sign(&covered).ok_or(SignError)?;
        let mut field = String::new();
        let value = value + &blocks(&STANDARD.encode(signature));
        fold(&mut field, FIELD, &value);
        Ok(field)
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.record_name())
    }
}

/// The mail with a signature of each signer on top. `at_us` is the mail's date, µs.
pub fn sign(mail: &[u8], signers: &[Signer], at_us: i64) -> Result<Vec<u8>, SignError> {
    let mut signed = Vec::with_capacity(mail.len() + signers.len() * 1024);
    for signer in signers {
        signed.extend_from_slice(signer.field(mail, at_us)?.as_bytes());
    }
    signed.extend_from_slice(mail);
    Ok(signed)
}

/// The header block with its last CRLF, and what follows the empty line.
fn halves(mail: &[u8]) -> (&[u8], &[u8]) {
    let end = memchr::memmem::find(mail, b"\r\n\r\n").map_or(mail.len(), |at| at + 2);
    let (header, rest) = mail.split_at(end);
    (header, rest.strip_prefix(b"\r\n").unwrap_or(rest))
}

/// The fields of a header block, in order, each as its name and its value with its folds.
struct Header(Vec<(String, Vec<u8>)>);

impl Header {
    fn of(block: &[u8]) -> Self {
        let mut fields: Vec<(String, Vec<u8>)> = Vec::new();
        for line in block.split_inclusive(|b| *b == b'\n') {
            let folded = matches!(line.first(), Some(b' ' | b'\t'));
            if let (true, Some((_, value))) = (folded, fields.last_mut()) {
                value.extend_from_slice(line);
                continue;
            }
            let colon = line.iter().position(|b| *b == b':').unwrap_or(line.len());
            let (name, value) = line.split_at(colon);
            let name = String::from_utf8_lossy(name.trim_ascii_end()).into_owned();
            fields.push((name, value.get(1..).unwrap_or_default().to_vec()));
        }
        Self(fields)
    }

    fn count(&self, name: &str) -> usize {
        self.all(name).count()
    }

    /// The fields of this name as a signature covers them, the last one first (RFC 6376, 5.4.2).
    fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = Vec<u8>> + 'a {
        let named = move |(n, _): &&(String, Vec<u8>)| n.eq_ignore_ascii_case(name);
        let fields = self.0.iter().rev().filter(named);
        fields.map(move |(_, value)| relaxed_field(name, value))
    }
}

/// A field in relaxed form (RFC 6376, 3.4.2), with its CRLF.
fn relaxed_field(name: &str, value: &[u8]) -> Vec<u8> {
    let unfolded: Vec<u8> = value.iter().copied().filter(|b| !is_line_end(*b)).collect();
    let value = relaxed_line(unfolded.trim_ascii_start());
    [name.to_ascii_lowercase().as_bytes(), b":", &value, b"\r\n"].concat()
}

/// A body in relaxed form (RFC 6376, 3.4.4): relaxed lines, and no empty ones at the end.
fn relaxed_body(body: &[u8]) -> Vec<u8> {
    let mut relaxed = Vec::with_capacity(body.len() + 2);
    let mut end = 0;
    for line in body.split(|b| *b == b'\n') {
        let line = relaxed_line(line.strip_suffix(b"\r").unwrap_or(line));
        relaxed.extend_from_slice(&line);
        relaxed.extend_from_slice(b"\r\n");
        if !line.is_empty() {
            end = relaxed.len();
        }
    }
    relaxed.truncate(end);
    relaxed
}

/// One blank for many, none at the end.
fn relaxed_line(line: &[u8]) -> Vec<u8> {
    let mut relaxed = Vec::with_capacity(line.len());
    let mut blank = false;
    for octet in line {
        if matches!(octet, b' ' | b'\t') {
            blank = true;
        } else {
            if blank {
                relaxed.push(b' ');
            }
            blank = false;
            relaxed.push(*octet);
        }
    }
    relaxed
}

fn is_line_end(octet: u8) -> bool {
    matches!(octet, b'\r' | b'\n')
}

/// Base64 with blanks in it, where its line may end (RFC 6376, 3.2 lets a verifier ignore them).
fn blocks(base64: &str) -> String {
    let blocks: Vec<_> = base64
        .as_bytes()
        .chunks(BLOCK_CHARS)
        .map(String::from_utf8_lossy)
        .collect();
    blocks.join(" ")
}

#[cfg(test)]
mod tests;
