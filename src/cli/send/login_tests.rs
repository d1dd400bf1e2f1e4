//! Passwords: where they come from, and what they are never sent over.

#![allow(clippy::unwrap_used)]

use clap::Parser;
use lettre::transport::smtp::authentication::Credentials;

use super::tests::{Desk, Line, MESSAGE};
use super::*;
use crate::store::sink::Sink;

#[tokio::test]
async fn a_login_uses_the_password_of_the_environment_or_the_command() {
    let sink = Sink::start(&["AUTH LOGIN PLAIN", "TRACK NOW"]).await;
    let mut desk = Desk::new();
    let words = ["--user", "alice", "bob@example.org"];
    let told = desk.send_to(&sink, MESSAGE, &words).await;
    assert_eq!(told.code, 2);
    assert!(told.err.contains(PASSWORD_VARIABLE), "{}", told.err);

    desk.password = Some("pw".to_owned());
    assert_eq!(desk.send_to(&sink, MESSAGE, &words).await.code, 0);
    // base64 of NUL alice NUL pw
    assert!(
        sink.commands()
            .contains(&"AUTH PLAIN AGFsaWNlAHB3".to_owned())
    );

    let command = [
        "--password-command",
        "echo other; echo more",
        "--user",
        "alice",
        "b@c.d",
    ];
    assert_eq!(desk.send_to(&sink, MESSAGE, &command).await.code, 0);
    assert!(
        sink.commands()
            .contains(&"AUTH PLAIN AGFsaWNlAG90aGVy".to_owned())
    );

    let failing = ["--password-command", "exit 3", "--user", "alice", "b@c.d"];
    assert_eq!(desk.send_to(&sink, MESSAGE, &failing).await.code, 2);
}

#[tokio::test]
async fn a_login_refused_or_not_offered_sends_nothing() {
    let mut desk = Desk::new();
    desk.password = Some("wrong".to_owned());
    let words = ["--user", "alice", "bob@example.org"];
    let refusing = Sink::start_with(&["AUTH PLAIN"], |line| {
        line.starts_with("AUTH")
            .then(|| "535 5.7.8 wrong password".to_owned())
    })
    .await;
    let told = desk.send_to(&refusing, MESSAGE, &words).await;
    assert_eq!(told.code, 1);
    assert!(
        told.err.contains("535 5.7.8 wrong password"),
        "{}",
        told.err
    );
    let without = Sink::start(&[]).await;
    let told = desk.send_to(&without, MESSAGE, &words).await;
    assert_eq!(told.code, 1);
    assert!(told.err.contains("AUTH"), "{}", told.err);
    assert!(refusing.received().is_empty() && without.received().is_empty());
}

#[tokio::test]
async fn what_is_to_be_encrypted_does_not_go_in_clear() {
    let mut desk = Desk::new();
    let sink = Sink::start(&["AUTH PLAIN"]).await;
    let told = desk
        .send_to(&sink, MESSAGE, &["--tls", "starttls", "b@c.d"])
        .await;
    assert_eq!(told.code, 1);
    assert!(told.err.contains("STARTTLS"), "{}", told.err);
    desk.password = Some("pw".to_owned());
    // A server elsewhere and a user: certificate checked, or nothing at all.
    let parse = |words: &[&str]| {
        let line = ["send", "--user", "alice", "b@c.d"].iter().chain(words);
        let args = Line::try_parse_from(line).unwrap().args;
        let account = chosen(&args, Account::default());
        account.access(Some("pw".to_owned()), "host").unwrap()
    };
    let elsewhere = parse(&["--server", "mail.example.com"]);
    assert_eq!(
        (elsewhere.tls, elsewhere.clear_password),
        (Tls::Starttls, false)
    );
    let submissions = parse(&["--server", "mail.example.com:465"]);
    assert_eq!(submissions.tls, Tls::Implicit);
    assert_eq!(
        parse(&["--server", "x", "--tls", "implicit"]).peer.port,
        465
    );
    let local = parse(&["--server", "[::1]:2525"]);
    assert_eq!(
        (local.tls, local.clear_password),
        (Tls::Opportunistic, true)
    );
    assert!(!parse(&["--server", "x", "--tls", "opportunistic"]).clear_password);
    assert!(parse(&["--server", "x", "--tls", "none"]).clear_password);
    assert!(
        !sink
            .commands()
            .iter()
            .any(|c| c.starts_with("AUTH") || c.starts_with("MAIL"))
    );
}

/// A password goes to the server and for the user that it was written down for, and to no other.
#[tokio::test]
async fn the_file_is_the_account_unless_a_server_is_named() {
    let desk = Desk::new();
    let home = desk.home.path().join("hoptrail");
    std::fs::create_dir(&home).unwrap();
    let file = "server = 'mail.test:587'\nuser = 'alice'\npassword_command = 'echo pw'\n\
                from = 'a@file.test'\n";
    std::fs::write(home.join(FILE), file).unwrap();
    let job = |words: &[&str]| {
        let line = ["send", "b@c.d"].iter().chain(words);
        let surroundings = Surroundings {
            input: &mut MESSAGE.as_bytes(),
            home: Ok(home.clone()),
            password: Some("environment".to_owned()),
            clock: Clock::system(),
        };
        let job = prepare(&Line::try_parse_from(line).unwrap().args, surroundings).unwrap();
        let from = job.envelope.from.unwrap().to_string();
        (job.access.peer.to_string(), job.access.login, from)
    };
    let login = |user: &str, password: &str| {
        let (user, password) = (user.to_owned(), password.to_owned());
        Some(Credentials::new(user, password))
    };
    let (server, from) = ("mail.test:587".to_owned(), "a@file.test".to_owned());
    assert_eq!(
        job(&[]),
        (server.clone(), login("alice", "pw"), from.clone())
    );
    let other = job(&["--user", "bob", "--from", "b@x.test"]);
    assert_eq!(
        other,
        (server, login("bob", "environment"), "b@x.test".to_owned())
    );
    let elsewhere = job(&["--server", "evil.test"]);
    let (evil, alice) = ("evil.test:25".to_owned(), "alice@example.com".to_owned());
    assert_eq!(elsewhere, (evil, None, alice));
}
