//! Figures for people, in 80 columns: who has how much, what is slow, what fails, what changed.

use crate::trail::clock::Bounds;
use crate::trail::render::View;
use crate::trail::render::format::{bounded, cut, duration, fill, fill_list, plain, put};
use crate::trail::render::paint::{BOLD, DIM, GREEN, RED, YELLOW, paint};
use crate::trail::stats::{Change, Key, LeftOut, News, Percentiles, Stats, Table, Tally};

/// Lines of a table; programs get all.
const SHOWN: usize = 15;

/// Columns of a name in front of figures.
const NAME: usize = 27;

/// A sender's clock that is so far ahead of the reader's is worth a word, µs.
const AHEAD_US: i64 = 60_000_000;

/// Columns of a name that has a line for itself.
const NAME_MAX: usize = 80;

type Line = (Key, Tally);

/// Every table there is something to say in.
pub fn draw(stats: Stats, left_out: LeftOut, view: &View) -> String {
    let mut out = summary(&stats, left_out, view);
    let all_reports = stats.all.reports;
    let lines = stats.lines();
    let of = |table| lines.iter().filter(move |(key, _)| key.table == table);
    let hops: Vec<&Line> = of(Table::Hop).collect();
    inside(&mut out, &hops, view);
    burden(&mut out, &hops, all_reports, view);
    pairs(&mut out, &of(Table::Pair).collect::<Vec<_>>(), view);
    for (table, title) in [
        (Table::Originator, "originators"),
        (Table::Client, "clients of the first hop"),
        (Table::Destination, "destinations"),
        (Table::Day, "days"),
    ] {
        let lines: Vec<&Line> = of(table).collect();
        // Most hops do not show their Received fields.
        if table != Table::Client || lines.iter().any(|(key, _)| !key.name.is_empty()) {
            outcomes(&mut out, title, &lines);
        }
    }
    routes(&mut out, &of(Table::Route).collect::<Vec<_>>(), view);
    out
}

fn summary(stats: &Stats, left_out: LeftOut, view: &View) -> String {
    let all = &stats.all;
    let mut out = format!(
        "{} to {}, {}, {}\n",
        counted(all.messages, "message"),
        counted(all.recipients, "recipient"),
        counted(all.reports, "report"),
        octets(all.octets)
    );
    let open = all.recipients - all.delivered - all.failed;
    put(
        &mut out,
        format_args!(
            "{} delivered, {} failed, {open} open\n",
            all.delivered, all.failed
        ),
    );
    if let Some((first, last)) = stats.sent_us {
        put(
            &mut out,
            format_args!(
                "sent {} to\n     {}\n",
                view.date_time(first),
                view.date_time(last)
            ),
        );
    }
    let mut remarks = Vec::new();
    if stats
        .sent_us
        .is_some_and(|(_, last)| last.saturating_sub(view.now_us) > AHEAD_US)
    {
        remarks.push("? sent later than now: the clock of a sender is ahead".to_owned());
    }
    if stats.unproved > 0 {
        let messages = counted(stats.unproved, "message");
        remarks.push(format!("? {messages} of these not proved to be yours"));
    }
    for (n, why) in [
        (
            left_out.unproved,
            "not proved to be about mail you sent; --unproved takes them in",
        ),
        (
            left_out.beside_proved,
            "not proved, and on messages of which others are",
        ),
    ] {
        if n > 0 {
            let reports = counted(u64::try_from(n).unwrap_or(u64::MAX), "report");
            remarks.push(format!("? {reports} left out: {why}"));
        }
    }
    for line in remarks.iter().flat_map(|text| fill(text, view.room(0))) {
        put(&mut out, format_args!("{}\n", paint(YELLOW, &line)));
    }
    out
}

