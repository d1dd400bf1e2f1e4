//! Durability, the hard way: a process is killed in the middle of its work, and everything that it was
//! told is on disk must be there.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use super::once_tests::{arrival_for, departure};
use super::tests::{a_step, all_due, open};
use super::*;
use crate::track::stay::Part;
use crate::track::{Event, Stay};

const CHILD_DIR: &str = "HOPTRAIL_TEST_CRASH_DIR";
const CHILD_LIFE: &str = "HOPTRAIL_TEST_CRASH_LIFE";
const FULL_DIR: &str = "HOPTRAIL_TEST_FULL_DIR";

/// The child: this same test binary, run for this one test, which puts steps until it is killed and
/// prints each number after its `Ok`.
#[tokio::test(flavor = "multi_thread")]
async fn child_that_is_killed() {
    let Ok(dir) = std::env::var(CHILD_DIR) else {
        return;
    };
    let which: u64 = std::env::var(CHILD_LIFE).unwrap().parse().unwrap();
    let store = Store::open(Path::new(&dir), 30).unwrap();
    let mut lanes = tokio::task::JoinSet::new();
    for lane in 0..20_u64 {
        let store = store.clone();
        lanes.spawn(async move {
            for n in 0.. {
                let number = which << 40 | lane << 32 | n;
                store.put(a_step(number, Event::Relayed)).await.unwrap();
                // One write call, so that a line is never half of one.
                let line = format!("stored {number}\n");
                io::stdout().write_all(line.as_bytes()).unwrap();
            }
        });
    }
    lanes.join_all().await;
}

/// Lives on the same file, each cut off in the middle: the first before the books were ever kept. Where the kill comes is
/// chance; of five it has to come between a commit and the books.
#[tokio::test]
async fn what_was_acknowledged_survives_a_kill() {
    const LIVES: usize = 5;
    let dir = TempDir::new().unwrap();
    let mut acknowledged = Vec::new();
    let (mut life, mut between) = (0, 0);
    while between < LIVES {
        assert!(
            life < 4 * LIVES,
            "{between} of {life} kills came in between"
        );
        let puts = [1, 1500, 1500, 2000, 3000][life % LIVES];
        acknowledged.extend(puts_until_killed(&dir, life, puts));
        let unbooked = unbooked(&dir);
        between += usize::from(unbooked > 0);
        life += 1;
        eprintln!(
            "{} acknowledged, {unbooked} not in the books",
            acknowledged.len()
        );
    }
    let store = open(&dir);
    assert_eq!(unbooked(&dir), 0);
    let waiting: HashSet<StepId> = all_due(&store, 0).await.iter().map(|d| d.step).collect();
    for step in &acknowledged {
        assert!(
            waiting.contains(step),
            "{step} was acknowledged and is gone"
        );
        assert!(store.step(*step).await.unwrap().is_some(), "{step}");
    }
    eprintln!("{} on disk", waiting.len());
}

/// Runs the child and kills it after so many puts, with twenty more under way; returns what it was told is
/// on disk.
fn puts_until_killed(dir: &TempDir, life: usize, puts: usize) -> Vec<StepId> {
    let mut child = Command::new(std::env::current_exe().unwrap());
    child
        .env(CHILD_DIR, dir.path())
        .env(CHILD_LIFE, life.to_string());
    until_killed(child, "store::crash_tests::child_that_is_killed", puts)
}

