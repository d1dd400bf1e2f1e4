//! Durable: the journal of steps and the outbox of reports in one `SQLite` file, and the worker that mails
//! what waits there. When [`Store::put`] says `Ok`, the step is on disk.
//!
//! One thread owns the writing connection and commits whatever waits in one transaction (group commit). On
//! the way of mail that is a row at the end of the journal; the index, the outbox, what is told once (`once`) and what
//! has come and not left (`stays`) follow a moment later, many rows at a time (`writer`), and until then the step is in
//! memory (`fresh`). A crash in between costs nothing but that work, which the next start does, and the note that a
//! report of that moment was mailed.
//!
//! Look-ups go to the memory first, then to a read-only connection of their own, because under WAL a reader
//! never waits for a commit, and an egress asks the journal in the middle of a transaction of mail.
//!
//! Must not know SMTP sessions, policy, or how a report is worded: the mailer is given a composer.

mod answer;
mod bulk;
mod bundle;
mod delays;
pub(crate) mod dialogue;
mod entry;
mod fresh;
mod journal;
pub mod keys;
mod layout;
mod lhlo;
mod local;
pub mod mailer;
mod once;
mod outage;
mod place;
pub mod private;
mod queue;
mod smtp;
mod stays;
pub mod transport;
pub mod via;
mod wal;
mod writer;

use std::collections::HashSet;
use std::error::Error;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::future::Future;
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use rusqlite::{Connection, ErrorCode, OpenFlags};
use tokio::sync::{Notify, oneshot};
use tokio::task::yield_now;

use answer::{Answer, Asker, Outcome};
use entry::{BodyError, Entry};
use fresh::{Fresh, Note};
pub use journal::{Due, DueReports};
use place::Place;
use queue::{ORDERS_MAX, Order, Queue, Work};
pub use stays::Staying;
use writer::Writer;

use crate::track::{Step, StepId};

/// The database's name in the state directory.
pub const FILE_NAME: &str = "store.sqlite";

/// How long the writer waits for another process that holds the database's lock, ms.
const BUSY_MS: u64 = 1000;

/// What became of a step that was put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    /// Remembered, and its report waits in the outbox.
    Queued,
    /// Remembered only: the step asked for no report.
    Remembered,
    /// Remembered only: all it has to tell was told before, a delay not long ago and for the same reason.
    Quiet,
}

/// Why the store could not do what was asked.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// The state directory or the file in it cannot be made, read or written.
    #[error("{path}: {cause}")]
    File {
        /// What was touched.
        path: PathBuf,
        /// What went wrong.
        cause: Arc<io::Error>,
    },
    /// The database engine says no: a full or failing disk, a damaged file, a lock held too long.
    #[error("the store's database: {0}{cure}", cure = cure(.0))]
    Database(#[from] Arc<rusqlite::Error>),
    /// A step cannot be written, or read.
    #[error("the stored step: {0}")]
    Step(Arc<dyn Error + Send + Sync>),
    /// The file was made by a later hoptrail.
    #[error("the store's database has layout {0}, which only a newer hoptrail can read")]
    Newer(i64),
    /// More orders wait than may.
    #[error("the store's queue is full ({ORDERS_MAX} orders wait)")]
    Full,
    /// The writer has stopped.
    #[error("the store has stopped")]
    Stopped,
}

impl StoreError {
    /// Whether the same may be done again without anybody doing anything to the file: it lacked space, rights, memory, or
    /// a lock that somebody held.
    pub fn may_pass(&self) -> bool {
        let Self::Database(error) = self else {
            return !matches!(self, Self::Newer(_) | Self::Step(_));
        };
        matches!(
            error.sqlite_error_code(),
            Some(
                ErrorCode::DatabaseBusy
                    | ErrorCode::DatabaseLocked
                    | ErrorCode::FileLockingProtocolFailed
                    | ErrorCode::DiskFull
                    | ErrorCode::SystemIoFailure
                    | ErrorCode::CannotOpen
                    | ErrorCode::ReadOnly
                    | ErrorCode::PermissionDenied
                    | ErrorCode::OutOfMemory
            )
        )
    }
}

/// What to do about it, where that is plain.
fn cure(error: &rusqlite::Error) -> &'static str {
    match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => {
            "; move store.sqlite out of the state directory, and the next start makes a new one (the reports that \
             wait in the old one are not mailed)"
        }
        _ => "",
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Database(Arc::new(error))
    }
}

impl From<BodyError> for StoreError {
    fn from(error: BodyError) -> Self {
        Self::Step(error.into())
    }
}

/// Resolves after the commit of what was ordered when it was made.
pub type Noted = Pin<Box<dyn Future<Output = Result<(), StoreError>> + Send>>;

/// What the store and its mailer did since the start.
#[derive(Debug, Default)]
pub struct Counters {
    /// Steps made durable.
    pub stored: AtomicU64,
    /// Steps the store refused or failed to keep. Who stops waiting for a `put` counts that here itself.
    pub lost: AtomicU64,
    /// Transactions committed; fewer than `stored` when steps come together.
    pub commits: AtomicU64,
    /// Reports handed over.
    pub sent: AtomicU64,
    /// Attempts that failed for now.
    pub deferred: AtomicU64,
    /// Reports given up and kept for a person.
    pub held: AtomicU64,
}

