//! Reports over SMTP or LMTP, by lettre's connection: one connection, a transaction for each report.
//!
//! `NOTIFY=NEVER` goes along where DSN is offered (RFC 3461, 4.1): a report that cannot be delivered must
//! not cause another mail. Where the server reads ahead (RFC 2920), all commands of a transaction go in one
//! write.

use std::time::Duration;

use lettre::transport::smtp::Error;
use lettre::transport::smtp::client::{AsyncSmtpConnection, TlsParameters};
use lettre::transport::smtp::commands::{Data, Quit, Rset};
use lettre::transport::smtp::extension::ClientId;
use lettre::transport::smtp::response::{Response, Severity};
use memchr::memmem;
use tokio::time::timeout;

use super::dialogue::{
    COMMAND_SECONDS, Keywords, MESSAGE_SECONDS, OPEN_SECONDS, QUIT_SECONDS, connect,
    without_final_crlf, words,
};
use super::lhlo::Lhlo;
use super::via::{Failure, Peer};

pub(super) struct SmtpSession {
    connection: AsyncSmtpConnection,
    offers: Keywords,
}

impl SmtpSession {
    pub(super) async fn open(peer: &Peer, hello: &ClientId) -> Result<Self, String> {
        Self::begin(peer, format!("EHLO {hello}\r\n"), async {
            let stream = connect(peer).await.map_err(|e| e.to_string())?;
            AsyncSmtpConnection::connect_with_transport(Box::new(stream), hello)
                .await
                .map_err(|e| words(&e))
        })
        .await
    }

    pub(super) async fn open_tls(
        peer: &Peer,
        hello: &ClientId,
        tls: &TlsParameters,
    ) -> Result<Self, String> {
        let server = (peer.host.as_str(), peer.port);
        let within = Some(Duration::from_secs(OPEN_SECONDS));
        Self::begin(peer, format!("EHLO {hello}\r\n"), async {
            AsyncSmtpConnection::connect_tokio1(server, within, hello, Some(tls.clone()), None)
                .await
                .map_err(|e| words(&e))
        })
        .await
    }

    pub(super) async fn open_lmtp(peer: &Peer, hello: &ClientId) -> Result<Self, String> {
        Self::begin(peer, format!("LHLO {hello}\r\n"), async {
            let stream = connect(peer).await.map_err(|e| e.to_string())?;
            AsyncSmtpConnection::connect_with_transport(Box::new(Lhlo::new(stream)), hello)
                .await
                .map_err(|e| words(&e))
        })
        .await
    }

    /// Connects, and greets a second time: lettre keeps only the keywords that it knows itself.
    async fn begin(
        peer: &Peer,
        greeting: String,
        connect: impl Future<Output = Result<AsyncSmtpConnection, String>>,
    ) -> Result<Self, String> {
        let opening = async {
            let mut connection = connect.await?;
            let offers = Keywords::ask(&mut connection, greeting)
                .await
                .map_err(|e| words(&e))?;
            Ok(Self { connection, offers })
        };
        timeout(Duration::from_secs(OPEN_SECONDS), opening)
            .await
            .unwrap_or_else(|_| Err(format!("no answer within {OPEN_SECONDS} seconds")))
            .map_err(|reason: String| format!("{peer}: {reason}"))
    }

    /// One transaction. Only a refusal of the recipient or of the mail itself is for good: a refused MAIL
    /// concerns us, not them, and may be set right while the report waits.
    pub(super) async fn send(&mut self, recipient: &str, mail: &[u8]) -> Result<(), Failure> {
        let (from, to) = self.envelope(recipient, mail)?;
        let begun = if self.offers.has("PIPELINING") {
            self.begin_at_once(&from, &to).await
        } else {
            self.begin_by_steps(&from, &to).await
        };
        let outcome = match begun {
            Ok(()) => self.content(mail).await,
            Err(failure) => Err(failure),
        };
        if let Err(Failure::Later(_) | Failure::Never(_)) = &outcome {
            // A server that will not even reset is of no use to the next report; that one will notice.
            let _ = self.command(Rset).await;
        }
        outcome
    }

    async fn begin_by_steps(&mut self, from: &str, to: &str) -> Result<(), Failure> {
        self.command(from).await.map_err(concerning_us)?;
        self.command(to).await?;
        let reply = self.command(Data).await?;
        go_ahead(&reply)
    }

