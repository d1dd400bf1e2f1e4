//! The TRACK parameter: what is a request, what is not, and what the next hop is told.
#![allow(clippy::unwrap_used)]

use super::*;
use proptest::prelude::*;

const B: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";

fn parse(value: &str) -> Result<TrackRequest, RequestError> {
    TrackRequest::parse(value.as_bytes())
}

#[test]
fn now_alone_is_a_request() {
    for value in ["NOW", "now", "Now"] {
        assert_eq!(parse(value), Ok(TrackRequest::default()));
    }
    assert_eq!(TrackRequest::default().to_value(), "NOW");
}

#[test]
fn every_attribute_is_read_and_written_in_one_order() {
    let value = format!(
        "now:TTL/60:x-Y/Z_.:max/9:T/1795478400000:Via/AAAAAAAAAAEAAAAAAAAAAg:up/00000000000000ff:HOP/1:Id/m1@:c256/{B}"
    );
    assert_eq!(
        parse(&value),
        Err(RequestError::Malformed(8)),
        "@ is no value"
    );
    let request = parse(&value.replace('@', "")).unwrap();
    assert_eq!(
        request.to_value(),
        format!(
            "NOW:c256/{B}:id/m1:hop/1:up/00000000000000ff:via/AAAAAAAAAAEAAAAAAAAAAg:t/1795478400000:max/9:ttl/60:x-Y/Z_."
        )
    );
    assert_eq!(request.to_string(), request.to_value());
    assert_eq!(request.certificate, Certificate::parse(B));
    assert_eq!(request.up, Some(StepId(255)));
    assert_eq!(request.via, [StepId(1), StepId(2)]);
    let passed: Vec<_> = request.passed().map(|step| step.0).collect();
    assert_eq!(passed, [255, 2, 1]);
    assert_eq!(
        (request.hop, request.max, request.ttl_s),
        (1, Some(9), Some(60))
    );
    assert_eq!(request.others, [("x-Y".to_owned(), "Z_.".to_owned())]);
}

/// Both lines of the vector stand in the module's documentation.
#[test]
fn the_published_vector_holds() {
    let documented = include_str!("../request.rs");
    let found = |start: &str| {
        let line = documented.lines().find_map(|line| line.strip_prefix(start));
        line.unwrap_or_else(|| panic!("no {start}"))
    };
    let came = parse(found("//! MAIL FROM:<alice@example.org> TRACK=")).unwrap();
    let goes = came
        .for_next_hop(StepId(0x1122_3344_5566_7788), 10)
        .unwrap();
    assert_eq!(goes.to_value(), found("//! TRACK="));
    let mut request = parse("NOW:hop/1:up/1122334455667788").unwrap();
    for step in [0x0123_4567_89ab_cdef, 0x8899_aabb_ccdd_eeff] {
        request = request.for_next_hop(StepId(step), 0).unwrap();
    }
    assert_eq!(
        request.to_value(),
        ["NOW:hop/3", found("//! TRACK=NOW:hop/3")].concat()
    );
}

#[test]
fn what_is_refused_is_named() {
    for (value, message) in [
        ("", "TRACK needs a value"),
        (":hop/1", "TRACK needs a value"),
        ("LATER", "TRACK knows only the mode NOW"),
        ("NOW/1", "TRACK knows only the mode NOW"),
        ("NOW:", "TRACK attribute number 1 is not name/value"),
        ("NOW:hop/1:", "TRACK attribute number 2 is not name/value"),
        ("NOW:hop", "TRACK attribute number 1 is not name/value"),
        ("NOW:/1", "TRACK attribute number 1 is not name/value"),
        ("NOW:a/", "TRACK attribute number 1 is not name/value"),
        ("NOW:a/b/c", "TRACK attribute number 1 is not name/value"),
        ("NOW:1a/b", "TRACK attribute number 1 is not name/value"),
        (
            "NOW:abcdefghi/b",
            "TRACK attribute number 1 is not name/value",
        ),
        ("NOW:a/b+c", "TRACK attribute number 1 is not name/value"),
        ("NOW:a/\u{e9}", "TRACK attribute number 1 is not name/value"),
        ("NOW:hop/1:HOP/1", "TRACK attribute HOP stands twice"),
        ("NOW:x/1:X/2", "TRACK attribute X stands twice"),
        ("NOW:hop/256", "TRACK attribute hop has a wrong value"),
        ("NOW:hop/01", "TRACK attribute hop has a wrong value"),
        ("NOW:hop/-1", "TRACK attribute hop has a wrong value"),
        ("NOW:max/0", "TRACK attribute max has a wrong value"),
        ("NOW:max/256", "TRACK attribute max has a wrong value"),
        ("NOW:ttl/0", "TRACK attribute ttl has a wrong value"),
        (
            "NOW:ttl/1000000000",
            "TRACK attribute ttl has a wrong value",
        ),
        ("NOW:t/1.5", "TRACK attribute t has a wrong value"),
        (
            "NOW:t/18446744073709551616",
            "TRACK attribute t has a wrong value",
        ),
        ("NOW:up/ff", "TRACK attribute up has a wrong value"),
        ("NOW:via/AAAA", "TRACK attribute via has a wrong value"),
        (
            "NOW:via/AAAAAAAAAAF",
            "TRACK attribute via has a wrong value",
        ),
        (
            "NOW:up/00000000000000FF",
            "TRACK attribute up has a wrong value",
        ),
        ("NOW:c256/abc", "TRACK attribute c256 has a wrong value"),
        // The last character holds spare bits.
        (
            "NOW:c256/AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh9",
            "TRACK attribute c256 has a wrong value",
        ),
    ] {
        let error = parse(value).unwrap_err();
        assert_eq!(error.to_string(), message, "{value}");
    }
}

