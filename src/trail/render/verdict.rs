//! The answer in one line: what became of a message.

use std::net::{IpAddr, SocketAddr};

use super::View;
use super::format::{bounded, plain, put};
use crate::trail::clock::Bounds;
use crate::trail::way::{self, way};
use crate::trail::{Message, Recipient, State};

/// Such as `delivered to 2 in 3.61 s` or `1 waiting at mx2 since 17:05, 1 delivered`; the worst first.
/// Fewer words where `short`, and hosts by their first label.
pub fn verdict(message: &Message, view: &View, short: bool) -> String {
    let mut sorted: Vec<&Recipient> = message.recipients.iter().collect();
    sorted.sort_by_key(|r| r.state);
    let mut parts: Vec<String> = Vec::new();
    for same in sorted.chunk_by(|a, b| {
        (a.state, &a.host, &a.remote) == (b.state, &b.host, &b.remote)
            || a.state == b.state && a.state == State::Delivered
    }) {
        let Some(first) = same.first() else { continue };
        let phrase = phrase(first, message, view, short);
        let all = same.len() == message.recipients.len();
        parts.push(match (first.state, same.len()) {
            (_, 1) if all => phrase,
            (State::Delivered, n) if all => format!("{phrase} to {n}"),
            (_, n) => format!("{n} {phrase}"),
        });
    }
    let mut text = parts.join(", ");
    if text.is_empty() {
        "nothing known".clone_into(&mut text);
    }
    if let Some(total) = total(message) {
        put(&mut text, format_args!(" in {}", bounded(total)));
    }
    text
}

fn phrase(recipient: &Recipient, message: &Message, view: &View, short: bool) -> String {
    let name = |host: &str| plain(if short { first_label(host) } else { host });
    let host = name(&recipient.host);
    let remote = recipient
        .remote
        .as_deref()
        .map_or_else(|| "the next server".to_owned(), name);
    let since = |us| view.since(corrected_us(message, recipient.stay, us));
    match recipient.state {
        State::Failed => format!("failed at {host}"),
        State::Looped => format!("goes in a ring at {host} since {}", since(recipient.at_us)),
        State::Held => format!("held at {host} since {}", since(recipient.arrived_us)),
        State::Delayed => format!("waiting at {host} since {}", since(recipient.arrived_us)),
        State::OnItsWay if short => {
            format!("on its way to {remote} since {}", since(recipient.at_us))
        }
        State::OnItsWay => format!(
            "handed to {remote} at {}, nothing since",
            since(recipient.at_us)
        ),
        State::Accepted if short => format!("at {host} since {}", since(recipient.at_us)),
        State::Accepted => format!(
            "accepted by {host} at {}, nothing since",
            since(recipient.at_us)
        ),
        State::Relayed if short => format!("relayed to {remote}, trail ends"),
        State::Relayed => format!("relayed to {remote}, where the trail ends"),
        State::Expanded if short => format!("sent on by {host} to others"),
        State::Expanded => format!("sent on by {host} to others, where the trail ends"),
        State::Delivered => "delivered".to_owned(),
    }
}

/// The first label of a host's name; an IP address whole, also with a port or in brackets.
fn first_label(host: &str) -> &str {
    let address = host.starts_with('[')
        || host.parse::<IpAddr>().is_ok()
        || host.parse::<SocketAddr>().is_ok();
    match host.split('.').next() {
        Some(label) if !address && !label.is_empty() => label,
        _ => host,
    }
}

/// A time of a stay's clock as the first hop's clock had it; as it stands where that is not known.
pub fn corrected_us(message: &Message, stay: usize, us: i64) -> i64 {
    let stay = message.stays.get(stay);
    let corrected = stay.and_then(|stay| stay.on_first_clock(us));
    corrected.map_or(us, Bounds::middle_us)
}

/// How long it took from the first hop's arrival to the last delivery, if all were delivered and every part of the
/// ways there is known.
pub fn total(message: &Message) -> Option<Bounds> {
    let origin = message.stays.first()?;
    if origin.parent.is_some() || origin.hop != 1 {
        return None;
    }
    let delivered =
        |r: &Recipient| (r.state == State::Delivered).then(|| way::total(&way(message, r)));
    let totals: Option<Vec<Bounds>> = message.recipients.iter().map(|r| delivered(r)?).collect();
    totals?.into_iter().max_by_key(|took| took.high_us)
}
