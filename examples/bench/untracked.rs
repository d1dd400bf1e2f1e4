//! Untracked mail from Postfix's smtp-source to its smtp-sink: messages a second and CPU of a message,
//! against haproxy.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::Result;

use crate::Bench;
use crate::contest::{Contestant, RUN_LIMIT, Score, contest_all};
use crate::lab::Lab;
use crate::process::Process;
use crate::table::Table;
use crate::way::{DIRECT, HAPROXY, HOPTRAIL, Way};

/// One kind of load.
#[derive(Clone, Copy)]
pub struct Load {
    /// How it is called.
    pub octets: (&'static str, u32),
    /// Sessions at a time.
    pub sessions: u32,
    /// Many messages over a connection, not one.
    pub kept: bool,
}

const LOADS: [Load; 13] = [
    load(("2K", 2048), 1, false),
    load(("2K", 2048), 1, true),
    load(("2K", 2048), 20, false),
    load(("2K", 2048), 20, true),
    load(("2K", 2048), 100, false),
    load(("2K", 2048), 100, true),
    load(("50K", 51_200), 1, false),
    load(("50K", 51_200), 1, true),
    load(("50K", 51_200), 20, false),
    load(("50K", 51_200), 20, true),
    load(("50K", 51_200), 100, false),
    load(("50K", 51_200), 100, true),
    load(("5M", 5_000_000), 4, true),
];

const fn load(octets: (&'static str, u32), sessions: u32, kept: bool) -> Load {
    Load {
        octets,
        sessions,
        kept,
    }
}

/// Runs what is wanted of it.
pub fn run(bench: &Bench, table: &mut Table) -> Result<()> {
    for load in LOADS {
        let kind = if load.kept { "many" } else { "one" };
        let name = format!("untracked/{}/c{}/{kind}", load.octets.0, load.sessions);
        if bench.wants(&name) {
            let ways = Way::all(bench)?;
            let contestants = ways.iter().map(|way| contestant(bench, load, way));
            let scores = contest_all(bench, load.sessions, contestants.collect())?;
            report(table, &name, load, &ways, &scores);
        }
    }
    Ok(())
}

fn contestant<'a>(bench: &'a Bench, load: Load, way: &'a Way) -> Contestant<'a> {
    Contestant {
        run: Box::new(move |count| send(&bench.lab, load, way, count)),
        cpu_ticks: Box::new(|| way.process.cpu_ticks()),
    }
}

/// Sends so many messages by smtp-source.
pub fn send(lab: &Lab, load: Load, way: &Way, count: u32) -> Result<Duration> {
    let mut source = lab.postfix_tool("smtp-source");
    let numbers = [("-s", load.sessions), ("-m", count), ("-l", load.octets.1)];
    for (flag, number) in numbers {
        source.arg(flag).arg(number.to_string());
    }
    if load.kept {
        source.arg("-d");
    }
    source
        .args(["-f", "a@origin.test", "-t", "b@dest.test"])
        .arg(way.address.to_string());
    Process::run(&mut source, RUN_LIMIT)
}

fn report(table: &mut Table, name: &str, load: Load, ways: &[Way], scores: &[Score]) {
    let (mut rates, mut costs) = (String::new(), String::new());
    for (way, score) in ways.iter().zip(scores) {
        let _ = write!(rates, "{} {:.0}  ", way.name, score.rate());
        if way.name != ways[DIRECT].name {
            let _ = write!(costs, "{} {:.1}  ", way.name, score.cpu_us());
        }
    }
    if let [_, _, ours, other] = scores {
        let _ = write!(rates, "hoptrail/other {:.2}", ours.against(other));
        let _ = write!(
            costs,
            "hoptrail/other {:.2}",
            ours.cpu_us() / other.cpu_us()
        );
    }
    let (direct, haproxy, ours) = (&scores[DIRECT], &scores[HAPROXY], &scores[HOPTRAIL]);
    let line = format!("{name} msgs/s");
    if load.octets.0 == "5M" {
        let result = format!("{:.2}", ours.against(direct));
        table.line(&format!("{line} / direct"), ">= 0.95", &result, &rates);
    } else {
        let result = format!("{:.2}", ours.against(haproxy));
        table.line(&format!("{line} / haproxy"), ">= 1.00", &result, &rates);
    }
    let goal = if load.octets.0 == "5M" {
        "<= 1.1"
    } else {
        "<= 1.0"
    };
    let result = format!("{:.2}", ours.cpu_us() / haproxy.cpu_us());
    table.line("   CPU of a message, us / haproxy", goal, &result, &costs);
}
