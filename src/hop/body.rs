//! A message on its way through: the header block held for a look, the body passed on as it comes.
//! Never holds more than the header limit and one buffer; never completes what the client did not.

use std::ops::Range;
use std::time::Duration;

use thiserror::Error;

use super::claim::Digest;
use super::transaction::message_id;
use super::wire::{Wire, WireError};
use crate::clock::Clock;
use crate::smtp::data::{BareNewline, Piece, Scanner, header_end};

/// The end of data on the wire.
const DOT: &[u8] = b".\r\n";

/// Why a message did not get through.
#[derive(Debug, Error)]
pub enum BodyError {
    /// The client went away or was too slow: the message must not be completed.
    #[error("client: {0}")]
    Client(WireError),
    /// The next hop went away: the client is to be told.
    #[error("next hop: {0}")]
    NextHop(WireError),
    /// A lone CR or LF, where the configuration refuses them.
    #[error("lone CR or LF in the message")]
    Bare,
}

/// The DATA text of one message, read from its client.
pub struct Body<'a> {
    client: &'a mut Wire,
    scanner: Scanner,
    wait: Duration,
    ended: bool,
    bare: bool,
    /// Octets of text passed or held so far, dot-stuffing included.
    pub octets: u64,
    /// The moment just before the end of data went out, µs. Stamped after it, a fast next hop could have it
    /// before it was sent, and no offset of the clocks would fit.
    pub dot_us: i64,
    clock: Clock,
    /// Sees what is read from now on.
    pub digest: Option<&'a mut Digest>,
}

/// The start of a message, held back.
pub struct Head {
    /// The header block and whatever of the body came with it.
    pub text: Vec<u8>,
    /// How much of it is the header block with its empty line; `None` if that is longer than the limit.
    pub header: Option<usize>,
}

impl Head {
    /// The header block, as far as it is known.
    pub fn block(&self) -> &[u8] {
        self.header
            .and_then(|header| self.text.get(..header))
            .unwrap_or_default()
    }

    /// Takes `field`, a part of the header block, out.
    pub fn remove(&mut self, field: Range<usize>) {
        self.header = self.header.map(|header| header - field.len());
        self.text.drain(field);
    }

    /// The message's own id, for reports.
    pub fn message_id(&self) -> Option<String> {
        message_id(self.block()).map(|id| String::from_utf8_lossy(id).into_owned())
    }
}

impl<'a> Body<'a> {
    /// Takes up reading behind the 354.
    pub fn new(client: &'a mut Wire, policy: BareNewline, wait: Duration, clock: Clock) -> Self {
        Self {
            client,
            scanner: Scanner::new(policy),
            wait,
            ended: false,
            bare: false,
            octets: 0,
            dot_us: clock.now_us(),
            clock,
            digest: None,
        }
    }

    /// Reads until the header block is whole, the message ends, or the block is longer than
    /// `octets_max`.
    pub async fn head(&mut self, octets_max: usize) -> Result<Head, BodyError> {
        let mut text = Vec::new();
        loop {
            if let Some(end) = header_end(&text) {
                return Ok(Head {
                    text,
                    header: Some(end).filter(|end| *end <= octets_max),
                });
            }
            if self.ended {
                let all = text.len();
                return Ok(Head {
                    text,
                    header: Some(all),
                });
            }
            if text.len() > octets_max {
                return Ok(Head { text, header: None });
            }
            self.read(&mut text).await?;
        }
    }

    /// Writes `head` and then the rest of the message to `next`, with the end of data.
    pub async fn pass(&mut self, head: Vec<u8>, next: &mut Wire) -> Result<(), BodyError> {
        let mut broken = self.pass_to(head, &mut [Some(next)]).await?;
        broken
            .pop()
            .map_or(Ok(()), |(_, error)| Err(BodyError::NextHop(error)))
    }

    /// Writes `head` and then the rest of the message to every sink, with the end of data; stops when none is
    /// left. Returns which ones broke off. One write for a message that is here already; no copy for the
    /// buffers of a long one.
    pub async fn pass_to(
        &mut self,
        head: Vec<u8>,
        sinks: &mut [Option<&mut Wire>],
    ) -> Result<Vec<(usize, WireError)>, BodyError> {
        let mut out = head;
        let mut broken = Vec::new();
        while sinks.iter().any(Option::is_some) {
            while !self.ended && !self.bare && !self.client.buffered().is_empty() {
                if let Some(clean) = self.absorb(&mut out) {
                    write_all(sinks, &out, &mut broken).await;
                    out.clear();
                    write_all(sinks, &self.client.buffered()[..clean], &mut broken).await;
                    self.client.take(clean);
                }
            }
            if self.bare {
                return Err(BodyError::Bare);
            }
            if self.ended {
                out.extend_from_slice(DOT);
                self.dot_us = self.clock.now_us();
                write_all(sinks, &out, &mut broken).await;
                break;
            }
            write_all(sinks, &out, &mut broken).await;
            out.clear();
            self.client
                .fill_within(self.wait)
                .await
                .map_err(BodyError::Client)?;
        }
        Ok(broken)
    }

    /// Reads the rest of a message that goes nowhere, so that what follows is a command again.
    pub async fn drain(&mut self) -> Result<(), BodyError> {
        let mut nowhere = Vec::new();
        while !self.ended {
            self.read(&mut nowhere).await?;
            nowhere.clear();
        }
        Ok(())
    }

    /// Scans what is buffered, or what comes next, into `out`.
    async fn read(&mut self, out: &mut Vec<u8>) -> Result<(), BodyError> {
        if self.client.buffered().is_empty() {
            self.client
                .fill_within(self.wait)
                .await
                .map_err(BodyError::Client)?;
        }
        while !self.ended && !self.client.buffered().is_empty() {
            if let Some(clean) = self.absorb(out) {
                out.extend_from_slice(&self.client.buffered()[..clean]);
                self.client.take(clean);
            }
        }
        Ok(())
    }

    /// One step of the scanner over what is buffered: its piece goes to `out`, except that a whole buffer
    /// of clean text stays where it is, for the caller to take; then its length is returned.
    fn absorb(&mut self, out: &mut Vec<u8>) -> Option<usize> {
        let input = self.client.buffered();
        let whole = input.len();
        let (consumed, piece) = self.scanner.next(input);
        let clean = match piece {
            Piece::Text(octets) => {
                self.octets += octets as u64;
                let text = &input[..octets];
                if octets == whole {
                    see(&mut self.digest, text);
                    return Some(octets);
                }
                text
            }
            Piece::Insert(octets) => {
                self.octets += octets.len() as u64;
                octets
            }
            Piece::Nothing => &[],
            Piece::End => {
                self.ended = true;
                &[]
            }
            Piece::Bare => {
                self.bare = true;
                &[]
            }
        };
        see(&mut self.digest, clean);
        out.extend_from_slice(clean);
        self.client.take(consumed);
        None
    }

    /// Whether a lone CR or LF was met where they are refused.
    pub fn is_bare(&self) -> bool {
        self.bare
    }
}

fn see(digest: &mut Option<&mut Digest>, text: &[u8]) {
    if let Some(digest) = digest {
        digest.take(text);
    }
}

/// Writes to every sink that is left; one that breaks off is left no more.
async fn write_all(
    sinks: &mut [Option<&mut Wire>],
    octets: &[u8],
    broken: &mut Vec<(usize, WireError)>,
) {
    for (place, sink) in sinks.iter_mut().enumerate() {
        let Some(wire) = sink else { continue };
        if let Err(error) = wire.write(octets).await {
            broken.push((place, error));
            *sink = None;
        }
    }
}
