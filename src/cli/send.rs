//! `hoptrail send`: submits a message and asks every hop on its way to report.
//!
//! What the message was is what arrives, but for this: line ends become CRLF, Bcc and Resent-Bcc are removed, and
//! Message-ID and Date are put above the header when they are missing.
//!
//! Must not know how hops treat the request; what it means for a reader is `trail`'s.

mod account;
mod job;
mod message;
pub mod sendmail;
mod submit;

use std::fs;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use lettre::Address;

use self::account::{Account, FILE, PASSWORD_VARIABLE};
use self::job::{Job, Submitted, finish, own_host};
use self::message::{Draft, MessageError};
use self::submit::{Envelope, Outcome, SubmitError, Tls};
use super::secret;
use crate::clock::Clock;
use crate::observe::log;
use crate::trail::render::format::plain;

/// Accepted for every recipient.
const SENT: u8 = 0;
/// Refused for good, for at least one recipient; or not sent, because `--require-track` could not be met.
const REFUSED: u8 = 1;
/// The command or the message is not usable; nothing was sent.
const UNUSABLE: u8 = 2;
/// Nothing was sent, or no reply to the message came; it may work later (`EX_TEMPFAIL`).
const LATER: u8 = 75;

/// Submit a message and ask every hop on its way to report.
///
/// Reads an RFC 5322 message from standard input or a file. Server, login and sender come from send.toml in
/// ~/.config/hoptrail (or `HOPTRAIL_HOME`), unless --server is given: then nothing of that file counts.
/// Exit codes: 0 accepted for every recipient, 1 refused for at least one, 2 the command or the message is not usable,
/// 75 it may work later: nothing was sent, or the message was not answered and may have been taken.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// Who is to get the message
    #[arg(value_name = "RECIPIENT", required_unless_present = "read_recipients")]
    recipients: Vec<String>,
    /// Take the recipients from the To, Cc and Bcc fields
    #[arg(short = 't', long, conflicts_with = "recipients")]
    read_recipients: bool,
    /// Who sends, and gets the reports [default: the address in the From field]
    #[arg(short, long, value_name = "ADDRESS")]
    from: Option<String>,
    /// Read the message from this file instead of standard input
    #[arg(long, value_name = "PATH")]
    file: Option<PathBuf>,
    /// The submission server [default: localhost; default port: 25, or 465 with --tls implicit]
    #[arg(long, value_name = "HOST[:PORT]")]
    server: Option<String>,
    /// How to encrypt [default: implicit on port 465, starttls with --user unless the server is this
    /// host, else opportunistic]
    #[arg(long, value_enum)]
    tls: Option<Tls>,
    /// Log in as this user; the password comes from --password-command or `HOPTRAIL_PASSWORD`
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// A shell command whose first line of output is the password
    #[arg(long, value_name = "COMMAND", requires = "user")]
    password_command: Option<String>,
    /// Send nothing (exit code 1) where the server does not offer tracking or your secret cannot be
    /// read or made; without this the message goes untracked
    #[arg(long)]
    require_track: bool,
}

/// What the command takes from its surroundings; values, so that tests can give others.
struct Surroundings<'a> {
    input: &'a mut dyn Read,
    home: Result<PathBuf>,
    password: Option<String>,
    clock: Clock,
}

impl Surroundings<'_> {
    /// Those of this process, with its standard input.
    fn with(input: &mut dyn Read) -> Surroundings<'_> {
        Surroundings {
            input,
            home: secret::directory(),
            password: std::env::var(PASSWORD_VARIABLE).ok(),
            clock: Clock::system(),
        }
    }
}

/// Runs the command.
pub async fn run(args: Args) -> Result<ExitCode> {
    let mut input = io::stdin();
    let surroundings = Surroundings::with(&mut input);
    let (mut out, mut err) = (io::stdout(), log::aside());
    Ok(execute(args, surroundings, &mut out, &mut err)
        .await?
        .into())
}

