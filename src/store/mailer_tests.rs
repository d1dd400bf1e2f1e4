//! The mailer against a small server on loopback: exactly once, in time, and what it does with refusals.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use futures_util::future::join_all;
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::sink::Sink;
use super::tests::{DAY_US, MINUTE_US, a_step, all_due, open, step_at};
use super::transport::Transport;
use super::*;
use crate::clock::Clock;
use crate::track::Event;

/// A mail that says which steps it is of, with lines that need stuffing.
fn compose(steps: &[&Step], _now_us: i64) -> Vec<u8> {
    let steps = steps.iter().map(|step| step.report.step.to_string());
    let steps = steps.collect::<Vec<_>>().join(" ");
    format!("Subject: {steps}\r\n\r\n.dot\r\n..\r\nend\r\n").into_bytes()
}

pub(super) struct Mailer {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Mailer {
    pub(super) fn start(store: &Store, via: &str, ahead_us: i64) -> Self {
        Self::composing(store, via, ahead_us, compose)
    }

    fn composing(
        store: &Store,
        via: &str,
        ahead_us: i64,
        compose: impl Fn(&[&Step], i64) -> Vec<u8> + Send + Sync + 'static,
    ) -> Self {
        let transport = Transport::new(via.parse().unwrap(), "hop.example").unwrap();
        let (stop, stopped) = watch::channel(false);
        let clock = Clock::shifted(ahead_us);
        let task = tokio::spawn(mailer::run(
            store.clone(),
            transport,
            compose,
            clock,
            stopped,
        ));
        Self { stop, task }
    }

