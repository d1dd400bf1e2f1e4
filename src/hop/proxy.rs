//! The PROXY protocol (haproxy's proxy-protocol.txt), both ways: the header a balancer puts before its
//! client's octets, and the one that goes to the MTA. Knows nothing of who may send one.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

/// What the binary header begins with.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// A text header with its CRLF.
const V1_OCTETS_MAX: usize = 107;
/// A binary header behind its first 16 octets: addresses need 36, the rest is TLVs nobody here reads.
const V2_OCTETS_MAX: usize = 512;

/// Both ends of a client's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// Where the client connects from.
    pub client: SocketAddr,
    /// Where it connected to.
    pub local: SocketAddr,
}

/// Whom a header speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The balancer itself (a health check), or somebody it cannot name: the socket's own addresses hold.
    Itself,
    /// A client of the balancer.
    Relayed(Ends),
}

/// Reads a header, and not an octet of what follows it: that may be a TLS handshake.
pub async fn receive(stream: &mut TcpStream) -> io::Result<Source> {
    let mut start = vec![0; SIGNATURE.len()];
    stream.read_exact(&mut start).await?;
    let source = if start == SIGNATURE {
        let mut fixed = [0; 4];
        stream.read_exact(&mut fixed).await?;
        let [command, family, high, low] = fixed;
        let octets = usize::from(u16::from_be_bytes([high, low]));
        if octets > V2_OCTETS_MAX {
            return Err(malformed());
        }
        let mut rest = vec![0; octets];
        stream.read_exact(&mut rest).await?;
        v2(command, family, &rest)
    } else if start.starts_with(b"PROXY ") {
        finish_line(stream, &mut start).await?;
        v1(&start)
    } else {
        None
    };
    source.ok_or_else(malformed)
}

fn malformed() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        "none, or not one of a TCP connection as the protocol has it",
    )
}

/// Reads on to the line's LF.
async fn finish_line(stream: &mut TcpStream, line: &mut Vec<u8>) -> io::Result<()> {
    while !line.ends_with(b"\n") {
        let mut seen = vec![0; V1_OCTETS_MAX.saturating_sub(line.len())];
        if seen.is_empty() {
            return Err(malformed());
        }
        let octets = stream.peek(&mut seen).await?;
        if octets == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        seen.truncate(octets);
        seen.truncate(memchr::memchr(b'\n', &seen).map_or(octets, |lf| lf + 1));
        stream.read_exact(&mut seen).await?;
        line.append(&mut seen);
    }
    Ok(())
}

/// A whole text header, CRLF included. What stands behind UNKNOWN means nothing.
fn v1(line: &[u8]) -> Option<Source> {
    let line = std::str::from_utf8(line).ok()?.strip_suffix("\r\n")?;
    let words: Vec<&str> = line.split(' ').collect();
    match words.as_slice() {
        ["PROXY", "UNKNOWN", ..] => Some(Source::Itself),
        ["PROXY", "TCP4", ends @ ..] => v1_ends::<Ipv4Addr>(ends),
        ["PROXY", "TCP6", ends @ ..] => v1_ends::<Ipv6Addr>(ends),
        _ => None,
    }
}

fn v1_ends<A: FromStr + Into<IpAddr>>(words: &[&str]) -> Option<Source> {
    let [from, to, client_port, local_port] = words else {
        return None;
    };
    let ip = |text: &str| text.parse::<A>().ok().map(Into::into);
    Some(Source::Relayed(Ends {
        client: address(ip(from)?, port(client_port)?),
        local: address(ip(to)?, port(local_port)?),
    }))
}

/// A port as the protocol writes it: digits, none of them a leading zero.
fn port(text: &str) -> Option<u16> {
    let plain = text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| plain)
}

/// A binary header behind its signature; `rest` has as many octets as it announced. Of the families only
/// TCP has clients that can come here.
fn v2(command: u8, family: u8, rest: &[u8]) -> Option<Source> {
    match (command, family) {
        (0x20, _) | (0x21, 0x00) => Some(Source::Itself),
        (0x21, 0x11) => v2_ends::<4>(rest),
        (0x21, 0x21) => v2_ends::<16>(rest),
        _ => None,
    }
}

fn v2_ends<const OCTETS: usize>(rest: &[u8]) -> Option<Source>
where
    IpAddr: From<[u8; OCTETS]>,
{
    let (from, rest) = rest.split_first_chunk::<OCTETS>()?;
    let (to, rest) = rest.split_first_chunk::<OCTETS>()?;
    let (client_port, rest) = rest.split_first_chunk()?;
    let (local_port, _) = rest.split_first_chunk()?;
    Some(Source::Relayed(Ends {
        client: address((*from).into(), u16::from_be_bytes(*client_port)),
        local: address((*to).into(), u16::from_be_bytes(*local_port)),
    }))
}

/// An IPv4 address in IPv6's clothes is an IPv4 address.
fn address(ip: IpAddr, port: u16) -> SocketAddr {
    SocketAddr::new(ip.to_canonical(), port)
}

impl Ends {
    /// The text header.
    pub fn to_v1(self) -> Vec<u8> {
        let (sport, dport) = (self.client.port(), self.local.port());
        match self.pair() {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                format!("PROXY TCP4 {from} {to} {sport} {dport}\r\n").into_bytes()
            }
            (from, to) => {
                let (from, to) = (wide(from), wide(to));
                format!("PROXY TCP6 {from} {to} {sport} {dport}\r\n").into_bytes()
            }
        }
    }

    /// The binary header: 16 octets and the addresses.
    pub fn to_v2(self) -> Vec<u8> {
        let mut out = [&SIGNATURE[..], &[0x21]].concat();
        match self.pair() {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                out.extend([0x11, 0, 12]);
                out.extend(from.octets());
                out.extend(to.octets());
            }
            (from, to) => {
                out.extend([0x21, 0, 36]);
                out.extend(wide(from).octets());
                out.extend(wide(to).octets());
            }
        }
        out.extend(self.client.port().to_be_bytes());
        out.extend(self.local.port().to_be_bytes());
        out
    }

    fn pair(self) -> (IpAddr, IpAddr) {
        (
            self.client.ip().to_canonical(),
            self.local.ip().to_canonical(),
        )
    }
}

/// Both addresses of a header are of one family.
fn wide(ip: IpAddr) -> Ipv6Addr {
    match ip {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    }
}

#[cfg(test)]
mod tests;
