//! Dialogues written down as files (`tests/dialogues/README.md` says how), and the two players that say
//! their side of one: the client and the next hop, each against the wire.

use std::fmt;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread;
use std::time::Duration;

/// A dialogue as its file tells it.
pub struct Script {
    /// The file's name without its ending.
    pub name: String,
    /// `ingress`, `egress` or `delivery`.
    pub role: String,
    /// What the client speaks: `smtp` or `lmtp`.
    pub protocol: String,
    /// What the next hop speaks.
    pub next_hop: String,
    /// Nobody who connects here may ask for tracking.
    pub strangers: bool,
    /// More lines for the listener's configuration.
    pub settings: Vec<String>,
    /// The client's side.
    pub client: Vec<Turn>,
    /// The next hop's side; empty if it is never connected to.
    pub hop: Vec<Turn>,
}

/// One thing a side does.
#[derive(Debug)]
pub enum Turn {
    /// Says these octets.
    Say(Vec<u8>),
    /// Hears this line, CRLF included.
    Hear(Vec<Piece>),
    /// Hears one carry header, however folded.
    HearCarry,
    /// Says no more, and hears on.
    Finish,
    /// Closes the connection.
    Close,
    /// Hears the end of the connection.
    HearEnd,
}

/// A part of what is heard.
#[derive(Debug)]
pub enum Piece {
    /// Just these octets.
    Octets(Vec<u8>),
    /// Any digits.
    Number,
}

impl fmt::Display for Piece {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Octets(octets) => write!(f, "{}", octets.escape_ascii()),
            Self::Number => f.write_str("{number}"),
        }
    }
}

/// How the octets of a side are cut up.
#[derive(Clone, Copy, Debug)]
pub enum Cut {
    /// Each turn in one write.
    Whole,
    /// Each octet in a write of its own.
    Octets,
    /// The one turn that holds it is cut in two before this octet of the client's whole side.
    Before(usize),
}

/// The line of a hello that the client gets from an egress or a delivery.
const OWN_OFFER: [&str; 10] = [
    "PIPELINING",
    "ENHANCEDSTATUSCODES",
    "8BITMIME",
    "CHUNKING",
    "BINARYMIME",
    "SMTPUTF8",
    "SIZE",
    "DSN",
    "MTRK",
    "TRACK NOW",
];

impl Script {
    /// Reads a file; what is wrong in it is a failure that names the line.
    pub fn parse(name: &str, text: &str) -> Self {
        let mut script = Self {
            name: name.to_owned(),
            role: "ingress".to_owned(),
            protocol: "smtp".to_owned(),
            next_hop: "smtp".to_owned(),
            strangers: false,
            settings: Vec::new(),
            client: Vec::new(),
            hop: Vec::new(),
        };
        let mut opening = None;
        for (at, line) in text.lines().enumerate() {
            let place = format!("{name}, line {}: {line}", at + 1);
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (head, rest) = line.split_at(line.find([':', '>']).expect(&place));
            let (raw, rest) = (rest.starts_with('>'), &rest[1..]);
            let rest = rest.strip_prefix(' ').unwrap_or(rest);
            match head {
                "listener" => {
                    let (role, protocol) = rest.split_once(' ').expect(&place);
                    (script.role, script.protocol) = (role.to_owned(), protocol.to_owned());
                }
                "next hop" => rest.clone_into(&mut script.next_hop),
                "clients" => script.strangers = rest == "strangers",
                "setting" => script.settings.push(rest.to_owned()),
                "opening" => opening = Some(rest.to_owned()),
                "C" => script.client.push(says(rest, raw)),
                "S" => script.client.push(hears(rest, raw)),
                "N" => script.hop.push(hears(rest, raw)),
                "R" => script.hop.push(says(rest, raw)),
                _ => panic!("{place}"),
            }
        }
        if let Some(keywords) = opening {
            script.open(&keywords);
        }
        // Behind its last line the client goes, and hears nothing more; the next hop waits for its end.
        script.client.push(Turn::Finish);
        script.client = joined(script.client);
        script.hop = joined(script.hop);
        script
    }

