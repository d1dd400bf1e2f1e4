//! What README has Postfix and Exim say, taken from there: with it every way out leads through hoptrail, and behind
//! Postfix a slow domain holds up nobody.

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
        Self::with(world, routes, |exit, delivery| {
            let mut lines = recipe("main.cf", exit, delivery);
            if !lines.iter().any(|line| line.starts_with("relay_transport")) {
                // As it is without a word; the lab's own main.cf has another.
                lines.push("relay_transport = relay".to_owned());
            }
            lines.iter().fold(setup, |setup, line| setup.setting(line))
        })
    }

    /// Around an MTA that sends to these two addresses, of the egress and of the delivery.
    fn with(
        world: Script,
        routes: &str,
        setup: impl FnOnce(SocketAddrV4, SocketAddrV4) -> Setup,
    ) -> Self {
        let [entrance, exit, delivery] = [(); 3].map(|()| net::address());
        let mta = setup(exit, delivery).start();
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

    /// These leave by the egress, and those by the delivery.
    fn assert_ways_out(&self, world: &[&str], ours: &[&str]) {
        let ways = [(&self.world, world), (&self.store, ours)];
        for (sink, to) in ways
            .iter()
            .flat_map(|(sink, all)| all.iter().map(move |to| (sink, to)))
        {
            let before = sink.transactions().len();
            self.submit(&[to]);
            let seen = sink.wait_for(before + 1).remove(before);
            assert_eq!(seen.mail().hoptrail_fields(), Vec::<String>::new(), "{to}");
            assert!(seen.recipients[0].contains(to), "{seen:?}");
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

/// README's lines of this file, with these listeners in the place of its own.
fn recipe(file: &str, egress: SocketAddrV4, delivery: SocketAddrV4) -> Vec<String> {
    let (_, behind) = include_str!("../README.md")
        .split_once(&format!("\n# {file}"))
        .expect("the recipe");
    let (block, _) = behind.split_once("```").expect("its end");
    let places = [("10026", egress), ("10027", delivery)];
    let line = |line: &str| {
        places.iter().fold(line.to_owned(), |line, (port, place)| {
            [":", "::"].iter().fold(line, |line, between| {
                line.replace(
                    &format!("127.0.0.1{between}{port}"),
                    &format!("{}{between}{}", place.ip(), place.port()),
                )
            })
        })
    };
    block.lines().skip(1).map(line).collect()
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
    hop.assert_ways_out(
        &["bob@remote.test", "bob@relay.test"],
        &["bob@virtual.test", "bob@home.test"],
    );
}

#[test]
fn every_way_out_of_exim_leads_through_hoptrail() {
    let hop = Hop::with(Sink::smtp(), "", |exit, delivery| {
        let setup = Mta::exim("mx1.test").setting("domainlist local_domains = home.test");
        let lines = recipe("exim4.conf", exit, delivery);
        lines.iter().fold(setup, |setup, line| setup.service(line))
    });
    hop.assert_ways_out(&["bob@remote.test"], &["bob@home.test"]);
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
