//! `hoptrail demo`: the real proxy around three toy MTAs on loopback, the real `send`, the real reader.
//! No configuration, no root, nothing left running; the mailbox stays for a look.

mod mta;

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::process::Command;

use self::mta::Mta;
use super::screen::Screen;
use super::serve::Server;
use super::{print, secret, view};
use crate::clock::Clock;
use crate::config;
use crate::track::Secret;
use crate::trail::render::format::plain;
use crate::trail::render::terminal;
use crate::trail::{Outcome, Trails, load};

/// The hops.
const HOPS: [Mta; 3] = [
    Mta {
        name: "mail.origin.example",
        dwell: Duration::from_millis(300),
        first_id: 0x4C_21F0,
    },
    Mta {
        name: GATEWAY,
        dwell: Duration::from_millis(900),
        first_id: 0x9B_03A7,
    },
    Mta {
        name: "mx.dest.example",
        dwell: Duration::from_millis(200),
        first_id: 0xE5_1D2C,
    },
];
/// The hop whose clock is off, and how far.
const GATEWAY: &str = "gateway.example.net";
const FAST: Duration = Duration::from_millis(7300);
const STORE: &str = "store.dest.example";
const SLOW: &str = "carol@dest.example";
/// The demo gives up after this; it usually takes three seconds.
const PATIENCE: Duration = Duration::from_secs(9);
/// How often the mailbox is looked at.
const LOOK: Duration = Duration::from_millis(50);

const MESSAGE: &str = "\
From: Alice <alice@origin.example>
To: Bob <bob@dest.example>, Carol <carol@dest.example>
Subject: Where is this mail?

Every hop will tell.
";

/// Runs the demo. Exit code 0 when both recipients have the message.
pub async fn run() -> anyhow::Result<ExitCode> {
    let started = Instant::now();
    let home = make_home()?;
    let maildir = home.join("Maildir");
    let (servers, entrance) = start_hops(&home, &maildir).await?;
    say(&format!(
        "Three toy mail servers on this machine, hoptrail around each of them:\n  {}\n\
         {SLOW} will have to wait once; the clock of {GATEWAY} is\n\
         {:.1} s fast. Alice sends a message to both of her friends there:\n\n\
         $ hoptrail send --server {entrance} -t < message\n",
        HOPS.map(|mta| mta.name).join(" -> "),
        FAST.as_secs_f64(),
    ))?;
    submit(&home, entrance).await?;
    let secret = secret::load_from(&home.join("secret"))?.context("send makes the secret")?;
    let trails = watch(&maildir, &secret).await?;
    for server in servers {
        server.stop().await;
    }
    let id = trails
        .messages
        .first()
        .map(|m| shell(Path::new(m.id.as_str())))
        .unwrap_or_default();
    let us = shell(&me()?);
    let home = shell(&home);
    say(&format!(
        "Done in {:.1} s. Each report is a mail in {home}/Maildir.\nLook for yourself:\n\n\
         \x20 {us} timeline --secret {home}/secret {home}/Maildir\n\
         \x20 {us} timeline --secret {home}/secret {home}/Maildir {id}\n\n\
         and when you have seen enough: rm -r {home}",
        started.elapsed().as_secs_f64(),
    ))?;
    let delivered = trails
        .messages
        .iter()
        .all(|m| m.outcome() == Outcome::Delivered);
    Ok(ExitCode::from(u8::from(
        !delivered || trails.messages.is_empty(),
    )))
}

/// How to call this program: by its name if the shell finds it by that, else by its path.
fn me() -> anyhow::Result<PathBuf> {
    let path = std::env::current_exe()?.canonicalize()?;
    let name = Path::new("hoptrail");
    let dirs = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&dirs)
        .map(|dir| dir.join(name))
        .find(|file| file.is_file());
    if found.is_some_and(|file| file.canonicalize().is_ok_and(|file| file == path)) {
        return Ok(name.to_owned());
    }
    let here = std::env::current_dir().and_then(|dir| dir.canonicalize());
    let below = here.ok().and_then(|dir| path.strip_prefix(dir).ok());
    Ok(below.map_or_else(|| path.clone(), |below| Path::new(".").join(below)))
}

/// A path as a shell takes it.
fn shell(path: &Path) -> String {
    let text = plain(&path.display().to_string());
    let harmless = |c: char| c.is_alphanumeric() || "/._-@+:".contains(c);
    if text.chars().all(harmless) {
        text
    } else {
        format!("'{}'", text.replace('\'', "'\\''"))
    }
}

