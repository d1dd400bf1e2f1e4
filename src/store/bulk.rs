//! Many rows into one table with few statements: to begin and end one costs more than a row does.
//!
//! Must not know the tables.

use rusqlite::{Connection, params_from_iter};

/// Rows to a statement.
const LOT_ROWS: usize = 16;

/// Inserts rows of numbers by a statement `insert`, which ends before its VALUES. `row` has a `?` for each number of a row.
pub(super) fn insert<const N: usize>(
    db: &Connection,
    insert: &str,
    row: &str,
    rows: &[[i64; N]],
) -> rusqlite::Result<()> {
    let (lots, rest) = rows.as_chunks::<LOT_ROWS>();
    execute(
        db,
        insert,
        &[row; LOT_ROWS],
        lots.iter().map(|lot| lot.as_flattened()),
    )?;
    execute(db, insert, &[row], rest.iter().map(<[i64; N]>::as_slice))
}

fn execute<'a>(
    db: &Connection,
    insert: &str,
    rows: &[&str],
    mut lots: impl ExactSizeIterator<Item = &'a [i64]>,
) -> rusqlite::Result<()> {
    if lots.len() == 0 {
        return Ok(());
    }
    let mut insert = db.prepare_cached(&format!("{insert} VALUES {}", rows.join(", ")))?;
    lots.try_for_each(|numbers| insert.execute(params_from_iter(numbers)).map(|_| ()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn any_number_of_rows_is_inserted_each_once() {
        let db = Connection::open_in_memory().unwrap();
        db.execute_batch("CREATE TABLE pairs (a INTEGER PRIMARY KEY, b INTEGER, c INTEGER)")
            .unwrap();
        for count in [0, 1, 15, 16, 17, 32, 100] {
            db.execute_batch("DELETE FROM pairs").unwrap();
            let rows: Vec<[i64; 2]> = (0..count).map(|n| [n, -n]).collect();
            for _ in 0..2 {
                insert(
                    &db,
                    "INSERT OR IGNORE INTO pairs (a, b, c)",
                    "(?, ?, 7)",
                    &rows,
                )
                .unwrap();
            }
            let mut all = db.prepare("SELECT a, b FROM pairs WHERE c = 7").unwrap();
            let found = all.query_map([], |row| Ok([row.get(0)?, row.get(1)?]));
            let found: Vec<[i64; 2]> = found.unwrap().map(Result::unwrap).collect();
            assert_eq!(found, rows);
        }
    }
}
