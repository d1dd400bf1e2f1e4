//! `hoptrail serve`: a configuration made into a running hop.

mod claim;
mod reload;
mod state;

use std::collections::HashMap;
use std::future::pending;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Handle};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, watch};
use tokio::task::{JoinHandle, JoinSet};
use tracing::{error, info, warn};

use self::reload::taken_over;
use self::state::{Opening, State};
use super::said;
use crate::clock::Clock;
use crate::config::{self, Config, Places, Reports};
use crate::hop::listener::{self, Listener, serve};
use crate::hop::route::Names;
use crate::hop::workers::Workers;
use crate::hop::{Budgets, Crowd, Hop, Site, Tracking, held};
use crate::observe::log;
use crate::report::sign::sign;
use crate::report::{Mailing, notification, write_together};
use crate::store::mailer;
use crate::store::transport::Transport;
use crate::track::{Form, Role, Step};

/// How long the mailer has to finish the report in its hands when the hop stops.
const MAILER_LAST: Duration = Duration::from_secs(5);

/// Stand around an MTA and report each step of tracked mail.
#[derive(clap::Args)]
pub struct Args {
    /// The configuration file (TOML); every key is described in examples/hoptrail.toml
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Say whether the configuration is one to start or reload with, and touch nothing; exit code 0 if it is, 1 if not
    #[arg(long)]
    check: bool,
}

/// Runs until it is told to stop. What keeps it from starting ends with exit code 2, and is told behind what was logged.
pub fn run(args: &Args) -> ExitCode {
    if args.check {
        return check(&args.config);
    }
    log::start();
    run_until_told(&args.config).unwrap_or_else(|error| {
        log::say(&said(&format!("{error:#}")));
        ExitCode::from(2)
    })
}

/// Runs until SIGTERM or SIGINT; SIGHUP reads the configuration again. A broken configuration is an error before a port
/// is opened.
fn run_until_told(path: &Path) -> anyhow::Result<ExitCode> {
    let config = config::load(path)?;
    // The mailer lives here; sessions have threads of their own.
    let runtime = Builder::new_current_thread().enable_all().build()?;
    runtime.spawn(log::catch_up());
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut hangup = signal(SignalKind::hangup())?;
        let mut server = Server::start(config, Clock::system())?;
        loop {
            tokio::select! {
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                _ = hangup.recv() => {
                    reload(&mut server, path);
                    server.try_state();
                }
                () = server.state_opened() => {}
            }
        }
        info!("stopping");
        server.stop().await;
        Ok(ExitCode::SUCCESS)
    })
}

/// As a start or a reload reads it. Ports and state are for the running hop to find out about.
fn check(path: &Path) -> ExitCode {
    let read = config::load(path).map_err(anyhow::Error::from);
    let checked = read.and_then(|config| have_names(&Names::new(config.resolver), &config));
    let (words, code) = match checked {
        Ok(()) => (format!("{}: ok", path.display()), ExitCode::SUCCESS),
        Err(why) => (format!("{why:#}"), ExitCode::FAILURE),
    };
    log::say(&said(&words));
    code
}

fn reload(server: &mut Server, path: &Path) {
    let done = match config::load(path) {
        Ok(config) => server.reload(config),
        Err(error) => Err(error.into()),
    };
    match done {
        Ok(Ports { opened, closed }) => info!(
            config = %path.display(),
            opened = listed(&opened),
            closed = listed(&closed),
            "configuration reloaded"
        ),
        Err(error) => error!("reload refused, THE OLD CONFIGURATION STAYS: {error:#}"),
    }
}

/// The addresses that a reload began and ceased to listen on.
#[derive(Default)]
pub struct Ports {
    opened: Vec<SocketAddr>,
    closed: Vec<SocketAddr>,
}

fn listed(addresses: &[SocketAddr]) -> String {
    let all: Vec<_> = addresses.iter().map(ToString::to_string).collect();
    all.join(" ")
}

/// A running hop.
pub struct Server {
    /// What it was started with, or last reloaded.
    config: Config,
    /// In whose name the mailer writes.
    letterhead: watch::Sender<Reports>,
    clock: Clock,
    /// The way out of reports.
    transport: Transport,
    /// Filled as soon as the state is open.
    tracking: Arc<OnceLock<Tracking>>,
    /// The state, if it is open: nobody else's as long as this runs.
    state: Option<State>,
    /// How it is opened, if it is not.
    opening: Option<Opening>,
    stop: watch::Sender<bool>,
    /// Rung when that has been told.
    bell: Arc<Notify>,
    /// The threads of all sessions.
    workers: Arc<Workers>,
    /// Those of the start.
    names: Arc<Names>,
    /// Shared by what was configured before a reload and after.
    crowd: Crowd,
    /// As is this.
    budgets: Budgets,
    /// Each listener by its address; who drops the sender closes the socket.
    sites: HashMap<SocketAddr, watch::Sender<Arc<Site>>>,
    /// The same listeners, for the watch over what does not leave.
    watched: watch::Sender<Vec<Arc<Site>>>,
    listeners: JoinSet<()>,
    mailer: Option<JoinHandle<()>>,
}

