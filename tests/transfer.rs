//! Egress and delivery behind a test that plays the MTA: it takes the message off an ingress, and hands it on
//! as an MTA would. What the next hop sees, what each recipient is told, what is reported.

#![allow(clippy::expect_used)]

mod support;

use std::time::Duration;

use support::dialogue::Dialogue;
use support::hop::{FROM, Hop, MESSAGE, TRACKED};
use support::mail::Mail;
use support::sink::Sink;
use support::{Stopwatch, wait_until};

/// The message as it should leave the hop: the MTA's own line, no carry header.
const LEFT: &[u8] =
    b"Received: by mta.test\r\nMessage-ID: <m1@origin.test>\r\nSubject: x\r\n\r\n..dot\r\nlast\r\n";

#[test]
fn towards_a_hop_that_tracks_the_request_is_put_back() {
    let hop = Hop::egress(
        Sink::smtp()
            .offer("TRACK NOW")
            .offer("DSN")
            .offer("8BITMIME")
            .greet("220 mx2.test ESMTP")
            .always("DOT", "250 OK id=1xVXDd-0006GV-0J"),
    );
    let wire = hop.arrive(TRACKED, &["bob@dest.test", "carol@dest.test"]);
    let replies = hop.leave(
        "MAIL FROM:<alice@origin.test> BODY=8BITMIME SIZE=2000",
        &[
            "RCPT TO:<bob@dest.test> NOTIFY=NEVER",
            "RCPT TO:<carol@dest.test>",
        ],
        &wire,
    );
    assert_eq!(replies, ["250 OK id=1xVXDd-0006GV-0J"; 2]);
    let report = hop.report();
    let seen = &hop.next.wait_for(1)[0];
    let step = report.field("X-Hoptrail-Step");
    assert_eq!(
        seen.mail_from,
        format!("MAIL FROM:<alice@origin.test> BODY=8BITMIME ENVID=E1 TRACK=NOW:hop/1:up/{step}")
    );
    assert_eq!(
        seen.recipients,
        [
            "RCPT TO:<bob@dest.test> NOTIFY=NEVER",
            "RCPT TO:<carol@dest.test>"
        ]
    );
    assert_eq!(seen.data, LEFT);
    assert_eq!(
        report.field("X-Hoptrail-Size"),
        LEFT.len().to_string(),
        "without the carry header"
    );
    assert_eq!(report.of_recipients("X-Hoptrail-Event"), ["transferred"; 2]);
    assert_eq!(
        report.of_recipients("X-Hoptrail-Queue-Id"),
        ["1xVXDd-0006GV-0J"; 2]
    );
    assert_eq!(report.of_recipients("Remote-MTA"), ["dns; mx2.test"; 2]);
    assert_eq!(
        report.field("X-Hoptrail-Queue-Id"),
        "4F1A2B3C",
        "the MTA's own, from the arrival"
    );
}

#[test]
fn chunks_are_tracked_as_data_is_wherever_the_header_is_cut() {
    let tracks = || Sink::smtp().offer("TRACK NOW").offer("DSN");
    for (next, verb) in [(tracks().offer("CHUNKING"), "BDAT"), (tracks(), "DATA")] {
        let hop = Hop::egress(next);
        let (left, seen) = (unstuffed(LEFT), [LEFT.to_vec(), unstuffed(LEFT)]);
        let seen = &seen[usize::from(verb == "BDAT")];
        let cuts: [fn(usize) -> usize; 6] =
            [|_| 0, |_| 1, |_| 30, |_| 60, |len| len - 20, |len| len];
        for (count, cut) in cuts.iter().enumerate() {
            // An arrival for each: what leaves a second time is no news.
            let wire = hop.arrive(TRACKED, &["bob@dest.test"]);
            let text = unstuffed(&[b"Received: by mta.test\r\n", &wire[..]].concat());
            let cut = cut(text.len());
            let (first, rest) = text.split_at(cut);
            hop.leave_in_chunks(&[first, rest, b""]);
            let transaction = &hop.next.wait_for(count + 1)[count];
            assert!(&transaction.data == seen, "cut at {cut}: {transaction:?}");
            let (_, step) = transaction
                .mail_from
                .split_once(" ENVID=E1 TRACK=NOW:hop/1:up/")
                .expect("the request is put back");
            let report = hop.report_of(step);
            assert_eq!(report.of_recipients("X-Hoptrail-Event"), ["transferred"]);
            assert_eq!(report.field("X-Hoptrail-Size"), left.len().to_string());
            let times = report.field("X-Hoptrail-Times-Out");
            assert_eq!(times.contains("data="), verb == "DATA", "{times}");
            assert!(times.contains("dot="), "{times}");
        }
        let commands = hop.next.commands();
        assert!(commands.iter().any(|line| line.starts_with(verb)));
    }
}

