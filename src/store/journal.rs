//! Every statement on the tables. A step's body stands once, in the journal; an outbox row points at it and
//! holds a body of its own only when the mailed report tells less than the step.
//!
//! Must not know threads, channels or transactions: those are the caller's.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt::Display;
use std::sync::Arc;

use rusqlite::{CachedStatement, Connection, OptionalExtension, Row, params};

use super::entry::{self, Entry, Fact, Kept, Marks, Unbooked};
use super::layout::{id, key};
use super::{Put, StoreError, bulk, delays, once, stays};
use crate::track::{Event, RecipientStatus, Step, StepId};

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

impl From<Fact> for Due {
    fn from(fact: Fact) -> Self {
        Self {
            step: fact.kept.id,
            first_ms: fact.kept.at_ms,
            failures: 0,
            content: entry::read(&fact.kept.body).map_err(unreadable),
        }
    }
}

fn unreadable(cause: impl Display) -> String {
    format!("the stored step cannot be read: {cause}")
}

/// What is due.
#[derive(Debug)]
pub struct DueReports {
    /// The reports to mail now.
    pub reports: Vec<Due>,
    /// When the next one not yet due will be, ms.
    pub next_ms: Option<i64>,
}

/// The statement of the way of mail, ready for all puts of a transaction.
pub(super) struct Intake<'db> {
    db: &'db Connection,
    append: CachedStatement<'db>,
}

impl<'db> Intake<'db> {
    pub(super) fn new(db: &'db Connection) -> rusqlite::Result<Self> {
        // With FAIL, SQLite keeps no copy of the pages to undo this statement alone: the caller undoes its transaction.
        let append = db.prepare_cached(
            "INSERT OR FAIL INTO journal (step, at_ms, queued, body)
             SELECT ?1, ?2, ?3, ?4 WHERE NOT EXISTS (SELECT 1 FROM steps WHERE step = ?1)",
        )?;
        Ok(Self { db, append })
    }

    /// Writes the row that makes a step durable, unless the books have the step; tells its number.
    pub(super) fn append(&mut self, entry: &Entry, queued: bool) -> rusqlite::Result<Option<i64>> {
        let kept = &*entry.kept;
        let step = params![key(kept.id), kept.at_ms, queued, kept.body];
        let written = self.append.execute(step)? > 0;
        Ok(written.then(|| self.db.last_insert_rowid()))
    }

    /// What the first put of this step came to, if the books have one.
    pub(super) fn known(&self, entry: &Entry) -> rusqlite::Result<Option<Put>> {
        let queued = self
            .db
            .prepare_cached(
                "SELECT queued FROM journal WHERE row = (SELECT row FROM steps WHERE step = ?1)",
            )?
            .query_row([key(entry.kept.id)], |row| row.get(0))
            .optional()?;
        Ok(queued.map(|queued| entry.outcome(queued)))
    }
}

/// Remembers a step and queues what of it is worth telling, all in the books at once. They must have every
/// earlier row. `None` if they have the step.
pub(super) fn put(
    db: &Connection,
    intake: &mut Intake<'_>,
    entry: &Entry,
) -> rusqlite::Result<Option<Put>> {
    if intake.known(entry)?.is_some() {
        return Ok(None);
    }
    let (told, own_body) = worth_telling(db, entry)?;
    let Some(row) = intake.append(entry, told)? else {
        return Ok(None);
    };
    let row = Unbooked {
        row,
        waits: told,
        own_body,
        kept: Arc::clone(&entry.kept),
    };
    book(db, &[row])?;
    Ok(Some(entry.outcome(told)))
}

/// Whether anything of a step is to be told now, and what, if not all of it.
fn worth_telling(db: &Connection, entry: &Entry) -> rusqlite::Result<(bool, Option<Vec<u8>>)> {
    let step = match &entry.delayed {
        Some(step) => Some(Cow::Borrowed(&**step)),
        None if once::any_told(db, &entry.kept.marks.news)? => {
            entry::read(&entry.kept.body).map(Cow::Owned).ok()
        }
        None => None,
    };
    let Some(mut step) = step else {
        return Ok((entry.told, None));
    };
    let told = groups_worth_telling(db, &step)?;
    if told.is_empty() || told.len() == step.report.recipients.len() {
        return Ok((!told.is_empty(), None));
    }
    step.to_mut().report.recipients = told;
    let body = entry::write(&step).map_err(rusqlite::Error::ToSqlConversionFailure)?;
    Ok((true, Some(body)))
}

