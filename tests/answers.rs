//! When the client of an egress or a delivery hears of each recipient. Who has had no reply when a session breaks off, or
//! when the client waits no longer, is sent to again; so nobody's reply waits for another's longer than it must, and all
//! that comes before the first one has a bound.

#![allow(clippy::expect_used)]

mod support;

use std::net::{Ipv4Addr, SocketAddrV4};
use std::thread;
use std::time::{Duration, Instant};

use support::dialogue::Dialogue;
use support::dns::{Dns, Zone};
use support::hop::{FROM, Hop, MESSAGE, TRACKED};
use support::hoptrail::{Hoptrail, User};
use support::mail::{Mail, Report};
use support::mta::Mta;
use support::net::{self, NextHop};
use support::sink::{Script, Sink};
use support::{PATIENCE, wait_until};

/// Between two answers of a slow store.
const GAP: Duration = Duration::from_millis(800);

/// An MTA that has said MAIL and RCPT.
fn envelope(exit: SocketAddrV4, rcpts: &[&str]) -> Dialogue {
    let mut mta = Dialogue::open(exit);
    mta.command("LHLO mta.test", "250");
    mta.command(FROM, "250");
    for rcpt in rcpts {
        mta.command(&format!("RCPT TO:<{rcpt}>"), "250");
    }
    mta
}

/// Hears so many 250s; the time before each.
fn pauses(mta: &mut Dialogue, count: usize) -> Vec<Duration> {
    let mut last = Instant::now();
    let mut pause = || {
        mta.expect("250 2.0.0 ok, taken");
        let now = Instant::now();
        now.duration_since(std::mem::replace(&mut last, now))
    };
    (0..count).map(|_| pause()).collect()
}

#[test]
fn each_recipient_is_answered_as_soon_as_the_store_has() {
    let store = Sink::lmtp().offer("CHUNKING").apart(GAP);
    let hop = Hop::with("delivery", "lmtp", store);
    let all = ["bob@dest.test", "carol@dest.test", "bob@dest.test"];
    for chunks in [false, true] {
        for tracked in [false, true] {
            let message = if tracked {
                hop.arrive(TRACKED, &all[..2])
            } else {
                b"Subject: x\r\n\r\nx\r\n".to_vec()
            };
            let mut mta = envelope(hop.exit, &all);
            if chunks {
                mta.chunks(&[&message]);
            } else {
                mta.command("DATA", "354");
                mta.send([&message[..], b".\r\n"].concat());
            }
            // At the end of the last all would come at once.
            let pauses = pauses(&mut mta, all.len());
            let apart = pauses[1..].iter().all(|pause| *pause > GAP / 4);
            assert!(apart, "chunks {chunks}, tracked {tracked}: {pauses:?}");
            mta.command("QUIT", "221");
        }
    }
}

/// It has the mail of all four, and has said so of two.
#[test]
fn who_was_answered_before_a_crash_is_not_sent_to_again_and_is_told_of() {
    let mut hop = Hop::with("delivery", "lmtp", Sink::lmtp().apart(GAP));
    let all = [
        "r1@dest.test",
        "r2@dest.test",
        "r3@dest.test",
        "r4@dest.test",
    ];
    let message = hop.arrive(TRACKED, &all);
    let mut mta = envelope(hop.exit, &all);
    mta.command("DATA", "354");
    mta.send([&message[..], b".\r\n"].concat());
    pauses(&mut mta, 2);
    hop.hoptrail.kill();
    assert_eq!(mta.rest(), "");
    assert_eq!(hop.next.transactions().len(), 1);
    hop.hoptrail.start_again();
    let told = wait_until(PATIENCE, "what was answered is told", || {
        let mut told = events(&hop.mails());
        told.dedup();
        if told.len() == 2 {
            Ok(told)
        } else {
            Err(format!("{told:?}"))
        }
    });
    let delivered = |who: &str| (who.to_owned(), "delivered".to_owned());
    assert_eq!(told, [delivered(all[0]), delivered(all[1])]);
}

/// Postfix waits three seconds where it would wait ten minutes, and so for each reply.
#[test]
fn postfix_sends_once_to_a_store_that_takes_its_time_for_each() {
    let store = Sink::lmtp().apart(Duration::from_secs(2)).start();
    let exit = net::address();
    let _hoptrail = Hoptrail::serve(&format!(
        "hostname = 'mx1.test'\n[reports]\nfrom = 'hoptrail@mx1.test'\nvia = 'maildir:/nonexistent'\n\
         [[listener]]\nrole = 'delivery'\nlisten = '{exit}'\nprotocol = 'lmtp'\nnext_hop = '{}'\n",
        store.next_hop()
    ));
    let mta = Mta::postfix("mx1.test")
        .next_hop(NextHop::Lmtp(exit))
        .setting("lmtp_data_done_timeout = 3s")
        .start();
    let to = [
        "r1@dest.test",
        "r2@dest.test",
        "r3@dest.test",
        "r4@dest.test",
    ];
    Dialogue::open(mta.address()).submit("alice@origin.test", &to, MESSAGE);
    let log = mta.daemon().wait_for_log("to=<r4@dest.test>");
    for rcpt in to {
        let of_him: Vec<_> = log.lines().filter(|line| line.contains(rcpt)).collect();
        assert_eq!(of_him.len(), 1, "{of_him:?}");
        assert!(of_him[0].contains("status=sent"), "{of_him:?}");
    }
    assert_eq!(store.transactions().len(), 1);
}

