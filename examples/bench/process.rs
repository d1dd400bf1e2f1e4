//! A process we started: what it costs, and its end, which comes with ours.

use std::fs;
use std::net::{SocketAddrV4, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

/// What the kernel counts CPU time in for user space: a hundredth of a second (`USER_HZ`, the same on
/// every Linux).
pub const TICKS_PER_S: u32 = 100;

/// How long a server may take to answer for the first time.
const START_LIMIT: Duration = Duration::from_secs(30);

/// What a program took that ran to its end.
#[derive(Clone, Copy)]
pub struct Cost {
    /// The time.
    pub took: Duration,
    /// The time of processors, its own and the system's for it, s.
    pub cpu_s: f64,
    /// The most resident memory, MB.
    pub peak_mb: f64,
}

/// CPU time of all children that were waited for so far, ticks.
fn children() -> Result<u32> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    let fields = stat.rsplit_once(") ").context("no stat")?.1;
    let ticks = fields.split(' ').skip(13).take(2).map(str::parse::<u32>);
    Ok(ticks.sum::<Result<u32, _>>()?)
}

/// A running process. Dropped, it is gone.
pub struct Process(Child);

impl Process {
    /// Starts a server and waits until it accepts connections.
    pub fn serve(command: &mut Command, address: SocketAddrV4) -> Result<Self> {
        let name = command.get_program().to_owned();
        let child = command.stdin(Stdio::piped()).spawn();
        let mut process = Self(child.with_context(|| format!("{} cannot start", name.display()))?);
        let start = Instant::now();
        while TcpStream::connect(address).is_err() {
            if let Some(status) = process.0.try_wait()? {
                bail!("{} ended at its start: {status}", name.display());
            }
            ensure!(
                start.elapsed() < START_LIMIT,
                "{} is silent",
                name.display()
            );
            sleep(Duration::from_millis(10));
        }
        Ok(process)
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.0.id()
    }

    /// CPU time taken so far, of all its threads, ticks.
    pub fn cpu_ticks(&self) -> Result<u32> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.0.id()))?;
        // The name in parentheses may hold anything; utime and stime are the 12th and 13th field behind it.
        let fields = stat.rsplit_once(") ").context("no stat")?.1;
        let ticks = fields.split(' ').skip(11).take(2).map(str::parse::<u32>);
        Ok(ticks.sum::<Result<u32, _>>()?)
    }

    /// Resident memory now, MB.
    pub fn rss_mb(&self) -> Result<f64> {
        self.status_mb("VmRSS:")
    }

    /// The most resident memory it ever had, MB.
    pub fn rss_peak_mb(&self) -> Result<f64> {
        self.status_mb("VmHWM:")
    }

    fn status_mb(&self, field: &str) -> Result<f64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix(field));
        let kib = line
            .context("no such field")?
            .trim()
            .trim_end_matches(" kB");
        Ok(kib.parse::<f64>()? * 1024.0 / 1e6)
    }

    /// Runs a program to its end and tells what that cost; what it says is thrown away. The kernel tells the
    /// whole cost of a child when it is waited for, so nothing is missed, however short it runs.
    pub fn cost(command: &mut Command, limit: Duration) -> Result<Cost> {
        let name = command.get_program().to_owned();
        let (usage, start) = (children()?, Instant::now());
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let mut process = Self(
            command
                .spawn()
                .with_context(|| format!("{}", name.display()))?,
        );
        let mut peak_mb = 0.0;
        while process.0.try_wait()?.is_none() {
            ensure!(start.elapsed() < limit, "{} takes too long", name.display());
            // There is no such line any more in the moment it ends.
            peak_mb = process.rss_peak_mb().unwrap_or(peak_mb);
            sleep(Duration::from_millis(1));
        }
        Ok(Cost {
            took: start.elapsed(),
            cpu_s: f64::from(children()? - usage) / f64::from(TICKS_PER_S),
            peak_mb,
        })
    }

    /// Waits until it ends by itself and tells how long that took; ends it at the limit.
    pub fn run(command: &mut Command, limit: Duration) -> Result<Duration> {
        let start = Instant::now();
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn();
        let mut process = Self(child?);
        loop {
            if let Some(status) = process.0.try_wait()? {
                ensure!(status.success(), "{command:?}: {status}");
                return Ok(start.elapsed());
            }
            ensure!(start.elapsed() < limit, "{command:?} takes too long");
            sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Gone already, or gone now.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