impl Server {
    /// Opens the state, then every port, then serves. A port that cannot be opened is an error, and so is a state
    /// directory that another hoptrail uses; one of no use costs tracking, not mail, until it is. Called inside a
    /// runtime, where the mailer will live.
    pub fn start(config: Config, clock: Clock) -> anyhow::Result<Self> {
        let mut state = State::of(&config);
        let opened = match state.open() {
            Err(taken) if taken.is_anothers() => bail!("{}: {taken}", config.places.state_dir()),
            tried => tried.inspect_err(|why| state.say(why)),
        };
        let names = Names::new(config.resolver);
        have_names(&names, &config)?;
        let workers = Arc::new(Workers::start().context("cannot start threads")?);
        let addresses = config.listeners.iter().map(|listener| listener.listen);
        let sockets = bind(addresses, &config.places, &workers)?;
        let transport = transport(&config)?;
        let (stop, stopping) = watch::channel(false);
        let (watched, sites) = watch::channel(Vec::new());
        tokio::spawn(held::run(sites, stopping));
        let mut server = Self {
            letterhead: watch::Sender::new(config.reports.clone()),
            config,
            transport,
            workers,
            names: Arc::new(names),
            crowd: Crowd::default(),
            budgets: Budgets::default(),
            clock,
            tracking: Arc::default(),
            state: None,
            opening: None,
            stop,
            bell: Arc::default(),
            sites: HashMap::new(),
            watched,
            listeners: JoinSet::new(),
            mailer: None,
        };
        match opened {
            Ok(tracking) => server.track(tracking, state),
            Err(why) => server.opening = Some(Opening::begin(state, why)?),
        }
        server.serve(sockets);
        Ok(server)
    }

    /// From now on what is asked for is tracked, and reports are mailed.
    fn track(&mut self, tracking: Tracking, state: State) {
        self.mailer = Some(tokio::spawn(mailer::run(
            tracking.store.clone(),
            self.transport.clone(),
            composer(self.letterhead.subscribe()),
            self.clock,
            self.stop.subscribe(),
        )));
        self.state = Some(state);
        // There is none yet: it is opened once.
        let _ = self.tracking.set(tracking);
    }

    /// Ready when the state is open that was of no use at the start, with tracking begun; never where it was of use.
    async fn state_opened(&mut self) {
        let Some(opening) = &mut self.opening else {
            return pending().await;
        };
        let opened = opening.opened().await;
        self.opening = None;
        if let Some((tracking, state)) = opened {
            self.track(tracking, state);
        }
    }

    /// Has the state tried at once that was of no use at the start.
    fn try_state(&self) {
        if let Some(opening) = &self.opening {
            opening.try_now();
        }
    }

    /// Takes over a new configuration whole or, if it cannot be, not at all. Sessions that are open go on as
    /// they began. The store and the way out of reports are those of the start.
    pub fn reload(&mut self, config: Config) -> anyhow::Result<Ports> {
        let tracking = match self.state.as_ref().zip(self.tracking.get()) {
            Some((state, running)) => Arc::new(state.read_again(running)?.into()),
            None => Arc::clone(&self.tracking),
        };
        have_names(&self.names, &config)?;
        let new = config.listeners.iter().map(|listener| listener.listen);
        let new = new.filter(|listen| !self.sites.contains_key(listen));
        let sockets = bind(new, &config.places, &self.workers)?;
        let (config, waiting) = taken_over(&self.config, config);
        if !waiting.is_empty() {
            warn!(
                keys = waiting.join(", "),
                "changed, and taken over at the next restart only"
            );
        }
        self.config = config;
        self.tracking = tracking;
        self.letterhead.send_replace(self.config.reports.clone());
        Ok(self.serve(sockets))
    }

    /// Gives each listener its newest settings, starts those in `sockets`, and closes those that are no longer
    /// configured.
    fn serve(&mut self, mut sockets: Sockets) -> Ports {
        let config = &self.config;
        let hop = Arc::new(Hop {
            reports_arrivals: config.reports_arrivals(),
            held_after: config.held_after(),
            names: Arc::clone(&self.names),
            crowd: self.crowd.clone(),
            budgets: self.budgets.clone(),
            hostname: config.hostname.clone(),
            organisation: config.organisation.clone(),
            reports_from: config.reports.from.clone(),
            clock: self.clock,
            tracking: Arc::clone(&self.tracking),
            limits: config.limits,
            timeouts: config.timeouts,
            stopping: self.stop.subscribe(),
            bell: Arc::clone(&self.bell),
        });
        let site = |listener: &Listener| Arc::new(Site::new(Arc::clone(&hop), listener.clone()));
        let sites: Vec<_> = config.listeners.iter().map(site).collect();
        self.watched.send_replace(sites.clone());
        let mut before = std::mem::take(&mut self.sites);
        let mut ports = Ports::default();
        for site in sites {
            let listen = site.listener.listen;
            if let Some(running) = before.remove(&listen) {
                running.send_replace(site);
                self.sites.insert(listen, running);
            } else if let Some((socket, worker)) = sockets.remove(&listen) {
                say_serving(&site);
                let (sender, receiver) = watch::channel(site);
                self.sites.insert(listen, sender);
                let serving = serve(socket, receiver, Arc::clone(&self.workers));
                self.listeners.spawn_on(serving, &worker);
                ports.opened.push(listen);
            }
        }
        for listen in before.into_keys() {
            info!(%listen, "no longer served, open sessions go on");
            ports.closed.push(listen);
        }
        ports
    }

