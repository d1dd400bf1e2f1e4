//! What is told once, and what has come and not left: from memory, from the books, over restarts, kills and layouts.

#![allow(clippy::unwrap_used)]

use std::sync::LazyLock;

use tempfile::TempDir;

use super::tests::{DAY_US, all_due, open, step_at, told};
use super::*;
use crate::clock::Clock;
use crate::track::stay::Part;
use crate::track::{Event, Form, Stay};

/// The arrival that the departures below belong to.
const ARRIVAL: StepId = StepId(1);
const TEAM: &str = "team@x.org";
const BOB: &str = "bob@x.org";
const GOOD: [Event; 4] = [
    Event::Expanded,
    Event::Transferred,
    Event::Relayed,
    Event::Delivered,
];

pub(super) fn arrival(number: u64) -> Step {
    arrival_for(number, &[BOB])
}

pub(super) fn arrival_for(number: u64, recipients: &[&str]) -> Step {
    let groups: Vec<_> = recipients.iter().map(|to| (*to, Event::Accepted)).collect();
    Step {
        told: None,
        stay: Some(Stay::Begins),
        ..step_at(number, &groups, Clock::system().now_us())
    }
}

/// The arrivals of what is not seen leaving, at most so many.
pub(super) async fn staying(store: &Store, before_ms: i64, steps_max: usize) -> Vec<StepId> {
    let found = store.staying(before_ms, steps_max).await.unwrap();
    found.iter().map(|staying| staying.arrival).collect()
}

/// Of something that came when the first of them was made.
pub(super) fn departure(number: u64, arrival: StepId, groups: &[(&str, Event)]) -> Step {
    static CAME_US: LazyLock<i64> = LazyLock::new(|| Clock::system().now_us());
    let mut step = step_at(number, groups, Clock::system().now_us());
    step.report.arrival_us = *CAME_US;
    step.stay = Some(Stay::Ends(arrival));
    step
}

async fn puts(store: &Store, numbers: u64, groups: &[(&str, Event)]) -> Vec<Put> {
    let mut all = Vec::new();
    for number in [numbers, numbers + 1] {
        let step = departure(number, ARRIVAL, groups);
        all.push(store.put(step).await.unwrap());
    }
    all
}

#[tokio::test]
async fn good_news_of_an_arrival_is_told_once() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    for (numbers, event) in (10..).step_by(10).zip(GOOD) {
        // The members come one by one; or the MTA hands over again what was taken.
        let two = puts(&store, numbers, &[(TEAM, event)]).await;
        assert_eq!(two, [Put::Queued, Put::Quiet], "{event}");
    }
    for (numbers, event) in (50..).step_by(10).zip([Event::Failed, Event::Held]) {
        let two = puts(&store, numbers, &[(TEAM, event)]).await;
        assert_eq!(two, [Put::Queued; 2], "{event}");
    }
    assert_eq!(all_due(&store, 0).await.len(), 8);
    // A domain has no case, a local part has (RFC 5321, 2.4); the same message that came anew is another arrival.
    let again = departure(70, ARRIVAL, &[("team@X.org", Event::Expanded)]);
    assert_eq!(store.put(again).await.unwrap(), Put::Quiet);
    let other = departure(72, ARRIVAL, &[("Team@x.org", Event::Expanded)]);
    assert_eq!(store.put(other).await.unwrap(), Put::Queued);
    let anew = departure(71, StepId(2), &[(TEAM, Event::Expanded)]);
    assert_eq!(store.put(anew).await.unwrap(), Put::Queued);
}

#[tokio::test]
async fn what_was_told_is_known_from_the_books_and_after_a_restart() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    let first = departure(10, ARRIVAL, &[(TEAM, Event::Expanded)]);
    store.put(first).await.unwrap();
    store.done(StepId(10)).await.unwrap();
    store.book().await.unwrap();
    let again = departure(11, ARRIVAL, &[(TEAM, Event::Expanded)]);
    assert_eq!(store.put(again).await.unwrap(), Put::Quiet);
    drop(store);
    let store = open(&dir);
    let mixed = [
        (TEAM, Event::Expanded),
        (BOB, Event::Failed),
        ("eve@x.org", Event::Relayed),
    ];
    let step = departure(12, ARRIVAL, &mixed);
    assert_eq!(store.put(step).await.unwrap(), Put::Queued);
    assert_eq!(told(&all_due(&store, 0).await[0]), [BOB, "eve@x.org"]);
    let whole = store.step(StepId(12)).await.unwrap().unwrap();
    assert_eq!(whole.report.recipients.len(), 3, "the journal keeps all");
}

