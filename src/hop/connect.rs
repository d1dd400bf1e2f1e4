//! A connection to a next hop up to its greeting, under TLS where the listener wants that. Knows nothing of
//! who will use it, and for what.

use std::pin::pin;

use tokio::net::TcpStream;
use tracing::{info, warn};

use super::deadline::Timer;
use super::next_hop::{ConnectError, Manners, NextHopAddr, Protocol};
use super::tls::{ClientMode, ClientTls};
use super::wire::{Wire, WireError};
use crate::smtp::capability::Capabilities;
use crate::smtp::reply::Reply;

/// Opens a connection, beginning with `prelude`; with the greeting, and under TLS where that is wanted. Where
/// TLS is optional and it failed, or the next hop closed instead of beginning it, a second connection does without.
pub async fn open(
    to: &NextHopAddr,
    prelude: &[u8],
    mut manners: Manners<'_>,
) -> Result<(Wire, Reply), ConnectError> {
    loop {
        let mut wire = Box::pin(dial(to, manners)).await?;
        if !prelude.is_empty() {
            wire.write(prelude).await?;
        }
        let optional = |tls: &&ClientTls| tls.mode == ClientMode::Opportunistic;
        match (
            greeted(to, &mut wire, manners).await,
            manners.tls.filter(optional),
        ) {
            (Err(ConnectError::Handshake(error)), Some(tls)) => {
                in_plaintext(to, tls, &error.to_string());
                manners.tls = None;
            }
            (greeting, _) => return Ok((wire, greeting?)),
        }
    }
}

/// Says that mail goes on to this next hop in plaintext though it offered TLS.
fn in_plaintext(to: &NextHopAddr, tls: &ClientTls, why: &str) {
    info!(next_hop = %to, "no TLS ({why}), going on in plaintext");
    tls.missed(|times| warn!(next_hop = %to, times, "TLS was offered and is not to be had, mail goes in plaintext: {why}"));
}

async fn dial(to: &NextHopAddr, manners: Manners<'_>) -> Result<Wire, ConnectError> {
    // Pinned here: what is moved on is held twice.
    let connecting = pin!(async {
        match to.address {
            Some(address) => TcpStream::connect((address, to.port)).await,
            None => Box::pin(TcpStream::connect((to.host.as_str(), to.port))).await,
        }
    });
    let mut timer = Timer::default();
    let connected = timer.within(manners.timeouts.connect(), connecting).await;
    let stream = connected
        .ok_or(WireError::TimedOut)
        .and_then(|connected| Ok(connected?))
        .map_err(ConnectError::Unreachable)?;
    stream.set_nodelay(true).map_err(WireError::from)?;
    let mut wire = Wire::new(stream, manners.timeouts.write());
    // This was the first of its waits.
    *wire.timer() = timer;
    Ok(wire)
}

/// The greeting of a fresh connection, and TLS before or after it.
async fn greeted(
    to: &NextHopAddr,
    wire: &mut Wire,
    manners: Manners<'_>,
) -> Result<Reply, ConnectError> {
    match manners.tls {
        Some(tls) => Box::pin(secured(to, tls, wire, manners)).await,
        None => Ok(manners.reply(wire).await?),
    }
}

async fn secured(
    to: &NextHopAddr,
    tls: &ClientTls,
    wire: &mut Wire,
    manners: Manners<'_>,
) -> Result<Reply, ConnectError> {
    if tls.mode == ClientMode::Implicit {
        handshake(to, tls, wire, manners).await?;
        return Ok(manners.reply(wire).await?);
    }
    let greeting = manners.reply(wire).await?;
    if !greeting.is_positive() {
        return Ok(greeting);
    }
    let verb = match to.protocol {
        Protocol::Smtp => "EHLO",
        Protocol::Lmtp => "LHLO",
    };
    let hello = manners.hello(verb, wire).await?;
    let mut ready = false;
    if hello.is_positive() && Capabilities::of(&hello).offers("STARTTLS") {
        let asked = start_tls(wire, manners).await;
        let reply = asked.map_err(ConnectError::Handshake)?;
        if reply.code == 421 {
            // It closes the connection (RFC 5321, 3.8): there is nothing left to go on with.
            return Err(ConnectError::Refused(reply));
        }
        ready = reply.code == 220;
        if !ready && tls.mode == ClientMode::Opportunistic {
            in_plaintext(to, tls, &reply.text());
        }
    }
    if ready {
        handshake(to, tls, wire, manners).await?;
    } else if tls.mode != ClientMode::Opportunistic {
        return Err(ConnectError::NoTls);
    }
    Ok(greeting)
}

async fn start_tls(wire: &mut Wire, manners: Manners<'_>) -> Result<Reply, WireError> {
    wire.write(b"STARTTLS\r\n").await?;
    manners.reply(wire).await
}

async fn handshake(
    to: &NextHopAddr,
    tls: &ClientTls,
    wire: &mut Wire,
    manners: Manners<'_>,
) -> Result<(), ConnectError> {
    let done = tls
        .connect(wire, &to.host, manners.timeouts.handshake())
        .await;
    done.map_err(|error| match error {
        // Somebody is in the line: no second attempt.
        WireError::Injected => ConnectError::Wire(error),
        error => ConnectError::Handshake(error),
    })
}
