//! The options of sendmail, as its many callers use them.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches, Command, FromArgMatches};

/// Submit a message as sendmail does, for mail programs, cron and scripts.
///
/// Works under the name sendmail too, by a link. Reads the message from standard input and prints nothing.
/// Server, login and sender come from send.toml in ~/.config/hoptrail. Exit codes: 0 accepted for every
/// recipient, 64 wrong use, 65 the message is not usable, 67 a recipient was refused, 69 the server refused,
/// 75 it may work later, 78 send.toml or the password is wrong; in all but the first nothing was sent, unless it is
/// said that the message was not answered (75).
#[derive(clap::Args, Clone, Debug)]
#[command(
    disable_help_flag = true,
    disable_version_flag = true,
    args_override_self = true
)]
pub struct Args {
    /// Who is to get the message
    #[arg(value_name = "RECIPIENT")]
    pub(super) recipients: Vec<String>,
    /// Send to the addresses in the To, Cc and Bcc fields as well
    #[arg(short = 't')]
    pub(super) read_recipients: bool,
    /// A line of a single dot does not end the message; so does -oi
    #[arg(short = 'i')]
    ignore_dots: bool,
    /// Who sends, and gets the reports; <> is nobody
    /// [default: from in send.toml, else the address in the From field, else the user at this host]
    #[arg(short = 'f', value_name = "ADDRESS", visible_short_alias = 'r')]
    pub(super) from: Option<String>,
    /// The sender's name, for a message without From field
    #[arg(short = 'F', value_name = "NAME")]
    pub(super) full_name: Option<String>,
    /// Read this file instead of send.toml
    #[arg(short = 'C', value_name = "PATH")]
    pub(super) config: Option<PathBuf>,
    /// Which notifications are wanted, as in NOTIFY=: never, or some of success,failure,delay
    #[arg(short = 'N', value_name = "EVENTS", value_parser = events)]
    pub(super) notify: Option<String>,
    /// What notifications are to bring back, as in RET=: full or hdrs
    #[arg(short = 'R', value_name = "WHAT", value_parser = ["full", "hdrs"], ignore_case = true)]
    pub(super) ret: Option<String>,
    /// Say what became of the message, on standard error
    #[arg(short = 'v')]
    pub(super) verbose: bool,
    /// -bm, hand a message on, is what is done here; -bi, make the alias table anew, is nothing to do
    #[arg(short = 'b', value_name = "MODE", value_parser = mode)]
    mode: Option<String>,
    /// Send what waits in the queue, where there is one: nothing to do without recipients
    #[arg(short = 'q', value_name = "TIME", num_args = 0..=1, default_missing_value = "")]
    queue: Option<String>,
    /// Options of sendmail; i is known, others change nothing here
    #[arg(short = 'o', value_name = "OPTION", action = ArgAction::Append)]
    options: Vec<String>,
    #[command(flatten)]
    _unused: Unused,
    /// Print help
    #[arg(long, action = ArgAction::Help)]
    help: Option<bool>,
}

/// Options that programs give to every sendmail and that change nothing where there is no queue: with a value, and
/// without.
const VALUED: [&str; 9] = ["A", "B", "e", "h", "L", "O", "p", "V", "X"];
const FLAGS: [&str; 4] = ["G", "m", "n", "U"];

/// Options of Exim's that say where a message comes from, each with its value in the next word. Sendmail's -oM, which sets
/// a macro, has all in one word.
const ORIGINS: [&str; 9] = [
    "-oMa", "-oMaa", "-oMai", "-oMas", "-oMi", "-oMm", "-oMr", "-oMs", "-oMt",
];

/// The command line without the values of these, which change nothing here and would be taken for recipients.
pub fn without_origins(words: Vec<OsString>) -> Vec<OsString> {
    let mut kept = Vec::with_capacity(words.len());
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        if word == "--" {
            kept.push(word);
            kept.extend(words);
            break;
        }
        if ORIGINS.iter().any(|origin| word == *origin) {
            words.next();
        } else {
            kept.push(word);
        }
    }
    kept
}

/// They are taken, and that is all.
#[derive(Clone, Debug)]
struct Unused;

impl clap::Args for Unused {
    fn augment_args(command: Command) -> Command {
        let unused = |id: &'static str| Arg::new(id).short(id.chars().next()).hide(true);
        command
            .args(VALUED.map(|id| unused(id).action(ArgAction::Append)))
            .args(FLAGS.map(|id| unused(id).action(ArgAction::Count)))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Unused {
    fn from_arg_matches(_: &ArgMatches) -> Result<Self, clap::Error> {
        Ok(Self)
    }

    fn update_from_arg_matches(&mut self, _: &ArgMatches) -> Result<(), clap::Error> {
        Ok(())
    }
}

/// What sendmail can be besides, and hoptrail is not.
fn mode(text: &str) -> Result<String, &'static str> {
    if ["m", "i"].contains(&text) {
        return Ok(text.to_owned());
    }
    Err(
        "a message is handed on at once (-bm), and that is all: there is no queue to show (-bp), no daemon (-bd), \
         and no SMTP on standard input (-bs)",
    )
}

/// NOTIFY's value (RFC 3461, 4.1).
fn events(text: &str) -> Result<String, String> {
    let known = |event: &str| ["SUCCESS", "FAILURE", "DELAY"].contains(&event);
    let text = text.to_ascii_uppercase();
    if text == "NEVER" || text.split(',').all(known) {
        Ok(text)
    } else {
        Err("never, or some of success,failure,delay".to_owned())
    }
}

impl Args {
    /// Whether it is called about the queue or the alias table, which are not there, and not with a message.
    pub(super) fn has_no_message(&self) -> bool {
        let names_nobody = self.recipients.is_empty() && !self.read_recipients;
        self.mode.as_deref() == Some("i") || self.queue.is_some() && names_nobody
    }

    /// Whether a line of a single dot is a line like any other.
    pub(super) fn ignores_dots(&self) -> bool {
        self.ignore_dots || self.options.iter().any(|option| option == "i")
    }
}
