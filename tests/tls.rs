//! TLS on both legs: before a scripted MTA, towards a scripted next hop, and with a real Postfix and a real
//! client on either side.

#![allow(clippy::expect_used)]

mod support;

use std::fmt::Write as _;
use std::io::{Read, Write as _};
use std::net::{SocketAddrV4, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use support::dialogue::Dialogue;
use support::dovecot::Dovecot;
use support::hoptrail::Hoptrail;
use support::mail::{MESSAGE, wire};
use support::mta::Mta;
use support::net::{self, NextHop};
use support::sink::{Script, Sink};
use support::tls::Authority;

const NAME: &str = "mx1.test";
const SMALL: &[u8] = b"Subject: x\r\n\r\ntext\r\n";

/// A hop to be started: the files of its certificate, and its configuration line by line.
struct Setup {
    authority: Authority,
    files: tempfile::TempDir,
    config: String,
}

impl Setup {
    fn new() -> Self {
        let setup = Self {
            authority: Authority::new(),
            files: tempfile::tempdir().expect("a temporary directory"),
            config: String::new(),
        };
        setup.authority.issue(NAME).write(setup.files.path(), "mx1");
        let ca = setup.file("ca.pem");
        std::fs::write(ca, setup.authority.pem()).expect("a file can be written");
        let reports = setup.files.path().join("reports");
        setup
            .line(&format!("hostname = '{NAME}'"))
            .line("timeouts = { handshake_s = 1 }")
            .line("[reports]\nfrom = 'hoptrail@mx1.test'")
            .line(&format!("via = 'maildir:{}'", reports.display()))
    }

    fn file(&self, name: &str) -> PathBuf {
        self.files.path().join(name)
    }

    fn line(mut self, text: &str) -> Self {
        let _ = writeln!(self.config, "{text}");
        self
    }

    fn listener(self, role: &str, listen: SocketAddrV4, next_hop: NextHop) -> Self {
        self.line(&format!(
            "[[listener]]\nrole = '{role}'\nlisten = '{listen}'\nprotocol = 'smtp'\nnext_hop = '{next_hop}'"
        ))
    }

    fn tls(self, mode: &str) -> Self {
        let [cert, key] = ["mx1.pem", "mx1.key"].map(|name| self.file(name));
        self.line(&format!(
            "tls = {{ mode = '{mode}', cert = '{}', key = '{}' }}",
            cert.display(),
            key.display()
        ))
    }

    /// `required` or `implicit`, with the test's CA.
    fn verified(self, mode: &str, name: &str) -> Self {
        let ca = self.file("ca.pem");
        self.line(&format!(
            "next_hop_tls = {{ mode = '{mode}', ca = '{}', name = '{name}' }}",
            ca.display()
        ))
    }

    fn start(self) -> (Hoptrail, Self) {
        (Hoptrail::serve(&self.config), self)
    }
}

/// An ingress with STARTTLS before a scripted MTA.
fn ingress(
    mta: Script,
    more: impl FnOnce(Setup) -> Setup,
) -> (Sink, SocketAddrV4, Hoptrail, Setup) {
    let mta = mta.start();
    let entrance = net::address();
    let setup = Setup::new().listener("ingress", entrance, mta.next_hop());
    let (hoptrail, setup) = more(setup).start();
    (mta, entrance, hoptrail, setup)
}

fn offers(lines: &[String], keyword: &str) -> bool {
    lines.iter().any(|line| line[4..].starts_with(keyword))
}

#[test]
fn starttls_is_ours_to_answer_and_all_said_before_is_void() {
    let (mta, entrance, _hoptrail, setup) = ingress(Sink::smtp().offer("STARTTLS"), |setup| {
        setup.tls("starttls")
    });
    let mut client = Dialogue::open(entrance);
    assert!(offers(&client.command("EHLO spy.test", "250"), "STARTTLS"));
    client.command("STARTTLS now", "501 5.5.4");
    client.start_tls(&setup.authority, NAME);
    for early in ["MAIL FROM:<a@origin.test>", "AUTH PLAIN AGEAYg=="] {
        client.command(early, "503 5.5.1");
    }
    assert!(!offers(
        &client.command("EHLO client.test", "250"),
        "STARTTLS"
    ));
    client.command("STARTTLS", "503 5.5.1");
    client.command("MAIL FROM:<a@origin.test>", "250");
    client.command("RCPT TO:<b@dest.test>", "250");
    client.data(SMALL);
    client.expect("250");
    client.command("QUIT", "221");
    assert!(client.is_closed());
    assert_eq!(mta.wait_for(1)[0].data, SMALL);
    assert_eq!(
        mta.commands(),
        [
            "EHLO spy.test",
            "EHLO client.test",
            "MAIL FROM:<a@origin.test>",
            "RCPT TO:<b@dest.test>",
            "DATA",
            "QUIT"
        ]
    );
}

#[test]
fn starttls_comes_before_login_and_transaction() {
    let mta = Sink::smtp()
        .offer("AUTH PLAIN")
        .always("AUTH", "235 2.7.0 in");
    let (_mta, entrance, _hoptrail, setup) = ingress(mta, |setup| setup.tls("starttls"));
    let mut client = Dialogue::open(entrance);
    client.command("EHLO client.test", "250");
    client.command("MAIL FROM:<a@origin.test>", "250");
    client.command("STARTTLS", "503 5.5.1");
    client.command("RSET", "250");
    client.command("AUTH PLAIN AGEAYg==", "235");
    client.command("STARTTLS", "503 5.5.1");
    let mut other = Dialogue::open(entrance);
    other.command("EHLO client.test", "250");
    other.start_tls(&setup.authority, NAME);
    other.command("EHLO client.test", "250");
    other.command("AUTH PLAIN AGEAYg==", "235");
}

#[test]
fn plaintext_behind_starttls_voids_the_session() {
    let (mta, entrance, _hoptrail, _setup) = ingress(Sink::smtp(), |setup| setup.tls("starttls"));
    let mut client = Dialogue::open(entrance);
    client.command("EHLO client.test", "250");
    client.send("STARTTLS\r\nMAIL FROM:<evil@origin.test>\r\n");
    client.expect("554 5.5.0");
    assert!(client.is_closed());
    // A little later it takes the place of the handshake, and is none.
    let mut client = Dialogue::open(entrance);
    client.command("STARTTLS", "220");
    client.send("MAIL FROM:<evil@origin.test>\r\n");
    let mut rest = Vec::new();
    client.socket().read_to_end(&mut rest).ok();
    assert!(!rest.starts_with(b"2"), "{}", rest.escape_ascii());
    assert_eq!(mta.commands(), ["EHLO client.test"]);
}

#[test]
fn a_message_that_tls_did_not_carry_to_its_end_is_never_completed() {
    let (mta, entrance, _hoptrail, setup) = ingress(Sink::smtp(), |setup| setup.tls("starttls"));
    let begun = || {
        let mut client = Dialogue::open(entrance);
        client.start_tls(&setup.authority, NAME);
        client.command("EHLO client.test", "250");
        client.command("MAIL FROM:<a@origin.test>", "250");
        client.command("RCPT TO:<b@dest.test>", "250");
        client.command("DATA", "354");
        client.send(SMALL);
        client
    };
    // TLS ends in good order, and somebody goes on in plaintext.
    let mut client = begun();
    client.close_notify();
    client
        .socket()
        .write_all(b".\r\nMAIL FROM:<evil@origin.test>\r\n")
        .ok();
    let mut rest = Vec::new();
    client.socket().read_to_end(&mut rest).ok();
    assert!(!rest.starts_with(b"2"), "{}", rest.escape_ascii());
    // Somebody cuts the connection below TLS, or writes into it.
    begun().break_off();
    let mut client = begun();
    client.socket().write_all(b".\r\n").ok();
    client.socket().read_to_end(&mut rest).ok();

    let mut last = Dialogue::open(entrance);
    last.submit("c@origin.test", &["d@dest.test"], SMALL);
    let whole = mta.wait_for(1);
    assert_eq!(whole.len(), 1, "{whole:?}");
    assert_eq!(
        whole[0].mail_from,
        "MAIL FROM:<c@origin.test> BODY=8BITMIME"
    );
}

#[test]
fn tls_from_the_first_octet() {
    let (mta, entrance, _hoptrail, setup) = ingress(Sink::smtp(), |setup| setup.tls("implicit"));
    let mut client = Dialogue::open_tls(entrance, &setup.authority, NAME);
    assert!(!offers(
        &client.command("EHLO client.test", "250"),
        "STARTTLS"
    ));
    client.command("STARTTLS", "503 5.5.1");
    client.submit("a@origin.test", &["b@dest.test"], SMALL);
    assert_eq!(mta.wait_for(1)[0].data, SMALL);
}

#[test]
fn long_messages_pass_whole_under_tls_on_both_legs() {
    let authority = Authority::new();
    let mta = Sink::smtp().starttls(authority.issue("mta.test").server());
    let (mta, entrance, _hoptrail, setup) = ingress(mta, |setup| {
        let ca = setup.file("ca.pem");
        std::fs::write(ca, authority.pem()).expect("a file can be written");
        setup.tls("starttls").verified("required", "mta.test")
    });
    let line = b"0123456789012345678901234567890123456789012345678901234567890123456789\r\n";
    let message = [SMALL, &line.repeat(40_000)].concat();
    let mut client = Dialogue::open(entrance);
    client.start_tls(&setup.authority, NAME);
    client.submit("a@origin.test", &["b@dest.test"], &message);
    assert!(mta.wait_for(1)[0].data == message, "the message changed");
    let told = mta.dialogues();
    let whole = told.iter().find(|commands| commands.len() > 3);
    let first = whole.map(|commands| &commands[..3]);
    assert_eq!(
        first,
        Some(&["EHLO mx1.test", "STARTTLS", "(TLS)"].map(String::from)[..])
    );
}

#[test]
fn what_is_no_handshake_costs_its_session_only() {
    for mode in ["starttls", "implicit"] {
        let (_mta, entrance, _hoptrail, setup) = ingress(Sink::smtp(), |setup| setup.tls(mode));
        let shake = |octets: &[u8]| {
            let began = Instant::now();
            let mut client = Dialogue::connect(entrance);
            if mode == "starttls" {
                client.expect("220");
                client.command("STARTTLS", "220");
            }
            client.send(octets);
            let mut rest = Vec::new();
            client.socket().read_to_end(&mut rest).ok();
            assert!(!rest.starts_with(b"220"), "{}", rest.escape_ascii());
            began.elapsed()
        };
        shake(b"EHLO client.test\r\n");
        shake(&[0x16, 3, 1, 0xff, 0xff, 0, 0, 0]);
        shake(&[0; 70_000]);
        // Begun and not gone on with.
        let waited = shake(&[0x16, 3, 1]);
        let limits = Duration::from_millis(900)..Duration::from_secs(10);
        assert!(limits.contains(&waited), "{waited:?}");
        let mut client = match mode {
            "starttls" => Dialogue::open(entrance),
            _ => Dialogue::open_tls(entrance, &setup.authority, NAME),
        };
        client.command("EHLO client.test", "250");
    }
}

#[test]
fn an_mta_with_auth_under_tls_only_stands_behind_us() {
    let authority = Authority::new();
    let mta = Sink::smtp()
        .starttls(authority.issue("mta.test").server())
        .greet("220 mta.test greets")
        .offer_under_tls("AUTH PLAIN")
        .always("AUTH", "235 2.7.0 in");
    let (mta, entrance, _hoptrail, setup) = ingress(mta, |setup| {
        setup
            .tls("starttls")
            .line("next_hop_tls = { mode = 'opportunistic' }")
    });
    let mut client = Dialogue::connect(entrance);
    assert_eq!(client.reply(), ["220 mta.test greets"]);
    client.start_tls(&setup.authority, NAME);
    let offer = client.command("EHLO client.test", "250");
    assert!(offers(&offer, "AUTH PLAIN"), "{offer:?}");
    client.command("AUTH PLAIN AGEAYg==", "235");
    let told = mta.dialogues();
    let whole = [
        "EHLO mx1.test",
        "STARTTLS",
        "(TLS)",
        "EHLO client.test",
        "AUTH PLAIN AGEAYg==",
    ];
    assert!(told.iter().any(|commands| *commands == whole), "{told:?}");
}

/// How a client of an ingress is greeted whose MTA is this; and what the MTA was told on the connection that
/// brought the client's EHLO, or if none did, on every one. The first is that of the test's own probe.
fn greeted(mta: Script, more: impl FnOnce(Setup) -> Setup) -> (String, Vec<Vec<String>>) {
    let (mta, entrance, _hoptrail, _setup) = ingress(mta, more);
    greeted_at(entrance, &mta)
}

fn greeted_at(entrance: SocketAddrV4, mta: &Sink) -> (String, Vec<Vec<String>>) {
    let mut client = Dialogue::connect(entrance);
    let greeting = client.reply().concat();
    let mut seen = mta.dialogues();
    if greeting.starts_with("220") {
        client.command("EHLO client.test", "250");
        seen = mta.dialogues();
        seen.retain(|commands| commands.iter().any(|c| c == "EHLO client.test"));
    }
    (greeting, seen)
}

#[test]
fn an_mta_that_cannot_be_believed_is_not_spoken_to() {
    let ours = |setup: &Setup, name| setup.authority.issue(name).server();
    let strange = || Authority::new().issue("mta.test").server();
    let required = |setup: Setup| setup.verified("required", "mta.test");
    let refused = |(greeting, seen): (String, Vec<Vec<String>>), status: &str| {
        let fits = greeting.starts_with(&format!("421 {status} "));
        assert!(fits, "{greeting} {seen:?}");
    };
    refused(greeted(Sink::smtp(), required), "4.7.4");
    let wont = Sink::smtp()
        .offer("STARTTLS")
        .always("STARTTLS", "454 4.7.0 not now");
    refused(greeted(wont, required), "4.7.4");
    refused(greeted(Sink::smtp().starttls(strange()), required), "4.7.5");
    refused(
        greeted(Sink::smtp().implicit_tls(strange()), |setup| {
            setup.verified("implicit", "mta.test")
        }),
        "4.7.5",
    );
    let broken = Sink::smtp()
        .offer("STARTTLS")
        .always("STARTTLS", "220 and then none");
    refused(greeted(broken, required), "4.7.5");

    // The right CA and another name.
    let setup = Setup::new();
    let mta = Sink::smtp().starttls(ours(&setup, "other.test")).start();
    let entrance = net::address();
    let (_hoptrail, _setup) = required(setup.listener("ingress", entrance, mta.next_hop())).start();
    refused(greeted_at(entrance, &mta), "4.7.5");
}

#[test]
fn a_next_hop_is_believed_by_its_address_where_no_name_is_set() {
    for (issued, code) in [(None, "220"), (Some("mta.test"), "421 4.7.5")] {
        let setup = Setup::new();
        let entrance = net::address();
        let address = net::address();
        let name = issued.map_or(address.ip().to_string(), str::to_owned);
        let mta = Sink::smtp()
            .implicit_tls(setup.authority.issue(&name).server())
            .listen(address)
            .start();
        let ca = setup.file("ca.pem");
        let (_hoptrail, _setup) = setup
            .listener("ingress", entrance, mta.next_hop())
            .line(&format!(
                "next_hop_tls = {{ mode = 'implicit', ca = '{}' }}",
                ca.display()
            ))
            .start();
        let (greeting, seen) = greeted_at(entrance, &mta);
        assert!(greeting.starts_with(code), "{greeting}");
        if issued.is_none() {
            assert_eq!(seen, [["(TLS)", "EHLO client.test"]]);
        }
    }
}

#[test]
fn opportunism_takes_any_certificate_and_plaintext_but_no_injection() {
    let optional = |setup: Setup| setup.line("next_hop_tls = { mode = 'opportunistic' }");
    let strange = Authority::new().issue("other.test").server();
    let refusing = || Sink::smtp().offer("STARTTLS");
    for (mta, heard) in [
        (
            Sink::smtp().starttls(strange.clone()),
            &["EHLO mx1.test", "STARTTLS", "(TLS)", "EHLO client.test"][..],
        ),
        (Sink::smtp(), &["EHLO mx1.test", "EHLO client.test"]),
        (
            refusing().always("STARTTLS", "454 4.7.0 not now"),
            &["EHLO mx1.test", "STARTTLS", "EHLO client.test"],
        ),
        // A handshake that fails costs its connection; the second one does without.
        (
            refusing().always("STARTTLS", "220 and then none"),
            &["EHLO client.test"],
        ),
    ] {
        let (greeting, seen) = greeted(mta, optional);
        assert!(greeting.starts_with("220 "), "{greeting}");
        assert_eq!(seen, [heard]);
    }

    let leaving = refusing().always("STARTTLS", "421 4.3.0 going away");
    let (greeting, _) = greeted(leaving, optional);
    assert!(greeting.starts_with("421 "), "{greeting}");

    for mode in [optional, |setup: Setup| {
        setup.verified("required", "mta.test")
    }] {
        let evil = Sink::smtp()
            .starttls(strange.clone())
            .always("STARTTLS", "220 go\r\n250-mta.test\r\n250 AUTH PLAIN");
        let (greeting, seen) = greeted(evil, mode);
        assert!(greeting.starts_with("421 4.7.5 "), "{greeting}");
        // The probe's connection, the client's, and none without TLS.
        let begun = |told: &Vec<String>| {
            told.iter()
                .zip(["EHLO mx1.test", "STARTTLS"])
                .all(|(a, b)| a == b)
                && told.len() <= 2
        };
        assert!(seen.len() <= 2 && seen.iter().all(begun), "{seen:?}");
    }
}

#[test]
fn an_egress_delivers_under_tls_or_says_why_not() {
    let authority = Authority::new();
    let sinks = [
        Sink::smtp().starttls(authority.issue("relay.test").server()),
        Sink::smtp(),
        Sink::smtp().starttls(authority.issue("other.test").server()),
    ]
    .map(Script::start);
    let mut setup = Setup::new();
    std::fs::write(setup.file("ca.pem"), authority.pem()).expect("a file can be written");
    let exits = [(); 3].map(|()| net::address());
    for (exit, sink) in exits.iter().zip(&sinks) {
        setup = setup
            .listener("egress", *exit, sink.next_hop())
            .tls("starttls")
            .verified("required", "relay.test");
    }
    let (_hoptrail, setup) = setup.start();
    let answers = exits.map(|exit| {
        let mut client = Dialogue::open(exit);
        assert!(offers(&client.command("EHLO spy.test", "250"), "STARTTLS"));
        client.command("MAIL FROM:<spy@origin.test>", "250");
        client.command("STARTTLS", "503 5.5.1");
        client.command("RSET", "250");
        client.start_tls(&setup.authority, NAME);
        assert!(!offers(
            &client.command("EHLO client.test", "250"),
            "STARTTLS"
        ));
        client.command("STARTTLS", "503 5.5.1");
        client.command("MAIL FROM:<a@origin.test>", "250");
        client.command("RCPT TO:<b@dest.test>", "250");
        client.data(SMALL);
        client.reply().concat()
    });
    for (answer, expected) in answers.iter().zip(["250 ", "451 4.7.4 ", "451 4.7.5 "]) {
        assert!(answer.starts_with(expected), "{expected}: {answer}");
    }
    assert_eq!(sinks[0].wait_for(1)[0].data, SMALL);
    let first = sinks[0].commands();
    assert_eq!(
        first[..3],
        ["EHLO mx1.test", "STARTTLS", "(TLS)"],
        "{first:?}"
    );
}

#[test]
fn lmtp_has_starttls_too() {
    let authority = Authority::new();
    let store = Sink::lmtp()
        .starttls(authority.issue("store.test").server())
        .start();
    let exit = net::address();
    let setup = Setup::new();
    std::fs::write(setup.file("ca.pem"), authority.pem()).expect("a file can be written");
    let (_hoptrail, _setup) = setup
        .listener("egress", exit, store.next_hop())
        .verified("required", "store.test")
        .start();
    Dialogue::open(exit).submit("a@origin.test", &["b@dest.test"], SMALL);
    assert_eq!(store.wait_for(1)[0].data, SMALL);
    assert_eq!(
        store.commands()[..4],
        ["LHLO mx1.test", "STARTTLS", "(TLS)", "LHLO mx1.test"]
    );
}

#[test]
fn a_reload_changes_new_sessions_and_keeps_those_that_run() {
    let (mta, entrance, hoptrail, setup) = ingress(Sink::smtp(), |setup| setup.tls("starttls"));
    let secured = |name: &str| {
        let mut client = Dialogue::open(entrance);
        client.start_tls(&setup.authority, name);
        client.command("EHLO client.test", "250");
        client
    };
    let mut old = secured(NAME);
    old.command("MAIL FROM:<a@origin.test>", "250");
    old.command("RCPT TO:<b@dest.test>", "250");
    setup
        .authority
        .issue("new.test")
        .write(setup.files.path(), "mx1");
    hoptrail.reload();
    let mut new = secured("new.test");
    old.data(SMALL);
    old.expect("250");
    assert_eq!(mta.wait_for(1)[0].data, SMALL);

    // Of no use: loudly refused, and nothing changes.
    std::fs::write(setup.file("mx1.key"), "no key").expect("a file can be written");
    hoptrail.reload();
    assert!(
        hoptrail.log().contains("THE OLD CONFIGURATION STAYS"),
        "{}",
        hoptrail.log()
    );
    assert!(hoptrail.log().contains("tls.key"), "{}", hoptrail.log());
    secured("new.test");
    for client in [&mut old, &mut new] {
        client.command("NOOP", "250");
    }
}

#[test]
fn a_reload_takes_over_limits_policy_and_listeners() {
    let (mta, entrance, hoptrail, _setup) = ingress(Sink::smtp(), |setup| setup);
    let mut old = Dialogue::open(entrance);
    assert!(offers(&old.command("EHLO client.test", "250"), "TRACK"));
    let moved = net::address();
    let config = std::fs::read_to_string(hoptrail.config()).expect("the configuration");
    let write =
        |text: &str| std::fs::write(hoptrail.config(), text).expect("a file can be written");

    write(&config.replace(
        "[reports]",
        "[limits]\nbad_commands_max = 0\n[policy]\nallow = []\n[reports]",
    ));
    hoptrail.reload();
    let mut new = Dialogue::open(entrance);
    assert!(!offers(&new.command("EHLO client.test", "250"), "TRACK"));
    new.command("XYZZY", "421 4.7.0");
    old.command("XYZZY", "502");

    // One in two places, then in the second alone.
    let listener = config
        .find("[[listener]]")
        .map(|at| &config[at..])
        .expect("a listener");
    let second = listener.replace(&entrance.to_string(), &moved.to_string());
    write(&format!("{config}{second}"));
    hoptrail.reload();
    let mut both = [entrance, moved].map(Dialogue::open);
    write(&config.replace(listener, &second));
    hoptrail.reload();
    Dialogue::open(moved).command("EHLO client.test", "250");
    support::wait_until(support::PATIENCE, "the first is closed", || {
        if net::answers(entrance) {
            Err("it answers".to_owned())
        } else {
            Ok(())
        }
    });
    for (count, client) in both.iter_mut().chain([&mut old]).enumerate() {
        client.submit("a@origin.test", &["b@dest.test"], SMALL);
        mta.wait_for(count + 1);
    }

    // A port that cannot be had: nothing is taken over.
    let taken = format!(
        "{config}{}",
        listener.replace(&entrance.to_string(), &mta.address().to_string())
    );
    write(&taken);
    hoptrail.reload();
    assert!(
        hoptrail.log().contains("THE OLD CONFIGURATION STAYS"),
        "{}",
        hoptrail.log()
    );
    assert!(!net::answers(entrance));
    Dialogue::open(moved).command("EHLO client.test", "250");
}

#[test]
fn a_stop_ends_sessions_under_tls_and_those_of_a_closed_listener() {
    let (_mta, entrance, mut hoptrail, setup) =
        ingress(Sink::smtp(), |setup| setup.tls("starttls"));
    let mut client = Dialogue::open(entrance);
    client.start_tls(&setup.authority, NAME);
    client.command("EHLO client.test", "250");
    let moved = net::address();
    let config = std::fs::read_to_string(hoptrail.config()).expect("the configuration");
    let text = config.replace(&entrance.to_string(), &moved.to_string());
    std::fs::write(hoptrail.config(), text).expect("a file can be written");
    hoptrail.reload();
    client.command("NOOP", "250");
    assert!(hoptrail.stop().success());
    client.expect("421 4.3.2");
    assert!(client.is_closed());
}

#[test]
fn a_broken_certificate_opens_no_port() {
    let setup = Setup::new();
    std::fs::write(setup.file("mx1.pem"), "no certificate").expect("a file can be written");
    let entrance = net::address();
    let setup = setup
        .listener("ingress", entrance, NextHop::Smtp(net::address()))
        .tls("starttls");
    let config = setup.file("hoptrail.toml");
    let text = format!(
        "state_dir = '{}'\n{}",
        setup.files.path().display(),
        setup.config
    );
    std::fs::write(&config, text).expect("a file can be written");
    let output = Command::new(env!("CARGO_BIN_EXE_hoptrail"))
        .args(["serve", "--config"])
        .arg(&config)
        .output()
        .expect("the binary can be run");
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        said.contains("hoptrail.toml:") && said.contains("tls.cert"),
        "{said}"
    );
    assert!(TcpStream::connect(entrance).is_err());
}

