//! `read(write(r)) == r`, and what must hold of every mail written.

use base64::Engine;
use proptest::prelude::*;

use super::samples::{any_report, mailing, recipient, report};
use crate::report::field::{Group, canonical};
use crate::report::{Mailing, read, write, write_together};
use crate::track::{Certificate, Event, HopReport, Role, StepId};

proptest! {
    #[test]
    fn what_is_written_is_read_back(report in any_report(), key in any::<Option<[u8; 32]>>()) {
        let certificate = key.map(Certificate::new);
        let clean = report.clone().clean();
        prop_assert_eq!(&clean.clone().clean(), &clean, "the normal form is its own normal form");
        let mail = write(&report, &mailing(certificate.as_ref()));
        let received = read(&mail).unwrap().expect("a report");
        prop_assert_eq!(*received.report, clean);
        prop_assert_eq!(received.auth.is_some(), certificate.is_some());
        if let (Some(b), Some(tag)) = (certificate, received.auth) {
            prop_assert!(b.verifies(received.canonical.as_bytes(), &tag));
        }
    }

    /// Steps that agree in what concerns the whole message share a mail, and come back one by one.
    #[test]
    fn steps_told_together_come_back_apart(
        first in any_report(),
        more in proptest::collection::vec(any_report(), 0..4),
    ) {
        let like_first = |(n, other): (u64, HopReport)| HopReport {
            step: StepId(n),
            times_out: other.times_out,
            tls_out: other.tls_out,
            recipients: other.recipients,
            ..first.clone()
        };
        let others: Vec<_> = (1..).zip(more).map(like_first).collect();
        let all = [std::slice::from_ref(&first), &others].concat();
        let certificate = Certificate::new([7; 32]);
        let mail = write_together(&all, &mailing(Some(&certificate)));
        let received = read(&mail).unwrap().expect("a report");
        prop_assert_eq!(*received.report, first.clean());
        let others: Vec<_> = others.into_iter().map(HopReport::clean).collect();
        prop_assert_eq!(received.others, others);
        prop_assert!(certificate.verifies(received.canonical.as_bytes(), &received.auth.unwrap()));
    }

    #[test]
    fn no_value_makes_a_line_of_its_own(report in any_report()) {
        let mail = write(&report, &mailing(None));
        prop_assert!(mail.is_ascii());
        for line in mail.split(|b| *b == b'\n') {
            prop_assert!(line.len() <= 999);
        }
        let parsed = mail_parser::MessageParser::new().parse(&mail).unwrap();
        prop_assert_eq!(parsed.parts.len(), 3);
        let known = ["from", "to", "date", "message-id", "subject", "auto-submitted", "in-reply-to",
            "references", "mime-version", "content-type"];
        for header in parsed.headers() {
            prop_assert!(known.contains(&header.name().to_ascii_lowercase().as_str()), "{}", header.name());
        }
    }

    #[test]
    fn lf_line_ends_of_a_maildir_change_nothing(report in any_report()) {
        let mail = write(&report, &mailing(Some(&Certificate::new([7; 32]))));
        let lf: Vec<u8> = mail.iter().copied().filter(|b| *b != b'\r').collect();
        prop_assert_eq!(read(&lf), read(&mail));
    }
}

#[test]
fn every_event_comes_back() {
    let all = Event::ALL.map(|e| super::samples::recipient("j\u{f6}rg+x=\\@ex\u{e4}mple.net", e));
    let report = report(all.to_vec());
    assert_eq!(
        report,
        report.clone().clean(),
        "an ordinary report is in normal form"
    );
    let received = read(&write(&report, &mailing(None))).unwrap().unwrap();
    assert_eq!(*received.report, report);
    assert_eq!(received.from.as_deref(), Some("hoptrail@mx1.example.net"));
}

#[test]
fn non_ascii_addresses_stand_escaped() {
    let report = report(vec![super::samples::recipient(
        "j\u{f6}rg+a@example.net",
        Event::Delivered,
    )]);
    let mail = String::from_utf8(write(&report, &mailing(None))).unwrap();
    assert!(mail.contains("\r\nFinal-Recipient: utf-8; j\\x{F6}rg\\x{2B}a@example.net\r\n"));
}