fn inside(out: &mut String, hops: &[&Line], view: &View) {
    title(
        out,
        hops,
        "hops: time inside",
        &["messages", "p50", "p90", "p99"],
        &[9, 14, 14, 14],
    );
    each(out, hops, |tally| {
        let times = tally.time.clone().percentiles();
        let cells = times.map_or(["?", "?", "?"].map(str::to_owned), |t| {
            [t.p50, t.p90, t.p99].map(|p| duration(p.high_us))
        });
        let [p50, p90, p99] = cells;
        row(&[
            (9, tally.messages.to_string()),
            (14, p50),
            (14, p90),
            (14, p99),
        ])
    });
    remarks(out, hops, view, |tally| {
        let times = (tally.unsure > 0).then(|| counted(tally.unsure, "time"))?;
        let why = "a clock may have been set meanwhile";
        Some(format!("{times} not counted: {why}"))
    });
}

fn burden(out: &mut String, hops: &[&Line], all_reports: u64, view: &View) {
    let names = [
        "reports", "share", "octets", "put off", "failed", "fan-out", "loops",
    ];
    title(out, hops, "hops: burden", &names, &[8, 6, 9, 8, 7, 8, 6]);
    each(out, hops, |tally| {
        let fan_out = match tally.left {
            0 => "–".to_owned(),
            left => tenths(tally.departures, left),
        };
        row(&[
            (8, tally.reports.to_string()),
            (6, percent(tally.reports, all_reports)),
            (9, octets(tally.octets)),
            (8, tally.delayed.to_string()),
            (7, tally.failed.to_string()),
            (8, fan_out),
            (6, tally.loops.to_string()),
        ])
    });
    remarks(out, hops, view, |tally| {
        let refusals = (tally.refused > 0).then(|| counted(tally.refused, "refusal"))?;
        Some(format!("{refusals} not counted as failed: it tried again"))
    });
}

/// What is to be known of the figures of some hops, below them.
fn remarks(
    out: &mut String,
    hops: &[&Line],
    view: &View,
    remark: impl Fn(&Tally) -> Option<String>,
) {
    let remarks = hops.iter().filter_map(|(key, tally)| {
        let remark = remark(tally)?;
        Some(format!("? {}: {remark}", known(&key.name)))
    });
    for text in remarks.take(SHOWN) {
        for line in fill_list(&text, view.room(0)) {
            put(out, format_args!("{}\n", paint(YELLOW, &line)));
        }
    }
}

/// Pairs and routes have long names and bounded times: a paragraph each.
fn pairs(out: &mut String, pairs: &[&Line], view: &View) {
    heading(out, pairs, "from hop to hop");
    paragraphs(out, pairs, view, |key, tally| {
        let name = format!(
            "{} → {}",
            known(&key.name),
            known(key.peer.as_deref().unwrap_or(""))
        );
        let mut told = vec![counted(tally.messages, "transaction")];
        if tally.handed > 0 {
            told.push(format!(
                "{} reported by it",
                percent(tally.heard, tally.handed)
            ));
        }
        told.extend((tally.relayed > 0).then(|| format!("{} without TRACK", tally.relayed)));
        told.extend((tally.delayed > 0).then(|| format!("{} put off", tally.delayed)));
        told.extend(
            (tally.refused > 0).then(|| format!("{} refused, then tried again", tally.refused)),
        );
        told.extend((tally.failed > 0).then(|| format!("{} failed", tally.failed)));
        let wire = tally.time.clone().percentiles();
        let attempt = tally.attempt.clone().percentiles();
        let times = [("on the wire", wire), ("attempt", attempt)];
        (
            name,
            told,
            times
                .into_iter()
                .filter_map(|(what, t)| Some(told_times(what, t?)))
                .collect(),
        )
    });
}

fn routes(out: &mut String, routes: &[&Line], view: &View) {
    heading(out, routes, "routes");
    paragraphs(out, routes, view, |key, tally| {
        let hosts = key.peer.as_deref().unwrap_or("").replace(" > ", " → ");
        let name = format!("{}: {hosts}", known(&key.name));
        let times = tally.time.clone().percentiles();
        let times = times.map(|t| told_times("in all", t));
        (name, vec![recipients(tally)], times.into_iter().collect())
    });
}

