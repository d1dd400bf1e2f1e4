//! Hops that nobody is known to have handed the message to, copies of a message, and clocks by which something was before
//! it can have been: what is not known to be so is not told as if it were.

use super::heard::later;
use super::shown::shown;
use super::world::{HOP1, HOP2, HOP3, Leg, START_US, read, three_hops, view};
use crate::track::{Event, HopReport};
use crate::trail::custody::{Silence, custody};
use crate::trail::render::{json, verdict};
use crate::trail::verify::{Agreement, agreement};
use crate::trail::{Outcome, State, Trails};

const BOB: &str = "bob@example.net";
const CAROL: &str = "carol@example.net";
const HOUR_US: i64 = 3_600_000_000;

/// Bob has it; carol's store puts it off.
fn delivered_and_waiting() -> Vec<HopReport> {
    let mut reports = three_hops(&[BOB, CAROL]);
    reports[2] = HOP3.report(
        3,
        Some(2),
        &[(BOB, Event::Delivered), (CAROL, Event::Delayed)],
    );
    reports
}

/// Where somebody gives the message to a hop once more.
const AGAIN: Leg = Leg {
    hop: 1,
    host: HOP2.host,
    next: HOP2.next,
    came_ms: 60_000,
    went_ms: 60_200,
    clock_us: 5_000_000,
};

/// A message that came to a hop once more, which names nobody who gave it.
pub fn with_a_second_start() -> Trails {
    let mut reports = delivered_and_waiting();
    reports.push(AGAIN.report(
        9,
        None,
        &[(BOB, Event::Delivered), (CAROL, Event::Delivered)],
    ));
    read(&reports)
}

