//! The books behind the journal: what is seen before they are kept, what becomes of notes that come meanwhile,
//! of failures, of old rows and of an older layout.

#![allow(clippy::unwrap_used)]

use std::time::Duration;

use tempfile::TempDir;

use super::once_tests::{arrival, arrival_for, departure};
use super::tests::{DAY_US, a_step, all_due, open, step_at};
use super::*;
use crate::clock::Clock;
use crate::track::stay::Part;
use crate::track::{Event, Exchange, HopReport, Stage, Stay};

/// Another process that looks into the file.
fn other(dir: &TempDir) -> Connection {
    Connection::open(dir.path().join(FILE_NAME)).unwrap()
}

fn rows(db: &Connection, table: &str) -> i64 {
    let sql = format!("SELECT COUNT(*) FROM {table}");
    db.query_row(&sql, [], |row| row.get(0)).unwrap()
}

/// Makes every insertion into `table` fail.
fn break_table(db: &Connection, table: &str) {
    let sql = format!(
        "CREATE TRIGGER broken_{table} BEFORE INSERT ON {table} BEGIN SELECT RAISE(ABORT, 'no space left'); END"
    );
    db.execute_batch(&sql).unwrap();
}

/// Waits until the books have `steps` steps; panics after half a minute.
async fn until_booked(db: &Connection, steps: i64) {
    for _ in 0..3000 {
        if rows(db, "steps") == steps {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{} of {steps} are booked", rows(db, "steps"));
}

#[tokio::test]
async fn a_put_needs_no_books_and_they_follow_by_themselves() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    let db = other(&dir);
    break_table(&db, "steps");
    for n in 1..=3 {
        let step = a_step(n, Event::Relayed);
        assert_eq!(store.put(step.clone()).await.unwrap(), Put::Queued);
        assert_eq!(store.step(StepId(n)).await.unwrap(), Some(step));
    }
    assert_eq!(all_due(&store, 0).await.len(), 3);
    assert!(store.book().await.is_err());
    assert_eq!((rows(&db, "journal"), rows(&db, "steps")), (3, 0));
    assert_eq!(all_due(&store, 0).await.len(), 3, "a failure loses nothing");
    db.execute_batch("DROP TRIGGER broken_steps").unwrap();
    until_booked(&db, 3).await;
    assert_eq!(rows(&db, "outbox"), 3);
    assert_eq!(all_due(&store, 0).await.len(), 3);
    assert!(store.step(StepId(2)).await.unwrap().is_some());
}

#[tokio::test]
async fn what_is_told_once_and_what_stays_need_no_books_at_first() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    let db = other(&dir);
    break_table(&db, "told");
    break_table(&db, "stays");
    let news = [("bob@x.org", Event::Relayed)];
    store.put(arrival(1)).await.unwrap();
    let first = departure(11, StepId(1), &news);
    assert_eq!(store.put(first).await.unwrap(), Put::Queued);
    let again = departure(12, StepId(1), &news);
    assert!(store.put(again.clone()).await.is_err(), "it needs them");
    db.execute_batch("DROP TRIGGER broken_told").unwrap();
    assert_eq!(store.put(again).await.unwrap(), Put::Quiet);
    // In parts too.
    store
        .put(arrival_for(2, &["bob@x.org", "eve@x.org"]))
        .await
        .unwrap();
    for place in [0, 1] {
        let part = Step {
            stay: Some(Stay::Part(Part {
                arrival: StepId(2),
                came_for: 2,
                seen: vec![place],
            })),
            ..departure(21 + place as u64, StepId(2), &[])
        };
        store.put(part).await.unwrap();
    }
    store.book().await.unwrap();
    let staying = store.staying(i64::MAX, 9).await.unwrap();
    assert!(
        staying.is_empty(),
        "and it left before anybody could note that it came"
    );
}

#[tokio::test]
async fn a_report_mailed_at_once_is_never_in_the_outbox() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    let db = other(&dir);
    break_table(&db, "outbox");
    store.put(a_step(1, Event::Relayed)).await.unwrap();
    store.done(StepId(1)).await.unwrap();
    store.book().await.unwrap();
    assert_eq!(rows(&db, "steps"), 1);
    drop(store);
    assert!(
        all_due(&open(&dir), i64::MAX).await.is_empty(),
        "the note is durable"
    );
}

