//! What the four MTAs say themselves of mail that hoptrail handed to them: each, without hoptrail, tells the sender that
//! one recipient was refused behind it. The timeline joins that to the trail, as the unproved word it is.

#![allow(clippy::expect_used)]

mod support;

use std::fs;

use support::dialogue::Dialogue;
use support::fan::{DOMAINS, Fan};
use support::hoptrail::User;
use support::mail::{MESSAGE, Mail, wire};
use support::sink::Sink;

const ID: &str = "trail+4711@origin.test";

#[test]
fn the_word_of_each_mta_is_joined_to_the_trail_and_proves_nothing() {
    // Takes everything but mail for bob, and does not know DSN: so its client has to tell what was relayed, too.
    let refusing = Sink::smtp()
        .offer("8BITMIME")
        .always("RCPT TO:<bob@", "550 5.1.1 <bob>: no such user here");
    let fan = Fan::before(&refusing);
    let maildir = fan.reports.path();
    let mut client = Dialogue::open(fan.entrance);
    client.command("EHLO client.test", "250");
    client.command(
        "MAIL FROM:<alice@origin.test> TRACK=NOW ENVID=trail+2B4711@origin.test",
        "250",
    );
    for domain in DOMAINS {
        for user in ["bob", "carol"] {
            let to = format!("{user}@{domain}");
            let rcpt = format!("RCPT TO:<{to}> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;{to}");
            client.command(&rcpt, "250");
        }
    }
    client.data(&wire(MESSAGE));
    client.expect("250");
    let told = Mail::wait_in_maildir(maildir, 1);
    assert!(told[0].report().is_some(), "{told:?}");
    // Beside carol's copy: one notice for both, or one for each.
    for (n, (sink, count)) in fan.sinks.iter().zip([3, 3, 3, 2]).enumerate() {
        let seen = sink.wait_for(count);
        let notices = seen.iter().filter(|t| t.mail_from.contains("<>"));
        for (k, notice) in notices.enumerate() {
            let mail = String::from_utf8_lossy(&notice.data).replace("\r\n..", "\r\n.");
            let file = maildir.join(format!("new/notice.{n}.{k}"));
            fs::write(file, mail).expect("a file can be written");
        }
    }
    let user = User::stranger();
    let document = user.timeline_json(maildir, ID);
    let message = &document["messages"][0];
    assert_eq!(message["outcome"], "open");
    let words = message["words"].as_array().expect("a list");
    let said = |address: &str| {
        let of = words.iter().filter(|word| word["address"] == address);
        of.map(|word| word["said"].as_str().expect("a word"))
            .collect::<Vec<_>>()
    };
    for domain in DOMAINS {
        assert_eq!(said(&format!("bob@{domain}")), ["failed"], "{words:#?}");
        // Exim calls delivered what it relayed.
        let relayed = if domain == "e.test" {
            "delivered"
        } else {
            "relayed"
        };
        assert_eq!(said(&format!("carol@{domain}")), [relayed], "{words:#?}");
    }
    let output = user.timeline(maildir, Some(ID));
    assert_eq!(
        output.status.code(),
        Some(1),
        "nobody proves that it failed"
    );
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let shown = text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        shown.starts_with("4 said to have failed (unproved), "),
        "{text}"
    );
    for domain in DOMAINS {
        let says = format!("says mx.{domain} (unproved)");
        assert_eq!(shown.matches(&says).count(), 2, "no {says} in {text}");
    }
}
