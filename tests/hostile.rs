//! What strangers and broken peers say: nothing of it becomes a line of a report, of the log, of the mail or of the
//! dialogue with the next hop, and nothing asks for tracking that may not.

#![allow(clippy::expect_used)]

mod support;

use std::thread;
use std::time::{Duration, Instant};

use support::hop::{FROM, Hop};
use support::mail::{Mail, Report};
use support::measured;
use support::sink::Sink;

const BOB: [&str; 1] = ["bob@dest.test"];
const MESSAGE: &str = "Message-ID: <m1@origin.test>\r\nSubject: x\r\n\r\nlast\r\n";
/// A hop would have told by then what it tells.
const SILENCE: Duration = Duration::from_secs(1);

/// A message of alice's comes with these parameters; as the MTA gets it.
fn arrive(hop: &Hop, parameters: &str, to: &[&str], message: &[u8]) -> Vec<u8> {
    let mail = format!("{FROM} {parameters}");
    hop.arrive_with(&mail, to, message).data
}

/// A carry header as the hop makes it for [`MESSAGE`], out of a message that has come and not left.
fn carry(hop: &Hop) -> String {
    let data = arrive(hop, "TRACK=NOW ENVID=E1", &BOB, MESSAGE.as_bytes());
    let text = String::from_utf8(data).expect("text");
    let carry = text.strip_suffix(MESSAGE).expect("the message behind it");
    assert!(carry.starts_with("Hoptrail-Carry:"), "{carry}");
    carry.to_owned()
}

/// A message goes in and out as it is, and asks for nothing.
fn assert_passes_as_text(hop: &Hop, message: &str) {
    let came = arrive(hop, "", &BOB, message.as_bytes());
    assert_eq!(String::from_utf8_lossy(&came), message);
    let left = hop.pass_on(&BOB, message.as_bytes());
    assert_eq!(String::from_utf8_lossy(&left.data), message);
    assert!(!left.mail_from.contains("TRACK"), "{left:?}");
}

/// The events told when no more come.
fn told(hop: &Hop) -> Vec<String> {
    thread::sleep(SILENCE);
    let reports = hop.mails();
    let reports = reports.iter().filter_map(Mail::report);
    reports
        .flat_map(|report| report.of_recipients("X-Hoptrail-Event"))
        .collect()
}

/// Nothing that the hop has written holds a line or a control that is not its own.
fn assert_untouched(hop: &Hop) {
    for mail in hop.mails() {
        let text = format!("{mail:?}");
        let odd = |c: char| c.is_control() && c != '\n';
        assert!(text.is_ascii() && !text.contains(odd), "{text:?}");
        assert!(
            !text.lines().any(|line| line.starts_with("X-Evil")),
            "{text}"
        );
        let report = mail.report().expect("a report");
        let whole = report.of_recipients("X-Hoptrail-Event").len();
        assert_eq!(whole, report.of_recipients("Status").len());
    }
    for line in hop.hoptrail.log().lines() {
        assert!(!line.contains(char::is_control), "{line:?}");
        let parsed: Result<serde_json::Value, _> = serde_json::from_str(line);
        assert!(parsed.is_ok(), "{line}");
    }
    for command in [hop.mta.commands(), hop.next.commands()].concat() {
        assert!(!command.starts_with("X-Evil"), "{command}");
    }
}

#[test]
fn a_carry_header_counts_for_its_own_mail_alone() {
    let hop = Hop::tracking(Sink::smtp(), "");
    let carry = carry(&hop);
    let other = MESSAGE.replace("m1@", "m2@");
    let without = MESSAGE.replace("Message-ID: <m1@origin.test>\r\n", "");
    for message in [&other, &without] {
        // At the door it is taken out; behind the MTA too, and in neither place honoured.
        let came = arrive(&hop, "", &BOB, format!("{carry}{message}").as_bytes());
        assert_eq!(String::from_utf8_lossy(&came), *message);
        let left = hop.pass_on(&BOB, format!("{carry}{message}").as_bytes());
        assert_eq!(String::from_utf8_lossy(&left.data), *message);
        assert!(!left.mail_from.contains("TRACK"), "{left:?}");
    }
    // Any octet of it changed, and it is nobody's: it stays.
    for (from, to) in [
        ("id=E1", "id=E2"),
        ("told=0", "told=1"),
        ("back=0", "back=1"),
        ("by=network", "by=carry"),
        ("step=", "step=0"),
        ("req=NOW", "req=NOW:max/9"),
        ("v=1", "v=2"),
    ] {
        let forged = carry.replace(from, to);
        assert_ne!(forged, carry, "{from}");
        let message = format!("{forged}{MESSAGE}");
        assert_passes_as_text(&hop, &message);
    }
    assert_eq!(told(&hop), Vec::<String>::new());
    assert_untouched(&hop);
}

