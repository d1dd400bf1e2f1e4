//! Each mistake is named by file, line and key, and says what is wanted.
#![allow(clippy::unwrap_used)]

use super::*;

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
            "hoptrail.toml:5:",
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
            "127.0.0.1:2525",
            "127.0.0.1:0",
            "hoptrail.toml:10:",
            "listen: a port from 1",
        ),
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
            "[policy]\nallow = [\"dmarc\"]\n[reports]",
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
fn numbers_that_make_no_sense_are_named() {
    for (table, key, wrong) in [
        ("limits", "sessions_max", &[0, -1, 1_000_001][..]),
        ("limits", "sessions_per_client_max", &[-1]),
        ("limits", "command_octets_max", &[0, 511, 1 << 30]),
        ("limits", "auth_octets_max", &[511]),
        ("limits", "reply_octets_max", &[511, 1 << 30]),
        ("limits", "header_octets_max", &[0, 1 << 30]),
        ("limits", "recipients_max", &[0]),
        ("limits", "bad_commands_max", &[-1, 1 << 32]),
        ("policy", "trusted_reports_per_hour_max", &[-1, 1 << 32]),
        ("policy", "verified_reports_per_hour_max", &[-1, 1 << 32]),
        ("timeouts", "connect_s", &[0, -1, 604_801]),
        ("timeouts", "proxy_header_s", &[0, 604_801]),
        ("timeouts", "handshake_s", &[0, 604_801]),
        ("timeouts", "client_s", &[0, 604_801]),
        ("timeouts", "session_s", &[0, 604_801]),
        ("timeouts", "reply_s", &[0, 604_801]),
        ("timeouts", "open_s", &[0, 604_801]),
        ("timeouts", "final_reply_s", &[0, 604_801]),
        ("timeouts", "write_s", &[0, 604_801]),
        ("timeouts", "store_ms", &[0, 604_800_001]),
        ("timeouts", "verify_ms", &[0, 604_800_001]),
        ("timeouts", "drain_s", &[0, i64::MAX]),
    ] {
        for number in wrong {
            let message = error(
                "[reports]",
                &format!("[{table}]\n{key} = {number}\n[reports]"),
            );
            assert!(
                message.starts_with("hoptrail.toml:5: ")
                    && message.contains(&format!("{key} = {number}")),
                "{message}"
            );
        }
    }
    for (key, number) in [
        ("retention_days", 0),
        ("retention_days", 3651),
        ("held_after_minutes", 14401),
    ] {
        let message = error("[reports]", &format!("[reports]\n{key} = {number}"));
        assert!(
            message.starts_with("hoptrail.toml:5: ") && message.contains(key),
            "{message}"
        );
    }
}

#[test]
fn what_is_wanted_is_said_in_plain_words() {
    let limit = |line: &str| error("[reports]", &format!("[limits]\n{line}\n[reports]"));
    let rule = "role = \"ingress\"\ntrack = [{ one_in = 0 }]";
    for (message, wanted) in [
        (
            error("127.0.0.1:2525", "localhost:2525"),
            "an IP address and a port",
        ),
        (
            limit("sessions_max = \"many\""),
            "expected a whole number (at",
        ),
        (limit("bad_commands_max = -1"), "whole number, 0 or more"),
        (
            limit("sessions_per_client_max = \"x\""),
            "whole number, 0 or more",
        ),
        (error("role = \"ingress\"", rule), "whole number, 1 or more"),
    ] {
        assert!(message.contains(wanted), "{message}");
    }
}

/// Of what is missing no line of the file is to blame, but its table may be.
#[test]
fn what_is_missing_is_named_where_it_is_missing() {
    for (from, to, begins) in [
        (
            "state_dir = \"/var/lib/hoptrail\"\n",
            "",
            "hoptrail.toml: state_dir: missing, ",
        ),
        (
            "[reports]\nfrom = \"hoptrail@mx1.example.net\"\nvia = \"smtp://127.0.0.1:10025\"\n",
            "",
            "hoptrail.toml: reports: missing, ",
        ),
        (
            "from = \"hoptrail@mx1.example.net\"\n",
            "",
            "hoptrail.toml:4: from: missing, ",
        ),
        (
            "listen = \"127.0.0.1:2525\"\n",
            "",
            "hoptrail.toml:8: listen: missing, ",
        ),
        (
            "protocol = \"smtp\"",
            "protocol = \"smtp\"\ntls = { mode = \"starttls\", cert = \"/x\" }",
            "hoptrail.toml:12: key: missing, ",
        ),
    ] {
        let message = error(from, to);
        assert!(message.starts_with(begins), "{begins}: {message}");
    }
    let none = GOOD.split("[[listener]]").next().unwrap();
    let message = parse(none, "hoptrail.toml").unwrap_err().to_string();
    assert!(
        message.starts_with("hoptrail.toml:8: listener: "),
        "{message}"
    );
    let empty = parse("", "hoptrail.toml").unwrap_err().to_string();
    assert!(empty.starts_with("hoptrail.toml: state_dir: "), "{empty}");
}

#[test]
fn values_of_a_wrong_type_are_named_by_their_key_and_what_is_wanted() {
    for (from, to, message) in [
        (
            "role = \"ingress\"",
            "role = 7",
            "9: role: expected a word in quotes (at: role = 7)",
        ),
        (
            "listen = \"127.0.0.1:2525\"",
            "listen = 25",
            "10: listen: invalid type: integer `25`, expected an IP address and a port in quotes",
        ),
        (
            "state_dir = \"/var/lib/hoptrail\"",
            "state_dir = 3",
            "2: state_dir: invalid type: integer `3`, expected a path in quotes",
        ),
        (
            "[reports]",
            "[policy]\nallow = \"all\"\n[reports]",
            "5: allow: invalid type: string \"all\", expected a list",
        ),
        (
            "protocol = \"smtp\"",
            "tls = { mode = 3 }",
            "11: tls: expected a word in quotes",
        ),
    ] {
        let said = error(from, to);
        assert!(
            said.starts_with(&format!("hoptrail.toml:{message}")),
            "{said}"
        );
    }
}
