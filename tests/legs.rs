//! What is told of the two legs of a hop: TLS on either, and how long a server looked at a message before it took
//! it. The test plays the client and the MTA.

#![allow(clippy::expect_used)]

mod support;

use std::net::SocketAddrV4;
use std::time::Duration;

use support::dialogue::Dialogue;
use support::hoptrail::{Hoptrail, User};
use support::mail::{Mail, Report};
use support::net;
use support::sink::{Script, Sink};
use support::tls_hop::{NAME, SMALL, Setup};

/// What there is of a hop when it has passed a message.
struct Passed {
    report: Report,
    timeline: String,
    json: serde_json::Value,
}

/// Passes a tracked message through an ingress with STARTTLS and, as the MTA, through an egress to `next`;
/// `more` is a line of the egress.
fn pass(setup: Setup, next: Script, more: &str, client_tls: bool, mta: Script) -> Passed {
    let (next, mta) = (next.start(), mta.start());
    let (entrance, exit) = (net::address(), net::address());
    let setup = setup
        .listener("ingress", entrance, mta.next_hop())
        .tls("starttls")
        .listener("egress", exit, next.next_hop())
        .line(more);
    let (_hoptrail, setup): (Hoptrail, Setup) = setup.start();
    let message = arrive(entrance, &setup, client_tls, &mta);
    let mut out = Dialogue::open(exit);
    out.submit("alice@origin.test", &["bob@dest.test"], &message);
    let reports = setup.file("reports");
    let report = support::wait_until(support::PATIENCE, "a report", || {
        let mails = Mail::in_maildir(&reports);
        mails.iter().find_map(Mail::report).ok_or("none".to_owned())
    });
    let id = report.field("Original-Envelope-Id");
    let user = User::stranger();
    let shown = user.timeline(&reports, Some(&id)).stdout;
    Passed {
        report,
        timeline: String::from_utf8(shown).expect("UTF-8"),
        json: user.timeline_json(&reports, &id)["messages"][0]["hops"][0]["steps"][0].clone(),
    }
}

/// The message as the MTA has it.
fn arrive(entrance: SocketAddrV4, setup: &Setup, tls: bool, mta: &Sink) -> Vec<u8> {
    let mut client = Dialogue::open(entrance);
    if tls {
        client.start_tls(&setup.authority, NAME);
    }
    client.command("EHLO client.test", "250");
    client.command("MAIL FROM:<alice@origin.test> TRACK=NOW", "250");
    client.command("RCPT TO:<bob@dest.test>", "250");
    client.data(SMALL);
    client.expect("250");
    mta.wait_for(1)[0].data.clone()
}

#[test]
fn a_verified_next_hop_and_a_client_under_tls() {
    let setup = Setup::new();
    let next = Sink::smtp().starttls(setup.authority.issue("mx2.test").server());
    let ca = setup.file("ca.pem").display().to_string();
    let more = format!("next_hop_tls = {{ mode = 'required', ca = '{ca}', name = 'mx2.test' }}");
    let passed = pass(setup, next, &more, true, Sink::smtp());
    let suite = "TLS_AES_256_GCM_SHA384";
    assert_eq!(
        passed.report.field("X-Hoptrail-TLS-In"),
        format!("1.3; {suite}; unverified")
    );
    assert_eq!(
        passed.report.field("X-Hoptrail-TLS-Out"),
        format!("1.3; {suite}; verified")
    );
    assert!(
        passed
            .timeline
            .contains("in: TLS 1.3; out: TLS 1.3, verified"),
        "{}",
        passed.timeline
    );
    let tls = |verified: bool| serde_json::json!({ "on": true, "version": "1.3", "cipher": suite, "verified": verified });
    assert_eq!(passed.json["tls_in"], tls(false));
    assert_eq!(passed.json["tls_out"], tls(true));
}

#[test]
fn what_nobody_verified_and_what_was_plaintext() {
    let setup = Setup::new();
    let next = Sink::smtp().starttls(setup.authority.issue("other.test").server());
    let more = "next_hop_tls = { mode = 'opportunistic' }";
    let passed = pass(setup, next, more, false, Sink::smtp());
    assert_eq!(passed.report.field("X-Hoptrail-TLS-In"), "none");
    let out = passed.report.field("X-Hoptrail-TLS-Out");
    assert!(out.ends_with("; unverified"), "{out}");
    assert!(
        passed
            .timeline
            .contains("in: plaintext; out: TLS 1.3, not verified"),
        "{}",
        passed.timeline
    );

    let passed = pass(Setup::new(), Sink::smtp(), "", true, Sink::smtp());
    assert_eq!(passed.report.field("X-Hoptrail-TLS-Out"), "none");
    let plain =
        serde_json::json!({ "on": false, "version": null, "cipher": null, "verified": false });
    assert_eq!(passed.json["tls_out"], plain);
}

/// A filter in front of the MTA's queue holds up the answer to the dot; so may the next hop's.
#[test]
fn a_pause_before_the_answer_is_measured_on_either_leg() {
    const PAUSE: Duration = Duration::from_millis(1200);
    let slow = || Sink::smtp().think(PAUSE);
    let passed = pass(Setup::new(), slow(), "", false, slow());
    let us = |name: &str| passed.json[name].as_i64().unwrap_or_default();
    for name in ["pause_in_us", "pause_out_us"] {
        assert!(
            (1_200_000..10_000_000).contains(&us(name)),
            "{name} {}",
            us(name)
        );
    }
    assert!(us("attempt_us") >= us("pause_out_us"), "{}", passed.json);
    for (words, name) in [
        (", accepted", "pause_in_us"),
        (", which took it", "pause_out_us"),
    ] {
        // It is shown to the hundredth.
        let words = format!("{words} {}.", (us(name) + 5_000) / 1_000_000);
        assert!(
            passed.timeline.contains(&words),
            "{words} {}",
            passed.timeline
        );
    }
}
