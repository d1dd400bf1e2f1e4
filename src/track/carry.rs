//! The carry header: how a request crosses an MTA that knows nothing of it, and how it is recognised
//! behind that MTA.
//!
//! ```text
//! Hoptrail-Carry: v=1; kid=9f3c21aa; id=<xtext of the tracking id>; step=<16 hex>;
//!  at=<ms>; told=<0 or 1>; back=<ms, 13 digits>; by=<authenticated, network, carry, verified, or ->;
//!  req=NOW:c256/...:t/...; [mtrk=<as in MAIL>;] from=<22 base64url>; msg=<22 base64url, or ->;
//!  mac=<43 base64url>
//! ```
//!
//! `at` is when the header was made, `step` the ingress' step, `told` whether a report tells of it, `back` when the
//! content filter began to hand the message back, or zeros: the header is never longer than at first. `by` is who asked,
//! `req` the request as the hop received it (with `id/` exactly when no ENVID named the message), `mtrk` the MTRK
//! beside it. `by=-` is a stranger for whom nobody vouched yet when this was written, because the message itself has
//! to prove it: such a header counts only where the journal has its step. `from` and `msg` are keyed digests of the
//! reverse-path and the Message-ID, so that the header tells no address; `msg=-` binds no Message-ID,
//! because there was none or it was not seen. All of it lies under the MAC: HMAC-SHA256 with the hop's
//! key over the `name=value` parts before `mac`, joined by `;` without blanks. Body octets are not bound:
//! an MTA may change them legally.
//!
//! The header leaks into the MTA's own bounces, so it holds no secret, names nobody and expires.
//!
//! In detail, so that others can write and read it:
//!
//! - A key is 32 octets with a name of 8 hex digits, `kid`. MACs are HMAC-SHA256 with it; digests are the first 16
//!   octets of the MAC of `from`, a zero octet and the reverse-path without brackets, or `msg`, a zero octet and
//!   the Message-ID without brackets, both in ASCII lower case. All of them stand in base64url, unpadded.
//! - In the tracking id blank, `;`, `=` and `+` stand as `+` and two upper-case hex digits.
//! - `step` is as in TRACK's `up`; times are ms since 1970-01-01 UTC, decimal.
//! - The parts stand in this order, with `;` and blanks or folds between them. The field goes on top of the
//!   message, in lines of at most 78 octets where its parts allow it.
//! - It counts only in the message's own header block, wherever it stands there. One with an unknown `kid` or a
//!   wrong MAC belongs to somebody else and stays; any other is taken out, and honoured if it is not older than 7
//!   days nor more than an hour ahead, and the digests are those of this mail. Where `from` alone is not, a list or
//!   a forward sent the mail anew, and what was asked ends here.
//! - Where a message leaves the MTA one with an unknown `kid` is taken out as well, if it stands under no more than
//!   one Received field: the key that made it is gone (`hop::carried` has the reason).
//!
//! Test vector: key 9f3c21aa, 32 octets 07; B is 32 octets 09; from alice@example.org, Message-ID m1@example.org.
//!
//! ```text
//! Hoptrail-Carry: v=1; kid=9f3c21aa; id=7f3a91c2@mail.example.org;
//!  step=0123456789abcdef; at=1795478400000; told=0; back=0000000000000;
//!  by=verified;
//!  req=NOW:c256/CQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQk:hop/1:up/0000000000000001:t/1795478399000;
//!  from=zEktScQLh7w3HxEeupqPFA; msg=8kjn5AfjFIkgP3lJQvCsnw;
//!  mac=ubXE5iWhJFb9zyx-A_Q2nEWlanSypyPcfpwyWTgOwe4
//! ```

use std::borrow::Cow;
use std::fmt::{self, Write};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use memchr::memchr_iter;
use sha2::Sha256;

use super::asker::Asker;
use super::letters::Letters;
use super::mtrk::Mtrk;
use super::{StepId, TrackRequest, TrackingId};

/// The field name.
pub const CARRY: &str = "Hoptrail-Carry";
/// More octets than [`Carry::write`] gives for any request, whoever the mail is from.
pub const CARRY_OCTETS_MAX: u64 = 1200;
/// How long a carry header is honoured, ms: longer than MTAs keep mail in their queues (5 days).
pub const CARRY_AGE_MS_MAX: i64 = 7 * 24 * 3600 * 1000;
/// The digits of `back`, and the latest time that they can tell, ms.
const BACK_DIGITS: usize = 13;
const BACK_MS_MAX: u64 = 9_999_999_999_999;
/// How far ahead of our clock a carry header's `at` may lie, ms: hops that share a key differ a little.
const CARRY_AHEAD_MS_MAX: i64 = 3600 * 1000;
/// A digest in base64url: 16 octets.
const DIGEST_LETTERS: usize = 22;
/// A MAC in base64url: 32 octets.
const MAC_LETTERS: usize = 43;
/// Lines are folded here (RFC 5322, 2.1.1); all four MTAs of the lab keep the folds.
const LINE_OCTETS: usize = 78;
/// Room for a field as most are.
const OCTETS_USUAL: usize = 512;

