//! Mails that hops signed, as they were and as they were not; that others verify the same signatures is shown in
//! tests/signed.rs.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;
use crate::report::sign::{Key, Signer, generate_ed25519, sign};
use crate::report::tests::samples::{NOON_US, mailing, recipient, report};
use crate::report::{Mailing, write};
use crate::track::Event;

const HOST: &str = "mx1.example.net";

fn signer(domain: &str, seed: u8) -> Signer {
    let key = Key::from_pem(&generate_ed25519([seed; 32])).unwrap();
    Signer::new(domain.to_owned(), "s1".to_owned(), key)
}

/// A report of `HOST` from `from`, signed by each of them.
fn mail(from: &str, signers: &[Signer]) -> Vec<u8> {
    let report = report(vec![recipient("bob@example.net", Event::Transferred)]);
    let mailing = Mailing {
        from,
        ..mailing(None)
    };
    sign(&write(&report, &mailing), signers, NOON_US).unwrap()
}

fn keys(signers: &[Signer]) -> Keys {
    let record = |signer: &Signer| Record {
        unanswered: false,
        text: Some(signer.key().record()),
        looked_up_us: NOON_US,
    };
    Keys(
        signers
            .iter()
            .map(|s| (s.record_name(), record(s)))
            .collect(),
    )
}

fn signed(domain: &str, vouches: bool) -> Origin {
    Origin::Signed {
        domain: domain.to_owned(),
        vouches,
    }
}

#[test]
fn a_signature_counts_for_the_hosts_domain_and_those_above() {
    for (domain, expected) in [
        ("mx1.example.net", signed("mx1.example.net", true)),
        ("example.net", signed("example.net", true)),
        ("net", Origin::Unsigned),
        ("ample.net", Origin::Unsigned),
        ("example.org", Origin::Unsigned),
    ] {
        let signers = [signer(domain, 1)];
        let mail = mail("hoptrail@mx1.example.net", &signers);
        assert_eq!(origin(&mail, HOST, &keys(&signers)), expected, "{domain}");
    }
}

#[test]
fn who_signs_for_its_own_from_does_not_vouch_for_the_host() {
    let signers = [signer("evil.example", 1)];
    let mail = mail("hoptrail@evil.example", &signers);
    assert_eq!(
        origin(&mail, HOST, &keys(&signers)),
        signed("evil.example", false)
    );
}

#[test]
fn what_is_altered_is_told_from_what_is_unknown() {
    let signers = [signer("example.net", 1)];
    let mail = mail("hoptrail@mx1.example.net", &signers);
    let altered = Origin::Altered {
        domain: "example.net".to_owned(),
    };
    let text = String::from_utf8(mail.clone()).unwrap();
    let body = text.replace("Status: 2.0.0", "Status: 2.0.1");
    let header = text.replacen("\r\nSubject: ", "\r\nSubject: not ", 1);
    for changed in [body, header] {
        assert_ne!(changed, text);
        assert_eq!(origin(changed.as_bytes(), HOST, &keys(&signers)), altered);
    }
    assert_eq!(
        origin(&mail, HOST, &keys(&[signer("example.net", 2)])),
        altered
    );
    let unknown = Origin::NoKey {
        domain: "example.net".to_owned(),
    };
    let shown = |text: Option<&str>, unanswered| {
        let mut keys = keys(&signers);
        for record in keys.0.values_mut() {
            record.text = text.map(str::to_owned);
            record.unanswered = unanswered;
        }
        keys
    };
    let revoked = shown(Some("v=DKIM1; k=ed25519; p="), false);
    assert_eq!(origin(&mail, HOST, &revoked), unknown);
    assert_eq!(origin(&mail, HOST, &shown(None, false)), unknown);
    let unfit = Origin::UnfitKey {
        domain: "example.net".to_owned(),
    };
    let rsa = "v=DKIM1; k=rsa; p=MFwwDQYJKoZIhvcNAQEBBQADSwAwSAJBAKj34GkxFhD90vcNLYLInFEX6Ppy1tPf9Cnzj4p4WGeKLs1Pt8Qu\
               KUpRKfFLfRYC9AIKjbJTWit+CqvjWYzvQwECAwEAAQ==";
    for record in [
        rsa,
        "v=DKIM1; k=ed25519; p=AAAA",
        "v=DKIM1; k=none; p=AAAA",
        "not a key",
    ] {
        assert_eq!(
            origin(&mail, HOST, &shown(Some(record), false)),
            unfit,
            "{record}"
        );
    }
    let nobody_says = Origin::NoAnswer {
        domain: "example.net".to_owned(),
    };
    assert_eq!(origin(&mail, HOST, &shown(None, true)), nobody_says);
    assert_eq!(origin(&mail, HOST, &Keys::default()), nobody_says);
    let name = "s1._domainkey.example.net".to_owned();
    assert_eq!(keys_wanted(&mail, HOST), BTreeSet::from([name]));
}

