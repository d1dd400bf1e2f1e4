//! One message on its way out: the request that goes with it, and what the server made of both.
//!
//! Must not know where message and account came from, nor what the user is told.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use super::message::{Draft, Message, MessageError, id_host};
use super::submit::{Access, Envelope, Outcome, Request, Server, SubmitError};
use crate::cli::secret;
use crate::track::TrackingId;

/// All that is known before the server is asked.
pub(super) struct Job {
    pub(super) access: Access,
    pub(super) envelope: Envelope,
    pub(super) message: Message,
    /// Where the user's secret lies.
    pub(super) home: Result<PathBuf>,
    /// Nothing is sent that would go untracked.
    pub(super) require_track: bool,
    /// Now, ms since 1970-01-01 UTC.
    pub(super) sent_ms: i64,
}

/// What came of it.
pub(super) struct Submitted {
    pub(super) outcome: Outcome,
    /// The tracking id, or why the message went untracked.
    pub(super) tracked: Result<TrackingId>,
}

/// The draft as it goes out from this envelope's sender.
pub(super) fn finish(draft: Draft, envelope: &Envelope, sent_ms: i64) -> Result<Message> {
    let own_host = own_host();
    let host = id_host(envelope.from.as_ref(), &own_host);
    Ok(draft.finish(host, random()?, sent_ms)?)
}

impl Job {
    /// Opens a session, asks for tracking if that can be, and hands the message over.
    pub(super) async fn submit(&self) -> Result<Submitted, SubmitError> {
        let mut server = Server::open(&self.access).await?;
        let (request, tracked) = match self.request(&server) {
            Ok((request, id)) => (Some(request), Ok(id)),
            Err(cause) if self.require_track => {
                server.close().await;
                return Err(SubmitError::Refused(format!("{cause:#}")));
            }
            Err(cause) => (None, Err(cause)),
        };
        let outcome = server
            .submit(&self.envelope, &self.message, request.as_ref())
            .await;
        server.close().await;
        Ok(Submitted {
            outcome: outcome?,
            tracked,
        })
    }

    /// The request with a fresh tracking id, or why the message cannot be tracked.
    fn request(&self, server: &Server) -> Result<(Request, TrackingId)> {
        if self.envelope.from.is_none() {
            bail!("reports go to the sender, and there is none");
        }
        let message_id = self.message.id.as_ref().ok_or(MessageError::Unprovable)?;
        if !server.offers_track() {
            bail!("{} does not offer TRACK", self.access.peer);
        }
        let home = self.home.as_deref().map_err(|e| anyhow::anyhow!("{e:#}"))?;
        let sent_ms = u64::try_from(self.sent_ms).context("the clock stands before 1970")?;
        let certificate = secret::load_or_create_in(home)?.certificate(message_id, sent_ms);
        let random = random()?;
        let attributes = format!("NOW:c256/{certificate}:t/{sent_ms}");
        if !server.offers_dsn() {
            let id = TrackingId::mint(random);
            let request = Request {
                envelope_id: None,
                track: format!("{attributes}:id/{id}"),
            };
            return Ok((request, id));
        }
        let own_host = own_host();
        let host = id_host(self.envelope.from.as_ref(), &own_host);
        let id = TrackingId::new(&format!("{random:032x}@{host}"))
            .unwrap_or_else(|| TrackingId::mint(random));
        let request = Request {
            envelope_id: Some(id.to_string()),
            track: attributes,
        };
        Ok((request, id))
    }
}

/// The system's own name, as it is set.
pub(super) fn own_host() -> String {
    let name = hostname::get().ok();
    name.and_then(|name| name.into_string().ok())
        .unwrap_or_default()
}

fn random() -> Result<u128> {
    let mut octets = [0; 16];
    getrandom::fill(&mut octets)?;
    Ok(u128::from_ne_bytes(octets))
}
