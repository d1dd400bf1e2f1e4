//! How far reports can be trusted: signed ones, altered ones, and the archive they go into.

use std::collections::BTreeSet;
use std::fs;

use proptest::prelude::*;

use super::world::{self, HOP1, HOP2, Leg, SENT_MS, START_US, secret, three_hops, view};
use crate::report::sign::{Key, Signer, generate_ed25519, sign};
use crate::report::{Keys, Mailing, Origin, Received, Record, write};
use crate::track::{Event, HopReport, TrackingId};
use crate::trail::bundle::{ABOUT, Broken, Bundle, Contents, MADE_BY, ProofText, SCHEMA};
use crate::trail::examine::{collect, examine, keys_wanted, leave_out_forged};
use crate::trail::render::evidence::{self, Holds};
use crate::trail::render::terminal;
use crate::trail::verify::{Agreement, Known, Proof, agreement};
use crate::trail::{Source, Trails, Truth, Why};

pub(super) fn signer(domain: &str) -> Signer {
    let seed = [u8::try_from(domain.len()).unwrap(); 32];
    let key = Key::from_pem(&generate_ed25519(seed)).unwrap();
    Signer::new(domain.to_owned(), "s".to_owned(), key)
}

/// The mail of a report, signed by the domain of its host.
pub(super) fn mail(report: &HopReport) -> Vec<u8> {
    let id = report.message_id.as_deref().unwrap();
    let key = secret().certificate(id, report.sent_ms.unwrap());
    let (_, domain) = report.reporting_mta.split_once('.').unwrap();
    let mailing = Mailing {
        from: &format!("hoptrail@{domain}"),
        to: "alice@example.org",
        date_us: START_US,
        certificate: Some(&key),
        received: None,
        boundary: "b0f6f1d2c3a4958677",
    };
    sign(&write(report, &mailing), &[signer(domain)], START_US).unwrap()
}

pub(super) fn mails() -> BTreeSet<Vec<u8>> {
    three_hops(&["bob@example.net"]).iter().map(mail).collect()
}

pub(super) fn keys() -> Keys {
    let record = |domain| {
        let signer = signer(domain);
        let record = Record {
            text: Some(signer.key().record()),
            unanswered: false,
            looked_up_us: START_US,
        };
        (signer.record_name(), record)
    };
    Keys(
        ["example.org", "example.com", "example.net"]
            .map(record)
            .into(),
    )
}

pub(super) fn judge(mails: &BTreeSet<Vec<u8>>, keys: &Keys) -> Trails {
    let secret = secret();
    examine(
        mails.iter().map(Vec::as_slice),
        keys,
        Known::Secret(&secret),
    )
}

fn proof() -> Proof {
    Proof {
        message_id: "m1@example.org".to_owned(),
        sent_ms: SENT_MS,
        proof: secret().proof("m1@example.org", SENT_MS),
    }
}

pub(super) fn bundle(mails: BTreeSet<Vec<u8>>, keys: Keys) -> Bundle {
    let trails = judge(&mails, &keys);
    Bundle {
        about: ABOUT.to_owned(),
        picture: evidence::picture(&trails, START_US),
        verdict: evidence::verdict(&trails, START_US),
        contents: Contents {
            schema: SCHEMA.to_owned(),
            made_by: MADE_BY.to_owned(),
            made_us: START_US,
            had_secret: true,
            proofs: vec![ProofText::of(&proof())],
            keys,
            misfits: BTreeSet::new(),
            unproved: Vec::new(),
            left_out: Vec::new(),
        },
        mails,
    }
}

/// What `verify` says of an opened archive, as at a terminal without colour.
pub(super) fn verified(bundle: &Bundle) -> (Holds, String) {
    let trails = bundle.judge().unwrap();
    let (holds, text) = evidence::report(bundle, &trails, None, &view());
    assert!(
        text.lines().all(|line| line.chars().count() <= 80),
        "{text}"
    );
    (holds, text)
}

