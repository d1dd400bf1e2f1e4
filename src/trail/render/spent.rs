//! Where the time went, at a glance: a bar for each hop on the slowest way, and the time between hops.

use super::View;
use super::format::{bounded, duration, put};
use super::terminal::{DIM, outcome_style, paint};
use super::verdict::corrected_us;
use crate::trail::way::{Part, total, way};
use crate::trail::{Message, Outcome, Recipient, State};

/// Columns of a host's name.
const NAME_MAX: usize = 32;
/// Columns of the longest bar.
const BAR: usize = 24;

/// A row: number of the hop, name, time, bar.
struct Row {
    hop: String,
    name: String,
    time: String,
    bar_us: i64,
}

/// The table for the recipient it took longest to reach, or who still waits; nothing if no time is
/// known.
pub fn draw(message: &Message, view: &View) -> String {
    let Some(recipient) = slowest(message) else {
        return String::new();
    };
    let parts = way(message, recipient);
    if parts.iter().all(|p| p.dwell_us.is_none()) {
        return String::new();
    }
    let mut title = "where the time went".to_owned();
    if message.recipients.len() > 1 {
        let whom = view.cut(&recipient.address, view.room(30));
        put(&mut title, format_args!(" for {whom}"));
    }
    let mut rows: Vec<Row> = parts
        .iter()
        .flat_map(|part| hop(message, *part, view))
        .collect();
    rows.extend(beyond(recipient, view));
    rows.extend(total(&parts).filter(|_| parts.len() > 1).map(|total| {
        let done = recipient.state.outcome() != Outcome::Open;
        let name = if done { "in all" } else { "so far" };
        row("", name.to_owned(), bounded(total))
    }));
    let style = outcome_style(message.outcome_for(recipient));
    let last = rows.iter().rposition(|r| r.bar_us > 0);
    let width = |of: fn(&Row) -> &str| rows.iter().map(|r| of(r).chars().count()).max();
    let hops = width(|r| &r.hop).unwrap_or(0);
    let (names, times) = (
        width(|r| &r.name).unwrap_or(0),
        width(|r| &r.time).unwrap_or(0),
    );
    let longest_us = rows.iter().map(|r| r.bar_us).max().unwrap_or(0);
    let mut out = format!("{}\n", paint(DIM, &title));
    for (n, row) in rows.iter().enumerate() {
        let bar = bar(row.bar_us, longest_us);
        // Where it stands now has the colour of its fate.
        let bar = if last == Some(n) && !bar.is_empty() {
            paint(style, &bar)
        } else {
            bar
        };
        let line = format!(
            "  {:>hops$}  {:names$}  {:>times$}  {bar}",
            row.hop, row.name, row.time
        );
        put(&mut out, format_args!("{}\n", line.trim_end()));
    }
    out.push('\n');
    out
}

fn row(hop: &str, name: String, time: String) -> Row {
    Row {
        hop: hop.to_owned(),
        name,
        time,
        bar_us: 0,
    }
}

/// Who fared worst; among those, who was reached last.
fn slowest(message: &Message) -> Option<&Recipient> {
    let at_us = |r: &Recipient| corrected_us(message, r.stay, r.at_us);
    let worst = message.recipients.iter().map(|r| r.state).min()?;
    let worst = message.recipients.iter().filter(|r| r.state == worst);
    worst.max_by_key(|r| at_us(r))
}

/// The wire in front of a hop, and the hop.
fn hop(message: &Message, part: Part, view: &View) -> Vec<Row> {
    let Some(stay) = message.stays.get(part.stay) else {
        return Vec::new();
    };
    let wire = part
        .wire
        .map(|wire| row("", "on the wire".to_owned(), bounded(wire)));
    let name = stay.host.as_deref().unwrap_or("(name unknown)");
    let name = view.cut(name, NAME_MAX);
    let time = part.dwell_us.map_or_else(|| "?".to_owned(), duration);
    let hop = Row {
        bar_us: part.dwell_us.unwrap_or(0),
        ..row(&stay.hop.to_string(), name, time)
    };
    wire.into_iter().chain([hop]).collect()
}

/// The hop nothing is known of yet.
fn beyond(recipient: &Recipient, view: &View) -> Option<Row> {
    let word = match recipient.state {
        State::OnItsWay => "no report yet",
        State::Relayed => "does not report",
        _ => return None,
    };
    let name = recipient
        .remote
        .as_deref()
        .map_or_else(|| "the next hop".to_owned(), |r| view.cut(r, NAME_MAX));
    Some(row("→", name, word.to_owned()))
}

/// A bar in eighths of a column; what took time at all has a trace of one.
fn bar(us: i64, longest_us: i64) -> String {
    const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    if us <= 0 || longest_us <= 0 {
        return String::new();
    }
    let columns = i128::try_from(BAR * 8).unwrap_or(0) * i128::from(us) / i128::from(longest_us);
    let eighths = usize::try_from(columns).unwrap_or(0).max(1);
    "█".repeat(eighths / 8) + EIGHTHS.get(eighths % 8).unwrap_or(&"")
}
