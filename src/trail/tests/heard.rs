//! What is not known, and what others say of it: silence, Received fields, notices of other mail systems.

use std::fs;

use super::shown::shown;
use super::world::{HOP1, HOP2, HOP3, Leg, START_US, secret, three_hops, view};
use crate::report::{Mailing, write};
use crate::track::{Event, HopReport, TrackingId};
use crate::trail::custody::{Silence, custody};
use crate::trail::message::Joined;
use crate::trail::render::{html, json, terminal, verdict};
use crate::trail::{Outcome, Trails, load};

/// Reads a [`mailbox`].
fn read(reports: &[(HopReport, &str)], others: &[&[u8]]) -> Trails {
    load(mailbox(reports, others).path(), Some(&secret())).unwrap()
}

/// A mailbox with these reports, each with the Received fields its hop shows, and these other mails.
fn mailbox(reports: &[(HopReport, &str)], others: &[&[u8]]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("new")).unwrap();
    let put =
        |name: String, mail: &[u8]| fs::write(dir.path().join("new").join(name), mail).unwrap();
    for (n, (report, received)) in reports.iter().enumerate() {
        let id = report.message_id.as_deref().unwrap();
        let key = secret().certificate(id, report.sent_ms.unwrap());
        let received = received.replace('\n', "\r\n");
        let mailing = Mailing {
            from: "hoptrail@example.net",
            to: "alice@example.org",
            date_us: START_US,
            certificate: Some(&key),
            received: Some(&received),
            boundary: "b0f6f1d2c3a4958677",
        };
        put(format!("report{n}"), &write(report, &mailing));
    }
    for (n, mail) in others.iter().enumerate() {
        put(format!("other{n}"), mail);
    }
    dir
}

fn quiet(reports: &[HopReport]) -> Vec<(HopReport, &'static str)> {
    reports.iter().map(|report| (report.clone(), "")).collect()
}

const FIELDS_AT_3: &str = "Received: from filter.example.com by mx3.example.net (Postfix) with ESMTP id 4F003;\n\
    \tMon, 23 Nov 2026 16:05:11 +0000 (UTC)\n\
    Received: from mx2.example.com (mx2.example.com [192.0.2.2])\n\
    \tby filter.example.com (8.17.1.9/8.17.1.9) with ESMTP id 6AQ9x7A1000037;\n\
    \tMon, 23 Nov 2026 17:09:10 +0100\n\
    Received: from mx1.example.org by mx2.example.com with esmtp (Exim 4.96)\n\
    \t(envelope-from <alice@example.org>) id 1xWWFv-00000O-1H; Mon, 23 Nov 2026 16:05:10 +0000\n\
    Received: from client by mx1.example.org (Postfix) with ESMTP id 4F001;\n\
    \tMon, 23 Nov 2026 16:05:09 +0000 (UTC)\n";

#[test]
fn received_fields_fill_what_is_missing() {
    let reports = three_hops(&["bob@example.net"]);
    let reports = [(reports[0].clone(), ""), (reports[2].clone(), FIELDS_AT_3)];
    let trails = read(&reports, &[]);
    insta::assert_snapshot!(shown(&trails));
}

/// Where every hop reported, its own MTA's field is no news; a filter's between two hops is.
#[test]
fn received_fields_show_who_stood_between() {
    let reports = three_hops(&["bob@example.net"]);
    let fields = ["", "", FIELDS_AT_3];
    let told: Vec<_> = reports.into_iter().zip(fields).collect();
    let trails = read(&told, &[]);
    let claims: Vec<_> = trails.messages[0]
        .stays
        .iter()
        .map(|s| {
            s.claims
                .iter()
                .map(|claim| (claim.by.clone(), claim.at_us))
                .collect::<Vec<_>>()
        })
        .collect();
    let filter = ("filter.example.com".to_owned(), Some(1_795_450_150_000_000));
    assert_eq!(claims, [vec![], vec![], vec![filter]]);
    let text = terminal::message(&trails.messages[0], &view());
    assert!(
        text.contains("◌ by way of filter.example.com: 17:09:10 by its own clock"),
        "{text}"
    );
}

/// Nobody's fields, dates that are none, and fields about hosts that are not on the way.
#[test]
fn hostile_received_fields_are_shown_safely() {
    let fields = "Received: \u{1b}[31m\nReceived: by \u{1b}[31mevil; Mon, 99 Nov 9999 99:99:99 +9999\n\
        Received: by mx1.example.org\nReceived: from mx3.example.net by mx3.example.net\n";
    let reports = three_hops(&["bob@example.net"]);
    let told: Vec<_> = reports.into_iter().map(|report| (report, fields)).collect();
    let trails = read(&told, &[]);
    assert_eq!(trails.messages[0].stays.len(), 3);
    shown(&trails);
}

