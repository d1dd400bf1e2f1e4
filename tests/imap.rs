//! Reports in a folder on a real IMAP server: Dovecot, over TLS.

#![allow(clippy::expect_used)]

mod support;

use std::cell::Cell;
use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::Output;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use support::dovecot::{Dovecot, TOKEN_KEY};
use support::hoptrail::User;
use support::mail::report;
use support::tls::Authority;
use tempfile::TempDir;

/// A server with the user alice, and somebody who trusts its certificate and keeps an index.
struct World {
    dovecot: Dovecot,
    alice: User,
    files: TempDir,
    /// So often was a folder asked for.
    asked: Cell<usize>,
}

impl World {
    fn new() -> Self {
        let authority = Authority::new();
        let files = TempDir::with_prefix("hoptrail-imap-").expect("a temporary directory");
        let ca = files.path().join("ca.pem");
        fs::write(&ca, authority.pem()).expect("a file can be written");
        let alice = User::stranger()
            .env("SSL_CERT_FILE", ca)
            .env("XDG_CACHE_HOME", files.path().join("cache"));
        Self {
            dovecot: Dovecot::with_imap("mail.test", &["alice"], &authority),
            alice,
            files,
            asked: Cell::new(0),
        }
    }

    fn url(&self, folder: &str) -> String {
        format!("imaps://alice@{}/{folder}", self.dovecot.imaps())
    }

    fn timeline(&self, folder: &str, more: &[&str]) -> Output {
        self.asked.update(|times| times + 1);
        let url = self.url(folder);
        let args = [&["timeline", url.as_str(), "--json"], more].concat();
        self.alice.run(&args, b"")
    }

    /// What the last session looked at, where each so far has got in: headers, and whole mails.
    fn looked_at(&self) -> (usize, usize) {
        let log = self.dovecot.daemon().state().path("var/log/dovecot.log");
        support::wait_until(support::PATIENCE, "a session ended", || {
            let log = fs::read_to_string(&log).map_err(|why| why.to_string())?;
            let ends = log.lines().filter_map(|line| {
                let (headers, bodies) = line.split_once(" hdr=")?.1.split_once(" body=")?;
                Some((headers.parse().ok()?, bodies.parse().ok()?))
            });
            let ends: Vec<_> = ends.collect();
            // The server logs it some time after.
            if ends.len() < self.asked.get() {
                return Err(log);
            }
            ends.last().copied().ok_or(log.clone())
        })
    }
}

const PASSWORD: [&str; 2] = ["--password-command", "echo x"];

fn ids(output: &Output) -> Vec<String> {
    let json: serde_json::Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|why| panic!("{why}: {}", text(&output.stderr)));
    let messages = json["messages"].as_array().expect("a list");
    let ids = messages
        .iter()
        .map(|m| m["id"].as_str().expect("an id").to_owned());
    ids.collect()
}

fn text(octets: &[u8]) -> String {
    String::from_utf8_lossy(octets).into_owned()
}

/// The names of all files in the user's mail.
fn files(maildir: &Path) -> Vec<String> {
    let places = ["new", "cur"].map(|place| maildir.join(place));
    let entries = places
        .iter()
        .flat_map(|p| fs::read_dir(p).expect("a directory"));
    let mut names: Vec<_> = entries
        .map(|entry| entry.expect("an entry").path().display().to_string())
        .collect();
    names.sort();
    names
}

/// A token for the user, signed as Dovecot wants it (RFC 7515, HS256).
fn token(user: &str) -> String {
    let now = std::time::SystemTime::UNIX_EPOCH
        .elapsed()
        .expect("a clock")
        .as_secs();
    let header = URL_SAFE_NO_PAD.encode(r#"{"typ":"JWT","alg":"HS256"}"#);
    let body = format!(
        r#"{{"sub":"{user}","iat":{now},"nbf":{now},"exp":{}}}"#,
        now + 3600
    );
    let signed = format!("{header}.{}", URL_SAFE_NO_PAD.encode(body));
    let mut mac = Hmac::<Sha256>::new_from_slice(TOKEN_KEY).expect("any key");
    mac.update(signed.as_bytes());
    format!(
        "{signed}.{}",
        URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes())
    )
}

