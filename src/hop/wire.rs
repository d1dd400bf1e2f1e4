//! One side of a session: a socket and the octets read from it that nobody has taken yet. Lines and
//! replies come out whole, every wait has an end. Knows nothing of what the lines mean.

use std::io;
use std::mem;
use std::time::Duration;

use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::buffer;
use crate::smtp::line::{Line, next_line};
use crate::smtp::reply::{Reply, ReplyParse, ReplyReader};

/// Why a side of a session is of no more use.
#[derive(Debug, Error)]
pub enum WireError {
    /// The peer closed the connection.
    #[error("connection closed by the peer")]
    Closed,
    /// The peer was silent, or would not take what we wrote, for longer than it may.
    #[error("timed out")]
    TimedOut,
    /// A reply longer than the limit.
    #[error("reply longer than the limit")]
    TooLong,
    /// Something that is no SMTP reply.
    #[error("not an SMTP reply")]
    Malformed,
    /// The system's own error.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// What came where a command line was awaited.
#[derive(Debug, PartialEq, Eq)]
pub enum Incoming {
    /// A line with its CRLF.
    Line(Vec<u8>),
    /// A line over the limit, skipped to its end.
    TooLong,
    /// A line with a lone CR or LF in it (RFC 5321, 2.3.8).
    Bare,
}

/// A socket and what was read from it.
#[derive(Debug)]
pub struct Wire {
    stream: TcpStream,
    input: Vec<u8>,
    taken: usize,
    write_limit: Duration,
}

impl Wire {
    /// Takes a connected socket. A peer that does not take what is written within `write_limit` is given up.
    pub fn new(stream: TcpStream, write_limit: Duration) -> io::Result<Self> {
        // Without it, Nagle's algorithm and delayed acknowledgements stall a session by 40 ms a message.
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            input: Vec::new(),
            taken: 0,
            write_limit,
        })
    }

    /// What was read and not yet taken.
    pub fn buffered(&self) -> &[u8] {
        &self.input[self.taken..]
    }

    /// Takes the first `octets` of what is buffered.
    pub fn take(&mut self, octets: usize) {
        self.taken = (self.taken + octets).min(self.input.len());
        if self.taken == self.input.len() {
            buffer::give(mem::take(&mut self.input));
            self.taken = 0;
        }
    }

    /// Reads more into the buffer; cancel-safe. `Closed` at the end of the stream.
    pub async fn fill(&mut self) -> Result<(), WireError> {
        if self.taken > 0 {
            self.input.drain(..self.taken);
            self.taken = 0;
        }
        // An idle session holds no buffer: it is taken only when octets are there.
        self.stream.readable().await?;
        if self.input.is_empty() {
            buffer::give(mem::replace(&mut self.input, buffer::take()));
        } else {
            self.input.reserve(buffer::OCTETS);
        }
        match self.stream.read_buf(&mut self.input).await? {
            0 => Err(WireError::Closed),
            _ => Ok(()),
        }
    }

    /// [`fill`](Self::fill) with a time limit.
    pub async fn fill_within(&mut self, limit: Duration) -> Result<(), WireError> {
        timeout(limit, self.fill())
            .await
            .map_err(|_| WireError::TimedOut)?
    }

    /// Whether a whole line (good or bad) waits in the buffer.
    pub fn has_line(&self, octets_max: usize) -> bool {
        !matches!(next_line(self.buffered(), octets_max), Line::Partial)
    }

    /// The next command line, read within `limit`.
    pub async fn line(
        &mut self,
        octets_max: usize,
        limit: Duration,
    ) -> Result<Incoming, WireError> {
        loop {
            match next_line(self.buffered(), octets_max) {
                Line::Complete { len } => {
                    let line = self.buffered()[..len].to_vec();
                    self.take(len);
                    return Ok(Incoming::Line(line));
                }
                Line::Partial => self.fill_within(limit).await?,
                Line::Bare => return Ok(Incoming::Bare),
                Line::TooLong => {
                    self.skip_line(limit).await?;
                    return Ok(Incoming::TooLong);
                }
            }
        }
    }

    /// Skips to behind the next LF, holding no more than a buffer of the line.
    async fn skip_line(&mut self, limit: Duration) -> Result<(), WireError> {
        loop {
            if let Some(end) = memchr::memchr(b'\n', self.buffered()) {
                self.take(end + 1);
                return Ok(());
            }
            self.take(self.buffered().len());
            self.fill_within(limit).await?;
        }
    }

    /// The peer's next reply, read within `limit`.
    pub async fn reply(&mut self, octets_max: usize, limit: Duration) -> Result<Reply, WireError> {
        let whole = async {
            let mut reader = ReplyReader::default();
            loop {
                match reader.next(self.buffered(), octets_max) {
                    ReplyParse::Complete { reply, len } => {
                        self.take(len);
                        return Ok(reply);
                    }
                    ReplyParse::Partial => self.fill().await?,
                    ReplyParse::Malformed => return Err(WireError::Malformed),
                    ReplyParse::TooLong => return Err(WireError::TooLong),
                }
            }
        };
        timeout(limit, whole)
            .await
            .map_err(|_| WireError::TimedOut)?
    }

    /// Writes all of `octets`.
    pub async fn write(&mut self, octets: &[u8]) -> Result<(), WireError> {
        let all = self.stream.write_all(octets);
        timeout(self.write_limit, all)
            .await
            .map_err(|_| WireError::TimedOut)??;
        Ok(())
    }

    /// Writes as much of what this side has buffered as `octets` tells, to `other`, without a copy.
    pub async fn pass(&mut self, octets: usize, other: &mut Self) -> Result<(), WireError> {
        let end = (self.taken + octets).min(self.input.len());
        other.write(&self.input[self.taken..end]).await?;
        self.take(octets);
        Ok(())
    }

    /// Says no more, so that the peer sees the end after our last octets.
    pub async fn shut(&mut self) {
        // A peer that is gone already cannot be told; there is nothing left to save.
        let _ = timeout(Duration::from_secs(5), self.stream.shutdown()).await;
    }
}
