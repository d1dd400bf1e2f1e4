//! What a hop tells of itself: to whom all of it, to whom its organisation's name and the time, to whom nothing.

#![allow(clippy::expect_used)]

mod support;

use std::time::Duration;

use support::hop::{FROM, Hop};
use support::hoptrail::User;
use support::mail::Mail;
use support::sink::Sink;

const MESSAGE: &[u8] = b"Received: from client.origin.test (unknown [192.0.2.9])\r\n\
    \tby mail.origin.test; Mon, 23 Nov 2026 12:00:00 +0000\r\n\
    Message-ID: <m1@origin.test>\r\nSubject: x\r\n\r\nlast\r\n";
const MAIL: &str = "MAIL FROM:<alice@origin.test> TRACK=NOW:up/00000000000000aa:hop/1 ENVID=E1";

/// A hop whose arrival is told as well.
fn hop_under(policy: &str, next: &str) -> Hop {
    let mta = Sink::smtp()
        .greet("220 queue7.inside.dest.test ESMTP")
        .offer("DSN")
        .always("DOT", "250 2.0.0 Ok: queued as 4F1A2B3C");
    let next = Sink::smtp()
        .greet("220 store9.inside.dest.test ESMTP")
        .offer(next)
        .once(
            "RCPT TO:<gone",
            "550 5.1.1 <gone@dest.test> no such user in ward 6",
        )
        .always("DOT", "250 2.0.0 Ok: queued as 5E6F7A8B");
    let head = format!(
        "hostname = 'mx1.dest.test'\nreports.from = 'reports@dest.test'\nreports.accepted = 'always'\n\
         policy = {{ allow = ['127.0.0.0/8'], {policy} }}"
    );
    Hop::headed(mta, next, &head)
}

/// A message in and out again, towards these recipients.
fn pass(hop: &Hop, to: &[&str], out: &[&str]) {
    let carried = hop.arrive_with(MAIL, to, MESSAGE).data;
    let trace = b"Received: from mx1 by queue7.inside.dest.test for <member@dest.test>\r\n";
    hop.leave_as(FROM, out, &[&trace[..], &carried].concat());
}

#[test]
fn an_organisation_tells_its_name_and_the_time_and_nothing_else() {
    let hop = hop_under("disclose = 'organisation', received = true", "DSN");
    pass(
        &hop,
        &["bob@dest.test", "gone@dest.test"],
        &["RCPT TO:<bob@dest.test>", "RCPT TO:<gone@dest.test>"],
    );
    let mails = hop.wait_for_mails(2);
    for mail in &mails {
        let text = format!("{mail:?}");
        for secret in [
            "mx1",
            "inside",
            "4F1A2B3C",
            "5E6F7A8B",
            "ward",
            "no such user",
            "5.1.1",
            "queue",
            "127.",
            "192.0.2.9",
            "Received:",
            "X-Hoptrail-Size",
            "X-Hoptrail-Times",
        ] {
            assert!(!text.contains(secret), "{secret}: {text}");
        }
        let report = mail.report().expect("a report");
        assert_eq!(report.reporting_mta(), "dest.test");
        assert_eq!(
            report.final_recipients(),
            ["bob@dest.test", "gone@dest.test"]
        );
        assert!(report.field("X-Hoptrail-Arrived").parse::<i64>().is_ok());
    }
    let departure = mails
        .iter()
        .filter_map(Mail::report)
        .find(|r| r.field("X-Hoptrail-Role") == "egress");
    let departure = departure.expect("a departure");
    assert_eq!(
        departure.of_recipients("X-Hoptrail-Event"),
        ["relayed", "failed"]
    );
    assert_eq!(departure.of_recipients("Status"), ["2.1.9", "5.0.0"]);
    assert!(
        departure
            .of_recipients("X-Hoptrail-Attempted")
            .iter()
            .all(|at| at.parse::<i64>().is_ok())
    );
    // The reader makes of it what there is.
    let shown = User::stranger().timeline(hop.reports.path(), Some("E1"));
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(
        shown.contains("dest.test") && shown.contains("gone@dest.test"),
        "{shown}"
    );
}

#[test]
fn who_is_silent_passes_the_request_on_as_it_came() {
    let hop = hop_under("disclose = { networks = 'silent' }", "TRACK NOW");
    pass(&hop, &["bob@dest.test"], &["RCPT TO:<bob@dest.test>"]);
    let onward = hop.next.wait_for(1)[0].mail_from.clone();
    assert!(
        onward.contains("TRACK=NOW:id/E1:hop/2:up/00000000000000aa"),
        "{onward}"
    );
    std::thread::sleep(Duration::from_millis(500));
    hop.wait_for_mails(0);
}

#[test]
fn received_fields_are_told_where_they_may_be() {
    for (policy, fields) in [
        ("received = true", true),
        ("received = false", false),
        ("verified_reports_per_hour_max = 1", false),
    ] {
        let hop = hop_under(policy, "DSN");
        pass(&hop, &["bob@dest.test"], &["RCPT TO:<bob@dest.test>"]);
        for mail in hop.wait_for_mails(2) {
            let text = format!("{mail:?}");
            assert_eq!(
                text.contains("Content-Type: text/rfc822-headers"),
                fields,
                "{text}"
            );
            assert_eq!(text.contains("[192.0.2.9]"), fields, "{text}");
            assert_eq!(
                mail.report().expect("a report").final_recipients(),
                ["bob@dest.test"]
            );
        }
        let list = User::stranger().timeline(hop.reports.path(), None);
        let list = String::from_utf8_lossy(&list.stdout).into_owned();
        assert!(list.contains("trail ends at store9 (no reports)"), "{list}");
    }
}

#[test]
fn the_fields_of_an_opened_alias_are_nobodys() {
    let hop = hop_under("received = true, disclose = 'full'", "DSN");
    pass(
        &hop,
        &["team@dest.test"],
        &["RCPT TO:<member@dest.test> ORCPT=rfc822;team@dest.test"],
    );
    let mails = hop.wait_for_mails(2);
    let expanded = mails.iter().filter(|mail| {
        let report = mail.report().expect("a report");
        report.of_recipients("X-Hoptrail-Event") == ["expanded"]
    });
    assert_eq!(expanded.count(), 1);
    assert!(
        mails
            .iter()
            .all(|mail| !format!("{mail:?}").contains("member@")),
        "{mails:?}"
    );
}
