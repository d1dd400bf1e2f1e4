//! A message on its way through: the header block held for a look, the body passed on as it comes.
//! Never holds more than the header limit and one buffer; never completes what the client did not.

use std::mem;
use std::time::Duration;

use futures_util::future::join_all;
use thiserror::Error;

use super::buffer;
use super::deadline::Wait;
use super::digest::Digest;
use super::head::Head;
use super::wire::{Wire, WireError};
use crate::clock::Clock;
use crate::smtp::data::{BareNewline, Piece, Scanner, header_end};

/// The end of data on the wire.
const DOT: &[u8] = b".\r\n";

/// Room for a field that may be put on top of a message's start, which then need not move elsewhere for it.
const FIELD_OCTETS: usize = 512;

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
///
/// What is to be written is `changed` and then the first `same` octets of the client's buffer. Text that
/// passes as it came is never copied: it goes from that buffer to the next hop, with its end of data.
pub struct Body<'a> {
    client: &'a mut Wire,
    scanner: Scanner,
    /// Text that differs from what came, with all that stood before it.
    changed: Vec<u8>,
    /// Octets at the start of the client's buffer that pass as they are.
    same: usize,
    /// Octets there that the scanner has seen: those behind `same` it holds back.
    seen: usize,
    wait: Duration,
    ended: bool,
    bare: bool,
    /// Octets of text passed or held so far, dot-stuffing included.
    pub octets: u64,
    /// The moment just before the end of data went out, µs. Stamped after it, a fast next hop could have it
    /// before it was sent, and no offset of the clocks would fit.
    pub dot_us: i64,
    clock: Clock,
    /// Sees the text that is read from now on.
    pub digest: Option<&'a mut Digest>,
}

impl<'a> Body<'a> {
    /// Takes up reading behind the 354.
    pub fn new(client: &'a mut Wire, policy: BareNewline, wait: Duration, clock: Clock) -> Self {
        Self {
            client,
            scanner: Scanner::new(policy),
            changed: Vec::new(),
            same: 0,
            seen: 0,
            wait,
            ended: false,
            bare: false,
            octets: 0,
            dot_us: 0,
            clock,
            digest: None,
        }
    }

    /// Waits for the header block: until it is whole, the message ends, or it is longer than `octets_max`; in
    /// the last case there is `None`.
    pub async fn header(&mut self, octets_max: usize) -> Result<Option<&[u8]>, BodyError> {
        let end = self.header_end(octets_max).await?;
        let within = end.filter(|end| *end <= octets_max);
        Ok(within.and_then(|end| self.held().get(..end)))
    }

    /// Takes the start of the message out: the header block and whatever of the body came with it.
    pub async fn head(&mut self, octets_max: usize) -> Result<Head, BodyError> {
        let end = self.header_end(octets_max).await?;
        self.settle();
        let ending = self.changed.len() - self.ending();
        let ending = self.changed.split_off(ending);
        let text = mem::replace(&mut self.changed, ending);
        Ok(Head::new(text, end, octets_max))
    }

