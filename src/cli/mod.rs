//! The command line: one file per command. Joins everything else; nothing else knows it.

mod demo;
mod evidence;
mod key;
mod mailbox;
mod page;
mod progress;
mod screen;
pub mod secret;
pub mod send;
mod serve;
mod stats;
pub mod timeline;
mod told;
mod verify;
mod watch;

use std::ffi::OsString;
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;

use anstream::ColorChoice;
use clap::builder::StyledStr;
use clap::{Parser, Subcommand};
use jiff::tz::TimeZone;

use self::send::sendmail;
use crate::clock::Clock;
use crate::observe::log;
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

/// The words here stand in the list of commands; the help of a command begins with those of its arguments. These are
/// laid out for the command that is used and no other: what was once touched stays in the memory of a hop.
#[derive(Subcommand)]
#[command(defer = true)]
enum Command {
    /// Stand around an MTA and report each step of tracked mail
    Serve(serve::Args),
    /// Submit a message and ask every hop on its way to report
    Send(send::Args),
    /// Submit a message as sendmail does, for mail programs, cron and scripts
    Sendmail(sendmail::Args),
    /// Show where tracked mail is, from the reports in a mailbox
    Timeline(timeline::Args),
    /// Show where tracked mail is, live: each report as it comes
    Watch(watch::Args),
    /// Counts, octets, delays, failures and routes over all messages that the reports in some mailboxes tell of: by
    /// hop, pair of hops, originator, destination, route and day
    Stats(stats::Args),
    /// Checks an evidence archive that `timeline --bundle` wrote: recomputes everything from the reports and the
    /// recorded keys in it, without a network, a mailbox or a secret
    Verify(verify::Args),
    /// Show, rotate and share a hop's keys, and make those that sign its reports
    Key(key::Args),
    /// Watch it work: three hops on this machine, no configuration
    Demo,
}

/// Runs the command line; an error is told on standard error and ends with exit code 2. Nobody waits for who reads that:
/// whoever runs a command must see that it has ended, and how.
pub fn run() -> ExitCode {
    let _ending = log::Ending;
    let words = words(std::env::args_os().collect());
    let cli = match Cli::try_parse_from(&words) {
        Ok(cli) => cli,
        Err(error) => return misused(&error, &words),
    };
    let outcome = match cli.command {
        Command::Serve(args) => Ok(serve::run(&args)),
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
        log::say(&said(&format!("{error:#}")));
        ExitCode::from(2)
    })
}

/// What this program says of itself on standard error.
fn said(words: &str) -> String {
    format!("hoptrail: {}", plain_lines(words))
}

/// The command line; a program that is called sendmail is `hoptrail sendmail`.
fn words(mut words: Vec<OsString>) -> Vec<OsString> {
    let called = words.first().map(Path::new).and_then(Path::file_name);
    if called.is_some_and(|name| name == sendmail::NAME) {
        words.insert(1, sendmail::NAME.into());
    }
    if is_sendmail(&words) {
        return sendmail::without_origins(words);
    }
    words
}

fn is_sendmail(words: &[OsString]) -> bool {
    words.get(1).is_some_and(|word| word == sendmail::NAME)
}

/// Says what is wrong with the command line, or the help it asks for.
fn misused(error: &clap::Error, words: &[OsString]) -> ExitCode {
    if error.use_stderr() {
        log::say(coloured(&error.render()).trim_end());
    } else {
        // Who cannot be told gets the exit code.
        let _ = error.print();
    }
    if error.use_stderr() && is_sendmail(words) {
        return ExitCode::from(sendmail::EX_USAGE);
    }
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}

/// With colours only where they belong.
fn coloured(words: &StyledStr) -> String {
    match anstream::AutoStream::choice(&io::stderr()) {
        ColorChoice::Never => words.to_string(),
        _ => words.ansi().to_string(),
    }
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
        colours: shows_colours(),
    }
}

/// Whether colours belong on standard output: as the user wants it (`NO_COLOR` and its like), or if it is a terminal.
fn shows_colours() -> bool {
    anstream::AutoStream::choice(&io::stdout()) != anstream::ColorChoice::Never
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
    /// What every sequence for a terminal begins with.
    const ESC: u8 = 0x1b;
    let drop = !shows_colours() && memchr::memchr(ESC, text.as_bytes()).is_some();
    let shown = drop.then(|| anstream::adapter::strip_str(text).to_string());
    let mut out = io::stdout().lock();
    let shown = shown.as_deref().unwrap_or(text);
    let printed = out.write_all(shown.as_bytes()).and_then(|()| out.flush());
    match printed {
        Err(why) if why.kind() == ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::Cli;

    #[test]
    fn the_list_says_of_a_command_what_its_own_help_begins_with() {
        let about = |command: &clap::Command| command.get_about().map(ToString::to_string);
        let listed = Cli::command();
        let mut laid_out = Cli::command();
        laid_out.build();
        for command in listed.get_subcommands() {
            let used = laid_out.find_subcommand(command.get_name());
            assert!(about(command).is_some(), "{command}");
            assert_eq!(used.and_then(about), about(command), "{command}");
        }
    }

    #[test]
    fn every_command_line_is_sound() {
        Cli::command().debug_assert();
    }
}
