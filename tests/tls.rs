//! TLS with clients: STARTTLS and implicit at an ingress, the attacks on them, and a real Postfix behind it with a
//! real client before it.

#![allow(clippy::expect_used)]

mod support;

use std::io::Write;
use std::net::SocketAddrV4;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use support::dialogue::Dialogue;
use support::dovecot::Dovecot;
use support::mail::{MESSAGE, wire};
use support::mta::Mta;
use support::net::{self, NextHop};
use support::sink::Sink;
use support::tls_hop::{NAME, SMALL, Setup, ingress, offers};

#[test]
fn starttls_is_ours_to_answer_and_all_said_before_is_void() {
    let (mta, entrance, _hoptrail, setup) = ingress(
        Sink::smtp()
            .offer("STARTTLS")
            .offer("CHUNKING")
            .offer("ETRN"),
        |setup| setup.tls("starttls"),
    );
    let mut client = Dialogue::open(entrance);
    assert!(offers(&client.command("EHLO spy.test", "250"), "STARTTLS"));
    client.command("STARTTLS now", "501 5.5.4");
    client.start_tls(&setup.authority, NAME);
    for early in [
        "MAIL FROM:<a@origin.test>",
        "RCPT TO:<b@dest.test>",
        "DATA",
        "BDAT 0 LAST",
        "AUTH PLAIN AGEAYg==",
        "ETRN dest.test",
    ] {
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
    let (_mta, entrance, _hoptrail, setup) = ingress(mta, |setup| {
        setup.tls_with("starttls", ", auth_in_clear = true")
    });
    let mut client = Dialogue::open(entrance);
    let offer = client.command("EHLO client.test", "250");
    assert!(offers(&offer, "AUTH PLAIN"), "{offer:?}");
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

/// An MTA that is spoken to in plaintext cannot keep AUTH for clients under TLS by itself.
#[test]
fn a_login_waits_for_tls() {
    let mta = Sink::smtp()
        .offer("AUTH PLAIN")
        .always("AUTH", "235 2.7.0 in");
    let (mta, entrance, _hoptrail, setup) = ingress(mta, |setup| setup.tls("starttls"));
    let mut client = Dialogue::open(entrance);
    let offer = client.command("EHLO client.test", "250");
    assert!(!offers(&offer, "AUTH"), "{offer:?}");
    let refusal = client.command("AUTH PLAIN AGEAYg==", "538 5.7.11").concat();
    assert!(refusal.contains("STARTTLS"), "{refusal}");
    client.start_tls(&setup.authority, NAME);
    let offer = client.command("EHLO client.test", "250");
    assert!(offers(&offer, "AUTH PLAIN"), "{offer:?}");
    client.command("AUTH PLAIN AGEAYg==", "235");
    assert_eq!(
        mta.commands(),
        [
            "EHLO client.test",
            "EHLO client.test",
            "AUTH PLAIN AGEAYg=="
        ]
    );
}

#[test]
fn nothing_said_before_tls_counts_at_an_egress() {
    let next = Sink::smtp().start();
    let exit = net::address();
    let (_hoptrail, setup) = Setup::new()
        .listener("egress", exit, next.next_hop())
        .tls("starttls")
        .start();
    let mut mta = Dialogue::open(exit);
    mta.command("EHLO spy.test", "250");
    mta.command("MAIL FROM:<evil@origin.test>", "250");
    mta.command("STARTTLS", "503 5.5.1");
    mta.command("RSET", "250");
    mta.start_tls(&setup.authority, NAME);
    for early in ["MAIL FROM:<a@origin.test>", "RCPT TO:<b@dest.test>", "DATA"] {
        mta.command(early, "503 5.5.1");
    }
    mta.submit("a@origin.test", &["b@dest.test"], SMALL);
    assert_eq!(next.wait_for(1)[0].mail_from, "MAIL FROM:<a@origin.test>");
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
    let rest = client.rest_below_tls();
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
    let rest = client.rest_below_tls();
    assert!(!rest.starts_with(b"2"), "{}", rest.escape_ascii());
    // Somebody cuts the connection below TLS, or writes into it.
    begun().break_off();
    let mut client = begun();
    client.socket().write_all(b".\r\n").ok();
    client.rest_below_tls();

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
fn what_is_no_handshake_costs_its_session_only() {
    for mode in ["starttls", "implicit"] {
        let (_mta, entrance, _hoptrail, setup) = ingress(Sink::smtp(), |mut setup| {
            setup
                .config
                .insert_str(0, "timeouts = { handshake_s = 1 }\n");
            setup.tls(mode)
        });
        let shake = |octets: &[u8]| {
            let began = Instant::now();
            let mut client = Dialogue::connect(entrance);
            if mode == "starttls" {
                client.expect("220");
                client.command("STARTTLS", "220");
            }
            client.send(octets);
            let rest = client.rest_below_tls();
            assert!(!rest.starts_with(b"220"), "{}", rest.escape_ascii());
            began.elapsed()
        };
        shake(b"EHLO client.test\r\n");
        shake(&[0x16, 3, 1, 0xff, 0xff, 0, 0, 0]);
        shake(&vec![0; 70_000]);
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
    for words in [
        "Anonymous TLS connection established from",
        "Verified TLS connection established to",
        "client=unknown[127.0.0.1]",
    ] {
        mta.daemon().wait_for_log(words);
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
    mta.daemon().wait_for_log("sasl_username=alice");
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
