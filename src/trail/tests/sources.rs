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
    let plain = said(dir.path());
    assert!(plain.contains("neither `new` nor `cur`") && !plain.contains("did you mean"));
    let inner = dir.path().join("Maildir");
    fs::create_dir_all(inner.join("new")).unwrap();
    let meant = format!("did you mean {}?", inner.display());
    for near in [dir.path(), &inner.join("new")] {
        assert!(said(near).contains(&meant), "{}", said(near));
    }
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

/// What is read of a file is not taken for all of it where nothing tells its mails apart.
#[test]
fn mails_behind_each_other_in_a_file_are_told_of() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("all");
    let from = b"From MAILER Mon Nov 23 16:05:09 2026\n";
    let mmdf = b"\x01\x01\x01\x01\n";
    let together = [
        [mail(1), mail(2), mail(3)].concat(),
        [&from[..], &mail(1), from, &mail(2), from, &mail(3)].concat(),
        [&mmdf[..], &mail(1), mmdf, mmdf, &mail(2), mmdf].concat(),
        // As much as is too large for a report.
        mail(1).repeat(10_000),
    ];
    for all in &together {
        put(&file, all);
        let trails = load(&file, None).unwrap();
        assert_eq!(trails.counts.reports, 1);
        let [(place, why)] = &*trails.skipped else {
            panic!("{:?}", trails.skipped)
        };
        assert!(place.ends_with("all, mail 1"), "{place}");
        assert!(why.contains("more mail follows"), "{why}");
    }
    let apart = [&b"\n\n"[..], from, &mail(1), b"\n", from, &mail(2)].concat();
    put(&file, &apart);
    let trails = load(&file, None).unwrap();
    assert_eq!((trails.counts.reports, trails.skipped.len()), (2, 0));
}

#[test]
fn what_is_packed_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a.tar");
    let mut archive = tar::Builder::new(fs::File::create(&file).unwrap());
    put(&dir.path().join("mail"), &mail(1));
    archive
        .append_path_with_name(dir.path().join("mail"), "new/1")
        .unwrap();
    archive.finish().unwrap();
    let said = |file: &Path| load(file, None).unwrap_err().to_string();
    assert!(
        said(&file).contains("a.tar is a tar archive"),
        "{}",
        said(&file)
    );
    put(&file, b"\x1f\x8b\x08\0");
    assert!(said(&file).contains("compressed by gzip"));
}

/// A mail in a directory may still be being written, too; an empty one never tells anything.
#[test]
fn a_saved_mail_that_lacks_its_end_is_told_of() {
    let dir = tempfile::tempdir().unwrap();
    let whole = mail(1);
    put(&dir.path().join("a.eml"), &whole[..whole.len() - 10]);
    put(&dir.path().join("b.eml"), b"");
    let mut reports = Reports::of([Source::at(dir.path()).unwrap()], None);
    reports.update().unwrap();
    assert!(reports.are_growing());
    let whys = |reports: &Reports| {
        let skipped = reports.trails().skipped.into_iter();
        skipped.map(|(_, why)| why).collect::<Vec<_>>()
    };
    let [cut, empty] = &*whys(&reports) else {
        panic!("{:?}", whys(&reports))
    };
    assert!(cut.contains("may still be being written"), "{cut}");
    assert_eq!(empty, "is empty");
    put(&dir.path().join("a.eml"), &whole);
    fs::remove_file(dir.path().join("b.eml")).unwrap();
    reports.update().unwrap();
    assert!(!reports.are_growing());
    assert_eq!((counts(&reports).1, whys(&reports).len()), (1, 0));
}

/// A forwarded report is not what its hop sent; that there is one is told.
#[test]
fn a_report_inside_another_mail_is_not_read_but_found() {
    let dir = tempfile::tempdir().unwrap();
    let head = "Subject: Fwd\nContent-Type: multipart/mixed; boundary=o\n\n--o\nContent-Type: message/rfc822\n\n";
    let forwarded = [head.as_bytes(), &mail(1), b"\n--o--\n"].concat();
    put(&dir.path().join("cur/1"), &forwarded);
    put(&dir.path().join("cur/2"), b"Subject: other\n\nmail\n");
    let trails = load(dir.path(), None).unwrap();
    assert_eq!((trails.counts.mails, trails.counts.reports), (2, 0));
    let inside = |source| crate::trail::examine::with_one_inside(&[source]);
    assert_eq!(inside(Source::at(dir.path()).unwrap()), Some(1));
    assert_eq!(inside(Source::Stdin), None, "it is gone");
}

/// As Dovecot keeps mail where it was told to compress it, and as people save it.
#[test]
fn what_is_packed_is_said_to_be_that() {
    let gzip = [b"\x1f\x8b\x08\0", &[7; 900][..], b"\n\n"].concat();
    let dir = tempfile::tempdir().unwrap();
    let (maildir, saved) = (dir.path().join("Maildir"), dir.path().join("saved"));
    put(&maildir.join("new").join("1"), &mail(1));
    put(&maildir.join("cur").join("2:2,S"), &gzip);
    put(&maildir.join("cur").join("3:2,S"), &gzip[..700]);
    put(&saved.join("1.eml"), &mail(1));
    put(&saved.join("2.eml"), &gzip);
    put(&saved.join("3.eml.gz"), &gzip);
    put(&saved.join("notes.txt"), b"by hand");
    let mut tar = vec![0; 1024];
    tar[257..263].copy_from_slice(b"ustar\0");
    put(&saved.join("4.tar"), &tar);
    for (place, expected) in [
        (&maildir, &["compressed by gzip", "compressed by gzip"][..]),
        (
            &saved,
            &["compressed by gzip", "compressed by gzip", "a tar archive"],
        ),
    ] {
        let trails = load(place, None).unwrap();
        assert_eq!(trails.messages.len(), 1);
        let told = trails
            .skipped
            .iter()
            .map(|(_, why)| why.split(',').next().unwrap());
        let mut told: Vec<&str> = told.collect();
        told.sort_unstable_by_key(|why| std::cmp::Reverse(*why));
        assert_eq!(told, expected, "{:?}", trails.skipped);
    }
}