/// A handle to the store of one hop; clones share it. When the last is dropped, the books are brought up to
/// date and the file is closed.
#[derive(Clone, Debug)]
pub struct Store {
    path: Arc<Path>,
    shared: Arc<Shared>,
    reader: Arc<Mutex<Connection>>,
    _writer: Arc<Thread>,
}

/// The writer's thread. Dropped, it has ended.
#[derive(Debug)]
struct Thread {
    shared: Arc<Shared>,
    handle: Option<JoinHandle<()>>,
}

impl Drop for Thread {
    fn drop(&mut self) {
        self.shared.queue.close();
        if let Some(handle) = self.handle.take() {
            // It has said what there is to say.
            let _ = handle.join();
        }
    }
}

/// What the handles and the writer's thread both hold.
#[derive(Debug, Default)]
struct Shared {
    queue: Queue,
    fresh: Mutex<Fresh>,
    /// The last commit failed.
    failing: AtomicBool,
    /// The outbox may hold something to be mailed.
    outbox_waits: AtomicBool,
    /// Told when there may be more to mail than before.
    queued: Notify,
    counters: Counters,
}

impl Shared {
    fn fresh(&self) -> MutexGuard<'_, Fresh> {
        self.fresh.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store {
    /// Opens `store.sqlite` in `state_dir`, making both if need be (0700, 0600), and starts the writer.
    /// Journal rows older than `retention_days` are dropped now and then, unless their report waits.
    pub fn open(state_dir: &Path, retention_days: u32) -> Result<Self, StoreError> {
        let path = make_file(state_dir)?;
        let writing = Connection::open(&path)?;
        layout::set_up(&writing, BUSY_MS)?;
        // The directory entry of a new file is durable only after this.
        File::open(state_dir)
            .and_then(|dir| dir.sync_all())
            .map_err(|cause| file_error(state_dir, cause))?;
        let reading = Connection::open_with_flags(
            &path,
            OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX,
        )?;
        reading.busy_timeout(std::time::Duration::from_millis(BUSY_MS))?;

        let shared = Arc::new(Shared::default());
        let place = Place::of(&path).map_err(|cause| file_error(&path, cause))?;
        let mut writer = Writer::new(writing, place, Arc::clone(&shared), retention_days)?;
        writer.take_over()?;
        let handle = thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || writer.run())
            .map_err(|cause| file_error(&path, cause))?;
        Ok(Self {
            path: path.into(),
            shared: Arc::clone(&shared),
            reader: Arc::new(Mutex::new(reading)),
            _writer: Arc::new(Thread {
                shared,
                handle: Some(handle),
            }),
        })
    }

    /// Makes `step` durable and, if it is to be mailed, queues its report: `Ok` comes after the commit. Never
    /// waits for a place in the queue. The same step twice is kept once. A caller that stops waiting does not
    /// undo the order; it has to drop this, because others may learn of their puts through it.
    pub fn put(&self, step: Step) -> impl Future<Output = Result<Put, StoreError>> {
        // Written here, so that who waits does not hold the step meanwhile.
        let entry = Entry::of(step);
        async move {
            let put = self.enter(entry).await;
            if put.is_err() {
                self.shared.counters.lost.fetch_add(1, Ordering::Relaxed);
            }
            put
        }
    }

    async fn enter(&self, entry: Result<Entry, BodyError>) -> Result<Put, StoreError> {
        let work = Work::Put(entry?);
        let (asker, answered) = Asker::waiting();
        let wakes = self.shared.queue.push(Order { work, asker })?;
        if wakes {
            // What else is ready in this turn of the event loop comes along, and what is dropped still wakes.
            let _wake = Wake(&self.shared.queue);
            yield_now().await;
        }
        outcome(answered).await?.ok_or(StoreError::Stopped)
    }

    /// The step of this id, as it was put, if it is still remembered.
    pub async fn step(&self, id: StepId) -> Result<Option<Step>, StoreError> {
        let fresh = self
            .shared
            .fresh()
            .get(id)
            .map(|fact| Arc::clone(&fact.kept));
        match fresh {
            Some(kept) => Ok(Some(entry::read(&kept.body)?)),
            None => self.read(move |db| journal::step(db, id)).await,
        }
    }

    /// The messages that came before `before_ms` and were not seen leaving since for all their recipients, nor told of
    /// as that, the oldest first; at most `steps_max`.
    pub async fn staying(
        &self,
        before_ms: i64,
        steps_max: usize,
    ) -> Result<Vec<Staying>, StoreError> {
        let look = move |db: &Connection| Ok(stays::longer_than(db, before_ms, steps_max)?);
        let staying = self.read(look).await?;
        if staying.is_empty() {
            return Ok(staying);
        }
        // One may just have left.
        self.book().await?;
        self.read(look).await
    }

    /// The stay of the message that came with this step, if it is not over.
    pub async fn stay_of(&self, arrival: StepId) -> Result<Option<Staying>, StoreError> {
        self.book().await?;
        self.read(move |db| Ok(stays::of(db, arrival)?)).await
    }

