//! `hoptrail demo`: the real proxy around three toy MTAs on loopback, the real `send`, the real reader.
//! No configuration, no root, nothing left running; the mailbox stays for a look.

mod mta;

use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use jiff::tz::TimeZone;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::process::Command;

use super::secret;
use super::serve::Server;
use crate::clock::Clock;
use crate::config;
use crate::track::Secret;
use crate::trail::render::{View, terminal};
use crate::trail::{Outcome, Trails, load, state};

/// The hops, and how far their clocks are off, µs.
const HOPS: [(&str, i64); 3] = [
    ("mail.origin.example", 0),
    ("gateway.example.net", 7_300_000),
    ("mx.dest.example", 0),
];
const STORE: &str = "store.dest.example";
const SLOW: &str = "carol@dest.example";
/// The demo gives up after this; it usually takes two seconds.
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
        "Three hops on this machine, hoptrail around a toy MTA at each:\n  {}\n\
         {SLOW} will have to wait once; the clock of {} is {:.1} s fast.\n\n\
         $ hoptrail send --server {entrance} -t < message\n",
        HOPS.map(|(name, _)| name).join(" -> "),
        HOPS[1].0,
        micros_as_s(HOPS[1].1),
    ));
    submit(&home, entrance).await?;
    let secret = secret::load_from(&home.join("secret"))?.context("send makes the secret")?;
    let trails = watch(&maildir, &secret).await?;
    for server in servers {
        server.stop().await;
    }
    let id = trails
        .messages
        .first()
        .map(|m| m.id.to_string())
        .unwrap_or_default();
    say(&format!(
        "Done in {:.1} s. The reports are mails in {}; look for yourself:\n\n\
         \x20 hoptrail timeline --secret {home}/secret {home}/Maildir\n\
         \x20 hoptrail timeline --secret {home}/secret {home}/Maildir {id}\n",
        started.elapsed().as_secs_f64(),
        maildir.display(),
        home = home.display(),
    ));
    let delivered = trails
        .messages
        .iter()
        .all(|m| state::outcome(&m.recipients) == Outcome::Delivered);
    Ok(ExitCode::from(u8::from(
        !delivered || trails.messages.is_empty(),
    )))
}

fn micros_as_s(us: i64) -> f64 {
    Duration::from_micros(us.unsigned_abs()).as_secs_f64()
}

/// A directory of the demo's own, for the mailbox, the secret and the hops' state.
fn make_home() -> anyhow::Result<PathBuf> {
    let home = std::env::temp_dir().join(format!("hoptrail-demo-{:08x}", getrandom::u32()?));
    for part in ["", "Maildir", "Maildir/new", "Maildir/cur", "Maildir/tmp"] {
        let path = home.join(part);
        std::fs::create_dir(&path).with_context(|| format!("cannot make {}", path.display()))?;
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
    for (name, offset_us) in HOPS.into_iter().rev() {
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
        servers.push(Server::start(config, Clock::shifted(offset_us))?);
        tokio::spawn(mta::relay(mta_socket, name, departure_at));
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
    say(said.lines().next().unwrap_or_default());
    say("");
    Ok(())
}

/// Shows the timeline each time a report has arrived, until everybody has the message.
async fn watch(maildir: &Path, secret: &Secret) -> anyhow::Result<Trails> {
    let started = Instant::now();
    let (mut seen, mut drawn_lines) = (0, 0);
    loop {
        let trails = load(maildir, Some(secret))?;
        if trails.counts.reports > seen {
            seen = trails.counts.reports;
            drawn_lines = draw(&trails, seen, started.elapsed(), drawn_lines);
        }
        let done = |t: &Trails| {
            t.messages
                .iter()
                .all(|m| state::outcome(&m.recipients) == Outcome::Delivered)
        };
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

/// Draws the timeline, on a terminal over the one drawn before; returns its lines.
fn draw(trails: &Trails, reports: usize, after: Duration, drawn_lines: usize) -> usize {
    let view = View {
        now_us: Clock::system().now_us(),
        zone: TimeZone::system(),
    };
    let plural = if reports == 1 { "" } else { "s" };
    let mut text = format!(
        "-- {:.2} s after submission, {reports} report{plural} --\n",
        after.as_secs_f64()
    );
    for message in &trails.messages {
        text.push_str(&terminal::message(message, &view));
    }
    if std::io::stdout().is_terminal() && drawn_lines > 0 {
        say(&format!("\x1b[{}A\x1b[J{text}", drawn_lines + 1));
    } else {
        say(&text);
    }
    text.lines().count()
}

/// Tells the person at the terminal; nobody reading is no reason to stop.
fn say(text: &str) {
    let _ = writeln!(anstream::stdout(), "{text}");
}
