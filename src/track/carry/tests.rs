//! Carry headers: what is sealed opens again, and nothing else does.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;
use crate::track::Certificate;

fn keys() -> Keyring {
    Keyring::of(Key::new([0x9f, 0x3c, 0x21, 0xaa], [7; 32]))
}

fn carry() -> Carry {
    Carry {
        id: TrackingId::new("7f3a91c2@mail.example.org").unwrap(),
        step: StepId(0x0123_4567_89ab_cdef),
        at_ms: 1_795_478_400_000,
        told: false,
        back_ms: None,
        asker: Some(Asker::Verified),
        request: TrackRequest {
            certificate: Some(Certificate::new([9; 32])),
            sent_ms: Some(1_795_478_399_000),
            hop: 1,
            up: Some(StepId(1)),
            ..TrackRequest::default()
        },
        mtrk: None,
    }
}

fn open(field: &[u8]) -> Option<Opened> {
    let value = field.strip_prefix(b"Hoptrail-Carry:")?;
    Carry::open(value, &keys())
}

/// The wire format: whoever changes it breaks hops that run another version. The vector stands in the module's
/// documentation; it was computed again outside of this program.
#[test]
fn the_published_vector_holds() {
    let field = carry().write(&keys(), b"alice@example.org", Some(b"m1@example.org"));
    let field = String::from_utf8(field).unwrap();
    let documented = "//! ".to_owned() + &field.trim_end().replace("\r\n", "\n//! ");
    assert!(
        include_str!("../carry.rs").contains(&documented),
        "{documented}"
    );
}

#[test]
fn opens_what_it_wrote_and_knows_its_mail() {
    let field = carry().write(&keys(), b"alice@Example.ORG", Some(b"m1@example.org"));
    let opened = open(&field).unwrap();
    assert_eq!(opened.carry, carry());
    assert!(
        opened.is_from(b"alice@example.org"),
        "an MTA may change the case of a domain"
    );
    assert!(!opened.is_from(b"list-owner@example.org"));
    assert!(opened.is_of(Some(b"m1@example.org")));
    assert!(!opened.is_of(Some(b"m2@example.org")));
    assert!(!opened.is_of(None), "the Message-ID it binds is gone");
}

#[test]
fn an_mtrk_crosses_and_lies_under_the_mac() {
    let with = Carry {
        asker: Some(Asker::Authenticated),
        mtrk: Mtrk::parse(b"VheLhqV/rCKJmplkGFwsyW59pYk:864000"),
        ..carry()
    };
    let field = String::from_utf8(with.write(&keys(), b"a@b", Some(b"m"))).unwrap();
    assert_eq!(field.len() as u64, with.octets_max(&keys()));
    assert_eq!(open(field.as_bytes()).unwrap().carry, with);
    let part = "mtrk=VheLhqV/rCKJmplkGFwsyW59pYk:864000";
    assert!(field.contains(part), "{field}");
    for forged in [
        field.replace(":864000", ":999999"),
        field.replace(&format!("{part};"), ""),
    ] {
        assert!(open(forged.as_bytes()).is_none(), "{forged}");
    }
}

#[test]
fn a_content_filters_return_is_noted_in_the_same_room() {
    for message_id in [None, Some(&b"m"[..])] {
        let field = carry().write(&keys(), b"a@b", message_id);
        let returned = open(&field).unwrap().returned(1_795_478_400_123);
        assert_eq!(returned.len(), field.len());
        let opened = open(&returned).unwrap();
        let back_ms = Some(1_795_478_400_123);
        assert_eq!(opened.carry, Carry { back_ms, ..carry() });
        assert!(opened.is_from(b"a@b") && opened.is_of(message_id));
    }
    for odd in [i64::MIN, -1, i64::MAX] {
        let field = carry().write(&keys(), b"a@b", None);
        assert_eq!(open(&field).unwrap().returned(odd).len(), field.len());
    }
}

/// One under a key that is here is judged by its MAC alone.
#[test]
fn what_nobody_can_verify_is_known_by_its_form() {
    let field = String::from_utf8(carry().write(&keys(), b"a@b", Some(b"m"))).unwrap();
    let other = Keyring::of(Key::new([1; 4], [7; 32]));
    let said = |field: &str, keys: Option<&Keyring>| {
        Carry::unverified(field.strip_prefix("Hoptrail-Carry:")?.as_bytes(), keys)
    };
    assert_eq!(said(&field, None), Some(carry()));
    assert_eq!(said(&field, Some(&other)), Some(carry()));
    assert_eq!(said(&field, Some(&keys())), None);
    assert_eq!(
        said(&field.replace("told=0", "told=1"), Some(&keys())),
        None
    );
    for (from, to) in [
        ("v=1;", "v=2;"),
        ("step=0", "step=x"),
        ("from=", "form="),
        ("mac=", "mac=A"),
        (" kid=9f3c21aa;", ""),
    ] {
        assert!(field.contains(from), "{from}");
        assert_eq!(said(&field.replace(from, to), None), None, "{from}");
    }
}

#[test]
fn a_header_without_message_id_fits_one_that_the_mta_added() {
    let opened = open(&carry().write(&keys(), b"a@b", None)).unwrap();
    assert!(opened.is_of(None) && opened.is_of(Some(b"added@mta")));
}

