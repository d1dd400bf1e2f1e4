//! Reports that stay on this host: the sendmail command, and a Maildir for try-outs. Both take local line
//! ends.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::process::{Output, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::time::timeout;

use super::via::Failure;

/// For the sendmail command to take a report.
const SENDMAIL_SECONDS: u64 = 300;

/// Exit codes (sysexits.h) that say the recipient or the mail is at fault: data, user, host.
const FOR_GOOD: [i32; 3] = [65, 67, 68];

pub(super) async fn sendmail(program: &Path, recipient: &str, mail: &[u8]) -> Result<(), Failure> {
    let run = timeout(
        Duration::from_secs(SENDMAIL_SECONDS),
        feed(program, recipient, mail),
    );
    let output = match run.await {
        Ok(Ok(output)) => output,
        Ok(Err(cause)) => return Err(Failure::Later(format!("{}: {cause}", program.display()))),
        Err(_) => {
            let reason = format!("sendmail did not end within {SENDMAIL_SECONDS} seconds");
            return Err(Failure::Later(reason));
        }
    };
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let reason = format!("sendmail: {}: {}", output.status, said.trim());
    match output.status.code() {
        Some(code) if FOR_GOOD.contains(&code) => Err(Failure::Never(reason)),
        _ => Err(Failure::Later(reason)),
    }
}

async fn feed(program: &Path, recipient: &str, mail: &[u8]) -> io::Result<Output> {
    let mut child = Command::new(program)
        .args(["-i", "-f", "<>", "--", recipient])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let text = local_lines(mail);
    let input = child.stdin.take();
    let write = async move {
        match input {
            Some(mut input) => input.write_all(&text).await,
            None => Ok(()),
        }
    };
    // Both at once, or a command that talks before it has read everything would block us both. One that
    // ends without reading says why by its exit code, which outranks our broken pipe.
    let (written, output) = tokio::join!(write, child.wait_with_output());
    let output = output?;
    if output.status.success() {
        written?;
    }
    Ok(output)
}

pub(super) async fn maildir(directory: &Path, mail: Vec<u8>) -> Result<(), Failure> {
    let place = directory.to_owned();
    let stored = tokio::task::spawn_blocking(move || deliver(&place, &local_lines(&mail))).await;
    let stored = stored.unwrap_or_else(|e| Err(io::Error::other(e)));
    stored.map_err(|cause| Failure::Later(format!("{}: {cause}", directory.display())))
}

/// Makes a Maildir, as far as it is not there.
pub(super) fn make_maildir(directory: &Path) -> io::Result<()> {
    let mut folders = ["tmp", "new", "cur"].into_iter();
    folders.try_for_each(|folder| fs::create_dir_all(directory.join(folder)))
}

/// The Maildir way: written and synced in `tmp`, then renamed into `new`, and the rename synced too.
fn deliver(directory: &Path, text: &[u8]) -> io::Result<()> {
    make_maildir(directory)?;
    let name = unique_name();
    let unfinished = directory.join("tmp").join(&name);
    let written = write_new(&unfinished, text)
        .and_then(|()| fs::rename(&unfinished, directory.join("new").join(&name)));
    if let Err(cause) = written {
        // Whatever stands in tmp is nobody's; a reader never looks there.
        let _ = fs::remove_file(&unfinished);
        return Err(cause);
    }
    File::open(directory.join("new"))?.sync_all()
}

fn write_new(path: &Path, text: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
    file.write_all(text)?;
    file.sync_all()
}

/// Seconds, then microseconds, process and count, then the host: unique by the Maildir convention.
fn unique_name() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let host = hostname::get().unwrap_or_else(|_| "localhost".into());
    format!(
        "{}.M{}P{}Q{}.{}",
        since.as_secs(),
        since.subsec_micros(),
        std::process::id(),
        COUNT.fetch_add(1, Ordering::Relaxed),
        host.to_string_lossy()
            .replace('/', "\\057")
            .replace(':', "\\072")
    )
}

fn local_lines(mail: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(mail.len());
    for (at, &octet) in mail.iter().enumerate() {
        if !(octet == b'\r' && mail.get(at + 1) == Some(&b'\n')) {
            text.push(octet);
        }
    }
    text
}
