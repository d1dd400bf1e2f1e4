//! The reader over a Maildir full of reports: the first time, and again with an index, against ripgrep that looks
//! for one field in the same files, and against what indexes mail in general.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use crate::Bench;
use crate::contest::median;
use crate::mails;
use crate::process::{Cost, Process};
use crate::table::Table;

/// Longest a run may take before it is given up.
const LIMIT: Duration = Duration::from_mins(20);

/// Reports that come between two runs.
const NEW: usize = 1000;

/// A mailbox to be read, and what may be needed for that.
struct Size {
    name: &'static str,
    reports: usize,
    peak_mb: &'static str,
    /// Only where somebody asks for it by name: it takes minutes, and gigabytes of disk.
    on_demand: bool,
}

const SIZES: [Size; 2] = [
    Size {
        name: "reader/100K",
        reports: 100_000,
        peak_mb: "<= 40",
        on_demand: false,
    },
    Size {
        name: "reader/1M",
        reports: 1_000_000,
        peak_mb: "<= 300",
        on_demand: true,
    },
];

/// Runs what is wanted of it.
pub fn run(bench: &Bench, table: &mut Table) -> Result<()> {
    for size in SIZES {
        let with_peers = bench.names(&format!("{}/peers", size.name));
        let wanted = bench.names(size.name) || !size.on_demand && bench.wants(size.name);
        if !wanted && !with_peers {
            continue;
        }
        let mailbox = Mailbox::with(bench, size.reports)?;
        if wanted {
            first_time(bench, table, &size, &mailbox)?;
            again(bench, table, &size, &mailbox)?;
        }
        if with_peers {
            peers(bench, table, &size, &mailbox)?;
        }
    }
    Ok(())
}

/// The Maildir and everything beside it; gone when dropped.
struct Mailbox {
    files: TempDir,
    hoptrail: PathBuf,
}

impl Mailbox {
    fn with(bench: &Bench, reports: usize) -> Result<Self> {
        let mailbox = Self {
            files: bench.lab.scratch()?,
            hoptrail: bench.lab.hoptrail.clone(),
        };
        mails::fill(&mailbox.maildir(), 0, reports)?;
        fs::create_dir(mailbox.path("home"))?;
        fs::write(
            mailbox.path("home/secret"),
            "2a".repeat(mails::SECRET.len()),
        )?;
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        fs::set_permissions(mailbox.path("home/secret"), private)?;
        Ok(mailbox)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.files.path().join(name)
    }

    fn maildir(&self) -> PathBuf {
        self.path("Maildir")
    }

    /// `hoptrail timeline` over all of it.
    fn timeline(&self) -> Command {
        let mut command = Command::new(&self.hoptrail);
        command
            .arg("timeline")
            .arg(self.maildir())
            .env("HOPTRAIL_HOME", self.path("home"))
            .env("XDG_CACHE_HOME", self.path("cache"));
        command
    }

    /// Forgets the index.
    fn forget(&self) -> Result<()> {
        let cache = self.path("cache");
        if cache.exists() {
            fs::remove_dir_all(cache)?;
        }
        Ok(())
    }
}

/// Everything from files to lines, against a search for one field with as many threads.
fn first_time(bench: &Bench, table: &mut Table, size: &Size, mailbox: &Mailbox) -> Result<()> {
    let search = || {
        let mut search = bench.lab.reader("ripgrep", "usr/bin/rg");
        search.args(["-j2", "-c", "--no-config", "-uuu", "X-Hoptrail-Event:"]);
        search.arg(mailbox.maildir());
        search
    };
    // Both read it once before it counts: then the files are in memory.
    Process::cost(&mut search(), LIMIT)?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for round in 0..bench.rounds {
        for turn in 0..2 {
            if (round + turn) % 2 == 0 {
                mailbox.forget()?;
                ours.push(Process::cost(&mut mailbox.timeline(), LIMIT)?);
            } else {
                theirs.push(Process::cost(&mut search(), LIMIT)?);
            }
        }
    }
    let ratios = ours.iter().zip(&theirs);
    let ratio = median(ratios.map(|(a, b)| a.took.as_secs_f64() / b.took.as_secs_f64()));
    table.line(
        &format!("{}, first time / ripgrep -j2", size.name),
        "<= 1.5",
        &format!("{ratio:.2}"),
        &format!("hoptrail {}  ripgrep {}", shown(&ours), shown(&theirs)),
    );
    let peak = |costs: &[Cost]| median(costs.iter().map(|c| c.peak_mb));
    table.line(
        "   peak memory, MB",
        size.peak_mb,
        &format!("{:.1}", peak(&ours)),
        &format!("ripgrep {:.1}", peak(&theirs)),
    );
    Ok(())
}

