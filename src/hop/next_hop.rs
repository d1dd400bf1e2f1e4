//! Where mail goes from a listener: the address, the connection, the greeting and the EHLO. Knows nothing of
//! tracking.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::Deserialize;
use thiserror::Error;

use super::connect::open;
use super::limits::{Limits, Timeouts};
use super::tls::ClientTls;
use super::wire::{Wire, WireError};
use crate::clock::Clock;
use crate::smtp::capability::Capabilities;
use crate::smtp::reply::Reply;
use crate::track::{Exchange, Stage};

/// SMTP, or LMTP (RFC 2033) with its reply for each recipient.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// RFC 5321.
    Smtp,
    /// RFC 2033.
    Lmtp,
}

/// A fixed next hop: `smtp://host:port` or `lmtp://host:port`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct NextHopAddr {
    /// What it speaks.
    pub protocol: Protocol,
    /// A name or an address.
    pub host: String,
    /// The TCP port.
    pub port: u16,
    /// Its address, if it was looked up already.
    pub address: Option<IpAddr>,
}

impl FromStr for NextHopAddr {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || {
            format!("{text:?} is no next hop: write \"smtp://host:port\" or \"lmtp://host:port\"")
        };
        let (scheme, rest) = text.split_once("://").ok_or_else(wrong)?;
        let (protocol, default_port) = match scheme {
            "smtp" => (Protocol::Smtp, 25),
            "lmtp" => (Protocol::Lmtp, 24),
            _ => return Err(wrong()),
        };
        let (host, port) = split_port(rest).ok_or_else(wrong)?;
        let port = port.map_or(Ok(default_port), |p| p.parse().map_err(|_| wrong()))?;
        if host.is_empty() || host.contains(['/', '@', ' ']) || port == 0 {
            return Err(wrong());
        }
        Ok(Self {
            protocol,
            host: host.to_owned(),
            port,
            address: None,
        })
    }
}

/// `host`, `host:port`, `[v6]` or `[v6]:port`.
fn split_port(text: &str) -> Option<(&str, Option<&str>)> {
    if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) = rest.split_once(']')?;
        return if rest.is_empty() {
            Some((host, None))
        } else {
            Some((host, Some(rest.strip_prefix(':')?)))
        };
    }
    Some(
        text.split_once(':')
            .map_or((text, None), |(host, port)| (host, Some(port))),
    )
}

impl TryFrom<String> for NextHopAddr {
    type Error = String;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl fmt::Display for NextHopAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.protocol {
            Protocol::Smtp => "smtp",
            Protocol::Lmtp => "lmtp",
        };
        if self.host.contains(':') {
            write!(f, "{scheme}://[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{scheme}://{}:{}", self.host, self.port)
        }
    }
}

/// Why a next hop could not be used.
#[derive(Debug, Error)]
pub enum ConnectError {
    /// No connection in time.
    #[error("no connection: {0}")]
    Unreachable(WireError),
    /// It went away, or spoke no SMTP, before it could be used.
    #[error("no SMTP dialogue: {0}")]
    Wire(#[from] WireError),
    /// It greeted, or answered our hello, with a refusal.
    #[error("it refused: {}", .0.text())]
    Refused(Reply),
    /// It would not be told who the client is.
    #[error("it does not take XCLIENT from us")]
    NoXclient,
    /// It does not offer TLS, or does not want to begin it now, and has to.
    #[error("it does not do STARTTLS, which is required")]
    NoTls,
    /// The handshake failed, or its certificate is not to be believed.
    #[error("no TLS with it: {0}")]
    Handshake(WireError),
}

impl ConnectError {
    /// The enhanced status code of a failure that is not the next hop's own words (RFC 3463, 3.5 and 3.8).
    pub fn status(&self) -> &'static str {
        match self {
            Self::NoTls => "4.7.4",
            Self::Handshake(_) | Self::Wire(WireError::Injected) => "4.7.5",
            _ => "4.4.1",
        }
    }
}

/// What a connection needs to know of its hop.
#[derive(Clone, Copy, Debug)]
pub struct Manners<'a> {
    /// The name we say hello with.
    pub hostname: &'a str,
    /// For stamps.
    pub clock: Clock,
    /// Bounds.
    pub limits: &'a Limits,
    /// Waits.
    pub timeouts: &'a Timeouts,
    /// TLS with the next hop, if it is wanted.
    pub tls: Option<&'a ClientTls>,
}

