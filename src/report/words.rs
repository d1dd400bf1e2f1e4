//! What people read in a report: the subject and the text part.
//!
//! Must not know fields or MIME. The wording of the text is the template's; a subject must never sound
//! like a bounce, since mail programs and list servers sort by that.

use std::sync::LazyLock;

use minijinja::{Environment, UndefinedBehavior, Value, context};

use super::date::mail_date;
use crate::track::{Event, HopReport, RecipientStatus};

/// Width at which lines are broken, columns.
const WIDTH: usize = 74;

const NAME: &str = "report.txt";

static TEMPLATES: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut env = Environment::new();
    env.set_undefined_behavior(UndefinedBehavior::Strict);
    // A template that does not parse is seen by the first test; at run time there is `subject`.
    let _ = env.add_template(NAME, include_str!("../../templates/report.txt"));
    env
});

/// The subject: plain ASCII, what happened and where.
pub fn subject(report: &HopReport) -> String {
    let mut events = report.recipients.iter().map(|r| r.event);
    let first = events.next();
    let what = match first {
        Some(event) if events.all(|e| e == event) => match event {
            Event::Accepted => "arrived at",
            Event::Transferred => "passed",
            Event::Relayed => "ends behind",
            Event::Expanded => "branches at",
            Event::Delayed => "waiting at",
            Event::Held => "not seen leaving",
            Event::Looped => "back again at",
            Event::Failed => "stopped at",
            Event::Delivered => "delivered at",
        },
        _ => "mixed news from",
    };
    format!("Mail trail: {what} {}", report.reporting_mta)
}

/// The text part; lines end in LF.
pub fn text(report: &HopReport) -> String {
    let sent = report.sent_ms.map(|ms| {
        let ms = i64::try_from(ms).unwrap_or(i64::MAX);
        mail_date(ms.saturating_mul(1000))
    });
    let context = context! {
        host => report.reporting_mta.as_str(),
        arrived => mail_date(report.arrival_us),
        message_id => report.message_id.clone(),
        sent => sent,
        ring => (!report.ring.is_empty()).then(|| report.ring.join(" -> ")),
        partial => report.came_for.is_some(),
        outcomes => outcomes(&report.recipients),
    };
    let rendered = TEMPLATES.get_template(NAME).and_then(|t| t.render(context));
    fill(&rendered.unwrap_or_else(|_| subject(report)))
}

/// Recipients to whom the same thing happened, together.
fn outcomes(recipients: &[RecipientStatus]) -> Vec<Value> {
    let mut outcomes: Vec<(&RecipientStatus, Vec<&str>)> = Vec::new();
    for recipient in recipients {
        let same = outcomes.iter_mut().find(|(like, _)| {
            like.event == recipient.event
                && like.remote_mta == recipient.remote_mta
                && like.reply == recipient.reply
        });
        match same {
            Some((_, names)) => names.push(&recipient.original),
            None => outcomes.push((recipient, vec![recipient.original.as_str()])),
        }
    }
    let outcome = |(like, recipients): &(&RecipientStatus, Vec<&str>)| {
        context! {
            event => like.event.as_str(),
            recipients => recipients.iter().copied().collect::<Value>(),
            remote => like.remote_mta.as_deref(),
            when => like.attempted_us.map(mail_date),
            reply => like.reply.clone(),
            queue_id => like.remote_queue_id.as_deref(),
        }
    };
    outcomes.iter().map(outcome).collect()
}

/// Breaks long lines at blanks; what goes on is set in like the line it comes from.
fn fill(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + text.len() / 8);
    for line in text.lines() {
        let content = line.trim_start_matches(' ');
        let indent = " ".repeat(line.len() - content.len());
        let mut column = 0;
        for word in content.split(' ') {
            let columns = width(word);
            if column > 0 && column + 1 + columns > WIDTH {
                out.push('\n');
                column = 0;
            }
            out.push_str(if column == 0 { &indent } else { " " });
            out.push_str(word);
            column = if column == 0 {
                indent.len()
            } else {
                column + 1
            } + columns;
        }
        out.push('\n');
    }
    out
}

fn width(word: &str) -> usize {
    if word.is_ascii() {
        word.len()
    } else {
        word.chars().count()
    }
}
