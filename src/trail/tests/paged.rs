//! What stands on the web page and in its picture. That a browser shows it is tests/page.rs' matter.

use proptest::prelude::*;

use super::drawn::a_second_ahead_a_minute_later;
use super::heard::with_words_and_claims;
use super::world::{HOP1, HOP2, HOP3, Leg, read, read_by, secret, three_hops, unread, view};
use crate::track::clean::is_hidden;
use crate::track::{Event, Exchange, Security, StepId, TrackingId};
use crate::trail::render::html::page;
use crate::trail::{NotOurs, Trails, Why};

/// Everything a stranger can choose says `text`.
fn told_by_a_stranger(text: &str) -> Trails {
    let bob = |event| {
        [
            ("bob@example.net", event),
            ("carol@example.net", Event::Delayed),
        ]
    };
    let mut reports = vec![
        HOP1.report(1, None, &bob(Event::Transferred)),
        HOP2.report(2, Some(1), &bob(Event::Failed)),
        HOP3.report(3, Some(7), &bob(Event::Transferred)),
    ];
    for (n, report) in reports.iter_mut().enumerate() {
        report.reporting_mta = text.into();
        report.queue_id = Some(text.into());
        report.message_id = Some(text.to_owned());
        report.tls_in = Some(Security::Tls {
            version: text.to_owned().into(),
            cipher: text.to_owned().into(),
            verified: false,
        });
        report.tls_out.clone_from(&report.tls_in);
        for (k, group) in report.recipients.iter_mut().enumerate() {
            group.original = format!("{k}{text}").into();
            group.recipient = text.into();
            group.remote_mta = Some(format!("{n}{text}").into());
            group.reply = Some(text.to_owned());
            group.remote_queue_id = Some(text.into());
        }
    }
    let mut trails = unread(reports);
    if let Some(id) = TrackingId::new(text) {
        trails.messages[0].id = id;
    }
    trails.messages.push(trails.messages[0].clone());
    trails.not_ours.push(NotOurs {
        id: trails.messages[0].id.clone(),
        host: text.to_owned(),
        known_as: None,
        from: Some(text.to_owned()),
        why: Why::WrongProof,
    });
    trails
}

/// The page without what stands between and inside its tags but for their names.
fn skeleton(page: &str) -> Vec<String> {
    let tags = page.split('<').skip(1);
    let name = |tag: &str| {
        tag.split([' ', '>', '\n'])
            .next()
            .unwrap_or_default()
            .to_owned()
    };
    tags.map(name).collect()
}

