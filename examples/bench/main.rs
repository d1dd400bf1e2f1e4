//! The benchmark: hoptrail against no proxy at all, against haproxy in TCP mode and against Postfix as a
//! relay, on this machine, loopback only; and its reader against ripgrep, notmuch and mu over the same mails.
//!
//! ```text
//! cargo run --release --example bench -- [--quick] [--rounds N] [--against BINARY] [FILTER...]
//! ```
//!
//! `FILTER` is a part of a scenario's name (`untracked/2K`, `memory`). `--quick` makes the rounds
//! short, `--rounds` sets their number (5).
//! What needs minutes and gigabytes of disk runs only where its name is given: `reader/1M`, `reader/100K/peers`.
//! So does `order`, which writes `.cargo/serve.ld`.
//! `--against` lets another build of hoptrail take part in the untracked scenarios.
//!
//! It measures and does not judge: goals and results stand side by side, and it ends with 0. What is
//! compared runs interleaved, in an order that rotates from round to round; a ratio is the median of the
//! rounds' ratios. Every load has a bounded number of messages and a time limit.

mod bare;
mod client;
mod contest;
mod lab;
mod latency;
mod load;
mod mails;
mod memory;
mod mta;
mod order;
mod process;
mod reader;
mod table;
mod tracked;
mod untracked;
mod way;

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, bail};

use lab::Lab;
use table::Table;

/// What every scenario is given.
pub struct Bench {
    /// Where programs and files are.
    pub lab: Lab,
    /// Rounds of every comparison.
    pub rounds: usize,
    /// How long one run of a load is to take.
    pub round: Duration,
    /// Another build of hoptrail that takes part.
    pub against: Option<PathBuf>,
    filters: Vec<String>,
}

impl Bench {
    fn from_arguments() -> Result<Self> {
        let (mut rounds, mut round) = (5, Duration::from_secs(1));
        let (mut against, mut filters) = (None, Vec::new());
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--quick" => round = Duration::from_millis(300),
                "--rounds" => rounds = arguments.next().unwrap_or_default().parse()?,
                "--against" => against = arguments.next().map(PathBuf::from),
                flag if flag.starts_with('-') => bail!("unknown option {flag}"),
                _ => filters.push(argument),
            }
        }
        Ok(Self {
            lab: Lab::get()?,
            rounds,
            round,
            against,
            filters,
        })
    }

    /// Whether the scenario of this name is to run.
    pub fn wants(&self, name: &str) -> bool {
        self.filters.is_empty() || self.filters.iter().any(|part| name.contains(part.as_str()))
    }

    /// Whether it is one that is asked for by its own name.
    pub fn names(&self, name: &str) -> bool {
        self.filters.iter().any(|part| part == name)
    }
}

fn main() -> Result<()> {
    if bare::serve_if_asked()? {
        return Ok(());
    }
    raise_descriptor_limit()?;
    let bench = Bench::from_arguments()?;
    if bench.names("order") {
        return order::write(&bench);
    }
    let mut table = Table::start();
    untracked::run(&bench, &mut table)?;
    latency::run(&bench, &mut table)?;
    tracked::run(&bench, &mut table)?;
    memory::run(&bench, &mut table)?;
    reader::run(&bench, &mut table)?;
    table.finish();
    Ok(())
}

/// 9,000 sessions need more descriptors than most shells allow: starts itself again with as many as the
/// system gives, which every process started from here inherits.
fn raise_descriptor_limit() -> Result<()> {
    const MARK: &str = "HOPTRAIL_BENCH_RAISED";
    if std::env::var_os(MARK).is_some() {
        return Ok(());
    }
    let error = Command::new("bash")
        .args(["-c", "ulimit -Sn $(ulimit -Hn); exec \"$@\"", "bash"])
        .arg(std::env::current_exe()?)
        .args(std::env::args_os().skip(1))
        .env(MARK, "1")
        .exec();
    Err(error.into())
}
