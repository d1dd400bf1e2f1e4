//! From chunks to the text behind DATA, however they are cut.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::super::tests::{
    SMUGGLING, as_it_is, assert_one_reading, hostile, lines, receive, run, without_nul,
};
use super::*;

/// Stuffs octets that come in chunks cut at `cuts`.
fn stuffed(policy: BareNewline, octets: &[u8], cuts: &[usize]) -> Result<Vec<u8>, Bare> {
    let mut stuffer = Stuffer::new(policy);
    let mut out = Vec::new();
    let mut ends: Vec<usize> = cuts.iter().map(|cut| octets.len().min(*cut)).collect();
    ends.push(octets.len());
    ends.sort_unstable();
    let mut start = 0;
    for end in ends {
        stuffer.stuff(&octets[start..end], &mut out)?;
        start = end;
    }
    stuffer.end(&mut out)?;
    Ok(out)
}

/// The octets as text: every line end is CRLF, and the last line has one.
fn as_text(octets: &[u8]) -> Vec<u8> {
    let mut lines = lines(octets, true);
    if lines.last().is_some_and(Vec::is_empty) {
        lines.pop();
    }
    let ended = lines.iter().map(|line| [line, &b"\r\n"[..]].concat());
    ended.collect::<Vec<_>>().concat()
}

#[test]
fn chunks_become_text_behind_data() {
    for (octets, expected) in [
        ("", ""),
        ("a", "a\r\n"),
        ("a\r\n", "a\r\n"),
        (".", "..\r\n"),
        (".a\r\n..\r\na.", "..a\r\n...\r\na.\r\n"),
        ("a\n.\n", "a\r\n..\r\n"),
        ("a\r.\r\r\n", "a\r\n..\r\n\r\n"),
        ("a\r", "a\r\n"),
        ("a\n\r", "a\r\n\r\n"),
        // NULs: no line is a single dot once they are dropped or cut at.
        ("\0.\r\n.\0\r\n\0", "\0..\r\n..\0\r\n\0\r\n"),
    ] {
        let out = stuffed(BareNewline::Normalize, octets.as_bytes(), &[]).unwrap();
        let expected = format!("{expected}.\r\n");
        assert_eq!(String::from_utf8(out).unwrap(), expected, "{octets:?}");
    }
    for bare in ["a\nb", "a\rb", "a\r", "\n", "a\r\r\n"] {
        assert_eq!(
            stuffed(BareNewline::Reject, bare.as_bytes(), &[]),
            Err(Bare),
            "{bare:?}"
        );
    }
}

#[test]
fn no_published_sequence_in_a_chunk_ends_the_data() {
    for sequence in SMUGGLING {
        for tail in [&b""[..], b"MAIL FROM:<evil@a.test>\r\n", b"\r\n.\r\nQUIT"] {
            let octets = [b"Subject: x\r\n\r\nhi", sequence, tail].concat();
            let out = stuffed(BareNewline::Normalize, &octets, &[]).unwrap();
            assert_one_reading(&out);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Whatever is in the chunks and however they are cut, the next hop finds one end of data, at the end,
    /// and in front of it what came.
    #[test]
    fn chunks_go_whole_through_data(
        octets in prop_oneof![hostile(), proptest::collection::vec(any::<u8>(), 0..200)],
        cuts in proptest::collection::vec(0usize..200, 0..24),
    ) {
        let out = stuffed(BareNewline::Normalize, &octets, &cuts).unwrap();
        assert_one_reading(&out);
        prop_assert_eq!(&out, &stuffed(BareNewline::Normalize, &octets, &[]).unwrap());
        let octets = without_nul(&octets);
        let out = stuffed(BareNewline::Normalize, &octets, &cuts).unwrap();
        let (content, _) = receive(&out, false, as_it_is).unwrap();
        prop_assert_eq!(content, as_text(&octets));
        // The next hoptrail passes it as it is.
        let passed = run(BareNewline::Reject, &out, &cuts);
        prop_assert_eq!((&passed.out, passed.ended), (&out, Some(out.len())));
    }

    /// Where lone line ends are refused, all that passes is what came.
    #[test]
    fn refused_chunks_are_those_with_lone_line_ends(
        octets in hostile(),
        cuts in proptest::collection::vec(0usize..24, 0..24),
    ) {
        let bare = lines(&octets, true) != lines(&octets, false);
        let strict = stuffed(BareNewline::Reject, &octets, &cuts);
        let normal = stuffed(BareNewline::Normalize, &octets, &[]).unwrap();
        prop_assert_eq!(strict, if bare { Err(Bare) } else { Ok(normal) });
    }
}
