//! What both our uses of lettre's connection need beyond what it offers: every EHLO keyword (it keeps four),
//! a server's own words out of its errors, and mail that arrives octet for octet.

use std::fmt::Display;

use lettre::transport::smtp::client::AsyncSmtpConnection;
use lettre::transport::smtp::extension::Extension;
use lettre::transport::smtp::response::Response;
use tokio::net::TcpStream;

use super::via::Peer;

/// From the connection to the reply to EHLO, TLS included.
pub(crate) const OPEN_SECONDS: u64 = 60;
/// For the reply to a command (RFC 5321, 4.5.3.2).
pub(crate) const COMMAND_SECONDS: u64 = 300;
/// For the message and the reply to its final dot (RFC 5321, 4.5.3.2.6).
pub(crate) const MESSAGE_SECONDS: u64 = 600;
/// For the reply to QUIT, which nobody needs.
pub(crate) const QUIT_SECONDS: u64 = 2;

/// A plain connection without Nagle's delay: lettre writes a message and its final dot apart, so that the
/// dot would wait for the peer's delayed acknowledgement, 40 ms a message.
pub(crate) async fn connect(peer: &Peer) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect((peer.host.as_str(), peer.port)).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// What a server's EHLO reply offers: keyword and arguments, each line after the first.
#[derive(Clone, Debug, Default)]
pub(crate) struct Keywords(Vec<String>);

impl Keywords {
    /// Out of the reply to EHLO or LHLO.
    fn of(reply: &Response) -> Self {
        Self(reply.message().skip(1).map(str::to_owned).collect())
    }

    /// Greets a second time for them. A server that takes one hello in a session (`OpenSMTPD`) is taken to offer no more
    /// than what lettre has kept.
    pub(crate) async fn ask(
        connection: &mut AsyncSmtpConnection,
        greeting: impl Display,
    ) -> Result<Self, lettre::transport::smtp::Error> {
        match connection.command(greeting).await {
            Ok(reply) => Ok(Self::of(&reply)),
            Err(refusal) if refusal.is_permanent() => Ok(Self::kept(connection)),
            Err(error) => Err(error),
        }
    }

    fn kept(connection: &AsyncSmtpConnection) -> Self {
        let known = [
            (Extension::EightBitMime, "8BITMIME"),
            (Extension::SmtpUtfEight, "SMTPUTF8"),
        ];
        let server = connection.server_info();
        let kept = known
            .into_iter()
            .filter(|(extension, _)| server.supports_feature(*extension));
        Self(kept.map(|(_, keyword)| keyword.to_owned()).collect())
    }

    /// The arguments of `keyword`, if it is offered; keywords have no case (RFC 5321, 2.4).
    pub(crate) fn arguments(&self, keyword: &str) -> Option<impl Iterator<Item = &str>> {
        self.0.iter().find_map(|line| {
            let mut words = line.split_ascii_whitespace();
            let offered = words.next()?.eq_ignore_ascii_case(keyword);
            offered.then_some(words)
        })
    }

    /// Whether `keyword` is offered.
    pub(crate) fn has(&self, keyword: &str) -> bool {
        self.arguments(keyword).is_some()
    }
}

/// The server's reply in its own words (`550 5.1.1 no such user`), or what else went wrong.
pub(crate) fn words(error: &lettre::transport::smtp::Error) -> String {
    use std::error::Error as _;
    match (error.status(), error.source()) {
        (Some(code), Some(text)) => format!("{code} {text}"),
        _ => error.to_string(),
    }
}

/// `mail` without its last CRLF, because lettre ends every message with one of its own before the dot.
pub(crate) fn without_final_crlf(mail: &[u8]) -> &[u8] {
    mail.strip_suffix(b"\r\n").unwrap_or(mail)
}
