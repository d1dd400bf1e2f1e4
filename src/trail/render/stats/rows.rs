//! Figures for programs: what `hoptrail stats --json` and `--csv` print. Schema `hoptrail.stats/1`, a published
//! contract: within version 1 fields, columns, tables and words are only added.
//!
//! ```json
//! {
//!   "schema": "hoptrail.stats/1",
//!   "zone": "UTC",
//!   "first_sent": "2026-11-23T16:05:08.900000Z",
//!   "last_sent": "2026-11-23T16:05:08.900000Z",
//!   "unproved": 0,
//!   "left_out": 0,
//!   "rows": [{
//!     "table": "pair",
//!     "day": null,
//!     "name": "mx1.example.org",
//!     "peer": "mx2.example.com",
//!     "reports": null,
//!     "report_share": null,
//!     "messages": 1,
//!     "recipients": 1,
//!     "octets": 2048,
//!     "delivered": 0,
//!     "failed": 0,
//!     "delayed": 0,
//!     "left": null,
//!     "departures": null,
//!     "loops": null,
//!     "handed": 1,
//!     "heard": 1,
//!     "relayed": 0,
//!     "times": 1,
//!     "p50_low_us": 0,
//!     "p50_high_us": 600,
//!     "p90_low_us": 0,
//!     "p90_high_us": 600,
//!     "p99_low_us": 0,
//!     "p99_high_us": 600,
//!     "attempts": 1,
//!     "attempt_p50_us": 9300,
//!     "attempt_p90_us": 9300,
//!     "attempt_p99_us": 9300,
//!     "times_unsure": null,
//!     "refused": 0
//!   }],
//!   "skipped": [{ "place": "/home/alice/Maildir/new/1764.M1P2.mx.gz", "why": "compressed by gzip" }]
//! }
//! ```
//!
//! `skipped` is that of `hoptrail.timeline/1`. With `--compare` there are `changes` instead of `rows`; [`ChangeRow`] says what they hold.
//!
//! CSV has the names of a row's fields in its first line, then the same rows; what is `null` is empty. A text that a
//! spreadsheet would take for a formula has an apostrophe in front there.
//!
//! **Tables**: `hop`; `pair`, a hop and the one it hands messages to (`peer`, by its own name where its reports tell
//! it); `originator`, the address that the reports are to, which nothing proves; `destination`, the domain of the
//! recipients; `route`, a domain and the hosts on the way there (`peer`, with ` > ` between them, the last one a host
//! that does not report or has not yet, if so); `day`, on which messages were sent. An empty `name` is unknown. With `--by-day` all
//! rows are told apart by `day`. [`Row`] says what each field means.

use serde::Serialize;

use crate::trail::render::format::{plain, rfc3339};
use crate::trail::render::json::{SkippedJson, escaped, skipped};
use crate::trail::stats::{Change, Key, News, Stats, Table, Tally};

/// The name and version of the schema.
pub const SCHEMA: &str = "hoptrail.stats/1";

/// The document.
#[derive(Debug, Serialize)]
pub struct Document<'a> {
    /// [`SCHEMA`].
    pub schema: &'static str,
    /// The time zone of the days.
    pub zone: &'static str,
    /// When the first message was sent.
    pub first_sent: Option<String>,
    /// When the last one was.
    pub last_sent: Option<String>,
    /// Messages in the figures that nothing proves to be this user's.
    pub unproved: u64,
    /// Reports that do not count: not about mail of this user, or without proof of that.
    pub left_out: usize,
    /// The figures.
    pub rows: Vec<Row>,
    /// What was not read or not understood: the figures are without it.
    pub skipped: Vec<SkippedJson<'a>>,
}