/// Runs this test of the child, and kills it after so many lines; returns the number in each line.
fn until_killed(mut child: Command, test: &str, puts: usize) -> Vec<StepId> {
    let mut child = child
        .args(["--exact", test, "--nocapture"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut acknowledged = Vec::new();
    for line in lines {
        if let Some(number) = line.unwrap().strip_prefix("stored ") {
            acknowledged.push(StepId(number.parse().unwrap()));
        }
        if acknowledged.len() == puts {
            child.kill().unwrap(); // SIGKILL; the rest of the pipe is read on
        }
    }
    child.wait().unwrap();
    assert!(
        acknowledged.len() >= puts,
        "the child put {}",
        acknowledged.len()
    );
    acknowledged
}

const NEWS_DIR: &str = "HOPTRAIL_TEST_CRASH_NEWS_DIR";

/// The child: messages come for two, and every other one leaves; of every other of those that stay, one recipient does.
#[tokio::test(flavor = "multi_thread")]
async fn child_that_is_killed_among_arrivals_and_departures() {
    let Ok(dir) = std::env::var(NEWS_DIR) else {
        return;
    };
    let store = Store::open(Path::new(&dir), 30).unwrap();
    for number in 1.. {
        store.put(arrival_for(number, &TWO)).await.unwrap();
        let mut step = departure(number << 32, StepId(number), &NEWS);
        if leaves_in_part(number) {
            step.stay = Some(Stay::Part(Part {
                arrival: StepId(number),
                came_for: 2,
                seen: vec![1],
            }));
        }
        if number % 2 == 0 || leaves_in_part(number) {
            store.put(step).await.unwrap();
        }
        writeln!(io::stdout(), "stored {number}").unwrap();
    }
}

const NEWS: [(&str, Event); 1] = [("bob@x.org", Event::Relayed)];
const TWO: [&str; 2] = ["carol@x.org", "bob@x.org"];

fn leaves_in_part(number: u64) -> bool {
    number % 4 == 1
}

/// What was told of before the kill, on a file of its own.
fn news_until_killed() -> (TempDir, Vec<u64>) {
    let dir = TempDir::new().unwrap();
    let name = "store::crash_tests::child_that_is_killed_among_arrivals_and_departures";
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.env(NEWS_DIR, dir.path());
    let messages = until_killed(child, name, 1000).into_iter();
    (dir, messages.map(|StepId(number)| number).collect())
}

#[tokio::test]
async fn what_was_told_once_and_what_stays_are_known_after_a_kill() {
    // Where the kill comes is chance: it has to be before the last of them is in the books.
    let mut lives = (0..10).map(|_| news_until_killed());
    let between = lives.find(|(dir, _)| unbooked(dir) > 0);
    let (dir, messages) = between.expect("a kill in between");

    let store = open(&dir);
    let staying = store.staying(i64::MAX, 10_000).await.unwrap();
    for number in messages {
        let leaves = number % 2 == 0 || leaves_in_part(number);
        let stay = staying.iter().find(|stay| stay.arrival == StepId(number));
        let kept = stay.map(|stay| [stay.keeps(0), stay.keeps(1)]);
        let left = (number % 2 != 0).then_some([true, !leaves]);
        assert_eq!(kept, left, "{number}");
        let before = store.step(StepId(number << 32)).await.unwrap();
        let mut again = before.unwrap_or_else(|| departure(0, StepId(number), &NEWS));
        again.report.step = StepId(number << 32 | 1);
        let put = store.put(again).await.unwrap();
        assert_eq!(put == Put::Quiet, leaves, "{number}");
    }
}

/// Rows of the journal that the books do not have, as another process sees the file.
fn unbooked(dir: &TempDir) -> i64 {
    Connection::open(dir.path().join(FILE_NAME))
        .unwrap()
        .query_row(
            "SELECT COUNT(*) FROM journal WHERE step NOT IN (SELECT step FROM steps)",
            [],
            |row| row.get(0),
        )
        .unwrap()
}

/// The child, on a disk that is full: puts until the store has refused often enough.
#[tokio::test(flavor = "multi_thread")]
async fn child_on_a_full_disk() {
    let Ok(dir) = std::env::var(FULL_DIR) else {
        return;
    };
    let store = Store::open(Path::new(&dir), 30).unwrap();
    let mut refused = 0;
    for number in 0.. {
        match store.put(a_step(number, Event::Relayed)).await {
            Ok(_) => writeln!(io::stdout(), "stored {number}").unwrap(),
            Err(_) => refused += 1,
        }
        if refused == 50 {
            break;
        }
    }
    writeln!(io::stdout(), "refused {refused}").unwrap();
}

#[tokio::test]
async fn what_was_acknowledged_before_the_disk_was_full_is_kept() {
    let dir = TempDir::new().unwrap();
    // No file may grow beyond 2 MiB; a write that would make it is refused as on a full disk.
    let output = Command::new("bash")
        .args(["-c", "trap '' XFSZ; ulimit -f 2048; exec \"$@\"", "bash"])
        .arg(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "store::crash_tests::child_on_a_full_disk",
            "--nocapture",
        ])
        .env(FULL_DIR, dir.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("refused 50"), "{said}");
    let stored = said.lines().filter_map(|l| l.strip_prefix("stored "));
    let stored: Vec<StepId> = stored.map(|n| StepId(n.parse().unwrap())).collect();
    assert!(stored.len() > 100, "{} stored", stored.len());

    let store = open(&dir);
    let waiting: HashSet<StepId> = all_due(&store, 0).await.iter().map(|d| d.step).collect();
    for step in &stored {
        assert!(
            waiting.contains(step),
            "{step} was acknowledged and is gone"
        );
        assert!(store.step(*step).await.unwrap().is_some(), "{step}");
    }
    eprintln!("{} acknowledged, {} on disk", stored.len(), waiting.len());
}
