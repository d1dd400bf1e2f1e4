//! The ingress in front of a scripted MTA: what passes as it was written, what is added and taken away,
//! and what happens when one side fails.

#![allow(clippy::expect_used)]

mod support;

use std::io::Write as _;
use std::net::TcpListener;
use std::thread;
use std::time::{Duration, Instant};

use support::Stopwatch;
use support::dialogue::Dialogue;
use support::hoptrail::Hoptrail;
use support::ingress::Ingress;
use support::mail::Mail;
use support::net;
use support::sink::{Script, Sink};

const TRACKED: &str = "MAIL FROM:<alice@origin.test> TRACK=NOW";

fn postfix_like() -> Script {
    Sink::smtp()
        .offer("PIPELINING")
        .offer("SIZE 10000")
        .offer("8BITMIME")
        .offer("DSN")
        .offer("CHUNKING")
        .offer("STARTTLS")
        .offer("XFOO BAR")
        .always("DOT", "250 2.0.0 Ok: queued as 4F1A2B3C")
}

const MESSAGE: &[u8] =
    b"Message-ID: <m1@origin.test>\r\nSubject: x\r\n\r\n.leading dot\r\nlast\r\n";

#[test]
fn the_offer_hides_what_is_not_understood_and_adds_track() {
    let hop = Ingress::before(postfix_like());
    let offer = hop.client().command("EHLO client.test", "250");
    assert_eq!(
        offer[1..],
        [
            "250-PIPELINING",
            "250-SIZE 10000",
            "250-8BITMIME",
            "250-DSN",
            "250-CHUNKING",
            "250-MTRK",
            "250 TRACK NOW"
        ]
    );
}

#[test]
fn a_stranger_is_not_offered_track_and_its_request_is_dropped() {
    let hop = Ingress::with(postfix_like(), "[policy]\nallow = ['192.0.2.0/24']", "");
    let mut client = hop.client();
    let offer = client.command("EHLO client.test", "250");
    assert!(
        !offer.iter().any(|line| line.contains("TRACK")),
        "{offer:?}"
    );
    for value in ["TRACK=NOW", "TRACK=NOW:up/zz", "TRACK"] {
        client.command(
            &format!("MAIL FROM:<alice@origin.test> {value} BODY=8BITMIME"),
            "250",
        );
        client.command("RSET", "250");
    }
    let mails: Vec<_> = hop
        .mta
        .commands()
        .into_iter()
        .filter(|c| c.starts_with("MAIL"))
        .collect();
    assert_eq!(mails, ["MAIL FROM:<alice@origin.test> BODY=8BITMIME"; 3]);
    client.command("MAIL FROM:<alice@origin.test> TRACK=NOW", "250");
    client.command("RCPT TO:<bob@dest.test>", "250");
    client.data(MESSAGE);
    client.expect("250");
    assert_eq!(
        hop.mta.wait_for(1)[0].data,
        b"Message-ID: <m1@origin.test>\r\nSubject: x\r\n\r\n..leading dot\r\nlast\r\n"
    );
}

#[test]
fn commands_and_replies_pass_as_they_are() {
    let hop = Ingress::before(
        postfix_like()
            .greet("220-mx.test speaks\r\n220 ESMTP  two  blanks")
            .once("NOOP", "250-2.0.0 first\r\n250 2.0.0 second")
            .once("VRFY", "252 2.0.0 who knows"),
    );
    let mut client = Dialogue::connect(hop.entrance);
    assert_eq!(
        client.reply(),
        ["220-mx.test speaks", "220 ESMTP  two  blanks"]
    );
    client.command("eHLo  Client.Test", "250");
    assert_eq!(
        client.command("noop  some thing", "250"),
        ["250-2.0.0 first", "250 2.0.0 second"]
    );
    client.command("VRFY alice", "252");
    client.command("Mail From:<\"a > b\"@Origin.test>  size=100", "250");
    client.command(
        "rcpt TO:<@relay.test:Bob@dest.test> NOTIFY=SUCCESS,failure ORCPT=rfc822;B+2Bob@x",
        "250",
    );
    assert_eq!(
        hop.mta.commands(),
        [
            "eHLo  Client.Test",
            "noop  some thing",
            "VRFY alice",
            "Mail From:<\"a > b\"@Origin.test>  size=100",
            "rcpt TO:<@relay.test:Bob@dest.test> NOTIFY=SUCCESS,failure ORCPT=rfc822;B+2Bob@x",
        ]
    );
}

#[test]
fn commands_nobody_could_follow_go_no_further() {
    let hop = Ingress::before(postfix_like());
    let mut client = hop.client();
    client.command("EHLO client.test", "250");
    let seen = hop.mta.commands().len();
    for (line, answer) in [
        ("", "500 5.5.2"),
        ("XYZZY", "502 5.5.1"),
        ("STARTTLS", "502 5.5.1"),
        ("LHLO client.test", "502 5.5.1"),
        ("MAIL FROM:<alice", "501 5.1.7"),
        ("MAIL TO:<alice@origin.test>", "501 5."),
        ("MAIL FROM:<alice@origin.test> SIZE==1", "501 5.5.4"),
        ("RCPT TO:<>", "501 5.1.3"),
        ("DATA now", "501 5.5.4"),
        ("MAIL FROM:<a\u{1}b@origin.test>", "500 5.5.2"),
    ] {
        client.command(line, answer);
    }
    client.command(&format!("NOOP {}", "x".repeat(5000)), "500 5.5.2");
    assert_eq!(hop.mta.commands().len(), seen, "{:?}", hop.mta.commands());
    client.command("NOOP", "250");
}

