//! What people see of a mailbox depends on where they look: on a terminal of so many columns (a real one, by script(1)),
//! with and without colour, or in a file.

#![allow(clippy::expect_used)]

mod support;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

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
    let command = format!(
        "stty cols {columns}; {env} {BINARY} timeline {} {args} 2>/dev/null",
        mailbox.display()
    );
    typed(mailbox, &command).replace('\r', "")
}

/// What a terminal is sent where this is typed.
fn typed(mailbox: &Path, command: &str) -> String {
    let program = format!("stty rows 40; {command}");
    let output = Command::new("script")
        .args(["--quiet", "--return", "--command", &program, "/dev/null"])
        .env("HOPTRAIL_HOME", mailbox)
        .env("TERM", "xterm-256color")
        .env_remove("NO_COLOR")
        .output()
        .expect("script(1) is there");
    String::from_utf8(output.stdout).expect("UTF-8")
}

#[test]
fn it_keeps_to_the_columns_there_are() {
    let mailbox = mailbox();
    for args in ["", "7f3a"] {
        let mut widest = Vec::new();
        for columns in [80, 120] {
            let text = on_terminal(mailbox.path(), columns, "NO_COLOR=1", args);
            assert!(!text.contains('\x1b'), "{text:?}");
            assert!(text.contains("carol@"), "{text}");
            let columns_used = text.lines().map(|line| line.chars().count());
            widest.push(columns_used.max().expect("lines"));
        }
        assert!(
            widest[0] <= 80 && widest[0] < widest[1] && widest[1] <= 120,
            "{widest:?}"
        );
    }
}

/// COLUMNS says how wide it shall be, wherever it goes; a file without it is not cut.
#[test]
fn it_keeps_to_the_columns_that_are_wanted() {
    let mailbox = mailbox();
    let long = format!("{}@example.net", "a-very-long-name-".repeat(20));
    let path = mailbox.path().join("new/1");
    let report = fs::read_to_string(&path).expect("a report");
    let words = "and this is a server that never comes to an end ".repeat(10);
    let report = report
        .replace("bob@a-department-with-a-long-name.example.net", &long)
        .replace("not short of words today", &words);
    fs::write(&path, report).expect("a file");
    let place = mailbox.path().display();
    let widest = |command: &str| {
        let text = typed(mailbox.path(), command).replace('\r', "");
        assert!(text.contains("7f3a91c2"), "{text}");
        let columns = text.lines().map(|line| line.chars().count());
        (columns.max().expect("lines"), text)
    };
    let (columns, text) = widest(&format!(
        "NO_COLOR=1 COLUMNS=50 {BINARY} timeline {place} 7f3a 2>/dev/null"
    ));
    assert!(columns <= 50, "{columns} in\n{text}");
    for args in ["", "7f3a"] {
        let timeline = format!("NO_COLOR=1 {BINARY} timeline {place} {args} 2>/dev/null");
        let (columns, text) = widest(&format!("stty cols 100; COLUMNS=60 {timeline}"));
        assert!(columns <= 60, "{columns} in\n{text}");
        assert!(args.is_empty() || text.contains("…”"), "{text}");
        assert_eq!(
            widest(&format!("COLUMNS=60 {timeline} | cat")),
            (columns, text)
        );
        for nothing in ["", "COLUMNS=0", "COLUMNS=wide"] {
            let (columns, text) = widest(&format!("{nothing} {timeline} | cat"));
            assert!(columns > long.len(), "{columns} in\n{text}");
            assert!(args.is_empty() || text.contains(words.trim_end()), "{text}");
        }
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

/// A mailbox that is read for longer than half a second: large reports, of which one lies on the disk.
fn large_mailbox(mails: usize) -> tempfile::TempDir {
    let mailbox = mailbox();
    let first = mailbox.path().join("new/1");
    let report = fs::read_to_string(&first).expect("a report");
    let padding = "Some more words that a hop has for people.\n".repeat(5_000);
    let padded = report.replacen("--b\n", &format!("--b\n\n{padding}\n--b\n"), 1);
    fs::write(&first, padded).expect("a file");
    for n in 2..=mails {
        fs::hard_link(&first, mailbox.path().join(format!("new/{n}"))).expect("a link");
    }
    mailbox
}

/// What is to be seen in the end: a line that is drawn over is gone.
fn left_on_screen(sent: &str) -> String {
    let mut screen = String::new();
    for line in sent.split('\n') {
        let mut seen: Vec<char> = Vec::new();
        for drawn in line.split('\r') {
            let drawn: Vec<char> = drawn.chars().collect();
            let behind = seen.split_off(drawn.len().min(seen.len()));
            seen = [drawn, behind].concat();
        }
        screen.extend(seen);
        screen.push('\n');
    }
    screen
}

#[test]
fn a_long_read_tells_how_far_it_is_where_somebody_looks() {
    // Each reads all of it, none what another has kept.
    let typed = |mailbox: &tempfile::TempDir, args: &str, behind: &str| {
        let cache = tempfile::tempdir().expect("a directory");
        let env = format!("NO_COLOR=1 XDG_CACHE_HOME={}", cache.path().display());
        let place = mailbox.path().display();
        typed(
            mailbox.path(),
            &format!("{env} {BINARY} timeline {place} {args} {behind}"),
        )
    };
    // How many take long is the machine's affair.
    let counts = (0..6).map(|doubled| 400 << doubled);
    let mut reads = counts.map(|mails| {
        let mailbox = large_mailbox(mails);
        let sent = typed(&mailbox, "", "");
        let told = sent.split('\r').filter_map(|line| {
            let count = line.strip_prefix("reading mail: ")?;
            let (read, total) = count.trim_end().split_once(" of ")?;
            Some((read.parse().expect("a number"), total.to_owned()))
        });
        let told: Vec<(usize, String)> = told.collect();
        (mails, mailbox, sent, told)
    });
    let long = reads.find(|(.., told)| told.len() > 1);
    let (mails, mailbox, sent, told) = long.expect("a read that is told of");
    assert!(told.is_sorted_by(|a, b| a.0 <= b.0), "{told:?}");
    assert!(
        told.iter()
            .all(|(read, total)| *read <= mails && *total == mails.to_string()),
        "{told:?}"
    );
    assert!(!sent.contains('\x1b'), "{sent:?}");
    let screen = left_on_screen(&sent);
    assert!(!screen.contains("reading"), "it is gone: {screen}");
    assert!(screen.contains("7f3a91c2"), "{screen}");
    for (args, behind) in [("", "| cat"), ("", "2>&1 >/dev/null"), ("--json", "")] {
        let sent = typed(&mailbox, args, behind);
        assert!(!sent.contains("reading"), "{args} {behind}: {sent:?}");
    }
}

/// What is read at once is not worth a line.
#[test]
fn a_short_read_tells_nothing_of_itself() {
    let mailbox = mailbox();
    let command = format!("{BINARY} timeline {}", mailbox.path().display());
    let begun = Instant::now();
    let sent = typed(mailbox.path(), &command);
    assert!(sent.contains("7f3a91c2"), "{sent:?}");
    // Where even that takes half a second it is told of.
    let took = begun.elapsed();
    assert!(
        !sent.contains("reading") || took > Duration::from_millis(500),
        "{took:?}: {sent:?}"
    );
}
