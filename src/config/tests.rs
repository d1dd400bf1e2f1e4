//! Configurations: the good one, the example, and each mistake by its place.
#![allow(clippy::unwrap_used)]

use std::net::IpAddr;

use super::*;
use crate::track::asker::Asker;
use crate::track::policy::Grant;

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
        config.listeners[0].routes.default.to_string(),
        "smtp://127.0.0.1:10025"
    );
    assert_eq!(config.limits.header_octets_max, 65_536);
    assert!(
        config.reports_arrivals() && config.held_after().is_none(),
        "nothing at this hop sees the message leave"
    );
}

#[test]
fn the_example_is_good_and_names_every_key() {
    let text = include_str!("../../examples/hoptrail.toml");
    let config = parse(&with_sendmail(text), "examples/hoptrail.toml").unwrap();
    assert!(!config.reports_arrivals(), "the example has an egress");
    assert_eq!(config.held_after(), Some(Duration::from_hours(1)));
    let sources = [
        include_str!("../config.rs"),
        include_str!("reports.rs"),
        include_str!("tls.rs"),
        include_str!("../hop/limits.rs"),
        include_str!("../track/policy.rs"),
        include_str!("../track/wish.rs"),
        include_str!("../track/disclosure.rs"),
    ];
    let keys = sources.iter().flat_map(|source| fields(source));
    for key in keys {
        assert!(
            text.contains(&format!("{key} =")),
            "examples/hoptrail.toml does not show {key:?}"
        );
    }
}

