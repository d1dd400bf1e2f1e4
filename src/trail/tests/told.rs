//! What the trails say, apart from how it looks.

use proptest::prelude::*;

use super::world::{HOP1, HOP2, Leg, read, read_by, secret, three_hops, view};
use crate::track::{Event, Secret, StepId, TrackingId};
use crate::trail::clock::Offset;
use crate::trail::message::Truth;
use crate::trail::render::{json, terminal, verdict};
use crate::trail::way::{self, way};
use crate::trail::{Outcome, State};

#[test]
fn the_same_report_twice_counts_once() {
    let mut reports = three_hops(&["bob@example.net"]);
    reports.extend(three_hops(&["bob@example.net"]));
    let trails = read(&reports);
    assert_eq!((trails.counts.mails, trails.counts.reports), (7, 6));
    let steps = trails.messages[0].stays.iter().map(|s| s.steps.len());
    assert_eq!(steps.collect::<Vec<_>>(), [1, 1, 1]);
}

#[test]
fn the_true_offset_lies_within_the_bounds() {
    let trails = read(&three_hops(&["bob@example.net"]));
    let offsets: Vec<_> = trails.messages[0].stays.iter().map(|s| s.offset).collect();
    for (offset, truth) in offsets.iter().zip([0, 5_000_000, -40_000]) {
        let Offset::Known(bounds) = offset else {
            panic!("{offset:?}")
        };
        assert!(
            bounds.low_us <= truth && truth <= bounds.high_us,
            "{bounds:?} {truth}"
        );
        // 0.3 ms of each link, and what the clocks may run apart in the 2.25 s at the second hop.
        assert!(bounds.margin_us() <= 600 + 2250 + 3, "{bounds:?}");
    }
}

#[test]
fn a_proof_is_needed_where_there_are_proofs() {
    let reports = three_hops(&["bob@example.net"]);
    let mut trails = read(&reports);
    assert_eq!(trails.messages[0].truth, Truth::Verified);
    trails = read_by(&reports, None, Some(&secret()));
    assert_eq!(trails.messages[0].truth, Truth::Unproved);
    trails = read_by(&reports, None, None);
    assert_eq!(trails.messages[0].truth, Truth::Unverifiable);
    trails = read_by(&reports, Some(&Secret::new([9; 32])), Some(&secret()));
    assert!(trails.messages.is_empty());
    assert_eq!(trails.not_ours.len(), 3);
}

/// The end of the way without a proof, among proved reports: it must not say "delivered".
#[test]
fn an_unproved_report_changes_no_verdict() {
    let reports = three_hops(&["bob@example.net"]);
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("new")).unwrap();
    for (n, report) in reports.iter().enumerate() {
        let key = secret().certificate("m1@example.org", report.sent_ms.unwrap());
        let mailing = crate::report::Mailing {
            from: "a@example.net",
            to: "b@example.net",
            date_us: 0,
            certificate: (n < 2).then_some(&key),
            received: None,
            boundary: "b0f6f1d2c3a4958677",
        };
        let mail = crate::report::write(report, &mailing);
        std::fs::write(dir.path().join(format!("new/{n}")), mail).unwrap();
    }
    let trails = crate::trail::load(dir.path(), Some(&secret())).unwrap();
    let [message] = &trails.messages[..] else {
        panic!("{trails:?}")
    };
    assert_eq!((message.unproved, message.stays.len()), (1, 2));
    assert_eq!(message.outcome(), Outcome::Open);
}

/// Who knows a tracking id can claim its end; only without a secret there is nothing better to go by.
#[test]
fn an_unproved_end_is_no_answer_to_who_has_a_secret() {
    for (event, claimed) in [
        (Event::Delivered, Outcome::Delivered),
        (Event::Failed, Outcome::Failed),
    ] {
        let reports = [HOP1.report(1, None, &[("bob@example.net", event)])];
        let outcome =
            |reader: Option<&Secret>| read_by(&reports, None, reader).messages[0].outcome();
        let own = secret();
        assert_eq!(outcome(Some(&own)), Outcome::Open, "{event}");
        assert_eq!(outcome(None), claimed);
        assert_eq!(read(&reports).messages[0].outcome(), claimed, "proved");
    }
}

