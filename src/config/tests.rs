//! Configurations: the good one, the example, and each mistake by its place.
#![allow(clippy::unwrap_used)]

use super::*;

const GOOD: &str = r#"hostname = "mx1.example.net"
state_dir = "/var/lib/hoptrail"

[reports]
from = "hoptrail@mx1.example.net"
via = "smtp://127.0.0.1:10025"

[[listener]]
role = "ingress"
listen = "127.0.0.1:2525"
protocol = "smtp"
next_hop = "smtp://127.0.0.1:10025"
"#;

/// The error for the good configuration with `from` replaced by `to`.
fn error(from: &str, to: &str) -> String {
    assert!(
        GOOD.contains(from),
        "the test replaces {from:?}, which is not there"
    );
    parse(&GOOD.replacen(from, to, 1), "hoptrail.toml")
        .unwrap_err()
        .to_string()
}

#[test]
fn a_good_one_is_read_with_the_defaults() {
    let config = parse(GOOD, "x").unwrap();
    assert_eq!(config.hostname, "mx1.example.net");
    assert_eq!(
        config.listeners[0].next_hop.to_string(),
        "smtp://127.0.0.1:10025"
    );
    assert_eq!(config.limits.header_octets_max, 65_536);
    assert!(
        config.reports_arrivals(),
        "nothing at this hop sees the message leave"
    );
}

#[test]
fn the_example_is_good_and_names_every_key() {
    let text = include_str!("../../examples/hoptrail.toml");
    let config = parse(text, "examples/hoptrail.toml").unwrap();
    assert!(!config.reports_arrivals(), "the example has an egress");
    let sources = [
        include_str!("../config.rs"),
        include_str!("../hop/limits.rs"),
        include_str!("../track/policy.rs"),
    ];
    let keys = sources.iter().flat_map(|source| fields(source));
    for key in keys {
        assert!(
            text.contains(&format!("{key} =")),
            "examples/hoptrail.toml does not show {key:?}"
        );
    }
}

/// The field names of the structs that are read from the file: those that deny unknown fields.
fn fields(source: &str) -> Vec<&str> {
    source
        .split("deny_unknown_fields")
        .skip(1)
        .flat_map(|after| {
            after
                .split("\n}")
                .next()
                .unwrap_or_default()
                .lines()
                .skip(1)
        })
        .filter_map(|line| line.trim().trim_start_matches("pub ").split_once(": "))
        .map(|(name, _)| name)
        .filter(|name| name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'))
        .filter(|name| !["reports", "policy", "limits", "timeouts", "listener"].contains(name))
        .collect()
}

#[test]
fn mistakes_name_file_line_and_key() {
    for (from, to, file_and_line, key) in [
        ("hostname", "host_name", "hoptrail.toml:1:", "host_name"),
        (
            "\"mx1.example.net\"",
            "\"mx1 example\"",
            "hoptrail.toml:1:",
            "hostname",
        ),
        (
            "state_dir = \"/var/lib/hoptrail\"",
            "",
            "hoptrail.toml:",
            "state_dir",
        ),
        (
            "from = \"hoptrail@mx1.example.net\"",
            "from = \"root\"",
            "hoptrail.toml:4:",
            "reports.from",
        ),
        (
            "via = \"smtp://127.0.0.1:10025\"",
            "via = \"ftp://x\"",
            "hoptrail.toml:6:",
            "via",
        ),
        (
            "role = \"ingress\"",
            "role = \"middle\"",
            "hoptrail.toml:9:",
            "role",
        ),
        ("127.0.0.1:2525", "localhost", "hoptrail.toml:10:", "listen"),
        (
            "protocol = \"smtp\"",
            "protocol = \"lmtp\"",
            "hoptrail.toml:11:",
            "protocol",
        ),
        (
            "\nnext_hop = \"smtp://127.0.0.1:10025\"",
            "\nnext_hop = \"mx\"",
            "hoptrail.toml:12:",
            "next_hop",
        ),
        (
            "\nnext_hop = \"smtp:",
            "\nnext_hop = \"lmtp:",
            "hoptrail.toml:12:",
            "next_hop",
        ),
        (
            "protocol = \"smtp\"",
            "protocol = \"smtp\"\nclient_address = \"x\"",
            "hoptrail.toml:12:",
            "client_address",
        ),
        (
            "[reports]",
            "[limits]\nsessions_max = -1\n[reports]",
            "hoptrail.toml:5:",
            "sessions_max",
        ),
        (
            "[reports]",
            "[policy]\nallow = [\"spf\"]\n[reports]",
            "hoptrail.toml:5:",
            "allow",
        ),
        ("[reports]", "[reports", "hoptrail.toml:4:", "[reports"),
    ] {
        let message = error(from, to);
        assert!(
            message.starts_with(file_and_line),
            "{from:?} -> {to:?}: {message}"
        );
        assert!(
            message.contains(key),
            "{from:?} -> {to:?}: {message} does not name {key}"
        );
    }
}

#[test]
fn a_listener_that_would_make_an_open_relay_is_refused() {
    let message = error("127.0.0.1:2525", "0.0.0.0:25");
    assert!(
        message.starts_with("hoptrail.toml:10: listen:") && message.contains("xclient"),
        "{message}"
    );
    for cure in [
        "client_address = \"xclient\"",
        "mta_trusts_proxy_address = false",
    ] {
        let text = GOOD.replace("127.0.0.1:2525\"", &format!("0.0.0.0:25\"\n{cure}"));
        assert!(parse(&text, "x").is_ok(), "{cure} is a cure");
    }
}

#[test]
fn no_listener_is_a_mistake() {
    let text = GOOD.split("[[listener]]").next().unwrap();
    assert!(
        parse(text, "x")
            .unwrap_err()
            .to_string()
            .contains("[[listener]]")
    );
}
