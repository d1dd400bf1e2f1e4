//! Trails for people, in so many columns or without a limit. Colours are ANSI sequences; printing through `anstream` drops
//! them where they do not belong.

use anstyle::Style;
use compact_str::CompactString;

use super::fates::{Heard, fate, said, stranger, words_by_recipient};
use super::format::{cut, fill_all, fill_list, plain, put, put_wide};
use super::line::Line;
use super::paint::{Brush, DIM, Parts, RED, outcome_style, paint};
use super::verdict::{addresses, verdict};
use super::{TERMINAL_COLUMNS, View, spent, tree, trust};
use crate::trail::{Message, NotOurs, Outcome, Trails, Truth};

/// Characters of an id in the list, if so many tell the ids apart.
const ID_MIN: usize = 8;
const ID_MAX: usize = 16;

/// Columns of the time in the list.
const WHEN_COLUMNS: usize = 12;

/// Columns of that and of the mark, with the blanks around them.
const MOMENT_COLUMNS: usize = WHEN_COLUMNS + 7;

/// Columns of the recipients beside a verdict; where there are fewer, they have a line of their own below it.
const WHOM_MIN: usize = 10;

fn mark(truth: Truth) -> &'static str {
    match truth {
        Truth::Verified => "✓",
        Truth::NotOurs => "✗",
        Truth::Unproved | Truth::Unverifiable => "?",
    }
}

/// Every message in a line: id, when it was sent, proof, verdict, recipients. Where columns count, ids are
/// as short as tells them apart, and a verdict that is too long goes on below itself.
pub fn list(trails: &Trails, view: &View) -> String {
    let ids = trails.messages.iter().map(|m| m.id.as_str());
    let id_width = id_width(ids.collect(), view);
    let all: Vec<Line> = trails.messages.iter().map(|m| Line::of(m, view)).collect();
    let mut out = lines(&all, id_width, view);
    if all.iter().any(Line::is_unproved) {
        out.push_str(&unproved_remark(view));
    }
    out
}

/// What stands below a list with such messages.
pub fn unproved_remark(view: &View) -> String {
    let remark = "? unproved: nothing shows that these reports are about mail you sent";
    let lines = fill_all(remark, view.room(0));
    let lines = lines.iter().map(|line| format!("{}\n", paint(DIM, line)));
    lines.collect()
}

/// What stands below an answer out of a mailbox of which so much was not read; nothing if all of it was.
pub fn unread(places: usize, view: &View) -> String {
    let what = match places {
        0 => return String::new(),
        1 => "1 file or folder".to_owned(),
        n => format!("{n} files or folders"),
    };
    let remark = format!(
        "? {what} could not be read or understood, so reports may be missing here, also of a hop that seems silent"
    );
    fill_all(&remark, view.room(0)).join("\n") + "\n"
}

/// Columns of an id beside a verdict; ids that are alike for long stand alone.
fn id_columns(id_width: usize) -> usize {
    if id_width > ID_MAX { ID_MIN } else { id_width }
}

/// Some lines of a list whose ids are so wide.
pub fn lines(messages: &[Line], id_width: usize, view: &View) -> String {
    // 32 columns of 80, and no more than there are.
    let column = view.width.unwrap_or(TERMINAL_COLUMNS) * 2 / 5;
    let column = column
        .min(view.room(id_columns(id_width) + MOMENT_COLUMNS))
        .max(1);
    let verdict_max = view.width.map_or(usize::MAX, |_| column);
    let verdicts = messages.iter().map(|m| fill_list(&m.verdict, verdict_max));
    let verdicts: Vec<_> = verdicts.collect();
    let widths = verdicts.iter().flatten().map(|v| v.chars().count());
    let width = widths.max().unwrap_or(0).min(column);
    let (dim, brushes) = (
        Brush::within(view, DIM),
        Outcome::ALL.map(|outcome| Brush::within(view, outcome_style(outcome))),
    );
    // Nothing is cut where nobody counts columns: not the other id of a message either, by which its width was taken.
    let shown_max = view.width.map_or(usize::MAX, |_| id_width);
    let this_year = view.this_year();
    let mut out = String::new();
    for (message, verdict) in messages.iter().zip(&verdicts) {
        let id = plain(&message.id);
        let cut = id.char_indices().nth(shown_max);
        let mut id = cut.map_or(&*id, |(end, _)| id.get(..end).unwrap_or_default());
        let mut room_of_id = id_width;
        // Ids that are alike for long stand alone: whole, since that is what tells them apart.
        if id_width > ID_MAX && view.width.is_some() {
            put(&mut out, format_args!("{id}\n"));
            (id, room_of_id) = ("", id_columns(id_width));
        }
        let begin = out.len();
        let (when, mark) = (
            view.minute_in(this_year, message.when_us),
            mark(message.truth),
        );
        put_wide(&mut out, id, room_of_id);
        put_wide(&mut out, "", (WHEN_COLUMNS + 2).saturating_sub(when.len()));
        for part in [&when, "  ", mark, "  "] {
            out.push_str(part);
        }
        let indent = out.get(begin..).map_or(0, |left| left.chars().count());
        let brush = brushes.get(message.outcome as usize).unwrap_or(&dim);
        let parts = Parts::of(message.truth, message.outcome, brush, &brushes);
        let mut lines = verdict.iter();
        let first = lines.next().map_or("", String::as_str);
        parts.put(&mut out, first);
        let beside = view.room(indent + width + 2);
        let is_beside = beside >= WHOM_MIN;
        if is_beside {
            let gap = width.saturating_sub(first.chars().count()) + 2;
            put_wide(&mut out, "", gap);
            dim.put(&mut out, &names(&message.addresses, beside), 0);
        }
        out.push('\n');
        for line in lines {
            put_wide(&mut out, "", indent);
            parts.put(&mut out, line);
            out.push('\n');
        }
        if !is_beside {
            put_wide(&mut out, "", indent);
            dim.put(&mut out, &names(&message.addresses, view.room(indent)), 0);
            out.push('\n');
        }
    }
    out
}