    /// What a person runs in a shell to have a report tried again that was given up; it counts from the next start.
    pub fn revival(&self, step: StepId) -> String {
        format!(
            "sqlite3 '{}' \"UPDATE outbox SET held = 0, failures = 0, next_ms = 0, \
             first_ms = strftime('%s', 'now') * 1000 WHERE step = {}\"",
            self.path.display(),
            layout::key(step)
        )
    }

    /// Reports to mail at `now_ms`, those never tried first, then by the time they wait for; at most
    /// `reports_max`, none of `in_hand`.
    pub async fn due(
        &self,
        now_ms: i64,
        reports_max: usize,
        mut in_hand: HashSet<StepId>,
    ) -> Result<DueReports, StoreError> {
        let mut fresh = self.shared.fresh().due(reports_max, &in_hand);
        let outbox_waits = self.shared.outbox_waits.load(Ordering::Acquire);
        if outbox_waits {
            // Neither is to starve the other.
            fresh.truncate(reports_max.div_ceil(2));
        }
        in_hand.extend(fresh.iter().map(|fact| fact.kept.id));
        let mut reports: Vec<Due> = fresh.into_iter().map(Due::from).collect();
        if !outbox_waits {
            let next_ms = None;
            return Ok(DueReports { reports, next_ms });
        }
        let rest = reports_max - reports.len();
        let booked = self.read(move |db| journal::due(db, now_ms, rest, &in_hand));
        let booked = booked.await?;
        reports.extend(booked.reports);
        let next_ms = booked.next_ms;
        Ok(DueReports { reports, next_ms })
    }

    /// The report was handed over. Like `defer` and `hold`, noted at once; the future tells the commit, but
    /// for a step that is not in the books yet: there the next booking keeps the note.
    pub fn done(&self, step: StepId) -> Noted {
        if self.shared.fresh().done(step) == Note::Taken {
            return Box::pin(std::future::ready(Ok(())));
        }
        self.note(Work::Done(step))
    }

    /// The report could not be handed over for `reason`; try again at `next_ms`.
    pub fn defer(&self, step: StepId, next_ms: i64, reason: String) -> Noted {
        self.note(Work::Defer {
            step,
            next_ms,
            reason,
        })
    }

    /// The report is given up for `reason` and kept for a person.
    pub fn hold(&self, step: StepId, reason: String) -> Noted {
        self.note(Work::Hold { step, reason })
    }

    /// Resolves when everything noted so far is on disk.
    pub fn book(&self) -> Noted {
        self.note(Work::Book)
    }

    /// Whether what is put may be expected to become durable: the last commit did not fail. One that failed is tried
    /// again by itself.
    pub fn is_well(&self) -> bool {
        !self.shared.failing.load(Ordering::Relaxed)
    }

    /// What was done since the start.
    pub fn counters(&self) -> &Counters {
        &self.shared.counters
    }

    /// Resolves when there may be more to mail than at the last call.
    async fn queued(&self) {
        self.shared.queued.notified().await;
    }

    fn note(&self, work: Work) -> Noted {
        let (asker, answered) = Asker::new();
        let ordered = self.shared.queue.push(Order { work, asker });
        self.shared.queue.wake();
        Box::pin(async move {
            ordered?;
            outcome(answered).await.map(drop)
        })
    }

    async fn read<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let reader = Arc::clone(&self.reader);
        tokio::task::spawn_blocking(move || {
            ask(&reader.lock().unwrap_or_else(PoisonError::into_inner))
        })
        .await
        .unwrap_or(Err(StoreError::Stopped))
    }
}

/// What came of an order, after the commit.
async fn outcome(answered: oneshot::Receiver<Answer>) -> Outcome {
    let answer = answered.await;
    answer.map_or(Err(StoreError::Stopped), |answer| answer.outcome)
}

/// Wakes the writer when it is dropped.
struct Wake<'a>(&'a Queue);

impl Drop for Wake<'_> {
    fn drop(&mut self) {
        self.0.wake();
    }
}

/// The database's path; the directory (0700) and the file (0600, which its WAL takes over) exist after.
fn make_file(state_dir: &Path) -> Result<PathBuf, StoreError> {
    if !state_dir.is_dir() {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(state_dir)
            .map_err(|cause| file_error(state_dir, cause))?;
    }
    let path = state_dir.join(FILE_NAME);
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .and_then(|_| {
            let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
            fs::set_permissions(&path, private)
        })
        .map_err(|cause| file_error(&path, cause))?;
    Ok(path)
}

fn file_error(path: &Path, cause: io::Error) -> StoreError {
    StoreError::File {
        path: path.to_owned(),
        cause: Arc::new(cause),
    }
}

#[cfg(test)]
mod books_tests;
#[cfg(test)]
mod crash_tests;
#[cfg(test)]
mod local_tests;
#[cfg(test)]
mod mailer_session_tests;
#[cfg(test)]
mod mailer_tests;
#[cfg(test)]
mod once_tests;
#[cfg(test)]
pub(crate) mod sink;
#[cfg(test)]
mod tests;