#[test]
fn a_second_start_settles_nothing_that_the_chain_tells() {
    let trails = with_a_second_start();
    let message = &trails.messages[0];
    assert_eq!(message.outcome(), Outcome::Open);
    assert_eq!(verdict::total(message), None);
    assert_eq!(
        agreement(message, &message.stays[3]),
        Agreement::Apart,
        "{:?}",
        message.stays[3]
    );
    insta::assert_snapshot!(shown(&trails));
    let json = json::document(&trails, view().now_us);
    assert!(json.contains(r#""agreement": "apart""#), "{json}");
    assert!(json.contains(r#""apart": {"#), "{json}");

    // A clock by which it was there before it was sent makes it no first hop.
    let before = Leg {
        clock_us: -300_000_000,
        ..AGAIN
    };
    let mut reports = delivered_and_waiting();
    reports.push(before.report(9, None, &[(BOB, Event::Failed), (CAROL, Event::Failed)]));
    let trails = read(&reports);
    let hosts = trails.messages[0].stays.iter().map(|s| s.host.as_deref());
    let hosts: Vec<&str> = hosts.flatten().collect();
    assert_eq!(hosts, [HOP1.host, HOP2.host, HOP3.host, HOP2.host]);
    let parents = trails.messages[0].stays.iter().map(|s| s.parent);
    assert_eq!(parents.collect::<Vec<_>>(), [None, Some(0), Some(1), None]);
    assert_eq!(trails.messages[0].outcome(), Outcome::Open);

    // For a recipient of whom the chain tells nothing, it is all there is: marked, and of no known duration.
    let mut reports = three_hops(&[BOB]);
    reports.push(AGAIN.report(9, None, &[(CAROL, Event::Delivered)]));
    let trails = read(&reports);
    let told = verdict::verdict(&trails.messages[0], &view(), false);
    assert_eq!(told, "1 delivered, 1 delivered (apart from the chain)");
}

/// Its number says that there were two hops before it, and it names none.
#[test]
fn how_long_the_last_hop_took_is_not_how_long_the_way_took() {
    let mut reports = three_hops(&[BOB]);
    reports[2].parent = None;
    let told = verdict::verdict(&read(&reports).messages[0], &view(), false);
    assert_eq!(told, "delivered (apart from the chain)");
}

/// The first delivery is when it arrived; a recipient whose copy came later than the message did may have been added.
#[test]
fn copies_of_a_message_are_told_as_such() {
    let copy = |leg: Leg, by_ms| Leg {
        came_ms: leg.came_ms + by_ms,
        went_ms: leg.went_ms + by_ms,
        ..leg
    };
    let all = |event| [(BOB, event), (CAROL, event)];
    let mut reports = three_hops(&[BOB]);
    reports.extend([
        copy(HOP1, 5000).report(11, None, &all(Event::Transferred)),
        copy(HOP2, 5000).report(12, Some(11), &all(Event::Transferred)),
        copy(HOP3, 5000).report(13, Some(12), &all(Event::Delivered)),
    ]);
    let trails = read(&reports);
    let [bob, carol] = &*trails.messages[0].recipients else {
        panic!("{:?}", trails.messages[0].recipients)
    };
    assert_eq!((bob.step.0, bob.deliveries), (3, 2));
    assert_eq!((carol.step.0, carol.deliveries), (13, 1));
    let shown = shown(&trails);
    assert!(shown.contains("\nDelivered to 2 in 7.73 s\n"), "{shown}");
    assert!(
        shown.contains("delivered twice, first 17:05:11.8"),
        "{shown}"
    );
    assert_eq!(
        shown.matches("copy came 5.00 s later than").count(),
        1,
        "{shown}"
    );
    let json = json::document(&trails, view().now_us);
    assert!(
        json.contains(r#""deliveries": 2"#) && json.contains(r#""later_us": 5000000"#),
        "{json}"
    );
}

/// The report between them never came, so nobody can say by how much the last hop's clock is off.
#[test]
fn a_time_that_cannot_have_been_is_not_told_as_one() {
    let told = |clock_us, minutes| {
        let mut reports = three_hops(&[BOB]);
        reports.remove(1);
        reports[1] = Leg { clock_us, ..HOP3 }.report(3, Some(2), &[(BOB, Event::Delayed)]);
        let trails = read(&reports);
        let view = later(minutes);
        let short = verdict::verdict(&trails.messages[0], &view, true);
        let long = verdict::verdict(&trails.messages[0], &view, false);
        (
            short,
            long,
            json::document(&trails, view.now_us),
            shown(&trails),
        )
    };
    for clock_us in [-24 * HOUR_US, 2 * HOUR_US] {
        let (short, long, json, shown) = told(clock_us, 10);
        assert_eq!(short, "waiting at mx3 since when is unknown");
        assert_eq!(
            long,
            "waiting at mx3.example.net since when is not known (its clock is wrong)"
        );
        assert!(json.contains(r#""since_first": null"#), "{json}");
        assert!(!shown.contains("no news since"), "{shown}");
    }
    let (short, long, _, shown) = told(0, 10);
    assert_eq!(short, "waiting at mx3 since 17:05 (own clock)");
    assert_eq!(
        long,
        "waiting at mx3.example.net since 17:05 by its own clock"
    );
    assert!(shown.contains("no news, by its clock"), "{shown}");
}

/// Whose clock is a day behind has not been silent for a day.
#[test]
fn no_hop_is_silent_for_longer_than_the_message_is_under_way() {
    let mut reports = three_hops(&[BOB]);
    reports.remove(1);
    let behind = Leg {
        clock_us: -24 * HOUR_US,
        ..HOP3
    };
    reports[1] = behind.report(3, Some(2), &[(BOB, Event::Transferred)]);
    let trails = read(&reports);
    let message = &trails.messages[0];
    let silence = |minutes: i64| {
        let now_us = START_US + minutes * 60_000_000;
        custody(message, &message.recipients[0], now_us).and_then(|c| c.silence)
    };
    assert_eq!(message.recipients[0].state, State::OnItsWay);
    assert_eq!(silence(10), Some(Silence::Awaited));
    assert_eq!(silence(20), Some(Silence::Silent));
}

/// Every hop behind one that handed the message on knows the key of its reports, so one of them may take the place of another.
#[test]
fn a_hop_that_the_one_before_it_does_not_know_is_named() {
    let bob = [(BOB, Event::Transferred)];
    let mut first = HOP1.report(1, None, &bob);
    first.recipients[0].remote_queue_id = Some("4F002".into());
    let told = |host: &'static str, queue_id: Option<&str>, hop| {
        let mut next = Leg { hop, host, ..HOP2 }.report(2, Some(1), &bob);
        next.queue_id = queue_id.map(Into::into);
        let trails = read(&[first.clone(), next]);
        let message = &trails.messages[0];
        let last = message.stays.last().unwrap();
        (agreement(message, last), shown(&trails))
    };
    let (told_of, text) = told("mx9.example.info", Some("EVIL"), 2);
    assert_eq!(told_of, Agreement::OtherHost);
    let line = "chain    ? mx9.example.info: the hop before it names another host, and another";
    assert!(text.contains(line), "{text}");
    // An MTA may greet by another name than its hop has, and a filter give it another queue id; a hop between may keep
    // silent.
    for (host, queue_id, hop) in [
        ("mx9.example.info", Some("4F002"), 2),
        ("mx9.example.info", None, 2),
        ("MX2.example.com", Some("OTHER"), 2),
        ("mx9.example.info", Some("OTHER"), 3),
    ] {
        assert_eq!(told(host, queue_id, hop).0, Agreement::Agrees, "{host}");
    }
}
