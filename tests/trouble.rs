//! What can go wrong at a next hop, at every stage, with each of the four MTAs in front of it: who asked hears of it at
//! once, for each recipient, in the peer's own words; then of the success. No attempt is told twice.

#![allow(clippy::expect_used)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs::{self, DirEntry};
use std::net::SocketAddrV4;
use std::path::Path;
use std::thread;
use std::time::Duration;

use support::dialogue::Dialogue;
use support::hoptrail::Hoptrail;
use support::mail::{MESSAGE, Mail, Report, behind_type, wire};
use support::mta::{Mta, SCHEDULE, Setup};
use support::net::{self, NextHop};
use support::sink::{Script, Sink};
use support::{PATIENCE, wait_until};

const RELAYED: &str = "relayed 2.1.9 250 2.0.0 ok, taken";

/// A next hop, by its name and domain: at which stage it says what, once if that is a 4yz; and the words of its first report.
const TROUBLE: [(&str, &str, &str, &str); 12] = [
    (
        "busy",
        "CONNECT",
        "421 4.3.2 busy",
        "delayed 4.3.2 421 4.3.2 busy",
    ),
    (
        "mail",
        "MAIL",
        "451 4.3.0 no mail now",
        "delayed 4.3.0 451 4.3.0 no mail now",
    ),
    (
        "greylist",
        "RCPT",
        "450 4.7.1 come back",
        "delayed 4.7.1 450 4.7.1 come back",
    ),
    (
        "data",
        "DATA",
        "451 4.3.5 no data now",
        "delayed 4.3.5 451 4.3.5 no data now",
    ),
    (
        "full",
        "DOT",
        "452 4.3.1 disk full",
        "delayed 4.3.1 452 4.3.1 disk full",
    ),
    (
        "cut",
        "DOT",
        "close",
        "delayed 4.4.2 451 4.4.2 connection to the next hop lost",
    ),
    (
        "cut-early",
        "MAIL",
        "close",
        "delayed 4.4.2 451 4.4.2 connection to the next hop lost",
    ),
    (
        "no-entry",
        "CONNECT",
        "521 5.3.2 takes no mail",
        "failed 5.3.2 521 5.3.2 takes no mail",
    ),
    (
        "no-mail",
        "MAIL",
        "550 5.7.1 not from you",
        "failed 5.7.1 550 5.7.1 not from you",
    ),
    (
        "no-user",
        "RCPT",
        "550 5.1.1 who is that",
        "failed 5.1.1 550 5.1.1 who is that",
    ),
    (
        "no-data",
        "DATA",
        "554 5.3.0 nothing at all",
        "failed 5.3.0 554 5.3.0 nothing at all",
    ),
    (
        "virus",
        "DOT",
        "554 5.6.0 a virus",
        "failed 5.6.0 554 5.6.0 a virus",
    ),
];

/// What is told of each recipient, in the order of the attempts.
type Told = BTreeMap<String, Vec<String>>;

#[test]
fn postfix_meets_trouble() {
    Hop::around(Mta::postfix("mx.test")).assert_told();
}

#[test]
fn exim_meets_trouble() {
    Hop::around(Mta::exim("mx.test")).assert_told();
}

#[test]
fn opensmtpd_meets_trouble() {
    let mut hop = Hop::around(Mta::opensmtpd("mx.test"));
    hop.retry = &SCHEDULE;
    hop.assert_told();
}

#[test]
fn sendmail_meets_trouble() {
    Hop::around(Mta::sendmail("mx.test")).assert_told();
}

#[test]
fn a_patient_mta_is_told_of_at_growing_intervals() {
    let mut hop = Hop::around(Mta::postfix("mx.test"));
    hop.submit("never", &["bob"]);
    let never = |told: &Told| told.get("bob@never.test").map_or(0, Vec::len);
    // Minutes since the delay was told last: told again a quarter of an hour and an hour after the first.
    for (count, minutes) in [0, 15, 45].into_iter().enumerate() {
        if minutes > 0 {
            hop.hoptrail.let_pass(minutes - 1);
            hop.assert_attempts_untold();
            hop.hoptrail.let_pass(1);
        }
        hop.wait_for("a delay", |told| never(told) > count);
        hop.assert_attempts_untold();
        assert_eq!(never(&hop.told()), count + 1);
    }
}