/// A message that comes back to a hop again and again: arrival, departure, arrival, departure.
#[test]
fn what_a_hop_did_is_told_in_the_order_of_its_clock() {
    let pass = |n: i64, step: u64| {
        let leg = Leg {
            came_ms: 1000 * n,
            went_ms: 1000 * n + 500,
            ..HOP1
        };
        let bob = [("bob@example.net", Event::Accepted)];
        let mut entrance = leg.report(step, None, &bob);
        entrance.role = crate::track::Role::Ingress;
        entrance.recipients[0].attempted_us = Some(entrance.arrived_us());
        let exit = leg.report(
            step + 10,
            Some(step),
            &[("bob@example.net", Event::Transferred)],
        );
        [entrance, exit]
    };
    let trails = read(&[pass(1, 3), pass(2, 2), pass(3, 1)].concat());
    let message = &trails.messages[0];
    let steps: Vec<_> = message.stays[0].steps.iter().map(|s| s.step.0).collect();
    assert_eq!(steps, [3, 13, 2, 12, 1, 11]);
    let text = anstream::adapter::strip_str(&terminal::message(message, &view())).to_string();
    let (_, tree) = text.split_once('●').unwrap();
    let times = |text: &str| -> Vec<String> {
        let first = text.lines().map(|l| l.trim_start_matches([' ', '│']));
        let times = first.filter(|l| l.starts_with("17:"));
        times.map(|l| l[..12].to_owned()).collect()
    };
    let mut sorted = times(tree);
    sorted.sort();
    assert_eq!(times(tree), sorted, "{tree}");
    assert_eq!(sorted.len(), 9, "an arrival is told once:\n{tree}");
    assert_eq!(tree.matches("  arrived, ").count(), 3, "{tree}");
}

/// A hop often knows its queue id only after the first attempt; that is no second arrival.
#[test]
fn an_arrival_is_told_once_with_all_that_is_known_of_it() {
    let bob = [("bob@example.net", Event::Delayed)];
    let mut reports = [HOP1.report(1, None, &bob), HOP1.report(2, None, &bob)];
    reports[0].queue_id = None;
    let trails = read(&reports);
    let text = terminal::message(&trails.messages[0], &view());
    assert_eq!(text.matches("arrived").count(), 1, "{text}");
    assert!(text.contains("arrived, queue id 4F001"), "{text}");
}

#[test]
fn an_ip_address_keeps_all_its_parts_in_the_list() {
    for (next, shown) in [
        ("127.0.0.1", "127.0.0.1"),
        ("127.0.0.1:2525", "127.0.0.1:2525"),
        ("[127.0.0.1]", "[127.0.0.1]"),
        ("::ffff:10.0.0.1", "::ffff:10.0.0.1"),
        ("mx3.example.net", "mx3"),
    ] {
        let leg = Leg { next, ..HOP1 };
        let trails = read(&[leg.report(1, None, &[("bob@example.net", Event::Relayed)])]);
        let verdict = verdict::verdict(&trails.messages[0], &view(), true);
        assert_eq!(verdict, format!("trail ends at {shown} (no reports)"));
    }
}

/// A steering character in the address a forger mails from comes out of its encoding; as an escape it
/// steers nobody's terminal, and means the same.
#[test]
fn json_on_a_terminal_steers_nothing() {
    let mut trails = read(&three_hops(&["bob@example.net"]));
    let from = "\u{9b}31m\u{202e}\u{7f}\"\\é\n\u{e0041}@example.net";
    trails.not_ours.push(crate::trail::NotOurs {
        id: TrackingId::new("x").unwrap(),
        host: "mx".to_owned(),
        known_as: None,
        from: Some(from.to_owned()),
        why: crate::trail::Why::WrongProof,
    });
    let text = json::document(&trails, 0);
    let steers = |c: char| c != '\n' && crate::track::clean::is_hidden(c);
    assert!(!text.contains(steers), "{text}");
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(json["not_ours"][0]["from"], from);
}