    pub(super) async fn stop(self) {
        self.stop.send(true).unwrap();
        self.task.await.unwrap();
    }
}

pub(super) fn count(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

/// Waits until `done` holds; panics after half a minute.
pub(super) async fn until(done: impl Fn() -> bool) {
    for _ in 0..3000 {
        if done() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("it did not come about");
}

pub(super) fn reason(dir: &TempDir, step: u64) -> (bool, String) {
    let db = Connection::open(dir.path().join(FILE_NAME)).unwrap();
    db.query_row(
        "SELECT held, reason FROM outbox WHERE step = ?1",
        [step.cast_signed()],
        |row| Ok((row.get(0)?, row.get(1)?)),
    )
    .unwrap()
}

#[tokio::test]
async fn a_report_leaves_within_a_second_with_its_envelope_and_octets() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    let sink = Sink::start(&["8BITMIME", "dsn"]).await;
    let mailer = Mailer::start(&store, &format!("smtp://127.0.0.1:{}", sink.port), 0);
    // The mailer is idle by now, so that the put has to wake it.
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    let step = a_step(1, Event::Relayed);
    store.put(step.clone()).await.unwrap();
    let begun = std::time::Instant::now();
    let received = sink.wait_for(1).await.remove(0);
    assert!(begun.elapsed().as_millis() < 1000, "{:?}", begun.elapsed());
    assert_eq!(received.mail, "MAIL FROM:<>");
    assert_eq!(received.rcpt, ["RCPT TO:<alice@example.com> NOTIFY=NEVER"]);
    assert_eq!(received.data, compose(&[&step], 0));
    until(|| sink.commands().last().is_some_and(|c| c == "QUIT")).await;
    mailer.stop().await;
    assert!(all_due(&store, i64::MAX).await.is_empty());
}

#[tokio::test]
async fn notify_is_not_said_to_a_server_without_dsn() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    let sink = Sink::start(&["SIZE"]).await;
    store.put(a_step(1, Event::Relayed)).await.unwrap();
    let mailer = Mailer::start(&store, &format!("smtp://127.0.0.1:{}", sink.port), 0);
    let received = sink.wait_for(1).await;
    assert_eq!(received[0].rcpt, ["RCPT TO:<alice@example.com>"]);
    mailer.stop().await;
}

#[tokio::test]
async fn an_lmtp_server_is_greeted_as_one() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    let not_lmtp = |line: &str| {
        let smtp = line.starts_with("EHLO") || line.starts_with("HELO");
        smtp.then(|| "500 5.5.1 this is LMTP".to_owned())
    };
    let sink = Sink::start_with(&["DSN"], not_lmtp).await;
    let step = a_step(1, Event::Relayed);
    store.put(step.clone()).await.unwrap();
    let mailer = Mailer::start(&store, &format!("lmtp://127.0.0.1:{}", sink.port), 0);
    let received = sink.wait_for(1).await.remove(0);
    assert_eq!(received.rcpt, ["RCPT TO:<alice@example.com> NOTIFY=NEVER"]);
    assert_eq!(received.data, compose(&[&step], 0));
    assert_eq!(sink.commands()[0], "LHLO hop.example");
    mailer.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_reports_come_exactly_once_over_few_connections() {
    const REPORTS: usize = 1000;
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    let sink = Sink::start(&["DSN"]).await;
    let mailer = Mailer::start(&store, &format!("smtp://127.0.0.1:{}", sink.port), 0);
    let mut putting = tokio::task::JoinSet::new();
    for lane in 0..20 {
        let store = store.clone();
        putting.spawn(async move {
            for n in 0..50 {
                store
                    .put(a_step(lane * 50 + n, Event::Relayed))
                    .await
                    .unwrap();
            }
        });
    }
    putting.join_all().await;
    sink.wait_for(REPORTS).await;
    until(|| count(&store.counters().sent) == 1000).await;
    mailer.stop().await;
    let mut bodies: Vec<_> = sink.received().into_iter().map(|r| r.data).collect();
    assert_eq!(bodies.len(), REPORTS);
    bodies.sort();
    bodies.dedup();
    assert_eq!(bodies.len(), REPORTS, "some came twice");
    assert!(all_due(&store, i64::MAX).await.is_empty());
    let connections = sink.seen.lock().unwrap().connections;
    eprintln!("{REPORTS} reports over {connections} connections");
    assert!(connections * 3 < REPORTS, "{connections}");
}

#[tokio::test]
async fn a_restart_resumes_what_was_put_before() {
    let dir = TempDir::new().unwrap();
    open(&dir).put(a_step(1, Event::Relayed)).await.unwrap();
    let store = open(&dir);
    let sink = Sink::start(&[]).await;
    let mailer = Mailer::start(&store, &format!("smtp://127.0.0.1:{}", sink.port), 0);
    sink.wait_for(1).await;
    mailer.stop().await;
}

#[tokio::test]
async fn a_recipient_refused_for_good_is_held_with_the_reply_and_harms_no_other() {
    refused_recipient(&["DSN"]).await;
    refused_recipient(&["DSN", "PIPELINING"]).await;
}

async fn refused_recipient(keywords: &[&'static str]) {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    let refuse = |line: &str| {
        let bob = line.starts_with("RCPT TO:<gone@");
        bob.then(|| "550-5.1.1 no such user\r\n550 5.1.1 here".to_owned())
    };
    let sink = Sink::start_with(keywords, refuse).await;
    for n in 1..=3 {
        let mut step = a_step(n, Event::Relayed);
        if n == 2 {
            step.originator = "gone@example.com".to_owned();
        }
        store.put(step).await.unwrap();
    }
    let mailer = Mailer::start(&store, &format!("smtp://127.0.0.1:{}", sink.port), 0);
    sink.wait_for(2).await;
    until(|| count(&store.counters().held) == 1).await;
    mailer.stop().await;
    assert_eq!(
        reason(&dir, 2),
        (true, "550 5.1.1 no such user here".to_owned())
    );
    assert_eq!(
        sink.seen.lock().unwrap().connections,
        1,
        "over one connection"
    );
    assert!(all_due(&store, i64::MAX).await.is_empty());
    // What the log tells a person to run.
    let told = store.revival(StepId(2));
    let path = format!("sqlite3 '{}' ", dir.path().join(FILE_NAME).display());
    let sql = told.strip_prefix(&path).unwrap().trim_matches('"');
    drop(store);
    let db = Connection::open(dir.path().join(FILE_NAME)).unwrap();
    assert_eq!(db.execute(sql, []).unwrap(), 1);
    let due = all_due(&open(&dir), i64::MAX).await;
    let again: Vec<_> = due.iter().map(|due| (due.step, due.failures)).collect();
    assert_eq!(again, [(StepId(2), 0)]);
    let since_ms = Clock::system().now_ms() - due[0].first_ms;
    assert!((0..60_000).contains(&since_ms), "{since_ms}");
}

#[tokio::test]
async fn refusals_of_the_content_are_for_good_and_of_the_sender_not() {
    let stages = [(".", "held"), ("DATA", "held"), ("MAIL", "deferred")];
    let keywords: [&[&'static str]; 2] = [&[], &["PIPELINING"]];
    for ((at, counted), keywords) in stages.into_iter().flat_map(|s| keywords.map(|k| (s, k))) {
        let dir = TempDir::new().unwrap();
        let store = open(&dir);
        let refuse = move |line: &str| line.starts_with(at).then(|| "550 5.7.1 no".to_owned());
        let sink = Sink::start_with(keywords, refuse).await;
        store.put(a_step(1, Event::Relayed)).await.unwrap();
        let mailer = Mailer::start(&store, &format!("smtp://127.0.0.1:{}", sink.port), 0);
        let counters = store.counters();
        until(|| count(&counters.held) + count(&counters.deferred) == 1).await;
        mailer.stop().await;
        assert_eq!(count(&counters.held), u64::from(counted == "held"), "{at}");
        assert_eq!(
            reason(&dir, 1),
            (counted == "held", "550 5.7.1 no".to_owned())
        );
    }
}

/// The clock is set forward instead of waiting: too early nothing is tried, in time it is.
#[tokio::test]
async fn a_report_deferred_is_tried_again_when_its_time_has_come() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    let refusing = Sink::start_with(&[], |line| {
        line.starts_with("RCPT")
            .then(|| "451 4.7.1 greylisted".to_owned())
    })
    .await;
    let via = format!("smtp://127.0.0.1:{}", refusing.port);
    store.put(a_step(1, Event::Relayed)).await.unwrap();
    // A failure at once, one after a minute, one two minutes later; nothing in between.
    for (ahead_seconds, failures) in [(0, 1), (50, 1), (61, 2), (170, 2), (182, 3)] {
        let mailer = Mailer::start(&store, &via, ahead_seconds * 1_000_000);
        until(|| count(&store.counters().deferred) == failures).await;
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        mailer.stop().await;
        let counted = count(&store.counters().deferred);
        assert_eq!(counted, failures, "{ahead_seconds} s later");
    }
    let sink = Sink::start(&[]).await;
    let via = format!("smtp://127.0.0.1:{}", sink.port);
    let mailer = Mailer::start(&store, &via, 10 * MINUTE_US);
    sink.wait_for(1).await;
    mailer.stop().await;
}

#[tokio::test]
async fn a_report_is_given_up_after_five_days_and_kept() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    let nobody = "smtp://127.0.0.1:1";
    let five_days_ago = Clock::system().now_us() - 5 * DAY_US;
    let almost = step_at(
        1,
        &[("bob@example.org", Event::Relayed)],
        five_days_ago + 5 * MINUTE_US,
    );
    let old = step_at(2, &[("bob@example.org", Event::Relayed)], five_days_ago);
    store.put(almost).await.unwrap();
    store.put(old).await.unwrap();
    let mailer = Mailer::start(&store, nobody, 0);
    let counters = store.counters();
    until(|| count(&counters.held) == 1 && count(&counters.deferred) == 1).await;
    mailer.stop().await;
    assert!(!reason(&dir, 1).0);
    let (held, why) = reason(&dir, 2);
    assert!(held && why.contains("127.0.0.1:1"), "{why}");
}

#[tokio::test]
async fn a_report_that_breaks_the_session_does_not_hold_up_the_others() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    let sink = Sink::start_with(&[], |line| match line {
        "RCPT TO:<bad1@example.com>" => Some("421 4.3.2 closing".to_owned()),
        "RCPT TO:<bad2@example.com>" => Some(String::new()),
        _ => None,
    })
    .await;
    for (n, originator) in ["bad1", "bad2", "good", "good"].iter().enumerate() {
        let mut step = a_step(n as u64, Event::Relayed);
        step.originator = format!("{originator}@example.com");
        store.put(step).await.unwrap();
    }
    let mailer = Mailer::start(&store, &format!("smtp://127.0.0.1:{}", sink.port), 0);
    sink.wait_for(2).await;
    mailer.stop().await;
    assert_eq!(count(&store.counters().deferred), 2);
}

