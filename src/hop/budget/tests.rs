//! Budgets by a clock that is set: what is spent, what comes back, what a flood can do.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::track::{Asked, Form, HopReport, Role, StepId, TrackingId};

const NOON_MS: i64 = 1_795_435_200_000;
const HOUR_MS: i64 = 3600 * 1000;

fn step(by: Asker, from: &str, originator: &str, id: &str) -> Step {
    let id = TrackingId::new(id).unwrap();
    let report = HopReport::new(id, StepId(1), Role::Egress, "mx1.example.net", 0);
    Step {
        told: Some(Form::Report),
        asked: Some(Asked {
            by,
            from: from.parse().ok(),
        }),
        ..Step::new(report, originator.to_owned())
    }
}

fn stranger(from: &str, originator: &str) -> Step {
    step(Asker::Verified, from, originator, "m1")
}

/// How many of these are mailed.
fn mailed<'s>(
    budgets: &Budgets,
    steps: impl Iterator<Item = &'s Step>,
    max: u32,
    at_ms: i64,
) -> usize {
    steps
        .filter(|step| budgets.spend(step, max, at_ms).is_some())
        .count()
}

#[test]
fn an_originator_has_his_budget_each_hour_and_no_more() {
    let budgets = Budgets::default();
    let alice = stranger("192.0.2.1", "alice@example.org");
    let many = || std::iter::repeat_n(&alice, 10);
    assert_eq!(mailed(&budgets, many(), 3, NOON_MS), 3);
    assert_eq!(mailed(&budgets, many(), 3, NOON_MS + HOUR_MS - 1000), 0);
    assert_eq!(mailed(&budgets, many(), 3, NOON_MS + HOUR_MS), 3);
    assert_eq!(budgets.over(), 7 + 10 + 7);
    // A clock set back begins a new hour; it does not end reports until it has caught up.
    assert_eq!(mailed(&budgets, many(), 3, NOON_MS - 24 * HOUR_MS), 3);
}

#[test]
fn one_mailbox_has_one_budget_whoever_spends_it() {
    let budgets = Budgets::default();
    let names = [
        "alice@example.org",
        "Alice+1@Example.ORG",
        "alice+2+3@example.org",
    ];
    let steps = names.map(|name| stranger("192.0.2.1", name));
    assert_eq!(mailed(&budgets, steps.iter(), 2, NOON_MS), 2);
    let elsewhere = stranger("198.51.100.1", "alice@example.org");
    assert!(budgets.spend(&elsewhere, 2, NOON_MS).is_none());
    let others = ["bob@example.org", "alice@example.com"].map(|o| stranger("192.0.2.1", o));
    assert_eq!(mailed(&budgets, others.iter(), 2, NOON_MS), 2);
    // What strangers spend in her name is not hers.
    let herself = step(Asker::Authenticated, "192.0.2.9", "alice@example.org", "m1");
    assert!(budgets.spend(&herself, 2, NOON_MS).is_some());
}

#[test]
fn a_client_has_ten_times_as_much_for_all_its_originators() {
    let budgets = Budgets::default();
    let from = |from: &str, n: u32| stranger(from, &format!("user{n}@example.org"));
    // The addresses of a /64 are one client.
    let client = |n: u32| format!("2001:db8::{n:x}");
    let steps: Vec<_> = (0..100).map(|n| from(&client(n), n)).collect();
    assert_eq!(mailed(&budgets, steps.iter(), 4, NOON_MS), 40);
    assert!(budgets.spend(&from("192.0.2.1", 99), 4, NOON_MS).is_some());
    assert_eq!(
        mailed(&budgets, steps[50..].iter(), 4, NOON_MS + HOUR_MS),
        40
    );
}

#[test]
fn a_message_has_its_own_bound() {
    let budgets = Budgets::default();
    let of = |id: &str| step(Asker::Network, "192.0.2.1", "alice@example.org", id);
    let (loud, other) = (of("m1"), of("m2"));
    let max = 100_000;
    let many = std::iter::repeat_n(&loud, 1000);
    let bound = usize::try_from(MESSAGE_REPORTS_MAX).unwrap();
    assert_eq!(mailed(&budgets, many, max, NOON_MS), bound);
    assert!(budgets.spend(&other, max, NOON_MS).is_some());
    // The id of somebody else's message is no way to silence it.
    let named_alike = step(Asker::Network, "192.0.2.1", "bob@example.org", "m1");
    assert!(budgets.spend(&named_alike, max, NOON_MS).is_some());
}

#[test]
fn parts_that_share_a_mail_count_once() {
    let budgets = Budgets::default();
    let mut part = stranger("192.0.2.1", "alice@example.org");
    part.partial = true;
    let many = || std::iter::repeat_n(&part, 100);
    for second in 0..3 {
        let at_ms = NOON_MS + second * 1000;
        assert_eq!(mailed(&budgets, many(), 3, at_ms), 100);
    }
    assert_eq!(mailed(&budgets, many(), 3, NOON_MS + 3000), 0);
}

#[test]
fn what_was_not_mailed_is_given_back() {
    let budgets = Budgets::default();
    let alice = stranger("192.0.2.1", "alice@example.org");
    for _ in 0..100 {
        budgets.give_back(budgets.spend(&alice, 1, NOON_MS).unwrap());
    }
    assert!(budgets.spend(&alice, 1, NOON_MS).is_some());
    assert!(budgets.spend(&alice, 1, NOON_MS).is_none());
}

#[test]
fn a_flood_of_invented_originators_makes_nothing_grow_and_nobody_forgotten() {
    let budgets = Budgets::default();
    let victim = stranger("192.0.2.1", "victim@example.org");
    assert_eq!(
        mailed(&budgets, std::iter::repeat_n(&victim, 60), 60, NOON_MS),
        60
    );
    let room = || {
        let sets = budgets.sets();
        (sets.len(), sets.capacity())
    };
    let before = room();
    for n in 0..100_000_u32 {
        let [_, a, b, c] = n.to_be_bytes();
        let forged = stranger(
            &format!("10.{a}.{b}.{c}"),
            &format!("user{n}@forged.example"),
        );
        budgets.spend(&forged, 60, NOON_MS + i64::from(n / 100));
    }
    assert_eq!(room(), before);
    assert_eq!(size_of::<[Count; WAYS]>() * before.1, 1 << 20, "octets");
    let after = NOON_MS + HOUR_MS - 1000;
    assert!(
        budgets.spend(&victim, 60, after).is_none(),
        "still remembered"
    );
    let other_client = stranger("192.0.2.200", "victim@example.org");
    assert!(budgets.spend(&other_client, 60, after).is_none());
}
