//! A stranger's request, and whether the domain of its reverse-path vouches for it: by permitting the client's
//! address (SPF), asked for as soon as MAIL comes, or by a signature over the message (DKIM), proven only when
//! all of it has come. Until then, and for good if neither holds, the mail passes as if nothing had been asked.
//! No wait is longer than configured, and only a message that asks has one.
//!
//! - `spf`: the address. `dkim`: the signature, over a body that is hashed on its way and never held.

mod dkim;
mod spf;

use std::net::IpAddr;
use std::sync::Arc;

use tokio::task::JoinHandle;
use tokio::time::timeout;

use dkim::Signed;
use spf::Sender;

use super::Site;
use super::digest::Digest;
use super::head::Head;
use super::route::Names;

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

/// What a claim has come to.
pub enum Proof {
    /// The domain vouches for the asker.
    Given,
    /// It may yet.
    Awaited(Claim),
    /// Nobody does, and nobody will.
    Lacking,
}

impl Claim {
    /// The claim of a client at this address that says MAIL with this reverse-path.
    pub fn begin(site: &Site, client: IpAddr, helo: &str, reverse_path: &[u8]) -> Self {
        if !site.listener.policy.allows_spf() {
            return Self::Asked(None);
        }
        let sender = Sender {
            client: client.to_canonical(),
            helo: helo.to_owned(),
            host: site.hop.hostname.clone(),
            reverse_path: String::from_utf8_lossy(reverse_path).into_owned(),
        };
        let ask = |names: Arc<Names>| async move { sender.is_permitted(&names).await };
        Self::Asked(Some(Inquiry::ask(site, ask)))
    }

    /// Settles what can be settled before the body. Without a `start` no signature counts.
    pub async fn settle(self, site: &Site, reverse_path: &[u8], start: Option<Start<'_>>) -> Proof {
        let Self::Asked(inquiry) = self else {
            return Proof::Awaited(self);
        };
        if let Some(inquiry) = inquiry
            && inquiry.answer().await
        {
            return Proof::Given;
        }
        let start = start.filter(|_| site.listener.policy.allows_dkim());
        match start.and_then(|start| Signed::by(reverse_path, &start)) {
            Some(signed) => {
                signed.fetch_keys(&site.hop);
                Proof::Awaited(Self::Signed(Box::new(signed)))
            }
            None => Proof::Lacking,
        }
    }

    /// Settles the rest, when the message has passed whole: whether it is proven.
    pub async fn conclude(self, site: &Site) -> bool {
        match self {
            Self::Asked(_) => false,
            Self::Signed(signed) => {
                let inquiry = Inquiry::ask(site, |names| async move { signed.holds(&names).await });
                inquiry.answer().await
            }
        }
    }

    /// What wants to see the body.
    pub fn digest(&mut self) -> Option<&mut Digest> {
        match self {
            Self::Signed(signed) => Some(&mut signed.digest),
            Self::Asked(_) => None,
        }
    }
}
