//! The index: the same answer as without one, and fewer files opened.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::sources::{mail_of, proved_mail_of, put};
use super::world::secret;
use crate::track::Secret;
use crate::trail::{Reports, Source};

/// Enough for an index.
const MAILS: usize = 600;

/// A Maildir, and a directory for indexes beside it.
struct Home(tempfile::TempDir);

impl Home {
    fn with(mails: usize) -> Self {
        let home = Self(tempfile::tempdir().unwrap());
        home.deliver(0..mails);
        home
    }

    fn maildir(&self) -> PathBuf {
        self.0.path().join("Maildir")
    }

    fn cache(&self) -> PathBuf {
        self.0.path().join("cache/hoptrail")
    }

    /// One report each, on as many messages.
    fn deliver(&self, mails: std::ops::Range<usize>) {
        for n in mails {
            put(&self.maildir().join(format!("new/{n}")), &mail_of(n));
        }
    }

    fn read(&self, secret: Option<&Secret>) -> Told {
        let source = Source::at(&self.maildir()).unwrap();
        let reports = Reports::of([source], secret).indexed_in(&self.cache());
        told(reports)
    }

    fn index(&self) -> Vec<PathBuf> {
        let Ok(entries) = fs::read_dir(self.cache()) else {
            return Vec::new();
        };
        entries.map(|entry| entry.unwrap().path()).collect()
    }
}

/// Programs that copy mail write it in place: what is seen meanwhile is not taken for what it becomes, also after the
/// directory has come to rest.
#[test]
fn a_mail_that_was_seen_half_written_is_read_when_it_is_whole() {
    let home = Home::with(MAILS);
    let whole = mail_of(MAILS);
    let cuts = [0, 60, whole.len() / 2, whole.len() - 20];
    let path = |cut: usize| home.maildir().join(format!("new/cut{cut}"));
    for cut in cuts {
        put(&path(cut), &whole[..cut]);
    }
    std::thread::sleep(std::time::Duration::from_secs(3));
    let half = home.read(None);
    assert_eq!(half.skipped.len(), cuts.len(), "{:?}", half.skipped);
    assert_eq!(home.read(None), half);
    for cut in cuts {
        put(&path(cut), &whole);
    }
    let told = home.read(None);
    assert_eq!(told, told_by(&home.maildir()));
    let id = read_id(&whole);
    assert!(told.document.contains(&id) && told.skipped.is_empty());
}

/// A report of mail that is somebody else's, or that is set apart as altered, lies where threads find it in any order.
#[test]
fn what_is_set_apart_is_told_in_one_order() {
    let home = Home::with(0);
    let other = Secret::new([7; 32]);
    for n in 0..MAILS {
        let of_one = [n / 4].map(|message| proved_mail_of(message, &other));
        let [mail] = of_one.map(|mail| String::from_utf8(mail).unwrap());
        let mail = mail.replace("mx1.example.org", &format!("mx{}.example.org", n % 4));
        put(&home.maildir().join(format!("new/{n}")), mail.as_bytes());
    }
    let apart = || {
        let source = Source::at(&home.maildir()).unwrap();
        let mut reports = Reports::of([source], Some(&secret())).indexed_in(&home.cache());
        reports.update().unwrap();
        let mut apart = Vec::new();
        let shown = reports.all().in_parts(
            7,
            |part| part.not_ours,
            |part| {
                apart.extend(part);
                Ok::<(), std::convert::Infallible>(())
            },
        );
        shown.unwrap();
        apart
    };
    let first = apart();
    assert_eq!(first.len(), MAILS);
    let of_messages = first.chunk_by(|a, b| a.id == b.id);
    assert!(of_messages.into_iter().all(<[_]>::is_sorted));
    assert_eq!(apart(), first);
}

/// Everything a program may be told.
#[derive(Debug, PartialEq)]
struct Told {
    document: String,
    skipped: Vec<(String, String)>,
}

fn told(mut reports: Reports) -> Told {
    reports.update().unwrap();
    let trails = reports.trails();
    Told {
        document: crate::trail::render::json::document(&trails, 0),
        skipped: trails.skipped,
    }
}

/// What is told without an index.
fn told_by(maildir: &Path) -> Told {
    told(Reports::of([Source::at(maildir).unwrap()], None))
}

