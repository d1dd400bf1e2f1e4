//! Reports made by hand, and generated ones.

use compact_str::CompactString;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use crate::report::Mailing;
use crate::track::{
    Certificate, Event, Exchange, HopReport, RecipientStatus, Role, Security, Stage, Status,
    StepId, TrackingId,
};

/// Mon, 23 Nov 2026 16:05:09 UTC.
pub const NOON_US: i64 = 1_795_449_909_000_000;

pub fn mailing(certificate: Option<&Certificate>) -> Mailing<'_> {
    Mailing {
        from: "hoptrail@mx1.example.net",
        to: "alice@example.org",
        date_us: NOON_US + 2_000_000,
        certificate,
        received: None,
        boundary: "b0f6f1d2c3a4958677",
    }
}

fn exchanges(from_us: i64) -> Vec<Exchange> {
    (0..)
        .zip(Stage::ALL)
        .map(|(n, stage)| Exchange {
            stage,
            command_us: from_us + n * 1000,
            reply_us: from_us + n * 1000 + 400,
        })
        .collect()
}

pub fn recipient(address: &str, event: Event) -> RecipientStatus {
    let (status, reply) = match event {
        Event::Delayed => (
            "4.7.1",
            "451 4.7.1 Greylisted, please come back in five minutes",
        ),
        Event::Failed => ("5.1.1", "550 5.1.1 No such user here"),
        Event::Looped => ("4.4.6", "250 2.0.0 Ok: queued as 4F7A21C0"),
        Event::Relayed => ("2.1.9", "250 2.0.0 Ok: queued as 4F7A21C0"),
        _ => ("2.0.0", "250 2.0.0 Ok: queued as 4F7A21C0"),
    };
    let attempted = event != Event::Held;
    RecipientStatus {
        original: address.into(),
        recipient: address.into(),
        event,
        status: status.parse().unwrap(),
        remote_mta: attempted.then(|| "mx2.example.net".into()),
        attempted_us: attempted.then_some(NOON_US + 1_000_000),
        reply: attempted.then(|| reply.to_owned()),
        remote_queue_id: (status.starts_with('2') && attempted).then(|| "4F7A21C0".into()),
    }
}

pub fn tls(verified: bool) -> Security {
    Security::Tls {
        version: "1.3".into(),
        cipher: "TLS_AES_256_GCM_SHA384".into(),
        verified,
    }
}

pub fn report(recipients: Vec<RecipientStatus>) -> HopReport {
    HopReport {
        id: TrackingId::new("7f3a91c2@mail.example.org").unwrap(),
        step: StepId(0x1122_3344_5566_7788),
        parent: Some(StepId(0xa1a2)),
        hop: 2,
        role: Role::Egress,
        reporting_mta: "mx1.example.net".into(),
        arrival_us: NOON_US,
        message_id: Some("m1@example.org".to_owned()),
        sent_ms: Some(1_795_449_908_000),
        queue_id: Some("3B9C1".into()),
        size: Some(2048),
        came_for: None,
        filtered_us: None,
        ring: Vec::new(),
        tls_in: Some(Security::Plain),
        tls_out: Some(tls(true)),
        times_in: exchanges(NOON_US),
        times_out: exchanges(NOON_US + 900_000),
        recipients,
    }
}

/// Text as a stranger may send it: anything, with a liking for line ends and MIME boundaries.
pub fn hostile_text() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[ -~]{0,60}",
        2 => any::<String>(),
        2 => "( {1,3}|[a-z();:\\\\\"=+<>-]{1,30}|\r\n|\r\n\r\n--b0f6f1d2c3a4958677|\u{1b}\\[2J|ö|\u{202e}){0,60}",
        1 => "[a-z]{900,1200}",
    ]
}

/// The same, where mostly names stand.
fn hostile_name() -> impl Strategy<Value = CompactString> {
    hostile_text().prop_map(CompactString::from)
}

prop_compose! {
    fn exchange()(stage in proptest::sample::select(Stage::ALL.to_vec()),
                  command_us in any::<i64>(), reply_us in any::<i64>()) -> Exchange {
        Exchange { stage, command_us, reply_us }
    }
}

fn security() -> impl Strategy<Value = Security> {
    let tls = (hostile_text(), hostile_text(), any::<bool>());
    let tls = tls.prop_map(|(version, cipher, verified)| Security::Tls {
        version: version.into(),
        cipher: cipher.into(),
        verified,
    });
    prop_oneof![
        Just(Security::Plain),
        any::<bool>().prop_map(self::tls),
        tls
    ]
}

prop_compose! {
    fn recipient_status()(
        original in hostile_name(), recipient in hostile_name(),
        event in proptest::sample::select(Event::ALL.to_vec()),
        class in prop_oneof![Just(2u8), Just(4), Just(5), any::<u8>()],
        subject in 0u16..1200, detail in 0u16..1200,
        remote_mta in option::of(hostile_name()), attempted_us in option::of(any::<i64>()),
        reply in option::of(hostile_text()), remote_queue_id in option::of(hostile_name()),
    ) -> RecipientStatus {
        RecipientStatus { original, recipient, event, status: Status { class, subject, detail },
            remote_mta, attempted_us, reply, remote_queue_id }
    }
}

prop_compose! {
    /// Any report a hop could be brought to make, before it is in normal form.
    pub fn any_report()(
        id in "[!-~]([ -~]{0,98}[!-~])?", (step, parent) in any::<(u64, Option<u64>)>(),
        (hop, arrival_us) in any::<(u8, i64)>(),
        role in proptest::sample::select(vec![Role::Ingress, Role::Egress, Role::Delivery]),
        reporting_mta in hostile_name(), message_id in option::of(hostile_text()),
        (sent_ms, size, came_for, filtered_us)
            in any::<(Option<u64>, Option<u64>, Option<usize>, Option<i64>)>(),
        ring in vec(hostile_text(), 0..3),
        queue_id in option::of(hostile_name()),
        times_in in vec(exchange(), 0..20), times_out in vec(exchange(), 0..6),
        (tls_in, tls_out) in (option::of(security()), option::of(security())),
        recipients in vec(recipient_status(), 1..5),
    ) -> HopReport {
        HopReport { id: TrackingId::new(&id).unwrap(), step: StepId(step), parent: parent.map(StepId),
            hop, role, reporting_mta, arrival_us, message_id, sent_ms, queue_id, size,
            came_for, filtered_us, ring, times_in, times_out, tls_in, tls_out, recipients }
    }
}
