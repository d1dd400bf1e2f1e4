//! A next hop in a dialogue: connected, greeted, its hello answered; commands to it and its replies. Knows nothing of
//! tracking.

use super::connect::open;
use super::deadline::Wait;
use super::limits::{Limits, Timeouts};
use super::next_hop::{ConnectError, Manners, NextHopAddr, Protocol};
use super::wire::{Wire, WireError};
use crate::smtp::capability::Capabilities;
use crate::smtp::reply::{Reply, ReplyReader};
use crate::track::{Exchange, Stage};

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
    /// Who it is.
    pub to: NextHopAddr,
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
                    to: to.clone(),
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
        self.wire.in_step()?;
        self.wire.write(&[line, b"\r\n"].concat()).await?;
        self.reply().await
    }

    /// Reads one reply.
    pub async fn reply(&mut self) -> Result<Reply, WireError> {
        let (octets_max, limit) = (self.limits.reply_octets_max, self.timeouts.reply());
        self.wire.reply(octets_max, limit).await
    }

    /// Reads the next reply to the end of a message, the last or not, before `wait` ends; cancel-safe.
    pub async fn verdict(&mut self, is_last: bool, wait: &mut Wait) -> Result<Reply, WireError> {
        let reader = if is_last || !self.answers_each() {
            ReplyReader::forgiving()
        } else {
            ReplyReader::default()
        };
        let octets_max = self.limits.reply_octets_max;
        self.wire.verdict_by(reader, octets_max, wait).await
    }

    /// Whether each recipient has a reply of his own to the end of a message (RFC 2033, 4.2).
    pub fn answers_each(&self) -> bool {
        self.to.protocol == Protocol::Lmtp
    }

    /// Says goodbye. A courtesy: the next hop may be gone, and nothing hangs on its answer.
    pub async fn quit(mut self) {
        let _ = self.wire.write(b"QUIT\r\n").await;
        self.wire.close().await;
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
