//! Every statement on the tables. A step's body stands once, in the journal; an outbox row points at it and
//! holds a body of its own only when the mailed report tells less than the step.
//!
//! Must not know threads, channels or transactions: those are the caller's.

use std::collections::HashSet;
use std::error::Error;
use std::sync::Arc;

use rusqlite::types::Null;
use rusqlite::{CachedStatement, Connection, OptionalExtension, Row, params};

use super::{Put, StoreError, delays};
use crate::track::{Event, Step, StepId};

/// Room for the JSON of most steps.
const BODY_OCTETS_USUAL: usize = 1024;

const INDEX: &str = "INSERT OR IGNORE INTO steps (step, row) VALUES (?1, ?2)";
const QUEUE: &str = "INSERT INTO outbox (row, step, first_ms, next_ms, failures, held, body)
     VALUES (?1, ?2, ?3, 0, 0, 0, ?4)";

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
    pub content: Result<Arc<Step>, String>,
}

/// What is due.
#[derive(Debug)]
pub struct DueReports {
    /// The reports to mail now.
    pub reports: Vec<Due>,
    /// When the next one not yet due will be, ms.
    pub next_ms: Option<i64>,
}

/// A journal row that the books do not have yet.
#[derive(Debug)]
pub(super) struct Unbooked {
    pub(super) row: i64,
    pub(super) id: StepId,
    pub(super) at_ms: i64,
    /// Its report is still to be mailed.
    pub(super) waits: bool,
    /// What it tells; `None` if it cannot be read.
    pub(super) step: Option<Arc<Step>>,
}

/// Whether what a put of `step` comes to is known without the books: all of it is told, or nothing.
pub(super) fn is_plain(step: &Step) -> bool {
    let groups = &step.report.recipients;
    step.told.is_none() || groups.iter().all(|group| group.event != Event::Delayed)
}

/// Whether a plain step has something to tell.
pub(super) fn is_told(step: &Step) -> bool {
    step.told.is_some() && !step.report.recipients.is_empty()
}

/// What a put of `step` came to.
pub(super) fn outcome(step: &Step, queued: bool) -> Put {
    match (step.told.is_some(), queued) {
        (false, _) => Put::Remembered,
        (true, true) => Put::Queued,
        (true, false) => Put::Quiet,
    }
}

/// When the step happened: its last attempt, or else the arrival, ms.
pub(super) fn happened_ms(step: &Step) -> i64 {
    let attempts = step.report.recipients.iter().filter_map(|g| g.attempted_us);
    attempts
        .max()
        .unwrap_or(step.report.arrival_us)
        .div_euclid(1000)
}

/// The statements of the way of mail, ready for all puts of a transaction.
pub(super) struct Intake<'db> {
    known: CachedStatement<'db>,
    append: CachedStatement<'db>,
}

impl<'db> Intake<'db> {
    pub(super) fn new(db: &'db Connection) -> rusqlite::Result<Self> {
        Ok(Self {
            known: db.prepare_cached(
                "SELECT queued FROM journal WHERE row = (SELECT row FROM steps WHERE step = ?1)",
            )?,
            append: db.prepare_cached(
                "INSERT INTO journal (step, at_ms, queued, body) VALUES (?1, ?2, ?3, ?4)",
            )?,
        })
    }

    /// What the first put of this step came to, if the books have one.
    pub(super) fn known(&mut self, step: &Step) -> rusqlite::Result<Option<Put>> {
        let queued = self
            .known
            .query_row([key(step.report.step)], |row| row.get(0))
            .optional()?;
        Ok(queued.map(|queued| outcome(step, queued)))
    }

    /// Writes the row that makes `step` durable, and tells its number.
    pub(super) fn append(&mut self, step: &Step, queued: bool) -> rusqlite::Result<i64> {
        let at_ms = happened_ms(step);
        self.append
            .insert(params![key(step.report.step), at_ms, queued, json(step)?])
    }
}

