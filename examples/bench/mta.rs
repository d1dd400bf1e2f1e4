//! Postfix as a relay, out of the tests' lab: the peer that has a message on disk before it says 250.

use std::fs;
use std::net::SocketAddrV4;
use std::process::Command;
use std::rc::Rc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tempfile::TempDir;

use crate::client::Mail;
use crate::contest::RUN_LIMIT;
use crate::lab::{Lab, ROOT, address};
use crate::load;
use crate::process::Process;

/// A running Postfix. The namespace it lives in ends with the pipe to its standard input.
pub struct Postfix {
    address: SocketAddrV4,
    _process: Process,
    files: TempDir,
}

impl Postfix {
    /// Starts one that sends everything to `to`.
    pub fn start(lab: &Lab, to: SocketAddrV4) -> Result<Self> {
        let (address, files) = (address(), lab.scratch()?);
        let etc = files.path().join("etc/postfix");
        fs::create_dir_all(&etc)?;
        let transport = format!("smtp:[{}]:{}", to.ip(), to.port());
        for name in ["main.cf", "master.cf"] {
            let template = fs::read_to_string(format!("{ROOT}/tests/lab/postfix-{name}.in"))?;
            let text = template
                .replace("@HOSTNAME@", "relay.test")
                .replace("@LISTEN@", &address.to_string())
                .replace("@ADDRESS@", &address.ip().to_string())
                .replace("@LOCAL_DOMAIN@", "")
                .replace("@DEFAULT_TRANSPORT@", &transport);
            fs::write(etc.join(name), text)?;
        }
        fs::write(etc.join("transport"), "")?;
        let mut command = Command::new(format!("{ROOT}/tests/lab/ns.sh"));
        command
            .arg(lab.postfix())
            .arg(files.path())
            .args(["relay.test", "postfix", "start-fg"])
            .stderr(fs::File::create(files.path().join("console"))?);
        Ok(Self {
            address,
            _process: Process::serve(&mut command, address)?,
            files,
        })
    }

    /// Sends so many messages and waits until it has delivered them all.
    pub fn relay(&self, sessions: u32, mail: &Rc<Mail>, count: u32) -> Result<Duration> {
        let before = self.delivered();
        let start = Instant::now();
        load::send(self.address, sessions, mail, count)?;
        while self.delivered() < before + count as usize {
            ensure!(start.elapsed() < RUN_LIMIT, "Postfix does not deliver");
            sleep(Duration::from_millis(20));
        }
        Ok(start.elapsed())
    }

    /// Messages the sink has taken from it, by its log.
    fn delivered(&self) -> usize {
        let log = self.files.path().join("var/log/mail.log");
        let log = fs::read(log).unwrap_or_default();
        memchr::memmem::find_iter(&log, b"status=sent").count()
    }
}