#[tokio::test]
async fn a_server_that_greets_with_blanks_is_tried_again_like_any_other() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    let sink = Sink::start(&[" ", "SIZE"]).await;
    store.put(a_step(1, Event::Relayed)).await.unwrap();
    let mailer = Mailer::start(&store, &format!("smtp://127.0.0.1:{}", sink.port), 0);
    until(|| count(&store.counters().deferred) == 1).await;
    mailer.stop().await;
    assert_eq!(
        reason(&dir, 1),
        (false, "the server's greeting cannot be read".to_owned())
    );
}

#[tokio::test]
async fn what_cannot_be_composed_or_addressed_is_held() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    let sink = Sink::start(&[]).await;
    for n in 1..=4 {
        let mut step = a_step(n, Event::Relayed);
        if n == 3 {
            step.originator = "a@b>\r\nRCPT TO:<c@d".to_owned();
        }
        store.put(step).await.unwrap();
    }
    let fussy = |steps: &[&Step], now_us| match steps[0].report.step.0 {
        1 => Vec::new(),
        2 => panic!("a template with a mistake"),
        _ => compose(steps, now_us),
    };
    let via = format!("smtp://127.0.0.1:{}", sink.port);
    let mailer = Mailer::composing(&store, &via, 0, fussy);
    sink.wait_for(1).await;
    until(|| count(&store.counters().held) == 3).await;
    mailer.stop().await;
    assert!(!sink.commands().iter().any(|c| c.contains("c@d")));
    assert!(reason(&dir, 2).1.contains("composed"));
}

