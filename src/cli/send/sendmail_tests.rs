//! The command as other programs call it, against a small server on loopback.

#![allow(clippy::unwrap_used)]

use std::ffi::OsString;

use clap::Parser;
use tempfile::TempDir;

use super::*;
use crate::clock::Clock;
use crate::store::sink::Sink;

const MAIL: &str = "From: alice@example.com\nTo: bob@example.org\nMessage-ID: <m1@example.com>\n\
    Date: Mon, 23 Nov 2026 12:00:00 +0000\n\nbody\n";
const TRACKS: &[&str] = &["DSN", "TRACK NOW"];

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    args: Args,
}

fn line(words: &[&str]) -> Result<Args, clap::Error> {
    let words = ["sendmail"].iter().chain(words);
    let words = without_origins(words.map(OsString::from).collect());
    Line::try_parse_from(words).map(|line| line.args)
}

/// The exit code and what was said, with this send.toml.
async fn run(toml: &str, words: &[&str], input: &str) -> (u8, String) {
    let home = TempDir::new().unwrap();
    std::fs::write(home.path().join(FILE), toml).unwrap();
    let surroundings = Surroundings {
        input: &mut input.as_bytes(),
        home: Ok(home.path().to_owned()),
        password: None,
        clock: Clock::system(),
    };
    let mut err = Vec::new();
    let code = execute(&line(words).unwrap(), surroundings, &mut err).await;
    (code, String::from_utf8(err).unwrap())
}

/// To a server like this; the transaction comes after what was said.
async fn send(sink: &Sink, words: &[&str], input: &str) -> (u8, String) {
    let toml = format!("server = '127.0.0.1:{}'\ndomain = 'here.test'\n", sink.port);
    run(&toml, words, input).await
}

#[tokio::test]
async fn the_calls_of_well_known_programs_are_understood() {
    for (words, from, to) in [
        // mutt, with its DSN variables set
        (
            &[
                "-oem",
                "-oi",
                "-f",
                "a@x.test",
                "-N",
                "failure,delay",
                "-R",
                "hdrs",
                "--",
                "bob@y.test",
            ][..],
            "a@x.test",
            &["bob@y.test NOTIFY=FAILURE,DELAY"][..],
        ),
        // git send-email
        (
            &["-i", "bob@y.test", "eve@y.test"],
            "alice@example.com",
            &["bob@y.test", "eve@y.test"],
        ),
        // Debian's cron
        (
            &["-FCronDaemon", "-i", "-B8BITMIME", "-oem", "root"],
            "alice@example.com",
            &["root@here.test"],
        ),
        // PHP, with a fifth parameter
        (
            &["-t", "-i", "-fw@x.test"],
            "w@x.test",
            &["bob@example.org"],
        ),
        (&["-ti", "-rw@x.test"], "w@x.test", &["bob@example.org"]),
        (
            &[
                "-i",
                "-f",
                "a@x.test",
                "-f",
                "b@x.test",
                "Bob <bob@y.test>, eve",
            ],
            "b@x.test",
            &["bob@y.test", "eve@here.test"],
        ),
        (
            &[
                "-bm",
                "-Am",
                "-em",
                "-h3",
                "-O",
                "QueueDirectory=/x",
                "-Ltag",
                "-Venvid",
                "-q15m",
                "-U",
                "-G",
                "-n",
                "-m",
                "x@y.test",
            ],
            "alice@example.com",
            &["x@y.test"],
        ),
        // A rule of its own: each once.
        (
            &[
                "-t",
                "-oi",
                "BOB@example.org",
                "bob@example.org",
                "z@y.test",
            ],
            "alice@example.com",
            &["BOB@example.org", "bob@example.org", "z@y.test"],
        ),
    ] {
        let sink = Sink::start(TRACKS).await;
        let told = send(&sink, words, MAIL).await;
        assert_eq!(told, (0, String::new()), "{words:?}: nothing is said");
        let received = sink.received().remove(0);
        let rcpt: Vec<String> = to
            .iter()
            .map(|to| {
                let (address, more) = to.split_once(' ').unwrap_or((to, ""));
                let orcpt = format!("RCPT TO:<{address}> ORCPT=rfc822;{address} {more}");
                orcpt.trim_end().to_owned()
            })
            .collect();
        assert_eq!(received.rcpt, rcpt, "{words:?}");
        let mail = format!("MAIL FROM:<{from}> ");
        assert!(received.mail.starts_with(&mail), "{}", received.mail);
        assert!(
            received.mail.contains(" TRACK=NOW:c256/"),
            "{}",
            received.mail
        );
        assert_eq!(received.mail.contains(" RET=HDRS"), words.contains(&"-R"));
        assert_eq!(received.data, MAIL.replace('\n', "\r\n").as_bytes());
    }
}

