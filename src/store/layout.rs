//! The tables, and how a file gets them: a new one, or one that an earlier hoptrail made.
//!
//! `journal` is the one place that a commit on the way of mail touches: rows are only appended, in the order
//! of their commits, and nothing is indexed but that order. `steps`, `outbox`, `told` and `stays` are the books.
//! They are written later, many rows at a time; a journal row that is not in `steps` is not yet in the books, and
//! such rows are always the last ones.

use std::time::Duration;

use rusqlite::Connection;

use super::StoreError;
use crate::track::StepId;

/// The layout below, kept in `user_version`.
const LAYOUT: i64 = 7;

const TABLES: &str = "
    CREATE TABLE journal (
        row       INTEGER PRIMARY KEY,
        step      INTEGER NOT NULL,         -- the step id's 64 bits
        at_ms     INTEGER NOT NULL,         -- when it happened, by the hop's clock
        queued    INTEGER NOT NULL,         -- whether a report was to be mailed
        body      BLOB NOT NULL             -- the step; JSON, as text, where layout 4 wrote it
    );
    CREATE TABLE steps (
        step      INTEGER PRIMARY KEY,
        row       INTEGER NOT NULL          -- the journal's
    );
    CREATE TABLE outbox (
        row       INTEGER PRIMARY KEY,      -- the journal's
        step      INTEGER NOT NULL,
        first_ms  INTEGER NOT NULL,         -- since when it waits
        next_ms   INTEGER NOT NULL,         -- not before; 0 before the first attempt
        failures  INTEGER NOT NULL,         -- attempts so far
        held      INTEGER NOT NULL,         -- 1: given up, kept for a person
        reason    TEXT,                     -- why the last attempt failed
        body      BLOB                      -- the step as mailed, where it is not the journal's
    );
    CREATE INDEX outbox_due ON outbox (next_ms) WHERE held = 0;";

/// Since layout 3.
const MARKS: &str = "
    CREATE TABLE told (
        news      INTEGER PRIMARY KEY,      -- a digest of what is told once
        row       INTEGER NOT NULL          -- the journal's
    );
    CREATE TABLE stays (
        row       INTEGER PRIMARY KEY,      -- the arrival's in the journal
        since_ms  INTEGER NOT NULL,
        quiet     INTEGER NOT NULL DEFAULT 0, -- 1: it is told, or not to be
        left      BLOB                      -- a bit for each recipient who is left, the first the lowest; NULL for all
    );";

/// Layout 3 knew no recipients, and a stay that was told was over.
const FROM_LAYOUT_3: &str = "
    ALTER TABLE stays ADD COLUMN quiet INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE stays ADD COLUMN left BLOB;";

const DELAYS: &str = "
    CREATE TABLE delays (
        row         INTEGER PRIMARY KEY,
        tracking_id TEXT NOT NULL,
        parent      TEXT NOT NULL,          -- step id, or '' at the first hop
        recipient   TEXT NOT NULL,
        first_us    INTEGER NOT NULL,
        told_us     INTEGER NOT NULL,
        reasons     TEXT NOT NULL DEFAULT '', -- those told: status codes, with blanks between them
        UNIQUE (tracking_id, parent, recipient)
    );
    CREATE INDEX delays_age ON delays (told_us);";

/// Up to layout 5 no reason was noted; the next one is told, whether it was before or not.
const FROM_LAYOUT_5: &str = "ALTER TABLE delays ADD COLUMN reasons TEXT NOT NULL DEFAULT '';";

/// Layout 1 indexed the journal by step and by age in the same table, and the outbox by step.
const FROM_LAYOUT_1: (&str, &str) = (
    "ALTER TABLE journal RENAME TO journal_1;
     ALTER TABLE outbox RENAME TO outbox_1;
     DROP INDEX outbox_due;",
    "INSERT INTO journal SELECT row, step, at_ms, queued, CAST(body AS TEXT) FROM journal_1;
     INSERT INTO steps SELECT step, row FROM journal_1 ORDER BY step;
     INSERT INTO outbox SELECT j.row, o.step, o.first_ms, o.next_ms, o.failures, o.held, o.reason, CAST(o.body AS TEXT)
         FROM outbox_1 o JOIN journal_1 j ON j.step = o.step;
     DROP TABLE journal_1;
     DROP TABLE outbox_1;",
);

