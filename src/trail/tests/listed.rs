//! The list, drawn by what an index keeps of messages: the same as drawn from the reports, whatever came, went or was
//! said meanwhile; and where no colours show the same without them.

use std::convert::Infallible;
use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::sources::{MAILING, put};
use super::world::{read, three_hops, view};
use crate::report::write;
use crate::track::{Event, Exchange, HopReport, StepId, TrackingId};
use crate::trail::render::line::Line;
use crate::trail::render::{View, terminal};
use crate::trail::{Reports, Source};

/// Mails of another kind: enough for an index.
const MAILS: usize = 500;

/// A message that sets out some seconds after the first, by hops whose clocks are such.
#[derive(Clone, Debug)]
struct Mail {
    number: u64,
    second: i64,
    /// How long each reply to the first hop takes, µs.
    slow_us: i64,
    /// How far the second hop's clock is off, µs.
    off_us: i64,
}

fn moved(times: &mut [Exchange], us: i64) {
    for exchange in times {
        exchange.command_us += us;
        exchange.reply_us += us;
    }
}

impl Mail {
    fn id(&self) -> String {
        format!("m{}@mail.example.org", self.number)
    }

    /// The report of a hop on it.
    fn report(&self, hop: usize) -> HopReport {
        let mut report = three_hops(&["bob@example.net"]).swap_remove(hop);
        let us = self.second * 1_000_000 + if hop == 1 { self.off_us } else { 0 };
        report.id = TrackingId::new(&self.id()).unwrap();
        report.message_id = Some(self.id());
        report.step.0 += self.number * 10;
        report.parent = report.parent.map(|p| StepId(p.0 + self.number * 10));
        report.sent_ms = report
            .sent_ms
            .map(|ms| ms + self.second.cast_unsigned() * 1000);
        report.arrival_us += us;
        moved(&mut report.times_in, us);
        moved(&mut report.times_out, us);
        if hop == 0 {
            report
                .times_out
                .iter_mut()
                .for_each(|e| e.command_us -= self.slow_us);
        }
        let attempted = &mut report.recipients[0].attempted_us;
        *attempted = attempted.map(|at| at + us);
        report
    }

    /// What contradicts the last hop's report.
    fn contradiction(&self) -> HopReport {
        let mut report = self.report(2);
        report.recipients[0].event = Event::Failed;
        report
    }

    /// What another mail system says of it.
    fn notice(&self) -> String {
        format!(
            "From: MAILER-DAEMON@p.test\n\
             Content-Type: multipart/report; report-type=delivery-status; boundary=x\n\n\
             --x\nContent-Type: message/delivery-status\n\n\
             Reporting-MTA: dns; p.test\nOriginal-Envelope-Id: {}\n\n\
             Final-Recipient: rfc822; bob@example.net\nAction: failed\nStatus: 5.1.1\n\n--x--\n",
            self.id()
        )
    }
}

fn any_mails() -> impl Strategy<Value = Vec<Mail>> {
    let mail = (
        0i64..20,
        0i64..90_000,
        prop_oneof![3 => Just(0), 1 => Just(900_000)],
    );
    proptest::collection::vec(mail, 6).prop_map(|mails| {
        let mails = (0..).zip(mails);
        let mail = |(number, (second, slow_us, off_us))| Mail {
            number,
            second,
            slow_us,
            off_us,
        };
        mails.map(mail).collect()
    })
}

/// A Maildir, and a directory for indexes beside it.
struct Home(tempfile::TempDir);

impl Home {
    fn new() -> Self {
        let home = Self(tempfile::tempdir().unwrap());
        for n in 0..MAILS {
            put(
                &home.maildir().join(format!("new/{n}")),
                b"Subject: other\n\n",
            );
        }
        home
    }

    fn maildir(&self) -> PathBuf {
        self.0.path().join("Maildir")
    }

    fn at(&self, name: &str) -> PathBuf {
        self.maildir().join("cur").join(name)
    }

    fn listed(&self) -> Vec<Line> {
        let source = Source::at(&self.maildir()).unwrap();
        let mut reports = Reports::of([source], None).indexed_in(&self.0.path().join("cache"));
        reports.update().unwrap();
        let all = lines_of(&reports);
        reports.keep();
        all
    }

    fn index_octets(&self) -> u64 {
        let mut files = fs::read_dir(self.0.path().join("cache")).unwrap();
        files.next().unwrap().unwrap().metadata().unwrap().len()
    }
}

/// Drawn by what is kept, as far as it is.
fn lines_of(reports: &Reports) -> Vec<Line> {
    let mut all = Vec::new();
    let Ok(()) = reports.all().lines(
        7,
        &view(),
        |lines, _| lines,
        |lines| {
            all.extend(lines);
            Ok::<(), Infallible>(())
        },
    );
    all
}

