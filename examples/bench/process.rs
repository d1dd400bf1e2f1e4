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
