//! Carry headers whose key is gone while their mail waits in the MTA: they do not go out to the world, by whichever way
//! the mail leaves; and what is not this hop's stays as it came.

#![allow(clippy::expect_used)]

mod support;

use std::fs;

use support::dialogue::Dialogue;
use support::hop::{Hop, MESSAGE, TRACKED};
use support::hoptrail::Hoptrail;
use support::mail::Mail;
use support::mta::{Mta, Setup};
use support::net::{self, NextHop};
use support::sink::Sink;

const FROM: &str = "MAIL FROM:<alice@origin.test>";
const TO_BOB: &str = "RCPT TO:<bob@dest.test>";
/// The MTA's own line, which the support puts on top where mail leaves.
const RECEIVED: &[u8] = b"Received: by mta.test\r\n";

/// What the next hop sees of a message that the MTA hands on like that.
fn left(hop: &Hop, wire: &[u8]) -> Vec<u8> {
    let before = hop.next.transactions().len();
    let replies = hop.leave(FROM, &[TO_BOB], wire);
    assert_eq!(replies, ["250 2.0.0 ok, taken"]);
    hop.next.wait_for(before + 1)[before].data.clone()
}

fn is_carried(octets: &[u8]) -> bool {
    String::from_utf8_lossy(octets).contains("Hoptrail-Carry: v=1; kid=")
}

/// A tracked message as the MTA has it, at a hop that then loses its keys.
fn orphan(hop: &mut Hop) -> Vec<u8> {
    let wire = hop.arrive(TRACKED, &["bob@dest.test"]);
    assert!(wire.starts_with(b"Hoptrail-Carry: "), "{wire:?}");
    hop.hoptrail.kill();
    fs::remove_file(hop.hoptrail.state_dir().join("carry.keys")).expect("there are keys");
    hop.hoptrail.start_again();
    wire
}

#[test]
fn a_header_whose_key_is_gone_does_not_go_out() {
    let expected = Mail::new(&[RECEIVED, &dotted(MESSAGE)].concat());
    for (role, next) in [("egress", Sink::smtp()), ("delivery", Sink::lmtp())] {
        let mut hop = Hop::with(role, "lmtp", next.offer("CHUNKING"));
        let wire = orphan(&mut hop);
        assert_eq!(Mail::new(&left(&hop, &wire)), expected, "{role}");
        // What a milter or a delivery agent puts above is no hop.
        let above = b"Return-Path: <alice@origin.test>\r\nX-Spam: no\r\n";
        let seen = left(&hop, &[above, &wire[..]].concat());
        assert!(!is_carried(&seen), "{role}: {seen:?}");
        let chunk = [RECEIVED, &wire[..]].concat();
        for cut in [chunk.len(), 60] {
            let (first, rest) = chunk.split_at(cut);
            let before = hop.next.transactions().len();
            hop.leave_in_chunks(&[first, rest]);
            let seen = hop.next.wait_for(before + 1)[before].data.clone();
            assert!(!is_carried(&seen), "{role}, cut at {cut}: {seen:?}");
        }
        let log = hop.hoptrail.log();
        assert!(
            log.contains("carry header under a key that is not here"),
            "{log}"
        );
        hop.no_report();
    }
}

/// Nothing can be verified then, and nothing is tracked.
#[test]
fn nor_does_it_while_the_store_is_of_no_use() {
    let mut hop = Hop::egress(Sink::smtp());
    let wire = hop.arrive(TRACKED, &["bob@dest.test"]);
    hop.hoptrail.kill();
    for file in ["store.sqlite-wal", "store.sqlite-shm"] {
        let _ = fs::remove_file(hop.hoptrail.state_dir().join(file));
    }
    let store = hop.hoptrail.state_dir().join("store.sqlite");
    fs::write(store, "this is no database").expect("it can be written");
    hop.hoptrail.start_again();
    assert!(!is_carried(&left(&hop, &wire)));
    let log = hop.hoptrail.log();
    assert!(log.contains("NOTHING IS TRACKED"), "{log}");
    assert!(log.contains("; move store.sqlite out of"), "{log}");
}

