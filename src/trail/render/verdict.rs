//! The answer in one line: what became of a message.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use compact_str::CompactString;

use super::View;
use super::format::{bounded, cut, duration, plain, put};
use crate::report::notice::Said;
use crate::track::TrackingId;
use crate::trail::clock::Bounds;
use crate::trail::custody::{Silence, Since, custody};
use crate::trail::message::Word;
use crate::trail::way;
use crate::trail::{Message, Outcome, Recipient, State};

/// A hop that a message comes back to so often is in a loop; once may be a content filter's way.
const LOOP_FROM: usize = 2;

/// Of the whole time, what less than one in so many is not worth telling.
pub const TOLD_OF: i64 = 20;

/// Of a hop that was given the message without TRACK: it does not offer that, or the request ended there, or members of an
/// alias went with it (RFC 3886, 4.2). Which of these is not told.
pub const NOT_ASKED: &str = "not asked to report";

/// Most verdicts are no longer.
const VERDICT_OCTETS: usize = 64;

/// Such as `delivered to 2 in 3.61 s` or `1 waiting at mx2 since 17:05, 1 delivered`; the worst first.
/// Fewer words where `short`, and no more of a host's name than tells it from others.
pub fn verdict(message: &Message, view: &View, short: bool) -> String {
    if let Some(id) = message.names.first() {
        return word_on(id, short);
    }
    let mut parts = parts(message, view, short);
    if message.untold() > 0 {
        parts.push(format!("{} not told of yet", message.untold()));
    }
    let mut text = String::with_capacity(VERDICT_OCTETS);
    for part in &parts {
        text.push_str(if text.is_empty() { "" } else { ", " });
        text.push_str(part);
    }
    if text.is_empty() {
        text.push_str("nothing known");
    }
    if let Some(total) = total(message) {
        text.push_str(" in ");
        text.push_str(&bounded(total));
        if let Some(before_us) = before_us(message, total.high_us) {
            let from = if short { "" } else { " from the first hop" };
            let before = duration(before_us);
            put(&mut text, format_args!("{from}, sent {before} before that"));
        }
    }
    text.push_str(&behind(message));
    let visits = (0..message.stays.len()).map(|n| message.earlier_visits(n).len());
    if visits.max() >= Some(LOOP_FROM) {
        text.push_str(", going round in a loop");
    }
    text
}

/// What is said of reports that nothing proves, and that name the message of this tracking id, of which others are proved:
/// whatever they claim, they tell of no other message.
fn word_on(id: &TrackingId, short: bool) -> String {
    /// Mostly that tells it from others.
    const ID_MAX: usize = 9;
    if short {
        format!("unproved word on {}", cut(id.as_str(), ID_MAX))
    } else {
        let id = plain(id.as_str());
        format!("unproved word on {id}, of which other reports are proved")
    }
}

/// A phrase for all recipients of whom the same is known, in the order of the first of each.
fn parts(message: &Message, view: &View, short: bool) -> Vec<String> {
    let known = worst_first(message);
    // Mostly there is but one.
    if known.len() == 1 {
        return part(&known, message, view, short).into_iter().collect();
    }
    let mut groups: Vec<Vec<Known>> = Vec::new();
    let mut places = BTreeMap::new();
    for known in known {
        let told = told(&known, message, view);
        let place = *places.entry(told).or_insert(groups.len());
        match groups.get_mut(place) {
            Some(group) => group.push(known),
            None => groups.push(vec![known]),
        }
    }
    let part = |same: &Vec<Known>| part(same, message, view, short);
    groups.iter().filter_map(part).collect()
}

/// What a phrase tells of a recipient: what others say, or where it is, and what is to be said beside that.
fn told<'a>(
    (recipient, word): &Known<'a>,
    message: &Message,
    view: &View,
) -> (Option<Said>, Option<Place<'a>>, String) {
    let handed_on = matches!(recipient.state, State::OnItsWay | State::Relayed);
    let next = recipient.remote.as_deref().filter(|_| handed_on);
    let somewhere = word.is_none() && recipient.state != State::Delivered;
    let silence = || custody(message, recipient, view.now_us)?.silence;
    let place = somewhere.then(|| (recipient.state, recipient.host.as_str(), next, silence()));
    (said(*word), place, doubts(recipient, message))
}

