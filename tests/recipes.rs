//! What README has Postfix say, taken from there: with it every way out leads through hoptrail, and a slow domain holds
//! up nobody.

#![allow(clippy::expect_used)]

mod support;

use std::net::SocketAddrV4;
use std::time::Duration;

use support::PATIENCE;
use support::dialogue::Dialogue;
use support::hoptrail::Hoptrail;
use support::mta::{Mta, Setup};
use support::net;
use support::sink::{Script, Sink};

const MESSAGE: &[u8] = b"Message-ID: <m1@origin.test>\r\nSubject: x\r\n\r\nbody\r\n";

/// A hop as README makes one: the ways out are an egress and a delivery.
struct Hop {
    _hoptrail: Hoptrail,
    _mta: Mta,
    entrance: SocketAddrV4,
    world: Sink,
    store: Sink,
}

impl Hop {
    /// `routes` are the egress', and these the domains that are Postfix's own.
    fn of(setup: Setup, world: Script, routes: &str) -> Self {
        let [entrance, exit, delivery] = [(); 3].map(|()| net::address());
        let mta = recipe(exit, delivery)
            .iter()
            .fold(setup, |setup, line| setup.setting(line))
            .start();
        let (world, store) = (world.start(), Sink::lmtp().start());
        let hoptrail = Hoptrail::serve(&format!(
            "hostname = 'mx1.test'\n[reports]\nfrom = 'hoptrail@mx1.test'\nvia = 'maildir:/nonexistent'\n\
             [[listener]]\nrole = 'ingress'\nlisten = '{entrance}'\nprotocol = 'smtp'\nnext_hop = 'smtp://{}'\n\
             [[listener]]\nrole = 'egress'\nlisten = '{exit}'\nprotocol = 'lmtp'\nnext_hop = '{}'\n{routes}\n\
             [[listener]]\nrole = 'delivery'\nlisten = '{delivery}'\nprotocol = 'lmtp'\nnext_hop = '{}'\n",
            mta.address(),
            world.next_hop(),
            store.next_hop(),
        ));
        Self {
            _hoptrail: hoptrail,
            _mta: mta,
            entrance,
            world,
            store,
        }
    }

    fn submit(&self, to: &[&str]) {
        let mut client = Dialogue::open(self.entrance);
        client.command("EHLO client.test", "250");
        client.command("MAIL FROM:<alice@origin.test> TRACK=NOW", "250");
        for to in to {
            client.command(&format!("RCPT TO:<{to}>"), "250");
        }
        client.data(MESSAGE);
        client.expect("250");
    }
}

/// README's lines of main.cf, with these listeners in the place of its own.
fn recipe(egress: SocketAddrV4, delivery: SocketAddrV4) -> Vec<String> {
    let (_, behind) = include_str!("../README.md")
        .split_once("\n# main.cf")
        .expect("the recipe");
    let (block, _) = behind.split_once("```").expect("its end");
    let lines = block.lines().skip(1).map(|line| {
        line.replace("127.0.0.1:10026", &egress.to_string())
            .replace("127.0.0.1:10027", &delivery.to_string())
    });
    let mut lines: Vec<String> = lines.collect();
    if !lines.iter().any(|line| line.starts_with("relay_transport")) {
        // As it is without a word; the lab's own main.cf has another.
        lines.push("relay_transport = relay".to_owned());
    }
    lines
}

#[test]
fn every_way_out_of_postfix_leads_through_hoptrail() {
    let setup = Mta::postfix("mx1.test")
        .setting("mydestination = home.test")
        .setting("local_transport = local:$myhostname")
        .setting("relay_domains = relay.test")
        .setting("virtual_mailbox_domains = virtual.test")
        .setting("virtual_mailbox_maps = static:all");
    let hop = Hop::of(setup, Sink::smtp(), "");
    for (ours, to) in [
        (false, "bob@remote.test"),
        (false, "bob@relay.test"),
        (true, "bob@virtual.test"),
        (true, "bob@home.test"),
    ] {
        let sink = if ours { &hop.store } else { &hop.world };
        let before = sink.transactions().len();
        hop.submit(&[to]);
        let seen = sink.wait_for(before + 1).remove(before);
        assert_eq!(seen.mail().hoptrail_fields(), Vec::<String>::new(), "{to}");
        assert!(seen.recipients[0].contains(to), "{seen:?}");
    }
}

/// Thirty mails are under way, and none is answered while the test lasts.
#[test]
fn a_slow_domain_holds_up_nobody() {
    let slow = Sink::smtp()
        .think(PATIENCE + Duration::from_secs(30))
        .start();
    let routes = format!("routes = {{ 'slow.test' = '{}' }}", slow.next_hop());
    let hop = Hop::of(Mta::postfix("mx1.test"), Sink::smtp(), &routes);
    for n in 0..30 {
        hop.submit(&[&format!("u{n}@slow.test")]);
    }
    slow.wait_for(30);
    hop.submit(&["bob@quick.test"]);
    hop.world.wait_for(1);
}
