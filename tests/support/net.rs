//! Loopback addresses, so that tests run beside each other: every listener of every test has an IPv4
//! address of its own, or a port of `::1`. All of 127/8 is on `lo` without being added.

use std::fmt;
use std::net::{
    Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6, TcpListener, TcpStream,
};
use std::sync::atomic::{AtomicU8, AtomicU16, Ordering};
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

/// A port of `::1`, the only IPv6 address every machine has, that nobody else uses: some are each process's own.
pub fn address_v6() -> SocketAddrV6 {
    static LAST: AtomicU16 = AtomicU16::new(0);
    let count = LAST.fetch_add(1, Ordering::Relaxed);
    assert!(count < 20, "a test process has 20 ports");
    let own = u16::try_from(std::process::id() % 600 * 20).expect("it is small");
    let port = 20_000 + own + count;
    SocketAddrV6::new(Ipv6Addr::LOCALHOST, port, 0, 0)
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
