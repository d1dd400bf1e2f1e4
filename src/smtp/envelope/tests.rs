//! MAIL and RCPT lines, those of strangers too.
#![allow(clippy::unwrap_used)]

use super::super::command::Command;
use super::*;
use proptest::prelude::*;
use smtp_proto::Request;

fn read(line: &str) -> Result<EnvelopeCommand<'_>, Refusal> {
    Command::parse(line.as_bytes())?.envelope()
}

fn path(line: &str) -> &[u8] {
    read(line).unwrap().path()
}

#[test]
fn paths_stay_as_written() {
    for (line, path, mailbox) in [
        ("MAIL FROM:<>", "", ""),
        ("mail from:<a@b>", "a@b", "a@b"),
        ("MAIL  FROM: <a@b> SIZE=1", "a@b", "a@b"),
        ("RCPT TO:<Postmaster>", "Postmaster", "Postmaster"),
        ("RCPT TO:<@a,@b:c@d>", "@a,@b:c@d", "c@d"),
        ("RCPT TO:<\"a b\"@h>", "\"a b\"@h", "\"a b\"@h"),
        ("RCPT TO:<\"a>b\"@h> X=1", "\"a>b\"@h", "\"a>b\"@h"),
        (
            r#"RCPT TO:<"a\"> b\\"@h>"#,
            r#""a\"> b\\"@h"#,
            r#""a\"> b\\"@h"#,
        ),
        (
            "RCPT TO:<@a:\"x:y@z\"@[IPv6:::1]>",
            "@a:\"x:y@z\"@[IPv6:::1]",
            "\"x:y@z\"@[IPv6:::1]",
        ),
        (
            "RCPT TO:<j\u{f6}rg@\u{e9}x>",
            "j\u{f6}rg@\u{e9}x",
            "j\u{f6}rg@\u{e9}x",
        ),
        ("MAIL FROM:a@b SIZE=1", "a@b", "a@b"),
        ("RCPT TO: a@b", "a@b", "a@b"),
    ] {
        let command = read(line).unwrap();
        assert_eq!(command.path(), path.as_bytes(), "{line}");
        assert_eq!(command.mailbox(), mailbox.as_bytes(), "{line}");
    }
}

#[test]
fn postmaster_is_not_the_null_path() {
    assert_ne!(path("RCPT TO:<postmaster>"), path("MAIL FROM:<>"));
}

#[test]
fn paths_that_cannot_be_right_are_refused() {
    for (line, status) in [
        ("MAIL FROM:", "5.1.7"),
        ("MAIL FROM: ", "5.1.7"),
        ("MAIL FROM:<", "5.1.7"),
        ("MAIL FROM:<a@b", "5.1.7"),
        ("MAIL FROM:a@b>", "5.1.7"),
        ("MAIL FROM:<a b@c>", "5.1.7"),
        ("MAIL FROM:< a@b>", "5.1.7"),
        ("MAIL FROM:<a@b >", "5.1.7"),
        ("MAIL FROM:<<a@b>>", "5.1.7"),
        ("MAIL FROM:<\"a@b>", "5.1.7"),
        ("MAIL FROM:<\"a\\", "5.1.7"),
        ("MAIL FROM:<\"a\"b@c>", "5.1.7"),
        ("MAIL FROM:<a\"b\"@c>", "5.1.7"),
        ("MAIL FROM:<a\\>b@c>", "5.1.7"),
        ("MAIL FROM:<a@>", "5.1.7"),
        ("MAIL FROM:<@a>", "5.1.7"),
        ("MAIL FROM:<@a:>", "5.1.7"),
        ("RCPT TO:<@a:>", "5.1.3"),
        ("RCPT TO:<@a> X=b:c@d>", "5.1.3"),
        ("RCPT TO:<@a b:c@d>", "5.1.3"),
        ("MAIL FROM:\"a b\"@c", "5.1.7"),
        ("MAIL FROM:Bob <a@b>", "5.5.4"),
        ("RCPT TO:<>", "5.1.3"),
        ("RCPT TO:<a@b c>", "5.1.3"),
        ("MAIL TO:<a@b>", "5.5.4"),
        ("RCPT FROM:<a@b>", "5.5.4"),
        ("MAIL FROM <a@b>", "5.5.4"),
    ] {
        let refusal = read(line).unwrap_err();
        assert_eq!((refusal.code, refusal.status), (501, status), "{line}");
    }
}

