//! Mail clients of other people before an ingress with TLS, and a real Postfix with Dovecot's AUTH behind it: what
//! they log in with, what they are told when it is wrong, and that a login makes the session one that may ask.

#![allow(clippy::expect_used)]

mod support;

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::net::SocketAddrV4;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;

use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::{Certificate, Tls, TlsParameters};
use lettre::{AsyncSmtpTransport, AsyncTransport, Tokio1Executor};

use support::dialogue::Dialogue;
use support::dovecot::Dovecot;
use support::hoptrail::{Hoptrail, User, said};
use support::lab::package;
use support::mail::{MESSAGE, Mail, wire};
use support::mta::Mta;
use support::net::{self, NextHop};
use support::sink::{Sink, Transaction};
use support::tls_hop::Setup;
use support::{PATIENCE, wait_until};

const FROM: &str = "alice@origin.test";

/// A server for submission: STARTTLS at one address and implicit TLS at another, mail of anybody for open.test only.
struct Server {
    sink: Sink,
    postfix: Mta,
    _dovecot: Dovecot,
    _hoptrail: Hoptrail,
    setup: Setup,
    starttls: SocketAddrV4,
    implicit: SocketAddrV4,
}

impl Server {
    fn start() -> Self {
        let sink = Sink::smtp().offer("8BITMIME").start();
        let dovecot = Dovecot::start("store.test", &["alice"]);
        let postfix = Mta::postfix("mta.test")
            .local_domain("open.test")
            .next_hop(sink.next_hop())
            .setting("smtpd_upstream_proxy_protocol = haproxy")
            .setting("smtpd_error_sleep_time = 0")
            .setting("smtpd_sasl_auth_enable = yes")
            .setting("smtpd_sasl_type = dovecot")
            .setting(&format!("smtpd_sasl_path = inet:{}", dovecot.sasl()))
            .setting(
                "smtpd_relay_restrictions = permit_sasl_authenticated, reject_unauth_destination",
            )
            .start();
        let starttls = net::address();
        let implicit = SocketAddrV4::new(*starttls.ip(), starttls.port() + 1000);
        let mut setup = Setup::new();
        for (mode, listen) in [("starttls", starttls), ("implicit", implicit)] {
            setup = setup
                .listener("ingress", listen, NextHop::Smtp(postfix.address()))
                .line("client_address = 'proxy-v2'")
                .line("policy = { allow = ['authenticated'] }")
                .tls(mode);
        }
        let own = setup.authority.issue(&starttls.ip().to_string());
        own.write(setup.files.path(), "mx1");
        let (hoptrail, setup) = setup.start();
        Self {
            sink,
            postfix,
            _dovecot: dovecot,
            _hoptrail: hoptrail,
            setup,
            starttls,
            implicit,
        }
    }

    fn ca(&self) -> PathBuf {
        self.setup.file("ca.pem")
    }

    /// By STARTTLS, with the right password.
    fn login<'a>(&'a self, mechanism: &'a str, to: &'a str) -> Login<'a> {
        Login {
            server: self,
            implicit: false,
            mechanism,
            password: "x",
            to,
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Client {
    Swaks,
    Msmtp,
    Smtplib,
    Lettre,
}

impl Client {
    const ALL: [Self; 4] = [Self::Swaks, Self::Msmtp, Self::Smtplib, Self::Lettre];

    fn mechanisms(self) -> &'static [&'static str] {
        match self {
            Self::Lettre => &["PLAIN", "LOGIN"],
            _ => &["PLAIN", "LOGIN", "CRAM-MD5"],
        }
    }

    /// Hands over one message of alice's; if that fails, what the client says about it.
    fn submit(self, login: &Login<'_>, message: &[u8]) -> Result<(), String> {
        match self {
            Self::Swaks => swaks(login, message),
            Self::Msmtp => msmtp(login, message),
            Self::Smtplib => smtplib(login, message, &[]),
            Self::Lettre => lettre(login, message),
        }
    }
}

/// How one client gets in, and where its message goes.
struct Login<'a> {
    server: &'a Server,
    implicit: bool,
    mechanism: &'a str,
    password: &'a str,
    to: &'a str,
}

