//! What other mail systems say: the notices of four MTAs (tests/notices), those of mail programs, and broken ones.

use proptest::prelude::*;

use crate::report::notice::{Notice, Said, read};
use crate::report::read::may_be_report;

const SAMPLES: [(&str, &[u8]); 9] = [
    (
        "postfix-failed",
        include_bytes!("../../../tests/notices/postfix-failed.eml"),
    ),
    (
        "postfix-relayed",
        include_bytes!("../../../tests/notices/postfix-relayed.eml"),
    ),
    (
        "exim-failed",
        include_bytes!("../../../tests/notices/exim-failed.eml"),
    ),
    (
        "exim-relayed",
        include_bytes!("../../../tests/notices/exim-relayed.eml"),
    ),
    (
        "opensmtpd-failed",
        include_bytes!("../../../tests/notices/opensmtpd-failed.eml"),
    ),
    (
        "opensmtpd-relayed",
        include_bytes!("../../../tests/notices/opensmtpd-relayed.eml"),
    ),
    (
        "sendmail-both",
        include_bytes!("../../../tests/notices/sendmail-both.eml"),
    ),
    (
        "mdn-displayed",
        include_bytes!("../../../tests/notices/mdn-displayed.eml"),
    ),
    (
        "mdn-deleted",
        include_bytes!("../../../tests/notices/mdn-deleted.eml"),
    ),
];

fn notice(name: &str) -> Notice {
    let (_, mail) = SAMPLES.iter().find(|(n, _)| *n == name).unwrap();
    assert!(may_be_report(mail), "{name}");
    read(mail).unwrap()
}

fn fates(notice: &Notice) -> Vec<(&str, Said, String)> {
    let told = notice.fates.iter().map(|fate| {
        let status = fate.status.map(|status| status.to_string());
        (fate.address.as_str(), fate.said, status.unwrap_or_default())
    });
    told.collect()
}

#[test]
fn what_each_mta_says_is_understood() {
    use Said::{Delivered, Failed, Relayed};
    let decoded = Some("trail+4711@origin.test");
    for (name, host, envid, expected) in [
        (
            "postfix-failed",
            "mx.p.test",
            decoded,
            &[("bob@p.test", Failed, "5.1.1")][..],
        ),
        (
            "postfix-relayed",
            "mx.p.test",
            decoded,
            &[("carol@p.test", Relayed, "2.0.0")],
        ),
        // Exim leaves the ENVID as it stood on the wire, and calls what it relayed delivered.
        (
            "exim-failed",
            "mx.e.test",
            Some("trail+2B4711@origin.test"),
            &[("bob@e.test", Failed, "5.0.0")],
        ),
        (
            "exim-relayed",
            "mx.e.test",
            Some("trail+2B4711@origin.test"),
            &[("carol@e.test", Delivered, "2.0.0")],
        ),
        // OpenSMTPD names neither ENVID nor original recipient, in a multipart/mixed.
        (
            "opensmtpd-failed",
            "mx.o.test",
            None,
            &[("bob@o.test", Failed, "5.0.0")],
        ),
        (
            "opensmtpd-relayed",
            "mx.o.test",
            None,
            &[("carol@o.test", Relayed, "2.0.0")],
        ),
        // Sendmail puts a comment behind the action, and both recipients into one notice.
        (
            "sendmail-both",
            "mx.s.test",
            decoded,
            &[
                ("bob@s.test", Failed, "5.1.1"),
                ("carol@s.test", Relayed, "2.0.0"),
            ],
        ),
    ] {
        let notice = notice(name);
        assert_eq!(notice.host.as_deref(), Some(host), "{name}");
        assert_eq!(notice.envid.as_deref(), envid, "{name}");
        assert_eq!(notice.message_ids, ["lab-1@origin.test"], "{name}");
        let expected: Vec<_> = expected
            .iter()
            .map(|(a, s, t)| (*a, *s, (*t).to_owned()))
            .collect();
        assert_eq!(fates(&notice), expected, "{name}");
        assert!(
            notice.date_us.is_some_and(|us| us > 1_795_600_000_000_000),
            "{name}"
        );
    }
    let bob = &notice("postfix-failed").fates[0];
    assert_eq!(
        bob.reply.as_deref(),
        Some("550 5.1.1 <bob>: no such user here")
    );
    let sendmail = &notice("sendmail-both").fates[0];
    assert_eq!(sendmail.attempted_us, Some(1_795_687_350_000_000));
}

