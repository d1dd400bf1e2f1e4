//! What the four MTAs say themselves of mail that hoptrail handed to them: each, without hoptrail, tells the sender that
//! one recipient was refused behind it. The timeline joins that to the trail, as the unproved word it is.

#![allow(clippy::expect_used)]

mod support;

use std::fs;

use support::dialogue::Dialogue;
use support::hoptrail::{Hoptrail, User};
use support::mail::{MESSAGE, Mail, wire};
use support::mta::{Mta, start_all};
use support::net::{self, NextHop};
use support::sink::{Script, Sink};
use support::{PATIENCE, wait_until};

const ID: &str = "trail+4711@origin.test";
const DOMAINS: [&str; 4] = ["p.test", "e.test", "o.test", "s.test"];

/// Takes everything but mail for bob, and does not know DSN: so its client has to tell what was relayed, too.
fn refusing() -> Script {
    Sink::smtp()
        .offer("8BITMIME")
        .always("RCPT TO:<bob@", "550 5.1.1 <bob>: no such user here")
}

#[test]
fn the_word_of_each_mta_is_joined_to_the_trail_and_proves_nothing() {
    let sinks = [(); 4].map(|()| refusing().start());
    let mut sink = sinks.iter();
    let setups = [
        Mta::postfix("mx.p.test"),
        Mta::exim("mx.e.test"),
        Mta::opensmtpd("mx.o.test"),
        Mta::sendmail("mx.s.test"),
    ];
    let bare = setups.map(|setup| setup.next_hop(sink.next().expect("a sink each").next_hop()));
    let bare = start_all(bare);
    let routes = DOMAINS.iter().zip(&bare);
    let routes: Vec<_> = routes
        .map(|(domain, mta)| format!("\"{domain}\" = \"smtp://{}\"", mta.address()))
        .collect();
    let (entrance, exit) = (net::address(), net::address());
    let mta = Mta::postfix("mx1.test")
        .next_hop(NextHop::Lmtp(exit))
        .start();
    let maildir = tempfile::tempdir().expect("a directory");
    let _hoptrail = Hoptrail::serve(&format!(
        "hostname = 'hop.test'\n\
         [reports]\nfrom = 'hoptrail@hop.test'\nvia = 'maildir:{}'\n\
         [[listener]]\nrole = 'ingress'\nlisten = '{entrance}'\nprotocol = 'smtp'\nnext_hop = 'smtp://{}'\n\
         [[listener]]\nrole = 'egress'\nlisten = '{exit}'\nprotocol = 'lmtp'\nnext_hop = 'mx'\nroutes = {{ {} }}\n",
        maildir.path().display(),
        mta.address(),
        routes.join(", "),
    ));
    let mut client = Dialogue::open(entrance);
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
    wait_until(PATIENCE, "a report", || {
        let mails = Mail::in_maildir(maildir.path());
        let told = mails.iter().any(|mail| mail.report().is_some());
        told.then_some(()).ok_or(format!("{mails:?}"))
    });
    // Beside carol's copy: one notice for both, or one for each.
    for (n, (sink, count)) in sinks.iter().zip([3, 3, 3, 2]).enumerate() {
        let seen = sink.wait_for(count);
        let notices = seen.iter().filter(|t| t.mail_from.contains("<>"));
        for (k, notice) in notices.enumerate() {
            let mail = String::from_utf8_lossy(&notice.data).replace("\r\n..", "\r\n.");
            let file = maildir.path().join(format!("new/notice.{n}.{k}"));
            fs::write(file, mail).expect("a file can be written");
        }
    }
    let user = User::stranger();
    let document = user.timeline_json(maildir.path(), ID);
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
    let output = user.timeline(maildir.path(), Some(ID));
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
