//! Strangers who ask: whose address the reverse-path's domain permits (SPF) or whose message it signed (DKIM) is
//! tracked, everybody else's mail passes as if nothing had been asked. The names are those of a name server of the
//! test's own; the signatures were made by another program (tests/dkim/sign.py).

#![allow(clippy::expect_used)]

mod support;

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::{Duration, Instant};

use support::dialogue::Dialogue;
use support::dns::{Dns, Zone};
use support::hoptrail::Hoptrail;
use support::mail::{Mail, wire};
use support::mta::Mta;
use support::net::{self, NextHop};
use support::sink::{Sink, Transaction};
use support::{PATIENCE, Stopwatch, measured, wait_until};

const PERMITTED: &str = "192.0.2.77";
const MESSAGE: &[u8] = b"Message-ID: <m1@origin.test>\r\nSubject: x\r\n\r\n.dot\r\nlast\r\n";
/// The name servers' time where they keep silent.
const VERIFY: Duration = Duration::from_millis(400);

/// A hop with an ingress that believes PROXY headers of this machine, so that a client can be anybody, and an
/// egress. The test is the MTA between.
struct Hop {
    hoptrail: Hoptrail,
    dns: Dns,
    mta: Sink,
    next: Sink,
    entrance: SocketAddrV4,
    exit: SocketAddrV4,
    reports: tempfile::TempDir,
}

impl Hop {
    fn hearing(allow: &str, zone: Zone) -> Self {
        Self::with(allow, zone, &["CHUNKING"])
    }

    fn with(allow: &str, zone: Zone, offered: &[&str]) -> Self {
        Self::under(&format!("allow = [{allow}]"), zone, offered)
    }

    fn under(policy: &str, zone: Zone, offered: &[&str]) -> Self {
        Self::within(PATIENCE, policy, zone, offered)
    }

    /// Where the name servers have this long.
    fn within(verify: Duration, policy: &str, zone: Zone, offered: &[&str]) -> Self {
        let script = Sink::smtp().offer("SIZE 100000");
        let mta = offered.iter().fold(script, |mta, word| mta.offer(word));
        let (mta, next, dns) = (mta.start(), Sink::smtp().start(), zone.start());
        let reports = tempfile::tempdir().expect("a temporary directory");
        let (entrance, exit) = (net::address(), net::address());
        let hoptrail = Hoptrail::serve(&format!(
            "hostname = 'mx1.test'\nresolver = '{}'\ntimeouts = {{ verify_ms = {} }}\n\
             reports = {{ from = 'hoptrail@mx1.test', via = 'maildir:{}', accepted = 'always' }}\n\
             [[listener]]\nrole = 'ingress'\nlisten = '{entrance}'\nprotocol = 'smtp'\nnext_hop = '{}'\n\
             mta_trusts_proxy_address = false\nproxy_from = ['127.0.0.0/8']\npolicy = {{ {policy} }}\n\
             [[listener]]\nrole = 'egress'\nlisten = '{exit}'\nprotocol = 'lmtp'\nnext_hop = '{}'\n",
            dns.address(),
            verify.as_millis(),
            reports.path().display(),
            mta.next_hop(),
            next.next_hop(),
        ));
        Self {
            hoptrail,
            dns,
            mta,
            next,
            entrance,
            exit,
            reports,
        }
    }

    /// A client with this address.
    fn client(&self, address: &str, helo: &str) -> Dialogue {
        let mut client = Dialogue::connect(self.entrance);
        client.send(format!("PROXY TCP4 {address} 198.51.100.25 4321 25\r\n"));
        client.expect("220");
        let offer = client.command(&format!("EHLO {helo}"), "250");
        assert!(offer.contains(&"250 TRACK NOW".to_owned()), "{offer:?}");
        client
    }

    /// Sends a message that asks; it must pass, whatever becomes of the request.
    fn ask(&self, client: &mut Dialogue, from: &str, message: &[u8]) -> Transaction {
        self.ask_with(client, from, "TRACK=NOW", message)
    }