impl Login<'_> {
    fn address(&self) -> SocketAddrV4 {
        if self.implicit {
            self.server.implicit
        } else {
            self.server.starttls
        }
    }
}

fn swaks(login: &Login<'_>, message: &[u8]) -> Result<(), String> {
    let unpacked = package("clients", "swaks");
    let modules = below(&[unpacked.join("usr/lib")])
        .iter()
        .map(|libraries| libraries.join("perl5"))
        .collect::<Vec<_>>();
    let ca = login.server.ca();
    let mut command = Command::new("perl");
    command
        .env("PERL5LIB", search_path(&below(&modules)))
        .arg(unpacked.join("usr/bin/swaks"))
        .args(["--server", &login.address().ip().to_string()])
        .args(["--port", &login.address().port().to_string()])
        .args(["--ehlo", "client.test", "--from", FROM, "--to", login.to])
        .args(["--auth", login.mechanism, "--auth-user", "alice"])
        .args(["--auth-password", login.password])
        .args([
            OsStr::new("--tls-verify"),
            "--tls-ca-path".as_ref(),
            ca.as_ref(),
        ])
        .arg(if login.implicit {
            "--tls-on-connect"
        } else {
            "--tls"
        })
        .args(["--data", "-"]);
    // It puts the last line end there itself.
    run(
        &mut command,
        message.strip_suffix(b"\n").expect("a line end"),
    )
}

fn msmtp(login: &Login<'_>, message: &[u8]) -> Result<(), String> {
    let unpacked = package("clients", "msmtp");
    let mut command = Command::new(unpacked.join("usr/bin/msmtp"));
    command
        .env(
            "LD_LIBRARY_PATH",
            search_path(&below(&[unpacked.join("usr/lib")])),
        )
        .arg(format!("--host={}", login.address().ip()))
        .arg(format!("--port={}", login.address().port()))
        .arg(format!("--auth={}", login.mechanism.to_ascii_lowercase()))
        .arg(format!("--passwordeval=echo {}", login.password))
        .arg(format!("--tls-trust-file={}", login.server.ca().display()))
        .arg(if login.implicit {
            "--tls-starttls=off"
        } else {
            "--tls-starttls=on"
        })
        .args(["--tls=on", "--user=alice", "--domain=client.test"])
        .arg(format!("--from={FROM}"))
        .args(["--", login.to]);
    run(&mut command, message)
}

const SMTPLIB: &str = r"
import smtplib, ssl, sys
host, port, ca, implicit, mechanism, password, sender, to, *options = sys.argv[1:]
context = ssl.create_default_context(cafile=ca)
if implicit == 'true':
    client = smtplib.SMTP_SSL(host, int(port), local_hostname='client.test', context=context)
else:
    client = smtplib.SMTP(host, int(port), local_hostname='client.test')
    client.starttls(context=context)
with client:
    client.ehlo()
    if mechanism:
        client.user, client.password = 'alice', password
        client.auth(mechanism, getattr(client, 'auth_' + mechanism.lower().replace('-', '_')))
        client.ehlo()
    if 'TRACK=NOW' in options:
        assert client.esmtp_features.get('track') == 'NOW', client.esmtp_features
    client.sendmail(sender, [to], sys.stdin.buffer.read(), mail_options=options)
";

fn smtplib(login: &Login<'_>, message: &[u8], options: &[&str]) -> Result<(), String> {
    let mut command = Command::new("python3");
    command
        .args(["-c", SMTPLIB])
        .arg(login.address().ip().to_string())
        .arg(login.address().port().to_string())
        .arg(login.server.ca())
        .arg(login.implicit.to_string())
        .args([login.mechanism, login.password, FROM, login.to])
        .args(options);
    run(&mut command, &wire(message))
}