pub(super) fn shown(trails: &Trails) -> String {
    let messages = trails
        .messages
        .iter()
        .map(|m| terminal::message(m, &view()));
    let text = messages.collect::<String>() + &terminal::not_ours(&trails.not_ours, &view());
    let text = anstream::adapter::strip_str(&text).to_string();
    assert!(
        text.lines().all(|line| line.chars().count() <= 80),
        "{text}"
    );
    text
}

#[test]
fn who_signed_is_told_of_each_report_that_is_not_vouched_for() {
    let mut some = keys();
    some.0.remove("s._domainkey.example.com");
    let mut mails: BTreeSet<_> = mails()
        .into_iter()
        .filter(|m| !m.windows(4).any(|w| w == b"mx3."))
        .collect();
    let last = three_hops(&["bob@example.net"]).pop().unwrap();
    let unsigned = String::from_utf8(mail(&last)).unwrap();
    let (_, unsigned) = unsigned.split_once("\r\nFrom:").unwrap();
    mails.insert(format!("From:{unsigned}").into_bytes());
    let trails = judge(&mails, &some);
    insta::assert_snapshot!(shown(&trails));
}

#[test]
fn signed_reports_are_shown_as_such() {
    let trails = judge(&mails(), &keys());
    let [message] = trails.messages.as_slice() else {
        panic!("one message")
    };
    assert_eq!(message.truth, Truth::Verified);
    for step in message.stays.iter().flat_map(|stay| &stay.steps) {
        let vouched = |origin: &Origin| matches!(origin, Origin::Signed { vouches: true, .. });
        assert!(vouched(message.origin(step.step)), "{}", step.reporting_mta);
    }
    assert!(shown(&trails).contains("✓ each report is signed by the domain of its host"));
}

/// Altered on its way to the mailbox, in a field that Auth and signature cover: the message goes on without it.
#[test]
fn altered_reports_are_named_and_never_merged() {
    let altered = |mail: Vec<u8>| {
        let text = String::from_utf8(mail).unwrap();
        text.replace("Event: delivered", "Event: failed")
            .into_bytes()
    };
    let mails: BTreeSet<_> = mails().into_iter().map(altered).collect();
    let trails = judge(&mails, &keys());
    assert_eq!(trails.not_ours.len(), 1);
    assert_eq!(trails.not_ours[0].why, Why::Altered);
    insta::assert_snapshot!(shown(&trails));
}

/// By a hop of the way, who knows B and so makes a good Auth: it counts as it would without a signature, and nobody takes
/// it for what its host wrote.
#[test]
fn what_a_neighbour_makes_up_is_not_shown_to_be_of_its_host() {
    let [_, _, last] = three_hops(&["bob@example.net"]).try_into().unwrap();
    let genuine = mail(&last);
    let mut invented: HopReport = last;
    invented.recipients[0].event = Event::Failed;
    let signature_of = |mail: &[u8]| {
        let text = String::from_utf8(mail.to_vec()).unwrap();
        let (signature, rest) = text.split_once("\r\nFrom:").unwrap();
        (signature.to_owned(), rest.to_owned())
    };
    let (signature, _) = signature_of(&genuine);
    let (_, rest) = signature_of(&mail(&invented));
    let mut mails = mails();
    mails.insert(format!("{signature}\r\nFrom:{rest}").into_bytes());
    // Beside what the host signed it counts for nothing.
    let trails = judge(&mails, &keys());
    let whys: Vec<Why> = trails.not_ours.iter().map(|n| n.why).collect();
    assert_eq!(whys, [Why::Contradicted]);
    assert!(shown(&trails).starts_with("Delivered in "));
    mails.remove(&genuine);
    let trails = judge(&mails, &keys());
    assert_eq!(trails.not_ours, []);
    let shown = shown(&trails);
    assert!(
        shown.starts_with("Failed at mx3.example.net (origin not shown)\n"),
        "{shown}"
    );
    for told in [
        "origin   ✓ 2 of 3 reports are signed by the domain of their host\n",
        "? mx3.example.net: the signature of example.net does not fit:",
        "2.0.0; who wrote that report is not shown",
    ] {
        assert!(shown.contains(told), "{told}: {shown}");
    }
    // Nobody looked: its Auth is all there is to go by.
    let unchecked =
        world::read(&[HOP1.report(1, None, &[("bob@example.net", Event::Transferred)])]);
    assert!(self::shown(&unchecked).contains("origin   ? not checked"));
}