/// How far, at which host, to which next one it was handed where that has it, and why nothing more is known.
type Place<'a> = (State, &'a str, Option<&'a str>, Option<Silence>);

/// The addresses of the recipients in the order in which the verdict speaks of them.
pub fn addresses(message: &Message) -> Vec<CompactString> {
    // Mostly there is but one.
    if let [only] = &*message.recipients {
        return vec![only.address.clone()];
    }
    let sorted = worst_first(message).into_iter();
    sorted.map(|(r, _)| r.address.clone()).collect()
}

fn worst_first(message: &Message) -> Vec<Known<'_>> {
    let recipients = message.recipients.iter();
    let mut sorted: Vec<Known> = recipients.map(|r| (r, hearsay(r, message))).collect();
    sorted.sort_by_cached_key(|(r, word)| {
        (
            r.state != State::Failed,
            word.is_none(),
            said(*word),
            r.state,
            doubts(r, message),
        )
    });
    sorted
}

fn said(word: Option<&Word>) -> Option<Said> {
    word.map(|word| word.fate.said)
}

/// A recipient, and what others say of its end where no hop told of one.
type Known<'a> = (&'a Recipient, Option<&'a Word>);

/// The phrase for some recipients of whom the same is known.
fn part(same: &[Known], message: &Message, view: &View, short: bool) -> Option<String> {
    let (first, word) = *same.first()?;
    let all = same.len() == message.recipients.len() && message.untold() == 0;
    let alone = all && same.len() == 1;
    let phrase = match word {
        // What is known stands in front of what anybody can say.
        Some(word) if alone => {
            let phrase = phrase(same, message, view, alone, short);
            let and = if short { "," } else { " and" };
            format!("{phrase}{and} {}", said_to(word, short))
        }
        Some(word) => said_to(word, true),
        None => phrase(same, message, view, alone, short),
    };
    let phrase = match (first.state, same.len()) {
        _ if alone => phrase,
        (State::Delivered, n) if all => format!("{phrase} to {n}"),
        (_, n) => format!("{n} {phrase}"),
    };
    Some(phrase + &doubts(first, message))
}

/// What is known of a recipient; of several that share it, what stands behind their number.
fn phrase(same: &[Known], message: &Message, view: &View, alone: bool, short: bool) -> String {
    let Some((recipient, _)) = same.first() else {
        return String::new();
    };
    // Of most there is no more to say, and a list has many.
    if recipient.state == State::Delivered {
        return "delivered".to_owned();
    }
    let name = |host: &str| {
        plain(if short {
            short_name(host, message)
        } else {
            host
        })
    };
    let host = name(&recipient.host);
    let custody = custody(message, recipient, view.now_us);
    let holder = custody.and_then(|c| c.host);
    let holder = holder.map_or_else(|| "the next server".to_owned(), name);
    let since = since(same, message, view, short);
    match (recipient.state, custody.and_then(|c| c.silence)) {
        (State::Failed, _) => format!("failed at {host}"),
        (State::Looped, _) => format!("goes in a ring at {host} {since}"),
        (State::Held, _) => format!("held at {holder} {since}"),
        (State::Delayed, _) => format!("waiting at {holder} {since}"),
        (State::Relayed, _) => {
            let trail = if alone { "trail ends" } else { "ending" };
            let why = if short { "no reports" } else { NOT_ASKED };
            format!("{trail} at {holder} ({why})")
        }
        (State::Expanded, _) if short => format!("expanded by {host} to others"),
        (State::Expanded, _) => format!("expanded by {host} to others, where the trail ends"),
        (_, Some(Silence::LeftOut)) if short => {
            format!("at {holder} {since}, its report left out")
        }
        (_, Some(Silence::LeftOut)) => {
            format!("last known at {holder} {since}, of which a report is left out")
        }
        (_, Some(Silence::Unproved)) if short => {
            format!("at {holder} {since}, its report not proved")
        }
        (_, Some(Silence::Unproved)) => {
            format!("last known at {holder} {since}, of which a report is not proved")
        }
        (_, Some(Silence::Silent)) if alone => format!("{holder} silent {since}"),
        (_, Some(Silence::Silent)) => format!("with {holder} (silent {since})"),
        (_, Some(Silence::SilentOnThis)) => {
            let who = if short { "it" } else { "this recipient" };
            format!("with {holder} (no report on {who} {since})")
        }
        (State::Accepted, _) => format!("last known at {holder} {since}"),
        _ if short => format!("on its way, at {holder} {since}"),
        _ => format!("on its way, last in the hands of {holder} {since}"),
    }
}

