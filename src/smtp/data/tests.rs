//! The end of data and line ends in DATA, however the octets are cut.
#![allow(clippy::unwrap_used)]

use super::*;
use memchr::memmem;
use proptest::prelude::*;

/// What a caller gets out of a scanner.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Outcome {
    /// What is written, up to the first refusal; with the end mark once the end came.
    pub(super) out: Vec<u8>,
    bare: bool,
    /// Octets of input up to the end of data.
    pub(super) ended: Option<usize>,
}

/// Feeds the scanner as the proxy does, the input cut at `cuts`.
pub(super) fn run(policy: BareNewline, input: &[u8], cuts: &[usize]) -> Outcome {
    let mut scanner = Scanner::new(policy);
    let mut outcome = Outcome {
        out: Vec::new(),
        bare: false,
        ended: None,
    };
    let mut start = 0;
    let mut ends: Vec<usize> = cuts.iter().map(|cut| input.len().min(*cut)).collect();
    ends.push(input.len());
    ends.sort_unstable();
    for end in ends {
        while start < end && outcome.ended.is_none() {
            let (consumed, piece) = scanner.next(&input[start..end]);
            let write: &[u8] = match piece {
                Piece::Text(len) => &input[start..start + len],
                Piece::Insert(octets) => octets,
                Piece::Nothing => b"",
                Piece::End => b".\r\n",
                Piece::Bare => {
                    outcome.bare = true;
                    b""
                }
            };
            if !outcome.bare {
                outcome.out.extend_from_slice(write);
            }
            start += consumed;
            if piece == Piece::End {
                outcome.ended = Some(start);
            }
        }
    }
    outcome
}

fn normalized(input: &[u8]) -> Outcome {
    run(BareNewline::Normalize, input, &[])
}

/// Splits at line ends as a receiver sees them; the line ends are not part of the lines.
pub(super) fn lines(text: &[u8], lax: bool) -> Vec<Vec<u8>> {
    let mut lines = vec![Vec::new()];
    let mut rest = text;
    loop {
        let (octet, tail) = match rest {
            [] => return lines,
            [b'\r', b'\n', tail @ ..] => (None, tail),
            [b'\r' | b'\n', tail @ ..] if lax => (None, tail),
            [octet, tail @ ..] => (Some(*octet), tail),
        };
        match octet {
            Some(octet) => lines.last_mut().unwrap().push(octet),
            None => lines.push(Vec::new()),
        }
        rest = tail;
    }
}

/// The message as a receiver stores it, and what it takes for the next command.
pub(super) fn receive(
    sent: &[u8],
    lax: bool,
    seen: fn(&[u8]) -> Vec<u8>,
) -> Option<(Vec<u8>, Vec<Vec<u8>>)> {
    let lines: Vec<_> = lines(sent, lax).iter().map(|line| seen(line)).collect();
    let end = lines.iter().position(|line| line == b".")?;
    let content = lines[..end].iter().flat_map(|line| {
        let line = line.strip_prefix(b".").unwrap_or(line);
        [line, b"\r\n"].concat()
    });
    Some((content.collect(), lines[end + 1..].to_vec()))
}

pub(super) fn as_it_is(line: &[u8]) -> Vec<u8> {
    line.to_vec()
}

fn cut_at_nul(line: &[u8]) -> Vec<u8> {
    line.split(|b| *b == 0).next().unwrap_or_default().to_vec()
}

pub(super) fn without_nul(line: &[u8]) -> Vec<u8> {
    line.iter().filter(|b| **b != 0).copied().collect()
}

/// Every receiver, strict or lax, finds the end at our end and nothing behind it.
pub(super) fn assert_one_reading(out: &[u8]) {
    for lax in [false, true] {
        for seen in [as_it_is, cut_at_nul, without_nul] {
            let (_, behind) = receive(out, lax, seen).unwrap();
            assert_eq!(behind, vec![Vec::<u8>::new()], "{}", out.escape_ascii());
        }
    }
}

