//! How often a delay is told: at once, then after 15 minutes, 1 hour, 4 hours, and daily since the first; in between
//! where it has a reason that was not told yet, of so many. Without this every attempt of a patient MTA would be a mail.
//!
//! Keyed by tracking id, parent step and recipient, because each attempt is a step of its own.

use rusqlite::{Connection, OptionalExtension, params};

use crate::track::{Event, RecipientStatus, Status, Step};

const MINUTE_US: i64 = 60 * 1_000_000;
const DAY_US: i64 = 24 * 60 * MINUTE_US;

/// When a delay is told, counted from the first attempt that met it.
const MARKS_US: [i64; 4] = [0, 15 * MINUTE_US, 60 * MINUTE_US, 240 * MINUTE_US];

/// How many reasons of a delay are told as soon as they are met: a next hop with another one for each attempt must not
/// cause a mail for each.
const REASONS_MAX: usize = 8;

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

/// What was told of a delay.
struct Delay {
    /// When it was met first, µs.
    first_us: i64,
    /// When it was told last, µs.
    told_us: i64,
    /// The reasons that were told, with blanks between them.
    reasons: String,
}

impl Delay {
    fn begins(now_us: i64) -> Self {
        Self {
            first_us: now_us,
            told_us: now_us,
            reasons: String::new(),
        }
    }

    /// Whether it is to be told, for this reason, at `now_us`; then it is noted here. One that begins has no reasons yet.
    fn tell(&mut self, reason: &str, now_us: i64) -> bool {
        let told: Vec<&str> = self.reasons.split_ascii_whitespace().collect();
        let is_new = told.len() < REASONS_MAX && !told.contains(&reason);
        if !is_new && !is_due(self.first_us, self.told_us, now_us) {
            return false;
        }
        if is_new {
            self.reasons += if self.reasons.is_empty() { "" } else { " " };
            self.reasons += reason;
        }
        self.told_us = now_us;
        true
    }
}

/// Why an attempt failed: its enhanced status code, or the code of a reply without one.
fn reason(group: &RecipientStatus) -> String {
    let code = group.reply.as_deref().and_then(|reply| reply.get(..3));
    match code {
        Some(code) if group.status == Status::of_class(group.status.class) => code.to_owned(),
        _ => group.status.to_string(),
    }
}

/// Whether the delay in this group of a step is to be told now; then it is noted as told.
pub(super) fn tell(
    db: &Connection,
    step: &Step,
    group: &RecipientStatus,
) -> rusqlite::Result<bool> {
    let now_us = group.attempted_us.unwrap_or(step.report.arrival_us);
    let known = known(db, step, group)?;
    let mut delay = known.unwrap_or_else(|| Delay::begins(now_us));
    let tells = delay.tell(&reason(group), now_us);
    if tells {
        note(db, step, group, &delay)?;
    }
    Ok(tells)
}

fn known(db: &Connection, step: &Step, group: &RecipientStatus) -> rusqlite::Result<Option<Delay>> {
    db.prepare_cached(
        "SELECT first_us, told_us, reasons FROM delays
         WHERE tracking_id = ?1 AND parent = ?2 AND recipient = ?3",
    )?
    .query_row(
        params![
            step.report.id.as_str(),
            parent_key(step),
            group.recipient.as_str()
        ],
        |row| {
            Ok(Delay {
                first_us: row.get(0)?,
                told_us: row.get(1)?,
                reasons: row.get(2)?,
            })
        },
    )
    .optional()
}

fn note(
    db: &Connection,
    step: &Step,
    group: &RecipientStatus,
    delay: &Delay,
) -> rusqlite::Result<()> {
    db.prepare_cached(
        "INSERT OR REPLACE INTO delays (tracking_id, parent, recipient, first_us, told_us, reasons)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?
    .execute(params![
        step.report.id.as_str(),
        parent_key(step),
        group.recipient.as_str(),
        delay.first_us,
        delay.told_us,
        delay.reasons
    ])
    .map(|_| ())
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
    fn each_reason_is_told_once_between_the_marks_up_to_so_many() {
        let mut delay = Delay::begins(0);
        let mut told = |reason: &str, minute: i64| delay.tell(reason, minute * MINUTE_US);
        let three = ["4.7.1", "4.2.2", "452", "4.7.1", "452", "4.2.2"];
        assert_eq!(
            three.map(|reason| told(reason, 1)),
            [true, true, true, false, false, false]
        );
        assert!(told("4.7.1", 15), "a mark");
        assert!(!told("4.2.2", 16));
        let others: Vec<String> = (0..99).map(|n| format!("4.9.{n}")).collect();
        let counted = others.iter().filter(|other| told(other, 17)).count();
        assert_eq!(counted, REASONS_MAX - 3);
        assert!(told("4.9.99", 60), "a mark");
        assert!(!told("4.9.99", 61));
    }

    #[test]
    fn a_clock_set_back_tells_nothing_new() {
        assert!(!is_due(10 * DAY_US, 10 * DAY_US, 0));
    }
}
