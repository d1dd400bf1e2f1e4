//! Who the client is: as a balancer in front of hoptrail tells it, and as the MTA behind hoptrail learns it.

#![allow(clippy::expect_used)]

mod support;

use std::net::SocketAddrV4;
use std::time::Duration;

use support::dialogue::Dialogue;
use support::hoptrail::Hoptrail;
use support::mail::{MESSAGE, wire};
use support::mta::Mta;
use support::net::{self, NextHop};
use support::sink::{Script, Sink};
use support::tls_hop::{NAME, Setup};
use support::{PATIENCE, Stopwatch, wait_until};

const XCLIENT: &str = "XCLIENT NAME ADDR PROTO HELO LOGIN PORT DESTADDR DESTPORT";
const STRANGER: &[u8] = b"PROXY TCP4 192.0.2.77 198.51.100.25 4321 25\r\n";
/// The same in the binary form, with a TLV nobody knows behind the addresses.
const STRANGER_V2: &[u8] =
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x10\xc0\0\x02\x4d\xc6\x33\x64\x19\x10\xe1\0\x19\xee\0\x01x";

fn serve(entrance: SocketAddrV4, next_hop: NextHop, top: &str, listener: &str) -> Hoptrail {
    Hoptrail::serve(&format!(
        "hostname = 'mx1.test'\n{top}\n[reports]\nfrom = 'hoptrail@mx1.test'\nvia = 'maildir:/nonexistent'\n\
         [[listener]]\nrole = 'ingress'\nlisten = '{entrance}'\nprotocol = 'smtp'\nnext_hop = '{next_hop}'\n\
         mta_trusts_proxy_address = false\n{listener}\n",
    ))
}

fn behind(entrance: SocketAddrV4, header: &[u8]) -> Dialogue {
    let mut client = Dialogue::connect(entrance);
    client.send(header);
    client
}

/// An ingress that believes all of loopback, before a scripted Postfix.
fn balanced(top: &str) -> (Hoptrail, SocketAddrV4, Sink) {
    let mta = Sink::smtp()
        .offer(XCLIENT)
        .always("XCLIENT", "220 mta.test")
        .always("NOOP", "close")
        .start();
    let entrance = net::address();
    let listener = "client_address = 'xclient'\nproxy_from = ['192.0.2.1', '127.0.0.0/8']";
    (
        serve(entrance, mta.next_hop(), top, listener),
        entrance,
        mta,
    )
}

/// The command lines of the sessions in which there were any.
fn dialogues(mta: &Sink) -> Vec<Vec<String>> {
    let all = mta.dialogues().into_iter();
    all.filter(|lines| !lines.is_empty()).collect()
}

#[test]
fn the_client_a_balancer_names_is_the_client() {
    let (hoptrail, entrance, mta) = balanced("[policy]\nallow = ['192.0.2.77']");
    let told =
        "XCLIENT NAME=[UNAVAILABLE] ADDR=192.0.2.77 PORT=4321 DESTADDR=198.51.100.25 DESTPORT=25";
    for header in [STRANGER, STRANGER_V2] {
        // What comes with the header in one packet is not lost.
        let mut client = behind(entrance, &[header, b"EHLO client.test\r\n"].concat());
        client.expect("220");
        let offer = client.expect("250");
        assert!(offer.contains(&"250 TRACK NOW".to_owned()), "{offer:?}");
        // XCLIENT itself is nobody's but ours.
        assert!(!client.transcript().contains("XCLIENT"));
        client.command("QUIT", "221");
    }
    for lines in dialogues(&mta) {
        assert_eq!(lines, ["EHLO mx1.test", told, "EHLO client.test", "QUIT"]);
    }
    // Whatever is logged of a session names it.
    let mut lost = behind(entrance, STRANGER);
    lost.expect("220");
    lost.command("NOOP", "421 4.4.2");
    wait_until(PATIENCE, "the log names the client", || {
        let log = hoptrail.log();
        if log.contains("192.0.2.77:4321") {
            Ok(())
        } else {
            Err(log)
        }
    });
    let mut other = behind(entrance, b"PROXY TCP4 192.0.2.78 198.51.100.25 4321 25\r\n");
    other.expect("220");
    let offer = other.command("EHLO client.test", "250");
    assert!(!offer.join("").contains("TRACK"), "{offer:?}");
}

#[test]
fn a_balancer_that_names_nobody_is_the_client() {
    let (_hoptrail, entrance, mta) = balanced("");
    let local = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";
    for header in [&b"PROXY UNKNOWN\r\n"[..], local] {
        let mut client = behind(entrance, header);
        client.expect("220");
        client.command("QUIT", "221");
    }
    let own = format!("DESTADDR={} DESTPORT={}", entrance.ip(), entrance.port());
    let all = dialogues(&mta);
    assert_eq!(all.len(), 2, "{all:?}");
    for lines in all {
        assert!(
            lines[1].starts_with("XCLIENT NAME=[UNAVAILABLE] ADDR=127.0.0.1 PORT="),
            "{lines:?}"
        );
        assert!(lines[1].ends_with(&own), "{lines:?}");
    }
}

