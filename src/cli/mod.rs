//! The command line: one file per command. Joins everything else; nothing else knows it.

mod demo;
mod evidence;
mod key;
mod mailbox;
mod progress;
mod screen;
pub mod secret;
pub mod send;
mod serve;
mod stats;
pub mod timeline;
mod verify;
mod watch;

use std::ffi::OsString;
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use jiff::tz::TimeZone;

use self::send::sendmail;
use crate::clock::Clock;
use crate::trail::render::format::plain_lines;
use crate::trail::render::{COLUMNS_MAX, TERMINAL_COLUMNS, View};

/// What is taken from the environment.
const ENVIRONMENT: &str = "\
Environment:
  HOPTRAIL_HOME  the directory of your secret and of send.toml; default: $XDG_CONFIG_HOME/hoptrail, else
                 ~/.config/hoptrail
  HOPTRAIL_LOG   what `serve` logs: hoptrail=debug for more, error for less
  HOPTRAIL_PASSWORD
                 the password for a mailbox on a server, and for the server that `send` hands mail to";

/// A waybill for mail: every hop reports back to the sender, and a timeline shows where the mail is.
#[derive(Parser)]
#[command(version, propagate_version = true, after_help = ENVIRONMENT)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Stand around an MTA and report each step of tracked mail
    Serve(serve::Args),
    // These two say by themselves what they do, and how they exit.
    Send(send::Args),
    Sendmail(sendmail::Args),
    // These four say by themselves what they do.
    Timeline(timeline::Args),
    Watch(watch::Args),
    Stats(stats::Args),
    Verify(verify::Args),
    /// Show, rotate and share a hop's keys, and make those that sign its reports
    Key(key::Args),
    /// Watch it work: three hops on this machine, no configuration
    Demo,
}

/// Runs the command line; an error is told on standard error and ends with exit code 2.
pub fn run() -> ExitCode {
    let words = words(std::env::args_os().collect());
    let cli = match Cli::try_parse_from(&words) {
        Ok(cli) => cli,
        Err(error) => return misused(&error, &words),
    };
    let outcome = match cli.command {
        Command::Serve(args) => serve::run(&args),
        Command::Send(args) => block_on(send::run(args)),
        Command::Sendmail(args) => block_on(sendmail::run(args)),
        Command::Timeline(args) => timeline::run(&args),
        Command::Watch(args) => block_on(watch::run(args)),
        Command::Stats(args) => stats::run(&args),
        Command::Verify(args) => verify::run(&args),
        Command::Key(args) => key::run(args),
        Command::Demo => block_on(demo::run()),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("hoptrail: {}", plain_lines(&format!("{error:#}")));
        ExitCode::from(2)
    })
}

/// The command line; a program that is called sendmail is `hoptrail sendmail`.
fn words(mut words: Vec<OsString>) -> Vec<OsString> {
    let called = words.first().map(Path::new).and_then(Path::file_name);
    if called.is_some_and(|name| name == sendmail::NAME) {
        words.insert(1, sendmail::NAME.into());
    }
    words
}

/// Says what is wrong with the command line, or the help it asks for.
fn misused(error: &clap::Error, words: &[OsString]) -> ExitCode {
    // Who cannot be told gets the exit code.
    let _ = error.print();
    if error.use_stderr() && words.get(1).is_some_and(|word| word == sendmail::NAME) {
        return ExitCode::from(sendmail::EX_USAGE);
    }
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}

fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Runtime::new()?.block_on(work)
}

/// How to show things to whoever reads standard output now.
fn view() -> View {
    View {
        now_us: Clock::system().now_us(),
        zone: TimeZone::system(),
        width: columns(),
    }
}

/// How wide an answer may be: as the user wants it (COLUMNS), or as the terminal is; elsewhere nobody counts.
fn columns() -> Option<usize> {
    let wanted = std::env::var("COLUMNS").ok().and_then(|n| n.parse().ok());
    let terminal = || {
        let told = terminal_size::terminal_size().map(|(width, _)| usize::from(width.0));
        let told = told.filter(|columns| *columns > 0);
        let seen = io::stdout().is_terminal();
        seen.then(|| told.unwrap_or(TERMINAL_COLUMNS))
    };
    let columns = wanted.filter(|columns| *columns > 0).or_else(terminal);
    columns.map(|columns| columns.min(COLUMNS_MAX))
}

/// Prints, colours only where they belong. Who reads no further has seen enough.
fn print(text: &str) -> io::Result<()> {
    let choice = anstream::AutoStream::choice(&io::stdout());
    let mut shown = anstream::AutoStream::new(Vec::with_capacity(text.len()), choice);
    shown.write_all(text.as_bytes())?;
    let mut out = io::stdout().lock();
    let shown = shown.into_inner();
    let printed = out.write_all(&shown).and_then(|()| out.flush());
    match printed {
        Err(why) if why.kind() == ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}
