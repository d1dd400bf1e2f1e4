//! Where a recipient's mail goes: one fixed next hop, a table by domain, or the hosts that the domain's MX
//! records name (RFC 5321, 5.1). Answers with addresses; connects to nothing but name servers.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::sync::OnceLock;

use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::{Name, RData};
use hickory_resolver::{Resolver, TokioResolver};
use serde::Deserialize;
use thiserror::Error;

use super::next_hop::{NextHopAddr, Protocol};
use crate::smtp::reply::Reply;

/// Hosts of one domain that are tried for one message.
const HOSTS_MAX: usize = 10;
/// The port of mail between domains.
const PORT: u16 = 25;

/// A next hop as configured: an address, or `mx`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum NextHop {
    /// Always the same.
    Fixed(NextHopAddr),
    /// Whoever takes mail for the recipient's domain.
    Mx,
}

impl TryFrom<String> for NextHop {
    type Error = String;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        if text == "mx" {
            Ok(Self::Mx)
        } else {
            NextHopAddr::from_str(&text).map(Self::Fixed)
        }
    }
}

impl fmt::Display for NextHop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(next_hop) => next_hop.fmt(f),
            Self::Mx => f.write_str("mx"),
        }
    }
}

/// The routes of a listener: by recipient domain, and for the rest.
#[derive(Clone, Debug)]
pub struct Routes {
    /// For every domain without a route of its own.
    pub default: NextHop,
    /// By domain, in lower case; `.example.net` stands for all names below `example.net`.
    pub domains: BTreeMap<String, NextHop>,
}

/// Where the recipients of one leg go together.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Destination {
    /// To this server.
    Fixed(NextHopAddr),
    /// To the hosts of this domain.
    Domain(String),
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(next_hop) => next_hop.fmt(f),
            Self::Domain(domain) => write!(f, "mx of {domain}"),
        }
    }
}

impl Routes {
    /// One next hop for everybody.
    pub fn only(next_hop: NextHopAddr) -> Self {
        Self {
            default: NextHop::Fixed(next_hop),
            domains: BTreeMap::new(),
        }
    }

    /// Whether name servers are asked where mail goes.
    pub fn ask_names(&self) -> bool {
        let mut all = self.domains.values().chain([&self.default]);
        all.any(|next_hop| *next_hop == NextHop::Mx)
    }

    /// The one next hop there is, if there is one only.
    pub fn fixed(&self) -> Option<&NextHopAddr> {
        match &self.default {
            NextHop::Fixed(next_hop) if self.domains.is_empty() => Some(next_hop),
            _ => None,
        }
    }

    /// Where a recipient's mail goes: the route of its domain, of the nearest parent that has one for its
    /// children, or the default. A dot at its end names the same domain.
    pub fn of(&self, mailbox: &str) -> Destination {
        let domain = mailbox.rsplit_once('@').map_or("", |(_, domain)| domain);
        let domain = in_ascii(domain.strip_suffix('.').unwrap_or(domain));
        let parents = domain.match_indices('.').map(|(at, _)| &domain[at..]);
        let route = std::iter::once(domain.as_str())
            .chain(parents)
            .find_map(|name| self.domains.get(name))
            .unwrap_or(&self.default);
        match route {
            NextHop::Fixed(next_hop) => Destination::Fixed(next_hop.clone()),
            NextHop::Mx => Destination::Domain(domain),
        }
    }
}

/// A domain as name servers know it (RFC 5891), in lower case.
pub fn in_ascii(domain: &str) -> String {
    match url::Host::parse(domain) {
        Ok(url::Host::Domain(ascii)) if !domain.is_ascii() => ascii,
        _ => domain.to_ascii_lowercase(),
    }
}

/// Why a domain has no host to go to.
#[derive(Debug, Error)]
pub enum RouteError {
    /// It does not exist, or has no address to send mail to.
    #[error("domain {0} does not exist or has no mail server")]
    NoSuchDomain(String),
    /// No name server can know it, and it is no address.
    #[error("domain {0} is malformed")]
    Malformed(String),
    /// An address such as `postmaster` names none.
    #[error("an address without a domain goes nowhere from here")]
    NoDomain,
    /// It takes no mail (RFC 7505).
    #[error("domain {0} does not accept mail")]
    NullMx(String),
    /// Its best host is this hop (RFC 5321, 5.1).
    #[error("mail for {0} loops back to this host")]
    Loop(String),
    /// The name servers gave no answer.
    #[error("no answer from the name servers for {0}")]
    Temporary(String),
}

