//! What the integration tests share: real MTAs in private namespaces ([`lab`], [`mta`], [`fan`], [`dovecot`]), the
//! built binary ([`hoptrail`], [`hop`], [`hop_config`], [`ingress`]), a file system for it to fill ([`disk`]), the raw ends
//! of a dialogue ([`sink`], [`dialogue`], [`tls`], [`script`]), a browser
//! ([`browser`]) and a reading of mail that is independent of the library's own ([`mail`]). It knows nothing of hoptrail's inside.
//!
//! Whatever a test starts ends in its `Drop`, and tells its log there if the test is failing.

// Every test file is a crate of its own and uses only some of this; a helper that fails fails the test.
#![allow(dead_code, clippy::expect_used)]

pub mod browser;
pub mod corpus;
pub mod dialogue;
pub mod disk;
pub mod dns;
pub mod dovecot;
pub mod fan;
pub mod hop;
pub mod hop_config;
pub mod hoptrail;
pub mod ingress;
pub mod lab;
pub mod mail;
pub mod mta;
pub mod net;
pub mod says;
pub mod script;
pub mod sink;
pub mod strict;
pub mod tls;
pub mod tls_hop;

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Long enough for anything that works, also on a busy machine; nobody waits for it in a good run.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// How long something takes, as far as it is what is tested that takes it: it stands still while the machine does, and
/// goes slower where others keep it busy. So an upper bound holds there too, and is as tight as ever elsewhere.
pub struct Stopwatch(Arc<AtomicU32>);

impl Stopwatch {
    /// It counts these.
    const TURN: Duration = Duration::from_millis(5);

    /// It goes from now on, until it is dropped.
    pub fn start() -> Self {
        let turns = Arc::new(AtomicU32::new(0));
        let counted = Arc::downgrade(&turns);
        thread::spawn(move || {
            while let Some(turns) = counted.upgrade() {
                thread::sleep(Self::TURN);
                turns.fetch_add(1, Ordering::Relaxed);
            }
        });
        Self(turns)
    }

    /// Never more than a clock would say.
    pub fn elapsed(&self) -> Duration {
        Self::TURN * self.0.load(Ordering::Relaxed)
    }
}

/// Asks again and again until `probe` gives a value, and gives that. A probe that has none yet says what
/// it saw instead, which is what the panic shows when `timeout` has passed.
pub fn wait_until<T>(
    timeout: Duration,
    what: &str,
    mut probe: impl FnMut() -> Result<T, String>,
) -> T {
    let start = Instant::now();
    loop {
        match probe() {
            Ok(value) => return value,
            Err(seen) if start.elapsed() > timeout => {
                panic!("not within {timeout:?}: {what}; last seen: {seen}")
            }
            Err(_) => thread::sleep(Duration::from_millis(20)),
        }
    }
}

/// Notes a measured value: on stderr, and in a file that `tests/run` shows at its end.
pub fn measured(what: &str, value: impl std::fmt::Display) {
    let line = format!("{what}: {value}\n");
    eprint!("measured: {line}");
    let written = OpenOptions::new()
        .create(true)
        .append(true)
        .open(lab::directory().join("measured.txt"))
        .and_then(|mut file| file.write_all(line.as_bytes()));
    written.expect("the lab's directory can be written");
}

/// The last lines of a log, for a failing test; empty if there is no such file.
fn tail(path: &Path) -> String {
    const LINES_MAX: usize = 150;
    let bytes = std::fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    let from = lines.len().saturating_sub(LINES_MAX);
    lines[from..].join("\n")
}

/// Shows logs on stderr, where the test runner shows them with the failure.
fn show_logs<'a>(of: &str, paths: impl IntoIterator<Item = &'a Path>) {
    for path in paths {
        let text = tail(path);
        if !text.is_empty() {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            eprintln!("---- {of}: {name}\n{text}");
        }
    }
}