    fn ask_with(
        &self,
        client: &mut Dialogue,
        from: &str,
        track: &str,
        message: &[u8],
    ) -> Transaction {
        let before = self.mta.transactions().len();
        let size = message.len();
        client.command(&format!("MAIL FROM:<{from}> {track} SIZE={size}"), "250");
        client.command("RCPT TO:<bob@dest.test>", "250");
        client.data(message);
        client.expect("250");
        self.mta.wait_for(before + 1)[before].clone()
    }

    /// Hands a message on to the egress, as the MTA.
    fn leave(&self, from: &str, data: &[u8]) {
        let mut mta = Dialogue::open(self.exit);
        mta.command("LHLO mta.test", "250");
        mta.command(&format!("MAIL FROM:<{from}>"), "250");
        mta.command("RCPT TO:<bob@dest.test>", "250");
        mta.command("DATA", "354");
        mta.send([data, b".\r\n"].concat());
        mta.expect("250");
    }

    fn reports(&self, count: usize) -> Vec<Mail> {
        wait_until(PATIENCE, "reports", || {
            let mails = Mail::in_maildir(self.reports.path());
            if mails.len() >= count {
                Ok(mails)
            } else {
                Err(format!("{} reports", mails.len()))
            }
        })
    }

    /// Every report there will be, when this many are expected: a later one of a sure kind comes behind them.
    fn no_more_reports_than(&self, count: usize) {
        std::thread::sleep(Duration::from_millis(500));
        assert_eq!(Mail::in_maildir(self.reports.path()).len(), count);
    }
}

fn is_carried(seen: &Transaction) -> bool {
    seen.data.starts_with(b"Hoptrail-Carry:")
}

/// As the message would have come without a request, but for what SIZE= and ORCPT may say.
fn is_untouched(seen: &Transaction, message: &[u8]) -> bool {
    seen.mail().below_trace() == Mail::new(message).below_trace()
        && !seen.mail_from.contains("TRACK")
}

fn spf_zone() -> Zone {
    let permits = format!("v=spf1 ip4:{PERMITTED} -all");
    let mut zone = Zone::default()
        .txt("good.test", &permits)
        .txt("good.test", "another text")
        .txt("mx.test", "v=spf1 mx -all")
        .mx("mx.test", 10, "host.mx.test")
        .a("host.mx.test", Ipv4Addr::new(192, 0, 2, 77))
        .txt("include.test", "v=spf1 include:good.test -all")
        .txt("redirect.test", "v=spf1 redirect=good.test")
        .txt("helo.test", "v=spf1 exists:%{h}.allowed.test -all")
        .a("mail.helo.test.allowed.test", Ipv4Addr::LOCALHOST)
        .txt("sender.test", "v=spf1 exists:%{l}.%{i}.allowed.test -all")
        .a("alice.192.0.2.77.allowed.test", Ipv4Addr::LOCALHOST)
        .txt("fail.test", "v=spf1 ip4:198.51.100.0/24 -all")
        .txt("soft.test", "v=spf1 ip4:198.51.100.0/24 ~all")
        .txt("neutral.test", "v=spf1 ?all")
        .txt("softly.test", &format!("v=spf1 ~ip4:{PERMITTED} +all"))
        .txt("none.test", "no SPF at all")
        .txt("two.test", &permits)
        .txt("two.test", "v=spf1 +all")
        .txt("broken.test", "v=spf1 ip4:nonsense +all")
        .txt("lame.test", "v=spf1 include:unknown.test +all")
        .txt("tempfail.test", "v=spf1 include:failing.test +all")
        .failing("failing.test")
        .txt("waits.test", "v=spf1 include:silent.test +all")
        .silent("silent.test")
        .txt("liar.test", "v=spf1 -all")
        .txt("loop.test", "v=spf1 include:loop.test +all")
        .txt("long.test", "v=spf1 include:l0.test +all");
    for n in 0..12 {
        let next = format!("v=spf1 include:l{}.test +all", n + 1);
        zone = zone.txt(&format!("l{n}.test"), &next);
    }
    zone.txt("l12.test", "v=spf1 +all")
}