#[test]
fn a_balancer_without_a_header_is_closed_on_without_a_word() {
    let (hoptrail, entrance, mta) = balanced("timeouts = { proxy_header_s = 1 }");
    let watch = Stopwatch::start();
    for wrong in [
        &b"EHLO client.test\r\nMAIL FROM:<a@origin.test>\r\n"[..],
        b"PROXY TCP4 192.0.2.77 198.51.100.25 4321\r\n",
        b"PROXY TCP4 192.0.2.77 198.51.100.25 4321 25\nEHLO x\r\n",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff",
        // Never finished.
        b"",
        b"PROXY TCP4 192.0.2.77",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0",
    ] {
        let mut client = behind(entrance, wrong);
        assert!(client.is_closed(), "{}", wrong.escape_ascii());
    }
    // By default the three that never come to an end would have had five seconds each.
    assert!(watch.elapsed() < Duration::from_secs(8));
    assert!(dialogues(&mta).is_empty());
    assert!(
        hoptrail.log().contains("no use of the PROXY header"),
        "{}",
        hoptrail.log()
    );
}

#[test]
fn from_others_no_header_is_read() {
    let (mta, entrance) = (Sink::smtp().start(), net::address());
    let _hoptrail = serve(entrance, mta.next_hop(), "", "proxy_from = ['192.0.2.1']");
    let mut client = behind(entrance, STRANGER);
    client.expect("220");
    client.expect("502");
    client.command("EHLO client.test", "250");
    assert_eq!(mta.commands(), ["EHLO client.test"]);
}

#[test]
fn a_header_comes_before_tls() {
    let mta = Sink::smtp()
        .offer(XCLIENT)
        .always("XCLIENT", "220 mta.test")
        .start();
    let (implicit, starttls) = (net::address(), net::address());
    let mut setup = Setup::new();
    for (listen, mode) in [(implicit, "implicit"), (starttls, "starttls")] {
        setup = setup
            .listener("ingress", listen, mta.next_hop())
            .line("client_address = 'xclient'")
            .line("proxy_from = ['127.0.0.1']")
            .tls(mode);
    }
    let (_hoptrail, setup) = setup.start();
    let mut client = behind(implicit, STRANGER_V2);
    client.secure(&setup.authority, NAME);
    client.expect("220");
    client.command("EHLO client.test", "250");
    let mut client = behind(starttls, STRANGER);
    client.expect("220");
    client.start_tls(&setup.authority, NAME);
    client.command("EHLO client.test", "250");
    for lines in dialogues(&mta) {
        assert!(lines[1].contains("ADDR=192.0.2.77 PORT=4321"), "{lines:?}");
    }
}

fn forwarding(mta: Script) -> (Hoptrail, SocketAddrV4, Sink) {
    let (mta, entrance) = (mta.start(), net::address());
    let listener = "client_address = 'xforward'\nproxy_from = ['127.0.0.1']";
    (serve(entrance, mta.next_hop(), "", listener), entrance, mta)
}

fn transaction(client: &mut Dialogue) {
    client.command("MAIL FROM:<a@origin.test>", "250");
    client.command("RCPT TO:<b@dest.test>", "250");
    client.data(b"Subject: x\r\n\r\ntext\r\n");
    client.expect("250");
}

#[test]
fn xforward_is_said_before_each_transaction_and_never_seen() {
    let mta = Sink::smtp()
        .offer("XFORWARD NAME ADDR PORT PROTO HELO IDENT SOURCE")
        .always("XFORWARD", "250 2.0.0 Ok");
    let (_hoptrail, entrance, mta) = forwarding(mta);
    let mut client = behind(entrance, STRANGER);
    client.expect("220");
    let offer = client.command("EHLO client.test", "250");
    assert!(!offer.join("").contains("XFORWARD"), "{offer:?}");
    transaction(&mut client);
    transaction(&mut client);
    client.command("XFORWARD ADDR=10.0.0.1", "502");
    client.command("QUIT", "221");
    let mut old = behind(entrance, STRANGER);
    old.expect("220");
    old.command("HELO old.test", "250");
    transaction(&mut old);
    old.command("QUIT", "221");
    let told = "XFORWARD NAME=[UNAVAILABLE] ADDR=192.0.2.77 PORT=4321";
    let mail = [
        told,
        "MAIL FROM:<a@origin.test>",
        "RCPT TO:<b@dest.test>",
        "DATA",
    ];
    let all = dialogues(&mta);
    assert_eq!(
        all[0],
        [&["EHLO client.test"][..], &mail, &mail, &["QUIT"]].concat()
    );
    assert_eq!(
        all[1],
        [&["EHLO old.test", "HELO old.test"][..], &mail, &["QUIT"]].concat()
    );
}