/// Whoever comes later on the way knows the step's id and B; without a signature that is not enough.
#[test]
fn what_is_made_up_of_a_signed_step_counts_for_nothing() {
    let mut invented = HOP1.report(1, None, &[("bob@example.net", Event::Failed)]);
    invented.arrival_us -= 1;
    let text = String::from_utf8(mail(&invented)).unwrap();
    let (_, unsigned) = text.split_once("\r\nFrom:").unwrap();
    let mut mails = mails();
    mails.insert(format!("From:{unsigned}").into_bytes());
    let trails = judge(&mails, &keys());
    let whys: Vec<Why> = trails.not_ours.iter().map(|n| n.why).collect();
    assert_eq!(whys, [Why::Contradicted]);
    assert_eq!(trails.messages[0].stays.len(), 3);
    assert!(shown(&trails).contains("1 report left out: made up in the name of the host, which"));
    // An unsigned copy of what is signed is but a copy.
    let text = String::from_utf8(mail(&three_hops(&["bob@example.net"])[0])).unwrap();
    let (_, unsigned) = text.split_once("\r\nFrom:").unwrap();
    let copy: BTreeSet<_> = [format!("From:{unsigned}").into_bytes()].into();
    let trails = judge(&copy.union(&self::mails()).cloned().collect(), &keys());
    assert_eq!(trails.not_ours, []);
}

#[test]
fn a_hop_that_contradicts_the_one_before_it_is_named() {
    let refused = HOP1.report(1, None, &[("bob@example.net", Event::Failed)]);
    let next = HOP2.report(2, Some(1), &[("bob@example.net", Event::Relayed)]);
    let trails = world::read(&[refused, next]);
    let message = &trails.messages[0];
    assert_eq!(
        agreement(message, &message.stays[1]),
        Agreement::NotHandedOver
    );
    assert!(shown(&trails).contains("chain    ✗ mx2.example.com: the hop before it says"));
    let alone = world::read(&[HOP2.report(2, Some(1), &[("bob@example.net", Event::Relayed)])]);
    assert!(shown(&alone).contains("chain    ? mx2.example.com: the report of the hop before it"));
}

/// Whoever knows the id can make up reports that nothing proves: where two of them cannot both be true, that is said.
#[test]
fn reports_that_contradict_each_other_are_no_sound_chain() {
    let bob = |event| [("bob@example.net", event)];
    let first = || HOP1.report(1, None, &bob(Event::Transferred));
    let there = |step, host, event| Leg { host, ..HOP2 }.report(step, Some(1), &bob(event));
    let mut other_time = there(2, HOP2.host, Event::Delivered);
    other_time.recipients[0].reply = Some("250 2.0.0 saved, on another day".to_owned());
    let lies = [
        // Of the same step, at another host or by another word; of the same recipient behind the same step.
        [
            there(2, HOP2.host, Event::Delivered),
            there(2, "evil.example", Event::Delivered),
        ],
        [there(2, HOP2.host, Event::Delivered), other_time],
        [
            there(2, HOP2.host, Event::Delivered),
            there(3, HOP2.host, Event::Failed),
        ],
        [
            there(2, HOP2.host, Event::Transferred),
            there(3, "evil.example", Event::Failed),
        ],
    ];
    for [one, other] in lies {
        let trails = world::read_by(&[first(), one, other], None, Some(&secret()));
        let shown = shown(&trails);
        assert!(
            shown.contains(": another report says something else"),
            "{shown}"
        );
        assert!(!shown.contains("chain    ✓"), "{shown}");
    }
    // One after the other is what happens: put off, then refused; and each recipient has a fate of its own.
    let two = [
        ("bob@example.net", Event::Failed),
        ("carol@example.net", Event::Delivered),
    ];
    for sound in [
        vec![
            first(),
            there(2, HOP2.host, Event::Delayed),
            there(3, HOP2.host, Event::Failed),
        ],
        vec![
            first(),
            HOP2.report(2, Some(1), &two),
            HOP2.report(2, Some(1), &two),
        ],
    ] {
        let shown = shown(&world::read(&sound));
        assert!(shown.contains("chain    ✓"), "{shown}");
    }
}

