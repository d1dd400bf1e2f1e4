//! A client that says exactly what the test says.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, SocketAddrV4, TcpStream};

use tokio::net::TcpSocket;

use super::PATIENCE;
use super::tls::{Authority, Duplex};

/// One connection to an SMTP or LMTP server.
pub struct Dialogue {
    stream: BufReader<Box<dyn Duplex>>,
    socket: TcpStream,
    said: Vec<String>,
}

impl Dialogue {
    /// Connects and waits for the 220 greeting.
    pub fn open(address: impl Into<SocketAddr>) -> Self {
        let mut dialogue = Self::connect(address);
        dialogue.expect("220");
        dialogue
    }

    /// Connects and leaves the greeting unread.
    pub fn connect(address: impl Into<SocketAddr>) -> Self {
        let socket = TcpStream::connect(address.into()).expect("the server accepts connections");
        Self::over(socket)
    }

    /// The same, from this address of the machine.
    pub fn connect_from(source: Ipv4Addr, address: SocketAddrV4) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()
            .expect("a runtime");
        let connecting = async {
            let socket = TcpSocket::new_v4()?;
            socket.bind(SocketAddrV4::new(source, 0).into())?;
            socket.connect(address.into()).await?.into_std()
        };
        let socket = runtime
            .block_on(connecting)
            .expect("the server accepts connections");
        socket.set_nonblocking(false).expect("a socket can block");
        Self::over(socket)
    }

    fn over(socket: TcpStream) -> Self {
        socket
            .set_read_timeout(Some(PATIENCE))
            .and_then(|()| socket.set_nodelay(true))
            .expect("a socket can be set up");
        Self {
            stream: BufReader::new(Box::new(share(&socket))),
            socket,
            said: Vec::new(),
        }
    }

    /// Connects to a server whose TLS begins with the first octet, and waits for the 220 greeting.
    pub fn open_tls(address: SocketAddrV4, authority: &Authority, name: &str) -> Self {
        let mut dialogue = Self::connect(address);
        dialogue.secure(authority, name);
        dialogue.expect("220");
        dialogue
    }

    /// Says STARTTLS and goes over to TLS; the server's certificate has to be for `name`.
    pub fn start_tls(&mut self, authority: &Authority, name: &str) {
        self.command("STARTTLS", "220");
        self.secure(authority, name);
    }

    /// Goes over to TLS without a word.
    pub fn secure(&mut self, authority: &Authority, name: &str) {
        assert!(self.stream.buffer().is_empty(), "{}", self.transcript());
        let stream = authority.connect(share(&self.socket), name);
        self.stream = BufReader::new(Box::new(stream));
        self.said.push("   (TLS)\n".to_owned());
    }

    /// The connection below TLS, to say there what should not be.
    pub fn socket(&mut self) -> &mut TcpStream {
        &mut self.socket
    }

    /// Tells the server under TLS that no more will come (`close_notify`), and leaves the connection open.
    pub fn close_notify(&mut self) {
        self.stream.get_mut().close_notify();
    }

    /// Sends these octets, in one write.
    pub fn send(&mut self, octets: impl AsRef<[u8]>) {
        let octets = octets.as_ref();
        self.note("C", octets);
        let stream = self.stream.get_mut();
        let sent = stream.write_all(octets).and_then(|()| stream.flush());
        sent.expect("the server reads");
    }

    /// Reads one reply, however many lines it has, and gives its lines without line ends.
    pub fn reply(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        loop {
            let mut line = Vec::new();
            let read = self.stream.read_until(b'\n', &mut line);
            assert!(
                matches!(read, Ok(1..)),
                "no reply ({read:?}); so far:\n{}",
                self.transcript()
            );
            self.note("S", &line);
            let line = String::from_utf8_lossy(&line).trim_end().to_owned();
            let goes_on = line.as_bytes().get(3) == Some(&b'-');
            lines.push(line);
            if !goes_on {
                return lines;
            }
        }
    }

    /// Reads one reply; its last line starts with `prefix`, or the test fails.
    pub fn expect(&mut self, prefix: &str) -> Vec<String> {
        let reply = self.reply();
        let fits = reply.last().is_some_and(|line| line.starts_with(prefix));
        assert!(fits, "expected {prefix}; so far:\n{}", self.transcript());
        reply
    }

    /// Sends a command line and expects a reply.
    pub fn command(&mut self, line: &str, prefix: &str) -> Vec<String> {
        self.send(format!("{line}\r\n"));
        self.expect(prefix)
    }

    /// Sends a message after DATA and its dot, stuffed as RFC 5321, 4.5.2 says; reads no reply to the dot.
    pub fn data(&mut self, message: &[u8]) {
        self.command("DATA", "354");
        self.send(stuffed(message));
    }

    /// The same, octet by octet behind the header block.
    pub fn drip(&mut self, message: &[u8]) {
        self.command("DATA", "354");
        let wire = stuffed(message);
        let end = wire.windows(4).position(|octets| octets == b"\r\n\r\n");
        let (header, body) = wire.split_at(end.expect("a body") + 4);
        self.send(header);
        for octet in body.chunks(1) {
            std::thread::sleep(std::time::Duration::from_millis(1));
            self.send(octet);
        }
    }

    /// Sends a message in these chunks (RFC 3030), all in one go, and hears the reply to each but the last.
    pub fn chunks(&mut self, chunks: &[&[u8]]) {
        let mut wire = Vec::new();
        for (at, chunk) in chunks.iter().enumerate() {
            let last = if at + 1 == chunks.len() { " LAST" } else { "" };
            wire.extend_from_slice(format!("BDAT {}{last}\r\n", chunk.len()).as_bytes());
            wire.extend_from_slice(chunk);
        }
        self.send(wire);
        for _ in 1..chunks.len() {
            self.expect("250");
        }
    }

    /// The same, each when that before it was answered for: chunks of so many octets, then the rest.
    pub fn chunk_by_chunk(&mut self, message: &[u8], octets: &[usize]) {
        let mut rest = message;
        for count in octets {
            let (chunk, behind) = rest.split_at(*count);
            self.send([format!("BDAT {count}\r\n").as_bytes(), chunk].concat());
            self.expect("250");
            rest = behind;
        }
        self.send([format!("BDAT {} LAST\r\n", rest.len()).as_bytes(), rest].concat());
    }

    /// Says EHLO and hands over one message by SMTP; gives the server's reply to the dot.
    pub fn submit(&mut self, from: &str, to: &[&str], message: &[u8]) -> String {
        self.command("EHLO client.test", "250");
        self.command(&format!("MAIL FROM:<{from}> BODY=8BITMIME"), "250");
        for recipient in to {
            self.command(&format!("RCPT TO:<{recipient}>"), "250");
        }
        self.data(message);
        self.expect("250").join("\n")
    }

    /// Whatever else the server says until it closes the connection.
    pub fn rest(&mut self) -> String {
        let mut rest = Vec::new();
        let read = self.stream.read_to_end(&mut rest);
        self.note("S", &rest);
        // What came before a reset is kept.
        assert!(is_end(&read), "no end ({read:?}):\n{}", self.transcript());
        String::from_utf8_lossy(&rest).into_owned()
    }

    /// The same below TLS, whatever it is.
    pub fn rest_below_tls(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        let read = self.socket.read_to_end(&mut rest);
        assert!(is_end(&read), "no end ({read:?}):\n{}", self.transcript());
        rest
    }

    /// Breaks the connection off, with no QUIT.
    pub fn break_off(self) {
        let _ = self.socket.shutdown(Shutdown::Both);
    }

    /// Says that no more will come, and goes on reading.
    pub fn half_close(&mut self) {
        let _ = self.socket.shutdown(Shutdown::Write);
    }

    /// Whether the server has closed the connection and said nothing more.
    pub fn is_closed(&mut self) -> bool {
        let read = self.stream.read(&mut [0]);
        matches!(read, Ok(0)) || read.is_err() && is_end(&read)
    }

    /// Both sides so far.
    pub fn transcript(&self) -> String {
        self.said.concat()
    }

    fn note(&mut self, who: &str, octets: &[u8]) {
        self.said
            .push(format!("{who}: {}\n", octets.escape_ascii()));
    }
}

/// Whether this is the end of a connection, and not of the patience with one that is open.
fn is_end(read: &std::io::Result<usize>) -> bool {
    let waited = [ErrorKind::WouldBlock, ErrorKind::TimedOut];
    read.as_ref()
        .map_or_else(|error| !waited.contains(&error.kind()), |_| true)
}

fn share(socket: &TcpStream) -> TcpStream {
    socket.try_clone().expect("a socket can be shared")
}

/// A message as it goes after DATA, with its dot.
fn stuffed(message: &[u8]) -> Vec<u8> {
    let mut wire = Vec::with_capacity(message.len() + 5);
    for line in message.split_inclusive(|&octet| octet == b'\n') {
        if line.starts_with(b".") {
            wire.push(b'.');
        }
        wire.extend_from_slice(line);
    }
    wire.extend_from_slice(b".\r\n");
    wire
}
