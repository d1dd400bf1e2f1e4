//! What people and programs get to see.

use std::collections::BTreeSet;

use super::world::{self, HOP1, HOP2, HOP3, Leg, read, read_by, secret, three_hops, view};
use crate::track::{Event, Exchange, HopReport, Role, Security};
use crate::trail::Trails;
use crate::trail::render::{json, terminal};

/// The list and every message as a terminal without colour shows them. No line is too wide, but where an
/// id or an address stands alone.
pub fn shown(trails: &Trails) -> String {
    let mut text = terminal::list(trails, &view());
    for message in &trails.messages {
        text.push_str("\n----\n");
        text.push_str(&terminal::message(message, &view()));
    }
    text.push_str(&terminal::not_ours(&trails.not_ours, &view()));
    let text = anstream::adapter::strip_str(&text).to_string();
    for line in text.lines() {
        let whole = line.trim_matches([' ', '│', ',']);
        let fits = line.chars().count() <= 80 || !whole.contains(' ');
        assert!(fits, "too wide: {line}");
        assert!(!line.chars().any(char::is_control), "{line:?}");
    }
    text
}

pub fn delayed() -> Vec<HopReport> {
    let bob = [("bob@example.net", Event::Transferred)];
    let (carol_late, carol) = (
        [("carol@example.net", Event::Delayed)],
        [("carol@example.net", Event::Transferred)],
    );
    let later = Leg {
        went_ms: 302_730,
        ..HOP2
    };
    let late = Leg {
        came_ms: 302_730,
        went_ms: 302_850,
        ..HOP3
    };
    let [first, _, last] = three_hops(&["bob@example.net", "carol@example.net"])
        .try_into()
        .unwrap();
    let _: HopReport = last;
    vec![
        first,
        HOP2.report(2, Some(1), &bob),
        HOP2.report(3, Some(1), &carol_late),
        later.report(4, Some(1), &carol),
        HOP3.report(5, Some(2), &[("bob@example.net", Event::Delivered)]),
        late.report(6, Some(4), &[("carol@example.net", Event::Delivered)]),
    ]
}

/// Three hops with TLS between them; the second takes its time to accept.
fn secured() -> Vec<HopReport> {
    let tls = |version: &'static str, verified| {
        Some(Security::Tls {
            version: version.into(),
            cipher: "TLS_AES_256_GCM_SHA384".into(),
            verified,
        })
    };
    let mut reports = three_hops(&["bob@example.net"]);
    let legs = [
        (Some(Security::Plain), tls("1.3", true)),
        (tls("1.3", false), tls("1.2", false)),
        (tls("1.2", false), Some(Security::Plain)),
    ];
    for (report, (tls_in, tls_out)) in reports.iter_mut().zip(legs) {
        (report.tls_in, report.tls_out) = (tls_in, tls_out);
    }
    let late = |times: &mut Vec<Exchange>| times.last_mut().unwrap().reply_us += 3_000_000;
    late(&mut reports[0].times_out);
    late(&mut reports[1].times_in);
    reports
}

#[test]
fn legs_under_tls_and_a_hop_that_thinks() {
    insta::assert_snapshot!(shown(&read(&secured())));
}

#[test]
fn three_hops_delivered() {
    insta::assert_snapshot!(shown(&read(&three_hops(&["bob@example.net"]))));
}

#[test]
fn two_recipients_one_delayed_for_now() {
    let mut reports = delayed();
    reports.truncate(3);
    reports.extend(delayed().into_iter().skip(4).take(1));
    insta::assert_snapshot!(shown(&read(&reports)));
}

#[test]
fn two_recipients_one_delayed_then_delivered() {
    insta::assert_snapshot!(shown(&read(&delayed())));
}

#[test]
fn failed() {
    let mut reports = three_hops(&["bob@example.net", "dave@example.net"]);
    if let Some(dave) = reports.last_mut().and_then(|r| r.recipients.last_mut()) {
        let refused = HOP3.report(9, None, &[("dave@example.net", Event::Failed)]);
        *dave = refused.recipients.into_iter().next().unwrap();
    }
    insta::assert_snapshot!(shown(&read(&reports)));
}

