//! MTRK (RFC 3885) through a hop whose MTA knows it, or does not: who is offered it, where it goes, and that mail
//! goes in any case. The test plays the MTA.

#![allow(clippy::expect_used)]

mod support;

use std::net::SocketAddrV4;
use std::thread;
use std::time::Duration;

use support::dialogue::Dialogue;
use support::hoptrail::Hoptrail;
use support::net;
use support::sink::{Script, Sink};
use support::tls_hop::offers;

/// SHA-1 of the octets 00..0f.
const CERTIFIER: &str = "VheLhqV/rCKJmplkGFwsyW59pYk";
const MESSAGE: &[u8] = b"Message-ID: <m1@origin.test>\r\nSubject: x\r\n\r\nx\r\n";

/// An ingress before the MTA and an egress behind it.
struct Hop {
    _hoptrail: Hoptrail,
    entrance: SocketAddrV4,
    exit: SocketAddrV4,
    mta: Sink,
    next: Sink,
}

impl Hop {
    fn with(mta: Script, next: Script, more: &str) -> Self {
        let (mta, next) = (mta.start(), next.start());
        let (entrance, exit) = (net::address(), net::address());
        let hoptrail = Hoptrail::serve(&format!(
            "hostname = 'mx1.test'\n{more}\n[reports]\nfrom = 'hoptrail@mx1.test'\nvia = 'maildir:/nonexistent'\n\
             [[listener]]\nrole = 'ingress'\nlisten = '{entrance}'\nprotocol = 'smtp'\nnext_hop = '{}'\n\
             [[listener]]\nrole = 'egress'\nlisten = '{exit}'\nprotocol = 'lmtp'\nnext_hop = '{}'\n",
            mta.next_hop(),
            next.next_hop()
        ));
        Self {
            _hoptrail: hoptrail,
            entrance,
            exit,
            mta,
            next,
        }
    }

    /// Behind an MTA that knows DSN and no MTRK.
    fn unaware(next: Script) -> Self {
        Self::with(Sink::smtp().offer("DSN"), next, "")
    }

    fn client(&self) -> (Dialogue, Vec<String>) {
        let mut client = Dialogue::open(self.entrance);
        let offer = client.command("EHLO client.test", "250");
        (client, offer)
    }

    /// Sends a message in; the MAIL line and the message as the MTA has them.
    fn arrive(&self, mail: &str) -> (String, Vec<u8>) {
        let (mut client, _) = self.client();
        client.command(mail, "250");
        client.command("RCPT TO:<bob@dest.test>", "250");
        client.data(MESSAGE);
        client.expect("250");
        let seen = self.mta.wait_for(1).pop().expect("one");
        (seen.mail_from, seen.data)
    }

    /// Hands it on as the MTA; the MAIL line at the next hop.
    fn leave(&self, mail: &str, rcpts: &[&str], message: &[u8]) -> String {
        let mut mta = Dialogue::open(self.exit);
        mta.command("LHLO mta.test", "250");
        mta.command(mail, "250");
        for rcpt in rcpts {
            mta.command(&format!("RCPT TO:<{rcpt}>"), "250");
        }
        mta.data(message);
        for _ in rcpts {
            mta.expect("250");
        }
        self.next.wait_for(1).pop().expect("one").mail_from
    }
}

const BOB: &[&str] = &["bob@dest.test"];
const PLAIN: &str = "MAIL FROM:<alice@origin.test>";

fn asked(timeout: &str) -> String {
    format!("{PLAIN} ENVID=E1@origin.test MTRK={CERTIFIER}{timeout} TRACK=NOW")
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
    let hop = Hop::unaware(Sink::smtp().offer("MTRK").offer("DSN"));
    let (_, offer) = hop.client();
    assert!(offers(&offer, "MTRK"), "{offer:?}");
    let (mail, message) = hop.arrive(&asked(":864000"));
    assert_eq!(mail, format!("{PLAIN} ENVID=E1@origin.test"));
    let carry = String::from_utf8_lossy(&message).into_owned();
    assert!(
        carry.contains(&format!("mtrk={CERTIFIER}:864000;")),
        "{carry}"
    );
    thread::sleep(Duration::from_millis(2100));
    // This MTA has lost the ENVID on the way.
    let mail = hop.leave(PLAIN, BOB, &message);
    assert!((863_900..=863_998).contains(&timeout_s(&mail)), "{mail}");
    assert!(
        mail.starts_with(&format!("{PLAIN} ENVID=E1@origin.test MTRK=")),
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
        let hop = Hop::unaware(next);
        let (_, message) = hop.arrive(&asked(":864000"));
        let mail = hop.leave(&format!("{PLAIN} ENVID=E1@origin.test"), BOB, &message);
        assert!(!mail.contains("MTRK"), "{mail}");
        assert!(mail.contains("ENVID=E1@origin.test"), "{mail}");
    }
    // Without DSN there is no ENVID, and without ENVID it would be malformed.
    let hop = Hop::unaware(Sink::smtp().offer("MTRK"));
    let (_, message) = hop.arrive(&asked(""));
    assert_eq!(
        hop.leave(&format!("{PLAIN} ENVID=E1@origin.test"), BOB, &message),
        PLAIN
    );
}

