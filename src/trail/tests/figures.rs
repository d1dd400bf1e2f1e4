//! Figures over many messages, as people and programs read them.

use std::collections::BTreeSet;

use jiff::tz::TimeZone;

use super::world::{HOP1, HOP2, HOP3, Leg, SENT_MS, read, read_by, three_hops, view};
use crate::track::{Event, HopReport, StepId, TrackingId};
use crate::trail::render::stats::{rows, terminal};
use crate::trail::stats::{Change, LeftOut, Stats, Table, compare};
use crate::trail::{Trails, Truth};

const DAY_MS: u64 = 86_400_000;

/// The reports on another message, the `n`-th, sent so much later.
fn sent(n: u64, later_ms: u64, mut reports: Vec<HopReport>) -> Vec<HopReport> {
    let shift_us = i64::try_from(later_ms).unwrap() * 1000;
    let of_message = |step: StepId| StepId(step.0 + n * 100);
    for report in &mut reports {
        report.id = TrackingId::new(&format!("{n:04}@mail.example.org")).unwrap();
        report.message_id = Some(format!("m{n}@example.org"));
        report.sent_ms = Some(SENT_MS + later_ms);
        report.step = of_message(report.step);
        report.parent = report.parent.map(of_message);
        report.arrival_us += shift_us;
        for exchange in report.times_in.iter_mut().chain(&mut report.times_out) {
            exchange.command_us += shift_us;
            exchange.reply_us += shift_us;
        }
        for group in &mut report.recipients {
            group.attempted_us = group.attempted_us.map(|us| us + shift_us);
        }
    }
    reports
}

/// The same way, with the time inside the second hop longer by so much.
fn slow(by_ms: i64) -> Vec<HopReport> {
    let bob = |event| [("bob@example.net", event)];
    let second = Leg {
        went_ms: HOP2.went_ms + by_ms,
        ..HOP2
    };
    let third = Leg {
        came_ms: HOP3.came_ms + by_ms,
        went_ms: HOP3.went_ms + by_ms,
        ..HOP3
    };
    vec![
        HOP1.report(1, None, &bob(Event::Transferred)),
        second.report(2, Some(1), &bob(Event::Transferred)),
        third.report(3, Some(2), &bob(Event::Delivered)),
    ]
}

/// A failure, a delay, a way that ends at a hop that does not report, and one that comes back.
fn trouble() -> Vec<HopReport> {
    let bob = [("bob@example.net", Event::Transferred)];
    let dave = [("dave@example.net", Event::Failed)];
    let refused = vec![
        HOP1.report(1, None, &[("dave@example.net", Event::Transferred)]),
        HOP2.report(2, Some(1), &dave),
    ];
    let put_off = vec![HOP1.report(1, None, &[("carol@example.com", Event::Delayed)])];
    let unequipped = vec![HOP1.report(
        1,
        None,
        &[
            ("eve@example.com", Event::Relayed),
            ("frank@example.com", Event::Relayed),
        ],
    )];
    let back = Leg {
        hop: 3,
        came_ms: HOP2.went_ms,
        went_ms: HOP2.went_ms + 100,
        ..HOP1
    };
    let ring = vec![
        HOP1.report(1, None, &bob),
        HOP2.report(2, Some(1), &bob),
        back.report(3, Some(2), &bob),
    ];
    let all = [refused, put_off, unequipped, ring].into_iter().zip(20..);
    all.flat_map(|(reports, n)| sent(n, DAY_MS + n * 1000, reports))
        .collect()
}

/// Ten good messages on one day and the trouble on the next.
fn mailbox() -> Vec<HopReport> {
    let good =
        (0..10).flat_map(|n: u64| sent(n, n * 60_000, slow(i64::try_from(n).unwrap() * 100)));
    good.chain(trouble()).collect()
}

fn stats(trails: &Trails, by_day: bool) -> Stats {
    let mut stats = Stats::new(TimeZone::UTC, by_day);
    trails.messages.iter().for_each(|m| stats.add(m));
    stats
}

/// What a mailbox may hold beside reports.
fn skipped() -> [(String, String); 1] {
    [("new/1.gz".to_owned(), "compressed by gzip".to_owned())]
}

fn plain(text: &str) -> String {
    let text = anstream::adapter::strip_str(text).to_string();
    for line in text.lines() {
        assert!(line.chars().count() <= 80, "too wide: {line}");
        assert!(!line.chars().any(char::is_control), "{line:?}");
    }
    text
}

