//! `hoptrail sendmail`, also as a program called `sendmail`: the command that mail programs, cron and scripts call
//! to hand a message on, with the options and exit codes that they know from it.
//!
//! There is no queue here. What the server does not take at once is not sent, and the exit code says so to the
//! program that still has the message; nothing is sent either where one recipient is refused, since the program
//! would send the whole again. What the server cannot track goes untracked.

mod options;

use std::io::{self, BufRead, BufReader, Read, Write};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, anyhow};
use lettre::Address;

pub use self::options::{Args, without_origins};
use super::Surroundings;
use super::account::{Account, FILE};
use super::job::{Job, Submitted, finish, own_host};
use super::message::{Draft, addresses};
use super::submit::{Envelope, Outcome, SubmitError, UNSENT};
use crate::observe::log;
use crate::trail::render::format::plain;

/// The name by which mail programs know the command.
pub const NAME: &str = "sendmail";

// The exit codes that programs know from sendmail (sysexits.h).

/// Wrong use.
pub const EX_USAGE: u8 = 64;
/// Accepted for every recipient.
const EX_OK: u8 = 0;
/// The message is not usable.
const EX_DATAERR: u8 = 65;
/// A recipient was refused for good.
const EX_NOUSER: u8 = 67;
/// The server refused for good.
const EX_UNAVAILABLE: u8 = 69;
/// It may work later.
const EX_TEMPFAIL: u8 = 75;
/// send.toml, or the password it names.
const EX_CONFIG: u8 = 78;

/// Where the system keeps the domain of its mail.
const MAILNAME: &str = "/etc/mailname";

/// Runs the command.
pub async fn run(args: Args) -> Result<ExitCode> {
    let mut input = io::stdin();
    let surroundings = Surroundings::with(&mut input);
    let code = execute(&args, surroundings, &mut log::aside()).await;
    Ok(code.into())
}

/// A reason to say that nothing was sent or may have been, and its exit code.
type Failure = (u8, anyhow::Error);

fn with(code: u8) -> impl FnOnce(anyhow::Error) -> Failure {
    move |why| (code, why)
}

/// Everything but the process. Whoever cannot be told still gets the exit code.
async fn execute(args: &Args, surroundings: Surroundings<'_>, err: &mut dyn Write) -> u8 {
    if args.has_no_message() {
        return EX_OK;
    }
    let outcome = match prepare(args, surroundings) {
        Ok(job) => submit(args, &job, err).await,
        Err(failure) => Err(failure),
    };
    match outcome {
        Ok(()) => EX_OK,
        Err((code, why)) => {
            let fate = why.downcast_ref().map_or(UNSENT, SubmitError::fate);
            let why = plain(&format!("{why:#}"));
            let _ = writeln!(err, "hoptrail: {fate}: {why}");
            code
        }
    }
}

fn prepare(args: &Args, surroundings: Surroundings<'_>) -> Result<Job, Failure> {
    let sent_ms = surroundings.clock.now_ms();
    let path = surroundings.home.as_ref().ok().map(|home| home.join(FILE));
    let account = match args.config.as_ref().or(path.as_ref()) {
        Some(path) => Account::load(path).map_err(with(EX_CONFIG))?,
        None => Account::default(),
    };
    let access = account.access(surroundings.password, &own_host());
    let access = access.map_err(with(EX_CONFIG))?;

    let text = read(surroundings.input, args.ignores_dots()).context("standard input");
    let mut draft = Draft::parse_any(&text.map_err(with(EX_DATAERR))?);
    let domain = account.domain.clone().unwrap_or_else(mail_domain);
    let recipients = args.recipients(&draft, &domain)?;
    let from = args.from.as_ref().or(account.from.as_ref());
    let from = sender(from.map(String::as_str), &draft, &domain).map_err(with(EX_USAGE))?;
    if !draft.has("from") {
        let visible = from.clone().map_or_else(|| login(&domain), Ok);
        let visible = visible.map_err(with(EX_USAGE))?;
        draft = draft.with_from(args.full_name.as_deref(), &visible);
    }

    let envelope = Envelope {
        from,
        recipients,
        notify: args.notify.clone(),
        ret: args.ret.as_ref().map(|ret| ret.to_ascii_uppercase()),
        all_or_none: true,
    };
    Ok(Job {
        access,
        message: finish(draft, &envelope, sent_ms).map_err(with(EX_DATAERR))?,
        envelope,
        home: surroundings.home,
        require_track: false,
        sent_ms,
    })
}

