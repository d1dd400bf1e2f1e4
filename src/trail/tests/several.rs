//! What a list and a verdict say of several recipients.

use super::world::{HOP1, Leg, START_US, read, three_hops, view};
use crate::track::Event;
use crate::trail::render::{View, terminal, verdict};

/// Of several recipients a list names whom its verdict begins with: those that something is wrong with.
#[test]
fn a_list_names_the_worst_recipient_first() {
    let mut reports = three_hops(&["bob@example.net", "carol@example.net", "dave@example.net"]);
    reports[2].recipients[1].event = Event::Delayed;
    reports[2].recipients[2].event = Event::Failed;
    let trails = read(&reports);
    let plain = |text: &str| anstream::adapter::strip_str(text).to_string();
    let listed = plain(&terminal::list(&trails, &view()));
    let (first, _) = listed.split_once('\n').unwrap();
    assert!(first.contains("1 failed at mx3, "), "{listed}");
    assert!(first.ends_with("  dave@example.net +2"), "{listed}");
    let whole = plain(&terminal::line(&trails.messages[0], &view()));
    let in_order = "  dave@example.net, carol@example.net, bob@example.net\n";
    assert!(whole.ends_with(in_order), "{whole}");
}

/// On a narrow terminal the recipients have a line of their own; those who have the message are not red since others have not.
#[test]
fn a_narrow_list_names_recipients_and_each_part_has_its_colour() {
    let mut reports = three_hops(&["bob@example.net", "carol@example.net", "dave@example.net"]);
    reports[2].recipients[1].event = Event::Failed;
    let trails = read(&reports);
    for (width, line, names) in [
        (40, 3, "carol@exa… +2"),
        (60, 0, "carol@examp… +2"),
        (
            120,
            0,
            "carol@example.net, bob@example.net, dave@example.net",
        ),
    ] {
        let view = View {
            width: Some(width),
            ..view()
        };
        let listed = terminal::list(&trails, &view);
        assert!(
            listed.contains("\u{1b}[32m2 delivered\u{1b}[0m"),
            "{listed:?}"
        );
        assert!(listed.contains("\u{1b}[31m1 failed at"), "{listed:?}");
        let plain = anstream::adapter::strip_str(&listed).to_string();
        assert!(plain.lines().all(|l| l.chars().count() <= width), "{plain}");
        let line = plain.lines().nth(line).unwrap();
        assert!(line.ends_with(&format!("  {names}")), "{width}: {plain}");
    }
}

/// Whoever failed at a hop failed there, whichever next hop would not have it.
#[test]
fn a_verdict_says_the_same_once() {
    let names = ["a@example.net", "b@example.com", "c@example.net"];
    let mut report = HOP1.report(1, None, &names.map(|name| (name, Event::Failed)));
    report.recipients[1].remote_mta = Some("mx.example.com".into());
    let told = |report: &crate::track::HopReport| {
        let trails = read(std::slice::from_ref(report));
        verdict::verdict(&trails.messages[0], &view(), true)
    };
    assert_eq!(told(&report), "3 failed at mx1");
    for group in &mut report.recipients {
        group.event = Event::Relayed;
    }
    let apart = "2 ending at mx2 (no reports), 1 ending at mx (no reports)";
    assert_eq!(told(&report), apart);
}

/// Of those who wait at one host some came later than others, and of those handed on some are awaited yet.
#[test]
fn what_is_said_of_several_is_true_of_each() {
    const MINUTES: i64 = 60_000;
    let at = |leg: Leg, minutes: i64| Leg {
        came_ms: leg.came_ms + minutes * MINUTES,
        went_ms: leg.went_ms + minutes * MINUTES,
        ..leg
    };
    let fate = |name, event| [(name, event)];
    let told = |reports: &[crate::track::HopReport], short| {
        let later = View {
            now_us: START_US + 30 * MINUTES * 1000,
            ..view()
        };
        verdict::verdict(&read(reports).messages[0], &later, short)
    };
    let waiting = |minutes| {
        [
            HOP1.report(1, None, &fate("bob@example.net", Event::Delayed)),
            at(HOP1, minutes).report(2, None, &fate("carol@example.net", Event::Delayed)),
        ]
    };
    assert_eq!(told(&waiting(0), true), "2 waiting at mx1 since 17:05");
    let apart = "2 waiting at mx1 since 17:05 or later";
    assert_eq!(told(&waiting(20), true), apart);
    let mut behind = waiting(20);
    behind.reverse();
    assert_eq!(told(&behind, true), apart);

    let mut handed = waiting(20);
    for group in handed.iter_mut().flat_map(|report| &mut report.recipients) {
        group.event = Event::Transferred;
    }
    let apart = "1 with mx2 (silent since 17:05), 1 on its way, at mx2 since 17:25";
    let mut parts: Vec<String> = told(&handed, true)
        .split(", 1 ")
        .map(str::to_owned)
        .collect();
    parts.sort();
    assert_eq!(parts.join(", 1 "), apart);
}
