//! MTRK (RFC 3885) through a hop whose MTA knows it, or does not: who is offered it, where it goes, and that mail
//! goes in any case. The test plays the MTA.

#![allow(clippy::expect_used)]

mod support;

use std::thread;
use std::time::Duration;

use support::dialogue::Dialogue;
use support::hop::{FROM, Hop};
use support::sink::{Script, Sink};
use support::tls_hop::offers;

/// SHA-1 of the octets 00..0f.
const CERTIFIER: &str = "VheLhqV/rCKJmplkGFwsyW59pYk";
const MESSAGE: &[u8] = b"Message-ID: <m1@origin.test>\r\nSubject: x\r\n\r\nx\r\n";

/// Behind an MTA that knows DSN and no MTRK.
fn unaware(next: Script) -> Hop {
    Hop::between(Sink::smtp().offer("DSN"), next, "")
}

/// Says hello at the entrance; what is offered.
fn hello(hop: &Hop) -> (Dialogue, Vec<String>) {
    let mut client = Dialogue::open(hop.entrance);
    let offer = client.command("EHLO client.test", "250");
    (client, offer)
}

/// Sends a message in; the MAIL line and the message as the MTA has them.
fn arrive(hop: &Hop, mail: &str) -> (String, Vec<u8>) {
    let seen = hop.arrive_with(mail, BOB, MESSAGE);
    (seen.mail_from, seen.data)
}

/// Hands it on as the MTA; the MAIL line at the next hop, which takes it.
fn leave(hop: &Hop, mail: &str, rcpts: &[&str], message: &[u8]) -> String {
    let rcpts: Vec<_> = rcpts.iter().map(|to| format!("RCPT TO:<{to}>")).collect();
    let rcpts: Vec<_> = rcpts.iter().map(String::as_str).collect();
    for reply in hop.leave_as(mail, &rcpts, message) {
        assert!(reply.starts_with("250"), "{reply}");
    }
    hop.next.wait_for(1).pop().expect("one").mail_from
}

const BOB: &[&str] = &["bob@dest.test"];

fn asked(timeout: &str) -> String {
    format!("{FROM} ENVID=E1@origin.test MTRK={CERTIFIER}{timeout} TRACK=NOW")
}

/// The number behind `MTRK=certifier:` in a MAIL line.
fn timeout_s(mail: &str) -> u64 {
    let (_, rest) = mail
        .split_once(&format!("MTRK={CERTIFIER}:"))
        .unwrap_or_else(|| panic!("no MTRK in {mail}"));
    let digits = rest.split(' ').next().unwrap_or_default();
    digits.parse().expect("seconds")
}

#[test]
fn it_crosses_an_mta_that_does_not_know_it_and_counts_down() {
    let hop = unaware(Sink::smtp().offer("MTRK").offer("DSN"));
    let (_, offer) = hello(&hop);
    assert!(offers(&offer, "MTRK"), "{offer:?}");
    let (mail, message) = arrive(&hop, &asked(":864000"));
    assert_eq!(mail, format!("{FROM} ENVID=E1@origin.test"));
    let carry = String::from_utf8_lossy(&message).into_owned();
    assert!(
        carry.contains(&format!("mtrk={CERTIFIER}:864000;")),
        "{carry}"
    );
    thread::sleep(Duration::from_millis(2100));
    // This MTA has lost the ENVID on the way.
    let mail = leave(&hop, FROM, BOB, &message);
    assert!((863_900..=863_998).contains(&timeout_s(&mail)), "{mail}");
    assert!(
        mail.starts_with(&format!("{FROM} ENVID=E1@origin.test MTRK=")),
        "{mail}"
    );
    assert!(
        !mail.contains("TRACK="),
        "this next hop does not offer it: {mail}"
    );
}

#[test]
fn it_goes_no_further_than_it_is_offered() {
    for next in [
        Sink::smtp().offer("DSN").offer("TRACK NOW"),
        Sink::smtp().offer("DSN"),
    ] {
        let hop = unaware(next);
        let (_, message) = arrive(&hop, &asked(":864000"));
        let mail = leave(&hop, &format!("{FROM} ENVID=E1@origin.test"), BOB, &message);
        assert!(!mail.contains("MTRK"), "{mail}");
        assert!(mail.contains("ENVID=E1@origin.test"), "{mail}");
    }
    // Without DSN there is no ENVID, and without ENVID it would be malformed.
    let hop = unaware(Sink::smtp().offer("MTRK"));
    let (_, message) = arrive(&hop, &asked(""));
    assert_eq!(
        leave(&hop, &format!("{FROM} ENVID=E1@origin.test"), BOB, &message),
        FROM
    );
}