#[test]
fn a_header_of_another_hop_goes_on_as_it_came() {
    let mut hop = Hop::egress(Sink::smtp());
    let theirs = orphan(&mut hop);
    // Above it stands the line of the MTA behind that hop, and then that of ours.
    let foreign = [b"Received: by other.test\r\n", &theirs[..]].concat();
    assert_eq!(left(&hop, &foreign), [RECEIVED, &foreign[..]].concat());
    // Below our own header it stays where it is.
    let wire = {
        let mut client = Dialogue::open(hop.entrance);
        client.command("EHLO client.test", "250");
        client.command(TRACKED, "250");
        client.command(TO_BOB, "250");
        let before = hop.mta.transactions().len();
        client.command("DATA", "354");
        client.send([&foreign[..], b".\r\n"].concat());
        client.expect("250");
        hop.mta.wait_for(before + 1)[before].data.clone()
    };
    assert!(wire.ends_with(&foreign), "{wire:?}");
    assert_eq!(left(&hop, &wire), [RECEIVED, &foreign[..]].concat());
    // On top, but of no form that this program writes.
    let odd = b"Hoptrail-Carry: v=1; kid=00000000; mac=forged\r\nSubject: x\r\n\r\ntext\r\n";
    assert_eq!(left(&hop, odd), [RECEIVED, odd].concat());
    // An ingress takes nobody's header out, wherever it stands.
    let mut client = Dialogue::open(hop.entrance);
    client.command("EHLO client.test", "250");
    client.command(FROM, "250");
    client.command(TO_BOB, "250");
    let before = hop.mta.transactions().len();
    client.command("DATA", "354");
    client.send([&theirs[..], b".\r\n"].concat());
    client.expect("250");
    assert_eq!(hop.mta.wait_for(before + 1)[before].data, theirs);
}

/// `limits.header_octets_max`, the default.
const HEADER_MAX: usize = 65_536;

/// A message whose header block has so many octets.
fn headed(octets: usize) -> Vec<u8> {
    let id = format!("Message-ID: <h{octets}@origin.test>\r\n");
    let block = filling(octets - id.len() - 2);
    [id.as_bytes(), &block, b"\r\nbody\r\n"].concat()
}

/// Fields of so many octets together.
fn filling(octets: usize) -> Vec<u8> {
    let line = format!("X-Fill: {}\r\n", "f".repeat(60));
    let mut text = line.repeat(octets / line.len() - 1).into_bytes();
    let last = octets - text.len();
    text.extend(format!("X-L: {}\r\n", "l".repeat(last - 7)).bytes());
    text
}

/// What the next hop gets of a message that the MTA hands on as `wire`: by DATA, and by chunks cut anywhere.
fn assert_leaves_as(hop: &Hop, wire: &[u8], expected: &[u8], what: &str) {
    assert!(left(hop, wire) == [RECEIVED, expected].concat(), "{what}");
    let chunk = [RECEIVED, wire].concat();
    for cut in [chunk.len(), 30, 70_000.min(chunk.len())] {
        let (first, rest) = chunk.split_at(cut);
        let before = hop.next.transactions().len();
        hop.leave_in_chunks(&[first, rest]);
        let seen = hop.next.wait_for(before + 1).remove(before).data;
        assert!(
            seen == [RECEIVED, expected].concat(),
            "{what}, cut at {cut}"
        );
    }
}

#[test]
fn a_header_block_near_the_limit_leaves_as_it_came() {
    for (role, next) in [("egress", Sink::smtp()), ("delivery", Sink::lmtp())] {
        let hop = Hop::with(role, "lmtp", next.offer("CHUNKING"));
        for octets in [
            HEADER_MAX - 400,
            HEADER_MAX - 100,
            HEADER_MAX,
            HEADER_MAX + 1,
        ] {
            let message = headed(octets);
            let seen = hop.arrive_with(&format!("{TRACKED}{octets}"), &["bob@dest.test"], &message);
            let tracked = seen.data.starts_with(b"Hoptrail-Carry: ");
            assert_eq!(tracked, octets <= HEADER_MAX, "{role}, {octets}");
            assert_leaves_as(&hop, &seen.data, &message, &format!("{role}, {octets}"));
        }
        // Nothing is told of the last one.
        let reports = hop.wait_for_mails(3);
        assert!(reports.iter().all(|mail| mail.report().is_some()));
    }
}

