//! The ingress against no ingress: any sequence of commands, cut anywhere, gets the replies that a strict
//! MTA gives to the same commands without us, and that MTA sees the same octets. The differences are
//! written down here, in `Model`: the offer, TRACK, and what goes no further.

#![allow(clippy::expect_used)]

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddrV4, TcpStream};
use std::thread;
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};

use support::hoptrail::Hoptrail;
use support::net;
use support::says::{Request, Say, begins_soundly, dialogues};
use support::strict::{Event, StrictMta};

/// What a reply has to be.
#[derive(Debug)]
enum Reply {
    /// The MTA's, octet by octet.
    Theirs(String),
    /// One line of ours that begins so.
    Ours(&'static str),
}

/// Whether a carry header stands in what the MTA sees of a message: at its top, or where its first line came in several
/// chunks behind its first field.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Carry {
    OnTop,
    Perhaps,
    None,
}

/// A part of the client's side; the last reply is awaited before the next part.
#[derive(Default)]
struct Group {
    octets: Vec<u8>,
    replies: Vec<Reply>,
}

#[test]
fn the_same_replies_and_the_same_octets_as_without_us() {
    let seed = seed();
    let mta = StrictMta::start();
    let reports = tempfile::tempdir().expect("a temporary directory");
    let entrance = net::address();
    let _hoptrail = Hoptrail::serve(&format!(
        "hostname = 'mx1.test'\n[reports]\nfrom = 'hoptrail@mx1.test'\nvia = 'maildir:{}'\n\
         [[listener]]\nrole = 'ingress'\nlisten = '{entrance}'\nprotocol = 'smtp'\nnext_hop = 'smtp://{}'\n",
        reports.path().display(),
        mta.address(),
    ));
    // Of whoever looked whether it listens.
    assert_eq!(mta.events(), []);
    let config = Config {
        cases: 400,
        max_shrink_iters: 1000,
        failure_persistence: None,
        ..Config::default()
    };
    let mut octets = [0; 32];
    octets[..8].copy_from_slice(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &octets);
    let cases = (dialogues(), proptest::collection::vec(0usize..4000, 0..12));
    let outcome = TestRunner::new_with_rng(config, rng)
        .run(&cases, |(says, cuts)| compare(&mta, entrance, &says, &cuts));
    if let Err(failure) = outcome {
        panic!("again with HOPTRAIL_TEST_SEED={seed}: {failure}");
    }
}

/// A new one each time, or the one that failed.
fn seed() -> u64 {
    let given = std::env::var("HOPTRAIL_TEST_SEED").ok();
    given.map_or_else(
        || {
            std::time::UNIX_EPOCH
                .elapsed()
                .map_or(0, |since| since.as_secs())
        },
        |text| text.parse().expect("a seed is a number"),
    )
}

fn compare(
    mta: &StrictMta,
    entrance: SocketAddrV4,
    says: &[Say],
    cuts: &[usize],
) -> Result<(), TestCaseError> {
    let mut model = Model::connect(mta.address());
    for say in says {
        if model.ended {
            break;
        }
        model.say(say);
    }
    let Model {
        direct,
        groups,
        tracked,
        ..
    } = model;
    drop(direct);
    let expected = mta.events();
    let replied = through(entrance, &groups, cuts);
    let seen = without_carry(mta.events(), &tracked)?;
    replied?;
    prop_assert_eq!(seen, expected);
    Ok(())
}

/// The client without us. It says to the MTA what hoptrail would pass on, and takes down what a client of
/// hoptrail has to say and hear.
struct Model {
    direct: BufReader<TcpStream>,
    groups: Vec<Group>,
    /// For each message and each chunk the MTA sees.
    tracked: Vec<Carry>,
    extended: bool,
    /// In a transaction, and whether it is tracked.
    mail: Option<bool>,
    rcpts: usize,
    /// Chunks have come, and whether one was refused.
    chunks: Option<bool>,
    ended: bool,
}

impl Model {
    fn connect(address: SocketAddrV4) -> Self {
        let mut model = Self {
            direct: BufReader::new(TcpStream::connect(address).expect("the MTA listens")),
            groups: vec![Group::default()],
            tracked: Vec::new(),
            extended: false,
            mail: None,
            rcpts: 0,
            chunks: None,
            ended: false,
        };
        let greeting = reply(&mut model.direct);
        model.hears(Reply::Theirs(greeting));
        model
    }

