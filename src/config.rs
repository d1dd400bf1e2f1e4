//! The configuration file: TOML into settings, with every mistake named by file, line and key. Opens
//! nothing but its own file and the certificates and keys it names: no sockets, no state. Of a sendmail it looks
//! whether it is there.

mod addresses;
mod reports;
mod tls;
mod wish;

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use thiserror::Error;
use toml::Spanned;

use crate::hop::introduce::ClientAddress;
use crate::hop::limits::{Limits, Timeouts};
use crate::hop::listener::Listener;
use crate::hop::networks::Networks;
use crate::hop::next_hop::{NextHopAddr, Protocol};
use crate::hop::route::{NextHop, Routes};
use crate::hop::tls::NextHopTls;
use crate::smtp::data::BareNewline;
use crate::store::via::Peer;
use crate::track::Role;
use crate::track::policy::{Policy, PolicyTable};
use crate::track::wish::Rule;
use addresses::{addresses_of, check_addresses, check_loops};
pub use reports::{Accepted, Reports};

/// A configuration that can be run.
#[derive(Clone, Debug)]
pub struct Config {
    /// The name of this hop in reports and greetings.
    pub hostname: String,
    /// The name in reports to those who are told no more.
    pub organisation: String,
    /// Where the store and the keys lie.
    pub state_dir: PathBuf,
    /// The name server to ask for MX records instead of the system's.
    pub resolver: Option<SocketAddr>,
    /// How reports are made and sent.
    pub reports: Reports,
    /// Who may ask, where a listener has no policy of its own.
    pub policy: Policy,
    /// Bounds of sessions.
    pub limits: Limits,
    /// Waits of sessions.
    pub timeouts: Timeouts,
    /// At least one.
    pub listeners: Vec<Listener>,
    /// The line of the file that names each address to listen on.
    pub listen_lines: HashMap<SocketAddr, usize>,
}

impl Config {
    /// Whether an ingress mails its `accepted` (DESIGN: one report per hop where something sees the
    /// message leave).
    pub fn reports_arrivals(&self) -> bool {
        match self.reports.accepted {
            Accepted::Always => true,
            Accepted::Never => false,
            Accepted::Auto => !self.sees_departures(),
        }
    }

    /// After how long a message that is not seen leaving is told of as `held`, if that can be told here: something has
    /// to see it leave.
    pub fn held_after(&self) -> Option<Duration> {
        let minutes = u64::from(self.reports.held_after_minutes);
        (minutes > 0 && self.sees_departures()).then(|| Duration::from_mins(minutes))
    }

    fn sees_departures(&self) -> bool {
        self.listeners.iter().any(|l| l.role != Role::Ingress)
    }
}

/// A configuration that cannot be run, in words for whoever wrote it.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file itself.
    #[error("{path}: {why}")]
    Unreadable {
        /// The file.
        path: String,
        /// Why.
        why: std::io::Error,
    },
    /// Something in it.
    #[error("{path}:{line}: {message}")]
    Wrong {
        /// The file.
        path: String,
        /// The line, from 1.
        line: usize,
        /// The key and what is wrong with it.
        message: String,
    },
}

/// Reads and checks a configuration file.
pub fn load(path: &Path) -> Result<Config, ConfigError> {
    let name = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|why| ConfigError::Unreadable {
        path: name.clone(),
        why,
    })?;
    parse(&text, &name)
}

/// Checks the text of a configuration; `name` stands for the file in errors.
pub fn parse(text: &str, name: &str) -> Result<Config, ConfigError> {
    let file: File = from_toml(text, name)?;
    file.check(text)
        .map_err(|(offset, message)| wrong(text, name, offset, message))
}

/// Reads any TOML file, mistakes named by file, line and key.
pub fn from_toml<T: DeserializeOwned>(text: &str, name: &str) -> Result<T, ConfigError> {
    toml::from_str(text).map_err(|error| {
        let span = error.span().unwrap_or(0..0);
        let message = explain(text, &span, error.message());
        wrong(text, name, span.start, message)
    })
}

fn wrong(text: &str, name: &str, offset: usize, message: String) -> ConfigError {
    ConfigError::Wrong {
        path: name.to_owned(),
        line: line_at(text, offset),
        message,
    }
}

fn line_at(text: &str, offset: usize) -> usize {
    text.get(..offset).unwrap_or(text).matches('\n').count() + 1
}

/// What the parser says of values in the words of this language, and in those of whoever wrote the file.
const IN_PLAIN_WORDS: [(&str, &str); 5] = [
    (
        "invalid socket address syntax",
        "an IP address and a port are wanted, such as 127.0.0.1:25 or [::1]:25",
    ),
    (
        "expected a nonzero u32",
        "expected a whole number, 1 or more",
    ),
    ("expected u32", "expected a whole number, 0 or more"),
    ("expected usize", "expected a whole number, 0 or more"),
    ("expected i64", "expected a whole number"),
];