/// Text as it is counted in a chunk.
fn unstuffed(text: &[u8]) -> Vec<u8> {
    let text = String::from_utf8(text.to_vec()).expect("text");
    text.replace("\r\n.", "\r\n").into_bytes()
}

#[test]
fn towards_a_hop_that_does_not_the_trail_ends() {
    let hop = Hop::egress(Sink::smtp());
    let wire = hop.arrive(TRACKED, &["bob@dest.test"]);
    hop.leave(
        "MAIL FROM:<alice@origin.test> SIZE=99 BODY=8BITMIME",
        &["RCPT TO:<bob@dest.test>"],
        &wire,
    );
    let seen = &hop.next.wait_for(1)[0];
    assert_eq!(
        seen.mail_from, "MAIL FROM:<alice@origin.test>",
        "it offers neither SIZE nor 8BITMIME"
    );
    assert_eq!(seen.data, LEFT);
    let report = hop.report();
    assert_eq!(report.of_recipients("X-Hoptrail-Event"), ["relayed"]);
    assert_eq!(report.of_recipients("Status"), ["2.1.9"]);
}

/// Or it would refuse a message for the carry header, which it does not get.
#[test]
fn a_next_hop_is_told_the_size_of_what_it_gets() {
    for (role, next) in [("egress", Sink::smtp()), ("delivery", Sink::lmtp())] {
        let hop = Hop::with(role, "lmtp", next.offer("SIZE"));
        let carried = hop.arrive(TRACKED, &["bob@dest.test"]);
        // The MTA may count more than there is (RFC 1870, 6.1); where nothing is taken off, its word stands.
        for (wire, more) in [(&carried[..], 0), (&carried, 1024), (LEFT, 7)] {
            let before = hop.next.transactions().len();
            let mail = format!("{FROM} SIZE={}", unstuffed(wire).len() + more);
            hop.leave_as(&mail, &["RCPT TO:<bob@dest.test>"], wire);
            let seen = hop.next.wait_for(before + 1).remove(before);
            let told = unstuffed(&seen.data).len() + more;
            assert_eq!(seen.mail_from, format!("{FROM} SIZE={told}"), "{role}");
        }
    }
}

#[test]
fn whatever_the_next_hop_knows_the_mail_goes_through() {
    let strict = "MAIL FROM:<alice@origin.test> ";
    for (who, next) in [
        ("MTRK only", Sink::smtp().offer("MTRK")),
        (
            "refuses every parameter",
            Sink::smtp().always(strict, "555 5.5.4 unsupported"),
        ),
        ("HELO only", Sink::smtp().always("EHLO", "502 5.5.1 what")),
        (
            "HELO only, old",
            Sink::smtp().always("EHLO", "500 Command unrecognized"),
        ),
        (
            "offers TRACK and refuses it",
            Sink::smtp()
                .offer("TRACK NOW")
                .always(strict, "501 5.5.4 malformed"),
        ),
    ] {
        let hop = Hop::egress(next);
        let wire = hop.arrive(TRACKED, &["bob@dest.test"]);
        let replies = hop.leave(
            "MAIL FROM:<alice@origin.test> SIZE=99 BODY=8BITMIME RET=HDRS ENVID=E1",
            &["RCPT TO:<bob@dest.test> NOTIFY=FAILURE ORCPT=rfc822;bob@dest.test"],
            &wire,
        );
        assert_eq!(replies, ["250 2.0.0 ok, taken"], "{who}");
        let seen = &hop.next.wait_for(1)[0];
        assert_eq!(seen.mail_from, "MAIL FROM:<alice@origin.test>", "{who}");
        assert_eq!(seen.recipients, ["RCPT TO:<bob@dest.test>"], "{who}");
        assert_eq!(seen.data, LEFT, "{who}");
        let report = hop.report();
        assert_eq!(report.of_recipients("X-Hoptrail-Event"), ["relayed"]);
        assert_eq!(report.of_recipients("Status"), ["2.1.9"], "{who}");
        let commands = hop.next.commands().join("\n");
        assert!(!commands.contains("MTRK="), "{commands}");
    }
}

#[test]
fn a_refusal_that_is_not_about_the_request_stands() {
    let refusal = "550 5.7.1 not from you";
    let hop = Hop::egress(Sink::smtp().offer("TRACK NOW").always("MAIL", refusal));
    let wire = hop.arrive(TRACKED, &["bob@dest.test"]);
    let replies = hop.leave(FROM, &["RCPT TO:<bob@dest.test>"], &wire);
    assert_eq!(replies, [refusal]);
    assert_eq!(hop.report().of_recipients("X-Hoptrail-Event"), ["failed"]);
}

