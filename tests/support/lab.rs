//! The packages, one daemon out of them in namespaces of its own (`tests/lab/ns.sh`), and a verifier of signatures.

use std::fs::{self, File};
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::{PATIENCE, net, show_logs, wait_until};

const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/lab");

/// Where the packages and notes of the lab lie: `lab` in Cargo's target directory.
pub fn directory() -> PathBuf {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("lab");
    fs::create_dir_all(&directory).expect("the target directory can be written");
    directory
}

/// Where the unpacked package `name` of a set lies, as `tests/lab/packages` calls both. Gets the set if it is not
/// there yet; test processes that come at the same time wait for the first.
pub fn package(set: &str, name: &str) -> PathBuf {
    let directory = directory();
    let got = Command::new(format!("{SCRIPTS}/packages"))
        .args([directory.as_os_str(), set.as_ref()])
        .output()
        .expect("tests/lab/packages can be run");
    let said = String::from_utf8_lossy(&got.stderr);
    assert!(got.status.success(), "no mail lab: {said}");
    directory
        .join(if set == "mtas" { "pkg" } else { set })
        .join(name)
}

/// What dkimpy says to each DKIM signature of a mail, from the top: the algorithm, and `pass` or why not. `zone`
/// is the text of a zone file with the keys.
pub fn verify_dkim(mail: &[u8], zone: &str) -> Vec<String> {
    let usr = package("verifiers", "dkimpy").join("usr");
    let zone_file = tempfile::NamedTempFile::new().expect("a temporary file");
    fs::write(&zone_file, zone).expect("a file can be written");
    // Where the libraries are that the host lacks.
    let libraries = fs::read_dir(usr.join("lib")).expect("an unpacked package");
    let libraries = libraries.filter_map(|entry| Some(entry.ok()?.path()));
    let libraries = std::env::join_paths(libraries).expect("plain paths");
    let mut verifier = Command::new(format!("{SCRIPTS}/verify-dkim"))
        .arg(zone_file.path())
        .env("PYTHONPATH", usr.join("lib/python3/dist-packages"))
        .env("LD_LIBRARY_PATH", libraries)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("tests/lab/verify-dkim can be run");
    let mut input = verifier.stdin.take().expect("a pipe");
    input.write_all(mail).expect("it reads the mail");
    drop(input);
    let output = verifier.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    said.lines().map(str::to_owned).collect()
}

/// The files a daemon will find under its private root: made before it starts.
pub struct State(TempDir);

impl State {
    /// An empty private root.
    pub fn new() -> Self {
        Self(TempDir::with_prefix("hoptrail-lab-").expect("a temporary directory"))
    }

    /// Writes a file the daemon finds at `/` + `path`.
    pub fn write(&self, path: &str, text: &str) {
        let file = self.path(path);
        let parent = file.parent().expect("a file has a directory");
        fs::create_dir_all(parent).expect("a directory can be made");
        fs::write(file, text).expect("a file can be written");
    }

    /// Where `/` + `path` of the daemon lies on the host.
    pub fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }
}

/// A daemon running in its namespaces. Dropped, it is gone with every process it has started.
pub struct Daemon {
    hostname: String,
    child: Child,
    state: State,
    logs: Vec<PathBuf>,
}

impl Daemon {
    /// Runs `command` of an unpacked [`package`] as the host `hostname` and waits until it accepts connections.
    ///
    /// `logs` are the files to show if the test fails.
    pub fn start(
        package: &Path,
        hostname: &str,
        address: impl Into<SocketAddr>,
        state: State,
        command: &[&str],
        logs: &[&str],
    ) -> Self {
        let console = File::create(state.path("console")).expect("a file can be made");
        let child = Command::new(format!("{SCRIPTS}/ns.sh"))
            .arg(package)
            .args([state.0.path().as_os_str(), hostname.as_ref()])
            .args(command)
            .stdin(Stdio::piped())
            .stdout(console.try_clone().expect("a file can be shared"))
            .stderr(console)
            .spawn()
            .expect("tests/lab/ns.sh can be run");
        let logs = logs.iter().chain(&["console"]).map(|p| state.path(p));
        let mut daemon = Self {
            hostname: hostname.to_owned(),
            child,
            logs: logs.collect(),
            state,
        };
        daemon.wait_until_ready(address.into());
        daemon
    }

