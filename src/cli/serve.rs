//! `hoptrail serve`: a configuration made into a running hop.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tracing::{error, info};

use crate::clock::Clock;
use crate::config::{self, Config};
use crate::hop::listener::{self, serve};
use crate::hop::workers::Workers;
use crate::hop::{Hop, Tracking};
use crate::observe;
use crate::report::{Mailing, write};
use crate::store::transport::Transport;
use crate::store::{Store, keys, mailer};
use crate::track::Step;

/// How long the mailer has to finish the report in its hands when the hop stops.
const MAILER_LAST: Duration = Duration::from_secs(5);

/// What `serve` takes.
#[derive(clap::Args)]
pub struct Args {
    /// The configuration file (TOML); every key is described in examples/hoptrail.toml
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

/// Runs until SIGTERM or SIGINT. A broken configuration ends with exit code 2 before a port is opened.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let config = config::load(&args.config)?;
    observe::log::start();
    // The mailer lives here; sessions have threads of their own.
    let runtime = Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let server = Server::start(config, Clock::system())?;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        info!("stopping");
        server.stop().await;
        Ok(ExitCode::SUCCESS)
    })
}

/// A running hop.
pub struct Server {
    stop: watch::Sender<bool>,
    listeners: JoinSet<()>,
    mailer: Option<JoinHandle<()>>,
}

impl Server {
    /// Opens the state, then every port, then serves. Only a port that cannot be opened is an error: a state
    /// directory of no use costs tracking, not mail. Called inside a runtime, where the mailer will live.
    pub fn start(config: Config, clock: Clock) -> anyhow::Result<Self> {
        let (stop, stopping) = watch::channel(false);
        let reports_arrivals = config.reports_arrivals();
        let tracking = match open_state(&config.state_dir, config.reports.retention_days) {
            Ok(tracking) => Some(tracking),
            Err(error) => {
                error!(
                    state_dir = %config.state_dir.display(),
                    "mail passes, NOTHING IS TRACKED until this is mended and hoptrail restarted: {error:#}"
                );
                None
            }
        };
        let workers = Arc::new(Workers::start().context("cannot start threads")?);
        let mut sockets = Vec::new();
        for listener in &config.listeners {
            let worker = workers.next();
            let socket = listener::open(listener.listen, worker)
                .with_context(|| format!("cannot listen on {}", listener.listen))?;
            sockets.push((socket, worker, listener.clone()));
        }
        let transport = Transport::new(config.reports.via, &config.hostname)
            .context("reports.via: no TLS on this system")?;
        let mailer = tracking.as_ref().map(|tracking| {
            tokio::spawn(mailer::run(
                tracking.store.clone(),
                transport,
                composer(config.reports.from.clone()),
                clock,
                stopping.clone(),
            ))
        });
        let hop = Arc::new(Hop {
            reports_arrivals,
            hostname: config.hostname,
            clock,
            tracking,
            limits: config.limits,
            timeouts: config.timeouts,
            stopping,
        });
        let mut listeners = JoinSet::new();
        for (socket, worker, listener) in sockets {
            info!(
                hop = %hop.hostname,
                role = listener.role.as_str(),
                listen = %listener.listen,
                next_hop = %listener.next_hop,
                "serving"
            );
            let serving = serve(socket, Arc::clone(&hop), listener, Arc::clone(&workers));
            listeners.spawn_on(serving, worker);
        }
        Ok(Self {
            stop,
            listeners,
            mailer,
        })
    }

    /// Lets sessions end, then the mailer.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        while self.listeners.join_next().await.is_some() {}
        if let Some(mailer) = self.mailer {
            // What it did not get to stays in the outbox for the next start.
            let _ = tokio::time::timeout(MAILER_LAST, mailer).await;
        }
    }
}

fn open_state(state_dir: &Path, retention_days: u32) -> anyhow::Result<Tracking> {
    let store = Store::open(state_dir, retention_days)?;
    let keys = keys::load_or_create(state_dir)?;
    Ok(Tracking { store, keys })
}

/// How a stored step becomes a mail: composed when it is sent, not before.
fn composer(from: String) -> impl Fn(&Step, i64) -> Vec<u8> + Send + Sync + 'static {
    move |step, now_us| {
        // A boundary nobody can guess cannot be written into a report's text. Without randomness the
        // step id still keeps reports apart.
        let random = getrandom::u64().unwrap_or(step.report.step.0);
        write(
            &step.report,
            &Mailing {
                from: &from,
                to: &step.originator,
                date_us: now_us,
                certificate: step.certificate.as_ref(),
                boundary: &format!("hoptrail{random:016x}"),
            },
        )
    }
}