/// A line of figures.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// What it is about.
    pub table: Table,
    /// The day, if days are told apart.
    pub day: Option<String>,
    /// See the tables.
    pub name: String,
    /// See the tables.
    pub peer: Option<String>,
    /// Steps told of.
    pub reports: Option<u64>,
    /// Of a hop: its share of all reports, 0 to 1.
    pub report_share: Option<f64>,
    /// Messages, each once; of a pair, transactions.
    pub messages: u64,
    /// Recipients of these.
    pub recipients: u64,
    /// Octets of these.
    pub octets: u64,
    /// Recipients for whom the message was delivered (of a hop or a pair: there).
    pub delivered: u64,
    /// For whom it failed (there). The others are on their way, or nobody can say.
    pub failed: u64,
    /// Attempts that put it off, as far as told of.
    pub delayed: u64,
    /// Of a hop: times that messages left it.
    pub left: Option<u64>,
    /// Of a hop: transactions in which they left; by `left` it is the fan-out.
    pub departures: Option<u64>,
    /// Of a hop: messages that came back to it.
    pub loops: Option<u64>,
    /// Of a pair: transactions whose report by the next hop is to be expected, since it offered TRACK.
    pub handed: Option<u64>,
    /// Of a pair: of these, how many the next hop reported on.
    pub heard: Option<u64>,
    /// Of a pair: transactions that the next hop took without being asked to report.
    pub relayed: Option<u64>,
    /// How many times the percentiles are of: at a hop, from arrival to departure or end without what it waited for the
    /// next hop's replies, by the hop's own clock and so exact, one for each recipient; of a pair, on the wire, one for each transaction; else from the first hop's
    /// arrival to the delivery, one for each recipient that has it.
    pub times: usize,
    /// The median lies within these bounds, µs.
    pub p50_low_us: Option<i64>,
    /// See `p50_low_us`.
    pub p50_high_us: Option<i64>,
    /// The time that nine in ten do not exceed, µs.
    pub p90_low_us: Option<i64>,
    /// See `p90_low_us`.
    pub p90_high_us: Option<i64>,
    /// The time that ninety-nine in a hundred do not exceed, µs.
    pub p99_low_us: Option<i64>,
    /// See `p99_low_us`.
    pub p99_high_us: Option<i64>,
    /// Of a pair: attempts whose length is known: from MAIL to the last reply, by the first hop's clock.
    pub attempts: Option<usize>,
    /// The median of these, µs.
    pub attempt_p50_us: Option<i64>,
    /// Nine in ten, µs.
    pub attempt_p90_us: Option<i64>,
    /// Ninety-nine in a hundred, µs.
    pub attempt_p99_us: Option<i64>,
    /// Of a hop: times that are not among `times`, since a clock may have been set meanwhile.
    pub times_unsure: Option<u64>,
    /// Refusals for good after which it was tried again, as far as told of; none of them is in `failed`.
    pub refused: u64,
}

/// The figures as rows, table by table.
pub fn rows(stats: Stats) -> Vec<Row> {
    let all = stats.all.reports;
    let lines = stats.lines().into_iter();
    lines.map(|(key, tally)| row(key, tally, all)).collect()
}

fn row(key: Key, tally: Tally, all_reports: u64) -> Row {
    let (hop, pair) = (key.table == Table::Hop, key.table == Table::Pair);
    #[allow(clippy::cast_precision_loss)] // Of numbers no mailbox holds.
    let share = |n: u64| (all_reports > 0).then(|| n as f64 / all_reports as f64);
    let time = tally.time.percentiles();
    let attempt = tally.attempt.percentiles();
    Row {
        table: key.table,
        day: key.day.map(|day| day.to_string()),
        name: key.name,
        peer: key.peer,
        reports: (!pair).then_some(tally.reports),
        report_share: share(tally.reports).filter(|_| hop),
        messages: tally.messages,
        recipients: tally.recipients,
        octets: tally.octets,
        delivered: tally.delivered,
        failed: tally.failed,
        delayed: tally.delayed,
        left: hop.then_some(tally.left),
        departures: hop.then_some(tally.departures),
        loops: hop.then_some(tally.loops),
        handed: pair.then_some(tally.handed),
        heard: pair.then_some(tally.heard),
        relayed: pair.then_some(tally.relayed),
        times: time.map_or(0, |t| t.count),
        p50_low_us: time.map(|t| t.p50.low_us),
        p50_high_us: time.map(|t| t.p50.high_us),
        p90_low_us: time.map(|t| t.p90.low_us),
        p90_high_us: time.map(|t| t.p90.high_us),
        p99_low_us: time.map(|t| t.p99.low_us),
        p99_high_us: time.map(|t| t.p99.high_us),
        attempts: pair.then(|| attempt.map_or(0, |t| t.count)),
        attempt_p50_us: attempt.map(|t| t.p50.high_us),
        attempt_p90_us: attempt.map(|t| t.p90.high_us),
        attempt_p99_us: attempt.map(|t| t.p99.high_us),
        times_unsure: hop.then_some(tally.unsure),
        refused: tally.refused,
    }
}