impl RouteError {
    /// What the recipients are told.
    pub fn reply(&self) -> Reply {
        let (code, status) = match self {
            Self::NoSuchDomain(_) | Self::NoDomain => (550, "5.1.2"),
            Self::Malformed(_) => (501, "5.1.3"),
            Self::NullMx(_) => (556, "5.1.10"),
            Self::Loop(_) => (554, "5.4.6"),
            Self::Temporary(_) => (451, "4.4.3"),
        };
        Reply::new(code, status, &self.to_string())
    }
}

/// The name servers, and what they said as long as it holds.
pub struct Names {
    server: Option<SocketAddr>,
    /// Made when it is wanted: it takes memory, and most hops never ask.
    resolver: OnceLock<TokioResolver>,
}

impl Names {
    /// The system's, or `server` alone.
    pub fn new(server: Option<SocketAddr>) -> Self {
        Self {
            server,
            resolver: OnceLock::new(),
        }
    }

    /// Who asks them, and remembers; an error if the system has nobody to ask.
    pub fn resolver(&self) -> Result<&TokioResolver, String> {
        if let Some(resolver) = self.resolver.get() {
            return Ok(resolver);
        }
        let made = self.make_resolver()?;
        Ok(self.resolver.get_or_init(|| made))
    }

    fn make_resolver(&self) -> Result<TokioResolver, String> {
        let builder = match self.server {
            Some(server) => {
                let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()]
                    .into_iter()
                    .map(|mut connection| {
                        connection.port = server.port();
                        connection
                    })
                    .collect();
                let server = NameServerConfig::new(server.ip(), true, connections);
                let config = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
                Resolver::builder_with_config(config, TokioRuntimeProvider::default())
            }
            None => Resolver::builder_tokio().map_err(|error| error.to_string())?,
        };
        builder.build().map_err(|error| error.to_string())
    }

    /// The servers of `domain`, the best first: its MX hosts by preference, or the domain itself if it has
    /// none (RFC 5321, 5.1). `hostname` is this hop, to which its own MX must not send.
    pub async fn hosts(
        &self,
        domain: &str,
        hostname: &str,
    ) -> Result<Vec<NextHopAddr>, RouteError> {
        if domain.is_empty() {
            return Err(RouteError::NoDomain);
        }
        let malformed = || RouteError::Malformed(domain.to_owned());
        if let Some(literal) = domain.strip_prefix('[') {
            let address = address_in(literal).ok_or_else(malformed)?;
            return Ok(vec![server(&address.to_string(), address)]);
        }
        let name = name_of(domain).ok_or_else(malformed)?;
        let temporary = |_| RouteError::Temporary(domain.to_owned());
        let resolver = self.resolver().map_err(temporary)?;
        let mut servers = Vec::new();
        let mut unanswered = false;
        for (host, name) in exchangers(resolver, (domain, name), hostname).await? {
            match resolver.lookup_ip(name).await {
                Ok(found) => servers.extend(found.iter().map(|address| server(&host, address))),
                Err(error) => unanswered |= !error.is_no_records_found(),
            }
        }
        servers.truncate(HOSTS_MAX);
        match (servers.is_empty(), unanswered) {
            (false, _) => Ok(servers),
            (true, true) => Err(RouteError::Temporary(domain.to_owned())),
            (true, false) => Err(RouteError::NoSuchDomain(domain.to_owned())),
        }
    }
}

/// What stands in an address literal behind its opening bracket (RFC 5321, 4.1.3), in lower case.
fn address_in(literal: &str) -> Option<IpAddr> {
    let address = literal.strip_suffix(']')?;
    address
        .strip_prefix("ipv6:")
        .unwrap_or(address)
        .parse()
        .ok()
}

/// A domain in a question to name servers. They know names of any octets (RFC 2181, 11), and mail goes to such with an
/// underscore; there is none with an empty label, or one longer than 63.
fn name_of(domain: &str) -> Option<Name> {
    Name::from_labels(domain.split('.').map(str::as_bytes)).ok()
}

