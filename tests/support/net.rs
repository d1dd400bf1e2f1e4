//! Loopback addresses, so that tests run beside each other: every listener of every test has an IPv4
//! address of its own, or a port of `::1`. All of 127/8 is on `lo` without being added.

use std::fmt;
use std::net::{
    Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6, TcpListener, TcpStream,
};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixListener};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// An address nobody else uses: two octets from the process, one counted up within it.
pub fn address() -> SocketAddrV4 {
    static LAST: AtomicU8 = AtomicU8::new(0);
    let count = LAST.fetch_add(1, Ordering::Relaxed) + 1;
    assert!(count < 255, "a test process has 254 addresses");
    let process = std::process::id() % (254 * 256);
    let [_, _, high, low] = process.to_be_bytes();
    let ip = Ipv4Addr::new(127, high + 1, low, count);
    // Below the ports the kernel gives to clients; probed because the host may listen on all addresses.
    let port = (2525..2600)
        .find(|&port| TcpListener::bind((ip, port)).is_ok())
        .expect("a free port");
    SocketAddrV4::new(ip, port)
}

/// A port of `::1`, the only IPv6 address every machine has, that nobody else uses: each is held in the name of the
/// process until that ends, so that of two that begin their search at the same place one goes on.
pub fn address_v6() -> SocketAddrV6 {
    /// Below the ports the kernel gives to clients.
    const PORTS: std::ops::Range<u16> = 20_000..32_000;
    static HELD: Mutex<Vec<UnixListener>> = Mutex::new(Vec::new());
    let start = std::process::id() % u32::from(PORTS.end - PORTS.start);
    let start = PORTS.start + u16::try_from(start).expect("it is small");
    let free = (start..PORTS.end).chain(PORTS.start..start).find(|&port| {
        let name = format!("hoptrail test port {port}");
        let held =
            UnixAddr::from_abstract_name(name).and_then(|name| UnixListener::bind_addr(&name));
        let Ok(held) = held else { return false };
        HELD.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(held);
        TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).is_ok()
    });
    SocketAddrV6::new(Ipv6Addr::LOCALHOST, free.expect("a free port"), 0, 0)
}

/// Whether something accepts connections there.
pub fn answers(address: impl Into<SocketAddr>) -> bool {
    TcpStream::connect_timeout(&address.into(), Duration::from_secs(1)).is_ok()
}

/// Where an MTA sends mail.
#[derive(Clone, Copy, Debug)]
pub enum NextHop {
    /// SMTP to this address.
    Smtp(SocketAddrV4),
    /// LMTP to this address, a reply for each recipient.
    Lmtp(SocketAddrV4),
}

impl fmt::Display for NextHop {
    /// As hoptrail's configuration writes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Smtp(address) => write!(f, "smtp://{address}"),
            Self::Lmtp(address) => write!(f, "lmtp://{address}"),
        }
    }
}