#[test]
fn mails_are_collected_by_message_and_keys_for_ours_alone() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("new")).unwrap();
    let mut other = HOP1.report(9, None, &[("eve@example.net", Event::Transferred)]);
    other.id = TrackingId::new("other").unwrap();
    let others = mail(&other);
    for (n, mail) in mails().iter().chain([&others, &others]).enumerate() {
        fs::write(dir.path().join(format!("new/{n}")), mail).unwrap();
    }
    let on = |id: &'static str| move |one: &Received| one.report.id.as_str() == id;
    let sources = [Source::at(dir.path()).unwrap()];
    assert_eq!(
        collect(&sources, on("7f3a91c2@mail.example.org"), |_| false).unwrap(),
        mails()
    );
    assert_eq!(
        collect(&sources, on("other"), |_| false).unwrap(),
        BTreeSet::from([others.clone()])
    );
    let own = secret();
    let wanted = |known| keys_wanted([others.as_slice()].into_iter(), known);
    assert_eq!(
        wanted(Known::Secret(&own)),
        BTreeSet::from(["s._domainkey.example.org".to_owned()])
    );
    let stranger = crate::track::Secret::new([1; 32]);
    assert_eq!(wanted(Known::Secret(&stranger)), BTreeSet::new());
}

#[test]
fn an_archive_holds_without_the_secret() {
    let made = bundle(mails(), keys());
    let archive = made.write();
    assert_eq!(archive, made.write(), "the same octets");
    assert!(!archive.windows(8).any(|w| w == [42; 8]), "no secret");
    let opened = Bundle::read(&archive).unwrap();
    assert_eq!(opened, made);
    let (holds, text) = verified(&opened);
    assert_eq!(holds, Holds::All);
    insta::assert_snapshot!(text);
}

#[test]
fn an_archive_that_was_made_up_anew_is_found_out() {
    let redone = |change: fn(&mut Bundle)| {
        let mut bundle = bundle(mails(), keys());
        change(&mut bundle);
        verified(&Bundle::read(&bundle.write()).unwrap())
    };
    let (holds, text) = redone(|b| b.picture = b.picture.replace("Delivered", "Lost"));
    assert_eq!(holds, Holds::Not, "{text}");
    // A report and the verdict that goes with it.
    let (holds, text) = redone(|b| {
        let change = |m: &Vec<u8>| {
            String::from_utf8(m.clone())
                .unwrap()
                .replace("delivered", "failed")
                .into_bytes()
        };
        *b = bundle(b.mails.iter().map(change).collect(), keys());
    });
    assert_eq!(holds, Holds::Not, "{text}");
    let (holds, _) = redone(|b| b.contents.proofs[0].a = "00".repeat(32));
    assert_eq!(holds, Holds::Not);
    // Another key: nothing fits any more.
    let (holds, _) = redone(|b| {
        let other = signer("other.example").key().record();
        let mut keys = keys();
        keys.0
            .values_mut()
            .for_each(|key| key.text = Some(other.clone()));
        *b = bundle(mails(), keys);
    });
    assert_eq!(holds, Holds::Not);
    let (holds, text) = redone(|b| *b = bundle(mails(), Keys::default()));
    assert_eq!(holds, Holds::Partly, "{text}");
}

