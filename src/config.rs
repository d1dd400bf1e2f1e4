//! The configuration file: TOML into settings, with every mistake named by file, line and key. Opens
//! nothing but its own file and the certificates and keys it names: no sockets, no state. Of a sendmail it looks
//! whether it is there.

mod addresses;
mod keywords;
mod mistake;
mod reports;
mod tls;
mod wish;

use std::collections::{BTreeMap, HashMap};
use std::mem;
use std::net::SocketAddr;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use crate::hop::introduce::ClientAddress;
use crate::hop::limits::{Limits, Timeouts};
use crate::hop::listener::Listener;
use crate::hop::networks::Networks;
use crate::hop::next_hop::{NextHopAddr, Protocol};
use crate::hop::route::{NextHop, Routes, in_ascii};
use crate::hop::tls::NextHopTls;
use crate::report::sign::Signer;
use crate::smtp::data::BareNewline;
use crate::store::via::Peer;
use crate::track::Role;
use crate::track::policy::{Policy, PolicyTable};
use crate::track::wish::Rule;
use addresses::{addresses_of, check_addresses, check_loops};
pub use mistake::{ConfigError, from_toml};
use mistake::{Wrong, line_at, place};
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
    /// Where it says so, for whoever has to change it.
    pub places: Places,
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

/// Where in the file a configuration says what only a running hop finds to be wrong.
#[derive(Clone, Debug)]
pub struct Places {
    file: String,
    state_dir: usize,
    listens: HashMap<SocketAddr, usize>,
}

impl Places {
    /// That of `state_dir`, with file, line and key, as errors of the file itself begin.
    pub fn state_dir(&self) -> String {
        format!("{}: state_dir", place(&self.file, Some(self.state_dir)))
    }

    /// That of this address to listen on.
    pub fn listen(&self, address: SocketAddr) -> String {
        let line = self.listens.get(&address).copied();
        format!("{}: listen", place(&self.file, line))
    }

    /// That of a key which may not be there.
    pub fn key(&self, key: &str) -> String {
        format!("{}: {key}", self.file)
    }
}

/// Reads and checks a configuration file.
pub fn load(path: &Path) -> Result<Config, ConfigError> {
    let (text, name) = read(path)?;
    parse(&text, &name)
}

/// Checks the text of a configuration; `name` stands for the file in errors.
pub fn parse(text: &str, name: &str) -> Result<Config, ConfigError> {
    let file: File = from_toml(text, name)?;
    file.check(text, name)
        .map_err(|wrong| ConfigError::of(text, name, wrong))
}

/// The `state_dir` of a configuration: work on what lies there needs nothing else that the file names.
pub fn load_state_dir(path: &Path) -> Result<PathBuf, ConfigError> {
    let (text, name) = read(path)?;
    let file: File = from_toml(&text, &name)?;
    Ok(file.state_dir.into_inner())
}

/// The keys in a configuration that sign reports, and nothing else that it names.
pub fn load_signers(path: &Path) -> Result<Vec<Signer>, ConfigError> {
    let (text, name) = read(path)?;
    let file: File = from_toml(&text, &name)?;
    let signers = file.reports.signers();
    signers.map_err(|wrong| ConfigError::of(&text, &name, wrong))
}

