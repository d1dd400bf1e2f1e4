//! The main job on real MTAs: three hops, hoptrail around each, reports that travel back by mail.
//!
//! ```text
//! hoptrail send ─▶ [ingress ▶ Postfix ▶ egress] ─▶ [ingress ▶ Exim ▶ egress] ─▶ [ingress ▶ Postfix ▶ delivery] ─▶ Dovecot
//!                            └───────── reports ────────────┴──────────────────────────────┴─▶ Dovecot (alice)
//! ```
//!
//! And the four MTAs in one chain. A hop's reports leave through its own MTA and its own egress.

#![allow(clippy::expect_used)]

mod support;

use std::net::SocketAddrV4;
use std::thread;
use std::time::{Duration, Instant};

use support::dialogue::Dialogue;
use support::dovecot::Dovecot;
use support::hop_config::HopConfig;
use support::hoptrail::{Hoptrail, User, said};
use support::mail::{MESSAGE, Mail, Report, behind_type, wire};
use support::mta::{Mta, Setup, start_all};
use support::net::{self, NextHop};
use support::{PATIENCE, measured, wait_until};

const HOPS: [&str; 3] = ["mx1.origin.test", "mx2.middle.test", "mx3.dest.test"];
const FOUR: [&str; 4] = [
    "mx1.origin.test",
    "mx2.exim.test",
    "mx3.sendmail.test",
    "mx4.dest.test",
];
const SENDER: &str = "alice@origin.test";
const RECIPIENTS: [&str; 2] = ["bob@dest.test", "carol@dest.test"];
const ONE_EACH: [(&str, usize); 2] = [("bob", 1), ("carol", 1)];

#[test]
fn every_hop_reports_a_tracked_message_once() {
    let chain = Chain::of_three(Middle::Equipped);
    chain.assert_reported_once("250 at submission to the complete timeline, three real hops");
}

#[test]
fn all_four_mtas_report_in_one_chain() {
    let [first, second, third, last] = FOUR;
    let chain = Chain::start(
        [
            (Mta::postfix(first), first),
            (Mta::exim(second), second),
            (Mta::sendmail(third), third),
            (Mta::opensmtpd(last), last),
        ],
        Middle::Equipped,
    );
    chain.assert_reported_once("250 at submission to the complete timeline, four real MTAs");
}

/// An Exim as it comes announces no DSN, so the ingress in front of it takes no ENVID: the id goes on in the request.
#[test]
fn an_mta_without_dsn_loses_no_tracking_id() {
    let [first, second, last] = HOPS;
    let chain = Chain::start(
        [
            (Mta::postfix(first), first),
            (Mta::exim(second).without_dsn(), second),
            (Mta::postfix(last).local_domain("dest.test"), last),
        ],
        Middle::Equipped,
    );
    chain.assert_reported_once("the same, the second hop an Exim without DSN");
}

#[test]
fn an_untracked_message_leaves_no_trace() {
    let chain = Chain::of_three(Middle::Equipped);
    Dialogue::open(chain.entrance).submit(SENDER, &RECIPIENTS, &wire(MESSAGE));
    chain.assert_delivered_unchanged(ONE_EACH);
    // A tracked one behind it, to bob alone: when its reports are there, those of the first would be too.
    chain
        .alice
        .send(chain.entrance, SENDER, &RECIPIENTS[..1], &wire(MESSAGE));
    let of_second = |report: &Report| report.final_recipients() == RECIPIENTS[..1];
    wait_until(PATIENCE, "three reports about the second message", || {
        let reports = chain.reports();
        if reports.iter().filter(|report| of_second(report)).count() < 3 {
            return Err(format!("{reports:?}"));
        }
        Ok(())
    });
    chain.wait_for_reports(3);
    chain.assert_delivered_unchanged([("bob", 2), ("carol", 1)]);
}

#[test]
fn knowledge_ends_at_a_hop_without_hoptrail() {
    let chain = Chain::of_three(Middle::Bare);
    chain
        .alice
        .send(chain.entrance, SENDER, &RECIPIENTS, &wire(MESSAGE));
    let submitted = Instant::now();
    let report = chain.wait_for_reports(1).remove(0);
    let id = report.field("Original-Envelope-Id");
    let timeline = chain.alice.timeline_json(&chain.maildir(), &id);
    measured(
        "250 at submission to the complete timeline, second hop without hoptrail",
        format_args!("{} ms", submitted.elapsed().as_millis()),
    );
    assert_eq!(report.reporting_mta(), HOPS[0]);
    assert_eq!(report.final_recipients(), RECIPIENTS);
    for (field, value) in [
        ("X-Hoptrail-Event", "relayed"),
        ("Action", "relayed"),
        ("Status", "2.1.9"),
    ] {
        assert_eq!(report.of_recipients(field), [value; 2], "{field}");
    }
    let remote = report.of_recipients("Remote-MTA");
    assert_eq!(behind_type(&remote[0]), HOPS[1]);
    assert_complete(&timeline, &[report]);
    let output = chain.alice.timeline(&chain.maildir(), Some(&id));
    let text = String::from_utf8_lossy(&output.stdout);
    for word in [HOPS[0], HOPS[1], "relayed"] {
        assert!(text.contains(word), "no {word} in:\n{text}");
    }
    // The mail itself goes on, through a third hop that knows of no request.
    chain.assert_delivered_unchanged(ONE_EACH);
    chain.wait_for_reports(1);
}

