//! The SMTP side of `hoptrail send`: connect, encrypt, log in, and one transaction whose refusals are kept
//! in the server's own words. Connection, AUTH and TLS are lettre's.
//!
//! Must not know where message, password and request came from, nor what the user is told.

use std::time::Duration;

use lettre::Address;
use lettre::transport::smtp::Error;
use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::{AsyncSmtpConnection, TlsParameters};
use lettre::transport::smtp::commands::{Data, Ehlo, Mail, Quit, Rcpt};
use lettre::transport::smtp::extension::{
    ClientId, MailBodyParameter, MailParameter, RcptParameter,
};
use lettre::transport::smtp::response::Response;
use serde::Deserialize;
use tokio::time::timeout;

use super::message::Message;
use crate::store::dialogue::{
    COMMAND_SECONDS, Keywords, MESSAGE_SECONDS, OPEN_SECONDS, QUIT_SECONDS, connect,
    without_final_crlf, words,
};
use crate::store::via::Peer;

/// Why nobody can say that the message was taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum SubmitError {
    /// For good: a person has to change something.
    #[error("{0}")]
    Refused(String),
    /// It may work later.
    #[error("{0}")]
    Later(String),
    /// The message was handed over, and no reply came.
    #[error("{0}")]
    Unanswered(String),
}

impl SubmitError {
    /// What this means for the message.
    pub(super) fn fate(&self) -> &'static str {
        match self {
            Self::Refused(_) | Self::Later(_) => UNSENT,
            Self::Unanswered(_) => "the message may have been taken, no reply to it came",
        }
    }
}

/// What any other failure means for it.
pub(super) const UNSENT: &str = "nothing was sent";

/// How the connection to the server is encrypted.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Tls {
    /// Not at all
    None,
    /// STARTTLS, certificate checked
    Starttls,
    /// TLS from the start, certificate checked
    Implicit,
    /// STARTTLS if offered; the certificate is checked only if a password goes along
    Opportunistic,
}

/// How to get at the server.
#[derive(Clone)]
pub(super) struct Access {
    pub(super) peer: Peer,
    pub(super) tls: Tls,
    pub(super) login: Option<Credentials>,
    pub(super) hello: ClientId,
    /// Whether the password may go over a connection without TLS.
    pub(super) clear_password: bool,
}

/// Who sends, who gets it, and how.
pub(super) struct Envelope {
    /// `None` is the null reverse-path.
    pub(super) from: Option<Address>,
    pub(super) recipients: Vec<Address>,
    /// Which notifications are wanted, NOTIFY and RET (RFC 3461, 4.1 and 4.3); nothing where DSN is not offered.
    pub(super) notify: Option<String>,
    pub(super) ret: Option<String>,
    /// Nobody gets it where one recipient is refused.
    pub(super) all_or_none: bool,
}

/// A session in which mail can be sent.
pub(super) struct Server {
    connection: AsyncSmtpConnection,
    offers: Keywords,
}

/// The request for reports, as parameters.
pub(super) struct Request {
    /// Goes as ENVID, and brings ORCPT with it.
    pub(super) envelope_id: Option<String>,
    /// The value of `TRACK=`.
    pub(super) track: String,
}

/// Who got it and who did not, with the reason.
pub(super) struct Outcome {
    pub(super) accepted: Vec<Address>,
    pub(super) refused: Vec<(Address, String)>,
}

impl Outcome {
    /// Whether whoever was refused may be accepted later.
    pub(super) fn is_for_now(&self) -> bool {
        let mut refused = self.refused.iter();
        refused.all(|(_, words)| words.starts_with('4'))
    }
}

impl Server {
    pub(super) async fn open(access: &Access) -> Result<Self, SubmitError> {
        let opening = async {
            // In a task of its own, because lettre panics at an EHLO line of blanks only.
            let greeting = access.clone();
            let mut connection = tokio::spawn(async move { greet(&greeting).await })
                .await
                .unwrap_or_else(|_| {
                    let reason = format!("{}: the greeting cannot be read", access.peer);
                    Err(SubmitError::Later(reason))
                })?;
            if let Some(login) = &access.login {
                log_in(&mut connection, access, login).await?;
            }
            // Once more, because lettre keeps but the keywords that it knows itself.
            let again = Ehlo::new(access.hello.clone());
            let offers = Keywords::ask(&mut connection, again)
                .await
                .map_err(refused("EHLO"))?;
            Ok(Self { connection, offers })
        };
        timeout(Duration::from_secs(OPEN_SECONDS), opening)
            .await
            .unwrap_or_else(|_| {
                let reason = format!("no answer within {OPEN_SECONDS} seconds");
                Err(SubmitError::Later(reason))
            })
    }