#[test]
fn a_stranger_who_has_yet_to_prove_himself_is_nobody() {
    let unproven = Carry {
        asker: None,
        ..carry()
    };
    let field = unproven.write(&keys(), b"a@b", None);
    assert!(String::from_utf8_lossy(&field).contains("; by=-;"));
    assert_eq!(open(&field).unwrap().carry.asker, None);
}

#[test]
fn expires_and_refuses_a_clock_too_far_ahead() {
    let opened = open(&carry().write(&keys(), b"a@b", None)).unwrap();
    let at = carry().at_ms;
    assert!(!opened.expired(at) && !opened.expired(at + CARRY_AGE_MS_MAX));
    assert!(opened.expired(at + CARRY_AGE_MS_MAX + 1));
    assert!(
        !opened.expired(at - CARRY_AHEAD_MS_MAX) && opened.expired(at - CARRY_AHEAD_MS_MAX - 1)
    );
}

#[test]
fn every_line_is_short_even_with_the_longest_id() {
    let mut long = carry();
    long.id = TrackingId::new(&"; ".repeat(49))
        .or(TrackingId::new(&";".repeat(100)))
        .unwrap();
    let field = long.write(&keys(), b"a@b", Some(b"m"));
    assert!(
        field.split(|b| *b == b'\n').all(|line| line.len() <= 998),
        "all MTAs keep such lines"
    );
    assert_eq!(open(&field).unwrap().carry, long);
    let askers = [None, Some(Asker::Network), Some(Asker::Authenticated)];
    let octets = askers.map(|asker| {
        long.asker = asker;
        assert!(long.write(&keys(), b"a@b", Some(b"m")).len() as u64 <= long.octets_max(&keys()));
        long.octets_max(&keys())
    });
    assert_eq!(octets[0], octets[2], "known before it is known who asks");
}

/// The longest of everything at once.
#[test]
fn the_named_bound_holds_for_any_request() {
    let request = TrackRequest {
        certificate: Some(Certificate::new([9; 32])),
        id: TrackingId::new(&"x".repeat(64)),
        hop: u8::MAX,
        up: Some(StepId(u64::MAX)),
        via: vec![StepId(u64::MAX); 6],
        sent_ms: Some(u64::MAX),
        max: Some(u8::MAX),
        ttl_s: Some(u32::MAX),
        others: (0..99).map(|n| (format!("x{n}"), "v".repeat(64))).collect(),
    };
    let longest = Carry {
        id: TrackingId::new(&";".repeat(100)).unwrap(),
        step: StepId(u64::MAX),
        at_ms: i64::MIN,
        told: true,
        back_ms: Some(i64::MAX),
        asker: Some(Asker::Authenticated),
        request,
        mtrk: Mtrk::parse(format!("{}:999999999", "m".repeat(86)).as_bytes()),
    };
    let octets = longest.write(&keys(), b"a@b", Some(b"m")).len() as u64;
    assert!(
        octets > CARRY_OCTETS_MAX - 200,
        "{octets}: the bound is no waste"
    );
    assert!(octets < CARRY_OCTETS_MAX, "{octets}");
}

#[test]
fn a_refolded_header_is_still_ours() {
    let field = String::from_utf8(carry().write(&keys(), b"a@b", None)).unwrap();
    let refolded = field.replace("\r\n ", " ").replace("; ", ";\r\n\t");
    assert!(open(refolded.as_bytes()).is_some());
}

#[test]
fn keys_are_written_and_read_back() {
    let line = keys().signing().to_line();
    let other = Key::new([0, 0, 0, 1], [8; 32]).to_line();
    let ring = Keyring::parse(&format!("# mine\n\n{line}{other}")).unwrap();
    assert_eq!(ring.signing().to_line(), line);
    assert_eq!(ring.ids().collect::<Vec<_>>(), ["9f3c21aa", "00000001"]);
    assert_eq!(
        Keyring::parse(&format!("{line}{line}")).unwrap_err(),
        "line 2: another key has this name"
    );
    assert_eq!(
        Keyring::parse("abc def").err().unwrap(),
        "line 1: a key is 8 hex digits, a blank and 64 hex digits"
    );
    assert!(Keyring::parse("").is_err());
}

#[test]
fn another_key_does_not_open_it() {
    let other = Keyring::of(Key::new([0x9f, 0x3c, 0x21, 0xaa], [8; 32]));
    let field = carry().write(&keys(), b"a@b", None);
    assert!(Carry::open(field.strip_prefix(b"Hoptrail-Carry:").unwrap(), &other).is_none());
}

proptest! {
    /// No change of any octet but white space goes unnoticed.
    #[test]
    fn forgeries_do_not_open(at in 15_usize..300, octet in any::<u8>()) {
        let mut field = carry().write(&keys(), b"a@b", Some(b"m"));
        prop_assume!(at < field.len() && field[at] != octet);
        prop_assume!(!field[at].is_ascii_whitespace() && !octet.is_ascii_whitespace());
        field[at] = octet;
        prop_assert!(open(&field).is_none());
    }

    #[test]
    fn any_octets_are_survived(octets in proptest::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(Carry::open(&octets, &keys()).is_none());
    }
}
