//! The mailer's ways out that stay on the host.

#![allow(clippy::unwrap_used)]

use std::os::unix::fs::PermissionsExt;

use tempfile::TempDir;

use super::mailer_tests::{Mailer, count, reason, until};
use super::tests::{a_step, open};
use super::*;
use crate::track::Event;

#[tokio::test]
async fn a_maildir_gets_whole_files_of_different_names() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    let mailbox = dir.path().join("Maildir");
    for n in 1..=20 {
        store.put(a_step(n, Event::Relayed)).await.unwrap();
    }
    let mailer = Mailer::start(&store, &format!("maildir:{}", mailbox.display()), 0);
    until(|| count(&store.counters().sent) == 20).await;
    mailer.stop().await;
    let mails: Vec<_> = fs::read_dir(mailbox.join("new")).unwrap().collect();
    assert_eq!(mails.len(), 20);
    for mail in mails {
        let text = fs::read_to_string(mail.unwrap().path()).unwrap();
        assert!(text.ends_with("\n\n.dot\n..\nend\n"), "{text:?}");
    }
    assert_eq!(fs::read_dir(mailbox.join("tmp")).unwrap().count(), 0);
}

/// A command that keeps what it was given, and refuses as it is told to.
fn script(dir: &TempDir, end: &str) -> String {
    let path = dir.path().join("sendmail");
    let place = dir.path().display();
    let text = format!("#!/bin/sh\nprintf '[%s]' \"$@\" > {place}/args\n{end}\n");
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
    format!("sendmail:{}", path.display())
}

#[tokio::test]
async fn the_sendmail_command_gets_the_envelope_and_local_line_ends() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    let via = script(&dir, &format!("cat > {}/mail", dir.path().display()));
    let mut step = a_step(1, Event::Relayed);
    step.originator = "-oQ/tmp@example.com".to_owned();
    store.put(step).await.unwrap();
    let mailer = Mailer::start(&store, &via, 0);
    until(|| count(&store.counters().sent) == 1).await;
    mailer.stop().await;
    let read = |name| fs::read_to_string(dir.path().join(name)).unwrap();
    assert_eq!(read("args"), "[-i][-f][<>][--][-oQ/tmp@example.com]");
    assert!(read("mail").ends_with("\n\n.dot\n..\nend\n"));
}

#[tokio::test]
async fn the_sendmail_commands_exit_code_decides() {
    for (end, held) in [
        ("cat >/dev/null; echo nobody >&2; exit 67", true),
        ("echo busy >&2; exit 75", false),
    ] {
        let dir = TempDir::new().unwrap();
        let store = open(&dir);
        store.put(a_step(1, Event::Relayed)).await.unwrap();
        let mailer = Mailer::start(&store, &script(&dir, end), 0);
        let counters = store.counters();
        until(|| count(&counters.held) + count(&counters.deferred) == 1).await;
        mailer.stop().await;
        let (is_held, why) = reason(&dir, 1);
        assert_eq!(is_held, held, "{why}");
        assert!(why.contains("exit status") && why.contains(if held { "nobody" } else { "busy" }));
    }
}