/// Back at the first hop, by way of the second, which reported or did not.
#[test]
fn in_a_ring() {
    let bob = |event| [("bob@example.net", event)];
    let again = Leg {
        hop: 3,
        host: HOP1.host,
        clock_us: 0,
        next: HOP1.host,
        ..HOP3
    };
    let mut looped = again.report(3, Some(2), &bob(Event::Looped));
    looped.role = Role::Ingress;
    looped.times_out.clear();
    looped.ring = [HOP1.host, HOP2.host, HOP1.host].map(str::to_owned).into();
    let first = HOP1.report(1, None, &bob(Event::Transferred));
    let second = HOP2.report(2, Some(1), &bob(Event::Transferred));
    let all = [first.clone(), second.clone(), looped.clone()];
    insta::assert_snapshot!(shown(&read(&all)));
    looped.ring[1] = "*".to_owned();
    let told = shown(&read(&[looped.clone()]));
    insta::assert_snapshot!("in_a_ring_that_one_hop_knows", told);
    // A hop that names no machines leaves it to the others.
    looped.ring.clear();
    assert!(!shown(&read(&[looped.clone()])).contains("in a ring:"));
    let all = shown(&read(&[first, second, looped]));
    assert!(
        all.contains("back again, in a ring: mx1.example.org → mx2.example.com"),
        "{all}"
    );
}

#[test]
fn through_a_content_filter() {
    let mut reports = three_hops(&["bob@example.net"]);
    let arrived_us = reports[1].arrived_us();
    reports[1].filtered_us = Some(arrived_us + 1_800_000);
    insta::assert_snapshot!(shown(&read(&reports)));
}

#[test]
fn a_recipient_of_whom_nobody_told() {
    let mut reports = three_hops(&["bob@example.net"]);
    reports[0].came_for = Some(2);
    insta::assert_snapshot!(shown(&read(&reports)));
}

#[test]
fn relayed_to_a_host_that_is_not_equipped() {
    let mut reports = three_hops(&["bob@example.net"]);
    reports.truncate(1);
    reports.push(HOP2.report(2, Some(1), &[("bob@example.net", Event::Relayed)]));
    insta::assert_snapshot!(shown(&read(&reports)));
}

#[test]
fn on_its_way() {
    let mut reports = three_hops(&["bob@example.net"]);
    reports.truncate(2);
    insta::assert_snapshot!(shown(&read(&reports)));
}

#[test]
fn forged_reports_stand_apart() {
    let mut trails = read(&three_hops(&["bob@example.net"])[..2]);
    let forged = read_by(
        &three_hops(&["bob@example.net"])[2..],
        Some(&crate::track::Secret::new([1; 32])),
        Some(&secret()),
    );
    assert!(forged.messages.is_empty());
    trails.not_ours = forged.not_ours;
    insta::assert_snapshot!(shown(&trails));
}

#[test]
fn no_secret_no_proof() {
    insta::assert_snapshot!(shown(&read_by(
        &three_hops(&["bob@example.net"]),
        Some(&secret()),
        None
    )));
}

#[test]
fn the_middle_report_never_came() {
    let mut reports = three_hops(&["bob@example.net"]);
    reports.remove(1);
    insta::assert_snapshot!(shown(&read(&reports)));
}

#[test]
fn ways_that_part() {
    let to = |next, step, event, who| {
        let leg = Leg { next, ..HOP1 };
        leg.report(step, None, &[(who, event)])
    };
    let other = Leg {
        host: "mx.example.info",
        ..HOP2
    };
    let reports = vec![
        to("mx2.example.com", 1, Event::Transferred, "bob@example.net"),
        to(
            "mx.example.info",
            2,
            Event::Transferred,
            "erin@example.info",
        ),
        HOP2.report(3, Some(1), &[("bob@example.net", Event::Transferred)]),
        HOP3.report(4, Some(3), &[("bob@example.net", Event::Delivered)]),
        other.report(5, Some(2), &[("erin@example.info", Event::Delayed)]),
    ];
    insta::assert_snapshot!(shown(&read(&reports)));
}

#[test]
fn a_clock_that_was_set() {
    let mut reports = three_hops(&["bob@example.net"]);
    if let Some(dot) = reports.last_mut().and_then(|r| r.times_in.last_mut()) {
        dot.command_us += 30_000_000;
        dot.reply_us += 30_000_000;
    }
    insta::assert_snapshot!(shown(&read(&reports)));
}

#[test]
fn hostile_strings() {
    let mut reports = three_hops(&["\u{202e}<b>\u{1b}[31mbob</b>@example.net"]);
    for report in &mut reports {
        report
            .reporting_mta
            .push_str("\r\nX-Evil: 1\u{1b}]0;gone\u{7}");
        report.queue_id = Some("<script>alert(1)</script>\u{9b}31m".into());
        if let Some(group) = report.recipients.first_mut() {
            group.reply = Some(format!(
                "250 ok\r\n\r\n--b0f6f1d2c3a4958677--\r\n{}",
                "very long ".repeat(60)
            ));
        }
    }
    insta::assert_snapshot!(shown(&read(&reports)));
}