/// The next hop has taken the mail; whether the hop has put that on record, or answered its MTA, is left to chance.
#[test]
fn a_hop_that_is_killed_behind_the_dot_tells_of_each_success_once() {
    let mut hop = Hop::around(Mta::postfix("mx.test"));
    let pauses = [0, 2, 10, 350];
    for pause in pauses {
        let before = hop.sinks[1].transactions().len();
        hop.submit("rest", &["bob"]);
        hop.sinks[1].wait_for(before + 1);
        thread::sleep(Duration::from_millis(pause));
        hop.hoptrail.kill();
        hop.hoptrail.start_again();
        // The MTA may know of no success, and send it again; then it has nothing more to send.
        hop.wait_until_sent();
    }
    let arrivals = || {
        let mails = Mail::in_maildir(hop.reports.path());
        let mut arrivals = BTreeMap::new();
        for report in mails.iter().filter_map(Mail::report) {
            assert_eq!(report.of_recipients("X-Hoptrail-Event"), ["relayed"]);
            // The same step may be mailed again: the hop died before it had noted that it was.
            let (arrived, step) = ("X-Hoptrail-Arrived", "X-Hoptrail-Step");
            let steps: &mut BTreeSet<String> = arrivals.entry(report.field(arrived)).or_default();
            steps.insert(report.field(step));
        }
        arrivals
    };
    wait_until(PATIENCE, "each success is told", || {
        let arrivals = arrivals();
        let all = arrivals.len() >= pauses.len();
        all.then_some(()).ok_or(format!("{arrivals:?}"))
    });
    // A second step of one of them would come as soon.
    thread::sleep(Duration::from_secs(2));
    let arrivals = arrivals();
    assert_eq!(arrivals.len(), pauses.len(), "{arrivals:?}");
    assert!(
        arrivals.values().all(|steps| steps.len() == 1),
        "{arrivals:?}"
    );
}

#[test]
fn what_the_mta_keeps_is_held_and_then_goes() {
    let hold = "smtpd_data_restrictions = check_sender_access static:HOLD";
    let mut hop = Hop::around(Mta::postfix("mx.test").setting(hold));
    hop.submit("rest", &["bob"]);
    assert_eq!(hop.events(0), Vec::<String>::new());
    hop.hoptrail.let_pass(59);
    thread::sleep(Duration::from_millis(500));
    assert_eq!(hop.events(0), Vec::<String>::new());
    hop.hoptrail.let_pass(1);
    assert_eq!(hop.events(1), ["held"]);
    hop.hoptrail.let_pass(600);
    hop.mta.daemon().run(&["postsuper", "-H", "ALL"]);
    assert_eq!(hop.events(2), ["held", "relayed"]);
}

/// The MTA sends what is for one of them past the hop, and nobody is there.
#[test]
fn one_whom_the_mta_keeps_is_held_while_others_go() {
    let elsewhere = NextHop::Smtp(net::address());
    let mut hop = Hop::around(Mta::postfix("mx.test").route("elsewhere.test", elsewhere));
    let all = [
        "bob@rest.test",
        "carol@elsewhere.test",
        "bob@never.test",
        "dora@no-user.test",
    ];
    hop.submit_to("E1", &all.map(str::to_owned));
    assert_eq!(hop.events(3), ["delayed", "failed", "relayed"]);
    let held = || {
        let mails = Mail::in_maildir(hop.reports.path());
        let mut reports: Vec<Report> = mails.iter().filter_map(Mail::report).collect();
        reports.retain(|report| report.of_recipients("X-Hoptrail-Event") == ["held"]);
        reports
            .iter()
            .flat_map(Report::final_recipients)
            .collect::<Vec<_>>()
    };
    for _ in 0..2 {
        hop.hoptrail.let_pass(60);
        thread::sleep(Duration::from_millis(500));
        wait_until(PATIENCE, "what is held", || {
            (!held().is_empty())
                .then_some(())
                .ok_or_else(|| hop.hoptrail.log())
        });
        assert_eq!(held(), ["carol@elsewhere.test"]);
    }
}