#[test]
fn where_exim_is_told_that_a_message_comes_from_is_no_recipient() {
    for (words, to) in [
        ("-oMr smtp -oMa 192.0.2.1 bob@y.test", &["bob@y.test"][..]),
        ("-oMas list bob@y.test -oMt ident", &["bob@y.test"]),
        // Sendmail's own form, and what is no option any more.
        ("-oMrsmtp bob@y.test", &["bob@y.test"]),
        ("-- -oMr bob@y.test", &["-oMr", "bob@y.test"]),
    ] {
        let args = line(&words.split(' ').collect::<Vec<_>>()).unwrap();
        assert_eq!(args.recipients, to, "{words}");
    }
}

#[tokio::test]
async fn a_server_that_does_not_track_costs_a_word_only_if_asked_for() {
    let sink = Sink::start(&[]).await;
    let words = ["-oi", "-Nnever", "-Rfull", "bob@y.test"];
    assert_eq!(send(&sink, &words, MAIL).await, (0, String::new()));
    let received = sink.received().remove(0);
    assert_eq!(received.mail, "MAIL FROM:<alice@example.com>");
    assert_eq!(
        received.rcpt,
        ["RCPT TO:<bob@y.test>"],
        "DSN is not offered"
    );
    let (code, told) = send(&sink, &["-v", "-oi", "bob@y.test"], MAIL).await;
    assert!(
        code == 0 && told.contains("took it; untracked: ") && told.contains("TRACK"),
        "{told}"
    );
    let sink = Sink::start(TRACKS).await;
    let (code, told) = send(&sink, &["-v", "-oi", "bob@y.test"], MAIL).await;
    assert!(
        code == 0 && told.contains("took it; tracking id: "),
        "{told}"
    );
}

#[tokio::test]
async fn the_null_sender_sends_and_is_not_tracked() {
    for empty in ["", "<>"] {
        let sink = Sink::start(TRACKS).await;
        let told = send(&sink, &["-oi", "-f", empty, "bob@y.test"], MAIL).await;
        assert_eq!(told, (0, String::new()));
        assert_eq!(sink.received()[0].mail, "MAIL FROM:<>");
    }
}

/// One line after the other, as `echo hello | sendmail root`, and what sendmail takes besides.
#[tokio::test]
async fn any_text_becomes_a_message() {
    let header = "From: \"Cron Daemon\" <u@x.test>\r\n";
    for (words, input, expected) in [
        (
            &["-i"][..],
            "hello\n.\nTo: x\n",
            "\r\nhello\r\n.\r\nTo: x\r\n",
        ),
        (&[], "hello\n.\nnot this\n", "\r\nhello\r\n"),
        (&[], "hello\n..\n.x\n", "\r\nhello\r\n..\r\n.x\r\n"),
        (&["-i"], "", ""),
        (
            &["-i"],
            "Subject: x\n\nFrom here\n",
            "Subject: x\r\n\r\nFrom here\r\n",
        ),
        (
            &["-i"],
            "From u Mon Nov 23 12:00:00 2026\nSubject: x\n\n",
            "Subject: x\r\n\r\n",
        ),
        (
            &["-i"],
            "Subject: x\nbody\n: y\n",
            "Subject: x\r\n\r\nbody\r\n: y\r\n",
        ),
        (&["-i"], " x\n", "\r\n x\r\n"),
        (
            &["-i"],
            "Bcc: eve@y.test\nResent-Bcc: eve@y.test\n\nx",
            "\r\nx\r\n",
        ),
    ] {
        let sink = Sink::start(&[]).await;
        let all = ["-f", "u@x.test", "-F", "Cron Daemon", "bob"]
            .iter()
            .chain(words);
        let all: Vec<&str> = all.copied().collect();
        assert_eq!(
            send(&sink, &all, input).await,
            (0, String::new()),
            "{input:?}"
        );
        let data = String::from_utf8(sink.received().remove(0).data).unwrap();
        let (added, rest) = data.split_at(data.find(header).unwrap() + header.len());
        assert!(
            added.starts_with("Message-ID: <") && added.contains("\r\nDate: "),
            "{added}"
        );
        assert_eq!(
            rest,
            if expected.is_empty() { "" } else { expected },
            "{input:?}"
        );
    }
}

#[tokio::test]
async fn a_name_makes_no_second_field() {
    let sink = Sink::start(&[]).await;
    let words = [
        "-i",
        "-F",
        "Dr. \"X\"\r\nBcc: eve@y.test, Jörg",
        "-f",
        "u@x.test",
        "bob",
    ];
    assert_eq!(send(&sink, &words, "Subject: x\n\n").await.0, 0);
    let data = String::from_utf8(sink.received().remove(0).data).unwrap();
    let fields = data.lines().filter(|line| !line.starts_with([' ', '\t']));
    let names: Vec<&str> = fields
        .map_while(|line| Some(line.split_once(':')?.0))
        .collect();
    assert_eq!(names, ["Message-ID", "Date", "From", "Subject"], "{data}");
    assert!(data.is_ascii() && data.contains("<u@x.test>"), "{data}");
}

