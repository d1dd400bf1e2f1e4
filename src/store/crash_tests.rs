//! Durability, the hard way: a process is killed in the middle of its work, and everything that it was
//! told is on disk must be there.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use super::tests::{a_step, all_due, open};
use super::*;
use crate::track::Event;

const CHILD_DIR: &str = "HOPTRAIL_TEST_CRASH_DIR";

/// The child: this same test binary, run for this one test, which puts steps until it is killed and
/// prints each number after its `Ok`.
#[tokio::test(flavor = "multi_thread")]
async fn child_that_is_killed() {
    let Ok(dir) = std::env::var(CHILD_DIR) else {
        return;
    };
    let store = Store::open(Path::new(&dir), 30).unwrap();
    let mut lanes = tokio::task::JoinSet::new();
    for lane in 0..20_u64 {
        let store = store.clone();
        lanes.spawn(async move {
            for n in 0.. {
                let number = lane << 32 | n;
                store.put(a_step(number, Event::Relayed)).await.unwrap();
                // One write call, so that a line is never half of one.
                let line = format!("stored {number}\n");
                io::Write::write_all(&mut io::stdout().lock(), line.as_bytes()).unwrap();
            }
        });
    }
    lanes.join_all().await;
}

#[tokio::test]
async fn what_was_acknowledged_survives_a_kill() {
    let dir = TempDir::new().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "store::crash_tests::child_that_is_killed",
            "--nocapture",
        ])
        .env(CHILD_DIR, dir.path())
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
        if acknowledged.len() == 1500 {
            child.kill().unwrap(); // SIGKILL, with twenty puts under way; the rest of the pipe is read on
        }
    }
    child.wait().unwrap();
    assert!(
        acknowledged.len() >= 1500,
        "the child put {}",
        acknowledged.len()
    );

    let store = open(&dir);
    let waiting: HashSet<StepId> = all_due(&store, 0).await.iter().map(|d| d.step).collect();
    for step in &acknowledged {
        assert!(
            waiting.contains(step),
            "{step} was acknowledged and is gone"
        );
        assert!(store.step(*step).await.unwrap().is_some(), "{step}");
    }
    eprintln!(
        "{} acknowledged, {} on disk",
        acknowledged.len(),
        waiting.len()
    );
}