#[test]
fn a_client_that_only_talks_rubbish_is_let_go() {
    let hop = Ingress::before(postfix_like());
    let mut client = hop.client();
    for _ in 0..20 {
        client.command("XYZZY", "502");
    }
    client.command("XYZZY", "421 4.7.0");
    assert!(client.is_closed());
}

#[test]
fn malformed_requests_are_refused_without_a_transaction() {
    let hop = Ingress::before(postfix_like());
    let mut client = hop.client();
    client.command("EHLO client.test", "250");
    for value in [
        "TRACK",
        "TRACK=LATER",
        "TRACK=NOW:",
        "TRACK=NOW:up/xyz",
        "TRACK=NOW:hop/256",
        "TRACK=NOW:c256/abc",
        "TRACK=NOW TRACK=NOW",
        "TRACK=NOW:t/1:t/2",
    ] {
        client.command(
            &format!("MAIL FROM:<alice@origin.test> {value}"),
            "501 5.5.4",
        );
    }
    assert!(
        !hop.mta.commands().iter().any(|c| c.starts_with("MAIL")),
        "{:?}",
        hop.mta.commands()
    );
    client.command("MAIL FROM:<alice@origin.test> track=now:x-new/1", "250");
    assert_eq!(
        hop.mta.commands().last().map(String::as_str),
        Some("MAIL FROM:<alice@origin.test>")
    );
}

#[test]
fn a_tracked_message_gets_a_carry_header_and_a_report() {
    let hop = Ingress::before(postfix_like());
    let mut client = hop.client();
    client.command("EHLO client.test", "250");
    client.command(&format!("{TRACKED} SIZE=64 ENVID=E1+40x"), "250");
    client.command("RCPT TO:<bob@dest.test>", "250");
    client.command("RCPT TO:<carol@dest.test> ORCPT=rfc822;c@x.test", "250");
    client.data(MESSAGE);
    client.expect("250 2.0.0 Ok: queued as 4F1A2B3C");

    let seen = &hop.mta.wait_for(1)[0];
    let size: u64 = seen
        .mail_from
        .split("SIZE=")
        .nth(1)
        .and_then(|s| s.split(' ').next())
        .and_then(|s| s.parse().ok())
        .expect("a SIZE");
    assert!(
        seen.mail_from
            .starts_with("MAIL FROM:<alice@origin.test> SIZE=")
            && seen.mail_from.ends_with(" ENVID=E1+40x"),
        "{}",
        seen.mail_from
    );
    assert_eq!(
        seen.recipients,
        [
            "RCPT TO:<bob@dest.test> ORCPT=rfc822;bob@dest.test",
            "RCPT TO:<carol@dest.test> ORCPT=rfc822;c@x.test"
        ]
    );
    let text = String::from_utf8(seen.data.clone()).expect("text");
    assert!(text.starts_with("Hoptrail-Carry: v=1; kid="), "{text}");
    assert!(text.ends_with("mac=") || text.contains("mac="), "{text}");
    let (carry, rest) = text.split_at(text.find("Message-ID:").expect("the message"));
    assert_eq!(
        rest.as_bytes(),
        b"Message-ID: <m1@origin.test>\r\nSubject: x\r\n\r\n..leading dot\r\nlast\r\n"
    );
    assert!(
        !carry.contains("alice") && !carry.contains("bob") && !carry.contains("m1@"),
        "{carry}"
    );
    assert!(
        size >= 64 + carry.len() as u64,
        "SIZE= has room for the carry header"
    );

    let report = hop.reports(1).remove(0);
    assert_eq!(report.field("Original-Envelope-Id"), "E1@x");
    assert_eq!(report.field("X-Hoptrail-Queue-Id"), "4F1A2B3C");
    assert_eq!(report.field("X-Hoptrail-Message-Id"), "m1@origin.test");
    assert_eq!(report.field("X-Hoptrail-Hop"), "1");
    assert_eq!(report.of_recipients("X-Hoptrail-Event"), ["accepted"; 2]);
    assert_eq!(report.of_recipients("Action"), ["transferred"; 2]);
    assert_eq!(
        report.of_recipients("Original-Recipient"),
        ["rfc822; bob@dest.test", "rfc822; c@x.test"]
    );
}

#[test]
fn a_message_that_the_mta_refuses_is_not_reported() {
    let hop = Ingress::before(
        postfix_like()
            .once("DOT", "554 5.6.0 a virus")
            .once("DOT", "451 4.3.0 later")
            .once("DOT", "554 5.6.0 another"),
    );
    let mut client = hop.client();
    client.command("EHLO client.test", "250");
    for (envid, reply) in [("E1", "554"), ("E2", "451"), ("E3", "554"), ("E4", "250")] {
        client.command(&format!("{TRACKED} ENVID={envid}"), "250");
        client.command("RCPT TO:<bob@dest.test>", "250");
        if envid == "E3" {
            client.send(
                [
                    format!("BDAT {} LAST\r\n", MESSAGE.len()).as_bytes(),
                    MESSAGE,
                ]
                .concat(),
            );
        } else {
            client.data(MESSAGE);
        }
        client.expect(reply);
    }
    // What came before the last would have been told before it.
    let report = hop.reports(1).remove(0);
    assert_eq!(report.field("Original-Envelope-Id"), "E4");
}