/// The published smuggling sequences.
pub(super) const SMUGGLING: [&[u8]; 12] = [
    b"\n.\n",
    b"\n.\r",
    b"\r.\n",
    b"\r.\r",
    b"\n.\r\n",
    b"\r.\r\n",
    b"\r\n.\n",
    b"\r\n.\r",
    b"\r\n\0.\r\n",
    b"\r\n.\0\r\n",
    b"\r\n.\r\r\n",
    b"\r\r\n.\r\r\n",
];

#[test]
fn no_published_sequence_ends_the_data() {
    for sequence in SMUGGLING {
        let input = [
            b"Subject: x\r\n\r\nhi",
            sequence,
            b"MAIL FROM:<evil@a.test>\r\nRCPT TO:<b@b.test>\r\nDATA\r\nspoof\r\n.\r\n",
        ]
        .concat();
        let whole = normalized(&input);
        assert_eq!(
            whole.ended,
            Some(input.len()),
            "{}",
            sequence.escape_ascii()
        );
        assert_one_reading(&whole.out);
        let strict = run(BareNewline::Reject, &input, &[]);
        assert_eq!(strict.ended, Some(input.len()));
        assert_eq!(
            strict.bare,
            !sequence.contains(&0),
            "{}",
            sequence.escape_ascii()
        );
        for cut in 0..input.len() {
            assert_eq!(run(BareNewline::Normalize, &input, &[cut]), whole);
            assert_eq!(run(BareNewline::Reject, &input, &[cut]), strict);
        }
    }
}

#[test]
fn clean_text_passes_as_one_piece() {
    let text = b"Subject: x\r\n\r\n..stuffed\r\n.odd\r\n\r\nend\r\n";
    let mut scanner = Scanner::new(BareNewline::Normalize);
    assert_eq!(scanner.next(text), (text.len(), Piece::Text(text.len())));
    assert_eq!(scanner.next(b".\r\nQUIT\r\n"), (1, Piece::Nothing));
    assert_eq!(scanner.next(b"\r\nQUIT\r\n"), (1, Piece::Nothing));
    assert_eq!(scanner.next(b"\nQUIT\r\n"), (1, Piece::End));
    assert_eq!(scanner.next(b"QUIT\r\n"), (0, Piece::End));
    assert_eq!(scanner.next(b""), (0, Piece::Nothing));
}

#[test]
fn the_empty_message_ends_at_once() {
    let outcome = normalized(b".\r\nQUIT\r\n");
    assert_eq!(outcome.out, b".\r\n");
    assert_eq!(outcome.ended, Some(3));
}

#[test]
fn line_ends_become_crlf_and_dots_stay_text() {
    for (input, expected) in [
        ("a\nb\r\n", "a\r\nb\r\n"),
        ("a\rb\r\n", "a\r\nb\r\n"),
        ("a\r\r\n", "a\r\n\r\n"),
        ("a\n\r\n", "a\r\n\r\n"),
        // A dot that only starts a line now is stuffed.
        ("a\n.b\r\n", "a\r\n..b\r\n"),
        ("a\n..b\r\n", "a\r\n...b\r\n"),
        ("a\r.\r\n", "a\r\n..\r\n"),
        // A stuffing dot before a lone line end was no text.
        (".\nb\r\n", "\r\nb\r\n"),
        (".\rb\r\n", "\r\nb\r\n"),
        (".\r\r\n", "\r\n\r\n"),
        (".\n.\r\n", "\r\n..\r\n"),
        ("..\nb\r\n", "..\r\nb\r\n"),
        // NULs: no line is a single dot once they are dropped or cut at.
        ("\0.\r\n", "\0..\r\n"),
        (".\0.\r\n", "\0..\r\n"),
        ("\0\0a.\r\n", "\0\0a.\r\n"),
        ("a\0.\r\n", "a\0.\r\n"),
    ] {
        let input = format!("{input}.\r\n");
        let outcome = normalized(input.as_bytes());
        assert_eq!(outcome.ended, Some(input.len()), "{input:?}");
        let out = String::from_utf8(outcome.out).unwrap();
        assert_eq!(out, format!("{expected}.\r\n"), "{input:?}");
    }
}

