//! Chunks (RFC 3030) with real peers on both sides of an egress and a delivery: Exim sends them, Postfix and
//! Dovecot take them; behind an ingress Postfix and Exim do; and how much of a long one is held.

#![allow(clippy::expect_used)]

mod support;

use std::fmt::Write;
use std::fs;
use std::net::SocketAddrV4;

use support::dialogue::Dialogue;
use support::dovecot::Dovecot;
use support::hoptrail::Hoptrail;
use support::mail::{MESSAGE, Mail, wire};
use support::mta::{Mta, start_all};
use support::net::{self, NextHop};
use support::sink::Sink;
use support::{PATIENCE, measured, wait_until};

/// A hop with these listeners; reports go to the Maildir.
fn serve(reports: &tempfile::TempDir, listeners: &[(&str, SocketAddrV4, String)]) -> Hoptrail {
    let mut config = format!(
        "hostname = 'mx1.test'\n[reports]\nfrom = 'hoptrail@mx1.test'\nvia = 'maildir:{}'\n",
        reports.path().display()
    );
    for (role, listen, rest) in listeners {
        let _ = write!(
            config,
            "[[listener]]\nrole = '{role}'\nlisten = '{listen}'\n{rest}\n"
        );
    }
    Hoptrail::serve(&config)
}

fn reports() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

#[test]
fn dovecot_answers_for_each_recipient_after_the_last_chunk() {
    let dovecot = Dovecot::start("store.dest.test", &["bob", "carol", "full"]);
    let NextHop::Lmtp(store) = dovecot.lmtp() else {
        panic!("it speaks LMTP");
    };
    let offer = Dialogue::open(store).command("LHLO mta.test", "250");
    let takes_chunks = offer.iter().any(|line| line.contains("CHUNKING"));
    assert!(takes_chunks, "{offer:?}");
    let (exit, reports) = (net::address(), reports());
    let next = format!("protocol = 'lmtp'\nnext_hop = '{}'", dovecot.lmtp());
    let _hoptrail = serve(&reports, &[("delivery", exit, next)]);

    let mut mta = Dialogue::open(exit);
    mta.command("LHLO mta.test", "250");
    mta.command("MAIL FROM:<alice@origin.test> TRACK=NOW", "250");
    for user in ["bob", "nobody", "full", "carol", "bob"] {
        mta.command(&format!("RCPT TO:<{user}@dest.test>"), "250");
    }
    let message = wire(MESSAGE);
    let (start, rest) = message.split_at(20);
    let (middle, end) = rest.split_at(rest.len() / 2);
    mta.chunks(&[start, middle, b"", end]);
    mta.expect("250 2.0.0 <bob@dest.test>");
    mta.expect("550 5.1.1 <nobody@dest.test>");
    mta.expect("552 5.2.2 <full@dest.test>");
    mta.expect("250 2.0.0 <carol@dest.test>");
    mta.expect("250 2.0.0 <bob@dest.test>");
    mta.command("QUIT", "221");
    // It answers twice for him who was named twice, and stores once.
    for user in ["bob", "carol"] {
        let mail = dovecot.wait_for(user, 1).remove(0);
        assert!(mail.below_trace() == MESSAGE, "changed: {mail:?}");
    }
    assert!(dovecot.mails("full").is_empty());
    let report = wait_until(PATIENCE, "the report", || {
        let mails = Mail::in_maildir(reports.path());
        let report = mails.first().and_then(Mail::report);
        report.ok_or_else(|| format!("{mails:?}"))
    });
    assert_eq!(
        report.of_recipients("X-Hoptrail-Event"),
        ["delivered", "failed", "failed", "delivered", "delivered"]
    );
    assert_eq!(report.field("X-Hoptrail-Size"), message.len().to_string());
}

#[test]
fn exims_chunks_reach_postfix_as_it_takes_them() {
    let dovecot = Dovecot::start("store.dest.test", &["bob", "carol"]);
    let (entrance, exit, reports) = (net::address(), net::address(), reports());
    let [relay, takes, plain] = start_all([
        Mta::exim("mx1.test").next_hop(NextHop::Lmtp(exit)),
        Mta::postfix("mx2.takes.test").next_hop(dovecot.lmtp()),
        Mta::postfix("mx2.plain.test")
            .setting("smtpd_discard_ehlo_keywords = chunking")
            .next_hop(dovecot.lmtp()),
    ]);
    let ingress = format!("protocol = 'smtp'\nnext_hop = 'smtp://{}'", relay.address());
    let sink = Sink::smtp().offer("CHUNKING").start();
    let egress = format!(
        "protocol = 'lmtp'\nnext_hop = 'smtp://{}'\n\
         routes = {{ 'plain.test' = 'smtp://{}', 'sink.test' = '{}' }}",
        takes.address(),
        plain.address(),
        sink.next_hop()
    );
    let _hoptrail = serve(
        &reports,
        &[("ingress", entrance, ingress), ("egress", exit, egress)],
    );
    let mut client = Dialogue::open(entrance);
    client.command("EHLO client.test", "250");
    client.command(
        "MAIL FROM:<alice@origin.test> BODY=8BITMIME TRACK=NOW",
        "250",
    );
    client.command("RCPT TO:<bob@takes.test>", "250");
    client.command("RCPT TO:<carol@plain.test>", "250");
    client.command("RCPT TO:<dora@sink.test>", "250");
    // Long enough for more than one chunk of Exim's.
    let message = [MESSAGE, &b"..\n.\nand on\n".repeat(100_000)].concat();
    client.data(&wire(&message));
    client.expect("250");

    let mut mails = vec![Mail::new(&sink.wait_for(1)[0].data)];
    mails.extend(["bob", "carol"].map(|user| dovecot.wait_for(user, 1).remove(0)));
    for mail in mails {
        assert!(mail.below_trace() == message, "changed");
        assert_eq!(mail.hoptrail_fields(), Vec::<String>::new());
    }
    let commands = sink.commands();
    let chunks = commands.iter().filter(|line| line.starts_with("BDAT"));
    assert!(chunks.count() > 1, "{commands:?}");
    // Exim's K is a message that went in chunks; Postfix counts the octets of those alone.
    let log = relay.daemon().wait_for_log(" Completed");
    assert!(!log.contains(" == "), "nothing is put off: {log}");
    let sent = |to: &str| {
        let mut lines = log
            .lines()
            .filter(|line| line.contains(&format!("> {to}@")));
        let line = lines.next().unwrap_or_else(|| panic!("{log}"));
        assert!(line.contains(" K ") && lines.next().is_none(), "{log}");
        line.to_owned()
    };
    assert!(sent("bob").contains(" bytes queued as "), "{log}");
    assert!(sent("carol").contains("250 2.0.0 Ok: queued as "), "{log}");
    let report = wait_until(PATIENCE, "the report", || {
        let mails = Mail::in_maildir(reports.path());
        let report = mails.first().and_then(Mail::report);
        report.ok_or_else(|| format!("{mails:?}"))
    });
    assert_eq!(report.of_recipients("X-Hoptrail-Event"), ["relayed"; 3]);
}