#[test]
fn it_ends_with_its_time_and_with_an_alias() {
    let next = || Sink::smtp().offer("MTRK").offer("DSN");
    let hop = unaware(next());
    let (_, message) = arrive(&hop, &asked(":1"));
    thread::sleep(Duration::from_millis(1100));
    let mail = leave(&hop, FROM, BOB, &message);
    assert_eq!(mail, format!("{FROM} ENVID=E1@origin.test"));

    let hop = unaware(next());
    let (_, message) = arrive(&hop, &asked(":864000"));
    let mail = leave(&hop, FROM, &["x1@inner.test", "x2@inner.test"], &message);
    assert!(!mail.contains("MTRK"), "{mail}");
}

#[test]
fn without_track_or_an_envid_nothing_carries_it() {
    for mail in [
        format!("{FROM} MTRK={CERTIFIER} ENVID=E1@origin.test"),
        format!("{FROM} MTRK={CERTIFIER} TRACK=NOW"),
    ] {
        let hop = unaware(Sink::smtp().offer("MTRK").offer("DSN"));
        let (seen, message) = arrive(&hop, &mail);
        assert!(!seen.contains("MTRK"), "{seen}");
        let left = leave(&hop, &seen, BOB, &message);
        assert!(!left.contains("MTRK"), "{left}");
    }
}

#[test]
fn an_mta_that_offers_it_has_it_as_it_was_written() {
    let mta = Sink::smtp().offer("DSN").offer("MTRK");
    let hop = Hop::between(mta, Sink::smtp().offer("MTRK").offer("DSN"), "");
    let (_, offer) = hello(&hop);
    assert_eq!(
        offer.iter().filter(|line| line.contains("MTRK")).count(),
        1,
        "{offer:?}"
    );
    // What is malformed is for it to judge.
    let (mail, message) = arrive(
        &hop,
        &format!("{FROM} mtrk=c!:00 TRACK=NOW ENVID=E1@origin.test"),
    );
    assert_eq!(mail, format!("{FROM} mtrk=c!:00 ENVID=E1@origin.test"));
    assert!(!String::from_utf8_lossy(&message).contains("mtrk="));
    // It counts down by itself, and what it says goes on.
    let onward = format!("{FROM} ENVID=E1@origin.test MTRK={CERTIFIER}:77");
    assert_eq!(leave(&hop, &onward, BOB, &message), onward);
}

#[test]
fn malformed_it_is_refused_where_it_was_offered() {
    let hop = unaware(Sink::smtp());
    for (mut dialogue, greeting) in [
        (Dialogue::open(hop.entrance), "EHLO client.test"),
        (Dialogue::open(hop.exit), "LHLO mta.test"),
    ] {
        assert!(offers(&dialogue.command(greeting, "250"), "MTRK"));
        for value in [
            "MTRK",
            "MTRK=a:",
            "MTRK=a_b",
            "MTRK=a:1234567890",
            "MTRK=a MTRK=a",
        ] {
            let mail = format!("{FROM} {value} ENVID=E1@origin.test");
            dialogue.command(&mail, "501 5.5.4 malformed MTRK");
        }
        dialogue.command(FROM, "250");
    }
}

/// It is the MTA's own word that a client hears who was offered nothing.
#[test]
fn who_may_not_ask_is_not_offered_it() {
    let mta = Sink::smtp()
        .offer("DSN")
        .always("MAIL FROM:<alice@origin.test> MTRK", "555 5.5.4 what?");
    let hop = Hop::between(mta, Sink::smtp(), "policy = { allow = ['192.0.2.0/24'] }");
    let (mut client, offer) = hello(&hop);
    assert!(!offers(&offer, "MTRK"), "{offer:?}");
    client.command(&format!("{FROM} MTRK={CERTIFIER}"), "555 5.5.4 what?");

    let hop = Hop::between(Sink::smtp(), Sink::smtp(), "");
    let (_, offer) = hello(&hop);
    assert!(
        offers(&offer, "TRACK NOW") && !offers(&offer, "MTRK"),
        "no DSN: {offer:?}"
    );
}
