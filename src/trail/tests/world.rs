//! A small world: hops with clocks, a message that travels between them, a mailbox for the reports.

use std::fs;

use jiff::tz::TimeZone;

use crate::report::{Mailing, Received, write};
use crate::track::{
    Event, Exchange, HopReport, RecipientStatus, Role, Secret, Stage, StepId, TrackingId,
};
use crate::trail::assemble::assemble;
use crate::trail::render::View;
use crate::trail::{Trails, load};

/// Mon, 23 Nov 2026 16:05:08.900 UTC, when the message is sent.
pub const SENT_MS: u64 = 1_795_449_908_900;
pub const START_US: i64 = 1_795_449_909_000_000;

pub fn secret() -> Secret {
    Secret::new([42; 32])
}

pub fn view() -> View {
    View {
        now_us: START_US + 600_000_000,
        zone: TimeZone::posix("CET-1").unwrap(),
        width: Some(80),
        colours: true,
    }
}

/// An SMTP session as one side stamps it: five exchanges, `step_us` apart, the last ends at `end_us`.
fn session(end_us: i64, step_us: i64, shrink_us: i64, clock_us: i64) -> Vec<Exchange> {
    (0..)
        .zip(Stage::ALL)
        .map(|(n, stage)| {
            let reply_us = end_us - (4 - n) * step_us;
            Exchange {
                stage,
                command_us: reply_us - step_us / 2 + shrink_us + clock_us,
                reply_us: reply_us - shrink_us + clock_us,
            }
        })
        .collect()
}

/// What the client side and the server side of a session stamp, whose last reply is back at `end_us`
/// (true time); each way takes 300 µs.
pub fn client(end_us: i64, clock_us: i64) -> Vec<Exchange> {
    session(end_us, 2000, 0, clock_us)
}
pub fn server(end_us: i64, clock_us: i64) -> Vec<Exchange> {
    session(end_us, 2000, 300, clock_us)
}

/// A departure: hop `hop` at `host` got the message in a session ending at `came_ms` and offered it to
/// `next` in one ending at `went_ms`, in ms after the start.
pub struct Leg {
    pub hop: u8,
    pub host: &'static str,
    pub next: &'static str,
    pub came_ms: i64,
    pub went_ms: i64,
    pub clock_us: i64,
}

impl Leg {
    /// The report of this leg.
    pub fn report(&self, step: u64, parent: Option<u64>, fates: &[(&str, Event)]) -> HopReport {
        let at = |ms: i64| START_US + ms * 1000;
        let delivered = fates.iter().any(|(_, e)| *e == Event::Delivered);
        let recipients = fates.iter().map(|(address, event)| {
            self.recipient(address, *event, at(self.went_ms) + self.clock_us)
        });
        HopReport {
            id: TrackingId::new("7f3a91c2@mail.example.org").unwrap(),
            step: StepId(step),
            parent: parent.map(StepId),
            hop: self.hop,
            role: if delivered {
                Role::Delivery
            } else {
                Role::Egress
            },
            reporting_mta: self.host.into(),
            arrival_us: at(self.came_ms) + self.clock_us - 2000,
            message_id: Some("m1@example.org".to_owned()),
            sent_ms: Some(SENT_MS),
            queue_id: Some(format!("4F00{}", self.hop).into()),
            size: Some(2048),
            came_for: None,
            filtered_us: None,
            ring: Vec::new(),
            tls_in: None,
            tls_out: None,
            times_in: server(at(self.came_ms), self.clock_us),
            times_out: client(at(self.went_ms), self.clock_us),
            recipients: recipients.collect(),
        }
    }

    fn recipient(&self, address: &str, event: Event, at_us: i64) -> RecipientStatus {
        let (status, reply) = match event {
            Event::Delayed => (
                "4.7.1",
                "451 4.7.1 Greylisted, please come back in five minutes",
            ),
            Event::Failed => ("5.1.1", "550 5.1.1 <dave@example.net>: no such user here"),
            Event::Looped => ("4.4.6", "250 2.0.0 Ok: queued as 4F7A21C0"),
            Event::Relayed => ("2.1.9", "250 2.0.0 Ok: queued as 4F7A21C0"),
            Event::Delivered => ("2.0.0", "250 2.0.0 <bob@example.net> Saved"),
            _ => ("2.0.0", "250 2.0.0 Ok: queued as 4F7A21C0"),
        };
        RecipientStatus {
            original: address.into(),
            recipient: address.into(),
            event,
            status: status.parse().unwrap(),
            remote_mta: Some(self.next.into()),
            attempted_us: Some(at_us),
            reply: Some(reply.to_owned()),
            remote_queue_id: None,
        }
    }
}

pub const HOP1: Leg = Leg {
    hop: 1,
    host: "mx1.example.org",
    next: "mx2.example.com",
    came_ms: 120,
    went_ms: 480,
    clock_us: 0,
};
/// Five seconds ahead.
pub const HOP2: Leg = Leg {
    hop: 2,
    host: "mx2.example.com",
    next: "mx3.example.net",
    came_ms: 480,
    went_ms: 2730,
    clock_us: 5_000_000,
};
pub const HOP3: Leg = Leg {
    hop: 3,
    host: "mx3.example.net",
    next: "store.example.net",
    came_ms: 2730,
    went_ms: 2850,
    clock_us: -40_000,
};

/// Three hops to the mailbox.
pub fn three_hops(recipients: &[&str]) -> Vec<HopReport> {
    let all = |event| recipients.iter().map(|r| (*r, event)).collect::<Vec<_>>();
    vec![
        HOP1.report(1, None, &all(Event::Transferred)),
        HOP2.report(2, Some(1), &all(Event::Transferred)),
        HOP3.report(3, Some(2), &all(Event::Delivered)),
    ]
}

/// Mails each report, keyed by whoever `signer` is, and reads the mailbox with `reader`'s secret.
pub fn read_by(reports: &[HopReport], signer: Option<&Secret>, reader: Option<&Secret>) -> Trails {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("new")).unwrap();
    fs::create_dir(dir.path().join("cur")).unwrap();
    fs::write(
        dir.path().join("cur/0:2,S"),
        "Subject: other mail\r\n\r\nhello\r\n",
    )
    .unwrap();
    // In the wrong order: order is the reader's work.
    for (n, report) in reports.iter().rev().enumerate() {
        let id = report.message_id.as_deref().unwrap_or_default();
        let key = signer.map(|s| s.certificate(id, report.sent_ms.unwrap_or_default()));
        let mailing = Mailing {
            from: "hoptrail@example.net",
            to: "alice@example.org",
            date_us: START_US,
            certificate: key.as_ref(),
            received: None,
            boundary: "b0f6f1d2c3a4958677",
        };
        fs::write(dir.path().join(format!("new/{n}")), write(report, &mailing)).unwrap();
    }
    load(dir.path(), reader).unwrap()
}

/// Reports of this user's own mail, read by this user.
pub fn read(reports: &[HopReport]) -> Trails {
    read_by(reports, Some(&secret()), Some(&secret()))
}

/// Reports as a reader without a secret takes them, not even in normal form.
pub fn unread(reports: Vec<HopReport>) -> Trails {
    Trails {
        messages: assemble(received(reports).collect(), None).0,
        ..Trails::default()
    }
}

/// Reports as they come out of mails that bear no key.
pub fn received(reports: Vec<HopReport>) -> impl Iterator<Item = Received> {
    reports.into_iter().map(|report| Received {
        report: report.into(),
        others: vec![],
        auth: None,
        canonical: String::new(),
        from: None,
        to: None,
        trace: vec![],
    })
}