#[test]
fn no_room_for_the_carry_header_means_untracked() {
    let hop = Ingress::before(postfix_like());
    let mut client = hop.client();
    client.command("EHLO client.test", "250");
    client.command(&format!("{TRACKED} SIZE=9999"), "250");
    client.command("RCPT TO:<bob@dest.test>", "250");
    client.data(MESSAGE);
    client.expect("250");
    let seen = &hop.mta.wait_for(1)[0];
    assert_eq!(seen.mail_from, "MAIL FROM:<alice@origin.test> SIZE=9999");
    assert!(seen.data.starts_with(b"Message-ID:"));
}

/// No SIZE=, but the one chunk says as much.
#[test]
fn no_room_for_the_carry_header_in_the_only_chunk_means_untracked() {
    let hop = Ingress::before(postfix_like());
    let mut client = hop.client();
    client.command("EHLO client.test", "250");
    for (octets, tracked) in [(9950, false), (9000, true)] {
        client.command(TRACKED, "250");
        client.command("RCPT TO:<bob@dest.test>", "250");
        let mut message = MESSAGE.to_vec();
        message.resize(octets, b'x');
        client.chunks(&[&message]);
        client.expect("250 2.0.0 Ok: queued");
        let seen = hop.mta.wait_for(1).pop().expect("a message").data;
        assert_eq!(seen.starts_with(b"Hoptrail-Carry:"), tracked, "{octets}");
        assert!(seen.ends_with(&message), "{octets}");
        assert!(seen.len() <= 10_000, "{octets}");
    }
    hop.reports(1);
}

#[test]
fn a_header_block_over_the_limit_means_untracked_and_unchanged() {
    let hop = Ingress::before(postfix_like());
    let mut client = hop.client();
    client.command("EHLO client.test", "250");
    client.command(TRACKED, "250");
    client.command("RCPT TO:<bob@dest.test>", "250");
    let message = format!(
        "{}\r\nbody\r\n",
        "X-Long: 0123456789abcdef\r\n".repeat(3000)
    )
    .into_bytes();
    client.data(&message);
    client.expect("250");
    assert_eq!(hop.mta.wait_for(1)[0].data, message);
}

#[test]
fn the_null_reverse_path_is_accepted_and_never_reported() {
    let hop = Ingress::before(postfix_like());
    let mut client = hop.client();
    client.command("EHLO client.test", "250");
    client.command("MAIL FROM:<> TRACK=NOW", "250");
    client.command("RCPT TO:<bob@dest.test>", "250");
    client.data(MESSAGE);
    client.expect("250");
    assert!(hop.mta.wait_for(1)[0].data.starts_with(b"Message-ID:"));
    client.command(TRACKED, "250");
    client.command("RCPT TO:<bob@dest.test>", "250");
    client.data(MESSAGE);
    client.expect("250");
    let mails = hop.wait_for_mails(1);
    assert_eq!(mails[0].field("To").as_deref(), Some("<alice@origin.test>"));
}

#[test]
fn a_forged_carry_header_stays_and_one_of_ours_is_taken_out() {
    let hop = Ingress::before(postfix_like());
    let mut client = hop.client();
    client.command("EHLO client.test", "250");
    client.command(TRACKED, "250");
    client.command("RCPT TO:<bob@dest.test>", "250");
    client.data(MESSAGE);
    client.expect("250");
    let carried = hop.mta.wait_for(1)[0].data.clone();

    // The same octets come back, as out of a bounce: taken out, not honoured.
    client.command("MAIL FROM:<mallory@evil.test>", "250");
    client.command("RCPT TO:<bob@dest.test>", "250");
    client.command("DATA", "354");
    client.send(&carried);
    client.send(".\r\n");
    client.expect("250");
    assert_eq!(
        hop.mta.wait_for(2)[1].data,
        b"Message-ID: <m1@origin.test>\r\nSubject: x\r\n\r\n..leading dot\r\nlast\r\n"
    );

    let forged = String::from_utf8_lossy(&carried).replace("step=", "step=0");
    client.command("MAIL FROM:<alice@origin.test>", "250");
    client.command("RCPT TO:<bob@dest.test>", "250");
    client.command("DATA", "354");
    client.send(forged.as_bytes());
    client.send(".\r\n");
    client.expect("250");
    assert_eq!(
        String::from_utf8_lossy(&hop.mta.wait_for(3)[2].data),
        forged,
        "not ours: left alone"
    );
    assert_eq!(hop.reports(1).len(), 1);
}

