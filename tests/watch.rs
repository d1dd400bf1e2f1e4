//! `hoptrail watch` as people and scripts meet it: on a real terminal and in a pipe, with mail delivered as a Maildir is
//! delivered to, and ended as things are ended.

#![allow(clippy::expect_used)]

mod support;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use hoptrail::report::{Mailing, write};
use hoptrail::track::{Event, HopReport, RecipientStatus, Role, Status, StepId, TrackingId};
use support::{Stopwatch, wait_until};
use tempfile::TempDir;

const BINARY: &str = env!("CARGO_BIN_EXE_hoptrail");
/// What is promised: a report is to be seen within a second. Looking takes up to a fifth of that.
const PROMISED: Duration = Duration::from_secs(1);

fn maildir() -> TempDir {
    let dir = TempDir::new().expect("a temporary directory");
    for folder in ["new", "cur", "tmp"] {
        fs::create_dir(dir.path().join(folder)).expect("a directory can be made");
    }
    dir
}

/// Delivers a report as a mail store does: written in `tmp`, then moved to `new`.
fn deliver(maildir: &Path, id: &str, step: u64, event: Event) {
    let name = format!("{id}.{step}.{event}");
    let tmp = maildir.join("tmp").join(&name);
    fs::write(&tmp, mail(id, step, event)).expect("a mail can be written");
    fs::rename(tmp, maildir.join("new").join(name)).expect("and delivered");
}

/// A report.
fn mail(id: &str, step: u64, event: Event) -> Vec<u8> {
    let (id, hop) = (TrackingId::new(id).expect("an id"), "mx1.example.net");
    let came_us = 1_795_449_909_000_000;
    let report = HopReport {
        recipients: vec![RecipientStatus {
            original: "bob@example.net".to_owned().into(),
            recipient: "bob@example.net".to_owned().into(),
            event,
            status: Status::of_class(if event == Event::Failed { 5 } else { 2 }),
            remote_mta: Some("mx2.example.net".to_owned().into()),
            attempted_us: Some(came_us + 1_000_000),
            reply: None,
            remote_queue_id: None,
        }],
        ..HopReport::new(id, StepId(step), Role::Egress, hop, came_us)
    };
    let mailing = Mailing {
        from: "hoptrail@mx1.example.net",
        to: "alice@example.org",
        date_us: 0,
        certificate: None,
        received: None,
        boundary: "b0f6f1d2c3a4958677",
    };
    write(&report, &mailing)
}

/// The watch in a pipe. Dropped, it is gone.
struct Watch {
    child: Child,
    lines: Receiver<String>,
    _home: TempDir,
}

impl Watch {
    fn start(maildir: &Path, more: &[&str]) -> Self {
        Self::start_with(maildir, more, Stdio::inherit())
    }

    /// With its standard error there.
    fn start_with(maildir: &Path, more: &[&str], stderr: Stdio) -> Self {
        let home = TempDir::new().expect("a temporary directory");
        let mut child = Command::new(BINARY)
            .arg("watch")
            .arg(maildir)
            .args(more)
            .env("HOPTRAIL_HOME", home.path())
            .stdout(Stdio::piped())
            .stderr(stderr)
            .spawn()
            .expect("the binary can be run");
        let (sender, lines) = channel();
        let output = BufReader::new(child.stdout.take().expect("a pipe"));
        thread::spawn(move || {
            output
                .lines()
                .map_while(Result::ok)
                .try_for_each(|line| sender.send(line))
        });
        Self {
            child,
            lines,
            _home: home,
        }
    }

    fn line(&self) -> String {
        self.lines.recv_timeout(support::PATIENCE).expect("a line")
    }

    /// Waits until it has looked and found nothing to tell.
    fn wait_until_it_waits(&mut self) {
        let mut said = BufReader::new(self.child.stderr.take().expect("a pipe"));
        let mut line = String::new();
        said.read_line(&mut line).expect("a line");
        assert!(line.contains("waiting for the first"), "{line}");
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args(["-s", name, &pid]).status();
        assert!(sent.expect("kill can be run").success());
    }

