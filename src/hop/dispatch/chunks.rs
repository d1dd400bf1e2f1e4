//! Chunks on their way to the next hops: by count where CHUNKING is offered, chunk for chunk and octet for octet;
//! behind DATA elsewhere.

use futures_util::future::join_all;

use super::Dispatch;
use crate::hop::body::BodyError;
use crate::hop::chunk::{Chunk, Size};
use crate::hop::client::bare_newline;
use crate::hop::leg::{Framing, Leg};

impl<'a> Dispatch<'a> {
    /// `start`, which was held back, and what is left of the chunk, to every leg that awaits the message. When
    /// this returns every next hop that takes chunks has answered for it, except for the last one
    /// ([`next`](Self::next)). Holds no more than `start` and one buffer.
    pub async fn chunk(
        &mut self,
        start: Vec<u8>,
        chunk: &mut Chunk<'_>,
        last: bool,
    ) -> Result<(), BodyError> {
        let octets = start.len() as u64 + chunk.left();
        if octets == 0 && !last {
            return Ok(());
        }
        if last {
            // Stamped before the command: a next hop that stamps when it has it must not be earlier.
            self.ends(Framing::Chunks);
        }
        let mut counted = Size { octets, last }.command(octets);
        let mut part = start;
        loop {
            chunk.read(&mut part).await?;
            let over = chunk.left() == 0;
            counted.extend_from_slice(&part);
            self.send(Framing::Chunks, &counted, over).await;
            self.send_text(&part, over && last).await;
            if over {
                break;
            }
            counted.clear();
            part.clear();
        }
        if !last {
            join_all(self.legs.iter_mut().map(Leg::chunk_taken)).await;
        }
        Ok(())
    }

    /// Octets of the message as text behind DATA, with the end of data behind the last.
    async fn send_text(&mut self, octets: &[u8], last: bool) {
        if self.awaiting(Framing::Data).next().is_none() {
            return;
        }
        let mut text = Vec::with_capacity(octets.len() + octets.len() / 16);
        let mut made = self.stuffer.stuff(octets, &mut text);
        if last {
            made = made.and_then(|()| self.stuffer.end(&mut text));
            self.ends(Framing::Data);
        }
        match made {
            Ok(()) => self.send(Framing::Data, &text, last).await,
            // A chunk may hold a lone CR or LF, text may not where the configuration refuses them.
            Err(_) => self
                .awaiting(Framing::Data)
                .for_each(|leg| leg.give_up(bare_newline(550))),
        }
    }

    async fn send(&mut self, framing: Framing, octets: &[u8], ends: bool) {
        join_all(self.awaiting(framing).map(|leg| leg.send(octets, ends))).await;
    }

    /// The end of the message goes out now.
    fn ends(&mut self, framing: Framing) {
        let now_us = self.site.hop.clock.now_us();
        let patience = self.patience(now_us);
        self.awaiting(framing)
            .for_each(|leg| leg.ends(now_us, patience));
    }

    fn awaiting(&mut self, framing: Framing) -> impl Iterator<Item = &mut Leg<'a>> {
        self.legs
            .iter_mut()
            .filter(move |leg| leg.awaits() == Some(framing))
    }
}
