//! LMTP with lettre, which speaks SMTP only. For a transaction of one recipient the two differ in the
//! greeting's verb alone (RFC 2033, 4), so this stream turns the first `EHLO` written into `LHLO`.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use lettre::transport::smtp::client::AsyncTokioStream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

#[derive(Debug)]
pub(super) struct Lhlo {
    stream: TcpStream,
    greeted: bool,
}

impl Lhlo {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            greeted: false,
        }
    }
}

impl AsyncWrite for Lhlo {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        let write = |stream: &mut TcpStream, octets: &[u8], cx: &mut Context<'_>| {
            Pin::new(stream).poll_write(cx, octets)
        };
        if self.greeted {
            return write(&mut self.stream, octets, cx);
        }
        let greeting = match octets.strip_prefix(b"EHLO ") {
            Some(name) => [b"LHLO ", name].concat(),
            None => octets.to_vec(),
        };
        let written = write(&mut self.stream, &greeting, cx);
        self.greeted = matches!(written, Poll::Ready(Ok(1..)));
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl AsyncRead for Lhlo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncTokioStream for Lhlo {
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.stream.peer_addr()
    }
}
