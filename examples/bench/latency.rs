//! What a proxy adds to the time of one 2 KB message of one lock-step session, beyond what it takes without.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tokio::time::timeout;

use crate::Bench;
use crate::client::{Mail, Session};
use crate::contest::{RUN_LIMIT, median};
use crate::load::runtime;
use crate::table::Table;
use crate::way::{DIRECT, HAPROXY, HOPTRAIL, Way};

/// Messages of one way in one round.
const MESSAGES: usize = 300;

/// Runs what is wanted of it.
pub fn run(bench: &Bench, table: &mut Table) -> Result<()> {
    for (name, kept) in [("latency/kept", true), ("latency/new", false)] {
        if bench.wants(name) {
            measure(bench, table, name, kept)?;
        }
    }
    Ok(())
}

fn measure(bench: &Bench, table: &mut Table, name: &str, kept: bool) -> Result<()> {
    let ways = Way::all(bench)?;
    let mut middles = vec![Vec::new(); ways.len()];
    for round in 0..bench.rounds {
        for turn in 0..ways.len() {
            let at = (round + turn) % ways.len();
            middles[at].push(p50_us(&ways[at], kept)?);
        }
    }
    // Medians first: a difference of two is too small to be divided round by round.
    let p50 = |way: usize| median(middles[way].iter().copied());
    let added = |way: usize| p50(way) - p50(DIRECT);
    table.line(
        &format!("{name} p50 added, us / haproxy"),
        "<= 1.0",
        &format!("{:.2}", added(HOPTRAIL) / added(HAPROXY)),
        &format!(
            "direct takes {:.0}  haproxy adds {:.0}  hoptrail adds {:.0}",
            p50(DIRECT),
            added(HAPROXY),
            added(HOPTRAIL)
        ),
    );
    Ok(())
}

/// The middle time of a message, µs.
fn p50_us(way: &Way, kept: bool) -> Result<f64> {
    let mail = Mail::new(2048, false);
    let all = async {
        let mut times = Vec::with_capacity(MESSAGES);
        let mut session = Session::open(way.address).await?;
        session.send(&mail).await?;
        for _ in 0..MESSAGES {
            let start = Instant::now();
            if !kept {
                session = Session::open(way.address).await?;
            }
            session.send(&mail).await?;
            times.push(start.elapsed());
        }
        session.quit().await?;
        anyhow::Ok(times)
    };
    let times = runtime()?.block_on(async { timeout(RUN_LIMIT, all).await });
    let times = times.context("the load takes too long")??;
    Ok(median(times.iter().map(Duration::as_secs_f64)) * 1e6)
}