/// A program that sees a failure still has the whole message and will send it again to all.
#[tokio::test]
async fn one_refused_recipient_means_nothing_is_sent() {
    for (reply, code) in [
        ("550 5.1.1 no Eve", EX_NOUSER),
        ("450 4.2.0 later", EX_TEMPFAIL),
    ] {
        let refuse = move |line: &str| line.contains("eve@").then(|| reply.to_owned());
        let sink = Sink::start_with(TRACKS, refuse).await;
        let told = send(&sink, &["-i", "bob@y.test", "eve@y.test"], MAIL).await;
        let says = format!("hoptrail: nothing was sent: refused: eve@y.test: {reply}\n");
        assert_eq!(told, (code, says));
        assert!(sink.received().is_empty());
        assert!(!sink.commands().iter().any(|command| command == "DATA"));
    }
}

#[tokio::test]
async fn each_failure_has_the_exit_code_that_programs_know() {
    for (stage, reply, code) in [
        ("MAIL", "550 5.7.1 not you", EX_UNAVAILABLE),
        ("MAIL", "451 4.3.0 later", EX_TEMPFAIL),
        (".", "554 5.6.0 no", EX_UNAVAILABLE),
        (".", "452 4.3.1 full", EX_TEMPFAIL),
    ] {
        let sink = Sink::start_with(&[], move |line| {
            line.starts_with(stage).then(|| reply.to_owned())
        })
        .await;
        let (seen, told) = send(&sink, &["-i", "bob@y.test"], MAIL).await;
        assert!(seen == code && told.contains(reply), "{seen} {told}");
    }
    for (toml, words, input, code, says) in [
        (
            "server = '127.0.0.1:1'",
            &["bob@y.test"][..],
            MAIL,
            EX_TEMPFAIL,
            "127.0.0.1:1",
        ),
        (
            "server = 'a/b'",
            &["bob@y.test"],
            MAIL,
            EX_CONFIG,
            "host:port",
        ),
        (
            "sever = 'x'",
            &["bob@y.test"],
            MAIL,
            EX_CONFIG,
            "send.toml:1: unknown field `sever`",
        ),
        (
            "user = 'alice'",
            &["bob@y.test"],
            MAIL,
            EX_CONFIG,
            "HOPTRAIL_PASSWORD",
        ),
        (
            "",
            &["-C", "/nowhere/x.toml", "-t"],
            "From: a@b.c\n\n",
            EX_DATAERR,
            "nobody",
        ),
        ("", &[], MAIL, EX_USAGE, "-t"),
        ("", &["a@b@c"], MAIL, EX_USAGE, "a@b@c"),
        (
            "",
            &["bob\nRCPT TO:<eve@y.test>"],
            MAIL,
            EX_USAGE,
            "not an address",
        ),
        (
            "",
            &["-f", "a@b.c, d@e.f", "bob"],
            MAIL,
            EX_USAGE,
            "more than one",
        ),
        (
            "",
            &["-t"],
            "To: not an address\n\n",
            EX_DATAERR,
            "not an address",
        ),
        ("", &["bob"], "Message-ID: <>\n\n", EX_DATAERR, "Message-ID"),
    ] {
        let (seen, told) = run(toml, words, input).await;
        assert!(told.contains(says), "{words:?}: {told}");
        assert_eq!(seen, code, "{words:?}: {told}");
    }
}

/// Scripts that run when a network comes up, and packages that name a new alias.
#[tokio::test]
async fn where_there_is_no_queue_and_no_alias_table_nothing_is_to_be_done() {
    for words in [&["-q"][..], &["-q15m"], &["-qff"], &["-q", "-v"], &["-bi"]] {
        assert_eq!(
            run("sever = 'x'", words, MAIL).await,
            (0, String::new()),
            "{words:?}"
        );
    }
}

#[test]
fn what_it_is_not_is_refused() {
    for words in [
        ["-bp"],
        ["-bd"],
        ["-bs"],
        ["-V"],
        ["-Nsometimes"],
        ["-Rnothing"],
        ["--frob"],
    ] {
        assert!(line(&words).is_err(), "{words:?}");
    }
}

/// Mail is not lost over tracking: it goes as it is, and untracked, since nothing could be proved of it.
#[tokio::test]
async fn an_id_that_no_report_can_carry_goes_untracked() {
    let sink = Sink::start(TRACKS).await;
    let mail = MAIL.replace("m1@", "m 1@");
    let (code, said) = send(&sink, &["-v", "bob@y.test"], &mail).await;
    assert_eq!(code, 0, "{said}");
    assert!(
        said.contains("untracked: no report can carry the Message-ID"),
        "{said}"
    );
    let received = sink.received();
    assert!(!received[0].mail.contains("TRACK"), "{}", received[0].mail);
    let data = String::from_utf8(received[0].data.clone()).unwrap();
    assert!(data.contains("Message-ID: <m 1@example.com>\r\n"), "{data}");
}
