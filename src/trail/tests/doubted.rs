//! Reports of which it is not shown who wrote them, or that are left out: no host is called silent on their account, and
//! an archive says what became of them.

use std::collections::BTreeSet;

use super::trusted::{bundle, judge, keys, mail, mails, shown, signer, verified};
use super::world::{HOP1, START_US, secret, three_hops};
use crate::report::{Keys, Mailing, Origin, write};
use crate::track::{Event, Secret};
use crate::trail::bundle::{Bundle, Contents};
use crate::trail::custody::{Silence, custody};
use crate::trail::examine::{examine, leave_out_forged, misfits};
use crate::trail::render::{
    evidence::{self, Holds},
    json,
};
use crate::trail::verify::Known;
use crate::trail::{Outcome, Trails, Truth, Why};

/// Long after all.
const LATER_US: i64 = START_US + 3_600_000_000;

/// As a gateway marks what comes from outside.
fn marked(mail: &[u8]) -> Vec<u8> {
    let text = String::from_utf8(mail.to_vec()).unwrap();
    let marked = text.replacen("\r\nSubject: ", "\r\nSubject: [EXTERNAL] ", 1);
    assert_ne!(marked, text);
    marked.into_bytes()
}

/// The mails, of which one was changed on the way.
fn with_last(change: impl Fn(&[u8]) -> Vec<u8>) -> BTreeSet<Vec<u8>> {
    let last = mail(&three_hops(&["bob@example.net"])[2]);
    let mut mails = mails();
    assert!(mails.remove(&last));
    mails.insert(change(&last));
    mails
}

/// The archive that the user makes who has the secret, or none.
fn archive(mut mails: BTreeSet<Vec<u8>>, keys: Keys, secret: Option<&Secret>) -> Bundle {
    let left_out = leave_out_forged(&mut mails, &keys, secret.into());
    let trails = examine(mails.iter().map(Vec::as_slice), &keys, secret.into());
    let proved = trails.messages.iter().all(|m| m.truth == Truth::Verified);
    let plain = bundle(mails, keys);
    let contents = Contents {
        had_secret: secret.is_some(),
        proofs: if proved {
            plain.contents.proofs
        } else {
            Vec::new()
        },
        misfits: misfits(plain.mails.iter().map(Vec::as_slice), &plain.contents.keys),
        left_out,
        ..plain.contents
    };
    let trails = contents.with_left_out(trails);
    Bundle {
        about: plain.about,
        picture: evidence::picture(&trails, START_US),
        verdict: evidence::verdict(&trails, START_US),
        contents,
        mails: plain.mails,
    }
}

/// What `verify` says of it.
fn opened(archive: &Bundle) -> (Holds, String) {
    verified(&Bundle::read(&archive.write()).unwrap())
}

fn silence(trails: &Trails) -> Option<Silence> {
    let message = &trails.messages[0];
    custody(message, &message.recipients[0], LATER_US)?.silence
}

