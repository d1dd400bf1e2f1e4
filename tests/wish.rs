//! How people ask whose client does not speak TRACK: a header field and rules of the configuration, at an
//! ingress in front of a scripted MTA. What passes and what is taken out, octet for octet, is in
//! `tests/dialogues/ingress-request-header*.txt` and `ingress-rules.txt`.

#![allow(clippy::expect_used)]

mod support;

use support::dialogue::Dialogue;
use support::ingress::Ingress;
use support::mail::{Mail, Report};
use support::sink::Sink;

const SENDER: &str = "alice@origin.test";
const MESSAGE: &str = "Message-ID: <m1@origin.test>\r\nSubject: x\r\n\r\nbody\r\n";
/// B, as somebody with a secret would set it.
const B: &str = "CQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQk";

/// A client that has said hello.
fn client(hop: &Ingress) -> Dialogue {
    let mut client = hop.client();
    client.command("EHLO client.test", "250");
    client
}

/// The last of so many messages at the MTA.
fn seen(hop: &Ingress, count: usize) -> String {
    let transactions = hop.mta.wait_for(count);
    let last = transactions.last().expect("one at least");
    String::from_utf8(last.data.clone()).expect("text")
}

/// One transaction in a session that has said hello.
fn submit(client: &mut Dialogue, parameters: &str, message: &str) {
    client.command(&format!("MAIL FROM:<{SENDER}>{parameters}"), "250");
    client.command("RCPT TO:<bob@dest.test>", "250");
    client.data(message.as_bytes());
    client.expect("250");
}

#[test]
fn a_header_field_asks_as_the_parameter_does() {
    let hop = Ingress::with(Sink::smtp(), "", "request_header = 'X-Track'");
    let message =
        format!("X-Track: NOW:c256/{B}\r\n :t/1795478400000:id/mine (please)\r\n{MESSAGE}");
    submit(&mut client(&hop), "", &message);
    let seen = seen(&hop, 1);
    let (carry, rest) = seen.split_at(seen.find("Message-ID:").expect("the message"));
    assert!(
        carry.starts_with("Hoptrail-Carry: v=1; kid=") && rest == MESSAGE,
        "{seen}"
    );

    let report = &hop.reports(1)[0];
    assert_eq!(report.field("Original-Envelope-Id"), "mine");
    assert_eq!(report.field("X-Hoptrail-Message-Id"), "m1@origin.test");
    assert!(report.field("X-Hoptrail-Auth").starts_with("hmac-sha256"));
    assert_eq!(report.of_recipients("X-Hoptrail-Event"), ["accepted"]);
    let mail = &Mail::in_maildir(hop.reports.path())[0];
    assert_eq!(mail.field("To"), Some(format!("<{SENDER}>")));
}

#[test]
fn what_was_said_at_mail_outranks_the_header_and_that_a_rule() {
    let both = "request_header = 'X-Track'\ntrack = [{ from = 'origin.test' }]";
    let hop = Ingress::with(Sink::smtp(), "", both);
    let mut client = client(&hop);
    let asking = format!("X-Track: NOW:id/header:c256/{B}\r\n{MESSAGE}");
    submit(&mut client, " TRACK=NOW:id/parameter", &asking);
    assert!(seen(&hop, 1).ends_with(MESSAGE) && !seen(&hop, 1).contains("X-Track"));
    submit(&mut client, "", &asking);
    submit(&mut client, " ENVID=envelope", MESSAGE);
    let mut reports = hop.reports(3);
    reports.sort_by_key(|report| report.field("Original-Envelope-Id"));
    let ids: Vec<String> = reports
        .iter()
        .map(|r| r.field("Original-Envelope-Id"))
        .collect();
    assert_eq!(ids, ["envelope", "header", "parameter"]);
    let proved: Vec<bool> = reports
        .iter()
        .map(|report| format!("{report:?}").contains("X-Hoptrail-Auth"))
        .collect();
    assert_eq!(proved, [false, true, false], "a rule has no certificate");
}

#[test]
fn only_who_may_ask_asks_and_a_login_makes_the_difference() {
    let mta = Sink::smtp()
        .offer("AUTH PLAIN")
        .once("AUTH", "235 2.7.0 ok");
    let wishes = "request_header = 'X-Track'\ntrack = [{ one_in = 1 }]";
    let hop = Ingress::with(mta, "[policy]\nallow = ['authenticated']", wishes);
    let mut client = client(&hop);
    let asking = format!("X-Track: NOW\r\n{MESSAGE}");
    submit(&mut client, "", &asking);
    assert_eq!(seen(&hop, 1), asking, "a stranger's mail passes as it is");
    client.command("AUTH PLAIN AGFsaWNlAHB3", "235");
    submit(&mut client, "", &asking);
    assert!(seen(&hop, 2).starts_with("Hoptrail-Carry:") && seen(&hop, 2).ends_with(MESSAGE));
    assert_eq!(hop.reports(1).len(), 1);
}

