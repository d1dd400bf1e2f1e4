//! Next hops and clients that misbehave: never a 250 that the next hop did not give, never a message completed
//! that was broken off, never a wait past the configured time-outs.

#![allow(clippy::expect_used)]

mod support;

use std::io::Write;
use std::net::SocketAddrV4;
use std::time::{Duration, Instant};

use support::dialogue::Dialogue;
use support::hoptrail::Hoptrail;
use support::mail::Mail;
use support::net;
use support::sink::{Script, Sink};
use support::{PATIENCE, Stopwatch};

const MESSAGE: &[u8] = b"Message-ID: <m1@origin.test>\r\nSubject: x\r\n\r\n.dot\r\nlast\r\n";
const STAGES: [&str; 5] = ["EHLO", "MAIL", "RCPT", "DATA", "DOT"];
/// One second for whatever the next hop has to say, and for the client; for tests in which somebody keeps silent.
const SHORT: &str = "timeouts = { reply_s = 1, final_reply_s = 1, client_s = 2, write_s = 2 }";
/// Longer than any sum of the waits in one transaction.
const SOON: Duration = Duration::from_secs(8);

/// An ingress and an egress before the same next hop.
struct Hop {
    next: Sink,
    ingress: SocketAddrV4,
    egress: SocketAddrV4,
    reports: tempfile::TempDir,
    _hoptrail: Hoptrail,
}

impl Hop {
    fn before(next: Script) -> Self {
        Self::with("", next)
    }

    /// Which does not wait long.
    fn hasty(next: Script) -> Self {
        Self::with(SHORT, next)
    }

    fn with(timeouts: &str, next: Script) -> Self {
        let next = next.start();
        let reports = tempfile::tempdir().expect("a temporary directory");
        let (ingress, egress) = (net::address(), net::address());
        let hoptrail = Hoptrail::serve(&format!(
            "hostname = 'mx1.test'\n{timeouts}\n\
             [reports]\nfrom = 'hoptrail@mx1.test'\nvia = 'maildir:{}'\naccepted = 'always'\n\
             [[listener]]\nrole = 'ingress'\nlisten = '{ingress}'\nprotocol = 'smtp'\nnext_hop = '{to}'\n\
             [[listener]]\nrole = 'egress'\nlisten = '{egress}'\nprotocol = 'lmtp'\nnext_hop = '{to}'\n",
            reports.path().display(),
            to = next.next_hop(),
        ));
        Self {
            next,
            ingress,
            egress,
            reports,
            _hoptrail: hoptrail,
        }
    }

