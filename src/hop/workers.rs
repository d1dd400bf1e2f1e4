//! The threads that serve sessions. Each has an event loop of its own and a session stays with the thread it
//! was given to, so that a command wakes one core and not two. Knows nothing of what a session does.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use tokio::runtime::{Builder, Handle};
use tokio::sync::watch;

use super::deadline::keep_spares;
use crate::observe::turn;

/// Running workers. Dropped, they end, and with them what they still had to do.
pub struct Workers {
    handles: Vec<Handle>,
    next: AtomicUsize,
    _running: watch::Sender<()>,
}

impl Workers {
    /// Half as many as there are cores, at least one: a proxy needs far less than the mail server it stands
    /// before, and the fewer event loops, the more each finds to do at a time.
    pub fn start() -> io::Result<Self> {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let (running, end) = watch::channel(());
        let handles = (0..cores.div_ceil(2))
            .map(|_| worker(end.clone()))
            .collect::<io::Result<_>>()?;
        Ok(Self {
            handles,
            next: AtomicUsize::new(0),
            _running: running,
        })
    }

    /// Whose turn it is.
    pub fn next(&self) -> &Handle {
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        &self.handles[turn % self.handles.len()]
    }
}

fn worker(mut end: watch::Receiver<()>) -> io::Result<Handle> {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .on_thread_park(turn::end)
        .build()?;
    let handle = runtime.handle().clone();
    thread::Builder::new()
        .name("sessions".to_owned())
        .spawn(move || {
            keep_spares();
            turn::begin();
            // Ends when the sender is gone, which is all it is for.
            runtime.block_on(async { while end.changed().await.is_ok() {} });
        })?;
    Ok(handle)
}
