//! Which signatures are looked at, and the text behind the stuffed dots. Whether they hold is asked of real name
//! servers, in tests/strangers.rs.

use proptest::prelude::*;

use super::*;

fn signature(domain: &str, more: &str) -> String {
    format!(
        "DKIM-Signature: v=1; a=rsa-sha256; d={domain}; s=s; h=Subject:From; bh=YQ==; b=YQ==; {more}\r\n"
    )
}

/// How many signatures of such a header block are looked at for a reverse-path in example.net.
fn looked_at(header: &str) -> usize {
    let header = format!("{header}From: a@example.net\r\n\r\n");
    aligned(header.as_bytes(), "news.example.net").map_or(0, |message| message.dkim_headers.len())
}

#[test]
fn only_what_may_speak_for_the_reverse_path_is_looked_at() {
    for (domain, more, counts) in [
        ("news.example.net", "", true),
        ("example.net", "", true),
        ("EXAMPLE.net", "i=@news.example.net", true),
        ("net", "", false),
        ("deep.news.example.net", "", false),
        ("s.example.net", "", false),
        ("ews.example.net", "", false),
        ("example.net", "i=@example.org", false),
        ("example.net", "h=Subject:Date", false),
        ("example.net", "a=rsa-sha1", false),
        ("example.net", "l=10", false),
    ] {
        let found = looked_at(&signature(domain, more));
        assert_eq!(found, usize::from(counts), "{domain} {more}");
    }
}

#[test]
fn so_many_and_no_more() {
    assert_eq!(
        looked_at(&signature("example.net", "").repeat(100)),
        SIGNATURES_MAX
    );
    assert_eq!(looked_at(""), 0);
}

proptest! {
    /// However the octets come, the text is what RFC 5321, 4.5.2 says.
    #[test]
    fn dots_are_undone_at_any_split(
        lines in proptest::collection::vec("[.a\r]{0,4}", 0..8),
        cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..6),
        dotted in any::<bool>(),
    ) {
        let text: String = lines.iter().flat_map(|line| [line.as_str(), "\n"]).collect();
        let stuff = |line: &String| {
            let dot = if dotted && line.starts_with('.') { "." } else { "" };
            format!("{dot}{line}\n")
        };
        let wire: String = lines.iter().map(stuff).collect();
        let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(wire.len() + 1)).collect();
        places.extend([0, wire.len()]);
        places.sort_unstable();
        let mut stuffing = Stuffing { dotted, at_line_start: true };
        let mut undone = Vec::new();
        for piece in places.windows(2) {
            stuffing.undo(&wire.as_bytes()[piece[0]..piece[1]], |text| undone.extend_from_slice(text));
        }
        prop_assert_eq!(undone, text.into_bytes());
    }

    /// A body that streams by has the hash it would have in one piece.
    #[test]
    fn any_body_is_hashed_at_any_split(
        body in "[ \t\r\na]{0,60}",
        at in any::<prop::sample::Index>(),
    ) {
        let at = at.index(body.len() + 1);
        for how in [Canonicalization::Relaxed, Canonicalization::Simple] {
            let stuffing = Stuffing { dotted: false, at_line_start: true };
            let mut digest = Digest::of([how].into_iter(), stuffing);
            digest.take(&body.as_bytes()[..at]);
            digest.take(&body.as_bytes()[at..]);
            let whole = HashAlgorithm::Sha256.hash(how.canonical_body(body.as_bytes(), 0));
            prop_assert_eq!(&digest.finish()[0].3, whole.as_ref());
        }
    }

    #[test]
    fn any_header_is_survived(octets in proptest::collection::vec(any::<u8>(), 0..300)) {
        let header = [b"DKIM-Signature: v=1; d=example.net; ", octets.as_slice()].concat();
        let _ = aligned(&header, "example.net");
    }
}
