//! What is told of a recipient, in words: by the hops, and by others.

use std::collections::HashMap;

use super::View;
use super::format::{duration, plain, put, unsure};
use super::verdict::NOT_ASKED;
use crate::trail::custody::{Silence, custody, is_told_of_others};
use crate::trail::message::{Joined, Word};
use crate::trail::{Message, Recipient, State};

/// What became of a recipient, and whether nobody knows who says so.
pub fn fate(recipient: &Recipient, message: &Message, view: &View) -> String {
    let mut told = told(recipient, message, view);
    doubt(&mut told, recipient, message, view);
    told
}

/// Adds what makes it doubtful.
fn doubt(told: &mut String, recipient: &Recipient, message: &Message, view: &View) {
    if message.is_of_doubtful_origin(recipient) {
        told.push_str("; who wrote that report is not shown");
    }
    if message.is_apart(recipient.stay) {
        told.push_str("; nobody is known to have handed it on to there");
    }
    if let Some(apart) = &recipient.apart {
        let at = moment(message, apart.stay, apart.at_us, view);
        let what = match apart.state {
            State::Failed => "failed",
            _ => "delivered",
        };
        let host = plain(&apart.host);
        put(
            told,
            format_args!(
                "; also {what} {at} at {host}, to which nobody is known to have handed it"
            ),
        );
    }
    if let Some(failed) = &recipient.also_failed {
        let at = moment(message, failed.stay, failed.at_us, view);
        let host = plain(&failed.host);
        put(told, format_args!("; also failed {at} at {host}"));
    }
    if let Some(later_us) = message.came_later_us(recipient) {
        let later = duration(later_us);
        put(
            told,
            format_args!("; its copy came {later} later than the first, sent apart or again"),
        );
    }
}

fn told(recipient: &Recipient, message: &Message, view: &View) -> String {
    let at = at(recipient, message, view);
    let host = plain(&recipient.host);
    let next = recipient
        .remote
        .as_deref()
        .map_or_else(|| "the next hop".to_owned(), plain);
    let waited = waited(recipient, message);
    match recipient.state {
        State::Failed => format!("failed {at} at {host}, status {}{waited}", recipient.status),
        State::Looped => format!("back again at {host} {at}, in a ring{waited}"),
        State::Held => format!("held at {host}{waited}"),
        State::Delayed if recipient.delays > 1 => {
            let n = recipient.delays;
            let refused = refused(recipient, message);
            format!(
                "waiting at {host}, {n} attempts told, the last {at}, perhaps more since{refused}"
            )
        }
        State::Delayed => format!(
            "waiting at {host}, tried {at} and perhaps since{}",
            refused(recipient, message)
        ),
        State::OnItsWay => format!(
            "handed to {next} {at}{waited}, {}",
            quiet(recipient, message, view)
        ),
        State::Accepted => format!(
            "accepted by {host} {at}{waited}, {}",
            quiet(recipient, message, view)
        ),
        State::Relayed => format!("relayed {at} to {next} ({NOT_ASKED}){waited}"),
        State::Expanded => format!("expanded by {host} {at} to others{waited}"),
        State::Delivered => match recipient.deliveries {
            0 | 1 => format!("delivered {at} by {host}{waited}"),
            2 => format!("delivered twice, first {at} by {host}{waited}"),
            n => format!("delivered {n} times, first {at} by {host}{waited}"),
        },
    }
}

/// What came before that: delays at the last host, and refusals anywhere, such as `, after at least 2 delays and 1 refusal`.
fn waited(recipient: &Recipient, message: &Message) -> String {
    // Not every attempt is told of.
    let delays = match recipient.delays {
        0 => return refused(recipient, message),
        1 => "1 delay".to_owned(),
        n => format!("{n} delays"),
    };
    let refused = refused(recipient, message).replacen(", after", " and", 1);
    format!(", after at least {delays}{refused}")
}

/// That it was refused before and tried again, and where that was not at the host that told last.
fn refused(recipient: &Recipient, message: &Message) -> String {
    let times = match &*recipient.refusals {
        [] => return String::new(),
        [_] => "1 refusal".to_owned(),
        all => format!("{} refusals", all.len()),
    };
    let mut stays = recipient.refusals.iter().map(|refusal| refusal.stay);
    let first = stays.next().unwrap_or(recipient.stay);
    let host = message.stays.get(first).and_then(|s| s.host.as_deref());
    let at = match host {
        _ if stays.any(|stay| stay != first) => " on its way".to_owned(),
        Some(host) if first != recipient.stay => format!(" at {}", plain(host)),
        _ => String::new(),
    };
    format!(", after {times}{at}")
}

