//! Who wrote a report, as far as DKIM tells (RFC 6376): whether a signature by the domain of the host that
//! reports, or by that of the mail's From, holds for the mail as it was found.
//!
//! Keys are given as values, so that a report can be judged years after its key has gone from the DNS; what a
//! signature says of its own expiry (`x=`) is for those who deliver mail, and is passed over here.
//!
//! Must not know the clock, disk or DNS.

use std::borrow::Borrow;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::Hash;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, LazyLock};
use std::time::Instant;

use futures_util::FutureExt;
use hickory_resolver::Resolver;
use hickory_resolver::config::ResolverConfig;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::op::ResponseCode;
use mail_auth::common::crypto::{Algorithm, CryptoError};
use mail_auth::common::parse::TxtRecordParser;
use mail_auth::common::verify::{DomainKey, VerifySignature};
use mail_auth::dkim::{DkimError, Signature};
use mail_auth::{
    AuthenticatedMessage, DkimResult, DnsError, Error, MessageAuthenticator, Parameters,
    ResolverCache, Txt,
};
use memchr::memchr_iter;
use serde::{Deserialize, Serialize};

use crate::track::domain::is_within;
use crate::track::domain_key::is_for_mail;

/// Signatures of one mail that are looked at; each may cost a look-up and a public key operation.
const SIGNATURES_MAX: usize = 8;

/// What is known of who wrote a report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nobody looked.
    Unchecked,
    /// No domain signed it that could speak for the host or for the From.
    Unsigned,
    /// The domain signed it, and nothing has changed since.
    Signed {
        /// Whose key it is.
        domain: String,
        /// The host that reports lies in that domain; if not, the domain does not vouch for its name.
        vouches: bool,
    },
    /// The domain signed it, and shows no key.
    NoKey {
        /// Whose key it is.
        domain: String,
    },
    /// The domain signed it, and its key is malformed, of another kind than the signature, not for mail or only on
    /// trial. Such a mail is like one that nobody signed.
    UnfitKey {
        /// Whose key it is.
        domain: String,
    },
    /// The domain signed it, and no name server answered for its key.
    NoAnswer {
        /// Whose key it is.
        domain: String,
    },
    /// The signature does not fit: the mail or the key was changed since, or it is made up. Such a mail is like one that
    /// nobody signed (RFC 6376, 6.1).
    Altered {
        /// In whose name.
        domain: String,
    },
}

impl Origin {
    /// Whether the domain of the host vouches for it.
    pub fn is_shown(&self) -> bool {
        matches!(self, Self::Signed { vouches: true, .. })
    }
}

/// A key as the DNS had it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// The TXT record at `SELECTOR._domainkey.DOMAIN`; `None` if there was none or nobody answered.
    pub text: Option<String>,
    /// Nobody answered: whether there is one is not known.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unanswered: bool,
    /// When it was asked for, µs since 1970-01-01 UTC.
    pub looked_up_us: i64,
}

/// Keys by the name of their record, in lower case without a final dot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Keys(pub BTreeMap<String, Record>);

impl Keys {
    fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.text.as_deref()
    }
}

/// The names of the keys by which a mail from this host would be judged.
pub fn keys_wanted(mail: &[u8], host: &str) -> BTreeSet<String> {
    let mail = with_crlf(mail);
    let names = guarded(|| {
        let message = speaking(&mail, host)?;
        let signatures = message.dkim_headers.iter();
        Some(signatures.map(|s| bare(&s.header.domain_key())).collect())
    });
    names.unwrap_or_default()
}

/// Judges a mail, in which `host` is said to report, by these keys.
pub fn origin(mail: &[u8], host: &str, keys: &Keys) -> Origin {
    let mail = with_crlf(mail);
    let verdicts = guarded(|| verdicts(&speaking(&mail, host)?, keys)).unwrap_or_default();
    let find = |wanted: fn(&DkimResult) -> bool, of_host: bool| {
        let mut found = verdicts.iter();
        found
            .find(|(domain, result)| wanted(result) && (!of_host || is_within(host, domain)))
            .map(|(domain, _)| domain.clone())
    };
    // A signature of the host's own domain outweighs whatever others signed.
    if let Some(domain) = find(pass, true) {
        return Origin::Signed {
            domain,
            vouches: true,
        };
    }
    if let Some(domain) = find(wrong, false) {
        return Origin::Altered { domain };
    }
    if let Some(domain) = find(pass, false) {
        return Origin::Signed {
            domain,
            vouches: false,
        };
    }
    let unanswered = |result: &DkimResult| matches!(result, DkimResult::TempError(_));
    if let Some(domain) = find(unanswered, false) {
        return Origin::NoAnswer { domain };
    }
    if let Some(domain) = find(unfit, false) {
        return Origin::UnfitKey { domain };
    }
    find(|_| true, false).map_or(Origin::Unsigned, |domain| Origin::NoKey { domain })
}

fn pass(result: &DkimResult) -> bool {
    *result == DkimResult::Pass
}

/// Whether a signature does not fit, by a key that could have made it.
fn wrong(result: &DkimResult) -> bool {
    match result {
        DkimResult::Fail(why) => !matches!(
            why,
            Error::Crypto(CryptoError::IncompatibleAlgorithms)
                | Error::Dkim(DkimError::FailedAuidMatch)
        ),
        result => matches!(result, DkimResult::Neutral(_)),
    }
}

