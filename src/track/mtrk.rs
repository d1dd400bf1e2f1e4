//! MTRK (RFC 3885): the standard's request that a message can be asked after, beside TRACK's that hops tell of it
//! by themselves. hoptrail answers no such queries; it sees to it that the request reaches servers that do.
//!
//! ```text
//! MTRK=VheLhqV/rCKJmplkGFwsyW59pYk:864000      certifier, and for how long to remember, s
//! ```
//!
//! - An MTA that offers MTRK gets it as it was written, and what becomes of it is that MTA's business.
//! - Before any other MTA that knows DSN an ingress offers MTRK where it offers TRACK, and takes the parameter off
//!   MAIL. It crosses the MTA in the carry header, so with a message that is tracked and has an ENVID. Of a message
//!   without TRACK, which has no carry header, nobody hears it: the MTA would have had to delete it (3.3).
//! - Egress and delivery give it to a next hop that offers MTRK, its timeout less the time the message was at this
//!   hop, and not at all once that has run out; never for a member of an alias or a list. They offer it too, and
//!   pass on what their client says.
//!
//! Must not know SMTP beyond the value, nor who offers what.

use std::fmt;

/// Longest certifier that is taken, characters; the SHA-1 of RFC 3885 has 27.
const CERTIFIER_CHARS_MAX: usize = 86;
/// RFC 3885, 2: `1*9DIGIT`.
const TIMEOUT_DIGITS_MAX: usize = 9;

/// The value of MTRK.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mtrk {
    certifier: String,
    timeout_s: Option<u32>,
}

impl Mtrk {
    /// Reads the value; `None` if it is malformed.
    pub fn parse(value: &[u8]) -> Option<Self> {
        let value = std::str::from_utf8(value).ok()?;
        let (certifier, timeout) = match value.split_once(':') {
            Some((certifier, timeout)) => (certifier, Some(timeout)),
            None => (value, None),
        };
        let base64 = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/');
        let known = (1..=CERTIFIER_CHARS_MAX).contains(&certifier.len());
        (known && certifier.bytes().all(base64)).then_some(())?;
        Some(Self {
            certifier: certifier.to_owned(),
            timeout_s: match timeout {
                Some(digits) => Some(seconds(digits)?),
                None => None,
            },
        })
    }

    /// What is left of it after so many seconds; `None` when its time has run out.
    pub fn after(&self, elapsed_s: u64) -> Option<Self> {
        let timeout_s = match self.timeout_s {
            Some(timeout_s) => {
                let left_s = u64::from(timeout_s).saturating_sub(elapsed_s);
                Some(u32::try_from(left_s).ok().filter(|left_s| *left_s > 0)?)
            }
            None => None,
        };
        Some(Self {
            timeout_s,
            ..self.clone()
        })
    }
}

impl fmt::Display for Mtrk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.certifier)?;
        match self.timeout_s {
            Some(timeout_s) => write!(f, ":{timeout_s}"),
            None => Ok(()),
        }
    }
}

fn seconds(digits: &str) -> Option<u32> {
    let sound = (1..=TIMEOUT_DIGITS_MAX).contains(&digits.len())
        && digits.bytes().all(|b| b.is_ascii_digit());
    sound.then(|| digits.parse().ok())?
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    /// The certifier of the octets 00..0f.
    const CERTIFIER: &str = "VheLhqV/rCKJmplkGFwsyW59pYk";

    #[test]
    fn what_rfc_3885_allows_is_read_and_nothing_else() {
        for good in [
            CERTIFIER.to_owned(),
            format!("{CERTIFIER}:864000"),
            "a".to_owned(),
            "+/:0".to_owned(),
        ] {
            assert_eq!(Mtrk::parse(good.as_bytes()).unwrap().to_string(), good);
        }
        assert_eq!(
            Mtrk::parse(b"abc:007").unwrap().to_string(),
            "abc:7",
            "digits, however many"
        );
        for bad in [
            "",
            ":1",
            "abc:",
            "abc:1234567890",
            "abc:+1",
            "abc:1:2",
            "ab=c",
            "a-_c",
            "a c",
            "\u{e9}",
            &"a".repeat(87),
        ] {
            assert_eq!(Mtrk::parse(bad.as_bytes()), None, "{bad:?}");
        }
    }

    #[test]
    fn time_runs_out() {
        let mtrk = |value: &str| Mtrk::parse(value.as_bytes()).unwrap();
        assert_eq!(mtrk("a:60").after(59), Some(mtrk("a:1")));
        for (value, elapsed_s) in [("a:60", 60), ("a:60", u64::MAX), ("a:0", 0)] {
            assert_eq!(mtrk(value).after(elapsed_s), None, "{value}");
        }
        assert_eq!(mtrk("a").after(u64::MAX), Some(mtrk("a")));
    }

    proptest! {
        #[test]
        fn any_octets_are_judged(value in any::<Vec<u8>>()) {
            if let Some(mtrk) = Mtrk::parse(&value) {
                prop_assert_eq!(Mtrk::parse(mtrk.to_string().as_bytes()), Some(mtrk));
            }
        }
    }
}