/// They wait for the lock that somebody holds, and then share a commit.
#[tokio::test(flavor = "multi_thread")]
async fn two_that_come_at_once_are_told_once() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    let other = Connection::open(dir.path().join(FILE_NAME)).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let mut putting = tokio::task::JoinSet::new();
    for number in 10..40 {
        let store = store.clone();
        let step = departure(number, ARRIVAL, &[(TEAM, Event::Expanded)]);
        putting.spawn(async move { store.put(step).await.unwrap() });
    }
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    other.execute_batch("ROLLBACK").unwrap();
    let mut outcomes = putting.join_all().await;
    outcomes.sort_by_key(|put| *put == Put::Quiet);
    assert_eq!(outcomes[..2], [Put::Queued, Put::Quiet]);
    assert_eq!(all_due(&store, 0).await.len(), 1);
}

#[tokio::test]
async fn who_is_named_twice_in_a_transaction_stands_twice_in_its_report() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    let groups = [
        (BOB, Event::Delayed),
        (TEAM, Event::Relayed),
        (TEAM, Event::Relayed),
    ];
    let step = departure(10, ARRIVAL, &groups);
    assert_eq!(store.put(step).await.unwrap(), Put::Queued);
    assert_eq!(told(&all_due(&store, 0).await[0]), [BOB, TEAM, TEAM]);
}

#[tokio::test]
async fn what_was_not_told_or_in_another_mail_is_still_news() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    let relayed = [(BOB, Event::Relayed)];
    let over_budget = Step {
        told: None,
        ..departure(10, ARRIVAL, &relayed)
    };
    let notification = Step {
        told: Some(Form::Notification { envid: None }),
        ..departure(11, ARRIVAL, &relayed)
    };
    assert_eq!(store.put(over_budget).await.unwrap(), Put::Remembered);
    assert_eq!(store.put(notification).await.unwrap(), Put::Queued);
    let two = puts(&store, 12, &relayed).await;
    assert_eq!(two, [Put::Queued, Put::Quiet]);
}

#[tokio::test]
async fn an_expansion_ends_no_delay() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    let mut puts = Vec::new();
    // bob keeps a copy, for which there is no room, and forwards one.
    for (number, event) in (10..).zip([Event::Delayed, Event::Expanded, Event::Delayed]) {
        let step = departure(number, ARRIVAL, &[(BOB, event)]);
        puts.push(store.put(step).await.unwrap());
    }
    assert_eq!(puts, [Put::Queued, Put::Queued, Put::Quiet]);
}

#[tokio::test]
async fn what_has_come_stays_until_anything_is_put_of_it() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    for number in 1..=5 {
        store.put(arrival(number)).await.unwrap();
    }
    // Before the books are kept, behind them, and by one who has nothing to tell.
    let leaves = |number, of| departure(number, StepId(of), &[(BOB, Event::Delayed)]);
    store.put(leaves(12, 2)).await.unwrap();
    store.book().await.unwrap();
    assert_eq!(staying(&store, i64::MAX, 9).await.len(), 4);
    let nothing_to_tell = Step {
        told: None,
        ..departure(13, StepId(3), &[])
    };
    store.put(nothing_to_tell).await.unwrap();
    store.put(leaves(15, 5)).await.unwrap();
    let left = staying(&store, i64::MAX, 9).await;
    assert_eq!(left, [ARRIVAL, StepId(4)], "seen at once");
    assert_eq!(staying(&store, i64::MAX, 1).await, [ARRIVAL]);
    let hour_ago = Clock::system().now_ms() - 3_600_000;
    assert!(staying(&store, hour_ago, 9).await.is_empty());
    drop(store);
    let store = open(&dir);
    assert_eq!(staying(&store, i64::MAX, 9).await, left);
}