#[test]
fn what_a_mail_program_says_is_understood() {
    let shown = notice("mdn-displayed");
    assert_eq!(shown.message_ids, ["lab-1@origin.test"]);
    assert_eq!(shown.host.as_deref(), Some("Example Mail 7.1"));
    assert_eq!(
        fates(&shown),
        [("carol@p.test", Said::Displayed, String::new())]
    );
    assert_eq!(shown.fates[0].recipient, "carol@inside.p.test");
    assert_eq!(shown.date_us, Some(1_795_689_002_000_000));
    let gone = notice("mdn-deleted");
    assert_eq!(fates(&gone), [("bob@p.test", Said::Deleted, String::new())]);
}

#[test]
fn what_is_no_notice_says_nothing() {
    for mail in [
        "Subject: delivery-status\n\nmessage/delivery-status\n",
        // Forwarded: somebody else's.
        "Content-Type: multipart/mixed; boundary=x\n\n--x\nContent-Type: message/rfc822\n\n\
         Content-Type: multipart/report; report-type=delivery-status; boundary=y\n\n--y\n\
         Content-Type: message/delivery-status\n\nReporting-MTA: dns; a\n\nFinal-Recipient: rfc822; b\n\
         Action: failed\n\n--y--\n\n--x--\n",
        // Sendmail's, that tells of nobody; Postfix's answers to `sendmail -bv`.
        "Content-Type: multipart/report; boundary=x\n\n--x\nContent-Type: message/delivery-status\n\nReporting-MTA: dns; a\n\n--x--\n",
        "Content-Type: multipart/report; boundary=x\n\n--x\nContent-Type: message/delivery-status\n\n\
         Reporting-MTA: dns; a\n\nFinal-Recipient: rfc822; b@c\nAction: deliverable\n\n--x--\n",
    ] {
        assert_eq!(read(mail.as_bytes()), None, "{mail}");
    }
}

#[test]
fn ordinary_mail_is_not_read_whole() {
    assert!(!may_be_report(
        b"Subject: the status of my delivery\nFrom: a@b\n\ndelivery-status\n"
    ));
    assert!(may_be_report(
        b"content-type: MULTIPART/REPORT; report-type=\"Delivery-Status\"\n\n"
    ));
    assert!(may_be_report(
        b"Subject: Delivery status notification: failed\n\n"
    ));
}

proptest! {
    /// Cut anywhere, with any octets put in: nothing panics, and no value keeps what could steer a terminal.
    #[test]
    fn broken_notices_are_survived(which in 0..SAMPLES.len(), at in 0.0..1.0f64, put in proptest::collection::vec(any::<u8>(), 0..40), cut in any::<bool>()) {
        let mail = SAMPLES[which].1;
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
        let at = (mail.len() as f64 * at) as usize;
        let mut broken = mail[..at].to_vec();
        broken.extend(&put);
        if !cut {
            broken.extend(&mail[at..]);
        }
        if let Some(notice) = read(&broken) {
            let fates = notice.fates.iter().flat_map(|f| [Some(&f.address), Some(&f.recipient), f.reply.as_ref(), f.remote.as_ref()]);
            let values = fates.chain([notice.envid.as_ref(), notice.host.as_ref(), notice.from.as_ref()]);
            let values = values.flatten().chain(&notice.message_ids);
            prop_assert!(!values.flat_map(|v| v.chars()).any(crate::track::clean::is_hidden));
        }
    }
}
