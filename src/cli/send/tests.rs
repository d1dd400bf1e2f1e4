//! The command against a small server on loopback, with and without what servers offer.

#![allow(clippy::unwrap_used)]

use clap::Parser;
use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::store::sink::{Received, Sink};

pub(super) const MESSAGE: &str = "From: Alice <alice@example.com>\r\nTo: bob@example.org\r\n\
    Message-ID: <m1@example.com>\r\nDate: Mon, 23 Nov 2026 12:00:00 +0000\r\n\r\n.dot\r\n\r\nend\r\n";

#[derive(Parser)]
pub(super) struct Line {
    #[command(flatten)]
    pub(super) args: Args,
}

/// What came of one run.
pub(super) struct Told {
    pub(super) code: u8,
    pub(super) out: String,
    pub(super) err: String,
}

pub(super) struct Desk {
    pub(super) home: TempDir,
    pub(super) password: Option<String>,
}

impl Desk {
    pub(super) fn new() -> Self {
        Self {
            home: TempDir::new().unwrap(),
            password: None,
        }
    }

    async fn send(&self, message: &[u8], server: &str, words: &[&str]) -> Told {
        let line = ["send", "--server", server]
            .into_iter()
            .chain(words.iter().copied());
        let args = Line::try_parse_from(line).unwrap().args;
        let surroundings = Surroundings {
            input: &mut &message[..],
            home: Ok(self.home.path().join("hoptrail")),
            password: self.password.clone(),
            clock: Clock::system(),
        };
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let code = execute(args, surroundings, &mut out, &mut err)
            .await
            .unwrap();
        Told {
            code,
            out: String::from_utf8(out).unwrap(),
            err: String::from_utf8(err).unwrap(),
        }
    }

    pub(super) async fn send_to(&self, sink: &Sink, message: &str, words: &[&str]) -> Told {
        let server = format!("127.0.0.1:{}", sink.port);
        self.send(message.as_bytes(), &server, words).await
    }
}

fn attribute<'a>(mail: &'a str, name: &str) -> &'a str {
    let (_, track) = mail.split_once(" TRACK=NOW:").unwrap();
    let track = track.split(' ').next().unwrap();
    let named = |part: &&str| part.split_once('/').unwrap().0 == name;
    let found = track.split(':').find(named);
    found
        .unwrap_or_else(|| panic!("no {name} in {mail}"))
        .split_once('/')
        .unwrap()
        .1
}

fn only(sink: &Sink) -> Received {
    let mut received = sink.received();
    assert_eq!(received.len(), 1);
    received.remove(0)
}