#[tokio::test]
async fn a_failed_attempt_is_noted_of_a_report_that_was_not_in_the_books() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    for n in 1..=3 {
        store.put(a_step(n, Event::Relayed)).await.unwrap();
    }
    store
        .defer(StepId(1), 5000, "451".to_owned())
        .await
        .unwrap();
    store.hold(StepId(2), "550".to_owned()).await.unwrap();
    let due = all_due(&store, 4999).await;
    assert_eq!(due.len(), 1);
    assert_eq!(due[0].step, StepId(3));
    assert_eq!(all_due(&store, 5000).await.len(), 2);
}

#[tokio::test]
async fn the_same_step_again_is_known_also_from_the_books() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    store.put(a_step(1, Event::Relayed)).await.unwrap();
    store.done(StepId(1)).await.unwrap();
    store.book().await.unwrap();
    let again = store.put(a_step(1, Event::Relayed)).await.unwrap();
    assert_eq!(again, Put::Queued);
    store.book().await.unwrap();
    assert!(all_due(&store, i64::MAX).await.is_empty());
    assert_eq!(rows(&other(&dir), "journal"), 1);
}

#[tokio::test]
async fn the_same_delay_again_begins_no_new_one_when_it_is_over() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    let delayed = a_step(1, Event::Delayed);
    assert_eq!(store.put(delayed.clone()).await.unwrap(), Put::Queued);
    store.put(a_step(2, Event::Relayed)).await.unwrap();
    store.book().await.unwrap();
    assert_eq!(rows(&other(&dir), "delays"), 0);
    assert_eq!(store.put(delayed).await.unwrap(), Put::Queued);
    assert_eq!(rows(&other(&dir), "delays"), 0);
    assert_eq!(rows(&other(&dir), "journal"), 2);
}

#[tokio::test]
async fn a_step_that_somebody_deleted_is_not_told_again() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    store.put(a_step(1, Event::Relayed)).await.unwrap();
    store.done(StepId(1)).await.unwrap();
    store.book().await.unwrap();
    other(&dir).execute_batch("DELETE FROM journal").unwrap();
    let (again, next) = (a_step(1, Event::Relayed), a_step(2, Event::Relayed));
    let (again, next) = tokio::join!(store.put(again), store.put(next));
    assert_eq!((again.unwrap(), next.unwrap()), (Put::Quiet, Put::Queued));
    assert_eq!(all_due(&store, i64::MAX).await.len(), 1);
}

