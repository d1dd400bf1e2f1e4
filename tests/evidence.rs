//! Who wrote a report, asked of a name server; and the archive that shows it to whoever has neither the mailbox nor
//! the secret nor a network.

#![allow(clippy::expect_used)]

mod support;

use std::fs::{self, DirEntry};
use std::net::SocketAddrV4;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use support::dns::{Dns, Zone};
use support::hoptrail::{Hoptrail, User, said};
use support::lab::verify_dkim;
use support::mail::Mail;
use support::net;
use support::sink::Sink;

const NAME: &str = "mx1.test";
const RECORD: &str = "s._domainkey.mx1.test";

/// A user whose message a signing hop has reported on.
struct Reported {
    user: User,
    mailbox: tempfile::TempDir,
    /// The key's record as `hoptrail key dkim` prints it.
    zone: String,
}

impl Reported {
    /// The report's mail.
    fn mail(&self) -> (PathBuf, String) {
        let new = self.mailbox.path().join("new");
        let mail = fs::read_dir(new).expect("a directory").next();
        let mail = mail.expect("a report").expect("its name").path();
        let text = fs::read_to_string(&mail).expect("its text");
        (mail, text)
    }

    fn new() -> Self {
        let mailbox = tempfile::tempdir().expect("a temporary directory");
        let key = mailbox.path().join("dkim.pem");
        let key = key.display().to_string();
        let make = [
            "key",
            "dkim",
            "--domain",
            NAME,
            "--selector",
            "s",
            "--key",
            &key,
        ];
        let zone = said(&User::stranger().run(&make, b""));
        let (mta, entrance) = (Sink::smtp().start(), net::address());
        let _hoptrail = Hoptrail::serve(&format!(
            "hostname = '{NAME}'\n[reports]\nfrom = 'hoptrail@{NAME}'\nvia = 'maildir:{}'\n\
             dkim = [{{ domain = '{NAME}', selector = 's', key = '{key}' }}]\n\
             [[listener]]\nrole = 'ingress'\nlisten = '{entrance}'\nprotocol = 'smtp'\nnext_hop = '{}'\n",
            mailbox.path().display(),
            mta.next_hop()
        ));
        let user = User::stranger();
        let message = b"Message-ID: <m1@origin.test>\r\nSubject: x\r\n\r\nx\r\n";
        user.send(entrance, "alice@origin.test", &["bob@dest.test"], message);
        Mail::wait_in_maildir(mailbox.path(), 1);
        Self {
            user,
            mailbox,
            zone,
        }
    }

    fn name_server(&self) -> Dns {
        let lines = self.zone.lines().map(str::trim);
        let strings = lines.filter_map(|line| line.strip_prefix('"')?.strip_suffix('"'));
        Zone::default()
            .txt(RECORD, &strings.collect::<String>())
            .start()
    }

    /// Where an archive comes to lie, and the options that ask for it and this name server.
    fn bundle(&self, names: &Dns) -> (PathBuf, [String; 3]) {
        let archive = self.mailbox.path().join("evidence.tar");
        let to = archive.display().to_string();
        (archive, ["--bundle".to_owned(), to, at(names.address())])
    }

    fn timeline(&self, more: &[String]) -> Output {
        let maildir = self.mailbox.path().display().to_string();
        let id = "<m1@origin.test>".to_owned();
        let args = [&["timeline".to_owned(), maildir, id], more].concat();
        self.user.run(&args, b"")
    }
}

fn at(address: SocketAddrV4) -> String {
    format!("--dns={address}")
}

fn verify(archive: &Path, more: &[String]) -> (Option<i32>, String) {
    let archive = archive.display().to_string();
    let args = [&["verify".to_owned(), archive], more].concat();
    let output = User::stranger().run(&args, b"");
    (
        output.status.code(),
        String::from_utf8_lossy(&output.stdout).into_owned(),
    )
}

