//! A state directory that is of no use at the start: mail passes, nothing is tracked, and that begins by itself when what
//! may pass is over, or at SIGHUP when somebody has mended what may not.

#![allow(clippy::expect_used)]

mod support;

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use rusqlite::Connection;

use support::dialogue::Dialogue;
use support::disk::Disk;
use support::hop::{FROM, Hop};
use support::hoptrail::{BINARY, Hoptrail};
use support::mail::Mail;
use support::sink::Sink;
use support::{PATIENCE, Stopwatch, wait_until};

const BOB: &[&str] = &["bob@dest.test"];
const TO_BOB: &[&str] = &["RCPT TO:<bob@dest.test>"];

/// What is said when nothing is tracked, and when that begins.
const ALARM: &str = "NOTHING IS TRACKED";
const ALL_CLEAR: &str = "from now on mail is tracked";

fn said(hoptrail: &Hoptrail, words: &str) -> usize {
    hoptrail.log().matches(words).count()
}

/// The message comes with this ENVID, its sender asks; as the MTA gets it.
fn arrive(hop: &Hop, envid: &str) -> Vec<u8> {
    hop.arrive(&format!("{FROM} TRACK=NOW ENVID={envid}"), BOB)
}

fn is_tracked(wire: &[u8]) -> bool {
    wire.starts_with(b"Hoptrail-Carry: ")
}

/// As if nobody had asked, and no later for it.
fn assert_mail_passes_untracked(hop: &Hop) {
    let watch = Stopwatch::start();
    let wire = arrive(hop, "untracked");
    assert!(wire.starts_with(b"Message-ID: "), "{}", wire.escape_ascii());
    let replies = hop.leave(FROM, TO_BOB, &wire);
    assert!(replies[0].starts_with("250 2.0.0 ok, taken"), "{replies:?}");
    let took = watch.elapsed();
    assert!(took < Duration::from_millis(900), "{took:?}");
}

fn offers_track(hop: &Hop) -> bool {
    let offer = Dialogue::open(hop.entrance).command("EHLO client.test", "250");
    offer.iter().any(|line| line.ends_with("TRACK NOW"))
}

fn wait_until_tracked(hop: &Hop) {
    wait_until(PATIENCE, "tracking begins", || {
        offers_track(hop).then_some(()).ok_or_else(String::new)
    });
    assert_eq!(said(&hop.hoptrail, ALL_CLEAR), 1);
}

/// Each of these messages is told of, and no other. What a process that was killed has mailed may come again.
fn assert_told(hop: &Hop, envids: &[&str]) {
    let told = wait_until(PATIENCE, "the reports", || {
        let mails = hop.mails();
        let reports = mails.iter().filter_map(Mail::report);
        let told: BTreeSet<_> = reports.map(|r| r.field("Original-Envelope-Id")).collect();
        let all = envids.iter().all(|envid| told.contains(*envid));
        all.then(|| told.clone()).ok_or(format!("{told:?}"))
    });
    assert!(told.iter().eq(envids), "{told:?}");
}

/// As a program does that copies the store.
fn lock(state_dir: &Path) -> Connection {
    let store = Connection::open(state_dir.join("store.sqlite")).expect("the store opens");
    let lock = "PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE";
    store.execute_batch(lock).expect("it is locked");
    store
}

#[test]
fn a_store_that_is_locked_at_the_start_is_opened_when_it_is_free() {
    let mut hop = Hop::egress(Sink::smtp());
    let before = arrive(&hop, "1-before");
    hop.hoptrail.kill();
    let locked = lock(&hop.hoptrail.state_dir());
    hop.hoptrail.start_again();
    let mut mta = Dialogue::open(hop.exit);
    let offer = mta.command("LHLO mta.test", "250");
    assert!(!offer.iter().any(|line| line.ends_with("DSN")), "{offer:?}");
    // It is tried several times meanwhile.
    for _ in 0..40 {
        assert_mail_passes_untracked(&hop);
        thread::sleep(Duration::from_millis(100));
    }
    assert!(!offers_track(&hop));
    let log = hop.hoptrail.log();
    assert!(
        log.contains("until this is over") && log.contains("database is locked"),
        "{log}"
    );
    assert_eq!(said(&hop.hoptrail, ALARM), 1, "{log}");
    let mut second = Command::new(BINARY);
    let second = second
        .args(["serve", "--config"])
        .arg(hop.hoptrail.config())
        .output();
    let second = second.expect("the binary can be run");
    assert_eq!(second.status.code(), Some(2), "{second:?}");

    drop(locked);
    wait_until_tracked(&hop);
    // What comes by a new session leaves by one that was open all the while.
    let after = arrive(&hop, "2-after");
    assert!(is_tracked(&after));
    mta.command(FROM, "250");
    mta.command(TO_BOB[0], "250");
    mta.command("DATA", "354");
    mta.send([&after[..], b".\r\n"].concat());
    mta.expect("250");
    hop.leave(FROM, TO_BOB, &before);
    assert_told(&hop, &["1-before", "2-after"]);
    assert_eq!(said(&hop.hoptrail, ALARM), 1);
}

/// Room for a store, and for what is written to open it.
const DISK_OCTETS: u32 = 3 << 20;

