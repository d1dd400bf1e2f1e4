//! A hop whose MTA the test plays, in front of a next hop that tracks.

use std::net::SocketAddrV4;

use tempfile::TempDir;

use super::dialogue::Dialogue;
use super::hop_config::HopConfig;
use super::hoptrail::Hoptrail;
use super::mail::Mail;
use super::net;
use super::sink::{Script, Sink, Transaction};
use super::{PATIENCE, wait_until};

/// Who sends everything.
pub const SENDER: &str = "alice@origin.test";

/// The hop, `mx1.test`, with all that stands around it.
pub struct Played {
    pub hoptrail: Hoptrail,
    pub entrance: SocketAddrV4,
    pub exit: SocketAddrV4,
    pub mta: Sink,
    pub next: Sink,
    reports: TempDir,
}

impl Played {
    /// In front of a next hop that says yes to everything.
    pub fn start() -> Self {
        Self::before(Sink::smtp(), "")
    }

    /// In front of this next hop, with more lines at the top of the configuration.
    pub fn before(next: Script, more: &str) -> Self {
        let mta = Sink::smtp().offer("DSN").offer("SIZE 100000000").start();
        let next = next.offer("TRACK NOW").offer("DSN").start();
        let (entrance, exit) = (net::address(), net::address());
        let reports = tempfile::tempdir().expect("a temporary directory");
        let place = HopConfig {
            hostname: "mx1.test",
            mta: mta.address(),
            ingress: entrance,
            departure: exit,
            departure_role: "egress",
            onward: next.next_hop(),
            home: next.next_hop(),
            via: format!("maildir:{}", reports.path().display()),
        };
        Self {
            hoptrail: Hoptrail::serve(&format!("{more}\n{}", place.text())),
            entrance,
            exit,
            mta,
            next,
            reports,
        }
    }

    /// A message comes whose MAIL has these parameters; as the MTA gets it, dots stuffed.
    pub fn arrive(&self, parameters: &str, to: &[&str], message: &[u8]) -> Vec<u8> {
        let rcpts: Vec<_> = to.iter().map(|to| format!("<{to}>")).collect();
        self.arrive_as(parameters, &rcpts, message)
    }

    /// The same, with what stands behind RCPT TO: as it is.
    pub fn arrive_as(&self, parameters: &str, rcpts: &[String], message: &[u8]) -> Vec<u8> {
        let before = self.mta.transactions().len();
        let mut client = Dialogue::open(self.entrance);
        client.command("EHLO client.test", "250");
        client.command(&format!("MAIL FROM:<{SENDER}> {parameters}"), "250");
        for rcpt in rcpts {
            client.command(&format!("RCPT TO:{rcpt}"), "250");
        }
        client.data(message);
        client.expect("250");
        self.mta.wait_for(before + 1).remove(before).data
    }

    /// The MTA hands a message on, dots stuffed; as the next hop gets it.
    pub fn leave(&self, to: &[&str], data: &[u8]) -> Transaction {
        let before = self.next.transactions().len();
        let mut mta = Dialogue::open(self.exit);
        mta.command("LHLO mta.test", "250");
        // All at once: a client that waits for each reply is given the last ones slowly.
        let rcpts = to.iter().map(|to| format!("RCPT TO:<{to}>\r\n"));
        let mail = std::iter::once(format!("MAIL FROM:<{SENDER}>\r\n"));
        mta.send(mail.chain(rcpts).collect::<Vec<_>>().concat());
        for _ in 0..=to.len() {
            mta.expect("250");
        }
        mta.command("DATA", "354");
        mta.send([data, b".\r\n"].concat());
        for _ in to {
            mta.reply();
        }
        self.next.wait_for(before + 1).remove(before)
    }

    /// The reports so far.
    pub fn reports(&self) -> Vec<Mail> {
        Mail::in_maildir(self.reports.path())
    }

    /// Where they lie.
    pub fn maildir(&self) -> &std::path::Path {
        self.reports.path()
    }

    /// Waits until there are so many, and gives them.
    pub fn wait_for_reports(&self, count: usize) -> Vec<Mail> {
        wait_until(PATIENCE, "reports", || {
            let reports = self.reports();
            if reports.len() >= count {
                Ok(reports)
            } else {
                Err(format!("{} reports", reports.len()))
            }
        })
    }
}
