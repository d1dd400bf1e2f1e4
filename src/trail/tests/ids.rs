//! Messages of which hops tell under several tracking ids: a hop that got none made up its own.

use std::path::Path;

use super::shown::shown;
use super::sources::{MAILING, proved_mail_of, put};
use super::world::{SENT_MS, read, read_by, secret, three_hops, view};
use crate::report::{Mailing, write};
use crate::track::{HopReport, Secret, TrackingId};
use crate::trail::custody::{Silence, custody};
use crate::trail::render::{html, json};
use crate::trail::{Outcome, Reports, Source, Trails, Truth, Why};

pub const MADE_UP: &str = "b7da9b75419f542711e1ee234d6cd1d2";

pub fn under(id: &str, report: HopReport) -> HopReport {
    HopReport {
        id: TrackingId::new(id).unwrap(),
        ..report
    }
}

/// The second hop got no id, and handed its own on.
pub fn split() -> Vec<HopReport> {
    let mut reports = three_hops(&["bob@example.net"]);
    let last = reports.split_off(1);
    let last = last.into_iter().map(|report| under(MADE_UP, report));
    reports.extend(last);
    reports
}

/// A mail that is keyed for this message by this secret, or not at all.
pub fn mail(report: &HopReport, secret: Option<&Secret>) -> Vec<u8> {
    let id = report.message_id.as_deref().unwrap();
    let key = secret.map(|secret| secret.certificate(id, report.sent_ms.unwrap()));
    let certificate = key.as_ref();
    let mailing = Mailing {
        certificate,
        ..MAILING
    };
    write(report, &mailing)
}

#[test]
fn what_is_proved_for_one_message_is_one_message() {
    let trails = read(&split());
    let [message] = trails.messages.as_slice() else {
        panic!("{trails:#?}");
    };
    assert_eq!(message.id.as_str(), "7f3a91c2@mail.example.org");
    let other_ids: Vec<_> = message.other_ids.iter().map(TrackingId::as_str).collect();
    assert_eq!(other_ids, [MADE_UP]);
    assert_eq!(message.outcome(), Outcome::Delivered);
    let parents: Vec<_> = message.stays.iter().map(|stay| stay.parent).collect();
    assert_eq!(parents, [None, Some(0), Some(1)]);
    insta::assert_snapshot!(shown(&trails));
    let json = json::document(&trails, view().now_us);
    assert!(
        json.contains(&format!("\"other_ids\": [\n        \"{MADE_UP}\"")),
        "{json}"
    );
}

/// Two time stamps are two messages, whatever their ids.
#[test]
fn a_message_that_is_sent_twice_is_two() {
    let mut reports = split();
    let again = |report| HopReport {
        sent_ms: Some(SENT_MS + 1),
        ..report
    };
    reports.extend(split().into_iter().map(again));
    let trails = read(&reports);
    let stays: Vec<_> = trails.messages.iter().map(|m| m.stays.len()).collect();
    assert_eq!(stays, [3, 3]);
}

/// Without the secret nobody can tell which of them are on one message.
#[test]
fn what_nobody_proves_is_told_apart_by_its_id() {
    let stranger = Secret::new([7; 32]);
    for (signer, truth) in [
        (&secret(), Truth::Unverifiable),
        (&stranger, Truth::Unverifiable),
    ] {
        let trails = read_by(&split(), Some(signer), None);
        let stays: Vec<_> = trails.messages.iter().map(|m| m.stays.len()).collect();
        assert_eq!(
            stays.iter().sum::<usize>(),
            4,
            "one stands for the hop before: {stays:?}"
        );
        assert!(trails.messages.iter().all(|m| m.truth == truth));
    }
}

/// A Maildir of proved mail, a split message among it, and what strangers say under both of its ids.
fn deliver(maildir: &Path, others: usize) {
    let (own, stranger) = (secret(), Secret::new([7; 32]));
    let at = |name: &str| maildir.join("new").join(name);
    for n in 0..others {
        let other = proved_mail_of(1_000 + n, &own);
        put(&at(&format!("other{n}")), &other);
    }
    let [first, second, last] = split().try_into().unwrap();
    put(&at("first"), &mail(&first, Some(&own)));
    put(&at("last"), &mail(&last, Some(&own)));
    put(&at("unproved"), &mail(&last, None));
    put(&at("altered"), &mail(&second, Some(&stranger)));
    let foreign = under("8c1d@example.info", second);
    put(&at("foreign"), &mail(&foreign, None));
}

