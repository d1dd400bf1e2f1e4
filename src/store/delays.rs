//! How often a delay is told: at once, then after 15 minutes, 1 hour, 4 hours, and daily since the first.
//! Without this every attempt of a patient MTA would be a mail.
//!
//! Keyed by tracking id, parent step and recipient, because each attempt is a step of its own.

use rusqlite::{Connection, OptionalExtension, params};

use crate::track::{Event, RecipientStatus, Step};

const MINUTE_US: i64 = 60 * 1_000_000;
const DAY_US: i64 = 24 * 60 * MINUTE_US;

/// When a delay is told, counted from the first attempt that met it.
const MARKS_US: [i64; 4] = [0, 15 * MINUTE_US, 60 * MINUTE_US, 240 * MINUTE_US];

/// The latest moment to tell a delay that lies no later than `elapsed_us` after the first.
fn latest_mark_us(elapsed_us: i64) -> i64 {
    if elapsed_us >= DAY_US {
        return elapsed_us - elapsed_us % DAY_US;
    }
    let passed = |mark: &&i64| **mark <= elapsed_us;
    MARKS_US.iter().rfind(passed).copied().unwrap_or(0)
}

/// Whether a delay first met at `first_us` and last told at `told_us` is to be told again at `now_us`.
fn is_due(first_us: i64, told_us: i64, now_us: i64) -> bool {
    latest_mark_us(now_us - first_us) > told_us - first_us
}

/// Whether the delay in this group of a step is to be told now; then it is noted as told.
pub(super) fn tell(
    db: &Connection,
    step: &Step,
    group: &RecipientStatus,
) -> rusqlite::Result<bool> {
    let now_us = group.attempted_us.unwrap_or(step.report.arrival_us);
    let parent = parent_key(step);
    let known: Option<(i64, i64)> = db
        .prepare_cached(
            "SELECT first_us, told_us FROM delays
             WHERE tracking_id = ?1 AND parent = ?2 AND recipient = ?3",
        )?
        .query_row(
            params![step.report.id.as_str(), parent, group.recipient.as_str()],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
        .optional()?;
    let first_us = known.map_or(now_us, |(first_us, _)| first_us);
    if known.is_some_and(|(first_us, told_us)| !is_due(first_us, told_us, now_us)) {
        return Ok(false);
    }
    db.prepare_cached(
        "INSERT OR REPLACE INTO delays (tracking_id, parent, recipient, first_us, told_us)
         VALUES (?1, ?2, ?3, ?4, ?5)",
    )?
    .execute(params![
        step.report.id.as_str(),
        parent,
        group.recipient.as_str(),
        first_us,
        now_us
    ])?;
    Ok(true)
}

/// Whether any delay is noted.
pub(super) fn any(db: &Connection) -> rusqlite::Result<bool> {
    db.prepare_cached("SELECT EXISTS (SELECT 1 FROM delays)")?
        .query_row([], |row| row.get(0))
}

/// Forgets the delays that `step` puts an end to: an expansion ends none, since members are not told of.
pub(super) fn forget_ended(db: &Connection, step: &Step) -> rusqlite::Result<()> {
    let ends = |event: Event| event.is_final() && event != Event::Expanded;
    let ended = |group: &&RecipientStatus| ends(group.event);
    let mut groups = step.report.recipients.iter().filter(ended);
    groups.try_for_each(|group| forget(db, step, group))
}

/// Deletes up to `rows_max` delays last told before `before_ms`; says how many.
pub(super) fn prune(db: &Connection, before_ms: i64, rows_max: usize) -> rusqlite::Result<usize> {
    let rows_max = i64::try_from(rows_max).unwrap_or(i64::MAX);
    db.prepare_cached(
        "DELETE FROM delays WHERE row IN (
             SELECT row FROM delays WHERE told_us < ?1 ORDER BY told_us LIMIT ?2)",
    )?
    .execute([before_ms.saturating_mul(1000), rows_max])
}

/// The recipient's delay is over: another one, later, is told at once.
fn forget(db: &Connection, step: &Step, group: &RecipientStatus) -> rusqlite::Result<()> {
    db.prepare_cached(
        "DELETE FROM delays WHERE tracking_id = ?1 AND parent = ?2 AND recipient = ?3",
    )?
    .execute(params![
        step.report.id.as_str(),
        parent_key(step),
        group.recipient.as_str()
    ])
    .map(|_| ())
}

/// Text, because a key column must not be NULL to be unique.
fn parent_key(step: &Step) -> String {
    step.report
        .parent
        .map(|parent| parent.to_string())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Attempts every five minutes for three days: told at the marks and nowhere else.
    #[test]
    fn a_patient_mta_is_told_of_at_the_marks() {
        let (first, mut told, mut minutes) = (1_000_000, 1_000_000, vec![0]);
        for minute in (5..=3 * 24 * 60).step_by(5) {
            let now = first + minute * MINUTE_US;
            if is_due(first, told, now) {
                told = now;
                minutes.push(minute);
            }
        }
        assert_eq!(minutes, [0, 15, 60, 240, 1440, 2880, 4320]);
    }

    #[test]
    fn a_missed_mark_is_told_once_at_the_next_attempt() {
        let at = |minute: i64| minute * MINUTE_US;
        assert!(is_due(0, 0, at(300)), "15, 60 and 240 have passed");
        assert!(!is_due(0, at(300), at(301)));
        assert!(is_due(0, at(300), at(1440)));
    }

    #[test]
    fn a_clock_set_back_tells_nothing_new() {
        assert!(!is_due(10 * DAY_US, 10 * DAY_US, 0));
    }
}