impl Manners<'_> {
    /// Reads the next reply.
    pub async fn reply(&self, wire: &mut Wire) -> Result<Reply, WireError> {
        wire.reply(self.limits.reply_octets_max, self.timeouts.reply())
            .await
    }

    /// Says hello.
    pub async fn hello(&self, verb: &str, wire: &mut Wire) -> Result<Reply, WireError> {
        wire.write(format!("{verb} {}\r\n", self.hostname).as_bytes())
            .await?;
        self.reply(wire).await
    }
}

/// A next hop that greeted us and answered our hello: egress and delivery speak to it.
#[derive(Debug)]
pub struct Peer {
    /// The connection.
    pub wire: Wire,
    /// The name it greeted with, else as configured.
    pub name: String,
    /// What it offers.
    pub capabilities: Capabilities,
    /// When the hello was said and answered.
    pub hello: Exchange,
    /// A transaction went over this connection before, so it may have been closed meanwhile.
    pub used: bool,
    protocol: Protocol,
    limits: Limits,
    timeouts: Timeouts,
}

impl Peer {
    /// Connects and says hello. A server that refuses EHLO is greeted with HELO (RFC 5321, 3.2): mail
    /// outranks extensions.
    pub async fn connect(to: &NextHopAddr, manners: Manners<'_>) -> Result<Self, ConnectError> {
        let (mut wire, greeting) = open(to, b"", manners).await?;
        if !greeting.is_positive() {
            return Err(ConnectError::Refused(greeting));
        }
        let verbs: &[&str] = match to.protocol {
            Protocol::Smtp => &["EHLO", "HELO"],
            Protocol::Lmtp => &["LHLO"],
        };
        let mut refusal = None;
        for verb in verbs {
            let command_us = manners.clock.now_us();
            let reply = manners.hello(verb, &mut wire).await?;
            let reply_us = manners.clock.now_us();
            if reply.is_positive() {
                return Ok(Self {
                    wire,
                    name: greeted_name(&greeting).unwrap_or_else(|| to.host.clone()),
                    capabilities: Capabilities::of(&reply),
                    hello: Exchange {
                        stage: Stage::Ehlo,
                        command_us,
                        reply_us,
                    },
                    used: false,
                    protocol: to.protocol,
                    limits: *manners.limits,
                    timeouts: *manners.timeouts,
                });
            }
            let again = reply.is_permanent();
            refusal = Some(reply);
            if !again {
                break;
            }
        }
        Err(refusal.map_or(
            ConnectError::Wire(WireError::Malformed),
            ConnectError::Refused,
        ))
    }

    /// Sends one command line (without CRLF) and reads its reply.
    pub async fn command(&mut self, line: &[u8]) -> Result<Reply, WireError> {
        self.wire.write(&[line, b"\r\n"].concat()).await?;
        self.reply().await
    }

    /// Reads one reply.
    pub async fn reply(&mut self) -> Result<Reply, WireError> {
        let (octets_max, limit) = (self.limits.reply_octets_max, self.timeouts.reply());
        self.wire.reply(octets_max, limit).await
    }

    /// Reads the reply, or over LMTP the replies, to the end of a message: one for each of `accepted` recipients, in
    /// order. A next hop that breaks off between them has given its word for those it answered: their replies come
    /// back beside the error.
    pub async fn final_replies(&mut self, accepted: usize) -> (Vec<Reply>, Option<WireError>) {
        let (octets_max, limit) = (self.limits.reply_octets_max, self.timeouts.final_reply());
        let mut replies = Vec::with_capacity(accepted);
        while replies.len() < accepted {
            match self.wire.reply(octets_max, limit).await {
                Ok(reply) if self.protocol == Protocol::Lmtp => replies.push(reply),
                Ok(reply) => replies.resize(accepted, reply),
                Err(error) => return (replies, Some(error)),
            }
        }
        (replies, None)
    }
}

impl Peer {
    /// Says goodbye. A courtesy: the next hop may be gone, and nothing hangs on its answer.
    pub async fn quit(mut self) {
        let _ = self.wire.write(b"QUIT\r\n").await;
        self.wire.shut().await;
    }
}

/// The first word of a greeting, if it can stand in a report as a host name.
fn greeted_name(greeting: &Reply) -> Option<String> {
    let text = std::str::from_utf8(greeting.lines().next()?).ok()?;
    let name = text.split_whitespace().next()?;
    let good =
        |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'[' | b']' | b':');
    (name.len() <= 255 && name.contains('.') && name.bytes().all(good)).then(|| name.to_owned())
}
