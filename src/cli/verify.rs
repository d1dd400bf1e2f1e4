//! `hoptrail verify`: whether an evidence archive holds.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};

use super::{evidence, print, view};
use crate::trail::bundle::{ARCHIVE_OCTETS_MAX, Broken, Bundle};
use crate::trail::render::evidence::{Holds, report};
use crate::trail::render::format::plain;
use crate::trail::render::terminal;

const EXIT_CODES: &str = "\
Exit codes:
  0  all of it holds, and the domain of its host signed every report
  1  nothing is wrong, but not all is proved: a report without a signature or a
     key, a gap, words that another hoptrail made
  2  usage or I/O error
  3  it does not hold: altered, damaged or no evidence archive, or a report in it
     is altered or forged";

/// Checks an evidence archive that `timeline --bundle` wrote: recomputes everything from the reports and
/// the recorded keys in it, without a network, a mailbox or a secret.
#[derive(clap::Args)]
#[command(after_help = EXIT_CODES)]
pub struct Args {
    /// The archive; nothing of it is written to disk
    file: PathBuf,
    /// Compare its keys with those in the DNS today: by the system's name servers, or this one
    #[arg(long, value_name = "ADDRESS:PORT", num_args = 0..=1, require_equals = true)]
    #[allow(clippy::option_option)] // As clap has it: not given, without a value, with one.
    dns: Option<Option<SocketAddr>>,
}

/// Runs the command. An error is for exit code 2.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let archive = read(&args.file).with_context(|| format!("{}", args.file.display()))?;
    let checked = Bundle::read(&archive).and_then(|bundle| {
        let trails = bundle.judge()?;
        Ok((bundle, trails))
    });
    let (bundle, trails) = match checked {
        Ok(checked) => checked,
        Err(why @ (Broken::Compressed | Broken::Foreign(..))) => {
            bail!("{}: {}", args.file.display(), plain(&why.to_string()))
        }
        Err(broken) => return not(&args.file, &broken),
    };
    let keys = &bundle.contents.keys;
    let today = match args.dns {
        None => None,
        Some(server) => {
            let names: BTreeSet<String> = keys.0.keys().cloned().collect();
            Some(evidence::look_up(names, server)?)
        }
    };
    let view = view();
    let (holds, findings) = report(&bundle, &trails, today.as_ref(), &view);
    let (word, code) = match holds {
        Holds::All => ("holds", 0),
        Holds::Partly => ("is intact, but not all of it is proved", 1),
        Holds::Not => ("DOES NOT HOLD", 3),
    };
    let made = view.date_time(bundle.contents.made_us);
    let mut text = format!(
        "{} {word}; made {made}\n{findings}",
        plain(&args.file.display().to_string())
    );
    for message in &trails.messages {
        text.push('\n');
        text.push_str(&terminal::message(message, &view));
    }
    print(&(text + &terminal::not_ours(&trails.not_ours, &view)))?;
    Ok(ExitCode::from(code))
}

fn not(file: &Path, broken: &Broken) -> anyhow::Result<ExitCode> {
    let (file, broken) = (file.display().to_string(), broken.to_string());
    print(&format!(
        "{} DOES NOT HOLD: {}\n",
        plain(&file),
        plain(&broken)
    ))?;
    Ok(ExitCode::from(3))
}

fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    let limit = u64::try_from(ARCHIVE_OCTETS_MAX).unwrap_or(u64::MAX);
    let mut archive = Vec::new();
    File::open(path)?
        .take(limit + 1)
        .read_to_end(&mut archive)?;
    Ok(archive)
}
