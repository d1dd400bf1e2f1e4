//! The stays: messages that came into this hop, and of which nothing was put since. A departure, a failed attempt and
//! the news that a message is held each end one.
//!
//! Most messages leave before the books are kept, and then never stand here.

use std::collections::HashSet;

use rusqlite::Connection;

use super::journal::{Unbooked, id, key};
use crate::track::{Stay, StepId};

/// Begins and ends the stays of which these rows tell. The rows stand in the index by step already.
pub(super) fn note(db: &Connection, rows: &[Unbooked]) -> rusqlite::Result<()> {
    let mut begun = HashSet::new();
    let mut ended = HashSet::new();
    for row in rows {
        match row.marks.stay {
            Some(Stay::Begins) => drop(begun.insert(row.id)),
            Some(Stay::Ends(arrival)) => drop(ended.insert(arrival)),
            None => {}
        }
    }
    for row in rows {
        if begun.contains(&row.id) && !ended.contains(&row.id) {
            db.prepare_cached("INSERT OR IGNORE INTO stays (row, since_ms) VALUES (?1, ?2)")?
                .execute([row.row, row.marks.arrival_us.div_euclid(1000)])?;
        }
    }
    for arrival in ended.difference(&begun) {
        db.prepare_cached("DELETE FROM stays WHERE row = (SELECT row FROM steps WHERE step = ?1)")?
            .execute([key(*arrival)])?;
    }
    Ok(())
}

/// Up to `steps_max` arrivals before `before_ms` whose stay goes on, the oldest first.
pub(super) fn longer_than(
    db: &Connection,
    before_ms: i64,
    steps_max: usize,
) -> rusqlite::Result<Vec<StepId>> {
    let steps_max = i64::try_from(steps_max).unwrap_or(i64::MAX);
    db.prepare_cached(
        "SELECT j.step FROM stays s JOIN journal j ON j.row = s.row
         WHERE s.since_ms <= ?1 ORDER BY s.row LIMIT ?2",
    )?
    .query_map([before_ms, steps_max], |row| Ok(id(row.get(0)?)))?
    .collect()
}

/// Forgets the stay that began with this row.
pub(super) fn forget(db: &Connection, row: i64) -> rusqlite::Result<()> {
    db.prepare_cached("DELETE FROM stays WHERE row = ?1")?
        .execute([row])
        .map(|_| ())
}
