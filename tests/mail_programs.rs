//! Mail programs as people have them, in front of a real hop: what they send through `sendmail` arrives as they
//! wrote it, and what comes back proves that it is about their mail.
//!
//! ```text
//! mutt, git send-email, cron, PHP, Python ─▶ hoptrail as sendmail ─▶ [ingress ▶ Postfix ▶ delivery] ─▶ Dovecot
//! a program that speaks SMTP and nothing else, X-Track: NOW ──────────┘             └──── reports ──────┘
//! ```

#![allow(clippy::expect_used)]

mod support;

use std::fs;
use std::io::Write as _;
use std::net::SocketAddrV4;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use support::dovecot::Dovecot;
use support::hoptrail::{BINARY, Hoptrail, User};
use support::lab;
use support::mail::{MESSAGE, Mail, wire};
use support::mta::Mta;
use support::net;

const HOST: &str = "mx.dest.test";
const SENDER: &str = "alice@origin.test";

/// Alice's desk: her programs, the hop she submits to, and her mailbox beside bob's.
struct Desk {
    alice: User,
    sendmail: PathBuf,
    entrance: SocketAddrV4,
    _hoptrail: Hoptrail,
    _mta: Mta,
    dovecot: Dovecot,
}

impl Desk {
    fn new() -> Self {
        let dovecot = Dovecot::start("store.dest.test", &["alice", "bob"]);
        let (entrance, departure) = (net::address(), net::address());
        let mta = Mta::postfix(HOST)
            .local_domain("dest.test")
            .next_hop(net::NextHop::Lmtp(departure))
            .route("origin.test", dovecot.lmtp())
            .start();
        let hoptrail = Hoptrail::serve(&format!(
            "hostname = '{HOST}'\n\
             [reports]\nfrom = 'hoptrail@{HOST}'\nvia = 'smtp://{mta}'\n\
             [policy]\nallow = ['127.0.0.0/8']\n\
             [[listener]]\nrole = 'ingress'\nlisten = '{entrance}'\nprotocol = 'smtp'\n\
             next_hop = 'smtp://{mta}'\nrequest_header = 'X-Track'\n\
             [[listener]]\nrole = 'delivery'\nlisten = '{departure}'\nprotocol = 'lmtp'\n\
             next_hop = '{}'\n",
            dovecot.lmtp(),
            mta = mta.address(),
        ));
        let alice = User::stranger();
        let account = format!("server = '{entrance}'\ndomain = 'dest.test'\n");
        fs::write(alice.home().join("send.toml"), account).expect("a file can be written");
        let sendmail = alice.home().join("sendmail");
        symlink(BINARY, &sendmail).expect("a link can be made");
        Self {
            alice,
            sendmail,
            entrance,
            _hoptrail: hoptrail,
            _mta: mta,
            dovecot,
        }
    }

    /// A program at this desk.
    fn program(&self, path: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(path);
        command
            .env("HOME", self.alice.home())
            .env("HOPTRAIL_HOME", self.alice.home())
            .env("LC_ALL", "C.UTF-8")
            .env_remove("EMAIL")
            .env_remove("HOPTRAIL_PASSWORD")
            .current_dir(self.alice.home());
        command
    }

    /// One out of an unpacked package.
    fn packaged(&self, package: &str, program: &str) -> Command {
        let usr = lab::package("clients", package).join("usr");
        let mut command = self.program(usr.join("bin").join(program));
        command
            .env("LD_LIBRARY_PATH", usr.join("lib/x86_64-linux-gnu"))
            .env("GIT_EXEC_PATH", usr.join("lib/git-core"))
            .env("GITPERLLIB", usr.join("share/perl5"));
        command
    }

    /// Bob's mail with the last of his subjects, when he has so many mails.
    fn delivered(&self, count: usize) -> Mail {
        let mails = self.dovecot.wait_for("bob", count).into_iter();
        let last = mails.max_by_key(|mail| mail.field("Subject"));
        last.expect("one at least")
    }

    /// Alice gets so many reports and no more, each of a message that bob has, and `timeline` judges them so.
    fn assert_told(&self, count: usize, truth: &str) {
        for mail in self.dovecot.wait_for("alice", count) {
            let report = mail.report().expect("a report");
            assert_eq!(report.reporting_mta(), HOST);
            assert_eq!(report.of_recipients("X-Hoptrail-Event"), ["delivered"]);
            assert_eq!(report.final_recipients(), ["bob@dest.test"]);
            let id = report.field("Original-Envelope-Id");
            let maildir = self.dovecot.maildir("alice");
            let timeline = self.alice.timeline_json(&maildir, &id);
            assert_eq!(timeline["messages"][0]["truth"], truth, "{timeline:#}");
        }
    }
}

