//! A hop whose standard error nobody reads, or late: mail passes and a stop stops it, whoever reads late misses nothing
//! up to a bound, and what is lost beyond it is counted where it is missing. No other command waits for that reader either.

#![allow(clippy::expect_used)]

mod support;

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use rustix::fs::{CWD, FileType, Mode, mknodat};
use serde_json::Value;

use support::dialogue::Dialogue;
use support::hoptrail::{BINARY, Hoptrail};
use support::ingress::Ingress;
use support::net;
use support::sink::Sink;
use support::{PATIENCE, Stopwatch, wait_until};

const MESSAGE: &[u8] = b"Subject: x\r\n\r\ntext\r\n.\r\n";

/// Fewer lines than are kept, but more than a pipe or a socket takes, and more than both keep.
const MANY: usize = 2500;
const TOO_MANY: usize = 10_000;

/// What a pipe takes (pipe(7), Linux).
const PIPE_OCTETS: usize = 1 << 16;

/// The end where the log is to be read.
type Log = Box<dyn Read + Send>;

fn pipe() -> (Log, Stdio) {
    let (from, to) = io::pipe().expect("a pipe");
    (Box::new(from), to.into())
}

/// As systemd's journal gives one.
fn socket() -> (Log, Stdio) {
    let (from, to) = UnixStream::pair().expect("a pair of sockets");
    (Box::new(from), std::os::fd::OwnedFd::from(to).into())
}

/// A hop that logs all it can to there.
fn hop(log: Stdio) -> Ingress {
    let top = "limits = { bad_commands_max = 1000000 }\ntimeouts = { drain_s = 1 }";
    Ingress::served(Sink::smtp().offer("PIPELINING"), top, "", |config| {
        Hoptrail::serve_as(config, |serve| {
            serve.stderr(log).env("HOPTRAIL_LOG", "hoptrail=debug");
        })
    })
}

/// Has it log so many lines, each of a command that it refuses. The client is still there: its end may be a line, too.
fn log(hop: &Ingress, lines: usize) -> Dialogue {
    const TOGETHER: usize = 100;
    let mut client = hop.client();
    client.command("EHLO client.test", "250");
    for _ in 0..lines / TOGETHER {
        client.send("MAIL FROM:<alice@origin.test> TRACK=SOON\r\n".repeat(TOGETHER));
        for _ in 0..TOGETHER {
            client.expect("501");
        }
    }
    client
}

fn submit(client: &mut Dialogue, track: &str) {
    client.send(format!(
        "MAIL FROM:<alice@origin.test>{track}\r\nRCPT TO:<bob@dest.test>\r\nDATA\r\n"
    ));
    for reply in ["250", "250", "354"] {
        client.expect(reply);
    }
    client.send(MESSAGE);
    client.expect("250");
}

/// Reads a log as it comes, each line whole.
fn follow(from: Log) -> Receiver<Value> {
    let (sender, lines) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(from).lines() {
            let line = line.expect("the log can be read");
            let line = serde_json::from_str(&line).unwrap_or_else(|_| panic!("torn: {line}"));
            // The test may have seen enough.
            let _ = sender.send(line);
        }
    });
    lines
}

fn next(lines: &Receiver<Value>) -> Value {
    lines.recv_timeout(PATIENCE).expect("a line of the log")
}

fn is_refusal(line: &Value) -> bool {
    line["target"] == "hoptrail::hop::site"
}

/// How many lines this one says were lost.
fn lost(line: &Value) -> Option<usize> {
    let (count, words) = line["message"].as_str()?.split_once(' ')?;
    let lost = words == "log lines were lost: whoever reads standard error did not keep up";
    lost.then(|| count.parse().expect("a number"))
}

#[test]
fn mail_passes_and_a_stop_stops_while_nobody_reads_the_log() {
    const MAILS: usize = 150;
    for (from, to) in [pipe(), socket()] {
        let mut hop = hop(to);
        drop(log(&hop, TOO_MANY));
        let mut client = hop.client();
        client.command("EHLO client.test", "250");
        for _ in 0..MAILS {
            submit(&mut client, " TRACK=NOW");
            submit(&mut client, "");
        }
        hop.mta.wait_for(2 * MAILS);
        hop.wait_for_mails(MAILS);
        let stopped = Stopwatch::start();
        hop.hoptrail.terminate();
        client.expect("421 4.3.2");
        assert!(hop.hoptrail.stop().success());
        let took = stopped.elapsed();
        assert!(took < Duration::from_secs(8), "{took:?}");
        drop(from);
    }
}

#[test]
fn what_was_lost_is_told_where_it_is_missing() {
    for (from, to) in [pipe(), socket()] {
        let hop = hop(to);
        let _there = log(&hop, TOO_MANY);
        let lines = follow(from);
        let mut refusals = 0;
        let lost = loop {
            let line = next(&lines);
            refusals += usize::from(is_refusal(&line));
            if let Some(lost) = lost(&line) {
                assert_eq!(line["level"], "WARN", "{line}");
                break lost;
            }
        };
        assert!(refusals > MANY, "{refusals}");
        assert_eq!(refusals + lost, TOO_MANY);
        let _there = log(&hop, MANY);
        for _ in 0..MANY {
            let line = next(&lines);
            assert!(is_refusal(&line), "{line}");
        }
    }
}

