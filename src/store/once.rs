//! Good news that is told once: what an address stood for, and that a recipient's mail has gone on. An MTA may
//! hand over the members of an alias one by one, and after a cut behind the dot it hands over again what was taken.
//!
//! A piece of news is an arrival at this hop, an event and an original recipient; a message that comes here again is
//! news again. The books know it by a number of 64 bits: 16 of the second of its arrival, so that what comes together
//! stands together, in few pages; the others of a digest. Among a hundred million pieces the odds are 1 in 3000 that
//! any two are taken for one.

use rusqlite::{Connection, params};
use sha2::{Digest, Sha256};

use super::bulk;
use crate::track::address::key;
use crate::track::{Event, Form, RecipientStatus, Stay, Step, StepId};

/// The news in a report about the departure of what came with an ingress' step, each once. A recipient who is named
/// twice in one transaction stands twice in its report, and a notification is another mail about the same.
pub(super) fn news(step: &Step) -> Vec<i64> {
    let groups = step.report.recipients.iter();
    let mut all: Vec<i64> = groups.filter_map(|group| of_group(step, group)).collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// The news in one group of a report, if it is told once.
pub(super) fn of_group(step: &Step, group: &RecipientStatus) -> Option<i64> {
    let once = matches!(
        group.event,
        Event::Expanded | Event::Transferred | Event::Relayed | Event::Delivered
    );
    match step.stay.as_ref().and_then(Stay::arrival) {
        Some(arrival) if once && step.told == Some(Form::Report) => {
            let second = step.report.arrival_us.div_euclid(1_000_000);
            Some(second << 48 | digest(arrival, group.event, &group.original))
        }
        _ => None,
    }
}

/// 48 bits.
fn digest(arrival: StepId, event: Event, original: &str) -> i64 {
    let mut digest = Sha256::new_with_prefix(arrival.0.to_be_bytes());
    digest.update(event.as_str());
    digest.update([0]);
    digest.update(key(original).as_bytes());
    let octets = digest.finalize();
    let first = octets.iter().take(6);
    first.fold(0, |number, octet| number << 8 | i64::from(*octet))
}

/// Whether the books have this as told.
pub(super) fn is_told(db: &Connection, news: i64) -> rusqlite::Result<bool> {
    db.prepare_cached("SELECT EXISTS (SELECT 1 FROM told WHERE news = ?1)")?
        .query_row([news], |row| row.get(0))
}

/// Whether the books have any of these as told.
pub(super) fn any_told<'a>(
    db: &Connection,
    news: impl IntoIterator<Item = &'a i64>,
) -> rusqlite::Result<bool> {
    for news in news {
        if is_told(db, *news)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Takes news into the books, each with the journal's row that tells it.
pub(super) fn note(db: &Connection, mut news: Vec<[i64; 2]>) -> rusqlite::Result<()> {
    // In the order of the table, so that each of its pages is touched once.
    news.sort_unstable();
    bulk::insert(
        db,
        "INSERT OR IGNORE INTO told (news, row)",
        "(?, ?)",
        &news,
    )
}

/// Forgets the news that this row told.
pub(super) fn forget(db: &Connection, news: &[i64], row: i64) -> rusqlite::Result<()> {
    let mut forget = db.prepare_cached("DELETE FROM told WHERE news = ?1 AND row = ?2")?;
    for news in news {
        forget.execute(params![news, row])?;
    }
    Ok(())
}
