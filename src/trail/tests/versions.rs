//! Archives that another hoptrail made: what is recorded in them holds, whatever words it had for that.

use super::trusted::{bundle, keys, mails, verified};
use crate::trail::bundle::{Broken, Bundle};
use crate::trail::render::evidence::Holds;

/// What is found of an archive by another hoptrail, whose words were changed so and then its digests made anew.
fn by_another(change: fn(&mut Bundle)) -> (Holds, String) {
    let mut made = bundle(mails(), keys());
    made.contents.made_by = "0.0.9".to_owned();
    change(&mut made);
    let (holds, text) = verified(&Bundle::read(&made.write()).unwrap());
    let lines: Vec<&str> = text.lines().map(str::trim_start).collect();
    (holds, lines.join(" "))
}

fn reword(bundle: &mut Bundle) {
    bundle.about.push_str("Or ask the post office.\n");
    bundle.picture = bundle.picture.replace("Delivered", "Arrived");
    bundle.verdict = bundle
        .verdict
        .replace("\"verdict\": \"delivered", "\"verdict\": \"arrived");
}

#[test]
fn the_words_of_another_version_are_no_alteration() {
    let (holds, text) = by_another(reword);
    assert_eq!(holds, Holds::Partly, "{text}");
    assert!(!text.contains(": altered"), "{text}");
    for told in [
        "? in the words of another hoptrail (0.0.9)",
        "README.txt, timeline.html, verdict.json",
        "✓ verdict.json tells of each step and recipient what its reports and keys give",
        "✓ every report is signed by the domain of its host",
    ] {
        assert!(text.contains(told), "{told}: {text}");
    }
    assert_eq!(by_another(|_| ()).0, Holds::All);
}

#[test]
fn what_this_version_did_not_write_is_altered_if_it_is_said_to_have() {
    let mut made = bundle(mails(), keys());
    reword(&mut made);
    let (holds, text) = verified(&made);
    assert_eq!(holds, Holds::Not);
    assert!(
        text.contains("✗ not what its reports and keys give: README.txt"),
        "{text}"
    );
}

/// Whoever alters words can say that another version wrote them; of what hosts report he can say nothing else.
#[test]
fn what_no_report_tells_is_altered_whoever_is_said_to_have_written_it() {
    let failed = |bundle: &mut Bundle| {
        bundle.verdict = bundle
            .verdict
            .replace("\"event\": \"delivered\"", "\"event\": \"failed\"");
    };
    let (holds, text) = by_another(failed);
    assert_eq!(holds, Holds::Not);
    let told = "✗ verdict.json tells what no report in it does: bob@example.net failed, 2.0.0";
    assert!(text.contains(told), "{text}");
}

#[test]
fn what_another_version_judged_otherwise_is_said() {
    let (holds, text) = by_another(|bundle| {
        bundle.verdict = bundle
            .verdict
            .replace("\"state\": \"delivered\"", "\"state\": \"relayed\"");
    });
    assert_eq!(holds, Holds::Partly);
    let told = "? judged otherwise in verdict.json: bob@example.net: relayed there, delivered anew";
    assert!(text.contains(told), "{text}");
    let (holds, text) = by_another(|bundle| bundle.verdict = "{}".to_owned());
    assert_eq!(holds, Holds::Partly);
    assert!(text.contains("? not understood"), "{text}");
}

#[test]
fn a_form_that_is_not_known_is_not_called_altered() {
    let mut made = bundle(mails(), keys());
    made.contents.schema = "hoptrail.bundle/2".to_owned();
    made.contents.made_by = "2.0.0".to_owned();
    let broken = Bundle::read(&made.write());
    assert!(matches!(broken, Err(Broken::Foreign(..))), "{broken:?}");
}