/// Drawn from the reports, without an index.
fn drawn(maildir: &Path) -> Vec<Line> {
    let mut reports = Reports::of([Source::at(maildir).unwrap()], None);
    reports.update().unwrap();
    let trails = reports.trails();
    trails
        .messages
        .iter()
        .map(|m| Line::of(m, &view()))
        .collect()
}

/// Twice, since the second time stands on what the first one kept; and then there is nothing more to keep.
fn is_the_same(home: &Home) -> Result<(), TestCaseError> {
    let expected = drawn(&home.maildir());
    prop_assert_eq!(home.listed(), expected.clone());
    let octets = home.index_octets();
    prop_assert_eq!(home.listed(), expected);
    prop_assert_eq!(home.index_octets(), octets);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn the_list_is_that_of_the_reports(
        mails in any_mails(),
        batches in proptest::collection::vec(proptest::collection::vec((0usize..6, 0usize..8), 1..8), 1..4),
    ) {
        let home = Home::new();
        home.listed();
        for batch in batches {
            for (mail, what) in batch {
                let name = |what: usize| home.at(&format!("{mail}.{what}"));
                let mail = &mails[mail];
                match what {
                    hop @ 0..3 => put(&name(hop), &write(&mail.report(hop), &MAILING)),
                    3 => put(&name(3), mail.notice().as_bytes()),
                    // Of the same step, and says something else.
                    4 => put(&name(4), &write(&mail.contradiction(), &MAILING)),
                    // These may not be there.
                    5 => drop(fs::remove_file(name(2))),
                    6 => drop(fs::rename(name(0), name(0).with_extension("0:2,S"))),
                    _ => drop(fs::rename(name(1), home.maildir().join("new").join(name(1).file_name().unwrap()))),
                }
            }
            is_the_same(&home)?;
        }
    }
}

#[test]
fn a_clock_that_is_known_better_or_set_later_changes_lines_of_before() {
    let mail = |number, second, slow_us, off_us| Mail {
        number,
        second,
        slow_us,
        off_us,
    };
    let home = Home::new();
    let deliver = |mail: &Mail| {
        for hop in 0..3 {
            let name = format!("{}.{hop}", mail.number);
            put(&home.at(&name), &write(&mail.report(hop), &MAILING));
        }
    };
    let verdict = |mail: &Mail| {
        let mut lines = home.listed().into_iter();
        lines.find(|line| line.id == mail.id()).unwrap().verdict
    };
    let first = mail(1, 0, 60_000, 0);
    deliver(&first);
    let by_itself = verdict(&first);
    deliver(&mail(2, 1, 0, 0));
    let by_both = verdict(&first);
    assert_ne!(by_itself, by_both);
    is_the_same(&home).unwrap();
    deliver(&mail(3, 1, 0, 900_000));
    is_the_same(&home).unwrap();
}

#[test]
fn another_report_in_the_place_of_one_without_a_key_changes_the_line() {
    let home = tempfile::tempdir().unwrap();
    let at = |hop: usize| home.path().join(format!("{hop}.eml"));
    let mail = Mail {
        number: 1,
        second: 0,
        slow_us: 0,
        off_us: 0,
    };
    for hop in 0..3 {
        put(&at(hop), &write(&mail.report(hop), &MAILING));
    }
    let mut reports = Reports::of([Source::at(home.path()).unwrap()], None);
    for last in [mail.report(2), mail.contradiction()] {
        put(&at(2), &write(&last, &MAILING));
        reports.update().unwrap();
        assert_eq!(lines_of(&reports), drawn(home.path()));
    }
}

#[test]
fn of_reports_that_contradict_each_other_the_same_one_counts_wherever_they_lie() {
    let mail = Mail {
        number: 1,
        second: 0,
        slow_us: 0,
        off_us: 0,
    };
    let home = Home::new();
    for hop in 0..3 {
        put(
            &home.at(&format!("1.{hop}")),
            &write(&mail.report(hop), &MAILING),
        );
    }
    // Looked at first, and then last.
    let places = ["new/1.4", ".Later/cur/1.4:2,S"].map(|place| home.maildir().join(place));
    put(&places[0], &write(&mail.contradiction(), &MAILING));
    is_the_same(&home).unwrap();
    fs::create_dir_all(places[1].parent().unwrap()).unwrap();
    fs::rename(&places[0], &places[1]).unwrap();
    is_the_same(&home).unwrap();
}

#[test]
fn a_list_without_colours_says_the_same() {
    let trails = read(&three_hops(&["bob@example.net", &"long".repeat(30)]));
    let lines = trails.messages.iter().map(|m| Line::of(m, &view()));
    let lines: Vec<Line> = lines.collect();
    let drawn = |colours| {
        let view = View { colours, ..view() };
        terminal::lines(&lines, 8, &view)
    };
    assert!(drawn(true).contains('\x1b'));
    let bare = anstream::adapter::strip_str(&drawn(true)).to_string();
    assert_eq!(drawn(false), bare);
}
