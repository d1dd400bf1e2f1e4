//! SIGHUP: what a running hop takes over, what it refuses, and that no session is lost for it.

#![allow(clippy::expect_used)]

mod support;

use std::net::TcpStream;
use std::process::Command;

use support::dialogue::Dialogue;
use support::net::{self, NextHop};
use support::sink::Sink;
use support::tls_hop::{NAME, SMALL, Setup, ingress, offers};

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
    assert_ports(&hoptrail.log(), &moved.to_string(), "");
    let mut both = [entrance, moved].map(Dialogue::open);
    write(&config.replace(listener, &second));
    hoptrail.reload();
    assert_ports(&hoptrail.log(), "", &entrance.to_string());
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

/// What the last reload says it opened and closed.
fn assert_ports(log: &str, opened: &str, closed: &str) {
    let told = format!("\"opened\":\"{opened}\",\"closed\":\"{closed}\"");
    let mut reloads = log.lines().filter(|line| line.contains("reloaded"));
    let last = reloads.next_back().unwrap_or_default();
    assert!(last.contains(&told), "no {told} in {last}");
}

/// The example marks them; the hop says which of them have changed, and goes on as it began.
#[test]
fn a_reload_names_the_keys_that_wait_for_a_restart() {
    let (_mta, _entrance, hoptrail, _setup) = ingress(Sink::smtp(), |setup| setup);
    let good = std::fs::read_to_string(hoptrail.config()).expect("the configuration");
    let via = good
        .lines()
        .find(|line| line.starts_with("via = "))
        .expect("a way out");
    let state_dir = format!("state_dir = '{}'", hoptrail.state_dir().display());
    let elsewhere = tempfile::tempdir().expect("a directory");
    let moved = format!("state_dir = '{}/state'", elsewhere.path().display());
    let waiting = |from: &str, to: &str| {
        assert!(good.contains(from), "{from}");
        std::fs::write(hoptrail.config(), good.replace(from, to)).expect("it can be written");
        let before = hoptrail.log().len();
        hoptrail.reload();
        let said = hoptrail.log().split_off(before);
        assert!(said.contains("configuration reloaded"), "{said}");
        let keys = said.split_once("\"keys\":\"").map(|(_, rest)| rest);
        keys.and_then(|rest| rest.split('"').next())
            .unwrap_or_default()
            .to_owned()
    };
    let all = "state_dir, resolver, reports.via, reports.accepted, reports.retention_days";
    let others = "via = 'maildir:/elsewhere'\naccepted = 'never'\nretention_days = 3";
    assert_eq!(waiting(via, via), "");
    assert_eq!(
        waiting("hostname = ", "organisation = 'x.test'\nhostname = "),
        ""
    );
    assert_eq!(
        waiting(via, others),
        "reports.via, reports.accepted, reports.retention_days"
    );
    let resolver = format!("resolver = '127.0.0.1:53'\n{moved}");
    assert_eq!(waiting(&state_dir, &resolver), "state_dir, resolver");
    assert!(!elsewhere.path().join("state").exists());
    // The example marks just these.
    let example = include_str!("../examples/hoptrail.toml");
    let mut marked = Vec::new();
    for part in example.split("hanges at a restart only.\n").skip(1) {
        let key = part.trim_start_matches("# ").split(" = ").next();
        marked.extend(key);
    }
    let keys: Vec<_> = all
        .split(", ")
        .map(|key| key.trim_start_matches("reports."))
        .collect();
    assert_eq!(marked, keys);
}

#[test]
fn a_reload_takes_over_the_carry_keys() {
    let (mta, entrance, hoptrail, _setup) = ingress(Sink::smtp(), |setup| setup);
    let key_of = |count: usize| {
        let mut client = Dialogue::open(entrance);
        client.command("EHLO client.test", "250");
        client.command("MAIL FROM:<a@origin.test> TRACK=NOW", "250");
        client.command("RCPT TO:<b@dest.test>", "250");
        client.data(SMALL);
        client.expect("250");
        let data = mta.wait_for(count)[count - 1].data.clone();
        let text = String::from_utf8_lossy(&data).into_owned();
        let (_, key) = text.split_once("kid=").expect("a carry header");
        key.split(';').next().unwrap_or_default().to_owned()
    };
    let before = key_of(1);
    assert_eq!(key_of(2), before);
    // Without one a new one is made.
    std::fs::remove_file(hoptrail.state_dir().join("carry.keys")).expect("there are keys");
    hoptrail.reload();
    let after = key_of(3);
    assert_ne!(after, before);
    std::fs::write(hoptrail.state_dir().join("carry.keys"), "no key").expect("it can be written");
    hoptrail.reload();
    assert_eq!(key_of(4), after);
    assert!(
        hoptrail.log().contains("THE OLD CONFIGURATION STAYS"),
        "{}",
        hoptrail.log()
    );
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