#[test]
fn parameters_stay_as_written() {
    let line = "MAIL FROM:<a@b>  Size=12 SMTPUTF8 TRACK=now:t/1 AUTH=<> ENVID=x+2By\u{e9} ";
    let command = read(line).unwrap();
    let params: Vec<_> = command.params().collect();
    let expected: [(&[u8], Option<&[u8]>); 5] = [
        (b"Size", Some(b"12")),
        (b"SMTPUTF8", None),
        (b"TRACK", Some(b"now:t/1")),
        (b"AUTH", Some(b"<>")),
        (b"ENVID", Some("x+2By\u{e9}".as_bytes())),
    ];
    assert_eq!(params, expected);
    assert_eq!(command.param("track"), Some(Some(&b"now:t/1"[..])));
    assert_eq!(command.param("smtputf8"), Some(None));
    assert_eq!(command.param("RET"), None);
}

#[test]
fn unknown_parameters_and_utf8_recipients_cost_nothing() {
    let line = "RCPT TO:<a@b> XFOO=bar ORCPT=utf-8;j\\x{F6}rg@b NOTIFY=NEVER";
    let command = read(line).unwrap();
    assert_eq!(
        command.param("ORCPT"),
        Some(Some(&b"utf-8;j\\x{F6}rg@b"[..]))
    );
    assert_eq!(command.path(), b"a@b");
}

#[test]
fn malformed_parameters_are_refused() {
    for params in [
        " =",
        " =1",
        " SIZE=",
        " A==",
        " A=b=c",
        " -A=1",
        " A_B=1",
        " A;B",
        "SIZE=1",
        " \u{e9}=1",
    ] {
        let line = format!("MAIL FROM:<a@b>{params}");
        let refusal = read(&line).unwrap_err();
        assert_eq!((refusal.code, refusal.status), (501, "5.5.4"), "{line}");
    }
}

#[test]
fn one_parameter_is_taken_out() {
    for (line, expected) in [
        ("MAIL FROM:<a@b> TRACK=NOW", "MAIL FROM:<a@b>"),
        ("MAIL FROM:<a@b> track=NOW SIZE=1", "MAIL FROM:<a@b> SIZE=1"),
        (
            "MAIL FROM:<a@b>  TRACK  SIZE=1 ",
            "MAIL FROM:<a@b>   SIZE=1 ",
        ),
        ("MAIL FROM:<a@b> TRACK=1 X TRACK", "MAIL FROM:<a@b> X"),
        ("mail From: <a@b> TRACKS=1", "mail From: <a@b> TRACKS=1"),
        (
            "MAIL FROM:<\" TRACK=1\"@b> TRACK=1",
            "MAIL FROM:<\" TRACK=1\"@b>",
        ),
    ] {
        let without = read(line).unwrap().without("TRACK");
        assert_eq!(String::from_utf8(without).unwrap(), expected);
    }
}

#[test]
fn one_value_is_put_in() {
    for (line, expected) in [
        ("MAIL FROM:<a@b>", "MAIL FROM:<a@b> SIZE=9"),
        ("MAIL FROM:<a@b>  size=1 X ", "MAIL FROM:<a@b>  size=9 X "),
        ("MAIL FROM:<a@b> SIZE X", "MAIL FROM:<a@b> SIZE=9 X"),
        (
            "MAIL FROM:<a@b> SIZE=1 SIZE=2",
            "MAIL FROM:<a@b> SIZE=9 SIZE=9",
        ),
    ] {
        let with = read(line).unwrap().with_value("SIZE", "9");
        assert_eq!(String::from_utf8(with).unwrap(), expected);
    }
}

/// The mailbox as smtp-proto tells it: without quotes, and empty for a lone postmaster.
fn unquoted(mailbox: &[u8]) -> String {
    let mut text = String::new();
    let mut chars = std::str::from_utf8(mailbox).unwrap().chars();
    let mut quoted = false;
    while let Some(next) = chars.next() {
        match next {
            '"' => quoted = !quoted,
            '\\' if quoted => text.extend(chars.next()),
            _ => text.push(next),
        }
    }
    if text.eq_ignore_ascii_case("postmaster") {
        text.clear();
    }
    text
}