#[test]
fn a_name_server_is_asked_when_the_user_asks() {
    let reported = Reported::new();
    let names = reported.name_server();
    let unasked = String::from_utf8_lossy(&reported.timeline(&[]).stdout).into_owned();
    assert!(unasked.contains("origin   ? not checked"), "{unasked}");
    assert_eq!(names.asked(RECORD), 0);
    let signed = reported.timeline(&[at(names.address())]);
    let signed = String::from_utf8_lossy(&signed.stdout).into_owned();
    assert!(
        signed.contains("origin   ✓ each report is signed"),
        "{signed}"
    );
    assert!(names.asked(RECORD) > 0);
    let nobody = Zone::default().start();
    let unknown = reported.timeline(&[at(nobody.address())]);
    let unknown = String::from_utf8_lossy(&unknown.stdout).into_owned();
    assert!(
        unknown.contains("? mx1.test: signed, but mx1.test shows no key"),
        "{unknown}"
    );
}

#[test]
fn a_name_server_that_does_not_answer_says_nothing_of_a_domain() {
    let reported = Reported::new();
    // Nobody listens there.
    let nowhere = at(net::address());
    let archive = reported.mailbox.path().join("evidence.tar");
    let to = archive.display().to_string();
    let told = reported.timeline(&["--bundle".to_owned(), to, nowhere.clone()]);
    let text = String::from_utf8_lossy(&told.stdout).into_owned();
    let why = "? mx1.test: signed, but no name server answered for the key of mx1.test";
    assert!(text.contains(why), "{text}");
    let warning = String::from_utf8_lossy(&told.stderr).into_owned();
    assert!(
        warning.contains(&format!("{RECORD}: no name server answered")),
        "{warning}"
    );
    let (code, found) = verify(&archive, &[nowhere]);
    assert_eq!(code, Some(1), "{found}");
    assert!(
        found.contains("no name server answered its maker"),
        "{found}"
    );
    assert!(!found.contains("other keys"), "{found}");
}

#[test]
fn what_cannot_be_written_whole_is_not_written() {
    let reported = Reported::new();
    let names = reported.name_server();
    let page = reported.user.home().join("page.html");
    let old = "<!DOCTYPE html>the one of yesterday";
    std::fs::write(&page, old).expect("a file");
    // No file may grow beyond 4 KiB.
    let limited = |more: &str| {
        let command = format!(
            "ulimit -f 4; trap '' XFSZ; exec '{}' timeline '{}' '<m1@origin.test>' {more}",
            env!("CARGO_BIN_EXE_hoptrail"),
            reported.mailbox.path().display()
        );
        let mut shell = std::process::Command::new("bash");
        shell
            .args(["-c", &command])
            .env("HOPTRAIL_HOME", reported.user.home());
        shell.output().expect("bash")
    };
    let output = limited(&format!("--html '{}'", page.display()));
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert_eq!(std::fs::read_to_string(&page).expect("the page"), old);
    let (archive, _) = reported.bundle(&names);
    let output = limited(&format!(
        "--bundle '{}' {}",
        archive.display(),
        at(names.address())
    ));
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(!archive.exists());
    let places = [reported.mailbox.path(), reported.user.home()];
    let left: Vec<_> = places
        .into_iter()
        .flat_map(|place| std::fs::read_dir(place).expect("a directory").flatten())
        .collect();
    assert!(
        left.iter()
            .all(|file| !file.file_name().to_string_lossy().contains("part")),
        "{left:?}"
    );
}

#[test]
fn an_archive_convinces_a_stranger_and_an_altered_one_does_not() {
    let reported = Reported::new();
    let names = reported.name_server();
    let (archive, bundle) = reported.bundle(&names);
    let written = reported.timeline(&bundle);
    let told = String::from_utf8_lossy(&written.stderr).into_owned();
    assert!(told.contains("sha256 "), "{told}");
    let again = reported.timeline(&bundle);
    assert_eq!(again.status.code(), Some(2), "evidence is not overwritten");

    let (code, text) = verify(&archive, &[]);
    assert_eq!(code, Some(0), "{text}");
    assert!(
        text.contains("every report is signed by the domain of its host (mx1.test)"),
        "{text}"
    );
    let (code, text) = verify(&archive, &[at(names.address())]);
    assert_eq!(code, Some(0), "{text}");
    let nobody = Zone::default().start();
    let (code, text) = verify(&archive, &[at(nobody.address())]);
    assert_eq!(code, Some(1), "{text}");

    let mut octets = fs::read(&archive).expect("the archive");
    let place = octets
        .windows(8)
        .position(|w| w == b"accepted")
        .expect("an event");
    octets[place] ^= 1;
    let altered = reported.mailbox.path().join("altered.tar");
    fs::write(&altered, octets).expect("written");
    let (code, text) = verify(&altered, &[]);
    assert_eq!(code, Some(3), "{text}");
    assert!(text.contains("is altered"), "{text}");
}