/// What the record says of its key's use decides, and what it forbids has the mail judged as if nobody signed it, whether
/// the signature fits or not (RFC 6376, 3.6.1).
#[test]
fn a_key_counts_as_its_record_allows() {
    let unfit = Origin::UnfitKey {
        domain: "example.net".to_owned(),
    };
    let shown = signed("example.net", true);
    for (more, domain, expected) in [
        ("s=email; h=sha256; t=s", "example.net", &shown),
        ("s=email:tlsrpt; h=sha1:sha256", "example.net", &shown),
        ("s=tlsrpt", "example.net", &unfit),
        ("h=sha1", "example.net", &unfit),
        ("t=y", "example.net", &unfit),
        ("v=DKIM1", "example.net", &unfit),
        ("t=s", "example.net; i=a@example.net", &shown),
        ("t=s", "example.net; i=@mx1.example.net", &unfit),
        ("n=none", "example.net; i=@mx1.example.net", &shown),
        ("n=none", "example.net; i=@example.org", &unfit),
    ] {
        let signers = [signer(domain, 1)];
        let mail = mail("hoptrail@mx1.example.net", &signers);
        let mut keys = keys(&[signer("example.net", 1)]);
        for record in keys.0.values_mut() {
            let text = record.text.as_mut().unwrap();
            *text = text.replace("v=DKIM1;", &format!("v=DKIM1; {more};"));
        }
        assert_eq!(origin(&mail, HOST, &keys), *expected, "{more} {domain}");
        let text = String::from_utf8(mail).unwrap();
        let altered = text.replace("Status: 2.0.0", "Status: 2.0.1");
        let altered = origin(altered.as_bytes(), HOST, &keys);
        let is_unusable = *expected == unfit && !domain.contains("i=");
        assert_eq!(altered == unfit, is_unusable, "{more} {domain}");
    }
}

/// Whoever alters a report and signs it himself is not taken for its hop.
#[test]
fn a_broken_signature_is_not_healed_by_a_strangers() {
    let hop = [signer("example.net", 1)];
    let text = String::from_utf8(mail("hoptrail@evil.example", &hop)).unwrap();
    let altered = text.replace("Status: 2.0.0", "Status: 2.0.1");
    let evil = [signer("evil.example", 2)];
    let resigned = sign(altered.as_bytes(), &evil, NOON_US).unwrap();
    let all = keys(&[signer("example.net", 1), signer("evil.example", 2)]);
    let domain = "example.net".to_owned();
    assert_eq!(origin(&resigned, HOST, &all), Origin::Altered { domain });
}

/// Nor for anybody: who made a mail stands in its From (RFC 6376, 5.4), and SHA-1 proves nothing (RFC 8301, 3.1).
#[test]
fn a_signature_that_does_not_cover_from_or_is_too_weak_speaks_for_nobody() {
    let signers = [signer("example.net", 1)];
    let text = String::from_utf8(mail("hoptrail@mx1.example.net", &signers)).unwrap();
    for (from, to) in [("h=From:From:", "h="), ("a=ed25519-sha256;", "a=rsa-sha1;")] {
        let changed = text.replacen(from, to, 1);
        assert_ne!(changed, text);
        let origin = origin(changed.as_bytes(), HOST, &keys(&signers));
        assert_eq!(origin, Origin::Unsigned, "{to}");
    }
}

/// As a mail store keeps it: lines of its own on top, and LF alone.
#[test]
fn a_mail_is_judged_as_the_store_keeps_it() {
    let signers = [signer("example.net", 1)];
    let mail = mail("hoptrail@mx1.example.net", &signers);
    let text = String::from_utf8(mail).unwrap().replace("\r\n", "\n");
    let stored = format!("Return-Path: <>\nDelivered-To: alice@example.org\n{text}");
    assert_eq!(
        origin(stored.as_bytes(), HOST, &keys(&signers)),
        signed("example.net", true)
    );
}

proptest! {
    #[test]
    fn any_mail_is_survived(octets in proptest::collection::vec(any::<u8>(), 0..300)) {
        let tag: &[u8] = b"From: a@example.net\nDKIM-Signature: v=1; d=example.net; ";
        for mail in [octets.clone(), [tag, octets.as_slice()].concat()] {
            let _ = origin(&mail, HOST, &Keys::default());
            let _ = keys_wanted(&mail, HOST);
        }
    }
}