#[test]
fn the_limits_are_kept() {
    let (name, value) = ("a".repeat(8), "b".repeat(64));
    assert!(parse(&format!("NOW:{name}/{value}")).is_ok());
    assert_eq!(
        parse(&format!("NOW:{name}/{value}b")),
        Err(RequestError::Malformed(1))
    );
    let full = longest();
    assert_eq!(full.len() + "TRACK=".len(), PARAMETER_OCTETS_MAX);
    assert!(parse(&full).is_ok());
    assert_eq!(parse(&format!("{full}b")), Err(RequestError::TooLong));
}

/// Seven unknown attributes, just short enough.
fn longest() -> String {
    let names = [
        "aaaaaaa1", "aaaaaaa2", "aaaaaaa3", "aaaaaaa4", "aaaaaaa5", "aaaaaaa6",
    ];
    let value = "b".repeat(64);
    let attributes = names.map(|name| format!("{name}/{value}")).join(":");
    let short = format!("NOW:{attributes}:z/");
    let room = PARAMETER_OCTETS_MAX - "TRACK=".len() - short.len();
    short + &"c".repeat(room)
}

#[test]
fn a_hop_adds_its_step_and_never_makes_the_parameter_too_long() {
    let mut request = parse(&longest()).unwrap();
    assert_eq!(request.to_value(), longest());
    request.others[6].1.push('c');
    assert_eq!(
        parse(&request.to_value()).unwrap().others,
        request.others[..6]
    );
    let next = request.for_next_hop(StepId(7), 0).unwrap();
    let value = next.to_value();
    assert!(value.starts_with("NOW:hop/1:up/0000000000000007:"));
    let read = parse(&value).unwrap();
    assert_eq!(read.others[..], request.others[..read.others.len()]);
    assert!(read.others.len() < request.others.len());
}

#[test]
fn the_last_steps_are_remembered() {
    let mut request = TrackRequest::default();
    for step in 1..=9 {
        let sent = request.for_next_hop(StepId(step), 0).unwrap();
        request = parse(&sent.to_value()).unwrap();
    }
    let passed: Vec<_> = request.passed().map(|step| step.0).collect();
    assert_eq!(passed, [9, 8, 7, 6, 5, 4, 3]);
    // A hop that tells nothing hands its parent on.
    let silent = request.for_next_hop(StepId(10), 0).unwrap();
    let silent = TrackRequest {
        up: request.up,
        ..silent
    };
    let next = silent.for_next_hop(StepId(11), 0).unwrap();
    assert_eq!(next.via.iter().filter(|step| step.0 == 9).count(), 1);
}

#[test]
fn time_runs_out() {
    let request = parse("NOW:ttl/60:hop/255").unwrap();
    let next = request.for_next_hop(StepId(1), 59).unwrap();
    assert_eq!(
        (next.ttl_s, next.hop, next.up),
        (Some(1), 255, Some(StepId(1)))
    );
    assert_eq!(request.for_next_hop(StepId(1), 60), None);
    assert_eq!(request.for_next_hop(StepId(1), u64::MAX), None);
    let endless = TrackRequest::default().for_next_hop(StepId(1), u64::MAX);
    assert_eq!(endless.unwrap().ttl_s, None);
}

