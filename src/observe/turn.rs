//! The lines of the log on their way to standard error. Those of a thread with an event loop leave in one write with the
//! others of its turn: they wait until it has nothing else to do, or until an answer is due that must not come before
//! them. What tells of trouble leaves at once, and so does what other threads log, behind all that waits. Mail outranks
//! them all: where standard error has no room they are left to wait, and [`catch_up`] writes them later.

use std::cell::Cell;
use std::io::{self, Write};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tracing::{Level, Metadata, warn};
use tracing_subscriber::fmt::MakeWriter;

use super::backlog::Backlog;
use super::outlet::Outlet;

/// How often standard error is tried that had no room.
const TRY_AGAIN: Duration = Duration::from_millis(10);

/// The same where nobody reads it, or the disk is full: what is logged meanwhile tries as well.
const TRY_AGAIN_UNREAD: Duration = Duration::from_secs(1);

/// What these lines themselves are logged as.
pub(super) const TARGET: &str = module_path!();

static STANDARD_ERROR: LazyLock<Outlet<'static>> =
    LazyLock::new(|| Outlet::to(rustix::stdio::stderr()));

/// What waits. Of all threads, so that the lines keep their order and the end of the process finds them.
static WAITING: Mutex<Backlog> = Mutex::new(Backlog::new());

/// Rung when there is something for [`catch_up`] to do.
static BEHIND: Notify = Notify::const_new();

thread_local! {
    static STATE: Cell<State> = const { Cell::new(State::WritesAtOnce) };
}

/// What a thread does about its lines.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    WritesAtOnce,
    HasNone,
    HasSome,
}

/// From now on the lines of this thread wait for [`end`], which is called whenever it has nothing else to do.
pub fn begin() {
    STATE.set(State::HasNone);
}

/// Writes what this thread has left to wait.
pub fn end() {
    if STATE.get() == State::HasSome {
        STATE.set(State::HasNone);
        flush();
    }
}

/// Writes all that waits, as far as there is room.
fn flush() {
    with_waiting(Backlog::write_out);
}

/// Writes a line behind all that waits, unless it `waits` for others as well.
pub(super) fn write(line: &[u8], waits: bool) {
    with_waiting(|waiting, to| waiting.add(line, waits, to));
}

/// Does this to what waits, and has somebody see to what found no room.
fn with_waiting(act: impl FnOnce(&mut Backlog, &mut &'static Outlet<'static>)) {
    let mut waiting = waiting();
    let before = waiting.is_behind();
    act(&mut waiting, &mut &*STANDARD_ERROR);
    if waiting.is_behind() && !before {
        BEHIND.notify_one();
    }
}

fn waiting() -> MutexGuard<'static, Backlog> {
    WAITING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Writes what found no room as soon as there is some. Never ends.
pub(super) async fn catch_up() {
    loop {
        BEHIND.notified().await;
        while let Some(pause) = try_again() {
            tokio::time::sleep(pause).await;
        }
    }
}

/// Writes what there is room for, and tells of what was lost. If that is not all, how long until it is worth trying again.
pub(super) fn try_again() -> Option<Duration> {
    flush();
    let lost = waiting().take_lost();
    if let Some(lost) = lost {
        warn!("{lost} log lines were lost: whoever reads standard error did not keep up");
    }
    let waiting = waiting();
    let pause = if waiting.is_unread() {
        TRY_AGAIN_UNREAD
    } else {
        TRY_AGAIN
    };
    waiting.is_behind().then_some(pause)
}

/// Gives lines their way.
pub(super) struct Ways;

impl MakeWriter<'_> for Ways {
    type Writer = Way;

    fn make_writer(&self) -> Way {
        Way { waits: false }
    }

    fn make_writer_for(&self, about: &Metadata<'_>) -> Way {
        let waits = *about.level() > Level::WARN && STATE.get() != State::WritesAtOnce;
        Way { waits }
    }
}

/// Where a line is written to, whole.
pub(super) struct Way {
    pub(super) waits: bool,
}

impl Write for Way {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.waits {
            STATE.set(State::HasSome);
        }
        write(line, self.waits);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        flush();
        Ok(())
    }
}