    /// MAIL, RCPT and DATA in one write. A server may say 354 though it refused what came before; then it
    /// gets a message of nothing (RFC 2920, 3.1).
    async fn begin_at_once(&mut self, from: &str, to: &str) -> Result<(), Failure> {
        let mail = self.command([from, to, "DATA\r\n"].concat()).await;
        let mail = refusal(mail.map_err(concerning_us))?;
        let rcpt = refusal(self.reply().await)?;
        let data = self.reply().await;
        let Some(refused) = mail.or(rcpt) else {
            return go_ahead(&data?);
        };
        if refusal(data)?.is_none() {
            refusal(self.command(".\r\n").await)?;
        }
        Err(refused)
    }

    async fn content(&mut self, mail: &[u8]) -> Result<(), Failure> {
        let reply = if let Ok(text) = std::str::from_utf8(mail) {
            within(MESSAGE_SECONDS, self.connection.command(stuffed(text))).await?
        } else {
            let content = self.connection.message(without_final_crlf(mail));
            within(MESSAGE_SECONDS, content).await?
        };
        if reply.code().severity == Severity::PositiveCompletion {
            Ok(())
        } else {
            Err(Failure::Broken(format!("{} after the dot", reply.code())))
        }
    }

    /// The MAIL and RCPT commands. An address beyond ASCII needs SMTPUTF8 (RFC 6531, 3.4).
    fn envelope(&self, recipient: &str, mail: &[u8]) -> Result<(String, String), Failure> {
        let mut from = "MAIL FROM:<>".to_owned();
        if !recipient.is_ascii() {
            if !self.offers.has("SMTPUTF8") {
                let reason = "the originator's address needs SMTPUTF8, which is not offered";
                return Err(Failure::Never(reason.to_owned()));
            }
            from.push_str(" SMTPUTF8");
        }
        if !mail.is_ascii() && self.offers.has("8BITMIME") {
            from.push_str(" BODY=8BITMIME");
        }
        let never = if self.offers.has("DSN") {
            " NOTIFY=NEVER"
        } else {
            ""
        };
        Ok((
            format!("{from}\r\n"),
            format!("RCPT TO:<{recipient}>{never}\r\n"),
        ))
    }

    async fn command(&mut self, command: impl std::fmt::Display) -> Result<Response, Failure> {
        within(COMMAND_SECONDS, self.connection.command(command)).await
    }

    /// The reply to a command that went along with an earlier one.
    async fn reply(&mut self) -> Result<Response, Failure> {
        within(COMMAND_SECONDS, self.connection.read_response()).await
    }

    pub(super) async fn close(mut self) {
        let quit = self.connection.command(Quit);
        let _ = timeout(Duration::from_secs(QUIT_SECONDS), quit).await;
    }
}

/// A refused MAIL may be set right while the report waits.
fn concerning_us(failure: Failure) -> Failure {
    match failure {
        Failure::Never(reason) => Failure::Later(reason),
        other => other,
    }
}

/// What was refused, if the session goes on.
fn refusal(reply: Result<Response, Failure>) -> Result<Option<Failure>, Failure> {
    match reply {
        Ok(_) => Ok(None),
        Err(broken @ Failure::Broken(_)) => Err(broken),
        Err(refused) => Ok(Some(refused)),
    }
}

fn go_ahead(reply: &Response) -> Result<(), Failure> {
    if reply.has_code(354) {
        Ok(())
    } else {
        Err(Failure::Broken("DATA was not answered by 354".to_owned()))
    }
}

/// The text with its dots doubled (RFC 5321, 4.5.2) and the end of data, for one write.
fn stuffed(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 64);
    if text.starts_with('.') {
        out.push('.');
    }
    let mut rest = text;
    while let Some(at) = memmem::find(rest.as_bytes(), b"\r\n.") {
        let (lines, dotted) = rest.split_at(at + 2);
        out.push_str(lines);
        out.push('.');
        rest = dotted;
    }
    out.push_str(rest);
    if !rest.ends_with("\r\n") {
        out.push_str("\r\n");
    }
    out.push_str(".\r\n");
    out
}

async fn within(
    seconds: u64,
    exchange: impl Future<Output = Result<Response, Error>>,
) -> Result<Response, Failure> {
    match timeout(Duration::from_secs(seconds), exchange).await {
        Ok(Ok(reply)) => Ok(reply),
        Ok(Err(error)) => Err(failure(&error)),
        Err(_) => Err(Failure::Broken(format!(
            "no answer within {seconds} seconds"
        ))),
    }
}

fn failure(error: &Error) -> Failure {
    let reason = words(error);
    if error.is_permanent() {
        Failure::Never(reason)
    } else if error.is_transient() && !reason.starts_with("421") {
        Failure::Later(reason)
    } else {
        // 421 closes the channel (RFC 5321, 3.8); anything else is no reply at all.
        Failure::Broken(reason)
    }
}