#[test]
fn an_address_that_the_domain_permits_may_ask() {
    let hop = Hop::hearing("'spf'", spf_zone());
    let cases = [
        ("alice@good.test", "mail.good.test"),
        ("alice@GOOD.Test", "[192.0.2.77]"),
        ("alice@mx.test", "mail.good.test"),
        ("alice@include.test", "mail.good.test"),
        ("alice@redirect.test", "mail.good.test"),
        ("alice@helo.test", "mail.helo.test"),
        ("alice@sender.test", "mail.good.test"),
    ];
    for (from, helo) in cases {
        let seen = hop.ask(&mut hop.client(PERMITTED, helo), from, MESSAGE);
        assert!(is_carried(&seen), "{from} {helo}: {seen:?}");
        let carry = String::from_utf8_lossy(&seen.data).into_owned();
        assert!(carry.contains("by=verified;"), "{carry}");
    }
    let told: Vec<_> = hop.reports(cases.len());
    for (from, _) in cases {
        let to_asker = |mail: &&Mail| mail.field("To").is_some_and(|to| to.contains(from));
        assert_eq!(told.iter().filter(to_asker).count(), 1, "{from}");
    }
}

#[test]
fn everybody_else_is_dropped_in_silence() {
    let hop = Hop::hearing("'spf'", spf_zone());
    let cases = [
        ("alice@good.test", "mail.good.test", "192.0.2.78"),
        ("alice@good.test", "liar.test", PERMITTED),
        ("alice@helo.test", "mail.good.test", PERMITTED),
        ("bob@sender.test", "mail.good.test", PERMITTED),
        ("alice@fail.test", "mail.good.test", PERMITTED),
        ("alice@soft.test", "mail.good.test", PERMITTED),
        ("alice@softly.test", "mail.good.test", PERMITTED),
        ("alice@neutral.test", "mail.good.test", PERMITTED),
        ("alice@none.test", "mail.good.test", PERMITTED),
        ("alice@two.test", "mail.good.test", PERMITTED),
        ("alice@broken.test", "mail.good.test", PERMITTED),
        ("alice@lame.test", "mail.good.test", PERMITTED),
        ("alice@unknown.test", "mail.good.test", PERMITTED),
        ("alice@tempfail.test", "mail.good.test", PERMITTED),
        ("alice@failing.test", "mail.good.test", PERMITTED),
        ("alice@loop.test", "mail.good.test", PERMITTED),
        ("alice@long.test", "mail.good.test", PERMITTED),
        ("alice@[192.0.2.77]", "mail.good.test", PERMITTED),
        ("alice", "mail.good.test", PERMITTED),
        ("", "mail.good.test", PERMITTED),
    ];
    for (from, helo, address) in cases {
        let seen = hop.ask(&mut hop.client(address, helo), from, MESSAGE);
        assert!(is_untouched(&seen, MESSAGE), "{from} {helo}: {seen:?}");
    }
    hop.no_more_reports_than(0);
}

#[test]
fn silent_name_servers_delay_mail_no_longer_than_configured() {
    let policy = "allow = ['spf', 'dkim']";
    let hop = Hop::within(VERIFY, policy, spf_zone(), &["CHUNKING"]);
    let mut client = hop.client(PERMITTED, "mail.good.test");
    for from in ["alice@waits.test", "alice@silent.test"] {
        let begun = Stopwatch::start();
        let seen = hop.ask(&mut client, from, MESSAGE);
        let took = begun.elapsed();
        assert!(is_untouched(&seen, MESSAGE), "{from}: {seen:?}");
        // Left to themselves they would have taken five seconds for each question.
        assert!(took < VERIFY * 8, "{from}: {took:?}");
    }
    // Who does not ask waits for nobody, and nobody is asked.
    client.command("MAIL FROM:<alice@good.test>", "250");
    client.command("RCPT TO:<bob@dest.test>", "250");
    client.data(MESSAGE);
    client.expect("250");
    assert_eq!(hop.dns.asked("good.test"), 0);
}

#[test]
fn what_the_name_servers_said_is_remembered() {
    let hop = Hop::hearing("'spf'", spf_zone());
    let mut client = hop.client(PERMITTED, "[192.0.2.77]");
    for _ in 0..5 {
        assert!(is_carried(&hop.ask(
            &mut client,
            "alice@good.test",
            MESSAGE
        )));
    }
    assert_eq!(hop.dns.asked("good.test"), 1);
}

