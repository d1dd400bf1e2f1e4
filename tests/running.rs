//! A hop under limits and on its way out: who gets a session and for how long, what happens without file
//! descriptors, and what a stop does to those that are open.

#![allow(clippy::expect_used)]

mod support;

use std::fs::{self, Permissions};
use std::net::{SocketAddrV4, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use support::dialogue::Dialogue;
use support::hoptrail::Hoptrail;
use support::mta::{Mta, start_all};
use support::net::{self, NextHop};
use support::sink::{Script, Sink};
use support::{PATIENCE, Stopwatch, wait_until};

const MESSAGE: &[u8] = b"Subject: x\r\n\r\ntext\r\n";

fn config(top: &str, entrance: SocketAddrV4, mta: &Sink, listener: &str) -> String {
    format!(
        "hostname = 'mx1.test'\n{top}\n[reports]\nfrom = 'hoptrail@mx1.test'\nvia = 'maildir:/nonexistent'\n\
         [[listener]]\nrole = 'ingress'\nlisten = '{entrance}'\nprotocol = 'smtp'\nnext_hop = '{}'\n{listener}\n",
        mta.next_hop()
    )
}

fn hop(top: &str, mta: Script) -> (Hoptrail, SocketAddrV4, Sink) {
    let (mta, entrance) = (mta.start(), net::address());
    let hoptrail = Hoptrail::serve(&config(top, entrance, &mta, ""));
    (hoptrail, entrance, mta)
}

/// A client that has sent DATA and half of its message.
fn in_data(entrance: SocketAddrV4) -> Dialogue {
    let mut client = Dialogue::open(entrance);
    client.command("EHLO client.test", "250");
    client.command("MAIL FROM:<alice@origin.test>", "250");
    client.command("RCPT TO:<bob@dest.test>", "250");
    client.command("DATA", "354");
    client.send("Subject: x\r\n\r\n");
    client
}

#[test]
fn a_stop_lets_what_is_under_way_end() {
    for role in ["ingress", "egress"] {
        let (mta, entrance) = (Sink::smtp().start(), net::address());
        let config = config("", entrance, &mta, "").replace("'ingress'", &format!("'{role}'"));
        let mut hoptrail = Hoptrail::serve(&config);
        let mut busy = in_data(entrance);
        let mut idle = Dialogue::open(entrance);
        idle.command("EHLO idle.test", "250");
        hoptrail.terminate();
        idle.expect("421 4.3.2");
        assert!(idle.is_closed());
        wait_until(PATIENCE, "the port is closed", || {
            if net::answers(entrance) {
                return Err("it answers".to_owned());
            }
            Ok(())
        });
        busy.send("text\r\n.\r\n");
        busy.expect("250");
        busy.expect("421 4.3.2");
        assert!(busy.is_closed());
        assert!(hoptrail.stop().success());
        assert_eq!(mta.wait_for(1)[0].data, MESSAGE, "{role}");
    }
}

#[test]
fn a_stop_has_a_deadline() {
    let (mut hoptrail, entrance, mta) = hop("timeouts = { drain_s = 1 }", Sink::smtp());
    let mut stuck = in_data(entrance);
    let (started, watch) = (Instant::now(), Stopwatch::start());
    assert!(hoptrail.stop().success());
    let (took, at_most) = (started.elapsed(), watch.elapsed());
    assert!(took >= Duration::from_secs(1), "{took:?}");
    assert!(at_most < Duration::from_secs(8), "{at_most:?}");
    assert!(stuck.is_closed(), "{}", stuck.transcript());
    assert!(mta.transactions().is_empty());
    assert!(hoptrail.log().contains("deadline"), "{}", hoptrail.log());
}

#[test]
fn a_session_has_an_end() {
    let (_hoptrail, entrance, mta) = hop("timeouts = { session_s = 2 }", Sink::smtp());
    let mut busy = Dialogue::open(entrance);
    let mut dripping = in_data(entrance);
    let (started, watch) = (Instant::now(), Stopwatch::start());
    let mut last = String::new();
    while !last.starts_with("421") {
        assert!(started.elapsed() < PATIENCE, "{}", busy.transcript());
        std::thread::sleep(Duration::from_millis(50));
        busy.send("NOOP\r\n");
        last = busy.reply().join("");
        // As slow as that no wait for more would end.
        let _ = std::io::Write::write(dripping.socket(), b"x");
    }
    assert_eq!(last, "421 4.4.2 the session has lasted too long");
    assert!(busy.is_closed());
    assert!(dripping.is_closed());
    assert!(watch.elapsed() < Duration::from_secs(10));
    assert!(mta.transactions().is_empty());
}

#[test]
fn a_client_has_no_more_sessions_than_it_may() {
    let (hoptrail, entrance, _mta) = hop("limits = { sessions_per_client_max = 2 }", Sink::smtp());
    // The one that waited for the listener may still be on its way out.
    let open = || {
        wait_until(PATIENCE, "a session", || {
            let mut client = Dialogue::connect(entrance);
            let greeting = client.reply().join("");
            if greeting.starts_with("220") {
                Ok(client)
            } else {
                Err(greeting)
            }
        })
    };
    let (mut first, second) = (open(), open());
    let mut third = Dialogue::connect(entrance);
    third.expect("421 4.7.0");
    assert!(third.is_closed());
    first.command("EHLO client.test", "250");
    second.break_off();
    open().command("EHLO client.test", "250");
    assert!(hoptrail.log().contains("sessions_per_client_max"));
}

#[test]
fn all_clients_together_have_no_more_sessions_than_there_may_be() {
    let (hoptrail, entrance, _mta) = hop("limits = { sessions_max = 1 }", Sink::smtp());
    let mut first = wait_until(PATIENCE, "a session", || {
        let mut client = Dialogue::connect(entrance);
        let greeting = client.reply().join("");
        greeting
            .starts_with("220")
            .then_some(client)
            .ok_or(greeting)
    });
    let mut second = Dialogue::connect(entrance);
    second.expect("421 4.3.2");
    assert!(second.is_closed());
    let mut third = Dialogue::connect(entrance);
    third.expect("421 4.3.2");
    first.command("EHLO client.test", "250");
    let log = hoptrail.log();
    let told = log.matches("refused: sessions_max").count();
    // Not once for each of a crowd.
    assert_eq!(told, 1, "{log}");
}

#[test]
fn a_hop_out_of_descriptors_serves_again_when_it_has_some() {
    let (mta, entrance, balanced) = (Sink::smtp().start(), net::address(), net::address());
    let behind_a_balancer = format!(
        "[[listener]]\nrole = 'ingress'\nlisten = '{balanced}'\nprotocol = 'smtp'\nnext_hop = '{}'\n\
         proxy_from = ['127.0.0.0/8']\nmta_trusts_proxy_address = false\n",
        mta.next_hop()
    );
    let config = config("", entrance, &mta, &behind_a_balancer);
    let hoptrail = Hoptrail::serve(&config);
    let mut old = Dialogue::open(entrance);
    old.command("EHLO client.test", "250");
    hoptrail.leave_descriptors(20);
    // One that has not yet said who it is has no next hop: it takes a single descriptor, so that in the end
    // there is none, be their number even or odd.
    let begun = Instant::now();
    let mut crowd = Vec::new();
    wait_until(PATIENCE, "there are no more descriptors", || {
        crowd.push(TcpStream::connect(balanced).expect("the kernel accepts"));
        if hoptrail.log().contains("cannot accept") {
            Ok(())
        } else {
            Err(format!("{} connections", crowd.len()))
        }
    });
    // Who is in goes on; who comes last is told to come back or waits.
    old.submit("a@origin.test", &["b@dest.test"], MESSAGE);
    // It fails ten times a second, and says so every ten seconds.
    std::thread::sleep(Duration::from_secs(1));
    let log = hoptrail.log();
    let told = log.matches("cannot accept").count() as u64;
    assert!(
        (1..=1 + begun.elapsed().as_secs() / 10).contains(&told),
        "{log}"
    );
    drop(crowd);
    wait_until(PATIENCE, "a session", || {
        let mut client = Dialogue::connect(entrance);
        let greeting = client.reply().join("");
        if !greeting.starts_with("220") {
            return Err(greeting);
        }
        client.submit("a@origin.test", &["b@dest.test"], MESSAGE);
        Ok(())
    });
    assert_eq!(mta.wait_for(2).len(), 2);
}

#[test]
fn what_costs_reports_or_secrets_is_said_at_the_start_and_mail_goes_on() {
    let (mta, entrance) = (Sink::smtp().start(), net::address());
    let config = config("", entrance, &mta, "").replace("/nonexistent", "/proc/none");
    let mut hoptrail = Hoptrail::serve(&config);
    let mut client = Dialogue::open(entrance);
    client.command("EHLO client.test", "250");
    client.command("MAIL FROM:<alice@origin.test> TRACK=NOW", "250");
    client.command("RCPT TO:<bob@dest.test>", "250");
    client.data(MESSAGE);
    client.expect("250");
    assert!(mta.wait_for(1)[0].data.starts_with(b"Hoptrail-Carry: "));
    let place = hoptrail.config().display().to_string();
    let told = format!("{place}: reports.via: no Maildir can be made: /proc/none: ");
    assert!(hoptrail.log().contains(&told), "{}", hoptrail.log());
    let state = hoptrail.state_dir().display().to_string();
    let warned = |hoptrail: &Hoptrail| {
        let told = format!("{place}:1: state_dir: chmod 700 {state}");
        hoptrail.log().matches(&told).count()
    };
    let before = warned(&hoptrail);
    for (bits, more) in [(0o700, 0), (0o710, 1), (0o702, 1)] {
        let mode = Permissions::from_mode(bits);
        fs::set_permissions(hoptrail.state_dir(), mode).expect("it is ours");
        let before = warned(&hoptrail);
        hoptrail.kill();
        hoptrail.start_again();
        assert_eq!(warned(&hoptrail), before + more, "{bits:o}");
    }
    assert_eq!(before, 1, "the test makes it for all to read");
}

#[test]
fn what_is_not_the_mtas_network_is_refused_at_an_egress() {
    let (next, egress, other) = (Sink::smtp().start(), net::address(), net::address());
    let listener = |listen: SocketAddrV4, more: &str| {
        format!(
            "[[listener]]\nrole = 'egress'\nlisten = '{listen}'\nprotocol = 'smtp'\nnext_hop = '{}'\n{more}\n",
            next.next_hop()
        )
    };
    let hoptrail = Hoptrail::serve(&format!(
        "hostname = 'mx1.test'\n[reports]\nfrom = 'hoptrail@mx1.test'\nvia = 'maildir:/nonexistent'\n{}{}",
        listener(egress, "proxy_from = ['127.0.0.0/8']"),
        listener(other, "clients = ['192.0.2.0/24', '2001:db8::1']"),
    ));
    // By default, this machine; somebody else behind a balancer is not.
    let behind = |client: &str, at: SocketAddrV4| {
        let mut dialogue = Dialogue::connect(at);
        dialogue.send(format!("PROXY {client} 25\r\n"));
        dialogue
    };
    behind("TCP4 127.0.0.9 127.0.0.1 4321", egress).expect("220");
    for stranger in [
        "TCP4 192.0.2.77 127.0.0.1 4321",
        "TCP6 2001:db8::7 ::1 4321",
    ] {
        let mut stranger = behind(stranger, egress);
        stranger.expect("421 4.7.1 mx1.test takes no mail from your address");
        assert!(stranger.is_closed());
    }
    let mut local = Dialogue::connect(other);
    local.expect("421 4.7.1");
    assert!(local.is_closed());
    assert!(hoptrail.log().contains("clients"), "{}", hoptrail.log());
    assert!(next.commands().is_empty());
}

/// Most likely it is the hop's own, at a new address: a 5yz would have it send its mail back.
#[test]
fn mail_of_an_mta_that_is_no_client_waits_until_it_is_one() {
    let (next, egress) = (Sink::smtp().offer("8BITMIME").start(), net::address());
    let mtas = start_all([
        Mta::postfix("postfix.test").next_hop(NextHop::Lmtp(egress)),
        Mta::exim("exim.test").next_hop(NextHop::Lmtp(egress)),
    ]);
    let hoptrail = Hoptrail::serve(&format!(
        "hostname = 'mx1.test'\n[reports]\nfrom = 'hoptrail@mx1.test'\nvia = 'maildir:/nonexistent'\n\
         [[listener]]\nrole = 'egress'\nlisten = '{egress}'\nprotocol = 'lmtp'\nnext_hop = '{}'\n\
         clients = ['192.0.2.0/24']\n",
        next.next_hop()
    ));
    for mta in &mtas {
        let before = hoptrail.log().matches("refused: not in").count();
        Dialogue::open(mta.address()).submit("alice@origin.test", &["bob@dest.test"], MESSAGE);
        wait_until(PATIENCE, "it is turned away", || {
            let log = hoptrail.log();
            let more = log.matches("refused: not in").count() > before;
            more.then_some(()).ok_or(log)
        });
    }
    let text = fs::read_to_string(hoptrail.config()).expect("its configuration");
    let known = text.replace("192.0.2.0/24", "127.0.0.0/8");
    fs::write(hoptrail.config(), known).expect("it can be written");
    hoptrail.reload();
    let seen = next.wait_for(2);
    let hosts = ["postfix.test", "exim.test"];
    let passed = |host: &&str| seen.iter().any(|seen| seen.mail().passed(host));
    assert!(hosts.iter().all(passed), "{seen:?}");
}