/// The names to ask for addresses, as they are written and as they are asked for.
async fn exchangers(
    resolver: &TokioResolver,
    (domain, name): (&str, Name),
    hostname: &str,
) -> Result<Vec<(String, Name)>, RouteError> {
    let answer = match resolver.mx_lookup(name.clone()).await {
        Ok(answer) => answer,
        Err(error) if error.is_nx_domain() => {
            return Err(RouteError::NoSuchDomain(domain.to_owned()));
        }
        Err(error) if error.is_no_records_found() => return Ok(vec![(domain.to_owned(), name)]),
        Err(_) => return Err(RouteError::Temporary(domain.to_owned())),
    };
    let mut exchangers: Vec<(u16, String, Name)> = answer
        .answers()
        .iter()
        .filter_map(|record| match &record.data {
            RData::MX(mx) => Some((mx.preference, &mx.exchange)),
            _ => None,
        })
        .map(|(preference, name)| {
            let written = name.to_ascii().trim_end_matches('.').to_owned();
            (preference, written, name.clone())
        })
        .collect();
    exchangers.sort();
    if matches!(exchangers.as_slice(), [(_, only, _)] if only.is_empty()) {
        return Err(RouteError::NullMx(domain.to_owned()));
    }
    let ours = exchangers
        .iter()
        .find(|(_, name, _)| name.eq_ignore_ascii_case(hostname));
    if let Some(limit) = ours.map(|(preference, ..)| *preference) {
        // Hosts no better than this one would only send it back.
        exchangers.retain(|(preference, ..)| *preference < limit);
        if exchangers.is_empty() {
            return Err(RouteError::Loop(domain.to_owned()));
        }
    }
    let hosts = exchangers.into_iter();
    Ok(hosts.map(|(_, written, name)| (written, name)).collect())
}

fn server(name: &str, address: IpAddr) -> NextHopAddr {
    NextHopAddr {
        protocol: Protocol::Smtp,
        host: name.to_owned(),
        port: PORT,
        address: Some(address),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// A reader of reports tells them from a server's.
    #[test]
    fn a_domain_without_a_host_is_told_in_our_own_words() {
        let ways = [
            RouteError::NoSuchDomain,
            RouteError::Malformed,
            RouteError::NullMx,
            RouteError::Loop,
            RouteError::Temporary,
        ];
        for way in ways {
            let reply = way("example.net".to_owned()).reply().text();
            assert!(crate::track::own::words(&reply).is_some(), "{reply}");
        }
        let reply = RouteError::NoDomain.reply().text();
        assert!(crate::track::own::words(&reply).is_some(), "{reply}");
    }

    #[test]
    fn the_nearest_route_wins() {
        let next_hop = |text: &str| NextHop::try_from(text.to_owned()).unwrap();
        let routes = Routes {
            default: NextHop::Mx,
            domains: BTreeMap::from([
                ("example.net".to_owned(), next_hop("smtp://a:25")),
                (".example.net".to_owned(), next_hop("smtp://b:25")),
                (".inner.example.net".to_owned(), next_hop("lmtp://c:24")),
                (in_ascii("B\u{dc}CHER.example"), next_hop("smtp://d:25")),
            ]),
        };
        for (mailbox, host) in [
            ("x@Example.NET", "a"),
            ("x@example.net.", "a"),
            ("x@mail.example.net", "b"),
            ("x@inner.example.net", "b"),
            ("x@deep.inner.example.net", "c"),
            ("x@b\u{fc}cher.example", "d"),
            ("x@XN--bcher-kva.example", "d"),
        ] {
            let Destination::Fixed(next_hop) = routes.of(mailbox) else {
                panic!("{mailbox}")
            };
            assert_eq!(next_hop.host, host, "{mailbox}");
        }
        assert_eq!(
            routes.of("x@other.example"),
            Destination::Domain("other.example".to_owned())
        );
        assert_eq!(
            routes.of("x@Other.Example."),
            Destination::Domain("other.example".to_owned())
        );
        assert_eq!(
            routes.of("\"a@b\"@other.example"),
            Destination::Domain("other.example".to_owned())
        );
        assert_eq!(routes.fixed(), None);
    }
}
