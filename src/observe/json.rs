//! A log event as one line of JSON: time, level, the event's own fields, target, and the session it belongs to.
//!
//! Of our own, because every tracked message costs a line: the subscriber's own format writes the line octet by
//! octet, which took as long as the rest of a message's tracking.

use std::fmt::{self, Debug, Write};
use std::net::SocketAddr;

use itoa::Buffer;
use tracing::Event;
use tracing::field::{Field, Visit};

use super::session::Session;
use super::stamp;

/// Writes the event with its line end.
pub fn write(line: &mut String, event: &Event<'_>, session: Option<Session>) {
    let about = event.metadata();
    line.push_str("{\"timestamp\":\"");
    stamp::write(line);
    line.extend(["\",\"level\":\"", about.level().as_str(), "\""]);
    event.record(&mut Fields(line));
    line.extend([",\"target\":\"", about.target(), "\""]);
    if let Some(session) = session {
        of_session(line, session);
    }
    line.push_str("}\n");
}

fn of_session(line: &mut String, session: Session) {
    let mut digits = Buffer::new();
    line.extend([",\"session\":{\"role\":\"", session.role, "\",\"n\":"]);
    line.extend([digits.format(session.number), ",\"client\":\""]);
    if let SocketAddr::V4(client) = session.client {
        for (octet, behind) in client.ip().octets().into_iter().zip([".", ".", ".", ":"]) {
            line.extend([digits.format(octet), behind]);
        }
        line.push_str(digits.format(client.port()));
    } else {
        // Writing to a String cannot fail.
        let _ = write!(line, "{}", session.client);
    }
    line.push_str("\"}");
}

/// Writes fields as `,"name":value`.
struct Fields<'a>(&'a mut String);

impl Fields<'_> {
    fn name(&mut self, field: &Field) {
        self.0.extend([",\"", field.name(), "\":"]);
    }

    /// A value that is written as it is.
    fn plain(&mut self, field: &Field, value: &str) {
        self.name(field);
        self.0.push_str(value);
    }

    /// A value that JSON has no form of its own for, as a string.
    fn text(&mut self, field: &Field, value: impl FnOnce(&mut Escaped<'_>) -> fmt::Result) {
        self.name(field);
        self.0.push('"');
        // What cannot say itself is cut off where it failed.
        let _ = value(&mut Escaped(self.0));
        self.0.push('"');
    }
}

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.text(field, |text| write!(text, "{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.text(field, |text| text.write_str(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.plain(field, Buffer::new().format(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.plain(field, Buffer::new().format(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.plain(field, if value { "true" } else { "false" });
    }
}

/// Writes the inside of a JSON string (RFC 8259, 7).
struct Escaped<'a>(&'a mut String);

impl Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let special = |b: u8| b < b' ' || b == b'"' || b == b'\\';
        // Looks at all of them, so that the compiler makes vector instructions of it.
        if !text.bytes().fold(false, |any, b| any | special(b)) {
            self.0.push_str(text);
            return Ok(());
        }
        let mut rest = text;
        while let Some(at) = rest.bytes().position(special) {
            let (clean, from) = rest.split_at(at);
            self.0.push_str(clean);
            let mut chars = from.chars();
            match chars.next() {
                Some(c @ ('"' | '\\')) => self.0.extend(['\\', c]),
                Some(c) => write!(self.0, "\\u{:04x}", u32::from(c))?,
                None => {}
            }
            rest = chars.as_str();
        }
        self.0.push_str(rest);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::io;
    use std::sync::{Arc, Mutex};

    use serde_json::{Value, json};

    use super::super::log::Lines as Format;
    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(octets)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What is logged by `act`, line by line, read as anybody would; without the time.
    fn logged(act: impl FnOnce()) -> Vec<Value> {
        let lines = Lines::default();
        let writer = lines.clone();
        let log = tracing_subscriber::fmt()
            .event_format(Format { for_people: false })
            .with_writer(move || writer.clone())
            .finish();
        tracing::subscriber::with_default(log, act);
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        let read = |line: &str| {
            let mut line: Value = serde_json::from_str(line).unwrap();
            let time = line.as_object_mut().unwrap().remove("timestamp").unwrap();
            assert!(time.as_str().unwrap().ends_with('Z'), "{time}");
            line
        };
        text.lines().map(read).collect()
    }

    #[test]
    fn every_kind_of_field_has_its_form() {
        let lines = logged(|| {
            let id = 7_u64;
            tracing::warn!(target: "t", n = -1, id, ok = true, ratio = 0.5, who = %"a@b", why = ?Some(1), "it {}", "happened");
        });
        let fields = json!({"level": "WARN", "target": "t", "message": "it happened", "n": -1, "id": 7, "ok": true,
            "ratio": "0.5", "who": "a@b", "why": "Some(1)"});
        assert_eq!(lines, [fields]);
    }

    #[test]
    fn a_line_says_which_session_it_is_of() {
        let session = Session {
            role: "ingress",
            number: 3,
            client: "192.0.2.1:25".parse().unwrap(),
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let lines = logged(|| {
            runtime.block_on(session.of(async { tracing::info!("in") }));
            tracing::info!("out");
        });
        let said = json!({"role": "ingress", "n": 3, "client": "192.0.2.1:25"});
        assert_eq!(lines[0]["session"], said);
        assert_eq!(lines[1].get("session"), None);
    }

    #[test]
    fn no_strangers_words_break_a_line() {
        let words = "\" \\ \r\n \0 \u{7f} \u{2028} ü \u{1b}[31m {}\",\"level\":\"";
        let lines = logged(|| {
            tracing::info!(as_str = words, as_text = %words, "{words}");
        });
        assert_eq!(lines.len(), 1);
        for field in ["as_str", "as_text", "message"] {
            assert_eq!(lines[0][field], words);
        }
    }
}
