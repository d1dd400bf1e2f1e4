//! Octets and numbers as letters, made where they stand: every tracked message has a dozen of them in its carry header,
//! its log line and its step on record.

use std::fmt;
use std::ops::Deref;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// So many letters of ASCII, a `str` that needs no room of its own.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Letters<const N: usize>([u8; N]);

impl<const N: usize> Letters<N> {
    /// The last digits of a number, in lower-case hex.
    pub(super) fn hex(mut number: u128) -> Self {
        let mut letters = [b'0'; N];
        for letter in letters.iter_mut().rev() {
            *letter = b"0123456789abcdef"[(number % 16) as usize];
            number /= 16;
        }
        Self(letters)
    }

    /// The last digits of a number, in decimal.
    pub(super) fn decimal(mut number: u64) -> Self {
        let mut letters = [b'0'; N];
        for letter in letters.iter_mut().rev() {
            *letter = b"0123456789"[(number % 10) as usize];
            number /= 10;
        }
        Self(letters)
    }

    /// Octets in base64url, unpadded; there must be as many as take that many letters.
    pub(super) fn base64url(octets: &[u8]) -> Self {
        let mut letters = [b'A'; N];
        let written = URL_SAFE_NO_PAD.encode_slice(octets, &mut letters);
        debug_assert_eq!(written, Ok(N));
        Self(letters)
    }
}

impl<const N: usize> Deref for Letters<N> {
    type Target = str;
    fn deref(&self) -> &str {
        // Never anything but ASCII.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl<const N: usize> fmt::Display for Letters<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_all_their_digits_and_no_more() {
        assert_eq!(
            &*Letters::<16>::hex(0x0123_4567_89ab_cdef),
            "0123456789abcdef"
        );
        assert_eq!(&*Letters::<16>::hex(u64::MAX.into()), "ffffffffffffffff");
        assert_eq!(&*Letters::<32>::hex(0xa), format!("{:032x}", 0xa));
        assert_eq!(&*Letters::<2>::hex(0x1f0), "f0");
        assert_eq!(&*Letters::<13>::decimal(1_795_478_400_000), "1795478400000");
        assert_eq!(&*Letters::<13>::decimal(42), "0000000000042");
    }

    #[test]
    fn octets_are_as_base64url_has_them() {
        assert_eq!(&*Letters::<4>::base64url(&[0xfb, 0xff, 0xfe]), "-__-");
        assert_eq!(&*Letters::<2>::base64url(&[7]), "Bw");
        assert_eq!(
            Letters::<43>::base64url(&[9; 32]).to_string(),
            ["CQkJ"; 10].concat() + "CQk"
        );
    }
}
