//! JSON Lines against the document they are lines of.

use super::world::{read, three_hops, view};
use crate::track::TrackingId;
use crate::track::clean::is_hidden;
use crate::trail::NotOurs;
use crate::trail::render::json;

/// A line holds just what the document does, whatever stands in its strings.
#[test]
fn for_programs_that_read_lines() {
    let mut trails = read(&three_hops(&["bob@example.net"]));
    trails.messages[0].stays[0].host = Some("mx\n\u{2028}\u{1b}[31m".into());
    trails.messages.push(trails.messages[0].clone());
    trails.not_ours.push(NotOurs {
        id: TrackingId::new("x").unwrap(),
        host: "mx.example.info".to_owned(),
        known_as: None,
        from: None,
        why: crate::trail::Why::WrongProof,
    });
    let why = "compressed by gzip\n".to_owned();
    trails.skipped.push(("new/\u{1b}1.gz".to_owned(), why));
    let text = [
        json::lines(&trails.messages, view().now_us),
        json::lines_apart(&trails.not_ours),
        json::lines_skipped(&trails.skipped),
    ]
    .concat();
    assert!(!text.contains(|c: char| c != '\n' && is_hidden(c)));
    let document = json::document(&trails, view().now_us);
    let document: serde_json::Value = serde_json::from_str(&document).unwrap();
    let lists = ["messages", "not_ours", "skipped"].map(|list| document[list].as_array().unwrap());
    let whole: Vec<_> = lists.into_iter().flatten().collect();
    let lines: Vec<serde_json::Value> = text
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    assert_eq!(lines.len(), 4);
    for ((line, whole), kind) in lines
        .iter()
        .zip(whole)
        .zip(["message", "message", "not-ours", "skipped"])
    {
        let mut line = line.as_object().unwrap().clone();
        assert_eq!(line.remove("schema").unwrap(), "hoptrail.line/1");
        assert_eq!(line.remove("type").unwrap(), kind);
        assert_eq!(&serde_json::Value::Object(line), whole);
    }
    let source = include_str!("../render/json/lines.rs");
    let examples = source.lines().filter_map(|l| l.strip_prefix("//! {"));
    let examples: Vec<_> = examples.collect();
    assert_eq!(examples.len(), 3);
    for (example, n) in examples.into_iter().zip([0, 2, 3]) {
        let example = serde_json::from_str(&format!("{{{example}")).unwrap();
        let serde_json::Value::Object(example) = example else {
            panic!()
        };
        assert!(
            example.keys().all(|key| lines[n].get(key).is_some()),
            "{example:?}"
        );
    }
}