#[test]
fn markup_of_strangers_is_text() {
    let benign = skeleton(&page(&told_by_a_stranger("x"), &view()));
    for text in [
        "<script>alert(1)</script>",
        "</title></style><img src=x onerror=alert(1)>",
        "\"><svg onload=alert(1)>",
        "' onmouseover='alert(1)",
        "]]><!-- --><![CDATA[",
        "&lt;b&gt; &#60;b&#62;",
        "\u{1b}]0;gone\u{7}\u{9b}31m\u{202e}<b>\u{200b}\u{feff}\0",
        "</text><foreignObject><iframe src=//x.example>",
        "{{7*7}} ${x} url(//x.example)",
    ] {
        let page = page(&told_by_a_stranger(text), &view());
        assert_eq!(skeleton(&page), benign, "{text}");
        let steers = |c: char| c != '\n' && is_hidden(c);
        assert!(!page.contains(steers), "{text}: {page}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn no_string_makes_a_tag(text in "\\PC{0,24}|[<>&\"'/=! -~\\x00-\\x1f\u{202a}-\u{202e}]{0,24}") {
        let benign = skeleton(&page(&told_by_a_stranger("x"), &view()));
        let page = page(&told_by_a_stranger(&text), &view());
        prop_assert_eq!(skeleton(&page), benign);
        prop_assert!(!page.contains(|c: char| c != '\n' && is_hidden(c)));
    }

    /// Whatever the stamps and links: no panic, and every place lies in the picture.
    #[test]
    fn any_reports_make_a_picture(
        reports in proptest::collection::vec(
            (0u64..12, proptest::option::of(0u64..14), 1u8..5, 0usize..3, any::<i64>(), 0..Event::ALL.len()), 1..14)
    ) {
        let made = reports.iter().map(|(step, parent, hop, host, time, event)| {
            let fates = [("bob@example.net", Event::ALL[*event]), ("carol@example.net", Event::ALL[(*event + 1) % Event::ALL.len()])];
            let mut report = HOP1.report(*step, *parent, &fates);
            report.hop = *hop;
            report.reporting_mta = ["a.example", "b.example", "c.example"][*host].into();
            report.arrival_us = *time;
            report.times_in[4].command_us = *time;
            report.step = StepId(*step);
            report
        });
        let page = page(&unread(made.collect()), &view());
        prop_assert!(page.contains("<figure>"));
        for part in page.split('"').filter(|part| part.ends_with('%')) {
            let percent: f64 = part.trim_end_matches('%').parse().unwrap();
            prop_assert!((0.0..=100.0).contains(&percent), "{}", part);
        }
    }
}

/// The first hop has the message for more than five seconds, for five of which it waits for the reply to RCPT.
fn slow_answers() -> Trails {
    const SLOW_US: i64 = 5_000_000;
    let slow = |times: &mut [Exchange]| {
        for (n, exchange) in times.iter_mut().enumerate() {
            exchange.command_us -= if n <= 2 { SLOW_US } else { 0 };
            exchange.reply_us -= if n < 2 { SLOW_US } else { 0 };
        }
    };
    let mut reports = three_hops(&["bob@example.net"]);
    slow(&mut reports[0].times_out);
    slow(&mut reports[1].times_in);
    for exchange in &mut reports[0].times_in {
        exchange.command_us -= SLOW_US;
        exchange.reply_us -= SLOW_US;
    }
    read(&reports)
}

/// What the next server takes its time for is not drawn as the hop's own doing.
#[test]
fn the_wait_for_answers_is_drawn_apart() {
    let hollow = "Where a bar is hollow the hop waited for answers of the next one.";
    let told = [
        hollow,
        "<rect class=\"answers\"",
        ">waiting for the next server's answers<",
    ];
    let quick = page(&read(&three_hops(&["bob@example.net"])), &view());
    for words in told {
        assert!(!quick.contains(words), "{words}");
    }
    let slow = page(&slow_answers(), &view());
    for words in told {
        assert!(slow.contains(words), "no {words}: {slow}");
    }
    // Of the time on the axis, that of the bar: 5.00 s of 7.73.
    let (_, drawn) = slow.split_once("<rect class=\"answers\" x=\"").unwrap();
    let (_, drawn) = drawn.split_once("width=\"").unwrap();
    let (percent, _) = drawn.split_once('%').unwrap();
    let percent: f64 = percent.parse().unwrap();
    assert!((61.0..62.0).contains(&percent), "{percent}");
}

/// What the hop kept after a refusal waits as what was put off does, and is called so.
#[test]
fn a_wait_after_a_refusal_is_drawn_as_one() {
    let bob = |event| [("bob@example.net", event)];
    let later = Leg {
        went_ms: 9_480,
        ..HOP1
    };
    let page = page(
        &read(&[
            HOP1.report(1, None, &bob(Event::Failed)),
            later.report(2, None, &bob(Event::Relayed)),
        ]),
        &view(),
    );
    assert!(page.contains("<line class=\"wait\""), "{page}");
    let words = "put off by the next server, or refused and kept, until it was tried again";
    assert_eq!(
        page.matches(words).count(),
        2,
        "the line and the legend: {page}"
    );
    assert!(!page.contains("sign failed"), "{page}");
}

#[test]
fn the_page_asks_for_nothing_and_runs_nothing() {
    let page = page(&told_by_a_stranger("http://x.example/"), &view());
    for tag in [
        "script", "link", "img", "iframe", "object", "embed", "base", "form",
    ] {
        assert!(!skeleton(&page).contains(&tag.to_owned()), "{tag}");
    }
    for attribute in [" src=", " style=", " onload=", " srcdoc="] {
        assert!(!page.contains(attribute), "{attribute}");
    }
    let hrefs = page.split(" href=\"").skip(1);
    assert!(hrefs.clone().count() > 0 && hrefs.clone().all(|href| href.starts_with('#')));
    assert!(page.contains("default-src &#39;none&#39;") || page.contains("default-src 'none'"));
}

/// The picture on a wide page: a line for each text, bar, line and sign.
fn drawn(trails: &Trails) -> String {
    let page = page(trails, &view());
    let (_, picture) = page.split_once("<svg class=\"way\"").unwrap();
    let (picture, _) = picture.split_once("<figcaption>").unwrap();
    let tags = picture.split('<').filter(|tag| {
        let word = tag.split(' ').next().unwrap_or_default();
        let narrow = tag.contains(" narrow\"") || tag.contains("class=\"grid\"");
        ["text", "rect", "line", "svg", "title>inside"].contains(&word) && !narrow
    });
    let bare = |tag: &str| {
        let tag = tag.replace(" overflow=\"visible\" aria-hidden=\"true\"", "");
        tag.replace(" width=\"1\" height=\"1\"", "")
            .trim_end_matches('>')
            .to_owned()
    };
    tags.map(bare).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_way_with_a_fork_a_wait_and_a_failure() {
    let reports = vec![
        HOP1.report(
            1,
            None,
            &[
                ("bob@example.net", Event::Transferred),
                ("carol@example.net", Event::Transferred),
            ],
        ),
        Leg {
            next: "mx.example.info",
            ..HOP1
        }
        .report(2, None, &[("erin@example.info", Event::Relayed)]),
        HOP2.report(3, Some(1), &[("bob@example.net", Event::Transferred)]),
        HOP2.report(4, Some(1), &[("carol@example.net", Event::Delayed)]),
        HOP3.report(5, Some(3), &[("bob@example.net", Event::Failed)]),
    ];
    insta::assert_snapshot!(drawn(&read(&reports)));
}

#[test]
fn clocks_that_cannot_be_compared_and_a_hop_without_a_report() {
    let mut reports = three_hops(&["bob@example.net"]);
    reports.remove(1);
    insta::assert_snapshot!(drawn(&read(&reports)));
}

/// A fifth of a second forth and back on the wire: the times behind it are known that well, and drawn so.
#[test]
fn bounds_of_a_clock_are_drawn() {
    let mut reports = three_hops(&["bob@example.net"]);
    for exchange in &mut reports[0].times_out {
        exchange.command_us -= 200_000;
    }
    let wide = page(&read(&reports), &view());
    assert!(wide.contains("its clock is known to ± 103 ms"), "{wide}");
    assert!(
        wide.contains("so far all times of the row may be off"),
        "{wide}"
    );
    let close = page(&read(&three_hops(&["bob@example.net"])), &view());
    assert!(!close.contains("class=\"bounds\"") && !close.contains("may be off"));
}

#[test]
fn the_page_of_many_and_of_one_and_of_none() {
    let mut other = three_hops(&["erin@example.info"]);
    for report in &mut other {
        report.id = TrackingId::new("7f3a91c2-other").unwrap();
        report.step.0 += 100;
        report.parent = report.parent.map(|p| StepId(p.0 + 100));
        report.sent_ms = report.sent_ms.map(|ms| ms + 1000);
    }
    other.truncate(1);
    let two = [three_hops(&["bob@example.net"]), other].concat();
    let two = page(&read(&two), &view());
    let place = |words: &str| {
        two.find(words)
            .unwrap_or_else(|| panic!("no {words}: {two}"))
    };
    assert!(two.contains("<title>2 messages: 1 not settled, 1 delivered – hoptrail</title>"));
    assert!(place("<nav") < place("<article"), "the list comes first");
    assert!(
        place("erin@example.info") < place("bob@example.net"),
        "the newest comes first"
    );
    let one = page(&read(&three_hops(&["bob@example.net"])), &view());
    assert!(
        one.contains("<title>Delivered in 2.73 s – hoptrail</title>"),
        "{one}"
    );
    assert!(!one.contains("<nav"), "one message needs no list");
    let none = read_by(&[], None, Some(&secret()));
    assert!(page(&none, &view()).contains("No message."));
}

/// What the terminal says of filters, rings, clocks that were set and of what nobody proves, stands on the page too.
#[test]
fn the_page_says_what_the_terminal_says() {
    let says = |trails: &Trails, words: &[&str]| {
        let page = page(trails, &view());
        for words in words {
            assert!(page.contains(words), "no {words}: {page}");
        }
    };
    let mut reports = three_hops(&["bob@example.net"]);
    reports[1].filtered_us = Some(reports[1].arrived_us() + 1_800_000);
    says(
        &read(&reports),
        &["back from the content filter after 1.80 s"],
    );
    let mut looped = HOP1.report(1, None, &[("bob@example.net", Event::Looped)]);
    looped.ring = [HOP1.host, HOP2.host, HOP1.host].map(str::to_owned).into();
    says(
        &read(&[looped]),
        &[
            "back again, in a ring: mx1.example.org → mx2.example.com → mx1.example.org",
            "class=\"sign looped\"",
        ],
    );
    let mut reports = three_hops(&["bob@example.net"]);
    reports.extend(a_second_ahead_a_minute_later());
    says(
        &read(&reports),
        &[
            "its clock or that of mx3.example.net was set by 1.00 s",
            "its clock or that of mx3.example.net was set meanwhile<",
        ],
    );
    says(
        &with_words_and_claims(),
        &[
            "? failed ",
            ", says mx.p.test (unproved), status 5.1.1",
            "◌ ",
            " (unproved)",
        ],
    );
}