#[test]
fn who_reads_late_or_always_misses_nothing() {
    for (from, to) in [pipe(), socket()] {
        let mut hop = hop(to);
        drop(log(&hop, MANY));
        let lines = follow(from);
        for _ in 0..3 {
            let read = (0..MANY).map(|_| {
                loop {
                    let line = next(&lines);
                    if is_refusal(&line) {
                        break;
                    }
                }
            });
            assert_eq!(read.count(), MANY);
            drop(log(&hop, MANY));
        }
        hop.hoptrail.stop();
        let rest: Vec<_> = lines.iter().collect();
        assert_eq!(rest.iter().filter(|line| is_refusal(line)).count(), MANY);
        assert_eq!(rest.last().expect("lines")["message"], "stopping");
    }
}

/// The exit code of a command whose standard error takes nothing.
fn exit_code(args: &[&str], home: &Path, stderr: Stdio) -> Option<i32> {
    let mut command = Command::new(BINARY);
    command.args(args).env("HOPTRAIL_HOME", home);
    let message = File::open(home.join("message")).expect("there is one");
    command.stdin(message).stdout(Stdio::null());
    let started = Stopwatch::start();
    let mut child = command
        .stderr(stderr)
        .spawn()
        .expect("the binary can be run");
    let status = wait_until(PATIENCE, &format!("{args:?} ends"), || {
        let status = child.try_wait().map_err(|error| error.to_string())?;
        status.ok_or_else(|| "it still runs".to_owned())
    });
    let took = started.elapsed();
    assert!(took < Duration::from_secs(5), "{args:?}: {took:?}");
    status.code()
}

/// Nobody would see how it ended, nor of a hop that it still holds what it has opened.
#[test]
fn a_command_ends_while_nobody_reads_what_it_says() {
    let hop = Ingress::before(Sink::smtp());
    let home = tempfile::tempdir().expect("a temporary directory");
    fs::write(home.path().join("message"), "Subject: x\n\ntext\n").expect("it can be written");
    let (config, server) = (hop.hoptrail.config(), hop.entrance.to_string());
    let nowhere = net::address().to_string();
    let [config, maildir] =
        [&config, hop.reports.path()].map(|path| path.to_str().expect("it is plain"));
    let from = ["send", "--tls", "none", "--from", "alice@origin.test"];
    let send = |server| [&from[..], &["--server", server, "bob@dest.test"]].concat();
    let commands: [(&[&str], i32); 9] = [
        (&["serve", "--config", config], 2),
        (&["serve", "--config", "/no/such/file"], 2),
        (&["serve", "--check", "--config", config], 0),
        (&["serve", "--check", "--config", "/no/such/file"], 1),
        (&["timeline", "/no/such/file"], 2),
        (&["timeline", maildir], 4),
        (&["no-such-command"], 2),
        (&send(&nowhere), 75),
        (&send(&server), 0),
    ];
    for (args, code) in commands {
        let (_from, mut full) = io::pipe().expect("a pipe");
        full.write_all(&vec![b'x'; PIPE_OCTETS])
            .expect("there is room");
        let (from, unread) = io::pipe().expect("a pipe");
        drop(from);
        let full_disk = File::options()
            .write(true)
            .open("/dev/full")
            .expect("a device");
        for stderr in [full.into(), unread.into(), full_disk.into()] {
            assert_eq!(exit_code(args, home.path(), stderr), Some(code), "{args:?}");
        }
    }
}

/// A named pipe, as some log through one; what the first reader leaves there the second one finds.
#[test]
fn whoever_reads_after_another_misses_nothing() {
    let home = tempfile::tempdir().expect("a temporary directory");
    for (n, lines) in [100, MANY, TOO_MANY].into_iter().enumerate() {
        let pipe = home.path().join(n.to_string());
        mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).expect("a named pipe");
        // For reading and writing, so that it opens at once.
        let open = || File::options().read(true).write(true).open(&pipe);
        let mut first = open().expect("a reader");
        let to = File::options().write(true).open(&pipe).expect("a writer");
        let hop = hop(to.into());
        let mut seen = [0; 1000];
        first.read_exact(&mut seen[..1]).expect("it logs");
        let _there = log(&hop, lines);
        first.read_exact(&mut seen[1..]).expect("it logs");
        drop(first);
        let _there = log(&hop, 100);
        let second = open().expect("another reader");
        let lines_read = follow(Box::new(io::Cursor::new(seen).chain(second)));
        let (mut refusals, mut missing) = (0, 0);
        while refusals + missing < lines + 100 {
            let line = next(&lines_read);
            refusals += usize::from(is_refusal(&line));
            missing += lost(&line).unwrap_or(0);
        }
        assert_eq!(refusals + missing, lines + 100);
        assert_eq!(missing > 0, lines > MANY, "{missing} of {lines}");
    }
}
