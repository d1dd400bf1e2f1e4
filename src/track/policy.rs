//! Who may ask for tracking: a stranger must not be able to make hops mail a victim.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::Deserialize;

use super::asker::Asker;
use super::disclosure::Disclosure;

/// An entry of `allow`: what makes a client one that may ask.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Grant {
    /// It passed AUTH.
    Authenticated,
    /// It is in this network.
    Network(IpNet),
    /// The domain of its reverse-path permits its address (SPF, RFC 7208).
    Spf,
    /// The domain of its reverse-path, or one above it, signed the message (DKIM, RFC 6376).
    Dkim,
}

impl TryFrom<String> for Grant {
    type Error = String;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        match text.as_str() {
            "authenticated" => return Ok(Self::Authenticated),
            "spf" => return Ok(Self::Spf),
            "dkim" => return Ok(Self::Dkim),
            _ => {}
        }
        let network = text
            .parse()
            .or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
        network.map(Self::Network).map_err(|_| {
            format!(
                "{text:?} is neither \"authenticated\", \"spf\", \"dkim\" nor a network such as \"10.0.0.0/8\""
            )
        })
    }
}

/// Who is offered TRACK, whose TRACK is honoured, and how much is told. Valid carry headers need no permission:
/// only a hop with the key can make one.
#[derive(Clone, Debug)]
pub struct Policy {
    /// The grants; a client that has any of them may ask.
    pub allow: Vec<Grant>,
    /// How much each asker is told.
    pub disclose: Disclosure,
    /// Whether those who are told everything see the Received fields, with the clients' addresses in them.
    pub received: bool,
    /// Reports an hour to one originator who authenticated, is in a network or came by a carry header; 0 for any number.
    pub trusted_reports_per_hour_max: u32,
    /// Reports an hour to one originator who is a stranger; 0 for any number.
    pub verified_reports_per_hour_max: u32,
}

/// A policy as it is written: what it leaves out is as elsewhere.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyTable {
    allow: Option<Vec<Grant>>,
    disclose: Option<Disclosure>,
    received: Option<bool>,
    trusted_reports_per_hour_max: Option<u32>,
    verified_reports_per_hour_max: Option<u32>,
}

impl PolicyTable {
    /// The policy where `elsewhere` holds for what is left out.
    pub fn over(self, elsewhere: &Policy) -> Policy {
        Policy {
            allow: self.allow.unwrap_or_else(|| elsewhere.allow.clone()),
            disclose: self.disclose.unwrap_or(elsewhere.disclose),
            received: self.received.unwrap_or(elsewhere.received),
            trusted_reports_per_hour_max: self
                .trusted_reports_per_hour_max
                .unwrap_or(elsewhere.trusted_reports_per_hour_max),
            verified_reports_per_hour_max: self
                .verified_reports_per_hour_max
                .unwrap_or(elsewhere.verified_reports_per_hour_max),
        }
    }

    /// Whether it lets strangers ask by itself.
    pub fn allows_strangers(&self) -> bool {
        let stranger = |grant: &Grant| matches!(grant, Grant::Spf | Grant::Dkim);
        self.allow.iter().flatten().any(stranger)
    }
}

impl Default for Policy {
    /// Authenticated sessions and this machine.
    fn default() -> Self {
        let local = |text: &str| text.parse().ok().map(Grant::Network);
        let networks = ["127.0.0.0/8", "::1/128"].into_iter().filter_map(local);
        Self {
            allow: std::iter::once(Grant::Authenticated)
                .chain(networks)
                .collect(),
            disclose: Disclosure::default(),
            received: false,
            trusted_reports_per_hour_max: 1000,
            verified_reports_per_hour_max: 60,
        }
    }
}

impl Policy {
    /// What this client is by itself, if that is enough to ask.
    pub fn asker(&self, client: IpAddr, authenticated: bool) -> Option<Asker> {
        if authenticated && self.allows_authenticated() {
            return Some(Asker::Authenticated);
        }
        let client = client.to_canonical();
        let holds =
            |grant: &Grant| matches!(grant, Grant::Network(network) if network.contains(&client));
        self.allow.iter().any(holds).then_some(Asker::Network)
    }

    /// Whether a client that can log in here may come to be allowed.
    pub fn allows_authenticated(&self) -> bool {
        self.allow.contains(&Grant::Authenticated)
    }

    /// Whether strangers may ask whose address the reverse-path's domain permits.
    pub fn allows_spf(&self) -> bool {
        self.allow.contains(&Grant::Spf)
    }

    /// Whether strangers may ask whose message the reverse-path's domain signed.
    pub fn allows_dkim(&self) -> bool {
        self.allow.contains(&Grant::Dkim)
    }

    /// How many reports an hour an originator gets for whom this one asked; 0 for any number.
    pub fn reports_per_hour_max(&self, asker: Asker) -> u32 {
        match asker {
            Asker::Verified => self.verified_reports_per_hour_max,
            _ => self.trusted_reports_per_hour_max,
        }
    }

    /// Whether any stranger may ask.
    pub fn allows_strangers(&self) -> bool {
        self.allows_spf() || self.allows_dkim()
    }
}
