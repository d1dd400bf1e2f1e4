//! The `[reports]` table, with the keys that sign reports: like certificates they are read with the
//! configuration, so that one of no use is a mistake in it, and the same at a reload.

use std::fmt;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use toml::Spanned;

use super::{RawListener, Wrong, is_domain};
use crate::hop::limits::within;
use crate::report::sign::{Key, Signer};
use crate::store::private;
use crate::store::via::Via;

/// How reports are made and sent.
#[derive(Clone, Debug)]
pub struct Reports {
    /// The address in their From.
    pub from: String,
    /// The way they leave.
    pub via: Via,
    /// Whether arrival at this hop is a report of its own.
    pub accepted: Accepted,
    /// After how many minutes a message that is not seen leaving is told of as `held`; 0 for never.
    pub held_after_minutes: u32,
    /// How long steps are remembered, days.
    pub retention_days: u32,
    /// Who signs them; nobody if there are none.
    pub dkim: Vec<Signer>,
}

/// When `accepted` is mailed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Accepted {
    /// Where nothing at this hop sees the message leave.
    #[default]
    Auto,
    /// Always, beside the report of the departure.
    Always,
    /// Never.
    Never,
}

/// The table as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawReports {
    from: Spanned<String>,
    via: Spanned<Via>,
    #[serde(default)]
    accepted: Accepted,
    #[serde(
        default = "held_after_minutes",
        deserialize_with = "within::<0, 14400, _, _>"
    )]
    held_after_minutes: u32,
    #[serde(
        default = "retention_days",
        deserialize_with = "within::<1, 3650, _, _>"
    )]
    retention_days: u32,
    #[serde(default, deserialize_with = "one_or_more")]
    dkim: Vec<RawSigner>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSigner {
    domain: Spanned<String>,
    selector: Spanned<String>,
    key: Spanned<PathBuf>,
}

fn held_after_minutes() -> u32 {
    60
}

fn retention_days() -> u32 {
    10
}

impl RawReports {
    /// Looks at the way out, which none of these listeners may be, and reads the keys.
    pub fn check(self, listeners: &[Spanned<RawListener>]) -> Result<Reports, Wrong> {
        check_way_out(&self.via, listeners)?;
        Ok(Reports {
            from: self.from.get_ref().clone(),
            via: self.via.get_ref().clone(),
            accepted: self.accepted,
            held_after_minutes: self.held_after_minutes,
            retention_days: self.retention_days,
            dkim: self.signers()?,
        })
    }

    /// Reads the keys alone.
    pub fn signers(self) -> Result<Vec<Signer>, Wrong> {
        let host = host(self.from.get_ref()).ok_or_else(|| {
            let why = "reports.from: must be a mail address (user@host)";
            (self.from.span().start, why.to_owned())
        })?;
        let start = self.dkim.first().map(|signer| signer.domain.span().start);
        let signers = self.dkim.into_iter().map(|signer| signer.check(host));
        let dkim = signers.collect::<Result<Vec<_>, _>>()?;
        if let [one, other, more @ ..] = dkim.as_slice()
            && (!more.is_empty() || one.key().algorithm() == other.key().algorithm())
        {
            let why = "reports.dkim: at most two, one with an RSA and one with an Ed25519 key";
            return Err((start.unwrap_or_default(), why.to_owned()));
        }
        Ok(dkim)
    }
}

impl RawSigner {
    /// `host` is that of the address in From.
    fn check(self, host: &str) -> Result<Signer, Wrong> {
        let at = |start: usize, key: &str, why: &str| (start, format!("reports.dkim.{key}: {why}"));
        for (key, name) in [("domain", &self.domain), ("selector", &self.selector)] {
            if !is_domain(name.get_ref()) {
                let why = "must be of letters, digits, - and .";
                return Err(at(name.span().start, key, why));
            }
        }
        if !is_within(host, self.domain.get_ref()) {
            let why = format!("must be {host}, the host in reports.from, or a domain above it");
            return Err(at(self.domain.span().start, "domain", &why));
        }
        let start = self.key.span().start;
        let path = self.key.into_inner();
        let text = private::read(&path).map_err(|why| at(start, "key", &why.to_string()))?;
        let key = Key::from_pem(&text)
            .map_err(|why| at(start, "key", &format!("{}: {why}", path.display())))?;
        Ok(Signer::new(
            self.domain.into_inner(),
            self.selector.into_inner(),
            key,
        ))
    }
}

/// A way out that can never work is told before anything waits for it.
fn check_way_out(via: &Spanned<Via>, listeners: &[Spanned<RawListener>]) -> Result<(), Wrong> {
    let wrong = |why: String| Err((via.span().start, format!("reports.via: {why}")));
    match via.get_ref() {
        Via::Sendmail(program) if !is_program(program) => wrong(format!(
            "{} is no program that can be run: name the sendmail of this system",
            program.display()
        )),
        Via::Smtp(peer) | Via::Smtps(peer) | Via::Lmtp(peer)
            if listeners
                .iter()
                .any(|raw| raw.get_ref().greets_by_proxy(peer)) =>
        {
            wrong(format!(
                "{peer} waits for the PROXY header that the ingress sends it (client_address), and reports have \
                 none: give another port of the MTA, one without PROXY, or sendmail:/usr/sbin/sendmail"
            ))
        }
        _ => Ok(()),
    }
}

fn is_program(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
}

/// Whether a host lies in a domain: only then DMARC finds From and signature aligned (RFC 7489, 3.1.1).
fn is_within(host: &str, domain: &str) -> bool {
    let (host, domain) = (host.to_ascii_lowercase(), domain.to_ascii_lowercase());
    host.strip_suffix(&domain)
        .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// The host of a mail address.
fn host(address: &str) -> Option<&str> {
    let (local, domain) = address.rsplit_once('@')?;
    let good = !local.is_empty() && local.bytes().all(|b| (b'!'..=b'~').contains(&b));
    (good && is_domain(domain)).then_some(domain)
}

/// A table, or a list of such tables.
fn one_or_more<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<RawSigner>, D::Error> {
    struct OneOrMore;
    impl<'de> Visitor<'de> for OneOrMore {
        type Value = Vec<RawSigner>;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a table { domain, selector, key } or a list of such tables")
        }
        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
            RawSigner::deserialize(MapAccessDeserializer::new(map)).map(|one| vec![one])
        }
        fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Self::Value, A::Error> {
            Vec::deserialize(SeqAccessDeserializer::new(seq))
        }
    }
    deserializer.deserialize_any(OneOrMore)
}
