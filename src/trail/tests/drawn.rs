//! Ways that are more than hops in a row: loops, clocks that are set while mail is under way, hops that speak themselves.

use super::shown::{delayed, shown};
use super::world::{self, HOP1, HOP2, HOP3, Leg, read, three_hops, view};
use crate::track::{Event, HopReport};
use crate::trail::way::{total, way};

/// Two hops hand a message to each other, until the second gives up.
#[test]
fn a_loop_is_drawn_as_one() {
    let bob = |event| [("bob@example.net", event)];
    let mut reports = Vec::new();
    for n in 0..6_u8 {
        let here = if n % 2 == 0 { HOP1 } else { HOP2 };
        let leg = Leg {
            hop: n + 1,
            next: if n % 2 == 0 { HOP2.host } else { HOP1.host },
            came_ms: 120 + 400 * i64::from(n),
            went_ms: 520 + 400 * i64::from(n),
            ..here
        };
        let event = if n == 5 {
            Event::Failed
        } else {
            Event::Transferred
        };
        let step = u64::from(n) + 1;
        let mut report = leg.report(step, (n > 0).then(|| step - 1), &bob(event));
        if event == Event::Failed {
            report.recipients[0].reply = Some("554 5.4.6 Too many hops".to_owned());
        }
        reports.push(report);
    }
    insta::assert_snapshot!(shown(&read(&reports)));
}

/// The same way a minute later, when the third hop's clock has been set to a second more.
pub fn a_second_ahead_a_minute_later() -> Vec<HopReport> {
    let late = |leg: Leg, clock_us: i64| Leg {
        came_ms: leg.came_ms + 60_000,
        went_ms: leg.went_ms + 60_000,
        clock_us: leg.clock_us + clock_us,
        ..leg
    };
    let bob = |event| [("bob@example.net", event)];
    let mut reports = vec![
        late(HOP1, 0).report(11, None, &bob(Event::Transferred)),
        late(HOP2, 0).report(12, Some(11), &bob(Event::Transferred)),
        late(HOP3, 1_000_000).report(13, Some(12), &bob(Event::Delivered)),
    ];
    for report in &mut reports {
        report.id = crate::track::TrackingId::new("a-minute-later").unwrap();
        report.sent_ms = Some(world::SENT_MS + 60_000);
    }
    reports
}

/// What one message shows alone is no sign of anything; both together are.
#[test]
fn a_clock_that_was_set_between_two_messages() {
    let mut reports = three_hops(&["bob@example.net"]);
    reports.extend(a_second_ahead_a_minute_later());
    insta::assert_snapshot!(shown(&read(&reports)));
}

/// What the hop says where no server said anything is no quotation.
#[test]
fn a_hops_own_words_are_not_a_servers() {
    let mut reports = delayed();
    reports.truncate(3);
    let delay = &mut reports[2].recipients[0];
    assert_eq!(delay.event, Event::Delayed);
    delay.reply =
        Some("451 4.4.1 next hop smtp://mx3.example.net:25: no connection: timed out".to_owned());
    let trails = read(&reports);
    let told = shown(&trails);
    assert!(
        told.contains("  next hop smtp://mx3.example.net:25: no connection:"),
        "{told}"
    );
    assert!(
        !told.contains("“451") && told.contains("“250 2.0.0 Ok"),
        "{told}"
    );
    let page = crate::trail::render::html::page(&trails, &view());
    assert!(
        page.contains("<bdi>next hop smtp://mx3.example.net:25"),
        "{page}"
    );
    assert!(
        !page.contains("<q><bdi>451") && page.contains("<q><bdi>250"),
        "{page}"
    );
}

/// One report alone, of a hop whose clock is three days behind: all its times are of that clock, and say so.
#[test]
fn a_clock_that_is_bound_to_nothing_is_said_to_be_so() {
    let days_us = -3 * 86_400_000_000;
    let late = Leg {
        clock_us: days_us,
        ..HOP3
    };
    let trails = read(&[late.report(3, Some(2), &[("bob@example.net", Event::Delivered)])]);
    let told = shown(&trails);
    for words in [
        "delivered -3d 17:05:11 (its own clock) by mx3.example.net",
        "-3d 17:05:11  arrived",
        "no hop before it reported: the times are of its own clock",
    ] {
        assert!(told.contains(words), "no {words}: {told}");
    }
    let page = crate::trail::render::html::page(&trails, &view());
    let axis = "begins at -3d 17:05:11, when by its own clock <bdi>mx3.example.net</bdi>, the first hop that reported, had";
    assert!(page.contains(axis), "{page}");
    assert!(page.contains(">-3d 17:05:11</time>"), "{page}");
    let behind = "; its clock is at least 2 d 23 h behind that of the sender<";
    assert!(page.contains(behind), "{page}");
}

