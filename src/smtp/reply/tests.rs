//! Replies of one line and of many, whole or in pieces.
#![allow(clippy::panic)]

use super::*;
use proptest::prelude::*;

fn reply(raw: &str) -> Reply {
    match Reply::next(raw.as_bytes(), 4096) {
        ReplyParse::Complete { reply, len } => {
            assert_eq!(len, raw.len());
            reply
        }
        other => panic!("{raw:?}: {other:?}"),
    }
}

fn refused(raw: &str) -> ReplyParse {
    Reply::next(raw.as_bytes(), 4096)
}

#[test]
fn replies_follow_each_other() {
    let buf = b"250-a\r\n250 b\r\n354 go\r\n";
    let first = Reply {
        code: 250,
        raw: b"250-a\r\n250 b\r\n".to_vec(),
    };
    let len = first.raw().len();
    assert_eq!(
        Reply::next(buf, 4096),
        ReplyParse::Complete { reply: first, len }
    );
    assert_eq!(Reply::next(&buf[len..], 4096), {
        let reply = Reply::new(354, "", "go");
        ReplyParse::Complete { reply, len: 8 }
    });
}

#[test]
fn a_reader_starts_again_behind_a_reply() {
    let mut reader = ReplyReader::default();
    assert_eq!(reader.next(b"250-a\r\n25", 4096), ReplyParse::Partial);
    for raw in ["250-a\r\n250 b\r\n", "354 go\r\n", "250 c\r\n"] {
        let expected = ReplyParse::Complete {
            reply: reply(raw),
            len: raw.len(),
        };
        assert_eq!(reader.next(raw.as_bytes(), 4096), expected);
    }
}

#[test]
fn lines_are_told_apart() {
    let reply = reply("250-mx\r\n250-\r\n250-A b\r\n250\r\n");
    let lines: Vec<&[u8]> = reply.lines().collect();
    assert_eq!(lines, [&b"mx"[..], b"", b"A b", b""]);
    assert_eq!(reply.raw(), b"250-mx\r\n250-\r\n250-A b\r\n250\r\n");
}

#[test]
fn a_bare_code_is_a_reply() {
    assert_eq!(reply("354\r\n").code, 354);
    assert_eq!(reply("571 no\r\n").class(), 5);
}

/// As Postfix, Sendmail and curl have it. Exim goes by the first, so what we answer ourselves bears one.
#[test]
fn of_lines_with_different_codes_the_last_counts() {
    for (came, code, text, one) in [
        ("250-a\r\n251 b\r\n", 251, "251 a b", "251-a\r\n251 b\r\n"),
        ("550-a\r\n250 b\r\n", 250, "250 a b", "250-a\r\n250 b\r\n"),
        (
            "250-a\r\n550-\n451\r\n",
            451,
            "451 a",
            "451-a\r\n451-\r\n451\r\n",
        ),
        ("354 a\r\n", 354, "354 a", "354 a\r\n"),
    ] {
        let reply = reply(came);
        assert_eq!((reply.code, reply.text().as_str()), (code, text));
        assert_eq!(reply.raw(), as_lines(came.as_bytes(), code), "as it came");
        assert_eq!(reply.in_one_code().raw(), one.as_bytes());
    }
    // No line of another code begins a reply, and none ends one.
    let mut buf: &[u8] = b"250-a\r\n451-b\r\n250 c\r\n550 d\r\n250-e\r\n354 f\r\n";
    let mut codes = Vec::new();
    while let ReplyParse::Complete { reply, len } = Reply::next(buf, 4096) {
        codes.push(reply.code);
        buf = &buf[len..];
    }
    assert_eq!((codes, buf), (vec![250, 550, 354], &b""[..]));
}

