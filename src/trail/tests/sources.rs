//! Where reports may lie, and what is read again.

use std::fs;
use std::path::Path;

use super::world::{HOP1, HOP2, HOP3, START_US};
use crate::report::{Mailing, write};
use crate::track::{Event, HopReport, Secret, StepId, TrackingId};
use crate::trail::{Reports, Source, SourceError, load};

/// A report on a message of its own.
pub fn mail_of(message: usize) -> Vec<u8> {
    write(&report_of(message), &MAILING)
}

/// The same, which proves to whose secret this is that it is about his.
pub fn proved_mail_of(message: usize, secret: &Secret) -> Vec<u8> {
    let report = report_of(message);
    let id = report.message_id.as_deref().unwrap();
    let key = secret.certificate(id, report.sent_ms.unwrap());
    let certificate = Some(&key);
    write(
        &report,
        &Mailing {
            certificate,
            ..MAILING
        },
    )
}

fn report_of(message: usize) -> HopReport {
    let bob = [("bob@example.net", Event::Delivered)];
    HopReport {
        id: TrackingId::new(&format!("id{message}@mail.example.org")).unwrap(),
        step: StepId(message as u64),
        message_id: Some(format!("m{message}@example.org")),
        ..HOP1.report(1, None, &bob)
    }
}

pub const MAILING: Mailing = Mailing {
    from: "hoptrail@example.net",
    to: "alice@example.org",
    date_us: START_US,
    certificate: None,
    received: None,
    boundary: "b0f6f1d2c3a4958677",
};

/// The report of a hop on bob's mail.
fn mail(hop: usize) -> Vec<u8> {
    let bob = |event| [("bob@example.net", event)];
    let report = match hop {
        1 => HOP1.report(1, None, &bob(Event::Transferred)),
        2 => HOP2.report(2, Some(1), &bob(Event::Transferred)),
        _ => HOP3.report(3, Some(2), &bob(Event::Delivered)),
    };
    write(&report, &MAILING)
}

pub fn put(path: &Path, mail: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, mail).unwrap();
}

/// Mails, reports, and hops that reported of the one message.
fn counts(reports: &Reports) -> (usize, usize, usize) {
    let trails = reports.trails();
    let hops = trails.messages.first().map_or(0, |m| m.stays.len());
    assert!(trails.messages.len() <= 1);
    (trails.counts.mails, trails.counts.reports, hops)
}

fn read_again(reports: &mut Reports) -> (usize, usize, usize) {
    reports.update().unwrap();
    counts(reports)
}

#[test]
fn a_message_is_put_together_out_of_all_sources() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    put(&at("mail/.Archive/cur/1:2,S"), &mail(1));
    put(&at("mail/cur/0"), b"Subject: other\n\nmail\n");
    put(&at("saved/a.EML"), &mail(2));
    put(&at("saved/readme.txt"), b"no mail");
    let mbox = [
        b"From MAILER Mon Nov 23 16:05:09 2026\n",
        &mail(3)[..],
        b"\nFrom x\n\n",
    ]
    .concat();
    put(&at("inbox"), &mbox);
    put(&at("one"), &mail(3));
    put(&at("empty"), b"");
    let sources = ["mail", "saved", "inbox", "one", "empty"].map(|s| Source::at(&at(s)).unwrap());
    let mut reports = Reports::of(sources, None);
    assert_eq!(read_again(&mut reports), (6, 4, 3));
    let alone = |name: &str| load(&at(name), None).unwrap().counts.reports;
    assert_eq!(
        ["mail", "saved", "inbox", "one", "empty"].map(alone),
        [1, 1, 1, 1, 0]
    );
}

#[test]
fn only_what_is_new_in_a_maildir_is_opened() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    put(&at("new/1"), &mail(1));
    put(&at("cur/2:2,"), &mail(2));
    let mut reports = Reports::of([Source::at(dir.path()).unwrap()], None);
    assert_eq!(read_again(&mut reports), (2, 2, 2));
    assert!(!reports.update().unwrap(), "nothing is new");
    // Read, moved and with another content: it is known, so nobody looks into it.
    fs::write(at("new/1"), "Subject: other\n\nmail\n").unwrap();
    fs::rename(at("new/1"), at("cur/1:2,S")).unwrap();
    assert!(!reports.update().unwrap(), "nothing is new");
    put(&at(".Archive/new/3"), &mail(3));
    assert!(reports.update().unwrap());
    assert_eq!(counts(&reports), (3, 3, 3));
    fs::remove_file(at("cur/2:2,")).unwrap();
    assert!(reports.update().unwrap());
    assert_eq!(counts(&reports).1, 2);
    fs::copy(at(".Archive/new/3"), at("cur/4")).unwrap();
    assert_eq!(
        read_again(&mut reports),
        (3, 3, 3),
        "a copy changes nothing"
    );
}

/// Mail programs move mail from `new` to `cur` and rename it there whenever they like.
#[test]
fn mails_that_are_moved_while_they_are_read_are_all_read() {
    const MAILS: usize = 100;
    let dir = tempfile::tempdir().unwrap();
    let places = ["new", "cur"].map(|place| dir.path().join(place));
    for n in 0..MAILS {
        put(&places[0].join(n.to_string()), &mail(n));
    }
    fs::create_dir(&places[1]).unwrap();
    for round in 0..40 {
        let (from, to) = (&places[round % 2], &places[1 - round % 2]);
        let counted = std::thread::scope(|scope| {
            scope.spawn(|| {
                for n in (0..MAILS).map(|n| n.to_string()) {
                    fs::rename(from.join(&n), to.join(&n)).unwrap();
                }
            });
            load(dir.path(), None).unwrap().counts.reports
        });
        assert_eq!(counted, MAILS, "round {round}");
    }
}

#[test]
fn what_is_no_source_is_explained() {
    let dir = tempfile::tempdir().unwrap();
    let said = |path: &Path| Source::at(path).unwrap_err().to_string();
    assert!(said(dir.path()).contains("neither `new` nor `cur`"));
    assert!(said(&dir.path().join("none")).contains("the Maildir your mail goes to"));
    let file = dir.path().join("mbox");
    put(&file, b"From x\n");
    assert!(said(&file.join("below")).contains("cannot be read"));
    let url = Source::named("http://example.org/".as_ref());
    assert!(matches!(url, Err(SourceError::Name { .. })));
    assert_eq!(Source::named("-".as_ref()).unwrap(), Source::Stdin);
}

/// What is not read is told, so that no hop is called silent on its account.
#[test]
fn what_is_left_unread_is_told() {
    let dir = tempfile::tempdir().unwrap();
    put(&dir.path().join("a.eml"), &mail(1));
    put(&dir.path().join("old/b.eml"), &mail(2));
    let trails = load(dir.path(), None).unwrap();
    let unread: Vec<&str> = trails.skipped.iter().map(|(path, _)| &**path).collect();
    assert_eq!(unread, [dir.path().join("old").display().to_string()]);
    let people =
        crate::trail::render::terminal::unread(trails.skipped.len(), &super::world::view());
    assert!(
        people.starts_with("? 1 file or folder could not be read"),
        "{people}"
    );
}