/// Whether there is a key, and it could not have made the signature.
fn unfit(result: &DkimResult) -> bool {
    match result {
        DkimResult::Fail(_) => !wrong(result),
        DkimResult::PermError(
            Error::Dns(DnsError::RecordNotFound(_)) | Error::Dkim(DkimError::RevokedPublicKey),
        ) => false,
        result => matches!(result, DkimResult::PermError(_)),
    }
}

/// What the verifier takes for name servers. There are none: every question is answered out of the keys.
static NAMES: LazyLock<Option<MessageAuthenticator>> = LazyLock::new(|| {
    let nobody = ResolverConfig::from_parts(None, Vec::new(), Vec::new());
    let resolver = Resolver::builder_with_config(nobody, TokioRuntimeProvider::default());
    resolver.build().ok().map(MessageAuthenticator)
});

/// Each signature's domain and what became of it.
fn verdicts(message: &AuthenticatedMessage, keys: &Keys) -> Option<Vec<(String, DkimResult)>> {
    let names = NAMES.as_ref()?;
    let asked = Parameters::new(message).with_txt_cache(keys);
    let results = names.verify_dkim(asked).now_or_never()?;
    let of_signature = |output: &mail_auth::DkimOutput| {
        let signature = output.signature()?;
        let result = match keys.text(&bare(&signature.domain_key())) {
            // Whether it fits or not (RFC 6376, 3.6.1).
            Some(text) if !is_for_mail(text) => unusable(),
            _ => output.result().clone(),
        };
        Some((signature.d.to_ascii_lowercase(), result))
    };
    Some(results.iter().filter_map(of_signature).collect())
}

/// The mail, with those of its signatures alone that could speak for the host or for the From.
fn speaking<'m>(mail: &'m [u8], host: &str) -> Option<AuthenticatedMessage<'m>> {
    let mut message = AuthenticatedMessage::parse(mail)?;
    let authors = message.froms().iter();
    let mut names: Vec<String> = authors
        .filter_map(|from| Some(from.rsplit_once('@')?.1.to_owned()))
        .collect();
    names.push(host.to_owned());
    let speaks = |s: &Signature| names.iter().any(|name| is_within(name, &s.d)) && would_do(s);
    message.dkim_headers.retain(|s| speaks(&s.header));
    message.dkim_headers.truncate(SIGNATURES_MAX);
    for signature in &mut message.dkim_headers {
        signature.header.x = 0;
    }
    Some(message)
}

/// Whether a signature covers From (RFC 6376, 5.4) and is not made with SHA-1 (RFC 8301, 3.1).
fn would_do(signature: &Signature) -> bool {
    let covers_from = signature.h.iter().any(|h| h.eq_ignore_ascii_case("from"));
    covers_from && signature.a != Algorithm::RsaSha1
}

/// Whatever a stranger's mail does to a parser, the others are judged.
fn guarded<T>(work: impl FnOnce() -> Option<T>) -> Option<T> {
    catch_unwind(AssertUnwindSafe(work)).ok().flatten()
}

/// The mail with the line ends it was signed with: mail stores keep LF alone.
fn with_crlf(mail: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(mail.len() + mail.len() / 32);
    let mut start = 0;
    for at in memchr_iter(b'\n', mail) {
        let line = mail.get(start..at).unwrap_or_default();
        text.extend_from_slice(line.strip_suffix(b"\r").unwrap_or(line));
        text.extend_from_slice(b"\r\n");
        start = at + 1;
    }
    text.extend_from_slice(mail.get(start..).unwrap_or_default());
    text
}

/// What is made of a key that is none, or none for this.
fn unusable() -> DkimResult {
    DkimResult::PermError(Error::Dkim(DkimError::UnsupportedKeyType))
}

fn bare(name: &str) -> String {
    name.trim_end_matches('.').to_ascii_lowercase()
}

/// How the verifier asks for keys: all there are stand here, and nobody else is asked.
impl ResolverCache<Box<str>, Txt> for Keys {
    fn get<Q>(&self, name: &Q) -> Option<Txt>
    where
        Box<str>: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let is = |known: &&String| {
            let known: Box<str> = format!("{known}.").into();
            known.borrow() == name
        };
        let found = self.0.keys().find(is).and_then(|name| self.0.get(name));
        let unanswered = found.is_none_or(|record| record.unanswered);
        let none = || {
            Error::Dns(if unanswered {
                DnsError::Resolver("nobody answered".to_owned())
            } else {
                DnsError::RecordNotFound(ResponseCode::NXDomain)
            })
        };
        let text = found.and_then(|record| record.text.as_deref());
        let key = text.ok_or_else(none);
        Some(
            match key.and_then(|text| DomainKey::parse(text.as_bytes())) {
                Ok(key) => Txt::DomainKey(Arc::new(key)),
                Err(why) => Txt::Error(why),
            },
        )
    }

    fn remove<Q>(&self, _: &Q) -> Option<Txt>
    where
        Box<str>: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        None
    }

    fn insert(&self, _: Box<str>, _: Txt, _: Instant) {}
}

#[cfg(test)]
mod tests;