/// The vector in the documentation of `field`: its lines are a report's part, and carry their proof.
#[test]
fn the_published_vector_holds() {
    let documented = include_str!("../field.rs");
    let (_, vector) = documented.split_once("//! Original-Envelope-Id: ").unwrap();
    let (vector, _) = vector.split_once("//! ```").unwrap();
    let lines = vector.lines().map(|line| line.trim_start_matches("//!"));
    let lines: Vec<_> = lines.map(|l| l.strip_prefix(' ').unwrap_or(l)).collect();
    let mail = format!(
        "Content-Type: multipart/report; report-type=tracking-status; boundary=b\r\n\r\n--b\r\n\
         Content-Type: message/tracking-status\r\n\r\nOriginal-Envelope-Id: {}\r\n--b--\r\n",
        lines.join("\r\n")
    );
    let received = read(mail.as_bytes()).unwrap().unwrap();
    let b = Certificate::parse("b-QP-kiVKnBx4pTM9M2QJjFzvmLyxnP84RK3JL63cQw").unwrap();
    assert!(b.verifies(received.canonical.as_bytes(), &received.auth.unwrap()));
    assert_eq!(received.report.step.to_string(), "1122334455667788");
    assert_eq!(received.report.times_out.len(), 2);
    assert_eq!(received.report.recipients[0].event, Event::Transferred);
}

/// The vector printed in the protocol's documentation: B is SHA-256 of the octets 00..0f.
#[test]
fn auth_of_the_published_example() {
    let b = Certificate::parse("vkXLJgW_Nr695oSEGijw_UPGmFCj3OX-26aZKO46iZE").unwrap();
    let group = |fields: &[(&'static str, &'static str)]| {
        Group(
            fields
                .iter()
                .map(|(n, v)| ((*n).into(), (*v).into()))
                .collect(),
        )
    };
    let groups = [
        group(&[
            ("Original-Envelope-Id", "7f3a91c2@mail.example.org"),
            ("Reporting-MTA", "dns; mx1.example.net"),
            ("Arrival-Date", "Mon, 23 Nov 2026 16:05:09 +0000"),
            ("X-Hoptrail-Hop", "2"),
            ("X-Hoptrail-Auth", "hmac-sha256; ignored"),
        ]),
        group(&[
            ("Original-Recipient", "rfc822; bob@example.net"),
            ("Final-Recipient", "rfc822; bob@example.net"),
            ("Action", "transferred"),
            ("Status", "2.0.0"),
            ("Remote-MTA", "dns; store.example.net"),
            ("Last-Attempt-Date", "Mon, 23 Nov 2026 16:05:10 +0000"),
        ]),
    ];
    let tag = b.authenticate(&canonical(&groups));
    assert_eq!(
        base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(tag),
        "ec35ad1ACry7yW8bOF9sjfOu9Dfs9GKqLSN7seLoc80"
    );
}

/// The topmost of the Received fields is the one the hop's own MTA wrote, so it names who gave it the message.
#[test]
fn the_client_is_read_where_it_is_shown() {
    let fields = "Received: from pc.example.org (pc.example.org [192.0.2.7])\r\n\tby mx1.example.net (Postfix) \
         with ESMTPSA id 4F1;\r\n\tMon, 23 Nov 2026 16:05:09 +0000 (UTC)\r\nReceived: from a by b; \
         Mon, 23 Nov 2026 16:05:08 +0000\r\n";
    let client = |role, received| {
        let mailing = Mailing {
            received,
            ..mailing(None)
        };
        let report = HopReport {
            role,
            ..report(vec![recipient("bob@example.net", Event::Transferred)])
        };
        let received = read(&write(&report, &mailing)).unwrap().unwrap();
        assert_eq!(received.to.as_deref(), Some("alice@example.org"));
        crate::report::read::client(role, &received.trace).map(str::to_owned)
    };
    let shown = Some("192.0.2.7".to_owned());
    assert_eq!(client(Role::Egress, Some(fields)), shown);
    assert_eq!(client(Role::Ingress, Some(fields)), None);
    assert_eq!(client(Role::Egress, None), None);
}