#[derive(Clone, Copy)]
enum Middle {
    /// hoptrail stands around the second hop too.
    Equipped,
    /// The second hop is an Exim and nothing else.
    Bare,
}

/// The running chain. Fields drop in this order: hoptrail first, the store last.
struct Chain {
    alice: User,
    hosts: Vec<&'static str>,
    entrance: SocketAddrV4,
    _hoptrails: Vec<Hoptrail>,
    _mtas: Vec<Mta>,
    dovecot: Dovecot,
}

impl Chain {
    fn of_three(middle: Middle) -> Self {
        let [first, second, last] = HOPS;
        let setups = [
            (Mta::postfix(first), first),
            (Mta::exim(second), second),
            (Mta::postfix(last).local_domain("dest.test"), last),
        ];
        Self::start(setups, middle)
    }

    fn start<const N: usize>(setups: [(Setup, &'static str); N], middle: Middle) -> Self {
        let dovecot = Dovecot::start("store.dest.test", &["alice", "bob", "carol"]);
        let hosts = setups.each_ref().map(|(_, host)| *host);
        let ingress = hosts.map(|_| net::address());
        let departure = hosts.map(|_| net::address());
        let is_bare = |hop: usize| hop == 1 && matches!(middle, Middle::Bare);
        let mut hop = 0..N;
        let mtas = start_all(setups.map(|(setup, _)| {
            let hop = hop.next().expect("one for each");
            setup.next_hop(if is_bare(hop) {
                NextHop::Smtp(ingress[hop + 1])
            } else {
                NextHop::Lmtp(departure[hop])
            })
        }));
        let onward = |hop: usize| match hop + 1 {
            next if next == N => dovecot.lmtp(),
            next if is_bare(next) => NextHop::Smtp(mtas[next].address()),
            next => NextHop::Smtp(ingress[next]),
        };
        let hoptrails = (0..N).filter(|hop| !is_bare(*hop)).map(|hop| {
            let mta = mtas[hop].address();
            let place = HopConfig {
                hostname: hosts[hop],
                mta,
                ingress: ingress[hop],
                departure: departure[hop],
                departure_role: if hop + 1 == N { "delivery" } else { "egress" },
                onward: onward(hop),
                home: dovecot.lmtp(),
                via: format!("smtp://{mta}"),
            };
            Hoptrail::serve(&place.text())
        });
        Self {
            alice: User::stranger(),
            hosts: hosts.to_vec(),
            entrance: ingress[0],
            _hoptrails: hoptrails.collect(),
            _mtas: mtas.into(),
            dovecot,
        }
    }

    /// Sends a message: each hop reports it once, and out of that comes a whole and proved timeline.
    fn assert_reported_once(&self, what: &str) {
        let hops = self.hosts.len();
        self.alice
            .send(self.entrance, SENDER, &RECIPIENTS, &wire(MESSAGE));
        let submitted = Instant::now();
        let reports = self.wait_for_reports(hops);
        let id = reports[0].field("Original-Envelope-Id");
        let timeline = self.alice.timeline_json(&self.maildir(), &id);
        measured(what, format_args!("{} ms", submitted.elapsed().as_millis()));
        let octets: usize = self.dovecot.mails("alice").iter().map(Mail::octets).sum();
        measured(
            &format!(
                "reports on a message of {} octets to 2 recipients over {hops} hops",
                MESSAGE.len()
            ),
            format_args!(
                "{} mails, {octets} octets with their trace fields",
                reports.len()
            ),
        );

        for (hop, (report, host)) in reports.iter().zip(&self.hosts).enumerate() {
            let event = if hop + 1 == hops {
                "delivered"
            } else {
                "transferred"
            };
            assert_eq!(report.reporting_mta(), *host);
            assert_eq!(report.field("Original-Envelope-Id"), id);
            assert_eq!(report.final_recipients(), RECIPIENTS);
            assert_eq!(report.of_recipients("X-Hoptrail-Event"), [event; 2]);
            assert_eq!(report.of_recipients("Action"), [event; 2]);
        }
        assert_linked(&reports);
        self.assert_delivered_unchanged(ONE_EACH);
        self.assert_queue_ids(&reports);

        assert_complete(&timeline, &reports);
        let text = said(&self.alice.timeline(&self.maildir(), Some(&id)));
        for word in self.hosts.iter().chain(&RECIPIENTS) {
            assert!(text.contains(word), "no {word} in:\n{text}");
        }
        // What came once must not come again.
        thread::sleep(Duration::from_millis(1500));
        self.wait_for_reports(hops);
        self.assert_delivered_unchanged(ONE_EACH);
    }

    /// Each hop tells the queue id that its own MTA wrote into the mail, and the hop before read it in the reply.
    fn assert_queue_ids(&self, reports: &[Report]) {
        let mail = self.dovecot.wait_for("bob", 1).remove(0);
        let trace = mail.header();
        for (hop, report) in reports.iter().enumerate() {
            let id = report.field("X-Hoptrail-Queue-Id");
            let by = format!("by {} ", report.reporting_mta());
            let of_hop =
                |(name, value): &&(String, String)| name == "Received" && value.contains(&by);
            let (_, field) = trace.iter().find(of_hop).expect("its trace field");
            assert!(field.contains(&id), "no {id} in {field}");
            if let Some(before) = hop.checked_sub(1) {
                assert_eq!(
                    reports[before].of_recipients("X-Hoptrail-Queue-Id"),
                    [id.as_str(); 2]
                );
            }
        }
    }

    fn maildir(&self) -> std::path::PathBuf {
        self.dovecot.maildir("alice")
    }

    /// All mails to alice, which must be reports, along the chain.
    fn reports(&self) -> Vec<Report> {
        let report = |mail: &Mail| {
            let report = mail.report();
            report.unwrap_or_else(|| panic!("no report, but {mail:?}"))
        };
        let mut reports: Vec<Report> = self.dovecot.mails("alice").iter().map(report).collect();
        reports.sort_by_key(Report::reporting_mta);
        reports
    }

    /// Waits for that many reports and gives them; more are a failure.
    fn wait_for_reports(&self, count: usize) -> Vec<Report> {
        self.dovecot.wait_for("alice", count);
        self.reports()
    }

    /// The users have that many copies, each what was sent below the trace headers.
    fn assert_delivered_unchanged(&self, expected: [(&str, usize); 2]) {
        for (user, copies) in expected {
            for mail in self.dovecot.wait_for(user, copies) {
                assert_eq!(mail.hoptrail_fields(), Vec::<String>::new(), "{mail:?}");
                assert!(mail.below_trace() == MESSAGE, "changed: {mail:?}");
                for host in &self.hosts {
                    assert!(mail.passed(host), "not by way of {host}: {mail:?}");
                }
            }
        }
    }
}

/// Each report is a step of its own, one hop further than the one before, and names that as its parent.
fn assert_linked(reports: &[Report]) {
    let number = |report: &Report| {
        let hop = report.field("X-Hoptrail-Hop");
        hop.parse::<u32>().unwrap_or_else(|_| panic!("hop {hop}"))
    };
    for pair in reports.windows(2) {
        let [before, after] = pair else { continue };
        assert_eq!(
            after.field("X-Hoptrail-Parent"),
            before.field("X-Hoptrail-Step")
        );
        assert_eq!(number(after), number(before) + 1);
    }
}

/// The timeline holds every step that was reported, every recipient, and no step it could not verify.
fn assert_complete(timeline: &serde_json::Value, reports: &[Report]) {
    let text = timeline.to_string();
    for report in reports {
        let step = report.field("X-Hoptrail-Step");
        for word in [&step, &report.reporting_mta()] {
            assert!(text.contains(word.as_str()), "no {word} in {timeline:#}");
        }
    }
    for recipient in RECIPIENTS {
        assert!(text.contains(recipient), "no {recipient} in {timeline:#}");
    }
    let message = &timeline["messages"][0];
    assert_eq!(message["truth"], "verified", "{timeline:#}");
    assert_eq!(message["unproved"], 0, "{timeline:#}");
    let hops = message["hops"].as_array().expect("hops");
    assert_eq!(
        hops.len(),
        reports.len(),
        "no hop is missing or doubled: {timeline:#}"
    );
    for hop in hops {
        assert_eq!(hop["missing"], false, "{timeline:#}");
        // One machine, one clock: whether by DATA or in chunks, no stamp says otherwise.
        let bound = |end: &str| hop["clock"]["offset"][end].as_i64().expect("a known clock");
        assert!(
            bound("low_us") <= 0 && bound("high_us") >= 0,
            "{timeline:#}"
        );
        assert_eq!(
            hop["steps"].as_array().map(Vec::len),
            Some(1),
            "{timeline:#}"
        );
    }
}