fn told(reports: &mut Reports) -> Trails {
    reports.update().unwrap();
    reports.trails()
}

/// What bears one of its ids is judged beside it; what bears another claims to be on another message.
#[test]
fn what_strangers_say_under_any_of_its_ids_counts_for_nothing() {
    for others in [0, 1_000] {
        let dir = tempfile::tempdir().unwrap();
        let (maildir, cache) = (dir.path().join("mail"), dir.path().join("cache"));
        deliver(&maildir, others);
        let source = || Source::at(&maildir).unwrap();
        let reports = || Reports::of([source()], Some(&secret())).indexed_in(&cache);
        let first = told(&mut reports());
        let again = json::document(&told(&mut reports()), 0);
        assert_eq!(json::document(&first, 0), again, "with the index");
        assert_eq!(first.messages.len(), others + 2);
        let mut all = reports();
        all.update().unwrap();
        let ids = all.all().ids();
        for message in &first.messages {
            assert!(ids.contains(&message.id.as_str()), "{}", message.id);
        }
        let is = |id: &str| {
            let mut messages = first.messages.iter();
            messages.find(|m| m.id.as_str() == id).unwrap()
        };
        let split = is("7f3a91c2@mail.example.org");
        assert_eq!(split.outcome(), Outcome::Delivered);
        assert_eq!((split.unproved, split.other_ids.len()), (1, 1));
        assert!(split.leaves_out(Some("mx2.example.com")));
        let whys: Vec<_> = first.not_ours.iter().map(|n| n.why).collect();
        assert_eq!(whys, [Why::Altered]);
        let foreign = is("8c1d@example.info");
        assert_eq!(foreign.truth, Truth::Unproved);
        assert_eq!(foreign.stays.len(), 2, "and the hop that it names");
    }
}

/// In a mailbox of many people those of one message that the secret proves stay together, what others say beside them still
/// counts for nothing, and the mail of all others is taken at its word.
#[test]
fn what_is_taken_in_on_trust_unproves_nothing() {
    for others in [0, 1_000] {
        let dir = tempfile::tempdir().unwrap();
        let (maildir, cache) = (dir.path().join("mail"), dir.path().join("cache"));
        deliver(&maildir, others);
        let foreign = proved_mail_of(7, &Secret::new([9; 32]));
        put(&maildir.join("new/theirs"), &foreign);
        let reports = || {
            let source = Source::at(&maildir).unwrap();
            Reports::of([source], Some(&secret())).indexed_in(&cache)
        };
        let mut own = reports();
        let before = json::document(&told(&mut own), 0);
        own.keep();
        let mut all = reports().on_trust();
        let trails = told(&mut all);
        all.keep();
        assert_eq!(json::document(&told(&mut reports()), 0), before);
        assert_eq!(trails.not_ours, []);
        assert_eq!(trails.messages.len(), others + 3);
        let (proved, trusted): (Vec<_>, Vec<_>) = trails
            .messages
            .iter()
            .partition(|message| message.truth == Truth::Verified);
        assert_eq!(proved.len(), others + 1);
        let split = proved.iter().find(|m| m.other_ids.len() == 1).unwrap();
        assert_eq!((split.outcome(), split.unproved), (Outcome::Delivered, 2));
        let outcomes: Vec<_> = trusted.iter().map(|m| (m.truth, m.outcome())).collect();
        let is_taken = |outcome| (Truth::Unverifiable, outcome);
        assert_eq!(
            outcomes,
            [is_taken(Outcome::Open), is_taken(Outcome::Delivered)]
        );
    }
}

/// What a Maildir of these mails tells.
pub fn trails_of(mails: &[Vec<u8>]) -> Trails {
    let dir = tempfile::tempdir().unwrap();
    for (n, mail) in mails.iter().enumerate() {
        put(&dir.path().join("new").join(n.to_string()), mail);
    }
    let secret = secret();
    let mut reports = Reports::of([Source::at(dir.path()).unwrap()], Some(&secret));
    told(&mut reports)
}

