//! Aliases, lists and .forward files in each of the four MTAs: who asked hears once that an address was expanded; nobody
//! else hears of it, and no member is named.

#![allow(clippy::expect_used)]

mod support;

use std::net::SocketAddrV4;
use std::thread;
use std::time::Duration;

use support::dialogue::Dialogue;
use support::hoptrail::Hoptrail;
use support::mail::{MESSAGE, Mail, Report, wire};
use support::mta::{Mta, SCHEDULE, Setup};
use support::net::{self, NextHop};
use support::sink::Sink;
use support::{PATIENCE, wait_until};

const HOME: &str = "home.test";
const ALIASES: [(&str, &str); 3] = [
    ("two", "x1@d1.test, x2@d2.test"),
    ("list", "x3@d1.test, x4@d2.test"),
    ("owner-list", "listadm@owner.test"),
];
/// The users' .forward files: alice's mail goes elsewhere, bob keeps a copy.
const FORWARDS: [(&str, &str); 2] = [("alice", "x5@d3.test\n"), ("bob", "\\bob, x6@d3.test\n")];

#[test]
fn postfix_expands() {
    Hop::around(Mta::postfix("mx.home.test"), "lmtp").assert_expansions();
}

#[test]
fn exim_expands() {
    Hop::around(Mta::exim("mx.home.test"), "lmtp").assert_expansions();
}

#[test]
fn opensmtpd_expands() {
    Hop::around(Mta::opensmtpd("mx.home.test"), "lmtp").assert_expansions();
}

#[test]
fn sendmail_expands() {
    Hop::around(Mta::sendmail("mx.home.test"), "lmtp").assert_expansions();
}

/// `OpenSMTPD` cannot be told to hand over one recipient at a time.
#[test]
fn postfix_expands_and_hands_over_one_by_one() {
    let setup = Mta::postfix("mx.home.test").one_recipient();
    Hop::around(setup, "smtp").assert_expansions();
}

#[test]
fn exim_expands_and_hands_over_one_by_one() {
    let setup = Mta::exim("mx.home.test").one_recipient();
    Hop::around(setup, "smtp").assert_expansions();
}

#[test]
fn sendmail_expands_and_hands_over_one_by_one() {
    let setup = Mta::sendmail("mx.home.test").one_recipient();
    Hop::around(setup, "smtp").assert_expansions();
}

/// `OpenSMTPD` 6.8 gives the ORCPT of one recipient to those behind it who have none; and it hands over all in one
/// transaction, of whom an egress by SMTP takes one.
#[test]
fn opensmtpd_mixes_up_nobody() {
    let hop = Hop::around(Mta::opensmtpd("mx.home.test"), "smtp");
    let two = format!("<two@{HOME}>");
    hop.submit("E1", &["<carol@d9.test> ORCPT=rfc822;carol@d9.test", &two]);
    wait_until(PATIENCE, "carol and two members have their mail", || {
        let seen = hop.next.transactions();
        if seen.len() == 3 {
            return Ok(());
        }
        hop.mta.daemon().run(&SCHEDULE);
        thread::sleep(Duration::from_millis(500));
        Err(format!("{seen:?}"))
    });
    let told = || {
        let mails = Mail::in_maildir(hop.reports.path());
        let reports = mails.iter().filter_map(Mail::report);
        let event = |report: Report| {
            let event = report.of_recipients("X-Hoptrail-Event").join(" ");
            format!("{} {event}", report.final_recipients().join(" "))
        };
        let mut told: Vec<String> = reports.flat_map(Report::steps).map(event).collect();
        told.sort();
        told
    };
    wait_until(PATIENCE, "both are told of", || {
        let told = told();
        (told.len() >= 2).then_some(()).ok_or(format!("{told:?}"))
    });
    // What came once must not come again.
    thread::sleep(Duration::from_secs(2));
    assert_eq!(
        told(),
        ["carol@d9.test transferred", "two@home.test expanded"]
    );
}

/// Sendmail keeps NOTIFY where mail is forwarded, and the next hop does not know it: the news is the hop's to send.
#[test]
fn news_of_success_that_a_next_hop_cannot_send_names_no_member() {
    let hop = Hop::around(Mta::sendmail("mx.home.test"), "lmtp");
    hop.submit("E1", &[&format!("<alice@{HOME}> NOTIFY=SUCCESS")]);
    let mails = wait_until(PATIENCE, "the report and the notification", || {
        let mails = Mail::in_maildir(hop.reports.path());
        (mails.len() == 2).then_some(mails).ok_or(String::new())
    });
    assert!(hop.next.wait_for(1)[0].recipients[0].contains("x5@d3.test"));
    assert!(!format!("{mails:?}").contains("x5@"), "{mails:?}");
}

/// hoptrail around an MTA that expands.
struct Hop {
    hoptrail: Hoptrail,
    entrance: SocketAddrV4,
    mta: Mta,
    /// Where members get their mail.
    next: Sink,
    /// Where users get theirs.
    store: Sink,
    reports: tempfile::TempDir,
}