/// Nobody is there any more to be answered; the store has the mail of all the same, and says so.
#[test]
fn what_is_heard_behind_a_client_that_goes_away_is_told() {
    let hop = Hop::with("delivery", "lmtp", Sink::lmtp().apart(GAP));
    let all = ["r1@dest.test", "r2@dest.test", "r3@dest.test"];
    let message = hop.arrive(TRACKED, &all);
    let mut mta = envelope(hop.exit, &all);
    mta.command("DATA", "354");
    mta.send([&message[..], b".\r\n"].concat());
    pauses(&mut mta, 1);
    drop(mta);
    all_are_told_of(all.len(), "delivered", || hop.mails());
}

/// Every recipient told of, with what happened, in order.
fn events(mails: &[Mail]) -> Vec<(String, String)> {
    let reports = mails
        .iter()
        .filter_map(Mail::report)
        .flat_map(Report::steps);
    let of = |report: Report| {
        let events = report.of_recipients("X-Hoptrail-Event");
        report.final_recipients().into_iter().zip(events)
    };
    let mut all: Vec<_> = reports.flat_map(of).collect();
    all.sort();
    all
}

/// Waits until so many recipients are told of, to all of whom this happened.
fn all_are_told_of(count: usize, what: &str, mails: impl Fn() -> Vec<Mail>) {
    let told = wait_until(PATIENCE, "all are told of", || {
        let told = events(&mails());
        if told.len() == count {
            Ok(told)
        } else {
            Err(format!("{told:?}"))
        }
    });
    assert!(told.iter().all(|(_, event)| event == what), "{told:?}");
}

/// What is told of a transaction in parts is the same story, also where the next hops go on with it.
#[test]
fn a_slow_next_hop_takes_no_others_reply_away_and_the_trail_is_whole() {
    let behind = |sink: Script| sink.offer("TRACK NOW").offer("DSN").start();
    let (fast, slow) = (behind(Sink::smtp()), behind(Sink::smtp().think(GAP * 3)));
    let (entrance, exit) = (net::address(), net::address());
    let mta = Sink::smtp().start();
    let reports = tempfile::tempdir().expect("a directory");
    let _hoptrail = Hoptrail::serve(&format!(
        "hostname = 'mx1.test'\n[reports]\nfrom = 'hoptrail@mx1.test'\nvia = 'maildir:{}'\n\
         [[listener]]\nrole = 'ingress'\nlisten = '{entrance}'\nprotocol = 'smtp'\nnext_hop = '{}'\n\
         [[listener]]\nrole = 'egress'\nlisten = '{exit}'\nprotocol = 'lmtp'\nnext_hop = '{}'\n\
         routes = {{ 'slow.test' = '{}' }}\n",
        reports.path().display(),
        mta.next_hop(),
        fast.next_hop(),
        slow.next_hop(),
    ));
    let all = ["a@fast.test", "b@slow.test", "c@fast.test"];
    let mut client = Dialogue::open(entrance);
    client.command("EHLO client.test", "250");
    client.command(TRACKED, "250");
    for rcpt in all {
        client.command(&format!("RCPT TO:<{rcpt}>"), "250");
    }
    client.data(MESSAGE);
    client.expect("250");
    let message = mta.wait_for(1)[0].data.clone();

    let mut out = envelope(exit, &all);
    out.command("DATA", "354");
    out.send([&message[..], b".\r\n"].concat());
    let pauses = pauses(&mut out, 3);
    // In the client's order, and nobody behind the slow one waits for more than that.
    assert!(pauses[1] > GAP && pauses[2] < GAP, "{pauses:?}");
    all_are_told_of(3, "transferred", || Mail::in_maildir(reports.path()));
    let user = User::stranger();
    let json = user.timeline_json(reports.path(), "E1");
    let message = &json["messages"][0];
    assert_eq!(
        message["recipients"].as_array().map(Vec::len),
        Some(3),
        "{json}"
    );
    assert_eq!(message["hops"].as_array().map(Vec::len), Some(1), "{json}");
}

/// Domains whose best hosts take connections and never greet, or never answer MAIL.
struct Silence {
    _hosts: Vec<Sink>,
    ok: Sink,
    dns: Dns,
}

