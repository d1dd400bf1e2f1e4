//! Where a line ends: at CRLF and nowhere else (RFC 5321, 2.3.8). Knows nothing of what a line says.

use memchr::memchr2;

/// What stands at the start of a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    /// A whole line.
    Complete {
        /// Its octets, CRLF included.
        len: usize,
    },
    /// The line's end has not come yet.
    Partial,
    /// The line cannot end within the octets allowed.
    TooLong,
    /// A lone LF or CR stands before the line's end.
    Bare,
}

/// Looks at the line that starts `buf`; with its CRLF it may have `octets_max` octets.
///
/// A CR as the last octet that came is still [`Line::Partial`]: its LF may be under way.
pub fn next_line(buf: &[u8], octets_max: usize) -> Line {
    let allowed = buf.get(..octets_max).unwrap_or(buf);
    let unfinished = if buf.len() < octets_max {
        Line::Partial
    } else {
        Line::TooLong
    };
    let Some(at) = memchr2(b'\r', b'\n', allowed) else {
        return unfinished;
    };
    match &allowed[at..] {
        [b'\r', b'\n', ..] => Line::Complete { len: at + 2 },
        [b'\r'] => unfinished,
        _ => Line::Bare,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_crlf_ends_a_line() {
        let complete = |len| Line::Complete { len };
        for (buf, expected) in [
            ("", Line::Partial),
            ("NOOP", Line::Partial),
            ("NOOP\r", Line::Partial),
            ("\r\n", complete(2)),
            ("NOOP\r\nQUIT\r\n", complete(6)),
            ("NOOP\n", Line::Bare),
            ("NOOP\nQUIT\r\n", Line::Bare),
            ("NO\rOP\r\n", Line::Bare),
            ("NOOP\r\r\n", Line::Bare),
            ("\n", Line::Bare),
        ] {
            assert_eq!(next_line(buf.as_bytes(), 100), expected, "{buf:?}");
        }
    }

    #[test]
    fn the_limit_counts_the_crlf() {
        assert_eq!(next_line(b"NOOP\r\n", 6), Line::Complete { len: 6 });
        assert_eq!(next_line(b"NOOP\r\n", 5), Line::TooLong);
        assert_eq!(next_line(b"NOOP\r", 5), Line::TooLong);
        assert_eq!(next_line(b"NOOPS", 6), Line::Partial);
        assert_eq!(next_line(b"NOOPSS", 6), Line::TooLong);
        assert_eq!(next_line(b"NOOPSS\n", 6), Line::TooLong);
        assert_eq!(next_line(b"", 0), Line::TooLong);
    }

    proptest! {
        /// Waiting for more octets never changes a verdict that was given.
        #[test]
        fn verdicts_are_final(buf in "[a\r\n]{0,12}", octets_max in 0usize..12) {
            let whole = next_line(buf.as_bytes(), octets_max);
            for end in 0..buf.len() {
                let early = next_line(&buf.as_bytes()[..end], octets_max);
                prop_assert!(early == Line::Partial || early == whole);
            }
        }
    }
}