/// The parser's message, and the line it is about, so that the key is seen.
fn explain(text: &str, span: &std::ops::Range<usize>, message: &str) -> String {
    let start = text
        .get(..span.start)
        .and_then(|t| t.rfind('\n'))
        .map_or(0, |at| at + 1);
    let line = text
        .get(start..)
        .and_then(|t| t.lines().next())
        .unwrap_or_default()
        .trim();
    let mut out = message.trim_end().replace('\n', "; ");
    for (theirs, ours) in IN_PLAIN_WORDS {
        out = out.replace(theirs, ours);
    }
    if !line.is_empty() {
        let _ = write!(out, " (at: {line})");
    }
    out
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    hostname: Option<Spanned<String>>,
    organisation: Option<Spanned<String>>,
    state_dir: PathBuf,
    resolver: Option<SocketAddr>,
    reports: Spanned<reports::RawReports>,
    #[serde(default)]
    policy: PolicyTable,
    #[serde(default)]
    limits: Limits,
    #[serde(default)]
    timeouts: Timeouts,
    #[serde(default)]
    listener: Vec<Spanned<RawListener>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawListener {
    role: Role,
    listen: Spanned<SocketAddr>,
    protocol: Spanned<Protocol>,
    next_hop: Spanned<NextHop>,
    #[serde(default)]
    routes: BTreeMap<Spanned<String>, NextHop>,
    tls: Option<tls::RawServerTls>,
    next_hop_tls: Option<Spanned<tls::RawNextHopTls>>,
    #[serde(default)]
    proxy_from: Networks,
    content_filter: Option<Spanned<bool>>,
    clients: Option<Spanned<Networks>>,
    #[serde(default)]
    client_address: Option<Spanned<ClientAddress>>,
    #[serde(default)]
    mta_trusts_proxy_address: Option<bool>,
    #[serde(default)]
    bare_newline: BareNewline,
    #[serde(default)]
    safe_keywords: Vec<String>,
    policy: Option<Spanned<PolicyTable>>,
    request_header: Option<Spanned<String>>,
    track: Option<Spanned<Vec<Rule>>>,
}

/// An offset into the file and what is wrong there.
type Wrong = (usize, String);

impl File {
    /// `text` is that of the file.
    fn check(self, text: &str) -> Result<Config, Wrong> {
        let hostname = match self.hostname {
            Some(name) => checked_name(name, "hostname")?,
            None => {
                system_hostname().ok_or((0, "hostname: the system has none; set it".to_owned()))?
            }
        };
        let organisation = match self.organisation {
            Some(name) => checked_name(name, "organisation")?,
            None => organisation_of(&hostname).to_owned(),
        };
        let start = self.reports.span().start;
        let reports = self.reports.into_inner().check(start, &self.listener)?;
        if self.listener.is_empty() {
            return Err((
                0,
                "listener: at least one [[listener]] is needed".to_owned(),
            ));
        }
        check_addresses(&self.listener)?;
        check_loops(&self.listener)?;
        let policy = self.policy.over(&Policy::default());
        let listens = self.listener.iter().map(|raw| &raw.get_ref().listen);
        let listen_lines = listens
            .map(|listen| (*listen.get_ref(), line_at(text, listen.span().start)))
            .collect();
        let listeners = self
            .listener
            .into_iter()
            .map(|raw| raw.into_inner().check(&policy))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Config {
            hostname,
            organisation,
            state_dir: self.state_dir,
            resolver: self.resolver,
            reports,
            policy,
            limits: self.limits,
            timeouts: self.timeouts,
            listeners,
            listen_lines,
        })
    }
}

impl RawListener {
    /// Whether its next hop is this server and expects a PROXY header.
    fn greets_by_proxy(&self, server: &Peer) -> bool {
        let how = self.client_address.as_ref().map(Spanned::get_ref);
        let proxy = matches!(how, Some(ClientAddress::ProxyV1 | ClientAddress::ProxyV2));
        let same = |to: &NextHopAddr| {
            let (ours, theirs) = (addresses_of(&to.host), addresses_of(&server.host));
            to.port == server.port
                && (to.host.eq_ignore_ascii_case(&server.host)
                    || ours.iter().any(|ip| theirs.contains(ip)))
        };
        proxy && matches!(self.next_hop.get_ref(), NextHop::Fixed(to) if same(to))
    }

    /// Whether each key stands at a listener of the role that it concerns.
    fn check_role(&self) -> Result<(), Wrong> {
        let at = |span: std::ops::Range<usize>, text: &str| Err((span.start, text.to_owned()));
        if let Some(declared) = &self.content_filter
            && self.role != Role::Ingress
        {
            return at(
                declared.span(),
                "content_filter: concerns an ingress only, one that takes mail back from the MTA's content filter",
            );
        }
        if let Some(clients) = &self.clients
            && self.role == Role::Ingress
            && !self.takes_back()
        {
            return at(
                clients.span(),
                "clients: concerns an egress, a delivery and an ingress with content_filter = true; whom any other \
                 ingress serves is the MTA's to say",
            );
        }
        if let Some(own) = &self.policy
            && self.role != Role::Ingress
            && own.get_ref().allows_strangers()
        {
            return at(
                own.span(),
                "policy.allow: \"spf\" and \"dkim\" concern an ingress only; behind the MTA, it is the client",
            );
        }
        Ok(())
    }

