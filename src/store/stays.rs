//! The stays: messages that came into this hop, with those of their recipients of whom nothing was seen since at a way
//! out. A departure and a failed attempt end the stay of whom they are about; that it is told lets it go on.
//!
//! Most messages leave before the books are kept, and then never stand here; most others leave for all at once, and need
//! no count of who is left.

use std::collections::HashMap;

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::entry::Unbooked;
use super::layout::{id, key};
use crate::track::stay::Part;
use crate::track::{Stay, StepId};

/// A message that is here, as far as it was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Staying {
    /// The step of its arrival.
    pub arrival: StepId,
    /// `None` for all.
    left: Option<Places>,
    quiet: bool,
}

impl Staying {
    /// Whether nothing was seen of the recipient at this place in the arrival's step.
    pub fn keeps(&self, place: usize) -> bool {
        self.left.as_ref().is_none_or(|left| left.has(place))
    }

    /// Whether this changes anything.
    pub fn heeds(&self, stay: &Stay) -> bool {
        match stay {
            Stay::Begins => false,
            Stay::Ends(_) => true,
            Stay::Part(part) => part.seen.iter().any(|place| self.keeps(*place)),
            Stay::Quiet(_) => !self.quiet,
        }
    }
}

/// Places among the recipients of an arrival, a bit for each.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Places(Vec<u8>);

impl Places {
    fn all(count: usize) -> Self {
        let mut bits = vec![u8::MAX; count.div_ceil(8)];
        if let (Some(last), over @ 1..) = (bits.last_mut(), count % 8) {
            *last >>= 8 - over;
        }
        Self(bits)
    }

    fn has(&self, place: usize) -> bool {
        let octet = self.0.get(place / 8);
        octet.is_some_and(|octet| octet >> (place % 8) & 1 == 1)
    }

    fn take_out(&mut self, places: &[usize]) {
        for place in places {
            if let Some(octet) = self.0.get_mut(place / 8) {
                *octet &= !(1 << (place % 8));
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.0.iter().all(|octet| *octet == 0)
    }
}

/// All that rows say of what came with one step, in whatever order they came.
#[derive(Default)]
struct Seen<'a> {
    all: bool,
    parts: Vec<&'a Part>,
    quiet: bool,
}

impl<'a> Seen<'a> {
    fn take(&mut self, stay: &'a Stay) {
        match stay {
            Stay::Begins => {}
            Stay::Ends(_) => self.all = true,
            Stay::Part(part) => self.parts.push(part),
            Stay::Quiet(_) => self.quiet = true,
        }
    }