/// When it happened, on the first hop's clock as far as that is known.
fn at(recipient: &Recipient, message: &Message, view: &View) -> String {
    moment(message, recipient.stay, recipient.at_us, view)
}

/// A moment of a stay's clock, µs, in the same way.
fn moment(message: &Message, stay: usize, us: i64, view: &View) -> String {
    let from_us = message.sent_or_arrived_us();
    let on_first = message.stays.get(stay).and_then(|s| s.on_first_clock(us));
    match on_first {
        Some(at) => {
            let time = view.time(at.middle_us(), from_us) + &unsure(at.margin_us());
            time + &by_clock(stay, message)
        }
        None => view.time(us, from_us) + " (its own clock)",
    }
}

/// Whose clock times are told by, where it is not the first hop's.
fn by_clock(told: usize, message: &Message) -> String {
    let measure = message.measure();
    match measure.and_then(|n| message.stays.get(n)) {
        Some(stay) if stay.hop == 1 => String::new(),
        Some(_) if measure == Some(told) => " (its own clock)".to_owned(),
        Some(stay) => {
            let host = stay.host.as_deref().unwrap_or("the first that reported");
            format!(" (the clock of {})", plain(host))
        }
        None => String::new(),
    }
}

/// What it means that nothing more came.
fn quiet(recipient: &Recipient, message: &Message, view: &View) -> &'static str {
    let custody = custody(message, recipient, view.now_us);
    match custody.and_then(|custody| custody.silence) {
        Some(Silence::Silent) => "which should have reported since and has not",
        Some(Silence::SilentOnThis) => {
            "which reported on others since, not on this one: it may wait there, or be expanded there, which is not told"
        }
        Some(Silence::LeftOut) => "and a report in its name is left out",
        Some(Silence::Unproved) if message.has_under_another_name(custody.and_then(|c| c.host)) => {
            "and a report that seems to be its is not proved"
        }
        Some(Silence::Unproved) => "and a report in its name is not proved",
        Some(Silence::ToldElsewhere) => "and what came of it the proved reports tell",
        _ if recipient.state == State::OnItsWay && is_told_of_others(message, recipient) => {
            "which reported on others, not yet on this one"
        }
        _ => "nothing since",
    }
}

/// Words of others that are shown of each recipient, and of all that no hop told of: anybody can send any number.
const WORDS_SHOWN: usize = 5;

/// What others say of one recipient, or of all that no hop told of.
#[derive(Default)]
pub struct Heard<'a> {
    /// What of it is shown.
    pub shown: Vec<&'a Word>,
    more: usize,
}

impl Heard<'_> {
    /// That there is more than is shown.
    pub fn more(&self) -> Option<String> {
        let more = self.more;
        (more > 0).then(|| format!("? and {more} more such words; timeline --json tells all"))
    }
}

/// The words of others on each recipient, by its place; `None`: on those of whom no hop told.
pub fn words_by_recipient(message: &Message) -> HashMap<Option<usize>, Heard<'_>> {
    let mut words: HashMap<Option<usize>, Heard> = HashMap::new();
    for word in &message.words {
        let heard = words.entry(word.recipient).or_default();
        if heard.shown.len() < WORDS_SHOWN {
            heard.shown.push(word);
        } else {
            heard.more += 1;
        }
    }
    words
}

/// What is to be known of somebody whom no hop told of, and others speak of: whether there can be such a recipient.
pub fn stranger(message: &Message) -> &'static str {
    if message.untold() == 0 {
        ", to whom this message was not sent as far as the hops tell"
    } else {
        ""
    }
}

/// What others say of a recipient, or of one that no hop told of.
pub fn said(word: &Word, message: &Message, view: &View) -> String {
    let from_us = message.sent_or_arrived_us();
    let at = word
        .at_us
        .map_or_else(String::new, |us| format!(" {}", view.second(us, from_us)));
    let host = word.speaker().unwrap_or("somebody");
    let status = word
        .fate
        .status
        .map_or_else(String::new, |s| format!(", status {s}"));
    let reply = word.fate.reply.as_deref().filter(|reply| !reply.is_empty());
    let reply = reply.map_or_else(String::new, |reply| format!(" “{}”", view.cut(reply, 160)));
    let by = match word.joined {
        Joined::Recipient => " (unproved, and it names no message)",
        Joined::Envid | Joined::MessageId => " (unproved)",
    };
    format!(
        "? {}{at}, says {}{by}{status}{reply}",
        word.fate.said.as_str(),
        plain(host)
    )
}