#[test]
fn pipelined_groups_keep_their_order_also_past_a_refusal() {
    let hop = Ingress::before(
        postfix_like()
            .once("RCPT TO:<nobody", "550 5.1.1 no such user")
            .once("MAIL FROM:<bad", "550 5.7.1 not you")
            .once("DATA", "503 5.5.1 need MAIL"),
    );
    let mut client = Dialogue::connect(hop.entrance);
    client.send(
        "EHLO client.test\r\nMAIL FROM:<bad@origin.test>\r\nRCPT TO:<nobody@dest.test>\r\nDATA\r\n",
    );
    client.expect("220");
    client.expect("250");
    client.expect("550 5.7.1");
    client.expect("550 5.1.1");
    client.expect("503 5.5.1");
    client.send("RSET\r\nMAIL FROM:<alice@origin.test>\r\nRCPT TO:<bob@dest.test>\r\nDATA\r\n");
    for code in ["250", "250", "250", "354"] {
        client.expect(code);
    }
    client.send("x: y\r\n\r\nbody\r\n.\r\nNOOP\r\nQUIT\r\n");
    client.expect("250 2.0.0 Ok: queued as");
    client.expect("250");
    client.expect("221");
    assert!(client.is_closed());
    assert_eq!(hop.mta.wait_for(1)[0].data, b"x: y\r\n\r\nbody\r\n");
}

/// RFC 2920, 3.1: it stands behind DATA, so it is the text of a message, whatever the MTA thinks of that.
#[test]
fn text_behind_a_refused_data_is_not_followed_though_it_comes_by_itself() {
    const REFUSALS: [(&str, &str); 2] = [("RCPT TO:<nobody", "550 5.1.1"), ("DATA", "554 5.5.1")];
    const THOUGHT: Duration = Duration::from_millis(400);
    let mta = REFUSALS.iter().fold(postfix_like(), |mta, (line, reply)| {
        mta.always(line, &format!("{reply} no"))
    });
    let hop = Ingress::before(mta.pause(THOUGHT));
    let mut client = hop.client();
    client.command("EHLO client.test", "250");
    client.command("MAIL FROM:<alice@origin.test>", "250");
    client.command("RCPT TO:<nobody@dest.test>", "550 5.1.1");
    client.send("DATA\r\n");
    thread::sleep(THOUGHT / 4);
    client.send("Subject: x\r\n\r\nRSET\r\nMAIL FROM:<mallory@evil.test>\r\n");
    client.expect("554 5.5.1");
    client.expect("554 5.5.0");
    assert!(client.is_closed());
    let last = hop.mta.commands().pop();
    assert_eq!(last.as_deref(), Some("DATA"));

    // What the client says once it has heard is as good as ever.
    let mut client = hop.client();
    client.command("EHLO client.test", "250");
    client.command("MAIL FROM:<alice@origin.test>", "250");
    client.command("DATA", "554 5.5.1");
    client.command("RSET", "250");
    client.command("QUIT", "221");
}

#[test]
fn a_message_that_breaks_off_is_not_completed() {
    let hop = Ingress::before(postfix_like());
    for tail in ["", "\r\n.", "\r\n.\r"] {
        let mut client = hop.client();
        client.command("EHLO client.test", "250");
        client.command(TRACKED, "250");
        client.command("RCPT TO:<bob@dest.test>", "250");
        client.command("DATA", "354");
        client.send(format!("Subject: x\r\n\r\nhalf a message{tail}"));
        client.break_off();
    }
    let mut client = hop.client();
    client.command("EHLO client.test", "250");
    client.command("MAIL FROM:<alice@origin.test>", "250");
    client.command("RCPT TO:<bob@dest.test>", "250");
    client.data(MESSAGE);
    client.expect("250");
    assert_eq!(hop.mta.wait_for(1).len(), 1, "{:?}", hop.mta.transactions());
}

#[test]
fn smuggled_ends_of_data_do_not_become_a_second_message() {
    let hop = Ingress::before(postfix_like());
    for end in [
        "\n.\n",
        "\n.\r\n",
        "\r\n.\n",
        "\r.\r",
        "\r\n.\r",
        "\r\n\0.\r\n",
    ] {
        let mut client = hop.client();
        client.command("EHLO client.test", "250");
        client.command("MAIL FROM:<alice@origin.test>", "250");
        client.command("RCPT TO:<bob@dest.test>", "250");
        client.command("DATA", "354");
        client.send(format!("Subject: x\r\n\r\nfirst{end}MAIL FROM:<admin@dest.test>\r\nRCPT TO:<bob@dest.test>\r\nDATA\r\nfaked\r\n.\r\n"));
        client.expect("250");
    }
    let seen = hop.mta.wait_for(6);
    assert_eq!(seen.len(), 6);
    for transaction in seen {
        assert_eq!(transaction.mail_from, "MAIL FROM:<alice@origin.test>");
        let text = String::from_utf8_lossy(&transaction.data).into_owned();
        assert!(
            text.contains("faked") && !text.replace("\r\n", "").contains(['\r', '\n']),
            "{text:?}"
        );
    }
}

#[test]
fn an_mta_that_is_down_costs_a_421_and_nothing_else() {
    let nowhere = net::address();
    let entrance = net::address();
    let _hop = Hoptrail::serve(&format!(
        "hostname = 'mx1.test'\n[reports]\nfrom = 'hoptrail@mx1.test'\nvia = 'maildir:/nonexistent'\n\
         [[listener]]\nrole = 'ingress'\nlisten = '{entrance}'\nprotocol = 'smtp'\nnext_hop = 'smtp://{nowhere}'\n"
    ));
    for _ in 0..2 {
        let mut client = Dialogue::connect(entrance);
        client.expect("421 4.4.1");
        assert!(client.is_closed());
    }
}

