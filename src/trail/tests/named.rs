//! What nothing proves beside what is proved: under an id of its own it reads like no second message, and under another host's
//! name it still keeps the hop that it seems to be of from being blamed.

use super::ids::{MADE_UP, mail, silence_of, split, trails_of, under};
use super::shown::shown;
use super::world::{secret, view};
use crate::report::Keys;
use crate::track::{HopReport, Secret, StepId, TrackingId};
use crate::trail::custody::{Silence, custody};
use crate::trail::examine::examine;
use crate::trail::render::{html, json, terminal};
use crate::trail::stats::LeftOut;
use crate::trail::verify::{Known, Proof};
use crate::trail::{Counts, Message, Outcome, Trails, Truth};

/// The report of the first hop lost its key, so the id that it bears is proved by none.
fn half_proved() -> Vec<Vec<u8>> {
    let own = secret();
    let [first, second, last] = split().try_into().unwrap();
    vec![
        mail(&first, None),
        mail(&second, Some(&own)),
        mail(&last, Some(&own)),
    ]
}

fn unproved(trails: &Trails) -> &Message {
    let mut messages = trails.messages.iter();
    messages.find(|m| m.truth == Truth::Unproved).unwrap()
}

#[test]
fn what_names_a_proved_message_is_told_as_a_word_on_it() {
    let trails = trails_of(&half_proved());
    assert_eq!(trails.messages.len(), 2);
    let other = unproved(&trails);
    let names: Vec<_> = other.names.iter().map(TrackingId::as_str).collect();
    assert_eq!(names, [MADE_UP]);
    assert_eq!(other.outcome(), Outcome::Open);
    let later_us = view().now_us + 3_600_000_000;
    let custody = custody(other, &other.recipients[0], later_us).unwrap();
    assert_eq!(custody.silence, Some(Silence::ToldElsewhere));
    insta::assert_snapshot!(shown(&trails));
    let json = json::document(&trails, later_us);
    assert!(
        json.contains(&format!("\"names\": \"{MADE_UP}\"")),
        "{json}"
    );
    assert!(json.contains("\"names\": null"), "{json}");

    // Counted apart from messages of others, which count where they are taken on trust.
    let mut left_out = LeftOut::default();
    left_out.add(&trails);
    assert_eq!((left_out.unproved, left_out.beside_proved), (0, 1));
}

/// Whoever opens an archive has the proofs alone.
#[test]
fn an_archive_tells_the_same_of_it() {
    let mails = half_proved();
    let own = secret();
    let judged = |known| {
        let mut trails = examine(mails.iter().map(Vec::as_slice), &Keys::default(), known);
        trails.counts = Counts::default();
        json::document(&trails, 0)
    };
    let sent_ms = split()[0].sent_ms.unwrap();
    let proofs = [Proof {
        message_id: "m1@example.org".to_owned(),
        sent_ms,
        proof: own.proof("m1@example.org", sent_ms),
    }];
    let with_secret = judged(Some(&own).into());
    assert!(with_secret.contains("told-elsewhere"), "{with_secret}");
    assert_eq!(judged(Known::Proofs(&proofs)), with_secret);
}

/// Anybody can add a report that names something else, or nothing.
#[test]
fn a_trail_that_names_several_messages_names_none() {
    let mut mails = half_proved();
    let first = split().remove(0);
    mails.push(mail(
        &HopReport {
            step: StepId(77),
            message_id: Some("m2@example.org".to_owned()),
            ..first
        },
        None,
    ));
    assert_eq!(unproved(&trails_of(&mails)).names, []);
}

/// What the hop before calls mx3 calls itself something else, and its report lost its key or was altered.
#[test]
fn a_hop_of_another_name_is_known_by_its_queue_id_or_by_who_handed_it_on() {
    let own = secret();
    let [first, mut second, last] = split().try_into().unwrap();
    second.recipients[0].remote_queue_id = last.queue_id.clone();
    let renamed = HopReport {
        reporting_mta: "mail.example.net".into(),
        ..last
    };
    let by_queue_id = HopReport {
        parent: None,
        ..renamed.clone()
    };
    let by_parent = HopReport {
        queue_id: None,
        ..renamed.clone()
    };
    let by_nothing = HopReport {
        parent: None,
        ..by_parent.clone()
    };
    let before = [mail(&first, Some(&own)), mail(&second, Some(&own))];
    let with = |one: Vec<u8>| silence_of(&[before.as_slice(), &[one]].concat());
    for report in [&by_queue_id, &by_parent] {
        for id in [report.id.as_str(), "7f3a91c2@mail.example.org", "fresh"] {
            let (silence, shown, _) = with(mail(&under(id, report.clone()), None));
            assert_eq!(silence, Some(Silence::Unproved), "{id}: {shown}");
            assert!(
                shown.contains("? a report in the name of mail.example.net is not proved"),
                "{shown}"
            );
            assert!(!shown.contains("in the name of mx3"), "{shown}");
        }
        let altered = mail(report, Some(&Secret::new([7; 32])));
        let (silence, shown, _) = with(altered);
        assert_eq!(silence, Some(Silence::Unproved), "{shown}");
        assert!(
            shown.contains("that seems to be its is not proved"),
            "{shown}"
        );
    }
    let (silence, shown, _) = with(mail(&by_nothing, None));
    assert_eq!(silence, Some(Silence::Silent), "{shown}");
}

/// The picture draws a hop whose report is there as no silent one, and none at all where another message tells of it.
#[test]
fn the_picture_blames_no_hop_of_which_a_report_is_there() {
    let own = secret();
    let [first, second, last] = split().try_into().unwrap();
    let (one, two) = (mail(&first, Some(&own)), mail(&second, Some(&own)));
    let unkeyed = |report| mail(report, None);
    let page = |mails: &[Vec<u8>]| html::page(&trails_of(mails), &view());
    let silent = page(&[one.clone(), two.clone()]);
    assert!(silent.contains(">no report yet<"), "{silent}");
    for mails in [
        [one.clone(), two, unkeyed(&last)],
        [one, unkeyed(&second), mail(&last, Some(&own))],
    ] {
        let page = page(&mails);
        assert!(page.contains("not proved<"), "{page}");
        for blame in ["no report yet", "no report came<", "sent no report<"] {
            assert!(!page.contains(blame), "{blame}: {page}");
        }
    }
    let page = page(&half_proved());
    assert!(!page.contains("no report yet"), "{page}");
}

/// As anybody's mail beside one's own.
#[test]
fn what_names_no_proved_message_is_taken_in_on_trust() {
    let own = secret();
    let first = split().remove(0);
    let theirs = HopReport {
        message_id: Some("theirs@example.org".to_owned()),
        ..under("theirs", first.clone())
    };
    let mails = [mail(&first, Some(&own)), mail(&theirs, None)];
    let mut left_out = LeftOut::default();
    left_out.add(&trails_of(&mails));
    assert_eq!((left_out.unproved, left_out.beside_proved), (1, 0));
    let list = terminal::list(&trails_of(&mails), &view());
    assert!(!list.contains("word on"), "{list}");
}
