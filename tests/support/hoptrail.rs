//! The built binary: as a hop's server, and as a user's client.

use std::fs::{self, File};
use std::io::Write;
use std::net::{SocketAddr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};

use tempfile::TempDir;

use super::net;
use super::{PATIENCE, show_logs, wait_until};

/// The program itself.
pub const BINARY: &str = env!("CARGO_BIN_EXE_hoptrail");

/// A running `hoptrail serve` with a state directory of its own. Dropped, it is gone.
pub struct Hoptrail {
    child: Child,
    home: TempDir,
    listeners: Vec<SocketAddr>,
}

impl Hoptrail {
    /// Runs `serve` with this configuration (all but `state_dir`, which is put in front, and the store's time, if
    /// there is none in it) and waits until every listener answers.
    pub fn serve(config: &str) -> Self {
        Self::serve_as(config, |_| ())
    }

    /// The same, started as `set_up` says.
    pub fn serve_as(config: &str, set_up: impl FnOnce(&mut Command)) -> Self {
        let home = TempDir::with_prefix("hoptrail-hop-").expect("a temporary directory");
        let state_dir = home.path().join("state");
        fs::create_dir(&state_dir).expect("a directory can be made");
        let text = format!("state_dir = '{}'\n{}", state_dir.display(), patient(config));
        fs::write(home.path().join("hoptrail.toml"), &text).expect("a file can be written");
        let mut hop = Self {
            child: spawn(home.path(), set_up),
            listeners: listeners(&text),
            home,
        };
        hop.wait_until_ready();
        hop
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Lets it open so many more descriptors than it has; how many that are hangs on the machine's cores.
    pub fn leave_descriptors(&self, more: usize) {
        let open = fs::read_dir(format!("/proc/{}/fd", self.pid()));
        let limit = open.expect("it runs").count() + more;
        let set = Command::new("prlimit")
            .args(["--pid", &self.pid().to_string()])
            .arg(format!("--nofile={limit}"))
            .status();
        assert!(set.is_ok_and(|status| status.success()), "prlimit {limit}");
    }

    /// Where its store and keys lie.
    pub fn state_dir(&self) -> PathBuf {
        self.home.path().join("state")
    }

    /// What it has said so far, over all its starts.
    pub fn log(&self) -> String {
        fs::read_to_string(self.home.path().join("log")).unwrap_or_default()
    }

    /// Asks it to end (SIGTERM) and waits for that.
    pub fn stop(&mut self) -> ExitStatus {
        if let Ok(Some(status)) = self.child.try_wait() {
            return status;
        }
        self.terminate();
        wait_until(PATIENCE, "hoptrail ends after SIGTERM", || {
            let status = self.child.try_wait().map_err(|error| error.to_string())?;
            status.ok_or_else(|| "it still runs".to_owned())
        })
    }

    /// Asks it to end, and does not wait.
    pub fn terminate(&self) {
        self.signal("TERM");
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let script = format!("kill -{name} $0");
        let sent = Command::new("bash").args(["-c", &script, &pid]).status();
        assert!(sent.is_ok_and(|status| status.success()), "kill {pid}");
    }

    /// Sends SIGHUP and waits until it says that it did, or refused to, take the configuration over.
    pub fn reload(&self) {
        let told = || self.log().matches("reload").count();
        let before = told();
        self.signal("HUP");
        wait_until(PATIENCE, "hoptrail reloads", || {
            if told() > before {
                Ok(())
            } else {
                Err(self.log())
            }
        });
    }

    /// Its configuration file.
    pub fn config(&self) -> PathBuf {
        self.home.path().join("hoptrail.toml")
    }

    /// Ends it as a crash does (SIGKILL).
    pub fn kill(&mut self) {
        self.child.kill().expect("the process is ours to kill");
        self.child.wait().expect("the process was ours to wait for");
    }

    /// Starts it again on the same state, after [`stop`](Self::stop) or [`kill`](Self::kill).
    pub fn start_again(&mut self) {
        let ended = self.child.try_wait();
        assert!(matches!(ended, Ok(Some(_))), "it still runs");
        self.child = spawn(self.home.path(), |_| ());
        self.wait_until_ready();
    }

    /// Stops it, has all that it waits for begin so many minutes earlier (delays, and stays of messages), and starts it
    /// again.
    pub fn let_pass(&mut self, minutes: i64) {
        self.stop();
        let store = self.state_dir().join("store.sqlite");
        let store = rusqlite::Connection::open(store).expect("the store opens");
        let back = format!(
            "UPDATE stays SET since_ms = since_ms - {minutes} * 60000;
             UPDATE delays SET first_us = first_us - {minutes} * 60000000, told_us = told_us - {minutes} * 60000000;"
        );
        store.execute_batch(&back).expect("these are its tables");
        drop(store);
        self.start_again();
    }

    fn wait_until_ready(&mut self) {
        for &address in &self.listeners {
            wait_until(PATIENCE, &format!("hoptrail listens on {address}"), || {
                if let Ok(Some(status)) = self.child.try_wait() {
                    panic!("hoptrail ended at its start: {status}");
                }
                if net::answers(address) {
                    Ok(())
                } else {
                    Err("connection refused".to_owned())
                }
            });
        }
    }
}

impl Drop for Hoptrail {
    fn drop(&mut self) {
        // A test that cares how it ends has called `stop`.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let files = ["hoptrail.toml", "log"].map(|name| self.home.path().join(name));
            show_logs("hoptrail", files.iter().map(PathBuf::as_path));
        }
    }
}

