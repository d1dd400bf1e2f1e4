//! `hoptrail send`: submits a message and asks every hop on its way to report.
//!
//! What the message was is what arrives, but for this: line ends become CRLF, a Bcc field is removed, and
//! Message-ID and Date are put above the header when they are missing.
//!
//! Must not know how hops treat the request; what it means for a reader is `trail`'s.

mod message;
mod submit;

use std::fs;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail, ensure};
use lettre::Address;
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::extension::ClientId;

use self::message::{Draft, Message, id_host};
use self::submit::{Access, Outcome, Request, Server, SubmitError};
use super::secret;
use crate::clock::Clock;
use crate::store::transport::Peer;
use crate::track::TrackingId;
use crate::trail::render::format::plain;

/// Where the password is looked for when no command gives it.
const PASSWORD_VARIABLE: &str = "HOPTRAIL_PASSWORD";

const PORT_SMTP: u16 = 25;
const PORT_SUBMISSIONS: u16 = 465;

/// Accepted for every recipient.
const SENT: u8 = 0;
/// Refused for good, for at least one recipient; or not sent, because `--require-track` could not be met.
const REFUSED: u8 = 1;
/// The command or the message is not usable; nothing was sent.
const UNUSABLE: u8 = 2;
/// Nothing was sent, but it may work later (`EX_TEMPFAIL`).
const LATER: u8 = 75;

/// Submit a message and ask every hop on its way to report.
///
/// Reads an RFC 5322 message from standard input or a file. Exit codes: 0 accepted for every recipient,
/// 1 refused for at least one, 2 the command or the message is not usable, 75 nothing was sent but it may
/// work later.
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
    /// The submission server [default port: 25, or 465 with --tls implicit]
    #[arg(long, value_name = "HOST[:PORT]", default_value = "localhost")]
    server: String,
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

/// How the connection to the server is encrypted.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
enum Tls {
    /// Not at all
    None,
    /// STARTTLS, certificate checked
    Starttls,
    /// TLS from the start, certificate checked
    Implicit,
    /// STARTTLS if offered; the certificate is checked only if a password goes along
    Opportunistic,
}

/// What the command takes from its surroundings; values, so that tests can give others.
struct Surroundings<'a> {
    input: &'a mut dyn Read,
    home: Result<PathBuf>,
    password: Option<String>,
    clock: Clock,
}

/// Runs the command.
pub async fn run(args: Args) -> Result<ExitCode> {
    let surroundings = Surroundings {
        input: &mut io::stdin(),
        home: secret::directory(),
        password: std::env::var(PASSWORD_VARIABLE).ok(),
        clock: Clock::system(),
    };
    let (mut out, mut err) = (io::stdout(), io::stderr());
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
    let sent_ms = surroundings.clock.now_ms();
    let job = match Job::prepare(&args, surroundings, sent_ms) {
        Ok(job) => job,
        Err(cause) => {
            writeln!(err, "hoptrail: {}", plain(&format!("{cause:#}")))?;
            return Ok(UNUSABLE);
        }
    };
    match job.submit(err).await {
        Ok((outcome, tracked)) => {
            // Whoever cannot be told must not think that nothing was sent, and send it again.
            let _ = job.tell(&outcome, tracked.as_ref(), out, err);
            Ok(job.verdict(&outcome))
        }
        Err(cause) => {
            writeln!(
                err,
                "hoptrail: nothing was sent: {}",
                plain(&cause.to_string())
            )?;
            Ok(match cause {
                SubmitError::Refused(_) => REFUSED,
                SubmitError::Later(_) => LATER,
            })
        }
    }
}

/// All that is known before the server is asked.
struct Job {
    access: Access,
    from: Address,
    recipients: Vec<Address>,
    message: Message,
    own_host: String,
    home: Result<PathBuf>,
    require_track: bool,
    sent_ms: i64,
}

impl Job {
    fn prepare(args: &Args, surroundings: Surroundings<'_>, sent_ms: i64) -> Result<Self> {
        let draft = Draft::parse(&read_input(args, surroundings.input)?)?;
        let from = match &args.from {
            Some(text) => address(text)?,
            None => draft.sender()?,
        };
        let recipients = if args.read_recipients {
            draft.recipients()?
        } else {
            let given = args.recipients.iter().map(|text| address(text));
            given.collect::<Result<_>>()?
        };
        let own_host = hostname::get()
            .ok()
            .and_then(|name| name.into_string().ok())
            .unwrap_or_default();
        let message = draft.finish(id_host(&from, &own_host), random()?, sent_ms)?;
        Ok(Self {
            access: access(args, surroundings.password, &own_host)?,
            from,
            recipients,
            message,
            own_host,
            home: surroundings.home,
            require_track: args.require_track,
            sent_ms,
        })
    }

    /// The outcome, and the tracking id if the message is tracked.
    async fn submit(
        &self,
        err: &mut dyn Write,
    ) -> Result<(Outcome, Option<TrackingId>), SubmitError> {
        let mut server = Server::open(&self.access).await?;
        let asked = self.request(&server);
        let (request, id) = match asked {
            Ok((request, id)) => (Some(request), Some(id)),
            Err(cause) if self.require_track => {
                server.close().await;
                return Err(SubmitError::Refused(format!("{cause:#}")));
            }
            Err(cause) => {
                // If even this cannot be said, the mail matters more.
                let cause = plain(&format!("{cause:#}"));
                let _ = writeln!(err, "hoptrail: {cause}; the message goes untracked");
                (None, None)
            }
        };
        let outcome = server
            .submit(
                &self.from,
                &self.recipients,
                &self.message,
                request.as_ref(),
            )
            .await;
        server.close().await;
        Ok((outcome?, id))
    }

