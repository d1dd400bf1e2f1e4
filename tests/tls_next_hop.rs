//! TLS towards the next hop: who is believed, who is not, and what happens then.

#![allow(clippy::expect_used)]

mod support;

use std::net::SocketAddrV4;

use support::dialogue::Dialogue;
use support::net;
use support::sink::{Script, Sink};
use support::tls::Authority;
use support::tls_hop::{NAME, SMALL, Setup, ingress, offers};

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
        // And so does one that is not begun.
        (
            refusing().always("STARTTLS", "close"),
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

/// Once for many, since a next hop that cannot do it cannot do it in any session.
#[test]
fn mail_that_goes_in_plaintext_though_tls_was_offered_is_warned_of() {
    for (reply, why) in [
        ("454 4.7.0 not now", "454 4.7.0 not now"),
        ("220 and then none", ""),
        ("close", "connection closed by the peer"),
    ] {
        let mta = Sink::smtp().offer("STARTTLS").always("STARTTLS", reply);
        let (mta, entrance, hoptrail, _setup) = ingress(mta, |setup| {
            setup.line("next_hop_tls = { mode = 'opportunistic' }")
        });
        drop(Dialogue::open(entrance));
        let log = hoptrail.log();
        let words = "TLS was offered and is not to be had, mail goes in plaintext: ";
        let warned: Vec<_> = log.lines().filter(|line| line.contains(words)).collect();
        assert_eq!(warned.len(), 1, "{log}");
        let told = [why, "\"WARN\"", &mta.next_hop().to_string()];
        assert!(told.iter().all(|word| warned[0].contains(word)), "{log}");
    }
}

/// The TLS layer has other words for it, which send the reader to a manual for programmers.
#[test]
fn a_next_hop_that_is_cut_off_under_tls_is_told_of_in_our_words() {
    let authority = Authority::new();
    let next = Sink::smtp()
        .starttls(authority.issue("relay.test").server())
        .once("EHLO", "250-relay.test\r\n250 STARTTLS")
        .always("EHLO", "close")
        .start();
    let exit = net::address();
    let setup = Setup::new();
    std::fs::write(setup.file("ca.pem"), authority.pem()).expect("a file can be written");
    let (_hoptrail, _setup) = setup
        .listener("egress", exit, next.next_hop())
        .verified("required", "relay.test")
        .start();
    let mut client = Dialogue::open(exit);
    client.command("EHLO client.test", "250");
    client.command("MAIL FROM:<a@origin.test>", "250");
    client.command("RCPT TO:<b@dest.test>", "250");
    client.data(SMALL);
    let told = client.expect("451 4.4.1 next hop ").concat();
    assert!(
        told.ends_with("no SMTP dialogue: connection cut off under TLS"),
        "{told}"
    );
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
