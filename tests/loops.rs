//! Mail that comes back to a hop: in a ring of real MTAs, from a content filter, as a resend, as a replay; and mail
//! that answers reports. In each case the mail goes its way, what is told is true and little, and it stops by itself.

#![allow(clippy::expect_used)]

mod support;

use std::net::SocketAddrV4;
use std::thread;
use std::time::Duration;

use support::dialogue::Dialogue;
use support::dovecot::Dovecot;
use support::hop_config::HopConfig;
use support::hoptrail::{Hoptrail, User};
use support::mail::{MESSAGE, Mail, Report, wire};
use support::mta::{Mta, Setup, start_all};
use support::net::{self, NextHop};
use support::sink::{Sink, Transaction};
use support::{PATIENCE, wait_until};

const SENDER: &str = "alice@origin.test";
const RECIPIENT: &str = "bob@dest.test";
/// A hop would have told by then what it tells.
const SILENCE: Duration = Duration::from_secs(2);

/// Two hops that give each other whatever is not for origin.test.
struct Ring {
    alice: User,
    entrance: SocketAddrV4,
    _hoptrails: [Hoptrail; 2],
    _mtas: [Mta; 2],
    dovecot: Dovecot,
}

const HOSTS: [&str; 2] = ["mx1.ring.test", "mx2.ring.test"];

impl Ring {
    fn of(setups: [Setup; 2]) -> Self {
        let dovecot = Dovecot::start("store.origin.test", &["alice"]);
        let (ingress, departure) = (HOSTS.map(|_| net::address()), HOSTS.map(|_| net::address()));
        let [first, second] = setups;
        let mtas = start_all([
            first.next_hop(NextHop::Lmtp(departure[0])),
            second.next_hop(NextHop::Lmtp(departure[1])),
        ]);
        let hoptrails = [0, 1].map(|hop| {
            let mta = mtas[hop].address();
            let place = HopConfig {
                hostname: HOSTS[hop],
                mta,
                ingress: ingress[hop],
                departure: departure[hop],
                departure_role: "egress",
                onward: NextHop::Smtp(ingress[1 - hop]),
                home: dovecot.lmtp(),
                via: format!("smtp://{mta}"),
            };
            Hoptrail::serve(&place.text())
        });
        Self {
            alice: User::stranger(),
            entrance: ingress[0],
            _hoptrails: hoptrails,
            _mtas: mtas,
            dovecot,
        }
    }

    /// What is told of a message that goes round until an MTA's own count of hops ends it.
    fn assert_told_once(&self) {
        self.alice
            .send(self.entrance, SENDER, &[RECIPIENT], &wire(MESSAGE));
        let mut reports = self.wait_for_the_end();
        reports.sort_by_key(|report| report.field("X-Hoptrail-Hop"));
        let told: Vec<_> = reports
            .iter()
            .map(|report| {
                let event = report.of_recipients("X-Hoptrail-Event").remove(0);
                (report.reporting_mta(), event)
            })
            .collect();
        let expected = [
            (HOSTS[0], "transferred"),
            (HOSTS[1], "transferred"),
            (HOSTS[0], "looped"),
        ];
        let expected = expected.map(|(host, event)| (host.to_owned(), event.to_owned()));
        assert_eq!(told, expected);
        let [first, second, last] = &reports[..] else {
            panic!("three reports: {reports:?}");
        };
        let ring = [HOSTS[0], HOSTS[1], HOSTS[0]];
        assert_eq!(last.field("X-Hoptrail-Ring"), ring.join(" "));
        assert_eq!(last.of_recipients("Action"), ["delayed"]);
        assert_eq!(last.of_recipients("Status"), ["4.4.6"]);
        for (before, after) in [(first, second), (second, last)] {
            let step = before.field("X-Hoptrail-Step");
            assert_eq!(after.field("X-Hoptrail-Parent"), step);
        }
        self.assert_shown(&last.field("Original-Envelope-Id"));
    }