fn spawn(home: &Path, set_up: impl FnOnce(&mut Command)) -> Child {
    let log = File::options()
        .create(true)
        .append(true)
        .open(home.join("log"))
        .expect("a file can be made");
    let mut serve = Command::new(BINARY);
    serve
        .args(["serve", "--config"])
        .arg(home.join("hoptrail.toml"))
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("a file can be shared"))
        .stderr(log);
    set_up(&mut serve);
    serve.spawn().expect("the binary can be run")
}

/// The configuration with time enough for the store: what a test is told of must not hang on how long the disk has to
/// write for others.
fn patient(config: &str) -> String {
    let key = format!("store_ms = {}", PATIENCE.as_millis());
    if config.contains("store_ms") {
        config.to_owned()
    } else if config.contains("[timeouts]\n") {
        config.replacen("[timeouts]\n", &format!("[timeouts]\n{key}\n"), 1)
    } else if config.contains("timeouts = { ") {
        config.replacen("timeouts = { ", &format!("timeouts = {{ {key}, "), 1)
    } else {
        format!("timeouts = {{ {key} }}\n{config}")
    }
}

fn listeners(config: &str) -> Vec<SocketAddr> {
    let config: toml::Table = config.parse().expect("the configuration is TOML");
    let listeners = config.get("listener").and_then(toml::Value::as_array);
    let address = |listener: &toml::Value| listener.get("listen")?.as_str()?.parse().ok();
    listeners
        .map(|all| all.iter().filter_map(address).collect())
        .unwrap_or_default()
}

/// A user of the client, with a secret of their own.
pub struct User {
    home: TempDir,
    environment: Vec<(&'static str, PathBuf)>,
}

impl User {
    /// Somebody who has never used hoptrail.
    pub fn stranger() -> Self {
        let home = TempDir::with_prefix("hoptrail-user-").expect("a temporary directory");
        Self {
            home,
            environment: Vec::new(),
        }
    }

    /// With this path in its environment.
    pub fn env(mut self, name: &'static str, path: PathBuf) -> Self {
        self.environment.push((name, path));
        self
    }

    /// Their hoptrail directory, for programs that run the binary by themselves.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// Runs the binary with these arguments and this standard input.
    pub fn run<S: AsRef<std::ffi::OsStr>>(&self, args: &[S], input: &[u8]) -> Output {
        let mut child = Command::new(BINARY)
            .args(args)
            .env("HOPTRAIL_HOME", self.home.path())
            .env("NO_COLOR", "1")
            .envs(self.environment.clone())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary can be run");
        // A client that has no use for its input may close it.
        let _ = child.stdin.take().map(|mut pipe| pipe.write_all(input));
        child.wait_with_output().expect("the binary ends")
    }

    /// Sends a message by `hoptrail send`, to a server by SMTP; it must succeed.
    pub fn send(&self, server: SocketAddrV4, from: &str, to: &[&str], message: &[u8]) -> String {
        let server = server.to_string();
        let mut args = vec![
            "send",
            "--require-track",
            "--server",
            &server,
            "--from",
            from,
        ];
        args.extend(to);
        said(&self.run(&args, message))
    }

    /// `hoptrail timeline MAILDIR [ID]` as people read it.
    pub fn timeline(&self, maildir: &Path, id: Option<&str>) -> Output {
        let mut args = vec!["timeline".as_ref(), maildir.as_os_str()];
        args.extend(id.map(std::ffi::OsStr::new));
        self.run(&args, b"")
    }

    /// `hoptrail timeline MAILDIR ID --json`.
    pub fn timeline_json(&self, maildir: &Path, id: &str) -> serde_json::Value {
        let args = [
            "timeline".as_ref(),
            maildir.as_os_str(),
            id.as_ref(),
            "--json".as_ref(),
        ];
        let output = self.run(&args, b"");
        serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("timeline --json: {error}: {output:?}"))
    }
}

/// The standard output of a run that succeeded.
pub fn said(output: &Output) -> String {
    assert!(
        output.status.success(),
        "{}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}