    /// Where a client may come in, and what it says there.
    fn doors(&self) -> [(SocketAddrV4, &'static str); 2] {
        [
            (self.ingress, "EHLO client.test"),
            (self.egress, "LHLO mta.test"),
        ]
    }

    /// What comes whole arrives, behind which whatever came before would have.
    fn assert_only_whole_mail(&self) {
        Dialogue::open(self.ingress).submit("alice@origin.test", &["bob@dest.test"], MESSAGE);
        let seen = self.next.wait_for(1);
        assert!(
            seen.len() == 1 && seen[0].mail().below_trace().starts_with(b"Message-ID:"),
            "{seen:?}"
        );
    }

    fn reports(&self) -> usize {
        Mail::in_maildir(self.reports.path()).len()
    }
}

/// A tracked transaction as far as it is let: the first reply that is not as it should be, or the last.
fn attempt(client: &mut Dialogue, hello: &str) -> String {
    attempt_with(
        client,
        hello,
        b"Message-ID: <m1@origin.test>\r\n\r\nbody\r\n",
    )
}

fn attempt_with(client: &mut Dialogue, hello: &str, message: &[u8]) -> String {
    attempt_in_pieces(client, hello, &[message, b".\r\n"].concat(), b"")
}

/// The same with a message that comes in two pieces, a while between them.
fn attempt_in_pieces(client: &mut Dialogue, hello: &str, start: &[u8], rest: &[u8]) -> String {
    let last = |client: &mut Dialogue| client.reply().pop().unwrap_or_default();
    for (line, code) in [
        ("", "220"),
        (hello, "250"),
        ("MAIL FROM:<alice@origin.test> TRACK=NOW", "250"),
        ("RCPT TO:<bob@dest.test>", "250"),
        ("DATA", "354"),
    ] {
        if !line.is_empty() {
            client.send(format!("{line}\r\n"));
        }
        let reply = last(client);
        if !reply.starts_with(code) {
            return reply;
        }
    }
    client.send(start);
    if !rest.is_empty() {
        std::thread::sleep(Duration::from_millis(600));
        client.send(rest);
    }
    last(client)
}

/// Each fault, and what a client of the ingress is told.
fn faults() -> [(&'static str, String, &'static str); 8] {
    let long = "250-2.0.0 words, words, words, words, words\r\n".repeat(2500) + "250 2.0.0 end";
    [
        ("silence", "silence".to_owned(), "4"),
        ("the end", "close".to_owned(), "4"),
        ("half a reply", "half".to_owned(), "4"),
        ("100 KB of text", long, "4"),
        ("one long line", format!("250 {}", "x".repeat(100_000)), "4"),
        ("garbage", "\u{1}\u{2} hello, is it me?".to_owned(), "4"),
        ("no code", "250-2.0.0 yes\r\nno".to_owned(), "4"),
        (
            "421",
            "421 4.3.2 mx.test going down".to_owned(),
            "421 4.3.2 mx.test going down",
        ),
    ]
}

/// The faults at this stage. At the dot a 250 counts however long its text is.
fn faults_at(stage: &str) -> Vec<(&'static str, String, &'static str)> {
    let long = ["100 KB of text", "one long line"];
    let mut faults = Vec::from(faults());
    faults.retain(|fault| stage != "DOT" || !long.contains(&fault.0));
    faults
}

/// Every stage meets every fault once, in the order of the stages.
fn faulty() -> Script {
    let all = STAGES.iter().flat_map(|stage| {
        faults_at(stage)
            .into_iter()
            .map(move |fault| (stage, fault.1))
    });
    all.fold(Sink::smtp(), |script, (stage, reply)| {
        script.once(stage, &reply)
    })
}

#[test]
fn whatever_an_mta_says_wrong_is_no_success_and_no_hang() {
    let hop = Hop::hasty(faulty());
    for stage in STAGES {
        for (fault, _, told) in faults_at(stage) {
            let (mut client, started) = (Dialogue::connect(hop.ingress), Stopwatch::start());
            let reply = attempt(&mut client, "EHLO client.test");
            assert!(
                reply.starts_with(told) && (told == "4" || reply == told),
                "{fault} at {stage}: {}",
                client.transcript()
            );
            assert!(client.is_closed(), "{fault} at {stage}");
            assert!(
                started.elapsed() < SOON,
                "{fault} at {stage}: {:?}",
                started.elapsed()
            );
        }
    }
    assert_eq!(hop.reports(), 0, "nothing arrived for certain");
    let mut client = Dialogue::connect(hop.ingress);
    assert!(
        attempt(&mut client, "EHLO client.test").starts_with("250"),
        "the faults are used up"
    );
}

#[test]
fn whatever_a_next_hop_says_wrong_is_a_delay() {
    let hop = Hop::hasty(faulty());
    for stage in STAGES {
        for (fault, _, _) in faults_at(stage) {
            let (mut mta, started) = (Dialogue::connect(hop.egress), Stopwatch::start());
            let reply = attempt(&mut mta, "LHLO mta.test");
            assert!(
                reply.starts_with('4') && mta.transcript().contains("354"),
                "{fault} at {stage}: {}",
                mta.transcript()
            );
            assert!(
                started.elapsed() < SOON,
                "{fault} at {stage}: {:?}",
                started.elapsed()
            );
            // The MTA's own session goes on.
            mta.command("RSET", "250");
        }
    }
    let mut mta = Dialogue::connect(hop.egress);
    assert!(
        attempt(&mut mta, "LHLO mta.test").starts_with("250"),
        "the faults are used up"
    );
}

/// Not to believe it would mean the same mail again, and again.
#[test]
fn a_250_to_the_dot_counts_however_it_is_written() {
    let words = "250-2.0.0 words, words, words, words, words\r\n";
    let (hundred, megabytes) = (words.repeat(2500), words.repeat(50_000));
    let line = |octets| format!("250 2.0.0 {}", "x".repeat(octets));
    for (reply, told, goes_on) in [
        // The sink's own CR LF behind it is a reply to nothing.
        ("250 2.0.0 queued\n".to_owned(), "250 2.0.0 queued", false),
        (
            "250-2.0.0 que\n250 2.0.0 ued".to_owned(),
            "250 2.0.0 ued",
            true,
        ),
        ("250 2.0.0 que\rued".to_owned(), "250 2.0.0 que?ued", true),
        // Others send again where lines differ, and the last one counts for them, too.
        (
            "250-2.0.0 que\r\n251 2.0.0 ued".to_owned(),
            "251 2.0.0 ued",
            true,
        ),
        (
            "451-4.3.0 not yet\r\n250 2.0.0 queued".to_owned(),
            "250 2.0.0 queued",
            true,
        ),
        (
            format!("{hundred}250 2.0.0 end"),
            "250 2.0.0 words, words",
            true,
        ),
        (line(100_000), "250 2.0.0 xxx", true),
        (format!("{megabytes}250 2.0.0 end"), "250 (the rest", false),
        (line(2_000_000), "250 (the rest", false),
    ] {
        let hop = Hop::before(Sink::smtp().always("DOT", &reply));
        for (address, hello) in hop.doors() {
            let mut client = Dialogue::connect(address);
            let heard = attempt(&mut client, hello);
            assert!(heard.starts_with(told), "{told}: {heard}");
            if address == hop.ingress && !goes_on {
                client.send("NOOP\r\n");
                client.expect("421 4.4.2");
                assert!(client.is_closed());
            } else {
                client.command("NOOP", "250");
            }
        }
        assert_eq!(hop.next.wait_for(2).len(), 2, "{told}: each came once");
    }
}

/// Octets behind a reply answer nothing that is said later.
#[test]
fn what_stands_behind_a_reply_answers_no_later_command() {
    let hop = Hop::before(Sink::smtp().always("RCPT", "250 2.1.5 ok\n354 go\r\n250 2.0.0 ghost"));
    let mut client = Dialogue::open(hop.ingress);
    client.command("EHLO client.test", "250");
    client.command("MAIL FROM:<alice@origin.test>", "250");
    client.command("RCPT TO:<bob@dest.test>", "250 2.1.5 ok");
    client.send("DATA\r\n");
    client.expect("421 4.4.2");
    assert!(client.is_closed());
    let mut mta = Dialogue::connect(hop.egress);
    let heard = attempt(&mut mta, "LHLO mta.test");
    assert!(heard.starts_with('4'), "{heard}");
    assert!(hop.next.transactions().is_empty());
}

#[test]
fn a_greeting_that_is_none_costs_a_421() {
    for (fault, greeting, told) in faults() {
        let hop = Hop::hasty(Sink::smtp().greet(&greeting));
        let (mut client, started) = (Dialogue::connect(hop.ingress), Stopwatch::start());
        let reply = client.reply().join("\n");
        assert!(
            reply.starts_with("421") && (told == "4" || reply == told),
            "{fault}: {reply}"
        );
        assert!(client.is_closed());
        let mut mta = Dialogue::connect(hop.egress);
        let reply = attempt(&mut mta, "LHLO mta.test");
        assert!(reply.starts_with('4'), "{fault}: {reply}");
        assert!(started.elapsed() < SOON);
    }
}

#[test]
fn a_next_hop_that_speaks_octet_by_octet_is_understood() {
    let mta = Sink::smtp()
        .piecemeal()
        .greet("220-mx.test\r\n220 speaks slowly")
        .offer("PIPELINING")
        .always(
            "DOT",
            "250-2.0.0 first line\r\n250 2.0.0 Ok: queued as 4F1A2B3C",
        );
    let hop = Hop::before(mta);
    for (address, hello) in hop.doors() {
        let mut client = Dialogue::connect(address);
        let reply = attempt(&mut client, hello);
        assert_eq!(reply, "250 2.0.0 Ok: queued as 4F1A2B3C");
        assert!(client.transcript().contains("S: 250-2.0.0 first line"));
        client.command("QUIT", "221");
    }
    assert_eq!(hop.next.wait_for(2).len(), 2);
}

#[test]
fn a_client_that_speaks_octet_by_octet_is_understood() {
    let hop = Hop::before(Sink::smtp());
    for (address, hello) in hop.doors() {
        let mut client = Dialogue::open(address);
        let mut say = |text: &[u8]| {
            for octet in text.chunks(1) {
                client.send(octet);
            }
            client.reply().pop().unwrap_or_default()
        };
        say(format!("{hello}\r\n").as_bytes());
        say(b"MAIL FROM:<alice@origin.test>\r\n");
        say(b"RCPT TO:<bob@dest.test>\r\n");
        assert!(say(b"DATA\r\n").starts_with("354"));
        let dot = say(b"Subject: x\r\n\r\n..\r\n.x\r\n.\r\n");
        assert!(dot.starts_with("250"), "{dot}");
    }
    for seen in hop.next.wait_for(2) {
        assert_eq!(seen.data, b"Subject: x\r\n\r\n..\r\n.x\r\n");
    }
}

#[test]
fn a_client_that_half_closes_gets_every_reply() {
    let hop = Hop::before(Sink::smtp());
    for (address, hello) in hop.doors() {
        let mut client = Dialogue::connect(address);
        let message = String::from_utf8_lossy(MESSAGE).replace("\r\n.", "\r\n..");
        client.send(format!(
            "{hello}\r\nMAIL FROM:<alice@origin.test>\r\nRCPT TO:<bob@dest.test>\r\nDATA\r\n"
        ));
        for code in ["220", "250", "250", "250", "354"] {
            client.expect(code);
        }
        client.send(format!("{message}.\r\nNOOP\r\n"));
        client.half_close();
        for code in ["250", "250"] {
            client.expect(code);
        }
        assert!(client.is_closed());
    }
    assert_eq!(hop.next.wait_for(2).len(), 2);
}

#[test]
fn a_client_that_half_closes_in_its_message_has_sent_none() {
    let hop = Hop::before(Sink::smtp());
    for (address, hello) in hop.doors() {
        let mut client = Dialogue::open(address);
        client.command(hello, "250");
        client.command("MAIL FROM:<alice@origin.test>", "250");
        client.command("RCPT TO:<bob@dest.test>", "250");
        client.command("DATA", "354");
        client.send("Subject: x\r\n\r\nhalf\r\n.");
        client.half_close();
        assert!(client.is_closed());
    }
    hop.assert_only_whole_mail();
}

#[test]
fn a_message_that_nobody_asked_for_is_never_completed() {
    let hop = Hop::before(Sink::smtp());
    for (address, hello) in hop.doors() {
        let mut client = Dialogue::open(address);
        client.command(hello, "250");
        client.command("MAIL FROM:<alice@origin.test>", "250");
        client.command("RCPT TO:<bob@dest.test>", "250");
        client.send("DATA\r\nSubject: x\r\n\r\ntext\r\n.\r\nMAIL FROM:<alice@origin.test>\r\n");
        client.expect("554 5.5.0");
        assert!(client.is_closed());
    }
    hop.assert_only_whole_mail();
}

#[test]
fn a_client_that_idles_is_told_and_let_go() {
    let hop = Hop::hasty(Sink::smtp());
    for (address, hello) in hop.doors() {
        let (started, watch) = (Instant::now(), Stopwatch::start());
        let mut client = Dialogue::open(address);
        client.expect("421 4.4.2");
        assert!(client.is_closed());
        let mut halfway = Dialogue::open(address);
        halfway.command(hello, "250");
        halfway.command("MAIL FROM:<alice@origin.test>", "250");
        halfway.command("RCPT TO:<bob@dest.test>", "250");
        halfway.command("DATA", "354");
        halfway.send("Subject: x\r\n\r\nhalf");
        assert!(halfway.is_closed());
        let (took, at_most) = (started.elapsed(), watch.elapsed());
        assert!(took > Duration::from_secs(3), "{took:?}");
        assert!(at_most < SOON, "{at_most:?}");
    }
    assert!(hop.next.transactions().is_empty());
}

#[test]
fn a_client_that_drips_a_command_is_told_and_let_go() {
    let hop = Hop::hasty(Sink::smtp());
    std::thread::scope(|scope| {
        for address in [hop.ingress, hop.egress] {
            scope.spawn(move || {
                let (mut client, watch) = (Dialogue::open(address), Stopwatch::start());
                // Two seconds from the first octet, not from the last: it drips on until it is told.
                let mut dripping = client.socket().try_clone().expect("a socket can be shared");
                let drip = std::thread::spawn(move || {
                    let started = Instant::now();
                    while started.elapsed() < PATIENCE && dripping.write(b"x").is_ok() {
                        std::thread::sleep(Duration::from_millis(100));
                    }
                });
                client.expect("421 4.4.2");
                assert!(watch.elapsed() < SOON, "{:?}", watch.elapsed());
                client.break_off();
                drip.join().expect("it ends");
            });
        }
    });
}

#[test]
fn a_client_that_reads_nothing_is_not_asked_for() {
    let reply = format!("250 {}", "x".repeat(60_000));
    let hop = Hop::hasty(Sink::smtp().always("NOOP", &reply));
    let mut client = Dialogue::open(hop.ingress);
    client.command("EHLO client.test", "250");
    client.send("NOOP\r\n".repeat(5000));
    // The system takes some megabytes of replies, hoptrail next to none.
    let asked = || hop.next.commands().len();
    support::wait_until(support::PATIENCE, "it stops asking", || {
        let before = asked();
        std::thread::sleep(Duration::from_millis(300));
        if asked() == before {
            Ok(())
        } else {
            Err(format!("{before} replies"))
        }
    });
    assert!(asked() < 1000, "{} replies are owed", asked());
    // Nor does it wait for ever.
    support::wait_until(PATIENCE, "the connection is given up", || {
        let written = client.socket().write(b"N");
        written.map_or(Ok(()), |_| Err("it is open".to_owned()))
    });
}

/// Whether each side of a hop gives up in time on a next hop that behaves like this at that stage.
fn gives_up(stage: &str, manners: &str, message: &[u8]) {
    let hop = Hop::hasty(Sink::smtp().always(stage, manners));
    std::thread::scope(|scope| {
        for (address, hello) in hop.doors() {
            scope.spawn(move || {
                let (mut client, started) = (Dialogue::connect(address), Stopwatch::start());
                let reply = attempt_with(&mut client, hello, message);
                assert!(reply.starts_with('4'), "{manners} at {stage}: {reply}");
                assert!(started.elapsed() < SOON, "{manners} at {stage}");
            });
        }
    });
}

#[test]
fn a_reply_without_end_is_given_up() {
    std::thread::scope(|scope| {
        for stage in STAGES {
            scope.spawn(move || gives_up(stage, "endless", MESSAGE));
        }
    });
}

#[test]
fn a_next_hop_that_takes_no_more_of_a_message_is_given_up() {
    // More than the system holds for it.
    let line = b"0123456789abcdefghijklmnopqrstuvwxyz\r\n";
    let message = [b"\r\n", &line.repeat(200_000)[..]].concat();
    std::thread::scope(|scope| {
        for manners in ["deaf", "gone", "early"] {
            let message = &message;
            scope.spawn(move || gives_up("DATA", manners, message));
        }
    });
}

/// It would be taken for the answer to the end of the message, which the next hop never gets.
#[test]
fn a_success_ahead_of_the_end_of_a_message_is_none() {
    let hop = Hop::hasty(Sink::smtp().always("DATA", "ahead"));
    for (address, hello) in hop.doors() {
        let mut client = Dialogue::connect(address);
        let reply = attempt_in_pieces(&mut client, hello, MESSAGE, b"the end\r\n.\r\n");
        assert!(reply.starts_with('4'), "{reply}");
    }
    assert_eq!(hop.next.transactions().len(), 0);
}

#[test]
fn a_success_ahead_of_the_end_of_a_chunk_is_none() {
    let taken = "250 2.0.0 ok, taken";
    let hop = Hop::hasty(Sink::smtp().offer("CHUNKING").always("CHUNK", taken));
    for (address, hello) in hop.doors() {
        let mut client = Dialogue::open(address);
        client.command(hello, "250");
        client.command("MAIL FROM:<alice@origin.test>", "250");
        client.command("RCPT TO:<bob@dest.test>", "250");
        let size = MESSAGE.len() + 6;
        client.send([format!("BDAT {size} LAST\r\n").as_bytes(), MESSAGE].concat());
        // An egress asks its next hop when the header block is there, and sends what is there then.
        for line in ["x\r\n", "y\r\n"] {
            std::thread::sleep(Duration::from_millis(300));
            client.send(line);
        }
        client.expect("4");
    }
    assert_eq!(hop.next.transactions().len(), 0);
}
