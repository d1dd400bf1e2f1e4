//! A server that answers as the test says and keeps all it was told.

use std::fmt;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddrV4, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::mail::Mail;
use super::net::{self, NextHop};
use super::tls::{Duplex, Server};

/// A finished transaction: what came, and how it was answered.
#[derive(Clone, Default)]
pub struct Transaction {
    /// The MAIL line.
    pub mail_from: String,
    /// The RCPT lines that were answered 2xx.
    pub recipients: Vec<String>,
    /// The message as it went over the wire, dots still stuffed, without the final dot.
    pub data: Vec<u8>,
    /// The replies to the dot: one, or over LMTP one for each recipient.
    pub replies: Vec<String>,
}

impl Transaction {
    /// The message as mail, dots unstuffed.
    pub fn mail(&self) -> Mail {
        let lines = self.data.split_inclusive(|&octet| octet == b'\n');
        let unstuffed = lines.flat_map(|line| line.strip_prefix(b".").unwrap_or(line));
        Mail::new(&unstuffed.copied().collect::<Vec<u8>>())
    }
}

impl fmt::Debug for Transaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n{}\n{}", self.mail_from, self.recipients.join("\n"))?;
        f.write_str(&String::from_utf8_lossy(&self.data))?;
        writeln!(f, "{}", self.replies.join("\n"))
    }
}

/// A server to be started. Replies are chosen by the beginning of the command line, whatever its case; a client
/// that comes counts as a line `CONNECT`, the dot as a line `DOT`, over LMTP `DOT <recipient>` for each recipient, and the
/// place before the octets of a chunk, where usually nothing is said, as a line `CHUNK`. Some
/// replies are deeds: `close` closes the connection, `half` does so in the middle of one, `silence` is none, `endless`
/// never comes to an end, behind `deaf` (a 354) nothing more is read, behind `gone` (another) the connection is closed,
/// behind `early` (a third) there is a 250 for what has not come yet before it is, and behind `ahead` (a fourth) too, but
/// the message is read on.
#[derive(Clone, Default)]
pub struct Script {
    lmtp: bool,
    greeting: Option<String>,
    keywords: Vec<String>,
    once: Vec<(String, String)>,
    always: Vec<(String, String)>,
    pause: Duration,
    thought: Duration,
    gap: Duration,
    piecemeal: bool,
    tls: Option<Server>,
    implicit: bool,
    secret_keywords: Vec<String>,
    address: Option<SocketAddrV4>,
}

#[derive(Default)]
struct Seen {
    commands: Vec<String>,
    /// The same, connection by connection.
    dialogues: Vec<Vec<String>>,
    transactions: Vec<Transaction>,
    connections: Vec<TcpStream>,
    closing: bool,
}

/// A running server. Dropped, it closes its connections and is gone.
pub struct Sink {
    address: SocketAddrV4,
    lmtp: bool,
    seen: Arc<Mutex<Seen>>,
    acceptor: Option<JoinHandle<()>>,
}

impl Sink {
    /// An SMTP server that says yes to everything and offers nothing.
    pub fn smtp() -> Script {
        Script::default()
    }