    /// Puts greeting and hello before both sides; the next hop offers these keywords.
    fn open(&mut self, keywords: &str) {
        let offered: Vec<&str> = keywords.split(", ").filter(|word| *word != "-").collect();
        let next_offer = offer("next.test", &offered);
        let hello = |protocol: &str| if protocol == "lmtp" { "LHLO" } else { "EHLO" };
        let mut client = Vec::new();
        let mut hop = vec![says("220 next.test ready", false)];
        if self.role == "ingress" {
            let mut shown = offered.clone();
            if !self.strangers {
                shown.extend(offered.contains(&"DSN").then_some("MTRK"));
                shown.push("TRACK NOW");
            }
            hop.push(hears("EHLO client.test", false));
            client.push(hears("220 next.test ready", false));
            client.push(says("EHLO client.test", false));
            client.extend(offer("next.test", &shown).iter().map(|l| hears(l, false)));
        } else {
            hop.push(hears(&format!("{} mx1.test", hello(&self.next_hop)), false));
            let kind = if self.protocol == "lmtp" {
                "LMTP"
            } else {
                "ESMTP"
            };
            client.push(hears(&format!("220 mx1.test {kind} hoptrail"), false));
            client.push(says(&format!("{} mta.test", hello(&self.protocol)), false));
            client.extend(
                offer("mx1.test", &OWN_OFFER)
                    .iter()
                    .map(|l| hears(l, false)),
            );
        }
        hop.extend(next_offer.iter().map(|line| says(line, false)));
        client.append(&mut self.client);
        self.client = client;
        if self.role == "ingress" || !self.hop.is_empty() {
            hop.append(&mut self.hop);
            self.hop = hop;
        }
    }

    /// Every way to cut the client's side: whole, by octets, and once around each CR and LF.
    pub fn cuts(&self) -> Vec<Cut> {
        let mut cuts = vec![Cut::Whole, Cut::Octets];
        let mut start = 0;
        for turn in &self.client {
            let Turn::Say(octets) = turn else { continue };
            let is_end = |at: usize| matches!(octets.get(at), Some(b'\r' | b'\n'));
            let places = (1..octets.len()).filter(|&at| is_end(at) || is_end(at - 1));
            cuts.extend(places.map(|at| Cut::Before(start + at)));
            start += octets.len();
        }
        cuts
    }
}

/// Says and hears one side over a connection; what went wrong, if anything did.
pub fn play(turns: &[Turn], stream: &TcpStream, cut: Cut) -> Result<(), String> {
    let timeout = stream.set_read_timeout(Some(super::PATIENCE));
    timeout
        .and_then(|()| stream.set_nodelay(true))
        .map_err(|error| error.to_string())?;
    let mut said = 0;
    for turn in turns {
        match turn {
            Turn::Say(octets) => {
                say(stream, octets, said, cut);
                said += octets.len();
            }
            Turn::Hear(pieces) => hear(stream, pieces)?,
            Turn::HearCarry => hear_carry(stream)?,
            Turn::Finish => drop(stream.shutdown(Shutdown::Write)),
            Turn::Close => {
                let _ = stream.shutdown(Shutdown::Both);
                return Ok(());
            }
            Turn::HearEnd => return nothing_more(stream),
        }
    }
    nothing_more(stream)
}

/// Whoever is gone cannot be told; what it said before that is heard later.
fn say(mut stream: &TcpStream, octets: &[u8], before: usize, cut: Cut) {
    let pieces: Vec<&[u8]> = match cut {
        Cut::Octets => octets.chunks(1).collect(),
        Cut::Before(at) if at > before && at < before + octets.len() => {
            let (first, second) = octets.split_at(at - before);
            vec![first, second]
        }
        _ => vec![octets],
    };
    let pause = Duration::from_micros(if pieces.len() == 2 { 2000 } else { 10 });
    for (count, piece) in pieces.into_iter().enumerate() {
        if count > 0 {
            thread::sleep(pause);
        }
        let _ = stream.write_all(piece);
    }
}

fn hear(stream: &TcpStream, expected: &[Piece]) -> Result<(), String> {
    let mut heard = Vec::new();
    let fits = expected.iter().try_for_each(|piece| match piece {
        Piece::Octets(octets) => octets.iter().try_for_each(|wanted| {
            let octet = one(stream)?;
            heard.push(octet);
            (octet == *wanted).then_some(()).ok_or(String::new())
        }),
        Piece::Number => {
            while peek(stream)?.is_ascii_digit() {
                heard.push(one(stream)?);
            }
            Ok(())
        }
    });
    fits.map_err(|why| {
        while heard.last() != Some(&b'\n') {
            let Ok(octet) = one(stream) else { break };
            heard.push(octet);
        }
        let heard = heard.escape_ascii();
        let awaited: String = expected.iter().map(Piece::to_string).collect();
        format!("awaited \"{awaited}\"\n    heard \"{heard}\" {why}")
    })
}

