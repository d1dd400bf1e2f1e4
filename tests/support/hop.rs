//! A hop whose MTA is the test: it takes a message off the ingress and hands it on, as an MTA would.

use std::net::SocketAddrV4;

use super::dialogue::Dialogue;
use super::hoptrail::Hoptrail;
use super::mail::{Mail, Report};
use super::net;
use super::sink::{Script, Sink};

/// The MAIL line of one who asks.
pub const TRACKED: &str = "MAIL FROM:<alice@origin.test> TRACK=NOW ENVID=E1";
/// What a test sends.
pub const MESSAGE: &[u8] = b"Message-ID: <m1@origin.test>\r\nSubject: x\r\n\r\n.dot\r\nlast\r\n";

/// A hop of ingress and one way out. The test is the MTA between.
pub struct Hop {
    pub hoptrail: Hoptrail,
    pub entrance: SocketAddrV4,
    pub exit: SocketAddrV4,
    pub mta: Sink,
    pub next: Sink,
    pub reports: tempfile::TempDir,
}

impl Hop {
    /// `role` of the way out, and what clients speak to it.
    pub fn with(role: &str, protocol: &str, next: Script) -> Self {
        let mta = Sink::smtp()
            .offer("DSN")
            .offer("PIPELINING")
            .always("DOT", "250 2.0.0 Ok: queued as 4F1A2B3C");
        Self::around(mta, role, protocol, next)
    }

    /// The same, where the ingress meets this one, which takes the message in the MTA's place.
    pub fn around(mta: Script, role: &str, protocol: &str, next: Script) -> Self {
        let (mta, next) = (mta.start(), next.start());
        let reports = tempfile::tempdir().expect("a temporary directory");
        let (entrance, exit) = (net::address(), net::address());
        let hoptrail = Hoptrail::serve(&format!(
            "hostname = 'mx1.test'\n\
             [reports]\nfrom = 'hoptrail@mx1.test'\nvia = 'maildir:{}'\n\
             [[listener]]\nrole = 'ingress'\nlisten = '{entrance}'\nprotocol = 'smtp'\nnext_hop = '{}'\n\
             [[listener]]\nrole = '{role}'\nlisten = '{exit}'\nprotocol = '{protocol}'\nnext_hop = '{}'\n",
            reports.path().display(),
            mta.next_hop(),
            next.next_hop(),
        ));
        Self {
            hoptrail,
            entrance,
            exit,
            mta,
            next,
            reports,
        }
    }

    pub fn egress(next: Script) -> Self {
        Self::with("egress", "lmtp", next)
    }

    /// Sends a tracked message through the ingress; returns it as the MTA got it.
    pub fn arrive(&self, mail: &str, to: &[&str]) -> Vec<u8> {
        let mut client = Dialogue::open(self.entrance);
        client.command("EHLO client.test", "250");
        client.command(mail, "250");
        for rcpt in to {
            client.command(&format!("RCPT TO:<{rcpt}>"), "250");
        }
        let before = self.mta.transactions().len();
        client.data(MESSAGE);
        client.expect("250");
        self.mta.wait_for(before + 1)[before].data.clone()
    }

    /// Hands a message (dots stuffed) to the way out by LMTP, as the MTA; the reply for each recipient.
    pub fn leave(&self, mail: &str, rcpts: &[&str], wire: &[u8]) -> Vec<String> {
        let mut mta = Dialogue::open(self.exit);
        mta.command("LHLO mta.test", "250");
        mta.command(mail, "250");
        for rcpt in rcpts {
            mta.command(rcpt, "250");
        }
        mta.command("DATA", "354");
        mta.send([b"Received: by mta.test\r\n", wire, b".\r\n"].concat());
        let replies = rcpts.iter().map(|_| mta.reply().join("\n")).collect();
        mta.command("QUIT", "221");
        replies
    }

    /// The same in chunks, to bob alone, who gets it.
    pub fn leave_in_chunks(&self, chunks: &[&[u8]]) {
        let mut mta = Dialogue::open(self.exit);
        mta.command("LHLO mta.test", "250");
        mta.command("MAIL FROM:<alice@origin.test>", "250");
        mta.command("RCPT TO:<bob@dest.test>", "250");
        mta.chunks(chunks);
        mta.expect("250 2.0.0 ok, taken");
        mta.command("QUIT", "221");
    }

    pub fn report_of(&self, step: &str) -> Report {
        super::wait_until(super::PATIENCE, "its report", || {
            let mails = Mail::in_maildir(self.reports.path());
            let mut reports = mails.iter().filter_map(Mail::report);
            let found = reports.find(|report| report.field("X-Hoptrail-Step") == step);
            found.ok_or_else(|| format!("not among {}", mails.len()))
        })
    }

    pub fn report(&self) -> Report {
        super::wait_until(super::PATIENCE, "a report", || {
            let mails = Mail::in_maildir(self.reports.path());
            mails
                .last()
                .and_then(Mail::report)
                .ok_or_else(|| "none".to_owned())
        })
    }

    pub fn no_report(&self) {
        std::thread::sleep(std::time::Duration::from_millis(300));
        assert!(Mail::in_maildir(self.reports.path()).is_empty());
    }
}
