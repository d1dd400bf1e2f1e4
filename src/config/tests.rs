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
        config.listeners[0].routes.default.to_string(),
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
        include_str!("tls.rs"),
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
        (
            "\nnext_hop = \"smtp://127.0.0.1:10025\"\n",
            "\nnext_hop = \"smtp://127.0.0.1:10025\"\n[[listener]]\nrole = \"ingress\"\n\
             listen = \"127.0.0.1:2525\"\nprotocol = \"smtp\"\nnext_hop = \"smtp://x\"",
            "hoptrail.toml:15:",
            "listen",
        ),
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
fn the_readmes_deployment_is_good() {
    let readme = include_str!("../../README.md");
    let text = readme
        .split("```toml\n")
        .nth(1)
        .and_then(|t| t.split("```").next())
        .unwrap();
    let config = parse(text, "README.md").unwrap();
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

mod tls {
    use std::path::Path;

    use super::*;
    use crate::hop::tls::{ClientMode, ServerMode};

    /// The good configuration with one more line in its listener.
    fn with(line: &str) -> Result<Config, String> {
        parse(&format!("{GOOD}{line}\n"), "hoptrail.toml").map_err(|error| error.to_string())
    }

    /// A certificate and its key, in files.
    fn write_pair(directory: &Path, name: &str) -> (String, String) {
        let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
        let files = [
            (".pem", made.cert.pem()),
            (".key", made.signing_key.serialize_pem()),
        ];
        let [cert, key] = files.map(|(end, text)| {
            let path = directory.join(format!("{name}{end}"));
            std::fs::write(&path, text).unwrap();
            path.display().to_string()
        });
        (cert, key)
    }

    #[test]
    fn a_certificate_and_its_key_are_read() {
        let directory = tempfile::tempdir().unwrap();
        let (cert, key) = write_pair(directory.path(), "mx1.example.net");
        for (word, mode) in [
            ("starttls", ServerMode::Starttls),
            ("implicit", ServerMode::Implicit),
        ] {
            let line = format!("tls = {{ mode = '{word}', cert = '{cert}', key = '{key}' }}");
            let config = with(&line).unwrap();
            assert_eq!(config.listeners[0].tls.as_ref().unwrap().mode, mode);
        }
        assert!(with("").unwrap().listeners[0].tls.is_none());
    }

    #[test]
    fn certificates_of_no_use_are_mistakes_in_the_configuration() {
        let directory = tempfile::tempdir().unwrap();
        let (cert, key) = write_pair(directory.path(), "mx1.example.net");
        let (_, other) = write_pair(directory.path(), "mx2.example.net");
        let rubbish = directory.path().join("rubbish.pem");
        std::fs::write(
            &rubbish,
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        )
        .unwrap();
        let rubbish = rubbish.display().to_string();
        for (cert, key, names) in [
            (
                "/nowhere/cert.pem",
                key.as_str(),
                "tls.cert: /nowhere/cert.pem: No such file",
            ),
            (
                &cert,
                "/nowhere/key.pem",
                "tls.key: /nowhere/key.pem: No such file",
            ),
            (&key, &key, "no PEM certificate in it"),
            (&cert, &cert, "no PEM private key in it"),
            (
                &cert,
                &other,
                "mx2.example.net.key: not the key of the certificate in",
            ),
            (&rubbish, &key, "tls.cert: "),
        ] {
            let line = format!("tls = {{ mode = 'starttls', cert = '{cert}', key = '{key}' }}");
            let error = with(&line).unwrap_err();
            assert!(
                error.starts_with("hoptrail.toml:13: tls.") && error.contains(names),
                "{names}: {error}"
            );
        }
        for (table, names) in [
            ("{ mode = 'starttls', cert = '/x' }", "key"),
            ("{ mode = 'ssl', cert = '/x', key = '/x' }", "mode"),
            (
                "{ mode = 'starttls', cert = '/x', key = '/x', ciphers = 'x' }",
                "ciphers",
            ),
        ] {
            let error = with(&format!("tls = {table}")).unwrap_err();
            assert!(
                error.starts_with("hoptrail.toml:13:") && error.contains(names),
                "{error}"
            );
        }
    }

    #[test]
    fn a_next_hop_on_this_host_is_spoken_to_in_plaintext_any_other_opportunistically() {
        let mode = |next_hop: &str| {
            let text = GOOD.replace(
                "\nnext_hop = \"smtp://127.0.0.1:10025",
                &format!("\nnext_hop = \"{next_hop}"),
            );
            let listener = parse(&text, "x").unwrap().listeners.remove(0);
            let host = &listener.routes.fixed().unwrap().host;
            listener.next_hop_tls.towards(host).map(|tls| tls.mode)
        };
        for here in ["smtp://127.1.2.3", "smtp://[::1]:25", "smtp://localhost:25"] {
            assert_eq!(mode(here), None, "{here}");
        }
        for there in ["smtp://192.0.2.1", "smtp://mx.example.com:25"] {
            assert_eq!(mode(there), Some(ClientMode::Opportunistic), "{there}");
        }
    }

    #[test]
    fn what_a_next_hop_must_offer_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let (ca, _) = write_pair(directory.path(), "ca.example.net");
        let mode = |table: &str| {
            let config = with(&format!("next_hop_tls = {table}"))?;
            Ok::<_, String>(
                config.listeners[0]
                    .next_hop_tls
                    .towards("anywhere.example")
                    .map(|tls| tls.mode),
            )
        };
        assert_eq!(mode("{ mode = 'none' }"), Ok(None));
        assert_eq!(
            mode("{ mode = 'opportunistic' }"),
            Ok(Some(ClientMode::Opportunistic))
        );
        for (word, wanted) in [
            ("required", ClientMode::Required),
            ("implicit", ClientMode::Implicit),
        ] {
            let table = format!("{{ mode = '{word}', ca = '{ca}', name = 'mx.example.com' }}");
            assert_eq!(mode(&table), Ok(Some(wanted)));
        }
        for (table, names) in [
            (
                "{ mode = 'required', ca = '/nowhere/ca.pem' }",
                "next_hop_tls.ca: /nowhere",
            ),
            (
                "{ mode = 'opportunistic', name = 'x' }",
                "next_hop_tls.name: only \"required\" and \"implicit\" verify",
            ),
            ("{ mode = 'none', ca = '/x' }", "next_hop_tls.ca: only"),
            (
                "{ mode = 'required', name = 'a b' }",
                "next_hop_tls.name: \"a b\"",
            ),
            ("{ mode = 'dane' }", "mode"),
        ] {
            let error = mode(table).unwrap_err();
            assert!(
                error.starts_with("hoptrail.toml:13:") && error.contains(names),
                "{error}"
            );
        }
    }
}
