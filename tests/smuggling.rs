//! SMTP smuggling behind real MTAs: in front of each stands an ingress, and a message carries what somebody, somewhere,
//! has taken for the end of data, followed by a transaction of its own. One message arrives, or none; never two. None
//! does where DATA is refused, and its text comes all the same.

#![allow(clippy::expect_used)]

mod support;

use std::fmt::Write;
use std::net::SocketAddrV4;

use support::dialogue::Dialogue;
use support::hoptrail::Hoptrail;
use support::mta::{Mta, Setup};
use support::net;
use support::sink::Sink;

/// The published false ends of data; whatever is lax somewhere takes one of them for CR LF dot CR LF.
const ENDS: [&str; 12] = [
    "\n.\n",
    "\n.\r",
    "\r.\n",
    "\r.\r",
    "\n.\r\n",
    "\r.\r\n",
    "\r\n.\n",
    "\r\n.\r",
    "\r\n\0.\r\n",
    "\r\n.\0\r\n",
    "\r\n.\r\r\n",
    "\r\r\n.\r\r\n",
];

/// Who sends the message in the message.
const FORGED: &str = "admin@dest.test";

/// A message to this recipient with a transaction in it that a false end would set free.
fn message(end: &str, recipient: &str) -> String {
    format!(
        "Subject: x\r\n\r\nfirst{end}MAIL FROM:<{FORGED}>\r\nRCPT TO:<{recipient}>\r\nDATA\r\n\
         Subject: faked\r\n\r\nsecond\r\n"
    )
}

/// What is refused where a message is for nobody, as are all but the first for anybody.
const REFUSED: [&str; 6] = ["DATA", "data now", "DATA\t", " Data", "DATA:", "DATA\0"];

/// No chunk can be counted here, so what comes behind it is not known for text or commands.
const UNCOUNTED: [&str; 4] = ["BDAT 99x", "BDAT\t99 LAST", " bdat 99 LAST", "BDAT\0 99"];

/// A message whose DATA or BDAT is refused, with its text right behind that; there, too, is a transaction.
fn send_refused(to: SocketAddrV4, data: &str, recipient: &str) -> Said {
    let mut client = Dialogue::open(to);
    client.command("EHLO client.test", "250");
    client.command("MAIL FROM:<alice@origin.test>", "250");
    client.send(format!(
        "{data}\r\nSubject: x\r\n\r\nfirst\r\nRSET\r\nMAIL FROM:<{FORGED}>\r\nRCPT TO:<{recipient}>\r\n\
         BDAT 18 LAST\r\nSubject: faked\r\n\r\n.\r\n"
    ));
    said(client)
}

/// What was said to a message: the MTA's word on it, and whatever came behind that. Nobody asked for anything more.
struct Said {
    verdict: String,
    more: String,
}

fn send(to: SocketAddrV4, end: &str, recipient: &str) -> Said {
    let mut client = ready(to, recipient);
    client.command("DATA", "354");
    client.send(format!("{}.\r\n", message(end, recipient)));
    said(client)
}

/// The same in one chunk, where the octets are just octets; `None` where chunks are not offered.
fn send_chunk(to: SocketAddrV4, end: &str, recipient: &str) -> Option<Said> {
    let mut client = ready(to, recipient);
    if !client.transcript().contains("CHUNKING") {
        return None;
    }
    let text = message(end, recipient);
    client.send(format!("BDAT {} LAST\r\n{text}", text.len()));
    Some(said(client))
}

fn said(mut client: Dialogue) -> Said {
    client.half_close();
    Said {
        verdict: client.reply().join("\n"),
        more: client.rest(),
    }
}

fn ready(to: SocketAddrV4, recipient: &str) -> Dialogue {
    let mut client = Dialogue::open(to);
    client.command("EHLO client.test", "250");
    client.command("MAIL FROM:<alice@origin.test>", "250");
    client.command(&format!("RCPT TO:<{recipient}>"), "250");
    client
}

/// Every way through hoptrail to the MTA, by name.
fn ways() -> Vec<(String, SocketAddrV4)> {
    let roles = ["ingress", "egress"].into_iter();
    let ways =
        roles.flat_map(|role| ["normalize", "reject"].map(|policy| format!("{role}-{policy}")));
    ways.map(|name| (name, net::address())).collect()
}