/// Its report part and its Auth are whole: what it tells is told, and that nobody knows who wrote it.
#[test]
fn a_report_whose_signature_does_not_fit_any_more_is_heard() {
    let mails = with_last(marked);
    let trails = judge(&mails, &keys());
    assert_eq!(trails.messages[0].outcome(), Outcome::Delivered);
    assert_eq!(trails.not_ours, []);
    insta::assert_snapshot!(shown(&trails));
    let json = json::document(&trails, LATER_US);
    assert!(
        json.contains(r#""verdict": "delivered (origin not shown) in 2.73 s"#),
        "{json}"
    );
    assert!(json.contains(r#""state": "altered""#), "{json}");

    let own = secret();
    let made = archive(mails, keys(), Some(&own));
    assert_eq!((made.mails.len(), made.contents.misfits.len()), (3, 1));
    let (holds, text) = opened(&made);
    assert_eq!(holds, Holds::Partly, "{text}");
    assert!(
        text.contains("? the signature of 1 report in it did not fit when"),
        "{text}"
    );
    // One that fitted when it was made was changed since.
    let mut since = made;
    since.contents.misfits.clear();
    let (holds, text) = opened(&since);
    assert_eq!(holds, Holds::Not, "{text}");
    assert!(
        text.contains("✗ the signature of 1 report in it does not fit, as it did"),
        "{text}"
    );
}

/// A key was replaced: by one of its kind, or by something else.
#[test]
fn a_key_that_was_replaced_silences_nobody() {
    let shown_by = |record: String| {
        let mut keys = keys();
        let key = keys.0.get_mut("s._domainkey.example.net").unwrap();
        key.text = Some(record);
        let trails = judge(&mails(), &keys);
        assert_eq!(trails.messages[0].outcome(), Outcome::Delivered);
        shown(&trails)
    };
    let other = shown_by(signer("other.example").key().record());
    assert!(
        other.contains("? mx3.example.net: the signature of example.net does not fit"),
        "{other}"
    );
    let malformed = shown_by("v=DKIM1; k=ed25519; p=AAAA".to_owned());
    let own = signer("example.net").key().record();
    let not_for_mail = shown_by(own.replace("k=", "s=tlsrpt; k="));
    for unfit in [&malformed, &not_for_mail] {
        assert!(
            unfit.contains("signed, but the key of example.net is malformed"),
            "{unfit}"
        );
    }
    for shown in [other, malformed, not_for_mail] {
        assert!(
            shown.starts_with("Delivered (origin not shown) in "),
            "{shown}"
        );
    }
}

/// Its report part was changed, so it counts for nothing; that its host told nothing is not known all the same.
#[test]
fn a_host_whose_report_is_left_out_is_not_called_silent() {
    let mails = with_last(|mail| {
        let text = String::from_utf8(mail.to_vec()).unwrap();
        text.replace("Event: delivered", "Event: failed")
            .into_bytes()
    });
    let own = secret();
    let made = archive(mails.clone(), keys(), Some(&own));
    let whys: Vec<Why> = made.contents.left_out.iter().map(|n| n.why).collect();
    assert_eq!((made.mails.len(), &*whys), (2, &[Why::Altered][..]));
    let (holds, text) = opened(&made);
    assert_eq!(holds, Holds::All, "{text}");
    assert!(
        text.contains("– left out by its maker: 1 report, as altered or forged"),
        "{text}"
    );

    for trails in [judge(&mails, &keys()), made.judge().unwrap()] {
        assert_eq!(silence(&trails), Some(Silence::LeftOut));
        let shown = shown(&trails);
        for told in [
            "Last known at mx3.example.net since 17:05, of which a report is left out\n",
            "✗ a report in the name of mx3.example.net is left out\n",
            "✓ each other report is signed by",
            "and a report\n                   in its name is left out\n",
            "mx3.example.net       report left out\n",
        ] {
            assert!(shown.contains(told), "{told}: {shown}");
        }
        assert!(
            !shown.contains("silent") && !shown.contains("nothing since"),
            "{shown}"
        );
        let json = json::document(&trails, LATER_US);
        assert!(json.contains(r#""silence": "left-out""#), "{json}");
    }
}

/// Without a secret a signature is all there is, and one that does not fit shows nothing.
#[test]
fn what_nothing_proves_and_no_signature_fits_is_left_out() {
    let mails = with_last(marked);
    let trails = examine(mails.iter().map(Vec::as_slice), &keys(), Known::Nothing);
    let whys: Vec<Why> = trails.not_ours.iter().map(|n| n.why).collect();
    assert_eq!(whys, [Why::BrokenSignature]);
    assert_eq!(silence(&trails), Some(Silence::LeftOut));
}

/// No report of unknown origin undoes what a host told under its signature, whichever step it says it is.
#[test]
fn a_signed_end_is_not_undone_by_what_is_not_signed() {
    let mut reports = three_hops(&["bob@example.net"]);
    reports[2].recipients[0].event = Event::Failed;
    let mut invented = three_hops(&["bob@example.net"]).remove(2);
    invented.step.0 = 99;
    let mut mails: BTreeSet<_> = reports.iter().map(mail).collect();
    mails.insert(marked(&mail(&invented)));
    let trails = judge(&mails, &keys());
    assert_eq!(trails.messages[0].outcome(), Outcome::Failed);
    assert_eq!(trails.messages[0].recipients[0].step.0, 3);
}

/// Asked for by a client that knows no certificate: the user has a secret, and nothing is proved by it.
#[test]
fn an_archive_of_unproved_reports_holds() {
    let unproved = |report: &crate::track::HopReport| {
        let mailing = Mailing {
            from: "hoptrail@example.org",
            to: "alice@example.org",
            date_us: START_US,
            certificate: None,
            received: None,
            boundary: "b0f6f1d2c3a4958677",
        };
        write(report, &mailing)
    };
    let mut report = HOP1.report(1, None, &[("bob@example.net", Event::Delivered)]);
    report.sent_ms = None;
    let mails = BTreeSet::from([unproved(&report)]);
    let own = secret();
    for (secret, truth) in [(Some(&own), Truth::Unproved), (None, Truth::Unverifiable)] {
        let made = archive(mails.clone(), Keys::default(), secret);
        let (holds, text) = opened(&made);
        assert_eq!(holds, Holds::Partly, "{text}");
        assert!(
            text.contains("✓ the verdict in it is what its reports and keys give"),
            "{text}"
        );
        let trails = made.judge().unwrap();
        assert_eq!(trails.messages[0].truth, truth);
        let step = trails.messages[0].recipients[0].step;
        assert_eq!(*trails.messages[0].origin(step), Origin::Unsigned);
    }
}

/// What is altered is not said to be signed and unchanged in the same breath.
#[test]
fn of_an_altered_report_nothing_good_is_said() {
    let mails = with_last(|mail| {
        let text = String::from_utf8(mail.to_vec()).unwrap();
        text.replace("Event: delivered", "Event: failed")
            .into_bytes()
    });
    let (holds, text) = verified(&bundle(mails, keys()));
    assert_eq!(holds, Holds::Not, "{text}");
    assert!(text.contains("✓ every other report is signed by"), "{text}");
    assert!(
        text.contains("✗ 1 report in it is altered or forged"),
        "{text}"
    );
}