/// As a gateway does on the way to the mailbox: what the report says is whole, its signature fits no more.
#[test]
fn a_report_whose_subject_was_marked_is_heard_and_said_to_be_of_unknown_origin() {
    let reported = Reported::new();
    let names = reported.name_server();
    let (mail, text) = reported.mail();
    let marked = text.replacen("Subject: ", "Subject: [EXTERNAL] ", 1);
    assert_ne!(marked, text);
    fs::write(&mail, marked).expect("written");
    let (archive, bundle) = reported.bundle(&names);
    let told = reported.timeline(&bundle);
    assert_eq!(told.status.code(), Some(1), "it was accepted, no more");
    let told = String::from_utf8_lossy(&told.stdout).into_owned();
    for words in [
        "(origin not shown)\n",
        "? mx1.test: the signature of mx1.test does not fit",
    ] {
        assert!(told.contains(words), "{words}: {told}");
    }
    assert!(!told.contains("left out"), "{told}");
    let (code, found) = verify(&archive, &[]);
    assert_eq!(code, Some(1), "{found}");
    assert!(
        found.contains("? the signature of 1 report in it did not fit when"),
        "{found}"
    );
}

/// A copy of the report without its key, under an id that its message does not bear: views, figures and archive tell the same
/// of it, and none takes it for another message.
#[test]
fn what_names_a_message_without_its_key_is_no_other_message() {
    let reported = Reported::new();
    let names = reported.name_server();
    let (mail, text) = reported.mail();
    // Nor is it signed, as a forger's is not.
    let begin = text.find("From: ").expect("behind the signature");
    let kept = |line: &&str| !line.starts_with("X-Hoptrail-Auth");
    let unkeyed = text[begin..].split_inclusive('\n').filter(kept);
    let unkeyed = unkeyed.map(|line| match line.strip_prefix("Original-Envelope-Id:") {
        Some(_) => "Original-Envelope-Id: f0f0f0f0f0\r\n",
        None => line,
    });
    fs::write(mail.with_file_name("unkeyed"), unkeyed.collect::<String>()).expect("a mail");

    let maildir = reported.mailbox.path().display().to_string();
    let figures = ["stats", &maildir, "--unproved"];
    let all = said(&reported.user.run(&figures, b""));
    assert!(
        all.starts_with("1 message to 1 recipient, 1 report"),
        "{all}"
    );
    assert!(
        all.contains("? 1 report left out: not proved, and on messages of which"),
        "{all}"
    );

    let (archive, bundle) = reported.bundle(&names);
    let asked = ["timeline".to_owned(), maildir, "f0f0".to_owned()];
    let told = reported.user.run(&[&asked[..], &bundle].concat(), b"");
    assert_eq!(told.status.code(), Some(1), "it settles nothing");
    let told = String::from_utf8_lossy(&told.stdout).into_owned();
    assert!(told.starts_with("Unproved word on "), "{told}");
    assert!(!told.contains("✓ every report below"), "{told}");
    let (code, found) = verify(&archive, &[]);
    assert_eq!(code, Some(1), "{found}");
    for words in ["Unproved word on ", "✓ every report below"] {
        assert!(found.contains(words), "{words}: {found}");
    }
    assert!(found.contains("the verdict in it is what"), "{found}");

    // Nor is it in an archive of the message that it names, which still tells of it.
    let archive = reported.mailbox.path().join("own.tar");
    let bundle = [
        "--bundle".to_owned(),
        archive.display().to_string(),
        at(names.address()),
    ];
    let told = reported.timeline(&bundle);
    let told = String::from_utf8_lossy(&told.stdout).into_owned();
    let (code, found) = verify(&archive, &[]);
    assert_eq!(code, Some(0), "{found}");
    for text in [told, found] {
        assert!(
            text.contains("? a report in the name of mx1.test is not proved"),
            "{text}"
        );
    }
}