/// A hop that carried another mail of this user knows that mail's key, not this one's.
#[test]
fn a_key_of_another_message_does_not_open_this_one() {
    let mut reports = three_hops(&["bob@example.net"]);
    reports.truncate(2);
    let mut other = three_hops(&["bob@example.net"]).remove(2);
    other.message_id = Some("m2@example.org".to_owned());
    reports.push(other);
    let trails = read(&reports);
    let mine = trails
        .messages
        .iter()
        .find(|m| m.message_id.as_deref() == Some("m1@example.org"));
    assert_eq!(mine.unwrap().outcome(), Outcome::Open);
    assert_eq!(trails.messages.len(), 2);
}

#[test]
fn a_missing_report_is_a_stay_without_steps() {
    let mut reports = three_hops(&["bob@example.net"]);
    reports.remove(1);
    let trails = read(&reports);
    let stays = &trails.messages[0].stays;
    assert_eq!(
        stays
            .iter()
            .map(|s| (s.hop, s.is_missing(), s.parent))
            .collect::<Vec<_>>(),
        [(1, false, None), (2, true, Some(0)), (3, false, Some(1))]
    );
    assert_eq!(stays[1].host.as_deref(), Some("mx2.example.com"));
    assert_eq!(stays[2].offset, Offset::Unknown);
}

#[test]
fn an_entrance_that_was_only_remembered_is_no_missing_hop() {
    let mut reports = three_hops(&["bob@example.net"]);
    reports[1].parent = Some(StepId(77));
    reports[0].parent = Some(StepId(76));
    let trails = read(&reports);
    let stays = &trails.messages[0].stays;
    assert_eq!(
        stays.iter().map(|s| (s.hop, s.parent)).collect::<Vec<_>>(),
        [(1, None), (2, Some(0)), (3, Some(1))]
    );
}

/// An MTA may pass a message on before its arrival is on record; that step knows no parent.
#[test]
fn a_step_without_a_link_joins_its_hop() {
    let first = HOP2.report(9, Some(77), &[("bob@example.net", Event::Delayed)]);
    let mut reports = three_hops(&["bob@example.net"]);
    reports.truncate(2);
    reports.push(first);
    let trails = read(&reports);
    let stays = &trails.messages[0].stays;
    let told = stays.iter().map(|s| (s.hop, s.parent, s.steps.len()));
    assert_eq!(told.collect::<Vec<_>>(), [(1, None, 1), (2, Some(0), 2)]);
}

#[test]
fn an_entrance_and_its_exit_are_one_stay() {
    let mut reports = vec![
        HOP1.report(1, None, &[("bob@example.net", Event::Accepted)]),
        HOP1.report(2, Some(1), &[("bob@example.net", Event::Transferred)]),
        HOP2.report(3, Some(2), &[("bob@example.net", Event::Accepted)]),
    ];
    reports[0].role = crate::track::Role::Ingress;
    let trails = read(&reports);
    let message = &trails.messages[0];
    assert_eq!(
        message
            .stays
            .iter()
            .map(|s| s.steps.len())
            .collect::<Vec<_>>(),
        [2, 1]
    );
    assert_eq!(message.recipients[0].state, State::Accepted);
    assert_eq!(message.recipients[0].host, "mx2.example.com");
}

#[test]
fn a_delay_is_over_once_the_message_left() {
    let delays =
        |n| (0..n).map(|k| HOP1.report(10 + k, None, &[("bob@example.net", Event::Delayed)]));
    let mut reports: Vec<_> = delays(3).collect();
    let waiting = read(&reports);
    let bob = &waiting.messages[0].recipients[0];
    assert_eq!((bob.state, bob.delays), (State::Delayed, 3));
    reports.push(HOP1.report(20, None, &[("bob@Example.NET", Event::Relayed)]));
    let trails = read(&reports);
    assert_eq!(trails.messages[0].recipients.len(), 1);
    assert_eq!(trails.messages[0].recipients[0].state, State::Relayed);
}