#[test]
fn it_ends_with_its_time_and_with_an_alias() {
    let next = || Sink::smtp().offer("MTRK").offer("DSN");
    let hop = Hop::unaware(next());
    let (_, message) = hop.arrive(&asked(":1"));
    thread::sleep(Duration::from_millis(1100));
    let mail = hop.leave(PLAIN, BOB, &message);
    assert_eq!(mail, format!("{PLAIN} ENVID=E1@origin.test"));

    let hop = Hop::unaware(next());
    let (_, message) = hop.arrive(&asked(":864000"));
    let mail = hop.leave(PLAIN, &["x1@inner.test", "x2@inner.test"], &message);
    assert!(!mail.contains("MTRK"), "{mail}");
}

#[test]
fn without_track_or_an_envid_nothing_carries_it() {
    for mail in [
        format!("{PLAIN} MTRK={CERTIFIER} ENVID=E1@origin.test"),
        format!("{PLAIN} MTRK={CERTIFIER} TRACK=NOW"),
    ] {
        let hop = Hop::unaware(Sink::smtp().offer("MTRK").offer("DSN"));
        let (seen, message) = hop.arrive(&mail);
        assert!(!seen.contains("MTRK"), "{seen}");
        let left = hop.leave(&seen, BOB, &message);
        assert!(!left.contains("MTRK"), "{left}");
    }
}

#[test]
fn an_mta_that_offers_it_has_it_as_it_was_written() {
    let mta = Sink::smtp().offer("DSN").offer("MTRK");
    let hop = Hop::with(mta, Sink::smtp().offer("MTRK").offer("DSN"), "");
    let (_, offer) = hop.client();
    assert_eq!(
        offer.iter().filter(|line| line.contains("MTRK")).count(),
        1,
        "{offer:?}"
    );
    // What is malformed is for it to judge.
    let (mail, message) = hop.arrive(&format!(
        "{PLAIN} mtrk=c!:00 TRACK=NOW ENVID=E1@origin.test"
    ));
    assert_eq!(mail, format!("{PLAIN} mtrk=c!:00 ENVID=E1@origin.test"));
    assert!(!String::from_utf8_lossy(&message).contains("mtrk="));
    // It counts down by itself, and what it says goes on.
    let onward = format!("{PLAIN} ENVID=E1@origin.test MTRK={CERTIFIER}:77");
    assert_eq!(hop.leave(&onward, BOB, &message), onward);
}

#[test]
fn malformed_it_is_refused_where_it_was_offered() {
    let hop = Hop::unaware(Sink::smtp());
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
            let mail = format!("{PLAIN} {value} ENVID=E1@origin.test");
            dialogue.command(&mail, "501 5.5.4 malformed MTRK");
        }
        dialogue.command(PLAIN, "250");
    }
}

/// It is the MTA's own word that a client hears who was offered nothing.
#[test]
fn who_may_not_ask_is_not_offered_it() {
    let mta = Sink::smtp()
        .offer("DSN")
        .always("MAIL FROM:<alice@origin.test> MTRK", "555 5.5.4 what?");
    let hop = Hop::with(mta, Sink::smtp(), "policy = { allow = ['192.0.2.0/24'] }");
    let (mut client, offer) = hop.client();
    assert!(!offers(&offer, "MTRK"), "{offer:?}");
    client.command(&format!("{PLAIN} MTRK={CERTIFIER}"), "555 5.5.4 what?");

    let hop = Hop::with(Sink::smtp(), Sink::smtp(), "");
    let (_, offer) = hop.client();
    assert!(
        offers(&offer, "TRACK NOW") && !offers(&offer, "MTRK"),
        "no DSN: {offer:?}"
    );
}
