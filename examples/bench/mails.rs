//! A Maildir full of reports, such as a sender has who tracks every message: three hops each, the second of which
//! is put off once.

use std::fs;
use std::path::Path;

use anyhow::Result;
use hoptrail::report::{Mailing, write};
use hoptrail::track::{
    Event, Exchange, HopReport, RecipientStatus, Role, Secret, Security, Stage, Status, StepId,
    TrackingId,
};

/// Reports of one message.
pub const REPORTS: usize = 4;

/// The octets of the secret that proves them.
pub const SECRET: [u8; 32] = [42; 32];

/// Mon, 23 Nov 2026 16:05:09 UTC.
const NOON_US: i64 = 1_795_449_909_000_000;

/// Between two messages.
const PAUSE_US: i64 = 1_700_000;

/// Writes the reports `from..to`, each a file of its own in `cur`.
pub fn fill(maildir: &Path, from: usize, to: usize) -> Result<()> {
    let secret = Secret::new(SECRET);
    for folder in ["new", "cur", "tmp"] {
        fs::create_dir_all(maildir.join(folder))?;
    }
    for n in from..to {
        let report = report(n);
        let id = report.message_id.as_deref().unwrap_or_default();
        let certificate = secret.certificate(id, report.sent_ms.unwrap_or_default());
        let mail = write(
            &report,
            &Mailing {
                from: "hoptrail@gateway.example.net",
                to: "alice@origin.example",
                date_us: report.arrival_us + 2_000_000,
                certificate: Some(&certificate),
                received: None,
                boundary: &format!("b{:016x}{:016x}", random(n + 1), random(n + 2)),
            },
        );
        let (s, us) = (report.arrival_us / 1_000_000, report.arrival_us % 1_000_000);
        let size = mail.len();
        let name = format!("cur/{s}.M{us}P{n}.mail.origin.example,S={size},W={size}:2,S");
        fs::write(maildir.join(name), mail)?;
    }
    Ok(())
}

/// What looks like chance, and is the same every time.
fn random(n: usize) -> u64 {
    let x = (n as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb)
}

/// The report `n` of all: a hop's report on the message `n / REPORTS`.
fn report(n: usize) -> HopReport {
    let (message, step) = (n / REPORTS, n % REPORTS);
    let (hop, host, next, came_ms, went_ms, event) = match step {
        0 => (
            1,
            "mail.origin.example",
            "gateway.example.net",
            15,
            323,
            Event::Transferred,
        ),
        1 => (
            2,
            "gateway.example.net",
            "mx.dest.example",
            323,
            900,
            Event::Delayed,
        ),
        2 => (
            2,
            "gateway.example.net",
            "mx.dest.example",
            323,
            61_239,
            Event::Transferred,
        ),
        _ => (
            3,
            "mx.dest.example",
            "store.dest.example",
            61_239,
            61_444,
            Event::Delivered,
        ),
    };
    let sent_us = NOON_US + i64::try_from(message).unwrap_or_default() * PAUSE_US;
    // Each on a clock of its own.
    let at = |ms: i64| {
        sent_us + ms * 1000 + i64::from(hop) * 40_000 + i64::from(random(n).to_le_bytes()[0])
    };
    // The first hop is not told of by another; what a hop reports again it got from the same.
    let before = message * REPORTS + [0, 0, 0, 2][step];
    let queue_id = |n| format!("{:010X}", random(n) >> 24);
    HopReport {
        id: TrackingId::mint(u128::from(random(message)) << 64 | u128::from(random(message + 7))),
        step: StepId(random(n)),
        parent: (step > 0).then(|| StepId(random(before))),
        hop,
        role: if step == 3 {
            Role::Delivery
        } else {
            Role::Egress
        },
        reporting_mta: host.to_owned().into(),
        arrival_us: at(came_ms),
        message_id: Some(format!(
            "{:016x}.{:08x}@mail.origin.example",
            random(message + 3),
            message
        )),
        sent_ms: u64::try_from(sent_us / 1000).ok(),
        queue_id: Some(queue_id(message * 3 + usize::from(hop)).into()),
        size: Some(2048 + random(message) % 4096),
        came_for: None,
        filtered_us: None,
        ring: Vec::new(),
        times_in: exchanges(at(came_ms) - 9000, 150),
        times_out: exchanges(at(went_ms) - 9000, 600),
        tls_in: Some(tls(step > 0)),
        tls_out: Some(tls(true)),
        recipients: vec![recipient(
            message,
            next,
            event,
            at(went_ms),
            &queue_id(message * 3 + usize::from(hop) + 1),
        )],
    }
}

fn recipient(
    message: usize,
    next: &str,
    event: Event,
    at_us: i64,
    queue_id: &str,
) -> RecipientStatus {
    let delayed = event == Event::Delayed;
    let address = format!("user{}@dest.example", random(message) % 5000);
    let reply = if delayed {
        format!("451 4.7.1 <{address}>: Recipient address rejected: Greylisted")
    } else {
        format!("250 2.0.0 Ok: queued as {queue_id}")
    };
    RecipientStatus {
        original: address.clone().into(),
        recipient: address.into(),
        event,
        status: Status::of_class(if delayed { 4 } else { 2 }),
        remote_mta: Some(next.to_owned().into()),
        attempted_us: Some(at_us + 400),
        reply: Some(reply),
        remote_queue_id: (!delayed).then(|| queue_id.into()),
    }
}

fn exchanges(from_us: i64, took_us: i64) -> Vec<Exchange> {
    let exchange = |(n, stage): (i64, Stage)| Exchange {
        stage,
        command_us: from_us + n * 2000,
        reply_us: from_us + n * 2000 + took_us,
    };
    (0..).zip(Stage::ALL).map(exchange).collect()
}

fn tls(verified: bool) -> Security {
    Security::Tls {
        version: "1.3".into(),
        cipher: "TLS_AES_256_GCM_SHA384".into(),
        verified,
    }
}
