//! Every report on a request that carried B is proved by B, whatever it tells.

#![allow(clippy::expect_used)]

mod support;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use support::dialogue::Dialogue;
use support::hoptrail::Hoptrail;
use support::mail::{Mail, Report};
use support::net;
use support::sink::{Script, Sink};

const B: [u8; 32] = [7; 32];
const MESSAGE: &[u8] = b"Message-ID: <m1@origin.test>\r\nSubject: x\r\n\r\nx\r\n";

/// Sends a message that carries B through an ingress and, as the MTA between, to the way out if there is one;
/// the one report that comes of it.
fn report(way_out: Option<(&str, Script)>, rcpts: &[&str], left: &[&str]) -> Report {
    let mta = Sink::smtp().offer("DSN").start();
    let (entrance, exit) = (net::address(), net::address());
    let reports = tempfile::tempdir().expect("a temporary directory");
    let mut config = format!(
        "hostname = 'mx1.test'\n[reports]\nfrom = 'hoptrail@mx1.test'\nvia = 'maildir:{}'\n\
         [[listener]]\nrole = 'ingress'\nlisten = '{entrance}'\nprotocol = 'smtp'\nnext_hop = '{}'\n",
        reports.path().display(),
        mta.next_hop()
    );
    let way_out = way_out.map(|(role, next)| (role, next.start()));
    if let Some((role, next)) = &way_out {
        let listener =
            format!("[[listener]]\nrole = '{role}'\nlisten = '{exit}'\nprotocol = 'lmtp'\n");
        config = format!("{config}{listener}next_hop = '{}'\n", next.next_hop());
    }
    let _hoptrail = Hoptrail::serve(&config);
    let mut client = Dialogue::open(entrance);
    client.command("EHLO client.test", "250");
    let b = URL_SAFE_NO_PAD.encode(B);
    let mail = format!("MAIL FROM:<alice@origin.test> TRACK=NOW:c256/{b}:t/1795478400000");
    client.command(&mail, "250");
    for rcpt in rcpts {
        client.command(&format!("RCPT TO:<{rcpt}>"), "250");
    }
    client.data(MESSAGE);
    client.expect("250");
    if way_out.is_some() {
        let mut mta_out = Dialogue::open(exit);
        mta_out.command("LHLO mta.test", "250");
        mta_out.command("MAIL FROM:<alice@origin.test>", "250");
        for rcpt in left {
            mta_out.command(&format!("RCPT TO:<{rcpt}>"), "250");
        }
        mta_out.data(&mta.wait_for(1)[0].data);
        for _ in left {
            mta_out.reply();
        }
    }
    support::wait_until(support::PATIENCE, "a report", || {
        match Mail::in_maildir(reports.path()).as_slice() {
            [mail] => mail.report().ok_or_else(|| format!("{mail:?}")),
            other => Err(format!("{} mails", other.len())),
        }
    })
}

fn assert_proved(report: &Report, events: &[&str]) {
    assert_eq!(report.of_recipients("X-Hoptrail-Event"), events);
    assert!(report.is_proved_by(&B), "{report:?}");
    assert!(!report.is_proved_by(&[8; 32]), "{report:?}");
}

#[test]
fn an_arrival_is_proved() {
    assert_proved(&report(None, &["bob@dest.test"], &[]), &["accepted"]);
}

#[test]
fn every_departure_is_proved() {
    let bob = ["bob@dest.test"];
    for (next, event) in [
        (Sink::smtp().offer("TRACK NOW"), "transferred"),
        (Sink::smtp(), "relayed"),
        (Sink::smtp().once("MAIL", "451 4.7.1 later"), "delayed"),
        (Sink::smtp().once("RCPT", "550 5.1.1 no"), "failed"),
    ] {
        assert_proved(&report(Some(("egress", next)), &bob, &bob), &[event]);
    }
    let members = ["x1@inner.test", "x2@inner.test"];
    let expanded = report(Some(("egress", Sink::smtp())), &bob, &members);
    assert_proved(&expanded, &["expanded"]);
}

#[test]
fn a_delivery_with_mixed_outcomes_is_proved() {
    let all = ["bob@dest.test", "carol@dest.test", "dora@dest.test"];
    let store = Sink::lmtp()
        .once("RCPT TO:<carol", "550 5.1.1 no")
        .once("DOT <dora", "452 4.2.2 full");
    let mixed = report(Some(("delivery", store)), &all, &all);
    assert_proved(&mixed, &["delivered", "failed", "delayed"]);
}