#[test]
fn a_listener_that_hears_strangers_tells_them_their_mistakes() {
    let hop = Hop::hearing("'dkim'", Zone::default());
    let mut client = hop.client("192.0.2.99", "client.test");
    client.command("MAIL FROM:<alice@good.test> TRACK=LATER", "501 5.5.4");
    // Who says HELO was offered nothing.
    client.command("HELO client.test", "250");
    client.command("MAIL FROM:<alice@good.test> TRACK=LATER", "250");
}

/// There the client is the MTA, whoever the stranger was.
#[test]
fn behind_the_mta_no_stranger_is_heard() {
    let policy = "policy = { allow = ['spf', 'dkim'] }";
    let hop = support::hop::Hop::between(Sink::smtp(), Sink::smtp(), policy);
    for (address, hello, heard) in [
        (hop.entrance, "EHLO client.test", true),
        (hop.exit, "LHLO mta.test", false),
    ] {
        let offer = Dialogue::open(address).command(hello, "250").join(" ");
        assert_eq!(offer.contains("TRACK"), heard, "{offer}");
    }
}

#[test]
fn an_mta_that_tracks_by_itself_gets_only_requests_that_hold() {
    let hop = Hop::with("'spf', 'dkim'", signed_zone(), &["TRACK NOW"]);
    let mut client = hop.client(PERMITTED, "client.test");
    let seen = hop.ask(&mut client, "alice@good.test", MESSAGE);
    assert!(seen.mail_from.contains(" TRACK=NOW:"), "{seen:?}");
    // A signature would be proven too late.
    let message = sample("rsa");
    let seen = hop.ask(&mut client, "alice@signed.test", &message);
    assert!(is_untouched(&seen, &message), "{seen:?}");
    hop.reports(1);
    hop.no_more_reports_than(1);
}

/// A signed message, made by another program.
fn sample(name: &str) -> Vec<u8> {
    let path = format!("{}/tests/dkim/{name}.eml", env!("CARGO_MANIFEST_DIR"));
    wire(&std::fs::read(path).expect("a sample"))
}

/// The records of the keys that the samples are signed with.
const KEYS: &str = include_str!("dkim/keys");

fn signed_zone() -> Zone {
    zone_with(KEYS)
}

fn zone_with(keys: &str) -> Zone {
    keys.lines()
        .filter_map(|line| line.split_once(' '))
        .fold(spf_zone(), |zone, (name, key)| zone.txt(name, key))
}

#[test]
fn a_message_that_the_domain_signed_may_ask() {
    let hop = Hop::hearing("'dkim'", signed_zone());
    for (count, (name, from)) in [
        ("rsa", "alice@signed.test"),
        ("ed25519", "bounces@SIGNED.test"),
        ("simple", "alice@signed.test"),
        ("strict", "alice@signed.test"),
        // A domain may speak for those below it.
        ("rsa", "alice@news.signed.test"),
    ]
    .into_iter()
    .enumerate()
    {
        let mut client = hop.client("192.0.2.99", "client.test");
        let seen = hop.ask(&mut client, from, &sample(name));
        assert!(is_carried(&seen), "{name} {from}: {seen:?}");
        let accepted = hop.reports(2 * count + 1).len();
        assert_eq!(accepted, 2 * count + 1, "{name} {from}");
        // Behind the MTA the journal's word counts.
        hop.leave(from, &seen.data);
        hop.reports(2 * count + 2);
    }
}