/// The text of the file, and what errors call it.
fn read(path: &Path) -> Result<(String, String), ConfigError> {
    let name = path.display().to_string();
    match std::fs::read_to_string(path) {
        Ok(text) => Ok((text, name)),
        Err(why) => Err(ConfigError::Unreadable { path: name, why }),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    hostname: Option<Spanned<String>>,
    organisation: Option<Spanned<String>>,
    state_dir: Spanned<PathBuf>,
    resolver: Option<SocketAddr>,
    reports: reports::RawReports,
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
    safe_keywords: Vec<Spanned<String>>,
    policy: Option<Spanned<PolicyTable>>,
    request_header: Option<Spanned<String>>,
    track: Option<Spanned<Vec<Rule>>>,
}

impl File {
    /// `text` is that of the file, `name` what errors call it.
    fn check(self, text: &str, name: &str) -> Result<Config, Wrong> {
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
        let reports = self.reports.check(&self.listener)?;
        if self.listener.is_empty() {
            return Err((
                text.len(),
                "listener: at least one [[listener]] is needed".to_owned(),
            ));
        }
        check_addresses(&self.listener)?;
        check_loops(&self.listener)?;
        let policy = self.policy.over(&Policy::default());
        let listens = self.listener.iter().map(|raw| &raw.get_ref().listen);
        let places = Places {
            file: name.to_owned(),
            state_dir: line_at(text, self.state_dir.span().start),
            listens: listens
                .map(|listen| (*listen.get_ref(), line_at(text, listen.span().start)))
                .collect(),
        };
        let listeners = self
            .listener
            .into_iter()
            .map(|raw| raw.into_inner().check(&policy))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Config {
            hostname,
            organisation,
            state_dir: self.state_dir.into_inner(),
            resolver: self.resolver,
            reports,
            policy,
            limits: self.limits,
            timeouts: self.timeouts,
            listeners,
            places,
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

    fn check(mut self, policy: &Policy) -> Result<Listener, Wrong> {
        self.check_role()?;
        let takes_back = self.takes_back();
        self.check_protocol()?;
        let routes = self.check_routes()?;
        self.check_reach()?;
        let next_hop_tls = match self.next_hop_tls {
            Some(table) => {
                let span = table.span();
                NextHopTls::Set(table.into_inner().check(span)?)
            }
            None => NextHopTls::Usual(tls::opportunistic(0)?),
        };
        Ok(Listener {
            role: self.role,
            listen: *self.listen.get_ref(),
            protocol: *self.protocol.get_ref(),
            routes,
            tls: self.tls.map(tls::RawServerTls::check).transpose()?,
            next_hop_tls,
            client_address: self
                .client_address
                .map_or(ClientAddress::None, Spanned::into_inner),
            proxy_from: self.proxy_from,
            content_filter: takes_back,
            clients: self
                .clients
                .map_or_else(Networks::loopback, Spanned::into_inner),
            bare_newline: self.bare_newline,
            safe_keywords: keywords::check(self.safe_keywords)?,
            policy: match self.policy {
                Some(own) => own.into_inner().over(policy),
                None => policy.clone(),
            },
            wishes: wish::check(self.role, self.request_header, self.track)?,
        })
    }

    fn check_protocol(&self) -> Result<(), Wrong> {
        let wrong = match (self.role, self.protocol.get_ref()) {
            (Role::Ingress, Protocol::Lmtp) => "protocol: an ingress speaks \"smtp\"",
            (Role::Delivery, Protocol::Smtp) => "protocol: a delivery speaks \"lmtp\"",
            _ => return Ok(()),
        };
        at(self.protocol.span(), wrong)
    }

    fn check_routes(&mut self) -> Result<Routes, Wrong> {
        let routes = Routes {
            default: self.next_hop.get_ref().clone(),
            domains: mem::take(&mut self.routes)
                .into_iter()
                .map(|(domain, to)| Ok((route_domain(&domain)?, to)))
                .collect::<Result<_, Wrong>>()?,
        };
        let fixed = routes.fixed();
        let speaks_smtp = fixed.is_some_and(|next_hop| next_hop.protocol == Protocol::Smtp);
        if self.role == Role::Ingress && !speaks_smtp {
            // SMTP has one reply where LMTP has one for each recipient (RFC 2033, 4.2).
            return at(
                self.next_hop.span(),
                "next_hop: an ingress stands before one smtp:// server, without routes",
            );
        }
        Ok(routes)
    }

    /// Who reaches it, and whom the next hop takes them for: nothing here is to make an open relay.
    fn check_reach(&self) -> Result<(), Wrong> {
        let client_address = self.client_address.as_ref();
        let how = client_address.map_or(ClientAddress::None, |how| *how.get_ref());
        // Behind a balancer strangers reach a loopback address too.
        let is_private = self.listen.get_ref().ip().is_loopback() && self.proxy_from.is_empty();
        let is_said = self.mta_trusts_proxy_address == Some(false);
        if self.role == Role::Ingress && !(how.counts_for_the_mta() || is_private || is_said) {
            return at(
                self.listen.span(),
                "listen: reachable from other hosts, by itself or by proxy_from, whose mail the MTA would take for mail \
                 from hoptrail's own address: an open relay if it trusts that. Set client_address to \
                 \"xclient\", \"proxy-v1\" or \"proxy-v2\" so that the MTA sees the true client, or \
                 mta_trusts_proxy_address = false if it grants hoptrail's address nothing",
            );
        }
        if let Some(clients) = self.clients.as_ref()
            && clients.get_ref().hold_everybody()
        {
            return at(
                clients.span(),
                "clients: everybody, and what they send goes on from here: an open relay. Name the networks of your \
                 own mail servers",
            );
        }
        match client_address {
            Some(set) if self.role != Role::Ingress && how != ClientAddress::None => {
                at(set.span(), "client_address: concerns an ingress only")
            }
            _ => Ok(()),
        }
    }
}

fn at<T>(span: Range<usize>, text: &str) -> Result<T, Wrong> {
    Err((span.start, text.to_owned()))
}

/// The domain of a route, or all names below one.
fn route_domain(key: &Spanned<String>) -> Result<String, Wrong> {
    let written = key.get_ref();
    let (dot, name) = match written.strip_prefix('.') {
        Some(name) => (".", name),
        None => ("", written.as_str()),
    };
    let name = in_ascii(name.strip_suffix('.').unwrap_or(name));
    // Mail goes to domains with an underscore, too.
    if is_domain(&name.replace('_', "-")) {
        return Ok(format!("{dot}{name}"));
    }
    let cure = "write \"example.net\", or \".example.net\" for all names below it";
    Err((
        key.span().start,
        format!("routes: {written:?} is no domain: {cure}"),
    ))
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
