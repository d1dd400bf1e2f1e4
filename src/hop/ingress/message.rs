//! The message itself at an ingress, by DATA or in chunks, from behind its command to the MTA's last word
//! about it.

use std::time::Duration;

use tracing::{debug, warn};

use super::Ingress;
use super::arrival::{Coming, Manner, arrived, arriving, concerns_us, prepare};
use super::stranger::{conclude, digest};
use crate::hop::arriving::Arrival;
use crate::hop::body::BodyError;
use crate::hop::chunk::{Chunk, DATA_AFTER_BDAT, STRAY_CHUNK, Size};
use crate::hop::client::{End, HELLO_FIRST, bare_newline, early_message};
use crate::hop::deadline::Wait;
use crate::hop::transaction::{Envelope, no_verdict};
use crate::hop::{Site, log_step};
use crate::smtp::command::Command;
use crate::smtp::reply::Reply;
use crate::track::{Stage, Step};

/// A message that comes in chunks.
pub(super) struct Chunks {
    message_id: Option<String>,
    /// Octets so far.
    octets: u64,
    /// Its start, which has gone on, until there is a place for a field and what is known then has been looked at.
    start: Option<Vec<u8>>,
    /// A chunk was refused: nothing of this message is wanted any more (RFC 3030, 2).
    failed: bool,
}

impl Default for Chunks {
    /// One of which nothing has come.
    fn default() -> Self {
        Self {
            message_id: None,
            octets: 0,
            start: Some(Vec::new()),
            failed: false,
        }
    }
}

impl Chunks {
    /// Looks at the start of the message in a chunk, and gives what is to be sent of it. The first chunk may end in the
    /// first line, of which nobody knows yet whether it is a field: it goes on as it is, since a client that awaits the
    /// reply to it can be given no other than the MTA's, and the carry header comes behind that field.
    async fn look(
        &mut self,
        site: &Site,
        manner: Manner,
        chunk: &mut Chunk<'_>,
        last: bool,
        envelope: Option<&mut Envelope>,
    ) -> Result<Vec<u8>, BodyError> {
        let Some(start) = self.start.take() else {
            return Ok(Vec::new());
        };
        let gone = start.len();
        let octets_max = site.hop.limits.header_octets_max;
        let head = chunk.head(start, octets_max, last).await?.behind(gone);
        let asks = envelope.as_deref().is_some_and(Envelope::may_be_tracked);
        if asks && head.goes_on() && head.place().is_none() {
            let text = head.text[gone..].to_vec();
            self.start = Some(head.text);
            return Ok(text);
        }
        let (mut text, message_id) = prepare(site, manner, head, envelope).await;
        self.message_id = message_id;
        text.drain(..gone);
        Ok(text)
    }
}