fn outcomes(out: &mut String, name: &str, lines: &[&Line]) {
    let names = ["messages", "rcpts", "octets", "failed", "open", "p50"];
    title(out, lines, name, &names, &[9, 7, 9, 7, 6, 14]);
    each(out, lines, |tally| {
        let median = tally.time.clone().percentiles().map(|t| bounded(t.p50));
        let open = tally.recipients - tally.delivered - tally.failed;
        row(&[
            (9, tally.messages.to_string()),
            (7, tally.recipients.to_string()),
            (9, octets(tally.octets)),
            (7, tally.failed.to_string()),
            (6, open.to_string()),
            (14, median.unwrap_or_else(|| "?".to_owned())),
        ])
    });
}

/// What changed between two periods.
pub fn changes(news: &[News], view: &View) -> String {
    let mut out = String::new();
    if news.is_empty() {
        out.push_str(
            "nothing changed: the same routes, and no hop slower or faster by a quarter\n",
        );
    }
    for (table, title) in [
        (Table::Route, "routes"),
        (Table::Hop, "hops: time inside"),
        (Table::Pair, "from hop to hop: on the wire"),
    ] {
        let of: Vec<&News> = news.iter().filter(|n| n.key.table == table).collect();
        if !of.is_empty() {
            let gap = if out.is_empty() { "" } else { "\n" };
            put(&mut out, format_args!("{gap}{}\n", paint(BOLD, title)));
        }
        for one in of.iter().take(SHOWN) {
            change(&mut out, one, view);
        }
        more(&mut out, of.len().saturating_sub(SHOWN));
    }
    out
}

fn change(out: &mut String, news: &News, view: &View) {
    let (style, word) = match news.change {
        Change::New => (YELLOW, "new"),
        Change::Gone => (RED, "gone"),
        Change::Slower => (RED, "slower"),
        Change::Faster => (GREEN, "faster"),
    };
    let key = &news.key;
    let name = match (key.table, key.peer.as_deref()) {
        (Table::Route, Some(hosts)) => {
            format!("{}: {}", known(&key.name), hosts.replace(" > ", " → "))
        }
        (_, Some(peer)) => format!("{} → {}", known(&key.name), known(peer)),
        (_, None) => known(&key.name),
    };
    let mut lines = fill_list(&plain(&name), view.room(10)).into_iter();
    let first = lines.next().unwrap_or_default();
    put(
        out,
        format_args!("  {}{first}\n", paint(style, &format!("{word:<8}"))),
    );
    for line in lines {
        put(out, format_args!("{:10}{line}\n", ""));
    }
    let (before, now) = news.messages;
    let mut told = format!("messages {before} → {now}");
    if let (Some(before), Some(now)) = news.times {
        put(
            &mut told,
            format_args!(", p50 {} → {}", bounded(before.p50), bounded(now.p50)),
        );
    }
    put(out, format_args!("{:10}{}\n", "", paint(DIM, &told)));
}

fn heading(out: &mut String, lines: &[&Line], name: &str) {
    if !lines.is_empty() {
        put(out, format_args!("\n{}\n", paint(BOLD, name)));
    }
}

fn title(out: &mut String, lines: &[&Line], name: &str, names: &[&str], widths: &[usize]) {
    if lines.is_empty() {
        return;
    }
    let cells = names.iter().zip(widths);
    let cells: Vec<_> = cells
        .map(|(name, width)| (*width, (*name).to_owned()))
        .collect();
    let cells = row(&cells);
    let name = paint(BOLD, &format!("{name:NAME$}"));
    put(out, format_args!("\n{name}{}\n", paint(DIM, &cells)));
}

fn row(cells: &[(usize, String)]) -> String {
    cells.iter().fold(String::new(), |mut line, (width, cell)| {
        put(&mut line, format_args!("{cell:>width$}"));
        line
    })
}

