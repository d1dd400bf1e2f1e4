//! What was refused for good, and tried again by the same hop: some MTAs keep such mail (`soft_bounce`).

use std::collections::BTreeSet;

use jiff::tz::TimeZone;

use super::shown::shown;
use super::trusted::{judge, keys, mail};
use super::world::{HOP1, HOP2, HOP3, Leg, START_US, read, three_hops, view};
use crate::track::{Event, HopReport};
use crate::trail::render::{html, json, verdict};
use crate::trail::spent::{self, Kind};
use crate::trail::stats::{Stats, Table};
use crate::trail::verify::{Agreement, agreement};
use crate::trail::way;
use crate::trail::{Outcome, State, Trails};

const BOB: &str = "bob@example.net";
const CAROL: &str = "carol@example.net";

/// An attempt of the first hop, so long after the message came, ms.
fn tried(step: u64, went_ms: i64, event: Event) -> HopReport {
    Leg { went_ms, ..HOP1 }.report(step, None, &[(BOB, event)])
}

/// What is shown, in one line.
fn words(shown: &str) -> String {
    shown.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn bob(trails: &Trails) -> (State, usize, usize) {
    let bob = &trails.messages[0].recipients[0];
    (bob.state, bob.refusals.len(), bob.delays)
}

#[test]
fn a_later_attempt_undoes_a_refusal() {
    let trails = read(&[
        tried(1, 480, Event::Failed),
        tried(2, 300_480, Event::Delayed),
    ]);
    assert_eq!(bob(&trails), (State::Delayed, 1, 1));
    assert_eq!(trails.messages[0].outcome(), Outcome::Open);
    assert!(!trails.messages[0].is_settled());
    insta::assert_snapshot!(shown(&trails));
    let json = json::document(&trails, view().now_us);
    assert!(json.contains("\"refusals\": 1"), "{json}");

    // As is the next refusal, which is the end if nothing comes of it.
    let twice = [
        tried(1, 480, Event::Failed),
        tried(2, 300_480, Event::Failed),
    ];
    assert_eq!(bob(&read(&twice)), (State::Failed, 1, 0));

    // Of two copies both have failed.
    let mut copies = twice;
    for exchange in &mut copies[1].times_in {
        exchange.command_us += 60_000_000;
        exchange.reply_us += 60_000_000;
    }
    assert_eq!(bob(&read(&copies)), (State::Failed, 0, 0));

    // The other way about it is the end, and so is what was told at the same time.
    let end = [
        tried(1, 480, Event::Delayed),
        tried(2, 300_480, Event::Failed),
    ];
    assert_eq!(bob(&read(&end)), (State::Failed, 0, 1));
    let at_once = [tried(1, 480, Event::Failed), tried(2, 480, Event::Delayed)];
    assert_eq!(bob(&read(&at_once)), (State::Failed, 0, 1));
}

/// The report of an attempt that tells in front or behind what came of one before it.
fn tried_before(step: u64, before: (i64, Event), last: (i64, Event), is_behind: bool) -> HopReport {
    let earlier = tried(step, before.0, before.1).recipients;
    let mut report = tried(step, last.0, last.1);
    if is_behind {
        report.recipients.extend(earlier);
    } else {
        report.recipients.splice(0..0, earlier);
    }
    report
}

/// No hop of ours tells of two attempts in one report. A group tells of the last attempt for its recipient.
#[test]
fn of_two_attempts_in_one_report_the_later_one_counts() {
    let (first_ms, last_ms) = (480, 300_480);
    for is_behind in [false, true] {
        for (before, after, state, refusals, delays) in [
            (Event::Failed, Event::Delivered, State::Delivered, 1, 0),
            (Event::Failed, Event::Delayed, State::Delayed, 1, 1),
            (Event::Failed, Event::Failed, State::Failed, 1, 0),
            (Event::Delayed, Event::Delivered, State::Delivered, 0, 1),
            (Event::Delayed, Event::Failed, State::Failed, 0, 1),
        ] {
            let one = [tried_before(
                1,
                (first_ms, before),
                (last_ms, after),
                is_behind,
            )];
            let trails = read(&one);
            assert_eq!(bob(&trails), (state, refusals, delays), "{before}, {after}");
            let apart = [tried(1, first_ms, before), tried(2, last_ms, after)];
            let apart = read(&apart);
            let told = |trails: &Trails| {
                let message = &trails.messages[0];
                let verdict = verdict::verdict(message, &view(), false);
                let page = html::page(trails, &view());
                let (_, picture) = page.split_once("<figure").unwrap();
                let (picture, _) = picture.split_once("</figure").unwrap();
                let way = way::way(message, &message.recipients[0]);
                // Of the earlier attempt the report has no times, but when it was over.
                let way = way.into_iter().map(|mut part| {
                    part.parts.retain(|part| part.kind > Kind::Attempt);
                    (part.dwell_us, part.parts)
                });
                let way: Vec<_> = way.collect();
                (verdict, picture.to_owned(), way)
            };
            assert_eq!(told(&trails), told(&apart), "{before}, {after}");
            let figures = |trails: &Trails| {
                let mut stats = Stats::new(TimeZone::UTC, false);
                stats.add(&trails.messages[0]);
                let hops = stats
                    .lines()
                    .into_iter()
                    .filter(|(k, _)| k.table == Table::Hop);
                let hops = hops.map(|(_, t)| (t.delivered, t.failed, t.refused, t.delayed));
                hops.collect::<Vec<_>>()
            };
            assert_eq!(figures(&trails), figures(&apart), "{before}, {after}");
        }
    }
}

/// It went on by the later one, so that is how long it was there.
#[test]
fn what_went_on_after_another_attempt_took_as_long_as_that() {
    let (went_ms, delivered) = (300_480, [(BOB, Event::Delivered)]);
    let next = Leg {
        came_ms: went_ms,
        went_ms: went_ms + 300,
        ..HOP2
    };
    let took = |first: Vec<HopReport>, parent| {
        let trails = read(&[first, vec![next.report(9, Some(parent), &delivered)]].concat());
        let message = &trails.messages[0];
        assert_eq!(bob(&trails).0, State::Delivered);
        (
            verdict::total(message),
            spent::spent(message).len(),
            words(&shown(&trails)),
        )
    };
    let two = (480, Event::Failed);
    let one = took(
        vec![tried_before(2, two, (went_ms, Event::Transferred), false)],
        2,
    );
    let apart = [
        tried(1, 480, Event::Failed),
        tried(2, went_ms, Event::Transferred),
    ];
    assert_eq!(one, took(apart.to_vec(), 2));
}

/// The wait was not the hop's own, and the hop does not contradict itself.
#[test]
fn what_goes_on_after_a_refusal_is_sound() {
    let went_ms = 300_480;
    let next = Leg {
        came_ms: went_ms,
        went_ms: went_ms + 300,
        ..HOP2
    };
    let trails = read(&[
        tried(1, 480, Event::Failed),
        tried(2, went_ms, Event::Transferred),
        next.report(3, Some(2), &[(BOB, Event::Delivered)]),
    ]);
    let message = &trails.messages[0];
    assert_eq!(bob(&trails).0, State::Delivered);
    for stay in &message.stays {
        assert_eq!(agreement(message, stay), Agreement::Agrees);
    }
    let legs = spent::spent(message);
    let first: Vec<_> = legs.iter().filter(|leg| leg.stay == 0).collect();
    let [leg] = first.as_slice() else {
        panic!("{legs:?}")
    };
    let put_off = leg.parts.iter().find(|part| part.kind == Kind::Refused);
    assert!(put_off.unwrap().us > 290_000_000, "{leg:?}");
    insta::assert_snapshot!(shown(&trails));
}

/// Wherever a later hop has it, what was refused before and tried again is told as that.
#[test]
fn a_refusal_on_the_way_is_told_of_where_it_went_on() {
    let went_ms = 300_480;
    let next = Leg {
        came_ms: went_ms,
        went_ms: went_ms + 300,
        ..HOP2
    };
    let told = |event: Option<Event>| {
        let mut reports = vec![
            tried(1, 480, Event::Failed),
            tried(2, went_ms, Event::Transferred),
        ];
        reports.extend(event.map(|event| next.report(3, Some(2), &[(BOB, event)])));
        let trails = read(&reports);
        let message = &trails.messages[0];
        let json = json::document(&trails, view().now_us);
        assert!(json.contains("\"refusals\": 1"), "{json}");
        (
            verdict::verdict(message, &view(), false),
            words(&shown(&trails)),
        )
    };
    let (verdict, fate) = told(Some(Event::Delayed));
    assert_eq!(
        verdict,
        "waiting at mx2.example.com since 17:10, after a refusal"
    );
    assert!(
        fate.contains("perhaps since, after 1 refusal at mx1.example.org"),
        "{fate}"
    );
    let (verdict, fate) = told(Some(Event::Delivered));
    assert_eq!(verdict, "delivered in 5 min 0 s");
    assert!(
        fate.contains(" by mx2.example.com, after 1 refusal at mx1.example.org"),
        "{fate}"
    );
    let (verdict, fate) = told(None);
    assert!(verdict.ends_with(", after a refusal"), "{verdict}");
    assert!(fate.contains(", after 1 refusal, "), "{fate}");
}

/// Of two who were refused together, one was tried again.
#[test]
fn whoever_was_not_tried_again_stands_apart() {
    let both = [(BOB, Event::Failed), (CAROL, Event::Failed)];
    let trails = read(&[
        HOP1.report(1, None, &both),
        tried(2, 300_480, Event::Relayed),
    ]);
    insta::assert_snapshot!(shown(&trails));
}

/// The second hop did not hear that the third took the message, tries again, and is refused.
pub fn with_a_copy_that_failed() -> Trails {
    let bob = |event| [(BOB, event)];
    let again = Leg {
        went_ms: 60_000,
        ..HOP2
    };
    let mut reports = three_hops(&[BOB]);
    reports[1] = HOP2.report(2, Some(1), &bob(Event::Delayed));
    reports.push(again.report(4, Some(1), &bob(Event::Failed)));
    read(&reports)
}

/// A failure that nothing undid is told beside the delivery: a bounce may have come of it.
#[test]
fn a_failure_beside_the_delivery_is_told() {
    let trails = with_a_copy_that_failed();
    let message = &trails.messages[0];
    assert_eq!(message.outcome(), Outcome::Delivered);
    let told = verdict::verdict(message, &view(), false);
    assert_eq!(told, "delivered (also reported failed) in 2.73 s");
    let shown = words(&shown(&trails));
    let fate = " by mx3.example.net; also failed 17:06:09.000 ± 60 ms at mx2.example.com";
    assert!(shown.contains(fate), "{shown}");
    let json = json::document(&trails, view().now_us);
    assert!(json.contains("\"also_failed\": {"), "{json}");

    // One that is proved to have failed has failed, and that is all.
    let failed = read(&[HOP1.report(1, None, &[(BOB, Event::Failed)])]);
    assert_eq!(failed.messages[0].recipients[0].also_failed, None);
}

/// What put off a second copy came after the delivery of the first.
#[test]
fn a_delay_after_the_delivery_is_none_before_it() {
    let delayed_again = |leg: Leg, step, parent, event| {
        let leg = Leg {
            came_ms: leg.came_ms + 60_000,
            went_ms: leg.went_ms + 60_000,
            ..leg
        };
        leg.report(step, parent, &[(BOB, event)])
    };
    let mut reports = three_hops(&[BOB]);
    reports.extend([
        delayed_again(HOP2, 12, Some(1), Event::Transferred),
        delayed_again(HOP3, 13, Some(12), Event::Delayed),
    ]);
    assert_eq!(bob(&read(&reports)), (State::Delivered, 0, 0));
}

/// Whoever is shown to have written nothing takes back nothing that a host tells under its signature.
#[test]
fn nothing_unsigned_undoes_a_signed_refusal() {
    let [refused, tried] = [
        tried(1, 480, Event::Failed),
        tried(2, 300_480, Event::Delayed),
    ];
    let unsigned = |report: &HopReport| {
        let text = String::from_utf8(mail(report)).unwrap();
        let (_, unsigned) = text.split_once("\r\nFrom:").unwrap();
        format!("From:{unsigned}").into_bytes()
    };
    for (mails, state) in [
        ([mail(&refused), mail(&tried)], State::Delayed),
        ([mail(&refused), unsigned(&tried)], State::Failed),
        ([unsigned(&refused), unsigned(&tried)], State::Delayed),
        ([unsigned(&refused), mail(&tried)], State::Delayed),
    ] {
        let trails = judge(&BTreeSet::from(mails), &keys());
        assert_eq!(bob(&trails).0, state);
    }
}

/// One that was named twice in a transaction has not got what was refused to either, until that is tried again.
#[test]
fn two_of_one_name_in_one_step_undo_nothing() {
    let both = |step, went_ms, events: [Event; 2]| {
        Leg { went_ms, ..HOP1 }.report(step, None, &events.map(|event| (BOB, event)))
    };
    let mut once = both(1, 480, [Event::Failed, Event::Delivered]);
    once.recipients[1].attempted_us = Some(START_US + 500_000);
    assert_eq!(bob(&read(std::slice::from_ref(&once))).0, State::Failed);
    let again = both(2, 60_000, [Event::Failed, Event::Delayed]);
    assert_eq!(bob(&read(&[again])).0, State::Failed);
    let three = three_hops(&[BOB]);
    assert_eq!(bob(&read(&three)), (State::Delivered, 0, 0));
}