#[test]
fn known_mails_are_not_opened_and_the_answer_is_the_same() {
    let home = Home::with(MAILS);
    let broken =
        b"Content-Type: multipart/report; report-type=tracking-status; boundary=x\n\n--x--\n";
    put(&home.maildir().join("cur/broken:2,"), broken);
    put(
        &home.maildir().join("cur/other"),
        b"Subject: other\n\nmail\n",
    );
    let first = home.read(None);
    assert_eq!(first, told_by(&home.maildir()));
    assert_eq!(first.skipped.len(), 1);
    let [index] = home.index().try_into().unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&index), mode(&home.cache())), (0o600, 0o700));
    // Whoever opened them would see something else.
    for entry in fs::read_dir(home.maildir().join("new")).unwrap() {
        fs::write(entry.unwrap().path(), "Subject: nothing\n\n").unwrap();
    }
    assert_eq!(home.read(None), first);
}

#[test]
fn what_came_went_and_moved_is_seen() {
    let home = Home::with(MAILS);
    home.read(None);
    let size = || fs::metadata(&home.index()[0]).unwrap().len();
    let before = size();
    let at = |name: String| home.maildir().join(name);
    fs::create_dir_all(home.maildir().join(".Old/cur")).unwrap();
    for n in 0..100 {
        fs::remove_file(at(format!("new/{n}"))).unwrap();
        fs::rename(
            at(format!("new/{}", n + 100)),
            at(format!(".Old/cur/{}:2,S", n + 100)),
        )
        .unwrap();
    }
    home.deliver(MAILS..MAILS + 10);
    assert_eq!(home.read(None), told_by(&home.maildir()));
    assert_eq!(size(), before, "a few are not worth writing");
    home.deliver(MAILS + 10..2 * MAILS);
    assert_eq!(home.read(None), told_by(&home.maildir()));
    let grown = size();
    assert!(grown > before, "they are appended");
    // Most of them go: what is left is written anew.
    for n in 200..2 * MAILS - 50 {
        fs::remove_file(at(format!("new/{n}"))).unwrap();
    }
    assert_eq!(home.read(None), told_by(&home.maildir()));
    assert!(size() < before, "{} of {grown}", size());
    assert_eq!(home.read(None), told_by(&home.maildir()));
    assert_eq!(home.index().len(), 1, "no draft is left");
}

/// As many as threads take at a time, one less and one more, and several times as many.
#[test]
fn every_message_is_told_however_many_there_are() {
    let ids = |reports: &Reports| -> Vec<String> {
        let trails = reports.trails();
        let mut ids: Vec<_> = trails.messages.iter().map(|m| m.id.to_string()).collect();
        ids.sort();
        ids
    };
    for mails in [1, 255, 256, 257, 900] {
        let home = Home::with(mails);
        let mut expected: Vec<_> = (0..mails).map(|n| read_id(&mail_of(n))).collect();
        expected.sort();
        for _ in 0..2 {
            let source = Source::at(&home.maildir()).unwrap();
            let mut reports = Reports::of([source], None).indexed_in(&home.cache());
            reports.update().unwrap();
            assert_eq!(ids(&reports), expected);
            reports.keep();
        }
    }
}

/// The tracking id that a report bears.
fn read_id(mail: &[u8]) -> String {
    let received = crate::report::read(mail).unwrap().unwrap();
    received.report.id.to_string()
}

#[test]
fn a_few_mails_leave_no_trace() {
    let home = Home::with(20);
    home.read(None);
    assert!(home.index().is_empty());
}

#[test]
fn each_secret_has_an_index_of_its_own() {
    let home = Home::with(MAILS);
    let secret = Secret::new([7; 32]);
    let truth = |told: &Told| told.document.contains("unverifiable");
    for _ in 0..2 {
        assert!(truth(&home.read(None)));
        assert!(!truth(&home.read(Some(&secret))));
    }
    assert_eq!(home.index().len(), 2);
    for index in home.index() {
        let text = fs::read(index).unwrap();
        assert!(
            memchr::memmem::find(&text, &[7; 8]).is_none(),
            "no secret in it"
        );
    }
}