impl Silence {
    fn of(hosts: usize) -> Self {
        let on_port_25 = |script: Script| {
            let address = SocketAddrV4::new(*net::address().ip(), 25);
            (script.listen(address).start(), *address.ip())
        };
        let (ok, ip) = on_port_25(Sink::smtp());
        let (mute, mute_ip) = on_port_25(Sink::smtp().always("MAIL", "silence"));
        let mut zone = Zone::default()
            .a("ok.test", ip)
            .a("mute.test", mute_ip)
            .mx("first-silent.test", 10, "mx0.silent.test")
            .mx("first-silent.test", 20, "ok.test")
            .mx("first-mute.test", 10, "mute.test")
            .mx("first-mute.test", 20, "ok.test");
        let mut silent = vec![mute];
        for (n, preference) in (0..hosts).zip((10..).step_by(10)) {
            let (host, ip): (Sink, Ipv4Addr) = on_port_25(Sink::smtp().greet("silence"));
            let name = format!("mx{n}.silent.test");
            zone = zone.mx("silent.test", preference, &name).a(&name, ip);
            silent.push(host);
        }
        Self {
            _hosts: silent,
            ok,
            dns: zone.start(),
        }
    }

    fn egress(&self, timeouts: &str) -> (Hoptrail, SocketAddrV4) {
        let exit = net::address();
        let hoptrail = Hoptrail::serve(&format!(
            "hostname = 'mx1.test'\nresolver = '{}'\ntimeouts = {{ {timeouts} }}\n\
             [reports]\nfrom = 'hoptrail@mx1.test'\nvia = 'maildir:/nonexistent'\n\
             [[listener]]\nrole = 'egress'\nlisten = '{exit}'\nprotocol = 'lmtp'\nnext_hop = 'mx'\n",
            self.dns.address()
        ));
        (hoptrail, exit)
    }
}

#[test]
fn all_hosts_of_a_domain_together_have_a_bound() {
    let silence = Silence::of(5);
    let (hoptrail, exit) = silence.egress("open_s = 2, reply_s = 2, connect_s = 2");
    let mut mta = envelope(exit, &["u@ok.test", "v@silent.test"]);
    mta.command("DATA", "354");
    let begun = Instant::now();
    mta.send([MESSAGE, b".\r\n"].concat());
    mta.expect("250 2.0.0 ok, taken");
    mta.expect("451 4.4.1 no next hop was ready for the message in time");
    // One after the other they would take ten seconds.
    let took = begun.elapsed().as_secs();
    assert!(took < 8, "{took} s");
    assert!(
        hoptrail.log().contains("mx of silent.test"),
        "{}",
        hoptrail.log()
    );
    // The session goes on.
    mta.command(FROM, "250");
    mta.command("RCPT TO:<u@ok.test>", "250");
    mta.command("DATA", "354");
    mta.send([MESSAGE, b".\r\n"].concat());
    mta.expect("250 2.0.0 ok, taken");
    assert_eq!(silence.ok.transactions().len(), 2);
}

/// However long it may be waited for by itself.
#[test]
fn a_silent_host_leaves_time_for_the_next() {
    let silence = Silence::of(1);
    let (_hoptrail, exit) = silence.egress("open_s = 6");
    let mut mta = envelope(exit, &["u@first-silent.test", "v@first-mute.test"]);
    mta.command("DATA", "354");
    mta.send([MESSAGE, b".\r\n"].concat());
    mta.expect("250 2.0.0 ok, taken");
    mta.expect("250 2.0.0 ok, taken");
    assert_eq!(silence.ok.transactions().len(), 2);
}

/// Postfix waits six seconds where it would wait ten minutes, and tries again what it was told to.
#[test]
fn postfix_hears_of_those_who_have_it_while_hosts_are_silent() {
    let silence = Silence::of(3);
    let timeouts = "open_s = 2, reply_s = 3, connect_s = 3, final_reply_s = 5";
    let (_hoptrail, exit) = silence.egress(timeouts);
    let mta = Mta::postfix("mx1.test")
        .next_hop(NextHop::Lmtp(exit))
        .setting("lmtp_data_done_timeout = 6s")
        .start();
    let to = ["u@ok.test", "v@silent.test"];
    Dialogue::open(mta.address()).submit("alice@origin.test", &to, MESSAGE);
    silence.ok.wait_for(1);
    let log = || {
        let log = mta.daemon().wait_for_log("to=<v@silent.test>");
        log.matches("to=<v@silent.test>").count()
    };
    wait_until(PATIENCE, "v was tried three times", || {
        if log() >= 3 {
            Ok(())
        } else {
            Err(String::new())
        }
    });
    thread::sleep(Duration::from_secs(3));
    let told = mta.daemon().wait_for_log("to=<u@ok.test>");
    let of_u: Vec<_> = told
        .lines()
        .filter(|line| line.contains("to=<u@"))
        .collect();
    assert_eq!(of_u.len(), 1, "{of_u:?}");
    assert!(of_u[0].contains("status=sent"), "{of_u:?}");
    assert!(told.contains("451 4.4.1 no next hop was ready"), "{told}");
    assert_eq!(silence.ok.transactions().len(), 1);
}
