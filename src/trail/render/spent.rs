//! Where the time went, at a glance: for each hop on the slowest way a bar, its share, and what it is made of where that
//! tells something; and the time between hops.

use anstyle::Style;

use super::View;
use super::format::{bounded, duration, put};
use super::terminal::{DIM, outcome_style, paint};
use super::verdict::corrected_us;
use crate::trail::clock::Bounds;
use crate::trail::spent::{self, Kind};
use crate::trail::way::{Part, total, way};
use crate::trail::{Message, Outcome, Recipient, State};

/// Columns of a host's name.
const NAME_MAX: usize = 28;
/// Columns of the longest bar.
const BAR: usize = 20;

/// A row: number of the hop, name, time, share, bar.
struct Row {
    hop: String,
    name: String,
    time: String,
    bar_us: i64,
}

/// Of the whole time, what less than one in so many is not worth a row.
const TOLD_OF: i64 = 20;

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
        .flat_map(|part| hop(message, part, known_us(&parts), view))
        .collect();
    rows.extend(beyond(recipient, view));
    rows.extend(total(&parts).filter(|_| parts.len() > 1).map(|total| {
        let done = recipient.state.outcome() != Outcome::Open;
        let name = if done { "in all" } else { "so far" };
        row("", name.to_owned(), bounded(total))
    }));
    let style = outcome_style(message.outcome_for(recipient));
    format!(
        "{}\n{}\n",
        paint(DIM, &title),
        table(&rows, known_us(&parts), style)
    )
}

/// The rows as text; what they share is the whole.
fn table(rows: &[Row], whole_us: i64, style: Style) -> String {
    let last = rows.iter().rposition(|r| r.bar_us > 0);
    let width = |of: fn(&Row) -> &str| rows.iter().map(|r| of(r).chars().count()).max();
    let hops = width(|r| &r.hop).unwrap_or(0);
    let names = width(|r| &r.name).unwrap_or(0);
    let times = width(|r| &r.time).unwrap_or(0);
    let longest_us = rows.iter().map(|r| r.bar_us).max().unwrap_or(0);
    let mut out = String::new();
    for (n, row) in rows.iter().enumerate() {
        let bar = bar(row.bar_us, longest_us);
        // Where it stands now has the colour of its fate.
        let bar = if last == Some(n) && !bar.is_empty() {
            paint(style, &bar)
        } else {
            bar
        };
        let share = share(row.bar_us, whole_us);
        let line = format!(
            "  {:>hops$}  {:names$}  {:>times$}  {share:>5}  {bar}",
            row.hop, row.name, row.time
        );
        put(&mut out, format_args!("{}\n", line.trim_end()));
    }
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

/// All the time that is known of, µs.
fn known_us(parts: &[Part]) -> i64 {
    let known = parts.iter().map(|part| {
        let wire_us = part.wire.map_or(0, Bounds::middle_us);
        part.dwell_us.unwrap_or(0).saturating_add(wire_us)
    });
    known.fold(0, i64::saturating_add)
}

/// `82 %` of the whole; nothing of what took no time.
fn share(us: i64, whole_us: i64) -> String {
    if us <= 0 || whole_us <= 0 {
        return String::new();
    }
    match (i128::from(us) * 200 / i128::from(whole_us) + 1) / 2 {
        0 => "<1 %".to_owned(),
        percent => format!("{percent} %"),
    }
}

/// The wire in front of a hop, the hop, and what its time was made of.
fn hop(message: &Message, part: &Part, whole_us: i64, view: &View) -> Vec<Row> {
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
    wire.into_iter()
        .chain([hop])
        .chain(made_of(&part.parts, whole_us))
        .collect()
}

/// What took a part of the whole that is worth a row; nothing where that is the queue alone, as one would think.
fn made_of(parts: &[spent::Part], whole_us: i64) -> Vec<Row> {
    let of_kind = |kind: Kind| {
        let of = parts.iter().filter(|part| part.kind == kind);
        (kind, of.fold(0, |us: i64, part| us.saturating_add(part.us)))
    };
    let worth = |(_, us): &(Kind, i64)| *us > 0 && *us >= whole_us / TOLD_OF;
    let told: Vec<_> = Kind::ALL.map(of_kind).into_iter().filter(worth).collect();
    if told.iter().all(|(kind, _)| *kind == Kind::Queue) {
        return Vec::new();
    }
    let name = |kind| match kind {
        Kind::Filter => "  looked at before taken",
        Kind::ContentFilter => "  with the content filter",
        Kind::Queue => "  in the queue",
        Kind::Attempt => "  offered to the next hop",
        Kind::PutOff => "  put off by the next hop",
        Kind::Greylisted => "  greylisted by the next hop",
    };
    let row = |(kind, us)| row("", name(kind).to_owned(), duration(us));
    told.into_iter().map(row).collect()
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