/// Both answer for MAIL and RCPT themselves; behind their 250 the next hop's refusal would come too late.
#[test]
fn parameters_that_cannot_be_meant_are_refused() {
    for (role, next) in [("egress", Sink::smtp()), ("delivery", Sink::lmtp())] {
        let hop = Hop::with(role, "lmtp", next.offer("DSN"));
        let mut mta = Dialogue::open(hop.exit);
        mta.command("LHLO mta.test", "250");
        for wrong in [
            "RET=FOO",
            "RET",
            "RET=FULL RET=HDRS",
            "ENVID=a ENVID=b",
            "ENVID",
            "ENVID=a+ZZ",
            "SIZE",
            "SIZE=-1",
            "SIZE=+1",
            "SIZE=1k",
            "SIZE=99999999999999999999",
            "SIZE=1 SIZE=1",
            "BODY",
            "BODY=FOO",
            "BODY=7BIT BODY=7BIT",
            "SMTPUTF8=1",
            "SMTPUTF8 SMTPUTF8",
        ] {
            mta.command(&format!("{FROM} {wrong}"), "501 5.5.4");
        }
        let sound = "ret=hdrs ENVID=E9+2b size=18446744073709551615 body=8bitmime SMTPUTF8";
        mta.command(&format!("{FROM} {sound}"), "250");
        let mut mta = Dialogue::open(hop.exit);
        mta.command("LHLO mta.test", "250");
        mta.command(FROM, "250");
        for wrong in [
            "NOTIFY=SUCCESS,NEVER",
            "NOTIFY=NEVER,NEVER",
            "NOTIFY=SUCCESS,",
            "NOTIFY=FOO",
            "NOTIFY",
            "NOTIFY=NEVER NOTIFY=NEVER",
            "ORCPT=foo",
            "ORCPT=;foo",
            "ORCPT",
            "ORCPT=rfc822;a+ZZ",
            "ORCPT=rfc822;a+2",
            "ORCPT=rfc822;a@x.test ORCPT=rfc822;b@x.test",
        ] {
            mta.command(&format!("RCPT TO:<bob@dest.test> {wrong}"), "501 5.5.4");
        }
        let sound = "RCPT TO:<bob@dest.test> NOTIFY=Success,DELAY,failure ORCPT=x-odd;b+2Bx";
        mta.command(sound, "250");
        mta.data(b"Subject: x\r\n\r\ntext\r\n");
        mta.expect("250 2.0.0 ok, taken");
        assert_eq!(hop.next.wait_for(1)[0].recipients, [sound], "{role}");
    }
}

#[test]
fn untracked_mail_passes_without_a_trace() {
    let hop = Hop::tracking(Sink::smtp(), "");
    let replies = hop.leave(
        "MAIL FROM:<alice@origin.test> ENVID=E9",
        &["RCPT TO:<bob@dest.test> ORCPT=rfc822;b+2Bx@dest.test"],
        b"Message-ID: <m1@origin.test>\r\nSubject: x\r\n\r\n..dot\r\nlast\r\n",
    );
    assert_eq!(replies, ["250 2.0.0 ok, taken"]);
    let seen = &hop.next.wait_for(1)[0];
    assert_eq!(seen.mail_from, "MAIL FROM:<alice@origin.test> ENVID=E9");
    assert_eq!(
        seen.recipients,
        ["RCPT TO:<bob@dest.test> ORCPT=rfc822;b+2Bx@dest.test"]
    );
    assert_eq!(seen.data, LEFT);
    hop.no_report();
}

#[test]
fn a_reply_that_was_given_stands_whatever_becomes_of_the_next() {
    for store in [Sink::lmtp(), Sink::lmtp().offer("CHUNKING")] {
        let hop = Hop::with("delivery", "lmtp", store.once("DOT <carol", "half"));
        let all = ["bob@dest.test", "carol@dest.test", "dora@dest.test"];
        let wire = hop.arrive(TRACKED, &all);
        let mut mta = Dialogue::open(hop.exit);
        mta.command("LHLO mta.test", "250");
        mta.command(FROM, "250");
        for rcpt in all {
            mta.command(&format!("RCPT TO:<{rcpt}>"), "250");
        }
        mta.chunks(&[&unstuffed(&wire)]);
        mta.expect("250 2.0.0 ok, taken");
        mta.expect("451 4.4.2 connection to the next hop lost");
        mta.expect("451 4.4.2 connection to the next hop lost");
        mta.command("QUIT", "221");
        let report = hop.report();
        assert_eq!(
            report.of_recipients("X-Hoptrail-Event"),
            ["delivered", "delayed", "delayed"]
        );
        assert_eq!(report.of_recipients("Status"), ["2.0.0", "4.4.2", "4.4.2"]);
    }
}