/// A message in a line that needs no others: whole id, proof, verdict, recipients.
pub fn line(message: &Message, view: &View) -> String {
    let id = plain(message.id.as_str());
    let brushes = Outcome::ALL.map(outcome_style).map(Brush::of);
    let brush = Brush::of(outcome_style(message.outcome()));
    let parts = Parts::of(message.truth, message.outcome(), &brush, &brushes);
    let text = verdict(message, view, false);
    let mut verdict = String::with_capacity(text.len());
    parts.put(&mut verdict, &text);
    let names = paint(DIM, &names(&addresses(message), usize::MAX));
    format!("{id}  {}  {verdict}  {names}\n", mark(message.truth))
}

/// As many addresses as there is room for, and how many more there are.
fn names(addresses: &[CompactString], room: usize) -> String {
    let more = |shown: usize| match addresses.len() - shown {
        0 => String::new(),
        more => format!(" +{more}"),
    };
    let (mut names, mut whole) = (String::new(), None);
    let mut width = 0;
    for (n, address) in (1..).zip(addresses) {
        let address = plain(address);
        let gap = if names.is_empty() { "" } else { ", " };
        width += gap.len() + address.chars().count();
        if width > room && n > 1 {
            break;
        }
        names.push_str(gap);
        names.push_str(&address);
        if width.saturating_add(more(n).len()) <= room {
            whole = Some((names.len(), n));
        }
    }
    if let Some((end, n)) = whole {
        names.truncate(end);
        return names + &more(n);
    }
    let more = more(addresses.len().min(1));
    let first = addresses.first().map_or("", CompactString::as_str);
    cut(first, room.saturating_sub(more.len())) + &more
}

/// How many characters of the ids tell them apart, at least eight; all of them where there is room.
pub fn id_width(mut ids: Vec<&str>, view: &View) -> usize {
    if view.width.is_none() {
        return ids.iter().map(|id| id.len()).max().unwrap_or(0);
    }
    ids.sort_unstable();
    let shared = |pair: &[&str]| match pair {
        [a, b] if a != b => a.bytes().zip(b.bytes()).take_while(|(x, y)| x == y).count() + 1,
        _ => 0,
    };
    ids.windows(2).map(shared).max().unwrap_or(0).max(ID_MIN)
}

/// The reports that are part of no message; nothing if there are none.
pub fn not_ours(reports: &[NotOurs], view: &View) -> String {
    trust::set_apart(reports, view)
}

/// One message: the verdict, who it is about, then every hop.
pub fn message(message: &Message, view: &View) -> String {
    let mut out = String::new();
    let style = outcome_style(message.outcome());
    for line in fill_all(&headline(message, view), view.room(0)) {
        out.push_str(&paint(style.bold(), &line));
        out.push('\n');
    }
    header(&mut out, message, view);
    out.push('\n');
    recipients(&mut out, message, view);
    out.push('\n');
    out.push_str(&spent::draw(message, view));
    out.push_str(&tree::draw(message, view));
    out
}