/// Remembers `step` and queues what of it is worth telling, all in the books at once. They must have every
/// earlier row.
pub(super) fn put(
    db: &Connection,
    intake: &mut Intake<'_>,
    step: &Step,
) -> rusqlite::Result<Put> {
    let told = if step.told.is_some() {
        delays::worth_telling(db, step)?
    } else {
        delays::forget_ended(db, step)?;
        Vec::new()
    };
    let row = intake.append(step, !told.is_empty())?;
    let id = key(step.report.step);
    db.prepare_cached(INDEX)?.execute([id, row])?;
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
    db.prepare_cached(QUEUE)?
        .execute(params![row, id, happened_ms(step), own_body])?;
    Ok(Put::Queued)
}

/// Takes rows into the books: the index by step, and the outbox where the report waits.
pub(super) fn book(db: &Connection, rows: &mut [Unbooked]) -> rusqlite::Result<()> {
    if delays::any(db)? {
        for step in rows.iter().filter_map(|row| row.step.as_ref()) {
            delays::forget_ended(db, step)?;
        }
    }
    let mut queue = db.prepare_cached(QUEUE)?;
    for row in rows.iter().filter(|row| row.waits) {
        queue.execute(params![row.row, key(row.id), row.at_ms, Null])?;
    }
    // In the order of the index, so that each of its pages is touched once.
    rows.sort_unstable_by_key(|row| key(row.id));
    let mut index = db.prepare_cached(INDEX)?;
    for row in rows.iter() {
        index.execute([key(row.id), row.row])?;
    }
    Ok(())
}

/// The rows that a process which did not come to an end has not booked.
pub(super) fn unbooked(db: &Connection) -> rusqlite::Result<Vec<Unbooked>> {
    let booked_to: Option<i64> = db
        .query_row(
            "SELECT j.row FROM journal j JOIN steps s ON s.step = j.step ORDER BY j.row DESC LIMIT 1",
            [],
            |row| row.get(0),
        )
        .optional()?;
    db.prepare("SELECT row, step, at_ms, queued, body FROM journal WHERE row > ?1")?
        .query_map([booked_to.unwrap_or(0)], |row| {
            Ok(Unbooked {
                row: row.get(0)?,
                id: id(row.get(1)?),
                at_ms: row.get(2)?,
                waits: row.get(3)?,
                step: body(row, 4).ok().map(Arc::new),
            })
        })?
        .collect()
}

pub(super) fn done(db: &Connection, step: StepId) -> rusqlite::Result<()> {
    db.prepare_cached("DELETE FROM outbox WHERE row = (SELECT row FROM steps WHERE step = ?1)")?
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
        "UPDATE outbox SET next_ms = ?2, failures = failures + 1, reason = ?3
         WHERE row = (SELECT row FROM steps WHERE step = ?1)",
    )?
    .execute(params![key(step), next_ms, reason])
    .map(|_| ())
}

pub(super) fn hold(db: &Connection, step: StepId, reason: &str) -> rusqlite::Result<()> {
    db.prepare_cached(
        "UPDATE outbox SET held = 1, reason = ?2
         WHERE row = (SELECT row FROM steps WHERE step = ?1)",
    )?
    .execute(params![key(step), reason])
    .map(|_| ())
}

pub(super) fn step(db: &Connection, id: StepId) -> Result<Option<Step>, StoreError> {
    Ok(db
        .prepare_cached(
            "SELECT body FROM journal WHERE row = (SELECT row FROM steps WHERE step = ?1)",
        )?
        .query_row([key(id)], |row| body(row, 0))
        .optional()?)
}

/// Whether the outbox holds anything that is to be mailed, now or later.
pub(super) fn any_waits(db: &Connection) -> rusqlite::Result<bool> {
    db.prepare_cached("SELECT EXISTS (SELECT 1 FROM outbox WHERE held = 0)")?
        .query_row([], |row| row.get(0))
}

