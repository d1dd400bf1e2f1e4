//! What a proxy process holds: with many idle sessions, and under many long messages.

use std::thread::sleep;
use std::time::Duration;

use anyhow::Result;

use crate::Bench;
use crate::client::Session;
use crate::load::runtime;
use crate::table::Table;
use crate::untracked::{Load, send};
use crate::way::{NOTHING_MAILED, Way};

/// Idle sessions, and what they may take (MB).
const IDLE: [(usize, &str); 3] = [(1000, "<= 8"), (5000, "<= 16"), (9000, "<= 26")];

/// How long the idle process is watched.
const WATCH: Duration = Duration::from_secs(3);

/// 5 MB over 100 sessions, twice.
const LONG: Load = Load {
    octets: ("5M", 5_000_000),
    sessions: 100,
    kept: true,
};

/// Runs what is wanted of it.
pub fn run(bench: &Bench, table: &mut Table) -> Result<()> {
    if bench.wants("memory/idle") {
        idle(bench, table)?;
    }
    if bench.wants("memory/5M") {
        long(bench, table)?;
    }
    Ok(())
}

/// haproxy and hoptrail in front of a sink, both fresh.
fn proxies(bench: &Bench) -> Result<(Way, [Way; 2])> {
    let lab = &bench.lab;
    let sink = Way::sink(lab)?;
    let haproxy = Way::haproxy(lab, sink.address)?;
    let ours = Way::hoptrail(lab, Way::ours(lab), sink.address, NOTHING_MAILED)?;
    Ok((sink, [haproxy, ours]))
}

fn idle(bench: &Bench, table: &mut Table) -> Result<()> {
    let (_sink, [haproxy, ours]) = proxies(bench)?;
    let haproxy = watch_idle(&haproxy)?;
    let ours = watch_idle(&ours)?;
    for ((count, goal), (ours, haproxy)) in IDLE.into_iter().zip(ours.iter().zip(&haproxy)) {
        table.line(
            &format!("memory/idle, RSS at {count}, MB"),
            goal,
            &format!("{:.1}", ours.rss_mb),
            &format!("haproxy {:.1}", haproxy.rss_mb),
        );
    }
    let (ours, haproxy) = (ours[0].ticks, haproxy[0].ticks);
    table.line(
        &format!("memory/idle, ticks in {} s at 1000", WATCH.as_secs()),
        "0",
        &ours.to_string(),
        &format!("haproxy {haproxy}"),
    );
    Ok(())
}

struct Idle {
    rss_mb: f64,
    ticks: u32,
}

/// Opens more and more sessions that say EHLO and nothing more.
fn watch_idle(way: &Way) -> Result<Vec<Idle>> {
    let runtime = runtime()?;
    let mut sessions = Vec::new();
    let mut seen = Vec::new();
    for (count, _) in IDLE {
        while sessions.len() < count {
            sessions.push(runtime.block_on(Session::open(way.address))?);
        }
        sleep(Duration::from_secs(1));
        let ticks = way.process.cpu_ticks()?;
        sleep(if count == IDLE[0].0 {
            WATCH
        } else {
            Duration::ZERO
        });
        seen.push(Idle {
            rss_mb: way.process.rss_mb()?,
            ticks: way.process.cpu_ticks()? - ticks,
        });
    }
    Ok(seen)
}

fn long(bench: &Bench, table: &mut Table) -> Result<()> {
    let (_sink, [haproxy, ours]) = proxies(bench)?;
    for way in [&haproxy, &ours] {
        send(&bench.lab, LONG, way, 2 * LONG.sessions)?;
    }
    table.line(
        "memory/5M, peak RSS of 100 sessions, MB",
        "<= 16",
        &format!("{:.1}", ours.process.rss_peak_mb()?),
        &format!("haproxy {:.1}", haproxy.process.rss_peak_mb()?),
    );
    Ok(())
}
