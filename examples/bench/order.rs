//! The functions that a hop runs to start and to hold sessions, written down for the linker (`.cargo/serve.ld`). Not a
//! measurement, but to be made anew where `memory/idle` has grown without a reason: what is not written down, because
//! it is new or has another name, costs an idle hop up to 64 KiB.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::Bench;
use crate::client::Session;
use crate::lab::ROOT;
use crate::load::runtime;
use crate::way::{NOTHING_MAILED, Way};

/// Enough for each thing that a session shares with others to be made, and made again.
const SESSIONS: usize = 50;

/// How long callgrind may need to write down what it has seen.
const LIMIT: Duration = Duration::from_mins(1);

const HEAD: &str = "\
/* What `hoptrail serve` runs to start and to hold sessions; .cargo/build.rs says what for.
   Written by `cargo run --release --example bench -- order`. */
SECTIONS
{
  .text :
  {
";
const FOOT: &str = "  }\n}\nINSERT AFTER .init;\n";

/// Writes the list.
pub fn write(bench: &Bench) -> Result<()> {
    let symbols = Command::new("nm")
        .arg("--format=posix")
        .arg(&bench.lab.hoptrail)
        .output()?;
    let symbols = String::from_utf8(symbols.stdout)?;
    let profile = profile(bench)?;
    let run = run_by(&profile);
    ensure!(!run.is_empty(), "callgrind names no function of hoptrail");
    let script = script(&run, &functions(&symbols));
    Ok(fs::write(Path::new(ROOT).join(".cargo/serve.ld"), script)?)
}

/// What callgrind sees of a hop that starts and holds sessions.
fn profile(bench: &Bench) -> Result<String> {
    let lab = &bench.lab;
    let scratch = lab.scratch()?;
    let (program, profile) = (
        scratch.path().join("program"),
        scratch.path().join("profile"),
    );
    let under = format!(
        "#!/bin/sh\nexec valgrind --tool=callgrind --demangle=no --callgrind-out-file={} {} \"$@\"\n",
        profile.display(),
        lab.hoptrail.display()
    );
    fs::write(&program, under)?;
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
    let sink = Way::sink(lab)?;
    let way = Way::hoptrail(lab, ("hoptrail", &program), sink.address, NOTHING_MAILED)?;
    let (runtime, mut sessions) = (runtime()?, Vec::new());
    for _ in 0..SESSIONS {
        sessions.push(runtime.block_on(Session::open(way.address))?);
    }
    // Not at its end: what it does to stop is not wanted.
    let dump = Command::new("callgrind_control")
        .args(["--dump", &way.process.id().to_string()])
        .output()?;
    ensure!(dump.status.success(), "callgrind gives no profile");
    let (profile, start) = (profile.with_extension("1"), Instant::now());
    loop {
        // The last line has the sum.
        let seen = fs::read_to_string(&profile).unwrap_or_default();
        if seen.contains("\ntotals:") {
            return Ok(seen);
        }
        ensure!(start.elapsed() < LIMIT, "callgrind writes no profile");
        sleep(Duration::from_millis(100));
    }
}

/// The functions of the program itself that a profile knows.
fn run_by(profile: &str) -> BTreeSet<&str> {
    let (mut objects, mut names) = (HashMap::new(), HashMap::new());
    let (mut ours, mut run) = (false, BTreeSet::new());
    for line in profile.lines() {
        let Some((key, value)) = line.split_once('=') else {
            continue;
        };
        let known = match key {
            "ob" | "cob" => &mut objects,
            "fn" | "cfn" => &mut names,
            _ => continue,
        };
        // A number in parentheses, with its name where it is used first; a quote tells the depth of a recursion.
        let (number, name) = value.split_once(' ').unwrap_or((value, ""));
        let name = name.split('\'').next().unwrap_or(name);
        let name = *known.entry(number).or_insert(name);
        match key {
            "ob" => ours = name.ends_with("/hoptrail"),
            "fn" if ours => _ = run.insert(name),
            _ => {}
        }
    }
    run
}

/// All functions of the program.
fn functions(symbols: &str) -> BTreeSet<&str> {
    let fields = symbols.lines().filter_map(|line| line.split_once(' '));
    let functions = fields.filter(|(_, rest)| rest.starts_with(['t', 'T', 'w', 'W']));
    functions.map(|(name, _)| name).collect()
}

/// The list. A function goes by the name that it keeps when something else changes. Where others would go by it too,
/// the whole name stands first, and theirs behind everything, for the day when the whole one is no more.
fn script(run: &BTreeSet<&str>, all: &BTreeSet<&str>) -> String {
    let run: BTreeSet<_> = run.intersection(all).copied().collect();
    let others: BTreeSet<_> = all.difference(&run).map(|name| lasting(name)).collect();
    let (shared, own): (BTreeSet<_>, _) =
        run.iter().partition(|name| others.contains(&lasting(name)));
    let own: BTreeSet<_> = own.iter().map(|name: &&str| lasting(name)).collect();
    let last: BTreeSet<_> = shared.iter().map(|name: &&str| lasting(name)).collect();
    let names = shared
        .iter()
        .map(ToString::to_string)
        .chain(own)
        .chain(last);
    let lines: String = names.map(|name| line(&name)).collect();
    format!("{HEAD}{lines}{FOOT}")
}

/// One function. Of those in Rust, some are in a section for what is seldom run.
fn line(name: &str) -> String {
    let any = if name.starts_with('_') { "*" } else { "" };
    format!("    *(.text.{any}{name})\n")
}

/// A name with `*` for what another compiler, another version of a crate or another option makes of it.
fn lasting(name: &str) -> String {
    // The number of one of several that have been made of a function: foo.part.0.
    let (name, number) = match name.rsplit_once('.') {
        Some((name, number)) if number.parse::<u32>().is_ok() => (name, ".*"),
        _ => (name, ""),
    };
    // The hash of a function: _ZN3foo3bar17h0123456789abcdefE.
    if let Some(hash) = name.rfind("17h").filter(|_| name.starts_with("_ZN")) {
        return format!("{}*E{number}", &name[..hash + 3]);
    }
    // The hashes of crates: _RNvCs1a2B3c4D5e6_3foo3bar.
    let mut parts = name.split("Cs");
    let first = parts.next().unwrap_or_default().to_owned();
    let name = parts.fold(first, |name, part| match part.split_once('_') {
        Some((hash, rest)) if hash.len() > 8 => format!("{name}Cs*_{rest}"),
        _ => format!("{name}Cs{part}"),
    });
    name + number
}