/// Somebody holds the lock, so that a booking stands still; the report is mailed meanwhile.
#[tokio::test]
async fn a_report_mailed_while_the_books_are_kept_is_not_mailed_again() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    let db = other(&dir);
    store.put(a_step(1, Event::Relayed)).await.unwrap();
    db.execute_batch("BEGIN IMMEDIATE").unwrap();
    let booking = store.book();
    for _ in 0..1000 {
        if store.shared.fresh().is_booking() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(store.shared.fresh().is_booking());
    let done = store.done(StepId(1));
    db.execute_batch("ROLLBACK").unwrap();
    booking.await.unwrap();
    done.await.unwrap();
    assert!(all_due(&store, i64::MAX).await.is_empty());
    assert_eq!((rows(&db, "steps"), rows(&db, "outbox")), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn many_more_steps_than_are_kept_in_memory_are_all_seen() {
    const STEPS: u64 = 6000;
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    let mut putting = tokio::task::JoinSet::new();
    for lane in 0..60 {
        let store = store.clone();
        putting.spawn(async move {
            for n in 0..STEPS / 60 {
                let id = lane << 32 | n;
                store.put(a_step(id, Event::Relayed)).await.unwrap();
                assert!(store.step(StepId(id)).await.unwrap().is_some());
                // Every other one is mailed at some time or other.
                if n % 2 == 0 {
                    store.done(StepId(lane << 32 | (n / 2))).await.unwrap();
                }
            }
        });
    }
    putting.join_all().await;
    let waiting: HashSet<StepId> = all_due(&store, 0).await.iter().map(|d| d.step).collect();
    for lane in 0..60 {
        for n in 0..STEPS / 60 {
            let id = StepId(lane << 32 | n);
            assert_eq!(waiting.contains(&id), n >= STEPS / 120, "{id}");
        }
    }
    drop(store);
    let store = open(&dir);
    let after: HashSet<StepId> = all_due(&store, 0).await.iter().map(|d| d.step).collect();
    assert_eq!(after, waiting);
}

/// At the old end of the journal: a report that a person has to look at, and a row from a time to come.
#[tokio::test]
async fn retention_passes_over_what_must_stay_and_takes_the_index_along() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    let now = Clock::system().now_us();
    let at = |days: i64| now + days * DAY_US;
    for (n, days) in [(1, -40), (2, 400), (3, -35), (4, -1), (5, -50)] {
        let step = step_at(n, &[("bob@example.org", Event::Relayed)], at(days));
        store.put(step).await.unwrap();
    }
    store.hold(StepId(1), "550".to_owned()).await.unwrap();
    for n in 2..=5 {
        store.done(StepId(n)).await.unwrap();
    }
    drop(store);
    let store = open(&dir);
    // A commit behind the look for old rows.
    store.book().await.unwrap();
    let mut kept = Vec::new();
    for n in 1..=5 {
        if store.step(StepId(n)).await.unwrap().is_some() {
            kept.push(n);
        }
    }
    assert_eq!(kept, [1, 2, 4, 5], "the last one lies behind a young one");
    let db = other(&dir);
    assert_eq!((rows(&db, "journal"), rows(&db, "steps")), (4, 4));
}

#[tokio::test]
async fn a_new_file_has_large_pages_and_an_old_one_keeps_its_own() {
    for (before, after) in [("", 8192), ("PRAGMA page_size = 1024; VACUUM;", 1024)] {
        let dir = TempDir::new().unwrap();
        other(&dir).execute_batch(before).unwrap();
        let store = open(&dir);
        for n in 1..=20 {
            store.put(a_step(n, Event::Relayed)).await.unwrap();
        }
        store.book().await.unwrap();
        assert_eq!(all_due(&store, 0).await.len(), 20);
        let octets: i64 = other(&dir)
            .pragma_query_value(None, "page_size", |row| row.get(0))
            .unwrap();
        assert_eq!(octets, after);
    }
}

/// A file as the first layout had it, written by hand.
#[tokio::test]
async fn a_file_of_the_first_layout_is_taken_over() {
    const LAYOUT_1: &str = r#"
        CREATE TABLE journal (row INTEGER PRIMARY KEY, step INTEGER NOT NULL UNIQUE, at_ms INTEGER NOT NULL,
            queued INTEGER NOT NULL, body BLOB NOT NULL);
        CREATE INDEX journal_age ON journal (at_ms);
        CREATE TABLE outbox (step INTEGER PRIMARY KEY, first_ms INTEGER NOT NULL, next_ms INTEGER NOT NULL,
            failures INTEGER NOT NULL, held INTEGER NOT NULL, reason TEXT, body BLOB) WITHOUT ROWID;
        CREATE INDEX outbox_due ON outbox (next_ms) WHERE held = 0;
        CREATE TABLE delays (row INTEGER PRIMARY KEY, tracking_id TEXT NOT NULL, parent TEXT NOT NULL,
            recipient TEXT NOT NULL, first_us INTEGER NOT NULL, told_us INTEGER NOT NULL,
            UNIQUE (tracking_id, parent, recipient));
        CREATE INDEX delays_age ON delays (told_us);
        INSERT INTO journal VALUES (7, 1, 4000000000000, 1, CAST('{"report":{"id":"m1","step":"0000000000000001",
            "parent":null,"hop":1,"role":"ingress","reporting_mta":"mx1","arrival_us":5,"message_id":null,
            "sent_ms":null,"queue_id":null,"size":null,
            "times_in":[{"stage":"mail","command_us":1,"reply_us":2}],"times_out":[],
            "recipients":[{"original":"b@c","recipient":"b@c","event":"accepted","status":"2.0.0",
                "remote_mta":null,"attempted_us":null,"reply":null,"remote_queue_id":null}]},
            "originator":"a@b","certificate":null,"told":"report"}' AS BLOB));
        INSERT INTO journal SELECT 8, -2, at_ms, 1, body FROM journal;
        INSERT INTO journal SELECT 9, 3, at_ms, 1, body FROM journal WHERE row = 7;
        INSERT INTO outbox VALUES (1, 100, 0, 0, 0, NULL, NULL), (-2, 100, 5000, 2, 0, '451', NULL),
            (3, 100, 0, 1, 1, '550', NULL);
        INSERT INTO delays VALUES (1, 'm1', '', 'b@c', 1, 4000000000000000);
        PRAGMA user_version = 1;"#;
    let dir = TempDir::new().unwrap();
    other(&dir).execute_batch(LAYOUT_1).unwrap();
    for _ in 0..2 {
        let store = open(&dir);
        let step = store.step(StepId(1)).await.unwrap().unwrap();
        assert_eq!(step.originator, "a@b");
        let exchange = Exchange {
            stage: Stage::Mail,
            command_us: 1,
            reply_us: 2,
        };
        assert_eq!(step.report.times_in, [exchange]);
        let second = StepId(2_u64.wrapping_neg());
        assert!(store.step(second).await.unwrap().is_some());
        let now: Vec<StepId> = all_due(&store, 0).await.iter().map(|d| d.step).collect();
        assert_eq!(now, [StepId(1)]);
        let later = all_due(&store, 5000).await;
        assert_eq!((later[1].step, later[1].failures), (second, 2));
        assert_eq!(later.len(), 2, "one is held");
    }
    let db = other(&dir);
    assert_eq!(
        (
            rows(&db, "journal"),
            rows(&db, "outbox"),
            rows(&db, "delays")
        ),
        (3, 3, 1)
    );
}

/// A delay as the fifth layout had it, which noted no reasons.
#[tokio::test]
async fn a_delay_of_the_fifth_layout_is_known() {
    let dir = TempDir::new().unwrap();
    drop(open(&dir));
    let db = other(&dir);
    db.execute_batch(
        "ALTER TABLE delays DROP COLUMN reasons;
         INSERT INTO delays VALUES (1, 'm1', '', 'b@c', 1, 4000000000000000);
         PRAGMA user_version = 5;",
    )
    .unwrap();
    for _ in 0..2 {
        drop(open(&dir));
        let kept: (i64, String) = db
            .query_row("SELECT told_us, reasons FROM delays", [], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })
            .unwrap();
        assert_eq!(kept, (4_000_000_000_000_000, String::new()));
    }
}

