//! The write-ahead log: how much was written to it, and its emptying into the database behind the answers.
//!
//! It is emptied before it outgrows what is kept of it on disk: a commit that makes the file longer costs the file system
//! a write more, and twice the time.
//!
//! Must not know the tables.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rusqlite::Connection;

use super::layout::WAL_OCTETS_MAX;

/// A page's header in the log, octets.
const FRAME_HEADER_OCTETS: u64 = 24;

/// Watches the log of one connection.
pub(super) struct Wal {
    /// Pages written since it was last emptied, or tried to be.
    pages: Arc<AtomicU64>,
    /// So many are enough.
    pages_enough: u64,
}

impl Wal {
    /// Counts what this connection commits from now on. Whoever sets its `wal_autocheckpoint` later ends that.
    pub(super) fn of(db: &mut Connection) -> rusqlite::Result<Self> {
        let page_octets: u32 = db.pragma_query_value(None, "page_size", |row| row.get(0))?;
        let pages = Arc::new(AtomicU64::new(0));
        let (counter, mut before) = (Arc::clone(&pages), 0);
        db.wal_hook(Some(move |_: &mut _, length: i32| {
            let length = u64::try_from(length).unwrap_or(0);
            // A shorter one has begun anew.
            let more = length.checked_sub(before).unwrap_or(length);
            before = length;
            counter.fetch_add(more, Ordering::Relaxed);
            Ok(())
        }))?;
        // A quarter is left for a booking, which may touch a page of the index for each of its rows.
        let enough = WAL_OCTETS_MAX / 4 * 3;
        Ok(Self {
            pages,
            pages_enough: enough / (u64::from(page_octets) + FRAME_HEADER_OCTETS),
        })
    }

    /// Moves what is in the log into the database, if that is enough, so that the log begins anew. What another process
    /// still reads stays in it until the next time.
    pub(super) fn empty_if_long(&self, db: &Connection) {
        if self.pages.load(Ordering::Relaxed) < self.pages_enough {
            return;
        }
        self.pages.store(0, Ordering::Relaxed);
        let passive = "PRAGMA wal_checkpoint(PASSIVE)";
        if let Err(cause) = db.query_row(passive, [], |_| Ok(())) {
            tracing::warn!(%cause, "the store's write-ahead log could not be cleared");
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::ops::Range;

    use futures_util::future::join_all;
    use tempfile::TempDir;

    use super::*;
    use crate::store::tests::{a_step, open};
    use crate::store::{FILE_NAME, Store};
    use crate::track::{Event, Step};

    /// Steps put together, and the octets of each.
    const TOGETHER: u64 = 20;
    const OCTETS: usize = 20_000;
    /// So many lots are more than the log may hold.
    const LOTS: u64 = 3 * WAL_OCTETS_MAX / 2 / (TOGETHER * OCTETS as u64);

    /// Puts lots of large steps; how long the log's file is then.
    async fn length_after(store: &Store, dir: &TempDir, lots: Range<u64>) -> u64 {
        for lot in lots {
            let put = |n| {
                store.put(Step {
                    received: Some("r".repeat(OCTETS)),
                    ..a_step(lot * TOGETHER + n, Event::Relayed)
                })
            };
            join_all((0..TOGETHER).map(put)).await;
        }
        let wal = dir.path().join(format!("{FILE_NAME}-wal"));
        wal.metadata().unwrap().len()
    }

    #[tokio::test]
    async fn the_log_does_not_outgrow_what_is_kept_of_it() {
        let dir = TempDir::new().unwrap();
        let store = open(&dir);
        let length = length_after(&store, &dir, 0..LOTS).await;
        assert!(length <= WAL_OCTETS_MAX, "{length} octets");
    }

    #[tokio::test]
    async fn the_log_begins_anew_when_nobody_reads_the_old_one_any_more() {
        let dir = TempDir::new().unwrap();
        let store = open(&dir);
        let reader = Connection::open(dir.path().join(FILE_NAME)).unwrap();
        reader
            .execute_batch("BEGIN; SELECT * FROM journal")
            .unwrap();
        let grown = length_after(&store, &dir, 0..LOTS).await;
        assert!(grown > WAL_OCTETS_MAX, "{grown} octets");
        reader.execute_batch("COMMIT").unwrap();
        let length = length_after(&store, &dir, LOTS..2 * LOTS).await;
        assert!(length <= WAL_OCTETS_MAX, "{length} octets");
    }
}