/// What crosses the MTA.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Carry {
    /// The tracking id.
    pub id: TrackingId,
    /// The ingress' step, the key into the journal.
    pub step: StepId,
    /// When the header was made, ms.
    pub at_ms: i64,
    /// The ingress' step is reported; if not, the next step's parent is the request's.
    pub told: bool,
    /// When the content filter began to hand the message back, ms.
    pub back_ms: Option<i64>,
    /// Who asked; `None` if only the journal knows whether he may.
    pub asker: Option<Asker>,
    /// The request as the hop received it.
    pub request: TrackRequest,
    /// The MTRK that came with it and that the MTA does not take.
    pub mtrk: Option<Mtrk>,
}

/// A key of the hop, or of the hops of one organisation that share it.
#[derive(Clone)]
pub struct Key {
    kid: String,
    octets: [u8; 32],
    /// HMAC that has taken in the key, and no text yet.
    keyed: Hmac<Sha256>,
}

/// All keys a hop recognises; the first one signs.
#[derive(Clone)]
pub struct Keyring {
    keys: Vec<Key>,
}

/// A carry header whose MAC is good; whether it belongs to *this* mail is still to be asked.
pub struct Opened {
    /// What it carries.
    pub carry: Carry,
    from: String,
    msg: String,
    key: Key,
}

impl Carry {
    /// The parent of what is told next at this hop: the ingress' step, or, if that is not told, the parent it has.
    pub fn next_parent(&self) -> Option<StepId> {
        if self.told {
            Some(self.step)
        } else {
            self.request.up
        }
    }

    /// The whole field with its final CRLF, for the mail from `reverse_path` with `message_id`.
    pub fn write(&self, keys: &Keyring, reverse_path: &[u8], message_id: Option<&[u8]>) -> Vec<u8> {
        let key = keys.signing();
        let from = key.digest(b"from", reverse_path);
        let msg = message_id.map(|id| key.digest(b"msg", id));
        self.signed(key, &from, msg.as_deref().unwrap_or("-"))
    }

    fn signed(&self, key: &Key, from: &str, msg: &str) -> Vec<u8> {
        let mut text = self.text(&key.kid, from, msg);
        let mac = Letters::<MAC_LETTERS>::base64url(&key.mac(text.as_bytes()));
        text.extend([";mac=", &*mac]);
        fold(&text)
    }

    /// The parts that the MAC protects.
    fn text(&self, kid: &str, from: &str, msg: &str) -> String {
        let mut text = String::with_capacity(OCTETS_USUAL);
        let back_ms = u64::try_from(self.back_ms.unwrap_or(0)).unwrap_or(0);
        text.extend([
            "v=1;kid=",
            kid,
            ";id=",
            &*encode(self.id.as_str()),
            ";step=",
            &*self.step.letters(),
            ";at=",
            itoa::Buffer::new().format(self.at_ms),
            ";told=",
            if self.told { "1" } else { "0" },
            ";back=",
            &*Letters::<BACK_DIGITS>::decimal(back_ms.min(BACK_MS_MAX)),
            ";by=",
            self.asker.map_or("-", Asker::as_str),
            ";req=",
        ]);
        self.request.write_value(&mut text);
        if let Some(mtrk) = &self.mtrk {
            // Writing to a String cannot fail.
            let _ = write!(text, ";mtrk={mtrk}");
        }
        text.extend([";from=", from, ";msg=", msg]);
        text
    }

    /// How many octets [`write`](Self::write) will add, whatever the Message-ID and whoever it is that asks: an
    /// upper bound known at MAIL time, by which SIZE= grows (RFC 1870, 6.3 allows an estimate).
    pub fn octets_max(&self, keys: &Keyring) -> u64 {
        let longest = Self {
            asker: Some(Asker::Authenticated),
            ..self.clone()
        };
        // As long as the real ones.
        let (digest, mac) = ("?".repeat(DIGEST_LETTERS), "?".repeat(MAC_LETTERS));
        let text = longest.text(&keys.signing().kid, &digest, &digest);
        fold(&format!("{text};mac={mac}")).len() as u64
    }

