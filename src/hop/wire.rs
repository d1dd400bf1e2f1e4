//! One side of a session: a socket, in plaintext or under TLS, and the octets read from it that nobody
//! has taken yet. Lines and replies come out whole, every wait has an end. Knows nothing of what the
//! lines mean.

use std::future::{Future, poll_fn};
use std::io;
use std::mem;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustix::net::{SendFlags, send};
use thiserror::Error;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, AsyncWrite, AsyncWriteExt, Interest};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsStream;

use super::buffer;
use super::deadline::{Timer, Wait};
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
    /// Something waits that answers nothing which was asked.
    #[error("it answered before it was asked")]
    OutOfStep,
    /// Octets came behind STARTTLS or its reply, before the handshake: in plaintext, so from anybody
    /// (RFC 3207, 5).
    #[error("plaintext behind STARTTLS")]
    Injected,
    /// The peer closed the connection under TLS and did not say so, which an attacker could have done as well
    /// (RFC 8446, 6.1).
    #[error("connection cut off under TLS")]
    Cut,
    /// The system's own error, or that of the TLS layer.
    #[error(transparent)]
    Io(io::Error),
}

impl From<io::Error> for WireError {
    fn from(error: io::Error) -> Self {
        // The TLS layer's words for it are for who programs with it.
        if error.kind() == io::ErrorKind::UnexpectedEof {
            Self::Cut
        } else {
            Self::Io(error)
        }
    }
}

/// Octets past its limit up to which the end of a reply is looked for, where its code counts for itself.
const SURPLUS_MAX: usize = 1 << 20;

/// What came where a command line was awaited.
#[derive(Debug, PartialEq, Eq)]
pub enum Incoming {
    /// A line with its CRLF.
    Line(Vec<u8>),
    /// A line over the limit.
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

impl Stream {
    /// Writes `octets` and forgets what is written.
    fn poll_send(&mut self, octets: &mut &[u8], context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !octets.is_empty() {
            let sent = match self {
                Self::Plain(stream) => Pin::new(stream).poll_write(context, octets),
                Self::Tls(secured) => Pin::new(&mut secured.0).poll_write(context, octets),
                Self::Lost => return Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
            };
            match ready!(sent)? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                sent => *octets = &octets[sent..],
            }
        }
        match self {
            Self::Tls(secured) => Pin::new(&mut secured.0).poll_flush(context),
            Self::Plain(_) | Self::Lost => Poll::Ready(Ok(())),
        }
    }
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
    timer: Timer,
}

impl Wire {
    /// Takes a connected socket, which must not delay what is written: Nagle's algorithm and delayed acknowledgements
    /// would stall a session by 40 ms a message. A peer that does not take that within `write_limit` is given up.
    pub fn new(stream: TcpStream, write_limit: Duration) -> Self {
        Self {
            stream: Stream::Plain(stream),
            input: Vec::new(),
            taken: 0,
            write_limit,
            reads_end: None,
            timer: Timer::default(),
        }
    }

    /// The timer of its waits, for one that is not for the peer.
    pub fn timer(&mut self) -> &mut Timer {
        &mut self.timer
    }

