//! A hop whose MTA is the test: it takes a message off the ingress and hands it on, as an MTA would.

use std::net::SocketAddrV4;

use tempfile::TempDir;

use super::dialogue::Dialogue;
use super::hoptrail::Hoptrail;
use super::mail::{Mail, Report};
use super::net;
use super::sink::{Script, Sink, Transaction};
use super::{PATIENCE, wait_until};

/// Who sends everything.
pub const SENDER: &str = "alice@origin.test";
/// Her MAIL line.
pub const FROM: &str = "MAIL FROM:<alice@origin.test>";
/// The same if she asks.
pub const TRACKED: &str = "MAIL FROM:<alice@origin.test> TRACK=NOW ENVID=E1";
/// What a test sends.
pub const MESSAGE: &[u8] = b"Message-ID: <m1@origin.test>\r\nSubject: x\r\n\r\n.dot\r\nlast\r\n";

/// The hop, `mx1.test`: an ingress and one way out. The test is the MTA between.
pub struct Hop {
    pub hoptrail: Hoptrail,
    pub entrance: SocketAddrV4,
    pub exit: SocketAddrV4,
    pub mta: Sink,
    pub next: Sink,
    pub reports: TempDir,
}

impl Hop {
    /// An egress, to which the MTA speaks LMTP.
    pub fn egress(next: Script) -> Self {
        Self::with("egress", "lmtp", next)
    }

    /// `role` of the way out, and what the MTA speaks to it.
    pub fn with(role: &str, protocol: &str, next: Script) -> Self {
        Self::around(usual_mta(), role, protocol, next)
    }

    /// The same, where the ingress meets this one, which takes the message in the MTA's place.
    pub fn around(mta: Script, role: &str, protocol: &str, next: Script) -> Self {
        Self::start(mta, next, (role, protocol), &head(""), "")
    }

    /// An egress before a next hop that tracks, with more lines for the top of the configuration.
    pub fn tracking(next: Script, more: &str) -> Self {
        Self::between(usual_mta(), next.offer("TRACK NOW").offer("DSN"), more)
    }

    /// An egress behind this MTA.
    pub fn between(mta: Script, next: Script, more: &str) -> Self {
        Self::headed(mta, next, &head(more))
    }

    /// The same with a name and reports of its own: all of the configuration but where reports go, and the listeners.
    pub fn headed(mta: Script, next: Script, head: &str) -> Self {
        Self::start(mta, next, ("egress", "lmtp"), head, "")
    }

    /// An egress behind this MTA, and the next hop that mail to this domain goes to instead.
    pub fn parting(mta: Script, next: Script, domain: &str, other: Script) -> (Self, Sink) {
        let other = other.start();
        let way = format!("routes = {{ '{domain}' = '{}' }}", other.next_hop());
        let hop = Self::start(mta, next, ("egress", "lmtp"), &head(""), &way);
        (hop, other)
    }