/// With an index, when nothing is new and when something is.
fn again(bench: &Bench, table: &mut Table, size: &Size, mailbox: &Mailbox) -> Result<()> {
    Process::cost(&mut mailbox.timeline(), LIMIT)?;
    let mut costs = Vec::new();
    for _ in 0..bench.rounds {
        costs.push(Process::cost(&mut mailbox.timeline(), LIMIT)?);
    }
    let mut line = |what: &str, goal: &str, costs: &[Cost]| {
        let took = median(costs.iter().map(|c| c.took.as_secs_f64()));
        let name = format!("{}, {what}, s", size.name);
        table.line(&name, goal, &format!("{took:.2}"), &shown(costs));
    };
    line("nothing new", "<= 1", &costs);
    costs.clear();
    for round in 0..bench.rounds {
        let from = size.reports + round * NEW;
        mails::fill(&mailbox.maildir(), from, from + NEW)?;
        costs.push(Process::cost(&mut mailbox.timeline(), LIMIT)?);
    }
    line("1000 new", "<= 1.2", &costs);
    Ok(())
}

/// CPU of a first reading against that of mail indexers.
fn peers(bench: &Bench, table: &mut Table, size: &Size, mailbox: &Mailbox) -> Result<()> {
    mailbox.forget()?;
    let ours = Process::cost(&mut mailbox.timeline(), LIMIT)?;
    let mut line = |name: &str, goal: &str, theirs: Cost| {
        table.line(
            &format!("{}, CPU of {name} / ours", size.name),
            goal,
            &format!("{:.0}", theirs.cpu_s / ours.cpu_s),
            &format!("{name} {:.1} s  hoptrail {:.2} s", theirs.cpu_s, ours.cpu_s),
        );
    };
    line("notmuch new", ">= 100", notmuch(bench, mailbox)?);
    line("mu index", ">= 50", mu(bench, mailbox)?);
    Ok(())
}

fn notmuch(bench: &Bench, mailbox: &Mailbox) -> Result<Cost> {
    let config = mailbox.path("notmuch.conf");
    let database = mailbox.path("notmuch");
    fs::create_dir(&database)?;
    let text = format!(
        "[database]\npath={}\nmail_root={}\n[user]\nname=a\nprimary_email=a@x\n",
        database.display(),
        mailbox.maildir().display()
    );
    fs::write(&config, text)?;
    let mut command = bench.lab.reader("notmuch", "usr/bin/notmuch");
    command.arg("new").env("NOTMUCH_CONFIG", config);
    Process::cost(&mut command, LIMIT)
}

fn mu(bench: &Bench, mailbox: &Mailbox) -> Result<Cost> {
    let home = |command: &str| {
        let mut mu = bench.lab.reader("mu", "usr/bin/mu");
        let home: &Path = &mailbox.path("mu");
        mu.arg(command).arg("--quiet").arg("--muhome").arg(home);
        mu.env("HOME", mailbox.path("home"));
        mu
    };
    let made = home("init")
        .arg("--maildir")
        .arg(mailbox.maildir())
        .status();
    ensure!(made.context("mu init")?.success(), "mu init fails");
    Process::cost(&mut home("index"), LIMIT)
}

/// Time, CPU and the spread of the time.
fn shown(costs: &[Cost]) -> String {
    let times = || costs.iter().map(|c| c.took.as_secs_f64());
    let cpu_s = median(costs.iter().map(|c| c.cpu_s));
    let (least, most) = (
        times().fold(f64::MAX, f64::min),
        times().fold(0.0, f64::max),
    );
    format!(
        "{:.2} s ({least:.2}-{most:.2}, CPU {cpu_s:.2})",
        median(times())
    )
}