#[test]
fn what_is_no_reply_is_malformed() {
    for raw in [
        "250-a\r\n150 b\r\n",
        "250-a\nb\r\n",
        "250\ra\r\n",
        "250a\r\n",
        "25\r\n",
        "\r\n",
        "150 a\r\n",
        "650 a\r\n",
        "2500 a\r\n",
        " 250 a\r\n",
        "hello\r\n",
    ] {
        assert_eq!(refused(raw), ReplyParse::Malformed, "{raw:?}");
    }
    for raw in [
        "",
        "2",
        "250",
        "250 a",
        "250 a\r",
        "250-a\r\n",
        "250-a\r\n250 b",
    ] {
        assert_eq!(refused(raw), ReplyParse::Partial, "{raw:?}");
    }
}

#[test]
fn a_tab_stands_for_the_blank() {
    assert_eq!(reply("250\t2.0.0 a\tb\r\n").raw(), b"250 2.0.0 a\tb\r\n");
    assert_eq!(reply("250-a\r\n550\t\r\n").raw(), b"250-a\r\n550 \r\n");
}

/// A server that does so has said what the code says all the same.
#[test]
fn lines_without_a_code_are_text_where_that_is_forgiven() {
    for (came, raw) in [
        ("250-a\r\nb\r\n250 c\r\n", "250-a\r\n250-b\r\n250 c\r\n"),
        (
            "550-a\n\n2026 b\r\n550-c\r\n550\r\n",
            "550-a\r\n550-\r\n550-2026 b\r\n550-c\r\n550\r\n",
        ),
        (
            "250-a\r\n550-b\r\nc\rd\r\n550\te\r\n",
            "250-a\r\n550-b\r\n550-c?d\r\n550 e\r\n",
        ),
        ("250 a\r\n", "250 a\r\n"),
    ] {
        let mut reader = ReplyReader::forgiving();
        for len in 0..came.len() {
            let parse = reader.next(&came.as_bytes()[..len], 4096);
            assert_eq!(parse, ReplyParse::Partial, "{came:?}, {len}");
        }
        let ReplyParse::Complete { reply, len } = reader.next(came.as_bytes(), 4096) else {
            panic!("{came:?}");
        };
        assert_eq!((reply.raw(), len), (raw.as_bytes(), came.len()));
    }
    // Nobody can say what this is.
    for came in [
        "a\r\n250 b\r\n",
        "250-a\r\nb\r\n550 c\r\n",
        "150-a\r\n150 b\r\n",
    ] {
        let parse = ReplyReader::forgiving().next(came.as_bytes(), 4096);
        assert_eq!(parse, ReplyParse::Malformed, "{came:?}");
    }
}

#[test]
fn a_lone_lf_ends_a_line_and_goes_on_as_crlf() {
    for (came, raw) in [
        ("250 a\n", "250 a\r\n"),
        ("250\n", "250\r\n"),
        ("250-a\r\n250-\n250 b\n", "250-a\r\n250-\r\n250 b\r\n"),
        ("250 a\rb\r\r\n", "250 a?b?\r\n"),
        ("550-a\rb\n550 c\r\n", "550-a?b\r\n550 c\r\n"),
    ] {
        assert_eq!(reply(came).raw(), raw.as_bytes(), "{came:?}");
    }
    // What stands behind it is no part of the reply.
    let ReplyParse::Complete { len, .. } = Reply::next(b"250 a\n250 b\r\n", 4096) else {
        panic!("a reply");
    };
    assert_eq!(len, 6);
}

#[test]
fn a_reply_is_cut_at_its_lines() {
    let long = reply("250-ab\r\n250-cd\r\n250 ef\r\n");
    for (octets_max, left) in [
        (24, "250-ab\r\n250-cd\r\n250 ef\r\n"),
        (23, "250-ab\r\n250 cd\r\n"),
        (16, "250-ab\r\n250 cd\r\n"),
        (15, "250 ab\r\n"),
        (7, "250 a\r\n"),
        (6, "250 \r\n"),
        (0, "250\r\n"),
    ] {
        let cut = long.clone().cut(octets_max);
        assert_eq!(cut.raw(), left.as_bytes(), "{octets_max}");
        assert_eq!(reply(left), cut);
    }
    let mixed = reply("250-ab\r\n451 cd\r\n").cut(15);
    assert_eq!(mixed.raw(), b"451 ab\r\n");
}

