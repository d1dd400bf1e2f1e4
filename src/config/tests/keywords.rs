//! Keywords of the MTA that nobody can vouch for.

use super::*;

/// The listener's line with these words.
fn listed(words: &str) -> String {
    format!("protocol = \"smtp\"\nsafe_keywords = [{words}]")
}

#[test]
fn what_hoptrail_handles_itself_or_has_to_hide_is_named() {
    for (keyword, cure) in [
        ("STARTTLS", "see tls; leave it out"),
        ("starttls", "see tls"),
        ("AUTH", "shown by itself"),
        ("Track", "hoptrail's own"),
        ("XCLIENT", "not safe"),
        ("XFORWARD", "not safe"),
        ("PROXY", "not safe"),
        ("ATRN", "not safe"),
        ("REQUIRETLS", "not safe"),
        ("CHUNKING", "leave it out"),
        ("PIPELINING", "leave it out"),
        ("mtrk", "leave it out"),
        ("X Y", "one word of letters"),
        ("AUTH=LOGIN", "one word of letters"),
        ("X_Y", "one word of letters"),
        ("-X", "one word of letters"),
        ("", "one word of letters"),
        ("XFOO\\r\\n250 TRACK", "one word of letters"),
    ] {
        let message = error(
            "protocol = \"smtp\"",
            &listed(&format!("\"XBAR\", \"{keyword}\"")),
        );
        assert!(
            message.starts_with("hoptrail.toml:12: safe_keywords: ") && message.contains(cure),
            "{keyword}: {message}"
        );
    }
}

#[test]
fn others_are_taken_as_they_are_written() {
    let text = GOOD.replace(
        "protocol = \"smtp\"",
        &listed("\"XFOO\", \"x-bar\", \"8X\""),
    );
    let config = parse(&text, "x").unwrap();
    assert_eq!(config.listeners[0].safe_keywords, ["XFOO", "x-bar", "8X"]);
}