/// The recipients of a step whose news is mailed now, in their order. Notes the delays told.
fn groups_worth_telling(db: &Connection, step: &Step) -> rusqlite::Result<Vec<RecipientStatus>> {
    let mut told = Vec::with_capacity(step.report.recipients.len());
    for group in &step.report.recipients {
        let tell = match (group.event, once::of_group(step, group)) {
            (Event::Delayed, _) => delays::tell(db, step, group)?,
            (_, Some(news)) => !once::is_told(db, news)?,
            (_, None) => true,
        };
        if tell {
            told.push(group.clone());
        }
    }
    Ok(told)
}

/// Forgets the delays that a step puts an end to. One that cannot be read ends none.
fn forget_ended(db: &Connection, body: &[u8]) -> rusqlite::Result<()> {
    entry::read(body).map_or(Ok(()), |step| delays::forget_ended(db, &step))
}

/// Takes rows into the books: the index by step, the outbox where the report waits, and their marks.
pub(super) fn book(db: &Connection, rows: &[Unbooked]) -> rusqlite::Result<()> {
    if delays::any(db)? {
        for row in rows {
            forget_ended(db, &row.kept.body)?;
        }
    }
    queue(db, rows)?;
    let mut index: Vec<[i64; 2]> = rows.iter().map(|row| [key(row.kept.id), row.row]).collect();
    // In the order of the index, so that each of its pages is touched once.
    index.sort_unstable();
    let into = "INSERT OR IGNORE INTO steps (step, row)";
    bulk::insert(db, into, "(?, ?)", &index)?;
    let mut told = Vec::new();
    for row in rows {
        told.extend(row.kept.marks.news.iter().map(|news| [*news, row.row]));
    }
    once::note(db, told)?;
    stays::note(db, rows)
}

/// Puts those that wait into the outbox.
fn queue(db: &Connection, rows: &[Unbooked]) -> rusqlite::Result<()> {
    let waiting = || rows.iter().filter(|row| row.waits);
    let numbers = |row: &Unbooked| [row.row, key(row.kept.id), row.kept.at_ms];
    let all: Vec<[i64; 3]> = waiting().map(numbers).collect();
    let into = "INSERT OR IGNORE INTO outbox (row, step, first_ms, next_ms, failures, held)";
    bulk::insert(db, into, "(?, ?, ?, 0, 0, 0)", &all)?;
    for row in waiting().filter(|row| row.own_body.is_some()) {
        db.prepare_cached("UPDATE outbox SET body = ?2 WHERE row = ?1")?
            .execute(params![row.row, row.own_body])?;
    }
    Ok(())
}

/// The rows that a process which did not come to an end has not booked.
pub(super) fn unbooked(db: &Connection) -> rusqlite::Result<Vec<Unbooked>> {
    let booked_to: Option<i64> = db
        .query_row(
            // The cross join has the journal read from its end, not the index from its beginning.
            "SELECT j.row FROM journal j CROSS JOIN steps s ON s.step = j.step ORDER BY j.row DESC LIMIT 1",
            [],
            |row| row.get(0),
        )
        .optional()?;
    db.prepare("SELECT row, step, at_ms, queued, body FROM journal WHERE row > ?1")?
        .query_map([booked_to.unwrap_or(0)], |row| {
            // One that cannot be read is found out when it is to be mailed.
            let body = body_of(row, 4).unwrap_or_default();
            Ok(Unbooked {
                row: row.get(0)?,
                waits: row.get(3)?,
                own_body: None,
                kept: Arc::new(Kept {
                    id: id(row.get(1)?),
                    at_ms: row.get(2)?,
                    marks: Marks::in_body(body),
                    body: body.to_vec(),
                }),
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
        .query_row([key(id)], |row| step_of(row, 0))
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
        reports.push(Due {
            step,
            first_ms: row.get(1)?,
            failures: row.get(2)?,
            content: step_of(row, 3).map_err(unreadable),
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
        let marks = db
            .prepare_cached("DELETE FROM journal WHERE row = ?1 RETURNING body")?
            .query_row([row], |row| {
                Ok(Marks::in_body(body_of(row, 0).unwrap_or_default()))
            })?;
        db.prepare_cached("DELETE FROM steps WHERE step = ?1 AND row = ?2")?
            .execute([step, row])?;
        once::forget(db, &marks.news, *row)?;
        stays::forget(db, *row)?;
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

fn step_of(row: &Row<'_>, column: usize) -> rusqlite::Result<Step> {
    entry::read(body_of(row, column)?).map_err(|cause| {
        let blob = rusqlite::types::Type::Blob;
        rusqlite::Error::FromSqlConversionFailure(column, blob, cause)
    })
}

/// What is stored of a step: JSON is text, which `SQLite` tells from octets.
fn body_of<'row>(row: &'row Row<'_>, column: usize) -> rusqlite::Result<&'row [u8]> {
    Ok(row.get_ref(column)?.as_bytes()?)
}
