//! The `tls` and `next_hop_tls` tables.
#![allow(clippy::unwrap_used)]

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
        (
            "{ mode = 'starttls', cert = '/x', key = '/x', auth_in_clear = 'yes' }",
            "boolean",
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
