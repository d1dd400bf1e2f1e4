//! A message whose ways part at one egress: each next hop is told of by a step of its own, so that its clock can be
//! compared, and what was known together comes in one mail.

#![allow(clippy::expect_used)]

mod support;

use std::net::SocketAddrV4;
use std::path::Path;
use std::thread;
use std::time::Duration;

use serde_json::Value;

use support::hop::{FROM, Hop, MESSAGE, SENDER, TRACKED};
use support::hoptrail::{Hoptrail, User};
use support::mail::{Mail, Report, wire};
use support::mta::{Mta, Setup, start_all};
use support::net::{self, NextHop};
use support::sink::{Script, Sink};
use support::{PATIENCE, wait_until};

const BOTH: [&str; 2] = ["bob@b.test", "carol@c.test"];
const RCPTS: [&str; 2] = ["RCPT TO:<bob@b.test>", "RCPT TO:<carol@c.test>"];

/// A hop of two listeners, whose reports go here.
fn serve(
    host: &str,
    reports: &Path,
    entrance: SocketAddrV4,
    mta: NextHop,
    way_out: &str,
) -> Hoptrail {
    Hoptrail::serve(&format!(
        "hostname = '{host}'\n[reports]\nfrom = 'hoptrail@{host}'\nvia = 'maildir:{}'\n\
         [policy]\nallow = ['127.0.0.0/8']\n\
         [[listener]]\nrole = 'ingress'\nlisten = '{entrance}'\nprotocol = 'smtp'\nnext_hop = '{mta}'\n\
         [[listener]]\n{way_out}\n",
        reports.display(),
    ))
}

/// Real hops: the one for carol takes a second to answer MAIL.
#[test]
fn each_way_is_timed_by_the_exchanges_with_its_own_next_hop() {
    let reports = tempfile::tempdir().expect("a directory");
    let exits = [(); 3].map(|()| net::address());
    let entrances = [(); 3].map(|()| net::address());
    let setup = |n: usize| -> Setup {
        Mta::postfix(&format!("mx{}.test", n + 1)).next_hop(NextHop::Lmtp(exits[n]))
    };
    let mtas = start_all([
        setup(0),
        setup(1),
        setup(2)
            .setting("smtpd_delay_reject = no")
            .setting("smtpd_sender_restrictions = sleep 1"),
    ]);
    let behind = |n: usize| NextHop::Smtp(mtas[n].address());
    let stores = [(); 2].map(|()| Sink::lmtp().start());
    let _last = [1, 2].map(|n| {
        let way_out = format!(
            "role = 'delivery'\nlisten = '{}'\nprotocol = 'lmtp'\nnext_hop = '{}'",
            exits[n],
            stores[n - 1].next_hop()
        );
        let host = format!("mx{}.test", n + 1);
        serve(&host, reports.path(), entrances[n], behind(n), &way_out)
    });
    let way_out = format!(
        "role = 'egress'\nlisten = '{}'\nprotocol = 'lmtp'\nnext_hop = 'mx'\n\
         routes = {{ 'b.test' = 'smtp://{}', 'c.test' = 'smtp://{}' }}",
        exits[0], entrances[1], entrances[2]
    );
    let _first = serve(
        "mx1.test",
        reports.path(),
        entrances[0],
        behind(0),
        &way_out,
    );
    let alice = User::stranger();
    alice.send(entrances[0], SENDER, &BOTH, &wire(MESSAGE));
    let mails = Mail::wait_in_maildir(reports.path(), 3);

    let told: Vec<Report> = mails.iter().filter_map(Mail::report).collect();
    let of = |host: &str| -> Vec<Report> {
        let here = told.iter().filter(|report| report.reporting_mta() == host);
        here.cloned().flat_map(Report::steps).collect()
    };
    for (n, host) in ["mx2.test", "mx3.test"].into_iter().enumerate() {
        let parent = of(host)[0].field("X-Hoptrail-Parent");
        let mut before = of("mx1.test").into_iter();
        let before = before.find(|step| step.field("X-Hoptrail-Step") == parent);
        assert_eq!(before.expect("its parent").final_recipients(), [BOTH[n]]);
    }
    let id = told[0].field("Original-Envelope-Id");
    let timeline = alice.timeline_json(reports.path(), &id);
    assert_timed(&timeline["messages"][0]);
}