#[test]
fn a_signature_that_proves_nothing_is_worth_nothing() {
    let hop = Hop::hearing("'dkim'", signed_zone());
    let altered = |from: &str, to: &str| {
        let text = String::from_utf8(sample("rsa")).expect("text");
        assert!(text.contains(from));
        text.replacen(from, to, 1).into_bytes()
    };
    let cases = [
        ("a neighbour's", "alice@other.test", sample("rsa")),
        ("a longer name", "alice@unsigned.test", sample("rsa")),
        ("above", "alice@test", sample("rsa")),
        ("a strict key", "alice@news.signed.test", sample("strict")),
        ("expired", "alice@signed.test", sample("expired")),
        ("a part of the body", "alice@signed.test", sample("length")),
        ("SHA-1", "alice@signed.test", sample("sha1")),
        (
            "a changed body",
            "alice@signed.test",
            altered("the end", "The end"),
        ),
        (
            "a longer body",
            "alice@signed.test",
            [sample("rsa"), b"more\r\n".to_vec()].concat(),
        ),
        (
            "a changed header",
            "alice@signed.test",
            altered("Subject: signed", "Subject: other"),
        ),
        (
            "an added From",
            "alice@signed.test",
            [b"From: mallory@evil.test\r\n".to_vec(), sample("rsa")].concat(),
        ),
        ("no key", "alice@signed.test", altered("s=rsa", "s=gone")),
        ("no signature", "alice@signed.test", MESSAGE.to_vec()),
    ];
    for (why, from, message) in &cases {
        let mut client = hop.client("192.0.2.99", "client.test");
        let seen = hop.ask(&mut client, from, message);
        assert!(!seen.mail_from.contains("TRACK"), "{why}");
        // The mail itself is as it was, once it has left: what crosses the MTA is taken out, and not honoured.
        hop.leave(from, &seen.data);
        let left = hop.next.transactions().pop().expect("a message");
        assert_eq!(left.mail(), Mail::new(message), "{why}");
    }
    hop.no_more_reports_than(0);
    let log = hop.hoptrail.log();
    assert_eq!(log.matches("nobody vouches").count(), cases.len(), "{log}");
}

/// A record may say that its key is for other services or hashes, or on trial (RFC 6376, 3.6.1).
#[test]
fn a_key_that_is_not_for_mail_lets_nobody_ask() {
    for (tag, may_ask) in [
        ("s=email", true),
        ("s=tlsrpt", false),
        ("h=sha1", false),
        ("t=y", false),
    ] {
        let keys = KEYS.replace("v=DKIM1;", &format!("v=DKIM1; {tag};"));
        let hop = Hop::hearing("'dkim'", zone_with(&keys));
        let mut client = hop.client("192.0.2.99", "client.test");
        let seen = hop.ask(&mut client, "alice@signed.test", &sample("rsa"));
        hop.leave("alice@signed.test", &seen.data);
        if may_ask {
            hop.reports(2);
        } else {
            hop.no_more_reports_than(0);
        }
        let nobody = hop.hoptrail.log().contains("nobody vouches");
        assert_eq!(nobody, !may_ask, "{tag}");
    }
}

/// What is hashed is what passes, however it comes.
#[test]
fn a_signed_message_may_come_octet_by_octet() {
    let hop = Hop::hearing("'dkim'", signed_zone());
    let send = |message: &[u8]| {
        let mut client = hop.client("192.0.2.99", "client.test");
        client.command("MAIL FROM:<alice@signed.test> TRACK=NOW", "250");
        client.command("RCPT TO:<bob@dest.test>", "250");
        client.drip(message);
        client.expect("250");
    };
    send(&sample("rsa"));
    send(&sample("simple"));
    hop.reports(2);
    let mut altered = sample("simple");
    altered.extend_from_slice(b"..\r\n");
    send(&altered);
    hop.no_more_reports_than(2);
}

#[test]
fn a_signed_message_may_come_in_chunks() {
    let hop = Hop::hearing("'spf', 'dkim'", signed_zone());
    let send = |message: &[u8], at: &[usize]| {
        let mut client = hop.client("192.0.2.99", "client.test");
        client.command("MAIL FROM:<alice@signed.test> TRACK=NOW", "250");
        client.command("RCPT TO:<bob@dest.test>", "250");
        client.chunk_by_chunk(message, at);
        client.expect("250");
    };
    let message = sample("rsa");
    let body = message
        .windows(4)
        .position(|w| w == b"\r\n\r\n")
        .expect("a body")
        + 4;
    send(&message, &[]);
    send(&message, &[body]);
    send(&message, &[body + 1, 1, 7, 0]);
    hop.reports(3);
    // A header block in two chunks is not looked at.
    send(&message, &[100]);
    let mut altered = message.clone();
    *altered.last_mut().expect("octets") = b'x';
    send(&altered, &[body + 3]);
    hop.no_more_reports_than(3);
}

