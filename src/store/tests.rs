//! The store by itself: durability in groups, thinning, retention, trouble.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::os::unix::fs::PermissionsExt;

use tempfile::TempDir;

use super::*;
use crate::clock::Clock;
use crate::track::{Event, Form, HopReport, RecipientStatus, Role, Status, TrackingId};

pub(super) const MINUTE_US: i64 = 60 * 1_000_000;
pub(super) const DAY_US: i64 = 24 * 60 * MINUTE_US;

/// A step of one recipient that happened now.
pub(super) fn a_step(number: u64, event: Event) -> Step {
    step_at(
        number,
        &[("bob@example.org", event)],
        Clock::system().now_us(),
    )
}

pub(super) fn step_at(number: u64, recipients: &[(&str, Event)], at_us: i64) -> Step {
    let group = |&(address, event): &(&str, Event)| RecipientStatus {
        original: address.into(),
        recipient: address.into(),
        event,
        status: Status::of_class(2),
        remote_mta: Some("mx.example.org".into()),
        attempted_us: Some(at_us),
        reply: Some("250 2.0.0 ok".to_owned()),
        remote_queue_id: None,
    };
    let id = TrackingId::new("m1@example.org").unwrap();
    let (step, hop) = (StepId(number), "mx1.example.net");
    let report = HopReport {
        parent: Some(StepId(7)),
        hop: 2,
        message_id: Some("m1@example.org".to_owned()),
        sent_ms: Some(1_795_478_400_000),
        queue_id: Some("4XyZ".into()),
        size: Some(2048),
        recipients: recipients.iter().map(group).collect(),
        ..HopReport::new(id, step, Role::Egress, hop, at_us - 5_000_000)
    };
    Step {
        told: Some(Form::Report),
        ..Step::new(report, "alice@example.com".to_owned())
    }
}

pub(super) fn open(dir: &TempDir) -> Store {
    Store::open(dir.path(), 30).unwrap()
}

pub(super) async fn all_due(store: &Store, now_ms: i64) -> Vec<Due> {
    let found = store.due(now_ms, 10_000, HashSet::new()).await.unwrap();
    found.reports
}

pub(super) fn told(due: &Due) -> Vec<&str> {
    let recipients = &due.content.as_ref().unwrap().report.recipients;
    recipients.iter().map(|g| g.recipient.as_str()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn puts_that_come_together_share_commits() {
    const PUTS: u64 = 2000;
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    let mut putting = tokio::task::JoinSet::new();
    for lane in 0..50 {
        let store = store.clone();
        putting.spawn(async move {
            for n in 0..PUTS / 50 {
                let step = a_step(lane * 1000 + n, Event::Relayed);
                assert_eq!(store.put(step).await.unwrap(), Put::Queued);
            }
        });
    }
    putting.join_all().await;
    let commits = store.counters().commits.load(Ordering::Relaxed);
    assert_eq!(store.counters().stored.load(Ordering::Relaxed), PUTS);
    eprintln!("{PUTS} puts by 50 tasks took {commits} commits");
    assert!(commits * 2 < PUTS, "{commits} commits for {PUTS} puts");
    assert_eq!(all_due(&store, 0).await.len(), 2000);
}

#[tokio::test]
async fn a_step_comes_back_as_it_was_put_also_after_a_restart() {
    let dir = TempDir::new().unwrap();
    let step = a_step(u64::MAX, Event::Failed);
    assert_eq!(open(&dir).put(step.clone()).await.unwrap(), Put::Queued);
    let store = open(&dir);
    assert_eq!(
        store.step(StepId(u64::MAX)).await.unwrap(),
        Some(step.clone())
    );
    assert_eq!(store.step(StepId(1)).await.unwrap(), None);
    let due = all_due(&store, 0).await;
    assert_eq!(due[0].content.as_ref().unwrap(), &step);
}

#[tokio::test]
async fn the_same_step_twice_is_one_report() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    let step = a_step(1, Event::Delivered);
    for _ in 0..2 {
        assert_eq!(store.put(step.clone()).await.unwrap(), Put::Queued);
    }
    assert_eq!(all_due(&store, 0).await.len(), 1);
    store.done(StepId(1)).await.unwrap();
    assert_eq!(store.put(step).await.unwrap(), Put::Queued);
    assert!(all_due(&store, 0).await.is_empty(), "it was mailed already");
}

#[tokio::test]
async fn a_step_not_to_be_mailed_is_only_remembered() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    let step = Step {
        told: None,
        ..a_step(1, Event::Accepted)
    };
    assert_eq!(store.put(step.clone()).await.unwrap(), Put::Remembered);
    assert_eq!(store.step(StepId(1)).await.unwrap(), Some(step));
    assert!(all_due(&store, i64::MAX).await.is_empty());
}