/// Everybody's way is known in full, and the slow answer to MAIL is that of carol's next hop.
fn assert_timed(message: &Value) {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let verdict = message["verdict"].as_str().unwrap_or_default();
    assert!(verdict.starts_with("delivered to 2 in "), "{message:#}");
    let recipients = list(&message["recipients"]);
    assert_eq!(recipients.len(), 2, "{message:#}");
    for recipient in recipients {
        let way = list(&recipient["way"]);
        assert_eq!(way.len(), 2, "{message:#}");
        assert!(
            way[0]["dwell_us"].is_i64() && way[1]["dwell_us"].is_i64(),
            "{message:#}"
        );
        // One machine, one clock.
        assert!(way[1]["wire"]["high_us"].is_i64(), "{message:#}");
    }
    let hops = list(&message["hops"]);
    assert_eq!(hops.len(), 3, "{message:#}");
    for hop in &hops {
        let offset = |end: &str| hop["clock"]["offset"][end].as_i64();
        let bounds = offset("low_us").zip(offset("high_us"));
        let (low, high) = bounds.unwrap_or_else(|| panic!("no clock: {message:#}"));
        assert!(low <= 0 && high >= 0, "{message:#}");
    }
    for step in list(&hops[0]["steps"]) {
        let to_carol = step["recipients"][0]["original"] == BOTH[1];
        let times = list(&step["times_out"]);
        let mail = times.iter().find(|exchange| exchange["stage"] == "mail");
        let at = |end: &str| mail.and_then(|mail| mail[end].as_i64());
        let took_us = at("reply_us")
            .zip(at("command_us"))
            .map(|(to, from)| to - from);
        let took_us = took_us.unwrap_or_else(|| panic!("no exchange: {message:#}"));
        assert_eq!(took_us >= 1_000_000, to_carol, "{message:#}");
    }
}

/// The way out for carol's domain is the second.
fn parting(next: [Script; 2]) -> (Hop, Sink) {
    let [next, other] = next;
    Hop::parting(Sink::smtp(), next, "c.test", other)
}

/// A message comes for these and leaves by those RCPT lines; each has a reply that begins so.
fn pass(hop: &Hop, came_for: &[&str], rcpts: &[&str], replies: &[&str]) {
    let message = hop.arrive(TRACKED, came_for);
    let mut mta = hop.hand_over(FROM, rcpts, &message);
    for reply in replies {
        mta.expect(reply);
    }
}

/// The steps of the only report.
fn steps(hop: &Hop) -> Vec<Report> {
    let report = hop.report();
    // Any other would be there soon.
    thread::sleep(Duration::from_millis(1500));
    assert_eq!(hop.mails().len(), 1);
    report.steps()
}

fn tracking() -> Script {
    Sink::smtp().offer("TRACK NOW").offer("DSN")
}

/// One hop reports, the other does not or puts the mail off; and hoptrail is killed before it has told of it.
#[test]
fn news_of_all_kinds_that_were_known_together_are_one_mail_also_after_a_kill() {
    let delayed = tracking().always("MAIL", "451 4.7.1 not now");
    for (other, reply, event) in [
        (Sink::smtp(), "250", "relayed"),
        (delayed, "451 4.7.1", "delayed"),
    ] {
        let (mut hop, _other) = parting([tracking(), other]);
        pass(&hop, &BOTH, &RCPTS, &["250", reply]);
        hop.hoptrail.kill();
        hop.hoptrail.start_again();
        let steps = steps(&hop);
        let told = |step: &Report| {
            let events = step.of_recipients("X-Hoptrail-Event");
            (step.final_recipients().concat(), events.concat())
        };
        let told: Vec<_> = steps.iter().map(told).collect();
        let expected = [(BOTH[0], "transferred"), (BOTH[1], event)];
        let expected = expected.map(|(who, event)| (who.to_owned(), event.to_owned()));
        assert_eq!(told, expected);
        let timeline = User::stranger().timeline_json(hop.reports.path(), "E1");
        for step in timeline["messages"][0]["hops"][0]["steps"]
            .as_array()
            .expect("steps")
        {
            let times = step["times_out"].as_array().map(Vec::len);
            assert!(times >= Some(2), "{timeline:#}");
        }
    }
}

/// Its members live in both domains.
#[test]
fn an_alias_whose_ways_part_is_told_once() {
    let (hop, _other) = parting([tracking(), Sink::smtp()]);
    let rcpts = [
        "RCPT TO:<m1@b.test> ORCPT=rfc822;team@a.test",
        "RCPT TO:<m2@c.test> ORCPT=rfc822;team@a.test",
        "RCPT TO:<carol@c.test> ORCPT=rfc822;carol@c.test",
    ];
    pass(&hop, &["team@a.test", BOTH[1]], &rcpts, &["250"; 3]);
    let steps = steps(&hop);
    let told: Vec<_> = steps.iter().flat_map(Report::final_recipients).collect();
    assert_eq!(told, ["team@a.test", BOTH[1]]);
    let events = steps
        .iter()
        .flat_map(|step| step.of_recipients("X-Hoptrail-Event"));
    assert_eq!(events.collect::<Vec<_>>(), ["expanded", "relayed"]);
}

/// It comes back before the step that tells of its way is on record.
#[test]
fn what_comes_back_from_any_of_the_ways_is_known_at_once() {
    for way in [0, 1] {
        let slow = || tracking().think(Duration::from_secs(1));
        let (hop, other) = parting([slow(), slow()]);
        let message = hop.arrive(TRACKED, &BOTH);
        let mut mta = hop.hand_over(FROM, &RCPTS, &message);
        let mail = wait_until(PATIENCE, "the request goes on", || {
            let mut said = [&hop.next, &other][way].commands().into_iter();
            said.find(|line| line.contains("TRACK="))
                .ok_or_else(String::new)
        });
        // A message that is followed bears a carry header.
        let back = hop.arrive(&mail, &[BOTH[way]]);
        assert!(!back.starts_with(b"Hoptrail-Carry:"), "{mail}");
        mta.expect("250");
        mta.expect("250");
    }
}
