//! A delivery status notification (RFC 3464): what a sender who said NOTIFY=SUCCESS is told where the next
//! hop cannot take over that duty (RFC 3461, 5.2.2). Has nothing to do with tracking, but for its make.

use super::field::Group;
use super::name::Name;
use super::write::{Mailing, Words, fields, mail, unheld};
use super::{address, date};
use crate::track::{Event, HopReport, clean};

/// The whole mail, lines ended by CRLF. `envid` is the decoded ENVID, if there was one.
pub fn write(report: &HopReport, envid: Option<&str>, mailing: &Mailing) -> Vec<u8> {
    // Looked at before the clean-up, which knows no empty address.
    let with_orcpt: Vec<bool> = report
        .recipients
        .iter()
        .map(|r| !r.original.is_empty())
        .collect();
    let report = report.clone().clean();
    let status = fields(&groups(&report, envid, &with_orcpt));
    let words = Words {
        subject: subject(&report),
        text: text(&report),
    };
    let boundary = unheld(mailing.boundary, &[&words.text, &status]);
    mail(
        &report,
        mailing,
        words,
        "delivery-status",
        status,
        &boundary,
    )
}

fn groups<'a>(
    report: &'a HopReport,
    envid: Option<&'a str>,
    with_orcpt: &[bool],
) -> Vec<Group<'a>> {
    let mut message = Group::default();
    message.push_some(Name::OriginalEnvelopeId, envid.map(clean::line));
    message.push(Name::ReportingMta, format!("dns; {}", report.reporting_mta));
    message.push(Name::ArrivalDate, date::mail_date(report.arrival_us));
    let mut groups = vec![message];
    for (recipient, with_orcpt) in report.recipients.iter().zip(with_orcpt) {
        let mut group = Group::default();
        if *with_orcpt {
            group.push(Name::OriginalRecipient, address::write(&recipient.original));
        }
        group.push(Name::FinalRecipient, address::write(&recipient.recipient));
        group.push(Name::Action, recipient.event.action());
        // 2.1.9 is tracking's word (RFC 3886, 3.3.4); a notification says that all went well so far.
        group.push(Name::Status, "2.0.0");
        group.push_some(
            Name::RemoteMta,
            recipient.remote_mta.as_ref().map(|r| format!("dns; {r}")),
        );
        group.push_some(
            Name::DiagnosticCode,
            recipient.reply.as_ref().map(|r| format!("smtp; {r}")),
        );
        group.push_some(
            Name::LastAttemptDate,
            recipient.attempted_us.map(date::mail_date),
        );
        groups.push(group);
    }
    groups
}

fn subject(report: &HopReport) -> String {
    format!(
        "Successful mail delivery report from {}",
        report.reporting_mta
    )
}

fn text(report: &HopReport) -> String {
    let host = &report.reporting_mta;
    let delivered = report
        .recipients
        .iter()
        .all(|r| r.event == Event::Delivered);
    let what = if delivered {
        "delivered it. That is the end of its way."
    } else {
        "handed it on to a mail system that does not tell such news by itself, so\n\
         this is the last you hear, unless something goes wrong."
    };
    let mut text = format!("You asked to be told how your message fares. {host}\n{what}\n");
    for recipient in &report.recipients {
        let to = recipient.remote_mta.as_deref().unwrap_or("the next server");
        text.push_str(
            &[
                "\n    ",
                &recipient.recipient,
                "\n      taken by ",
                to,
                "\n",
            ]
            .concat(),
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::track::{RecipientStatus, Role, Status, StepId, TrackingId};

    #[test]
    fn the_whole_mail() {
        let recipient = |original: &str, recipient: &str| RecipientStatus {
            original: original.into(),
            recipient: recipient.into(),
            event: Event::Relayed,
            status: Status::RELAYED,
            remote_mta: Some("mx2.example.net".into()),
            attempted_us: Some(1_795_478_400_000_000),
            reply: Some("250 2.0.0 Ok: queued as 4F1A2B3C".to_owned()),
            remote_queue_id: None,
        };
        let (id, hop) = (TrackingId::mint(7), "mx1.example.net");
        let report = HopReport {
            message_id: Some("m1@example.org".to_owned()),
            recipients: vec![
                recipient("b@alias.example", "bob@example.net"),
                recipient("", "carol@example.net"),
            ],
            ..HopReport::new(id, StepId(9), Role::Egress, hop, 1_795_478_399_000_000)
        };
        let mailing = Mailing {
            from: "hoptrail@mx1.example.net",
            to: "alice@example.org",
            date_us: 1_795_478_401_000_000,
            certificate: None,
            received: None,
            boundary: "b0undary",
        };
        let mail = write(&report, Some("E1@x"), &mailing);
        insta::assert_snapshot!(String::from_utf8_lossy(&mail).replace("\r\n", "\n"));
    }
}
