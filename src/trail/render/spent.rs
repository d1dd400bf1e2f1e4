//! Where the time went, at a glance: for each hop on the slowest way a bar, its share, and what it is made of where that
//! tells something; and the time between hops.

use super::View;
use super::format::{bounded, duration, put};
use super::paint::{DIM, outcome_style, paint};
use super::verdict::{TOLD_OF, before_us, corrected_us};
use super::words::unheard;
use crate::trail::clock::Bounds;
use crate::trail::custody::{Silence, Since, beyond, custody};
use crate::trail::spent::{self, Kind};
use crate::trail::way::{Part, total, way};
use crate::trail::{Message, Outcome, Recipient, State};

/// Columns of a host's name.
const NAME_MAX: usize = 28;
/// Columns of its name where it is waited for; it has a row of its own mostly.
const NEXT_MAX: usize = 20;
/// Columns of the longest bar.
const BAR: usize = 20;

/// Where the time went on the way to one recipient, for a terminal and for a page.
pub struct Spent {
    /// To whom, where the message has several recipients.
    pub whom: Option<String>,
    /// What became of the message for it.
    pub outcome: Outcome,
    /// The first hop first, what the time inside was made of below it, and the sum last.
    pub rows: Vec<Row>,
    /// What the shares are of, µs, where all of it is known.
    whole_us: Option<i64>,
}

/// A hop, a part of the time inside the one above, the wire, or the sum of it all.
pub struct Row {
    /// The number of a hop; empty of all else.
    pub hop: String,
    /// The host's name, or what the time was spent on.
    pub name: String,
    /// Whether it is a part of the hop above.
    pub is_part: bool,
    /// How long, in words.
    pub time: String,
    /// How long, µs, if it has a bar.
    us: i64,
}

impl Spent {
    /// For the recipient it took longest to reach, or who still waits; `None` if no time is known, or where the proved
    /// reports on the same message tell.
    pub fn on(message: &Message, view: &View) -> Option<Self> {
        let recipient = slowest(message).filter(|_| message.names.is_empty())?;
        let mut parts = way(message, recipient);
        if parts.iter().all(|part| part.dwell_us.is_none()) {
            return None;
        }
        let waits_us = waits_us(message, recipient, view.now_us);
        let whole_us = known_us(&parts).saturating_add(waits_us.unwrap_or(0));
        let hops = parts
            .iter()
            .flat_map(|part| hop(message, part, whole_us, view));
        let before = before_us(message, whole_us).map(|us| {
            row(
                "",
                "from the sender, by two clocks".to_owned(),
                duration(us),
            )
        });
        let is_before = before.is_some();
        let mut rows: Vec<Row> = before.into_iter().chain(hops).collect();
        let end = rows.iter_mut().rfind(|row| !row.hop.is_empty());
        if let Some(end) = end.filter(|_| recipient.state == State::Looped) {
            "back again".clone_into(&mut end.time);
            // It goes no further, so this is the end of its way.
            parts.last_mut()?.dwell_us = Some(0);
        }
        let silence = custody(message, recipient, view.now_us).and_then(|custody| custody.silence);
        rows.extend(next(message, recipient, view));
        let no_news = match (silence, since(message, recipient, view.now_us)) {
            (Some(Silence::LeftOut | Silence::Unproved), _) => "nothing proved since",
            (_, Since::Claimed(_)) => "no news, by its clock",
            _ => "no news since",
        };
        rows.extend(waits_us.map(|us| Row {
            us,
            ..row("", no_news.to_owned(), duration(us))
        }));
        let waited = Bounds::measured(waits_us.unwrap_or(0));
        // Nobody knows how long it has waited where clocks disagree.
        let is_known = !is_awaited(recipient) || waits_us.is_some();
        let total = total(&parts).filter(|_| is_known);
        let total = total.map(|total| total.plus(waited));
        let is_sum = parts.len() > 1 || waits_us.is_some();
        rows.extend(total.filter(|_| is_sum).map(|total| {
            let done = recipient.state.outcome() != Outcome::Open;
            let name = if done { "in all" } else { "so far" };
            let from = if is_before {
                ", from the first hop"
            } else {
                ""
            };
            row("", format!("{name}{from}"), bounded(total))
        }));
        Some(Self {
            whom: (message.recipients.len() > 1).then(|| recipient.address.to_string()),
            outcome: message.outcome_for(recipient),
            rows,
            whole_us: total.map(|_| whole_us),
        })
    }

