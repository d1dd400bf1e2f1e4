//! An MTA that follows the order of commands to the letter (RFC 5321, 4.1.4; RFC 3030) and keeps each
//! connection's events. Its replies are numbered, so that none can be lost, doubled or swapped unseen.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddrV4, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use super::PATIENCE;
use super::net;

/// Something that came over a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A command line, without its CRLF.
    Command(Vec<u8>),
    /// The text behind a 354, with its final dot.
    Message(Vec<u8>),
    /// The octets behind a BDAT.
    Chunk(Vec<u8>),
}

/// A running MTA; it lives as long as the test.
pub struct StrictMta {
    address: SocketAddrV4,
    ended: Receiver<Vec<Event>>,
}

impl StrictMta {
    /// Starts it.
    pub fn start() -> Self {
        let address = net::address();
        let listener = TcpListener::bind(address).expect("the address is free");
        let (ends, ended) = channel();
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let ends = ends.clone();
                thread::spawn(move || {
                    let mut session = Session::new(&stream);
                    // An error is the client's end of the connection.
                    let _ = session.serve();
                    let _ = ends.send(session.events);
                });
            }
        });
        Self { address, ended }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddrV4 {
        self.address
    }

    /// What came over the connection that ends next.
    pub fn events(&self) -> Vec<Event> {
        let events = self.ended.recv_timeout(PATIENCE);
        events.expect("the connection to the MTA ends")
    }
}

/// Where a transaction stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Start,
    Mail,
    Rcpt,
    Chunks,
    /// A chunk was refused: nothing but RSET or a hello helps (RFC 3030, 2).
    Failed,
}

struct Session<'a> {
    stream: BufReader<&'a TcpStream>,
    greeted: bool,
    stage: Stage,
    count: usize,
    events: Vec<Event>,
}

impl<'a> Session<'a> {
    fn new(stream: &'a TcpStream) -> Self {
        Self {
            stream: BufReader::new(stream),
            greeted: false,
            stage: Stage::Start,
            count: 0,
            events: Vec::new(),
        }
    }

    fn serve(&mut self) -> io::Result<()> {
        self.say("220 mta.test strict")?;
        loop {
            let mut line = Vec::new();
            if self.stream.read_until(b'\n', &mut line)? == 0 {
                return Ok(());
            }
            let Some(line) = line.strip_suffix(b"\r\n") else {
                return self.say("500 not a line");
            };
            self.count += 1;
            self.events.push(Event::Command(line.to_vec()));
            let text = String::from_utf8_lossy(line).to_ascii_uppercase();
            let reply = self.reply(&text)?;
            self.say(&reply)?;
            if reply.starts_with("354") {
                let reply = self.message()?;
                self.say(&reply)?;
            }
            if reply.starts_with("221") || reply.starts_with("421") {
                return Ok(());
            }
        }
    }

    fn say(&mut self, reply: &str) -> io::Result<()> {
        let mut stream = *self.stream.get_ref();
        stream.write_all(format!("{reply} #{}\r\n", self.count).as_bytes())
    }

    fn reply(&mut self, line: &str) -> io::Result<String> {
        let (verb, argument) = line.split_once(' ').unwrap_or((line, ""));
        let reply = match verb {
            "EHLO" | "HELO" => {
                (self.greeted, self.stage) = (true, Stage::Start);
                if verb == "HELO" {
                    "250 mta.test"
                } else {
                    "250-mta.test\r\n250-PIPELINING\r\n250-CHUNKING\r\n250 8BITMIME"
                }
            }
            "RSET" => {
                self.stage = Stage::Start;
                "250 2.0.0 flushed"
            }
            "MAIL" => self.mail(argument),
            "RCPT" => self.rcpt(argument),
            "DATA" if self.stage == Stage::Rcpt => "354 go",
            "DATA" => "503 5.5.1 DATA out of order",
            "BDAT" => self.chunk(argument)?,
            "NOOP" if argument == "DIE" => "421 4.3.2 dying",
            "NOOP" => "250 2.0.0 nothing",
            "VRFY" => "252 2.0.0 perhaps",
            "EXPN" => "550 5.1.1 no list",
            "HELP" => "214-first\r\n214-\r\n214 last",
            "QUIT" => "221 2.0.0 bye",
            _ => "500 5.5.2 what",
        };
        Ok(reply.to_owned())
    }

    fn mail(&mut self, argument: &str) -> &'static str {
        if !self.greeted || self.stage != Stage::Start {
            return "503 5.5.1 MAIL out of order";
        }
        let known = |param: &str| ["BODY=8BITMIME", "BODY=7BIT"].contains(&param);
        if !argument
            .split(' ')
            .skip(1)
            .all(|p| p.is_empty() || known(p))
        {
            return "555 5.5.4 unknown parameter";
        }
        if argument.contains("BAD@") {
            return "550 5.7.1 not you";
        }
        self.stage = Stage::Mail;
        "250 2.1.0 sender"
    }

    fn rcpt(&mut self, argument: &str) -> &'static str {
        if !matches!(self.stage, Stage::Mail | Stage::Rcpt) {
            return "503 5.5.1 RCPT out of order";
        }
        if argument.split(' ').count() > 1 {
            return "555 5.5.4 unknown parameter";
        }
        if argument.contains("NOBODY@") {
            return "550-5.1.1 nobody\r\n550 5.1.1 of that name";
        }
        if argument.contains("FULL@") {
            return "452 4.2.2 full";
        }
        self.stage = Stage::Rcpt;
        "250 2.1.5 recipient"
    }

    fn chunk(&mut self, argument: &str) -> io::Result<&'static str> {
        let (size, last) = argument.split_once(' ').unwrap_or((argument, ""));
        let mut octets = vec![0; size.parse().map_err(io::Error::other)?];
        self.stream.read_exact(&mut octets)?;
        let refused = octets.windows(5).any(|word| word == b"virus");
        self.events.push(Event::Chunk(octets));
        if !matches!(self.stage, Stage::Rcpt | Stage::Chunks) {
            return Ok("503 5.5.1 BDAT out of order");
        }
        self.stage = match (refused, last) {
            (_, "LAST") => Stage::Start,
            (true, _) => Stage::Failed,
            (false, _) => Stage::Chunks,
        };
        Ok(if refused {
            "554 5.6.0 refused"
        } else {
            "250 2.0.0 chunk"
        })
    }

    fn message(&mut self) -> io::Result<String> {
        let mut text = Vec::new();
        while text != b".\r\n" && !text.ends_with(b"\r\n.\r\n") {
            if self.stream.read_until(b'\n', &mut text)? == 0 {
                self.events.push(Event::Message(text));
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        self.stage = Stage::Start;
        let refused = text.windows(5).any(|word| word == b"virus");
        self.events.push(Event::Message(text));
        Ok(if refused {
            "554 5.6.0 refused".to_owned()
        } else {
            "250 2.0.0 Ok: queued as 4F1A2B3C".to_owned()
        })
    }
}