#[test]
fn several_in_a_list() {
    let mut reports = three_hops(&["bob@example.net"]);
    for (n, mut report) in three_hops(&["carol@example.net"])
        .into_iter()
        .take(2)
        .enumerate()
    {
        report.id = crate::track::TrackingId::new("7f3a91c2-other").unwrap();
        report.message_id =
            Some("a-message-id-that-is-rather-long-and-goes-on@mail.example.org".to_owned());
        report.sent_ms = Some(world::SENT_MS + 60_000);
        report.step = crate::track::StepId(100 + u64::try_from(n).unwrap());
        report.parent = report.parent.map(|_| crate::track::StepId(100));
        reports.push(report);
    }
    insta::assert_snapshot!(listed(&read(&reports)));
}

fn listed(trails: &Trails) -> String {
    let list = terminal::list(trails, &view());
    let list = anstream::adapter::strip_str(&list).to_string();
    for line in list.lines() {
        assert!(line.chars().count() <= 80, "too wide: {line}");
    }
    list
}

/// One report each: a failure among many recipients, an old mail, a long address.
#[test]
fn many_in_a_list() {
    type Fates = &'static [(&'static str, Event)];
    let fates: [(&str, u64, Fates); 4] = [
        (
            "order-4711@shop.example",
            0,
            &[
                ("bob@example.net", Event::Failed),
                ("carol@example.net", Event::Delayed),
                ("dave@example.net", Event::Delivered),
            ],
        ),
        (
            "order-4712@shop.example",
            60_000,
            &[(
                "somebody.with.a.long.name@department.example.net",
                Event::Delivered,
            )],
        ),
        ("x", 120_000, &[("erin@example.info", Event::Relayed)]),
        (
            "20261123.170509",
            400 * 86_400_000,
            &[
                ("erin@example.info", Event::Delivered),
                ("bob@example.net", Event::Delivered),
            ],
        ),
    ];
    let reports = fates
        .into_iter()
        .zip(1..)
        .map(|((id, late_ms, fates), step)| {
            let mut report = HOP1.report(step, None, fates);
            report.id = crate::track::TrackingId::new(id).unwrap();
            report.sent_ms = Some(world::SENT_MS + late_ms);
            report
        });
    insta::assert_snapshot!(listed(&read(&reports.collect::<Vec<_>>())));
}

#[test]
fn ids_that_are_alike_for_long_stand_whole() {
    let reports = ["a", "b"].map(|end| {
        let mut report = three_hops(&["bob@example.net"]).remove(0);
        let id = format!("a-mailing-of-november-{}-{end}", "0".repeat(50));
        report.step = crate::track::StepId(u64::from(end.as_bytes()[0]));
        report.message_id = Some(format!("{end}@example.org"));
        report.id = crate::track::TrackingId::new(&id).unwrap();
        report
    });
    insta::assert_snapshot!(listed(&read(&reports)));
}

#[test]
fn a_report_on_two_and_days_later() {
    let long = "a.very.long.local.part.of.an.address@and.a.domain.with.many.labels.example.net";
    let day = Leg {
        went_ms: 2 * 86_400_000,
        ..HOP1
    };
    let mut reports = vec![
        HOP1.report(
            1,
            None,
            &[("bob@example.net", Event::Delayed), (long, Event::Delayed)],
        ),
        day.report(
            2,
            None,
            &[
                ("bob@example.net", Event::Delivered),
                (long, Event::Delivered),
            ],
        ),
    ];
    reports[1].recipients[1].attempted_us = reports[1].recipients[0].attempted_us.map(|t| t + 900);
    reports[0].recipients[0].reply = Some(format!("451 4.7.1 see https://{}", "x".repeat(90)));
    insta::assert_snapshot!(shown(&read(&reports)));
}