    /// Takes over the timer of `other`, which is not waited for meanwhile: one does for a session.
    pub fn take_timer_of(&mut self, other: &mut Self) {
        if other.timer.is_set() {
            self.timer = mem::take(&mut other.timer);
        }
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

    /// Whether the peer has said nothing ahead of what it is sent next: what waits here would be taken for the
    /// reply to that. To be asked before each command.
    pub fn in_step(&self) -> Result<(), WireError> {
        if self.buffered().is_empty() {
            Ok(())
        } else {
            Err(WireError::OutOfStep)
        }
    }

    /// Takes the first `octets` of what is buffered.
    pub fn take(&mut self, octets: usize) {
        self.taken = (self.taken + octets).min(self.input.len());
        if self.taken == self.input.len() {
            buffer::give(mem::take(&mut self.input));
            self.taken = 0;
        }
    }

    /// Reads more into the buffer. `Closed` at the end of the stream; an end of the socket under TLS that the
    /// peer did not announce is an error of the TLS layer.
    pub fn poll_fill(&mut self, context: &mut Context<'_>) -> Poll<Result<(), WireError>> {
        if self.taken > 0 {
            self.input.drain(..self.taken);
            self.taken = 0;
        }
        let read = match &mut self.stream {
            Stream::Plain(stream) => {
                // An idle session holds no buffer: it is taken only when octets are there.
                ready!(stream.poll_read_ready(context))?;
                buffer::make_room(&mut self.input);
                let read = pin!(stream.read_buf(&mut self.input)).poll(context);
                if self.input.is_empty() {
                    buffer::give(mem::take(&mut self.input));
                }
                ready!(read)?
            }
            Stream::Tls(secured) => {
                let (stream, _) = &mut **secured;
                let octets = ready!(Pin::new(&mut *stream).poll_fill_buf(context))?;
                let read = octets.len();
                self.input.extend_from_slice(octets);
                stream.consume(read);
                read
            }
            Stream::Lost => 0,
        };
        Poll::Ready(if read == 0 {
            Err(WireError::Closed)
        } else {
            Ok(())
        })
    }

    /// The same with a time limit.
    pub fn poll_fill_within(
        &mut self,
        wait: &mut Wait,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), WireError>> {
        let at_once = matches!(wait, Wait::For(_));
        match self.poll_fill(context) {
            // Who never lets us wait must not outstay the session's time either.
            Poll::Ready(_) if at_once && self.is_over() => Poll::Ready(Err(WireError::TimedOut)),
            Poll::Ready(read) => Poll::Ready(read),
            Poll::Pending => {
                let end = self.reads_end.map_or(wait.end(), |end| end.min(wait.end()));
                ready!(self.timer.poll(end, context));
                Poll::Ready(Err(WireError::TimedOut))
            }
        }
    }

    /// Reads more into the buffer within this time; cancel-safe.
    pub async fn fill_within(&mut self, wait: &mut Wait) -> Result<(), WireError> {
        poll_fn(|context| self.poll_fill_within(wait, context)).await
    }

    /// Whether it has said that all went well of what it is still to be sent the end of. Looks, and waits for nothing.
    pub async fn is_ahead(&mut self) -> bool {
        // What keeps it from being read shows when its reply is.
        let _ = poll_fn(|context| Poll::Ready(self.poll_fill(context))).await;
        self.buffered().starts_with(b"2")
    }

    /// Takes the line that waits in the buffer, if a whole one does. One over the limit is still to be
    /// [skipped](Self::skip_line).
    pub fn take_line(&mut self, octets_max: usize) -> Option<Incoming> {
        match next_line(self.buffered(), octets_max) {
            Line::Complete { len } => {
                let line = self.buffered()[..len].to_vec();
                self.take(len);
                Some(Incoming::Line(line))
            }
            Line::Partial => None,
            Line::Bare => Some(Incoming::Bare),
            Line::TooLong => Some(Incoming::TooLong),
        }
    }

    /// Skips to behind the next LF, holding no more than a buffer of the line.
    pub async fn skip_line(&mut self, wait: &mut Wait) -> Result<(), WireError> {
        loop {
            if let Some(end) = memchr::memchr(b'\n', self.buffered()) {
                self.take(end + 1);
                return Ok(());
            }
            self.take(self.buffered().len());
            self.fill_within(wait).await?;
        }
    }

    /// The peer's next reply, read within `limit`.
    pub async fn reply(&mut self, octets_max: usize, limit: Duration) -> Result<Reply, WireError> {
        self.reply_by(octets_max, &mut Wait::For(limit)).await
    }

    /// The same, read before `wait` ends; if it is not there by then it can be waited for again.
    pub fn reply_by<'a>(
        &'a mut self,
        octets_max: usize,
        wait: &'a mut Wait,
    ) -> impl Future<Output = Result<Reply, WireError>> + use<'a> {
        self.read_by(ReplyReader::default(), octets_max, wait)
    }

    async fn read_by(
        &mut self,
        mut reader: ReplyReader,
        octets_max: usize,
        wait: &mut Wait,
    ) -> Result<Reply, WireError> {
        loop {
            match reader.next(self.buffered(), octets_max) {
                ReplyParse::Complete { reply, len } => {
                    self.take(len);
                    return Ok(reply);
                }
                ReplyParse::Partial => self.fill_within(wait).await?,
                ReplyParse::Malformed => return Err(WireError::Malformed),
                ReplyParse::TooLong => return Err(WireError::TooLong),
            }
        }
    }

    /// The only reply to the end of a message, read within `limit`. Not to believe it means the same mail again, so its
    /// code counts however long its text is, which is cut to `octets_max`. One that seems to have no end is the last
    /// that is read here: whatever came behind it could be a part of it.
    pub async fn verdict(
        &mut self,
        octets_max: usize,
        limit: Duration,
    ) -> Result<Reply, WireError> {
        let only = ReplyReader::forgiving();
        self.verdict_by(only, octets_max, &mut Wait::For(limit))
            .await
    }

    /// The same, or one of several, as `reader` takes it, read before `wait` ends; cancel-safe.
    pub async fn verdict_by(
        &mut self,
        reader: ReplyReader,
        octets_max: usize,
        wait: &mut Wait,
    ) -> Result<Reply, WireError> {
        match self.read_by(reader, octets_max + SURPLUS_MAX, wait).await {
            Ok(reply) => Ok(reply.cut(octets_max)),
            Err(WireError::TooLong) => {
                let begun = Reply::begun(self.buffered());
                self.take(self.buffered().len());
                self.stream = Stream::Lost;
                begun.ok_or(WireError::TooLong)
            }
            Err(error) => Err(error),
        }
    }

    /// Writes all of `octets`.
    pub fn write<'a>(
        &'a mut self,
        mut octets: &'a [u8],
    ) -> impl Future<Output = Result<(), WireError>> + use<'a> {
        let mut wait = self.write_wait();
        poll_fn(move |context| self.poll_write(&mut octets, &mut wait, context))
    }

    /// How long a write may last.
    pub fn write_wait(&self) -> Wait {
        Wait::For(self.write_limit)
    }

    /// Writes `octets`, of which those remain that are not written yet.
    pub fn poll_write(
        &mut self,
        octets: &mut &[u8],
        wait: &mut Wait,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), WireError>> {
        match self.stream.poll_send(octets, context) {
            Poll::Ready(sent) => Poll::Ready(sent.map_err(WireError::from)),
            Poll::Pending => {
                ready!(self.timer.poll(wait.end(), context));
                Poll::Ready(Err(WireError::TimedOut))
            }
        }
    }

    /// Writes `octets` as the last, and closes. In plaintext they leave in one packet with the end behind them.
    pub async fn finish(&mut self, mut octets: &[u8]) {
        if let Stream::Plain(stream) = &self.stream
            && !octets.is_empty()
        {
            let flags = SendFlags::MORE | SendFlags::NOSIGNAL;
            let sent = stream.try_io(Interest::WRITABLE, || Ok(send(stream, octets, flags)?));
            octets = &octets[sent.unwrap_or(0)..];
        }
        // Whoever is gone already cannot be told.
        if self.write(octets).await.is_ok() {
            self.shut().await;
        }
    }

    /// Leaves. Under TLS the peer is told before, or it could not tell that from an attack (RFC 8446, 6.1).
    pub async fn close(mut self) {
        if self.is_secure() {
            self.shut().await;
        }
    }

    /// Says no more, so that the peer sees the end after our last octets.
    async fn shut(&mut self) {
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
