//! Where the time went inside the hops.

use jiff::tz::TimeZone;
use proptest::prelude::*;

use super::shown::delayed;
use super::world::{HOP1, HOP2, HOP3, Leg, read, three_hops, view};
use crate::track::{Event, HopReport};
use crate::trail::Message;
use crate::trail::render::html::page;
use crate::trail::render::stats::rows;
use crate::trail::render::{View, terminal};
use crate::trail::spent::Kind::{self, Attempt, Filter, Greylisted, PutOff, Queue};
use crate::trail::spent::{Leg as Spent, is_greylisting, spent};
use crate::trail::stats::{Stats, Table};

fn message(reports: &[HopReport]) -> Message {
    read(reports).messages.remove(0)
}

/// Kinds and whole ms.
fn parts(leg: &Spent) -> Vec<(Kind, i64)> {
    let ms = leg
        .parts
        .iter()
        .map(|part| (part.kind, (part.us + 500) / 1000));
    ms.collect()
}

#[test]
fn each_hop_has_its_part() {
    let mut reports = three_hops(&["bob@example.net"]);
    // The second looks at it for more than a second before it takes it.
    reports[0].times_out[4].reply_us += 1_200_000;
    reports[1].times_in[4].reply_us += 1_200_000;
    let message = message(&reports);
    let legs = spent(&message);
    let stays: Vec<_> = legs.iter().map(|leg| (leg.stay, leg.event)).collect();
    let (there, here) = (Event::Transferred, Event::Delivered);
    assert_eq!(stays, [(0, there), (1, there), (2, here)]);
    assert_eq!(parts(&legs[0]), [(Filter, 0), (Queue, 353), (Attempt, 6)]);
    assert_eq!(
        parts(&legs[1]),
        [(Filter, 1200), (Queue, 1043), (Attempt, 6)]
    );
    assert!(legs[0].wire.is_none() && legs[1].wire.is_some_and(|w| w.high_us <= 2_000));
}

/// The second hop answers RCPT, or the greeting, after five seconds; the end of the message it answers at once.
#[test]
fn the_wait_for_answers_is_not_the_part_of_the_hop_that_waits() {
    const SLOW_US: i64 = 5_000_000;
    for slow in [0, 2] {
        let mut reports = three_hops(&["bob@example.net"]);
        for exchange in &mut reports[0].times_out[..=slow] {
            exchange.command_us -= SLOW_US;
        }
        for exchange in &mut reports[0].times_out[..slow] {
            exchange.reply_us -= SLOW_US;
        }
        // What came in before that.
        for exchange in &mut reports[0].times_in {
            exchange.command_us -= SLOW_US;
            exchange.reply_us -= SLOW_US;
        }
        let trails = read(&reports);
        let message = &trails.messages[0];
        let leg = &spent(message)[0];
        let awaited_us: i64 = leg.parts.iter().map(|part| part.awaited_us).sum();
        assert!((SLOW_US..SLOW_US + 10_000).contains(&awaited_us), "{leg:?}");
        assert!(leg.dwell_us.is_some_and(|us| us > awaited_us), "{leg:?}");

        let wide = View {
            width: None,
            ..view()
        };
        let shown = terminal::message(message, &wide);
        let bar = |name: &str| {
            let lines = shown.lines().filter(|line| line.contains(name));
            lines.map(|line| line.matches('█').count()).max().unwrap()
        };
        assert!(bar("waiting for mx2.example.com's answers") > 10, "{shown}");
        assert!(bar("1  mx1.example.org") < 3, "{shown}");
        assert!(
            shown.contains("5.00 s of that waiting for answers"),
            "{shown}"
        );
        assert!(page(&trails, &view()).contains("waiting for mx2.example.com's answers"));

        let mut stats = Stats::new(TimeZone::UTC, false);
        stats.add(message);
        let mut rows = rows::rows(stats).into_iter();
        let first = rows.find(|row| row.table == Table::Hop && row.name == "mx1.example.org");
        assert!(first.unwrap().p50_high_us.unwrap() < 400_000);
    }
}

/// The longer the silence, the less exactly is known how long it was, which needs columns.
#[test]
fn what_is_silent_for_years_keeps_to_few_columns() {
    let bob = HOP1.report(1, None, &[("bob@example.net", Event::Delayed)]);
    let trails = read(&[bob]);
    for (days, bounded) in [(0, false), (60, false), (100, true), (10_000, true)] {
        let view = View {
            now_us: view().now_us + days * 86_400_000_000,
            width: Some(50),
            ..view()
        };
        let text = terminal::message(&trails.messages[0], &view);
        let text = anstream::adapter::strip_str(&text).to_string();
        let (_, spent) = text.split_once("where the time went\n").unwrap();
        let (spent, _) = spent.split_once("\n\n").unwrap();
        let fits = |line: &str| line.chars().count() <= 50;
        assert!(spent.lines().all(fits), "{spent}");
        assert_eq!(spent.contains(" ± "), bounded, "{spent}");
        assert!(spent.contains('█'), "{spent}");
    }
}