#[test]
fn a_reply_without_an_end_has_a_code() {
    for (buf, code) in [
        ("250 aaa", Some(250)),
        ("451-aaa\r\n451-", Some(451)),
        ("250-aaa\r\n451-bbb\r\n25", Some(451)),
        ("250", None),
        ("250aaa", None),
        ("hello", None),
        ("", None),
    ] {
        let begun = Reply::begun(buf.as_bytes()).map(|reply| reply.code);
        assert_eq!(begun, code, "{buf:?}");
    }
}

#[test]
fn the_limit_is_for_all_lines_together() {
    let buf = b"250-a\r\n250 b\r\n";
    assert!(matches!(
        Reply::next(buf, buf.len()),
        ReplyParse::Complete { .. }
    ));
    assert_eq!(Reply::next(buf, buf.len() - 1), ReplyParse::TooLong);
    let endless = b"250-a\r\n".repeat(1000);
    assert_eq!(Reply::next(&endless, 7000), ReplyParse::TooLong);
    assert_eq!(Reply::next(&endless, 7001), ReplyParse::Partial);
}

#[test]
fn the_class_decides() {
    let classes = |raw| {
        let reply = reply(raw);
        (
            reply.is_positive(),
            reply.is_transient(),
            reply.is_permanent(),
        )
    };
    assert_eq!(classes("250 x\r\n"), (true, false, false));
    assert_eq!(classes("354 x\r\n"), (false, false, false));
    assert_eq!(classes("421 x\r\n"), (false, true, false));
    assert_eq!(classes("550 x\r\n"), (false, false, true));
}

#[test]
fn the_enhanced_code_is_of_the_same_class() {
    for (raw, expected) in [
        ("250 2.0.0 Ok\r\n", Some((2, 0, 0))),
        ("450 4.7.100 Wait\r\n", Some((4, 7, 100))),
        ("550-5.1.1 a\r\n550 5.1.2 b\r\n", Some((5, 1, 1))),
        ("550 5.1.1\r\n", Some((5, 1, 1))),
        ("550 4.1.1 x\r\n", None),
        ("250 2.0 x\r\n", None),
        ("250 2.0.0.0 x\r\n", None),
        ("250 2.01.0 x\r\n", None),
        ("250 2.0.1000 x\r\n", None),
        ("250 2.0.+1 x\r\n", None),
        ("250 2..1 x\r\n", None),
        ("250 2.0.0x y\r\n", None),
        ("354 3.0.0 x\r\n", None),
        ("250 Ok 2.0.0\r\n", None),
        ("250\r\n", None),
    ] {
        assert_eq!(reply(raw).enhanced(), expected, "{raw:?}");
    }
}

#[test]
fn a_report_quotes_printable_words() {
    assert_eq!(
        reply("250 2.0.0 Ok: queued as X\r\n").text(),
        "250 2.0.0 Ok: queued as X"
    );
    assert_eq!(reply("550-a\r\n550-\r\n550 b\r\n").text(), "550 a b");
    assert_eq!(
        reply("550 \u{1b}[2J\0\tcaf\u{e9}\r\n").text(),
        "550 ?[2J??caf??"
    );
    assert_eq!(reply("250\r\n").text(), "250");
    let long = reply(&format!("250-{}\r\n250 b\r\n", "a".repeat(900))).text();
    assert_eq!(long.len(), TEXT_OCTETS_MAX);
    assert!(long.ends_with('a'));
}

