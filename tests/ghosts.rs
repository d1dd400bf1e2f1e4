//! A relay that knows nothing of hoptrail, between two hops that do: its Received field, as the second hop saw it, shows
//! it in the timeline, as a claim.

#![allow(clippy::expect_used)]

mod support;

use std::net::SocketAddrV4;
use std::path::Path;

use support::dialogue::Dialogue;
use support::hoptrail::{Hoptrail, User, said};
use support::mail::{MESSAGE, Mail, wire};
use support::mta::{Mta, start_all};
use support::net::{self, NextHop};
use support::sink::Sink;
use support::{PATIENCE, wait_until};

/// An ingress alone in front of an MTA: the carry header goes on to whoever shares its key.
fn hop(name: &str, entrance: SocketAddrV4, mta: SocketAddrV4, reports: &Path) -> Hoptrail {
    Hoptrail::serve(&format!(
        "hostname = '{name}'\npolicy = {{ received = true }}\n\
         [reports]\nfrom = 'hoptrail@{name}'\nvia = 'maildir:{}'\n\
         [[listener]]\nrole = 'ingress'\nlisten = '{entrance}'\nprotocol = 'smtp'\nnext_hop = 'smtp://{mta}'\n",
        reports.display()
    ))
}

fn key(hop: &Hoptrail, command: &str, input: &str) -> String {
    let config = hop.config().display().to_string();
    let args = ["key", command, "--config", &config];
    said(&User::stranger().run(&args, input.as_bytes()))
}

#[test]
fn a_relay_in_between_shows_by_its_received_field() {
    let sink = Sink::smtp().offer("8BITMIME").start();
    let (first, second) = (net::address(), net::address());
    let between = Mta::exim("between.test").next_hop(NextHop::Smtp(second));
    let [one, between, two] = start_all([
        Mta::postfix("mx1.test").next_hop(NextHop::Smtp(between.address())),
        between,
        Mta::postfix("mx2.test").next_hop(sink.next_hop()),
    ]);
    let reports = tempfile::tempdir().expect("a directory");
    let one = (hop("hop1.test", first, one.address(), reports.path()), one);
    let two = (hop("hop2.test", second, two.address(), reports.path()), two);
    key(&two.0, "add", &key(&one.0, "share", ""));
    two.0.reload();

    let mut client = Dialogue::open(first);
    client.command("EHLO client.test", "250");
    client.command("MAIL FROM:<alice@origin.test> TRACK=NOW ENVID=E1", "250");
    client.command("RCPT TO:<bob@dest.test>", "250");
    client.data(&wire(MESSAGE));
    client.expect("250");
    sink.wait_for(1);
    wait_until(PATIENCE, "both reports", || {
        let mails = Mail::in_maildir(reports.path());
        let reports = mails.iter().filter(|mail| mail.report().is_some()).count();
        (reports == 2).then_some(()).ok_or(format!("{mails:?}"))
    });
    drop(between);

    let document = User::stranger().timeline_json(reports.path(), "E1");
    let hops = document["messages"][0]["hops"].as_array().expect("hops");
    let told: Vec<_> = hops
        .iter()
        .map(|hop| (hop["host"].as_str(), hop["parent"].as_u64()))
        .collect();
    assert_eq!(
        told,
        [(Some("hop1.test"), None), (Some("hop2.test"), Some(0))]
    );
    let claims = hops[1]["claims"].as_array().expect("claims");
    let by: Vec<_> = claims.iter().map(|claim| claim["by"].as_str()).collect();
    // Not the first hop's own MTA: that one is known by the queue id it gave.
    assert_eq!(by, [Some("between.test")], "{document:#}");
    let sent_us = hops[0]["steps"][0]["arrived_us"].as_i64().expect("a time");
    let claimed_us = claims[0]["at_us"].as_i64().expect("a time");
    assert!(
        (claimed_us - sent_us).abs() < 30_000_000,
        "{claimed_us} {sent_us}"
    );
}