#[tokio::test]
async fn what_is_told_once_and_what_stays_are_forgotten_with_their_steps() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    let old = |mut step: Step| {
        for group in &mut step.report.recipients {
            group.attempted_us = Some(Clock::system().now_us() - 31 * DAY_US);
        }
        step
    };
    store.put(old(arrival(1))).await.unwrap();
    let step = departure(10, StepId(2), &[(TEAM, Event::Relayed)]);
    store.put(old(step)).await.unwrap();
    store.done(StepId(10)).await.unwrap();
    store.put(arrival(3)).await.unwrap();
    drop(store);
    let store = open(&dir);
    // A commit behind the look for old rows.
    store.book().await.unwrap();
    assert_eq!(staying(&store, i64::MAX, 9).await, [StepId(3)]);
    let db = Connection::open(dir.path().join(FILE_NAME)).unwrap();
    let told: i64 = db
        .query_row("SELECT COUNT(*) FROM told", [], |row| row.get(0))
        .unwrap();
    assert_eq!(told, 0);
}

#[tokio::test]
async fn one_stays_while_others_leave_and_is_told_of_once() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    for number in [1, 2] {
        store.put(arrival_for(number, &[BOB, TEAM])).await.unwrap();
    }
    let part = |number, of, seen| Step {
        stay: Some(Stay::Part(Part {
            arrival: StepId(of),
            came_for: 2,
            seen: vec![seen],
        })),
        ..departure(number, StepId(of), &[(BOB, Event::Failed)])
    };
    let kept = |found: Vec<Staying>| -> Vec<_> {
        let places = |stay: &Staying| (stay.arrival.0, [stay.keeps(0), stay.keeps(1)]);
        found.iter().map(places).collect()
    };
    // One before the books are kept, one behind them; the same again changes nothing.
    store.put(part(11, 1, 0)).await.unwrap();
    store.book().await.unwrap();
    store.put(part(12, 2, 1)).await.unwrap();
    store.put(part(13, 2, 1)).await.unwrap();
    let both = [(1, [false, true]), (2, [true, false])];
    assert_eq!(kept(store.staying(i64::MAX, 9).await.unwrap()), both);
    // Told, one goes on staying; then it leaves.
    let told = Step {
        stay: Some(Stay::Quiet(StepId(2))),
        ..departure(14, StepId(2), &[(BOB, Event::Held)])
    };
    store.put(told).await.unwrap();
    for _ in 0..2 {
        let store = open(&dir);
        let due = store.staying(i64::MAX, 9).await.unwrap();
        assert_eq!(kept(due), both[..1]);
        let second = store.stay_of(StepId(2)).await.unwrap();
        assert_eq!(kept(second.into_iter().collect()), both[1..]);
    }
    store.put(part(15, 2, 0)).await.unwrap();
    assert_eq!(store.stay_of(StepId(2)).await.unwrap(), None);
}

/// The third layout knew no recipients.
#[tokio::test]
async fn a_file_of_the_third_layout_is_taken_over() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    store.put(arrival_for(1, &[BOB, TEAM])).await.unwrap();
    store.put(arrival_for(2, &[BOB, TEAM])).await.unwrap();
    store.book().await.unwrap();
    store.put(departure(12, StepId(2), &[])).await.unwrap();
    drop(store);
    Connection::open(dir.path().join(FILE_NAME))
        .unwrap()
        .execute_batch(
            "ALTER TABLE stays DROP COLUMN quiet; ALTER TABLE stays DROP COLUMN left;
             ALTER TABLE delays DROP COLUMN reasons;
             PRAGMA user_version = 3;",
        )
        .unwrap();
    for _ in 0..2 {
        let left = open(&dir).staying(i64::MAX, 9).await.unwrap();
        assert_eq!(left.len(), 1);
        assert_eq!(left[0].arrival, StepId(1));
        assert!(left[0].keeps(0) && left[0].keeps(1));
    }
}

/// The second layout had no such tables, and its last rows may not be in its books.
#[tokio::test]
async fn a_file_of_the_second_layout_is_taken_over() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    let step = departure(10, ARRIVAL, &[(TEAM, Event::Relayed)]);
    store.put(step).await.unwrap();
    drop(store);
    Connection::open(dir.path().join(FILE_NAME))
        .unwrap()
        .execute_batch(
            "DROP TABLE told; DROP TABLE stays; ALTER TABLE delays DROP COLUMN reasons;
             DELETE FROM steps; DELETE FROM outbox;
             PRAGMA user_version = 2;",
        )
        .unwrap();
    for _ in 0..2 {
        let store = open(&dir);
        assert_eq!(all_due(&store, 0).await.len(), 1);
        let again = departure(11, ARRIVAL, &[(TEAM, Event::Relayed)]);
        assert_eq!(store.put(again).await.unwrap(), Put::Quiet);
    }
}
