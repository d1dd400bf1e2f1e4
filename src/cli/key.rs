//! `hoptrail key`: the keys of a hop. Those of the carry header, which cross the MTA with a tracked message, are
//! shown, rotated and shared here; those that sign reports are `dkim`'s.

mod dkim;

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Subcommand;

use super::print;
use crate::config;
use crate::store::keys::{self, KeysError};
use crate::track::carry::{CARRY_AGE_MS_MAX, Keyring};

/// Octets of standard input that are read for a key.
const KEY_OCTETS_MAX: u64 = 4096;

/// Show, rotate and share a hop's keys, and make those that sign its reports.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// List the carry keys; `serve` makes the first one
    Show(Carry),
    /// Sign carry headers with a new key; the others are still recognised
    Rotate(Carry),
    /// Print the carry key that signs, for `hoptrail key add` at another hop: a secret
    Share(Carry),
    /// Recognise the carry key of another hop, read from standard input
    Add(Carry),
    /// Recognise a carry key no more
    Remove {
        /// Its name, as `show` lists it
        id: String,
        #[command(flatten)]
        carry: Carry,
    },
    /// Make a key that signs reports, or show the DNS records of those there are
    Dkim(dkim::Args),
}

#[derive(clap::Args)]
struct Carry {
    /// The hop's configuration file, which names its `state_dir`
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

/// Does one thing with a hop's keys; they are the hop's from its next reload on.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let text = match args.command {
        Command::Show(carry) => carry.with(keys::load, shown)?,
        Command::Rotate(carry) => carry.with(keys::rotate, rotated)?,
        Command::Share(carry) => carry.with(keys::load, |keys| keys.signing().to_line())?,
        Command::Add(carry) => {
            let line = input().context("standard input")?;
            carry.with(|state_dir| keys::add(state_dir, &line), changed)?
        }
        Command::Remove { id, carry } => {
            carry.with(|state_dir| keys::remove(state_dir, &id), changed)?
        }
        Command::Dkim(args) => dkim::run(args)?,
    };
    print(&text)?;
    Ok(ExitCode::SUCCESS)
}

impl Carry {
    /// Does something to the keys and says what there is now.
    fn with(
        &self,
        change: impl FnOnce(&Path) -> Result<Keyring, KeysError>,
        say: impl FnOnce(&Keyring) -> String,
    ) -> anyhow::Result<String> {
        let state_dir = config::load_state_dir(&self.config)?;
        match change(&state_dir) {
            Ok(keys) => Ok(say(&keys)),
            Err(error) if error.is_missing() => {
                bail!("{error}; `hoptrail serve` makes the first key when it starts")
            }
            Err(error) => Err(error.into()),
        }
    }
}

fn input() -> std::io::Result<String> {
    let mut text = String::new();
    std::io::stdin()
        .take(KEY_OCTETS_MAX)
        .read_to_string(&mut text)?;
    Ok(text)
}

fn shown(keys: &Keyring) -> String {
    let roles = std::iter::once("signs").chain(std::iter::repeat("is recognised"));
    let lines = keys.ids().zip(roles);
    let lines: Vec<_> = lines.map(|(id, role)| format!("{id}  {role}\n")).collect();
    lines.concat()
}

fn changed(keys: &Keyring) -> String {
    shown(keys) + "\nReload the hop (SIGHUP) for it to take effect.\n"
}

fn rotated(keys: &Keyring) -> String {
    let days = CARRY_AGE_MS_MAX / (24 * 3600 * 1000);
    let before = keys.ids().nth(1).unwrap_or_default();
    format!(
        "{}\n\
         First give the new key to the hops that share keys with this one (`hoptrail key\n\
         share` here, `hoptrail key add` there) and reload them; then reload this one (SIGHUP).\n\
         After {days} days no mail carries the old key any more: `hoptrail key remove {before}`.\n",
        shown(keys)
    )
}