#[test]
fn an_mta_that_dies_never_becomes_a_success() {
    for (at, answer) in [
        ("MAIL", "421 4.4.2"),
        ("DATA", "421 4.4.2"),
        ("DOT", "451 4.4.2"),
    ] {
        let hop = Ingress::before(postfix_like().once(at, "close"));
        let mut client = hop.client();
        client.send(format!(
            "EHLO client.test\r\n{TRACKED}\r\nRCPT TO:<bob@dest.test>\r\nDATA\r\n"
        ));
        let mut last = String::new();
        while !client.transcript().contains("354") && !last.starts_with("421") {
            last = client.reply().join("");
        }
        if at == "DOT" {
            client.send([MESSAGE, b".\r\n"].concat());
            last = client.reply().join("");
        }
        assert!(last.starts_with(answer), "{at}: {}", client.transcript());
        assert!(client.is_closed());
        // Nothing arrived, nothing is reported: the next message's report is the first.
        let mut next = hop.client();
        next.command("EHLO client.test", "250");
        next.command(&format!("{TRACKED} ENVID=next"), "250");
        next.command("RCPT TO:<bob@dest.test>", "250");
        next.data(MESSAGE);
        next.expect("250");
        let report = hop.reports(1).remove(0);
        assert_eq!(report.field("Original-Envelope-Id"), "next", "{at}");
    }
}

#[test]
fn an_mta_that_speaks_up_is_heard() {
    let listener = TcpListener::bind(net::address()).expect("a port");
    let Ok(std::net::SocketAddr::V4(mta)) = listener.local_addr() else {
        panic!("IPv4")
    };
    let entrance = net::address();
    let server = std::thread::spawn(move || {
        for stream in listener.incoming().take(2) {
            let mut stream = stream.expect("a connection");
            stream.write_all(b"220 mx.test\r\n").expect("a greeting");
            std::thread::sleep(Duration::from_millis(200));
            let _ = stream.write_all(b"421 4.3.2 mx.test going down\r\n");
        }
    });
    let _hop = Hoptrail::serve(&format!(
        "hostname = 'mx1.test'\n[reports]\nfrom = 'hoptrail@mx1.test'\nvia = 'maildir:/nonexistent'\n\
         [[listener]]\nrole = 'ingress'\nlisten = '{entrance}'\nprotocol = 'smtp'\nnext_hop = 'smtp://{mta}'\n"
    ));
    let mut client = Dialogue::connect(entrance);
    client.expect("220");
    client.expect("421 4.3.2 mx.test going down");
    assert!(client.is_closed());
    server.join().expect("the server ends");
}

#[test]
fn an_mta_that_tracks_gets_the_request_itself() {
    let hop = Ingress::before(postfix_like().offer("TRACK NOW"));
    let mut client = hop.client();
    client.command("EHLO client.test", "250");
    client.command(
        "MAIL FROM:<alice@origin.test> TRACK=NOW:hop/2:up/00000000000000aa ENVID=E1",
        "250",
    );
    client.command("RCPT TO:<bob@dest.test>", "250");
    client.data(MESSAGE);
    client.expect("250");
    let seen = &hop.mta.wait_for(1)[0];
    let report = hop.reports(1).remove(0);
    assert_eq!(report.field("X-Hoptrail-Parent"), "00000000000000aa");
    assert_eq!(report.field("X-Hoptrail-Hop"), "3");
    let step = report.field("X-Hoptrail-Step");
    assert_eq!(
        seen.mail_from,
        format!("MAIL FROM:<alice@origin.test> TRACK=NOW:hop/3:up/{step}:via/AAAAAAAAAKo ENVID=E1")
    );
    assert!(
        seen.data.starts_with(b"Message-ID:"),
        "no carry header where the request itself goes"
    );
}

#[test]
fn what_the_mta_says_before_it_has_the_message_is_not_its_word_about_it() {
    for (command, early) in [
        ("DATA", "354 go on\r\n250 2.0.0 ok, taken"),
        ("BDAT", "250 2.0.0 go on\r\n250 2.0.0 ok, taken"),
    ] {
        let mta = postfix_like().offer("CHUNKING").once(command, early);
        let hop = Ingress::before(mta);
        let mut client = hop.client();
        client.command("EHLO client.test", "250");
        client.command("MAIL FROM:<alice@origin.test>", "250");
        client.command("RCPT TO:<bob@dest.test>", "250");
        if command == "BDAT" {
            client.send(b"BDAT 14\r\nSubject: x\r\n\r\n");
            client.expect("250 2.0.0 go on");
            client.send(b"BDAT 4 LAST\r\nx\r\ny");
        } else {
            client.send(b"DATA\r\n");
        }
        client.expect("421 4.4.2");
        assert!(client.is_closed());
        assert!(hop.mta.transactions().is_empty());
    }
}