#[tokio::test]
async fn a_tracked_message_brings_its_request_and_nothing_else() {
    let (desk, sink) = (
        Desk::new(),
        Sink::start(&["dsn", "Track NOW", "SIZE 0"]).await,
    );
    let before = Clock::system().now_ms().cast_unsigned();
    let told = desk.send_to(&sink, MESSAGE, &["bob+x@example.org"]).await;
    assert_eq!(told.code, 0, "{}", told.err);
    let received = only(&sink);
    assert_eq!(received.data, MESSAGE.as_bytes());
    assert_eq!(
        received.rcpt,
        ["RCPT TO:<bob+x@example.org> ORCPT=rfc822;bob+2Bx@example.org"]
    );
    // The reader, who knows the secret, can make the certificate again.
    let sent_ms: u64 = attribute(&received.mail, "t").parse().unwrap();
    assert!((before..before + 10_000).contains(&sent_ms));
    let secret = secret::load_from(&desk.home.path().join("hoptrail/secret"))
        .unwrap()
        .unwrap();
    let certificate = secret.certificate("m1@example.com", sent_ms).to_string();
    assert_eq!(attribute(&received.mail, "c256"), certificate);
    let (_, id) = received.mail.split_once("ENVID=").unwrap();
    let id = id.split(' ').next().unwrap();
    assert!(id.ends_with("@example.com"), "{id}");
    assert_eq!(
        received.mail,
        format!(
            "MAIL FROM:<alice@example.com> SIZE={} ENVID={id} TRACK=NOW:c256/{certificate}:t/{sent_ms}",
            MESSAGE.len()
        )
    );
    assert_eq!(told.out, format!("{id}\n"), "alone, for scripts");
    let err = told
        .err
        .replace(id, "[id]")
        .replace(&sink.port.to_string(), "[port]");
    insta::assert_snapshot!(err, @r"
    127.0.0.1:[port] took it for 1 of 1 recipients
    where it is: hoptrail timeline MAILDIR [id]
    (MAILDIR is where the mail to alice@example.com arrives)
    ");
}

#[tokio::test]
async fn without_dsn_the_id_goes_as_an_attribute() {
    let (desk, sink) = (Desk::new(), Sink::start(&["TRACK"]).await);
    let told = desk.send_to(&sink, MESSAGE, &["bob@example.org"]).await;
    let received = only(&sink);
    let id = attribute(&received.mail, "id");
    assert_eq!(told.out, format!("{id}\n"));
    assert_eq!(received.rcpt, ["RCPT TO:<bob@example.org>"]);
    assert!(!received.mail.contains("ENVID"));
}

#[tokio::test]
async fn two_messages_have_two_ids() {
    let (desk, sink) = (Desk::new(), Sink::start(&["TRACK NOW"]).await);
    for _ in 0..2 {
        desk.send_to(&sink, MESSAGE, &["bob@example.org"]).await;
    }
    let received = sink.received();
    let ids: Vec<_> = received.iter().map(|r| attribute(&r.mail, "id")).collect();
    assert_ne!(ids[0], ids[1]);
}

#[tokio::test]
async fn a_server_that_does_not_track_gets_plain_mail_and_the_user_is_told() {
    for keywords in [&["DSN"][..], &["TRACK LATER", "DSN"]] {
        let (desk, sink) = (Desk::new(), Sink::start(keywords).await);
        let told = desk.send_to(&sink, MESSAGE, &["bob@example.org"]).await;
        assert_eq!(told.code, 0);
        let err = told.err.replace(&sink.port.to_string(), "[port]");
        insta::allow_duplicates! {
            insta::assert_snapshot!(err, @r"
            hoptrail: 127.0.0.1:[port] does not offer TRACK; the message goes untracked
            127.0.0.1:[port] took it for 1 of 1 recipients
            ");
        }
        assert_eq!(told.out, "");
        let received = only(&sink);
        assert_eq!(received.mail, "MAIL FROM:<alice@example.com>");
        assert_eq!(received.rcpt, ["RCPT TO:<bob@example.org>"]);

        let told = desk
            .send_to(&sink, MESSAGE, &["--require-track", "bob@example.org"])
            .await;
        assert_eq!(told.code, 1);
        assert!(told.err.contains("nothing was sent") && told.err.contains("TRACK"));
        assert_eq!(sink.received().len(), 1, "not the second");
        assert_eq!(
            sink.commands()
                .iter()
                .filter(|c| c.starts_with("MAIL"))
                .count(),
            1
        );
    }
}

#[tokio::test]
async fn a_secret_that_others_may_read_costs_the_tracking_not_the_mail() {
    let (desk, sink) = (Desk::new(), Sink::start(&["TRACK NOW"]).await);
    let home = desk.home.path().join("hoptrail");
    secret::load_or_create_in(&home).unwrap();
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    fs::set_permissions(home.join("secret"), open).unwrap();
    let told = desk.send_to(&sink, MESSAGE, &["bob@example.org"]).await;
    assert!(
        told.err.contains("chmod 600") && told.err.contains("untracked"),
        "{}",
        told.err
    );
    assert_eq!(only(&sink).mail, "MAIL FROM:<alice@example.com>");
}

#[tokio::test]
async fn with_t_the_header_says_who_gets_it_and_bcc_stays_secret() {
    let (desk, sink) = (Desk::new(), Sink::start(&["TRACK NOW"]).await);
    let message = MESSAGE.replace(
        "To: bob",
        "Bcc: Eve <eve@example.org>,\r\n\tmallory@x.y\r\nTo: bob",
    );
    let told = desk
        .send_to(&sink, &message, &["-t", "--from", "other@example.net"])
        .await;
    assert_eq!(told.code, 0, "{}", told.err);
    let received = only(&sink);
    assert!(
        received
            .mail
            .starts_with("MAIL FROM:<other@example.net> TRACK=NOW:")
    );
    let to = |address| format!("RCPT TO:<{address}>");
    let expected = ["bob@example.org", "eve@example.org", "mallory@x.y"].map(to);
    assert_eq!(received.rcpt, expected);
    assert_eq!(received.data, MESSAGE.as_bytes());
}

#[tokio::test]
async fn a_file_is_read_instead_of_standard_input() {
    let (desk, sink) = (Desk::new(), Sink::start(&[]).await);
    let path = desk.home.path().join("mail.eml");
    fs::write(&path, MESSAGE.replace("\r\n", "\n")).unwrap();
    let words = ["--file", path.to_str().unwrap(), "bob@example.org"];
    let told = desk.send_to(&sink, "not this", &words).await;
    assert_eq!(told.code, 0, "{}", told.err);
    assert_eq!(only(&sink).data, MESSAGE.as_bytes());
}

#[tokio::test]
async fn refused_recipients_are_named_and_the_others_served() {
    let desk = Desk::new();
    let sink = Sink::start_with(&["TRACK NOW"], |line| {
        line.contains("eve@")
            .then(|| "550 5.1.1 no Eve here".to_owned())
    })
    .await;
    let told = desk
        .send_to(&sink, MESSAGE, &["eve@example.org", "bob@example.org"])
        .await;
    assert_eq!(told.code, 1);
    let refused = "hoptrail: refused: eve@example.org: 550 5.1.1 no Eve here\n";
    assert!(told.err.starts_with(refused), "{}", told.err);
    assert!(
        told.err.contains("took it for 1 of 2 recipients"),
        "{}",
        told.err
    );
    assert_eq!(only(&sink).rcpt, ["RCPT TO:<bob@example.org>"]);
}

/// At each stage: the exit code tells for good from for now, the words are the server's, nothing arrives.
#[tokio::test]
async fn a_refusal_at_any_stage_is_told_in_the_servers_words() {
    for stage in ["greeting", "EHLO", "MAIL", "RCPT", "DATA", "."] {
        for (reply, code) in [
            ("550 5.7.1 not you", 1),
            ("450 4.7.1 not now", 75),
            ("421 4.3.2 closing", 75),
            ("", 75),
        ] {
            let desk = Desk::new();
            let at_stage = move |line: &str| line.starts_with(stage).then(|| reply.to_owned());
            let sink = Sink::start_with(&["TRACK NOW"], at_stage).await;
            let told = desk.send_to(&sink, MESSAGE, &["bob@example.org"]).await;
            assert_eq!(told.code, code, "{stage} {reply}: {}", told.err);
            assert!(told.err.contains(reply), "{stage} {reply}: {}", told.err);
            let silent = stage == "." && reply.is_empty();
            let fate = if silent {
                "may have been taken"
            } else {
                "nothing was sent"
            };
            assert!(told.err.contains(fate), "{stage} {reply}: {}", told.err);
            assert!(sink.received().is_empty() && told.out.is_empty());
        }
    }
    let blanks = Sink::start(&[" ", "SIZE"]).await;
    let told = Desk::new()
        .send_to(&blanks, MESSAGE, &["bob@example.org"])
        .await;
    assert!(
        told.code == 75 && told.err.contains("greeting"),
        "{}",
        told.err
    );
    let told = Desk::new()
        .send(MESSAGE.as_bytes(), "127.0.0.1:1", &["bob@example.org"])
        .await;
    assert_eq!(told.code, 75, "{}", told.err);
}

/// What a server or a user's typing holds must not steer the terminal: ESC, OSC, BEL, C1, a turned line.
#[tokio::test]
async fn foreign_words_steer_no_terminal() {
    const EVIL: &str = "\u{1b}]0;owned\u{7}\u{1b}[2J\u{9b}31m\u{202e} twice";
    for stage in ["greeting", "EHLO", "MAIL", "RCPT TO:<eve", "DATA", "."] {
        let reply = move |line: &str| {
            let refused = format!("550 {EVIL}");
            line.starts_with(stage).then_some(refused)
        };
        let sink = Sink::start_with(&["TRACK NOW"], reply).await;
        let words = ["eve@example.org", "bob@example.org"];
        let told = Desk::new().send_to(&sink, MESSAGE, &words).await;
        assert_eq!(told.code, 1, "{stage}: {}", told.err);
        assert!(
            told.err.contains("550 \u{fffd}]0;owned\u{fffd}"),
            "{}",
            told.err
        );
        let all = told.out + &told.err;
        let steers = |c: char| c != '\n' && crate::track::clean::is_hidden(c);
        assert!(!all.contains(steers), "{stage}: {all:?}");
    }
    let file = format!("/nowhere/{EVIL}");
    let told = Desk::new()
        .send(b"", "a:1", &["--file", &file, "b@c.d"])
        .await;
    assert!(
        told.code == 2 && !told.err.contains('\u{1b}'),
        "{:?}",
        told.err
    );
}

#[tokio::test]
async fn octets_beyond_ascii_need_an_offer() {
    let desk = Desk::new();
    let body = MESSAGE.replace("end", "Ende, schön");
    let utf8 = body.replace("Alice", "Älice");
    let able = Sink::start(&["8BITMIME", "SMTPUTF8"]).await;
    desk.send_to(&able, &body, &["bob@example.org"]).await;
    desk.send_to(&able, &utf8, &["bob@example.org"]).await;
    desk.send_to(&able, MESSAGE, &["bøb@example.org"]).await;
    let mails: Vec<_> = able.received().into_iter().map(|r| r.mail).collect();
    let from = "MAIL FROM:<alice@example.com>";
    assert_eq!(mails[0], format!("{from} BODY=8BITMIME"));
    assert_eq!(mails[1], format!("{from} BODY=8BITMIME SMTPUTF8"));
    assert_eq!(mails[2], format!("{from} SMTPUTF8"));
    assert_eq!(able.received()[1].data, utf8.as_bytes());

    let unable = Sink::start(&["SIZE"]).await;
    for (message, recipient) in [
        (body.as_str(), "bob@example.org"),
        (MESSAGE, "bøb@example.org"),
    ] {
        let told = desk.send_to(&unable, message, &[recipient]).await;
        assert_eq!(told.code, 1, "{}", told.err);
    }
    assert!(unable.received().is_empty());
}

#[tokio::test]
async fn what_cannot_be_used_is_said_before_any_connection() {
    let desk = Desk::new();
    for (message, words, says) in [
        ("", &["b@c.d"][..], "no message"),
        ("hello\n", &["b@c.d"], "line 1"),
        (MESSAGE, &["nobody"], "not an address"),
        (MESSAGE, &["a@b>\r\nRCPT TO:<c@d"], "not an address"),
        ("Subject: x\n\n", &["b@c.d"], "--from"),
        (
            MESSAGE,
            &["--file", "/nonexistent", "b@c.d"],
            "/nonexistent",
        ),
        ("From: a@b.c\nSubject: x\n\n", &["-t"], "nobody"),
    ] {
        let told = desk.send(message.as_bytes(), "127.0.0.1:1", words).await;
        assert_eq!(told.code, 2, "{says}: {}", told.err);
        assert!(told.err.contains(says), "{says}: {}", told.err);
    }
    let told = desk.send(MESSAGE.as_bytes(), "a/b", &["b@c.d"]).await;
    assert!(
        told.code == 2 && told.err.contains("host:port"),
        "{}",
        told.err
    );
    assert!(
        Line::try_parse_from(["send"]).is_err(),
        "neither recipients nor -t"
    );
    assert!(
        Line::try_parse_from(["send", "-t", "b@c.d"]).is_err(),
        "both"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever the text of a message is, it arrives unchanged but for its line ends.
    #[test]
    fn any_text_arrives_unchanged_but_for_line_ends(
        parts in prop::collection::vec(
            prop_oneof![
                Just(b"\r\n".to_vec()), Just(b"\n".to_vec()), Just(b"\r".to_vec()),
                Just(b".".to_vec()), Just(b"\r\n.\r\n".to_vec()), Just(b"\n.\n".to_vec()),
                Just(b"\r.\r".to_vec()), Just(b"Bcc: x@y\r\n".to_vec()),
                prop::collection::vec(any::<u8>(), 0..20),
            ],
            0..40,
        )
    ) {
        let header = b"From: a@b.c\r\nMessage-ID: <m@b.c>\r\nDate: Mon, 23 Nov 2026 12:00:00 +0000\r\n\r\n";
        let text = parts.concat();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let data = runtime.block_on(async {
            let (desk, sink) = (Desk::new(), Sink::start(&["8BITMIME"]).await);
            let server = format!("127.0.0.1:{}", sink.port);
            let told = desk.send(&[&header[..], &text].concat(), &server, &["b@c.d"]).await;
            assert_eq!(told.code, 0, "{}", told.err);
            only(&sink).data
        });
        // Said in another way than the code under test does it.
        let mut expected = text.clone();
        let mut at = 0;
        while at < expected.len() {
            match (expected[at], expected.get(at + 1)) {
                (b'\r', Some(b'\n')) => at += 1,
                (b'\r', _) => expected.insert(at + 1, b'\n'),
                (b'\n', _) if at == 0 || expected[at - 1] != b'\r' => expected.insert(at, b'\r'),
                _ => {}
            }
            at += 1;
        }
        if !expected.is_empty() && !expected.ends_with(b"\n") {
            expected.extend_from_slice(b"\r\n");
        }
        prop_assert_eq!(&data[..header.len()], &header[..]);
        prop_assert_eq!(&data[header.len()..], &expected[..]);
    }

    /// Any octets at all: a verdict, never a panic.
    #[test]
    fn any_input_is_taken_or_refused(input in prop::collection::vec(any::<u8>(), 0..300)) {
        if let Ok(draft) = Draft::parse(&input) {
            let _ = (draft.sender(None), draft.recipients(None));
            let _ = draft.finish("example.com", 7, 0);
        }
        let draft = Draft::parse_any(&input);
        let _ = (draft.sender(Some("x.test")), draft.recipients(Some("x.test")));
        let _ = draft.finish("example.com", 7, 0);
    }
}

#[tokio::test]
async fn an_id_that_no_report_can_carry_is_refused_before_anything_is_sent() {
    let (desk, sink) = (Desk::new(), Sink::start(&["DSN", "TRACK NOW"]).await);
    let message = MESSAGE.replace("m1@", "m 1@");
    let told = desk.send_to(&sink, &message, &["bob@example.org"]).await;
    assert_eq!(told.code, 2, "{}", told.err);
    assert!(
        told.err.contains("no report can carry the Message-ID"),
        "{}",
        told.err
    );
    assert!(sink.received().is_empty());
}