/// Two hops of one organisation: the second one knows the first by its key, and believes what it knew.
#[test]
fn another_hop_believes_what_was_proven_and_nothing_else() {
    let first = Hop::hearing("'spf', 'dkim', '192.0.2.1'", signed_zone());
    let second = Hop::hearing("'192.0.2.2', 'dkim'", Zone::default());
    std::fs::copy(
        first.hoptrail.state_dir().join("carry.keys"),
        second.hoptrail.state_dir().join("carry.keys"),
    )
    .expect("a key can be shared");
    second.hoptrail.reload();
    for (address, from, message, by) in [
        ("192.0.2.1", "alice@none.test", MESSAGE.to_vec(), "carry"),
        (PERMITTED, "alice@good.test", MESSAGE.to_vec(), "verified"),
        ("192.0.2.99", "alice@signed.test", sample("rsa"), ""),
    ] {
        let seen = first.ask(&mut first.client(address, "client.test"), from, &message);
        assert!(is_carried(&seen), "{seen:?}");
        let mut relay = second.client("192.0.2.2", "mx1.test");
        relay.command(&format!("MAIL FROM:<{from}>"), "250");
        relay.command("RCPT TO:<bob@dest.test>", "250");
        relay.command("DATA", "354");
        relay.send([&seen.data[..], b".\r\n"].concat());
        relay.expect("250");
        let seen = second.mta.transactions().pop().expect("a message");
        let carried = String::from_utf8_lossy(&seen.data).into_owned();
        if by.is_empty() {
            assert_eq!(seen.mail(), Mail::new(&message));
        } else {
            assert!(carried.contains(&format!(" by={by};")), "{carried}");
        }
    }
    second.reports(2);
    second.no_more_reports_than(2);
}

/// The octets of a tracked message come back, as out of a bounce.
#[test]
fn a_replay_tells_nothing_and_one_by_a_friend_is_told_once() {
    let hop = Hop::under("allow = ['spf', '192.0.2.1']", spf_zone(), &[]);
    let mut friend = hop.client("192.0.2.1", "client.test");
    let carried = hop.ask(&mut friend, "alice@good.test", MESSAGE);
    assert!(is_carried(&carried));
    let replay = |client: &mut Dialogue| {
        let before = hop.mta.transactions().len();
        client.command("MAIL FROM:<alice@good.test>", "250");
        client.command("RCPT TO:<bob@dest.test>", "250");
        client.command("DATA", "354");
        client.send([&carried.data[..], b".\r\n"].concat());
        client.expect("250");
        let seen = hop.mta.wait_for(before + 1).remove(before);
        assert_eq!(seen.mail(), Mail::new(MESSAGE), "taken out");
    };
    let mut stranger = hop.client(PERMITTED, "mail.good.test");
    replay(&mut stranger);
    hop.reports(1);
    hop.no_more_reports_than(1);
    for _ in 0..3 {
        replay(&mut friend);
    }
    hop.reports(2);
    hop.no_more_reports_than(2);
    let log = hop.hoptrail.log();
    let mut refused = log
        .lines()
        .filter(|l| l.contains("carry header not honoured"));
    let why = "\"why\":\"the client may not ask\"";
    assert!(
        refused.next().is_some_and(|line| line.contains(why)),
        "{log}"
    );
}