/// Whether the pictures on the page have these words beside a bar, on a wide page and on a narrow one.
fn picture_says(trails: &Trails, wide: &str, narrow: &str) -> bool {
    let page = html::page(trails, &view());
    let says = |width, words| {
        let begins = format!("<text class=\"took {width}\"");
        let texts = page.split(&begins).skip(1);
        let mut texts = texts.filter_map(|text| text.split('>').nth(1));
        texts.any(|text| text == format!("{words}</text"))
    };
    says("wide", wide) && says("narrow", narrow)
}

/// What it tells of the one message that is proved, long after.
pub fn silence_of(mails: &[Vec<u8>]) -> (Option<Silence>, String, Vec<Why>) {
    let trails = trails_of(mails);
    let mut proved = trails.messages.iter();
    let proved = proved.find(|m| m.truth == Truth::Verified).unwrap();
    let later_us = view().now_us + 3_600_000_000;
    let custody = custody(proved, &proved.recipients[0], later_us);
    let whys = trails.not_ours.iter().map(|n| n.why).collect();
    (custody.unwrap().silence, shown(&trails), whys)
}

/// Its report is there, and lost its key on the way, or got another id.
#[test]
fn no_host_is_silent_of_which_a_report_is_not_proved() {
    let own = secret();
    let [first, second, last] = split().try_into().unwrap();
    let (one, two) = (mail(&first, Some(&own)), mail(&second, Some(&own)));
    let alone = silence_of(&[one.clone(), two.clone()]);
    assert_eq!(alone.0, Some(Silence::Silent), "{}", alone.1);

    let unkeyed = mail(&last, None);
    let (silence, shown, _) = silence_of(&[one.clone(), two.clone(), unkeyed.clone()]);
    assert_eq!(silence, Some(Silence::Unproved), "{shown}");
    for told in [
        "Last known at mx3.example.net since 17:05, of which a report is not proved\n",
        "? a report in the name of mx3.example.net is not proved\n",
        "and a report\n                   in its name is not proved\n",
    ] {
        assert!(shown.contains(told), "{told}: {shown}");
    }

    let keyed = String::from_utf8(mail(&last, Some(&own))).unwrap();
    let other_id = keyed.replace(MADE_UP, &"f".repeat(32)).into_bytes();
    for (last, wide, narrow) in [
        (None, "no report yet", "no report"),
        (Some(&unkeyed), "report not proved", "not proved"),
        (Some(&other_id), "report left out", "left out"),
    ] {
        let mails: Vec<_> = [&one, &two].into_iter().chain(last).cloned().collect();
        assert!(picture_says(&trails_of(&mails), wide, narrow), "{wide}");
    }
    let (silence, shown, whys) = silence_of(&[one.clone(), two, other_id]);
    assert_eq!(silence, Some(Silence::LeftOut), "{shown}");
    assert_eq!(whys, [Why::Altered]);

    // Under the id that the second hop made up, of which nothing proves that it is on the message.
    let (silence, shown, _) = silence_of(&[one, mail(&second, None), unkeyed]);
    assert_eq!(silence, Some(Silence::Unproved), "{shown}");
}

/// The report of the hop between is there.
#[test]
fn no_report_never_came_that_is_not_proved_or_left_out() {
    let own = secret();
    let [first, second, last] = three_hops(&["bob@example.net"]).try_into().unwrap();
    let mail_of = |report| mail(report, Some(&own));
    let with =
        |middle: Vec<Vec<u8>>| trails_of(&[vec![mail_of(&first), mail_of(&last)], middle].concat());
    let keyed = String::from_utf8(mail_of(&second)).unwrap();
    let altered = keyed.replace(" 2.0.0 ", " 2.0.1 ").into_bytes();
    assert_ne!(altered, keyed.as_bytes());
    for (middle, lack, drawn) in [
        (vec![], "never came", ["no report came", "no report"]),
        (
            vec![mail(&second, None)],
            "is not proved",
            ["report is not proved", "is not proved"],
        ),
        (
            vec![altered],
            "was left out",
            ["report was left out", "was left out"],
        ),
    ] {
        let trails = with(middle);
        let shown = shown(&trails);
        assert!(picture_says(&trails, drawn[0], drawn[1]), "{drawn:?}");
        let told = format!("? mx3.example.net: the report of the hop before it {lack}\n");
        assert!(shown.contains(&told), "{told}: {shown}");
    }
}