/// Where nobody counts columns (a pipe, a file) nothing is cut or broken: a message is a line.
#[test]
fn in_a_pipe_nothing_is_cut() {
    let id = "a-mailing-of-november-and-so-on-0123456789@mail.example.org";
    let mut reports = delayed();
    reports.truncate(2);
    let named = [
        ("bob@example.net", Event::Failed),
        ("carol@example.net", Event::Delayed),
        (
            "somebody.with.a.long.name@department.example.net",
            Event::Held,
        ),
    ];
    let mut report = HOP1.report(7, None, &named);
    report.id = crate::track::TrackingId::new(id).unwrap();
    report.message_id = Some("m7@example.org".to_owned());
    report.recipients[0].reply = Some("no ".repeat(100).trim_end().to_owned());
    reports.push(report);
    let mut trails = read(&reports);
    trails.not_ours.push(crate::trail::NotOurs {
        id: crate::track::TrackingId::new(&"i".repeat(100)).unwrap(),
        host: "h".repeat(100),
        known_as: None,
        from: Some("f".repeat(100)),
        why: crate::trail::Why::WrongProof,
    });
    let pipe = crate::trail::render::View {
        width: None,
        ..view()
    };
    let list = terminal::list(&trails, &pipe);
    let list = anstream::adapter::strip_str(&list).to_string();
    insta::assert_snapshot!(list);
    let apart = terminal::not_ours(&trails.not_ours, &pipe);
    let all = trails.messages.iter().map(|m| terminal::message(m, &pipe));
    let all = all.collect::<String>() + &apart;
    assert!(all.contains(&"no ".repeat(99)), "{all}");
    for long in ["i", "h", "f"] {
        assert!(all.contains(&long.repeat(100)), "{all}");
    }
    assert!(!all.contains('…') && !list.contains('…'), "{all}");
}

/// Reports without the key beside those with it, and a message that has only such.
#[test]
fn the_proof_and_what_lacks_it_agree() {
    let mut trails = read(&three_hops(&["bob@example.net"])[..1]);
    let header = |trails: &Trails| {
        let text = terminal::message(&trails.messages[0], &view());
        let text = anstream::adapter::strip_str(&text).to_string();
        text.lines().take(6).collect::<Vec<_>>().join("\n")
    };
    trails.messages[0].unproved = 1;
    let one = header(&trails);
    trails.messages[0].unproved = 2;
    assert!(header(&trails).contains("2 other reports have no such key and are left out"));
    let forged = read_by(&three_hops(&["bob@example.net"]), None, Some(&secret()));
    insta::assert_snapshot!(format!("{one}\n----\n{}", header(&forged)));
}

#[test]
fn for_programs() {
    let mut reports = delayed();
    reports.remove(0);
    let trails = read(&reports);
    insta::assert_snapshot!(json::document(&trails, view().now_us));
}

/// The names of all fields, each as a path; lists count by what they hold.
fn fields(value: &serde_json::Value, path: &str, found: &mut BTreeSet<String>) {
    match value {
        serde_json::Value::Object(fields_here) => {
            for (name, value) in fields_here {
                let path = format!("{path}/{name}");
                fields(value, &path, found);
                found.insert(path);
            }
        }
        serde_json::Value::Array(values) => values.iter().for_each(|v| fields(v, path, found)),
        _ => {}
    }
}

#[test]
fn the_documentation_shows_every_field() {
    let source = include_str!("../render/json.rs");
    let example = source
        .split("```")
        .nth(1)
        .unwrap()
        .trim_start_matches("json");
    let example: String = example
        .lines()
        .map(|l| l.trim_start_matches("//!"))
        .collect();
    let mut trails = read(&secured());
    let mut reports = three_hops(&["bob@example.net"]);
    reports.extend(super::drawn::a_second_ahead_a_minute_later());
    trails.messages.extend(read(&reports).messages);
    trails
        .messages
        .extend(super::heard::with_words_and_claims().messages);
    let apart = super::apart::with_a_second_start();
    trails.messages.extend(apart.messages);
    let copy = super::refused::with_a_copy_that_failed();
    trails.messages.extend(copy.messages);
    trails.messages.extend(super::odd::a_day_ahead().messages);
    trails.not_ours = read_by(
        &three_hops(&["bob@example.net"]),
        Some(&crate::track::Secret::new([1; 32])),
        Some(&secret()),
    )
    .not_ours;
    let packed = ("new/1.gz".to_owned(), "compressed by gzip".to_owned());
    trails.skipped.push(packed);
    let (mut shown, mut real) = (BTreeSet::new(), BTreeSet::new());
    fields(&serde_json::from_str(&example).unwrap(), "", &mut shown);
    let document = json::document(&trails, view().now_us);
    fields(&serde_json::from_str(&document).unwrap(), "", &mut real);
    assert_eq!(shown, real);
}

#[test]
fn the_first_report_never_came() {
    let mut reports = three_hops(&["bob@example.net"]);
    reports.remove(0);
    insta::assert_snapshot!(shown(&read(&reports)));
}