#[test]
fn auth_passes_line_by_line_and_makes_the_session_trusted() {
    let mta = postfix_like()
        .offer("AUTH PLAIN LOGIN GSSAPI")
        .once("AUTH", "334 VXNlcm5hbWU6")
        .once("YWxpY2U=", "334 UGFzc3dvcmQ6")
        .once("c2VjcmV0", "235 2.7.0 ok");
    let hop = Ingress::with(mta, "[policy]\nallow = ['authenticated']", "");
    let mut client = hop.client();
    let offer = client.command("EHLO client.test", "250");
    assert!(
        offer.contains(&"250-AUTH PLAIN LOGIN".to_owned()),
        "{offer:?}"
    );
    assert!(offer.contains(&"250 TRACK NOW".to_owned()), "{offer:?}");
    client.command("AUTH LOGIN", "334");
    client.command("YWxpY2U=", "334");
    client.command("c2VjcmV0", "235");
    client.command(TRACKED, "250");
    client.command("RCPT TO:<bob@dest.test>", "250");
    client.data(MESSAGE);
    client.expect("250");
    assert!(hop.mta.wait_for(1)[0].data.starts_with(b"Hoptrail-Carry:"));
    assert!(
        !hop.hoptrail.log().contains("c2VjcmV0"),
        "secrets are never logged"
    );
}

#[test]
fn a_state_directory_of_no_use_costs_tracking_not_mail() {
    let mut hop = Ingress::before(postfix_like());
    hop.hoptrail.kill();
    for leftover in ["store.sqlite-wal", "store.sqlite-shm"] {
        let _ = std::fs::remove_file(hop.hoptrail.state_dir().join(leftover));
    }
    std::fs::write(
        hop.hoptrail.state_dir().join("store.sqlite"),
        b"this is no database, not at all",
    )
    .expect("written");
    hop.hoptrail.start_again();
    let mut client = hop.client();
    let offer = client.command("EHLO client.test", "250");
    assert!(
        !offer.iter().any(|line| line.contains("TRACK")),
        "{offer:?}"
    );
    client.command(TRACKED, "250");
    client.command("RCPT TO:<bob@dest.test>", "250");
    client.data(MESSAGE);
    client.expect("250");
    assert!(hop.mta.wait_for(1)[0].data.starts_with(b"Message-ID:"));
    assert!(
        hop.hoptrail.log().contains("NOTHING IS TRACKED"),
        "{}",
        hop.hoptrail.log()
    );
}

#[test]
fn a_store_that_stands_still_holds_no_mail_longer_than_configured() {
    let hop = Ingress::with(postfix_like(), "timeouts = { store_ms = 400 }", "");
    let send = |client: &mut Dialogue, envid: &str| {
        client.command(&format!("{TRACKED} ENVID={envid}"), "250");
        client.command("RCPT TO:<bob@dest.test>", "250");
        client.data(MESSAGE);
        let start = Instant::now();
        client.expect("250");
        start.elapsed()
    };
    let mut client = hop.client();
    client.command("EHLO client.test", "250");
    send(&mut client, "before");
    // Another process holds the lock of the database, for which the store waits a second.
    let store = hop.hoptrail.state_dir().join("store.sqlite");
    let store = rusqlite::Connection::open(store).expect("the store opens");
    store.execute_batch("BEGIN IMMEDIATE").expect("locked");
    for envid in ["held-1", "held-2"] {
        let watch = Stopwatch::start();
        let held = send(&mut client, envid).as_millis();
        assert!(held >= 400, "{envid}: {held} ms");
        let at_most = watch.elapsed().as_millis();
        assert!(at_most < 950, "{envid}: {at_most} ms");
    }
    store.execute_batch("ROLLBACK").expect("unlocked");
    send(&mut client, "after");
    let log = hop.hoptrail.log();
    assert!(log.contains("not durable within 400 ms"));
    // Of every message the log says so, but the alarm is not raised with each.
    assert_eq!(log.matches("report lost, mail goes on").count(), 2, "{log}");
    assert_eq!(log.matches("\"level\":\"ERROR\"").count(), 1, "{log}");
    // What was put while it stood still may be told too.
    support::wait_until(support::PATIENCE, "the other reports", || {
        let mails = Mail::in_maildir(hop.reports.path());
        let reports = mails.iter().filter_map(Mail::report);
        let told: Vec<String> = reports.map(|r| r.field("Original-Envelope-Id")).collect();
        let all = ["before", "after"].map(|envid| told.iter().any(|t| t == envid));
        (all == [true; 2]).then_some(()).ok_or(format!("{told:?}"))
    });
}

#[test]
fn a_report_promised_by_a_250_survives_kill_9() {
    let mut hop = Ingress::with(postfix_like(), "", "");
    let mut client = hop.client();
    client.command("EHLO client.test", "250");
    for n in 0..20 {
        client.command(&format!("{TRACKED} ENVID=E{n}"), "250");
        client.command("RCPT TO:<bob@dest.test>", "250");
        client.data(MESSAGE);
        client.expect("250");
    }
    hop.hoptrail.kill();
    hop.hoptrail.start_again();
    // A report that was mailed but not yet marked as such when the kill came is mailed again, under the same
    // Message-ID; what must not happen is that one is missing.
    support::wait_until(support::PATIENCE, "every report that was promised", || {
        let mut ids: Vec<String> = Mail::in_maildir(hop.reports.path())
            .iter()
            .filter_map(Mail::report)
            .map(|report| report.field("Original-Envelope-Id"))
            .collect();
        ids.sort();
        ids.dedup();
        if ids.len() == 20 {
            Ok(())
        } else {
            Err(format!("{ids:?}"))
        }
    });
}