#[test]
fn an_index_made_with_another_secret_is_not_believed() {
    let home = Home::with(0);
    for n in 0..MAILS {
        let mail = proved_mail_of(n, &secret());
        put(&home.maildir().join(format!("new/{n}")), &mail);
    }
    let secrets = [secret(), Secret::new([7; 32])];
    let read = || secrets.each_ref().map(|secret| home.read(Some(secret)));
    let told = read();
    assert_ne!(told[0], told[1], "proved to the one alone");
    let indexes: [PathBuf; 2] = home.index().try_into().unwrap();
    for (from, to) in [(0, 1), (1, 0)] {
        fs::copy(&indexes[from], &indexes[to]).unwrap();
        assert_eq!(read(), told);
    }
}

#[test]
fn an_index_that_others_may_change_is_not_believed() {
    let home = Home::with(MAILS);
    let first = home.read(None);
    let index = home.index().remove(0);
    fs::set_permissions(&index, fs::Permissions::from_mode(0o660)).unwrap();
    for n in 0..10 {
        fs::write(
            home.maildir().join(format!("new/{n}")),
            "Subject: other\n\n",
        )
        .unwrap();
    }
    assert_ne!(home.read(None), first, "the mails are opened again");
    let mode = fs::metadata(&home.index()[0]).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn any_number_of_readers_at_a_time_are_told_the_same() {
    let home = Home::with(MAILS);
    let expected = told_by(&home.maildir());
    let read_at_once = |expected: &Told| {
        std::thread::scope(|scope| {
            let readers: Vec<_> = (0..8).map(|_| scope.spawn(|| home.read(None))).collect();
            for reader in readers {
                assert_eq!(reader.join().unwrap(), *expected);
            }
        });
        assert_eq!(home.index().len(), 1);
        assert_eq!(home.read(None), *expected);
    };
    read_at_once(&expected);
    home.deliver(MAILS..2 * MAILS);
    read_at_once(&told_by(&home.maildir()));
}

/// Opening it would wait for ever.
#[test]
fn a_pipe_in_the_place_of_an_index_is_not_opened() {
    let home = Home::with(MAILS);
    let told = home.read(None);
    let index = home.index().remove(0);
    fs::remove_file(&index).unwrap();
    let made = std::process::Command::new("mkfifo").arg(&index).status();
    assert!(made.unwrap().success());
    assert_eq!(home.read(None), told);
}

/// Two that run on, as `watch` does: what one has added, the other does not add again.
#[test]
fn what_another_has_added_is_not_added_twice() {
    let home = Home::with(MAILS);
    home.read(None);
    let reader = || {
        let source = Source::at(&home.maildir()).unwrap();
        Reports::of([source], None).indexed_in(&home.cache())
    };
    let mut readers = [reader(), reader()];
    let mut update = |reader: usize| {
        readers[reader].update().unwrap();
        fs::metadata(&home.index()[0]).unwrap().len()
    };
    let before = [update(0), update(1)];
    home.deliver(MAILS..2 * MAILS);
    let (added, after) = (update(0), update(1));
    // That the Maildir has come to rest may be noted at any of them. Mails take far more.
    let mails = added - before[1];
    assert!(mails > 100 * MAILS as u64, "{before:?} {added}");
    assert!(before[1] - before[0] < mails / 2, "{before:?} {added}");
    assert!(after - added < mails / 2, "{added} {after}");
    assert_eq!(home.read(None), told_by(&home.maildir()));
}

/// However an index is damaged, the answer is that of the mailbox, and the next run finds an index again.
#[test]
fn a_damaged_index_is_made_anew() {
    let home = Home::with(MAILS);
    let first = home.read(None);
    let index = home.index().remove(0);
    let whole = fs::read(&index).unwrap();
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(10));
    let damage = (any::<prop::sample::Index>(), any::<u8>(), 0usize..3);
    let kept = runner.run(&damage, |(at, octet, how)| {
        let at = at.index(whole.len());
        let mut octets = whole.clone();
        match how {
            0 => octets[at] = octet,
            1 => octets.truncate(at),
            _ => octets.insert(at, octet),
        }
        fs::write(&index, &octets).unwrap();
        prop_assert_eq!(&home.read(None), &first);
        let made = || fs::metadata(&index).unwrap().ino();
        let (anew, by) = (fs::read(&index).unwrap(), made());
        prop_assert!(anew != octets || octets == whole, "it is still damaged");
        prop_assert_eq!(&home.read(None), &first);
        prop_assert_eq!(made(), by, "it is not made once more");
        Ok(())
    });
    kept.unwrap();
}