/// A message with words of others on it, and Received fields.
pub fn with_words_and_claims() -> Trails {
    let report = lab("mx.p.test", &[("bob@p.test", Event::Relayed)]);
    read(&[(report, FIELDS_AT_3)], &[POSTFIX])
}

pub fn later(minutes: i64) -> crate::trail::render::View {
    crate::trail::render::View {
        now_us: START_US + minutes * 60_000_000,
        ..view()
    }
}

#[test]
fn what_should_have_come_is_called_silent() {
    let mut reports = three_hops(&["bob@example.net", "carol@example.net"]);
    reports.truncate(2);
    let told = |reports: &[HopReport], minutes| {
        let trails = read(&quiet(reports), &[]);
        let (message, view) = (&trails.messages[0], later(minutes));
        let silence = message
            .recipients
            .iter()
            .map(|r| custody(message, r, view.now_us).and_then(|c| c.silence));
        (
            silence.collect::<Vec<_>>(),
            verdict::verdict(message, &view, false),
        )
    };
    let (silence, text) = told(&reports, 10);
    assert_eq!(silence, [Some(Silence::Awaited); 2]);
    assert_eq!(
        text,
        "2 on its way, last in the hands of mx3.example.net since 17:05"
    );
    let (silence, text) = told(&reports, 20);
    assert_eq!(silence, [Some(Silence::Silent); 2]);
    assert_eq!(text, "2 with mx3.example.net (silent since 17:05)");
    // It came with carol's copy, and of that there is news.
    reports.push(HOP3.report(3, Some(2), &[("bob@example.net", Event::Delivered)]));
    let (silence, text) = told(&reports, 20);
    assert_eq!(silence, [None, Some(Silence::SilentOnThis)]);
    assert_eq!(
        text,
        "1 with mx3.example.net (no report on this recipient since 17:05), 1 delivered"
    );
    for (minutes, word) in [
        (10, "which reported on others, not yet on this one"),
        (20, "it may wait there, or be expanded there"),
    ] {
        let trails = read(&quiet(&reports), &[]);
        let view = crate::trail::render::View {
            width: None,
            ..later(minutes)
        };
        let text = terminal::message(&trails.messages[0], &view);
        for word in [word, "no report on this recipient"] {
            assert!(text.contains(word), "no {word} in:\n{text}");
        }
        assert!(!text.contains("no report yet"), "{text}");
    }
    let relayed = [HOP1.report(1, None, &[("bob@example.net", Event::Relayed)])];
    let (silence, text) = told(&relayed, 20);
    assert_eq!(silence, [Some(Silence::NotEquipped)]);
    assert_eq!(text, "trail ends at mx2.example.com (not asked to report)");
    // A hop that does not see mail leave tells of its arrival, and that is all that can come.
    let accepted = [HOP1.report(1, None, &[("bob@example.net", Event::Accepted)])];
    for minutes in [10, 20] {
        let (silence, text) = told(&accepted, minutes);
        assert_eq!(silence, [Some(Silence::Awaited)]);
        assert_eq!(text, "last known at mx1.example.org since 17:05");
    }
}

const POSTFIX: &[u8] = include_bytes!("../../../tests/notices/postfix-failed.eml");
const EXIM: &[u8] = include_bytes!("../../../tests/notices/exim-failed.eml");
const OPENSMTPD: &[u8] = include_bytes!("../../../tests/notices/opensmtpd-failed.eml");
const SENDMAIL: &[u8] = include_bytes!("../../../tests/notices/sendmail-both.eml");
const DISPLAYED: &[u8] = include_bytes!("../../../tests/notices/mdn-displayed.eml");

/// The message that the notices in `tests/notices` are about, as far as a hop followed it.
fn lab(next: &'static str, to: &[(&str, Event)]) -> HopReport {
    let leg = Leg { next, ..HOP2 };
    let mut report = Leg { hop: 1, ..leg }.report(1, None, to);
    report.id = TrackingId::new("trail+4711@origin.test").unwrap();
    report.message_id = Some("lab-1@origin.test".to_owned());
    report
}

#[test]
fn notices_stand_beside_the_trail() {
    let report = lab(
        "mx.p.test",
        &[
            ("bob@p.test", Event::Relayed),
            ("carol@p.test", Event::Relayed),
        ],
    );
    // One of them twice: a copy is no second word.
    let trails = read(&quiet(&[report]), &[POSTFIX, DISPLAYED, POSTFIX]);
    insta::assert_snapshot!(shown(&trails));
    assert_eq!(
        trails.messages[0].outcome(),
        Outcome::Open,
        "nothing is proved"
    );
}