/// Each stands alone in a text that is plain but for it: within a block, and across where one ends and the next begins.
#[test]
fn nothing_odd_hides_in_a_block() {
    let odd = [
        "\n",
        "\r",
        "\0",
        "\r\n.",
        "\r\n..",
        "\r\n\0",
        "\r\n\0.",
        "\r\n\0\0.\r\n",
        "\r\n.\0",
        "\r\n.\r",
        "\n.\n",
        "\r.\r",
        "\r\r\n",
        "\r\n.\r\n",
    ];
    for odd in odd {
        let places = (0..4).chain(100..104).chain(BLOCK - 8..BLOCK + 8);
        for at in places {
            let plain = |len| "x".repeat(len);
            let input = [&plain(at), odd, &plain(2 * BLOCK), "\r\n"].concat();
            let every: Vec<usize> = (0..input.len()).collect();
            for policy in [BareNewline::Normalize, BareNewline::Reject] {
                assert_eq!(
                    run(policy, input.as_bytes(), &every),
                    run(policy, input.as_bytes(), &[]),
                    "{odd:?} at {at}"
                );
            }
        }
    }
}

#[test]
fn rejection_still_finds_the_end() {
    let outcome = run(BareNewline::Reject, b"a\nb\n.\r\nc\r\n.\r\nQUIT\r\n", &[]);
    assert!(outcome.bare);
    assert_eq!(outcome.ended, Some(13));
    assert_eq!(outcome.out, b"a");
}

#[test]
fn policies_are_words() {
    #[derive(Deserialize)]
    struct Config {
        bare_newline: BareNewline,
    }
    let policy = |word: &str| {
        toml::from_str::<Config>(&format!("bare_newline = {word:?}")).map(|c| c.bare_newline)
    };
    assert_eq!(policy("reject"), Ok(BareNewline::Reject));
    assert_eq!(policy("normalize"), Ok(BareNewline::default()));
    assert!(policy("Reject").is_err());
}

#[test]
fn a_field_goes_before_a_field_or_an_empty_line() {
    for sound in [
        "Subject: x\r\n",
        "x-odd!:\r\n",
        "Subject \t: x\r\n",
        "\r\nbody",
        // More may come.
        "",
    ] {
        assert!(takes_field_before(sound.as_bytes()), "{sound:?}");
    }
    for unsound in [
        " folded: x\r\n",
        "\t",
        "From alice@origin.test Mon Nov 23 16:05:09 2026\r\nTo: x\r\n",
        ">From alice\r\n",
        "text\r\nSubject: x\r\n",
        ": x\r\n",
        "\r",
        "Subj",
        "J\u{fc}rgen: x\r\n",
    ] {
        assert!(!takes_field_before(unsound.as_bytes()), "{unsound:?}");
    }
}

#[test]
fn the_header_ends_at_the_empty_line() {
    assert_eq!(header_end(b"\r\nbody\r\n\r\n"), Some(2));
    assert_eq!(header_end(b"A: b\r\n\r\nbody"), Some(8));
    assert_eq!(header_end(b"A: b\r\n\r"), None);
    assert_eq!(header_end(b""), None);
}

#[test]
fn fields_keep_their_folded_lines() {
    let fields = |block: &'static str| -> Vec<&'static str> {
        header_fields(block.as_bytes())
            .map(|span| &block[span])
            .collect()
    };
    assert_eq!(
        fields(" odd\r\nA: b\r\n\tc\r\n d\r\nE:f\r\nno field\r\n\r\nbody: x\r\n"),
        [
            " odd\r\n",
            "A: b\r\n\tc\r\n d\r\n",
            "E:f\r\n",
            "no field\r\n"
        ]
    );
    assert_eq!(fields("A: b\r\n c"), ["A: b\r\n c"]);
    assert_eq!(fields("A: b"), ["A: b"]);
    assert_eq!(fields("\r\nbody"), [""; 0]);
    assert_eq!(fields(""), [""; 0]);
}

