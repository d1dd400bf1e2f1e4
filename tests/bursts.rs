//! A message for many that its MTA sends out in parts: however many transactions that takes, its sender gets one mail
//! for what happens at one time.

#![allow(clippy::expect_used)]

mod support;

use std::collections::BTreeSet;
use std::net::SocketAddrV4;
use std::ops::Range;
use std::time::Instant;

use support::dialogue::Dialogue;
use support::hoptrail::{Hoptrail, User};
use support::mail::{Mail, Report};
use support::mta::Mta;
use support::net::{self, NextHop};
use support::sink::Sink;
use support::{PATIENCE, wait_until};

const RECIPIENTS: usize = 100;
const MESSAGE: &[u8] = b"Message-ID: <m1@origin.test>\r\nSubject: x\r\n\r\nlast\r\n";

fn recipient(number: usize) -> String {
    format!("user{number}@dest.test")
}

/// A hop whose egress speaks SMTP, which takes one recipient a transaction.
struct Hop {
    _hoptrail: Hoptrail,
    entrance: SocketAddrV4,
    next: Sink,
    reports: tempfile::TempDir,
}

impl Hop {
    fn around(mta: NextHop, exit: SocketAddrV4) -> Self {
        let next = Sink::smtp()
            .offer("TRACK NOW")
            .once("RCPT TO:<user42@", "550 5.1.1 no such user")
            .start();
        let reports = tempfile::tempdir().expect("a temporary directory");
        let entrance = net::address();
        let hoptrail = Hoptrail::serve(&format!(
            "hostname = 'mx1.test'\n\
             reports = {{ from = 'hoptrail@mx1.test', via = 'maildir:{}' }}\n\
             policy = {{ allow = ['127.0.0.0/8'], trusted_reports_per_hour_max = 20 }}\n\
             [[listener]]\nrole = 'ingress'\nlisten = '{entrance}'\nprotocol = 'smtp'\nnext_hop = '{mta}'\n\
             [[listener]]\nrole = 'egress'\nlisten = '{exit}'\nprotocol = 'smtp'\nnext_hop = '{}'\n",
            reports.path().display(),
            next.next_hop(),
        ));
        Self {
            _hoptrail: hoptrail,
            entrance,
            next,
            reports,
        }
    }

    fn submit(&self) {
        let mut client = Dialogue::open(self.entrance);
        client.command("EHLO client.test", "250");
        client.command("MAIL FROM:<alice@origin.test> TRACK=NOW ENVID=E1", "250");
        for number in 0..RECIPIENTS {
            client.command(&format!("RCPT TO:<{}>", recipient(number)), "250");
        }
        client.data(MESSAGE);
        client.expect("250");
    }

    /// The reports, once they tell of everybody.
    fn told(&self) -> Vec<Report> {
        wait_until(PATIENCE, "everybody is told of", || {
            let mails = Mail::in_maildir(self.reports.path());
            let told: Vec<_> = mails.iter().filter_map(Mail::report).collect();
            let recipients: usize = told.iter().map(|r| r.final_recipients().len()).sum();
            if recipients == RECIPIENTS {
                Ok(told)
            } else {
                Err(format!("{recipients} recipients in {} mails", told.len()))
            }
        })
    }

    /// The reader knows each part by itself: what its next hop would report names the part it came from.
    fn assert_whole_trail(&self) {
        let seen = self.next.transactions();
        let handed: BTreeSet<&str> = seen
            .iter()
            .filter_map(|seen| seen.mail_from.split(":up/").nth(1)?.get(..16))
            .collect();
        assert_eq!(handed.len(), RECIPIENTS - 1);
        let trail = User::stranger().timeline_json(self.reports.path(), "E1");
        let trail = trail.to_string();
        for step in &handed {
            assert!(trail.contains(step), "{step}: {trail}");
        }
        for number in 0..RECIPIENTS {
            assert!(trail.contains(&recipient(number)), "{number}: {trail}");
        }
    }
}

/// Hands a message on by SMTP, as an MTA.
fn leave(exit: SocketAddrV4, carried: &[u8], recipients: Range<usize>) {
    let mut mta = Dialogue::open(exit);
    mta.command("EHLO mta.test", "250");
    for number in recipients {
        mta.command("MAIL FROM:<alice@origin.test>", "250");
        mta.command(&format!("RCPT TO:<{}>", recipient(number)), "250");
        mta.command("DATA", "354");
        mta.send([carried, b".\r\n"].concat());
        mta.reply();
    }
}

/// One mail of the recipient that failed, and one of all others in each second that it took: so long parts wait for
/// one another.
fn assert_few(told: &[Report], begun: Instant) {
    let seconds = begun.elapsed().as_secs();
    let mails = told.len() as u64;
    assert!((2..=2 + seconds).contains(&mails), "{mails} in {seconds} s");
}

#[test]
fn a_hundred_parts_are_one_mail_for_each_event() {
    let (mta, exit) = (Sink::smtp().start(), net::address());
    let hop = Hop::around(mta.next_hop(), exit);
    hop.submit();
    let carried = mta.wait_for(1)[0].data.clone();
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for from in (0..RECIPIENTS).step_by(10) {
            let carried = &carried;
            scope.spawn(move || leave(exit, carried, from..from + 10));
        }
    });
    let told = hop.told();
    assert_few(&told, begun);
    support::measured("mails for 100 parts of a message, two events", told.len());
    let failed: Vec<_> = told
        .iter()
        .filter(|report| {
            report
                .of_recipients("X-Hoptrail-Event")
                .contains(&"failed".to_owned())
        })
        .collect();
    assert_eq!(failed.len(), 1);
    assert_eq!(failed[0].final_recipients(), [recipient(42)]);
    hop.assert_whole_trail();
}

#[test]
fn a_real_mta_that_sends_one_recipient_at_a_time_makes_few_mails() {
    let exit = net::address();
    let mta = Mta::postfix("mx1.test")
        .next_hop(NextHop::Smtp(exit))
        .setting("smtp_destination_recipient_limit = 1")
        .start();
    let hop = Hop::around(NextHop::Smtp(mta.address()), exit);
    let begun = Instant::now();
    hop.submit();
    let told = hop.told();
    support::measured(
        "mails for 100 recipients one by one from Postfix, two events",
        told.len(),
    );
    assert_few(&told, begun);
    hop.assert_whole_trail();
}