    /// Whether the server tracks: `TRACK` alone, or with `NOW` among its arguments.
    pub(super) fn offers_track(&self) -> bool {
        self.offers.arguments("TRACK").is_some_and(|modes| {
            let modes: Vec<&str> = modes.collect();
            modes.is_empty() || modes.iter().any(|mode| mode.eq_ignore_ascii_case("NOW"))
        })
    }

    pub(super) fn offers_dsn(&self) -> bool {
        self.offers.has("DSN")
    }

    /// One transaction. It goes on while one recipient is left.
    pub(super) async fn submit(
        &mut self,
        envelope: &Envelope,
        message: &Message,
        request: Option<&Request>,
    ) -> Result<Outcome, SubmitError> {
        let parameters = self.mail_parameters(envelope, message, request)?;
        let mail = Mail::new(envelope.from.clone(), parameters);
        self.command(mail, "the sender").await?;
        let with_orcpt = request.is_some_and(|r| r.envelope_id.is_some());
        let mut outcome = self.recipients(envelope, with_orcpt).await?;
        if envelope.all_or_none && !outcome.refused.is_empty() {
            outcome.accepted.clear();
        }
        if outcome.accepted.is_empty() {
            return Ok(outcome);
        }
        let go_on = self.command(Data, "DATA").await?;
        if !go_on.has_code(354) {
            return Err(SubmitError::Later(
                "DATA was not answered by 354".to_owned(),
            ));
        }
        let content = self.connection.message(without_final_crlf(&message.octets));
        match timeout(Duration::from_secs(MESSAGE_SECONDS), content).await {
            Ok(Ok(_)) => Ok(outcome),
            Ok(Err(error)) if error.status().is_some() => Err(refused("the message")(error)),
            Ok(Err(error)) => Err(SubmitError::Unanswered(words(&error))),
            Err(_) => {
                let reason = format!("none within {MESSAGE_SECONDS} seconds");
                Err(SubmitError::Unanswered(reason))
            }
        }
    }

    async fn recipients(
        &mut self,
        envelope: &Envelope,
        with_orcpt: bool,
    ) -> Result<Outcome, SubmitError> {
        let mut outcome = Outcome {
            accepted: Vec::new(),
            refused: Vec::new(),
        };
        let notify = envelope.notify.as_ref().filter(|_| self.offers_dsn());
        for recipient in &envelope.recipients {
            let mut parameters = orcpt(recipient, with_orcpt);
            parameters.extend(notify.map(|events| RcptParameter::Other {
                keyword: "NOTIFY".to_owned(),
                value: Some(events.clone()),
            }));
            let rcpt = Rcpt::new(recipient.clone(), parameters);
            let exchange = self.connection.command(rcpt);
            match timeout(Duration::from_secs(COMMAND_SECONDS), exchange).await {
                Ok(Ok(_)) => outcome.accepted.push(recipient.clone()),
                Ok(Err(error)) if error.status().is_some() && !is_farewell(&error) => {
                    outcome.refused.push((recipient.clone(), words(&error)));
                }
                Ok(Err(error)) => return Err(refused("a recipient")(error)),
                Err(_) => return Err(no_answer(COMMAND_SECONDS, "a recipient")),
            }
        }
        Ok(outcome)
    }

    fn mail_parameters(
        &self,
        envelope: &Envelope,
        message: &Message,
        request: Option<&Request>,
    ) -> Result<Vec<MailParameter>, SubmitError> {
        let needs = |keyword: &str, why: &str| {
            if self.offers.has(keyword) {
                return Ok(());
            }
            let reason = format!("{why}, which takes {keyword}, and the server does not offer it");
            Err(SubmitError::Refused(reason))
        };
        let mut parameters = Vec::new();
        if !message.octets.is_ascii() {
            needs("8BITMIME", "the message holds octets beyond ASCII")?;
            parameters.push(MailParameter::Body(MailBodyParameter::EightBitMime));
        }
        let addresses = envelope.recipients.iter().chain(&envelope.from);
        if addresses.map(AsRef::<str>::as_ref).any(|a| !a.is_ascii()) {
            needs("SMTPUTF8", "an address holds characters beyond ASCII")?;
            parameters.push(MailParameter::SmtpUtfEight);
        } else if message.header_is_utf8 && self.offers.has("SMTPUTF8") {
            // Without the offer such a header goes as it always did before RFC 6531.
            parameters.push(MailParameter::SmtpUtfEight);
        }
        if self.offers.has("SIZE") {
            parameters.push(MailParameter::Size(message.octets.len()));
        }
        let other = |keyword: &str, value: &str| MailParameter::Other {
            keyword: keyword.to_owned(),
            value: Some(value.to_owned()),
        };
        let ret = envelope.ret.as_ref().filter(|_| self.offers_dsn());
        parameters.extend(ret.map(|what| other("RET", what)));
        if let Some(request) = request {
            parameters.extend(request.envelope_id.iter().map(|id| other("ENVID", id)));
            parameters.push(other("TRACK", &request.track));
        }
        Ok(parameters)
    }