/// Filters write reports of their own into a header, above the carry header or below.
#[test]
fn nor_does_it_go_out_of_a_header_block_that_has_grown() {
    let hop = Hop::with("egress", "lmtp", Sink::smtp().offer("CHUNKING"));
    for (above, below) in [(66_000, 0), (0, 66_000), (0, 500_000), (130_000, 500_000)] {
        let wire = hop.arrive(TRACKED, &["bob@dest.test"]);
        assert!(wire.starts_with(b"Hoptrail-Carry: "), "{wire:?}");
        let text = dotted(MESSAGE);
        let carry = &wire[..wire.len() - text.len()];
        let filled = |octets| {
            if octets == 0 {
                Vec::new()
            } else {
                filling(octets)
            }
        };
        let (above, below) = (filled(above), filled(below));
        let wire = [&above, carry, &below, &text].concat();
        let expected = [&above[..], &below, &text].concat();
        let what = format!("{} above, {} below", above.len(), below.len());
        if below.len() < 100_000 {
            let seen = left(&hop, &wire);
            assert!(seen == [RECEIVED, &expected].concat(), "{what}");
        } else {
            assert_leaves_as(&hop, &wire, &expected, &what);
        }
    }
    let log = hop.hoptrail.log();
    assert!(log.contains("header block grown over the limit"), "{log}");
    hop.wait_for_mails(2);
}

#[test]
fn none_goes_out_behind_postfix() {
    assert_none_goes_out(Mta::postfix("mx.test"));
}

#[test]
fn none_goes_out_behind_exim() {
    assert_none_goes_out(Mta::exim("mx.test"));
}

#[test]
fn none_goes_out_behind_opensmtpd() {
    assert_none_goes_out(Mta::opensmtpd("mx.test"));
}

#[test]
fn none_goes_out_behind_sendmail() {
    assert_none_goes_out(Mta::sendmail("mx.test"));
}

/// Two programs with a key each, around one MTA: to the second the header of the first is one whose key is gone.
fn assert_none_goes_out(setup: Setup) {
    let (entrance, exit) = (net::address(), net::address());
    let mta = setup.next_hop(NextHop::Lmtp(exit)).start();
    let next = Sink::smtp().offer("8BITMIME").start();
    let serve = |role: &str, listen, protocol: &str, to: NextHop| {
        Hoptrail::serve(&format!(
            "hostname = 'mx1.test'\n\
             [reports]\nfrom = 'hoptrail@mx1.test'\nvia = 'maildir:/nonexistent'\n\
             [[listener]]\nrole = '{role}'\nlisten = '{listen}'\nprotocol = '{protocol}'\nnext_hop = '{to}'\n"
        ))
    };
    let _first = serve("ingress", entrance, "smtp", NextHop::Smtp(mta.address()));
    let second = serve("egress", exit, "lmtp", next.next_hop());
    let mut client = Dialogue::open(entrance);
    client.command("EHLO client.test", "250");
    client.command(&format!("{TRACKED} BODY=8BITMIME"), "250");
    client.command(TO_BOB, "250");
    client.data(MESSAGE);
    client.expect("250");
    let seen = next.wait_for(1).remove(0);
    assert_eq!(seen.mail().hoptrail_fields(), Vec::<String>::new());
    let log = second.log();
    assert!(
        log.contains("carry header under a key that is not here"),
        "{log}"
    );
}

/// A message as the wire has it between DATA and its end.
fn dotted(message: &[u8]) -> Vec<u8> {
    let text = String::from_utf8(message.to_vec()).expect("text");
    text.replace("\r\n.", "\r\n..").into_bytes()
}