    /// Opens the value of a carry field (behind the colon, folds included); `None` if it is malformed
    /// or no key of ours made it.
    pub fn open(value: &[u8], keys: &Keyring) -> Option<Opened> {
        let text = std::str::from_utf8(value).ok()?;
        let parts: Vec<&str> = text.split(';').map(str::trim).collect();
        let (mac, signed) = parts.split_last()?;
        let mac = URL_SAFE_NO_PAD.decode(mac.strip_prefix("mac=")?).ok()?;
        let key = keys.find(signed.get(1)?.strip_prefix("kid=")?)?;
        let keyed = key.keyed.clone().chain_update(signed.join(";"));
        keyed.verify_slice(&mac).ok()?;
        let (carry, from, msg) = Self::of_parts(signed)?;
        Some(Opened {
            carry,
            from: from.to_owned(),
            msg: msg.to_owned(),
            key: key.clone(),
        })
    }

    /// What such a value says whose key is not among these, so that nobody here can verify it: nothing to act upon.
    pub fn unverified(value: &[u8], keys: Option<&Keyring>) -> Option<Self> {
        let text = std::str::from_utf8(value).ok()?;
        let parts: Vec<&str> = text.split(';').map(str::trim).collect();
        let (mac, signed) = parts.split_last()?;
        let kid = signed.get(1)?.strip_prefix("kid=")?;
        let is_known = keys.is_some_and(|keys| keys.find(kid).is_some());
        let is_mac = mac.strip_prefix("mac=")?.len() == MAC_LETTERS;
        let (carry, ..) = Self::of_parts(signed)?;
        (is_mac && !is_known).then_some(carry)
    }

    /// The parts before the MAC, with the digests of reverse-path and Message-ID.
    fn of_parts<'a>(parts: &[&'a str]) -> Option<(Self, &'a str, &'a str)> {
        let &[
            "v=1",
            _,
            id,
            step,
            at,
            told,
            back,
            by,
            request,
            ref rest @ ..,
        ] = parts
        else {
            return None;
        };
        let (mtrk, from, msg) = match *rest {
            [from, msg] => (None, from, msg),
            [mtrk, from, msg] => (Some(mtrk.strip_prefix("mtrk=")?), from, msg),
            _ => return None,
        };
        let carry = Self {
            id: TrackingId::new(&decode(id.strip_prefix("id=")?)?)?,
            step: step.strip_prefix("step=")?.parse().ok()?,
            at_ms: at.strip_prefix("at=")?.parse().ok()?,
            told: told == "told=1",
            back_ms: Some(back.strip_prefix("back=")?.parse().ok()?).filter(|ms| *ms != 0),
            asker: Asker::of(by.strip_prefix("by=")?),
            request: TrackRequest::parse(request.strip_prefix("req=")?.as_bytes()).ok()?,
            mtrk: match mtrk {
                Some(value) => Some(Mtrk::parse(value.as_bytes())?),
                None => None,
            },
        };
        Some((
            carry,
            from.strip_prefix("from=")?,
            msg.strip_prefix("msg=")?,
        ))
    }
}

impl Opened {
    /// The field anew, for a message that the content filter hands back now; just as long as it was.
    pub fn returned(&self, now_ms: i64) -> Vec<u8> {
        let carry = Carry {
            back_ms: Some(now_ms),
            ..self.carry.clone()
        };
        carry.signed(&self.key, &self.from, &self.msg)
    }

    /// Too old (or from a clock too far ahead) to be honoured.
    pub fn expired(&self, now_ms: i64) -> bool {
        let age_ms = now_ms.saturating_sub(self.carry.at_ms);
        !(-CARRY_AHEAD_MS_MAX..=CARRY_AGE_MS_MAX).contains(&age_ms)
    }

    /// Whether the mail still has the reverse-path it was asked for; a list or a forward changes it.
    pub fn is_from(&self, reverse_path: &[u8]) -> bool {
        self.from == *self.key.digest(b"from", reverse_path)
    }

    /// Whether the header belongs to the message it was found in. One that binds no Message-ID belongs
    /// to any: an MTA may have added the id.
    pub fn is_of(&self, message_id: Option<&[u8]>) -> bool {
        self.msg == "-" || message_id.is_some_and(|id| self.msg == *self.key.digest(b"msg", id))
    }
}

impl Key {
    /// A key out of 32 random octets, named after 4 more.
    pub fn new(name: [u8; 4], octets: [u8; 32]) -> Self {
        Self::named(format!("{:08x}", u32::from_be_bytes(name)), octets)
    }

    /// Its name.
    pub fn id(&self) -> &str {
        &self.kid
    }

