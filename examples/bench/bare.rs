//! The least that a relay can do which gives no 250 before a record is on disk: it carries octets, and holds the reply
//! to a message that asks for tracking until a group commit has been. What that costs it costs any relay on this
//! machine; what hoptrail loses beyond it is hoptrail's own.
//!
//! Knows of SMTP what our lock-step client makes of it, and nothing of hoptrail. It runs as a process of its own: this
//! program, started with [`MARK`].

use std::fs::File;
use std::io::Write;
use std::net::SocketAddrV4;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::{mem, thread};

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::{LocalSet, spawn_local, yield_now};

use crate::lab::{Lab, address};
use crate::load::runtime;
use crate::process::Process;
use crate::way::Way;

/// The argument that makes this program the relay; its addresses and its log follow.
const MARK: &str = "--bare-relay";

/// What a step takes in hoptrail's journal, octets.
const RECORD: [u8; 300] = [b'x'; 300];

/// The log is written before it is used, as a write-ahead log is that has been round once, octets.
const LOG_OCTETS: u64 = 64 << 20;

/// The relay in front of `to`.
pub fn way(lab: &Lab, to: SocketAddrV4) -> Result<Way> {
    let (address, files) = (address(), lab.scratch()?);
    let mut command = Command::new(std::env::current_exe()?);
    command
        .args([MARK, &address.to_string(), &to.to_string()])
        .arg(files.path().join("log"));
    Ok(Way {
        name: "bare",
        process: Process::serve(&mut command, address)?,
        address,
        files,
    })
}

/// Whether this process is to be the relay; then it is, until it is killed.
pub fn serve_if_asked() -> Result<bool> {
    let mut arguments = std::env::args().skip(1);
    if arguments.next().as_deref() != Some(MARK) {
        return Ok(false);
    }
    let mut next = || arguments.next().context("no argument");
    let (listen, to): (SocketAddrV4, SocketAddrV4) = (next()?.parse()?, next()?.parse()?);
    let log = Log::start(Path::new(&next()?))?;
    runtime()?.block_on(LocalSet::new().run_until(async {
        let listener = TcpListener::bind(listen).await?;
        loop {
            let (client, _) = listener.accept().await?;
            spawn_local(relay(client, to, Arc::clone(&log)));
        }
    }))
}

/// One session. It is over when either side ends it.
async fn relay(mut client: TcpStream, to: SocketAddrV4, log: Arc<Log>) -> Result<()> {
    let mut next = TcpStream::connect(to).await?;
    client.set_nodelay(true)?;
    next.set_nodelay(true)?;
    let mut octets = vec![0; 16 << 10];
    let (mut held, mut in_text) = (false, false);
    let mut read = next.read(&mut octets).await?;
    while read > 0 {
        client.write_all(&octets[..read]).await?;
        loop {
            read = client.read(&mut octets).await?;
            let said = &octets[..read];
            next.write_all(said).await?;
            if !in_text || said.ends_with(b"\r\n.\r\n") || read == 0 {
                break;
            }
        }
        if octets.starts_with(b"MAIL ") {
            held = octets[..read].windows(7).any(|part| part == b" TRACK=");
        }
        let ended = mem::take(&mut in_text);
        read = next.read(&mut octets).await?;
        in_text = octets[0] == b'3';
        if ended && held {
            log.record().await?;
        }
    }
    Ok(())
}

/// Records, each on disk before it is answered for.
struct Log {
    waiting: Mutex<Vec<oneshot::Sender<()>>>,
    wake: Condvar,
}

impl Log {
    fn start(path: &Path) -> Result<Arc<Self>> {
        let mut file = File::create(path)?;
        let zeros = vec![0; 1 << 20];
        for _ in 0..LOG_OCTETS >> 20 {
            file.write_all(&zeros)?;
        }
        file.sync_all()?;
        let log = Arc::new(Self {
            waiting: Mutex::default(),
            wake: Condvar::new(),
        });
        let writer = Arc::clone(&log);
        thread::spawn(move || writer.write(&file));
        Ok(log)
    }

    async fn record(&self) -> Result<()> {
        let (asker, written) = oneshot::channel();
        let wakes = {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.push(asker);
            waiting.len() == 1
        };
        if wakes {
            // What else is ready in this turn of the event loop comes along.
            yield_now().await;
            self.wake.notify_one();
        }
        Ok(written.await?)
    }

    /// Whatever waits, in one write and one sync, and never a wait for more.
    fn write(&self, file: &File) -> Result<()> {
        let mut at = 0;
        loop {
            let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            let waiting = self.wake.wait_while(waiting, |waiting| waiting.is_empty());
            let batch = mem::take(&mut *waiting.unwrap_or_else(PoisonError::into_inner));
            let records = RECORD.repeat(batch.len());
            if at + records.len() as u64 > LOG_OCTETS {
                at = 0;
            }
            file.write_all_at(&records, at)?;
            file.sync_data()?;
            at += records.len() as u64;
            for asker in batch {
                // Who has gone needs no answer.
                let _ = asker.send(());
            }
        }
    }
}