#[test]
fn a_delivery_tells_each_recipient_the_stores_own_words() {
    let store = Sink::lmtp()
        .once(
            "RCPT TO:<nobody",
            "550 5.1.1 <nobody@dest.test> User doesn't exist",
        )
        .once("DOT <carol", "452 4.2.2 <carol@dest.test> Quota exceeded")
        .once(
            "DOT <bob",
            "250 2.0.0 <bob@dest.test> 06p8EGluBGssXgAAQX/gIQ Saved",
        );
    let hop = Hop::with("delivery", "lmtp", store);
    let all = ["bob@dest.test", "nobody@dest.test", "carol@dest.test"];
    let wire = hop.arrive(TRACKED, &all);
    let rcpts = all.map(|rcpt| format!("RCPT TO:<{rcpt}>"));
    let replies = hop.leave(FROM, &rcpts.each_ref().map(String::as_str), &wire);
    assert_eq!(
        replies,
        [
            "250 2.0.0 <bob@dest.test> 06p8EGluBGssXgAAQX/gIQ Saved",
            "550 5.1.1 <nobody@dest.test> User doesn't exist",
            "452 4.2.2 <carol@dest.test> Quota exceeded",
        ]
    );
    assert_eq!(hop.next.wait_for(1)[0].data, LEFT);
    let report = hop.report();
    assert_eq!(
        report.of_recipients("X-Hoptrail-Event"),
        ["delivered", "failed", "delayed"]
    );
    assert_eq!(report.of_recipients("Status"), ["2.0.0", "5.1.1", "4.2.2"]);
    assert_eq!(
        report.of_recipients("Action"),
        ["delivered", "failed", "delayed"]
    );

    // The retry of the one that had to wait ends well.
    hop.leave(FROM, &["RCPT TO:<carol@dest.test>"], &wire);
    let events: Vec<_> = hop
        .wait_for_mails(2)
        .iter()
        .filter_map(Mail::report)
        .map(|r| r.of_recipients("X-Hoptrail-Event"))
        .collect();
    assert!(events.contains(&vec!["delivered".to_owned()]), "{events:?}");
}

#[test]
fn refusals_at_every_stage_become_the_recipients_replies() {
    for (at, reply, event) in [
        ("MAIL", "550 5.7.1 not from you", "failed"),
        ("MAIL", "451 4.3.0 later", "delayed"),
        ("RCPT", "550 5.1.1 unknown", "failed"),
        ("DATA", "554 5.3.0 no", "failed"),
        ("DOT", "451 4.3.0 disk full", "delayed"),
        ("DOT", "554 5.6.0 virus", "failed"),
    ] {
        let hop = Hop::egress(Sink::smtp().always(at, reply));
        let wire = hop.arrive(TRACKED, &["bob@dest.test"]);
        let replies = hop.leave(FROM, &["RCPT TO:<bob@dest.test>"], &wire);
        assert_eq!(replies, [reply], "at {at}");
        assert_eq!(
            hop.report().of_recipients("X-Hoptrail-Event"),
            [event],
            "at {at}"
        );
        assert!(hop.hoptrail.log().contains(event));
    }
}

#[test]
fn a_next_hop_that_dies_is_never_a_success() {
    for at in ["MAIL", "RCPT", "DATA", "DOT"] {
        let hop = Hop::egress(Sink::smtp().always(at, "close"));
        let wire = hop.arrive(TRACKED, &["bob@dest.test", "carol@dest.test"]);
        let replies = hop.leave(
            FROM,
            &["RCPT TO:<bob@dest.test>", "RCPT TO:<carol@dest.test>"],
            &wire,
        );
        assert_eq!(
            replies, ["451 4.4.2 connection to the next hop lost"; 2],
            "at {at}"
        );
        assert_eq!(
            hop.report().of_recipients("X-Hoptrail-Event"),
            ["delayed"; 2],
            "at {at}"
        );
    }
}

#[test]
fn over_smtp_an_egress_takes_one_recipient_a_transaction() {
    let hop = Hop::with("egress", "smtp", Sink::smtp());
    let mut mta = Dialogue::open(hop.exit);
    mta.command("EHLO mta.test", "250");
    mta.command("LHLO mta.test", "502");
    mta.command(FROM, "250");
    mta.command("MAIL FROM:<alice@origin.test>", "503 5.5.1");
    mta.command("DATA", "503 5.5.1");
    mta.command("RCPT TO:<bob@dest.test>", "250");
    mta.command("RCPT TO:<carol@dest.test>", "452 4.5.3");
    mta.data(MESSAGE);
    mta.expect("250");
    // The connection takes the next transaction, and a pipelined group.
    mta.send("MAIL FROM:<alice@origin.test>\r\nRCPT TO:<carol@dest.test>\r\nDATA\r\n");
    for code in ["250", "250", "354"] {
        mta.expect(code);
    }
    mta.send("x: y\r\n\r\nsecond\r\n.\r\nQUIT\r\n");
    mta.expect("250");
    mta.expect("221");
    assert_eq!(hop.next.wait_for(2)[1].data, b"x: y\r\n\r\nsecond\r\n");
}