fn oracle(line: &str) -> Option<String> {
    let line = format!("{line}\r\n");
    match Request::parse(&mut line.as_bytes().iter()).ok()? {
        Request::Mail { from } => Some(from.address.into_owned()),
        Request::Rcpt { to } => Some(to.address.into_owned()),
        _ => None,
    }
}

fn any_envelope() -> impl Strategy<Value = String> {
    let local = prop_oneof!["[a-z.@:+=]{0,6}", r#""([a-z @>.]|\\["\\>a]){0,5}""#];
    let route = prop_oneof![4 => Just(String::new()), 1 => "(@[a-z.]{1,4},?){1,2}:"];
    let params = "( {1,2}(SIZE=[0-9]{1,3}|BODY=8BITMIME|ENVID=[a-z]{1,3}|NOTIFY=NEVER|X=1)){0,2} ?";
    (
        "(MAIL FROM|RCPT TO): ?",
        route,
        local,
        "@[a-z.-]{0,6}",
        params,
    )
        .prop_map(|(verb, route, local, domain, params)| {
            format!("{verb}<{route}{local}{domain}>{params}")
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Where both accept a line, both read the same address.
    #[test]
    fn agrees_with_smtp_proto(line in any_envelope()) {
        if let (Ok(ours), Some(theirs)) = (read(&line), oracle(&line)) {
            prop_assert_eq!(unquoted(ours.mailbox()), theirs);
        }
    }

    /// Total; and the edits change what they say and nothing else.
    #[test]
    fn edits_change_one_parameter(
        line in "(MAIL FROM:|RCPT TO:)[<\"\\\\@a: ]{0,3}[a@>\"]{1,4}>( {1,2}(TRACK|A|b)(=[a=/:]{0,2})?){0,4} ?",
    ) {
        let Ok(command) = read(&line) else { return Ok(()) };
        let without = command.without("TRACK");
        let stripped = Command::parse(&without).unwrap().envelope().unwrap();
        prop_assert_eq!(stripped.count("TRACK"), 0);
        prop_assert_eq!(stripped.path(), command.path());
        let others: Vec<_> = command.params().filter(|(name, _)| *name != b"TRACK").collect();
        prop_assert_eq!(stripped.params().collect::<Vec<_>>(), others);

        let with = command.with_value("TRACK", "NOW");
        let put = Command::parse(&with).unwrap().envelope().unwrap();
        prop_assert_eq!(put.count("TRACK"), command.count("TRACK").max(1));
        prop_assert!(put.params().all(|(name, value)| name != b"TRACK" || value == Some(b"NOW")));
        prop_assert_eq!(put.without("TRACK"), without);
    }

    /// Total on any octets, and on the letters of SMTP.
    #[test]
    fn any_octets_are_judged(
        octets in proptest::collection::vec(any::<u8>(), 0..60),
        letters in proptest::collection::vec(0usize..16, 0..24),
    ) {
        let alphabet: [&[u8]; 16] = [
            b"MAIL", b"RCPT", b"FROM:", b"TO:", b"<", b">", b"@", b"\"", b"\\", b" ", b"=", b":", b"a", b",",
            b"\0", b"\xff",
        ];
        let spelled: Vec<u8> = letters.iter().flat_map(|at| alphabet[*at]).copied().collect();
        for line in [octets.clone(), [b"RCPT TO:<", &octets[..]].concat(), spelled] {
            if let Ok(command) = Command::parse(&line).and_then(Command::envelope) {
                prop_assert!(command.path().ends_with(command.mailbox()));
                prop_assert_eq!(command.params().count(), command.params.len());
            }
        }
    }
}

#[test]
fn the_oracle_is_asked_for_real() {
    let line = "MAIL FROM:<@r:\"a b\"@h.test> SIZE=5";
    assert_eq!(oracle(line).as_deref(), Some("a b@h.test"));
    assert_eq!(unquoted(read(line).unwrap().mailbox()), "a b@h.test");
}