/// The text a client meant, by the plainest reading: lines end at CRLF, a leading dot is no text, and lone
/// line ends become CRLF afterwards. `None` before the end of data.
fn meant(input: &[u8]) -> Option<Vec<u8>> {
    let (content, _) = receive(input, false, as_it_is)?;
    let lines: Vec<Vec<u8>> = lines(&content, true);
    Some(lines.join(&b"\r\n"[..]))
}

pub(super) fn hostile() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(
        prop_oneof![4 => Just(b'\r'), 4 => Just(b'\n'), 4 => Just(b'.'), 2 => Just(b'a'), 1 => Just(0)],
        0..24,
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn the_split_makes_no_difference(
        input in hostile(),
        cuts in proptest::collection::vec(0usize..24, 0..24),
        reject: bool,
    ) {
        let policy = if reject { BareNewline::Reject } else { BareNewline::Normalize };
        prop_assert_eq!(run(policy, &input, &cuts), run(policy, &input, &[]));
    }

    #[test]
    fn there_is_one_reading(text in hostile()) {
        let outcome = normalized(&[text, b"\r\n.\r\n".to_vec()].concat());
        prop_assert!(outcome.ended.is_some());
        assert_one_reading(&outcome.out);
    }

    #[test]
    fn the_receiver_gets_what_the_client_meant(text in hostile()) {
        let text = without_nul(&text);
        let outcome = normalized(&[&text[..], b"\r\n.\r\n"].concat());
        let input = [&text[..], b"\r\n.\r\n"].concat();
        let (content, _) = receive(&outcome.out, false, as_it_is).unwrap();
        prop_assert_eq!(content, meant(&input).unwrap());
    }

    #[test]
    fn text_without_lone_line_ends_passes_unchanged(
        lines in proptest::collection::vec("([a.][a.]|a[a.]{0,4})?", 0..8),
        cuts in proptest::collection::vec(0usize..40, 0..6),
    ) {
        let text: String = lines.iter().flat_map(|line| [line.as_str(), "\r\n"]).collect();
        let input = format!("{text}.\r\nNOOP\r\n");
        for policy in [BareNewline::Normalize, BareNewline::Reject] {
            let outcome = run(policy, input.as_bytes(), &cuts);
            prop_assert_eq!(&outcome.out, &input.as_bytes()[..text.len() + 3]);
            prop_assert_eq!(outcome.ended, Some(text.len() + 3));
            prop_assert!(!outcome.bare);
        }
    }

    #[test]
    fn any_octets_are_looked_at(input in proptest::collection::vec(any::<u8>(), 0..200)) {
        let outcome = normalized(&input);
        let strict_end = input.starts_with(b".\r\n").then_some(3)
            .or_else(|| memmem::find(&input, b"\r\n.\r\n").map(|at| at + 5));
        prop_assert_eq!(outcome.ended, strict_end);
    }

    /// Long text is looked at in blocks, octets that come one by one are not.
    #[test]
    fn a_block_is_seen_as_its_octets_are(
        lines in proptest::collection::vec("[a.]{0,60}\r\n", 8..20),
        odd in hostile(),
        at in 0usize..600,
    ) {
        let mut input = lines.concat().into_bytes();
        let at = at.min(input.len());
        input.splice(at..at, odd);
        let every: Vec<usize> = (0..input.len()).collect();
        for policy in [BareNewline::Normalize, BareNewline::Reject] {
            prop_assert_eq!(run(policy, &input, &every), run(policy, &input, &[]));
        }
    }

    /// Fields in order cover the whole block.
    #[test]
    fn fields_cover_the_block(block in "[a: \r\n]{0,30}") {
        let end = header_end(block.as_bytes()).map_or(block.len(), |end| end - 2);
        let mut at = 0;
        for span in header_fields(block.as_bytes()) {
            prop_assert_eq!(span.start, at);
            prop_assert!(span.end > at);
            at = span.end;
        }
        prop_assert_eq!(at, end);
    }
}
