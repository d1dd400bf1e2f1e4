//! Trails for programs that read on the fly: what `hoptrail timeline --json-lines` prints. Schema
//! `hoptrail.line/1`, JSON Lines: each line is a JSON object, complete by itself.
//!
//! ```json
//! {"schema":"hoptrail.line/1","type":"message","id":"7f3a91c2@mail.example.org","outcome":"delivered"}
//! {"schema":"hoptrail.line/1","type":"not-ours","id":"7f3a91c2@mail.example.org","host":"mx.example.info","from":null}
//! {"schema":"hoptrail.line/1","type":"skipped","place":"/home/alice/Maildir/new/1764.M1P2.mx.gz","why":"compressed by gzip"}
//! ```
//!
//! The `type` says what a line is about; whoever meets one he does not know passes over it:
//!
//! - `message`: all fields of an element of `messages` in [`hoptrail.timeline/1`](super), of which two are
//!   shown here; they mean the same. The oldest comes first.
//! - `not-ours`: all fields of an element of `not_ours` there: a report that proves to be about no mail of
//!   this user.
//! - `skipped`: all fields of an element of `skipped` there: what was not read or not understood. Comes last.
//!
//! Within version 1 fields, words and types are only added.

use jiff::tz::TimeZone;
use serde::Serialize;

use super::fill::{escaped, message, not_ours, skipped};
use super::{MessageJson, NotOursJson, SkippedJson};
use crate::trail::render::View;
use crate::trail::{Message, NotOurs};

/// The name and version of the schema.
pub const SCHEMA: &str = "hoptrail.line/1";

/// A line.
#[derive(Serialize)]
struct Line<'a> {
    /// [`SCHEMA`].
    schema: &'static str,
    #[serde(flatten)]
    about: About<'a>,
}

/// What a line is about.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
enum About<'a> {
    Message(Box<MessageJson<'a>>),
    NotOurs(NotOursJson<'a>),
    Skipped(SkippedJson<'a>),
}

/// A line for each message.
pub fn lines(messages: &[Message], now_us: i64) -> String {
    let view = View {
        now_us,
        zone: TimeZone::UTC,
        width: None,
        colours: false,
    };
    let messages = messages.iter();
    let about = messages.map(|m| About::Message(Box::new(message(m, &view))));
    about.map(line).collect()
}

/// A line for each report set apart; they come behind the messages.
pub fn lines_apart(reports: &[NotOurs]) -> String {
    let about = reports.iter().map(|n| About::NotOurs(not_ours(n)));
    about.map(line).collect()
}

/// A line for each place that was skipped; they come last.
pub fn lines_skipped(places: &[(String, String)]) -> String {
    let about = skipped(places).into_iter().map(About::Skipped);
    about.map(line).collect()
}

fn line(about: About) -> String {
    let schema = SCHEMA;
    // Strings, numbers and lists always make JSON; a line end in a string is an escape.
    let text = serde_json::to_string(&Line { schema, about }).unwrap_or_default();
    escaped(&text) + "\n"
}