/// What a mail program says of a message that was shown.
fn receipt(message_id: &str, minute: u32) -> String {
    format!(
        "From: Bob <bob@dest.test>\r\nTo: alice@origin.test\r\nDate: Thu, 26 Nov 2026 11:{minute}:02 +0000\r\n\
         Content-Type: multipart/report; report-type=disposition-notification; boundary=b\r\n\r\n\
         --b\r\n\r\nIt was shown.\r\n--b\r\nContent-Type: message/disposition-notification\r\n\r\n\
         Reporting-UA: desk.dest.test; Example Mail\r\nFinal-Recipient: rfc822; bob@dest.test\r\n\
         Original-Message-ID: <{message_id}>\r\nDisposition: manual-action/MDN-sent-manually; displayed\r\n\r\n--b--\r\n"
    )
}

/// The words of others that the verdict tells of are in the archive, and no mail on another message.
#[test]
fn an_archive_holds_the_notices_that_were_joined() {
    let reported = Reported::new();
    let names = reported.name_server();
    let new = reported.mailbox.path().join("new");
    let ours = receipt("m1@origin.test", 10);
    fs::write(new.join("ours"), &ours).expect("a mail");
    fs::write(new.join("other"), receipt("m2@origin.test", 20)).expect("a mail");
    let archive = reported.mailbox.path().join("evidence.tar");
    let bundle = [
        "--bundle".to_owned(),
        archive.display().to_string(),
        at(names.address()),
    ];
    let written = reported.timeline(&bundle);
    let told = String::from_utf8_lossy(&written.stderr).into_owned();
    assert!(told.contains("1 report and 1 notice; note its"), "{told}");
    let listed = Command::new("tar").arg("tf").arg(&archive).output();
    let listed = listed.expect("tar is there").stdout;
    let listed = String::from_utf8(listed).expect("names");
    let mails = listed.lines().filter(|name| name.starts_with("reports/"));
    assert_eq!(mails.count(), 2, "{listed}");

    let here = String::from_utf8_lossy(&written.stdout).into_owned();
    let (code, there) = verify(&archive, &[]);
    assert_eq!(code, Some(0), "{there}");
    let words = |text: &str| {
        let words = text.lines().filter(|line| line.contains("? displayed"));
        words.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(words(&here).len(), 1, "{here}");
    assert_eq!(words(&here), words(&there), "{there}");
    assert!(
        there.contains("✓ the verdict in it is what its reports and keys give"),
        "{there}"
    );
    assert!(
        there.contains("not proved: what other mail systems say"),
        "{there}"
    );

    let mut octets = fs::read(&archive).expect("the archive");
    let place = octets
        .windows(ours.len())
        .position(|w| w == ours.as_bytes());
    octets[place.expect("the notice as it lay there")] ^= 1;
    let altered = reported.mailbox.path().join("altered.tar");
    fs::write(&altered, octets).expect("written");
    assert_eq!(verify(&altered, &[]).0, Some(3));
}

/// Without hoptrail: tar, sha256sum and a DKIM verifier that shares nothing with ours.
#[test]
fn an_archive_can_be_checked_by_hand() {
    let reported = Reported::new();
    let names = reported.name_server();
    let (archive, bundle) = reported.bundle(&names);
    reported.timeline(&bundle);
    let place = tempfile::tempdir().expect("a temporary directory");
    let shell = format!(
        "tar xf {} && sha256sum --strict -c SHA256SUMS",
        archive.display()
    );
    let checked = Command::new("sh")
        .args(["-c", &shell])
        .current_dir(place.path())
        .output();
    let checked = checked.expect("a shell");
    assert!(checked.status.success(), "{checked:?}");
    let reports = fs::read_dir(place.path().join("reports")).expect("the reports");
    let verdict = |report: DirEntry| {
        let mail = fs::read(report.path()).expect("its octets");
        verify_dkim(&mail, &reported.zone)
    };
    let verdicts: Vec<_> = reports
        .map(|report| verdict(report.expect("a report")))
        .collect();
    assert_eq!(verdicts, [["rsa-sha256 pass"]]);
}

/// It was made by a hoptrail whose words were others.
#[test]
fn an_archive_of_an_earlier_version_stays_checkable() {
    let archive = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/archives/0.1.0.tar");
    let (code, text) = verify(&archive, &[]);
    assert_eq!(code, Some(1), "{text}");
    assert!(!text.contains("altered\n"), "{text}");
    for told in [
        "? in the words of another hoptrail (0.1.0)",
        "✓ every report is signed by the domain of its host (origin.test)",
        "✓ every report was asked for",
    ] {
        assert!(text.contains(told), "{told}: {text}");
    }
}
