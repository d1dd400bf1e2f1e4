//! Mail that is no report, or a broken one.

use proptest::prelude::*;

use super::samples::{any_report, mailing, recipient, report};
use crate::report::read::{REPORT_OCTETS_MAX, read_mime, read_usual};
use crate::report::split::SplitError;
use crate::report::{Mailing, ReadError, Received, layout, read, write};
use crate::track::Event;

fn sample() -> String {
    let report = report(vec![recipient("bob@example.net", Event::Delivered)]);
    String::from_utf8(write(&report, &mailing(None))).unwrap()
}

proptest! {
    #[test]
    fn any_octets_are_survived(mail in any::<Vec<u8>>()) {
        prop_assert_eq!(read(&mail), Ok(None));
    }

    #[test]
    fn broken_reports_are_survived(
        report in any_report(),
        cuts in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0usize..40), 1..8),
    ) {
        let mut mail = write(&report, &mailing(None));
        for (at, octet, gone) in cuts {
            let at = at.index(mail.len());
            mail.splice(at..(at + gone).min(mail.len()), [octet]);
            if mail.is_empty() { break }
        }
        if let Ok(Some(received)) = read(&mail) {
            let clean = received.report.clone().clean();
            prop_assert_eq!(*received.report, clean, "whatever is read is in normal form");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    /// The short way through a mail of the usual layout and the long way that takes any mail see the same, however
    /// a mail is bent on its way.
    #[test]
    fn the_short_way_and_the_long_way_agree(
        with_received in any::<bool>(),
        bends in proptest::collection::vec((any::<prop::sample::Index>(), 0usize..BENDS.len(), 0usize..30), 0..4),
    ) {
        let report = report(vec![recipient("bob@example.net", Event::Delivered)]);
        let fields = "Received: from a\r\n\tby b\r\n";
        let received = with_received.then_some(fields);
        let mut mail = write(&report, &Mailing { received, ..mailing(None) });
        for (at, bend, gone) in bends {
            let at = at.index(mail.len());
            mail.splice(at..(at + gone).min(mail.len()), BENDS[bend].bytes());
        }
        if layout::of(&mail).is_some() {
            prop_assert_eq!(read(&mail), read_mime(&mail));
        }
    }
}

/// What turns up in a mail to make another of it.
const BENDS: [&str; 16] = [
    "",
    "\n",
    "\r\n",
    "\r\n\r\n",
    " ",
    "\t",
    "-",
    "--b0f6f1d2c3a4958677",
    "\r\n--b0f6f1d2c3a4958677\r\n",
    "\r\n--b0f6f1d2c3a4958677--\r\n",
    "\r\nContent-Type: text/plain\r\n",
    "\r\nFrom: <a@b>\r\n",
    "Content-Transfer-Encoding: base64\r\n",
    ";",
    "\"",
    "<",
];

#[test]
fn the_short_way_takes_what_hops_write() {
    let mail = sample();
    for mail in [
        mail.clone(),
        mail.replace("\r\n", "\n"),
        mail.replace(
            "boundary=\"b0f6f1d2c3a4958677\"",
            "Boundary=b0f6f1d2c3a4958677",
        ),
    ] {
        let usual = layout::of(mail.as_bytes()).unwrap();
        assert_eq!(usual.from, "hoptrail@mx1.example.net");
        assert!(usual.tracking.starts_with(b"Original-Envelope-Id:"));
        assert_eq!(read(mail.as_bytes()), read_mime(mail.as_bytes()));
    }
    let nested = mail.replace("text/plain", "multipart/mixed; boundary=c");
    assert_eq!(layout::of(nested.as_bytes()), None);
}

/// Its writer may not be done.
#[test]
fn the_short_way_takes_no_mail_that_lacks_its_end() {
    let mail = sample();
    let whole = mail.trim_end().len();
    let room = &mut String::from("what stood there before");
    for octets in 0..whole {
        assert!(
            read_usual(&mail.as_bytes()[..octets], room).is_none(),
            "{octets}"
        );
    }
    assert!(read_usual(&mail.as_bytes()[..whole], room).is_some());
}

/// Wherever a report ends, what is said of it is that, or what it says as a whole: no half of a value counts, and it is not
/// called broken for what did not come.
#[test]
fn a_cut_report_is_said_to_be_cut() {
    let two = ["bob@example.net", "carol@example.net"];
    let report = report(two.map(|to| recipient(to, Event::Delivered)).to_vec());
    let fields = "Received: from a by b;\r\n\tMon, 23 Nov 2026 17:05:09 +0100\r\n";
    for (received, is_lf) in [(None, false), (Some(fields), false), (Some(fields), true)] {
        let mailing = Mailing {
            received,
            ..mailing(None)
        };
        let mut mail = String::from_utf8(write(&report, &mailing)).unwrap();
        if is_lf {
            mail = mail.replace("\r\n", "\n");
        }
        let whole = read(mail.as_bytes()).unwrap().unwrap();
        let without_trace = Received {
            trace: vec![],
            ..whole.clone()
        };
        let kind = "tracking-status";
        let told = mail.find(kind).unwrap() + kind.len();
        let part = mail.find("Original-Envelope-Id").unwrap();
        let part_ends = part + mail[part..].find("--b0f6f1d2c3a4958677").unwrap();
        for octets in 0..mail.len() {
            let said = read(&mail.as_bytes()[..octets]);
            if octets < told {
                assert_eq!(said, Ok(None), "{octets}");
            } else if octets < part_ends {
                assert_eq!(said, Err(ReadError::Cut), "{}", &mail[..octets]);
            } else {
                let is_said = |received: &Received| said == Ok(Some(received.clone()));
                let is_cut = said == Err(ReadError::Cut) && octets < part_ends + 22;
                assert!(
                    is_cut || is_said(&whole) || is_said(&without_trace),
                    "{octets} {said:?}"
                );
            }
        }
    }
}

#[test]
fn other_mail_is_no_report() {
    let dsn = sample().replace("tracking-status", "delivery-status");
    assert_eq!(read(dsn.as_bytes()), Ok(None));
    let talk = "Subject: about tracking-status\r\n\r\nhello\r\n";
    assert_eq!(read(talk.as_bytes()), Ok(None));
}

#[test]
fn a_forwarded_report_is_not_the_hops_own() {
    let inner = sample();
    let outer = format!(
        "Subject: tracking-status\r\nContent-Type: multipart/mixed; boundary=o\r\n\r\n\
         --o\r\nContent-Type: message/rfc822\r\n\r\n{inner}\r\n--o--\r\n"
    );
    assert_eq!(read(outer.as_bytes()), Ok(None));
    let nested = format!(
        "Content-Type: multipart/report; report-type=tracking-status; boundary=o\r\n\r\n\
         --o\r\nContent-Type: message/rfc822\r\n\r\n{inner}\r\n--o--\r\n"
    );
    assert_eq!(read(nested.as_bytes()), Err(ReadError::NoPart));
}

#[test]
fn what_the_trail_needs_is_named_when_it_is_missing() {
    for field in [
        "Original-Envelope-Id",
        "X-Hoptrail-Step",
        "X-Hoptrail-Hop",
        "X-Hoptrail-Role",
        "X-Hoptrail-Arrived",
        "X-Hoptrail-Event",
        "X-Hoptrail-Version",
        "Status",
        "Final-Recipient",
    ] {
        let mail = sample().replace(&format!("\r\n{field}:"), "\r\nX-Other:");
        match read(mail.as_bytes()) {
            Err(ReadError::Missing(name)) => assert_eq!(name, field),
            other => panic!("{field}: {other:?}"),
        }
    }
}

#[test]
fn what_is_wrong_is_named() {
    for (from, to, field) in [
        ("X-Hoptrail-Hop: 2", "X-Hoptrail-Hop: 256", "X-Hoptrail-Hop"),
        ("X-Hoptrail-Hop: 2", "X-Hoptrail-Hop: 0", "X-Hoptrail-Hop"),
        ("X-Hoptrail-Hop: 2", "X-Hoptrail-Hop: +2", "X-Hoptrail-Hop"),
        (
            "X-Hoptrail-Version: 1",
            "X-Hoptrail-Version: 2",
            "X-Hoptrail-Version",
        ),
        (
            "X-Hoptrail-Event: delivered",
            "X-Hoptrail-Event: eaten",
            "X-Hoptrail-Event",
        ),
        (
            "X-Hoptrail-Role: egress",
            "X-Hoptrail-Role: oracle",
            "X-Hoptrail-Role",
        ),
        ("Status: 2.0.0", "Status: 3.0.0", "Status"),
        ("ehlo=", "ehlo=x", "X-Hoptrail-Times-In"),
        ("TLS-In: none", "TLS-In: some", "X-Hoptrail-TLS-In"),
        ("384; verified", "384; believed", "X-Hoptrail-TLS-Out"),
        ("1.3; TLS_AES", "1.3 TLS_AES", "X-Hoptrail-TLS-Out"),
    ] {
        let mail = sample();
        assert!(mail.contains(from), "{from}");
        assert_eq!(
            read(mail.replace(from, to).as_bytes()),
            Err(ReadError::Invalid(field))
        );
    }
}

#[test]
fn order_case_folding_comments_and_unknown_fields_do_not_matter() {
    let (head, rest) = sample()
        .split_once("X-Hoptrail-Version")
        .map(|(a, b)| (a.to_owned(), b.to_owned()))
        .unwrap();
    let loose =
        format!("{head}X-Unknown: a\r\n\t(b)\r\nno field at all\r\nx-hoptrail-VERSION{rest}")
            .replace(
                "Action: delivered\r\nStatus: 2.0.0\r\n",
                "Status: 2.0.0 (fine)\r\nACTION: delivered\r\n",
            )
            .replace("X-Hoptrail-Hop: 2", "X-HOPTRAIL-HOP:\r\n  2")
            .replace(
                "report-type=\"tracking-status\"",
                "Report-Type=Tracking-Status",
            );
    assert_ne!(loose, sample());
    let plain = read(sample().as_bytes()).unwrap().unwrap();
    assert_eq!(
        read(loose.as_bytes()).unwrap().unwrap().report,
        plain.report
    );
}

/// What a value is, and so what Auth covers: blanks at its ends are no part of it, one in front of a fold is, and so is
/// the one that makes the fold.
#[test]
fn who_wraps_lines_anew_changes_values() {
    let sample = sample();
    let lines: Vec<&str> = sample.split("\r\n").collect();
    let altered = |is_before_fold: bool| {
        let line = |pair: &[&str]| match pair {
            [line, next] => {
                let wanted =
                    line.starts_with("X-Hoptrail") && next.starts_with(' ') == is_before_fold;
                format!("{line}{}\r\n", if wanted { "  " } else { "" })
            }
            _ => String::new(),
        };
        lines.windows(2).map(line).collect::<String>()
    };
    let canonical = |mail: &str| read(mail.as_bytes()).unwrap().unwrap().canonical;
    let (at_end, before_fold) = (altered(false), altered(true));
    let with_tab = sample.replace("\r\n mail=", "\r\n\tmail=");
    for mail in [&at_end, &before_fold, &with_tab] {
        assert_ne!(*mail, sample);
    }
    assert_eq!(canonical(&at_end), canonical(&sample));
    assert_ne!(canonical(&before_fold), canonical(&sample));
    assert_ne!(canonical(&with_tab), canonical(&sample));
}

#[test]
fn limits_hold() {
    let mut long = sample().replace(
        "X-Hoptrail-Size: 2048",
        &format!("X-Hoptrail-Size: {}", "9".repeat(5000)),
    );
    assert_eq!(
        read(long.as_bytes()),
        Err(SplitError::FieldTooLong("X-Hoptrail-Size".to_owned()).into())
    );
    long = sample().replace(
        "\r\n\r\nOriginal-Recipient",
        &format!(
            "\r\n\r\n{}Original-Recipient",
            "a: b\r\n\r\n".repeat(10_001)
        ),
    );
    assert_eq!(read(long.as_bytes()), Err(SplitError::TooManyGroups.into()));
    let big = sample() + &"x".repeat(REPORT_OCTETS_MAX);
    assert_eq!(read(big.as_bytes()), Err(ReadError::TooBig));
    let times = "rcpt=1/2 ".repeat(20);
    let many = sample().replace("ehlo=", &format!("{times}ehlo="));
    assert!(matches!(read(many.as_bytes()), Err(ReadError::Invalid(_))));
}

/// The header stays ASCII, so that the mail is valid with SMTPUTF8 and without.
#[test]
fn an_originator_beyond_ascii_is_named_in_ascii() {
    let to = "j\u{f6}rg.\u{9ce8}@ex\u{e4}mple.org";
    let mailing = Mailing {
        to,
        ..mailing(None)
    };
    let mail = write(
        &report(vec![recipient("bob@example.net", Event::Delivered)]),
        &mailing,
    );
    assert!(mail.is_ascii(), "{}", String::from_utf8_lossy(&mail));
    let parsed = mail_parser::MessageParser::new().parse(&mail).unwrap();
    let groups = parsed.to().and_then(|to| to.as_group()).unwrap();
    assert_eq!(groups[0].name.as_deref(), Some(to));
    assert!(groups[0].addresses.is_empty());
}

#[test]
fn a_report_about_nobody_is_refused() {
    let report = report(vec![]);
    assert_eq!(
        read(&write(&report, &mailing(None))),
        Err(ReadError::NoRecipient)
    );
}
