//! How the MTA behind an ingress learns who its client is: by a PROXY header, or by Postfix's XCLIENT and
//! XFORWARD commands. Knows nothing of the dialogue that follows.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

use serde::Deserialize;

use super::connect::open;
use super::next_hop::{ConnectError, Manners, NextHopAddr};
use super::proxy::Ends;
use super::wire::Wire;
use crate::smtp::capability::Capabilities;
use crate::smtp::reply::Reply;

/// How the MTA behind an ingress learns who the client is. An MTA that sees hoptrail's own address for
/// everybody is an open relay if it trusts that address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClientAddress {
    /// It does not.
    None,
    /// A PROXY protocol line before anything else.
    ProxyV1,
    /// The binary PROXY protocol header before anything else.
    ProxyV2,
    /// Postfix's XCLIENT command: it treats the client as if it had connected itself.
    Xclient,
    /// Postfix's XFORWARD command before each transaction: it logs who the client is, and decides by
    /// hoptrail's own address.
    Xforward,
}

impl ClientAddress {
    /// Whether the MTA decides what a client may do by the client's own address.
    pub fn counts_for_the_mta(self) -> bool {
        !matches!(self, Self::None | Self::Xforward)
    }
}

/// A connection for an ingress: the MTA told who the client is, nothing else said, and the greeting that
/// is for the client to read.
pub async fn introduce(
    to: &NextHopAddr,
    ends: &Ends,
    how: ClientAddress,
    manners: Manners<'_>,
) -> Result<(Wire, Reply), ConnectError> {
    let prelude = match how {
        ClientAddress::ProxyV1 => ends.to_v1(),
        ClientAddress::ProxyV2 => ends.to_v2(),
        ClientAddress::None | ClientAddress::Xclient | ClientAddress::Xforward => Vec::new(),
    };
    let (mut wire, greeting) = open(to, &prelude, manners).await?;
    if how != ClientAddress::Xclient || !greeting.is_positive() {
        return Ok((wire, greeting));
    }
    let greeting = Box::pin(xclient(&mut wire, *ends, manners)).await?;
    Ok((wire, greeting))
}

/// Tells a Postfix who the client is; it answers with the greeting of a new session. Refused or not
/// offered, the session must not go on: the MTA would take the client for us.
async fn xclient(wire: &mut Wire, ends: Ends, manners: Manners<'_>) -> Result<Reply, ConnectError> {
    let hello = manners.hello("EHLO", wire).await?;
    if !hello.is_positive() {
        return Err(ConnectError::Refused(hello));
    }
    let line = command("XCLIENT", &Capabilities::of(&hello), ends);
    wire.write(&line.ok_or(ConnectError::NoXclient)?).await?;
    let greeting = manners.reply(wire).await?;
    if greeting.code == 220 {
        Ok(greeting)
    } else {
        Err(ConnectError::NoXclient)
    }
}

/// The XCLIENT or XFORWARD command, with its CRLF, of those attributes that the MTA lists behind the keyword.
/// `None` if it would not take the address.
pub fn command(keyword: &str, offer: &Capabilities, ends: Ends) -> Option<Vec<u8>> {
    let listed = String::from_utf8_lossy(offer.arguments(keyword)?).to_ascii_uppercase();
    let lists = |name: &str| listed.split(' ').any(|attribute| attribute == name);
    let ip = |of: SocketAddr| match of.ip().to_canonical() {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => format!("IPV6:{v6}"),
    };
    let mut line = keyword.to_owned();
    for (name, value) in [
        ("NAME", "[UNAVAILABLE]".to_owned()),
        ("ADDR", ip(ends.client)),
        ("PORT", ends.client.port().to_string()),
        ("DESTADDR", ip(ends.local)),
        ("DESTPORT", ends.local.port().to_string()),
    ] {
        if lists(name) {
            let _ = write!(line, " {name}={value}");
        }
    }
    lists("ADDR").then(|| [line.as_bytes(), b"\r\n"].concat())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn said(keyword: &str, listed: &str, client: &str) -> Option<String> {
        let offer = Capabilities::of(&Reply::new(250, "", listed));
        let ends = Ends {
            client: client.parse().unwrap(),
            local: "192.0.2.25:25".parse().unwrap(),
        };
        let mut with_name = Capabilities::of(&Reply::new(250, "", "mx.test"));
        with_name.add(listed);
        assert!(!offer.offers(keyword), "the first line is a name");
        command(keyword, &with_name, ends).map(|line| String::from_utf8(line).unwrap())
    }

    #[test]
    fn only_what_the_mta_lists_is_told() {
        let all = "XCLIENT NAME ADDR PROTO HELO LOGIN PORT DESTADDR DESTPORT";
        assert_eq!(
            said("XCLIENT", all, "198.51.100.7:4321").unwrap(),
            "XCLIENT NAME=[UNAVAILABLE] ADDR=198.51.100.7 PORT=4321 DESTADDR=192.0.2.25 DESTPORT=25\r\n"
        );
        assert_eq!(
            said("XFORWARD", "XFORWARD name addr", "[2001:db8::7]:4321").unwrap(),
            "XFORWARD NAME=[UNAVAILABLE] ADDR=IPV6:2001:db8::7\r\n"
        );
        assert_eq!(
            said("XFORWARD", "XFORWARD ADDR", "[::ffff:198.51.100.7]:1").unwrap(),
            "XFORWARD ADDR=198.51.100.7\r\n"
        );
        // An MTA that would not take the address would take the client for us.
        assert_eq!(said("XCLIENT", "XCLIENT NAME PORT", "198.51.100.7:1"), None);
        assert_eq!(said("XCLIENT", "XFORWARD ADDR", "198.51.100.7:1"), None);
    }
}
