//! The mail lab proves itself, without hoptrail: real MTAs chained directly deliver what they were given,
//! retry soon, and leave nothing running. A chain test that fails while these pass has found a fault.

mod support;

use support::dialogue::Dialogue;
use support::dovecot::Dovecot;
use support::lab::Daemon;
use support::mail::{MESSAGE, Mail, wire};
use support::mta::{Mta, Setup, start_all};
use support::net::{self, NextHop};
use support::sink::Sink;
use support::{PATIENCE, wait_until};

#[test]
fn a_chain_of_mtas_delivers_what_it_was_given() {
    let dovecot = Dovecot::start("store.dest.test", &["alice", "bob", "carol"]);
    let last = Mta::postfix("mx3.dest.test")
        .local_domain("dest.test")
        .next_hop(dovecot.lmtp());
    let middle = Mta::exim("mx2.middle.test")
        .next_hop(NextHop::Smtp(last.address()))
        .route("origin.test", dovecot.lmtp());
    let first = Mta::postfix("mx1.origin.test")
        .next_hop(NextHop::Smtp(middle.address()))
        .route("origin.test", dovecot.lmtp());
    let mtas = start_all([first, middle, last]);
    let mut client = Dialogue::open(mtas[0].address());
    client.submit(
        "alice@origin.test",
        &["bob@dest.test", "carol@dest.test", "alice@origin.test"],
        &wire(MESSAGE),
    );
    for user in ["bob", "carol"] {
        let mail = dovecot.wait_for(user, 1).remove(0);
        assert_eq!(mail.below_trace(), MESSAGE, "what {user} got: {mail:?}");
        for hop in ["mx1.origin.test", "mx2.middle.test", "mx3.dest.test"] {
            assert!(mail.passed(hop), "{hop} did not see it: {mail:?}");
        }
    }
    // The route: what is for the originator goes to the store directly.
    let direct = dovecot.wait_for("alice", 1).remove(0);
    assert!(!direct.passed("mx2.middle.test"), "{direct:?}");
    // And from Exim, which has a route of that kind too.
    Dialogue::open(mtas[1].address()).submit(
        "x@middle.test",
        &["alice@origin.test"],
        &wire(MESSAGE),
    );
    let mails = dovecot.wait_for("alice", 2);
    assert!(!mails.iter().any(|mail| mail.passed("mx3.dest.test")));
}

#[test]
fn postfix_retries_what_an_lmtp_next_hop_deferred() {
    retries_what_an_lmtp_next_hop_deferred(Mta::postfix("mx1.origin.test"));
}

#[test]
fn exim_retries_what_an_lmtp_next_hop_deferred() {
    retries_what_an_lmtp_next_hop_deferred(Mta::exim("mx1.origin.test"));
}

/// One transaction for all recipients, a reply for each, and only the deferred one comes again.
fn retries_what_an_lmtp_next_hop_deferred(mta: Setup) {
    let sink = Sink::lmtp()
        .offer("8BITMIME")
        .once("DOT <bob@", "451 4.2.1 later")
        .start();
    let mta = mta.next_hop(sink.next_hop()).start();
    let to = ["bob@dest.test", "carol@other.test"];
    Dialogue::open(mta.address()).submit("alice@origin.test", &to, &wire(MESSAGE));
    let seen = sink.wait_for(2);
    assert_eq!(seen[0].recipients.len(), 2, "{seen:?}");
    assert!(seen[0].replies.contains(&"451 4.2.1 later".to_owned()));
    assert_eq!(seen[1].recipients.len(), 1, "{seen:?}");
    assert!(seen[1].recipients[0].starts_with("RCPT TO:<bob@dest.test>"));
    assert_eq!(seen[1].mail().below_trace(), MESSAGE, "{seen:?}");
}

#[test]
fn nothing_is_left_running() {
    let dovecot = Dovecot::start("store.dest.test", &["bob"]);
    let [postfix, mut exim] = start_all([
        Mta::postfix("mx1.origin.test").next_hop(dovecot.lmtp()),
        Mta::exim("mx2.middle.test").next_hop(dovecot.lmtp()),
    ]);
    let addresses = [postfix.address(), exim.address()];
    let namespaces = [postfix.daemon(), exim.daemon(), dovecot.daemon()].map(Daemon::namespace);
    for namespace in &namespaces {
        assert!(namespace.processes().len() > 1, "the daemon is in it");
    }
    // Two end as a test ends; one as if its wrapper were shot.
    drop(postfix);
    drop(dovecot);
    assert!(namespaces[0].processes().is_empty());
    assert!(namespaces[2].processes().is_empty());
    exim.kill();
    wait_until(PATIENCE, "the processes of Exim are gone", || {
        let left = namespaces[1].processes();
        if left.is_empty() {
            Ok(())
        } else {
            Err(format!("{left:?}"))
        }
    });
    assert!(!addresses.into_iter().any(net::answers));
}

#[test]
fn a_report_is_read() {
    let mail = Mail::new(
        b"From: hop <hop@mx1.test>\r\n\
        Content-Type: multipart/report; report-type=tracking-status;\r\n\tboundary=\"b\"\r\n\r\n\
        --b\r\nContent-Type: text/plain\r\n\r\nWords.\r\n\
        --b\r\nContent-Type: message/tracking-status\r\n\r\n\
        Original-Envelope-Id: m1@origin.test\r\nReporting-MTA: dns; mx1.test\r\n\
        X-Hoptrail-Step: 00000000000000ab\r\n\r\n\
        Final-Recipient: rfc822; carol@dest.test\r\nAction: relayed\r\n\r\n\
        Final-Recipient: rfc822;\r\n bob@dest.test\r\nAction: failed\r\n\r\n--b--\r\n",
    );
    let report = mail.report().unwrap_or_else(|| panic!("{mail:?}"));
    assert_eq!(report.reporting_mta(), "mx1.test");
    assert_eq!(report.field("x-hoptrail-step"), "00000000000000ab");
    assert_eq!(report.of_recipients("Action"), ["relayed", "failed"]);
    assert_eq!(
        report.final_recipients(),
        ["bob@dest.test", "carol@dest.test"]
    );
    assert_eq!(Mail::new(&wire(MESSAGE)).report().map(|_| ()), None);
    assert_eq!(mail.hoptrail_fields(), Vec::<String>::new());
    let marked = Mail::new(b"X-hoptrail-carry: v=1\r\n\r\nbody");
    assert_eq!(marked.hoptrail_fields(), ["X-hoptrail-carry"]);
}