async fn submit(args: &Args, job: &Job, err: &mut dyn Write) -> Result<(), Failure> {
    let submitted = job.submit().await.map_err(|cause| {
        let code = match cause {
            SubmitError::Refused(_) => EX_UNAVAILABLE,
            SubmitError::Later(_) | SubmitError::Unanswered(_) => EX_TEMPFAIL,
        };
        (code, cause.into())
    })?;
    let Submitted { outcome, tracked } = submitted;
    if !outcome.refused.is_empty() {
        return Err(refusal(&outcome));
    }
    if args.verbose {
        let tracked = match tracked {
            Ok(id) => format!("tracking id: {id}"),
            Err(cause) => format!("untracked: {}", plain(&format!("{cause:#}"))),
        };
        let _ = writeln!(err, "hoptrail: {} took it; {tracked}", job.access.peer);
    }
    Ok(())
}

/// Who was refused, and in which words.
fn refusal(outcome: &Outcome) -> Failure {
    let code = if outcome.is_for_now() {
        EX_TEMPFAIL
    } else {
        EX_NOUSER
    };
    let refused = outcome.refused.iter();
    let refused: Vec<String> = refused
        .map(|(who, words)| format!("{who}: {words}"))
        .collect();
    (code, anyhow!("refused: {}", refused.join("; ")))
}

impl Args {
    /// Those of the command line, then with -t those of the header, each once.
    fn recipients(&self, draft: &Draft, domain: &str) -> Result<Vec<Address>, Failure> {
        let mut recipients = Vec::new();
        for text in &self.recipients {
            let named = addresses(text, domain).map_err(|why| (EX_USAGE, why.into()))?;
            recipients.extend(named);
        }
        if self.read_recipients {
            match draft.recipients(Some(domain)) {
                Ok(named) => recipients.extend(named),
                Err(super::message::MessageError::NoRecipients) if !recipients.is_empty() => {}
                Err(why) => return Err((EX_DATAERR, why.into())),
            }
        }
        if recipients.is_empty() {
            return Err((
                EX_USAGE,
                anyhow!("name a recipient, or take them from the header with -t"),
            ));
        }
        let mut seen = Vec::new();
        recipients.retain(|address| {
            let first = !seen.contains(address);
            seen.push(address.clone());
            first
        });
        Ok(recipients)
    }
}

/// The reverse-path; `None` is the null one.
fn sender(named: Option<&str>, draft: &Draft, domain: &str) -> Result<Option<Address>> {
    match named {
        Some("" | "<>") => Ok(None),
        Some(text) => match addresses(text, domain)?.as_slice() {
            [one] => Ok(Some(one.clone())),
            _ => Err(anyhow!("{text:?} is more than one sender")),
        },
        None => draft
            .sender(Some(domain))
            .or_else(|_| login(domain))
            .map(Some),
    }
}

/// The user who runs this.
fn login(domain: &str) -> Result<Address> {
    let variable = |name| std::env::var(name).ok().filter(|user| !user.is_empty());
    let user = variable("LOGNAME").or_else(|| variable("USER"));
    let user = user.or_else(|| {
        let id = Command::new("id").arg("-un").output().ok()?;
        Some(String::from_utf8(id.stdout).ok()?.trim().to_owned())
    });
    let user = user.context("who runs this cannot be found out: name the sender with -f")?;
    Ok(Address::new(user, domain)?)
}

/// The domain of names that have none.
fn mail_domain() -> String {
    let mailname = std::fs::read_to_string(MAILNAME).unwrap_or_default();
    let names = [mailname.trim().to_owned(), own_host()];
    let mut names = names.into_iter().filter(|name| !name.is_empty());
    names.next().unwrap_or_else(|| "localhost".to_owned())
}

/// The message: all that comes, or what stands before a line of a single dot.
fn read(input: &mut dyn Read, ignore_dots: bool) -> io::Result<Vec<u8>> {
    let (mut input, mut text) = (BufReader::new(input), Vec::new());
    if ignore_dots {
        input.read_to_end(&mut text)?;
        return Ok(text);
    }
    loop {
        let start = text.len();
        let octets = input.read_until(b'\n', &mut text)?;
        if octets == 0 {
            return Ok(text);
        }
        if matches!(&text[start..], b".\n" | b".\r\n" | b".") {
            text.truncate(start);
            return Ok(text);
        }
    }
}

#[cfg(test)]
#[path = "sendmail_tests.rs"]
mod tests;
