//! Figures over mail that a hop really took, from the command line.

#![allow(clippy::expect_used)]

mod support;

use std::path::Path;
use std::process::Output;

use support::dialogue::Dialogue;
use support::hoptrail::{Hoptrail, User, said};
use support::mail::Mail;
use support::net;
use support::sink::Sink;

/// A mailbox with the reports of an egress on three messages, one of them refused.
fn mailbox() -> tempfile::TempDir {
    let mailbox = tempfile::tempdir().expect("a temporary directory");
    let (next, mta) = (
        Sink::smtp().once("RCPT TO:<dave", "550 5.1.1 no").start(),
        Sink::smtp().start(),
    );
    let (entrance, exit) = (net::address(), net::address());
    let _hoptrail = Hoptrail::serve(&format!(
        "hostname = 'mx1.test'\n[reports]\nfrom = 'hoptrail@mx1.test'\nvia = 'maildir:{}'\n\
         [[listener]]\nrole = 'ingress'\nlisten = '{entrance}'\nprotocol = 'smtp'\nnext_hop = '{}'\n\
         [[listener]]\nrole = 'egress'\nlisten = '{exit}'\nprotocol = 'lmtp'\nnext_hop = '{}'\n",
        mailbox.path().display(),
        mta.next_hop(),
        next.next_hop()
    ));
    for (n, rcpt) in ["bob", "carol", "dave"].into_iter().enumerate() {
        let mut client = Dialogue::open(entrance);
        client.command("EHLO client.test", "250");
        client.command("MAIL FROM:<alice@origin.test> TRACK=NOW", "250");
        client.command(&format!("RCPT TO:<{rcpt}@dest.test>"), "250");
        client.data(b"Subject: x\r\n\r\nx\r\n");
        client.expect("250");
        let mut out = Dialogue::open(exit);
        out.command("LHLO mta.test", "250");
        out.command("MAIL FROM:<alice@origin.test>", "250");
        out.command(&format!("RCPT TO:<{rcpt}@dest.test>"), "250");
        out.data(&mta.wait_for(n + 1)[n].data);
        out.reply();
    }
    wait_for_three(mailbox.path());
    mailbox
}

fn wait_for_three(maildir: &Path) {
    support::wait_until(
        support::PATIENCE,
        "three reports",
        || match Mail::in_maildir(maildir).len() {
            3 => Ok(()),
            n => Err(format!("{n} mails")),
        },
    );
}

fn stats(maildir: &Path, more: &[&str]) -> Output {
    stats_of(&User::stranger(), maildir, more)
}

fn stats_of(user: &User, maildir: &Path, more: &[&str]) -> Output {
    let maildir = maildir.display().to_string();
    user.run(&[&["stats", &maildir], more].concat(), b"")
}

/// In a mailbox of several people, what your secret proves stays proved beside what it does not.
#[test]
fn unproved_mail_is_taken_in_beside_what_is_proved() {
    let (mailbox, mta) = (
        tempfile::tempdir().expect("a temporary directory"),
        Sink::smtp().start(),
    );
    let entrance = net::address();
    let _hoptrail = Hoptrail::serve(&format!(
        "hostname = 'mx1.test'\n[reports]\nfrom = 'hoptrail@mx1.test'\nvia = 'maildir:{}'\n\
         [[listener]]\nrole = 'ingress'\nlisten = '{entrance}'\nprotocol = 'smtp'\nnext_hop = '{}'\n",
        mailbox.path().display(),
        mta.next_hop(),
    ));
    let (alice, other) = (User::stranger(), User::stranger());
    for (user, from) in [
        (&alice, "alice@origin.test"),
        (&other, "other@origin.test"),
        (&other, "other@origin.test"),
    ] {
        user.send(
            entrance,
            from,
            &["bob@dest.test"],
            b"Subject: x\r\n\r\nx\r\n",
        );
    }
    wait_for_three(mailbox.path());
    let own = said(&stats_of(&alice, mailbox.path(), &[]));
    assert!(
        own.starts_with("1 message to 1 recipient, 1 report"),
        "{own}"
    );
    assert!(own.contains("? 2 reports left out: not proved"), "{own}");
    let all = said(&stats_of(&alice, mailbox.path(), &["--unproved"]));
    assert!(
        all.starts_with("3 messages to 3 recipients, 3 reports"),
        "{all}"
    );
    assert!(
        all.contains("? 2 messages of these not proved to be yours"),
        "{all}"
    );
    assert!(!all.contains("left out"), "{all}");
}

#[test]
fn figures_of_real_mail() {
    let mailbox = mailbox();
    let text = said(&stats(mailbox.path(), &[]));
    assert!(
        text.starts_with("3 messages to 3 recipients, 3 reports"),
        "{text}"
    );
    assert!(text.contains("0 delivered, 1 failed, 2 open"), "{text}");

    let json = said(&stats(mailbox.path(), &["--json"]));
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(json["schema"], "hoptrail.stats/1");
    let rows = json["rows"].as_array().expect("rows");
    let sender = rows
        .iter()
        .find(|row| row["table"] == "originator")
        .expect("an originator");
    assert_eq!(
        (&sender["name"], &sender["messages"]),
        (&"alice@origin.test".into(), &3.into())
    );

    assert_eq!(json["skipped"], serde_json::json!([]));
    let packed = mailbox.path().join("new/1.gz");
    std::fs::write(&packed, b"\x1f\x8b\x08nothing").expect("a file can be written");
    for more in [
        &["--json"][..],
        &["--json", "--since", "1h", "--compare", "7d"],
    ] {
        let json = said(&stats(mailbox.path(), more));
        let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
        let place = json["skipped"][0]["place"].as_str();
        assert_eq!(place, packed.to_str(), "{json:#}");
    }
    let output = stats(mailbox.path(), &[]);
    let remark = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(remark.contains("1.gz: "), "{remark}");
    let text = said(&output);
    assert!(
        text.contains("? 1 file or folder could not be read"),
        "{text}"
    );

    let csv = said(&stats(mailbox.path(), &["--csv"]));
    let widths: Vec<usize> = csv.lines().map(|line| line.split(',').count()).collect();
    assert_eq!(widths.len(), rows.len() + 1);
    assert!(widths.iter().all(|w| *w == widths[0]), "{csv}");
}

#[test]
fn periods_and_exit_codes() {
    let mailbox = mailbox();
    let future = stats(mailbox.path(), &["--since", "2100-01-01"]);
    assert_eq!(future.status.code(), Some(4));
    let gone = said(&stats(
        mailbox.path(),
        &["--since", "2100-01-01", "--compare", "7d"],
    ));
    assert!(gone.contains("gone    dest.test: mx1.test"), "{gone}");
    let new = said(&stats(
        mailbox.path(),
        &["--since", "1h", "--compare", "7d"],
    ));
    assert!(new.contains("new     dest.test: mx1.test"), "{new}");
    for wrong in [
        &["--since", "yesterday-ish"][..],
        &["--compare", "7d"],
        &["--compare", "7d", "--since", "14d"],
        &["--json", "--csv"],
    ] {
        assert_eq!(
            stats(mailbox.path(), wrong).status.code(),
            Some(2),
            "{wrong:?}"
        );
    }
    for far in ["9999-12-31", "300000000h"] {
        let output = stats(mailbox.path(), &["--since", far]);
        assert_eq!(output.status.code(), Some(2), "{far}");
        let why = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(why.contains("is out of reach; give a time in"), "{why}");
    }
    let nowhere = stats(&mailbox.path().join("nowhere"), &[]);
    assert_eq!(nowhere.status.code(), Some(2));
}
