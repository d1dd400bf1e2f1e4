//! Who wrote a report: signatures by keys that `hoptrail key dkim` made, checked with the record it prints, by an
//! implementation that shares nothing with ours; and what the keys' file and a reload have to do with it.

#![allow(clippy::expect_used)]

mod support;

use std::fs::{self, Permissions};
use std::net::SocketAddrV4;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use support::dialogue::Dialogue;
use support::hoptrail::{Hoptrail, User, said};
use support::lab::verify_dkim;
use support::net;
use support::sink::Sink;
use support::tls_hop::{NAME, SMALL};
use tempfile::TempDir;

const BOTH: [&str; 2] = ["rsa-sha256", "ed25519-sha256"];

/// A key of this kind in `directory`, with the zone text that publishes it.
fn make(directory: &Path, algorithm: &str) -> (PathBuf, String) {
    let path = directory.join(format!("{algorithm}.pem"));
    let key = path.display().to_string();
    let args = [
        "key",
        "dkim",
        "--domain",
        NAME,
        "--selector",
        algorithm,
        "--key",
        &key,
    ];
    let text = said(&User::stranger().run(&[&args[..], &["--algorithm", algorithm]].concat(), b""));
    (path, text)
}

/// A hop that signs with a key of each kind, and mails its reports to `mailbox`.
struct Signing {
    keys: TempDir,
    /// What publishes the keys.
    zone: String,
    entrance: SocketAddrV4,
    mailbox: Sink,
    hoptrail: Hoptrail,
    _next: Sink,
}

impl Signing {
    /// With a listener of this role.
    fn start(role: &str) -> Self {
        let keys = tempfile::tempdir().expect("a temporary directory");
        let kinds = ["rsa", "ed25519"];
        let zone = kinds.map(|kind| make(keys.path(), kind).1).concat();
        let table = |kind: &str| {
            let key = keys.path().join(format!("{kind}.pem"));
            format!(
                "{{ domain = '{NAME}', selector = '{kind}', key = '{}' }}",
                key.display()
            )
        };
        let (next, mailbox) = (Sink::smtp().start(), Sink::smtp().start());
        let entrance = net::address();
        let hoptrail = Hoptrail::serve(&format!(
            "hostname = '{NAME}'\n[reports]\nfrom = 'hoptrail@{NAME}'\nvia = '{}'\ndkim = [{}]\n\
             [[listener]]\nrole = '{role}'\nlisten = '{entrance}'\nprotocol = 'smtp'\nnext_hop = '{}'\n",
            mailbox.next_hop(),
            kinds.map(table).join(", "),
            next.next_hop()
        ));
        Self {
            keys,
            zone,
            entrance,
            mailbox,
            hoptrail,
            _next: next,
        }
    }

    /// What is mailed when somebody says this; so many mails there are then.
    fn told(&self, count: usize, mail: &str, rcpt: &str) -> Vec<u8> {
        let mut client = Dialogue::open(self.entrance);
        client.command("EHLO client.test", "250");
        client.command(mail, "250");
        client.command(rcpt, "250");
        client.data(SMALL);
        client.expect("250");
        self.mailbox.wait_for(count).remove(count - 1).data
    }
}

fn verdicts(verdict: &str) -> Vec<String> {
    BOTH.iter()
        .map(|algorithm| format!("{algorithm} {verdict}"))
        .collect()
}

#[test]
fn a_report_carries_both_signatures_and_no_change_survives_them() {
    let hop = Signing::start("ingress");
    let b = "c256/AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";
    let asks = format!("MAIL FROM:<alice@origin.test> TRACK=NOW:{b}");
    let report = hop.told(1, &asks, "RCPT TO:<bob@dest.test>");
    let report = String::from_utf8(report).expect("ASCII");
    assert_eq!(verify_dkim(report.as_bytes(), &hop.zone), verdicts("pass"));

    let config = hop.hoptrail.config().display().to_string();
    let shown = said(&User::stranger().run(&["key", "dkim", "--config", &config], b""));
    assert_eq!(verify_dkim(report.as_bytes(), &shown), verdicts("pass"));

    for (from, to) in [
        ("\r\nFrom: ", "\r\nFrom: <bob@dest.test>, "),
        ("\r\nTo: ", "\r\nTo: <mallory@evil.test>, "),
        ("\r\nSubject: ", "\r\nSubject: not "),
        ("\r\nAuto-Submitted: ", "\r\nX-Was: "),
        ("\r\nFrom: ", "\r\nFrom: mallory@evil.test\r\nFrom: "),
        ("\r\nFrom: ", "\r\nReply-To: mallory@evil.test\r\nFrom: "),
    ] {
        let tampered = report.replacen(from, to, 1);
        assert_ne!(tampered, report, "{from:?} stands in it");
        assert_eq!(
            verify_dkim(tampered.as_bytes(), &hop.zone),
            verdicts("fail"),
            "{to:?}"
        );
    }
    for (from, to) in [
        ("accepted", "delivered"),
        ("\r\nX-Hoptrail-Auth:", "\r\nX-Other:"),
    ] {
        let tampered = report.replace(from, to);
        let said = verify_dkim(tampered.as_bytes(), &hop.zone);
        assert!(
            said.iter().all(|line| line.contains("body hash mismatch")),
            "{said:?}"
        );
    }
    // As a relay may leave it: a trace field on top, blanks and lines at the end.
    let relayed = format!("Received: by relay.test; now\r\n{report} \r\n\r\n");
    assert_eq!(verify_dkim(relayed.as_bytes(), &hop.zone), verdicts("pass"));
}

#[test]
fn a_notification_is_signed_too() {
    let hop = Signing::start("egress");
    let mail = hop.told(
        1,
        "MAIL FROM:<alice@origin.test>",
        "RCPT TO:<bob@dest.test> NOTIFY=SUCCESS",
    );
    let text = String::from_utf8_lossy(&mail);
    assert!(text.contains("delivery-status"), "{text}");
    assert_eq!(verify_dkim(&mail, &hop.zone), verdicts("pass"));
}

#[test]
fn a_reload_takes_over_keys_and_refuses_those_of_no_use() {
    let hop = Signing::start("ingress");
    let report = |count: usize| {
        hop.told(
            count,
            "MAIL FROM:<alice@origin.test> TRACK=NOW",
            "RCPT TO:<bob@dest.test>",
        )
    };
    assert_eq!(verify_dkim(&report(1), &hop.zone), verdicts("pass"));

    let ed25519 = hop.keys.path().join("ed25519.pem");
    fs::remove_file(&ed25519).expect("it is there");
    let (_, new) = make(hop.keys.path(), "ed25519");
    hop.hoptrail.reload();
    let second = report(2);
    assert_eq!(
        verify_dkim(&second, &hop.zone),
        ["rsa-sha256 pass", "ed25519-sha256 fail"]
    );
    let rsa = make(hop.keys.path(), "rsa").1;
    assert_eq!(
        verify_dkim(&second, &(new.clone() + &rsa)),
        verdicts("pass")
    );

    fs::set_permissions(&ed25519, Permissions::from_mode(0o644)).expect("it is ours");
    hop.hoptrail.reload();
    let log = hop.hoptrail.log();
    assert!(
        log.contains("THE OLD CONFIGURATION STAYS")
            && log.contains("dkim.key")
            && log.contains("chmod 600"),
        "{log}"
    );
    assert_eq!(verify_dkim(&report(3), &(new + &rsa)), verdicts("pass"));
}