/// How many files there are, in directories below this one too.
fn files_below(directory: &Path) -> usize {
    let entries = fs::read_dir(directory).expect("a queue");
    let count = |entry: DirEntry| {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            files_below(&entry.path())
        } else {
            1
        }
    };
    entries.filter_map(Result::ok).map(count).sum()
}

/// hoptrail around an MTA, a next hop for each kind of trouble behind it.
struct Hop {
    hoptrail: Hoptrail,
    entrance: SocketAddrV4,
    mta: Mta,
    /// What makes the MTA try again.
    retry: &'static [&'static str],
    /// Nothing is there at first.
    down: SocketAddrV4,
    sinks: Vec<Sink>,
    reports: tempfile::TempDir,
}

impl Hop {
    fn around(setup: Setup) -> Self {
        let three = Sink::smtp()
            .once("RCPT TO:<carol", "451 4.2.1 carol is moving")
            .always("RCPT TO:<dora", "550 5.1.1 no dora");
        let mut next = vec![
            ("three", three),
            ("rest", Sink::smtp()),
            ("never", Sink::smtp().always("MAIL", "451 4.3.0 not today")),
        ];
        next.extend(TROUBLE.map(|(name, at, reply, _)| {
            let script = Sink::smtp();
            let for_good = reply.starts_with('5');
            let says = if for_good {
                Script::always
            } else {
                Script::once
            };
            (name, says(script, at, reply))
        }));
        let down = net::address();
        let mut routes = format!("'down.test' = 'smtp://{down}'");
        let sinks = next.into_iter().map(|(name, script)| {
            let sink = script.start();
            let _ = write!(routes, ", '{name}.test' = '{}'", sink.next_hop());
            sink
        });
        let sinks: Vec<Sink> = sinks.collect();
        let (entrance, exit) = (net::address(), net::address());
        let mta = setup.next_hop(NextHop::Lmtp(exit)).start();
        let reports = tempfile::tempdir().expect("a directory");
        let hoptrail = Hoptrail::serve(&format!(
            "hostname = 'hop.test'\n\
             [reports]\nfrom = 'hoptrail@hop.test'\nvia = 'maildir:{}'\n\
             [[listener]]\nrole = 'ingress'\nlisten = '{entrance}'\nprotocol = 'smtp'\nnext_hop = 'smtp://{}'\n\
             [[listener]]\nrole = 'egress'\nlisten = '{exit}'\nprotocol = 'lmtp'\nnext_hop = '{}'\nroutes = {{ {routes} }}\n",
            reports.path().display(),
            mta.address(),
            sinks[1].next_hop(),
        ));
        Self {
            hoptrail,
            entrance,
            mta,
            retry: &[],
            down,
            sinks,
            reports,
        }
    }

    /// The MTA tries again twice, and nobody hears of it.
    fn assert_attempts_untold(&self) {
        let attempts = || {
            let all = self.sinks[2].commands();
            all.iter().filter(|line| line.starts_with("MAIL")).count()
        };
        let (before, told) = (attempts(), self.told());
        self.wait_for("two attempts", |_| attempts() > before + 1);
        assert_eq!(self.told(), told);
    }

    /// The events told so far, sorted; waits for so many.
    fn events(&self, count: usize) -> Vec<String> {
        wait_until(PATIENCE, "the reports", || {
            let mails = Mail::in_maildir(self.reports.path());
            let reports = mails.iter().filter_map(Mail::report);
            let events = reports.flat_map(|report| report.of_recipients("X-Hoptrail-Event"));
            let mut events: Vec<String> = events.collect();
            events.sort();
            if events.len() < count {
                return Err(format!("{events:?}"));
            }
            Ok(events)
        })
    }

    /// Waits until the MTA, a Postfix, has nothing in its queue.
    fn wait_until_sent(&self) {
        let spool = self.mta.daemon().state().path("var/spool/postfix");
        wait_until(PATIENCE, "the MTA's queue is empty", || {
            let queues = ["incoming", "active", "deferred"];
            let found = queues.map(|queue| files_below(&spool.join(queue)));
            match found.iter().sum() {
                0 => Ok(()),
                left => Err(format!("{left} left, {found:?} in {queues:?}")),
            }
        });
    }