#[test]
fn for_people() {
    let trails = read(&mailbox());
    let left_out = LeftOut {
        unproved: 2,
        beside_proved: 1,
    };
    insta::assert_snapshot!(plain(&terminal::draw(
        stats(&trails, false),
        left_out,
        &view()
    )));
}

#[test]
fn by_day() {
    let trails = read(&mailbox());
    insta::assert_snapshot!(plain(&terminal::draw(
        stats(&trails, true),
        LeftOut::default(),
        &view()
    )));
}

#[test]
fn for_programs() {
    let trails = read(&sent(1, 0, three_hops(&["bob@example.net"])));
    insta::assert_snapshot!(rows::json(stats(&trails, false), 0, &skipped()));
    insta::assert_snapshot!(rows::csv(stats(&trails, true)));
}

/// The document in the module's documentation has the fields there are.
#[test]
fn the_documentation_shows_every_field() {
    let source = include_str!("../render/stats/rows.rs");
    let lines = source.lines().map_while(|line| line.strip_prefix("//!"));
    let json: String = lines
        .skip_while(|line| !line.contains("```json"))
        .skip(1)
        .take_while(|line| !line.contains("```"))
        .collect();
    let fields = |text: &str| {
        let document: serde_json::Value = serde_json::from_str(text).unwrap();
        let mut fields: BTreeSet<String> = document.as_object().unwrap().keys().cloned().collect();
        fields.extend(document["rows"][0].as_object().unwrap().keys().cloned());
        fields
    };
    let trails = read(&mailbox());
    assert_eq!(
        fields(&json),
        fields(&rows::json(stats(&trails, false), 0, &skipped()))
    );
}

#[test]
fn figures_are_those_of_the_messages() {
    let trails = read(&mailbox());
    let figures = stats(&trails, false);
    assert_eq!((figures.all.messages, figures.all.recipients), (14, 15));
    assert_eq!((figures.all.delivered, figures.all.failed), (10, 1));
    let lines = figures.lines();
    let find = |table, name: &str, peer: Option<&str>| {
        let mut all = lines.iter();
        let is = |k: &crate::trail::stats::Key| {
            k.table == table && k.name == name && (peer.is_none() || k.peer.as_deref() == peer)
        };
        all.find(|(key, _)| is(key))
            .map(|(_, tally)| tally.clone())
            .unwrap()
    };
    let first = find(Table::Hop, "mx1.example.org", None);
    // The one that came back was there twice, and is one message.
    assert_eq!((first.messages, first.loops, first.delayed), (14, 1, 1));
    assert_eq!((first.left, first.departures), (14, 14));
    let second = find(Table::Hop, "mx2.example.com", None);
    let times = second.time.percentiles().unwrap();
    // Without the wait for answers a little less than 2250 ms and 100 ms more for each; the ring's and the failed one's are of the former.
    assert_eq!((times.count, times.p50.low_us), (12, 2_545_700));
    assert_eq!(
        times.p50.low_us, times.p50.high_us,
        "inside a hop times are exact"
    );
    let pair = find(Table::Pair, "mx1.example.org", Some("mx2.example.com"));
    // Of the ring's second round no report came.
    assert_eq!((pair.messages, pair.handed, pair.heard), (15, 13, 12));
    assert_eq!((pair.relayed, pair.delayed), (1, 1));
    let wire = pair.time.percentiles().unwrap();
    assert!(
        wire.p50.low_us <= 300 && 300 <= wire.p50.high_us,
        "{wire:?}"
    );
    let sender = find(Table::Originator, "alice@example.org", None);
    assert_eq!((sender.messages, sender.recipients), (14, 15));
    let net = find(Table::Destination, "example.net", None);
    assert_eq!((net.recipients, net.delivered, net.failed), (12, 10, 1));
    let whole = net.time.percentiles().unwrap();
    assert!(
        whole.p50.low_us < whole.p50.high_us,
        "across hops they have bounds"
    );
}

