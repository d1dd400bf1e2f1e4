//! Each of the four MTAs alone, hoptrail around it: what it hands to the egress comes out as a report that is
//! true, over LMTP and over SMTP; and each as a next hop that knows nothing of hoptrail.

#![allow(clippy::expect_used)]

mod support;

use std::net::SocketAddrV4;

use support::dialogue::Dialogue;
use support::fan::{DOMAINS, Fan};
use support::hoptrail::{Hoptrail, User};
use support::mail::{MESSAGE, Mail, Report, behind_type, wire};
use support::mta::{Mta, Setup, all};
use support::net::{self, NextHop};
use support::sink::{Sink, Transaction};
use support::{PATIENCE, wait_until};

const SENDER: &str = "alice@origin.test";
const RECIPIENTS: [&str; 2] = ["bob@dest.test", "carol@other.test"];

/// hoptrail around an MTA, in front of a next hop that tracks.
struct Hop {
    _hoptrail: Hoptrail,
    entrance: SocketAddrV4,
    mta: Mta,
    next: Sink,
    reports: tempfile::TempDir,
}

impl Hop {
    /// The MTA hands over by `protocol`, `"lmtp"` or `"smtp"`.
    fn around(setup: Setup, protocol: &str) -> Self {
        let exit = net::address();
        let mta = setup
            .next_hop(match protocol {
                "lmtp" => NextHop::Lmtp(exit),
                _ => NextHop::Smtp(exit),
            })
            .start();
        let next = Sink::smtp()
            .greet("220 next.test ESMTP")
            .offer("TRACK NOW")
            .offer("DSN")
            .offer("8BITMIME")
            .always("DOT", "250 OK id=1xVXDd-0006GV-0J")
            .start();
        let (entrance, reports) = (net::address(), tempfile::tempdir().expect("a directory"));
        let hoptrail = Hoptrail::serve(&format!(
            "hostname = 'hop.test'\n\
             [reports]\nfrom = 'hoptrail@hop.test'\nvia = 'maildir:{}'\n\
             [[listener]]\nrole = 'ingress'\nlisten = '{entrance}'\nprotocol = 'smtp'\nnext_hop = 'smtp://{}'\n\
             [[listener]]\nrole = 'egress'\nlisten = '{exit}'\nprotocol = '{protocol}'\nnext_hop = '{}'\n",
            reports.path().display(),
            mta.address(),
            next.next_hop(),
        ));
        Self {
            _hoptrail: hoptrail,
            entrance,
            mta,
            next,
            reports,
        }
    }

    /// The reports of so many transactions; those of one message may share a mail.
    fn wait_for_reports(&self, count: usize) -> Vec<Report> {
        wait_until(PATIENCE, "the reports", || {
            let mails = Mail::in_maildir(self.reports.path());
            let reports = mails.iter().filter_map(Mail::report);
            let reports: Vec<Report> = reports.flat_map(Report::steps).collect();
            if reports.len() == count {
                return Ok(reports);
            }
            Err(format!("{mails:?}, at {}", self.mta.address()))
        })
    }
}

/// Hands over a tracked message; the MTA's words behind its 250.
fn submit(entrance: SocketAddrV4, to: &[&str]) -> String {
    let mut client = Dialogue::open(entrance);
    client.command("EHLO client.test", "250");
    let mail = format!("MAIL FROM:<{SENDER}> TRACK=NOW ENVID=E1 BODY=8BITMIME");
    client.command(&mail, "250");
    for recipient in to {
        client.command(&format!("RCPT TO:<{recipient}>"), "250");
    }
    client.data(&wire(MESSAGE));
    client.expect("250").join("\n")
}

/// The queue id in the MTA's own trace field.
fn traced_id(transaction: &Transaction) -> String {
    let received = transaction.mail().field("Received").expect("a trace field");
    let (_, behind) = received.split_once(" id ").expect("an id");
    behind
        .split([' ', ';'])
        .next()
        .unwrap_or_default()
        .to_owned()
}

#[test]
fn each_mta_hands_over_by_lmtp_and_is_reported_once() {
    for hop in all().map(|setup| Hop::around(setup, "lmtp")) {
        submit(hop.entrance, &RECIPIENTS);
        let seen = &hop.next.wait_for(1)[0];
        let report = &hop.wait_for_reports(1)[0];
        assert_eq!(seen.recipients.len(), 2, "one transaction: {seen:?}");
        assert_eq!(report.final_recipients(), RECIPIENTS);
        assert_told(report, seen);
        assert_greets_twice(&hop);
    }
}

/// A client may say EHLO again, whatever the MTA thinks of it: `OpenSMTPD` takes but one.
fn assert_greets_twice(hop: &Hop) {
    let mut client = Dialogue::open(hop.entrance);
    let first = client.command("EHLO client.test", "250");
    assert!(first.iter().any(|line| line.ends_with("TRACK NOW")));
    client.command("MAIL FROM:<nobody@origin.test>", "250");
    assert_eq!(client.command("EHLO client.test", "250"), first);
    // The transaction is gone, and another can be made.
    client.command("MAIL FROM:<alice@origin.test>", "250");
    client.command("QUIT", "221");
    let user = User::stranger();
    user.send(hop.entrance, SENDER, &RECIPIENTS, &wire(MESSAGE));
    assert!(hop.next.wait_for(2)[1].mail_from.contains(SENDER));
    // Of the first message nothing more was told.
    hop.wait_for_reports(2);
}

