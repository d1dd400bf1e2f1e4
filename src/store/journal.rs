//! The tables, and every statement on them. A step's body stands once, in the journal; an outbox row
//! points at it and holds a body of its own only when the mailed report tells less than the step.
//!
//! The journal's rows go by a growing number, not by the random step id, so that new bodies land on the
//! same few pages of a commit.
//!
//! Must not know threads, channels or transactions: those are the caller's.

use std::collections::HashSet;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{Put, StoreError, delays};
use crate::track::{Step, StepId};

/// The layout below, kept in `user_version`.
const LAYOUT: i64 = 1;

const TABLES: &str = "
    CREATE TABLE journal (
        row       INTEGER PRIMARY KEY,
        step      INTEGER NOT NULL UNIQUE,  -- the step id's 64 bits
        at_ms     INTEGER NOT NULL,         -- when it happened, by the hop's clock
        queued    INTEGER NOT NULL,         -- whether a report was put into the outbox
        body      BLOB NOT NULL             -- the step, JSON
    );
    CREATE INDEX journal_age ON journal (at_ms);
    CREATE TABLE outbox (
        step      INTEGER PRIMARY KEY,
        first_ms  INTEGER NOT NULL,         -- since when it waits
        next_ms   INTEGER NOT NULL,         -- not before; 0 before the first attempt
        failures  INTEGER NOT NULL,         -- attempts so far
        held      INTEGER NOT NULL,         -- 1: given up, kept for a person
        reason    TEXT,                     -- why the last attempt failed
        body      BLOB                      -- the step as mailed, where it is not the journal's
    ) WITHOUT ROWID;
    CREATE INDEX outbox_due ON outbox (next_ms) WHERE held = 0;
    CREATE TABLE delays (
        row         INTEGER PRIMARY KEY,
        tracking_id TEXT NOT NULL,
        parent      TEXT NOT NULL,          -- step id, or '' at the first hop
        recipient   TEXT NOT NULL,
        first_us    INTEGER NOT NULL,
        told_us     INTEGER NOT NULL,
        UNIQUE (tracking_id, parent, recipient)
    );
    CREATE INDEX delays_age ON delays (told_us);";

/// Bytes of WAL kept on disk after a checkpoint.
const WAL_OCTETS_MAX: i64 = 16 << 20;

/// A report that is due.
#[derive(Debug)]
pub struct Due {
    /// Which step's.
    pub step: StepId,
    /// Since when it waits, ms.
    pub first_ms: i64,
    /// Attempts that failed so far.
    pub failures: u32,
    /// What to mail; the error says why the row cannot be read.
    pub content: Result<Step, String>,
}

/// What `due` found.
#[derive(Debug)]
pub struct DueReports {
    /// The reports to mail now.
    pub reports: Vec<Due>,
    /// When the next one not yet due will be, ms.
    pub next_ms: Option<i64>,
}

/// Makes a connection ready for writing: WAL, an fsync per commit, the tables.
pub(super) fn set_up(db: &Connection, busy_ms: u64) -> Result<(), StoreError> {
    db.busy_timeout(Duration::from_millis(busy_ms))?;
    db.pragma_update(None, "journal_mode", "WAL")?;
    db.pragma_update(None, "synchronous", "FULL")?;
    db.pragma_update(None, "journal_size_limit", WAL_OCTETS_MAX)?;
    let layout: i64 = db.pragma_query_value(None, "user_version", |row| row.get(0))?;
    match layout {
        0 => db.execute_batch(&format!(
            "BEGIN IMMEDIATE; {TABLES} PRAGMA user_version = {LAYOUT}; COMMIT;"
        ))?,
        LAYOUT => {}
        newer => return Err(StoreError::Newer(newer)),
    }
    // A write that changes nothing finds a read-only or damaged file now, not at the first report.
    db.execute("DELETE FROM outbox WHERE 0", [])?;
    db.execute_batch("BEGIN IMMEDIATE; ROLLBACK;")?;
    Ok(())
}

/// Remembers `step` and queues what of it is worth telling. Within the caller's transaction.
pub(super) fn put(db: &Connection, step: &Step) -> rusqlite::Result<Put> {
    if let Some(known) = outcome_of_known(db, step)? {
        return Ok(known);
    }
    let told = if step.told.is_some() {
        delays::worth_telling(db, step)?
    } else {
        for group in step.report.recipients.iter().filter(|g| g.event.is_final()) {
            delays::forget(db, step, group)?;
        }
        Vec::new()
    };
    let at_ms = happened_ms(step);
    db.prepare_cached("INSERT INTO journal (step, at_ms, queued, body) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![
            key(step.report.step),
            at_ms,
            !told.is_empty(),
            json(step)?
        ])?;
    if told.is_empty() {
        return Ok(outcome(step, false));
    }
    let own_body = if told.len() == step.report.recipients.len() {
        None
    } else {
        let mut mailed = step.clone();
        mailed.report.recipients = told;
        Some(json(&mailed)?)
    };
    db.prepare_cached(
        "INSERT INTO outbox (step, first_ms, next_ms, failures, held, body)
         VALUES (?1, ?2, 0, 0, 0, ?3)",
    )?
    .execute(params![key(step.report.step), at_ms, own_body])?;
    Ok(Put::Queued)
}