/// Such as `since 17:05`, of several `since 17:05 or later` where it is not the same minute for all, and by whose clock if
/// nobody can compare that with others.
fn since(same: &[Known], message: &Message, view: &View, short: bool) -> String {
    let since = |(recipient, _): &Known| {
        let custody = custody(message, recipient, view.now_us)?;
        let us = custody.since_us;
        Some(Since::of(message, recipient.stay, us, view.now_us))
    };
    let mut all = same.iter().filter_map(since);
    let Some(first) = all.next() else {
        return String::new();
    };
    let (earliest, latest) = all.fold((first, first), |(earliest, latest), since| {
        (earliest.or(since, i64::min), latest.or(since, i64::max))
    });
    let Some(time) = earliest.us().map(|us| view.since(us)) else {
        let (unknown, known_wrong) = ("is unknown", "is not known (its clock is wrong)");
        return format!("since when {}", if short { unknown } else { known_wrong });
    };
    let is_range = latest.us().is_some_and(|us| view.since(us) != time);
    let or_later = if is_range { " or later" } else { "" };
    let clock = match earliest {
        Since::Claimed(_) if short => " (own clock)",
        Since::Claimed(_) => " by its own clock",
        _ => "",
    };
    format!("since {time}{or_later}{clock}")
}

/// What is to be said beside what is told of a recipient.
fn doubts(recipient: &Recipient, message: &Message) -> String {
    let mut doubts = String::new();
    if recipient.also_failed.is_some() {
        doubts.push_str(" (also reported failed)");
    }
    if recipient.state.outcome() == Outcome::Open && !recipient.refusals.is_empty() {
        doubts.push_str(", after a refusal");
    }
    if message.is_of_doubtful_origin(recipient) {
        doubts.push_str(" (origin not shown)");
    }
    if message.is_apart(recipient.stay) {
        doubts.push_str(" (apart from the chain)");
    }
    if recipient.state == State::Expanded && is_said_to_have_failed(recipient, message) {
        doubts.push_str(", one of whom is said to have failed (unproved)");
    }
    match recipient.apart.as_ref().map(|apart| apart.state) {
        Some(state) if state == recipient.state => {}
        Some(State::Delivered) => doubts.push_str(" (delivered apart from the chain)"),
        Some(State::Failed) => doubts.push_str(" (failed apart from the chain)"),
        _ => {}
    }
    doubts
}

/// The last word of others on a recipient, where it tells an end that no hop told.
fn hearsay<'a>(recipient: &Recipient, message: &'a Message) -> Option<&'a Word> {
    let word = message.last_word(recipient)?;
    // A member's failure is not that of the whole list.
    let of_list = recipient.state == State::Expanded && is_said_to_have_failed(recipient, message);
    let end = !of_list
        && !matches!(
            word.fate.said,
            Said::Delayed | Said::Relayed | Said::Expanded
        );
    (end && recipient.state.outcome() == Outcome::Open).then_some(word)
}