impl Ingress<'_> {
    /// DATA, as it was written.
    pub(super) async fn data(&mut self, line: &[u8]) -> Result<(), End> {
        if self.client.hello_due {
            return self.client.refuse_data(&self.site.hop, &HELLO_FIRST).await;
        }
        if self.chunks.is_some() {
            let hop = &self.site.hop;
            return self.client.refuse_data(hop, &DATA_AFTER_BDAT).await;
        }
        let command_us = self.site.hop.clock.now_us();
        let reply = self.ask(line).await?;
        let (reply_us, code) = (self.site.hop.clock.now_us(), reply.code);
        if code == 354 {
            self.next.in_step().map_err(End::NextHop)?;
            if self.client.is_early() {
                return Err(End::Refuse(early_message()));
            }
        }
        self.answer(reply)?;
        if code != 354 {
            return self.client.ends_group().await;
        }
        // A 354 without a MAIL we saw accepted is the MTA's business; there is nothing to track then.
        let mut envelope = self.envelope.take();
        if let Some(envelope) = &mut envelope {
            envelope.times.record(Stage::Data, command_us, reply_us);
        }
        Box::pin(self.message(envelope)).await
    }

    /// The message itself, from behind the 354 to the MTA's last word about it.
    async fn message(&mut self, mut envelope: Option<Box<Envelope>>) -> Result<(), End> {
        let manner = self.manner(false);
        let mut body = self
            .client
            .body(&self.site.hop, self.site.listener.bare_newline)
            .await?;
        let octets_max = self.site.hop.limits.header_octets_max;
        let header = body.header(octets_max).await?;
        let (text, noted) = if concerns_us(self.site, envelope.as_deref(), header) {
            let head = body.head(octets_max).await?;
            Box::pin(prepare(self.site, manner, head, envelope.as_deref_mut())).await
        } else {
            (Vec::new(), None)
        };
        let _arrival = arriving(self.site, envelope.as_deref());
        body.digest = digest(envelope.as_deref_mut());
        let sent = body.pass(text, &mut self.next).await;
        let octets = body.octets;
        let dot_us = self.site.hop.clock.now_us();
        let reply = match sent {
            Ok(()) => self.final_reply().await?,
            Err(BodyError::NextHop(error)) => {
                debug!("next hop went away in the message: {error}");
                body.drain().await?;
                Box::pin(self.last_words()).await
            }
            Err(BodyError::Bare) => {
                body.drain().await?;
                return Err(End::Refuse(bare_newline(550)));
            }
            Err(error @ BodyError::Client(_)) => return Err(error.into()),
        };
        if let Some(envelope) = envelope
            && envelope.tracked.is_some()
            && reply.is_positive()
        {
            let coming = self.coming(noted, octets, dot_us);
            Box::pin(self.record(envelope, coming, &reply)).await;
        }
        self.answer(reply)
    }

    /// Has a message that the MTA has on record before the client hears of it.
    async fn record(&mut self, mut envelope: Box<Envelope>, coming: Coming, reply: &Reply) {
        conclude(self.site, &mut envelope.tracked).await;
        let step = arrived(self.site, *envelope, coming, reply);
        if let Some(kept) = step.map(|step| self.keep(step)) {
            kept.await;
        }
    }

    /// A message that the MTA has answered for just now.
    fn coming(&self, message_id: Option<String>, octets: u64, dot_us: i64) -> Coming {
        Coming {
            message_id,
            octets,
            dot_us,
            taken_us: self.site.hop.clock.now_us(),
        }
    }

    fn keep(&mut self, step: Step) -> impl Future<Output = ()> {
        log_step(&self.site.hop, &step);
        self.site.record(step, self.client.timer())
    }

    fn manner(&self, chunked: bool) -> Manner {
        Manner {
            trusted: self.site.asker(self.client),
            passes: self.next_hop_tracks(),
            chunked,
        }
    }

    async fn final_reply(&mut self) -> Result<Reply, End> {
        let octets_max = self.site.hop.limits.reply_octets_max;
        let limit = self.site.hop.timeouts.final_reply();
        self.client.lend_timer(&mut self.next);
        let verdict = self.next.verdict(octets_max, limit).await;
        self.client.take_timer_back(&mut self.next);
        match verdict {
            Ok(reply) if reply.class() == 3 => Err(End::Refuse(no_verdict(&reply))),
            Ok(reply) => Ok(reply),
            Err(error) => {
                // A duplicate is possible now, a loss is not (RFC 1047).
                warn!("no reply to the end of data: {error}");
                Err(End::Refuse(Reply::new(
                    451,
                    "4.4.2",
                    "no answer from the mail server, try again",
                )))
            }
        }
    }

    /// What an MTA said before it went away in the middle of a message; never a success.
    async fn last_words(&mut self) -> Reply {
        match self
            .reply_within(&mut Wait::For(Duration::from_secs(1)))
            .await
        {
            Ok(reply) if !reply.is_positive() => reply,
            _ => Reply::new(
                421,
                "4.4.2",
                "connection to the mail server lost, try again",
            ),
        }
    }

    /// BDAT: the command with what the carry header adds to its count, the octets, and the MTA's reply.
    pub(super) async fn bdat(&mut self, command: &Command<'_>, line: &[u8]) -> Result<(), End> {
        let Some(size) = Size::parse(command.argument()) else {
            return Err(End::Refuse(Size::unreadable()));
        };
        let offered = self
            .offer
            .as_ref()
            .is_some_and(|offer| offer.keywords.offers("CHUNKING"));
        let ready = self
            .envelope
            .as_ref()
            .is_some_and(|envelope| !envelope.recipients.is_empty());
        let failed = self.chunks.as_ref().is_some_and(|chunks| chunks.failed);
        if !offered || !ready || failed {
            // The MTA is not bothered with it: not every one would read its octets as octets.
            self.client
                .chunk(&self.site.hop, size)
                .await?
                .skip()
                .await?;
            return self.refuse(&STRAY_CHUNK);
        }
        self.next.in_step().map_err(End::NextHop)?;
        let chunk_us = self.site.hop.clock.now_us();
        let (reply, _arrival) = self.chunk(size, line).await?;
        if let (false, Some(chunks)) = (reply.is_positive(), &mut self.chunks) {
            chunks.failed = true;
        }
        if size.last {
            let (envelope, chunks) = (self.envelope.take(), self.chunks.take());
            if let (Some(envelope), Some(chunks), true) = (envelope, chunks, reply.is_positive()) {
                let Chunks {
                    message_id, octets, ..
                } = *chunks;
                let coming = self.coming(message_id, octets, chunk_us);
                self.record(envelope, coming, &reply).await;
            }
        }
        self.answer(reply)
    }

    /// One chunk to the MTA, and its reply.
    async fn chunk(&mut self, size: Size, line: &[u8]) -> Result<(Reply, Option<Arrival>), End> {
        let manner = self.manner(true);
        let mut chunks = self.chunks.take().unwrap_or_default();
        chunks.octets = chunks.octets.saturating_add(size.octets);
        if size.last && chunks.start.is_some() {
            self.keep_to_size(chunks.octets);
        }
        let mut chunk = self.client.chunk(&self.site.hop, size).await?;
        let envelope = self.envelope.as_deref_mut();
        let looked = chunks.look(self.site, manner, &mut chunk, size.last, envelope);
        let text = looked.await?;
        self.chunks = Some(chunks);
        let octets = chunk.left() + text.len() as u64;
        let command = if octets == size.octets {
            line.to_vec()
        } else {
            size.command(octets)
        };
        let start = [command, text].concat();
        let arrival = arriving(self.site, self.envelope.as_deref().filter(|_| size.last));
        chunk.digest = digest(self.envelope.as_deref_mut());
        let sent = match self.next.write(&start).await {
            Ok(()) => chunk.pass(&mut self.next).await,
            Err(error) => Err(BodyError::NextHop(error)),
        };
        if let Err(BodyError::NextHop(error)) = &sent {
            debug!("next hop went away in a chunk: {error}");
            chunk.skip().await?;
        }
        Ok((self.reply_to_chunk(sent, size.last).await?, arrival))
    }

    async fn reply_to_chunk(
        &mut self,
        sent: Result<(), BodyError>,
        last: bool,
    ) -> Result<Reply, End> {
        match sent {
            Ok(()) if last => self.final_reply().await,
            Ok(()) => self.reply().await,
            Err(BodyError::NextHop(_)) => Ok(self.last_words().await),
            Err(error) => Err(error.into()),
        }
    }
}