/// Out of a copy, by a client that may ask: nobody is named who was not named at first, and nothing comes back that has left.
#[test]
fn a_carry_header_that_is_replayed_tells_nothing() {
    let mut hop = Hop::tracking(Sink::smtp(), "");
    let carried = arrive(&hop, "TRACK=NOW ENVID=E1", &BOB, MESSAGE.as_bytes());
    hop.pass_on(&BOB, &carried);
    hop.wait_for_mails(1);
    let alias = MESSAGE.replace("m1@", "m2@");
    let alias = arrive(
        &hop,
        "TRACK=NOW ENVID=E2",
        &["team@dest.test"],
        alias.as_bytes(),
    );
    for n in 0..20 {
        let victim = format!("victim{n}@dest.test");
        for (carried, to) in [(&carried, BOB[0]), (&carried, &victim), (&alias, &victim)] {
            let came = arrive(&hop, "", &[to], carried);
            assert!(!came.starts_with(b"Hoptrail-Carry:"), "{to}");
        }
    }
    assert_eq!(told(&hop), ["transferred"]);
    // Behind an undeclared content filter a member came back, and it cannot be told who is left.
    hop.hoptrail.let_pass(60);
    assert_eq!(told(&hop), ["transferred"]);
}

#[test]
fn a_carry_header_in_a_body_a_part_or_another_field_is_text() {
    let hop = Hop::tracking(Sink::smtp(), "");
    let carry = carry(&hop);
    let folded = format!("X-Seen: a\r\n {}", carry.replace("\r\n ", "\r\n\t"));
    for message in [
        format!("{folded}{MESSAGE}"),
        format!("{MESSAGE}{carry}"),
        format!("Subject: nested\r\nContent-Type: message/rfc822\r\n\r\n{carry}{MESSAGE}"),
        format!(
            "Content-Type: multipart/report; report-type=delivery-status; boundary=b\r\n\r\n--b\r\n\
             Content-Type: text/rfc822-headers\r\n\r\n{carry}{MESSAGE}--b--\r\n"
        ),
        format!(
            "X-Hoptrail-Carry: {}{MESSAGE}",
            carry.trim_start_matches("Hoptrail-Carry: ")
        ),
    ] {
        assert_passes_as_text(&hop, &message);
    }
    assert_eq!(told(&hop), Vec::<String>::new());
    assert_untouched(&hop);
}

/// The words of a next hop, whatever they hold, are one line of a report; the MTA gets them as they are.
#[test]
fn a_next_hops_words_stay_words() {
    const WORDS: [&str; 6] = [
        "250-2.0.0 ok\r\n250-X-Evil: 1\r\n250 \r\n",
        "250 2.0.0 \u{1b}[2J\u{7}\0ok queued as \u{1b}]0;X\u{7}",
        "250 2.0.0 ok\rX-Evil: 1",
        "250 2.0.0 queued as <X-Evil: 1>\u{202e}\u{e4}",
        "250 2.0.0 ok Content-Type: text/html --hoptrail <script>alert(1)</script>",
        "250 9.9.9999 ok",
    ];
    let next = WORDS
        .iter()
        .fold(Sink::smtp().greet("220 \u{1b}[2Jevil"), |next, words| {
            next.once("DOT", words.trim_end_matches("\r\n"))
        });
    let hop = Hop::tracking(next, "");
    for n in 0..WORDS.len() {
        let carried = arrive(&hop, "TRACK=NOW", &BOB, MESSAGE.as_bytes());
        hop.pass_on(&BOB, &carried);
        hop.wait_for_mails(n + 1);
    }
    // Refused in the same words.
    let next = Sink::smtp().always(
        "DOT",
        "550-5.7.1 no\r\n550-X-Evil: 1\u{1b}[2J\r\n550 5.7.1 never",
    );
    let refusing = Hop::tracking(next, "");
    let carried = arrive(&refusing, "TRACK=NOW", &BOB, MESSAGE.as_bytes());
    refusing.pass_on(&BOB, &carried);
    refusing.wait_for_mails(1);
    assert_eq!(told(&refusing), ["failed"]);
    for hop in [&hop, &refusing] {
        assert_untouched(hop);
    }
}