/// Runs a program that has to succeed.
fn run(command: &mut Command, input: &[u8]) -> Output {
    command.stdin(Stdio::piped());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the program can be run");
    let _ = child.stdin.take().map(|mut pipe| pipe.write_all(input));
    let output = child.wait_with_output().expect("the program ends");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}\n{output:?}");
    output
}

/// What stands below a header.
fn body(message: &[u8]) -> &[u8] {
    let end = message.windows(2).position(|pair| pair == b"\n\n");
    &message[end.expect("an empty line") + 2..]
}

/// The body of [`MESSAGE`] without its longest line, for which programs choose quoted-printable.
fn text() -> Vec<u8> {
    let lines = body(MESSAGE).split_inclusive(|&octet| octet == b'\n');
    lines
        .filter(|line| line.len() < 900)
        .flatten()
        .copied()
        .collect()
}

fn written(path: &Path, text: impl AsRef<[u8]>) -> PathBuf {
    fs::write(path, text).expect("a file can be written");
    path.to_owned()
}

#[test]
fn by_either_name_wrong_use_is_told_and_is_64() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let link = home.path().join("sendmail");
    symlink(BINARY, &link).expect("a link can be made");
    for (program, name) in [(Path::new(BINARY), &["sendmail"][..]), (&link, &[])] {
        let ended = |word: &str| {
            let mut command = Command::new(program);
            let output = command.args(name).arg(word).stdin(Stdio::null()).output();
            let output = output.expect("the binary can be run");
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.stdout.is_empty() || word == "--help", "{output:?}");
            (output.status.code(), said)
        };
        for (word, says) in [
            ("-bp", "no queue to show"),
            ("-bs", "no SMTP on standard input"),
            ("-Nx", "success"),
        ] {
            let (code, said) = ended(word);
            assert!(code == Some(64) && said.contains(says), "{code:?} {said}");
        }
        assert_eq!(ended("--help").0, Some(0));
        // What runs when a network comes up: there is no queue, so nothing is to be done.
        assert_eq!(ended("-q"), (Some(0), String::new()));
    }
}

#[test]
fn mutt_sends_and_its_sender_is_told() {
    let desk = Desk::new();
    let settings = format!(
        "set sendmail='{} -oem -oi'\nset from={SENDER}\nset use_envelope_from=yes\nset copy=no\nset user_agent=yes\n\
         set charset=utf-8\nset send_charset=utf-8\nset dsn_notify='failure'\nset dsn_return=hdrs\n",
        desk.sendmail.display()
    );
    let muttrc = written(&desk.alice.home().join("muttrc"), settings);
    let mut mutt = desk.packaged("mutt", "mutt");
    mutt.arg("-n").arg("-F").arg(muttrc);
    mutt.args([
        "-s",
        "from mutt",
        "-b",
        "bob@dest.test",
        "--",
        "bob@dest.test",
    ]);
    run(&mut mutt, &text());
    let mail = desk.delivered(1);
    assert_eq!(body(mail.below_trace()), text(), "{mail:?}");
    assert_eq!(mail.field("Bcc"), None);
    assert_eq!(mail.hoptrail_fields(), Vec::<String>::new());
    assert!(
        mail.field("User-Agent")
            .is_some_and(|agent| agent.contains("Mutt"))
    );
    desk.assert_told(1, "verified");
}

