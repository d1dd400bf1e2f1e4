//! One side of a session: a socket, in plaintext or under TLS, and the octets read from it that nobody
//! has taken yet. Lines and replies come out whole, every wait has an end. Knows nothing of what the
//! lines mean.

use std::future::{Future, poll_fn};
use std::io;
use std::mem;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use thiserror::Error;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsStream;

use super::buffer;
use crate::smtp::line::{Line, next_line};
use crate::smtp::reply::{Reply, ReplyParse, ReplyReader};
use crate::track::Security;

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
    /// Octets came behind STARTTLS or its reply, before the handshake: in plaintext, so from anybody
    /// (RFC 3207, 5).
    #[error("plaintext behind STARTTLS")]
    Injected,
    /// The system's own error, or that of the TLS layer.
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

/// What carries the octets. There is no way back from TLS to plaintext.
#[derive(Debug)]
enum Stream {
    Plain(TcpStream),
    Tls(Box<(TlsStream<TcpStream>, Security)>),
    /// A handshake failed or was given up: the connection is gone.
    Lost,
}

/// A socket and what was read from it.
#[derive(Debug)]
pub struct Wire {
    stream: Stream,
    input: Vec<u8>,
    taken: usize,
    write_limit: Duration,
    /// Nothing is read for longer.
    reads_end: Option<Instant>,
}

impl Wire {
    /// Takes a connected socket. A peer that does not take what is written within `write_limit` is given up.
    pub fn new(stream: TcpStream, write_limit: Duration) -> io::Result<Self> {
        // Without it, Nagle's algorithm and delayed acknowledgements stall a session by 40 ms a message.
        stream.set_nodelay(true)?;
        Ok(Self {
            stream: Stream::Plain(stream),
            input: Vec::new(),
            taken: 0,
            write_limit,
            reads_end: None,
        })
    }

    /// From `end` on every wait for the peer's octets has timed out.
    pub fn end_reads_at(&mut self, end: Instant) {
        self.reads_end = Some(end);
    }

    /// Whether that time has come.
    pub fn is_over(&self) -> bool {
        self.reads_end.is_some_and(|end| end <= Instant::now())
    }

    /// Goes over to TLS by this handshake, with empty buffers. Octets that came before it void the
    /// connection, and so does a handshake that fails or takes longer than `limit`.
    pub async fn secure<F>(
        &mut self,
        handshake: impl FnOnce(TcpStream) -> F,
        limit: Duration,
    ) -> Result<(), WireError>
    where
        F: Future<Output = io::Result<(TlsStream<TcpStream>, Security)>>,
    {
        let Stream::Plain(stream) = std::mem::replace(&mut self.stream, Stream::Lost) else {
            return Err(WireError::Closed);
        };
        if !self.buffered().is_empty() {
            return Err(WireError::Injected);
        }
        self.input = Vec::new();
        let secured = timeout(limit, handshake(stream))
            .await
            .map_err(|_| WireError::TimedOut)??;
        self.stream = Stream::Tls(Box::new(secured));
        Ok(())
    }

    /// Whether it is under TLS.
    pub fn is_secure(&self) -> bool {
        matches!(self.stream, Stream::Tls(_))
    }

    /// What protects it.
    pub fn security(&self) -> Security {
        match &self.stream {
            Stream::Tls(secured) => secured.1.clone(),
            Stream::Plain(_) | Stream::Lost => Security::Plain,
        }
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

    /// Reads more into the buffer; cancel-safe. `Closed` at the end of the stream; an end of the socket
    /// under TLS that the peer did not announce is an error of the TLS layer.
    pub async fn fill(&mut self) -> Result<(), WireError> {
        if self.taken > 0 {
            self.input.drain(..self.taken);
            self.taken = 0;
        }
        match &mut self.stream {
            Stream::Plain(stream) => {
                // An idle session holds no buffer: it is taken only when octets are there.
                stream.readable().await?;
                if self.input.is_empty() {
                    buffer::give(mem::replace(&mut self.input, buffer::take()));
                } else {
                    self.input.reserve(buffer::OCTETS);
                }
                match stream.read_buf(&mut self.input).await? {
                    0 => Err(WireError::Closed),
                    _ => Ok(()),
                }
            }
            Stream::Tls(secured) => {
                let (stream, _) = &mut **secured;
                let octets = stream.fill_buf().await?;
                let read = octets.len();
                self.input.extend_from_slice(octets);
                stream.consume(read);
                if read == 0 {
                    Err(WireError::Closed)
                } else {
                    Ok(())
                }
            }
            Stream::Lost => Err(WireError::Closed),
        }
    }

    /// [`fill`](Self::fill) with a time limit.
    pub async fn fill_within(&mut self, limit: Duration) -> Result<(), WireError> {
        if self.is_over() {
            return Err(WireError::TimedOut);
        }
        let left = |end: Instant| end.saturating_duration_since(Instant::now());
        let limit = self.reads_end.map_or(limit, |end| limit.min(left(end)));
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
        let mut written = 0;
        if let Stream::Plain(stream) = &mut self.stream {
            // Most writes are taken whole at once, and then need no timer.
            let at_once =
                poll_fn(|context| Poll::Ready(Pin::new(&mut *stream).poll_write(context, octets)));
            if let Poll::Ready(taken) = at_once.await {
                written = taken?;
            }
            if written == octets.len() {
                return Ok(());
            }
        }
        let octets = &octets[written..];
        let all = async {
            match &mut self.stream {
                Stream::Plain(stream) => stream.write_all(octets).await,
                Stream::Tls(secured) => {
                    secured.0.write_all(octets).await?;
                    secured.0.flush().await
                }
                Stream::Lost => Err(io::ErrorKind::NotConnected.into()),
            }
        };
        timeout(self.write_limit, all)
            .await
            .map_err(|_| WireError::TimedOut)??;
        Ok(())
    }

    /// Says no more, so that the peer sees the end after our last octets.
    pub async fn shut(&mut self) {
        let end = async {
            match &mut self.stream {
                Stream::Plain(stream) => stream.shutdown().await,
                Stream::Tls(secured) => secured.0.shutdown().await,
                Stream::Lost => Ok(()),
            }
        };
        // A peer that is gone already cannot be told; there is nothing left to save.
        let _ = timeout(Duration::from_secs(5), end).await;
    }
}