#[tokio::test]
async fn deferred_held_and_done_reports_are_told_apart() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    for n in 1..=3 {
        store.put(a_step(n, Event::Relayed)).await.unwrap();
    }
    store.done(StepId(1)).await.unwrap();
    store
        .defer(StepId(2), 5000, "451 later".to_owned())
        .await
        .unwrap();
    store.hold(StepId(3), "550 never".to_owned()).await.unwrap();
    let found = store.due(4999, 10, HashSet::new()).await.unwrap();
    assert!(found.reports.is_empty());
    assert_eq!(found.next_ms, Some(5000));
    let due = all_due(&store, 5000).await;
    assert_eq!(due.len(), 1);
    assert_eq!((due[0].step, due[0].failures), (StepId(2), 1));
    let busy = HashSet::from([StepId(2)]);
    let found = store.due(5000, 10, busy).await.unwrap();
    assert!(found.reports.is_empty(), "it is in hand");
}

/// Attempts every ten minutes for 26 hours: a mail at the first attempt and at the marks.
#[tokio::test]
async fn a_delay_is_told_at_growing_intervals() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    let start = Clock::system().now_us() - 2 * DAY_US;
    let mut told = Vec::new();
    for minute in (0..26 * 60).step_by(10) {
        let number = u64::try_from(minute).unwrap();
        let at = start + minute * MINUTE_US;
        let step = step_at(number, &[("bob@example.org", Event::Delayed)], at);
        match store.put(step).await.unwrap() {
            Put::Queued => told.push(minute),
            Put::Quiet => assert!(store.step(StepId(number)).await.unwrap().is_some()),
            Put::Remembered => panic!("it was to be mailed"),
        }
    }
    assert_eq!(told, [0, 20, 60, 240, 1440]);
    assert_eq!(all_due(&store, 0).await.len(), 5);
}

/// An attempt a minute, each with a reply of this list; the store is opened anew before each.
#[tokio::test]
async fn a_delay_is_told_again_for_another_reason() {
    let dir = TempDir::new().unwrap();
    let now = Clock::system().now_us();
    for (number, (reply, expected)) in (0..).zip([
        ("451 4.7.1 greylisted", Put::Queued),
        ("451 4.7.1 greylisted, still", Put::Quiet),
        ("452 4.2.2 over quota", Put::Queued),
        ("452 disk full", Put::Queued),
        ("451 4.7.1 greylisted", Put::Quiet),
        ("452 no disk", Put::Quiet),
        ("450 no disk", Put::Queued),
    ]) {
        let at = now + i64::try_from(number).unwrap() * MINUTE_US;
        let mut step = step_at(number, &[("bob@example.org", Event::Delayed)], at);
        for group in &mut step.report.recipients {
            let status = reply.split(' ').nth(1).and_then(|word| word.parse().ok());
            group.status = status.unwrap_or(Status::of_class(4));
            group.reply = Some(reply.to_owned());
        }
        assert_eq!(open(&dir).put(step).await.unwrap(), expected, "{reply}");
    }
}

#[tokio::test]
async fn recipients_whose_delay_was_told_are_left_out_of_a_mixed_report() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    let now = Clock::system().now_us();
    let (bob, eve) = ("bob@example.org", "eve@example.org");
    let put = async |n, groups: &[(&str, Event)], minute| {
        let step = step_at(n, groups, now + minute * MINUTE_US);
        store.put(step).await.unwrap()
    };
    assert_eq!(put(1, &[(bob, Event::Delayed)], 0).await, Put::Queued);
    let both = [(bob, Event::Delayed), (eve, Event::Delivered)];
    assert_eq!(put(2, &both, 5).await, Put::Queued);
    let due = all_due(&store, 0).await;
    assert_eq!(
        told(&due[1]),
        [eve],
        "bob's delay was told five minutes ago"
    );
    let whole = store.step(StepId(2)).await.unwrap().unwrap();
    assert_eq!(whole.report.recipients.len(), 2, "the journal keeps both");
    // Bob's delay ends; a new one is told at once.
    assert_eq!(put(3, &[(bob, Event::Relayed)], 6).await, Put::Queued);
    assert_eq!(put(4, &[(bob, Event::Delayed)], 7).await, Put::Queued);
    assert_eq!(put(5, &[(bob, Event::Delayed)], 8).await, Put::Quiet);
}