pub(super) fn due(
    db: &Connection,
    now_ms: i64,
    reports_max: usize,
    in_hand: &HashSet<StepId>,
) -> Result<DueReports, StoreError> {
    let mut waiting = db.prepare_cached(
        "SELECT o.step, o.first_ms, o.failures, COALESCE(o.body, j.body)
         FROM outbox o LEFT JOIN journal j ON j.row = o.row
         WHERE o.held = 0 AND o.next_ms <= ?1 ORDER BY o.next_ms, o.row",
    )?;
    let mut rows = waiting.query([now_ms])?;
    let mut reports = Vec::new();
    while let Some(row) = rows.next()? {
        let step = id(row.get(0)?);
        if in_hand.contains(&step) {
            continue;
        }
        let content = body(row, 3).map(Arc::new);
        reports.push(Due {
            step,
            first_ms: row.get(1)?,
            failures: row.get(2)?,
            content: content.map_err(|cause| format!("the stored step cannot be read: {cause}")),
        });
        if reports.len() >= reports_max {
            break;
        }
    }
    let next_ms = db
        .prepare_cached("SELECT MIN(next_ms) FROM outbox WHERE held = 0 AND next_ms > ?1")?
        .query_row([now_ms], |row| row.get(0))?;
    Ok(DueReports { reports, next_ms })
}

/// Deletes up to `rows_max` journal rows and as many delays older than `before_ms`, but never a step whose
/// report waits. Says whether there may be more.
pub(super) fn prune(
    db: &Connection,
    before_ms: i64,
    now_ms: i64,
    rows_max: usize,
) -> rusqlite::Result<bool> {
    let old = old_rows(db, before_ms, now_ms, rows_max)?;
    for (row, step) in &old {
        db.prepare_cached("DELETE FROM journal WHERE row = ?1")?
            .execute([row])?;
        db.prepare_cached("DELETE FROM steps WHERE step = ?1 AND row = ?2")?
            .execute([step, row])?;
    }
    let delays = delays::prune(db, before_ms, rows_max)?;
    Ok(old.len().max(delays) >= rows_max)
}

/// Rows and their steps, from the journal's old end to the first row that is not old. A row from a time that
/// has not come yet was written by a clock gone wrong, and says nothing about those behind it.
fn old_rows(
    db: &Connection,
    before_ms: i64,
    now_ms: i64,
    rows_max: usize,
) -> rusqlite::Result<Vec<(i64, i64)>> {
    let mut journal = db.prepare_cached(
        "SELECT j.row, j.step, j.at_ms, EXISTS (SELECT 1 FROM outbox o WHERE o.row = j.row)
         FROM journal j ORDER BY j.row",
    )?;
    let mut rows = journal.query([])?;
    let mut old = Vec::new();
    while let Some(row) = rows.next()? {
        let at_ms: i64 = row.get(2)?;
        if old.len() >= rows_max || (before_ms..=now_ms).contains(&at_ms) {
            break;
        }
        let waits: bool = row.get(3)?;
        if at_ms < before_ms && !waits {
            old.push((row.get(0)?, row.get(1)?));
        }
    }
    Ok(old)
}

/// The database's integers are signed; the bits are what counts.
fn key(step: StepId) -> i64 {
    step.0.cast_signed()
}

fn id(key: i64) -> StepId {
    StepId(key.cast_unsigned())
}

fn json(step: &Step) -> rusqlite::Result<String> {
    let failed = |e: Box<dyn Error + Send + Sync>| rusqlite::Error::ToSqlConversionFailure(e);
    let mut text = Vec::with_capacity(BODY_OCTETS_USUAL);
    serde_json::to_writer(&mut text, step).map_err(|e| failed(Box::new(e)))?;
    String::from_utf8(text).map_err(|e| failed(Box::new(e)))
}

fn body(row: &Row<'_>, column: usize) -> rusqlite::Result<Step> {
    let text = row.get_ref(column)?.as_str()?;
    serde_json::from_str(text).map_err(|cause| {
        rusqlite::Error::FromSqlConversionFailure(
            column,
            rusqlite::types::Type::Text,
            Box::new(cause),
        )
    })
}