/// The verdict as a sentence begins.
pub fn headline(message: &Message, view: &View) -> String {
    let mut verdict = verdict(message, view, false);
    if message.truth == Truth::Unproved && message.names.is_empty() {
        verdict.insert_str(0, "unproved: ");
    }
    // The name of a host stays as it is.
    let begins_with_name = verdict.split(' ').next().is_some_and(|w| w.contains('.'));
    if let Some(first) = verdict.get_mut(..1).filter(|_| !begins_with_name) {
        first.make_ascii_uppercase();
    }
    verdict
}

fn header(out: &mut String, message: &Message, view: &View) {
    const INDENT: usize = 11;
    let plain_style = Style::new();
    let mut row = |name: &str, value: &str, style: Style| {
        // A long id has a line for itself, so that it can be copied.
        let long = value.chars().count() > view.room(INDENT);
        let gap = if long { "\n    " } else { " " };
        let name = paint(DIM, &format!("{name:<8}"));
        let value = paint(style, value);
        put(out, format_args!("  {name}{gap}{value}\n"));
    };
    if let Some(id) = &message.message_id {
        row("message", &format!("<{}>", plain(id)), plain_style);
    }
    row("trail id", &plain(message.id.as_str()), plain_style);
    for id in message.other_ids.iter().take(trust::SHOWN) {
        row("and id", &plain(id.as_str()), plain_style);
    }
    let when = message.sent_ms.map_or("seen", |_| "sent");
    row(
        when,
        &view.date_time(message.sent_or_arrived_us()),
        plain_style,
    );
    let mut rows = |mut name: &'static str, remarks: Vec<String>| {
        for remark in remarks {
            let wrong = remark.starts_with(trust::WRONG);
            for line in fill_all(&remark, view.room(INDENT)) {
                let style = if wrong { RED } else { plain_style };
                row(std::mem::take(&mut name), &line, style);
            }
        }
    };
    rows("proof", vec![trust::solicited(message).into_owned()]);
    rows("", trust::set_aside(message));
    rows("origin", trust::origins(message));
    rows("chain", trust::agreements(message, view));
}

/// Each recipient and its fate, side by side; below each other where the address is long.
fn recipients(out: &mut String, message: &Message, view: &View) {
    const ADDRESS_MAX: usize = 34;
    let address_max = view
        .width
        .map_or(ADDRESS_MAX, |w| ADDRESS_MAX.min(w * 2 / 5));
    let widths = message
        .recipients
        .iter()
        .map(|r| plain(&r.address).chars().count());
    let width = widths.filter(|w| *w <= address_max).max().unwrap_or(2);
    let words = words_by_recipient(message);
    for (n, recipient) in message.recipients.iter().enumerate() {
        let address = view.cut(&recipient.address, view.room(2));
        let style = outcome_style(message.outcome_for(recipient));
        let mut left = format!("  {address:width$}  ");
        if address.chars().count() > width {
            put(out, format_args!("  {address}\n"));
            left = " ".repeat(width + 4);
        }
        for line in fill_all(&fate(recipient, message, view), view.room(width + 4)) {
            put(out, format_args!("{left}{}\n", paint(style, &line)));
            left = " ".repeat(width + 4);
        }
        if let Some(heard) = words.get(&Some(n)) {
            let shown = heard.shown.iter().map(|word| said(word, message, view));
            for said in shown.chain(heard.more()) {
                set_in(out, &said, width + 4, DIM, view);
            }
        }
    }
    if let Some(untold) = untold(message) {
        set_in(out, &untold, 2, Style::new(), view);
    }
    if let Some(others) = words.get(&None) {
        strangers(out, others, message, width + 4, view);
    }
}

/// Those of whom others speak and no hop told.
fn strangers(out: &mut String, heard: &Heard, message: &Message, indent: usize, view: &View) {
    for word in &heard.shown {
        let address = plain(&word.address) + stranger(message);
        set_in(out, &address, 2, Style::new(), view);
        set_in(out, &said(word, message, view), indent, DIM, view);
    }
    if let Some(more) = heard.more() {
        set_in(out, &more, 2, DIM, view);
    }
}

/// That there are recipients without a name here.
pub fn untold(message: &Message) -> Option<String> {
    let untold = message.untold();
    (untold > 0).then(|| format!("and {untold} more, of whom no hop has told yet"))
}

/// Lines of their own, set in so far.
fn set_in(out: &mut String, text: &str, indent: usize, style: Style, view: &View) {
    for line in fill_all(text, view.room(indent)) {
        put(out, format_args!("{:indent$}{}\n", "", paint(style, &line)));
    }
}