#[test]
fn git_send_email_sends_a_patch_and_its_sender_is_told() {
    let desk = Desk::new();
    let git = |args: &[&str]| {
        let mut git = desk.packaged("git", "git");
        git.env("GIT_CONFIG_NOSYSTEM", "1").args(args);
        git
    };
    run(&mut git(&["init", "--quiet", "--initial-branch=main"]), b"");
    let name = "Älice Example";
    let settings = [
        ("user.name", name),
        ("user.email", SENDER),
        (
            "sendemail.smtpServer",
            desk.sendmail.to_str().expect("text"),
        ),
        ("sendemail.envelopeSender", "auto"),
        ("sendemail.confirm", "never"),
        ("sendemail.suppressCc", "all"),
    ];
    for (key, value) in settings {
        run(&mut git(&["config", key, value]), b"");
    }
    written(&desk.alice.home().join("nasty.txt"), text());
    run(&mut git(&["add", "nasty.txt"]), b"");
    run(
        &mut git(&["commit", "--quiet", "-m", "Keep\n\n.\n.dots, äöü"]),
        b"",
    );
    let patch = run(&mut git(&["format-patch", "-1"]), b"");
    let patch = String::from_utf8(patch.stdout).expect("text");
    let command = format!("--sendmail-cmd='{BINARY}' sendmail");
    for more in [&[][..], &[command.as_str()]] {
        let words = [&["send-email"], more, &["--to=bob@dest.test", patch.trim()]];
        run(&mut git(&words.concat()), b"");
    }
    let patch = fs::read(desk.alice.home().join(patch.trim())).expect("the patch");
    for mail in desk.dovecot.wait_for("bob", 2) {
        assert_eq!(body(mail.below_trace()), body(&patch), "{mail:?}");
        let mailer = mail.field("X-Mailer").unwrap_or_default();
        assert!(mailer.contains("git-send-email"), "{mail:?}");
    }
    desk.assert_told(2, "verified");
}

#[test]
fn a_script_sends_octet_for_octet() {
    let desk = Desk::new();
    let script = "import subprocess, sys\n\
        done = subprocess.run([sys.argv[1], '-t', '-oi'], input=sys.stdin.buffer.read(), capture_output=True)\n\
        sys.exit(done.returncode or len(done.stdout) + len(done.stderr))\n";
    let message = String::from_utf8_lossy(MESSAGE).replace(", Carol <carol@dest.test>", "");
    let mut python = desk.program("python3");
    python.args(["-c", script]).arg(&desk.sendmail);
    run(&mut python, message.as_bytes());
    assert_eq!(desk.delivered(1).below_trace(), message.as_bytes());
    desk.assert_told(1, "verified");
}

/// As `do_command.c` of Debian's cron and PHP's `mail()` call it.
#[test]
fn cron_and_php_are_served() {
    let desk = Desk::new();
    let mut cron = desk.program(&desk.sendmail);
    cron.args([
        "-FCronDaemon",
        "-i",
        "-B8BITMIME",
        "-oem",
        "-f",
        SENDER,
        "bob",
    ]);
    let job = "From: root (Cron Daemon)\nTo: bob\nSubject: 1 Cron <root@here> job\nMIME-Version: 1.0\n\
        Content-Type: text/plain; charset=UTF-8\nContent-Transfer-Encoding: 8bit\n\
        X-Cron-Env: <SHELL=/bin/sh>\n\nout\n.\nünd\n";
    let said = run(&mut cron, job.as_bytes());
    assert!(said.stdout.is_empty() && said.stderr.is_empty(), "{said:?}");
    assert_eq!(
        body(desk.delivered(1).below_trace()),
        "out\n.\nünd\n".as_bytes()
    );

    let mut php = desk.program("sh");
    php.args(["-c", "\"$0\" -t -i -falice@origin.test"])
        .arg(&desk.sendmail);
    let page = "To: bob@dest.test\nSubject: 2 PHP\r\nX-PHP-Originating-Script: 0:x.php\r\n\
        From: web@origin.test\r\n\r\nfirst\r\n.\nlast\n";
    let said = run(&mut php, page.as_bytes());
    assert!(said.stdout.is_empty() && said.stderr.is_empty(), "{said:?}");
    let mail = desk.delivered(2);
    assert_eq!(mail.field("Subject").as_deref(), Some("2 PHP"));
    assert_eq!(body(mail.below_trace()), b"first\n.\nlast\n");
    desk.assert_told(2, "verified");
}

/// Thunderbird and its like add a field to a message and know nothing else; nobody vouches for the reports then.
#[test]
fn a_program_that_only_speaks_smtp_asks_in_its_header() {
    let desk = Desk::new();
    let script = "import smtplib, sys\n\
        with smtplib.SMTP(sys.argv[1], int(sys.argv[2])) as server:\n\
        \x20   server.sendmail('alice@origin.test', ['bob@dest.test'], sys.stdin.buffer.read(), ['BODY=8BITMIME'])\n";
    let mut python = desk.program("python3");
    let (ip, port) = (desk.entrance.ip(), desk.entrance.port());
    python.args(["-c", script, &ip.to_string(), &port.to_string()]);
    let asking = [b"X-Track: NOW (please)\n", MESSAGE].concat();
    run(&mut python, &wire(&asking));
    let mail = desk.delivered(1);
    assert_eq!(mail.below_trace(), MESSAGE, "{mail:?}");
    desk.assert_told(1, "unverifiable");
}