    /// The request with a fresh tracking id, or why the message cannot be tracked.
    fn request(&self, server: &Server) -> Result<(Request, TrackingId)> {
        if !server.offers_track() {
            bail!("{} does not offer TRACK", self.access.peer);
        }
        let home = self.home.as_deref().map_err(|e| anyhow::anyhow!("{e:#}"))?;
        let sent_ms = u64::try_from(self.sent_ms).context("the clock stands before 1970")?;
        let certificate = secret::load_or_create_in(home)?.certificate(&self.message.id, sent_ms);
        let random = random()?;
        let attributes = format!("NOW:c256/{certificate}:t/{sent_ms}");
        if !server.offers_dsn() {
            let id = TrackingId::mint(random);
            let request = Request {
                envelope_id: None,
                track: format!("{attributes}:id/{id}"),
            };
            return Ok((request, id));
        }
        let host = id_host(&self.from, &self.own_host);
        let id = TrackingId::new(&format!("{random:032x}@{host}"))
            .unwrap_or_else(|| TrackingId::mint(random));
        let request = Request {
            envelope_id: Some(id.to_string()),
            track: attributes,
        };
        Ok((request, id))
    }

    fn tell(
        &self,
        outcome: &Outcome,
        tracked: Option<&TrackingId>,
        out: &mut dyn Write,
        err: &mut dyn Write,
    ) -> io::Result<()> {
        for (recipient, words) in &outcome.refused {
            let recipient = plain(recipient.as_ref());
            writeln!(err, "hoptrail: refused: {recipient}: {}", plain(words))?;
        }
        let (accepted, all) = (outcome.accepted.len(), self.recipients.len());
        let server = &self.access.peer;
        if accepted == 0 {
            writeln!(
                err,
                "hoptrail: nothing was sent: {server} refused every recipient"
            )?;
            return Ok(());
        }
        writeln!(out, "{server} took it for {accepted} of {all} recipients")?;
        if let Some(id) = tracked {
            writeln!(out, "tracking id: {id}")?;
            writeln!(out, "where it is: hoptrail timeline MAILDIR {id}")?;
            let from = plain(self.from.as_ref());
            writeln!(out, "(MAILDIR is where the mail to {from} arrives)")?;
        }
        Ok(())
    }

    /// The exit code of what the server said.
    fn verdict(&self, outcome: &Outcome) -> u8 {
        let for_now = || {
            outcome
                .refused
                .iter()
                .all(|(_, words)| words.starts_with('4'))
        };
        match outcome.accepted.len() {
            0 if for_now() => LATER,
            accepted if accepted == self.recipients.len() => SENT,
            _ => REFUSED,
        }
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

fn access(args: &Args, password: Option<String>, own_host: &str) -> Result<Access> {
    let default_port = match args.tls {
        Some(Tls::Implicit) => PORT_SUBMISSIONS,
        _ => PORT_SMTP,
    };
    let peer = Peer::parse(&args.server, default_port)?;
    let local = peer.host == "localhost"
        || peer
            .host
            .parse()
            .is_ok_and(|ip: std::net::IpAddr| ip.is_loopback());
    let tls = args.tls.unwrap_or(match (peer.port, &args.user) {
        (PORT_SUBMISSIONS, _) => Tls::Implicit,
        (_, Some(_)) if !local => Tls::Starttls,
        _ => Tls::Opportunistic,
    });
    let login = match &args.user {
        Some(user) => Some(Credentials::new(
            user.clone(),
            ask_password(args, password)?,
        )),
        None => None,
    };
    let named = own_host
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b"-.".contains(&b));
    let hello = if named && !own_host.is_empty() {
        ClientId::Domain(own_host.to_owned())
    } else {
        ClientId::Ipv4(std::net::Ipv4Addr::LOCALHOST)
    };
    Ok(Access {
        peer,
        tls,
        login,
        hello,
        clear_password: local || tls == Tls::None,
    })
}

/// Never from the command line, where every user of the host could read it.
fn ask_password(args: &Args, from_environment: Option<String>) -> Result<String> {
    let Some(command) = &args.password_command else {
        return from_environment.with_context(|| {
            format!("--user needs a password: give --password-command or set {PASSWORD_VARIABLE}")
        });
    };
    let output = Command::new("/bin/sh")
        .args(["-c", command])
        .stderr(std::process::Stdio::inherit())
        .output()
        .context("--password-command")?;
    ensure!(
        output.status.success(),
        "--password-command: {}",
        output.status
    );
    let text = String::from_utf8(output.stdout).context("--password-command: not UTF-8")?;
    let password = text.lines().next().unwrap_or_default();
    ensure!(
        !password.is_empty(),
        "--password-command printed no password"
    );
    Ok(password.to_owned())
}

fn random() -> Result<u128> {
    let mut octets = [0; 16];
    getrandom::fill(&mut octets)?;
    Ok(u128::from_ne_bytes(octets))
}

#[cfg(test)]
mod login_tests;
#[cfg(test)]
mod tests;