/// The parts of the way add up to the whole, also where an entrance reported by itself.
#[test]
fn the_way_adds_up() {
    let mut reports = three_hops(&["bob@example.net"]);
    reports[1].parent = Some(StepId(8));
    let mut entrance = HOP2.report(8, Some(1), &[("bob@example.net", Event::Accepted)]);
    entrance.role = crate::track::Role::Ingress;
    reports.push(entrance);
    let trails = read(&reports);
    let message = &trails.messages[0];
    let parts = way(message, &message.recipients[0]);
    let dwell: Vec<_> = parts.iter().map(|p| p.dwell_us.unwrap() / 1000).collect();
    assert_eq!(dwell, [359, 2249, 120]);
    assert!(parts[0].wire.is_none());
    for part in &parts[1..] {
        let wire = part.wire.unwrap();
        assert!(wire.low_us <= 300 && 300 <= wire.high_us, "{wire:?}");
    }
    assert_eq!(way::total(&parts), verdict::total(message));
}

/// A hop tells of a transaction in parts, and its next hops all know it by the name of the first.
#[test]
fn a_way_leads_through_the_part_that_tells_of_him() {
    let [bob, carol] = ["bob@example.net", "carol@example.net"];
    let both = [(bob, Event::Delivered), (carol, Event::Delivered)];
    let trails = read(&[
        HOP1.report(1, None, &[(bob, Event::Transferred)]),
        HOP1.report(8, None, &[(carol, Event::Transferred)]),
        HOP2.report(2, Some(1), &both),
    ]);
    let message = &trails.messages[0];
    for recipient in &message.recipients {
        let parts = way(message, recipient);
        assert_eq!(parts.len(), 2, "{parts:?}");
        assert!(
            way::total(&parts).is_some(),
            "{}: {parts:?}",
            recipient.address
        );
    }
}

/// Links that run in a circle within a hop end all the same.
#[test]
fn a_way_in_a_circle_ends() {
    let bob = [("bob@example.net", Event::Delayed)];
    let reports = [HOP1.report(1, Some(2), &bob), HOP1.report(2, Some(1), &bob)];
    let trails = read(&reports);
    let message = &trails.messages[0];
    assert_eq!(
        way(message, &message.recipients[0]).len(),
        message.stays.len()
    );
}

