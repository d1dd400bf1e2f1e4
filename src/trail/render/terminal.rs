//! Trails for a terminal of 80 columns. Colours are ANSI sequences; printing through `anstream` drops
//! them where they do not belong.

use anstyle::{AnsiColor, Style};

use super::format::{cut, fill, plain, put};
use super::verdict::{corrected_us, verdict};
use super::{View, tree};
use crate::track::Event;
use crate::trail::{Message, NotOurs, Outcome, State, Trails, Truth, state};

/// Columns.
pub const WIDTH: usize = 80;
/// Beside the point.
pub const DIM: Style = Style::new().dimmed();
/// A hop's name.
pub const BOLD: Style = Style::new().bold();
const GREEN: Style = Style::new().fg_color(Some(anstyle::Color::Ansi(AnsiColor::Green)));
const YELLOW: Style = Style::new().fg_color(Some(anstyle::Color::Ansi(AnsiColor::Yellow)));
const RED: Style = Style::new().fg_color(Some(anstyle::Color::Ansi(AnsiColor::Red)));

/// The text between a style's sequences.
pub fn paint(style: Style, text: &str) -> String {
    format!("{style}{text}{style:#}")
}

fn mark(truth: Truth) -> &'static str {
    match truth {
        Truth::Verified => "✓",
        Truth::NotOurs => "✗",
        Truth::Unverifiable => "?",
    }
}

fn outcome_style(outcome: Outcome) -> Style {
    match outcome {
        Outcome::Failed => RED,
        Outcome::Open => YELLOW,
        Outcome::Delivered => GREEN,
    }
}

/// The colour of what a step did.
pub fn event_style(event: Event) -> Style {
    match event {
        Event::Delivered => GREEN,
        Event::Failed => RED,
        Event::Delayed | Event::Held => YELLOW,
        _ => Style::new(),
    }
}

/// Every message in a line: short id, when it was sent, proof, verdict, Message-ID.
pub fn list(trails: &Trails, view: &View) -> String {
    let mut out = String::new();
    let id_width = id_width(trails);
    let verdicts: Vec<String> = trails
        .messages
        .iter()
        .map(|m| verdict(m, view, true))
        .collect();
    let widths = verdicts.iter().map(|v| v.chars().count());
    let verdict_width = widths.max().unwrap_or(0).min(44);
    for (message, verdict) in trails.messages.iter().zip(&verdicts) {
        let id: String = plain(message.id.as_str()).chars().take(id_width).collect();
        let when = view.minute(message.sent_or_arrived_us());
        let left = format!("{id:id_width$}  {when:>12}  ");
        let style = outcome_style(state::outcome(&message.recipients));
        let used = left.chars().count() + 3 + verdict.chars().count().max(verdict_width) + 2;
        let name = message.message_id.as_deref().unwrap_or("(no Message-ID)");
        let name = cut(name, WIDTH.saturating_sub(used).max(16));
        let verdict = paint(style, &format!("{verdict:verdict_width$}"));
        let line = format!(
            "{left}{}  {verdict}  {}\n",
            mark(message.truth),
            paint(DIM, &name)
        );
        out.push_str(&line);
    }
    if trails
        .messages
        .iter()
        .any(|m| m.truth == Truth::Unverifiable)
    {
        out.push_str(&paint(
            DIM,
            "? unproved: nothing shows that these reports are about mail you sent",
        ));
        out.push('\n');
    }
    out
}

/// How many characters of the ids tell them apart, at least eight.
pub fn id_width(trails: &Trails) -> usize {
    let mut ids: Vec<&str> = trails.messages.iter().map(|m| m.id.as_str()).collect();
    ids.sort_unstable();
    let shared = |pair: &[&str]| match pair {
        [a, b] if a != b => a.bytes().zip(b.bytes()).take_while(|(x, y)| x == y).count() + 1,
        _ => 0,
    };
    ids.windows(2).map(shared).max().unwrap_or(0).max(8)
}

/// The reports that are about no mail of this user; nothing if there are none.
pub fn not_ours(reports: &[NotOurs]) -> String {
    let mut out = String::new();
    if reports.is_empty() {
        return out;
    }
    let count = if reports.len() == 1 {
        "1 report is".to_owned()
    } else {
        format!("{} reports are", reports.len())
    };
    out.push_str(&paint(
        RED,
        &format!("✗ {count} not about mail you sent, and told apart from it:"),
    ));
    out.push('\n');
    for report in reports.iter().take(10) {
        let from = report.from.as_deref().unwrap_or("nobody");
        put(
            &mut out,
            format_args!(
                "    {} from {}, of message {}\n",
                cut(&report.host, 30),
                cut(from, 30),
                cut(report.id.as_str(), 30)
            ),
        );
    }
    out
}

/// One message: the verdict, who it is about, then every hop.
pub fn message(message: &Message, view: &View) -> String {
    let mut out = String::new();
    let style = outcome_style(state::outcome(&message.recipients));
    let mut verdict = verdict(message, view, false);
    if let Some(first) = verdict.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    for line in fill(&verdict, WIDTH) {
        out.push_str(&paint(style.bold(), &line));
        out.push('\n');
    }
    header(&mut out, message, view);
    out.push('\n');
    recipients(&mut out, message, view);
    out.push('\n');
    out.push_str(&tree::draw(message, view));
    out
}

fn header(out: &mut String, message: &Message, view: &View) {
    let mut row = |name: &str, value: &str| {
        put(
            out,
            format_args!("  {} {value}\n", paint(DIM, &format!("{name:<8}"))),
        );
    };
    if let Some(id) = &message.message_id {
        row("message", &format!("<{}>", plain(id)));
    }
    row("trail id", &plain(message.id.as_str()));
    match message.sent_ms {
        Some(_) => row("sent", &view.date_time(message.sent_or_arrived_us())),
        None => row("seen", &view.date_time(message.sent_or_arrived_us())),
    }
    row(
        "proof",
        match message.truth {
            Truth::Verified => "✓ every report below carries the key of your message",
            _ => "? none: nothing shows that these reports are about mail you sent",
        },
    );
    if message.unproved > 0 {
        let n = message.unproved;
        row("", &paint(RED, &format!("{n} without the key, set aside")));
    }
}

fn recipients(out: &mut String, message: &Message, view: &View) {
    let width = message
        .recipients
        .iter()
        .map(|r| plain(&r.address).chars().count());
    let width = width.max().unwrap_or(0).min(34);
    for recipient in &message.recipients {
        let at = view.time(corrected_us(message, recipient.stay, recipient.at_us));
        let host = plain(&recipient.host);
        let next = recipient
            .remote
            .as_deref()
            .map_or_else(|| "the next hop".to_owned(), plain);
        let word = match recipient.state {
            State::Failed => format!("failed {at} at {host}, status {}", recipient.status),
            State::Held => format!("held at {host}"),
            State::Delayed if recipient.delays > 1 => {
                format!("waiting at {host}, {} attempts told", recipient.delays)
            }
            State::Delayed => format!("waiting at {host}, tried {at}"),
            State::OnItsWay => format!("handed to {next} {at}, nothing since"),
            State::Accepted => format!("accepted by {host} {at}, nothing since"),
            State::Relayed => format!("relayed to {next} {at}, not equipped"),
            State::Expanded => format!("sent on by {host} {at} to others"),
            State::Delivered => format!("delivered {at} by {host}"),
        };
        let style = outcome_style(recipient.state.outcome());
        put(
            out,
            format_args!(
                "  {:width$}  {}\n",
                plain(&recipient.address),
                paint(style, &word)
            ),
        );
    }
}
