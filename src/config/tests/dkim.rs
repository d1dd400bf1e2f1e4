//! The keys that sign reports.
#![allow(clippy::unwrap_used)]

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use super::*;
use crate::report::sign::generate_ed25519;

/// The good configuration with one more line in `[reports]`, its sixth.
fn with(line: &str) -> Result<Config, String> {
    let text = GOOD.replacen("\n[[listener]]", &format!("{line}\n[[listener]]"), 1);
    parse(&text, "hoptrail.toml").map_err(|error| error.to_string())
}

/// A key file for its owner alone.
fn write(directory: &Path, name: &str, text: &str) -> String {
    let path = directory.join(name);
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    path.display().to_string()
}

fn rsa(args: &[&str]) -> String {
    let made = Command::new("openssl").args(args).output().unwrap();
    assert!(made.status.success(), "{made:?}");
    String::from_utf8(made.stdout).unwrap()
}

fn table(key: &str) -> String {
    format!("{{ domain = 'example.net', selector = 'mx1', key = '{key}' }}")
}

#[test]
fn one_key_or_one_of_each_kind() {
    let directory = tempfile::tempdir().unwrap();
    let ed25519 = write(directory.path(), "ed25519.pem", &generate_ed25519([7; 32]));
    let rsa = write(
        directory.path(),
        "rsa.pem",
        &rsa(&["genrsa", "-traditional", "2048"]),
    );
    let names = |line: &str| {
        let dkim = with(line).unwrap().reports.dkim;
        let each = dkim
            .iter()
            .map(|s| format!("{s:?} {}", s.key().algorithm()));
        each.collect::<Vec<_>>()
    };
    let (ed25519, rsa) = (table(&ed25519), table(&rsa));
    assert_eq!(
        names(&format!("dkim = {ed25519}")),
        ["mx1._domainkey.example.net Ed25519"]
    );
    assert_eq!(
        names(&format!("dkim = [{rsa}, {ed25519}]")),
        [
            "mx1._domainkey.example.net RSA",
            "mx1._domainkey.example.net Ed25519"
        ]
    );
    assert!(names("").is_empty());
    for lines in [
        format!("dkim = [{rsa}, {rsa}]"),
        format!("dkim = [{rsa}, {ed25519}, {rsa}]"),
    ] {
        let error = with(&lines).unwrap_err();
        assert!(
            error.starts_with("hoptrail.toml:7: reports.dkim: at most two"),
            "{error}"
        );
    }
}

#[test]
fn keys_of_no_use_are_mistakes_in_the_configuration() {
    let directory = tempfile::tempdir().unwrap();
    let good = generate_ed25519([7; 32]);
    let good = write(directory.path(), "good.pem", &good);
    let open = write(directory.path(), "open.pem", &generate_ed25519([7; 32]));
    std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o640)).unwrap();
    let small = write(directory.path(), "small.pem", &rsa(&["genrsa", "1024"]));
    let ec = rcgen::KeyPair::generate().unwrap().serialize_pem();
    let ec = write(directory.path(), "ec.pem", &ec);
    let none = write(directory.path(), "none.pem", "no key");
    for (table, names) in [
        (
            table("/nowhere/key.pem"),
            "dkim.key: /nowhere/key.pem: No such file",
        ),
        (table(&open), "chmod 600"),
        (table(&small), "small.pem: DKIM needs an RSA key of 2048"),
        (table(&ec), "ec.pem: DKIM needs an RSA key"),
        (table(&none), "none.pem: no PEM private key in it"),
        (
            table(&good).replace("'example.net'", "'example.org'"),
            "dkim.domain: must be mx1.example.net, the host in reports.from, or a domain above it",
        ),
        (
            table(&good).replace("'example.net'", "'ample.net'"),
            "dkim.domain: must be",
        ),
        (
            table(&good).replace("'mx1'", "'mx 1'"),
            "dkim.selector: must be of letters",
        ),
        (
            table(&good).replace("selector", "select"),
            "unknown field `select`",
        ),
        (
            "'mx1'".to_owned(),
            "a table { domain, selector, key } or a list",
        ),
    ] {
        let error = with(&format!("dkim = {table}")).unwrap_err();
        assert!(
            error.starts_with("hoptrail.toml:7: ") && error.contains(names),
            "{names}: {error}"
        );
        let error = with(&format!("dkim = [{table}]")).unwrap_err();
        assert!(error.starts_with("hoptrail.toml:7: "), "{names}: {error}");
    }
}