#[test]
fn more_recipients_than_are_kept_means_untracked() {
    let hop = Ingress::with(postfix_like(), "[limits]\nrecipients_max = 2", "");
    let mut client = hop.client();
    client.command("EHLO client.test", "250");
    client.command(TRACKED, "250");
    for rcpt in ["bob", "carol", "dora"] {
        client.command(&format!("RCPT TO:<{rcpt}@dest.test>"), "250");
    }
    client.data(MESSAGE);
    client.expect("250");
    let seen = &hop.mta.wait_for(1)[0];
    assert_eq!(seen.recipients.len(), 3, "the mail goes to all");
    assert!(seen.data.starts_with(b"Message-ID:"));
}

#[test]
fn keywords_the_configuration_vouches_for_are_shown() {
    let mta = postfix_like()
        .offer("ETRN")
        .always("ETRN", "250 2.0.0 queuing")
        .once("XFOO", "250 2.0.0 foo to you");
    let hop = Ingress::with(mta, "", "safe_keywords = ['xfoo']");
    let mut client = hop.client();
    let offer = client.command("EHLO client.test", "250");
    assert!(offer.contains(&"250-XFOO BAR".to_owned()), "{offer:?}");
    client.command("XFOO 1", "250 2.0.0 foo to you");
    client.command("ETRN dest.test", "250");
    client.command("XBAR 1", "502");
}

#[test]
fn chunks_pass_by_count_and_untouched() {
    let hop = Ingress::before(postfix_like().offer("BINARYMIME"));
    let mut client = hop.client();
    let offer = client.command("EHLO client.test", "250");
    assert!(offer.contains(&"250-BINARYMIME".to_owned()), "{offer:?}");
    client.command("MAIL FROM:<alice@origin.test> BODY=BINARYMIME", "250");
    client.command("RCPT TO:<bob@dest.test>", "250");
    // Octets that would end DATA, a lone LF and CR, a NUL: all of it is data.
    let first = b"Subject: x\r\n\r\n\n.\n\r\n.\r\nQUIT\r\n\0\r";
    client.send([format!("bdat {}\r\n", first.len()).as_bytes(), first].concat());
    client.expect("250");
    // The rest is pipelined, split anywhere.
    client.send("BDAT 5\r\n");
    client.send("ab");
    client.send("\r\ncBDAT 0 LAST\r\nNOOP\r\n");
    client.expect("250");
    client.expect("250 2.0.0 Ok: queued as 4F1A2B3C");
    client.expect("250");
    assert_eq!(
        hop.mta.wait_for(1)[0].data,
        [&first[..], b"ab\r\nc"].concat()
    );
    assert!(
        hop.mta
            .commands()
            .contains(&format!("bdat {}", first.len()))
    );
    assert!(!hop.mta.commands().contains(&"QUIT".to_owned()));
}

#[test]
fn the_carry_header_goes_into_the_first_chunk() {
    let text = "Message-ID: <m1@origin.test>\r\nSubject: x\r\n\r\nbody\r\n";
    // The header block whole in the first chunk, then cut in it.
    for cut in [text.len(), 40] {
        let hop = Ingress::before(postfix_like());
        let mut client = hop.client();
        client.command("EHLO client.test", "250");
        client.command(TRACKED, "250");
        client.command("RCPT TO:<bob@dest.test>", "250");
        let (first, rest) = text.split_at(cut);
        client.send(format!("BDAT {}\r\n{first}", first.len()));
        client.expect("250");
        client.send(format!("BDAT {} LAST\r\n{rest}", rest.len()));
        client.expect("250 2.0.0 Ok: queued as 4F1A2B3C");
        let seen = String::from_utf8(hop.mta.wait_for(1)[0].data.clone()).expect("text");
        assert!(
            seen.starts_with("Hoptrail-Carry: v=1;") && seen.ends_with(text),
            "{seen}"
        );
        assert_eq!(
            seen.contains("msg=-;"),
            cut == 40,
            "bound only if the block was seen: {seen}"
        );
        let report = hop.reports(1).remove(0);
        assert_eq!(report.field("X-Hoptrail-Size"), text.len().to_string());
        assert_eq!(report.of_recipients("X-Hoptrail-Event"), ["accepted"]);
    }
}

