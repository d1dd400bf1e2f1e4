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

/// The next hop turns from one reason to another and back; the hop is killed after each attempt.
#[test]
fn a_delay_is_told_again_when_its_reason_changes_and_each_reason_once() {
    let replies = [
        "451 4.7.1 greylisted",
        "452 4.2.2 over quota",
        "452 4.3.1 disk full",
    ];
    let turns = replies.iter().cycle().take(7);
    let next = turns.fold(Sink::smtp(), |next, reply| next.once("DOT", reply));
    let mut hop = Hop::egress(next);
    let wire = hop.arrive(TRACKED, &["bob@dest.test"]);
    for attempt in 0..7 {
        let heard = hop.leave(FROM, &[TO_BOB], &wire);
        assert_eq!(heard, [replies[attempt % 3]]);
        hop.hoptrail.kill();
        hop.hoptrail.start_again();
    }
    hop.leave(FROM, &[TO_BOB], &wire);
    let all = ["E1 delayed", "E1 delayed", "E1 delayed", "E1 relayed"];
    assert_eq!(told(&hop, 4), all);
    let reports = hop.mails();
    let status = |mail: &Mail| mail.report().map(|report| report.of_recipients("Status"));
    let statuses: HashSet<_> = reports.iter().filter_map(status).flatten().collect();
    assert_eq!(statuses.len(), 4, "{statuses:?}");
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

/// Who is told of as held, each with the message; waits for so many.
fn held(hop: &Hop, count: usize) -> Vec<String> {
    wait_until(PATIENCE, "what is held", || {
        let mails = Mail::in_maildir(hop.reports.path());
        let reports = mails.iter().filter_map(Mail::report);
        let named = reports.flat_map(|report| {
            let envid = report.field("Original-Envelope-Id");
            let events = report.of_recipients("X-Hoptrail-Event");
            let named = report.final_recipients().into_iter().zip(events);
            let held = named.filter(|(_, event)| event == "held");
            let all = held.map(move |(recipient, _)| format!("{envid} {recipient}"));
            all.collect::<Vec<_>>()
        });
        let mut held: Vec<String> = named.collect();
        held.sort();
        if held.len() < count {
            return Err(format!("{held:?}"));
        }
        Ok(held)
    })
}

#[test]
fn held_are_those_of_whom_nothing_was_seen() {
    let next = Sink::smtp()
        .always("RCPT TO:<carol", "451 4.2.1 carol is moving")
        .always("RCPT TO:<x", "550 5.1.1 no member");
    let mut hop = Hop::egress(next);
    let to = |name: &str| format!("RCPT TO:<{name}>");
    let orcpt = |name: &str, of: &str| format!("RCPT TO:<{name}> ORCPT=rfc822;{of}");
    let (bob, carol, dora) = ("bob@dest.test", "carol@dest.test", "dora@dest.test");
    let mut carried = Vec::new();
    for (envid, came_for, seen) in [
        // One leaves, one is tried in vain.
        ("E1", vec![bob, carol, dora], vec![to(bob), to(carol)]),
        // One behind the other, and the first is tried again.
        ("E2", vec![bob, carol, dora], vec![to(carol)]),
        ("E2", vec![], vec![to(carol)]),
        ("E2", vec![], vec![to(dora)]),
        // A member that is refused is told of to nobody, and still was the alias seen.
        (
            "E3",
            vec!["team@dest.test", dora],
            vec![orcpt("x1@inner.test", "team@dest.test")],
        ),
        // As Sendmail hands over by LMTP.
        ("E4", vec!["bob@inner.test", dora], vec![to("bob")]),
        (
            "E9",
            vec![bob, "team@dest.test", dora],
            vec![orcpt("bob", "team@dest.test")],
        ),
        ("E5", vec!["bob@inner.test", bob, dora], vec![to("bob")]),
        // Who is named twice is one.
        ("E6", vec![bob, "bob@Dest.test", dora], vec![to(bob)]),
        // Of an alias with others nothing is known then.
        (
            "E7",
            vec!["team@dest.test", dora],
            vec![to("x2@inner.test")],
        ),
        ("E8", vec![bob, dora], vec![]),
    ] {
        if !came_for.is_empty() {
            carried = hop.arrive(&asks(envid), &came_for);
        }
        let seen: Vec<&str> = seen.iter().map(String::as_str).collect();
        if !seen.is_empty() {
            hop.leave(FROM, &seen, &carried);
        }
    }
    let left = [
        "E1 dora", "E2 bob", "E3 dora", "E4 dora", "E6 dora", "E8 bob", "E8 dora", "E9 bob",
        "E9 dora",
    ];
    let left = left.map(|who| format!("{who}@dest.test"));
    hop.hoptrail.kill();
    hop.hoptrail.start_again();
    for _ in 0..2 {
        an_hour_passes(&mut hop.hoptrail);
        assert_eq!(held(&hop, left.len()), left);
    }
}

#[test]
fn one_held_and_others_delivered_is_shown_as_that() {
    let mut hop = Hop::with("delivery", "lmtp", Sink::lmtp());
    let all = ["bob@dest.test", "carol@dest.test", "dora@dest.test"];
    let wire = hop.arrive(TRACKED, &all);
    hop.leave(FROM, &[TO_BOB, "RCPT TO:<dora@dest.test>"], &wire);
    an_hour_passes(&mut hop.hoptrail);
    assert_eq!(held(&hop, 1), ["E1 carol@dest.test"]);
    assert_eq!(told(&hop, 2), ["E1 delivered delivered", "E1 held"]);
    let user = User::stranger();
    let shown = || {
        let output = user.timeline(hop.reports.path(), Some("E1"));
        let text = String::from_utf8(output.stdout).expect("text");
        (output.status.code(), text)
    };
    let (code, text) = shown();
    assert_eq!(code, Some(1), "{text}");
    assert!(text.starts_with("1 held at mx1.test since "), "{text}");
    assert!(
        text.lines()
            .next()
            .expect("a line")
            .ends_with(", 2 delivered"),
        "{text}"
    );
    assert!(!text.contains("not told of"), "{text}");
    hop.leave(FROM, &["RCPT TO:<carol@dest.test>"], &wire);
    told(&hop, 3);
    let (code, text) = shown();
    assert_eq!(code, Some(0), "{text}");
    assert!(text.starts_with("Delivered to 3"), "{text}");
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

/// As Sendmail does in its delivery mode `interactive`, and Exim when it delivers by cut-through.
#[test]
fn what_left_before_the_mta_answered_for_it_is_not_held() {
    let slow = Sink::smtp().think(Duration::from_secs(1));
    let mut hop = Hop::between(slow, Sink::smtp(), "timeouts = { store_ms = 500 }");
    thread::scope(|scope| {
        scope.spawn(|| hop.arrive(TRACKED, &["bob@dest.test", "carol@dest.test"]));
        let wire = hop.mta.wait_for(1).remove(0).data;
        hop.leave(FROM, &[TO_BOB, "RCPT TO:<carol@dest.test>"], &wire);
    });
    assert_eq!(told(&hop, 1), ["E1 relayed relayed"]);
    an_hour_passes(&mut hop.hoptrail);
    assert_eq!(told(&hop, 1), ["E1 relayed relayed"]);
}

#[test]
fn what_leaves_unrecognised_is_not_held() {
    // By an MTA that tracks by itself no carry header crosses; others give the mail a new Message-ID, or more fields than
    // the hop looks at.
    let many = "X-Many: 1\r\n".repeat(14_000);
    for (mta, old, new) in [
        (Sink::smtp().offer("TRACK NOW"), "", ""),
        (Sink::smtp(), "<m1@", "<m9@"),
        (Sink::smtp(), "Message-ID", &format!("{many}Message-ID")),
    ] {
        let mut hop = Hop::around(mta, "egress", "lmtp", Sink::smtp());
        let wire = hop.arrive(TRACKED, &["bob@dest.test", "carol@dest.test"]);
        let wire = String::from_utf8(wire).expect("text");
        let wire = wire.replacen(old, new, 1);
        hop.leave(FROM, &[TO_BOB], wire.as_bytes());
        an_hour_passes(&mut hop.hoptrail);
        assert_eq!(told(&hop, 0), Vec::<String>::new());
    }
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

/// Whether others of them fare better is not known, so the alias has not failed; and no member is named.
#[test]
fn an_alias_whose_members_are_refused_is_told_as_one_and_no_more() {
    let next = Sink::smtp()
        .always("RCPT TO:<x1", "550 5.1.1 x1@inner.test is no user here")
        .always("RCPT TO:<x2", "552 5.2.2 x2@inner.test has too much")
        .always("RCPT TO:<x3", "450 4.2.1 x3@inner.test is away");
    let hop = Hop::egress(next);
    let wire = hop.arrive(TRACKED, &["team@dest.test", "eve@dest.test"]);
    let leave = |member: &str| {
        let member = format!("RCPT TO:<{member}@inner.test> ORCPT=rfc822;team@dest.test");
        hop.leave(FROM, &[&member], &wire).remove(0)
    };
    // One who is to be tried again is still here.
    assert!(leave("x3").starts_with("450 4.2.1 "));
    assert_eq!(told(&hop, 0), Vec::<String>::new());
    assert!(leave("x1").starts_with("550 5.1.1 "));
    assert!(leave("x2").starts_with("552 5.2.2 "));
    assert!(leave("x4").starts_with("250 "));
    hop.leave(FROM, &["RCPT TO:<eve@dest.test>"], &wire);
    assert_eq!(told(&hop, 2), ["E1 expanded", "E1 relayed"]);
    let alone = hop.arrive(&asks("E2"), &["list@dest.test"]);
    let refused = hop.leave(FROM, &["RCPT TO:<x1@inner.test>"], &alone);
    assert!(refused[0].starts_with("550 5.1.1 "), "{refused:?}");
    let all = ["E1 expanded", "E1 relayed", "E2 expanded"];
    assert_eq!(told(&hop, 3), all);
    let mails = Mail::in_maildir(hop.reports.path());
    let expanded = mails.iter().filter_map(Mail::report);
    let expanded = expanded.filter(|r| r.of_recipients("X-Hoptrail-Event") == ["expanded"]);
    let mut whom: Vec<_> = expanded
        .map(|r| (r.final_recipients(), r.of_recipients("Status")))
        .collect();
    whom.sort();
    let told_of = |alias: &str| (vec![alias.to_owned()], vec!["2.0.0".to_owned()]);
    assert_eq!(whom, [told_of("list@dest.test"), told_of("team@dest.test")]);
    assert!(!format!("{mails:?}").contains("inner.test"), "{mails:?}");
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

/// One who is a member of an alias, and was named himself: by the originator's own word he may be told of.
#[test]
fn an_alias_whose_member_was_named_too_is_seen_leaving_and_so_is_he() {
    let as_team = "RCPT TO:<bob@dest.test> ORCPT=rfc822;team@dest.test";
    let as_bob = "RCPT TO:<bob@dest.test> ORCPT=rfc822;bob@dest.test";
    let both = "E1 relayed expanded";
    for (leaves, reports) in [
        (vec![vec![as_bob, as_team]], vec![both]),
        (vec![vec![as_team, as_bob]], vec!["E1 expanded relayed"]),
        // Some MTAs make one copy of the two.
        (vec![vec![as_team]], vec![both]),
        (vec![vec![as_team], vec![as_bob]], vec![both]),
        (
            vec![vec![as_bob], vec![as_team]],
            vec!["E1 expanded", "E1 relayed"],
        ),
    ] {
        let mut hop = Hop::egress(Sink::smtp());
        let wire = hop.arrive(TRACKED, &["team@dest.test", "bob@dest.test"]);
        for rcpts in &leaves {
            hop.leave(FROM, rcpts, &wire);
        }
        assert_eq!(told(&hop, reports.len()), reports, "{leaves:?}");
        an_hour_passes(&mut hop.hoptrail);
        assert_eq!(told(&hop, reports.len()), reports, "{leaves:?}");
    }
}

/// A next hop says one thing of all recipients of a transaction.
#[test]
fn words_about_a_member_are_told_of_nobody_else() {
    let next = Sink::smtp()
        .always(
            "RCPT TO:<carol",
            "550 5.1.1 carol and x1@inner.test are unknown",
        )
        .always(
            "DOT",
            "250 2.0.0 Ok: queued as 77AA for bob@dest.test,x1@inner.test",
        );
    let hop = Hop::egress(next);
    let wire = hop.arrive(
        TRACKED,
        &["team@dest.test", "bob@dest.test", "carol@dest.test"],
    );
    let member = "RCPT TO:<x1@inner.test> ORCPT=rfc822;team@dest.test";
    hop.leave(FROM, &[TO_BOB, member, "RCPT TO:<carol@dest.test>"], &wire);
    assert_eq!(told(&hop, 1), ["E1 relayed expanded failed"]);
    let report = hop.report();
    assert_eq!(report.of_recipients("Status"), ["2.1.9", "2.0.0", "5.1.1"]);
    let mails = format!("{:?}", hop.mails());
    assert!(mails.contains("77AA"), "the next hop's own id: {mails}");
    assert!(!mails.contains("inner.test"), "{mails}");
}