#[test]
fn broken_reports_are_counted_not_fatal() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("cur")).unwrap();
    let broken =
        "Content-Type: multipart/report; report-type=tracking-status; boundary=x\n\n--x--\n";
    std::fs::write(dir.path().join("cur/1"), broken).unwrap();
    let trails = crate::trail::load(dir.path(), None).unwrap();
    assert_eq!(trails.counts.mails, 1);
    assert_eq!(trails.skipped.len(), 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Reports about one id that contradict each other in every way: no panic, each step in one place,
    /// every link to a stay before it.
    #[test]
    fn any_reports_make_some_trail(
        reports in proptest::collection::vec((0u64..12, proptest::option::of(0u64..14), 1u8..5, 0usize..3, any::<i64>(), 0usize..8), 1..14)
    ) {
        let made = reports.iter().map(|(step, parent, hop, host, time, event)| {
            let mut report = HOP1.report(*step, *parent, &[("bob@example.net", Event::ALL[*event])]);
            report.hop = *hop;
            report.reporting_mta = ["a.example", "b.example", "c.example"][*host].into();
            report.arrival_us = *time;
            report.times_in[4].command_us = *time;
            report.id = TrackingId::new("t").unwrap();
            crate::report::Received { report: report.into(), others: vec![], auth: None, canonical: String::new(), from: None, to: None, trace: vec![] }
        });
        let (messages, not_ours) = crate::trail::assemble::assemble(made.collect(), None);
        prop_assert!(not_ours.is_empty());
        let stays = &messages[0].stays;
        let mut steps: Vec<_> = stays.iter().flat_map(|s| s.steps.iter().map(|t| t.step.0)).collect();
        steps.sort_unstable();
        let mut expected: Vec<_> = reports.iter().map(|r| r.0).collect();
        expected.sort_unstable();
        expected.dedup();
        prop_assert_eq!(steps, expected);
        for (n, stay) in stays.iter().enumerate() {
            if let Some(parent) = stay.parent {
                prop_assert!(parent < n && stays[parent].hop < stay.hop);
            }
        }
        let text = terminal::message(&messages[0], &view());
        let trails = crate::trail::Trails { messages, ..Default::default() };
        prop_assert!(!terminal::list(&trails, &view()).is_empty());
        let json: serde_json::Value = serde_json::from_str(&json::document(&trails, 0)).unwrap();
        prop_assert_eq!(json["messages"][0]["hops"].as_array().unwrap().len(), trails.messages[0].stays.len());
        // A number with a minus is a negative duration; a hostile stamp's year is no such number.
        let mut words = text.split([' ', '\n']);
        let negative = words.find(|w| w.starts_with('-') && w.parse::<f64>().is_ok());
        prop_assert_eq!(negative, None, "{}", text);
    }
}

/// Local parts are the host's own, octet by octet (RFC 5321, 2.4).
#[test]
fn recipients_whose_local_parts_differ_in_case_are_two() {
    let [taken, refused] = ["NOBODY@dest.example", "nobody@DEST.example"];
    let mut reports = three_hops(&[taken, refused]);
    let last = &mut reports[2].recipients[1];
    (last.event, last.original) = (Event::Failed, "nobody@dest.example".into());
    let trails = read(&reports);
    let message = &trails.messages[0];
    let told: Vec<_> = message
        .recipients
        .iter()
        .map(|r| (r.address.as_str(), r.state))
        .collect();
    assert_eq!(told, [(taken, State::Delivered), (refused, State::Failed)]);
    assert_eq!(message.outcome(), Outcome::Failed);
    let ways = message.recipients.iter().map(|r| way(message, r).len());
    assert_eq!(ways.collect::<Vec<_>>(), [3, 3]);
}

/// The same address twice, of which the store takes the first.
#[test]
fn a_recipient_named_twice_and_refused_once_has_failed() {
    for failed in [0, 1] {
        let mut reports = three_hops(&["bob@example.net", "bob@EXAMPLE.net"]);
        reports[2].recipients[failed].event = Event::Failed;
        let trails = read(&reports);
        let message = &trails.messages[0];
        assert_eq!(message.recipients.len(), 1);
        assert_eq!(message.outcome(), Outcome::Failed);
    }
}

/// A host whose clock is five minutes slow tells of the message, and of no hop that it had it from.
#[test]
fn the_clock_of_an_unconnected_report_is_not_the_measure() {
    let bob = [("bob@example.net", Event::Transferred)];
    let stranger = Leg {
        host: "mx.example.info",
        clock_us: -300_000_000,
        ..HOP1
    };
    let stranger = stranger.report(9, None, &[("bob@example.net", Event::Delayed)]);
    let chain = three_hops(&["bob@example.net"]);
    for chain in [chain, vec![HOP1.report(1, None, &bob)]] {
        let hops = chain.len();
        let trails = read(&[chain, vec![stranger.clone()]].concat());
        let message = &trails.messages[0];
        assert_eq!(message.measure(), Some(0));
        assert_eq!(message.stays[0].host.as_deref(), Some(HOP1.host));
        let known = message
            .stays
            .iter()
            .filter(|stay| stay.offset.bounds().is_some());
        assert_eq!((message.stays.len(), known.count()), (hops + 1, hops));
        assert_eq!(verdict::total(message).is_some(), hops == 3);
    }
}