#[test]
fn one_in_n_is_about_one_in_n() {
    const MESSAGES: usize = 200;
    let hop = Ingress::with(
        Sink::smtp(),
        "",
        "track = [{ to = 'dest.test', one_in = 4 }]",
    );
    let mut client = client(&hop);
    for _ in 0..MESSAGES {
        client.command(&format!("MAIL FROM:<{SENDER}>"), "250");
        for recipient in ["bob", "carol", "dora", "eve"] {
            client.command(&format!("RCPT TO:<{recipient}@dest.test>"), "250");
        }
        client.data(MESSAGE.as_bytes());
        client.expect("250");
    }
    let seen = hop.mta.wait_for(MESSAGES);
    let tracked = seen
        .iter()
        .filter(|t| t.data.starts_with(b"Hoptrail-Carry:"));
    let tracked = tracked.count();
    // 50 are to be expected; fewer than 15 or more than 95 come once in a billion runs.
    assert!((15..=95).contains(&tracked), "{tracked} of {MESSAGES}");
}

#[test]
fn a_message_that_came_back_is_not_asked_for_anew() {
    let both = "request_header = 'X-Track'\ntrack = [{ from = 'origin.test' }]";
    let hop = Ingress::with(Sink::smtp(), "", both);
    let mut client = client(&hop);
    submit(&mut client, "", MESSAGE);
    let carried = seen(&hop, 1);
    assert!(carried.starts_with("Hoptrail-Carry:"), "{carried}");
    submit(&mut client, "", &format!("X-Track: NOW\r\n{carried}"));
    assert_eq!(seen(&hop, 2), MESSAGE);
    let event = |report: &Report| report.of_recipients("X-Hoptrail-Event").remove(0);
    let mut told: Vec<_> = hop.reports(2).iter().map(event).collect();
    told.sort();
    assert_eq!(told, ["accepted", "looped"]);
    // In the next round nothing but the trace of the last one tells.
    let again = format!("Received: from a.test\r\n\tby MX1.test (b) with SMTP\r\n{MESSAGE}");
    submit(&mut client, "", &again);
    assert_eq!(seen(&hop, 3), again);
    for trace in ["by mx1.test.example", "from mx1.test by b", "by xmx1.test"] {
        let other = format!("Received: {trace} with SMTP\r\n{MESSAGE}");
        submit(&mut client, "", &other);
    }
    let seen = hop.mta.wait_for(6);
    let tracked = seen[3..].iter();
    assert!(
        tracked
            .into_iter()
            .all(|t| t.data.starts_with(b"Hoptrail-Carry:"))
    );
    assert_eq!(hop.reports(5).len(), 5);
}

/// Such an MTA would take the request with MAIL, but that has gone by.
#[test]
fn a_late_request_crosses_by_carry_header_whatever_the_mta_offers() {
    let both = "request_header = 'X-Track'\ntrack = [{ to = 'dest.test' }]";
    let hop = Ingress::with(Sink::smtp().offer("TRACK NOW"), "", both);
    let mut client = client(&hop);
    for (count, message) in [
        (1, format!("X-Track: NOW\r\n{MESSAGE}")),
        (2, MESSAGE.to_owned()),
    ] {
        submit(&mut client, "", &message);
        let seen = seen(&hop, count);
        assert!(
            seen.starts_with("Hoptrail-Carry:") && seen.ends_with(MESSAGE),
            "{seen}"
        );
    }
    submit(&mut client, " TRACK=NOW", MESSAGE);
    assert_eq!(seen(&hop, 3), MESSAGE, "this one came in time");
}

#[test]
fn reports_and_the_null_sender_are_tracked_by_no_rule() {
    let hop = Ingress::with(Sink::smtp(), "", "track = [{ one_in = 1 }]");
    let mut client = client(&hop);
    let report =
        "Content-Type: multipart/report; report-type=tracking-status; boundary=x\r\n\r\n--x--\r\n";
    submit(&mut client, "", report);
    assert_eq!(seen(&hop, 1), report);
    client.command("MAIL FROM:<>", "250");
    client.command("RCPT TO:<bob@dest.test>", "250");
    client.data(MESSAGE.as_bytes());
    client.expect("250");
    assert_eq!(seen(&hop, 2), MESSAGE);
}
