//! Sessions of our own client at a time, on one thread as smtp-source has it.

use std::cell::Cell;
use std::net::SocketAddrV4;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tokio::runtime::{Builder, Runtime};
use tokio::task::{JoinSet, LocalSet};
use tokio::time::timeout;

use crate::client::{Mail, Session};
use crate::contest::RUN_LIMIT;

/// A runtime of one thread.
pub fn runtime() -> Result<Runtime> {
    Ok(Builder::new_current_thread().enable_all().build()?)
}

/// Sends `count` messages over so many kept sessions and tells how long that took.
pub fn send(to: SocketAddrV4, sessions: u32, mail: &Rc<Mail>, count: u32) -> Result<Duration> {
    let start = Instant::now();
    let left = Rc::new(Cell::new(count));
    let all = async {
        let mut open = JoinSet::new();
        for _ in 0..sessions {
            open.spawn_local(session(to, Rc::clone(mail), Rc::clone(&left)));
        }
        while let Some(ended) = open.join_next().await {
            ended??;
        }
        anyhow::Ok(())
    };
    let all = async { timeout(RUN_LIMIT, LocalSet::new().run_until(all)).await };
    runtime()?
        .block_on(all)
        .context("the load takes too long")??;
    Ok(start.elapsed())
}

/// One session: messages as long as any are left.
async fn session(to: SocketAddrV4, mail: Rc<Mail>, left: Rc<Cell<u32>>) -> Result<()> {
    let mut session = Session::open(to).await?;
    while let Some(rest) = left.get().checked_sub(1) {
        left.set(rest);
        session.send(&mail).await?;
    }
    session.quit().await
}