#[test]
fn the_queue_id_is_behind_the_status() {
    for (raw, expected) in [
        (
            "250 2.0.0 Ok: queued as 138309B2004\r\n",
            Some("138309B2004"),
        ),
        ("250 OK id=1xVXDd-0006GV-0J\r\n", Some("1xVXDd-0006GV-0J")),
        (
            "250 2.0.0 5ac54a5b Message accepted for delivery\r\n",
            Some("5ac54a5b"),
        ),
        (
            "250 2.0.0 <bob@da.test> 06p8EGluBGssXgAAQX/gIQ:T2 Saved\r\n",
            Some("06p8EGluBGssXgAAQX/gIQ:T2"),
        ),
        (
            "250-2.0.0 thanks\r\n250 2.0.0 queued as 12345\r\n",
            Some("12345"),
        ),
        ("250 2.0.0 Message accepted for delivery\r\n", None),
        ("250 2.0.0 Ok\r\n", None),
        ("451 4.3.0 not queued as 138309B2004\r\n", None),
    ] {
        assert_eq!(reply(raw).queue_id().as_deref(), expected, "{raw:?}");
    }
}

#[test]
fn our_replies_are_one_clean_line() {
    assert_eq!(
        Reply::new(451, "4.3.0", "Try\r\n250 later\u{e9}").raw(),
        b"451 4.3.0 Try??250 later??\r\n"
    );
    assert_eq!(Reply::new(250, "", "").raw(), b"250\r\n");
}

proptest! {
    /// However it is split, the same reply; and the reader that remembers says what the one that does not
    /// says.
    #[test]
    fn the_split_makes_no_difference(
        buf in "([25][05]0[- ][a\r]{0,3}(\r\n|\n){1}){0,5}[25]?",
        octets_max in 0usize..40,
    ) {
        let whole = Reply::next(buf.as_bytes(), octets_max);
        let mut reader = ReplyReader::default();
        for end in 0..=buf.len() {
            let early = reader.next(&buf.as_bytes()[..end], octets_max);
            prop_assert_eq!(&early, &Reply::next(&buf.as_bytes()[..end], octets_max));
            if early != ReplyParse::Partial {
                prop_assert_eq!(early, whole);
                return Ok(());
            }
        }
        prop_assert_eq!(whole, ReplyParse::Partial);
    }

    /// Total on any octets, and what a report quotes is one printable line.
    #[test]
    fn any_text_can_be_quoted(text in proptest::collection::vec(any::<u8>(), 0..700)) {
        let raw = [b"250 ", &text[..], b"\r\n"].concat();
        if let ReplyParse::Complete { reply, .. } = Reply::next(&raw, 4096) {
            let quoted = reply.text();
            prop_assert!(quoted.bytes().all(|b| (b' '..=b'~').contains(&b)));
            prop_assert!(quoted.len() <= TEXT_OCTETS_MAX);
            prop_assert_eq!(reply.queue_id().filter(|id| !(4..=64).contains(&id.len())), None);
            let _ = reply.enhanced();
        }
    }

    /// However it came, what goes on is a reply of clean lines; cut, too.
    #[test]
    fn what_goes_on_is_clean(
        came in "([25]50-[a\r]{0,5}\r?\n){0,3}250( [a\r]{0,5})?\r?\n",
        octets_max in 0usize..50,
    ) {
        if let ReplyParse::Complete { reply, len } = Reply::next(came.as_bytes(), 4096) {
            prop_assert_eq!(len, came.len());
            for reply in [reply.clone(), reply.cut(octets_max)] {
                let raw = reply.raw().to_vec();
                let lines = raw.strip_suffix(b"\r\n").map(|raw| raw.split(|b| *b == b'\n'));
                let mut octets = lines.into_iter().flatten();
                prop_assert!(octets.all(|line| !line.strip_suffix(b"\r").unwrap_or(line).contains(&b'\r')));
                let len = raw.len();
                prop_assert_eq!(Reply::next(&raw, 4096), ReplyParse::Complete { reply, len });
            }
        }
    }

    #[test]
    fn our_replies_read_back(code in 200u16..600, text in ".{0,40}") {
        let ours = Reply::new(code, "", &text);
        let len = ours.raw().len();
        let raw = ours.raw().to_vec();
        prop_assert_eq!(Reply::next(&raw, 4096), ReplyParse::Complete { reply: ours, len });
    }
}