/// What the last process had promised is on the disk, which was filled after. (With a write-ahead log there it would have
/// room: as long as that is not used up a full disk does no harm.)
#[test]
fn a_disk_that_is_full_at_the_start_is_used_when_there_is_room() {
    let mut hop = Hop::egress(Sink::smtp());
    for envid in ["1", "2", "3"] {
        let wire = arrive(&hop, envid);
        hop.leave(FROM, TO_BOB, &wire);
    }
    hop.hoptrail.kill();
    let (state_dir, kept) = (hop.hoptrail.state_dir(), hop.reports.path().join("kept"));
    // Who closes it last takes the log away.
    let store = Connection::open(state_dir.join("store.sqlite")).expect("the store opens");
    let emptied = store.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)");
    emptied.expect("nobody else has it open");
    drop(store);
    copy(&state_dir, &kept);
    let disk = Disk::over(&state_dir, DISK_OCTETS);
    copy(&kept, &state_dir);
    disk.fill();
    hop.hoptrail.start_again();
    assert_mail_passes_untracked(&hop);
    assert!(!offers_track(&hop));
    assert_eq!(said(&hop.hoptrail, ALARM), 1);
    disk.free();
    wait_until_tracked(&hop);
    let wire = arrive(&hop, "4");
    hop.leave(FROM, TO_BOB, &wire);
    assert_told(&hop, &["1", "2", "3", "4"]);
}

fn copy(from: &Path, to: &Path) {
    let from = from.join(".");
    let copied = Command::new("cp").arg("-a").arg(from).arg(to).status();
    assert!(copied.is_ok_and(|status| status.success()));
}

/// It is tried more and more seldom; who has made room need not wait.
#[test]
fn a_reload_tries_at_once() {
    let mut hop = Hop::egress(Sink::smtp());
    hop.hoptrail.kill();
    let disk = Disk::over(&hop.hoptrail.state_dir(), DISK_OCTETS);
    disk.fill();
    hop.hoptrail.start_again();
    thread::sleep(Duration::from_secs(8));
    assert_mail_passes_untracked(&hop);
    hop.hoptrail.reload();
    // Who asks is answered.
    wait_until(PATIENCE, "the alarm", || {
        let alarms = said(&hop.hoptrail, ALARM);
        (alarms == 2).then_some(()).ok_or(alarms.to_string())
    });
    disk.free();
    let watch = Stopwatch::start();
    hop.hoptrail.reload();
    wait_until_tracked(&hop);
    let took = watch.elapsed();
    assert!(took < Duration::from_secs(4), "{took:?}");
    let wire = arrive(&hop, "1");
    hop.leave(FROM, TO_BOB, &wire);
    assert_told(&hop, &["1"]);
}

/// In a state directory: what is done to it, and what undoes that.
type Damage = (&'static str, fn(&Path), fn(&Path));

const DAMAGES: [Damage; 4] = [
    (
        "file is not a database",
        |dir| write(&dir.join("store.sqlite"), "this is no database"),
        |dir| fs::remove_file(dir.join("store.sqlite")).expect("it is there"),
    ),
    (
        "which only a newer hoptrail can read",
        |dir| set_layout(dir, 99),
        |dir| fs::remove_file(dir.join("store.sqlite")).expect("it is there"),
    ),
    (
        "others may read or change it",
        |dir| set_mode(&dir.join("carry.keys"), 0o644),
        |dir| set_mode(&dir.join("carry.keys"), 0o600),
    ),
    (
        "state is a file: name a directory",
        |dir| {
            fs::rename(dir, dir.with_extension("aside")).expect("it is there");
            write(dir, "a file");
        },
        |dir| {
            fs::remove_file(dir).expect("it is there");
            fs::rename(dir.with_extension("aside"), dir).expect("it is there");
        },
    ),
];

fn write(file: &Path, text: &str) {
    fs::write(file, text).expect("it can be written");
}

fn set_mode(file: &Path, mode: u32) {
    fs::set_permissions(file, Permissions::from_mode(mode)).expect("it is ours");
}

fn set_layout(state_dir: &Path, layout: i64) {
    let store = Connection::open(state_dir.join("store.sqlite")).expect("the store opens");
    let set = store.pragma_update(None, "user_version", layout);
    set.expect("it can be written");
}

#[test]
fn what_only_a_person_can_mend_is_tried_when_that_person_says_so() {
    thread::scope(|scope| {
        for damage in DAMAGES {
            scope.spawn(move || assert_mended_by_a_person(damage));
        }
    });
}

fn assert_mended_by_a_person((words, damage, mend): Damage) {
    let mut hop = Hop::egress(Sink::smtp());
    assert!(hop.hoptrail.stop().success());
    let state_dir = hop.hoptrail.state_dir();
    damage(&state_dir);
    hop.hoptrail.start_again();
    let log = hop.hoptrail.log();
    assert!(
        log.contains("mended and hoptrail restarted, or sent SIGHUP"),
        "{log}"
    );
    assert!(log.contains(words), "{log}");
    assert_mail_passes_untracked(&hop);
    mend(&state_dir);
    thread::sleep(Duration::from_millis(2500));
    assert_eq!(said(&hop.hoptrail, ALL_CLEAR), 0, "{words}");
    assert_eq!(said(&hop.hoptrail, ALARM), 1, "{words}");
    hop.hoptrail.reload();
    wait_until_tracked(&hop);
    let wire = arrive(&hop, "1");
    hop.leave(FROM, TO_BOB, &wire);
    assert_told(&hop, &["1"]);
}