/// What the first put of this step came to, if there was one.
fn outcome_of_known(db: &Connection, step: &Step) -> rusqlite::Result<Option<Put>> {
    let queued = db
        .prepare_cached("SELECT queued FROM journal WHERE step = ?1")?
        .query_row([key(step.report.step)], |row| row.get(0))
        .optional()?;
    Ok(queued.map(|queued| outcome(step, queued)))
}

fn outcome(step: &Step, queued: bool) -> Put {
    match (step.told.is_some(), queued) {
        (false, _) => Put::Remembered,
        (true, true) => Put::Queued,
        (true, false) => Put::Quiet,
    }
}

/// When the step happened: its last attempt, or else the arrival, ms.
fn happened_ms(step: &Step) -> i64 {
    let attempts = step.report.recipients.iter().filter_map(|g| g.attempted_us);
    attempts
        .max()
        .unwrap_or(step.report.arrival_us)
        .div_euclid(1000)
}

pub(super) fn done(db: &Connection, step: StepId) -> rusqlite::Result<()> {
    db.prepare_cached("DELETE FROM outbox WHERE step = ?1")?
        .execute([key(step)])
        .map(|_| ())
}

pub(super) fn defer(
    db: &Connection,
    step: StepId,
    next_ms: i64,
    reason: &str,
) -> rusqlite::Result<()> {
    db.prepare_cached(
        "UPDATE outbox SET next_ms = ?2, failures = failures + 1, reason = ?3 WHERE step = ?1",
    )?
    .execute(params![key(step), next_ms, reason])
    .map(|_| ())
}

pub(super) fn hold(db: &Connection, step: StepId, reason: &str) -> rusqlite::Result<()> {
    db.prepare_cached("UPDATE outbox SET held = 1, reason = ?2 WHERE step = ?1")?
        .execute(params![key(step), reason])
        .map(|_| ())
}

pub(super) fn step(db: &Connection, id: StepId) -> Result<Option<Step>, StoreError> {
    let body: Option<Vec<u8>> = db
        .prepare_cached("SELECT body FROM journal WHERE step = ?1")?
        .query_row([key(id)], |row| row.get(0))
        .optional()?;
    body.map(|body| serde_json::from_slice(&body).map_err(|cause| unreadable(cause).into()))
        .transpose()
}

pub(super) fn due(
    db: &Connection,
    now_ms: i64,
    reports_max: usize,
    in_hand: &HashSet<StepId>,
) -> Result<DueReports, StoreError> {
    let mut waiting = db.prepare_cached(
        "SELECT o.step, o.first_ms, o.failures, COALESCE(o.body, j.body)
         FROM outbox o LEFT JOIN journal j ON j.step = o.step
         WHERE o.held = 0 AND o.next_ms <= ?1 ORDER BY o.next_ms, j.row",
    )?;
    let mut rows = waiting.query([now_ms])?;
    let mut reports = Vec::new();
    while let Some(row) = rows.next()? {
        let step = StepId(row.get::<_, i64>(0)?.cast_unsigned());
        if in_hand.contains(&step) {
            continue;
        }
        reports.push(due_row(step, row)?);
        if reports.len() >= reports_max {
            break;
        }
    }
    let next_ms = db
        .prepare_cached("SELECT MIN(next_ms) FROM outbox WHERE held = 0 AND next_ms > ?1")?
        .query_row([now_ms], |row| row.get(0))?;
    Ok(DueReports { reports, next_ms })
}

fn due_row(step: StepId, row: &Row<'_>) -> rusqlite::Result<Due> {
    let content = match row.get_ref(3)?.as_blob() {
        Ok(body) => serde_json::from_slice(body).map_err(|cause| cause.to_string()),
        Err(cause) => Err(cause.to_string()),
    };
    Ok(Due {
        step,
        first_ms: row.get(1)?,
        failures: row.get(2)?,
        content: content.map_err(|cause| format!("the stored step cannot be read: {cause}")),
    })
}

/// Deletes up to `rows_max` journal rows and as many delays older than `before_ms`, but never a step whose
/// report waits. Says whether there may be more.
pub(super) fn prune(db: &Connection, before_ms: i64, rows_max: usize) -> rusqlite::Result<bool> {
    let rows_max_sql = i64::try_from(rows_max).unwrap_or(i64::MAX);
    let steps = db
        .prepare_cached(
            "DELETE FROM journal WHERE row IN (
                 SELECT j.row FROM journal j
                 WHERE j.at_ms < ?1 AND NOT EXISTS (SELECT 1 FROM outbox o WHERE o.step = j.step)
                 ORDER BY j.at_ms LIMIT ?2)",
        )?
        .execute([before_ms, rows_max_sql])?;
    let delays = db
        .prepare_cached(
            "DELETE FROM delays WHERE row IN (
                 SELECT row FROM delays WHERE told_us < ?1 ORDER BY told_us LIMIT ?2)",
        )?
        .execute([before_ms.saturating_mul(1000), rows_max_sql])?;
    Ok(steps.max(delays) >= rows_max)
}

/// The database's integers are signed; the bits are what counts.
fn key(step: StepId) -> i64 {
    step.0.cast_signed()
}

fn json(step: &Step) -> rusqlite::Result<Vec<u8>> {
    serde_json::to_vec(step).map_err(|e| rusqlite::Error::ToSqlConversionFailure(Box::new(e)))
}

fn unreadable(cause: serde_json::Error) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Blob, Box::new(cause))
}