fn lettre(login: &Login<'_>, message: &[u8]) -> Result<(), String> {
    let ca = std::fs::read(login.server.ca()).expect("a CA");
    let (host, port) = (login.address().ip().to_string(), login.address().port());
    let tls = TlsParameters::builder(host.clone())
        .add_root_certificate(Certificate::from_pem(&ca).expect("a certificate"))
        .build()
        .expect("parameters");
    let tls = if login.implicit {
        Tls::Wrapper(tls)
    } else {
        Tls::Required(tls)
    };
    let mechanism = match login.mechanism {
        "PLAIN" => Mechanism::Plain,
        "LOGIN" => Mechanism::Login,
        other => panic!("lettre has no {other}"),
    };
    let address = |text: &str| text.parse().expect("an address");
    let envelope = lettre::address::Envelope::new(Some(address(FROM)), vec![address(login.to)]);
    let envelope = envelope.expect("recipients");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    // It puts the last line end there itself.
    let message = wire(message.strip_suffix(b"\n").expect("a line end"));
    let sent = runtime.block_on(async {
        AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(host)
            .port(port)
            .tls(tls)
            .credentials(Credentials::new(
                "alice".to_owned(),
                login.password.to_owned(),
            ))
            .authentication(vec![mechanism])
            .build()
            .send_raw(&envelope, &message)
            .await
    });
    sent.map(drop).map_err(|error| error.to_string())
}

/// Runs a client with the message on its standard input.
fn run(command: &mut Command, message: &[u8]) -> Result<(), String> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the client can be run");
    // One that was refused before may not read it.
    let _ = child.stdin.take().map(|mut pipe| pipe.write_all(message));
    let output = child.wait_with_output().expect("the client ends");
    let words = [output.stdout, output.stderr].concat();
    let words = String::from_utf8_lossy(&words).into_owned();
    if output.status.success() {
        Ok(())
    } else {
        Err(words)
    }
}

/// A search path of all that lies directly below these directories: what they are called is the machine's affair.
fn below(directories: &[PathBuf]) -> Vec<PathBuf> {
    let entries = directories
        .iter()
        .filter_map(|directory| std::fs::read_dir(directory).ok());
    entries
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect()
}

fn search_path(directories: &[PathBuf]) -> OsString {
    std::env::join_paths(directories).expect("no colon in a path")
}

fn to(all: &[Transaction], recipient: &str) -> Mail {
    let to = format!("RCPT TO:<{recipient}>");
    let mut hits = all
        .iter()
        .filter(|seen| seen.recipients.iter().any(|line| line.starts_with(&to)));
    let (first, second) = (hits.next(), hits.next());
    assert!(second.is_none(), "twice: {all:?}");
    first
        .unwrap_or_else(|| panic!("nothing for {recipient} in {all:?}"))
        .mail()
}

#[test]
fn every_client_logs_in_under_tls_and_its_mail_arrives_as_it_was_written() {
    let server = Server::start();
    let ways = |client: Client| {
        let starttls = client
            .mechanisms()
            .iter()
            .map(|mechanism| (false, *mechanism));
        starttls.chain([(true, "PLAIN")])
    };
    let recipient = |client: Client, (implicit, mechanism): (bool, &str)| {
        format!("{client:?}-{implicit}-{mechanism}@dest.test").to_ascii_lowercase()
    };
    thread::scope(|scope| {
        for client in Client::ALL {
            let server = &server;
            scope.spawn(move || {
                for (implicit, mechanism) in ways(client) {
                    let to = recipient(client, (implicit, mechanism));
                    let login = Login {
                        implicit,
                        ..server.login(mechanism, &to)
                    };
                    let sent = client.submit(&login, MESSAGE);
                    sent.unwrap_or_else(|words| panic!("{client:?} by {mechanism}: {words}"));
                }
            });
        }
    });
    let all: Vec<String> = Client::ALL
        .into_iter()
        .flat_map(|client| ways(client).map(move |way| recipient(client, way)))
        .collect();
    let seen = server.sink.wait_for(all.len());
    for recipient in &all {
        let mail = to(&seen, recipient);
        assert!(mail.below_trace() == MESSAGE, "{recipient}: {mail:?}");
    }
    for (mechanism, logins) in [("PLAIN", 8), ("LOGIN", 4), ("CRAM-MD5", 3)] {
        let words = format!("sasl_method={mechanism}, sasl_username=alice");
        let postfix = server.postfix.daemon();
        let log = postfix.wait_for_log_times(&words, logins);
        assert_eq!(log.matches(&words).count(), logins, "{words} in\n{log}");
    }
}

