//! The ways a message can take to the sink: directly, through haproxy, through hoptrail.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::net::SocketAddrV4;
use std::path::{Path, PathBuf};

use anyhow::Result;
use tempfile::TempDir;

use crate::Bench;
use crate::lab::{Lab, address};
use crate::process::Process;

/// A place to send mail to, and the process whose cost counts.
pub struct Way {
    /// What it is called in figures.
    pub name: &'static str,
    /// Where it listens.
    pub address: SocketAddrV4,
    /// The process.
    pub process: Process,
    /// Its files.
    pub files: TempDir,
}

/// Reports that are never mailed.
pub const NOTHING_MAILED: &str = "accepted = 'never'\nvia = 'smtp://127.0.0.1:9'";

impl Way {
    /// Postfix's smtp-sink, which takes everything and keeps nothing.
    pub fn sink(lab: &Lab) -> Result<Self> {
        let (address, files) = (address(), lab.scratch()?);
        let mut command = lab.postfix_tool("smtp-sink");
        command
            .args(["-m", "20000", &address.to_string(), "4096"])
            .current_dir(files.path());
        Ok(Self {
            name: "direct",
            process: Process::serve(&mut command, address)?,
            address,
            files,
        })
    }

    /// haproxy in TCP mode: one thread, no log, no checks, its own defaults for the rest.
    pub fn haproxy(lab: &Lab, to: SocketAddrV4) -> Result<Self> {
        let (address, files) = (address(), lab.scratch()?);
        let config = format!(
            "global\n nbthread 1\n maxconn 9500\n\
             defaults\n mode tcp\n timeout connect 30s\n timeout client 1h\n timeout server 1h\n\
             listen smtp\n bind {address} backlog 4096\n server sink {to}\n"
        );
        let path = files.path().join("haproxy.cfg");
        fs::write(&path, config)?;
        let mut command = lab.haproxy();
        command.arg("-q").arg("-db").arg("-f").arg(path);
        Ok(Self {
            name: "haproxy",
            process: Process::serve(&mut command, address)?,
            address,
            files,
        })
    }

    /// hoptrail as an ingress; `reports` are the keys of its `[reports]` beside `from`.
    pub fn hoptrail(
        lab: &Lab,
        (name, binary): (&'static str, &Path),
        to: SocketAddrV4,
        reports: &str,
    ) -> Result<Self> {
        let (address, files) = (address(), lab.scratch()?);
        let mut config = String::new();
        writeln!(config, "hostname = 'bench.test'")?;
        writeln!(config, "state_dir = '{}'", files.path().display())?;
        writeln!(config, "[reports]\nfrom = 'hoptrail@bench.test'\n{reports}")?;
        writeln!(
            config,
            "[policy]\nallow = ['127.0.0.0/8']\ntrusted_reports_per_hour_max = 0"
        )?;
        writeln!(config, "[[listener]]\nrole = 'ingress'\nprotocol = 'smtp'")?;
        writeln!(config, "listen = '{address}'\nnext_hop = 'smtp://{to}'")?;
        let path = files.path().join("hoptrail.toml");
        fs::write(&path, config)?;
        let mut command = std::process::Command::new(binary);
        command
            .args(["serve", "--config"])
            .arg(path)
            .stderr(File::create(files.path().join("log"))?);
        Ok(Self {
            name,
            process: Process::serve(&mut command, address)?,
            address,
            files,
        })
    }

    /// What hoptrail calls its own build.
    pub fn ours(lab: &Lab) -> (&'static str, &Path) {
        ("hoptrail", &lab.hoptrail)
    }

    /// The sink and every proxy before it: direct, haproxy, hoptrail, and another build if there is one.
    pub fn all(bench: &Bench) -> Result<Vec<Self>> {
        let lab = &bench.lab;
        let sink = Self::sink(lab)?;
        let to = sink.address;
        let mut ways = vec![
            sink,
            Self::haproxy(lab, to)?,
            Self::hoptrail(lab, Self::ours(lab), to, NOTHING_MAILED)?,
        ];
        if let Some(other) = &bench.against {
            ways.push(Self::hoptrail(lab, ("other", other), to, NOTHING_MAILED)?);
        }
        Ok(ways)
    }

    /// The store's file.
    pub fn store(&self) -> PathBuf {
        self.files.path().join("store.sqlite")
    }
}

/// Indices into what [`Way::all`] gives.
pub const DIRECT: usize = 0;
/// See [`DIRECT`].
pub const HAPROXY: usize = 1;
/// See [`DIRECT`].
pub const HOPTRAIL: usize = 2;