impl Hop {
    /// It hands over what is not for its users by `protocol`.
    fn around(setup: Setup, protocol: &str) -> Self {
        let (entrance, exit, delivery) = (net::address(), net::address(), net::address());
        let to_exit = match protocol {
            "lmtp" => NextHop::Lmtp(exit),
            _ => NextHop::Smtp(exit),
        };
        let mut setup = setup.next_hop(to_exit).home(HOME, &ALIASES, delivery);
        for (user, forward) in FORWARDS {
            setup = setup.file(&format!("var/home/{user}/.forward"), forward);
        }
        let mta = setup.start();
        let next = Sink::smtp().offer("TRACK NOW").offer("8BITMIME").start();
        let store = Sink::lmtp().offer("8BITMIME").start();
        let reports = tempfile::tempdir().expect("a directory");
        let hoptrail = Hoptrail::serve(&format!(
            "hostname = 'hop.test'\n\
             [reports]\nfrom = 'hoptrail@hop.test'\nvia = 'maildir:{}'\n\
             [[listener]]\nrole = 'ingress'\nlisten = '{entrance}'\nprotocol = 'smtp'\nnext_hop = 'smtp://{}'\n\
             [[listener]]\nrole = 'egress'\nlisten = '{exit}'\nprotocol = '{protocol}'\nnext_hop = '{}'\n\
             [[listener]]\nrole = 'delivery'\nlisten = '{delivery}'\nprotocol = 'lmtp'\nnext_hop = '{}'\n",
            reports.path().display(),
            mta.address(),
            next.next_hop(),
            store.next_hop(),
        ));
        Self {
            hoptrail,
            entrance,
            mta,
            next,
            store,
            reports,
        }
    }

    /// One message to each kind of address, one after the other.
    fn assert_expansions(&self) {
        let (mut at_members, mut at_users, mut told) = (0, 0, 0);
        for (to, members, users, events) in [
            ("two", 2, 0, &["expanded"][..]),
            ("list", 2, 0, &["expanded"]),
            ("alice", 1, 0, &["expanded"]),
            ("bob", 1, 1, &["expanded", "delivered"]),
        ] {
            let to = format!("{to}@{HOME}");
            self.submit(&to, &[&format!("<{to}> NOTIFY=NEVER")]);
            (at_members, at_users) = (at_members + members, at_users + users);
            self.wait_for_mail(at_members, at_users);
            told += events.len();
            self.assert_told(&to, events, told);
        }
        // What came once must not come again.
        thread::sleep(Duration::from_secs(1));
        let mails = Mail::in_maildir(self.reports.path());
        assert_eq!(mails.len(), told, "{mails:?}");
        self.assert_secrets_kept();
    }

    fn submit(&self, envid: &str, to: &[&str]) {
        let mut client = Dialogue::open(self.entrance);
        client.command("EHLO client.test", "250");
        let mail = format!("MAIL FROM:<asker@origin.test> TRACK=NOW ENVID={envid} BODY=8BITMIME");
        client.command(&mail, "250");
        for recipient in to {
            client.command(&format!("RCPT TO:{recipient}"), "250");
        }
        client.data(&wire(MESSAGE));
        client.expect("250");
    }

    /// Waits until so many members and so many users have their mail.
    fn wait_for_mail(&self, members: usize, users: usize) {
        wait_until(PATIENCE, "everybody has their mail", || {
            let recipients = |sink: &Sink| -> usize {
                let all = sink.transactions();
                all.iter().map(|seen| seen.recipients.len()).sum()
            };
            let seen = (recipients(&self.next), recipients(&self.store));
            if seen == (members, users) {
                return Ok(());
            }
            Err(format!("{seen:?} at {}", self.mta.address()))
        });
    }

    /// The events of this address are told, each once; all in all there are so many reports.
    fn assert_told(&self, to: &str, events: &[&str], reports: usize) {
        let told = wait_until(PATIENCE, "the reports", || {
            let mails = Mail::in_maildir(self.reports.path());
            let told: Vec<Report> = mails.iter().filter_map(Mail::report).collect();
            if told.len() < reports {
                return Err(format!("{to}: {told:?}\n{}", self.hoptrail.log()));
            }
            Ok(told)
        });
        let about = told
            .iter()
            .filter(|report| report.field("Original-Envelope-Id") == to);
        let mut seen: Vec<String> = about
            .flat_map(|report| {
                assert_eq!(report.final_recipients(), [to]);
                report.of_recipients("X-Hoptrail-Event")
            })
            .collect();
        seen.sort();
        let mut events = events.to_vec();
        events.sort_unstable();
        assert_eq!(seen, events, "{to}");
    }

    /// Nothing names a member or asks a next hop to track one; nobody but the asker is written to.
    fn assert_secrets_kept(&self) {
        let mails = Mail::in_maildir(self.reports.path());
        for mail in &mails {
            assert_eq!(mail.field("To").as_deref(), Some("<asker@origin.test>"));
        }
        let told = format!("{mails:?}{}", self.hoptrail.log());
        for member in 1..=6 {
            assert!(!told.contains(&format!("x{member}@")), "{told}");
        }
        assert!(!told.contains("listadm"), "{told}");
        for seen in self.next.transactions() {
            assert!(!seen.mail_from.contains("TRACK"), "{seen:?}");
            let lists = seen.mail_from.contains("listadm") || seen.mail_from.contains("owner-list");
            let asker = seen.mail_from.contains("asker@origin.test");
            assert!(lists || asker, "{seen:?}");
        }
        let all = [self.next.transactions(), self.store.transactions()].concat();
        for seen in all {
            assert_eq!(seen.mail().hoptrail_fields(), Vec::<String>::new());
        }
    }
}
