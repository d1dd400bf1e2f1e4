//! A stranger's request, and whether the domain of its reverse-path vouches for it: by permitting the client's
//! address (SPF), asked for as soon as MAIL comes, or by a signature over the message (DKIM), proven only when
//! all of it has come. Until then, and for good if neither holds, the mail passes as if nothing had been asked.
//! No wait is longer than configured, and only a message that asks has one.
//!
//! - `spf`: the address. `dkim`: the signature, over a body that is hashed on its way and never held.

mod dkim;
mod spf;

use std::sync::Arc;

use tokio::task::JoinHandle;
use tokio::time::timeout;
use tracing::info;

pub use dkim::Digest;
use dkim::Signed;
use spf::Sender;

use super::Site;
use super::body::Head;
use super::client::Client;
use super::route::Names;
use super::transaction::{Envelope, Tracked};

/// What a stranger has yet to prove.
pub enum Claim {
    /// MAIL has come; whether the domain permits the client is being asked.
    Asked(Option<Inquiry>),
    /// The header block holds signatures that would do; the body has yet to agree.
    Signed(Box<Signed>),
}

/// The start of a message, for what it claims.
pub struct Start<'a> {
    /// What came first.
    pub head: &'a Head,
    /// It came in chunks, whose octets are the text itself.
    pub chunked: bool,
}

impl Start<'_> {
    /// What of the body came with the header block.
    fn body(&self) -> &[u8] {
        let header = self.head.header.unwrap_or(self.head.text.len());
        self.head.text.get(header..).unwrap_or_default()
    }
}

/// A question that takes the name servers, in a task of its own: what goes wrong in it is a no, and nobody asks on
/// when this is dropped.
pub struct Inquiry(JoinHandle<bool>);

impl Inquiry {
    /// Asks, for no longer than configured.
    fn ask<F>(site: &Site, question: impl FnOnce(Arc<Names>) -> F) -> Self
    where
        F: Future<Output = bool> + Send + 'static,
    {
        let asking = timeout(
            site.hop.timeouts.verify(),
            question(Arc::clone(&site.hop.names)),
        );
        Self(tokio::spawn(async move { asking.await.unwrap_or(false) }))
    }

    async fn answer(mut self) -> bool {
        (&mut self.0).await.unwrap_or(false)
    }
}

impl Drop for Inquiry {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Claim {
    /// The claim of a client that says MAIL with this reverse-path.
    pub fn begin(site: &Site, client: &Client, helo: &str, reverse_path: &[u8]) -> Self {
        if !site.listener.policy.allows_spf() {
            return Self::Asked(None);
        }
        let sender = Sender {
            client: client.ends.client.ip().to_canonical(),
            helo: helo.to_owned(),
            host: site.hop.hostname.clone(),
            reverse_path: String::from_utf8_lossy(reverse_path).into_owned(),
        };
        let ask = |names: Arc<Names>| async move { sender.is_permitted(&names).await };
        Self::Asked(Some(Inquiry::ask(site, ask)))
    }

    /// Settles what can be settled before the body. Without a `start` no signature counts. A request for which
    /// nobody will vouch is gone after this.
    pub async fn settle(
        site: &Site,
        request: &mut Option<Box<Tracked>>,
        reverse_path: &[u8],
        start: Option<Start<'_>>,
    ) {
        let claim = request.as_ref().and_then(|tracked| tracked.claim.as_ref());
        if matches!(claim, Some(Self::Asked(_))) {
            // Most requests need no proof, and are not to have room made for it.
            Box::pin(Self::hear(site, request, reverse_path, start)).await;
        }
    }

    async fn hear(
        site: &Site,
        request: &mut Option<Box<Tracked>>,
        reverse_path: &[u8],
        start: Option<Start<'_>>,
    ) {
        let Some(tracked) = request else { return };
        let Some(Self::Asked(inquiry)) = tracked.claim.take() else {
            return;
        };
        if let Some(inquiry) = inquiry
            && inquiry.answer().await
        {
            return;
        }
        let start = start.filter(|_| site.listener.policy.allows_dkim());
        match start.and_then(|start| Signed::by(reverse_path, &start)) {
            Some(signed) => {
                signed.fetch_keys(&site.hop);
                tracked.claim = Some(Self::Signed(Box::new(signed)));
            }
            None => drop_request(site, request),
        }
    }

    /// Settles the rest, when the message has passed whole.
    pub async fn conclude(site: &Site, request: &mut Option<Box<Tracked>>) {
        let Some(claim) = request.as_mut().and_then(|tracked| tracked.claim.take()) else {
            return;
        };
        if !Box::pin(claim.prove(site)).await {
            drop_request(site, request);
        }
    }

    async fn prove(self, site: &Site) -> bool {
        match self {
            Self::Asked(_) => false,
            Self::Signed(signed) => {
                let inquiry = Inquiry::ask(site, |names| async move { signed.holds(&names).await });
                inquiry.answer().await
            }
        }
    }
}

/// What wants to see the body of this message.
pub fn digest(envelope: Option<&mut Envelope>) -> Option<&mut Digest> {
    match envelope?.tracked.as_mut()?.claim.as_mut()? {
        Claim::Signed(signed) => Some(&mut signed.digest),
        Claim::Asked(_) => None,
    }
}

fn drop_request(site: &Site, request: &mut Option<Box<Tracked>>) {
    if let Some(tracked) = request.take() {
        info!(hop = %site.hop.hostname, envid = %tracked.id, "nobody vouches for the asker: untracked");
    }
}