fn hear_carry(stream: &TcpStream) -> Result<(), String> {
    hear(stream, &[Piece::Octets(b"Hoptrail-Carry: v=1; ".to_vec())])?;
    loop {
        while one(stream)? != b'\n' {}
        if !matches!(peek(stream)?, b' ' | b'\t') {
            return Ok(());
        }
    }
}

fn nothing_more(mut stream: &TcpStream) -> Result<(), String> {
    let mut rest = Vec::new();
    match stream.read_to_end(&mut rest) {
        Err(error) if error.kind() != ErrorKind::ConnectionReset => Err(format!("no end: {error}")),
        _ if rest.is_empty() => Ok(()),
        _ => Err(format!("more than awaited: \"{}\"", rest.escape_ascii())),
    }
}

fn one(mut stream: &TcpStream) -> Result<u8, String> {
    let mut octet = [0];
    stream.read_exact(&mut octet).map_err(|e| e.to_string())?;
    Ok(octet[0])
}

fn peek(stream: &TcpStream) -> Result<u8, String> {
    let mut octet = [0];
    match stream.peek(&mut octet) {
        Ok(1..) => Ok(octet[0]),
        Ok(_) => Err("the end".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

fn offer(hostname: &str, keywords: &[&str]) -> Vec<String> {
    let mut lines = vec![hostname];
    lines.extend(keywords);
    let last = lines.len() - 1;
    let line = |(at, text)| format!("250{}{text}", if at == last { ' ' } else { '-' });
    lines.into_iter().enumerate().map(line).collect()
}

fn says(text: &str, raw: bool) -> Turn {
    match text {
        "(finishes)" => return Turn::Finish,
        "(closes)" => return Turn::Close,
        _ => {}
    }
    let octets = pieces(text, raw).into_iter().flat_map(|piece| match piece {
        Piece::Octets(octets) => octets,
        Piece::Number => panic!("no number can be said: {text}"),
    });
    Turn::Say(octets.collect())
}

fn hears(text: &str, raw: bool) -> Turn {
    match text {
        "{carry}" => Turn::HearCarry,
        "(end)" => Turn::HearEnd,
        _ => Turn::Hear(pieces(text, raw)),
    }
}

/// The octets a line of the file stands for.
fn pieces(text: &str, raw: bool) -> Vec<Piece> {
    let mut all = Vec::new();
    let mut octets = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find(['\\', '{']) {
        octets.extend_from_slice(&rest.as_bytes()[..at]);
        rest = &rest[at..];
        if let Some(behind) = rest.strip_prefix("{number}") {
            all.push(Piece::Octets(std::mem::take(&mut octets)));
            all.push(Piece::Number);
            rest = behind;
        } else if let Some((inside, behind)) =
            rest[1..].split_once('}').filter(|_| rest.starts_with('{'))
        {
            let (count, what) = inside.split_once(' ').expect("{COUNT WHAT}");
            let count = count.parse().expect("a count");
            octets.extend(what.as_bytes().repeat(count));
            rest = behind;
        } else {
            let (octet, len) = escaped(rest);
            octets.push(octet);
            rest = &rest[len..];
        }
    }
    octets.extend_from_slice(rest.as_bytes());
    if !raw {
        octets.extend_from_slice(b"\r\n");
    }
    all.push(Piece::Octets(octets));
    all
}

/// The octet an escape stands for, and how long the escape is.
fn escaped(text: &str) -> (u8, usize) {
    match text.as_bytes().get(1).copied() {
        Some(b'r') => (b'\r', 2),
        Some(b'n') => (b'\n', 2),
        Some(b'0') => (0, 2),
        Some(b'\\') => (b'\\', 2),
        Some(b'x') => {
            let hex = text.get(2..4).expect("two hex digits");
            (u8::from_str_radix(hex, 16).expect("hex digits"), 4)
        }
        _ => panic!("no escape: {text}"),
    }
}

/// What is said in one go goes in one write.
fn joined(turns: Vec<Turn>) -> Vec<Turn> {
    let mut all: Vec<Turn> = Vec::new();
    for turn in turns {
        match (all.last_mut(), turn) {
            (Some(Turn::Say(before)), Turn::Say(octets)) => before.extend(octets),
            (_, turn) => all.push(turn),
        }
    }
    all
}
