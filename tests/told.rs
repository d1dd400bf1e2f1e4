//! How often a hop tells what happens to a message: good news and `held` once, a delay not at every attempt. The test
//! is the MTA.

#![allow(clippy::expect_used)]

mod support;

use std::collections::HashSet;
use std::thread;
use std::time::Duration;

use support::dialogue::Dialogue;
use support::hop::{FROM, Hop, TRACKED};
use support::hoptrail::{Hoptrail, User};
use support::mail::{Mail, Report};
use support::net;
use support::sink::Sink;
use support::{PATIENCE, wait_until};

const TO_BOB: &str = "RCPT TO:<bob@dest.test>";

/// The steps that were told so far, each with its message and events, sorted; waits for so many. One that is mailed
/// again because the hop was killed before it had noted that, is the same step.
fn told(hop: &Hop, count: usize) -> Vec<String> {
    wait_until(PATIENCE, "the reports", || {
        let mails = hop.mails();
        let mut steps = HashSet::new();
        let reports = mails.iter().filter_map(Mail::report);
        let new = reports.filter(|report| steps.insert(report.field("X-Hoptrail-Step")));
        let words = |report: Report| {
            let events = report.of_recipients("X-Hoptrail-Event").join(" ");
            format!("{} {events}", report.field("Original-Envelope-Id"))
        };
        let mut all: Vec<String> = new.map(words).collect();
        all.sort();
        if all.len() < count {
            return Err(format!("{all:?}"));
        }
        Ok(all)
    })
}

fn asks(envid: &str) -> String {
    format!("{FROM} TRACK=NOW ENVID={envid}")
}

/// Then the hop has looked again.
fn an_hour_passes(hoptrail: &mut Hoptrail) {
    hoptrail.let_pass(60);
    thread::sleep(Duration::from_millis(500));
}

#[test]
fn a_retry_after_a_cut_behind_the_dot_is_reported_once() {
    let mut hop = Hop::egress(Sink::smtp().offer("TRACK NOW"));
    let wire = hop.arrive(TRACKED, &["bob@dest.test"]);
    let mut mta = Dialogue::open(hop.exit);
    mta.command("LHLO mta.test", "250");
    mta.command(FROM, "250");
    mta.command(TO_BOB, "250");
    mta.command("DATA", "354");
    mta.send([wire.as_slice(), b".\r\n"].concat());
    mta.break_off();
    hop.next.wait_for(1);
    assert_eq!(told(&hop, 1), ["E1 transferred"]);
    // Once it is remembered in memory, once on disk only.
    for copies in 2..4 {
        let again = hop.leave(FROM, &[TO_BOB], &wire);
        assert_eq!(again, ["250 2.0.0 ok, taken"], "the MTA's mail, not ours");
        hop.next.wait_for(copies);
        hop.hoptrail.kill();
        hop.hoptrail.start_again();
    }
    // Another message's report, behind which those of the copies would have come.
    let wire = hop.arrive(&asks("E2"), &["bob@dest.test"]);
    hop.leave(FROM, &[TO_BOB], &wire);
    assert_eq!(told(&hop, 2), ["E1 transferred", "E2 transferred"]);
}

#[test]
fn a_next_hop_that_took_the_mail_and_did_not_say_so_is_a_delay_and_then_a_success() {
    let hop = Hop::egress(Sink::smtp().once("DOT", "close"));
    let wire = hop.arrive(TRACKED, &["bob@dest.test"]);
    let replies = hop.leave(FROM, &[TO_BOB], &wire);
    assert_eq!(replies, ["451 4.4.2 connection to the next hop lost"]);
    assert_eq!(told(&hop, 1), ["E1 delayed"]);
    for _ in 0..2 {
        hop.leave(FROM, &[TO_BOB], &wire);
        assert_eq!(told(&hop, 2), ["E1 delayed", "E1 relayed"]);
    }
    assert_eq!(hop.next.wait_for(3).len(), 3, "what the MTA has sent");
}

#[test]
fn a_delay_is_told_once_not_at_every_attempt() {
    let hop = Hop::egress(Sink::smtp().always("MAIL", "451 4.7.1 greylisted, come back"));
    let wire = hop.arrive(TRACKED, &["bob@dest.test"]);
    for _ in 0..4 {
        let replies = hop.leave(FROM, &[TO_BOB], &wire);
        assert_eq!(replies, ["451 4.7.1 greylisted, come back"]);
    }
    let report = hop.report();
    assert_eq!(report.of_recipients("X-Hoptrail-Event"), ["delayed"]);
    assert_eq!(report.of_recipients("Status"), ["4.7.1"]);
    thread::sleep(Duration::from_millis(300));
    assert_eq!(hop.mails().len(), 1);
}