    fn group(&mut self) -> &mut Group {
        self.groups.last_mut().expect("there is always one")
    }

    fn hears(&mut self, reply: Reply) {
        self.group().replies.push(reply);
    }

    /// `sent` by the client, passed on as `passed`; the MTA's reply.
    fn passes(&mut self, sent: &[u8], passed: &[u8]) -> String {
        self.group().octets.extend_from_slice(sent);
        self.direct
            .get_mut()
            .write_all(passed)
            .expect("the MTA reads");
        let words = reply(&mut self.direct);
        let mut shown = words.clone();
        if words.starts_with("250-mta.test") {
            let (head, last) = words.split_at(words.rfind("250 ").expect("a last line"));
            shown = format!("{head}250-{}250 TRACK NOW\r\n", &last[4..]);
        }
        self.hears(Reply::Theirs(shown));
        self.ended = words.starts_with("221") || words.starts_with("421");
        words
    }

    fn answered(&mut self, sent: &[u8], answer: &'static str) {
        self.group().octets.extend_from_slice(sent);
        self.hears(Reply::Ours(answer));
    }

    fn forget(&mut self) {
        (self.mail, self.rcpts, self.chunks) = (None, 0, None);
    }

    fn say(&mut self, say: &Say) {
        match say {
            Say::Plain(line) => self.plain(line),
            Say::Track(before, track, behind, request) => {
                let sent = format!("{before}{track}{behind}\r\n");
                if self.extended && *request == Request::Malformed {
                    return self.answered(sent.as_bytes(), "501 5.5.4");
                }
                let passed = format!("{before}{behind}\r\n");
                if self
                    .passes(sent.as_bytes(), passed.as_bytes())
                    .starts_with('2')
                {
                    self.forget();
                    self.mail = Some(self.extended);
                }
            }
            Say::Ours(line, answer) => {
                self.answered(format!("{line}\r\n").as_bytes(), answer);
                if line.starts_with("DATA") {
                    self.groups.push(Group::default());
                }
            }
            Say::Message(command, sent, arrives) => self.message(command, sent, arrives),
            Say::Chunk(octets, last) => self.chunk(octets, *last),
            Say::Fatal(octets, answer) => {
                self.answered(octets.as_bytes(), answer);
                self.ended = true;
            }
        }
    }

    fn plain(&mut self, line: &str) {
        let sent = format!("{line}\r\n");
        let yes = self
            .passes(sent.as_bytes(), sent.as_bytes())
            .starts_with('2');
        match line.to_ascii_uppercase().get(..4) {
            Some("EHLO" | "HELO") if yes => {
                self.forget();
                self.extended = line.starts_with("EHLO");
            }
            Some("RSET") if yes => self.forget(),
            Some("MAIL") if yes => {
                self.forget();
                self.mail = Some(false);
            }
            Some("RCPT") if yes => self.rcpts += 1,
            _ => {}
        }
    }

    fn message(&mut self, command: &str, sent: &str, arrives: &str) {
        let line = format!("{command}\r\n");
        let follows = if self.chunks.is_some() {
            self.answered(line.as_bytes(), "503 5.5.1");
            false
        } else {
            let answer = self.passes(line.as_bytes(), line.as_bytes());
            answer.starts_with("354")
        };
        // RFC 2920, 3.1: DATA is the last command of a group, whatever its reply.
        self.groups.push(Group::default());
        if !follows {
            return;
        }
        let on_top = self.mail == Some(true) && begins_soundly(sent);
        self.tracked
            .push(if on_top { Carry::OnTop } else { Carry::None });
        self.passes(
            format!("{sent}.\r\n").as_bytes(),
            format!("{arrives}.\r\n").as_bytes(),
        );
        self.forget();
    }

    fn chunk(&mut self, octets: &str, last: bool) {
        let word = if last { " LAST" } else { "" };
        let sent = format!("BDAT {}{word}\r\n{octets}", octets.len());
        if !self.extended || self.rcpts == 0 || self.chunks == Some(true) {
            return self.answered(sent.as_bytes(), "503 5.5.1");
        }
        let begun = last || octets.contains("\r\n") || format!("\n{octets}").contains("\n\n");
        let carry = match self.mail {
            Some(true) if !begun => Carry::Perhaps,
            Some(true) if self.chunks.is_some() => Carry::Perhaps,
            Some(true) if begins_soundly(octets) => Carry::OnTop,
            _ => Carry::None,
        };
        // Whatever comes behind it, there is but one.
        if carry != Carry::Perhaps {
            self.mail = Some(false);
        }
        self.tracked.push(carry);
        let yes = self
            .passes(sent.as_bytes(), sent.as_bytes())
            .starts_with('2');
        self.chunks = Some(!yes);
        if last {
            self.forget();
        }
    }
}