/// It has left past the egress, and whoever brings it back may not ask: it is not known to wait here, nor in which ring it
/// is.
#[test]
fn what_a_stranger_brings_back_is_neither_held_nor_in_a_ring() {
    let mut hop = Hop::under("allow = ['spf', '192.0.2.1']", spf_zone(), &[]);
    let mut friend = hop.client("192.0.2.1", "client.test");
    let [carried, _stays] = [(); 2].map(|()| hop.ask(&mut friend, "alice@good.test", MESSAGE));
    for _ in 0..2 {
        let mut stranger = hop.client(PERMITTED, "mail.good.test");
        stranger.command("MAIL FROM:<alice@good.test> TRACK=NOW", "250");
        stranger.command("RCPT TO:<bob@dest.test>", "250");
        stranger.command("DATA", "354");
        stranger.send([&carried.data[..], b".\r\n"].concat());
        stranger.expect("250");
    }
    hop.hoptrail.let_pass(60);
    let events = |count| -> Vec<_> {
        let mails = hop.reports(count);
        let reports = mails.iter().filter_map(Mail::report);
        let mut events: Vec<String> = reports
            .flat_map(|report| report.of_recipients("X-Hoptrail-Event"))
            .collect();
        events.sort();
        events
    };
    // The stranger's own requests, which SPF proves, are held too.
    assert_eq!(
        events(7),
        [["accepted"; 4].as_slice(), &["held"; 3]].concat()
    );
    // What leaves then is told as ever.
    hop.leave("alice@good.test", &carried.data);
    assert_eq!(events(8)[7], "relayed");
}

/// The same when it went by the egress: the step in its TRACK can be known to anybody whom it has passed since.
#[test]
fn a_stranger_who_names_a_step_tells_of_no_ring() {
    let mut hop = Hop::under("allow = ['192.0.2.1']", Zone::default(), &[]);
    let carried = hop.ask(
        &mut hop.client("192.0.2.1", "client.test"),
        "alice@origin.test",
        MESSAGE,
    );
    hop.leave("alice@origin.test", &carried.data);
    let reports: Vec<_> = hop.reports(2).iter().filter_map(Mail::report).collect();
    for step in reports.iter().map(|report| report.field("X-Hoptrail-Step")) {
        let id = reports[0].field("Original-Envelope-Id");
        let mut stranger = Dialogue::connect(hop.entrance);
        stranger.send("PROXY TCP4 192.0.2.99 198.51.100.25 4321 25\r\n");
        stranger.expect("220");
        stranger.command("EHLO mx2.test", "250");
        let track = format!("TRACK=NOW:hop/1:id/{id}:up/{step}");
        hop.ask_with(&mut stranger, "alice@origin.test", &track, MESSAGE);
    }
    hop.hoptrail.let_pass(60);
    hop.no_more_reports_than(2);
}

/// What a message takes from MAIL to its 250, whoever asks and however he proves it; each is reported.
#[test]
fn proof_costs_no_round_trip_once_the_names_are_known() {
    const MESSAGES: usize = 50;
    let hop = Hop::under(
        "allow = ['spf', 'dkim', '192.0.2.1'], verified_reports_per_hour_max = 0",
        signed_zone(),
        &[],
    );
    let mut reports = 0;
    let mut median_us = |address: &str, from: &str, message: &[u8]| {
        let mut client = hop.client(address, "[192.0.2.77]");
        let mut times: Vec<u128> = (0..=MESSAGES)
            .map(|_| {
                let begun = Instant::now();
                let seen = hop.ask(&mut client, from, message);
                assert!(is_carried(&seen), "{from}: {seen:?}");
                begun.elapsed().as_micros()
            })
            .collect();
        reports += times.len();
        hop.reports(reports);
        let first = times.remove(0);
        times.sort_unstable();
        (first, times[MESSAGES / 2])
    };
    let (_, friend) = median_us("192.0.2.1", "alice@none.test", MESSAGE);
    for (proof, address, from, message) in [
        ("SPF", PERMITTED, "alice@good.test", MESSAGE.to_vec()),
        (
            "DKIM, RSA",
            "192.0.2.99",
            "alice@signed.test",
            sample("rsa"),
        ),
        (
            "DKIM, Ed25519",
            "192.0.2.99",
            "alice@signed.test",
            sample("ed25519"),
        ),
    ] {
        let (first, usual) = median_us(address, from, &message);
        measured(
            &format!("a tracked message of a stranger, proof by {proof} (no release build)"),
            format_args!("{usual} us, the first {first} us; of a network that may ask {friend} us"),
        );
        assert!(usual < VERIFY.as_micros(), "{proof}: {usual} us");
    }
    let asked = ["good.test", "rsa._domainkey.signed.test"].map(|name| hop.dns.asked(name));
    assert_eq!(asked, [1, 1]);
}