/// A directory of the demo's own, for the mailbox, the secret and the hops' state. Nobody else's
/// business.
fn make_home() -> anyhow::Result<PathBuf> {
    let home = std::env::temp_dir().join(format!("hoptrail-demo-{:08x}", getrandom::u32()?));
    for part in ["", "Maildir", "Maildir/new", "Maildir/cur", "Maildir/tmp"] {
        let path = home.join(part);
        let made = std::fs::DirBuilder::new().mode(0o700).create(&path);
        made.with_context(|| format!("cannot make {}", path.display()))?;
    }
    Ok(home)
}

/// Starts the mail store and, from the last to the first, the hops; returns where mail is submitted.
async fn start_hops(home: &Path, maildir: &Path) -> anyhow::Result<(Vec<Server>, SocketAddr)> {
    let (socket, store_at) = port().await?;
    tokio::spawn(mta::store(socket, STORE, SLOW));
    let mut next_hop = format!("lmtp://{store_at}");
    let mut role = "delivery";
    let mut servers = Vec::new();
    let mut entrance = store_at;
    for mta in HOPS.into_iter().rev() {
        let name = mta.name;
        let (mta_socket, mta_at) = port().await?;
        // Freed at once, and taken again by the hop a moment later.
        let (ingress_at, departure_at) = (port().await?.1, port().await?.1);
        let text = format!(
            "hostname = '{name}'\nstate_dir = '{home}/{name}'\n\
             [reports]\nfrom = 'hoptrail@{name}'\nvia = 'maildir:{maildir}'\n\
             [[listener]]\nrole = 'ingress'\nlisten = '{ingress_at}'\nprotocol = 'smtp'\nnext_hop = 'smtp://{mta_at}'\n\
             [[listener]]\nrole = '{role}'\nlisten = '{departure_at}'\nprotocol = 'lmtp'\nnext_hop = '{next_hop}'\n",
            home = home.display(),
            maildir = maildir.display(),
        );
        let config = config::parse(&text, "the demo's configuration")?;
        let clock = if name == GATEWAY {
            Clock::shifted(i64::try_from(FAST.as_micros())?)
        } else {
            Clock::system()
        };
        servers.push(Server::start(config, clock)?);
        tokio::spawn(mta::relay(mta_socket, mta, departure_at));
        next_hop = format!("smtp://{ingress_at}");
        role = "egress";
        entrance = ingress_at;
    }
    Ok((servers, entrance))
}

async fn port() -> anyhow::Result<(TcpListener, SocketAddr)> {
    let socket = TcpListener::bind("127.0.0.1:0")
        .await
        .context("no port on loopback")?;
    let address = socket.local_addr()?;
    Ok((socket, address))
}

/// Submits the message with the real command, as a user of the demo's own.
async fn submit(home: &Path, entrance: SocketAddr) -> anyhow::Result<()> {
    let mut send = Command::new(std::env::current_exe()?)
        .args([
            "send",
            "--require-track",
            "--tls",
            "none",
            "-t",
            "--server",
            &entrance.to_string(),
        ])
        .env("HOPTRAIL_HOME", home)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot run hoptrail send")?;
    let mut stdin = send.stdin.take().context("no standard input")?;
    stdin.write_all(MESSAGE.as_bytes()).await?;
    drop(stdin);
    let output = send.wait_with_output().await?;
    ensure!(output.status.success(), "hoptrail send: {}", output.status);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    say(said.lines().next().unwrap_or_default())?;
    say("")?;
    Ok(())
}

/// Shows the timeline each time a report has arrived, until everybody has the message.
async fn watch(maildir: &Path, secret: &Secret) -> anyhow::Result<Trails> {
    let started = Instant::now();
    let mut seen = 0;
    let mut screen = Screen::default();
    loop {
        let trails = load(maildir, Some(secret))?;
        if trails.counts.reports > seen {
            seen = trails.counts.reports;
            say(&screen.next(&stage(&trails, seen, started.elapsed())))?;
        }
        let done = |t: &Trails| t.messages.iter().all(|m| m.outcome() == Outcome::Delivered);
        if seen > 0 && done(&trails) {
            return Ok(trails);
        }
        if started.elapsed() > PATIENCE {
            bail!(
                "not delivered after {} s; the mailbox is {}",
                PATIENCE.as_secs(),
                maildir.display()
            );
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// The timeline as it is now.
fn stage(trails: &Trails, reports: usize, after: Duration) -> String {
    let view = view();
    let plural = if reports == 1 { "" } else { "s" };
    let mut text = format!(
        "-- {:.2} s after submission, {reports} report{plural} --\n",
        after.as_secs_f64()
    );
    for message in &trails.messages {
        text.push_str(&terminal::message(message, &view));
    }
    text
}

/// Tells the person at the terminal; nobody reading is no reason to stop.
fn say(text: &str) -> io::Result<()> {
    print(&format!("{text}\n"))
}