/// Octets of a page in a new file. A commit writes the journal's last page whole, and two more for each page that begins:
/// in larger ones a few steps that come together need half the writes, and a lone step not much more octets.
const PAGE_OCTETS: i64 = 8192;

/// Pages kept in memory by a connection that writes, KiB: what is written together stands together, in few of them.
const CACHE_KIB: i64 = 1024;

/// Statements kept ready on a connection that writes: all of them.
const STATEMENTS: usize = 32;

/// Octets of WAL kept on disk after a checkpoint.
pub(super) const WAL_OCTETS_MAX: u64 = 16 << 20;

/// A step id as the tables have it: their integers are signed, and the bits are what counts.
pub(super) fn key(step: StepId) -> i64 {
    step.0.cast_signed()
}

/// The step of such a number.
pub(super) fn id(key: i64) -> StepId {
    StepId(key.cast_unsigned())
}

/// A write that changes nothing, and takes all that another would.
pub(super) fn write_again(db: &Connection) -> rusqlite::Result<()> {
    db.pragma_update(None, "user_version", LAYOUT)
}

/// Makes a connection ready for writing: WAL, a sync per commit (of data alone, as `.cargo/config.toml` has it built),
/// the tables. Checkpoints are the caller's.
pub(super) fn set_up(db: &Connection, busy_ms: u64) -> Result<(), StoreError> {
    db.busy_timeout(Duration::from_millis(busy_ms))?;
    db.set_prepared_statement_cache_capacity(STATEMENTS);
    // A file that has pages keeps theirs; it is the journal mode that gives a new one its first.
    db.pragma_update(None, "page_size", PAGE_OCTETS)?;
    db.pragma_update(None, "journal_mode", "WAL")?;
    db.pragma_update(None, "synchronous", "FULL")?;
    db.pragma_update(None, "cache_size", -CACHE_KIB)?;
    db.pragma_update(None, "journal_size_limit", WAL_OCTETS_MAX.cast_signed())?;
    db.pragma_update(None, "wal_autocheckpoint", 0)?;
    let layout: i64 = db.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let (before, after) = FROM_LAYOUT_1;
    let change = match layout {
        0 => format!("{TABLES} {MARKS} {DELAYS}"),
        1 => format!("{before} {TABLES} {MARKS} {after} {FROM_LAYOUT_5}"),
        2 => format!("{MARKS} {FROM_LAYOUT_5}"),
        3 => format!("{FROM_LAYOUT_3} {FROM_LAYOUT_5}"),
        4 | 5 => FROM_LAYOUT_5.to_owned(),
        // Rows are read as any layout has written them.
        6 | LAYOUT => String::new(),
        newer => return Err(StoreError::Newer(newer)),
    };
    if layout != LAYOUT {
        db.execute_batch(&format!(
            "BEGIN IMMEDIATE; {change} PRAGMA user_version = {LAYOUT}; COMMIT;"
        ))?;
    }
    // A write that changes nothing finds a read-only or damaged file now, not at the first report.
    db.execute("DELETE FROM outbox WHERE 0", [])?;
    db.execute_batch("BEGIN IMMEDIATE; ROLLBACK;")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_of_one_second_stand_side_by_side() {
        for second in [0, 1, 0x7fff, 0x8000, 0xffff, 1_795_478_400] {
            let at = |second: i64, random| key(StepId::mint(second * 1_000_000, random));
            let (first, last) = (at(second, 0), at(second, u64::MAX));
            assert!((first..=last).contains(&at(second, 0x1234_5678_9abc_def0)));
            for other in [second + 1, second + 0x7fff, second + 0x8000] {
                assert!(!(first..=last).contains(&at(other, 0)));
                assert!(!(first..=last).contains(&at(other, u64::MAX)));
            }
        }
    }
}