#[test]
fn what_is_not_seen_leaving_is_held_once_and_then_told_as_it_goes() {
    let mut hop = Hop::egress(Sink::smtp().offer("TRACK NOW"));
    let stuck = hop.arrive(TRACKED, &["bob@dest.test", "carol@dest.test"]);
    let goes = hop.arrive(&asks("E2"), &["dora@dest.test"]);
    // An alias of one of several: whose member it is cannot be told, and still it has left.
    let alias = hop.arrive(&asks("E3"), &["team@dest.test", "eve@dest.test"]);
    hop.leave(FROM, &["RCPT TO:<dora@dest.test>"], &goes);
    hop.leave(FROM, &["RCPT TO:<x1@inner.test>"], &alias);
    assert_eq!(told(&hop, 1), ["E2 transferred"]);
    for _ in 0..2 {
        an_hour_passes(&mut hop.hoptrail);
        assert_eq!(told(&hop, 2), ["E1 held held", "E2 transferred"]);
    }
    hop.leave(FROM, &[TO_BOB, "RCPT TO:<carol@dest.test>"], &stuck);
    assert_eq!(
        told(&hop, 3),
        [
            "E1 held held",
            "E1 transferred transferred",
            "E2 transferred"
        ]
    );
}

#[test]
fn one_who_left_does_not_stand_for_all() {
    let hop = Hop::with("delivery", "lmtp", Sink::lmtp());
    let wire = hop.arrive(TRACKED, &["bob@dest.test", "carol@dest.test"]);
    let user = User::stranger();
    let verdict = || {
        let output = user.timeline(hop.reports.path(), Some("E1"));
        let text = String::from_utf8(output.stdout).expect("text");
        (output.status.code(), text)
    };
    hop.leave(FROM, &[TO_BOB], &wire);
    assert_eq!(told(&hop, 1), ["E1 delivered"]);
    assert_eq!(hop.report().field("X-Hoptrail-Came-For"), "2");
    let (code, text) = verdict();
    assert_eq!(code, Some(1), "{text}");
    assert!(text.starts_with("1 delivered, 1 not told of yet"), "{text}");
    assert!(
        text.contains("and 1 more, of whom no hop has told yet"),
        "{text}"
    );
    hop.leave(FROM, &["RCPT TO:<carol@dest.test>"], &wire);
    assert_eq!(told(&hop, 2), ["E1 delivered", "E1 delivered"]);
    let (code, text) = verdict();
    assert_eq!(code, Some(0), "{text}");
    assert!(text.starts_with("Delivered to 2"), "{text}");
}

#[test]
fn what_is_held_is_told_once_also_after_a_kill() {
    let mut hop = Hop::egress(Sink::smtp());
    hop.arrive(TRACKED, &["bob@dest.test"]);
    hop.hoptrail.kill();
    hop.hoptrail.start_again();
    an_hour_passes(&mut hop.hoptrail);
    assert_eq!(told(&hop, 1), ["E1 held"]);
    hop.hoptrail.kill();
    hop.hoptrail.start_again();
    an_hour_passes(&mut hop.hoptrail);
    assert_eq!(told(&hop, 1), ["E1 held"]);
    let report = hop.mails().iter().find_map(Mail::report);
    let report = report.expect("it is told");
    assert_eq!(report.of_recipients("Status"), ["4.0.0"]);
    assert_eq!(report.of_recipients("Action"), ["delayed"]);
    assert_eq!(report.final_recipients(), ["bob@dest.test"]);
    assert_eq!(report.field("X-Hoptrail-Queue-Id"), "4F1A2B3C");
}

#[test]
fn what_came_back_to_the_hop_is_not_held_there() {
    let mut hop = Hop::egress(Sink::smtp());
    let wire = hop.arrive(TRACKED, &["bob@dest.test"]);
    let mut client = Dialogue::open(hop.entrance);
    client.command("EHLO filter.test", "250");
    client.command(FROM, "250");
    client.command(TO_BOB, "250");
    client.command("DATA", "354");
    client.send([wire.as_slice(), b".\r\n"].concat());
    client.expect("250");
    assert_eq!(told(&hop, 1), ["E1 looped"]);
    an_hour_passes(&mut hop.hoptrail);
    assert_eq!(told(&hop, 1), ["E1 looped"]);
}