#[test]
fn each_mta_hands_over_by_smtp_one_recipient_at_a_time() {
    for (place, setup) in all().into_iter().enumerate() {
        let hop = Hop::around(setup.one_recipient(), "smtp");
        // OpenSMTPD cannot be told to, so its client does it.
        let together = if place == 2 { 1 } else { 2 };
        for to in RECIPIENTS.chunks(together) {
            submit(hop.entrance, to);
        }
        let seen = hop.next.wait_for(2);
        let reports = hop.wait_for_reports(2);
        for transaction in &seen {
            let [recipient] = transaction.recipients.as_slice() else {
                panic!("one recipient: {transaction:?}");
            };
            let about = |report: &&Report| recipient.contains(&report.final_recipients()[0]);
            let report = reports.iter().find(about).expect("a report for each");
            assert_told(report, transaction);
        }
    }
}

/// The report of a transaction: its queue ids and the request are those of the wire; the mail is as it was sent.
fn assert_told(report: &Report, seen: &Transaction) {
    let recipients = seen.recipients.len();
    assert_eq!(
        report.of_recipients("X-Hoptrail-Event"),
        vec!["transferred"; recipients]
    );
    let remote = report.of_recipients("X-Hoptrail-Queue-Id");
    assert_eq!(remote, vec!["1xVXDd-0006GV-0J"; recipients]);
    assert_eq!(report.field("X-Hoptrail-Queue-Id"), traced_id(seen));
    let up = format!("up/{}", report.field("X-Hoptrail-Step"));
    for word in [up.as_str(), "ENVID=E1"] {
        assert!(seen.mail_from.contains(word), "no {word} in {seen:?}");
    }
    assert_eq!(seen.mail().hoptrail_fields(), Vec::<String>::new());
    assert!(seen.mail().below_trace() == MESSAGE, "changed: {seen:?}");
}

#[test]
fn mail_goes_through_every_mta_that_knows_nothing() {
    let fan = Fan::before(&Sink::smtp().offer("8BITMIME"));
    let to = DOMAINS.map(|domain| format!("bob@{domain}"));
    submit(fan.entrance, &to.each_ref().map(String::as_str));
    let mails = Mail::wait_in_maildir(fan.reports.path(), 1);
    let report = mails[0].report().expect("a report");
    let told = report.of_recipients("Final-Recipient");
    let told: Vec<_> = told.iter().map(|field| behind_type(field)).collect();
    for (recipient, sink) in to.iter().zip(&fan.sinks) {
        let seen = &sink.wait_for(1)[0];
        assert!(seen.mail().below_trace() == MESSAGE, "changed: {seen:?}");
        assert_eq!(seen.mail().hoptrail_fields(), Vec::<String>::new());
        let place = told.iter().position(|known| known == recipient);
        let of = |field| report.of_recipients(field)[place.expect("it is told")].clone();
        assert_eq!(of("X-Hoptrail-Event"), "relayed");
        assert_eq!(of("Status"), "2.1.9");
        assert_eq!(of("X-Hoptrail-Queue-Id"), traced_id(seen), "{report:?}");
    }
}

/// Near its limit an MTA counts what it adds itself; there, too, a message that asks is taken where any other is.
#[test]
fn no_mail_is_too_large_because_it_is_tracked() {
    const LIMIT: usize = 100_000;
    for make in [Mta::postfix, Mta::exim] {
        let setting = format!("message_size_limit = {LIMIT}");
        let hop = Hop::around(make("mx.test").setting(&setting), "lmtp");
        let mut client = Dialogue::open(hop.entrance);
        client.command("EHLO client.test", "250");
        let verdicts = [-3000, -1200, -1050, -900, -750, -300, 100].map(|above| {
            let octets = LIMIT.saturating_add_signed(above);
            let [asks, other] =
                [" TRACK=NOW", ""].map(|track| is_taken(&mut client, octets, track));
            assert_eq!(asks, other, "{octets} octets");
            asks
        });
        let taken = verdicts.iter().filter(|taken| **taken).count();
        assert!(taken > 0 && taken < verdicts.len(), "{verdicts:?}");
    }
}

/// What becomes of a message of so many octets, announced as such.
fn is_taken(client: &mut Dialogue, octets: usize, track: &str) -> bool {
    client.send(format!(
        "MAIL FROM:<{SENDER}> SIZE={octets}{track}\r\nRCPT TO:<bob@dest.test>\r\n"
    ));
    let replies = [client.reply(), client.reply()];
    if !replies.iter().all(|reply| reply[0].starts_with('2')) {
        client.command("RSET", "250");
        return false;
    }
    let mut message = [
        wire(MESSAGE),
        b"a line as any other\r\n".repeat(octets / 20),
    ]
    .concat();
    message.truncate(octets - 2);
    message.extend_from_slice(b"\r\n");
    client.data(&message);
    client.reply()[0].starts_with('2')
}

/// What `OpenSMTPD` makes of two replies at once is a second copy, half a minute later; so its log is asked.
#[test]
fn no_mta_is_told_too_much_at_once() {
    let hop = Hop::around(Mta::opensmtpd("mx-o.test"), "lmtp");
    for _ in 0..5 {
        submit(hop.entrance, &RECIPIENTS);
    }
    hop.wait_for_reports(5);
    let log = hop.mta.daemon().wait_for_log("mta delivery");
    for word in ["TempFail", "too much data"] {
        assert!(!log.contains(word), "{log}");
    }
}