#[test]
fn a_wrong_password_is_refused_in_the_mtas_own_words() {
    let server = Server::start();
    let mut direct = Dialogue::connect(server.postfix.address());
    direct.send("PROXY TCP4 192.0.2.77 198.51.100.25 4321 25\r\n");
    direct.expect("220");
    direct.command("EHLO client.test", "250");
    let refusal = direct
        .command("AUTH PLAIN AGFsaWNlAHdyb25n", "535")
        .concat();
    let words = refusal["535 ".len()..].trim();
    for (client, implicit) in Client::ALL.into_iter().zip([false, true, true, false]) {
        let login = Login {
            implicit,
            password: "wrong",
            ..server.login("PLAIN", "bob@dest.test")
        };
        let heard = client
            .submit(&login, MESSAGE)
            .expect_err("it cannot get in");
        assert!(
            heard.contains("535") && heard.contains(words),
            "{client:?}: {heard}"
        );
    }
    let mut cancels = Dialogue::open(server.starttls);
    cancels.start_tls(&server.setup.authority, &server.starttls.ip().to_string());
    cancels.command("EHLO client.test", "250");
    for mechanism in ["LOGIN", "CRAM-MD5"] {
        cancels.command(&format!("AUTH {mechanism}"), "334 ");
        cancels.command("*", "501 5.7.0 Authentication aborted");
    }
    let stranger = server.login("", "bob@dest.test");
    let heard = smtplib(&stranger, MESSAGE, &[]).expect_err("nobody relays without a login");
    assert!(heard.contains("Relay access denied"), "{heard}");
    assert!(
        server.sink.commands().is_empty(),
        "{:?}",
        server.sink.commands()
    );
}

#[test]
fn after_a_login_tracking_is_offered_and_done() {
    let server = Server::start();
    let options = ["BODY=8BITMIME", "TRACK=NOW"];
    for mechanism in Client::Smtplib.mechanisms() {
        let to = format!("{mechanism}@dest.test");
        smtplib(&server.login(mechanism, &to), MESSAGE, &options).expect("it is taken");
    }
    // The offer stands before the login too, where a login is possible; the request counts behind it only.
    smtplib(&server.login("", "nobody@open.test"), MESSAGE, &options).expect("it is taken");
    let user = User::stranger().env("SSL_CERT_FILE", server.ca());
    for (tls, at) in [("starttls", server.starttls), ("implicit", server.implicit)] {
        let (at, to) = (at.to_string(), format!("{tls}@dest.test"));
        let args = [
            "send",
            "--require-track",
            "--server",
            &at,
            "--tls",
            tls,
            "--from",
            FROM,
        ];
        let access = ["--user", "alice", "--password-command", "echo x", &to];
        said(&user.run(&[&args[..], &access].concat(), MESSAGE));
    }
    let tracked = [
        "CRAM-MD5@dest.test",
        "LOGIN@dest.test",
        "PLAIN@dest.test",
        "implicit@dest.test",
        "starttls@dest.test",
    ];
    let seen = server.sink.wait_for(tracked.len() + 1);
    for recipient in tracked {
        assert_eq!(to(&seen, recipient).hoptrail_fields(), ["Hoptrail-Carry"]);
    }
    assert_eq!(to(&seen, "nobody@open.test").below_trace(), MESSAGE);
    let told = wait_until(PATIENCE, "a report for each", || {
        let reports = Mail::in_maildir(&server.setup.file("reports"));
        let reports = reports.iter().filter_map(Mail::report);
        let mut told: Vec<_> = reports
            .flat_map(|report| report.final_recipients())
            .collect();
        told.sort();
        if told.len() < tracked.len() {
            Err(format!("{told:?}"))
        } else {
            Ok(told)
        }
    });
    assert_eq!(told, tracked);
}