#[test]
fn parameters_nobody_knows_are_refused() {
    let hop = Hop::egress(Sink::smtp());
    let mut mta = Dialogue::open(hop.exit);
    mta.command("LHLO mta.test", "250");
    mta.command("EHLO mta.test", "502");
    mta.command("MAIL FROM:<alice@origin.test> XFOO=1", "555 5.5.4");
    mta.command(FROM, "250");
    mta.command("RCPT TO:<bob@dest.test> XBAR", "555 5.5.4");
}

#[test]
fn the_offer_is_made_before_the_next_hop_is_known() {
    let hop = Hop::egress(Sink::smtp().offer("SIZE 5000").offer("STARTTLS"));
    let offer = Dialogue::open(hop.exit).command("LHLO mta.test", "250");
    assert_eq!(
        offer,
        [
            "250-mx1.test",
            "250-PIPELINING",
            "250-ENHANCEDSTATUSCODES",
            "250-8BITMIME",
            "250-CHUNKING",
            "250-BINARYMIME",
            "250-SMTPUTF8",
            "250-SIZE",
            "250-DSN",
            "250-MTRK",
            "250 TRACK NOW"
        ]
    );
    assert!(hop.next.commands().is_empty());
}

/// What cannot be promised is left to the MTA, which mails the success notice itself.
#[test]
fn dsn_is_not_offered_while_the_store_cannot_commit() {
    let hop = Hop::egress(Sink::smtp());
    let offered = || {
        let offer = Dialogue::open(hop.exit).command("LHLO mta.test", "250");
        offer.iter().any(|line| line.ends_with("DSN"))
    };
    let wait = |wanted: bool| {
        wait_until(support::PATIENCE, "the other offer", || {
            let offered = offered();
            (offered == wanted)
                .then_some(())
                .ok_or(format!("DSN: {offered}"))
        });
    };
    wait(true);
    let store = hop.hoptrail.state_dir().join("store.sqlite");
    let store = rusqlite::Connection::open(store).expect("the store opens");
    store.execute_batch("BEGIN IMMEDIATE").expect("locked");
    let notify = &["RCPT TO:<bob@dest.test> NOTIFY=SUCCESS"];
    let replies = hop.leave(FROM, notify, b"x: y\r\n\r\nz\r\n");
    assert!(replies[0].starts_with("250"), "{replies:?}");
    wait(false);
    // Nothing has to be mailed for it to be tried again.
    store.execute_batch("ROLLBACK").expect("unlocked");
    wait(true);
}

/// Many clients ask for SMTPUTF8 whatever they send (RFC 6531, 3.6).
#[test]
fn mail_that_needs_no_smtputf8_goes_without() {
    let hop = Hop::egress(Sink::smtp());
    let ask = "MAIL FROM:<alice@origin.test> SMTPUTF8 BODY=8BITMIME";
    let leaves = |rcpt: &str, message: &str| {
        let replies = hop.leave(ask, &[rcpt], message.as_bytes());
        replies[0][..3].to_owned()
    };
    let bob = "RCPT TO:<bob@dest.test>";
    assert_eq!(leaves(bob, "Subject: y\r\n\r\n\u{fc}\r\n"), "250");
    assert_eq!(
        hop.next.wait_for(1)[0].mail_from,
        "MAIL FROM:<alice@origin.test>"
    );
    for (rcpt, message) in [
        (bob, "Subject: \u{fc}\r\n\r\nz\r\n"),
        ("RCPT TO:<b\u{fc}b@dest.test>", "Subject: y\r\n\r\nz\r\n"),
    ] {
        assert_eq!(leaves(rcpt, message), "550", "{rcpt} {message}");
    }
    assert_eq!(hop.next.transactions().len(), 1);
}

/// Only his own name needs it.
#[test]
fn one_whom_the_next_hop_cannot_name_keeps_nobody_else_from_the_mail() {
    let hop = Hop::egress(Sink::smtp());
    let replies = hop.leave(
        "MAIL FROM:<alice@origin.test> SMTPUTF8",
        &["RCPT TO:<b\u{fc}b@dest.test>", "RCPT TO:<bob@dest.test>"],
        b"x: y\r\n\r\nz\r\n",
    );
    let refused = "550 5.6.7 the next hop does not take internationalised mail";
    assert_eq!(replies, [refused, "250 2.0.0 ok, taken"]);
    let seen = &hop.next.wait_for(1)[0];
    assert_eq!(seen.mail_from, "MAIL FROM:<alice@origin.test>");
    assert_eq!(seen.recipients, ["RCPT TO:<bob@dest.test>"]);
}