/// A step of a day to come, as the fourth layout had it.
const STEP_4: &str = r#"{"report":{"id":"m1","step":"0000000000000001","hop":1,"role":"ingress",
    "reporting_mta":"mx1","arrival_us":5,"message_id":"m1@b","sent_ms":4,"size":2109,
    "times_in":[["mail",1,2],["dot",5,6]],
    "tls_in":{"tls":{"version":"1.3","cipher":"TLS_AES_256_GCM_SHA384","verified":false}},"tls_out":null,
    "recipients":[{"original":"b@c","recipient":"b@c","event":"accepted","status":"2.0.0","remote_mta":"mx1",
        "attempted_us":4000000000000000,"reply":"250 2.0.0 Ok"}]},
    "originator":"a@b","certificate":"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8","told":"report",
    "asked":{"by":"network","from":"127.0.0.1"},"stay":"begins"}"#;

/// A file as the fourth layout had it, where steps were text: one that has been booked, and one that was to be.
#[tokio::test]
async fn a_file_of_the_fourth_layout_goes_on_with_its_rows() {
    const LAYOUT_4: &str = "DROP TABLE journal; ALTER TABLE delays DROP COLUMN reasons;
        CREATE TABLE journal (row INTEGER PRIMARY KEY, step INTEGER NOT NULL, at_ms INTEGER NOT NULL,
            queued INTEGER NOT NULL, body TEXT NOT NULL);
        INSERT INTO journal SELECT value, value, 4000000000000, 1,
            replace('STEP', '0000000000000001', format('%016x', value)) FROM json_each('[1, 2]');
        INSERT INTO steps VALUES (1, 1);
        INSERT INTO outbox VALUES (1, 1, 100, 0, 0, 0, NULL, NULL);";
    let dir = TempDir::new().unwrap();
    drop(open(&dir));
    let db = other(&dir);
    db.execute_batch(&LAYOUT_4.replace("STEP", STEP_4)).unwrap();
    db.pragma_update(None, "user_version", 4).unwrap();

    let store = open(&dir);
    let old = store.step(StepId(1)).await.unwrap().unwrap();
    assert_eq!(old.originator, "a@b");
    assert_eq!(old.report.times_in[1].reply_us, 6);
    assert_eq!(old.stay, Some(Stay::Begins));
    let numbered = |number| Step {
        report: HopReport {
            step: StepId(number),
            ..old.report.clone()
        },
        ..old.clone()
    };
    assert_eq!(store.put(numbered(3)).await.unwrap(), Put::Queued);
    store.book().await.unwrap();
    assert_eq!(store.step(StepId(3)).await.unwrap(), Some(numbered(3)));
    let due = all_due(&store, 0).await;
    let due: Vec<Step> = due.into_iter().map(|due| due.content.unwrap()).collect();
    assert_eq!(due, [1, 2, 3].map(numbered));
    let watched = rows(&db, "stays");
    assert_eq!(watched, 2, "the one that was to be booked, and the new one");
}