    /// Takes them out of those who were left; whether anybody is then.
    fn leave(&self, left: &mut Option<Places>) -> bool {
        for part in &self.parts {
            let left = left.get_or_insert_with(|| Places::all(part.came_for));
            left.take_out(&part.seen);
        }
        !self.all && !left.as_ref().is_some_and(Places::is_empty)
    }
}

/// Begins and ends the stays of which these rows tell. The rows stand in the index by step already.
pub(super) fn note(db: &Connection, rows: &[Unbooked]) -> rusqlite::Result<()> {
    let mut seen: HashMap<StepId, Seen<'_>> = HashMap::new();
    for stay in rows.iter().filter_map(|row| row.kept.marks.stay.as_ref()) {
        if let Some(arrival) = stay.arrival() {
            seen.entry(arrival).or_default().take(stay);
        }
    }
    let begins = |row: &&Unbooked| row.kept.marks.stay == Some(Stay::Begins);
    for row in rows.iter().filter(begins) {
        let seen = seen.remove(&row.kept.id).unwrap_or_default();
        let mut left = None;
        if seen.leave(&mut left) {
            begin(db, row, left, seen.quiet)?;
        }
    }
    seen.iter()
        .try_for_each(|(arrival, seen)| go_on(db, *arrival, seen))
}

fn begin(
    db: &Connection,
    row: &Unbooked,
    left: Option<Places>,
    quiet: bool,
) -> rusqlite::Result<()> {
    let since_ms = row.kept.marks.arrival_us.div_euclid(1000);
    db.prepare_cached(
        "INSERT OR IGNORE INTO stays (row, since_ms, quiet, left) VALUES (?1, ?2, ?3, ?4)",
    )?
    .execute(params![row.row, since_ms, quiet, left.map(|left| left.0)])
    .map(|_| ())
}

/// What has been seen, to a stay that the books may have.
fn go_on(db: &Connection, arrival: StepId, seen: &Seen<'_>) -> rusqlite::Result<()> {
    if seen.all {
        return end(db, arrival);
    }
    let Some(Staying { mut left, .. }) = of(db, arrival)? else {
        return Ok(());
    };
    if !seen.leave(&mut left) {
        return end(db, arrival);
    }
    db.prepare_cached(
        "UPDATE stays SET left = ?2, quiet = quiet OR ?3
         WHERE row = (SELECT row FROM steps WHERE step = ?1)",
    )?
    .execute(params![key(arrival), left.map(|left| left.0), seen.quiet])
    .map(|_| ())
}

fn end(db: &Connection, arrival: StepId) -> rusqlite::Result<()> {
    db.prepare_cached("DELETE FROM stays WHERE row = (SELECT row FROM steps WHERE step = ?1)")?
        .execute([key(arrival)])
        .map(|_| ())
}

/// Who is left stands in this column, and behind it whether it is told.
fn staying(row: &Row<'_>, arrival: StepId, column: usize) -> rusqlite::Result<Staying> {
    let bits: Option<Vec<u8>> = row.get(column)?;
    Ok(Staying {
        arrival,
        left: bits.map(Places),
        quiet: row.get(column + 1)?,
    })
}

/// Up to `steps_max` arrivals before `before_ms` whose stay goes on and is to be told, the oldest first.
pub(super) fn longer_than(
    db: &Connection,
    before_ms: i64,
    steps_max: usize,
) -> rusqlite::Result<Vec<Staying>> {
    let steps_max = i64::try_from(steps_max).unwrap_or(i64::MAX);
    db.prepare_cached(
        "SELECT j.step, s.left, s.quiet FROM stays s JOIN journal j ON j.row = s.row
         WHERE s.since_ms <= ?1 AND s.quiet = 0 ORDER BY s.row LIMIT ?2",
    )?
    .query_map([before_ms, steps_max], |row| {
        staying(row, id(row.get(0)?), 1)
    })?
    .collect()
}

/// The stay that began with this step, if it goes on.
pub(super) fn of(db: &Connection, arrival: StepId) -> rusqlite::Result<Option<Staying>> {
    let found = "SELECT left, quiet FROM stays WHERE row = (SELECT row FROM steps WHERE step = ?1)";
    db.prepare_cached(found)?
        .query_row([key(arrival)], |row| staying(row, arrival, 0))
        .optional()
}

/// Forgets the stay that began with this row.
pub(super) fn forget(db: &Connection, row: i64) -> rusqlite::Result<()> {
    db.prepare_cached("DELETE FROM stays WHERE row = ?1")?
        .execute([row])
        .map(|_| ())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::collections::{BTreeMap, BTreeSet};
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::store::entry::{Kept, Marks};
    use crate::store::layout;

    /// Who is left of each arrival that stays, and whether it is quiet.
    type Left = BTreeMap<u64, (BTreeSet<usize>, bool)>;

    /// What happens to an arrival: its number, in which booking and where in it.
    type Happens = (u64, Stay, usize, u16);

    fn row(arrival: u64, stay: Stay) -> Unbooked {
        let begins = stay == Stay::Begins;
        Unbooked {
            row: i64::try_from(arrival).unwrap(),
            waits: false,
            own_body: None,
            kept: Arc::new(Kept {
                id: StepId(if begins { arrival } else { 1000 }),
                at_ms: 0,
                marks: Marks {
                    stay: Some(stay),
                    ..Marks::default()
                },
                body: Vec::new(),
            }),
        }
    }

    fn an_end(arrival: u64, count: usize) -> impl Strategy<Value = Stay> {
        let arrival = StepId(arrival);
        prop_oneof![
            1 => Just(Stay::Ends(arrival)),
            1 => Just(Stay::Quiet(arrival)),
            8 => prop::collection::vec(0..count, 1..=count).prop_map(move |seen| {
                Stay::Part(Part { arrival, came_for: count, seen })
            }),
        ]
    }

    /// An arrival for so many that begins in some booking, and what is seen of it in that or later ones.
    fn one(arrival: u64) -> impl Strategy<Value = (usize, Vec<Happens>)> {
        (1..20_usize, 0..3_usize).prop_flat_map(move |(count, first)| {
            let end = (an_end(arrival, count), first..4, any::<u16>());
            let ends = prop::collection::vec(end, 0..8);
            (Just(count), Just(first), any::<u16>(), ends).prop_map(
                move |(count, first, at, ends)| {
                    let ends = ends
                        .into_iter()
                        .map(|(end, in_, at)| (arrival, end, in_, at));
                    let begins = (arrival, Stay::Begins, first, at);
                    (count, ends.chain([begins]).collect())
                },
            )
        })
    }

    fn expected(arrivals: &[(usize, Vec<Happens>)]) -> Left {
        let mut all = Left::new();
        for ((count, happens), arrival) in arrivals.iter().zip(1..) {
            let mut left: BTreeSet<usize> = (0..*count).collect();
            let mut quiet = false;
            for (_, stay, ..) in happens {
                match stay {
                    Stay::Begins => {}
                    Stay::Ends(_) => left.clear(),
                    Stay::Quiet(_) => quiet = true,
                    Stay::Part(part) => left.retain(|place| !part.seen.contains(place)),
                }
            }
            if !left.is_empty() {
                all.insert(arrival, (left, quiet));
            }
        }
        all
    }

    fn kept(db: &Connection, arrivals: &[(usize, Vec<Happens>)]) -> Left {
        let told = longer_than(db, i64::MAX, 99).unwrap();
        let mut all = Left::new();
        for ((count, _), arrival) in arrivals.iter().zip(1..) {
            if let Some(stay) = of(db, StepId(arrival)).unwrap() {
                let left = (0..*count + 9).filter(|place| stay.keeps(*place));
                let left = left.filter(|place| stay.left.is_some() || place < count);
                all.insert(arrival, (left.collect(), !told.contains(&stay)));
            }
        }
        all
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]

        #[test]
        fn in_any_order_who_was_not_seen_is_left(arrivals in (one(1), one(2), one(3))) {
            let arrivals: [_; 3] = arrivals.into();
            let db = Connection::open_in_memory().unwrap();
            layout::set_up(&db, 0).unwrap();
            for arrival in 1..=3 {
                db.execute("INSERT INTO steps VALUES (?1, ?1)", [arrival]).unwrap();
                db.execute("INSERT INTO journal VALUES (?1, ?1, 0, 0, '')", [arrival]).unwrap();
            }
            let mut happens: Vec<Happens> = arrivals.iter().flat_map(|(_, all)| all.clone()).collect();
            happens.sort_by_key(|(.., booking, at)| (*booking, *at));
            for booking in happens.chunk_by(|a, b| a.2 == b.2) {
                let rows = booking.iter().map(|(arrival, stay, ..)| row(*arrival, stay.clone()));
                note(&db, &rows.collect::<Vec<_>>()).unwrap();
            }
            prop_assert_eq!(kept(&db, &arrivals), expected(&arrivals));
        }
    }
}