/// Postfix speaks TLS only, on either side of it, and hears of the true client; a Python client hands over.
#[test]
fn postfix_under_tls_on_both_sides() {
    let sink = Sink::smtp().offer("8BITMIME").offer("DSN").start();
    let (entrance, exit) = (net::address(), net::address());
    let setup = Setup::new();
    let mta = setup.authority.issue("mta.test");
    let mta = Mta::postfix("mta.test")
        .next_hop(NextHop::Smtp(exit))
        .file("etc/postfix/cert.pem", &mta.cert)
        .file("etc/postfix/key.pem", &mta.key)
        .file("etc/postfix/ca.pem", &setup.authority.pem())
        .setting("smtpd_tls_cert_file = /etc/postfix/cert.pem")
        .setting("smtpd_tls_key_file = /etc/postfix/key.pem")
        .setting("smtpd_tls_security_level = encrypt")
        .setting("smtpd_tls_loglevel = 1")
        .setting("smtpd_authorized_xclient_hosts = 127.0.0.0/8")
        .setting("smtp_tls_loglevel = 1")
        .setting("smtp_tls_CAfile = /etc/postfix/ca.pem")
        .setting("smtp_tls_verify_cert_match = mx1.test")
        .setting("smtp_tls_secure_cert_match = mx1.test")
        .setting("smtp_tls_security_level = secure")
        .start();
    let (_hoptrail, setup) = setup
        .listener("ingress", entrance, NextHop::Smtp(mta.address()))
        .line("client_address = 'xclient'")
        .tls("starttls")
        .verified("required", "mta.test")
        .listener("egress", exit, sink.next_hop())
        .tls("starttls")
        .start();

    let message = setup.file("message.eml");
    std::fs::write(&message, wire(MESSAGE)).expect("a file can be written");
    let script = "import smtplib, ssl, sys\n\
        host, port, ca, message = sys.argv[1:]\n\
        context = ssl.create_default_context(cafile=ca)\n\
        context.check_hostname = False\n\
        with smtplib.SMTP(host, int(port), local_hostname='client.test') as client:\n\
        \x20   client.starttls(context=context)\n\
        \x20   client.ehlo()\n\
        \x20   assert not client.has_extn('starttls'), client.esmtp_features\n\
        \x20   client.sendmail('a@origin.test', ['b@dest.test'], open(message, 'rb').read())\n";
    python(script, entrance, &[setup.file("ca.pem"), message]);

    let mail = sink.wait_for(1).remove(0).mail();
    assert!(mail.below_trace() == MESSAGE, "{mail:?}");
    let log =
        std::fs::read_to_string(mta.daemon().state().path("var/log/mail.log")).expect("a log");
    for words in [
        "Anonymous TLS connection established from",
        "Verified TLS connection established to",
        "client=unknown[127.0.0.1]",
    ] {
        assert!(log.contains(words), "no {words:?} in\n{log}");
    }
    // And without TLS from the client: hoptrail does the MTA's STARTTLS.
    let mut plain = Dialogue::open(entrance);
    plain.submit("a@origin.test", &["b@dest.test"], &wire(MESSAGE));
    sink.wait_for(2);
}