/// A step as the sixth layout had it, in `MessagePack` with its ids, times and codes as text.
const STEP_6: &str = "9adc0013a26d31b030303030303030303030303030303031b03030303030303030303030303030626202a6656772657373a36d783105a46d\
    31406204c0cd083dc0c0909293a46d61696cfd0293a3646f7405069193a465686c6fcf000660fa643be000cf000660fa643be064a5706c61\
    696e81a3746c7393a3312e33b6544c535f4145535f3235365f47434d5f534841333834c29198a3624063a3624063a764656c61796564a534\
    2e372e31a36d7831cf000e35fa931a0000af34353120342e372e31206c61746572c0a3614062d92b41414543417751464267634943516f4c\
    4441304f4478415245684d554652595847426b6147787764486838a67265706f727492a76e6574776f726b81a25634947f000001c0c0c281\
    a47061727493b030303030303030303030303030306161039101b030303030303030303030303030303031";

#[tokio::test]
async fn a_file_of_the_sixth_layout_goes_on_with_its_rows() {
    let dir = TempDir::new().unwrap();
    drop(open(&dir));
    let db = other(&dir);
    db.execute_batch(&format!(
        "INSERT INTO journal VALUES (1, 1, 4000000000000, 1, x'{STEP_6}'); PRAGMA user_version = 6;"
    ))
    .unwrap();

    let store = open(&dir);
    let old = store.step(StepId(1)).await.unwrap().unwrap();
    let report = &old.report;
    let time = |stage, command_us, reply_us| Exchange {
        stage,
        command_us,
        reply_us,
    };
    assert_eq!(
        report.times_in,
        [time(Stage::Mail, -3, 2), time(Stage::Dot, 5, 6)]
    );
    let sent_us = 1_795_478_400_000_000;
    assert_eq!(
        report.times_out,
        [time(Stage::Ehlo, sent_us, sent_us + 100)]
    );
    assert_eq!(report.parent, Some(StepId(0xbb)));
    assert_eq!(report.recipients[0].status.to_string(), "4.7.1");
    assert_eq!(
        old.certificate.unwrap().to_string(),
        "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"
    );
    let part = Part {
        arrival: StepId(0xaa),
        came_for: 3,
        seen: vec![1],
    };
    assert_eq!(old.stay, Some(Stay::Part(part)));

    let mut new = old.clone();
    new.report.step = StepId(2);
    new.report.arrival_us = Clock::system().now_us();
    assert_eq!(store.put(new.clone()).await.unwrap(), Put::Queued);
    store.book().await.unwrap();
    assert_eq!(store.step(StepId(2)).await.unwrap(), Some(new));
    let octets = |row: i64| -> i64 {
        let length = "SELECT length(body) FROM journal WHERE row = ?1";
        db.query_row(length, [row], |row| row.get(0)).unwrap()
    };
    assert!(octets(2) + 60 < octets(1), "{} {}", octets(1), octets(2));
}
