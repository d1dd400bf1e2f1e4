//! Ways out for reports that can never work.

use super::*;

#[test]
fn reports_do_not_go_where_a_proxy_header_is_awaited() {
    let text = |via: &str, next_hop: &str, how: &str| {
        let listener = format!("\nnext_hop = \"smtp://{next_hop}\"\nclient_address = \"{how}\"");
        GOOD.replace("\nnext_hop = \"smtp://127.0.0.1:10025\"", &listener)
            .replace(
                "via = \"smtp://127.0.0.1:10025\"",
                &format!("via = \"{via}\""),
            )
    };
    for (via, next_hop, how) in [
        ("smtp://127.0.0.1:10025", "127.0.0.1:10025", "proxy-v1"),
        ("smtp://LocalHost:10025", "127.0.0.1:10025", "proxy-v2"),
        ("lmtp://[::1]:10025", "localhost:10025", "proxy-v2"),
        ("smtps://MTA.test:10025", "mta.test:10025", "proxy-v1"),
    ] {
        let message = parse(&text(via, next_hop, how), "hoptrail.toml").unwrap_err();
        let message = message.to_string();
        assert!(
            message.starts_with("hoptrail.toml:6: reports.via: ") && message.contains("sendmail:"),
            "{via}: {message}"
        );
    }
    for (via, how) in [
        ("smtp://127.0.0.1:10025", "none"),
        ("smtp://127.0.0.1:10025", "xclient"),
        ("smtp://127.0.0.1:10025", "xforward"),
        ("smtp://127.0.0.1:10024", "proxy-v1"),
        ("smtp://127.0.0.2:10025", "proxy-v1"),
        ("sendmail:/bin/sh", "proxy-v1"),
    ] {
        let good = parse(&text(via, "127.0.0.1:10025", how), "x");
        assert!(good.is_ok(), "{via} {how}: {good:?}");
    }
}

#[test]
fn a_sendmail_that_cannot_be_run_is_named() {
    for program in ["/nowhere/sendmail", "/etc/passwd", "/bin"] {
        let message = error(
            "smtp://127.0.0.1:10025\"\n\n",
            &format!("sendmail:{program}\"\n\n"),
        );
        assert!(
            message.starts_with("hoptrail.toml:6: reports.via: ") && message.contains(program),
            "{message}"
        );
    }
}