/// A field put before a folded line would swallow it, and a text without header would get one: such mail goes untracked,
/// however it is cut. Any other is tracked, where there is a place left for a field when it is known.
#[test]
fn no_field_goes_before_a_first_line_in_chunks_that_is_none() {
    let hop = Ingress::before(postfix_like());
    let mut client = hop.client();
    client.command("EHLO client.test", "250");
    for (text, sound) in [
        ("Subject: x\r\n\r\nbody\r\n", true),
        (
            " Subject: x\r\nMessage-ID: <m1@origin.test>\r\n\r\nbody\r\n",
            false,
        ),
        ("noheader\r\nX: y\r\n\r\nbody\r\n", false),
        ("From alice\r\nSubject: x\r\n\r\nbody\r\n", false),
        ("body", false),
        ("\r\nbody", true),
    ] {
        for split in [
            &[][..],
            &[0],
            &[1],
            &[0, 1, 0, 2],
            &[1; 20],
            &[5, 4, 1],
            &[15, 1],
        ] {
            let cut_at_once = split.iter().find(|size| **size > 0) == Some(&1);
            let carried = sound && !(text.starts_with('\r') && cut_at_once);
            let before = hop.mta.transactions().len();
            client.command(TRACKED, "250");
            client.command("RCPT TO:<bob@dest.test>", "250");
            let mut rest = text;
            for size in split {
                let (chunk, behind) = rest.split_at((*size).min(rest.len()));
                client.send(format!("BDAT {}\r\n{chunk}", chunk.len()));
                client.expect("250");
                rest = behind;
            }
            client.send(format!("BDAT {} LAST\r\n{rest}", rest.len()));
            client.expect("250 2.0.0 Ok: queued as 4F1A2B3C");
            let seen = hop.mta.wait_for(before + 1).remove(before).data;
            let seen = String::from_utf8(seen).expect("text");
            let what = format!("{text:?} in {split:?}: {seen:?}");
            let below = without_carry(&seen);
            assert_eq!(below.len() < seen.len(), carried, "{what}");
            assert_eq!(below, text, "{what}");
        }
    }
}

/// A message without the one carry header in it.
fn without_carry(message: &str) -> String {
    let Some((above, behind)) = message.split_once("Hoptrail-Carry: ") else {
        return message.to_owned();
    };
    let mut lines = behind.split_inclusive("\r\n").skip(1).peekable();
    while lines.next_if(|line| line.starts_with(' ')).is_some() {}
    above.chars().chain(lines.flat_map(str::chars)).collect()
}

#[test]
fn chunks_that_belong_to_nothing_are_read_and_refused() {
    let hop = Ingress::before(postfix_like().once("BDAT 3", "552 5.3.4 too big"));
    let mut client = hop.client();
    client.command("EHLO client.test", "250");
    // Without a transaction: its octets must not be taken for commands.
    client.send("BDAT 6\r\nQUIT\r\n");
    client.expect("503 5.5.1");
    client.command("MAIL FROM:<alice@origin.test>", "250");
    client.send("BDAT 6 LAST\r\nRSET\r\n");
    client.expect("503 5.5.1");
    client.command("RCPT TO:<bob@dest.test>", "250");
    // After an error nothing more of the message is wanted.
    client.send("BDAT 3\r\nabcBDAT 6 LAST\r\nRSET\r\n");
    client.expect("552 5.3.4");
    client.expect("503 5.5.1");
    client.command("DATA", "503 5.5.1");
    client.command("RSET", "250");
    client.command("MAIL FROM:<alice@origin.test>", "250");
    client.command("RCPT TO:<bob@dest.test>", "250");
    client.send("BDAT 4 LAST\r\nx\r\ny");
    client.expect("250");
    assert_eq!(hop.mta.wait_for(1).len(), 1);
    client.command("BDAT x", "501 5.5.4");
    assert!(
        client.is_closed(),
        "where the next command begins nobody knows"
    );
}

#[test]
fn a_chunk_that_breaks_off_is_not_completed() {
    let hop = Ingress::before(postfix_like());
    let mut client = hop.client();
    client.command("EHLO client.test", "250");
    client.command(TRACKED, "250");
    client.command("RCPT TO:<bob@dest.test>", "250");
    client.send("BDAT 100 LAST\r\nSubject: x\r\n\r\nhalf");
    client.break_off();
    let mut client = hop.client();
    client.submit("alice@origin.test", &["bob@dest.test"], MESSAGE);
    let seen = hop.mta.wait_for(1);
    assert!(
        seen.len() == 1 && seen[0].data.starts_with(b"Message-ID:"),
        "{seen:?}"
    );
}

#[test]
fn a_report_is_never_reported_on_whoever_sends_it() {
    let hop = Ingress::before(postfix_like());
    let mut client = hop.client();
    client.command("EHLO client.test", "250");
    let report = b"Content-Type: multipart/report;\r\n report-type=\"Tracking-Status\"; boundary=x\r\n\r\n--x--\r\n";
    client.command(TRACKED, "250");
    client.command("RCPT TO:<bob@dest.test>", "250");
    client.data(report);
    client.expect("250");
    client.command("MAIL FROM:<\"x<y\"@origin.test> TRACK=NOW", "250");
    client.command("RCPT TO:<bob@dest.test>", "250");
    client.data(MESSAGE);
    client.expect("250");
    client.command(TRACKED, "250");
    client.command("RCPT TO:<HopTrail@mx1.test>", "250");
    client.data(MESSAGE);
    client.expect("250");
    let seen = hop.mta.wait_for(3);
    assert_eq!(seen[0].data, report);
    for (seen, why) in seen[1..]
        .iter()
        .zip(["nobody could be told", "it answers a report"])
    {
        assert!(seen.data.starts_with(b"Message-ID:"), "{why}: {seen:?}");
    }
}