    /// The share of a row in words: `82 %`; empty if it has no bar, or nobody knows of what.
    pub fn share(&self, row: &Row) -> String {
        self.whole_us
            .map_or_else(String::new, |whole_us| share(row.us, whole_us))
    }

    /// How long the bar of a row is, of the longest one's `columns`.
    pub fn bar(&self, row: &Row, columns: i64) -> i64 {
        let longest_us = self.rows.iter().map(|r| r.us).max().unwrap_or(0).max(1);
        let bar = i128::from(row.us) * i128::from(columns) / i128::from(longest_us);
        // What took time at all has a trace of one.
        i64::try_from(bar).unwrap_or(columns).max(row.us.signum())
    }
}

/// The table as text; nothing if no time is known.
pub fn draw(message: &Message, view: &View) -> String {
    let Some(spent) = Spent::on(message, view) else {
        return String::new();
    };
    let mut title = "where the time went".to_owned();
    if let Some(whom) = &spent.whom {
        let whom = view.cut(whom, view.room(30));
        put(&mut title, format_args!(" for {whom}"));
    }
    format!("{}\n{}\n", paint(DIM, &title), table(&spent, view))
}

fn table(spent: &Spent, view: &View) -> String {
    let rows = &spent.rows;
    let name = |row: &Row| format!("{}{}", if row.is_part { "  " } else { "" }, row.name);
    let last = rows.iter().rposition(|r| r.us > 0);
    let width = |text: &str| text.chars().count();
    let hops = rows.iter().map(|r| width(&r.hop)).max().unwrap_or(0);
    let names = rows.iter().map(|r| width(&name(r))).max().unwrap_or(0);
    let shares = spent.whole_us.map_or(0, |_| "100 %".len());
    // With the blanks between.
    let used = hops + names + shares + 10;
    let all = rows.iter().map(|r| width(&r.time)).max().unwrap_or(0);
    let barred = rows.iter().filter(|r| r.us > 0).map(|r| width(&r.time));
    // What has no bar sticks out to where that would be, if there is no room for any otherwise.
    let times = if view.room(used + all) > 0 {
        all
    } else {
        barred.max().unwrap_or(0)
    };
    let columns = view.room(used + times).min(BAR);
    let eighths = i64::try_from(columns * 8).unwrap_or(0);
    let mut out = String::new();
    for (n, row) in rows.iter().enumerate() {
        let bar = blocks(spent.bar(row, eighths));
        // Where it stands now has the colour of its fate.
        let bar = if last == Some(n) {
            paint(outcome_style(spent.outcome), &bar)
        } else {
            bar
        };
        let line = format!(
            "  {:>hops$}  {:names$}  {:>times$}  {:>shares$}  {bar}",
            row.hop,
            name(row),
            row.time,
            spent.share(row)
        );
        put(&mut out, format_args!("{}\n", line.trim_end()));
    }
    out
}

fn row(hop: &str, name: String, time: String) -> Row {
    Row {
        hop: hop.to_owned(),
        name,
        is_part: false,
        time,
        us: 0,
    }
}

/// Who fared worst; among those, who was reached last.
fn slowest(message: &Message) -> Option<&Recipient> {
    let at_us = |r: &Recipient| corrected_us(message, r.stay, r.at_us);
    let worst = message.recipients.iter().map(|r| r.state).min()?;
    let worst = message.recipients.iter().filter(|r| r.state == worst);
    worst.max_by_key(|r| at_us(r))
}

/// How long nothing was heard of a message that is under way, µs.
fn waits_us(message: &Message, recipient: &Recipient, now_us: i64) -> Option<i64> {
    let since_us = since(message, recipient, now_us).us()?;
    let waits_us = now_us.saturating_sub(since_us);
    (is_awaited(recipient) && waits_us > 0).then_some(waits_us)
}

