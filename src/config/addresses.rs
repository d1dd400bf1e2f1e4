//! Whether the listeners of a hop get in each other's way: by the addresses they listen on and those they send to, as
//! far as these can be told without asking name servers.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use toml::Spanned;

use super::{RawListener, Wrong};
use crate::hop::next_hop::NextHopAddr;
use crate::hop::route::NextHop;

/// Each listener has a port, and no two listen on the same address.
pub fn check_addresses(listeners: &[Spanned<RawListener>]) -> Result<(), Wrong> {
    let mut seen = HashSet::new();
    for listen in listeners.iter().map(|raw| &raw.get_ref().listen) {
        let address = *listen.get_ref();
        let wrong = if address.port() == 0 {
            "listen: a port from 1 to 65535 is wanted".to_owned()
        } else if !seen.insert(address) {
            format!("listen: {address} is another listener's already")
        } else {
            continue;
        };
        return Err((listen.span().start, wrong));
    }
    Ok(())
}

/// No listener's mail goes to a listener of the same hop: it would never leave.
pub fn check_loops(listeners: &[Spanned<RawListener>]) -> Result<(), Wrong> {
    let ours = |to: &NextHop| match to {
        NextHop::Fixed(to) => listeners
            .iter()
            .map(|raw| *raw.get_ref().listen.get_ref())
            .find(|listen| leads_to(to, *listen)),
        NextHop::Mx => None,
    };
    for raw in listeners.iter().map(Spanned::get_ref) {
        let next_hop = (raw.next_hop.span(), "next_hop", raw.next_hop.get_ref());
        let routes = raw
            .routes
            .iter()
            .map(|(domain, to)| (domain.span(), "routes", to));
        for (span, key, to) in std::iter::once(next_hop).chain(routes) {
            if let Some(listen) = ours(to) {
                let text = format!(
                    "{key}: {to} is hoptrail's own listener {listen}: mail would go in circles"
                );
                return Err((span.start, text));
            }
        }
    }
    Ok(())
}

/// Whether a connection to this next hop comes to the listener, as far as can be told without asking.
fn leads_to(to: &NextHopAddr, listen: SocketAddr) -> bool {
    let own = listen.ip().to_canonical();
    let is_own = |ip: &IpAddr| *ip == own || (own.is_unspecified() && ip.is_loopback());
    to.port == listen.port() && addresses_of(&to.host).iter().any(is_own)
}

/// The addresses of a host, as far as they can be told without asking.
pub fn addresses_of(host: &str) -> Vec<IpAddr> {
    if host.eq_ignore_ascii_case("localhost") {
        return vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
    }
    let ip = host.parse::<IpAddr>();
    ip.map(|ip| ip.to_canonical()).into_iter().collect()
}
