//! Where mail goes from a listener: the address, what a connection to it needs to know, and why none can be had.
//! Knows nothing of tracking.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::Deserialize;
use thiserror::Error;

use super::limits::{Limits, Timeouts};
use super::tls::ClientTls;
use super::wire::{Wire, WireError};
use crate::clock::Clock;
use crate::smtp::reply::Reply;

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
    /// Its address, if that is what `host` is, or if it was looked up already.
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
            address: host.parse().ok(),
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
    #[error("it does not offer STARTTLS or does not begin it now, and TLS is required")]
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
            Self::Refused(_) => "4.3.2",
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
        wire.in_step()?;
        wire.write(format!("{verb} {}\r\n", self.hostname).as_bytes())
            .await?;
        self.reply(wire).await
    }
}
