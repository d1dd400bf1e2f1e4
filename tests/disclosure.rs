//! What a hop tells of itself: to whom all of it, to whom its organisation's name and the time, to whom nothing.

#![allow(clippy::expect_used)]

mod support;

use std::net::SocketAddrV4;
use std::time::Duration;

use support::dialogue::Dialogue;
use support::hoptrail::{Hoptrail, User};
use support::mail::Mail;
use support::net;
use support::sink::Sink;
use support::{PATIENCE, wait_until};

const MESSAGE: &[u8] = b"Received: from client.origin.test (unknown [192.0.2.9])\r\n\
    \tby mail.origin.test; Mon, 23 Nov 2026 12:00:00 +0000\r\n\
    Message-ID: <m1@origin.test>\r\nSubject: x\r\n\r\nlast\r\n";
const MAIL: &str = "MAIL FROM:<alice@origin.test> TRACK=NOW:up/00000000000000aa:hop/1 ENVID=E1";

/// A hop of ingress and egress, whose arrival is told as well. The test is the MTA between.
struct Hop {
    _hoptrail: Hoptrail,
    entrance: SocketAddrV4,
    exit: SocketAddrV4,
    mta: Sink,
    next: Sink,
    reports: tempfile::TempDir,
}

impl Hop {
    fn under(policy: &str, next: &str) -> Self {
        let mta = Sink::smtp()
            .greet("220 queue7.inside.dest.test ESMTP")
            .offer("DSN")
            .always("DOT", "250 2.0.0 Ok: queued as 4F1A2B3C")
            .start();
        let next = Sink::smtp()
            .greet("220 store9.inside.dest.test ESMTP")
            .offer(next)
            .once(
                "RCPT TO:<gone",
                "550 5.1.1 <gone@dest.test> no such user in ward 6",
            )
            .always("DOT", "250 2.0.0 Ok: queued as 5E6F7A8B")
            .start();
        let reports = tempfile::tempdir().expect("a temporary directory");
        let (entrance, exit) = (net::address(), net::address());
        let hoptrail = Hoptrail::serve(&format!(
            "hostname = 'mx1.dest.test'\n\
             reports = {{ from = 'reports@dest.test', via = 'maildir:{}', accepted = 'always' }}\n\
             policy = {{ allow = ['127.0.0.0/8'], {policy} }}\n\
             [[listener]]\nrole = 'ingress'\nlisten = '{entrance}'\nprotocol = 'smtp'\nnext_hop = '{}'\n\
             [[listener]]\nrole = 'egress'\nlisten = '{exit}'\nprotocol = 'lmtp'\nnext_hop = '{}'\n",
            reports.path().display(),
            mta.next_hop(),
            next.next_hop(),
        ));
        Self {
            _hoptrail: hoptrail,
            entrance,
            exit,
            mta,
            next,
            reports,
        }
    }

    /// A message in and out again, towards these recipients.
    fn pass(&self, to: &[&str], out: &[&str]) {
        let mut client = Dialogue::open(self.entrance);
        client.command("EHLO client.test", "250");
        client.command(MAIL, "250");
        for rcpt in to {
            client.command(&format!("RCPT TO:<{rcpt}>"), "250");
        }
        client.data(MESSAGE);
        client.expect("250");
        let carried = self.mta.wait_for(1)[0].data.clone();
        let mut mta = Dialogue::open(self.exit);
        mta.command("LHLO mta.test", "250");
        mta.command("MAIL FROM:<alice@origin.test>", "250");
        for rcpt in out {
            mta.command(&format!("RCPT TO:{rcpt}"), "250");
        }
        mta.command("DATA", "354");
        let trace = b"Received: from mx1 by queue7.inside.dest.test for <member@dest.test>\r\n";
        mta.send([&trace[..], &carried, b".\r\n"].concat());
        for _ in out {
            mta.reply();
        }
    }

    fn reports(&self, count: usize) -> Vec<Mail> {
        wait_until(PATIENCE, "reports", || {
            let mails = Mail::in_maildir(self.reports.path());
            if mails.len() == count {
                Ok(mails)
            } else {
                Err(format!("{} reports", mails.len()))
            }
        })
    }
}

#[test]
fn an_organisation_tells_its_name_and_the_time_and_nothing_else() {
    let hop = Hop::under("disclose = 'organisation', received = true", "DSN");
    hop.pass(
        &["bob@dest.test", "gone@dest.test"],
        &["<bob@dest.test>", "<gone@dest.test>"],
    );
    let mails = hop.reports(2);
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
    let hop = Hop::under("disclose = { networks = 'silent' }", "TRACK NOW");
    hop.pass(&["bob@dest.test"], &["<bob@dest.test>"]);
    let onward = hop.next.wait_for(1)[0].mail_from.clone();
    assert!(
        onward.contains("TRACK=NOW:hop/2:up/00000000000000aa"),
        "{onward}"
    );
    std::thread::sleep(Duration::from_millis(500));
    hop.reports(0);
}

#[test]
fn received_fields_are_told_where_they_may_be() {
    for (policy, fields) in [
        ("received = true", true),
        ("received = false", false),
        ("verified_reports_per_hour_max = 1", false),
    ] {
        let hop = Hop::under(policy, "DSN");
        hop.pass(&["bob@dest.test"], &["<bob@dest.test>"]);
        for mail in hop.reports(2) {
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
        assert!(
            list.contains("trail ends at store9 (not equipped)"),
            "{list}"
        );
    }
}

#[test]
fn the_fields_of_an_opened_alias_are_nobodys() {
    let hop = Hop::under("received = true, disclose = 'full'", "DSN");
    hop.pass(
        &["team@dest.test"],
        &["<member@dest.test> ORCPT=rfc822;team@dest.test"],
    );
    let mails = hop.reports(2);
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