    /// Waits until the message has come to its end and nothing more is told; the reports.
    fn wait_for_the_end(&self) -> Vec<Report> {
        let ended = "the MTA's own notice";
        let of_mta = |mail: &&Mail| mail.report().is_none();
        wait_until(PATIENCE, ended, || {
            let mails = self.dovecot.mails("alice");
            let notice = mails.iter().find(of_mta);
            notice.map(|_| ()).ok_or_else(|| format!("{mails:?}"))
        });
        let before = self.dovecot.mails("alice").len();
        thread::sleep(SILENCE);
        let mails = self.dovecot.mails("alice");
        assert_eq!(mails.len(), before, "something was still told: {mails:?}");
        let notices: Vec<_> = mails.iter().filter(of_mta).collect();
        assert_eq!(notices.len(), 1, "{notices:?}");
        let text = format!("{:?}", notices[0]);
        assert!(!text.contains("kid="), "a carry header came back: {text}");
        mails.iter().filter_map(Mail::report).collect()
    }

    fn assert_shown(&self, id: &str) {
        let maildir = self.dovecot.maildir("alice");
        let timeline = self.alice.timeline_json(&maildir, id);
        let message = &timeline["messages"][0];
        assert_eq!(message["truth"], "verified", "{timeline:#}");
        assert_eq!(message["recipients"][0]["state"], "looped", "{timeline:#}");
        let hops = message["hops"].as_array().expect("hops");
        assert_eq!(hops.len(), 3, "{timeline:#}");
        let ring = serde_json::json!([HOSTS[0], HOSTS[1], HOSTS[0]]);
        assert_eq!(hops[2]["steps"][0]["ring"], ring, "{timeline:#}");
        let output = self.alice.timeline(&maildir, Some(id));
        let text = String::from_utf8_lossy(&output.stdout);
        let drawn = [HOSTS[0], HOSTS[1], HOSTS[0]].join(" → ");
        let unbroken = text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(unbroken.contains(&drawn), "no ring in:\n{text}");
        assert_eq!(output.status.code(), Some(1), "nobody can say: {text}");
    }
}

#[test]
fn a_ring_of_postfix_and_exim_is_told_once() {
    let [first, second] = HOSTS;
    let postfix = Mta::postfix(first).setting("hopcount_limit = 12");
    Ring::of([postfix, Mta::exim(second)]).assert_told_once();
}

#[test]
fn a_ring_of_opensmtpd_and_sendmail_is_told_once() {
    let [first, second] = HOSTS;
    Ring::of([Mta::opensmtpd(first), Mta::sendmail(second)]).assert_told_once();
}

/// A Postfix with a content filter behind its queue, which hands back by way of hoptrail. The test is the filter.
struct Filtered {
    hoptrail: Hoptrail,
    entrance: SocketAddrV4,
    back: SocketAddrV4,
    _mta: Mta,
    filter: Sink,
    next: Sink,
    reports: tempfile::TempDir,
}

/// How long the filter looks at a message.
const LOOK: Duration = Duration::from_millis(400);

impl Filtered {
    /// With these lines in the listener that the filter hands back to.
    fn declared(as_what: &str) -> Self {
        let [entrance, back, second, exit] = [(); 4].map(|()| net::address());
        let filter = Sink::smtp().offer("8BITMIME").offer("DSN").start();
        let next = Sink::smtp().offer("TRACK NOW").offer("8BITMIME").start();
        let mta = Mta::postfix("mx1.filter.test")
            .next_hop(NextHop::Lmtp(exit))
            .setting(&format!(
                "content_filter = smtp:[{}]:{}",
                filter.address().ip(),
                filter.address().port()
            ))
            .service(&format!(
                "{second} inet n - n - - smtpd\n  -o content_filter="
            ))
            .start();
        let reports = tempfile::tempdir().expect("a directory");
        let ingress = |listen, next_hop, more: &str| {
            format!(
                "[[listener]]\nrole = 'ingress'\nlisten = '{listen}'\nprotocol = 'smtp'\n\
                 next_hop = 'smtp://{next_hop}'\n{more}\n"
            )
        };
        let hoptrail = Hoptrail::serve(&format!(
            "hostname = 'mx1.filter.test'\n\
             [reports]\nfrom = 'hoptrail@mx1.filter.test'\nvia = 'maildir:{}'\n{}{}\
             [[listener]]\nrole = 'egress'\nlisten = '{exit}'\nprotocol = 'lmtp'\nnext_hop = '{}'\n",
            reports.path().display(),
            ingress(entrance, mta.address(), ""),
            ingress(back, second, as_what),
            next.next_hop(),
        ));
        Self {
            hoptrail,
            entrance,
            back,
            _mta: mta,
            filter,
            next,
            reports,
        }
    }