/// The store fails between acceptance and mark: the report is not mailed a second time by this process.
#[tokio::test]
async fn an_accepted_report_that_could_not_be_marked_is_not_sent_again() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    store.put(a_step(1, Event::Relayed)).await.unwrap();
    // From here on it is in the outbox, where a mark is a deletion.
    store.book().await.unwrap();
    let other = Connection::open(dir.path().join(FILE_NAME)).unwrap();
    other
        .execute_batch(
            "CREATE TRIGGER broken BEFORE DELETE ON outbox
             BEGIN SELECT RAISE(ABORT, 'no space left'); END",
        )
        .unwrap();
    let sink = Sink::start(&[]).await;
    let mailer = Mailer::start(&store, &format!("smtp://127.0.0.1:{}", sink.port), 0);
    sink.wait_for(1).await;
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    other.execute_batch("DROP TRIGGER broken").unwrap();
    drop(other);
    for _ in 0..1000 {
        if all_due(&store, 0).await.is_empty() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert!(all_due(&store, 0).await.is_empty(), "it was marked later");
    mailer.stop().await;
    assert_eq!(sink.received().len(), 1);
}

/// An MTA sends a message for many out in parts: one mail for what comes together, another for what comes later.
#[tokio::test]
async fn parts_that_come_together_share_a_mail() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    let sink = Sink::start(&[]).await;
    let mailer = Mailer::start(&store, &format!("smtp://127.0.0.1:{}", sink.port), 0);
    let came_us = Clock::system().now_us();
    let part = |number: u64| {
        let address = format!("user{number}@example.org");
        let mut step = step_at(number, &[(&address, Event::Relayed)], came_us);
        step.report.recipients[0].attempted_us = Some(Clock::system().now_us());
        step.partial = true;
        step
    };
    let begun = std::time::Instant::now();
    // In one go: however long a commit takes, they are there before the first has waited for its second.
    let steps: Vec<Step> = (1..=100).map(part).collect();
    let whole = step_at(500, &[("bob@example.org", Event::Relayed)], came_us);
    let all = steps.iter().chain([&whole]);
    for put in join_all(all.map(|step| store.put(step.clone()))).await {
        put.unwrap();
    }
    let received = sink.wait_for(2).await;
    assert_eq!(
        received[0].data,
        compose(&[&a_step(500, Event::Relayed)], 0)
    );
    assert!(
        begun.elapsed().as_millis() >= 1000,
        "the parts were waited for"
    );
    assert_eq!(
        received[1].data,
        compose(&steps.iter().collect::<Vec<_>>(), 0)
    );
    store.put(part(101)).await.unwrap();
    assert_eq!(sink.wait_for(3).await[2].data, compose(&[&part(101)], 0));
    mailer.stop().await;
    assert!(all_due(&store, i64::MAX).await.is_empty());
    assert_eq!(count(&store.counters().sent), 3);
}