/// It says neither yes nor no; what is passed on as it is would be final for some clients and a puzzle for others.
#[test]
fn a_reply_to_the_end_of_data_that_is_no_verdict_is_a_delay() {
    let strange = |script: support::sink::Script| script.always("DOT", "354 go on");
    let ours = "451 4.5.0 next hop answered the end of the message with 354";
    let hop = Hop::around(
        strange(Sink::smtp()),
        "delivery",
        "lmtp",
        strange(Sink::lmtp()),
    );
    let rcpts = ["RCPT TO:<bob@dest.test>", "RCPT TO:<carol@dest.test>"];
    assert_eq!(hop.leave(FROM, &rcpts, MESSAGE), [ours; 2]);
    let mut client = Dialogue::open(hop.entrance);
    client.command("EHLO client.test", "250");
    client.command(FROM, "250");
    client.command("RCPT TO:<bob@dest.test>", "250");
    client.data(MESSAGE);
    client.expect(ours);
}

#[test]
fn internationalised_mail_does_not_go_where_it_is_not_offered() {
    let hop = Hop::egress(Sink::smtp());
    let message = b"x: y\r\n\r\nz\r\n";
    let replies = hop.leave(
        "MAIL FROM:<\u{fc}@origin.test> SMTPUTF8",
        &["RCPT TO:<bob@dest.test>"],
        message,
    );
    assert!(replies[0].starts_with("550 5.6.7"), "{replies:?}");
    let able = Hop::egress(Sink::smtp().offer("SMTPUTF8"));
    able.leave(
        "MAIL FROM:<\u{fc}@origin.test> SMTPUTF8",
        &["RCPT TO:<bob@dest.test>"],
        message,
    );
    assert_eq!(
        able.next.wait_for(1)[0].mail_from,
        "MAIL FROM:<\u{fc}@origin.test> SMTPUTF8"
    );
}

#[test]
fn a_duty_of_success_the_next_hop_cannot_take_is_ours() {
    let hop = Hop::egress(
        Sink::smtp()
            .greet("220 mx2.test ESMTP")
            .once("RCPT TO:<dora", "550 5.1.1 no"),
    );
    hop.leave(
        "MAIL FROM:<alice@origin.test> ENVID=E+2B9",
        &[
            "RCPT TO:<bob@dest.test> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;b+2Bx@dest.test",
            "RCPT TO:<carol@dest.test> NOTIFY=FAILURE",
            "RCPT TO:<dora@dest.test> NOTIFY=SUCCESS",
        ],
        b"Message-ID: <m1@origin.test>\r\n\r\nx\r\n",
    );
    // Untracked: no report beside it.
    let mails = hop.wait_for_mails(1);
    assert_eq!(mails[0].field("To").as_deref(), Some("<alice@origin.test>"));
    let text =
        String::from_utf8_lossy(&std::fs::read(first_file(&hop)).expect("a mail")).into_owned();
    for line in [
        "report-type=\"delivery-status\"",
        "Original-Envelope-Id: E+9",
        "Original-Recipient: rfc822; b+x@dest.test",
        "Final-Recipient: rfc822; bob@dest.test",
        "Action: relayed",
        "Remote-MTA: dns; mx2.test",
    ] {
        assert!(text.contains(line), "no {line} in:\n{text}");
    }
    assert!(!text.contains("carol") && !text.contains("dora"), "{text}");
    let able = Hop::egress(Sink::smtp().offer("DSN"));
    able.leave(
        FROM,
        &["RCPT TO:<bob@dest.test> NOTIFY=SUCCESS"],
        b"x: y\r\n\r\nz\r\n",
    );
    assert_eq!(
        able.next.wait_for(1)[0].recipients,
        ["RCPT TO:<bob@dest.test> NOTIFY=SUCCESS"]
    );
    able.no_report();
}

#[test]
fn an_alias_is_told_as_expanded_and_no_member_is_named() {
    let hop = Hop::tracking(Sink::smtp(), "");
    let wire = hop.arrive(TRACKED, &["team@dest.test"]);
    let replies = hop.leave(
        FROM,
        &[
            "RCPT TO:<x1@inner.test> ORCPT=rfc822;team@dest.test",
            "RCPT TO:<x2@inner.test>",
        ],
        &wire,
    );
    assert_eq!(replies, ["250 2.0.0 ok, taken"; 2]);
    let seen = &hop.next.wait_for(1)[0];
    assert_eq!(
        seen.mail_from, "MAIL FROM:<alice@origin.test> ENVID=E1",
        "members are not tracked"
    );
    assert_eq!(seen.data, LEFT);
    let report = hop.report();
    assert_eq!(report.of_recipients("X-Hoptrail-Event"), ["expanded"]);
    assert_eq!(
        report.of_recipients("Final-Recipient"),
        ["rfc822; team@dest.test"]
    );
    let mail =
        String::from_utf8_lossy(&std::fs::read(first_file(&hop)).expect("a report")).into_owned();
    assert!(!mail.contains("inner.test"), "{mail}");
}

