//! Mail that comes back to a hop, in a ring of real MTAs or as a resend, and mail that answers reports. In each case the
//! mail goes its way, what is told is true and little, and it stops by itself.

#![allow(clippy::expect_used)]

mod support;

use std::collections::HashSet;
use std::net::SocketAddrV4;
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use support::dialogue::Dialogue;
use support::dovecot::Dovecot;
use support::hop::{FROM, Hop, SENDER};
use support::hop_config::HopConfig;
use support::hoptrail::{Hoptrail, User};
use support::mail::{MESSAGE, Mail, Report, wire};
use support::mta::{Mta, Setup, start_all};
use support::net::{self, NextHop};
use support::sink::Sink;
use support::{PATIENCE, wait_until};

const RECIPIENT: &str = "bob@dest.test";
const SMALL: &[u8] = b"Message-ID: <m1@origin.test>\r\n\r\nx\r\n";
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
        let mut reports = self.wait_for_the_end(3);
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

    /// Waits until the message has come to its end, so many reports are there and nothing more is told; the reports.
    fn wait_for_the_end(&self, count: usize) -> Vec<Report> {
        let ended = "the reports and the MTA's own notice";
        let of_mta = |mail: &&Mail| mail.report().is_none();
        // Either may be the last: each takes a way of its own.
        wait_until(PATIENCE, ended, || {
            let mails = self.dovecot.mails("alice");
            let notices = mails.iter().filter(of_mta).count();
            let all = notices > 0 && mails.len() >= notices + count;
            all.then_some(()).ok_or_else(|| format!("{mails:?}"))
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

/// Everything that reaches alice is answered with a message that asks for tracking, until nothing more comes.
#[derive(Clone, Copy, Debug)]
enum Responder {
    /// As RFC 3834 wants it.
    Polite,
    /// With her own address as the reverse-path.
    Marked,
    /// As if she wrote it herself, and to the report's From.
    Rude,
}

impl Responder {
    fn answer(self, entrance: SocketAddrV4, mail: &Mail) {
        let (from, marks) = match self {
            Self::Polite => ("", "Auto-Submitted: auto-replied (vacation)\r\n"),
            Self::Marked => (SENDER, "auto-submitted:\r\n AUTO-REPLIED\r\n"),
            Self::Rude => (SENDER, ""),
        };
        let to = mail.field("From").expect("a sender");
        let (_, to) = to.rsplit_once('<').expect("an address in brackets");
        let to = to.trim_end_matches('>');
        let message =
            format!("From: <{SENDER}>\r\nTo: <{to}>\r\n{marks}Subject: I am away\r\n\r\nBye.\r\n");
        let mut client = Dialogue::open(entrance);
        client.command("EHLO responder.test", "250");
        client.command(&format!("MAIL FROM:<{from}> TRACK=NOW"), "250");
        client.command(&format!("RCPT TO:<{to}>"), "250");
        client.data(message.as_bytes());
        client.expect("250");
    }
}

/// Two hops in a row, and a responder at the mailbox of who sent.
#[test]
fn answers_to_reports_cause_nothing_or_stop_by_themselves() {
    let dovecot = Dovecot::start("store.origin.test", &["alice"]);
    let end = Sink::smtp().offer("8BITMIME").start();
    let (ingress, departure) = (HOSTS.map(|_| net::address()), HOSTS.map(|_| net::address()));
    let mtas = start_all([
        // The address that reports come from has its mailbox at its own hop.
        Mta::postfix(HOSTS[0])
            .route(HOSTS[0], end.next_hop())
            .next_hop(NextHop::Lmtp(departure[0])),
        Mta::exim(HOSTS[1])
            .route(HOSTS[1], end.next_hop())
            .next_hop(NextHop::Lmtp(departure[1])),
    ]);
    let onward = [NextHop::Smtp(ingress[1]), end.next_hop()];
    let _hoptrails = [0, 1].map(|hop| {
        let place = HopConfig {
            hostname: HOSTS[hop],
            mta: mtas[hop].address(),
            ingress: ingress[hop],
            departure: departure[hop],
            departure_role: "egress",
            onward: onward[hop],
            home: dovecot.lmtp(),
            via: format!("smtp://{}", ingress[hop]),
        };
        // Reports come in by the hop's own door, where all mail is tracked by rule.
        let everything = "track = [{ one_in = 1 }]\n[[listener]]\nrole = \"egress\"";
        Hoptrail::serve(
            &place
                .text()
                .replacen("[[listener]]\nrole = \"egress\"", everything, 1),
        )
    });
    let mut answered = HashSet::new();
    let (mut reports, mut sent) = (0, 0);
    for (responder, caused) in [
        (Responder::Polite, 0),
        (Responder::Marked, 0),
        // The answer to the second hop is not followed there, but by the first, whose report is answered too: that
        // one goes to the first hop, and is not followed at all.
        (Responder::Rude, 1),
    ] {
        User::stranger().send(ingress[0], SENDER, &[RECIPIENT], &wire(MESSAGE));
        let told = 2 + caused;
        (reports, sent) = (reports + told, sent + 1 + told);
        answer_all(&dovecot, reports, |mail| {
            if answered.insert(mail.field("Message-ID")) {
                responder.answer(ingress[0], mail);
            }
        });
        let came = end.wait_for(sent);
        assert_eq!(came.len(), sent, "{responder:?}: {came:?}");
        let answers = came
            .iter()
            .filter(|seen| seen.recipients[0].contains("<hoptrail@"));
        for answer in answers {
            let fields = answer.mail().hoptrail_fields();
            assert_eq!(fields, Vec::<String>::new(), "followed: {answer:?}");
        }
        let mails = dovecot.mails("alice");
        assert_eq!(mails.len(), reports, "{responder:?}: {mails:?}");
        assert!(
            mails.iter().all(|mail| mail.report().is_some()),
            "{mails:?}"
        );
    }
}

/// Shows `responder` all mails of alice, again and again until so many are there and no more come.
fn answer_all(dovecot: &Dovecot, count: usize, mut responder: impl FnMut(&Mail)) {
    let mut quiet = Instant::now();
    let mut seen = 0;
    let begun = Instant::now();
    while seen < count || quiet.elapsed() < SILENCE {
        let mails = dovecot.mails("alice");
        mails.iter().for_each(&mut responder);
        if mails.len() > seen {
            (seen, quiet) = (mails.len(), Instant::now());
        }
        assert!(begun.elapsed() < PATIENCE, "{seen} of {count}: {mails:?}");
        thread::sleep(Duration::from_millis(50));
    }
}

/// A user's filter at Exim that answers whatever comes.
#[test]
fn a_real_vacation_answers_people_and_no_report() {
    let host = "mx1.origin.test";
    let filter =
        "# Exim filter\nmail to $reply_address subject \"I am away\" text \"Back on Monday.\"\n";
    let dovecot = Dovecot::start("store.origin.test", &["alice"]);
    let NextHop::Lmtp(store) = dovecot.lmtp() else {
        panic!("a store speaks LMTP");
    };
    let (entrance, exit) = (net::address(), net::address());
    let end = Sink::smtp().offer("8BITMIME").start();
    let mta = Mta::exim(host)
        .home("origin.test", &[], store)
        .file("var/home/alice/.forward", filter)
        .next_hop(NextHop::Lmtp(exit))
        .start();
    let place = HopConfig {
        hostname: host,
        mta: mta.address(),
        ingress: entrance,
        departure: exit,
        departure_role: "egress",
        onward: end.next_hop(),
        home: end.next_hop(),
        via: format!("smtp://{entrance}"),
    };
    let _hoptrail = Hoptrail::serve(&place.text());
    // It is at work.
    let from_bob = format!("From: <{RECIPIENT}>\r\nSubject: Are you there?\r\n\r\nHello?\r\n");
    Dialogue::open(entrance).submit(RECIPIENT, &[SENDER], from_bob.as_bytes());
    let answer = end.wait_for(1).remove(0);
    assert!(answer.mail_from.starts_with("MAIL FROM:<>"), "{answer:?}");
    assert_eq!(
        answer.mail().field("Auto-Submitted").as_deref(),
        Some("auto-replied")
    );
    User::stranger().send(entrance, SENDER, &[RECIPIENT], &wire(MESSAGE));
    end.wait_for(2);
    dovecot.wait_for("alice", 2);
    thread::sleep(SILENCE);
    let mails = dovecot.wait_for("alice", 2);
    assert_eq!(
        mails.iter().filter_map(Mail::report).count(),
        1,
        "{mails:?}"
    );
    assert_eq!(end.transactions().len(), 2, "nobody answered the report");
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
    let sendmail = Mta::sendmail(second).setting("define(`confMAX_HOP', `12')dnl");
    Ring::of([Mta::opensmtpd(first), sendmail]).assert_told_once();
}

/// Asks for tracking so; what the MTA gets.
fn arrive(hop: &Hop, track: &str, to: &str) -> Vec<u8> {
    arrive_with(hop, track, &[to], SMALL)
}

fn arrive_with(hop: &Hop, track: &str, to: &[&str], message: &[u8]) -> Vec<u8> {
    let mail = format!("{FROM} {track}");
    hop.arrive_with(&mail, to, message).data
}

/// Asks for tracking so; whether the MTA got a carry header.
fn is_carried(hop: &Hop, track: &str, to: &str) -> bool {
    arrive(hop, track, to).starts_with(b"Hoptrail-Carry:")
}

/// The step that the next hop is told when the MTA hands on what came.
fn leave(hop: &Hop, data: &[u8]) -> String {
    let seen = hop.pass_on(&[RECIPIENT], data);
    let (_, up) = seen.mail_from.split_once(":up/").expect("a step");
    up[..16].to_owned()
}

/// The events of all reports, when there are so many and no more come, and the ring of a loop.
fn told(hop: &Hop, count: usize) -> (Vec<String>, String) {
    hop.wait_for_mails(count);
    thread::sleep(SILENCE);
    let reports: Vec<_> = hop.mails().iter().filter_map(Mail::report).collect();
    let event = |report: &Report| report.of_recipients("X-Hoptrail-Event").remove(0);
    let mut events: Vec<_> = reports.iter().map(event).collect();
    events.sort();
    let looped = reports.iter().find(|report| event(report) == "looped");
    let ring = looped.map(|report| report.field("X-Hoptrail-Ring"));
    (events, ring.unwrap_or_default())
}

/// A step as `via` has it.
fn via(step: &str) -> String {
    let step = u64::from_str_radix(step, 16).expect("hex digits");
    URL_SAFE_NO_PAD.encode(step.to_be_bytes())
}

#[test]
fn a_resend_is_no_loop() {
    let hop = Hop::tracking(Sink::smtp(), "");
    let track = "TRACK=NOW:hop/1:up/00000000000000aa ENVID=E1";
    for _ in 0..2 {
        leave(&hop, &arrive(&hop, track, RECIPIENT));
    }
    assert_eq!(told(&hop, 2).0, ["transferred"; 2]);
}

#[test]
fn only_the_same_message_to_the_same_recipient_comes_in_a_ring() {
    let hop = Hop::tracking(Sink::smtp(), "");
    let step = leave(&hop, &arrive(&hop, "TRACK=NOW ENVID=E1", RECIPIENT));
    let via = via(&step);
    for (why, track, to) in [
        (
            "another message",
            format!("TRACK=NOW:hop/1:up/{step} ENVID=E2"),
            RECIPIENT,
        ),
        (
            "a member of an alias",
            format!("TRACK=NOW:hop/1:up/{step} ENVID=E1"),
            "carol@dest.test",
        ),
        (
            "by way of another",
            format!("TRACK=NOW:hop/2:up/{step}:via/{via} ENVID=E1"),
            "dora@dest.test",
        ),
        (
            "somebody else's steps",
            "TRACK=NOW:hop/2:up/00000000000000aa:via/AAAAAAAAAKo ENVID=E1".to_owned(),
            RECIPIENT,
        ),
    ] {
        assert!(is_carried(&hop, &track, to), "{why}");
    }
    let far = format!("TRACK=NOW:hop/4:up/00000000000000aa:via/{via} ENVID=E1");
    let other = b"Message-ID: <m2@origin.test>\r\n\r\nx\r\n";
    let came = arrive_with(&hop, &far, &[RECIPIENT], other);
    assert!(came.starts_with(b"Hoptrail-Carry:"), "another Message-ID");
    // However often it comes.
    for to in [RECIPIENT, "Bob@Dest.test", RECIPIENT] {
        assert!(!is_carried(&hop, &far, to), "{to}");
    }
    let (events, ring) = told(&hop, 2);
    assert_eq!(events, ["looped", "transferred"]);
    assert_eq!(ring, "mx1.test sink.test * mx1.test");
}

/// Some have left by the egress, which takes the carry header off: who sends it again has a copy.
#[test]
fn only_who_has_not_left_comes_back_in_a_ring() {
    let mut hop = Hop::tracking(Sink::smtp(), "");
    let (carol, dora) = ("carol@dest.test", "dora@dest.test");
    let all = [RECIPIENT, carol, dora];
    let carried = arrive_with(&hop, "TRACK=NOW ENVID=E1", &all, SMALL);
    leave(&hop, &carried);
    for (to, told) in [
        (vec![RECIPIENT], 1),
        (vec![carol], 2),
        (vec![carol], 2),
        (vec![RECIPIENT, carol], 2),
    ] {
        let came = arrive_with(&hop, "", &to, &carried);
        assert_eq!(
            String::from_utf8_lossy(&came),
            String::from_utf8_lossy(SMALL)
        );
        hop.wait_for_mails(told);
    }
    hop.hoptrail.let_pass(60);
    assert_eq!(told(&hop, 3).0, ["held", "looped", "transferred"]);
    let reports: Vec<_> = hop.mails().iter().filter_map(Mail::report).collect();
    let named = |event| {
        let of = |report: &&Report| report.of_recipients("X-Hoptrail-Event") == [event];
        reports.iter().find(of).map(Report::final_recipients)
    };
    assert_eq!(named("looped"), Some(vec![carol.to_owned()]));
    assert_eq!(named("held"), Some(vec![dora.to_owned()]));
}

#[test]
fn a_request_that_has_passed_too_many_hops_ends_and_the_mail_does_not() {
    let hop = Hop::tracking(Sink::smtp(), "");
    assert!(is_carried(&hop, "TRACK=NOW:hop/24", RECIPIENT));
    assert!(!is_carried(&hop, "TRACK=NOW:hop/25", RECIPIENT));
    assert!(!is_carried(&hop, "TRACK=NOW:hop/3:max/3", RECIPIENT));
    assert_eq!(told(&hop, 0).0, Vec::<String>::new());
}

/// Hops with an ingress alone, which share a key: the carry header goes round with the mail.
#[test]
fn a_ring_of_hops_that_see_nothing_leave_is_told_once() {
    let sinks = HOSTS.map(|_| Sink::smtp().start());
    let reports = tempfile::tempdir().expect("a directory");
    let entrances = HOSTS.map(|_| net::address());
    let hops = [0, 1].map(|n| {
        Hoptrail::serve(&format!(
            "hostname = '{}'\nreports = {{ from = 'hoptrail@{}', via = 'maildir:{}' }}\n\
             [[listener]]\nrole = 'ingress'\nlisten = '{}'\nprotocol = 'smtp'\nnext_hop = '{}'\n",
            HOSTS[n],
            HOSTS[n],
            reports.path().display(),
            entrances[n],
            sinks[n].next_hop(),
        ))
    });
    let key = |hop: &Hoptrail| hop.state_dir().join("carry.keys");
    std::fs::copy(key(&hops[0]), key(&hops[1])).expect("a key can be shared");
    hops[1].reload();
    let mut data = SMALL.to_vec();
    for round in 0..3 {
        for n in [0, 1] {
            let mut relay = Dialogue::open(entrances[n]);
            relay.command("EHLO mta.test", "250");
            let track = if round + n == 0 { "TRACK=NOW" } else { "" };
            relay.command(&format!("MAIL FROM:<{SENDER}> {track}"), "250");
            relay.command(&format!("RCPT TO:<{RECIPIENT}>"), "250");
            relay.command("DATA", "354");
            relay.send([&data[..], b".\r\n"].concat());
            relay.expect("250");
            data = sinks[n].wait_for(round + 1).remove(round).data;
        }
    }
    assert_eq!(data, SMALL);
    let mails = || Mail::in_maildir(reports.path());
    wait_until(PATIENCE, "reports", || {
        if mails().len() >= 3 {
            Ok(())
        } else {
            Err(String::new())
        }
    });
    thread::sleep(SILENCE);
    let told: Vec<_> = mails().iter().filter_map(Mail::report).collect();
    let events = |report: &Report| report.of_recipients("X-Hoptrail-Event").remove(0);
    let mut events: Vec<_> = told.iter().map(events).collect();
    events.sort();
    assert_eq!(events, ["accepted", "accepted", "looped"]);
    let id = told[0].field("Original-Envelope-Id");
    let timeline = User::stranger().timeline_json(reports.path(), &id);
    let ring = serde_json::json!([HOSTS[0], HOSTS[1], HOSTS[0]]);
    assert_eq!(
        timeline["messages"][0]["hops"][2]["steps"][0]["ring"], ring,
        "{timeline:#}"
    );
}
