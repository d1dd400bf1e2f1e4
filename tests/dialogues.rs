//! The dialogues of `tests/dialogues`, each against the built binary: whole, octet by octet, and with a
//! pause at every CR and LF. However it is cut, both ends must hear the same octets.

#![allow(clippy::expect_used)]

mod support;

use std::fmt::Write as _;
use std::fs;
use std::io::ErrorKind;
use std::net::{SocketAddrV4, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use support::hoptrail::Hoptrail;
use support::net;
use support::script::{Cut, Script, play};

/// Replayed side by side: a replay mostly waits.
const WORKERS: usize = 6;

/// A script and the two addresses it is played at.
struct Stage {
    script: Script,
    entrance: SocketAddrV4,
    next_hop: TcpListener,
    next_address: SocketAddrV4,
}

#[test]
fn every_dialogue_goes_as_written_however_it_is_cut() {
    let stages = stages();
    let reports = tempfile::tempdir().expect("a temporary directory");
    let _hoptrail = Hoptrail::serve(&config(&stages, reports.path()));
    for stage in &stages {
        stage.forget_the_probe();
    }
    let (todo, failures) = (Mutex::new(stages.iter()), Mutex::new(String::new()));
    let started = Instant::now();
    let next = || todo.lock().expect("no worker panics").next();
    thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                while let Some(stage) = next() {
                    let failed = stage.failures();
                    failures.lock().expect("no worker panics").push_str(&failed);
                }
            });
        }
    });
    let replays: usize = stages.iter().map(|stage| stage.script.cuts().len()).sum();
    support::measured(
        "dialogue scripts",
        format_args!(
            "{} in {replays} replays, {:.1} s",
            stages.len(),
            started.elapsed().as_secs_f64()
        ),
    );
    let failures = failures.into_inner().expect("no worker panics");
    assert!(failures.is_empty(), "{failures}");
}

fn stages() -> Vec<Stage> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/dialogues");
    let mut paths: Vec<_> = fs::read_dir(directory)
        .expect("the scripts are there")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "txt"))
        .collect();
    paths.sort();
    assert!(paths.len() > 50, "the scripts are found");
    let stage = |path: &Path| {
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        let text = fs::read_to_string(path).expect("a script is text");
        let next_address = net::address();
        let next_hop = TcpListener::bind(next_address).expect("the address is free");
        next_hop.set_nonblocking(true).expect("a listener can poll");
        Stage {
            script: Script::parse(&name, &text),
            entrance: net::address(),
            next_hop,
            next_address,
        }
    };
    paths.iter().map(|path| stage(path)).collect()
}

/// One process with a listener for each script.
fn config(stages: &[Stage], reports: &Path) -> String {
    let mut text = format!(
        "hostname = 'mx1.test'\n[reports]\nfrom = 'hoptrail@mx1.test'\nvia = 'maildir:{}'\n",
        reports.display()
    );
    for stage in stages {
        let script = &stage.script;
        let _ = write!(
            text,
            "[[listener]]\nrole = '{}'\nlisten = '{}'\nprotocol = '{}'\nnext_hop = '{}://{}'\n{}\n",
            script.role,
            stage.entrance,
            script.protocol,
            script.next_hop,
            stage.next_address,
            script.settings.join("\n")
        );
        if script.strangers {
            text.push_str("policy = { allow = ['192.0.2.0/24'] }\n");
        }
    }
    text
}

impl Stage {
    /// Whoever looked whether an ingress listens made it connect to its next hop.
    fn forget_the_probe(&self) {
        if self.script.role == "ingress" {
            self.accept().expect("the probe's connection");
        }
    }

    fn accept(&self) -> Result<TcpStream, String> {
        let start = Instant::now();
        loop {
            match self.next_hop.accept() {
                Ok((stream, _)) => {
                    let blocking = stream.set_nonblocking(false);
                    return blocking.map(|()| stream).map_err(|e| e.to_string());
                }
                Err(error) if error.kind() != ErrorKind::WouldBlock => {
                    return Err(error.to_string());
                }
                Err(_) if start.elapsed() > support::PATIENCE => {
                    return Err("nobody connects".to_owned());
                }
                Err(_) => thread::sleep(Duration::from_micros(200)),
            }
        }
    }

    /// Replays every cut; what went wrong, up to the third failure.
    fn failures(&self) -> String {
        let mut text = String::new();
        let failed = self.script.cuts();
        let failed = failed
            .iter()
            .filter_map(|cut| self.replay(*cut).err().map(|why| (cut, why)));
        for (cut, why) in failed.take(3) {
            let _ = writeln!(text, "{} ({cut:?}):\n{why}", self.script.name);
        }
        text
    }

    fn replay(&self, cut: Cut) -> Result<(), String> {
        let client = TcpStream::connect(self.entrance).map_err(|error| error.to_string())?;
        // The next hop's side is cut by octets where the client's is, otherwise not at all.
        let hop_cut = if matches!(cut, Cut::Octets) {
            cut
        } else {
            Cut::Whole
        };
        let (there, here) = thread::scope(|scope| {
            let hop = scope.spawn(|| {
                if self.script.hop.is_empty() {
                    return Ok(());
                }
                play(&self.script.hop, &self.accept()?, hop_cut)
            });
            let here = play(&self.script.client, &client, cut);
            drop(client);
            (hop.join().expect("a player does not panic"), here)
        });
        let mut why = String::new();
        if let Err(error) = here {
            let _ = writeln!(why, "  client: {error}");
        }
        if let Err(error) = there {
            let _ = writeln!(why, "  next hop: {error}");
        }
        if self.next_hop.accept().is_ok() {
            why.push_str("  next hop: one connection too many\n");
        }
        if why.is_empty() { Ok(()) } else { Err(why) }
    }
}
