//! The state of a hop: its directory claimed, the carry keys and the store in it opened; and when that is tried again
//! where it is of no use at the start. What may pass by itself (a full disk, somebody's lock) is tried again and again;
//! what only a person can mend, such as a file of another kind, when that person says so.
//!
//! Must not know what the state is good for, nor who waits for it.

use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

use anyhow::Context;
use thiserror::Error;
use tokio::sync::oneshot;
use tracing::{error, info, warn};

use super::claim::{self, Claim, ClaimError};
use crate::config::Config;
use crate::hop::{Arriving, Tracking};
use crate::store::keys::{self, KeysError};
use crate::store::{Store, StoreError};

/// The first wait after a trial that failed; each further one is twice as long, so that the state is of use again for no
/// longer than it was of none before that is found. A trial may write much before it fails: an old store is rewritten.
const PAUSE_FIRST: Duration = Duration::from_secs(1);
/// The longest wait.
const PAUSE_LONGEST: Duration = Duration::from_mins(1);

/// Where the state lies. It is nobody else's from the first trial that got so far until this is dropped.
pub struct State {
    directory: PathBuf,
    retention_days: u32,
    /// The key of the directory, as errors of the configuration begin.
    key: String,
    claim: Option<Claim>,
}

/// Why the state is of no use.
#[derive(Debug, Error)]
pub enum StateError {
    /// The directory.
    #[error(transparent)]
    Claim(#[from] ClaimError),
    /// The carry keys.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl StateError {
    /// Whether another hoptrail has the directory.
    pub fn is_anothers(&self) -> bool {
        matches!(self, Self::Claim(ClaimError::Taken(_)))
    }

    /// Whether it may be of use again without anybody doing anything to what lies there.
    fn may_pass(&self) -> bool {
        match self {
            Self::Claim(error) => !matches!(error, ClaimError::NoDirectory(_)),
            Self::Keys(error) => error.may_pass(),
            Self::Store(error) => error.may_pass(),
        }
    }

    /// What ends it.
    fn end(&self) -> &'static str {
        if self.may_pass() {
            "this is over, which is looked for"
        } else {
            "this is mended and hoptrail restarted, or sent SIGHUP"
        }
    }
}

impl State {
    /// As it is configured; nothing is touched.
    pub fn of(config: &Config) -> Self {
        Self {
            directory: config.state_dir.clone(),
            retention_days: config.reports.retention_days,
            key: config.places.state_dir(),
            claim: None,
        }
    }

    /// Opens it.
    pub fn open(&mut self) -> Result<Tracking, StateError> {
        // The directory may be another one than at the last trial: file systems are mounted late.
        drop(self.claim.take());
        self.claim = Some(Claim::on(&self.directory)?);
        let keys = keys::load_or_create(&self.directory)?;
        let store = Store::open(&self.directory, self.retention_days)?;
        if claim::is_open_to_others(&self.directory) {
            let (directory, key) = (self.directory.display(), &self.key);
            warn!(
                state_dir = %directory,
                "others may read or change what lies there, reports and keys: {key}: chmod 700 {directory}"
            );
        }
        Ok(Tracking::new(store, keys, Arriving::default()))
    }

    /// The same with the keys that are there now.
    pub fn read_again(&self, tracking: &Tracking) -> Result<Tracking, KeysError> {
        let keys = keys::load_or_create(&self.directory)?;
        let (store, arriving) = (tracking.store.clone(), tracking.arriving.clone());
        Ok(Tracking::new(store, keys, arriving))
    }

    /// Raises the alarm.
    pub fn say(&self, why: &StateError) {
        let (key, end) = (&self.key, why.end());
        error!(
            state_dir = %self.directory.display(),
            "mail passes, NOTHING IS TRACKED until {end}: {key}: {why}"
        );
    }

    /// Opens it as soon as that can be. Tries when it is time, and when it is `told` to; `None` if nobody can tell it
    /// any more. What keeps it from that is said when it is another thing than before, and to who told it to try.
    fn open_at_last(
        mut self,
        mut why: StateError,
        told: &Receiver<()>,
    ) -> Option<(Tracking, Self)> {
        let mut pause = PAUSE_FIRST;
        loop {
            let wait = if why.may_pass() { pause } else { Duration::MAX };
            let asked = match told.recv_timeout(wait) {
                Ok(()) => true,
                Err(RecvTimeoutError::Timeout) => false,
                Err(RecvTimeoutError::Disconnected) => return None,
            };
            pause = (2 * pause).min(PAUSE_LONGEST);
            let before = why.to_string();
            why = match self.open() {
                Ok(tracking) => {
                    info!(state_dir = %self.directory.display(), "from now on mail is tracked");
                    return Some((tracking, self));
                }
                Err(why) => why,
            };
            if asked || why.to_string() != before {
                self.say(&why);
            }
        }
    }
}

/// The opening of a state that was of no use at the start, in a thread of its own.
pub struct Opening {
    now: Sender<()>,
    opened: oneshot::Receiver<(Tracking, State)>,
}

impl Opening {
    /// Begins it, where the first trial has ended so. It ends when this is dropped.
    pub fn begin(state: State, why: StateError) -> anyhow::Result<Self> {
        let (now, told) = mpsc::channel();
        let (opens, opened) = oneshot::channel();
        thread::Builder::new()
            .name("state".to_owned())
            .spawn(move || {
                if let Some(open) = state.open_at_last(why, &told) {
                    // Where hoptrail stops meanwhile, nobody takes it.
                    let _ = opens.send(open);
                }
            })
            .context("cannot start a thread")?;
        Ok(Self { now, opened })
    }

    /// Has it tried at once.
    pub fn try_now(&self) {
        // A thread that is gone has nothing to try.
        let _ = self.now.send(());
    }

    /// The state and what it is good for, when it is open; `None` if it never will be.
    pub async fn opened(&mut self) -> Option<(Tracking, State)> {
        (&mut self.opened).await.ok()
    }
}