#[test]
fn each_mtas_notice_finds_its_message() {
    for (mail, to, joined) in [
        (POSTFIX, "bob@p.test", Joined::Envid),
        (EXIM, "bob@e.test", Joined::Envid),
        (OPENSMTPD, "bob@o.test", Joined::MessageId),
        (SENDMAIL, "bob@s.test", Joined::Envid),
    ] {
        let trails = read(&quiet(&[lab("mx.test", &[(to, Event::Relayed)])]), &[mail]);
        let message = &trails.messages[0];
        let word = message.last_word(&message.recipients[0]).unwrap();
        assert_eq!(word.joined, joined, "{to}");
        let text = verdict::verdict(message, &view(), false);
        let says = format!(
            " and said to have failed (unproved word of {})",
            word.speaker().unwrap()
        );
        assert!(text.ends_with(&says), "{text}");
        assert_eq!(trails.counts.reports, 1, "a notice is no report");
    }
}

/// A returned message may be as big as mail can be; what is said of it stands in front.
#[test]
fn a_big_bounce_is_no_broken_report() {
    let text = String::from_utf8(POSTFIX.to_vec()).unwrap();
    let big = text.replace("Dear Bob", &"Dear Bob\n".repeat(1_000_000));
    let report = lab("mx.p.test", &[("bob@p.test", Event::Relayed)]);
    let trails = read(&quiet(&[report]), &[big.as_bytes()]);
    assert!(trails.skipped.is_empty(), "{:?}", trails.skipped);
    assert_eq!(trails.messages[0].words.len(), 1);
}

/// By its recipient alone a word is joined only where no other message can be meant.
#[test]
fn a_word_that_names_no_message_is_joined_with_care() {
    let text = String::from_utf8(OPENSMTPD.to_vec()).unwrap();
    let (nameless, _) = text
        .split_once("Content-Description: Message headers")
        .unwrap();
    let nameless = format!("{nameless}\n--12825949393838045381/mx.o.test--\n");
    let nameless = nameless.as_bytes();
    let one = lab("mx.o.test", &[("bob@o.test", Event::Relayed)]);
    let joined = |reports: &[HopReport]| {
        let trails = read(&quiet(reports), &[nameless]);
        let words = trails
            .messages
            .iter()
            .map(|m| m.words.iter().map(|w| w.joined).collect::<Vec<_>>());
        words.collect::<Vec<_>>()
    };
    assert_eq!(joined(std::slice::from_ref(&one)), [[Joined::Recipient]]);
    let mut other = one.clone();
    other.id = TrackingId::new("other").unwrap();
    other.message_id = Some("other@origin.test".to_owned());
    other.step = crate::track::StepId(2);
    assert!(
        joined(&[one.clone(), other.clone()])
            .iter()
            .all(Vec::is_empty)
    );
    other.recipients[0].event = Event::Delivered;
    let mut all = joined(&[one, other]);
    all.sort();
    assert_eq!(
        all,
        [vec![], vec![Joined::Recipient]],
        "only one is still open"
    );
    // One that names a message which is not here is about that one.
    let mut foreign = lab("mx.o.test", &[("bob@o.test", Event::Relayed)]);
    foreign.message_id = Some("another@origin.test".to_owned());
    let trails = read(&quiet(&[foreign]), &[OPENSMTPD]);
    assert!(trails.messages[0].words.is_empty());
}

/// Who knows an ENVID can mail any number of words on the message; the answer stays one that can be read.
#[test]
fn any_number_of_words_takes_a_few_lines() {
    let text = String::from_utf8(SENDMAIL.to_vec()).unwrap();
    let made_up = |n| {
        let other = text.replace("carol@s.test", &format!("u{n}@s.test"));
        other
            .replace("mx.s.test", &format!("mx{n}.s.test"))
            .into_bytes()
    };
    let made_up: Vec<Vec<u8>> = (0..200).map(made_up).collect();
    let notices: Vec<&[u8]> = made_up.iter().map(Vec::as_slice).collect();
    let report = lab("mx.s.test", &[("bob@s.test", Event::Delivered)]);
    let trails = read(&quiet(&[report]), &notices);
    assert_eq!(trails.messages[0].words.len(), 400);
    for text in [
        terminal::message(&trails.messages[0], &view()),
        html::page(&trails, &view()),
    ] {
        assert_eq!(text.matches(", says ").count(), 10, "{text}");
        assert_eq!(text.matches("and 195 more").count(), 2, "{text}");
    }
}