#[test]
fn hops_run_out() {
    let exhausted = |value: &str| parse(value).unwrap().exhausted();
    assert!(!exhausted("NOW"));
    assert!(!exhausted("NOW:hop/24"));
    assert!(exhausted("NOW:hop/25"));
    assert!(!exhausted("NOW:max/1"));
    assert!(exhausted("NOW:hop/1:max/1"));
    assert!(!exhausted("NOW:hop/1:max/2"));
    assert!(exhausted("NOW:hop/25:max/200"));
    assert!(exhausted("NOW:hop/255"));
}

#[test]
fn an_id_that_is_no_attribute_value_goes_in_parts() {
    let with = |id: &str| TrackRequest {
        id: TrackingId::new(id),
        ..TrackRequest::default()
    };
    let documented = include_str!("../request.rs");
    let is_vector = |line: &&str| line.contains("TRACK=NOW:id-1");
    let vector = documented.lines().find(is_vector).unwrap();
    let request = with("0903599f4bcbf3e828731375d7be081b@mail.origin.example");
    assert_eq!(
        ["//! TRACK=", &request.to_value()].concat(),
        vector,
        "as documented"
    );
    let longest = "@".repeat(100);
    for id in ["m1@example.org", "a b", "%", longest.as_str()] {
        assert_eq!(parse(&with(id).to_value()), Ok(with(id)));
    }
    // A hop that knows no parts made up an id beside them.
    let passed_on = parse("NOW:id/made-up:ID-1/bTFA").unwrap();
    assert_eq!(passed_on, with("m1@"));
    for wrong in ["NOW:id-1/bTF", "NOW:id-1/_w", "NOW:id-2/CQ"] {
        let why = RequestError::Value("id-1");
        assert_eq!(parse(wrong), Err(why), "{wrong}");
    }
}

#[test]
fn a_request_can_be_stored() {
    let request = parse(&format!("NOW:c256/{B}:id/x:hop/3:up/00000000000000ff:q/1")).unwrap();
    let json = serde_json::to_string(&request).unwrap();
    assert_eq!(
        serde_json::from_str::<TrackRequest>(&json).unwrap(),
        request
    );
}

fn any_request() -> impl Strategy<Value = TrackRequest> {
    let others = proptest::collection::btree_map("x[a-z0-9-]{0,3}", "[A-Za-z0-9_.-]{1,20}", 0..4);
    (
        any::<Option<[u8; 32]>>(),
        proptest::option::of("[A-Za-z0-9_.-]{1,64}|[!-~]{1,100}"),
        any::<u8>(),
        any::<(Option<u64>, Option<u64>)>(),
        proptest::collection::vec(any::<u64>(), 0..=VIA_STEPS_MAX),
        proptest::option::of(1u8..),
        proptest::option::of(1..=TTL_S_MAX),
        others,
    )
        .prop_map(
            |(b, id, hop, (up, sent_ms), via, max, ttl_s, others)| TrackRequest {
                certificate: b.map(Certificate::new),
                id: id.and_then(|id| TrackingId::new(&id)),
                hop,
                up: up.map(StepId),
                via: via.into_iter().map(StepId).collect(),
                sent_ms,
                max,
                ttl_s,
                others: others.into_iter().collect(),
            },
        )
}

proptest! {
    #[test]
    fn what_is_written_is_read(request in any_request()) {
        prop_assert_eq!(parse(&request.to_value()), Ok(request));
    }

    /// Total; and what was read can be sent on.
    #[test]
    fn any_octets_are_judged(
        octets in proptest::collection::vec(any::<u8>(), 0..600),
        text in "(NOW|now)(:(hop|up|via|t|max|ttl|id|id-1|id-2|c256|x|Y1)/?[0-9a-f]{0,17}){0,5}",
    ) {
        for value in [&octets[..], text.as_bytes()] {
            if let Ok(request) = TrackRequest::parse(value) {
                prop_assert_eq!(&parse(&request.to_value()), &Ok(request.clone()));
                if let Some(next) = request.for_next_hop(StepId(9), 1) {
                    prop_assert!(parse(&next.to_value()).is_ok());
                }
            }
        }
    }

    /// Whatever stands in a field, a next hop can read what is written.
    #[test]
    fn nothing_malformed_is_written(
        name in "(hop|MAX|ID-2|[a-zA-Z0-9:/ -]{0,10})", value in "[a-z:/ =\r]{0,70}",
        id in "[ -~]{1,100}", max: Option<u8>, ttl_s: Option<u32>,
    ) {
        let request = TrackRequest {
            id: TrackingId::new(&id), max, ttl_s,
            others: vec![(name, value)],
            ..TrackRequest::default()
        };
        prop_assert!(parse(&request.to_value()).is_ok());
    }
}