/// Who writes controls into ENVID and ORCPT names nothing: an id is made up, the address is that of RCPT.
#[test]
fn controls_in_xtext_name_nothing() {
    let hop = Hop::tracking(Sink::smtp(), "");
    for (n, envid) in ["E1+0D+0AX-Evil:+201", "+00", "a+1B[2J", "+C3+A4", "a+0"]
        .iter()
        .enumerate()
    {
        let rcpt = "RCPT TO:<bob@dest.test> ORCPT=rfc822;bob+0D+0AX-Evil:+201@dest.test".to_owned();
        let mail = format!("{FROM} TRACK=NOW ENVID={envid}");
        let carried = hop.arrive_as(&mail, &[rcpt], MESSAGE.as_bytes());
        let left = hop.pass_on(&BOB, &carried.data);
        assert!(!left.mail_from.contains("Evil"), "{left:?}");
        let reports = hop.wait_for_mails(n + 1);
        let mut reports = reports.iter().filter_map(Mail::report);
        assert!(reports.all(|report| is_plain(&report)), "{envid}");
    }
    assert_untouched(&hop);
}

fn is_plain(report: &Report) -> bool {
    let id = report.field("Original-Envelope-Id");
    let minted = id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit());
    minted && report.of_recipients("Original-Recipient") == ["rfc822; bob@dest.test"]
}

#[test]
fn ten_thousand_recipients_are_one_report() {
    const COUNT: usize = 10_000;
    let hop = Hop::tracking(Sink::smtp(), "limits = { recipients_max = 10000 }");
    let all: Vec<String> = (0..COUNT).map(|n| format!("r{n}@dest.test")).collect();
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    let begun = Instant::now();
    let carried = arrive(&hop, "TRACK=NOW ENVID=E1", &all, MESSAGE.as_bytes());
    let left = hop.pass_on(&all, &carried);
    assert_eq!(left.recipients.len(), COUNT);
    let reports = hop.wait_for_mails(1);
    let took = begun.elapsed();
    let report = reports[0].report().expect("a report");
    assert_eq!(
        report.of_recipients("X-Hoptrail-Event"),
        vec!["transferred"; COUNT]
    );
    let timeline = support::hoptrail::User::stranger().timeline_json(hop.reports.path(), "E1");
    let known = timeline["messages"][0]["recipients"]
        .as_array()
        .map(Vec::len);
    assert_eq!(known, Some(COUNT));
    measured(
        "a tracked message to 10,000 recipients, in and out, to its one report",
        format_args!("{} ms, {} octets", took.as_millis(), reports[0].octets()),
    );
    // One more is not followed, and goes through.
    let more = [&all[..], &["one.more@dest.test"]].concat();
    let untracked = arrive(&hop, "TRACK=NOW ENVID=E2", &more, MESSAGE.as_bytes());
    assert_eq!(untracked, MESSAGE.as_bytes());
    assert_eq!(hop.mails().len(), 1);
}

#[test]
fn huge_headers_pass_and_are_told_in_bounds() {
    let hop = Hop::tracking(Sink::smtp(), "");
    let lines = |octets: usize| {
        "X-Many: 0123456789abcdef0123456789abcdef0123456789abcdef01\r\n".repeat(octets / 60)
    };
    let id = |id: &str| MESSAGE.replace("m1@origin.test", id);
    let messages = [
        // Just under the limit of 64 KiB, and over it.
        (true, format!("{}{MESSAGE}", lines(65_000))),
        (false, format!("{}{MESSAGE}", lines(66_000))),
        (true, format!("X-Long: {}\r\n{MESSAGE}", "x".repeat(60_000))),
        (true, format!("{}{MESSAGE}", "A:\r\n".repeat(15_000))),
        // Message-IDs that cannot stand in a report.
        (true, id(&"i".repeat(5000))),
        (true, id("a>\r\n\tX-Evil: 1 <b")),
        (true, id("a\u{1b}[2J@b")),
    ];
    let tracked = messages.iter().filter(|(tracked, _)| *tracked).count();
    for (tracked, message) in &messages {
        let came = arrive(&hop, "TRACK=NOW", &BOB, message.as_bytes());
        assert_eq!(came.starts_with(b"Hoptrail-Carry:"), *tracked);
        assert!(came.ends_with(message.as_bytes()));
        let left = hop.pass_on(&BOB, &came);
        assert_eq!(String::from_utf8_lossy(&left.data), *message);
    }
    for mail in hop.wait_for_mails(tracked) {
        assert!(mail.octets() < 10_000, "{mail:?}");
    }
    assert_eq!(told(&hop).len(), tracked);
    assert_untouched(&hop);
}
