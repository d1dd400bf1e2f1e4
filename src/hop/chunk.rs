//! A message that comes in counted chunks (BDAT, RFC 3030): so many octets, whatever they hold. Nothing in
//! them is looked for but the end of the header block.

use std::time::Duration;

use memchr::memchr_iter;

use super::body::BodyError;
use super::deadline::Wait;
use super::digest::Digest;
use super::head::Head;
use super::wire::{Wire, WireError};
use crate::smtp::refusal::Refusal;
use crate::smtp::reply::Reply;

/// DATA and BDAT do not go together (RFC 3030, 2).
pub const DATA_AFTER_BDAT: Refusal = Refusal::new(503, "5.5.1", "DATA after BDAT");
/// What a chunk is answered with that belongs to no message.
pub const STRAY_CHUNK: Refusal =
    Refusal::new(503, "5.5.1", "BDAT without a recipient, or after an error");

/// The argument of BDAT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Octets that follow the command line.
    pub octets: u64,
    /// It is the last chunk.
    pub last: bool,
}

impl Size {
    /// Reads `chunk-size [LAST]` (RFC 3030, 2). A size that cannot be read leaves no way to find the next
    /// command: the session must end.
    pub fn parse(argument: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(argument).ok()?;
        let (size, last) = match text.split_once(' ') {
            Some((size, word)) if word.trim().eq_ignore_ascii_case("LAST") => (size, true),
            Some(_) => return None,
            None => (text, false),
        };
        let digits =
            !size.is_empty() && size.len() <= 19 && size.bytes().all(|b| b.is_ascii_digit());
        digits.then(|| size.parse().ok().map(|octets| Self { octets, last }))?
    }

    /// What a client is told, for the last time, whose size cannot be read.
    pub fn unreadable() -> Reply {
        let text = "a chunk size is a number; the next command is lost";
        Reply::new(501, "5.5.4", text)
    }

    /// The command line for a chunk of another length.
    pub fn command(self, octets: u64) -> Vec<u8> {
        format!("BDAT {octets}{}\r\n", if self.last { " LAST" } else { "" }).into_bytes()
    }
}

/// The octets of one chunk, read from the client.
pub struct Chunk<'a> {
    client: &'a mut Wire,
    left: u64,
    wait: Duration,
    /// Sees what is passed on from now on.
    pub digest: Option<&'a mut Digest>,
}

impl<'a> Chunk<'a> {
    /// Takes up reading behind the command line.
    pub fn new(client: &'a mut Wire, size: Size, wait: Duration) -> Self {
        Self {
            client,
            left: size.octets,
            wait,
            digest: None,
        }
    }

    /// Octets of the chunk that nobody has taken yet.
    pub fn left(&self) -> u64 {
        self.left
    }

    /// Reads the start of a message, of which `text` is held from earlier chunks, until the header block is whole, the
    /// chunk ends, or the block is longer than `octets_max`. `last`: nothing follows this chunk, so what it holds is all.
    pub async fn head(
        &mut self,
        mut text: Vec<u8>,
        octets_max: usize,
        last: bool,
    ) -> Result<Head, BodyError> {
        loop {
            let found = block_end(&text);
            if found.is_some() || self.left == 0 || text.len() > octets_max {
                let all = (last && self.left == 0).then_some(text.len());
                return Ok(Head::new(text, found.or(all), octets_max));
            }
            self.read(&mut text).await?;
        }
    }

    /// Reads the next octets of the chunk, if any are left, behind what `out` holds.
    pub async fn read(&mut self, out: &mut Vec<u8>) -> Result<(), BodyError> {
        if self.left > 0 {
            let octets = self.ready().await?;
            out.extend_from_slice(&self.client.buffered()[..octets]);
            self.took(octets);
        }
        Ok(())
    }

    /// Passes what is left of the chunk on.
    pub async fn pass(&mut self, next: &mut Wire) -> Result<(), BodyError> {
        while self.left > 0 {
            let octets = self.ready().await?;
            if octets as u64 == self.left && next.is_ahead().await {
                return Err(BodyError::NextHop(WireError::OutOfStep));
            }
            let text = &self.client.buffered()[..octets];
            if let Some(digest) = &mut self.digest {
                digest.take(text);
            }
            next.write(text).await.map_err(BodyError::NextHop)?;
            self.took(octets);
        }
        Ok(())
    }

    /// Reads what is left of a chunk that goes nowhere, so that what follows is a command again.
    pub async fn skip(&mut self) -> Result<(), BodyError> {
        while self.left > 0 {
            let octets = self.ready().await?;
            self.took(octets);
        }
        Ok(())
    }

    /// Waits until octets of the chunk are buffered; how many.
    async fn ready(&mut self) -> Result<usize, BodyError> {
        if self.client.buffered().is_empty() {
            self.client
                .fill_within(&mut Wait::For(self.wait))
                .await
                .map_err(BodyError::Client)?;
        }
        let buffered = self.client.buffered().len();
        Ok(usize::try_from(self.left).map_or(buffered, |left| left.min(buffered)))
    }

    fn took(&mut self, octets: usize) {
        self.client.take(octets);
        self.left -= octets as u64;
    }
}

/// The offset just behind the empty line that ends a header block, in octets in which a lone LF may end a line:
/// whoever reads the message next may take it for one, and what stands behind is no header then.
fn block_end(text: &[u8]) -> Option<usize> {
    let empty_line = |at: usize| match &text[at..] {
        [b'\r', b'\n', ..] => Some(at + 2),
        [b'\n', ..] => Some(at + 1),
        _ => None,
    };
    empty_line(0).or_else(|| memchr_iter(b'\n', text).find_map(|at| empty_line(at + 1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_digits_only() {
        let size = |octets, last| Some(Size { octets, last });
        assert_eq!(Size::parse(b"0"), size(0, false));
        assert_eq!(Size::parse(b"86 last"), size(86, true));
        assert_eq!(Size::parse(b"86  LAST "), size(86, true));
        for wrong in [
            "",
            "LAST",
            "-1",
            "+1",
            "1x",
            "0x10",
            "1 LASTS",
            "1 2",
            "99999999999999999999",
        ] {
            assert_eq!(Size::parse(wrong.as_bytes()), None, "{wrong}");
        }
    }

    #[test]
    fn a_header_ends_at_an_empty_line_of_either_kind() {
        for (text, end) in [
            ("A: b\r\n\r\nbody\n\n", Some(8)),
            ("A: b\n\nC: d\r\n\r\n", Some(6)),
            ("A: b\n\r\nbody", Some(7)),
            ("A: b\r\n\nbody", Some(7)),
            ("\r\nbody", Some(2)),
            ("\nbody", Some(1)),
            ("A: b\r\n\r", None),
            ("A: b\n", None),
            ("", None),
        ] {
            assert_eq!(block_end(text.as_bytes()), end, "{text:?}");
        }
    }
}