    /// Where the header block ends, if that is here once more than `octets_max` are.
    async fn header_end(&mut self, octets_max: usize) -> Result<Option<usize>, BodyError> {
        loop {
            self.scan();
            let held = self.held();
            let (end, len) = (header_end(held), held.len());
            if end.is_some() {
                return Ok(end);
            }
            if self.ended {
                return Ok(Some(len - self.ending()));
            }
            if len > octets_max {
                return Ok(None);
            }
            self.fill().await?;
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
    /// left. Returns which ones broke off. One write for a message that is here already.
    pub async fn pass_to(
        &mut self,
        mut head: Vec<u8>,
        sinks: &mut [Option<&mut Wire>],
    ) -> Result<Vec<(usize, WireError)>, BodyError> {
        if !head.is_empty() {
            // Mostly the end of data alone: not worth twice the room.
            head.reserve_exact(self.changed.len());
            head.append(&mut self.changed);
            self.changed = head;
        }
        let (mut broken, mut begun) = (Vec::new(), false);
        while sinks.iter().any(Option::is_some) {
            self.scan();
            if self.bare {
                return Err(BodyError::Bare);
            }
            if self.ended && begun {
                leave_those_ahead(sinks, &mut broken).await;
            }
            begun = true;
            if self.ended {
                self.dot_us = self.clock.now_us();
            }
            write_all(sinks, self.held(), &mut broken).await;
            self.drop_held();
            if self.ended {
                break;
            }
            self.fill().await?;
        }
        Ok(broken)
    }

    /// Reads the rest of a message that goes nowhere, so that what follows is a command again.
    pub async fn drain(&mut self) -> Result<(), BodyError> {
        loop {
            self.scan();
            self.drop_held();
            if self.ended {
                return Ok(());
            }
            self.fill().await?;
        }
    }

    async fn fill(&mut self) -> Result<(), BodyError> {
        let read = self.client.fill_within(&mut Wait::For(self.wait)).await;
        read.map_err(BodyError::Client)
    }

    /// Looks at all that is here and was not looked at, up to the end of data.
    fn scan(&mut self) {
        while !self.ended && self.seen < self.client.buffered().len() {
            let (consumed, piece) = self.scanner.next(&self.client.buffered()[self.seen..]);
            self.seen += consumed;
            match piece {
                Piece::Text(octets) => {
                    self.octets += octets as u64;
                    see(
                        &mut self.digest,
                        &self.client.buffered()[self.seen - octets..self.seen],
                    );
                    self.same = self.seen;
                }
                Piece::Insert(octets) => {
                    self.octets += octets.len() as u64;
                    see(&mut self.digest, octets);
                    self.becomes(octets);
                }
                Piece::Nothing => {}
                Piece::End => {
                    self.ended = true;
                    self.becomes(DOT);
                }
                Piece::Bare => {
                    self.bare = true;
                    self.becomes(&[]);
                }
            }
        }
    }

    /// What was held back, and the octet behind it, turns out to be `octets`: mostly just what came.
    fn becomes(&mut self, octets: &[u8]) {
        if &self.client.buffered()[self.same..self.seen] == octets {
            self.same = self.seen;
            return;
        }
        let held_back = self.seen - self.same;
        self.settle();
        self.changed.extend_from_slice(octets);
        self.client.take(held_back);
        self.seen = 0;
    }

    /// Moves what passes out of the client's buffer.
    fn settle(&mut self) {
        if self.changed.capacity() == 0 {
            self.changed = buffer::for_start(self.same + FIELD_OCTETS);
        }
        self.changed
            .extend_from_slice(&self.client.buffered()[..self.same]);
        self.client.take(self.same);
        self.seen -= self.same;
        self.same = 0;
    }

    /// All that can be written now.
    fn held(&mut self) -> &[u8] {
        if self.changed.is_empty() {
            return &self.client.buffered()[..self.same];
        }
        self.settle();
        &self.changed
    }

    fn drop_held(&mut self) {
        buffer::give(mem::take(&mut self.changed));
        self.client.take(self.same);
        self.seen -= self.same;
        self.same = 0;
    }

    /// How much of what is held is the end of data.
    fn ending(&self) -> usize {
        if self.ended { DOT.len() } else { 0 }
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

/// Writes to every sink that is left, side by side; one that breaks off is left no more.
async fn write_all(
    sinks: &mut [Option<&mut Wire>],
    octets: &[u8],
    broken: &mut Vec<(usize, WireError)>,
) {
    if let [Some(only)] = sinks {
        let written = only.write(octets).await;
        return note(sinks, broken, 0, written);
    }
    let places = sinks.iter_mut().enumerate();
    let writes = places.filter_map(|(place, sink)| {
        let wire = sink.as_mut()?;
        Some(async move { (place, wire.write(octets).await) })
    });
    for (place, written) in join_all(writes).await {
        note(sinks, broken, place, written);
    }
}

/// A sink that has answered for a message before it has its end has none, whatever it says: what counts is the reply
/// to the end of data (RFC 5321, 4.1.1.4). It does not get that. A refusal is as good now as then.
async fn leave_those_ahead(sinks: &mut [Option<&mut Wire>], broken: &mut Vec<(usize, WireError)>) {
    for place in 0..sinks.len() {
        let Some(Some(sink)) = sinks.get_mut(place) else {
            continue;
        };
        if sink.is_ahead().await {
            note(sinks, broken, place, Err(WireError::OutOfStep));
        }
    }
}

fn note(
    sinks: &mut [Option<&mut Wire>],
    broken: &mut Vec<(usize, WireError)>,
    place: usize,
    written: Result<(), WireError>,
) {
    if let Err(error) = written {
        broken.push((place, error));
        sinks[place] = None;
    }
}