/// AUTH at a real MTA that has it under TLS only, and that learns of the client by PROXY, before its STARTTLS.
#[test]
fn postfix_takes_a_login_under_tls() {
    let sink = Sink::smtp().start();
    let dovecot = Dovecot::start("store.test", &["alice"]);
    let entrance = net::address();
    let setup = Setup::new();
    let mta = setup.authority.issue("mta.test");
    let mta = Mta::postfix("mta.test")
        .next_hop(sink.next_hop())
        .file("etc/postfix/cert.pem", &mta.cert)
        .file("etc/postfix/key.pem", &mta.key)
        .setting("smtpd_tls_cert_file = /etc/postfix/cert.pem")
        .setting("smtpd_tls_key_file = /etc/postfix/key.pem")
        .setting("smtpd_tls_security_level = may")
        .setting("smtpd_tls_auth_only = yes")
        .setting("smtpd_upstream_proxy_protocol = haproxy")
        .setting("smtpd_sasl_auth_enable = yes")
        .setting("smtpd_sasl_type = dovecot")
        .setting(&format!("smtpd_sasl_path = inet:{}", dovecot.sasl()))
        .setting("smtpd_relay_restrictions = permit_sasl_authenticated, reject")
        .start();
    let (_hoptrail, setup) = setup
        .listener("ingress", entrance, NextHop::Smtp(mta.address()))
        .line("client_address = 'proxy-v1'")
        .tls("starttls")
        .line("next_hop_tls = { mode = 'opportunistic' }")
        .start();
    let mut stranger = Dialogue::open(entrance);
    stranger.start_tls(&setup.authority, NAME);
    stranger.command("EHLO stranger.test", "250");
    stranger.command("MAIL FROM:<a@origin.test>", "250");
    stranger.command("RCPT TO:<b@dest.test>", "554 5.7.1");

    let script = "import smtplib, ssl, sys\n\
        host, port, ca = sys.argv[1:]\n\
        context = ssl.create_default_context(cafile=ca)\n\
        context.check_hostname = False\n\
        context.maximum_version = ssl.TLSVersion.TLSv1_2\n\
        with smtplib.SMTP(host, int(port), local_hostname='client.test') as client:\n\
        \x20   client.starttls(context=context)\n\
        \x20   client.login('alice', 'x')\n\
        \x20   client.sendmail('a@origin.test', ['b@dest.test'], 'Subject: x\\r\\n\\r\\ntext\\r\\n')\n";
    python(script, entrance, &[setup.file("ca.pem")]);
    assert!(
        sink.wait_for(1)[0]
            .mail()
            .below_trace()
            .ends_with(b"text\n")
    );
    let log =
        std::fs::read_to_string(mta.daemon().state().path("var/log/mail.log")).expect("a log");
    assert!(log.contains("sasl_username=alice"), "{log}");
}

/// Runs a client written in Python, which must end well.
fn python(script: &str, server: SocketAddrV4, files: &[PathBuf]) {
    let output = Command::new("python3")
        .args(["-c", script, &server.ip().to_string()])
        .arg(server.port().to_string())
        .args(files)
        .output()
        .expect("there is a python3");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
}