#[tokio::test]
async fn old_steps_go_unless_their_report_waits() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    let old = Clock::system().now_us() - 31 * DAY_US;
    for n in 1..=4 {
        let step = step_at(n, &[("bob@example.org", Event::Relayed)], old);
        store.put(step).await.unwrap();
    }
    store.put(a_step(5, Event::Relayed)).await.unwrap();
    store.done(StepId(1)).await.unwrap();
    store.done(StepId(2)).await.unwrap();
    store.hold(StepId(3), "550".to_owned()).await.unwrap();
    store.done(StepId(5)).await.unwrap();
    drop(store);
    // The look for old rows comes first at a start; a commit after it proves that it is over.
    let store = open(&dir);
    store.put(a_step(6, Event::Relayed)).await.unwrap();
    let mut kept = Vec::new();
    for n in 1..=6 {
        if store.step(StepId(n)).await.unwrap().is_some() {
            kept.push(n);
        }
    }
    assert_eq!(kept, [3, 4, 5, 6]);
}

#[tokio::test]
async fn a_full_queue_is_refused_at_once_and_recovers() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    let batch_and_queue = 256 + ORDERS_MAX as u64;
    // Written before, which takes the longest: the writer waits for the lock but a second.
    let puts = (0..batch_and_queue + 10).map(|n| store.put(a_step(n, Event::Relayed)));
    let puts: Vec<_> = puts.map(Box::pin).collect();
    // Another process holds the lock for a moment, so that the writer stands still.
    let other = Connection::open(dir.path().join(FILE_NAME)).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let mut waiting = Vec::new();
    let mut refused = 0;
    for mut put in puts {
        match futures_poll(put.as_mut()) {
            Some(Err(StoreError::Full)) => refused += 1,
            Some(other) => panic!("{other:?}"),
            None => waiting.push(put),
        }
    }
    assert!(refused >= 10, "{refused} refused");
    other.execute_batch("ROLLBACK").unwrap();
    let mut kept = 0;
    for put in waiting {
        kept += u64::from(put.await.is_ok());
    }
    assert_eq!(store.counters().lost.load(Ordering::Relaxed), refused);
    assert_eq!(kept, batch_and_queue + 10 - refused);
    assert_eq!(
        store.put(a_step(99_999, Event::Relayed)).await.unwrap(),
        Put::Queued
    );
}

/// One poll, without waiting.
fn futures_poll<F: Future>(future: std::pin::Pin<&mut F>) -> Option<F::Output> {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match future.poll(&mut context) {
        std::task::Poll::Ready(value) => Some(value),
        std::task::Poll::Pending => None,
    }
}

/// The disk says no (here: a trigger does), then yes again.
#[tokio::test]
async fn a_store_that_fails_says_so_and_recovers() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    let other = Connection::open(dir.path().join(FILE_NAME)).unwrap();
    other
        .execute_batch(
            "CREATE TRIGGER broken BEFORE INSERT ON journal
             BEGIN SELECT RAISE(ABORT, 'no space left'); END",
        )
        .unwrap();
    let failed = store.put(a_step(1, Event::Relayed)).await;
    assert!(matches!(failed, Err(StoreError::Database(_))), "{failed:?}");
    assert_eq!(store.counters().lost.load(Ordering::Relaxed), 1);
    other.execute_batch("DROP TRIGGER broken").unwrap();
    assert_eq!(
        store.put(a_step(1, Event::Relayed)).await.unwrap(),
        Put::Queued
    );
}

#[test]
fn the_file_and_its_directory_are_private() {
    let dir = TempDir::new().unwrap();
    let state_dir = dir.path().join("deep/state");
    let _store = Store::open(&state_dir, 30).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&state_dir), 0o700);
    assert_eq!(mode(&state_dir.join(FILE_NAME)), 0o600);
    assert_eq!(mode(&state_dir.join("store.sqlite-wal")), 0o600);
}

#[test]
fn a_place_that_cannot_hold_a_store_is_an_error() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "not a directory").unwrap();
    let error = Store::open(&file.join("state"), 30).unwrap_err();
    assert!(matches!(error, StoreError::File { .. }), "{error}");
    assert!(error.to_string().contains("file/state"), "{error}");
    // Root may write anywhere, but not where there is nothing to write to.
    let error = Store::open(Path::new("/proc/hoptrail"), 30).unwrap_err();
    assert!(matches!(error, StoreError::File { .. }), "{error}");
}

#[test]
fn a_damaged_or_newer_file_is_an_error() {
    let dir = TempDir::new().unwrap();
    fs::write(
        dir.path().join(FILE_NAME),
        "this is no database, ".repeat(500),
    )
    .unwrap();
    let error = Store::open(dir.path(), 30).unwrap_err();
    assert!(matches!(error, StoreError::Database(_)), "{error}");

    let dir = TempDir::new().unwrap();
    drop(open(&dir));
    let other = Connection::open(dir.path().join(FILE_NAME)).unwrap();
    other.pragma_update(None, "user_version", 99).unwrap();
    let error = Store::open(dir.path(), 30).unwrap_err();
    assert!(matches!(error, StoreError::Newer(99)), "{error}");
}
