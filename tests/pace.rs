//! When a client that pipelines hears of its commands: of each as soon as the MTA has answered it and not the next at
//! once, for a client waits for a reply only so long; and of those answered together in one go.

#![allow(clippy::expect_used)]

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddrV4, TcpListener, TcpStream};

use support::PATIENCE;
use support::dialogue::Dialogue;
use support::hoptrail::Hoptrail;
use support::ingress::Ingress;
use support::net;
use support::sink::Sink;

/// An MTA whose every word the test says itself.
struct Mta(BufReader<TcpStream>);

impl Mta {
    fn accept(listener: &TcpListener) -> Self {
        let (stream, _) = listener.accept().expect("hoptrail connects");
        stream
            .set_read_timeout(Some(PATIENCE))
            .expect("a socket can be set up");
        let mut mta = Self(BufReader::new(stream));
        mta.say("220 mta.test");
        mta
    }

    fn hear(&mut self, command: &str) {
        let mut line = String::new();
        self.0.read_line(&mut line).expect("a command");
        assert!(line.starts_with(command), "{line:?} is no {command}");
    }

    fn say(&mut self, reply: &str) {
        let line = format!("{reply}\r\n");
        self.0
            .get_mut()
            .write_all(line.as_bytes())
            .expect("hoptrail reads");
    }
}

/// An ingress before an MTA that the test plays.
fn ingress() -> (Hoptrail, SocketAddrV4, TcpListener, tempfile::TempDir) {
    let (entrance, mta) = (net::address(), net::address());
    let listener = TcpListener::bind(mta).expect("the address is free");
    let reports = tempfile::tempdir().expect("a temporary directory");
    let hoptrail = Hoptrail::serve(&format!(
        "hostname = 'mx1.test'\n\
         [reports]\nfrom = 'hoptrail@mx1.test'\nvia = 'maildir:{}'\n\
         [[listener]]\nrole = 'ingress'\nlisten = '{entrance}'\nprotocol = 'smtp'\nnext_hop = 'smtp://{mta}'\n",
        reports.path().display(),
    ));
    // Whoever looked whether it listens made it connect.
    drop(Mta::accept(&listener));
    (hoptrail, entrance, listener, reports)
}

#[test]
fn a_reply_does_not_wait_for_those_to_the_rest_of_its_group() {
    let (_hoptrail, entrance, listener, _reports) = ingress();
    for track in ["", " TRACK=NOW"] {
        let mut client = Dialogue::connect(entrance);
        let mut mta = Mta::accept(&listener);
        client.expect("220");
        client.send("EHLO client.test\r\n");
        mta.hear("EHLO");
        mta.say("250-mta.test\r\n250 PIPELINING");
        client.expect("250");
        client.send(format!(
            "MAIL FROM:<alice@origin.test>{track}\r\nRCPT TO:<bob@dest.test>\r\n\
             RCPT TO:<carol@dest.test>\r\nNOOP\r\nDATA\r\n"
        ));
        for (command, reply) in [
            ("MAIL", "250 2.1.0 sender"),
            ("RCPT", "550 5.1.1 bob"),
            ("RCPT", "250 2.1.5 carol"),
            ("NOOP", "250 2.0.0 nothing"),
            ("DATA", "354 go"),
        ] {
            mta.hear(command);
            mta.say(reply);
            // The next command is with the MTA by now, and not answered before this is heard.
            client.expect(reply);
        }
        client.send("Subject: x\r\n\r\ntext\r\n.\r\nNOOP\r\n");
        let mut line = String::new();
        while line != ".\r\n" {
            line.clear();
            mta.0.read_line(&mut line).expect("the message");
        }
        mta.say("250 2.0.0 queued");
        client.expect("250 2.0.0 queued");
        mta.hear("NOOP");
        mta.say("250 2.0.0 nothing");
        client.expect("250 2.0.0 nothing");
    }
}

#[test]
fn replies_that_come_at_once_leave_together() {
    const GROUPS: usize = 20;
    let hop = Ingress::before(Sink::smtp().offer("PIPELINING"));
    let mut client = hop.client();
    client.command("EHLO client.test", "250");
    let whole = (0..GROUPS).filter(|_| {
        client.send(
            "MAIL FROM:<alice@origin.test>\r\nRCPT TO:<bob@dest.test>\r\n\
             RCPT TO:<carol@dest.test>\r\nRSET\r\n",
        );
        let replies = b"250 2.0.0 ok\r\n".repeat(4);
        let mut heard = vec![0; replies.len()];
        let first = client.socket().read(&mut heard).expect("replies");
        let rest = client.socket().read_exact(&mut heard[first..]);
        rest.expect("all replies");
        assert_eq!(heard, replies);
        first == replies.len()
    });
    // Somebody may have been kept from the processor for a while.
    let whole = whole.count();
    assert!(whole >= GROUPS / 2, "{whole} of {GROUPS} in one piece");
}