    fn end(&mut self) -> ExitStatus {
        wait_until(support::PATIENCE, "the watch ends", || {
            let ended = self.child.try_wait().expect("our own process");
            ended.ok_or_else(|| "it goes on".to_owned())
        })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// As `cp` and `scp` do, which write in place: the directory does not change when the rest comes.
#[test]
fn a_report_that_is_copied_slowly_is_told_when_it_is_whole() {
    let maildir = maildir();
    let watch = Watch::start(maildir.path(), &[]);
    for (n, part) in [0, 60, 900].into_iter().enumerate() {
        let id = format!("slow{n}");
        let (path, mail) = (
            maildir.path().join("new").join(&id),
            mail(&id, 1, Event::Delivered),
        );
        fs::write(&path, &mail[..part]).expect("a mail can be written");
        thread::sleep(Duration::from_millis(2500));
        fs::write(&path, &mail).expect("its rest, too");
        let line = watch.line();
        assert!(line.contains(&id) && line.contains("delivered"), "{line}");
    }
}

#[test]
fn each_report_is_a_line_within_a_second() {
    let dir = maildir();
    deliver(dir.path(), "aa@x", 1, Event::Transferred);
    let watch = Watch::start(dir.path(), &[]);
    let first = watch.line();
    assert!(
        first.contains("  aa@x  ?  ") && first.contains("mx2.example.net"),
        "{first}"
    );
    // Some come while the file system's clock stands still, some when all has been quiet.
    for (n, pause_ms) in (2..).zip([0, 0, 3, 50, 300, 1_300]) {
        thread::sleep(Duration::from_millis(pause_ms));
        let id = format!("m{n}@x");
        let delivered = Stopwatch::start();
        deliver(dir.path(), &id, n, Event::Delivered);
        let line = watch.line();
        let took = delivered.elapsed();
        assert!(
            line.contains(&format!("  {id}  ?  delivered in 1.00 s  bob@")),
            "{line}"
        );
        assert!(took < PROMISED, "{took:?}");
    }
    // What has no news is not told again, and what is moved to `cur` is no news.
    fs::rename(
        dir.path().join("new/aa@x.1.transferred"),
        dir.path().join("cur/1:2,S"),
    )
    .expect("read");
    deliver(dir.path(), "aa@x", 9, Event::Delivered);
    let last = watch.line();
    assert!(last.contains("  aa@x  ?  delivered"), "{last}");
    let more = watch.lines.recv_timeout(Duration::from_millis(600));
    assert!(more.is_err(), "{more:?}");
}

#[test]
fn a_mailbox_that_is_away_for_a_while_is_waited_for() {
    let dir = maildir();
    let (there, away) = (dir.path().join("box"), dir.path().join("away"));
    fs::create_dir(&there).expect("a directory can be made");
    for folder in ["new", "cur", "tmp"] {
        fs::create_dir(there.join(folder)).expect("a directory can be made");
    }
    deliver(&there, "aa@x", 1, Event::Transferred);
    let watch = Watch::start(&there, &[]);
    assert!(watch.line().contains("  aa@x  ?  "));
    fs::rename(&there, &away).expect("it can be moved");
    thread::sleep(Duration::from_secs(1));
    fs::rename(&away, &there).expect("and back");
    deliver(&there, "aa@x", 2, Event::Delivered);
    let last = watch.line();
    assert!(last.contains("  aa@x  ?  delivered"), "{last}");
}

#[test]
fn programs_get_lines_of_json() {
    let dir = maildir();
    let watch = Watch::start(dir.path(), &["--json-lines"]);
    for (event, outcome) in [
        (Event::Transferred, "open"),
        (Event::Delivered, "delivered"),
    ] {
        deliver(dir.path(), "aa@x", event as u64, event);
        let line: serde_json::Value = serde_json::from_str(&watch.line()).expect("JSON");
        assert_eq!(
            (&line["id"], &line["outcome"]),
            (&"aa@x".into(), &outcome.into())
        );
    }
}

/// What cannot be read is told once, not with each news.
#[test]
fn programs_are_told_what_was_skipped() {
    let dir = maildir();
    let packed = dir.path().join("new/1.gz");
    fs::write(&packed, b"\x1f\x8b\x08nothing").expect("a file can be written");
    let watch = Watch::start(dir.path(), &["--json-lines"]);
    let line = || serde_json::from_str::<serde_json::Value>(&watch.line()).expect("JSON");
    let first = line();
    assert_eq!(first["type"], "skipped");
    assert_eq!(first["place"].as_str(), packed.to_str());
    for event in [Event::Transferred, Event::Delivered] {
        deliver(dir.path(), "aa@x", event as u64, event);
        assert_eq!(line()["id"], "aa@x");
    }
}

#[test]
fn a_signal_ends_it_at_once_with_the_answer_so_far() {
    for (name, event, code) in [
        ("INT", None, 4),
        ("TERM", Some(Event::Transferred), 1),
        ("INT", Some(Event::Delivered), 0),
        ("TERM", Some(Event::Failed), 3),
    ] {
        let dir = maildir();
        if let Some(event) = event {
            deliver(dir.path(), "aa@x", 1, event);
        }
        deliver(dir.path(), "zz@x", 2, Event::Delivered);
        let mut watch = Watch::start_with(dir.path(), &["aa@x"], Stdio::piped());
        match event {
            Some(_) => drop(watch.line()),
            None => watch.wait_until_it_waits(),
        }
        let told = Stopwatch::start();
        watch.signal(name);
        let status = watch.end();
        assert!(told.elapsed() < PROMISED, "{:?}", told.elapsed());
        assert_eq!(status.code(), Some(code), "{name} {event:?} {status}");
    }
}

#[test]
fn a_script_can_wait_for_the_end() {
    let dir = maildir();
    let mut watch = Watch::start(dir.path(), &["--until-done", "aa@x"]);
    deliver(dir.path(), "aa@x", 1, Event::Delayed);
    assert!(watch.line().contains("waiting at mx1.example.net"));
    deliver(dir.path(), "bb@x", 2, Event::Failed);
    deliver(dir.path(), "aa@x", 3, Event::Delivered);
    assert!(watch.line().contains("delivered"));
    assert_eq!(
        watch.end().code(),
        Some(0),
        "another message does not count"
    );
    let mut all = Watch::start(dir.path(), &["--until-done"]);
    assert_eq!(all.end().code(), Some(3));
}

#[test]
fn it_ends_when_nobody_reads_and_says_what_is_wrong() {
    let dir = maildir();
    deliver(dir.path(), "aa@x", 1, Event::Transferred);
    let script = format!("{BINARY} watch {} | head -n 1", dir.path().display());
    let mut shell = Command::new("sh")
        .args(["-c", &script])
        .stdout(Stdio::piped())
        .spawn()
        .expect("a shell");
    // What is there at first has been read, by one who reads no more.
    let mut read = BufReader::new(shell.stdout.take().expect("a pipe"));
    read.read_line(&mut String::new()).expect("a line");
    deliver(dir.path(), "aa@x", 2, Event::Delivered);
    wait_until(support::PATIENCE, "the pipe ends", || {
        let ended = shell.try_wait().expect("our own process");
        ended.ok_or_else(|| "it goes on".to_owned())
    });
    let output = Command::new(BINARY)
        .args(["watch", "/nowhere"])
        .output()
        .expect("the binary can be run");
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("/nowhere: no such Maildir yet?"), "{said}");
}

/// A terminal of 12 rows and 80 columns, whose keys are typed through `script`. What it shows is what was written to
/// it; the shell tells the terminal's settings before and after.
#[test]
fn a_terminal_is_drawn_over_and_left_as_it_was() {
    let dir = maildir();
    let home = TempDir::new().expect("a temporary directory");
    deliver(dir.path(), "aa@x", 1, Event::Transferred);
    let session = format!(
        "trap : INT; stty rows 12 cols 80; stty -g; {BINARY} watch {} aa@x; echo code $?; stty -g",
        dir.path().display()
    );
    let mut terminal = Command::new("script")
        .args([
            "--quiet",
            "--return",
            "--flush",
            "--command",
            &session,
            "/dev/null",
        ])
        .env("HOPTRAIL_HOME", home.path())
        .env("TERM", "xterm")
        .env_remove("NO_COLOR")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("script can be run");
    let mut keys = terminal.stdin.take().expect("a pipe");
    let mut screen = terminal.stdout.take().expect("a pipe");
    let (sender, written) = channel();
    thread::spawn(move || {
        let mut octets = [0; 4096];
        while let Ok(n @ 1..) = screen.read(&mut octets) {
            let _ = sender.send(String::from_utf8_lossy(&octets[..n]).into_owned());
        }
    });
    let mut text = String::new();
    let mut until = |words: &str| {
        while !text.contains(words) {
            text += &written.recv_timeout(support::PATIENCE).expect(words);
        }
        text.clone()
    };
    let first = until("Ctrl-C ends");
    assert!(first.contains("mx2.example.net"), "{first}");
    let delivered = Stopwatch::start();
    deliver(dir.path(), "aa@x", 2, Event::Delivered);
    let second = until("2 reports, ");
    assert!(delivered.elapsed() < PROMISED, "{:?}", delivered.elapsed());
    let (_, redrawn) = second
        .split_once("A\x1b[J")
        .expect("it is drawn over what stood there");
    assert!(redrawn.contains("Delivered in 1.00 s"), "{second}");
    let rows = redrawn.lines().count();
    assert!(rows <= 12, "{rows} rows: {redrawn}");
    assert!(redrawn.contains("lines are left out"), "{redrawn}");
    keys.write_all(b"\x03").expect("a key can be pressed");
    let all = until("code 0");
    drop(keys);
    terminal.wait().expect("it ends");
    while let Ok(more) = written.recv() {
        text += &more;
    }
    let _ = all;
    let settings = |text: &str| {
        let lines = text.lines().map(str::trim);
        lines
            .filter(|l| l.matches(':').count() > 20)
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let settings = settings(&text);
    assert_eq!(settings.len(), 2, "{text}");
    assert_eq!(settings[0], settings[1], "the terminal is as it was");
    let colors = text.matches("\x1b[").count();
    assert!(
        colors > 4 && text.contains("\x1b[0m"),
        "there are colours: {text}"
    );
}