#[test]
fn what_changed_is_told() {
    let slower = (0..6).flat_map(|n| sent(n, n * 1000, slow(4_000)));
    let moved = Leg {
        next: "mx9.example.com",
        ..HOP1
    };
    let other = Leg {
        host: "mx9.example.com",
        ..HOP2
    };
    let elsewhere = vec![
        moved.report(1, None, &[("zoe@example.com", Event::Transferred)]),
        other.report(2, Some(1), &[("zoe@example.com", Event::Relayed)]),
    ];
    let now: Vec<_> = slower.chain(sent(9, 0, elsewhere)).collect();
    let (before, now) = (read(&mailbox()), read(&now));
    let news = compare(stats(&before, false).lines(), stats(&now, false).lines());
    insta::assert_snapshot!(plain(&terminal::changes(&news, &view())));
    let changes: BTreeSet<Change> = news.iter().map(|n| n.change).collect();
    assert_eq!(changes, [Change::New, Change::Gone, Change::Slower].into());
    let same = compare(stats(&before, false).lines(), stats(&before, false).lines());
    assert_eq!(same, []);
    assert!(plain(&terminal::changes(&same, &view())).contains("nothing changed"));
}

/// A hop that takes note of a ring asks no other hop, and one whose report is missing is where the way goes.
#[test]
fn a_ring_makes_no_pair_and_a_missing_report_no_other_route() {
    let bob = [("bob@example.net", Event::Transferred)];
    let again = Leg {
        hop: 4,
        next: HOP1.host,
        came_ms: HOP3.went_ms,
        went_ms: HOP3.went_ms + 1,
        ..HOP1
    };
    let to_first = Leg {
        next: HOP1.host,
        ..HOP3
    };
    let ring = [
        HOP1.report(1, None, &bob),
        HOP2.report(2, Some(1), &bob),
        to_first.report(3, Some(2), &bob),
        again.report(4, Some(3), &[("bob@example.net", Event::Looped)]),
    ];
    let pairs = stats(&read(&ring), false).lines().into_iter();
    let pairs = pairs.filter(|(key, _)| key.table == Table::Pair);
    let pairs: BTreeSet<_> = pairs.filter_map(|(key, _)| key.peer).collect();
    let hosts = [HOP1.host, HOP2.host, HOP3.host].map(str::to_owned);
    assert_eq!(pairs, hosts.clone().into());

    // The hop before calls the third one by the name of a pool.
    let pool = Leg {
        next: "pool.example.net",
        ..HOP2
    };
    let mut whole = three_hops(&["bob@example.net"]);
    whole[1] = pool.report(2, Some(1), &bob);
    let lacking = sent(1, 1000, whole[..2].to_vec());
    let (before, both) = (read(&whole), read(&[whole, lacking].concat()));
    let routes = stats(&both, false).lines().into_iter();
    let mut routes = routes.filter(|(key, _)| key.table == Table::Route);
    let (route, tally) = routes.next().unwrap();
    assert_eq!(route.peer, Some(hosts.join(" > ")));
    assert_eq!((tally.messages, routes.count()), (2, 0));
    let news = compare(stats(&before, false).lines(), stats(&both, false).lines());
    assert_eq!(news, []);
}

/// Whatever strangers call themselves.
#[test]
fn hostile_names_are_shown_safely() {
    let mut reports = three_hops(&["=cmd()|x\u{202e}@example.net"]);
    for report in &mut reports {
        report.reporting_mta = format!("=HYPERLINK({}\u{1b}[31m", "x".repeat(300)).into();
    }
    let trails = read(&reports);
    plain(&terminal::draw(
        stats(&trails, false),
        LeftOut::default(),
        &view(),
    ));
    let csv = rows::csv(stats(&trails, false));
    assert!(csv.contains(",'=HYPERLINK("), "{csv}");
    assert!(!csv.contains(",=") && !csv.contains("\"="), "{csv}");
    assert!(
        !csv.contains('\u{1b}')
            && !rows::json(stats(&trails, false), 0, &skipped()).contains('\u{1b}')
    );
}

/// What nothing proves beside a secret settles nothing: it is open, not delivered.
#[test]
fn unproved_messages_are_open() {
    let trails = read_by(
        &three_hops(&["bob@example.net"]),
        None,
        Some(&super::world::secret()),
    );
    assert_eq!(trails.messages[0].truth, Truth::Unproved);
    let figures = stats(&trails, false);
    assert_eq!((figures.all.recipients, figures.all.delivered), (1, 0));
    let text = plain(&terminal::draw(figures, LeftOut::default(), &view()));
    assert!(
        text.contains("? 1 message of these not proved to be yours"),
        "{text}"
    );
    let nothing = Stats::new(TimeZone::UTC, false);
    assert!(plain(&terminal::draw(nothing, LeftOut::default(), &view())).starts_with("0 messages"));
}