/// Everything but the process: the exit code, and what is said to whom. `Err` only if it cannot be said.
async fn execute(
    args: Args,
    surroundings: Surroundings<'_>,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> io::Result<u8> {
    let job = match prepare(&args, surroundings) {
        Ok(job) => job,
        Err(cause) => {
            writeln!(err, "hoptrail: {}", plain(&format!("{cause:#}")))?;
            return Ok(UNUSABLE);
        }
    };
    match job.submit().await {
        Ok(submitted) => {
            // Whoever cannot be told must not think that nothing was sent, and send it again.
            let _ = tell(&job, &submitted, out, err);
            Ok(verdict(&job, &submitted.outcome))
        }
        Err(cause) => {
            let why = plain(&cause.to_string());
            writeln!(err, "hoptrail: {}: {why}", cause.fate())?;
            Ok(match cause {
                SubmitError::Refused(_) => REFUSED,
                SubmitError::Later(_) | SubmitError::Unanswered(_) => LATER,
            })
        }
    }
}

fn prepare(args: &Args, surroundings: Surroundings<'_>) -> Result<Job> {
    let sent_ms = surroundings.clock.now_ms();
    let draft = Draft::parse(&read_input(args, surroundings.input)?)?;
    let mut account = Account::default();
    if let (None, Ok(home)) = (&args.server, &surroundings.home) {
        account = Account::load(&home.join(FILE))?;
    }
    let from = args.from.as_ref().or(account.from.as_ref());
    let from = match from {
        Some(text) => address(text)?,
        None => draft.sender(None)?,
    };
    let recipients = if args.read_recipients {
        draft.recipients(None)?
    } else {
        let given = args.recipients.iter().map(|text| address(text));
        given.collect::<Result<_>>()?
    };
    let envelope = Envelope {
        from: Some(from),
        recipients,
        notify: None,
        ret: None,
        all_or_none: false,
    };
    let message = finish(draft, &envelope, sent_ms)?;
    if message.id.is_none() {
        return Err(MessageError::Unprovable.into());
    }
    Ok(Job {
        access: chosen(args, account).access(surroundings.password, &own_host())?,
        message,
        envelope,
        home: surroundings.home,
        require_track: args.require_track,
        sent_ms,
    })
}

/// The account of the file with what the command line says instead. A password is only ever for the user that
/// is named beside it.
fn chosen(args: &Args, file: Account) -> Account {
    let (user, password_command) = match &args.user {
        Some(user) => (Some(user.clone()), args.password_command.clone()),
        None => (file.user, file.password_command),
    };
    Account {
        server: args.server.clone().or(file.server),
        tls: args.tls.or(file.tls),
        user,
        password_command,
        ..Account::default()
    }
}

fn tell(
    job: &Job,
    submitted: &Submitted,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> io::Result<()> {
    let outcome = &submitted.outcome;
    if let Err(cause) = &submitted.tracked {
        let cause = plain(&format!("{cause:#}"));
        writeln!(err, "hoptrail: {cause}; the message goes untracked")?;
    }
    for (recipient, words) in &outcome.refused {
        let recipient = plain(recipient.as_ref());
        writeln!(err, "hoptrail: refused: {recipient}: {}", plain(words))?;
    }
    let (accepted, all) = (outcome.accepted.len(), job.envelope.recipients.len());
    let server = &job.access.peer;
    if accepted == 0 {
        writeln!(
            err,
            "hoptrail: nothing was sent: {server} refused every recipient"
        )?;
        return Ok(());
    }
    writeln!(err, "{server} took it for {accepted} of {all} recipients")?;
    if let Ok(id) = &submitted.tracked {
        // Alone, so that a script has it.
        writeln!(out, "{id}")?;
        writeln!(err, "where it is: hoptrail timeline MAILDIR {id}")?;
        let from = job.envelope.from.as_ref().map_or("", AsRef::as_ref);
        writeln!(
            err,
            "(MAILDIR is where the mail to {} arrives)",
            plain(from)
        )?;
    }
    Ok(())
}

/// The exit code of what the server said.
fn verdict(job: &Job, outcome: &Outcome) -> u8 {
    match outcome.accepted.len() {
        0 if outcome.is_for_now() => LATER,
        accepted if accepted == job.envelope.recipients.len() => SENT,
        _ => REFUSED,
    }
}

fn read_input(args: &Args, input: &mut dyn Read) -> Result<Vec<u8>> {
    if let Some(path) = &args.file {
        return fs::read(path).with_context(|| path.display().to_string());
    }
    let mut octets = Vec::new();
    input.read_to_end(&mut octets).context("standard input")?;
    Ok(octets)
}

fn address(text: &str) -> Result<Address> {
    text.parse()
        .with_context(|| format!("{text:?} is not an address (local@domain)"))
}

#[cfg(test)]
mod login_tests;
#[cfg(test)]
mod tests;
