//! The duty of NOTIFY=SUCCESS where the next hop does not offer DSN: egress and delivery offered it to the
//! MTA before they knew, so the news is theirs to send (RFC 3461, 5.2.2).

use super::Site;
use super::passage::Passage;
use super::transaction::{Batch, Mail};
use crate::smtp::command::Command;
use crate::track::{Event, Form, HopReport, RecipientStatus, Role, Step, TrackingId};

/// The notification for those of a batch who asked, who were taken, and whose next hop will not tell; `None` if
/// there is nobody, or nobody to tell it to. If the mail is tracked, `passage` says who they were.
pub fn notification(
    site: &Site,
    mail: &Mail,
    passage: Option<&Passage>,
    message_id: Option<&str>,
    batch: &Batch,
    arrival_us: i64,
) -> Option<Step> {
    let envelope = &mail.envelope;
    let originator = std::str::from_utf8(&envelope.reverse_path).ok()?;
    if originator.is_empty() {
        return None;
    }
    let recipients = news(site.listener.role, mail, passage, batch);
    if recipients.is_empty() {
        return None;
    }
    let step = site.hop.step_id()?;
    let given = envelope.envid.as_deref().and_then(TrackingId::new);
    let id = given.unwrap_or_else(|| TrackingId::mint(u128::from(step.0)));
    let (role, hostname) = (site.listener.role, &site.hop.hostname);
    let report = HopReport {
        message_id: message_id.map(str::to_owned),
        recipients,
        ..HopReport::new(id, step, role, hostname, arrival_us)
    };
    let envid = envelope.envid.clone();
    Some(Step {
        told: Some(Form::Notification { envid }),
        ..Step::new(report, originator.to_owned())
    })
}

/// What there is to tell of the recipients of a batch.
fn news(role: Role, mail: &Mail, passage: Option<&Passage>, batch: &Batch) -> Vec<RecipientStatus> {
    let event = match role {
        Role::Delivery => Event::Delivered,
        _ => Event::Relayed,
    };
    let all = &mail.envelope.recipients;
    let opened = passage.is_some_and(|passage| passage.opens(all.iter()));
    let told = all.iter().zip(&mail.rcpts).skip(batch.from);
    told.zip(&batch.fates)
        .filter(|((_, line), fate)| {
            !fate.notifies && fate.outcome.reply.is_positive() && wants_success(line)
        })
        .filter_map(|((recipient, _), fate)| {
            let original = recipient.original.as_deref().unwrap_or_default();
            let named = match passage {
                Some(passage) => passage.may_hear_of(recipient)?.into(),
                None => recipient.address.as_str().into(),
            };
            let mut news = fate.outcome.status(original.into(), named, event);
            if opened {
                // It could name a member.
                news.reply = None;
            }
            Some(news)
        })
        .collect()
}

/// Whether a RCPT line asks for news of success (RFC 3461, 4.1).
pub fn wants_success(line: &[u8]) -> bool {
    let Ok(rcpt) = Command::parse(line).and_then(Command::envelope) else {
        return false;
    };
    let wishes = rcpt.param("NOTIFY").flatten().unwrap_or_default();
    wishes
        .split(|b| *b == b',')
        .any(|wish| wish.eq_ignore_ascii_case(b"SUCCESS"))
}
