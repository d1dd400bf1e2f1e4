//! Who may ask for tracking: a stranger must not be able to make hops mail a victim.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::Deserialize;

/// A class of clients that may ask.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Asker {
    /// Sessions that passed AUTH.
    Authenticated,
    /// Clients of a network.
    Network(IpNet),
}

impl TryFrom<String> for Asker {
    type Error = String;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        if text == "authenticated" {
            return Ok(Self::Authenticated);
        }
        let network = text
            .parse()
            .or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
        network.map(Self::Network).map_err(|_| {
            format!("{text:?} is neither \"authenticated\" nor a network such as \"10.0.0.0/8\"")
        })
    }
}

/// Who is offered TRACK, and whose TRACK is honoured. Valid carry headers need no permission: only a
/// hop with the key can make one.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// The classes; a client in any of them may ask.
    pub allow: Vec<Asker>,
}

impl Default for Policy {
    /// Authenticated sessions and this machine.
    fn default() -> Self {
        let local = |text: &str| text.parse().ok().map(Asker::Network);
        let networks = ["127.0.0.0/8", "::1/128"].into_iter().filter_map(local);
        Self {
            allow: std::iter::once(Asker::Authenticated)
                .chain(networks)
                .collect(),
        }
    }
}

impl Policy {
    /// Whether this client may ask now.
    pub fn allows(&self, client: IpAddr, authenticated: bool) -> bool {
        let client = client.to_canonical();
        self.allow.iter().any(|asker| match asker {
            Asker::Authenticated => authenticated,
            Asker::Network(network) => network.contains(&client),
        })
    }

    /// Whether a client that can log in here may come to be allowed.
    pub fn allows_authenticated(&self) -> bool {
        self.allow.contains(&Asker::Authenticated)
    }
}