/// Whether others say that it failed, for a recipient or behind it.
fn is_said_to_have_failed(recipient: &Recipient, message: &Message) -> bool {
    let word = message.last_word(recipient);
    word.is_some_and(|word| word.fate.said == Said::Failed)
}

/// For how many recipients it is said to have failed behind the mailbox that it came to; nothing if for none.
fn behind(message: &Message) -> String {
    let failed = |r: &&Recipient| r.state == State::Delivered && is_said_to_have_failed(r, message);
    let what = "then said to have failed behind the mailbox (unproved)";
    match message.recipients.iter().filter(failed).count() {
        0 => String::new(),
        1 if message.recipients.len() == 1 => format!(", {what}"),
        n => format!(", {n} {what}"),
    }
}

/// Such as `said to have failed (unproved word of mx2.example.net)`.
fn said_to(word: &Word, short: bool) -> String {
    let what = match word.fate.said {
        Said::Failed => "have failed",
        Said::Displayed => "have been displayed",
        Said::Deleted => "have been deleted",
        _ => "be delivered",
    };
    match word.speaker() {
        Some(speaker) if !short => {
            format!("said to {what} (unproved word of {})", plain(speaker))
        }
        _ => format!("said to {what} (unproved)"),
    }
}

/// As many labels of a host's name as tell it from the message's other hosts; an IP address whole, also with a port or
/// in brackets.
fn short_name<'h>(host: &'h str, message: &Message) -> &'h str {
    let address = host.starts_with('[')
        || host.parse::<IpAddr>().is_ok()
        || host.parse::<SocketAddr>().is_ok();
    if address {
        return host;
    }
    let hops = message.stays.iter().map(|stay| stay.host.as_deref());
    let ends = message.recipients.iter().map(|r| r.remote.as_deref());
    let others: Vec<&str> = hops
        .chain(ends)
        .flatten()
        .filter(|other| *other != host)
        .collect();
    let begins = |short: &str, other: &&str| {
        let rest = other.strip_prefix(short);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    let shorts = host.match_indices('.').map(|(end, _)| &host[..end]);
    let mut tell = shorts.filter(|short| !short.is_empty());
    tell.find(|short| !others.iter().any(|other| begins(short, other)))
        .unwrap_or(host)
}

/// A time of a stay's clock as the first hop's clock had it; as it stands where that is not known.
pub fn corrected_us(message: &Message, stay: usize, us: i64) -> i64 {
    let stay = message.stays.get(stay);
    let corrected = stay.and_then(|stay| stay.on_first_clock(us));
    corrected.map_or(us, Bounds::middle_us)
}

/// How long it took from the sender to the first hop by the clocks of both, which nobody compares, µs, where that is worth
/// telling beside what it took from there.
pub fn before_us(message: &Message, took_us: i64) -> Option<i64> {
    /// Clocks that are set by NTP differ by less.
    const TOLD_FROM_US: i64 = 1_000_000;
    let first = message.measure()?;
    let is_first = message.stays.get(first)?.hop == 1;
    let before_us = message.came_after_us(first).filter(|_| is_first)?;
    (before_us >= TOLD_FROM_US && before_us >= took_us / TOLD_OF).then_some(before_us)
}

/// How long it took from the first hop's arrival to the last delivery, if all were delivered and every part of the
/// ways there is known.
pub fn total(message: &Message) -> Option<Bounds> {
    let origin = message.stays.first()?;
    if origin.parent.is_some() || origin.hop != 1 || message.untold() > 0 {
        return None;
    }
    let known = |r: &Recipient| r.state == State::Delivered && message.start_of(r.stay) == 0;
    let delivered = |r: &Recipient| {
        let later_us = message.came_later_us(r).unwrap_or(0);
        let took = || way::took(message, r).map(|took| took.plus(Bounds::measured(later_us)));
        known(r).then(took)
    };
    let totals: Option<Vec<Bounds>> = message.recipients.iter().map(|r| delivered(r)?).collect();
    totals?.into_iter().max_by_key(|took| took.high_us)
}