/// Says it all to hoptrail, cut at some places, and hears the replies.
fn through(entrance: SocketAddrV4, groups: &[Group], cuts: &[usize]) -> Result<(), TestCaseError> {
    let stream = TcpStream::connect(entrance).expect("hoptrail listens");
    stream.set_nodelay(true).expect("a socket");
    stream
        .set_read_timeout(Some(support::PATIENCE))
        .expect("a socket");
    let mut stream = BufReader::new(stream);
    let mut start = 0;
    for group in groups {
        let mut rest = &group.octets[..];
        let mut places: Vec<usize> = cuts.iter().filter_map(|at| at.checked_sub(start)).collect();
        places.sort_unstable();
        let mut before = 0;
        for at in places.into_iter().filter(|at| *at < group.octets.len()) {
            let (piece, behind) = rest.split_at(at - before);
            // Whoever is gone cannot be told.
            let _ = stream.get_mut().write_all(piece);
            thread::sleep(Duration::from_micros(500));
            (rest, before) = (behind, at);
        }
        let _ = stream.get_mut().write_all(rest);
        start += group.octets.len();
        for expected in &group.replies {
            let heard = reply(&mut stream);
            let fits = match expected {
                Reply::Theirs(words) => heard == *words,
                Reply::Ours(start) => heard.starts_with(start) && heard.lines().count() == 1,
            };
            prop_assert!(fits, "awaited {expected:?}, heard {heard:?}");
        }
    }
    let _ = stream.get_mut().shutdown(Shutdown::Write);
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest);
    prop_assert!(rest.is_empty(), "more: {}", rest.escape_ascii());
    Ok(())
}

/// One reply with its line ends; less, if the connection ends.
fn reply(stream: &mut impl BufRead) -> String {
    let mut words = String::new();
    loop {
        let start = words.len();
        let read = stream.read_line(&mut words);
        if !matches!(read, Ok(1..)) || words.as_bytes().get(start + 3) != Some(&b'-') {
            return words;
        }
    }
}

/// The events without the carry headers that have to be there, and with the sizes as they were.
fn without_carry(events: Vec<Event>, tracked: &[Carry]) -> Result<Vec<Event>, TestCaseError> {
    let mut tracked = tracked.iter();
    let mut all: Vec<Event> = Vec::new();
    for event in events {
        let event = match event {
            Event::Command(_) => event,
            Event::Message(text) => Event::Message(strip(text, tracked.next())?),
            Event::Chunk(octets) => {
                let len = octets.len();
                let octets = strip(octets, tracked.next())?;
                if let Some(Event::Command(line)) = all.last_mut() {
                    let text = String::from_utf8_lossy(line).into_owned();
                    let own = format!("BDAT {}", octets.len());
                    *line = text.replacen(&format!("BDAT {len}"), &own, 1).into_bytes();
                }
                Event::Chunk(octets)
            }
        };
        all.push(event);
    }
    Ok(all)
}

fn strip(text: Vec<u8>, tracked: Option<&Carry>) -> Result<Vec<u8>, TestCaseError> {
    let begins = |at: &usize| {
        let is_line = *at == 0 || text[..*at].ends_with(b"\n");
        is_line && text[*at..].starts_with(b"Hoptrail-Carry: v=1;")
    };
    let start = (0..text.len()).find(begins);
    let fits = match tracked {
        Some(Carry::OnTop) => start == Some(0),
        Some(Carry::Perhaps) => true,
        Some(Carry::None) => start.is_none(),
        None => false,
    };
    prop_assert!(fits, "{tracked:?} of: {}", text.escape_ascii());
    let Some(start) = start else {
        return Ok(text);
    };
    let is_end =
        |at: &usize| text[..*at].ends_with(b"\r\n") && !matches!(text.get(*at), Some(b' '));
    let end = (start + 1..=text.len()).find(is_end).unwrap_or(text.len());
    Ok([&text[..start], &text[end..]].concat())
}