#[test]
fn a_folder_on_a_server_is_read_and_not_changed() {
    let world = World::new();
    let (one, other) = (report("aa@x", "delivered"), "Subject: hi\n\nhello\n");
    let inbox = [("new/1", one.as_str()), ("cur/2:2,S", other)];
    world.dovecot.deliver("alice", "", inbox.into_iter());
    let archived = report("bb@x", "failed");
    let archive = [("cur/3:2,", archived.as_str())];
    world.dovecot.deliver("alice", ".Old", archive.into_iter());
    let maildir = world.dovecot.maildir("alice");
    let before = files(&maildir);

    let output = world.timeline("INBOX", &PASSWORD);
    assert_eq!(ids(&output), ["aa@x"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert_eq!(
        world.looked_at(),
        (2, 1),
        "the header of both, all of the report"
    );
    assert_eq!(
        ids(&world.timeline("", &PASSWORD)),
        ["aa@x"],
        "INBOX is where mail comes"
    );
    assert_eq!(ids(&world.timeline("Old", &PASSWORD)), ["bb@x"]);
    assert_eq!(files(&maildir), before, "unread mail stays unread");
    let old = world.url("Old");
    let both = [PASSWORD.as_slice(), &[&old]].concat();
    assert_eq!(ids(&world.timeline("INBOX", &both)), ["aa@x", "bb@x"]);
}

#[test]
fn a_login_by_token_or_by_the_environment() {
    let mut world = World::new();
    let one = report("aa@x", "delivered");
    world
        .dovecot
        .deliver("alice", "", [("new/1", one.as_str())].into_iter());
    let by_token = |world: &World, token: &str| {
        let command = format!("echo {token}");
        world.timeline("INBOX", &["--token-command", &command])
    };
    let output = by_token(&world, &token("alice"));
    assert_eq!(ids(&output), ["aa@x"]);
    let refused = by_token(&world, "made.up.token");
    assert_eq!(refused.status.code(), Some(2));
    assert!(
        text(&refused.stderr).contains("login: "),
        "{}",
        text(&refused.stderr)
    );
    world.alice = world.alice.env("HOPTRAIL_PASSWORD", "x".into());
    assert_eq!(ids(&world.timeline("INBOX", &[])), ["aa@x"]);
}

#[test]
fn what_goes_wrong_is_told_with_the_way_out() {
    let world = World::new();
    world.dovecot.deliver("alice", "", std::iter::empty());
    let said = |folder: &str, more: &[&str]| {
        let output = world.timeline(folder, more);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        text(&output.stderr)
    };
    assert!(said("INBOX", &[]).contains("--password-command"));
    let wrong = said("INBOX", &["--password-command", "echo wrong"]);
    assert!(
        wrong.contains("login: the server refuses: [AUTHENTICATIONFAILED]")
            && wrong.contains("/INBOX"),
        "{wrong}"
    );
    assert!(!wrong.contains("None"), "{wrong}");
    assert!(said("INBOX", &["--password-command", "exit 3"]).contains("exit status: 3"));
    let missing = said("Nowhere", &PASSWORD);
    assert!(
        missing.contains("/Nowhere: the server refuses: "),
        "{missing}"
    );
    assert!(!missing.contains("None"), "{missing}");
    let stranger = User::stranger();
    let url = world.url("INBOX");
    let args = [&["timeline", &url], PASSWORD.as_slice()].concat();
    let output = stranger.run(&args.iter().map(OsStr::new).collect::<Vec<_>>(), b"");
    assert!(text(&output.stderr).contains("certificate"), "{output:?}");
}

#[test]
fn only_what_is_new_is_fetched() {
    let world = World::new();
    let mails = |range: std::ops::Range<usize>| {
        let mails = range.map(|n| {
            let step = format!("{n:04}");
            let one = report(&format!("id{n}@x"), "delivered").replace("5566", &step);
            (format!("cur/{n}:2,"), one)
        });
        mails.collect::<Vec<_>>()
    };
    let deliver = |mails: &[(String, String)]| {
        let mails = mails
            .iter()
            .map(|(name, mail)| (name.as_str(), mail.as_str()));
        world.dovecot.deliver("alice", "", mails);
    };
    deliver(&mails(0..600));
    let count = || ids(&world.timeline("INBOX", &PASSWORD)).len();
    assert_eq!(count(), 600);
    assert_eq!(world.looked_at(), (600, 600));
    assert_eq!(count(), 600);
    assert_eq!(world.looked_at(), (0, 0), "all of it is known");
    deliver(&mails(600..603));
    fs::remove_file(world.dovecot.maildir("alice").join("cur/5:2,")).expect("it is there");
    assert_eq!(count(), 602);
    assert_eq!(world.looked_at(), (3, 3));
    let cache = world.files.path().join("cache/hoptrail");
    assert_eq!(fs::read_dir(cache).expect("an index").count(), 1);
}
