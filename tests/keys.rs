//! `hoptrail key`: what an administrator reads, and what the keys then do.

#![allow(clippy::expect_used)]

mod support;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use support::dialogue::Dialogue;
use support::hoptrail::{Hoptrail, User, said};
use support::net;
use support::sink::Sink;
use support::tls_hop::{NAME, SMALL};
use tempfile::TempDir;

/// The key of RFC 8463, A.1.
const ED25519: &str = "-----BEGIN PRIVATE KEY-----\n\
     MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n-----END PRIVATE KEY-----\n";

fn key(args: &[&str], input: &str) -> std::process::Output {
    User::stranger().run(&[&["key"], args].concat(), input.as_bytes())
}

fn refused(args: &[&str], input: &str) -> String {
    let output = key(args, input);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn dkim(path: &Path, more: &[&str]) -> Vec<String> {
    let path = path.display().to_string();
    let args = [
        "dkim",
        "--domain",
        "football.example.com",
        "--selector",
        "brisbane",
        "--key",
        &path,
    ];
    args.iter()
        .chain(more)
        .map(|arg| (*arg).to_owned())
        .collect()
}

fn borrowed(args: &[String]) -> Vec<&str> {
    args.iter().map(String::as_str).collect()
}

fn write(directory: &TempDir, name: &str, text: &str, mode: u32) -> PathBuf {
    let path = directory.path().join(name);
    fs::write(&path, text).expect("a file can be written");
    fs::set_permissions(&path, Permissions::from_mode(mode)).expect("it is ours");
    path
}

#[test]
fn a_record_is_ready_to_paste() {
    let directory = TempDir::new().expect("a temporary directory");
    let path = write(&directory, "ed25519.pem", ED25519, 0o600);
    let text = said(&key(&borrowed(&dkim(&path, &[])), ""));
    let text = text.replace(&path.display().to_string(), "/etc/hoptrail/dkim.pem");
    insta::assert_snapshot!(text, @r#"
    ; /etc/hoptrail/dkim.pem: Ed25519 key
    ; First publish this. A form for records takes the name without its last dot, and what
    ; stands between the quotes as one.
    brisbane._domainkey.football.example.com. IN TXT (
        "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="
    )
    ; Once the DNS shows it, put this under [reports] and reload the hop (SIGHUP):
    ; dkim = { domain = "football.example.com", selector = "brisbane", key = "/etc/hoptrail/dkim.pem" }
    "#);
}

#[test]
fn a_key_is_made_once_for_its_owner_alone() {
    let directory = TempDir::new().expect("a temporary directory");
    for (algorithm, strings) in [("rsa", 2), ("ed25519", 1)] {
        let path = directory.path().join(algorithm);
        let args = dkim(&path, &["--algorithm", algorithm]);
        let first = said(&key(&borrowed(&args), ""));
        let mode = fs::metadata(&path)
            .expect("it is made")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(first.contains("key, made just now"), "{first}");
        let record: Vec<_> = first.lines().filter(|l| l.starts_with("    \"")).collect();
        assert_eq!(record.len(), strings, "{first}");
        assert!(record.iter().all(|l| l.trim().len() <= 257), "{first}");
        let again = said(&key(&borrowed(&args), ""));
        assert!(!again.contains("made just now"), "{again}");
        assert!(
            again.contains(&format!("key = \"{}\"", path.display())),
            "{again}"
        );
        assert!(record.iter().all(|line| again.contains(line)), "{again}");
        // Anybody else's tool reads it.
        let read = std::process::Command::new("openssl")
            .args(["pkey", "-noout", "-in"])
            .arg(&path)
            .status();
        assert!(read.is_ok_and(|status| status.success()));
    }
    let both = dkim(&directory.path().join("rsa"), &["--algorithm", "ed25519"]);
    let error = refused(&borrowed(&both), "");
    assert!(error.contains("there is an RSA key already"), "{error}");
    let open = write(&directory, "open.pem", ED25519, 0o644);
    let error = refused(&borrowed(&dkim(&open, &[])), "");
    assert!(error.contains("chmod 600"), "{error}");
    let error = refused(&["dkim", "--domain", "example.net"], "");
    assert!(error.contains("--selector"), "{error}");
}

/// A hop, and the key ids its carry headers name.
struct Hop {
    hoptrail: Hoptrail,
    entrance: std::net::SocketAddrV4,
    mta: Sink,
}

impl Hop {
    fn start() -> Self {
        let (mta, entrance) = (Sink::smtp().start(), net::address());
        let hoptrail = Hoptrail::serve(&format!(
            "hostname = '{NAME}'\n[reports]\nfrom = 'hoptrail@{NAME}'\nvia = 'maildir:/nonexistent'\n\
             [[listener]]\nrole = 'ingress'\nlisten = '{entrance}'\nprotocol = 'smtp'\nnext_hop = '{}'\n",
            mta.next_hop()
        ));
        Self {
            hoptrail,
            entrance,
            mta,
        }
    }

    fn key(&self, command: &str, more: &[&str], input: &str) -> std::process::Output {
        let config = self.hoptrail.config().display().to_string();
        key(&[&[command, "--config", &config], more].concat(), input)
    }

    /// The name of the key that signs, as `show` lists it.
    fn signing(&self) -> String {
        let shown = said(&self.key("show", &[], ""));
        let first = shown.lines().next().expect("a key");
        first
            .strip_suffix("  signs")
            .expect("the first one signs")
            .to_owned()
    }

    /// Sends a tracked message on its way; gives what the MTA got.
    fn pass(&self, message: &[u8], count: usize) -> String {
        let mut client = Dialogue::open(self.entrance);
        client.command("EHLO client.test", "250");
        client.command("MAIL FROM:<a@origin.test> TRACK=NOW", "250");
        client.command("RCPT TO:<b@dest.test>", "250");
        client.data(message);
        client.expect("250");
        String::from_utf8_lossy(&self.mta.wait_for(count)[count - 1].data).into_owned()
    }
}

#[test]
fn a_rotation_is_told_step_by_step_and_takes_effect_at_a_reload() {
    let hop = Hop::start();
    let old = hop.signing();
    let rotated = said(&hop.key("rotate", &[], ""));
    let new = hop.signing();
    let steady = rotated.replace(&old, "01d01d00").replace(&new, "0e30e300");
    insta::assert_snapshot!(steady, @"
    0e30e300  signs
    01d01d00  is recognised

    First give the new key to the hops that share keys with this one (`hoptrail key
    share` here, `hoptrail key add` there) and reload them; then reload this one (SIGHUP).
    After 7 days no mail carries the old key any more: `hoptrail key remove 01d01d00`.
    ");
    assert!(hop.pass(SMALL, 1).contains(&format!("kid={old}")));
    hop.hoptrail.reload();
    assert!(hop.pass(SMALL, 2).contains(&format!("kid={new}")));

    let error = String::from_utf8(hop.key("remove", &[&new], "").stderr).expect("text");
    assert!(error.contains("rotate first"), "{error}");
    let left = said(&hop.key("remove", &[&old], ""));
    let steady = left.replace(&new, "0e30e300");
    insta::assert_snapshot!(steady, @"
    0e30e300  signs

    Reload the hop (SIGHUP) for it to take effect.
    ");
}

/// Neither the way out of reports nor a certificate has to be there for it.
#[test]
fn work_on_keys_needs_no_more_of_the_configuration_than_it_uses() {
    let hop = Hop::start();
    let signing = hop.signing();
    let directory = TempDir::new().expect("a temporary directory");
    let dkim = write(&directory, "dkim.pem", ED25519, 0o600);
    let text = fs::read_to_string(hop.hoptrail.config()).expect("the configuration");
    let via = format!(
        "via = 'sendmail:/nowhere/sendmail'\n\
         dkim = {{ domain = '{NAME}', selector = 's', key = '{}' }}",
        dkim.display()
    );
    let text = text.replace("via = 'maildir:/nonexistent'", &via)
        + "tls = { mode = 'starttls', cert = '/nowhere/cert.pem', key = '/nowhere/key.pem' }\n";
    fs::write(hop.hoptrail.config(), &text).expect("it can be written");
    assert_eq!(hop.signing(), signing);
    let config = hop.hoptrail.config().display().to_string();
    let record = said(&key(&["dkim", "--config", &config], ""));
    assert!(record.contains("k=ed25519"), "{record}");
    hop.hoptrail.reload();
    let log = hop.hoptrail.log();
    assert!(log.contains("reports.via: /nowhere/sendmail"), "{log}");
    // Before the first start.
    let keys = hop.hoptrail.state_dir().join("carry.keys");
    fs::remove_file(&keys).expect("there are keys");
    let error = String::from_utf8(hop.key("show", &[], "").stderr).expect("text");
    assert!(
        error.contains("`hoptrail serve` makes the first key"),
        "{error}"
    );
    // What is wrong with the file itself is told all the same.
    fs::write(hop.hoptrail.config(), format!("nonsense = 1\n{text}")).expect("it can be written");
    let error = String::from_utf8(hop.key("show", &[], "").stderr).expect("text");
    assert!(error.contains(&format!("{config}:1: ")), "{error}");
}

/// What one hop shares, another recognises: its carry header is taken for what it is, and out.
#[test]
fn a_shared_key_is_recognised_by_the_other_hop() {
    let (one, two) = (Hop::start(), Hop::start());
    let line = said(&one.key("share", &[], ""));
    assert_eq!(line.split(' ').next(), Some(one.signing().as_str()));
    let carried = one.pass(SMALL, 1);
    let theirs = format!("kid={}", one.signing());
    assert!(carried.contains(&theirs), "{carried}");
    let unknown = two.pass(carried.as_bytes(), 1);
    assert!(
        unknown.contains(&theirs),
        "not ours, so not touched: {unknown}"
    );

    let added = said(&two.key("add", &[], &line));
    let steady = added
        .replace(&two.signing(), "22222222")
        .replace(&one.signing(), "11111111");
    insta::assert_snapshot!(steady, @"
    22222222  signs
    11111111  is recognised

    Reload the hop (SIGHUP) for it to take effect.
    ");
    two.hoptrail.reload();
    let known = two.pass(carried.as_bytes(), 2);
    assert!(!known.contains(&theirs), "{known}");
    assert!(known.contains(&format!("kid={}", two.signing())), "{known}");

    let again = two.key("add", &[], &line);
    assert_eq!(again.status.code(), Some(2), "{again:?}");
}