fn serve(ways: &[(String, SocketAddrV4)], mta: &Mta) -> Hoptrail {
    let mut config = "hostname = 'mx1.test'\n[reports]\nfrom = 'hoptrail@mx1.test'\nvia = 'maildir:/nonexistent'\n".to_owned();
    for (name, listen) in ways {
        let (role, policy) = name.split_once('-').expect("two words");
        let _ = write!(
            config,
            "[[listener]]\nrole = '{role}'\nlisten = '{listen}'\nprotocol = 'smtp'\nnext_hop = 'smtp://{}'\nbare_newline = '{policy}'\n",
            mta.address()
        );
    }
    Hoptrail::serve(&config)
}

fn nothing_is_smuggled(mta: Setup) {
    let sink = Sink::smtp().offer("8BITMIME").start();
    let mta = mta.next_hop(sink.next_hop()).start();
    let ways = ways();
    let _hoptrail = serve(&ways, &mta);
    let mut taken = Vec::new();
    for (name, entrance) in &ways {
        let too_long = format!("DATA {}", "x".repeat(20_000));
        for data in REFUSED.into_iter().chain([&too_long[..]]) {
            let Said { verdict, more } = send_refused(*entrance, data, "bob@dest.test");
            assert!(verdict.starts_with('5'), "{name}, {data}: {verdict}");
            let alone = more.lines().count() == 1;
            assert!(
                more.starts_with("554 5.5.0") && alone,
                "{name}, {data}: {more}"
            );
        }
        let too_long = format!("BDAT {}", "9".repeat(20_000));
        for bdat in UNCOUNTED.into_iter().chain([&too_long[..]]) {
            let Said { verdict, more } = send_refused(*entrance, bdat, "bob@dest.test");
            assert!(
                verdict.starts_with("501 5.5.4"),
                "{name}, {bdat}: {verdict}"
            );
            assert_eq!(more, "", "{name}, {bdat}");
        }
        for (number, end) in ENDS.iter().enumerate() {
            let (text, chunk) = (
                format!("{number}.{name}.text@dest.test"),
                format!("{number}.{name}.chunk@dest.test"),
            );
            let said = send(*entrance, end, &text);
            let lone = end.replace("\r\n", "").contains(['\r', '\n']);
            let refused = name.ends_with("reject") && lone;
            assert_eq!(
                said.verdict.starts_with("550 5.5.2"),
                refused,
                "{text}: {}",
                said.verdict
            );
            for (to, said) in [
                (text, Some(said)),
                (chunk.clone(), send_chunk(*entrance, end, &chunk)),
            ] {
                let Some(said) = said else { continue };
                assert_eq!(said.more, "", "{to}");
                if said.verdict.starts_with('2') {
                    taken.push(to);
                }
            }
        }
    }
    let mut seen = Vec::new();
    for message in sink.wait_for(taken.len()) {
        assert!(!message.mail_from.contains(FORGED), "{message:?}");
        let line = message.recipients.concat();
        let to = line.split(['<', '>']).nth(1).unwrap_or_default();
        seen.push(to.to_owned());
    }
    for all in [&mut seen, &mut taken] {
        all.sort();
    }
    assert_eq!(seen, taken);
}

/// The attack is one: without hoptrail, and as lax as it was by default for years, Postfix takes the bait.
#[test]
fn without_us_a_lax_postfix_takes_two_messages_for_one() {
    let sink = Sink::smtp().offer("8BITMIME").start();
    let mta = Mta::postfix("mta.test")
        .next_hop(sink.next_hop())
        .setting("smtpd_forbid_bare_newline = no")
        .start();
    let said = send(mta.address(), "\n.\n", "bob@dest.test");
    assert!(said.more.contains("queued as"), "{}", said.more);
    let senders = sink.wait_for(2).into_iter().map(|seen| seen.mail_from);
    assert!(senders.into_iter().any(|line| line.contains(FORGED)));
}

#[test]
fn nothing_is_smuggled_behind_postfix() {
    nothing_is_smuggled(Mta::postfix("mta.test").setting("smtpd_forbid_bare_newline = no"));
}

#[test]
fn nothing_is_smuggled_behind_exim() {
    nothing_is_smuggled(Mta::exim("mta.test"));
}

#[test]
fn nothing_is_smuggled_behind_opensmtpd() {
    nothing_is_smuggled(Mta::opensmtpd("mta.test"));
}

#[test]
fn nothing_is_smuggled_behind_sendmail() {
    nothing_is_smuggled(Mta::sendmail("mta.test"));
}