    /// Sends a message through all of it; as the next hop got it.
    fn send(&self, alice: &User) -> Transaction {
        alice.send(self.entrance, SENDER, &[RECIPIENT], &wire(MESSAGE));
        let had = self.filter.wait_for(1).remove(0);
        thread::sleep(LOOK);
        let mut filter = Dialogue::open(self.back);
        filter.command("EHLO filter.test", "250");
        filter.command(&format!("MAIL FROM:<{SENDER}> BODY=8BITMIME"), "250");
        filter.command(&format!("RCPT TO:<{RECIPIENT}>"), "250");
        filter.command("DATA", "354");
        filter.send([b"X-Filter: seen\r\n", &had.data[..], b".\r\n"].concat());
        filter.expect("250");
        let left = self.next.wait_for(1).remove(0);
        assert_eq!(
            left.mail().hoptrail_fields(),
            Vec::<String>::new(),
            "{left:?}"
        );
        let text = String::from_utf8_lossy(&left.data).into_owned();
        assert!(text.contains("X-Filter: seen\r\n"), "{left:?}");
        assert!(
            wire(left.mail().below_trace()).ends_with(&wire(MESSAGE)),
            "{left:?}"
        );
        left
    }

    /// The only report there will be.
    fn report(&self) -> Report {
        wait_until(PATIENCE, "a report", || {
            let mails = Mail::in_maildir(self.reports.path());
            mails.first().map(|_| ()).ok_or(String::new())
        });
        thread::sleep(SILENCE);
        let mut mails = Mail::in_maildir(self.reports.path());
        assert_eq!(mails.len(), 1, "{mails:?}");
        mails.remove(0).report().expect("a report")
    }
}

#[test]
fn what_a_declared_content_filter_hands_back_is_tracked_on() {
    let hop = Filtered::declared("content_filter = true");
    let alice = User::stranger();
    let left = hop.send(&alice);
    let report = hop.report();
    assert_eq!(report.of_recipients("X-Hoptrail-Event"), ["transferred"]);
    assert_eq!(report.field("X-Hoptrail-Hop"), "1");
    let up = format!(":up/{}", report.field("X-Hoptrail-Step"));
    assert!(
        left.mail_from.contains(&up),
        "the same at the next hop: {left:?}"
    );
    let us = |field: &str| report.field(field).parse::<i64>().expect("a time");
    let (came_us, back_us) = (us("X-Hoptrail-Arrived"), us("X-Hoptrail-Filtered"));
    let left_us = report.of_recipients("X-Hoptrail-Attempted").remove(0);
    let look_us = i64::try_from(LOOK.as_micros()).expect("short");
    assert!(back_us - came_us >= look_us, "{report:?}");
    assert!(
        left_us.parse::<i64>().expect("a time") >= back_us,
        "{report:?}"
    );
    let id = report.field("Original-Envelope-Id");
    let timeline = alice.timeline_json(hop.reports.path(), &id);
    let step = &timeline["messages"][0]["hops"][0]["steps"][0];
    assert!(step["filter_us"].as_i64() >= Some(look_us), "{timeline:#}");
    let shown = alice.timeline(hop.reports.path(), Some(&id));
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(
        shown.contains("back from the content filter after"),
        "{shown}"
    );
}

#[test]
fn what_comes_back_undeclared_is_told_as_a_ring_and_passes() {
    let hop = Filtered::declared("");
    let left = hop.send(&User::stranger());
    assert!(!left.mail_from.contains("TRACK"), "{left:?}");
    let report = hop.report();
    assert_eq!(report.of_recipients("X-Hoptrail-Event"), ["looped"]);
    assert_eq!(
        report.field("X-Hoptrail-Ring"),
        "mx1.filter.test * mx1.filter.test"
    );
    let log = hop.hoptrail.log();
    assert!(
        log.contains("back at this hop: followed no further"),
        "{log}"
    );
}