#[test]
fn greylisting_is_the_next_hops_time() {
    let legs = spent(&message(&delayed()));
    let carol = legs.iter().find(|leg| leg.step.0 == 4).unwrap();
    let told = parts(carol);
    let kinds: Vec<_> = told.iter().map(|(kind, _)| *kind).collect();
    assert_eq!(kinds, [Filter, Queue, Attempt, Greylisted, Attempt]);
    assert_eq!(told[3], (Greylisted, 299_993));
    // The attempt that was put off is a part of this one's time, and none by itself.
    assert!(!legs.iter().any(|leg| leg.step.0 == 3), "{legs:?}");
}

/// Where a message came back in a ring it was followed no further: how long it was looked at before that is no part of its way.
#[test]
fn a_ring_ends_where_it_is_seen() {
    let bob = |event| [("bob@example.net", event)];
    let again = Leg {
        hop: 3,
        host: HOP1.host,
        clock_us: 0,
        ..HOP3
    };
    let mut looped = again.report(3, Some(2), &bob(Event::Looped));
    let mut second = HOP2.report(2, Some(1), &bob(Event::Transferred));
    looped.times_in[4].reply_us += 3_000_000;
    second.times_out[4].reply_us += 3_000_000;
    let message = message(&[
        HOP1.report(1, None, &bob(Event::Transferred)),
        second,
        looped,
    ]);
    let legs = spent(&message);
    assert_eq!(legs.len(), 3);
    assert_eq!((legs[2].dwell_us, parts(&legs[2])), (None, vec![]));
    assert!(legs[2].wire.is_some() && legs[1].dwell_us.is_some());
}

#[test]
fn a_delay_without_a_word_of_greylisting_is_one() {
    let bob = |event| [("bob@example.net", event)];
    let later = Leg {
        went_ms: 60_480,
        ..HOP1
    };
    let mut reports = vec![
        HOP1.report(1, None, &bob(Event::Delayed)),
        later.report(2, None, &bob(Event::Delayed)),
    ];
    for report in &mut reports {
        report.recipients[0].reply = Some("452 4.3.1 disk full".to_owned());
        // Nobody was reached.
        report.times_out.clear();
    }
    let legs = spent(&message(&reports));
    assert_eq!(legs.len(), 1, "{legs:?}");
    assert_eq!(
        parts(&legs[0]),
        [(Filter, 0), (Queue, 360), (PutOff, 60_000)]
    );
}

#[test]
fn greylisting_goes_by_many_spellings() {
    let says = |words: &str| {
        let mut group = HOP2
            .report(1, None, &[("bob@example.net", Event::Delayed)])
            .recipients
            .remove(0);
        group.reply = Some(words.to_owned());
        is_greylisting(&group)
    };
    for words in [
        "450 4.2.0 <bob@example.net>: Recipient address rejected: Greylisted, see https://postgrey.example/",
        "451 4.7.1 Greylisting in action, please come back later",
        "451 grey-listed",
        "451 Gray listing",
        "451 postgreylist: GREY-LIST: GREYLIST",
    ] {
        assert!(says(words), "{words}");
    }
    for words in [
        "451 4.7.1 try again later",
        "451 the grey server is ill",
        "451 grey",
    ] {
        assert!(!says(words), "{words}");
    }
}

proptest! {
    /// Whatever the stamps, the parts of a stay add up to it and none is negative.
    #[test]
    fn parts_add_up(
        steps in proptest::collection::vec((0u8..3, -2_000i64..90_000, any::<bool>(), 0i64..5_000), 1..6),
        pause_us in -10i64..3_000_000,
    ) {
        let made = (1..).zip(&steps).map(|(n, (event, went_ms, reached, pause_ms))| {
            let event = [Event::Delayed, Event::Transferred, Event::Failed][usize::from(*event)];
            let leg = Leg { went_ms: 480 + went_ms, ..HOP1 };
            let mut report = leg.report(n, None, &[("bob@example.net", event)]);
            report.times_in[4].reply_us += pause_us;
            if *reached {
                report.recipients[0].attempted_us = report.recipients[0].attempted_us.map(|us| us + pause_ms * 1000);
            } else {
                report.times_out.clear();
            }
            report
        });
        for leg in spent(&message(&made.collect::<Vec<_>>())) {
            prop_assert!(leg.parts.iter().all(|part| part.us > 0), "{leg:?}");
            let sum: i64 = leg.parts.iter().map(|part| part.us).sum();
            prop_assert_eq!(sum, leg.dwell_us.unwrap_or(0), "{:?}", leg);
        }
    }
}
