//! For tests: a small SMTP or LMTP server on loopback that remembers what it was given, octet for octet.

#![allow(clippy::unwrap_used)]

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// One accepted transaction.
#[derive(Clone, Debug, Default)]
pub(crate) struct Received {
    pub(crate) mail: String,
    pub(crate) rcpt: Vec<String>,
    pub(crate) data: Vec<u8>,
}

/// What the server saw.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) connections: usize,
    pub(crate) commands: Vec<String>,
    pub(crate) received: Vec<Received>,
}

/// A reply other than the usual: asked for each command line, for `greeting` and for `.` (the end of
/// data). A 421 also ends the connection, an empty one ends it without a word.
type Answer = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

#[derive(Clone)]
pub(crate) struct Sink {
    pub(crate) port: u16,
    pub(crate) seen: Arc<Mutex<Seen>>,
    keywords: Vec<&'static str>,
    answer: Answer,
}

impl Sink {
    pub(crate) async fn start(keywords: &[&'static str]) -> Self {
        Self::start_with(keywords, |_| None).await
    }

    pub(crate) async fn start_with(
        keywords: &[&'static str],
        answer: impl Fn(&str) -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let sink = Self {
            port: listener.local_addr().unwrap().port(),
            seen: Arc::default(),
            keywords: keywords.to_vec(),
            answer: Arc::new(answer),
        };
        let server = sink.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                server.seen.lock().unwrap().connections += 1;
                tokio::spawn(server.clone().serve(stream));
            }
        });
        sink
    }

    pub(crate) fn received(&self) -> Vec<Received> {
        self.seen.lock().unwrap().received.clone()
    }

    pub(crate) fn commands(&self) -> Vec<String> {
        self.seen.lock().unwrap().commands.clone()
    }

    /// Waits until `count` transactions are in; panics after half a minute.
    pub(crate) async fn wait_for(&self, count: usize) -> Vec<Received> {
        for _ in 0..3000 {
            if self.received().len() >= count {
                return self.received();
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        panic!("{} of {count} mails came", self.received().len());
    }

    async fn serve(self, stream: TcpStream) {
        // An error is a client that went away.
        let _ = self.session(BufReader::new(stream)).await;
    }

    async fn session(&self, mut peer: BufReader<TcpStream>) -> std::io::Result<()> {
        let mut now = Received::default();
        self.reply(&mut peer, "greeting", "220 sink.example")
            .await?;
        loop {
            let mut line = String::new();
            if peer.read_line(&mut line).await? == 0 {
                return Ok(());
            }
            let line = line.trim_end().to_owned();
            self.seen.lock().unwrap().commands.push(line.clone());
            let verb = line.split(' ').next().unwrap_or_default().to_uppercase();
            let usual = match verb.as_str() {
                "EHLO" | "LHLO" => self.offers(),
                "RCPT" if now.mail.is_empty() => "503 5.5.1 MAIL first".to_owned(),
                // As RFC 2920, 3.1 allows: whether there is a recipient is told after the dot.
                "DATA" => "354 go".to_owned(),
                "AUTH" => "235 2.7.0 welcome".to_owned(),
                _ => "250 2.0.0 ok".to_owned(),
            };
            let accepted = self.reply(&mut peer, &line, &usual).await?;
            match verb.as_str() {
                "MAIL" if accepted => now.mail = line,
                "RCPT" if accepted => now.rcpt.push(line),
                "RSET" => now = Received::default(),
                "DATA" if accepted => {
                    now.data = read_data(&mut peer).await?;
                    let usual = if now.rcpt.is_empty() {
                        "554 5.5.1 no valid recipients"
                    } else {
                        "250 2.0.0 queued"
                    };
                    if self.reply(&mut peer, ".", usual).await? {
                        self.seen.lock().unwrap().received.push(now);
                    }
                    now = Received::default();
                }
                "QUIT" => return Ok(()),
                _ => {}
            }
        }
    }

    fn offers(&self) -> String {
        let mut lines = vec!["sink.example"];
        lines.extend(&self.keywords);
        let last = lines.len() - 1;
        let reply = lines.iter().enumerate().map(|(n, line)| {
            let mark = if n < last { "250-" } else { "250 " };
            [mark, line].concat()
        });
        reply.collect::<Vec<_>>().join("\r\n")
    }

    /// Says whether the reply was a good one.
    async fn reply(
        &self,
        peer: &mut BufReader<TcpStream>,
        to: &str,
        usual: &str,
    ) -> std::io::Result<bool> {
        let text = (self.answer)(to).unwrap_or_else(|| usual.to_owned());
        let gone = || std::io::Error::other("closed");
        if text.is_empty() {
            return Err(gone());
        }
        let stream = peer.get_mut();
        stream.write_all(format!("{text}\r\n").as_bytes()).await?;
        if text.starts_with("421") {
            return Err(gone());
        }
        Ok(text.starts_with('2') || text.starts_with('3'))
    }
}

/// Up to CRLF.CRLF, stuffing undone.
async fn read_data(peer: &mut BufReader<TcpStream>) -> std::io::Result<Vec<u8>> {
    let (mut data, mut line) = (Vec::new(), Vec::new());
    loop {
        line.clear();
        // Up to CRLF, not to a lone LF.
        while !line.ends_with(b"\r\n") {
            if peer.read_until(b'\n', &mut line).await? == 0 {
                return Err(std::io::Error::other("gone in the middle of data"));
            }
        }
        if line == b".\r\n" {
            return Ok(data);
        }
        data.extend_from_slice(line.strip_prefix(b".").unwrap_or(&line));
    }
}