/// Whether news of it may still come.
fn is_awaited(recipient: &Recipient) -> bool {
    matches!(
        recipient.state,
        State::OnItsWay | State::Accepted | State::Delayed | State::Held
    )
}

/// Since when nothing was heard.
fn since(message: &Message, recipient: &Recipient, now_us: i64) -> Since {
    Since::of(message, recipient.stay, recipient.at_us, now_us)
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
    let awaited_us = spent::awaited_us(&part.parts);
    let is_told = awaited_us > 0 && awaited_us >= whole_us / TOLD_OF;
    let own = |us: i64, awaited_us| {
        if is_told {
            us.saturating_sub(awaited_us)
        } else {
            us
        }
    };
    let own_us = part.dwell_us.map(|us| own(us, awaited_us));
    let hop = Row {
        us: own_us.unwrap_or(0),
        ..row(
            &stay.hop.to_string(),
            name,
            own_us.map_or_else(|| "?".to_owned(), duration),
        )
    };
    wire.into_iter()
        .chain([hop])
        .chain(made_of(&part.parts, whole_us, |part| {
            own(part.us, part.awaited_us)
        }))
        .chain(is_told.then(|| awaited(part, awaited_us, view)))
        .collect()
}

/// What the next hop made this one wait for its answers.
fn awaited(part: &Part, us: i64, view: &View) -> Row {
    // Attempts before the last one may have been at others.
    let is_one = part
        .parts
        .iter()
        .all(|p| !matches!(p.kind, Kind::PutOff | Kind::Greylisted | Kind::Refused));
    let next = part.next.as_deref().filter(|_| is_one);
    let whose = next.map_or_else(
        || "the next hop".to_owned(),
        |next| view.cut(next, NEXT_MAX),
    );
    Row {
        us,
        ..row("", format!("waiting for {whose}'s answers"), duration(us))
    }
}

/// What took a part of the whole that is worth a row; nothing where that is the queue alone, as one would think.
fn made_of(parts: &[spent::Part], whole_us: i64, own_us: impl Fn(&spent::Part) -> i64) -> Vec<Row> {
    let of_kind = |kind: Kind| {
        let of = parts.iter().filter(|part| part.kind == kind);
        (
            kind,
            of.fold(0, |us: i64, part| us.saturating_add(own_us(part))),
        )
    };
    let worth = |(_, us): &(Kind, i64)| *us > 0 && *us >= whole_us / TOLD_OF;
    let told: Vec<_> = Kind::ALL.map(of_kind).into_iter().filter(worth).collect();
    if told.iter().all(|(kind, _)| *kind == Kind::Queue) {
        return Vec::new();
    }
    let row = |(kind, us)| Row {
        is_part: true,
        ..row("", name(kind).to_owned(), duration(us))
    };
    told.into_iter().map(row).collect()
}

fn name(kind: Kind) -> &'static str {
    match kind {
        Kind::Filter => "looked at before taken",
        Kind::ContentFilter => "with the content filter",
        Kind::Queue => "in the queue",
        Kind::Attempt => "offered to the next hop",
        Kind::PutOff => "put off by the next hop",
        Kind::Greylisted => "greylisted by the next hop",
        Kind::Refused => "kept after a refusal",
    }
}

/// The hop nothing is known of yet.
fn next(message: &Message, recipient: &Recipient, view: &View) -> Option<Row> {
    let word = match beyond(message, recipient, view.now_us)? {
        Silence::NotEquipped => "no reports",
        silence => unheard(silence),
    };
    let name = recipient
        .remote
        .as_deref()
        .map_or_else(|| "the next hop".to_owned(), |r| view.cut(r, NAME_MAX));
    Some(row("→", name, word.to_owned()))
}

/// A bar of so many eighths of a column.
fn blocks(eighths: i64) -> String {
    const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    let eighths = usize::try_from(eighths).unwrap_or(0);
    "█".repeat(eighths / 8) + EIGHTHS.get(eighths % 8).unwrap_or(&"")
}