fn each(out: &mut String, lines: &[&Line], cells: impl Fn(&Tally) -> String) {
    for (key, tally) in lines.iter().take(shown(lines)) {
        let day = key.day.map(|day| day.to_string());
        let name = match (key.table, &day) {
            (Table::Day, day) => day.clone().unwrap_or_else(|| known("")),
            (_, None) => known(&key.name),
            (_, Some(day)) => format!("{day} {}", known(&key.name)),
        };
        let cells = cells(tally);
        // A long name has a line for itself.
        if name.chars().count() < NAME {
            put(out, format_args!("{name:NAME$}{cells}\n"));
        } else {
            put(
                out,
                format_args!("{}\n{:NAME$}{cells}\n", cut(&name, NAME_MAX), ""),
            );
        }
    }
    more(out, lines.len() - shown(lines));
}

/// How many lines are shown: the busiest, or all where days are told apart.
fn shown(lines: &[&Line]) -> usize {
    let by_day = lines.first().is_some_and(|(key, _)| key.day.is_some());
    if by_day {
        lines.len()
    } else {
        lines.len().min(SHOWN)
    }
}

fn paragraphs(
    out: &mut String,
    lines: &[&Line],
    view: &View,
    tell: impl Fn(&Key, &Tally) -> (String, Vec<String>, Vec<String>),
) {
    for (key, tally) in lines.iter().take(shown(lines)) {
        let (name, told, times) = tell(key, tally);
        let day = key.day.map_or_else(String::new, |day| format!("{day} "));
        for line in fill_list(&plain(&(day + &name)), view.room(0)) {
            put(out, format_args!("{line}\n"));
        }
        for line in fill_list(&told.join(", "), view.room(4)) {
            put(out, format_args!("    {line}\n"));
        }
        for line in times {
            put(out, format_args!("    {}\n", paint(DIM, &line)));
        }
    }
    more(out, lines.len() - shown(lines));
}

fn more(out: &mut String, more: usize) {
    if more > 0 {
        let text = format!("and {more} more: --json and --csv have all");
        put(out, format_args!("{}\n", paint(DIM, &text)));
    }
}

fn told_times(what: &str, times: Percentiles) -> String {
    let [p50, p90, p99] = [times.p50, times.p90, times.p99].map(|p: Bounds| bounded(p));
    format!("{what:11}  p50 {p50:<15} p90 {p90:<15} p99 {p99}")
}

fn recipients(tally: &Tally) -> String {
    let open = tally.recipients - tally.delivered - tally.failed;
    let mut text = counted(tally.recipients, "recipient");
    for (n, word) in [(tally.failed, "failed"), (open, "open")] {
        if n > 0 {
            put(&mut text, format_args!(", {n} {word}"));
        }
    }
    text
}

fn known(name: &str) -> String {
    if name.is_empty() {
        "(unknown)".to_owned()
    } else {
        plain(name)
    }
}

fn counted(n: u64, word: &str) -> String {
    let s = if n == 1 { "" } else { "s" };
    format!("{n} {word}{s}")
}

fn percent(part: u64, whole: u64) -> String {
    match whole {
        0 => "–".to_owned(),
        _ => format!("{} %", u128::from(part) * 100 / u128::from(whole)),
    }
}

/// `1.4`, of a quotient.
fn tenths(part: u64, whole: u64) -> String {
    let tenths = (u128::from(part) * 10 + u128::from(whole) / 2) / u128::from(whole.max(1));
    format!("{}.{}", tenths / 10, tenths % 10)
}

/// `2.1 kB`: a thousand is a thousand.
fn octets(n: u64) -> String {
    let units = [
        (1_000_000_000_000, "TB"),
        (1_000_000_000, "GB"),
        (1_000_000, "MB"),
        (1_000, "kB"),
    ];
    let unit = units.into_iter().find(|(size, _)| n >= *size);
    unit.map_or_else(
        || format!("{n} B"),
        |(size, name)| format!("{} {name}", tenths(n, size)),
    )
}
