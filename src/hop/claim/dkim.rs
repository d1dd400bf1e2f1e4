//! Whether the domain of a reverse-path signed the message (DKIM, RFC 6376).
//!
//! A signature counts if its `d=` is the reverse-path's domain or one above it, that is if the reverse-path
//! could stand in its `i=` (RFC 6376, 3.5; a key with `t=s` allows the very domain alone). So a list of
//! organisational domains is not needed, and no neighbour within one can sign for another.
//!
//! What a signature cannot tell is that its message is sent for the first time: whoever has a signed message can
//! send it again. That is what the budget of verified askers is small for.

use std::panic::catch_unwind;
use std::sync::Arc;

use mail_auth::common::crypto::Algorithm;
use mail_auth::common::verify::VerifySignature;
use mail_auth::dkim::Signature;
use mail_auth::{AuthenticatedMessage, DkimOutput, DkimResult, MessageAuthenticator};
use tokio::time::timeout;
use tracing::debug;

use super::Start;
use crate::hop::Hop;
use crate::hop::digest::{Digest, Stuffing};
use crate::hop::route::Names;
use crate::track::domain::is_within;
use crate::track::domain_key::is_for_mail;

/// Signatures of one message that are looked at; each may cost a look-up and a public key operation.
const SIGNATURES_MAX: usize = 4;

/// A message on its way whose header block holds signatures that would do.
pub struct Signed {
    header: Vec<u8>,
    /// The domain of the reverse-path.
    domain: String,
    /// The body so far.
    pub digest: Digest,
}

impl Signed {
    /// A message from this reverse-path, if its start holds a signature that would do.
    pub fn by(reverse_path: &[u8], start: &Start<'_>) -> Option<Self> {
        let (_, domain) = std::str::from_utf8(reverse_path).ok()?.rsplit_once('@')?;
        let mut header = Vec::with_capacity(start.head.block().len());
        let mut stuffing = Stuffing::of(start.chunked);
        stuffing.undo(start.head.block(), |text| header.extend_from_slice(text));
        let signatures = aligned(&header, domain)?.dkim_headers;
        let digest = Digest::of(
            signatures.iter().map(|s| s.header.cb),
            Stuffing::of(start.chunked),
        );
        (!signatures.is_empty()).then(|| {
            let mut signed = Self {
                domain: domain.to_owned(),
                header,
                digest,
            };
            signed.digest.take(start.head.body());
            signed
        })
    }

    /// Has the keys looked up while the body is on its way, so that nobody waits for them at its end.
    pub fn fetch_keys(&self, hop: &Hop) {
        let message = aligned(&self.header, &self.domain);
        let keys: Vec<String> = message
            .iter()
            .flat_map(|message| message.dkim_headers.iter())
            .map(|signature| signature.header.domain_key())
            .collect();
        let (names, limit) = (Arc::clone(&hop.names), hop.timeouts.verify());
        tokio::spawn(async move {
            let Ok(resolver) = names.resolver() else {
                return;
            };
            for key in keys {
                // Only the resolver's memory is of interest here.
                let _ = timeout(limit, resolver.txt_lookup(key)).await;
            }
        });
    }

    /// Whether one of the signatures holds for the whole message.
    pub async fn holds(self, names: &Names) -> bool {
        let Some(mut message) = aligned(&self.header, &self.domain) else {
            return false;
        };
        let Ok(resolver) = names.resolver() else {
            return false;
        };
        message.body_hashes = self.digest.finish();
        let name_servers = MessageAuthenticator(resolver.clone());
        let results = name_servers.verify_dkim(&message).await;
        for result in &results {
            debug!(domain = %self.domain, result = %result.result(), "DKIM");
        }
        let passed = results.iter().filter(|r| *r.result() == DkimResult::Pass);
        for signature in passed.filter_map(DkimOutput::signature) {
            // Out of the resolver's memory.
            let record = name_servers.txt_raw_lookup(signature.domain_key()).await;
            if record.is_ok_and(|text| is_for_mail(&String::from_utf8_lossy(&text))) {
                return true;
            }
        }
        false
    }
}

/// The message of this header block, with those of its signatures alone that would do for the domain. Each says
/// that it is for the domain, so that the verifier holds it to the rules of `i=`.
fn aligned<'h>(header: &'h [u8], domain: &str) -> Option<AuthenticatedMessage<'h>> {
    // Whatever a stranger's header does to the parser, his mail goes on.
    let parsed = catch_unwind(|| AuthenticatedMessage::parse(header));
    let mut message = parsed.ok().flatten()?;
    message
        .dkim_headers
        .retain(|signature| would_do(&signature.header, domain));
    message.dkim_headers.truncate(SIGNATURES_MAX);
    for signature in &mut message.dkim_headers {
        signature.header.i = format!("@{domain}");
    }
    Some(message)
}

/// Whether this signature may be taken for the domain's word: made by it or by one above it, for itself, over From
/// (RFC 6376, 5.4), and not with SHA-1 (RFC 8301, 3.1).
fn would_do(signature: &Signature, domain: &str) -> bool {
    let (_, agent) = signature.i.rsplit_once('@').unwrap_or(("", &signature.d));
    is_within(domain, &signature.d)
        && is_within(agent, &signature.d)
        && signature.h.iter().any(|h| h.eq_ignore_ascii_case("from"))
        && signature.a != Algorithm::RsaSha1
}

#[cfg(test)]
mod tests;