/// The document, indented, with a final newline. `left_out` reports did not count, and these `places` were not read.
pub fn json(stats: Stats, left_out: usize, places: &[(String, String)]) -> String {
    let sent = stats.sent_us;
    let document = Document {
        schema: SCHEMA,
        zone: "UTC",
        first_sent: sent.and_then(|(first, _)| rfc3339(first)),
        last_sent: sent.and_then(|(_, last)| rfc3339(last)),
        unproved: stats.unproved,
        left_out,
        rows: rows(stats),
        skipped: skipped(places),
    };
    // Strings, numbers and lists always make JSON.
    let text = serde_json::to_string_pretty(&document).unwrap_or_default();
    escaped(&text) + "\n"
}

/// The rows as CSV (RFC 4180) with a line of names.
pub fn csv(stats: Stats) -> String {
    let inert_row = |row: Row| Row {
        name: inert(&row.name),
        peer: row.peer.as_deref().map(inert),
        ..row
    };
    table(rows(stats).into_iter().map(inert_row))
}

fn table(rows: impl Iterator<Item = impl Serialize>) -> String {
    let mut writer = csv::Writer::from_writer(Vec::new());
    for row in rows {
        // Memory takes all there is, and a row is flat.
        let _ = writer.serialize(row);
    }
    let octets = writer.into_inner().unwrap_or_default();
    String::from_utf8_lossy(&octets).into_owned()
}

/// What changed between two periods.
#[derive(Debug, Serialize)]
pub struct Changes<'a> {
    /// [`SCHEMA`].
    pub schema: &'static str,
    /// Of what.
    pub changes: Vec<ChangeRow>,
    /// What was not read or not understood.
    pub skipped: Vec<SkippedJson<'a>>,
}

/// A change.
#[derive(Debug, Serialize)]
pub struct ChangeRow {
    /// `route`, `hop` or `pair`.
    pub table: Table,
    /// `new`, `gone`; `slower` or `faster` by a quarter at least, wherever the medians lie within their bounds.
    pub change: Change,
    /// As in a row.
    pub name: String,
    /// As in a row.
    pub peer: Option<String>,
    /// Messages in the earlier period.
    pub messages_before: u64,
    /// In the later one.
    pub messages_now: u64,
    /// The median of the earlier period lies within these bounds, µs.
    pub p50_before_low_us: Option<i64>,
    /// See `p50_before_low_us`.
    pub p50_before_high_us: Option<i64>,
    /// That of the later one, µs.
    pub p50_now_low_us: Option<i64>,
    /// See `p50_now_low_us`.
    pub p50_now_high_us: Option<i64>,
}

fn change(news: &News) -> ChangeRow {
    let (before, now) = news.times;
    ChangeRow {
        table: news.key.table,
        change: news.change,
        name: news.key.name.clone(),
        peer: news.key.peer.clone(),
        messages_before: news.messages.0,
        messages_now: news.messages.1,
        p50_before_low_us: before.map(|t| t.p50.low_us),
        p50_before_high_us: before.map(|t| t.p50.high_us),
        p50_now_low_us: now.map(|t| t.p50.low_us),
        p50_now_high_us: now.map(|t| t.p50.high_us),
    }
}

/// The changes as a document.
pub fn changes_json(news: &[News], places: &[(String, String)]) -> String {
    let document = Changes {
        schema: SCHEMA,
        changes: news.iter().map(change).collect(),
        skipped: skipped(places),
    };
    let text = serde_json::to_string_pretty(&document).unwrap_or_default();
    escaped(&text) + "\n"
}

/// The changes as CSV.
pub fn changes_csv(news: &[News]) -> String {
    let inert_row = |row: ChangeRow| ChangeRow {
        name: inert(&row.name),
        peer: row.peer.as_deref().map(inert),
        ..row
    };
    table(news.iter().map(change).map(inert_row))
}

/// A stranger's text that no spreadsheet takes for a formula, and no terminal for an order.
fn inert(text: &str) -> String {
    let text = plain(text);
    if text.starts_with(['=', '+', '-', '@']) {
        format!("'{text}")
    } else {
        text
    }
}