/// A recipient no hop told of is no recipient of the trail: who knows an ENVID could make up any.
#[test]
fn a_word_on_a_stranger_stands_apart() {
    let trails = read(
        &quiet(&[lab("mx.s.test", &[("bob@s.test", Event::Delivered)])]),
        &[SENDMAIL],
    );
    let message = &trails.messages[0];
    assert_eq!((message.recipients.len(), message.words.len()), (1, 2));
    assert_eq!(
        message.outcome(),
        Outcome::Delivered,
        "a hop's word goes before others'"
    );
    let document: serde_json::Value =
        serde_json::from_str(&json::document(&trails, view().now_us)).unwrap();
    let words = document["messages"][0]["words"].as_array().unwrap();
    let told: Vec<_> = words
        .iter()
        .map(|w| {
            (
                w["address"].as_str().unwrap(),
                w["recipient"].as_u64(),
                w["said"].as_str().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            ("bob@s.test", Some(0), "failed"),
            ("carol@s.test", None, "relayed")
        ]
    );
    shown(&trails);
}

/// However many messages are put together at a time, each knows what all of them show.
#[test]
fn messages_one_by_one_know_what_all_know() {
    let mut reports = three_hops(&["bob@example.net"]);
    reports.extend(super::drawn::a_second_ahead_a_minute_later());
    reports.push(lab("mx.p.test", &[("bob@p.test", Event::Relayed)]));
    let dir = mailbox(&quiet(&reports), &[POSTFIX]);
    let source = crate::trail::Source::at(dir.path()).unwrap();
    let mut reports = crate::trail::Reports::of([source], Some(&secret()));
    reports.update().unwrap();
    let all = reports.trails().messages;
    assert!(all.iter().flat_map(|m| &m.stays).any(|s| s.jump.is_some()));
    assert!(all.iter().any(|m| !m.words.is_empty()));
    let mut one_by_one = Vec::new();
    let take = |trails: Trails| {
        one_by_one.extend(trails.messages);
        Ok::<(), std::convert::Infallible>(())
    };
    let Ok(()) = reports.groups(|_| true).in_parts(1, |t| t, take);
    assert_eq!(format!("{one_by_one:?}"), format!("{all:?}"));
    for message in &all {
        let id = message.id.as_str();
        let alone = reports.groups(|about| about.id == id).trails().messages;
        assert_eq!(format!("{alone:?}"), format!("{:?}", [message]));
    }
}

/// A bounce on this message, of somebody behind an address that it was sent to, or of anybody.
fn bounce(original: &str, recipient: &str) -> Vec<u8> {
    format!(
        "From: MAILER-DAEMON@mx.example.info\r\nTo: alice@example.org\r\nDate: Mon, 23 Nov 2026 16:06:00 +0000\r\n\
         MIME-Version: 1.0\r\n\
         Content-Type: multipart/report; report-type=delivery-status; boundary=b\r\n\r\n\
         --b\r\n\r\nIt failed.\r\n--b\r\nContent-Type: message/delivery-status\r\n\r\n\
         Reporting-MTA: dns; mx.example.info\r\nOriginal-Envelope-Id: 7f3a91c2@mail.example.org\r\n\r\n\
         Original-Recipient: rfc822; {original}\r\nFinal-Recipient: rfc822; {recipient}\r\n\
         Action: failed\r\nStatus: 5.1.1\r\nDiagnostic-Code: smtp; 550 5.1.1 no such user\r\n\r\n--b--\r\n"
    )
    .into_bytes()
}

#[test]
fn what_fails_behind_a_mailbox_a_list_or_for_a_stranger_is_told_as_that() {
    let told = |event, original, recipient| {
        let mut reports = three_hops(&["bob@example.net"]);
        reports[2] = HOP3.report(3, Some(2), &[("bob@example.net", event)]);
        let trails = read(&quiet(&reports), &[&bounce(original, recipient)]);
        let message = &trails.messages[0];
        assert_eq!(message.words.len(), 1);
        (verdict::verdict(message, &view(), true), shown(&trails))
    };
    let (forward, _) = told(Event::Delivered, "bob@example.net", "bob@example.info");
    let behind = ", then said to have failed behind the mailbox (unproved)";
    assert!(
        forward.starts_with("delivered in ") && forward.ends_with(behind),
        "{forward}"
    );
    let (list, _) = told(Event::Expanded, "bob@example.net", "member@example.info");
    assert_eq!(
        list,
        "expanded by mx3 to others, one of whom is said to have failed (unproved)"
    );
    let (stranger, shown) = told(Event::Delivered, "zed@example.info", "zed@example.info");
    assert!(stranger.starts_with("delivered in "), "{stranger}");
    assert!(
        shown.contains(
            "zed@example.info, to whom this message was not sent as far as the hops tell\n"
        ),
        "{shown}"
    );
}
