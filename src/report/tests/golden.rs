//! The whole mail for each event, as people and programs get it.

use super::samples::{mailing, recipient, report};
use crate::report::write;
use crate::track::{Certificate, Event, HopReport};

fn mail(report: &HopReport) -> String {
    let certificate = Certificate::new([7; 32]);
    let mail = String::from_utf8(write(report, &mailing(Some(&certificate)))).unwrap();
    assert!(
        !mail.replace("\r\n", "").contains(['\r', '\n']),
        "lines end in CRLF"
    );
    mail.replace("\r\n", "\n")
}

#[test]
fn one_mail_for_each_event() {
    for event in Event::ALL {
        let mut report = report(vec![recipient("bob@example.net", event)]);
        if event == Event::Looped {
            report.ring = ["mx1.example.net", "mx2.example.net", "mx1.example.net"]
                .map(str::to_owned)
                .into();
        }
        insta::assert_snapshot!(event.as_str(), mail(&report));
    }
}

#[test]
fn mixed_outcomes_make_one_mail() {
    let recipients = vec![
        recipient("bob@example.net", Event::Delivered),
        recipient("carol@example.net", Event::Delivered),
        recipient("dave@example.net", Event::Failed),
        recipient("j\u{f6}rg@example.net", Event::Delayed),
    ];
    insta::assert_snapshot!("mixed", mail(&report(recipients)));
}

#[test]
fn one_of_several_is_held() {
    let mut report = report(vec![recipient("bob@example.net", Event::Held)]);
    report.came_for = Some(3);
    let text = super::super::words::text(&report);
    let (_, next) = text.split_once("What comes next: ").unwrap();
    let (next, _) = next.split_once("\n\n").unwrap();
    insta::assert_snapshot!(next, @r"
    you hear again if it is seen leaving. If two of your
      recipients are one mailbox, the server may have sent one copy for both,
      and then nothing more is seen.
    ");
}

#[test]
fn little_known() {
    let mut report = report(vec![recipient("bob@example.net", Event::Failed)]);
    (report.message_id, report.sent_ms, report.parent) = (None, None, None);
    (report.times_out, report.queue_id, report.size) = (vec![], None, None);
    (report.tls_in, report.tls_out) = (None, None);
    let group = report.recipients.first_mut().unwrap();
    (group.remote_mta, group.reply) = (None, None);
    insta::assert_snapshot!("little_known", mail(&report));
}

/// Words by which mail programs and list servers know a bounce.
#[test]
fn no_subject_sounds_like_a_bounce() {
    const BOUNCE: [&str; 12] = [
        "fail",
        "undeliver",
        "return",
        "bounce",
        "reject",
        "delivery status",
        "notification",
        "delay",
        "warning",
        "could not",
        "unable",
        "problem",
    ];
    for event in Event::ALL {
        let subject =
            super::super::words::subject(&report(vec![recipient("bob@example.net", event)]));
        let subject = subject.to_ascii_lowercase();
        assert!(
            BOUNCE.iter().all(|word| !subject.contains(word)),
            "{subject}"
        );
    }
}