    /// Lets sessions end, then the mailer.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        self.bell.notify_waiters();
        while self.listeners.join_next().await.is_some() {}
        if let Some(mailer) = self.mailer {
            // What it did not get to stays in the outbox for the next start.
            let _ = tokio::time::timeout(MAILER_LAST, mailer).await;
        }
    }
}

/// A hop that has to ask name servers does not start without them.
fn have_names(names: &Names, config: &Config) -> anyhow::Result<()> {
    let asks =
        |listener: &Listener| listener.routes.ask_names() || listener.policy.allows_strangers();
    if config.listeners.iter().any(asks) {
        names.resolver().map_err(|why| {
            let key = config.places.key("resolver");
            anyhow::anyhow!("{key}: no name servers: {why}; set resolver = \"ADDRESS:53\"")
        })?;
    }
    Ok(())
}

fn say_serving(site: &Site) {
    info!(
        hop = %site.hop.hostname,
        role = site.listener.role.as_str(),
        listen = %site.listener.listen,
        next_hop = %site.listener.routes.default,
        "serving"
    );
    if site.listener.role == Role::Ingress && site.listener.policy.allow.is_empty() {
        warn!(
            listen = %site.listener.listen,
            "nobody may ask for tracking here: allow in [policy] names nobody"
        );
    }
}

/// Open listening sockets, each with the worker it belongs to.
type Sockets = HashMap<SocketAddr, (TcpListener, Handle)>;

/// `places` are those of the configuration, for whoever has to change one.
fn bind(
    addresses: impl Iterator<Item = SocketAddr>,
    places: &Places,
    workers: &Workers,
) -> anyhow::Result<Sockets> {
    let mut sockets = Sockets::new();
    for listen in addresses {
        let worker = workers.next();
        let socket = listener::open(listen, worker).map_err(|why| {
            let key = places.listen(listen);
            anyhow::anyhow!("{key}: cannot listen on {listen}: {why}{}", cure(&why))
        })?;
        sockets.insert(listen, (socket, worker.clone()));
    }
    Ok(sockets)
}

/// What to do about a port that cannot be opened.
fn cure(why: &io::Error) -> &'static str {
    match why.kind() {
        ErrorKind::AddrInUse => {
            "; another program has this port, or another listener of this file: `ss -ltnp` shows programs and ports"
        }
        ErrorKind::AddrNotAvailable => {
            "; this machine has no such address: `ip address` shows those it has"
        }
        ErrorKind::PermissionDenied => {
            "; ports below 1024 are root's: start as root, or give hoptrail CAP_NET_BIND_SERVICE"
        }
        _ => "",
    }
}

/// The way out of reports; one that is of no use yet is said to be.
fn transport(config: &Config) -> anyhow::Result<Transport> {
    let key = config.places.key("reports.via");
    let transport = Transport::new(config.reports.via.clone(), &config.hostname)
        .with_context(|| format!("{key}: no TLS on this system"))?;
    if let Err(why) = transport.prepare() {
        warn!(
            "mail passes, REPORTS WAIT until this is mended: {key}: no Maildir can be made: {why}"
        );
    }
    Ok(transport)
}

/// How stored steps that share a mail become one: composed and signed when it is sent, not before.
fn composer(
    letterhead: watch::Receiver<Reports>,
) -> impl Fn(&[&Step], i64) -> Vec<u8> + Send + Sync + 'static {
    move |steps, now_us| {
        let Some(step) = steps.first() else {
            return Vec::new();
        };
        let Reports { from, dkim, .. } = &*letterhead.borrow();
        // A boundary nobody can guess cannot be written into a report's text. Without randomness the
        // step id still keeps reports apart.
        let random = getrandom::u64().unwrap_or(step.report.step.0);
        let mailing = Mailing {
            from,
            to: &step.originator,
            date_us: now_us,
            certificate: step.certificate.as_ref(),
            received: step.received.as_deref(),
            boundary: &format!("hoptrail{random:016x}"),
        };
        let mail = if let Some(Form::Notification { envid }) = &step.told {
            notification::write(&step.report, envid.as_deref(), &mailing)
        } else {
            let reports = steps.iter().map(|step| step.disclosed().into_owned());
            write_together(&reports.collect::<Vec<_>>(), &mailing)
        };
        sign(&mail, dkim, now_us).unwrap_or_else(|error| {
            error!(step = %step.report.step, "a report goes out unsigned: {error}");
            mail
        })
    }
}
