//! A message that comes in counted chunks (BDAT, RFC 3030): so many octets, whatever they hold. Nothing in
//! them is looked for but the end of the header block, and only in the first chunk.

use std::time::Duration;

use super::body::{BodyError, Head};
use super::claim::Digest;
use super::wire::Wire;
use crate::smtp::data::header_end;

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

    /// Reads the start of a first chunk, until the header block is whole, the chunk ends, or the block is
    /// longer than `octets_max`. `last`: nothing follows this chunk, so what it holds is all.
    pub async fn head(&mut self, octets_max: usize, last: bool) -> Result<Head, BodyError> {
        let mut text = Vec::new();
        loop {
            let found = header_end(&text);
            if found.is_some() || self.left == 0 || text.len() > octets_max {
                let all = (last && self.left == 0).then_some(text.len());
                let header = found.or(all).filter(|end| *end <= octets_max);
                return Ok(Head { text, header });
            }
            let octets = self.ready().await?;
            text.extend_from_slice(&self.client.buffered()[..octets]);
            self.took(octets);
        }
    }

    /// Passes what is left of the chunk on.
    pub async fn pass(&mut self, next: &mut Wire) -> Result<(), BodyError> {
        while self.left > 0 {
            let octets = self.ready().await?;
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
                .fill_within(self.wait)
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
}