    /// Its line in a key file.
    pub fn to_line(&self) -> String {
        let hex: Vec<String> = self.octets.iter().map(|b| format!("{b:02x}")).collect();
        format!("{} {}\n", self.kid, hex.concat())
    }

    fn named(kid: String, octets: [u8; 32]) -> Self {
        // HMAC takes a key of any length (RFC 2104).
        #[allow(clippy::expect_used)]
        let keyed = Hmac::new_from_slice(&octets).expect("HMAC takes keys of any length");
        Self { kid, octets, keyed }
    }

    fn mac(&self, text: &[u8]) -> [u8; 32] {
        let keyed = self.keyed.clone().chain_update(text);
        keyed.finalize().into_bytes().into()
    }

    /// 128 bits are plenty for a comparison that already lies under the MAC. Case is folded: MTAs
    /// may lower-case a domain.
    fn digest(&self, what: &[u8], value: &[u8]) -> Letters<DIGEST_LETTERS> {
        let mut text = [what, b"\0", value].concat();
        text.make_ascii_lowercase();
        Letters::base64url(&self.mac(&text)[..16])
    }
}

impl Keyring {
    /// A ring of one key.
    pub fn of(key: Key) -> Self {
        Self { keys: vec![key] }
    }

    /// Reads the key file: a line `KID HEX64` for each key, the signing one first; blank lines and
    /// lines that start with `#` are skipped. The error names the line.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut keys = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let wrong = |why: &str| format!("line {}: {why}", number + 1);
            let key = parse_key(line)
                .ok_or_else(|| wrong("a key is 8 hex digits, a blank and 64 hex digits"))?;
            if keys.iter().any(|known: &Key| known.kid == key.kid) {
                return Err(wrong("another key has this name"));
            }
            keys.push(key);
        }
        if keys.is_empty() {
            Err("no key in it".to_owned())
        } else {
            Ok(Self { keys })
        }
    }

    /// The key that signs.
    pub fn signing(&self) -> &Key {
        &self.keys[0] // never empty: both constructors put one in
    }

    /// The names of all keys, the signing one's first.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.keys.iter().map(|key| key.kid.as_str())
    }

    fn find(&self, kid: &str) -> Option<&Key> {
        self.keys.iter().find(|key| key.kid == kid)
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.ids()).finish()
    }
}

fn parse_key(line: &str) -> Option<Key> {
    let (kid, hex) = line.split_once(' ')?;
    let hex = hex.trim();
    let is_hex = |text: &str| text.bytes().all(|b| b.is_ascii_hexdigit());
    if kid.len() != 8 || hex.len() != 64 || !is_hex(kid) || !is_hex(hex) {
        return None;
    }
    let mut octets = [0; 32];
    for (octet, pair) in octets.iter_mut().zip(hex.as_bytes().chunks(2)) {
        *octet = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(Key::named(kid.to_owned(), octets))
}

/// The tracking id without the blanks, semicolons and equal signs that the carry's own syntax uses,
/// escaped as `+HH` like xtext.
fn encode(id: &str) -> Cow<'_, str> {
    let special = |c: char| matches!(c, ' ' | ';' | '=' | '+');
    if !id.contains(special) {
        return Cow::Borrowed(id);
    }
    let mut escaped = String::with_capacity(id.len() + 8);
    for c in id.chars() {
        if special(c) {
            // Writing to a String cannot fail.
            let _ = write!(escaped, "+{:02X}", u32::from(c));
        } else {
            escaped.push(c);
        }
    }
    Cow::Owned(escaped)
}

fn decode(text: &str) -> Option<String> {
    let mut pieces = text.split('+');
    let mut out = pieces.next()?.to_owned();
    for piece in pieces {
        let octet = u8::from_str_radix(piece.get(..2)?, 16).ok()?;
        out.push(char::from(octet));
        out.push_str(piece.get(2..)?);
    }
    Some(out)
}

/// The field: its parts on lines of their own where one line is too short for them.
fn fold(parts: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(OCTETS_USUAL);
    out.extend_from_slice(CARRY.as_bytes());
    out.push(b':');
    let (mut start, mut column) = (0, out.len());
    let ends = memchr_iter(b';', parts.as_bytes());
    for end in ends.chain([parts.len()]) {
        let part = &parts.as_bytes()[start..end];
        if column + part.len() + 2 > LINE_OCTETS {
            out.extend_from_slice(b"\r\n");
            column = 0;
        }
        out.push(b' ');
        out.extend_from_slice(part);
        if end < parts.len() {
            out.push(b';');
        }
        (start, column) = (end + 1, column + part.len() + 2);
    }
    out.extend_from_slice(b"\r\n");
    out
}

#[cfg(test)]
mod tests;
