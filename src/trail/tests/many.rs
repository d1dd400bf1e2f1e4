//! Messages with very many recipients and reports: each is told as one of few is, and takes no longer.

use std::fs;

use jiff::tz::TimeZone;

use super::world::{HOP1, HOP2, HOP3, read, view};
use crate::track::{Event, HopReport, StepId};
use crate::trail::render::{html, json, terminal};
use crate::trail::stats::Stats;
use crate::trail::{Message, Trails};

/// Three reports on so many recipients, each of whom the store answers in words of its own.
fn at_once(recipients: usize) -> Vec<HopReport> {
    let names: Vec<String> = (0..recipients)
        .map(|n| format!("u{n}@Example.net"))
        .collect();
    let all = |event| names.iter().map(|r| (&**r, event)).collect::<Vec<_>>();
    let mut last = HOP3.report(3, Some(2), &all(Event::Delivered));
    for (n, group) in last.recipients.iter_mut().enumerate() {
        group.reply = Some(format!("250 2.0.0 {n:x} Saved"));
        group.original = group.original.to_lowercase();
    }
    vec![
        HOP1.report(1, None, &all(Event::Transferred)),
        HOP2.report(2, Some(1), &all(Event::Transferred)),
        last,
    ]
}

/// Four reports on each of so many recipients, who were put off, left the first hop later, and arrived at two others.
fn one_by_one(recipients: u64) -> Vec<HopReport> {
    let of = |n: u64| {
        let name = format!("u{n}@example.net");
        let fate = |event| [(&*name, event)];
        [
            HOP1.report(n * 4 + 1, None, &fate(Event::Delayed)),
            HOP1.report(n * 4 + 2, None, &fate(Event::Transferred)),
            HOP2.report(n * 4 + 3, Some(n * 4 + 2), &fate(Event::Transferred)),
            HOP3.report(n * 4 + 4, Some(n * 4 + 3), &fate(Event::Delivered)),
        ]
    };
    (0..recipients).flat_map(of).collect()
}

/// What is looked up among many is what one finds who looks at all of it.
#[test]
fn what_is_found_among_many_is_what_is_there() {
    for reports in [at_once(100), one_by_one(50)] {
        let message: Message = read(&reports).messages.remove(0);
        assert_eq!(message.stays.len(), 3);
        for stay in &message.stays {
            for recipient in &message.recipients {
                let address = recipient.address.to_uppercase().replacen('U', "u", 1);
                let is = |group: &&crate::track::RecipientStatus| {
                    group.original.eq_ignore_ascii_case(&address)
                };
                let steps = stay.steps.iter();
                let told =
                    steps.flat_map(|s| s.recipients.iter().filter(is).map(move |g| (s.step, g)));
                let found = stay
                    .told_of(&address)
                    .map(|(step, group)| (step.step, group));
                assert!(told.eq(found), "{address}");
                for step in &stay.steps {
                    let told = step.recipients.iter().filter(is);
                    assert!(told.eq(stay.told_in(step, &address)), "{address}");
                }
            }
            for step in &stay.steps {
                assert_eq!(stay.step(step.step), Some(step));
                let came = |h: &&crate::trail::message::Handover| {
                    Some(h.from) == step.parent && h.arrived_us == step.arrived_us()
                };
                let from = step.parent.unwrap_or(StepId(0));
                let handover = stay.handovers.iter().find(came);
                assert_eq!(stay.handover(from, step.arrived_us()), handover);
            }
            assert!(stay.step(StepId(0)).is_none() && stay.told_of("x@y").next().is_none());
        }
    }
}

/// How long this thread was at work so far, ns.
fn worked_ns() -> u64 {
    let times = fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    times.split(' ').next().unwrap().parse().unwrap()
}

/// How long it takes to tell of a message in every way, ns.
fn told_in_ns(trails: &Trails) -> u64 {
    let before = worked_ns();
    let mut stats = Stats::new(TimeZone::UTC, false);
    trails.messages.iter().for_each(|m| stats.add(m));
    let texts = [
        terminal::list(trails, &view()),
        terminal::message(&trails.messages[0], &view()),
        html::page(trails, &view()),
        json::document(trails, view().now_us),
    ];
    assert!(texts.iter().all(|text| !text.is_empty()));
    worked_ns() - before
}

/// Eight times as many take about eight times as long: where each was looked for among all, they took fifty times.
#[test]
fn eight_times_the_recipients_take_about_eight_times_as_long() {
    let [few, many] = [400, 3200].map(|n| told_in_ns(&read(&at_once(n))));
    assert!(many < few * 20, "{few} {many}");
    let [few, many] = [100, 800].map(|n| told_in_ns(&read(&one_by_one(n))));
    assert!(many < few * 20, "{few} {many}");
}