    fn start(
        mta: Script,
        next: Script,
        (role, protocol): (&str, &str),
        head: &str,
        way_out: &str,
    ) -> Self {
        let (mta, next) = (mta.start(), next.start());
        let reports = tempfile::tempdir().expect("a temporary directory");
        let (entrance, exit) = (net::address(), net::address());
        let hoptrail = Hoptrail::serve(&format!(
            "{head}\nreports.via = 'maildir:{}'\n\
             [[listener]]\nrole = 'ingress'\nlisten = '{entrance}'\nprotocol = 'smtp'\nnext_hop = '{}'\n\
             [[listener]]\nrole = '{role}'\nlisten = '{exit}'\nprotocol = '{protocol}'\nnext_hop = '{}'\n{way_out}\n",
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

    /// Sends the message through the ingress; as the MTA gets it, dots stuffed.
    pub fn arrive(&self, mail: &str, to: &[&str]) -> Vec<u8> {
        self.arrive_with(mail, to, MESSAGE).data
    }

    /// Sends a message of the test's own; all that the MTA gets.
    pub fn arrive_with(&self, mail: &str, to: &[&str], message: &[u8]) -> Transaction {
        let rcpts: Vec<_> = to.iter().map(|to| format!("RCPT TO:<{to}>")).collect();
        self.arrive_as(mail, &rcpts, message)
    }

    /// The same with RCPT lines of the test's own.
    pub fn arrive_as(&self, mail: &str, rcpts: &[String], message: &[u8]) -> Transaction {
        let before = self.mta.transactions().len();
        let mut client = Dialogue::open(self.entrance);
        client.command("EHLO client.test", "250");
        client.command(mail, "250");
        // A crowd comes in groups, which the usual MTA offers to take: thousands of round trips prove no more.
        let together = if rcpts.len() > 100 { 100 } else { 1 };
        for group in rcpts.chunks(together) {
            client.send(group.join("\r\n") + "\r\n");
            for _ in group {
                client.expect("250");
            }
        }
        client.data(message);
        client.expect("250");
        self.mta.wait_for(before + 1).remove(before)
    }

    /// Hands a message (dots stuffed) to the way out by LMTP, under a trace field, as the MTA; the reply for each
    /// recipient.
    pub fn leave(&self, mail: &str, rcpts: &[&str], wire: &[u8]) -> Vec<String> {
        self.leave_as(mail, rcpts, &[b"Received: by mta.test\r\n", wire].concat())
    }

    /// The same, with nothing above it.
    pub fn leave_as(&self, mail: &str, rcpts: &[&str], wire: &[u8]) -> Vec<String> {
        let mut mta = self.hand_over(mail, rcpts, wire);
        let replies = rcpts.iter().map(|_| mta.reply().join("\n")).collect();
        mta.command("QUIT", "221");
        replies
    }

    /// The same, and the MTA has yet to hear the replies.
    pub fn hand_over(&self, mail: &str, rcpts: &[&str], wire: &[u8]) -> Dialogue {
        let mut mta = Dialogue::open(self.exit);
        mta.command("LHLO mta.test", "250");
        // All at once: a client that waits for each reply is given the last ones slowly.
        let envelope = std::iter::once(mail).chain(rcpts.iter().copied());
        mta.send(envelope.fold(String::new(), |all, line| all + line + "\r\n"));
        for _ in 0..=rcpts.len() {
            mta.expect("250");
        }
        mta.command("DATA", "354");
        mta.send([wire, b".\r\n"].concat());
        mta
    }

    /// Hands alice's message on; as the next hop gets it.
    pub fn pass_on(&self, to: &[&str], wire: &[u8]) -> Transaction {
        let before = self.next.transactions().len();
        let rcpts: Vec<_> = to.iter().map(|to| format!("RCPT TO:<{to}>")).collect();
        let rcpts: Vec<_> = rcpts.iter().map(String::as_str).collect();
        self.leave_as(FROM, &rcpts, wire);
        self.next.wait_for(before + 1).remove(before)
    }

    /// Hands a message to bob on in chunks; he gets it.
    pub fn leave_in_chunks(&self, chunks: &[&[u8]]) {
        let mut mta = Dialogue::open(self.exit);
        mta.command("LHLO mta.test", "250");
        mta.command(FROM, "250");
        mta.command("RCPT TO:<bob@dest.test>", "250");
        mta.chunks(chunks);
        mta.expect("250 2.0.0 ok, taken");
        mta.command("QUIT", "221");
    }

    /// What was mailed so far.
    pub fn mails(&self) -> Vec<Mail> {
        Mail::in_maildir(self.reports.path())
    }

    /// Waits until so much was mailed, and gives it; more than that is a failure.
    pub fn wait_for_mails(&self, count: usize) -> Vec<Mail> {
        Mail::wait_in_maildir(self.reports.path(), count)
    }

    /// The report of this step, when it is there.
    pub fn report_of(&self, step: &str) -> Report {
        wait_until(PATIENCE, "its report", || {
            let mails = self.mails();
            let mut reports = mails.iter().filter_map(Mail::report);
            let found = reports.find(|report| report.field("X-Hoptrail-Step") == step);
            found.ok_or_else(|| format!("not among {}", mails.len()))
        })
    }

    /// The only report, when it is there.
    pub fn report(&self) -> Report {
        let mails = self.wait_for_mails(1);
        mails[0].report().expect("a report")
    }

    /// Nothing was told: the first report is that of another message, behind which it would have come.
    pub fn no_report(&self) {
        let wire = self.arrive(&format!("{FROM} TRACK=NOW ENVID=next"), &["next@dest.test"]);
        self.pass_on(&["next@dest.test"], &wire);
        assert_eq!(self.report().field("Original-Envelope-Id"), "next");
    }
}

/// It numbers what it queues.
fn usual_mta() -> Script {
    Sink::smtp()
        .offer("DSN")
        .offer("PIPELINING")
        .offer("SIZE 100000000")
        .always("DOT", "250 2.0.0 Ok: queued as 4F1A2B3C")
}

fn head(more: &str) -> String {
    format!("hostname = 'mx1.test'\n{more}\nreports.from = 'hoptrail@mx1.test'")
}