/// A hop that keeps what was refused for good, and tries it again, has not failed.
#[test]
fn a_refusal_that_was_tried_again_is_no_failure() {
    let bob = |event| [("bob@example.net", event)];
    let tried = |step, went_ms, event| Leg { went_ms, ..HOP1 }.report(step, None, &bob(event));
    let mut reports = vec![
        tried(1, 480, Event::Failed),
        tried(2, 60_480, Event::Failed),
        tried(3, 300_480, Event::Transferred),
    ];
    let figures = |reports: &[HopReport]| {
        let trails = read(reports);
        let text = plain(&terminal::draw(
            stats(&trails, false),
            LeftOut::default(),
            &view(),
        ));
        let rows = rows::rows(stats(&trails, false));
        let told = rows.iter().filter(|row| row.failed + row.refused > 0);
        let told = told.map(|row| (row.table, row.failed, row.refused, row.times));
        (told.collect::<Vec<_>>(), text)
    };
    let (told, text) = figures(&reports);
    let tables = [
        Table::Hop,
        Table::Pair,
        Table::Originator,
        Table::Destination,
        Table::Route,
        Table::Day,
    ];
    let refused = tables.map(|table| (table, 0, 2, usize::from(table == Table::Hop)));
    assert_eq!(
        told.iter()
            .filter(|t| t.0 != Table::Client)
            .copied()
            .collect::<Vec<_>>(),
        refused
    );
    for words in [
        "? mx1.example.org: 2 refusals not counted as failed: it tried again",
        "3 transactions, 0 % reported by it, 2 refused, then tried again\n",
    ] {
        assert!(text.contains(words), "no {words}: {text}");
    }
    // The last word is that it failed.
    reports.pop();
    let (told, _) = figures(&reports);
    assert_eq!(told[0], (Table::Hop, 1, 1, 1));
}

/// A delay counts wherever it was: the mail of a sender that was put off at the first hop was put off.
#[test]
fn a_delay_before_the_last_hop_counts() {
    let bob = |event| [("bob@example.net", event)];
    let mut reports = slow(0);
    reports.push(
        Leg {
            went_ms: 300,
            ..HOP1
        }
        .report(4, None, &bob(Event::Delayed)),
    );
    let rows = rows::rows(stats(&read(&reports), false));
    let delayed = rows.iter().filter(|row| row.delayed > 0);
    let tables: BTreeSet<_> = delayed.map(|row| (row.table, row.delayed)).collect();
    let all = [
        Table::Hop,
        Table::Pair,
        Table::Originator,
        Table::Client,
        Table::Destination,
        Table::Route,
        Table::Day,
    ];
    assert_eq!(tables, BTreeSet::from(all.map(|table| (table, 1))));
}

/// What a hop's own clock says of the time inside counts as long as nobody set it; a ring counts wherever it shows.
#[test]
fn clocks_that_were_set_do_not_count_and_rings_do() {
    let line = |reports: &[HopReport], host: &str| {
        let csv = rows::csv(stats(&read(reports), false));
        let mut rows = csv.lines().map(|line| line.split(',').collect::<Vec<_>>());
        let names = rows.next().unwrap();
        let row = rows.find(|row| row[0] == "hop" && row[2] == host).unwrap();
        let of = |name: &str| row[names.iter().position(|n| *n == name).unwrap()].to_owned();
        (of("messages"), of("times"), of("loops"))
    };
    let told = |line: (&str, &str, &str)| (line.0.into(), line.1.into(), line.2.into());
    let mut reports = three_hops(&["bob@example.net"]);
    assert_eq!(line(&reports, HOP2.host), told(("1", "1", "0")));
    reports.extend(super::drawn::a_second_ahead_a_minute_later());
    assert_eq!(line(&reports, HOP1.host), told(("2", "2", "0")));
    // The first one had left when a clock was set, its own or the third hop's.
    assert_eq!(line(&reports, HOP2.host), told(("2", "1", "0")));
    let text = plain(&terminal::draw(
        stats(&read(&reports), false),
        LeftOut::default(),
        &view(),
    ));
    let told_so = format!("? {}: 1 time not counted", HOP2.host);
    assert!(text.contains(&told_so), "{text}");
    let looped = HOP1.report(1, None, &[("bob@example.net", Event::Looped)]);
    assert_eq!(line(&[looped], HOP1.host).2, "1");
}
