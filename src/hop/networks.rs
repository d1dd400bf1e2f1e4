//! Networks as the configuration names them: whose connections a listener takes, whose word it believes. And
//! the network that stands for one client.

use std::net::{IpAddr, Ipv6Addr};

use ipnet::IpNet;
use serde::Deserialize;

/// A list of networks and single addresses.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(try_from = "Vec<String>")]
pub struct Networks(Vec<IpNet>);

impl TryFrom<Vec<String>> for Networks {
    type Error = String;
    fn try_from(list: Vec<String>) -> Result<Self, Self::Error> {
        let network = |text: String| {
            text.parse()
                .or_else(|_| text.parse::<IpAddr>().map(IpNet::from))
                .map_err(|_| {
                    format!("{text:?} is no network such as \"10.0.0.0/8\", nor an address")
                })
        };
        list.into_iter()
            .map(network)
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

impl Networks {
    /// This machine alone.
    pub fn loopback() -> Self {
        let local = |text: &str| text.parse().ok();
        Self(
            ["127.0.0.0/8", "::1/128"]
                .into_iter()
                .filter_map(local)
                .collect(),
        )
    }

    /// Whether the address is in one of them.
    pub fn contains(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        self.0.iter().any(|network| network.contains(&ip))
    }

    /// Whether everybody of one kind of address is in it.
    pub fn hold_everybody(&self) -> bool {
        self.0.iter().any(|network| network.prefix_len() == 0)
    }

    /// Whether nobody is in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The address under which a client is counted: a host has a whole /64 of IPv6 addresses to choose from.
pub fn counted_as(client: IpAddr) -> IpAddr {
    match client.to_canonical() {
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX)).into(),
        IpAddr::V4(v4) => v4.into(),
    }
}