/// Anybody can mail a forgery to the mailbox of which an archive is made.
#[test]
fn a_forgery_beside_the_reports_spoils_no_archive() {
    let genuine = mails();
    let altered = genuine.iter().next().unwrap();
    let altered = String::from_utf8(altered.clone()).unwrap();
    let altered = altered.replace("Status: 2.", "Status: 5.").into_bytes();
    assert!(!genuine.contains(&altered));
    let mut box_of_both = genuine.clone();
    box_of_both.insert(altered);
    let (holds, text) = verified(&bundle(box_of_both.clone(), keys()));
    assert_eq!(holds, Holds::Not, "{text}");
    let own = secret();
    let left_out = leave_out_forged(&mut box_of_both, &keys(), Known::Secret(&own));
    let left_out: Vec<Why> = left_out.iter().map(|report| report.why).collect();
    assert_eq!((&*left_out, &box_of_both), (&[Why::Altered][..], &genuine));
    let (holds, text) = verified(&bundle(box_of_both, keys()));
    assert_eq!(holds, Holds::All, "{text}");
}

#[test]
fn a_key_of_which_nobody_told_is_said_to_be_that() {
    let mut unanswered = keys();
    for key in unanswered.0.values_mut() {
        (key.text, key.unanswered) = (None, true);
    }
    let (holds, text) = verified(&bundle(mails(), unanswered.clone()));
    assert_eq!(holds, Holds::Partly, "{text}");
    assert!(
        text.contains("? no name server answered its maker for"),
        "{text}"
    );
    let made = bundle(mails(), keys());
    let trails = judge(&mails(), &keys());
    let (holds, text) = evidence::report(&made, &trails, Some(&unanswered), &view());
    assert_eq!(holds, Holds::Partly, "{text}");
    assert!(
        text.contains("? no name server answered today for"),
        "{text}"
    );
    assert!(!text.contains("other keys"), "{text}");
}

#[test]
fn archives_that_are_none_are_refused() {
    let entry = |name: &str, kind: tar::EntryType| {
        let mut header = tar::Header::new_ustar();
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(kind);
        header.set_size(4);
        header.set_cksum();
        [header.as_bytes(), &b"evil"[..], &[0; 508], &[0; 1024]].concat()
    };
    let kind = tar::EntryType::Regular;
    for archive in [
        entry("../../etc/passwd", kind),
        entry("/etc/passwd", kind),
        entry("reports/../x.eml", kind),
        entry("README.txt", tar::EntryType::Symlink),
        entry("README.txt", tar::EntryType::GNUSparse),
    ] {
        assert!(matches!(
            Bundle::read(&archive),
            Err(Broken::Stranger(_) | Broken::NotTar)
        ));
    }
    let twice = [
        &entry("README.txt", kind)[..1024],
        &entry("README.txt", kind),
    ]
    .concat();
    assert_eq!(
        Bundle::read(&twice),
        Err(Broken::Stranger("README.txt".to_owned()))
    );
    assert_eq!(
        Bundle::read(&entry("README.txt", kind)),
        Err(Broken::Missing("SHA256SUMS"))
    );
    for nothing in [&b""[..], b"hello", &[0; 4096]] {
        assert_eq!(Bundle::read(nothing), Err(Broken::NotTar));
    }
    assert_eq!(Bundle::read(b"\x1f\x8b\x08\0"), Err(Broken::Compressed));
}

proptest! {
    /// Not an octet of it can change, go or come.
    #[test]
    fn any_octet_counts(at in any::<prop::sample::Index>(), flip in 1u8.., cut in any::<bool>()) {
        thread_local!(static ARCHIVE: Vec<u8> = bundle(mails(), keys()).write());
        let mut archive = ARCHIVE.with(Clone::clone);
        let at = at.index(archive.len());
        if cut {
            archive.truncate(at);
        } else {
            archive[at] ^= flip;
        }
        prop_assert!(Bundle::read(&archive).is_err());
    }
}
