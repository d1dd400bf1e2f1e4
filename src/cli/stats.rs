//! `hoptrail stats`: many messages in figures.

use std::convert::Infallible;
use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::{Context, bail};
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};

use super::mailbox::{self, SOURCES};
use super::progress::Progress;
use super::{print, secret, view};
use crate::trail::render::stats::{rows, terminal};
use crate::trail::render::terminal::unread;
use crate::trail::stats::{LeftOut, Stats, compare};
use crate::trail::{Source, Trails, Truth};

const MORE: &str = "\
Times inside a hop are exact, by its own clock; what it waited there for the next hop's
answers is in the attempts of the two. Times across hops stand within bounds,
as far as the clocks on both ends allow: where a bound is shown, the percentile of the
true times lies within it. \"put off\" counts the attempts told of, which not every one
is. JSON (schema hoptrail.stats/1) and CSV have every figure, days in UTC.

Exit codes: 0 figures were shown, 2 usage or I/O error, 4 no report that counts";

/// Counts, octets, delays, failures and routes over all messages that the reports in some mailboxes tell of: by
/// hop, pair of hops, originator, destination, route and day.
#[derive(clap::Args)]
#[command(after_help = [SOURCES, MORE].concat())]
#[allow(clippy::struct_excessive_bools)] // As a command line has them.
pub struct Args {
    /// Where the reports are, such as ~/Maildir
    #[arg(required = true, value_name = "SOURCE")]
    sources: Vec<OsString>,
    /// Of messages sent since then alone: 2026-11-20, 2026-11-20T14:00, or so long ago: 7d, 36h
    #[arg(long, value_name = "WHEN", value_parser = moment)]
    since: Option<i64>,
    /// Show what changed since --since, against the time from here until then: routes that are new or gone, and
    /// what became slower or faster by a quarter at least
    #[arg(long, value_name = "WHEN", value_parser = moment, requires = "since", conflicts_with = "by_day")]
    compare: Option<i64>,
    /// Tell all figures apart by the day the message was sent
    #[arg(long)]
    by_day: bool,
    /// Take in the messages of which your secret proves no report, too: in a mailbox that collects those of many people
    #[arg(long)]
    unproved: bool,
    /// Print JSON
    #[arg(long, conflicts_with = "csv")]
    json: bool,
    /// Print CSV
    #[arg(long)]
    csv: bool,
    #[command(flatten)]
    access: mailbox::Access,
}

/// Messages that are taken in at a time.
const PART: usize = 1000;

/// The messages of a span of time in figures.
struct Period {
    from_us: i64,
    until_us: i64,
    stats: Stats,
}

impl Period {
    fn take(&mut self, trails: &Trails) {
        for message in &trails.messages {
            // Nor does what nothing proves beside proved reports on the same message, under whatever id.
            let counts = message.truth != Truth::Unproved && message.names.is_empty();
            let sent_us = message.sent_or_arrived_us();
            if counts && (self.from_us..self.until_us).contains(&sent_us) {
                self.stats.add(message);
            }
        }
    }
}

/// Runs the command. An error is for exit code 2.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let secret = secret::load()?;
    let view = view();
    let zone = if args.json || args.csv {
        TimeZone::UTC
    } else {
        view.zone.clone()
    };
    if args
        .compare
        .is_some_and(|from_us| Some(from_us) >= args.since)
    {
        bail!("--compare names the older time: it has to begin before --since");
    }
    let period = |from_us: Option<i64>, until_us: Option<i64>| Period {
        from_us: from_us.unwrap_or(i64::MIN),
        until_us: until_us.unwrap_or(i64::MAX),
        stats: Stats::new(zone.clone(), args.by_day),
    };
    let mut now = period(args.since, None);
    let mut before = args
        .compare
        .map(|from_us| period(Some(from_us), args.since));
    let sources = args.sources.iter().map(|word| args.access.source(word));
    let sources: Vec<Source> = sources.collect::<Result<_, _>>()?;
    let mut reports = mailbox::reports(&sources, secret.as_ref());
    if args.unproved {
        reports = reports.on_trust();
    }
    let for_people = !args.json && !args.csv;
    let progress = for_people.then(|| Progress::of(&reports, &sources));
    reports.update()?;
    drop(progress);
    let mut left_out = LeftOut::default();
    reports.all().in_parts(
        PART,
        |trails| trails,
        |trails| {
            left_out.add(&trails);
            now.take(&trails);
            if let Some(before) = &mut before {
                before.take(&trails);
            }
            Ok::<(), Infallible>(())
        },
    )?;
    let some =
        now.stats.all.messages > 0 || before.as_ref().is_some_and(|b| b.stats.all.messages > 0);
    let skipped = reports.looked_at().skipped;
    mailbox::remark(&skipped);
    let text = match before {
        Some(before) => changes(args, before.stats, now.stats, &skipped),
        None if args.json => rows::json(now.stats, left_out.count(), &skipped),
        None if args.csv => rows::csv(now.stats),
        None => terminal::draw(now.stats, left_out, &view),
    };
    print(&text)?;
    if for_people {
        print(&unread(skipped.len(), &view))?;
    }
    Ok(ExitCode::from(if some { 0 } else { 4 }))
}

fn changes(args: &Args, before: Stats, now: Stats, skipped: &[(String, String)]) -> String {
    let news = compare(before.lines(), now.lines());
    match (args.json, args.csv) {
        (true, _) => rows::changes_json(&news, skipped),
        (_, true) => rows::changes_csv(&news),
        _ => terminal::changes(&news, &view()),
    }
}

/// A moment as people name it, µs since 1970-01-01 UTC: a date or a time of the system's zone, or a span back from
/// now.
fn moment(text: &str) -> anyhow::Result<i64> {
    let zone = TimeZone::system();
    let out_of_reach = || format!("{text:?} is out of reach; give a time in the years 1 to 9998");
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time.as_microsecond());
    }
    if let Ok(time) = text.parse::<DateTime>() {
        let time = zone.to_timestamp(time).with_context(out_of_reach)?;
        return Ok(time.as_microsecond());
    }
    let ago = text.parse::<Span>().with_context(|| {
        format!("{text:?} is no time; give 2026-11-20, 2026-11-20T14:00, or how long ago: 7d, 36h")
    })?;
    let now = Timestamp::now().to_zoned_datetime(zone);
    let then = now.checked_sub(ago.abs()).with_context(out_of_reach)?;
    Ok(then.timestamp().as_microsecond())
}