#[test]
fn a_list_reports_to_who_asked_not_to_its_owner() {
    let hop = Hop::egress(Sink::smtp());
    let wire = hop.arrive(TRACKED, &["list@dest.test"]);
    hop.leave(
        "MAIL FROM:<owner-list@dest.test>",
        &["RCPT TO:<member@inner.test>"],
        &wire,
    );
    let report = hop.report();
    assert_eq!(report.of_recipients("X-Hoptrail-Event"), ["expanded"]);
    assert_eq!(
        hop.mails()[0].field("To").as_deref(),
        Some("<alice@origin.test>")
    );
}

#[test]
fn an_orcpt_that_belongs_to_another_recipient_is_not_believed() {
    // OpenSMTPD 6.8 keeps the DSN parameters of one RCPT for those behind it.
    let hop = Hop::tracking(Sink::smtp(), "");
    let all = ["bob@dest.test", "carol@dest.test"];
    let wire = hop.arrive(TRACKED, &all);
    hop.leave(
        FROM,
        &all.map(|rcpt| format!("RCPT TO:<{rcpt}> ORCPT=rfc822;bob@dest.test"))
            .each_ref()
            .map(String::as_str),
        &wire,
    );
    let report = hop.report();
    assert_eq!(report.of_recipients("X-Hoptrail-Event"), ["transferred"; 2]);
    let original = report.of_recipients("Original-Recipient");
    assert_eq!(original, all.map(|rcpt| format!("rfc822; {rcpt}")));
}

#[test]
fn a_user_without_a_domain_is_who_the_journal_says() {
    for to in [
        &["bob@dest.test", "carol@dest.test"],
        &["bob@other.test", "bob@dest.test"],
    ] {
        let hop = Hop::with("delivery", "lmtp", Sink::lmtp());
        let wire = hop.arrive(TRACKED, to);
        hop.leave(FROM, &["RCPT TO:<bob> ORCPT=rfc822;bob@dest.test"], &wire);
        let report = hop.report();
        assert_eq!(report.of_recipients("X-Hoptrail-Event"), ["delivered"]);
        assert_eq!(report.final_recipients(), ["bob@dest.test"]);
    }
}

#[test]
fn the_hop_limit_ends_tracking_not_mail() {
    let hop = Hop::egress(Sink::smtp().offer("TRACK NOW"));
    let wire = hop.arrive(
        "MAIL FROM:<alice@origin.test> TRACK=NOW:hop/24",
        &["bob@dest.test"],
    );
    hop.leave(FROM, &["RCPT TO:<bob@dest.test>"], &wire);
    assert_eq!(
        hop.next.wait_for(1)[0].mail_from,
        "MAIL FROM:<alice@origin.test>"
    );
    assert_eq!(hop.report().of_recipients("X-Hoptrail-Event"), ["relayed"]);
}

#[test]
fn what_a_next_hop_says_before_it_has_the_message_is_not_its_word_about_it() {
    let early = [
        Sink::smtp().once("DATA", "354 go on\r\n250 2.0.0 ok, taken"),
        Sink::smtp()
            .offer("CHUNKING")
            .once("BDAT", "250 2.0.0 go on\r\n250 2.0.0 ok, taken"),
        Sink::smtp()
            .offer("CHUNKING")
            .once("RCPT", "250 2.0.0 ok\r\n250 2.0.0 ok, taken"),
    ];
    for next in early {
        let hop = Hop::egress(next);
        let mut mta = Dialogue::open(hop.exit);
        mta.command("LHLO mta.test", "250");
        // The second time it goes over a connection of its own.
        for (reply, taken) in [("451 4.4.2", 0), ("250 2.0.0 ok, taken", 1)] {
            mta.command(FROM, "250");
            mta.command("RCPT TO:<bob@dest.test>", "250");
            mta.chunks(&[b"Subject: x\r\n\r\n", b"body\r\n"]);
            mta.expect(reply);
            assert_eq!(hop.next.transactions().len(), taken);
        }
        assert!(
            hop.hoptrail
                .log()
                .contains("it answered before it was asked")
        );
    }
}