    async fn command(
        &mut self,
        command: impl std::fmt::Display,
        what: &str,
    ) -> Result<Response, SubmitError> {
        within(COMMAND_SECONDS, self.connection.command(command), what).await
    }

    pub(super) async fn close(mut self) {
        let quit = self.connection.command(Quit);
        let _ = timeout(Duration::from_secs(QUIT_SECONDS), quit).await;
    }
}

/// ORCPT tells hops behind an alias whom the originator meant (RFC 3461, 4.2). Its `rfc822` form is ASCII.
fn orcpt(recipient: &Address, wanted: bool) -> Vec<RcptParameter> {
    let text: &str = recipient.as_ref();
    let parameter = RcptParameter::Other {
        keyword: "ORCPT".to_owned(),
        value: Some(format!("rfc822;{text}")),
    };
    let possible = wanted && text.is_ascii();
    possible.then_some(parameter).into_iter().collect()
}

/// Connects and says EHLO, with TLS where it is wanted.
async fn greet(access: &Access) -> Result<AsyncSmtpConnection, SubmitError> {
    let (peer, hello) = (&access.peer, &access.hello);
    let cannot = |why: &dyn std::fmt::Display| SubmitError::Later(format!("{peer}: {why}"));
    if access.tls == Tls::Implicit {
        let server = (peer.host.as_str(), peer.port);
        let tls = tls_parameters(access)?;
        return AsyncSmtpConnection::connect_tokio1(server, None, hello, Some(tls), None)
            .await
            .map_err(|e| cannot(&words(&e)));
    }
    let stream = connect(peer).await.map_err(|e| cannot(&e))?;
    let mut connection = AsyncSmtpConnection::connect_with_transport(Box::new(stream), hello)
        .await
        .map_err(|e| match refused("greeting")(e) {
            SubmitError::Later(why) => cannot(&why),
            other => other,
        })?;
    match access.tls {
        Tls::Starttls if !connection.can_starttls() => Err(SubmitError::Refused(format!(
            "{peer} does not offer STARTTLS; nothing was sent in clear"
        ))),
        Tls::Starttls | Tls::Opportunistic if connection.can_starttls() => {
            let tls = tls_parameters(access)?;
            let upgrade = connection.starttls(tls, hello).await;
            upgrade.map_err(|e| cannot(&format!("TLS: {}", words(&e))))?;
            Ok(connection)
        }
        _ => Ok(connection),
    }
}

/// Opportunistic TLS takes any certificate, for any name: it is better than nothing, which is its alternative.
/// Where a password goes along it is not.
fn tls_parameters(access: &Access) -> Result<TlsParameters, SubmitError> {
    let any = access.tls == Tls::Opportunistic && access.login.is_none();
    TlsParameters::builder(access.peer.host.clone())
        .dangerous_accept_invalid_certs(any)
        .dangerous_accept_invalid_hostnames(any)
        .build()
        .map_err(|e| SubmitError::Refused(format!("TLS cannot be set up: {e}")))
}

async fn log_in(
    connection: &mut AsyncSmtpConnection,
    access: &Access,
    login: &Credentials,
) -> Result<(), SubmitError> {
    if !connection.is_encrypted() && !access.clear_password {
        let reason = "the connection is not encrypted, so the password was not sent; `--tls none` \
                      sends it in clear";
        return Err(SubmitError::Refused(reason.to_owned()));
    }
    let mechanisms = [Mechanism::Plain, Mechanism::Login];
    if !mechanisms
        .iter()
        .any(|m| connection.server_info().supports_auth_mechanism(*m))
    {
        let reason = "the server offers no AUTH PLAIN or LOGIN here";
        return Err(SubmitError::Refused(reason.to_owned()));
    }
    let answer = connection.auth(&mechanisms, login).await;
    answer.map(|_| ()).map_err(refused("the login"))
}

async fn within(
    seconds: u64,
    exchange: impl Future<Output = Result<Response, Error>>,
    what: &str,
) -> Result<Response, SubmitError> {
    match timeout(Duration::from_secs(seconds), exchange).await {
        Ok(answer) => answer.map_err(refused(what)),
        Err(_) => Err(no_answer(seconds, what)),
    }
}

fn no_answer(seconds: u64, what: &str) -> SubmitError {
    SubmitError::Later(format!("{what}: no answer within {seconds} seconds"))
}

fn refused(what: &str) -> impl FnOnce(Error) -> SubmitError {
    move |error| {
        let reason = format!("{what}: {}", words(&error));
        if error.is_permanent() {
            SubmitError::Refused(reason)
        } else {
            SubmitError::Later(reason)
        }
    }
}

/// 421 ends the session, whatever it was said to (RFC 5321, 3.8).
fn is_farewell(error: &Error) -> bool {
    error.status().is_some_and(|code| code.to_string() == "421")
}