#[test]
fn mail_passes_an_mta_that_wants_no_xforward() {
    for mta in [
        Sink::smtp(),
        Sink::smtp().offer("XFORWARD NAME ADDR PORT"),
        Sink::smtp().offer("XFORWARD NAME"),
    ] {
        let (hoptrail, entrance, _mta) = forwarding(mta.always("XFORWARD", "550 5.7.0 not you"));
        let mut client = behind(entrance, STRANGER);
        client.expect("220");
        client.command("EHLO client.test", "250");
        transaction(&mut client);
        transaction(&mut client);
        assert!(hoptrail.log().contains("XFORWARD"), "{}", hoptrail.log());
    }
    let mta = Sink::smtp()
        .offer("XFORWARD ADDR")
        .always("XFORWARD", "421 4.3.2 going down");
    let (_hoptrail, entrance, _mta) = forwarding(mta);
    let mut client = behind(entrance, STRANGER);
    client.expect("220");
    client.command("EHLO client.test", "250");
    client.command("MAIL FROM:<a@origin.test>", "421 4.3.2 going down");
    assert!(client.is_closed());
}

#[test]
fn an_mta_that_takes_no_xclient_gets_no_client() {
    let refusing = Sink::smtp().offer(XCLIENT);
    for mta in [
        Sink::smtp().offer("PIPELINING"),
        Sink::smtp().offer("XCLIENT NAME PORT"),
        refusing.always("XCLIENT", "550 5.7.0 not you"),
    ] {
        let (mta, entrance) = (mta.start(), net::address());
        let _hoptrail = serve(entrance, mta.next_hop(), "", "client_address = 'xclient'");
        let mut client = Dialogue::connect(entrance);
        client.expect("421");
        assert!(client.is_closed());
    }
}

/// Postfix trusts all of loopback, hoptrail's own address with it: a stranger must not pass for that.
#[test]
fn behind_hoptrail_a_real_postfix_is_no_open_relay() {
    for (how, setting) in [
        ("proxy-v1", "smtpd_upstream_proxy_protocol = haproxy"),
        ("proxy-v2", "smtpd_upstream_proxy_protocol = haproxy"),
        ("xclient", "smtpd_authorized_xclient_hosts = 127.0.0.0/8"),
    ] {
        let (sink, entrance) = (Sink::smtp().offer("8BITMIME").start(), net::address());
        let mta = Mta::postfix("mx1.test")
            .next_hop(sink.next_hop())
            .setting(setting)
            .start();
        let listener = format!("client_address = '{how}'\nproxy_from = ['127.0.0.1']");
        let _hoptrail = serve(entrance, NextHop::Smtp(mta.address()), "", &listener);
        for header in [STRANGER, STRANGER_V2] {
            let mut stranger = behind(entrance, header);
            stranger.expect("220");
            stranger.command("EHLO stranger.test", "250");
            stranger.command("MAIL FROM:<a@origin.test>", "250");
            stranger.command("RCPT TO:<b@dest.test>", "554 5.7.1");
        }
        let mut known = behind(entrance, b"PROXY TCP4 127.9.9.9 198.51.100.25 4321 25\r\n");
        known.expect("220");
        known.submit("a@origin.test", &["b@dest.test"], &wire(MESSAGE));
        assert_eq!(sink.wait_for(1)[0].mail().below_trace(), MESSAGE);
        let log = mta.daemon().wait_for_log("client=unknown[127.9.9.9]");
        assert!(
            log.contains("RCPT from unknown[192.0.2.77]"),
            "{how}: {log}"
        );
    }
}

#[test]
fn a_real_postfix_logs_the_client_of_each_transaction_by_xforward() {
    let (sink, entrance) = (Sink::smtp().start(), net::address());
    let mta = Mta::postfix("mx1.test")
        .next_hop(sink.next_hop())
        .setting("smtpd_authorized_xforward_hosts = 127.0.0.0/8")
        .start();
    let listener = "client_address = 'xforward'\nproxy_from = ['127.0.0.1']";
    let _hoptrail = serve(entrance, NextHop::Smtp(mta.address()), "", listener);
    for hello in ["EHLO client.test", "HELO client.test"] {
        let mut client = behind(entrance, STRANGER);
        client.expect("220");
        client.command(hello, "250");
        transaction(&mut client);
        transaction(&mut client);
    }
    sink.wait_for(4);
    let log = mta.daemon().wait_for_log_times("orig_client=", 4);
    assert_eq!(
        log.matches("orig_client=unknown[192.0.2.77]").count(),
        4,
        "{log}"
    );
}