    /// Whether its clients are the MTA's content filter.
    fn takes_back(&self) -> bool {
        self.content_filter
            .as_ref()
            .is_some_and(|declared| *declared.get_ref())
    }

    fn check(self, policy: &Policy) -> Result<Listener, Wrong> {
        self.check_role()?;
        let takes_back = self.takes_back();
        let at = |span: std::ops::Range<usize>, text: &str| Err((span.start, text.to_owned()));
        let (protocol, span) = (*self.protocol.get_ref(), self.protocol.span());
        match (self.role, protocol) {
            (Role::Ingress, Protocol::Lmtp) => {
                return at(span, "protocol: an ingress speaks \"smtp\"");
            }
            (Role::Delivery, Protocol::Smtp) => {
                return at(span, "protocol: a delivery speaks \"lmtp\"");
            }
            _ => {}
        }
        let routes = self.routes.into_iter();
        let routes = Routes {
            default: self.next_hop.get_ref().clone(),
            domains: routes
                .map(|(domain, to)| (domain.into_inner().to_ascii_lowercase(), to))
                .collect(),
        };
        if self.role == Role::Ingress
            && routes
                .fixed()
                .is_none_or(|next_hop| next_hop.protocol == Protocol::Lmtp)
        {
            // SMTP has one reply where LMTP has one for each recipient (RFC 2033, 4.2).
            return at(
                self.next_hop.span(),
                "next_hop: an ingress stands before one smtp:// server, without routes",
            );
        }
        let listen = *self.listen.get_ref();
        let client_address = self
            .client_address
            .as_ref()
            .map(|c| (*c.get_ref(), c.span()));
        let how = client_address
            .as_ref()
            .map_or(ClientAddress::None, |(how, _)| *how);
        // Behind a balancer strangers reach a loopback address too.
        if !how.counts_for_the_mta()
            && self.role == Role::Ingress
            && !(listen.ip().is_loopback() && self.proxy_from.is_empty())
            && self.mta_trusts_proxy_address != Some(false)
        {
            return at(
                self.listen.span(),
                "listen: reachable from other hosts, whose mail the MTA would take for mail from \
                 hoptrail's own address: an open relay if it trusts that. Set client_address to \
                 \"xclient\", \"proxy-v1\" or \"proxy-v2\" so that the MTA sees the true client, or \
                 mta_trusts_proxy_address = false if it grants hoptrail's address nothing",
            );
        }
        if let Some((address, span)) = client_address
            && self.role != Role::Ingress
            && address != ClientAddress::None
        {
            return at(span, "client_address: concerns an ingress only");
        }
        let next_hop_tls = match self.next_hop_tls {
            Some(table) => {
                let span = table.span();
                NextHopTls::Set(table.into_inner().check(span)?)
            }
            None => NextHopTls::Usual(tls::opportunistic(0)?),
        };
        Ok(Listener {
            role: self.role,
            listen,
            protocol,
            routes,
            tls: self.tls.map(tls::RawServerTls::check).transpose()?,
            next_hop_tls,
            client_address: how,
            proxy_from: self.proxy_from,
            content_filter: takes_back,
            clients: self
                .clients
                .map_or_else(Networks::loopback, Spanned::into_inner),
            bare_newline: self.bare_newline,
            safe_keywords: self.safe_keywords,
            policy: match self.policy {
                Some(own) => own.into_inner().over(policy),
                None => policy.clone(),
            },
            wishes: wish::check(self.role, self.request_header, self.track)?,
        })
    }
}

/// A name that can stand in a greeting and in a report: RFC 5321's Domain, one label or more.
fn checked_name(name: Spanned<String>, key: &str) -> Result<String, Wrong> {
    let start = name.span().start;
    let name = name.into_inner();
    if is_domain(&name) {
        Ok(name)
    } else {
        Err((
            start,
            format!("{key}: {name:?} is no host name (letters, digits, - and .)"),
        ))
    }
}

/// The domain that a host stands in, if its name tells.
fn organisation_of(hostname: &str) -> &str {
    match hostname.split_once('.') {
        Some((_, domain)) if domain.contains('.') => domain,
        _ => hostname,
    }
}

fn system_hostname() -> Option<String> {
    hostname::get()
        .ok()?
        .into_string()
        .ok()
        .filter(|name| is_domain(name))
}

/// Whether this can be the name of a host or a domain (RFC 5321's Domain, no address literal).
pub fn is_domain(name: &str) -> bool {
    let label = |l: &str| {
        !l.is_empty() && l.len() <= 63 && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    name.len() <= 255 && name.split('.').all(label)
}

#[cfg(test)]
mod tests;
