//! Mail that Postfix gives to a content filter behind its queue, and that comes back by way of hoptrail: declared as
//! what it is, or not.

#![allow(clippy::expect_used)]

mod support;

use std::net::SocketAddrV4;
use std::thread;
use std::time::Duration;

use support::dialogue::Dialogue;
use support::hoptrail::{Hoptrail, User};
use support::mail::{MESSAGE, Mail, Report, wire};
use support::mta::Mta;
use support::net::{self, NextHop};
use support::sink::{Sink, Transaction};
use support::{PATIENCE, wait_until};

const SENDER: &str = "alice@origin.test";
const RECIPIENT: &str = "bob@dest.test";
/// A hop would have told by then what it tells.
const SILENCE: Duration = Duration::from_secs(2);

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

/// A filter of its own standing, a hop itself, hands back with TRACK: that is no ring either.
#[test]
fn what_a_filter_that_tracks_hands_back_is_tracked_on() {
    let hop = Filtered::declared("content_filter = true");
    hop.send(&User::stranger());
    let report = hop.report();
    let (id, step) = (
        report.field("Original-Envelope-Id"),
        report.field("X-Hoptrail-Step"),
    );
    let mut filter = Dialogue::open(hop.back);
    filter.command("EHLO filter.test", "250");
    let track = format!("TRACK=NOW:hop/1:up/{step} ENVID={id}");
    filter.command(
        &format!("MAIL FROM:<{SENDER}> BODY=8BITMIME {track}"),
        "250",
    );
    filter.command(&format!("RCPT TO:<{RECIPIENT}>"), "250");
    filter.data(&wire(MESSAGE));
    filter.expect("250");
    let left = hop.next.wait_for(2).remove(1);
    assert!(left.mail_from.contains("TRACK=NOW:"), "{left:?}");
    assert!(left.mail_from.contains(":hop/2:"), "{left:?}");
    let log = hop.hoptrail.log();
    assert!(!log.contains("back at this hop"), "{log}");
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
