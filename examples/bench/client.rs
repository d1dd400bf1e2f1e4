//! A small lock-step SMTP client that says EHLO, because smtp-source cannot ask for an extension.

use std::net::SocketAddrV4;

use anyhow::{Context, Result, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A message to send again and again.
pub struct Mail {
    from: Vec<u8>,
    text: Vec<u8>,
}

impl Mail {
    /// A message of about so many octets; `tracked` if its sender asks for tracking.
    pub fn new(octets: usize, tracked: bool) -> Self {
        // Any 32 octets are a certificate.
        let track = " TRACK=NOW:c256/AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8:t/1790000000000";
        let track = if tracked { track } else { "" };
        let mut text = b"From: a@origin.test\r\nTo: b@dest.test\r\nSubject: a message\r\n\
            Message-ID: <bench@origin.test>\r\n\r\n"
            .to_vec();
        while text.len() < octets {
            text.extend_from_slice(&[b'x'; 70]);
            text.extend_from_slice(b"\r\n");
        }
        text.extend_from_slice(b".\r\n");
        Self {
            from: format!("MAIL FROM:<a@origin.test>{track}\r\n").into_bytes(),
            text,
        }
    }
}

/// A session that has said EHLO.
pub struct Session {
    stream: TcpStream,
    input: Vec<u8>,
}

impl Session {
    /// Connects, is greeted, says EHLO.
    pub async fn open(to: SocketAddrV4) -> Result<Self> {
        let stream = TcpStream::connect(to).await?;
        stream.set_nodelay(true)?;
        let mut session = Self {
            stream,
            input: Vec::new(),
        };
        session.reply(b'2').await.context("greeting")?;
        session.say(b"EHLO client.test\r\n", b'2').await?;
        Ok(session)
    }

    /// Sends a message and is told that it was taken.
    pub async fn send(&mut self, mail: &Mail) -> Result<()> {
        self.say(&mail.from, b'2').await?;
        self.say(b"RCPT TO:<b@dest.test>\r\n", b'2').await?;
        self.say(b"DATA\r\n", b'3').await?;
        self.say(&mail.text, b'2').await
    }

    /// Says goodbye.
    pub async fn quit(mut self) -> Result<()> {
        self.say(b"QUIT\r\n", b'2').await
    }

    async fn say(&mut self, octets: &[u8], class: u8) -> Result<()> {
        self.stream.write_all(octets).await?;
        self.reply(class).await
    }

    async fn reply(&mut self, class: u8) -> Result<()> {
        self.input.clear();
        loop {
            let read = self.stream.read_buf(&mut self.input).await?;
            ensure!(read > 0, "the connection was closed");
            if ends_reply(&self.input) {
                ensure!(self.input[0] == class, "{}", self.input.escape_ascii());
                self.input.shrink_to(0);
                return Ok(());
            }
        }
    }
}

/// Whether the last line of a reply is there: a code and a blank.
fn ends_reply(input: &[u8]) -> bool {
    let Some(lines) = input.strip_suffix(b"\r\n") else {
        return false;
    };
    let last = lines.rsplit(|octet| *octet == b'\n').next();
    last.and_then(|line| line.get(3)) == Some(&b' ')
}
