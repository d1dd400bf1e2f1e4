//! What people see of a mailbox depends on where they look: on a terminal of so many columns (a real one, by script(1)),
//! with and without colour, or in a file.

#![allow(clippy::expect_used)]

mod support;

use std::fs;
use std::path::Path;
use std::process::Command;

use support::hoptrail::BINARY;

const NAMES: [&str; 3] = ["bob", "carol", "dave"];

/// A report by hand: a delivery for one recipient, a delay for another, a way that ends for the third.
fn mailbox() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    let fates = [
        ("delivered", "2.0.0"),
        ("delayed", "4.7.1"),
        ("relayed", "2.1.9"),
    ];
    let groups = NAMES.iter().zip(fates).map(|(name, (event, status))| {
        format!(
            "Final-Recipient: rfc822; {name}@a-department-with-a-long-name.example.net\n\
             Status: {status}\nRemote-MTA: dns; mx2.example.net\nX-Hoptrail-Event: {event}\n\
             X-Hoptrail-Attempted: 1795449911809000\n\
             X-Hoptrail-Reply: 250 2.0.0 that is what they answered, and they are not short of words today\n\n"
        )
    });
    let report = format!(
        "From: hoptrail@mx1.example.org\nContent-Type: multipart/report; report-type=tracking-status; boundary=b\n\n\
         --b\nContent-Type: message/tracking-status\n\n\
         Original-Envelope-Id: 7f3a91c2@mail.example.org\nReporting-MTA: dns; mx1.example.org\n\
         X-Hoptrail-Version: 1\nX-Hoptrail-Step: 0000000000000001\nX-Hoptrail-Hop: 1\nX-Hoptrail-Role: delivery\n\
         X-Hoptrail-Arrived: 1795449909000000\n\n{}--b--\n",
        groups.collect::<String>()
    );
    fs::create_dir(dir.path().join("new")).expect("a directory");
    fs::write(dir.path().join("new/1"), report).expect("a file");
    dir
}

/// What a terminal of so many columns is sent.
fn on_terminal(mailbox: &Path, columns: usize, env: &str, args: &str) -> String {
    let program = format!(
        "stty rows 40 cols {columns}; {env} {BINARY} timeline {} {args} 2>/dev/null",
        mailbox.display()
    );
    let output = Command::new("script")
        .args(["--quiet", "--return", "--command", &program, "/dev/null"])
        .env("HOPTRAIL_HOME", mailbox)
        .env("TERM", "xterm-256color")
        .env_remove("NO_COLOR")
        .output()
        .expect("script(1) is there");
    String::from_utf8(output.stdout)
        .expect("UTF-8")
        .replace('\r', "")
}

#[test]
fn it_keeps_to_the_columns_there_are() {
    let mailbox = mailbox();
    for args in ["", "7f3a"] {
        let mut widest = Vec::new();
        for columns in [80, 120] {
            let text = on_terminal(mailbox.path(), columns, "NO_COLOR=1", args);
            assert!(!text.contains('\x1b'), "{text:?}");
            assert!(text.contains("bob@"), "{text}");
            let columns_used = text.lines().map(|line| line.chars().count());
            widest.push(columns_used.max().expect("lines"));
        }
        assert!(
            widest[0] <= 80 && widest[0] < widest[1] && widest[1] <= 120,
            "{widest:?}"
        );
    }
}

#[test]
fn colour_is_for_terminals_that_want_it() {
    let mailbox = mailbox();
    let text = on_terminal(mailbox.path(), 80, "", "");
    assert!(text.contains("\x1b["), "{text:?}");
    let output = Command::new(BINARY)
        .arg("timeline")
        .arg(mailbox.path())
        .env("HOPTRAIL_HOME", mailbox.path())
        .env_remove("NO_COLOR")
        .output()
        .expect("the program runs");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    assert!(!text.contains('\x1b'), "{text:?}");
    let line = text.lines().next().expect("a line");
    for name in NAMES {
        assert!(
            line.contains(&format!("{name}@a-department")),
            "nothing is cut in a file: {line}"
        );
    }
}

#[test]
fn times_are_those_of_the_readers_zone() {
    let mailbox = mailbox();
    for (zone, seen) in [
        ("UTC", "seen     Mon 2026-11-23 16:05:09.000 UTC"),
        (
            "Asia/Kolkata",
            "seen     Mon 2026-11-23 21:35:09.000 IST (UTC+05:30)",
        ),
    ] {
        let text = on_terminal(mailbox.path(), 80, &format!("NO_COLOR=1 TZ={zone}"), "7f3a");
        assert!(text.contains(seen), "{text}");
    }
}