/// The carry header stands on top of the message, or behind its first field where that comes in pieces.
#[test]
fn a_header_block_in_many_chunks_crosses_real_mtas_tracked() {
    let message = wire(MESSAGE);
    let cuts: [&[usize]; 5] = [&[1], &[3, 2], &[14], &[40, 20], &[1; 60]];
    for make in [Mta::postfix, Mta::exim] {
        let (entrance, exit, reports) = (net::address(), net::address(), reports());
        let sink = Sink::smtp().offer("8BITMIME").start();
        let mta = make("mx1.test").next_hop(NextHop::Lmtp(exit)).start();
        let ingress = format!("protocol = 'smtp'\nnext_hop = 'smtp://{}'", mta.address());
        let egress = format!("protocol = 'lmtp'\nnext_hop = '{}'", sink.next_hop());
        let _hoptrail = serve(
            &reports,
            &[("ingress", entrance, ingress), ("egress", exit, egress)],
        );
        let mut client = Dialogue::open(entrance);
        client.command("EHLO client.test", "250");
        for (number, cuts) in cuts.iter().enumerate() {
            client.command("MAIL FROM:<alice@origin.test> TRACK=NOW", "250");
            client.command("RCPT TO:<bob@dest.test>", "250");
            client.chunk_by_chunk(&message, cuts);
            client.expect("250");
            let mail = sink.wait_for(number + 1).remove(number).mail();
            assert!(mail.below_trace() == MESSAGE, "{cuts:?}: {mail:?}");
            assert_eq!(mail.hoptrail_fields(), Vec::<String>::new());
        }
        wait_until(PATIENCE, "a report of each", || {
            let told = Mail::in_maildir(reports.path()).len();
            (told == cuts.len()).then_some(()).ok_or(told.to_string())
        });
    }
}

#[test]
fn a_long_chunk_streams_on() {
    const OCTETS: usize = 48 << 20;
    let (chunks, data) = (Sink::smtp().offer("CHUNKING").start(), Sink::smtp().start());
    let (exit, reports) = (net::address(), reports());
    let next = format!(
        "protocol = 'lmtp'\nnext_hop = '{}'\nroutes = {{ 'data.test' = '{}' }}",
        chunks.next_hop(),
        data.next_hop()
    );
    let hoptrail = serve(&reports, &[("egress", exit, next)]);
    let before = most_held(&hoptrail);
    let mut mta = Dialogue::open(exit);
    mta.command("LHLO mta.test", "250");
    mta.command("MAIL FROM:<alice@origin.test>", "250");
    mta.command("RCPT TO:<bob@chunks.test>", "250");
    mta.command("RCPT TO:<carol@data.test>", "250");
    let line = b"................................................................\r\n";
    let text: Vec<u8> = line.iter().copied().cycle().take(OCTETS).collect();
    mta.chunks(&[b"Subject: x\r\n\r\n", &text]);
    mta.expect("250");
    mta.expect("250");
    let held = most_held(&hoptrail) - before;
    measured("held of a chunk of 48 MiB", format_args!("{held} KiB"));
    assert!(held < 4096, "{held} KiB");
    let seen = &chunks.wait_for(1)[0].data;
    assert!(seen.ends_with(&text) && seen.len() == 14 + OCTETS);
    let lines = OCTETS.div_ceil(line.len());
    let ended = usize::from(!text.ends_with(b"\n")) * 2;
    assert_eq!(data.wait_for(1)[0].data.len(), 14 + OCTETS + lines + ended);
}

/// The most memory it has had so far, KiB.
fn most_held(hoptrail: &Hoptrail) -> usize {
    let path = format!("/proc/{}/status", hoptrail.pid());
    let status = fs::read_to_string(path).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let number = line.and_then(|rest| rest.trim().split(' ').next());
    number.and_then(|n| n.parse().ok()).expect("a number")
}