    /// A message to each next hop.
    fn assert_told(mut self) {
        let names = TROUBLE.iter().map(|(name, ..)| *name).chain(["down"]);
        for name in names {
            self.submit(name, &["bob"]);
        }
        self.submit("three", &["bob", "carol", "dora"]);
        let mut expected: Told = Told::new();
        for (name, .., first) in TROUBLE {
            let mut told = vec![first.to_owned()];
            if first.starts_with("delayed") {
                told.push(RELAYED.to_owned());
            }
            expected.insert(format!("bob@{name}.test"), told);
        }
        let three = [
            ("bob", vec![RELAYED]),
            (
                "carol",
                vec!["delayed 4.2.1 451 4.2.1 carol is moving", RELAYED],
            ),
            ("dora", vec!["failed 5.1.1 550 5.1.1 no dora"]),
        ];
        for (name, told) in three {
            let told = told.into_iter().map(str::to_owned).collect();
            expected.insert(format!("{name}@three.test"), told);
        }
        self.wait_for("the first delay", |told| told.contains_key("bob@down.test"));
        self.sinks.push(Sink::smtp().listen(self.down).start());
        self.wait_for("its end", |told| told["bob@down.test"].len() > 1);
        let down = self.told().remove("bob@down.test").unwrap_or_default();
        assert!(down[0].starts_with("delayed 4.4.1 451 4.4.1 "), "{down:?}");
        expected.insert(
            "bob@down.test".to_owned(),
            vec![down[0].clone(), RELAYED.to_owned()],
        );
        let count = |told: &Told| told.values().map(Vec::len).sum::<usize>();
        let all = count(&expected);
        self.wait_for("everything", |told| count(told) >= all);
        // What came once must not come again.
        thread::sleep(Duration::from_secs(2));
        assert_eq!(self.told(), expected);
    }

    fn submit(&self, name: &str, users: &[&str]) {
        let to = |user: &&str| format!("{user}@{name}.test");
        self.submit_to(name, &users.iter().map(to).collect::<Vec<_>>());
    }

    fn submit_to(&self, name: &str, recipients: &[String]) {
        let mut client = Dialogue::open(self.entrance);
        client.command("EHLO client.test", "250");
        let mail = format!("MAIL FROM:<alice@rest.test> TRACK=NOW ENVID={name} BODY=8BITMIME");
        client.command(&mail, "250");
        for recipient in recipients {
            client.command(&format!("RCPT TO:<{recipient}> NOTIFY=NEVER"), "250");
        }
        client.data(&wire(MESSAGE));
        client.expect("250");
    }

    /// Has the MTA try again until this holds of what is told.
    fn wait_for(&self, what: &str, holds: impl Fn(&Told) -> bool) {
        wait_until(PATIENCE, what, || {
            let told = self.told();
            if holds(&told) {
                return Ok(());
            }
            if !self.retry.is_empty() {
                self.mta.daemon().run(self.retry);
                thread::sleep(Duration::from_millis(500));
            }
            Err(format!("{told:#?}\n{}", self.hoptrail.log()))
        });
    }

    fn told(&self) -> Told {
        let mails = Mail::in_maildir(self.reports.path());
        let reports = mails.iter().filter_map(Mail::report);
        let mut attempts = Vec::new();
        for report in reports.flat_map(Report::steps) {
            let fields = [
                "X-Hoptrail-Attempted",
                "Final-Recipient",
                "X-Hoptrail-Event",
                "Status",
                "X-Hoptrail-Reply",
            ];
            let [at, recipients, events, statuses, replies] =
                fields.map(|field| report.of_recipients(field));
            for (place, at) in at.into_iter().enumerate() {
                let words = [&events[place], &statuses[place], &replies[place]].map(String::as_str);
                attempts.push((at, behind_type(&recipients[place]), words.join(" ")));
            }
        }
        attempts.sort();
        let mut told: Told = Told::new();
        for (_, recipient, words) in attempts {
            told.entry(recipient).or_default().push(words);
        }
        told
    }
}