/// A date far away has its time of day too, and a line for itself.
#[test]
fn a_date_far_away_is_told_with_its_time() {
    let mad = Leg {
        clock_us: 7_954 * 365 * 86_400_000_000,
        ..HOP3
    };
    let told = shown(&read(&[mad.report(
        3,
        Some(2),
        &[("bob@example.net", Event::Delivered)],
    )]));
    for words in [
        "delivered 9975-08-13 17:05:11 (its own clock) by",
        "\n     9975-08-13 17:05:11\n                   arrived,",
    ] {
        assert!(told.contains(words), "no {words}: {told}");
    }
}

/// What a submission through a relay takes is not inside any hop.
#[test]
fn what_it_took_before_the_first_hop_is_told() {
    let mut reports = three_hops(&["bob@example.net"]);
    for report in &mut reports {
        report.sent_ms = report.sent_ms.map(|ms| ms - 8_000);
    }
    let told = shown(&read(&reports));
    for words in [
        "delivered in 2.73 s, ",
        " sent 8.22 s before that\n",
        "Delivered in 2.73 s from the first hop, sent 8.22 s before that",
        "from the sender, by two clocks    8.22 s\n",
        "in all, from the first hop        2.73 s\n",
    ] {
        assert!(told.contains(words), "no {words}: {told}");
    }
    // What nobody proves is no stamp of the sender's.
    let made_up = shown(&super::world::read_by(
        &reports,
        None,
        Some(&super::world::secret()),
    ));
    assert!(!made_up.contains("from the sender"), "{made_up}");
}

/// While a hop tries again and again its clock is set back by an hour: half of the two hours it took do not show. What no
/// attempt put off is not kept so long.
#[test]
fn a_stay_that_was_put_off_may_have_seen_a_clock_set_far_back() {
    const HOUR_MS: i64 = 3_600_000;
    let bob = |event| [("bob@example.net", event)];
    let behind = |came_ms: i64, went_ms: i64, leg: Leg| Leg {
        came_ms: leg.came_ms + came_ms,
        went_ms: leg.went_ms + went_ms,
        clock_us: leg.clock_us - if leg.hop == 3 { HOUR_MS * 1000 } else { 0 },
        ..leg
    };
    let mut reports = three_hops(&["bob@example.net"]);
    let put_off = HOP3.report(4, Some(2), &bob(Event::Delayed));
    let came = reports[2].clone();
    reports[2] = behind(0, 2 * HOUR_MS, HOP3).report(3, Some(2), &bob(Event::Delivered));
    (reports[2].arrival_us, reports[2].times_in) = (came.arrival_us, came.times_in);
    for (step, leg) in [(11, HOP1), (12, HOP2), (13, HOP3)] {
        let event = if leg.hop == 3 {
            Event::Delivered
        } else {
            Event::Transferred
        };
        let leg = behind(3 * HOUR_MS, 3 * HOUR_MS, leg);
        let mut later = leg.report(step, (leg.hop > 1).then(|| step - 1), &bob(event));
        later.id = crate::track::TrackingId::new("three-hours-later").unwrap();
        later.sent_ms = later.sent_ms.map(|ms| ms + 10_800_000);
        reports.push(later);
    }
    let jump = |reports: &[HopReport]| read(reports).messages[0].stays[2].jump.clone();
    assert_eq!(jump(&reports), None);
    reports.push(put_off);
    let jump = jump(&reports).unwrap();
    let hour_us = jump.set.low_us..=jump.set.high_us;
    assert!(hour_us.contains(&(-HOUR_MS * 1000)), "{jump:?}");
    let told = &read(&reports).messages;
    assert_eq!(total(&way(&told[0], &told[0].recipients[0])), None);
    assert!(told[1].stays.iter().all(|stay| stay.jump.is_none()));
}