/// The text with a program in place of the sendmail that this machine may not have.
fn with_sendmail(text: &str) -> String {
    let via = "sendmail:/usr/sbin/sendmail\"";
    assert!(text.contains(via), "reports leave by sendmail");
    text.replace(via, "sendmail:/bin/sh\"")
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
fn a_listener_that_would_make_an_open_relay_is_refused() {
    let message = error("127.0.0.1:2525", "0.0.0.0:25");
    assert!(
        message.starts_with("hoptrail.toml:10: listen:") && message.contains("xclient"),
        "{message}"
    );
    for cure in [
        "client_address = \"xclient\"",
        "client_address = \"proxy-v2\"",
        "client_address = \"xforward\"\nmta_trusts_proxy_address = false",
        "mta_trusts_proxy_address = false",
    ] {
        let text = GOOD.replace("127.0.0.1:2525\"", &format!("0.0.0.0:25\"\n{cure}"));
        let text = text.replace(
            "via = \"smtp://127.0.0.1:10025\"",
            "via = \"sendmail:/bin/sh\"",
        );
        assert!(parse(&text, "x").is_ok(), "{cure} is a cure");
    }
    // XFORWARD is for the MTA's log alone; and a balancer brings strangers to a loopback address.
    for (listen, more) in [
        ("0.0.0.0:25", "client_address = \"xforward\""),
        ("0.0.0.0:25", "mta_trusts_proxy_address = true"),
        ("127.0.0.1:2525", "proxy_from = [\"127.0.0.1\"]"),
    ] {
        let message = error("127.0.0.1:2525\"", &format!("{listen}\"\n{more}"));
        assert!(
            message.starts_with("hoptrail.toml:10: listen:"),
            "{message}"
        );
    }
}

#[test]
fn nobody_relays_for_the_whole_world() {
    for clients in ["0.0.0.0/0", "::/0"] {
        let text = format!(
            "{GOOD}[[listener]]\nrole = \"egress\"\nlisten = \"0.0.0.0:26\"\nprotocol = \"smtp\"\n\
             next_hop = \"mx\"\nclients = [\"{clients}\"]\n"
        );
        let message = parse(&text, "hoptrail.toml").unwrap_err().to_string();
        assert!(
            message.starts_with("hoptrail.toml:18: clients: everybody"),
            "{message}"
        );
    }
}

#[test]
fn mail_does_not_go_in_circles() {
    let listener = |listen: &str, next_hop: &str, routes: &str| {
        let text = format!(
            "{GOOD}[[listener]]\nrole = \"egress\"\nlisten = \"{listen}\"\nprotocol = \"lmtp\"\n\
             next_hop = \"{next_hop}\"\nroutes = {{ {routes} }}\n"
        );
        parse(&text, "hoptrail.toml").map_err(|error| error.to_string())
    };
    for (listen, next_hop, routes, place) in [
        ("127.0.0.1:26", "lmtp://127.0.0.1:26", "", "17: next_hop:"),
        ("127.0.0.1:26", "lmtp://LocalHost:26", "", "17: next_hop:"),
        ("0.0.0.0:26", "lmtp://127.9.9.9:26", "", "17: next_hop:"),
        ("[::]:26", "lmtp://localhost:26", "", "17: next_hop:"),
        ("192.0.2.1:26", "lmtp://192.0.2.1:26", "", "17: next_hop:"),
        ("127.0.0.1:26", "smtp://127.0.0.1:2525", "", "17: next_hop:"),
        (
            "127.0.0.1:26",
            "mx",
            "\"x.test\" = \"smtp://127.0.0.1:2525\"",
            "18: routes:",
        ),
    ] {
        let message = listener(listen, next_hop, routes).unwrap_err();
        assert!(
            message.starts_with(&format!("hoptrail.toml:{place}")),
            "{message}"
        );
    }
    for routes in [
        "'@x.test' =",
        "'*.x.test' =",
        "'a..b' =",
        "'' =",
        "'.' =",
        "'a b' =",
    ] {
        let routes = format!("{routes} \"lmtp://127.0.0.1:27\"");
        let message = listener("127.0.0.1:26", "mx", &routes).unwrap_err();
        assert!(
            message.starts_with("hoptrail.toml:18: routes: "),
            "{message}"
        );
    }
    for routes in [
        "'x.test.' =",
        "'.X.test' =",
        "'b\u{fc}cher.test' =",
        "'_a.b_c.test' =",
    ] {
        let routes = format!("{routes} \"lmtp://127.0.0.1:27\"");
        listener("127.0.0.1:26", "mx", &routes).unwrap();
    }
    for (listen, next_hop) in [
        ("127.0.0.1:26", "lmtp://127.0.0.1:27"),
        ("127.0.0.1:26", "lmtp://127.0.0.2:26"),
        ("127.0.0.2:26", "lmtp://localhost:26"),
        ("0.0.0.0:26", "lmtp://192.0.2.1:26"),
        ("127.0.0.1:26", "lmtp://store.example:26"),
    ] {
        assert!(
            listener(listen, next_hop, "").is_ok(),
            "{listen} {next_hop}"
        );
    }
}

#[test]
fn networks_are_those_of_an_egress_and_of_balancers() {
    let config = parse(GOOD, "x").unwrap();
    let listener = &config.listeners[0];
    let (here, there) = (IpAddr::from([127, 9, 9, 9]), IpAddr::from([192, 0, 2, 1]));
    assert!(!listener.proxy_from.contains(here));
    assert!(listener.clients.contains(here) && !listener.clients.contains(there));
    let egress = GOOD.replace(
        "role = \"ingress\"",
        "role = \"egress\"\nclients = [\"192.0.2.0/24\", \"::1\"]",
    );
    let listener = parse(&egress, "x").unwrap().listeners.remove(0);
    assert!(!listener.clients.contains(here) && listener.clients.contains(there));
    for (line, names) in [
        ("clients = [\"127.0.0.1\"]", "clients: concerns an egress"),
        ("proxy_from = [\"balancer.test\"]", "balancer.test"),
        ("proxy_from = \"10.0.0.1\"", "proxy_from"),
    ] {
        let message = error("role = \"ingress\"", &format!("role = \"ingress\"\n{line}"));
        assert!(
            message.starts_with("hoptrail.toml:10:") && message.contains(names),
            "{message}"
        );
    }
}

#[test]
fn a_content_filter_is_declared_at_an_ingress_and_alone_served_there() {
    let config = parse(GOOD, "x").unwrap();
    let (here, there) = (IpAddr::from([127, 9, 9, 9]), IpAddr::from([192, 0, 2, 1]));
    let listener = &config.listeners[0];
    assert!(!listener.content_filter && listener.serves(there));
    let declared = "role = \"ingress\"\ncontent_filter = true";
    let listener = |more: &str| {
        let text = GOOD.replace("role = \"ingress\"", &format!("{declared}\n{more}"));
        parse(&text, "x").unwrap().listeners.remove(0)
    };
    let usual = listener("");
    assert!(usual.content_filter && usual.serves(here) && !usual.serves(there));
    let named = listener("clients = [\"192.0.2.1\"]");
    assert!(named.serves(there) && !named.serves(here));
    let message = error(
        "role = \"ingress\"",
        "role = \"egress\"\ncontent_filter = true",
    );
    assert!(
        message.contains("content_filter: concerns an ingress only"),
        "{message}"
    );
}

#[test]
fn wishes_are_an_ingress_own() {
    let config = parse(GOOD, "x").unwrap();
    assert!(config.listeners[0].wishes.header.is_none());
    assert!(config.listeners[0].wishes.rules.is_empty());
    let good = "role = \"ingress\"\nrequest_header = \"X-Track\"\ntrack = [{ one_in = 1000 }]";
    let config = parse(&GOOD.replace("role = \"ingress\"", good), "x").unwrap();
    let wishes = &config.listeners[0].wishes;
    assert_eq!(wishes.header.as_deref(), Some("X-Track"));
    assert_eq!(wishes.rules.len(), 1);
    for (line, names) in [
        (
            "request_header = \"Subject\"",
            "request_header: \"Subject\"",
        ),
        ("request_header = \"X-\"", "request_header"),
        ("request_header = \"X-Tr ack\"", "request_header"),
        ("request_header = \"X-Track:\"", "request_header"),
        ("track = [{ }]", "track = [{ }]"),
        ("track = [{ form = \"x.test\" }]", "form"),
        ("track = [{ from = \"x test\" }]", "x test"),
        ("track = [{ one_in = 0 }]", "one_in = 0"),
    ] {
        let message = error("role = \"ingress\"", &format!("role = \"ingress\"\n{line}"));
        assert!(
            message.starts_with("hoptrail.toml:10:") && message.contains(names),
            "{message}"
        );
    }
    for (line, names) in [
        ("request_header = \"X-Track\"", "request_header: concerns"),
        ("track = [{ one_in = 1 }]", "track: concerns"),
    ] {
        let message = error("role = \"ingress\"", &format!("role = \"egress\"\n{line}"));
        assert!(
            message.starts_with("hoptrail.toml:10:") && message.contains(names),
            "{message}"
        );
    }
}

#[test]
fn the_readmes_deployment_is_good() {
    let readme = include_str!("../../README.md");
    let text = readme
        .split("```toml\n")
        .nth(1)
        .and_then(|t| t.split("```").next())
        .unwrap();
    let config = parse(&with_sendmail(text), "README.md").unwrap();
    assert_eq!(config.listeners.len(), 3);
    assert!(text.lines().count() <= 20, "twenty lines");
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

mod dkim;
mod keywords;
mod mistakes;
mod policy;
mod tls;
mod via;
