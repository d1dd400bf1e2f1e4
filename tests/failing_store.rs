//! A store that fails while the hop runs: mail passes, what was mailed is mailed once, and the log says when it begins and
//! when it is over, not with each trial between.

#![allow(clippy::expect_used)]

mod support;

use std::fs;
use std::thread;
use std::time::Duration;

use rusqlite::Connection;

use support::dialogue::Dialogue;
use support::ingress::Ingress;
use support::mail::Mail;
use support::sink::Sink;
use support::{PATIENCE, wait_until};

const MESSAGE: &[u8] = b"Message-ID: <m1@origin.test>\r\nSubject: x\r\n\r\ntext\r\n";

/// What is said of the books and of the notes: that they fail, and that they do no more.
const SAID: [&str; 4] = [
    "the store's books cannot be kept",
    "the store cannot take note of what became of a report",
    "the store's books are kept again",
    "the store takes note of what becomes of reports again",
];

fn submit(client: &mut Dialogue, count: usize) {
    for _ in 0..count {
        client.command("MAIL FROM:<alice@origin.test> TRACK=NOW", "250");
        client.command("RCPT TO:<bob@dest.test>", "250");
        client.data(MESSAGE);
        client.expect("250");
    }
}

fn greeted(hop: &Ingress) -> Dialogue {
    let mut client = hop.client();
    client.command("EHLO client.test", "250");
    client
}

fn store(hop: &Ingress) -> Connection {
    let store = hop.hoptrail.state_dir().join("store.sqlite");
    Connection::open(store).expect("the store opens")
}

/// How often each of them was said.
fn said(hop: &Ingress) -> [usize; 4] {
    let log = hop.hoptrail.log();
    SAID.map(|words| log.matches(words).count())
}

#[test]
fn what_goes_on_failing_is_told_once_and_what_was_mailed_is_mailed_once() {
    const WAITING: usize = 30;
    let mut hop = Ingress::before(Sink::smtp());
    // They cannot be mailed at first, and so come to stand in the books.
    let new = hop.reports.path().join("new");
    fs::remove_dir(&new).expect("it is empty");
    fs::write(&new, "a file").expect("its place is free");
    submit(&mut greeted(&hop), WAITING);
    wait_until(PATIENCE, "all were tried", || {
        let tried = hop.hoptrail.log().matches("a report waits").count();
        (tried >= WAITING).then_some(()).ok_or(tried.to_string())
    });
    hop.hoptrail.kill();
    fs::remove_file(&new).expect("it is there");
    let no_room = "SELECT RAISE(ABORT, 'no space left')";
    let broken = format!(
        "UPDATE outbox SET next_ms = 0;
         CREATE TRIGGER no_books BEFORE INSERT ON steps BEGIN {no_room}; END;
         CREATE TRIGGER no_notes BEFORE DELETE ON outbox BEGIN {no_room}; END"
    );
    store(&hop)
        .execute_batch(&broken)
        .expect("these are its tables");
    hop.hoptrail.start_again();
    // What is put together with a note fails with it; that is tried again after a while only.
    wait_until(PATIENCE, "no note can be taken", || {
        let said = said(&hop);
        (said[1] > 0).then_some(()).ok_or(format!("{said:?}"))
    });
    submit(&mut greeted(&hop), 3);
    hop.wait_for_mails(WAITING + 3);
    // Each is tried again meanwhile, the books every second.
    thread::sleep(Duration::from_secs(7));
    assert_eq!(said(&hop), [1, 1, 0, 0]);
    let mended = "DROP TRIGGER no_books; DROP TRIGGER no_notes";
    store(&hop).execute_batch(mended).expect("they are there");
    wait_until(PATIENCE, "it is over", || {
        let (said, all) = (said(&hop), [1; 4]);
        (said == all).then_some(()).ok_or(format!("{said:?}"))
    });
    wait_until(PATIENCE, "nothing waits", || {
        let waiting = "SELECT COUNT(*) FROM outbox";
        let waiting: i64 = store(&hop)
            .query_row(waiting, [], |row| row.get(0))
            .expect("a number");
        (waiting == 0).then_some(()).ok_or(waiting.to_string())
    });
    assert_eq!(Mail::in_maildir(hop.reports.path()).len(), WAITING + 3);
}

/// Who has moved it away by mistake is told in time to put it back: a new process would make a new one.
#[test]
fn a_store_that_was_removed_is_missed() {
    let hop = Ingress::before(Sink::smtp());
    let (file, away) = (
        hop.hoptrail.state_dir().join("store.sqlite"),
        hop.reports.path().join("away"),
    );
    let mut client = greeted(&hop);
    let mut mails = 0;
    let mut until_said = |words: &str| {
        wait_until(PATIENCE, words, || {
            submit(&mut client, 1);
            mails += 1;
            let said = hop.hoptrail.log().contains(words);
            said.then_some(()).ok_or_else(String::new)
        });
    };
    fs::rename(&file, &away).expect("it is there");
    until_said("THE STORE'S FILE WAS REMOVED OR REPLACED");
    fs::copy(&away, &file).expect("there is room");
    thread::sleep(Duration::from_millis(1500));
    submit(&mut greeted(&hop), 1);
    fs::rename(&away, &file).expect("it is there");
    until_said("the store's file is in its place again");
    hop.wait_for_mails(mails + 1);
    let alarms = hop.hoptrail.log().matches("REMOVED OR REPLACED").count();
    assert_eq!(alarms, 1);
}
