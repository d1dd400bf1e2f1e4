//! xtext (RFC 3461, 4): how printable and other octets stand in ENVID and ORCPT.

use std::fmt::Write;

/// Text that is not xtext.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not xtext: octet {at} is wrong")]
pub struct XtextError {
    /// Where, counted from 0.
    pub at: usize,
}

/// Writes any octets as xtext.
pub fn encode(octets: &[u8]) -> String {
    let mut text = String::with_capacity(octets.len());
    for octet in octets {
        if is_xchar(*octet) {
            text.push(char::from(*octet));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(text, "+{octet:02X}");
        }
    }
    text
}

/// Reads xtext strictly: hex digits in upper case, nothing that should have been encoded.
///
/// The result may hold CR, LF or NUL; for anything that goes into a line take [`decode_printable`].
pub fn decode(text: &[u8]) -> Result<Vec<u8>, XtextError> {
    let mut octets = Vec::with_capacity(text.len());
    let mut rest = text;
    loop {
        let (octet, tail) = match rest {
            [] => return Ok(octets),
            [b'+', high, low, tail @ ..] => (hex_pair(*high, *low), tail),
            [octet, tail @ ..] => (is_xchar(*octet).then_some(*octet), tail),
        };
        let at = text.len() - rest.len();
        octets.push(octet.ok_or(XtextError { at })?);
        rest = tail;
    }
}

/// Reads xtext that must come out as printable ASCII (blank included), fit for a line of our own.
pub fn decode_printable(text: &[u8]) -> Option<String> {
    let octets = decode(text).ok()?;
    let printable = octets.iter().all(|b| (b' '..=b'~').contains(b));
    printable.then(|| String::from_utf8(octets).ok()).flatten()
}

fn is_xchar(octet: u8) -> bool {
    octet.is_ascii_graphic() && octet != b'+' && octet != b'='
}

fn hex_pair(high: u8, low: u8) -> Option<u8> {
    Some(hex(high)? * 16 + hex(low)?)
}

fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_and_writes_the_forms_of_rfc_3461() {
        assert_eq!(encode(b"a+b=c d\xff~!"), "a+2Bb+3Dc+20d+FF~!");
        assert_eq!(decode(b"a+2Bb+3Dc").as_deref(), Ok(&b"a+b=c"[..]));
        assert_eq!(decode(b""), Ok(Vec::new()));
    }

    #[test]
    fn is_strict() {
        let cases: [(&[u8], usize); 9] = [
            (b"a+zzb", 1),
            (b"a+2bc", 1),
            (b"a+2", 1),
            (b"a+", 1),
            (b"+", 0),
            (b"ab=c", 2),
            (b"a b", 1),
            (b"a\rb", 1),
            (b"\xc3\xa9", 0),
        ];
        for (text, at) in cases {
            assert_eq!(decode(text), Err(XtextError { at }), "{text:?}");
        }
    }

    #[test]
    fn a_hidden_line_end_is_no_printable_text() {
        assert_eq!(decode(b"x+0D+0ABcc:y").as_deref(), Ok(&b"x\r\nBcc:y"[..]));
        assert_eq!(decode_printable(b"x+0D+0ABcc:y"), None);
        assert_eq!(decode_printable(b"x+00"), None);
        assert_eq!(decode_printable(b"x+7F"), None);
        assert_eq!(decode_printable(b"x+C3+A9"), None);
        assert_eq!(decode_printable(b"a+20b"), Some("a b".to_owned()));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(octets in proptest::collection::vec(any::<u8>(), 0..40)) {
            prop_assert_eq!(decode(encode(&octets).as_bytes()), Ok(octets));
        }

        /// Total, and what was read means the same when it is written again.
        #[test]
        fn reading_is_total(text in "[+=0-9A-Fa-f\r ~]{0,12}") {
            if let Ok(octets) = decode(text.as_bytes()) {
                prop_assert!(encode(&octets).len() <= text.len());
                prop_assert_eq!(decode(encode(&octets).as_bytes()), Ok(octets));
            }
        }
    }
}