#[test]
fn held_is_not_told_where_nobody_wants_it_and_a_reload_changes_that() {
    let mut hop = Hop::egress(Sink::smtp());
    let wanted = std::fs::read_to_string(hop.hoptrail.config()).expect("a file");
    let never = format!("reports.held_after_minutes = 0\n{wanted}");
    for (envid, config) in [("E1", &never), ("E2", &wanted), ("E3", &never)] {
        std::fs::write(hop.hoptrail.config(), config).expect("a file");
        hop.hoptrail.reload();
        hop.arrive(&asks(envid), &["bob@dest.test"]);
    }
    an_hour_passes(&mut hop.hoptrail);
    assert_eq!(told(&hop, 0), Vec::<String>::new());
    std::fs::write(hop.hoptrail.config(), wanted).expect("a file");
    an_hour_passes(&mut hop.hoptrail);
    assert_eq!(told(&hop, 1), ["E2 held"]);
}

#[test]
fn held_is_told_as_the_ways_out_tell_of_their_asker() {
    for (disclose, told_by) in [("organisation", Some("dns; of.test")), ("silent", None)] {
        let mut hop = Hop::egress(Sink::smtp());
        hop.hoptrail.stop();
        let config = std::fs::read_to_string(hop.hoptrail.config()).expect("a file");
        // The last listener is the way out. By another one all is told, but it may not be the one.
        let more = format!(
            "policy = {{ disclose = '{disclose}' }}\n\
             [[listener]]\nrole = 'delivery'\nlisten = '{}'\nprotocol = 'lmtp'\nnext_hop = 'lmtp://{}'\n",
            net::address(),
            net::address(),
        );
        let config = format!("organisation = 'of.test'\n{config}{more}");
        std::fs::write(hop.hoptrail.config(), config).expect("a file");
        hop.hoptrail.start_again();
        hop.arrive(TRACKED, &["bob@dest.test"]);
        an_hour_passes(&mut hop.hoptrail);
        if let Some(name) = told_by {
            assert_eq!(hop.report().field("Reporting-MTA"), name);
        } else {
            wait_until(PATIENCE, "it is on record", || {
                let log = hop.hoptrail.log();
                log.contains("\"held\"").then_some(()).ok_or(log)
            });
            thread::sleep(Duration::from_millis(300));
            assert_eq!(hop.mails(), []);
        }
    }
}

#[test]
fn a_notification_names_no_member_but_to_the_list_itself() {
    let member = "RCPT TO:<x1@inner.test> NOTIFY=SUCCESS ORCPT=rfc822;team@dest.test";
    let owner = "owner-team@dest.test";
    for (from, to, named) in [
        ("alice@origin.test", "alice@origin.test", "team@dest.test"),
        (owner, owner, "x1@inner.test"),
    ] {
        let hop = Hop::egress(Sink::smtp().always("DOT", "250 2.0.0 for x1@inner.test"));
        let wire = hop.arrive(TRACKED, &["team@dest.test", "eve@dest.test"]);
        hop.leave(&format!("MAIL FROM:<{from}>"), &[member], &wire);
        let mails = hop.wait_for_mails(2);
        let (reports, other): (Vec<&Mail>, Vec<&Mail>) =
            mails.iter().partition(|mail| mail.report().is_some());
        assert!(
            !format!("{reports:?}").contains("inner.test"),
            "{reports:?}"
        );
        let [notification] = other.as_slice() else {
            panic!("{mails:?}");
        };
        assert_eq!(notification.field("To"), Some(format!("<{to}>")));
        let text = format!("{notification:?}");
        assert!(
            text.contains(&format!("Final-Recipient: rfc822; {named}\n")),
            "{text}"
        );
        assert_eq!(
            text.contains("inner.test"),
            named == "x1@inner.test",
            "{text}"
        );
    }
}

#[test]
fn a_notification_does_not_stand_for_the_report() {
    // The MTA asks for both, and the next hop can do neither.
    let hop = Hop::egress(Sink::smtp());
    let wire = hop.arrive(TRACKED, &["bob@dest.test"]);
    let to_bob = format!("{TO_BOB} NOTIFY=SUCCESS ORCPT=rfc822;bob@dest.test");
    hop.leave(FROM, &[&to_bob], &wire);
    let mails = hop.wait_for_mails(2);
    assert_eq!(mails.iter().filter_map(Mail::report).count(), 1);
}
