//! Which messages an id names, and what an answer comes to.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use super::*;
use crate::track::{Event, HopReport};
use crate::trail::tests::world::{HOP1, unread};

fn trails(messages: &[(&str, &str, Event)]) -> Trails {
    let reports = (0..)
        .zip(messages)
        .map(|(n, (id, message_id, event))| HopReport {
            id: TrackingId::new(id).unwrap(),
            message_id: Some((*message_id).to_owned()),
            ..HOP1.report(n, None, &[("bob@example.net", *event)])
        });
    unread(reports.collect())
}

fn found(wanted: &str) -> Result<Vec<String>, String> {
    let mut trails = trails(&[
        ("abc1", "m1@x", Event::Delivered),
        ("abc12", "m2@x", Event::Failed),
        ("zz", "m1@x", Event::Relayed),
    ]);
    select(&mut trails, wanted).map_err(|e| e.to_string())?;
    Ok(trails.messages.iter().map(|m| m.id.to_string()).collect())
}

#[test]
fn a_message_is_found_by_each_of_its_names() {
    let ids = |ids: &[&str]| Ok(ids.iter().map(|i| (*i).to_owned()).collect());
    assert_eq!(
        found("abc1"),
        ids(&["abc1"]),
        "a whole id goes before a beginning"
    );
    assert_eq!(found("abc12"), ids(&["abc12"]));
    assert_eq!(found("z"), ids(&["zz"]));
    assert_eq!(found("m2@x"), ids(&["abc12"]));
    assert_eq!(found("<m1@x>"), ids(&["abc1", "zz"]));
    assert_eq!(found("nothing"), ids(&[]));
    assert!(found("ab").unwrap_err().contains("abc1, abc12"));
}

/// Whoever knows the id of a message can mail reports under one that fits better what its sender types.
#[test]
fn what_is_proved_goes_before_an_id_that_fits_better() {
    let found = |wanted: &str| {
        let mut trails = trails(&[
            ("0903", "m1@x", Event::Delivered),
            ("0903599f@o.test", "m1@x", Event::Failed),
            ("0903599F@O.TEST", "m2@x", Event::Delivered),
            ("0a", "m3@x", Event::Delivered),
        ]);
        for message in &mut trails.messages {
            message.truth = match message.id.as_str() {
                "0903599f@o.test" => Truth::Verified,
                _ => Truth::Unproved,
            };
        }
        select(&mut trails, wanted).map_err(|e| e.to_string())?;
        Ok(trails.messages.iter().map(|m| m.id.to_string()).collect())
    };
    let proved: Result<Vec<String>, String> = Ok(vec!["0903599f@o.test".to_owned()]);
    for wanted in ["0903", "09035", "0", "<m1@x>", "0903599f@o.test"] {
        assert_eq!(found(wanted), proved, "{wanted}");
    }
    assert_eq!(
        found("0a"),
        Ok(vec!["0a".to_owned()]),
        "nothing else bears it"
    );
}

#[test]
fn exit_codes_tell_the_worst() {
    let code = |events: &[Event]| {
        let all: Vec<_> = events.iter().map(|e| (e.as_str(), "m@x", *e)).collect();
        exit_code(Told::of(&trails(&all)).outcome())
    };
    assert_eq!(code(&[]), 4);
    assert_eq!(code(&[Event::Delivered]), 0);
    assert_eq!(code(&[Event::Delivered, Event::Failed, Event::Delayed]), 3);
    for open in [
        Event::Accepted,
        Event::Transferred,
        Event::Relayed,
        Event::Expanded,
        Event::Delayed,
        Event::Held,
        Event::Looped,
    ] {
        assert_eq!(code(&[Event::Delivered, open]), 1, "{open}");
    }
}

/// Anybody can mail a report on a message that was never sent.
#[test]
fn beside_what_is_proved_nothing_else_counts() {
    let both = |own, forged| {
        let mut all = trails(&[("own", "m1@x", own), ("forged", "m2@x", forged)]);
        for message in &mut all.messages {
            message.truth = match message.id.as_str() {
                "own" => Truth::Verified,
                _ => Truth::Unproved,
            };
        }
        Told::of(&all)
    };
    let done = both(Event::Delivered, Event::Transferred);
    assert_eq!(exit_code(done.outcome()), 0);
    assert!(done.is_done());
    let open = both(Event::Transferred, Event::Delivered);
    assert_eq!(exit_code(open.outcome()), 1);
    assert!(!open.is_done());
}