    /// An LMTP server that says yes to everything and offers nothing.
    pub fn lmtp() -> Script {
        Script {
            lmtp: true,
            ..Script::default()
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddrV4 {
        self.address
    }

    /// It, as somebody's next hop.
    pub fn next_hop(&self) -> NextHop {
        if self.lmtp {
            NextHop::Lmtp(self.address)
        } else {
            NextHop::Smtp(self.address)
        }
    }

    /// Every command line so far, of all connections, as it came but for the line end. `(TLS)` stands where
    /// a handshake was done.
    pub fn commands(&self) -> Vec<String> {
        lock(&self.seen).commands.clone()
    }

    /// The same for each connection by itself, in the order they came.
    pub fn dialogues(&self) -> Vec<Vec<String>> {
        lock(&self.seen).dialogues.clone()
    }

    /// Every transaction that has come to its dot.
    pub fn transactions(&self) -> Vec<Transaction> {
        lock(&self.seen).transactions.clone()
    }

    /// Waits until there are as many transactions, and gives them.
    pub fn wait_for(&self, count: usize) -> Vec<Transaction> {
        let what = format!("{count} transactions at {}", self.address);
        super::wait_until(super::PATIENCE, &what, || {
            let all = self.transactions();
            if all.len() < count {
                return Err(format!("{all:?} after {:?}", self.commands()));
            }
            Ok(all)
        })
    }
}

impl Script {
    /// Offers a keyword line in the reply to EHLO or LHLO.
    pub fn offer(mut self, keyword: &str) -> Self {
        self.keywords.push(keyword.to_owned());
        self
    }

    /// Offers STARTTLS, and means it.
    pub fn starttls(mut self, tls: Server) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Offers a keyword under TLS only.
    pub fn offer_under_tls(mut self, keyword: &str) -> Self {
        self.secret_keywords.push(keyword.to_owned());
        self
    }

    /// Begins every connection with a handshake.
    pub fn implicit_tls(mut self, tls: Server) -> Self {
        self.implicit = true;
        self.starttls(tls)
    }

    /// Greets with this line instead of `220 sink.test`.
    pub fn greet(mut self, line: &str) -> Self {
        self.greeting = Some(line.to_owned());
        self
    }

    /// Answers the first line with that beginning so; said twice, the second too.
    pub fn once(mut self, line: &str, reply: &str) -> Self {
        self.once
            .push((line.to_ascii_uppercase(), reply.to_owned()));
        self
    }

    /// Answers every line with that beginning so, unless a `once` is left for it.
    pub fn always(mut self, line: &str, reply: &str) -> Self {
        self.always
            .push((line.to_ascii_uppercase(), reply.to_owned()));
        self
    }

    /// Waits this long before each reply.
    pub fn pause(mut self, pause: Duration) -> Self {
        self.pause = pause;
        self
    }

    /// Looks at each message for this long before it answers for it.
    pub fn think(mut self, thought: Duration) -> Self {
        self.thought = thought;
        self
    }

    /// Answers for each recipient of a message this long after the one before.
    pub fn apart(mut self, gap: Duration) -> Self {
        self.gap = gap;
        self
    }

    /// Says everything octet by octet.
    pub fn piecemeal(mut self) -> Self {
        self.piecemeal = true;
        self
    }

    /// Listens here instead of on a fresh address.
    pub fn listen(mut self, address: SocketAddrV4) -> Self {
        self.address = Some(address);
        self
    }

    /// Starts the server.
    pub fn start(self) -> Sink {
        let address = self.address.unwrap_or_else(net::address);
        let listener = TcpListener::bind(address).expect("the address is free");
        let seen = Arc::new(Mutex::new(Seen::default()));
        let lmtp = self.lmtp;
        let script = Arc::new(Mutex::new(self));
        let acceptor = thread::spawn({
            let seen = Arc::clone(&seen);
            move || accept(&listener, &script, &seen)
        });
        Sink {
            address,
            lmtp,
            seen,
            acceptor: Some(acceptor),
        }
    }

    fn reply_to(&mut self, line: &str) -> Option<String> {
        let line = line.to_ascii_uppercase();
        if let Some(at) = self
            .once
            .iter()
            .position(|(head, _)| line.starts_with(head))
        {
            return Some(self.once.remove(at).1);
        }
        let mut hits = self
            .always
            .iter()
            .filter(|(head, _)| line.starts_with(head));
        hits.next().map(|(_, reply)| reply.clone())
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        lock(&self.seen).closing = true;
        let _ = TcpStream::connect(self.address);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
        for connection in &lock(&self.seen).connections {
            let _ = connection.shutdown(Shutdown::Both);
        }
    }
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

fn accept(listener: &TcpListener, script: &Arc<Mutex<Script>>, seen: &Arc<Mutex<Seen>>) {
    for stream in listener.incoming() {
        let Ok(stream) = stream else { continue };
        let mut all = lock(seen);
        if all.closing {
            return;
        }
        all.connections.extend(stream.try_clone());
        let (script, seen) = (Arc::clone(script), Arc::clone(seen));
        thread::spawn(move || {
            // An error is the client's end of the connection; the test sees what it has sent.
            let _ = Session::new(stream, script, seen).and_then(Session::serve);
        });
    }
}

struct Session {
    stream: BufReader<Box<dyn Duplex>>,
    socket: TcpStream,
    secure: bool,
    number: usize,
    script: Arc<Mutex<Script>>,
    seen: Arc<Mutex<Seen>>,
    transaction: Transaction,
}

impl Session {
    fn new(
        stream: TcpStream,
        script: Arc<Mutex<Script>>,
        seen: Arc<Mutex<Seen>>,
    ) -> std::io::Result<Self> {
        Ok(Self {
            stream: BufReader::new(Box::new(stream.try_clone()?)),
            socket: stream,
            secure: false,
            number: {
                let dialogues = &mut lock(&seen).dialogues;
                dialogues.push(Vec::new());
                dialogues.len() - 1
            },
            script,
            seen,
            transaction: Transaction::default(),
        })
    }

    fn serve(mut self) -> std::io::Result<()> {
        if lock(&self.script).implicit {
            self.secure()?;
        }
        let scripted = lock(&self.script).reply_to("CONNECT");
        let greeting = scripted.or_else(|| lock(&self.script).greeting.clone());
        self.say(&greeting.unwrap_or_else(|| "220 sink.test".to_owned()))?;
        loop {
            let mut line = Vec::new();
            if self.stream.read_until(b'\n', &mut line)? == 0 {
                return Ok(());
            }
            let line = String::from_utf8_lossy(&line)
                .trim_end_matches(['\r', '\n'])
                .to_owned();
            self.note(&line);
            let verb = line
                .split([' ', ':'])
                .next()
                .unwrap_or_default()
                .to_ascii_uppercase();
            let ahead = (verb == "BDAT").then(|| lock(&self.script).reply_to("CHUNK"));
            if let Some(reply) = ahead.flatten() {
                self.say(&reply)?;
            }
            if verb == "BDAT" && self.take_chunk(&line)? {
                self.finish()?;
                continue;
            }
            let scripted = lock(&self.script).reply_to(&line);
            let reply = scripted.unwrap_or_else(|| self.usual_reply(&verb));
            self.say(&reply)?;
            self.after(&verb, line, &reply)?;
            if verb == "QUIT" {
                return Ok(());
            }
        }
    }

    fn usual_reply(&self, verb: &str) -> String {
        match verb {
            "EHLO" | "LHLO" => {
                let script = lock(&self.script);
                let mut lines = vec!["sink.test".to_owned()];
                lines.extend(script.keywords.clone());
                if self.secure {
                    lines.extend(script.secret_keywords.clone());
                } else if script.tls.is_some() {
                    lines.push("STARTTLS".to_owned());
                }
                drop(script);
                let last = lines.len() - 1;
                let line = |(at, text): (usize, &String)| {
                    format!("250{}{text}", if at == last { ' ' } else { '-' })
                };
                lines
                    .iter()
                    .enumerate()
                    .map(line)
                    .collect::<Vec<_>>()
                    .join("\r\n")
            }
            "STARTTLS" if !self.secure && lock(&self.script).tls.is_some() => {
                "220 2.0.0 go".to_owned()
            }
            "DATA" if self.transaction.recipients.is_empty() => "503 5.5.1 no recipient".to_owned(),
            "DATA" => "354 go on".to_owned(),
            "QUIT" => "221 2.0.0 bye".to_owned(),
            "HELO" | "MAIL" | "RCPT" | "RSET" | "NOOP" | "BDAT" => "250 2.0.0 ok".to_owned(),
            _ => "502 5.5.1 not here".to_owned(),
        }
    }

    fn after(&mut self, verb: &str, line: String, reply: &str) -> std::io::Result<()> {
        let yes = reply.starts_with('2');
        match verb {
            "EHLO" | "LHLO" | "HELO" | "RSET" => self.transaction = Transaction::default(),
            "MAIL" if yes => {
                self.transaction = Transaction {
                    mail_from: line,
                    ..Transaction::default()
                }
            }
            "RCPT" if yes => self.transaction.recipients.push(line),
            "DATA" if reply.starts_with("354") || reply == "ahead" => self.take_message()?,
            "STARTTLS" if reply.starts_with("220") => self.secure()?,
            _ => {}
        }
        Ok(())
    }

    /// Reads a chunk; whether it is the last.
    fn take_chunk(&mut self, line: &str) -> std::io::Result<bool> {
        let mut words = line.split(' ').skip(1);
        let octets = words.next().and_then(|word| word.parse().ok()).unwrap_or(0);
        let mut chunk = vec![0; octets];
        self.stream.read_exact(&mut chunk)?;
        self.transaction.data.extend(chunk);
        Ok(words.next().is_some())
    }

    fn take_message(&mut self) -> std::io::Result<()> {
        let mut data = Vec::new();
        loop {
            let start = data.len();
            if self.stream.read_until(b'\n', &mut data)? == 0 {
                return Ok(());
            }
            let at_line_start = start == 0 || data[..start].ends_with(b"\r\n");
            if at_line_start && &data[start..] == b".\r\n" {
                data.truncate(start);
                break;
            }
        }
        self.transaction.data = data;
        self.finish()
    }

    /// The message is there: the replies to its end.
    fn finish(&mut self) -> std::io::Result<()> {
        let mut transaction = std::mem::take(&mut self.transaction);
        transaction.replies = self.replies_to_dot(&transaction.recipients);
        let replies = transaction.replies.clone();
        lock(&self.seen).transactions.push(transaction);
        let Script { thought, gap, .. } = *lock(&self.script);
        thread::sleep(thought);
        replies.iter().enumerate().try_for_each(|(place, reply)| {
            if place > 0 {
                thread::sleep(gap);
            }
            self.say(reply)
        })
    }

    fn replies_to_dot(&self, recipients: &[String]) -> Vec<String> {
        let mut script = lock(&self.script);
        let stages = if script.lmtp {
            recipients.iter().map(|line| dot_for(line)).collect()
        } else {
            vec!["DOT".to_owned()]
        };
        let usual = || "250 2.0.0 ok, taken".to_owned();
        let replies = stages.iter().map(|stage| script.reply_to(stage));
        replies.map(|reply| reply.unwrap_or_else(usual)).collect()
    }

    fn say(&mut self, reply: &str) -> std::io::Result<()> {
        thread::sleep(lock(&self.script).pause);
        match reply {
            "close" => return self.end(b"", Duration::ZERO),
            "half" => return self.end(b"250-half a", Duration::ZERO),
            "gone" => return self.end(b"354 go on\r\n", Duration::ZERO),
            "deaf" => return self.end(b"354 go on\r\n", super::PATIENCE),
            "early" => {
                self.write(b"354 go on\r\n")?;
                thread::sleep(Duration::from_millis(500));
                return self.end(b"250 2.0.0 ok, taken\r\n", Duration::ZERO);
            }
            "ahead" => {
                self.write(b"354 go on\r\n")?;
                thread::sleep(Duration::from_millis(200));
                return self.write(b"250 2.0.0 ok, taken\r\n");
            }
            "silence" => return Ok(()),
            "endless" => loop {
                self.write(b"250-and\r\n")?;
                thread::sleep(Duration::from_millis(100));
            },
            _ => {}
        }
        let text = format!("{reply}\r\n");
        let octets = if lock(&self.script).piecemeal {
            self.socket.set_nodelay(true)?;
            1
        } else {
            text.len()
        };
        text.as_bytes()
            .chunks(octets)
            .try_for_each(|piece| self.write(piece))
    }

    fn write(&mut self, octets: &[u8]) -> std::io::Result<()> {
        let stream = self.stream.get_mut();
        stream.write_all(octets)?;
        stream.flush()
    }

    /// Says this, waits, and closes.
    fn end(&mut self, words: &[u8], pause: Duration) -> std::io::Result<()> {
        self.write(words)?;
        thread::sleep(pause);
        self.socket.shutdown(Shutdown::Both)?;
        Err(std::io::ErrorKind::ConnectionAborted.into())
    }

    /// Whatever came before the handshake is forgotten.
    fn secure(&mut self) -> std::io::Result<()> {
        let Some(tls) = lock(&self.script).tls.clone() else {
            return Ok(());
        };
        self.stream = BufReader::new(Box::new(tls.accept(self.socket.try_clone()?)?));
        self.secure = true;
        self.transaction = Transaction::default();
        self.note("(TLS)");
        Ok(())
    }

    fn note(&self, line: &str) {
        let mut seen = lock(&self.seen);
        seen.commands.push(line.to_owned());
        seen.dialogues[self.number].push(line.to_owned());
    }
}

/// `DOT <bob@b.test>` for `RCPT TO:<bob@b.test> NOTIFY=NEVER`.
fn dot_for(recipient: &str) -> String {
    let path = recipient
        .split_once(':')
        .map_or(recipient, |(_, path)| path);
    let path = path.split_once('>').map_or(path, |(path, _)| path);
    format!("DOT {}>", path.trim())
}