#[test]
fn a_reply_too_many_is_not_taken_for_that_to_the_next_mail() {
    let hop = Hop::egress(
        Sink::smtp()
            .once("DOT", "250 2.0.0 taken\r\n250 2.0.0 again")
            .once("RCPT TO:<dora", "550 5.1.1 no dora"),
    );
    let mut mta = Dialogue::open(hop.exit);
    mta.command("LHLO mta.test", "250");
    for (rcpts, replies) in [
        (["bob", "carol"], ["250 2.0.0 taken"; 2]),
        (
            ["dora", "bob"],
            ["550 5.1.1 no dora", "250 2.0.0 ok, taken"],
        ),
    ] {
        mta.command(FROM, "250");
        for rcpt in rcpts {
            mta.command(&format!("RCPT TO:<{rcpt}@dest.test>"), "250");
        }
        mta.data(MESSAGE);
        for reply in replies {
            mta.expect(reply);
        }
    }
}

#[test]
fn a_connection_that_was_kept_and_is_gone_meanwhile_is_no_delay() {
    for gone in ["close", "421 4.4.2 idle for too long"] {
        let next = Sink::smtp().once("MAIL", "250 2.1.0 ok").once("MAIL", gone);
        let hop = Hop::egress(next);
        let mut mta = Dialogue::open(hop.exit);
        mta.command("LHLO mta.test", "250");
        for _ in 0..2 {
            mta.command(FROM, "250");
            mta.command("RCPT TO:<bob@dest.test>", "250");
            mta.data(MESSAGE);
            mta.expect("250 2.0.0 ok, taken");
        }
        let commands = hop.next.commands();
        let hellos = commands.iter().filter(|line| line.starts_with("EHLO"));
        assert_eq!(
            hellos.count(),
            2,
            "kept for the second, then anew: {commands:?}"
        );
    }
}

/// It hands the message on before it has answered for it: the arrival is not on record yet.
#[test]
fn an_mta_that_is_faster_than_its_own_answer_is_waited_for() {
    let mta = Sink::smtp()
        .offer("DSN")
        .always("DOT", "250 2.0.0 Ok: queued as 4F1A2B3C")
        .pause(Duration::from_millis(300));
    let hop = Hop::between(mta, Sink::smtp(), "timeouts = { store_ms = 20000 }");
    let bob = ["bob@dest.test"];
    std::thread::scope(|scope| {
        scope.spawn(|| hop.arrive(TRACKED, &bob));
        let came = hop.mta.wait_for(1).remove(0);
        hop.pass_on(&bob, &came.data);
    });
    assert_eq!(hop.report().field("X-Hoptrail-Queue-Id"), "4F1A2B3C");
}

#[test]
fn a_next_hop_that_is_down_is_a_delay() {
    let hop = Hop::egress(Sink::smtp());
    let wire = hop.arrive(TRACKED, &["bob@dest.test"]);
    let Hop {
        hoptrail,
        entrance: _,
        exit,
        mta: _mta,
        next,
        reports,
    } = hop;
    drop(next);
    let mut mta = Dialogue::open(exit);
    mta.command("LHLO mta.test", "250");
    mta.command(FROM, "250");
    mta.command("RCPT TO:<bob@dest.test>", "250");
    mta.command("DATA", "354");
    mta.send([wire.as_slice(), b".\r\n"].concat());
    mta.expect("451 4.4.1");
    support::wait_until(support::PATIENCE, "a report", || {
        let mails = Mail::in_maildir(reports.path());
        let event = mails
            .first()
            .and_then(Mail::report)
            .map(|r| r.of_recipients("X-Hoptrail-Event"));
        if event == Some(vec!["delayed".to_owned()]) {
            Ok(())
        } else {
            Err(hoptrail.log())
        }
    });
}

fn first_file(hop: &Hop) -> std::path::PathBuf {
    let mut files = std::fs::read_dir(hop.reports.path().join("new")).expect("a Maildir");
    files.next().expect("a mail").expect("an entry").path()
}

/// Who has had no reply when a session breaks off is sent to again, so a client that takes one reply at a time does not
/// wait 50 ms for each of many.
#[test]
fn many_replies_to_one_message_are_all_there_soon() {
    let hop = Hop::with("delivery", "lmtp", Sink::lmtp());
    let mut mta = Dialogue::open(hop.exit);
    mta.command("LHLO mta.test", "250");
    mta.command(FROM, "250");
    for n in 0..200 {
        mta.command(&format!("RCPT TO:<r{n}@dest.test>"), "250");
    }
    mta.data(b"Subject: hi\r\n\r\nx\r\n");
    let watch = Stopwatch::start();
    for _ in 0..200 {
        mta.expect("250");
    }
    // At 50 ms each it would be ten seconds.
    let took = watch.elapsed().as_secs();
    assert!(took < 5, "{took} s");
}