    fn wait_until_ready(&mut self, address: SocketAddr) {
        let hostname = self.hostname.clone();
        wait_until(
            PATIENCE,
            &format!("{hostname} listens on {address}"),
            || {
                if let Ok(Some(status)) = self.child.try_wait() {
                    panic!("{hostname} ended at its start: {status}");
                }
                if net::answers(address) {
                    Ok(())
                } else {
                    Err("connection refused".to_owned())
                }
            },
        );
    }

    /// The files under the daemon's private root.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Waits until its logs hold these words, and gives them.
    pub fn wait_for_log(&self, words: &str) -> String {
        self.wait_for_log_times(words, 1)
    }

    /// The same for words that come so often: a daemon may log what it did some time after it.
    pub fn wait_for_log_times(&self, words: &str, count: usize) -> String {
        let what = format!("{} logs {words:?} {count} times", self.hostname);
        wait_until(PATIENCE, &what, || {
            let logs = self.logs.iter().map(fs::read_to_string);
            let log: String = logs.filter_map(Result::ok).collect();
            if log.matches(words).count() >= count {
                Ok(log)
            } else {
                Err(log)
            }
        })
    }

    /// Runs a command beside the daemon, in its namespaces; it must succeed.
    pub fn run(&self, command: &[&str]) {
        let wrapper = self.child.id();
        let output = Command::new("nsenter")
            .args(["--mount", "--uts", "--target", &wrapper.to_string()])
            .arg(format!("--pid=/proc/{wrapper}/ns/pid_for_children"))
            .args(command)
            .output()
            .expect("nsenter can be run");
        assert!(output.status.success(), "{command:?}: {output:?}");
    }

    /// Its process namespace; ask it while the daemon runs.
    pub fn namespace(&self) -> Namespace {
        let link = format!("/proc/{}/ns/pid_for_children", self.child.id());
        Namespace(File::open(link).expect("the daemon runs"))
    }

    /// Ends the wrapper as a crash does (SIGKILL); what runs in the namespace must not outlive it.
    pub fn kill(&mut self) {
        self.child.kill().expect("the wrapper is ours to kill");
        self.child.wait().expect("the wrapper was ours to wait for");
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let namespace = matches!(self.child.try_wait(), Ok(None)).then(|| self.namespace());
        // The namespace's first process waits for this, and the wrapper for that one to be reaped, which
        // the kernel does after the last process in it is gone.
        drop(self.child.stdin.take());
        let ended = self.child.wait();
        if std::thread::panicking() {
            show_logs(&self.hostname, self.logs.iter().map(PathBuf::as_path));
            return;
        }
        ended.expect("the wrapper was ours to wait for");
        if let Some(namespace) = namespace {
            let left = namespace.processes();
            assert!(left.is_empty(), "{} left {left:?}", self.hostname);
        }
    }
}

/// A process namespace. While this is held it has its number for itself: of one that is gone, the next daemon of
/// another test may have it.
pub struct Namespace(File);

impl Namespace {
    /// The command lines of all processes in it.
    pub fn processes(&self) -> Vec<String> {
        let number = self.0.metadata().expect("it is held").ino();
        let processes = fs::read_dir("/proc").expect("/proc can be read");
        processes
            .filter_map(|entry| {
                let path = entry.ok()?.path();
                let its = fs::metadata(path.join("ns/pid")).ok()?;
                let command = fs::read(path.join("cmdline")).ok()?;
                (its.ino() == number).then(|| String::from_utf8_lossy(&command).replace('\0', " "))
            })
            .collect()
    }
}
