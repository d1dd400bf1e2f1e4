//! Who may ask, and what they are told.

use super::*;

#[test]
fn the_organisation_is_the_hosts_domain_unless_named() {
    for (hostname, organisation) in [
        ("mx1.example.net", "example.net"),
        ("mx1.mail.example.net", "mail.example.net"),
        ("example.net", "example.net"),
        ("localhost", "localhost"),
    ] {
        let config = parse(
            &GOOD.replace("mx1.example.net\"", &format!("{hostname}\"")),
            "x",
        );
        assert_eq!(config.unwrap().organisation, organisation);
    }
    let named = format!("organisation = \"example.com\"\n{GOOD}");
    assert_eq!(parse(&named, "x").unwrap().organisation, "example.com");
    let message = error("hostname", "organisation = \"Example Ltd\"\nhostname");
    assert!(
        message.starts_with("hoptrail.toml:1: organisation:"),
        "{message}"
    );
}

#[test]
fn what_is_told_has_three_words() {
    for wrong in [
        "\"all\"",
        "true",
        "{ strangers = \"full\" }",
        "{ verified = \"x\" }",
    ] {
        let message = error(
            "[reports]",
            &format!("[policy]\ndisclose = {wrong}\n[reports]"),
        );
        assert!(
            message.starts_with("hoptrail.toml:5: ") && message.contains("disclose"),
            "{message}"
        );
    }
}

#[test]
fn strangers_are_an_ingress_matter() {
    let role = "role = \"ingress\"";
    for grant in ["spf", "dkim"] {
        let policy = format!("policy = {{ allow = [\"{grant}\"] }}");
        let ingress = GOOD.replace(role, &format!("{role}\n{policy}"));
        let listener = parse(&ingress, "x").unwrap().listeners.remove(0);
        assert!(listener.policy.allows_strangers());
        let message = error(role, &format!("role = \"egress\"\n{policy}"));
        assert!(
            message.starts_with("hoptrail.toml:10: policy.allow:"),
            "{message}"
        );
    }
    // The policy of all listeners may say so; it is the ingress that hears it.
    let all = GOOD.replace(role, "role = \"egress\"") + "[policy]\nallow = [\"spf\"]";
    assert!(parse(&all, "x").is_ok());
}

#[test]
fn what_a_listeners_policy_leaves_out_is_as_elsewhere() {
    let policy = |all: &str, own: &str| {
        let text = GOOD.replace("[reports]", &format!("{all}\n[reports]"));
        let config = parse(&format!("{text}{own}\n"), "x").unwrap();
        config.listeners.into_iter().next().unwrap().policy
    };
    let all = "[policy]\nallow = [\"192.0.2.0/24\"]\ntrusted_reports_per_hour_max = 7";
    let own = "policy = { allow = [\"spf\"], verified_reports_per_hour_max = 0 }";
    let counted = |policy: &Policy| {
        [Asker::Authenticated, Asker::Carry, Asker::Verified]
            .map(|asker| policy.reports_per_hour_max(asker))
    };
    let usual = policy("", "");
    assert_eq!(counted(&usual), [1000, 1000, 60]);
    assert!(usual.allows_authenticated());
    let mixed = policy(all, own);
    assert_eq!(counted(&mixed), [7, 7, 0]);
    assert_eq!(mixed.allow, [Grant::Spf]);
    // Budgets alone change nothing about who may ask.
    let counts = policy("[policy]\nverified_reports_per_hour_max = 1", "");
    assert_eq!(counts.allow, usual.allow);
}