#[test]
fn over_budget_the_mail_passes_and_nobody_is_told() {
    let policy = "allow = ['spf', '192.0.2.1'], verified_reports_per_hour_max = 2";
    let hop = Hop::under(policy, spf_zone(), &[]);
    let mut stranger = hop.client(PERMITTED, "client.test");
    let mut trusted = hop.client("192.0.2.1", "client.test");
    for from in ["alice@good.test", "alice+1@good.test", "Alice@Good.Test"] {
        assert!(is_carried(&hop.ask(&mut stranger, from, MESSAGE)));
    }
    // Neither another originator nor her own words are hers to pay for.
    assert!(is_carried(&hop.ask(
        &mut stranger,
        "carol@good.test",
        MESSAGE
    )));
    assert!(is_carried(&hop.ask(
        &mut trusted,
        "alice@good.test",
        MESSAGE
    )));
    hop.reports(4);
    hop.no_more_reports_than(4);
    let log = hop.hoptrail.log();
    let over: Vec<_> = log.lines().filter(|l| l.contains("over budget")).collect();
    assert_eq!(over.len(), 1, "{log}");
    assert!(
        over[0].contains("\"originator\":\"Alice@Good.Test\""),
        "{log}"
    );
    // The egress counts by its own policy, for whoever asked at the ingress.
    let seen = hop.ask(&mut stranger, "alice@good.test", MESSAGE);
    hop.leave("alice@good.test", &seen.data);
    hop.reports(5);
    hop.no_more_reports_than(5);
}

/// The proof of a signature comes after the message, and a real MTA may be quick to pass it on.
#[test]
fn a_real_mta_between_changes_nothing() {
    let (entrance, exit) = (net::address(), net::address());
    let mta = Mta::postfix("mx1.test")
        .next_hop(NextHop::Lmtp(exit))
        .start();
    let (next, dns) = (Sink::smtp().start(), signed_zone().start());
    let reports = tempfile::tempdir().expect("a temporary directory");
    let _hoptrail = Hoptrail::serve(&format!(
        "hostname = 'mx1.test'\nresolver = '{}'\ntimeouts = {{ verify_ms = {} }}\n\
         reports = {{ from = 'hoptrail@mx1.test', via = 'maildir:{}' }}\n\
         [[listener]]\nrole = 'ingress'\nlisten = '{entrance}'\nprotocol = 'smtp'\nnext_hop = 'smtp://{}'\n\
         policy = {{ allow = ['dkim'] }}\n\
         [[listener]]\nrole = 'egress'\nlisten = '{exit}'\nprotocol = 'lmtp'\nnext_hop = '{}'\n",
        dns.address(),
        PATIENCE.as_millis(),
        reports.path().display(),
        mta.address(),
        next.next_hop(),
    ));
    let forged = String::from_utf8(sample("rsa")).expect("text");
    let forged = forged.replacen("the end", "The end", 1).into_bytes();
    for (count, message) in [sample("rsa"), forged, sample("ed25519")]
        .iter()
        .enumerate()
    {
        let mut client = Dialogue::open(entrance);
        client.command("EHLO client.test", "250");
        client.command("MAIL FROM:<alice@signed.test> TRACK=NOW", "250");
        client.command("RCPT TO:<bob@dest.test>", "250");
        client.data(message);
        client.expect("250");
        let left = next.wait_for(count + 1)[count].mail();
        assert!(
            left.below_trace() == Mail::new(message).below_trace(),
            "{left:?}"
        );
        assert_eq!(left.hoptrail_fields(), Vec::<String>::new());
    }
    let told = wait_until(PATIENCE, "two reports", || {
        let mails = Mail::in_maildir(reports.path());
        if mails.len() == 2 {
            Ok(mails)
        } else {
            Err(format!("{} reports", mails.len()))
        }
    });
    // A stranger is told nothing of machines.
    for mail in told {
        assert!(!format!("{mail:?}").contains("queued as"), "{mail:?}");
        assert_eq!(
            mail.report().expect("a report").field("X-Hoptrail-Role"),
            "egress"
        );
    }
}
