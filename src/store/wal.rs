//! The write-ahead log: how much was written to it, its emptying into the database behind the answers, and the room in its
//! file.
//!
//! A commit that makes the file longer costs the file system a write more, and twice the time. So the log is emptied before
//! it outgrows what is kept of it on disk, and until the file is that long, zeros are written to it ahead of the log: to
//! `SQLite` they are nothing, since a page counts only with the log's own salt and check sum beside it.
//!
//! Must not know the tables.

use std::fs::{self, OpenOptions};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rusqlite::{Connection, Transaction, TransactionBehavior};

use super::layout::WAL_OCTETS_MAX;

/// The log's header, octets.
const HEADER_OCTETS: u64 = 32;

/// A page's header in the log, octets.
const FRAME_HEADER_OCTETS: u64 = 24;

/// So much room is made at a time, octets: a few milliseconds of a disk, for which mail may have to wait.
const ROOM_OCTETS: u64 = 1 << 20;

/// With less room than this more is made, octets: the largest batch of most steps, and its share of the books.
const ROOM_OCTETS_LEAST: u64 = 1 << 19;

/// Watches the log of one connection.
pub(super) struct Wal {
    path: PathBuf,
    frame_octets: u64,
    counts: Arc<Counts>,
    /// So many pages are enough.
    pages_enough: u64,
    /// The file's length, octets, as far as it is known; more than it will ever be where no room can be made.
    file_octets: u64,
}

/// Pages in the log.
#[derive(Default)]
struct Counts {
    /// Written since it was last emptied, or tried to be.
    written: AtomicU64,
    /// In it now.
    length: AtomicU64,
}

impl Counts {
    /// After a commit it has this length.
    fn grown_to(&self, length: u64) {
        let before = self.length.swap(length, Ordering::Relaxed);
        // A shorter one has begun anew.
        let more = length.checked_sub(before).unwrap_or(length);
        self.written.fetch_add(more, Ordering::Relaxed);
    }
}

impl Wal {
    /// Counts what this connection to the database at `path` commits from now on. Whoever sets its `wal_autocheckpoint`
    /// later ends that.
    pub(super) fn of(db: &mut Connection, path: &Path) -> rusqlite::Result<Self> {
        let page_octets: u32 = db.pragma_query_value(None, "page_size", |row| row.get(0))?;
        let frame_octets = u64::from(page_octets) + FRAME_HEADER_OCTETS;
        let counts = Arc::new(Counts::default());
        let counter = Arc::clone(&counts);
        db.wal_hook(Some(move |_: &mut _, length: i32| {
            counter.grown_to(u64::try_from(length).unwrap_or(0));
            Ok(())
        }))?;
        let mut log = path.to_owned().into_os_string();
        log.push("-wal");
        // A quarter is left for a booking, which may touch a page of the index for each of its rows.
        let enough = WAL_OCTETS_MAX / 4 * 3;
        Ok(Self {
            // A process that was killed has left it, perhaps with room.
            file_octets: fs::metadata(&log).map_or(0, |about| about.len()),
            path: log.into(),
            frame_octets,
            counts,
            pages_enough: enough / frame_octets,
        })
    }

    /// Makes the file longer before the log needs that. Where it cannot be done, commits do it themselves.
    pub(super) fn make_room(&mut self, db: &Connection) {
        let pages = self.counts.length.load(Ordering::Relaxed);
        let end = HEADER_OCTETS + pages * self.frame_octets;
        if end + ROOM_OCTETS_LEAST <= self.file_octets || self.file_octets >= WAL_OCTETS_MAX {
            return;
        }
        let lengthened = hold_writers(db).and_then(|_held| lengthen(&self.path));
        self.file_octets = lengthened.unwrap_or_else(|cause| {
            tracing::debug!(%cause, "no room made in the store's write-ahead log");
            u64::MAX
        });
    }

    /// Moves what is in the log into the database, if that is enough, so that the log begins anew. What another process
    /// still reads stays in it until the next time.
    pub(super) fn empty_if_long(&self, db: &Connection) {
        if self.counts.written.load(Ordering::Relaxed) < self.pages_enough {
            return;
        }
        self.counts.written.store(0, Ordering::Relaxed);
        let passive = "PRAGMA wal_checkpoint(PASSIVE)";
        if let Err(cause) = db.query_row(passive, [], |_| Ok(())) {
            tracing::warn!(%cause, "the store's write-ahead log could not be cleared");
        }
    }
}

/// As long as this is held nobody adds to the log, in this process or another.
fn hold_writers(db: &Connection) -> io::Result<Transaction<'_>> {
    Transaction::new_unchecked(db, TransactionBehavior::Immediate).map_err(io::Error::other)
}

/// Writes zeros to the file's end, and tells its length. It stays as it was where there is no room for all of them.
fn lengthen(path: &Path) -> io::Result<u64> {
    let mut file = OpenOptions::new().append(true).open(path)?;
    let before = file.metadata()?.len();
    let written = io::copy(&mut io::repeat(0).take(ROOM_OCTETS), &mut file);
    if let Err(cause) = written.and_then(|_| file.sync_data()) {
        file.set_len(before)?;
        return Err(cause);
    }
    Ok(before + ROOM_OCTETS)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::ops::Range;

    use futures_util::future::join_all;
    use tempfile::TempDir;

    use super::*;
    use crate::store::layout;
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
        wal_octets(dir)
    }

    fn wal_octets(dir: &TempDir) -> u64 {
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

    /// Every row is a commit; the books are left out.
    #[test]
    fn no_commit_makes_the_file_longer() {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join(FILE_NAME);
        let mut db = Connection::open(&path).unwrap();
        layout::set_up(&db, 0).unwrap();
        let mut wal = Wal::of(&mut db, &path).unwrap();
        let octets = || wal_octets(&dir);
        let mut lengths = Vec::new();
        for n in 0..600 {
            wal.make_room(&db);
            wal.empty_if_long(&db);
            let before = octets();
            let row = "INSERT INTO journal (step, at_ms, queued, body) VALUES (?1, 0, 1, zeroblob(20000))";
            db.execute(row, [n]).unwrap();
            assert_eq!(octets(), before, "{n}");
            lengths.push(before);
        }
        lengths.dedup();
        assert!(lengths.windows(2).all(|two| two[0] + ROOM_OCTETS == two[1]));
        assert!(lengths.len() > 10 && lengths.last() < Some(&WAL_OCTETS_MAX));

        Wal::of(&mut db, &path).unwrap().make_room(&db);
        assert_eq!(lengths.last(), Some(&octets()), "there is room already");
    }

    #[test]
    fn while_another_process_writes_no_room_is_made() {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join(FILE_NAME);
        let mut db = Connection::open(&path).unwrap();
        layout::set_up(&db, 0).unwrap();
        let mut wal = Wal::of(&mut db, &path).unwrap();
        let other = Connection::open(&path).unwrap();
        other.execute_batch("BEGIN IMMEDIATE").unwrap();
        let before = wal_octets(&dir);
        wal.make_room(&db);
        assert_eq!(wal_octets(&dir), before);
        other.execute_batch("ROLLBACK").unwrap();
        assert!(db.is_autocommit());
    }
}
