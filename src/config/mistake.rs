//! What is wrong in a file, in words for whoever wrote it: file, line and key, and what is wanted. Must not know
//! what any key means.

use std::ops::Range;

use serde::de::DeserializeOwned;
use thiserror::Error;

/// A configuration that cannot be run, in words for whoever wrote it.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file itself.
    #[error("{path}: {why}")]
    Unreadable {
        /// The file.
        path: String,
        /// Why.
        why: std::io::Error,
    },
    /// Something in it.
    #[error("{}: {message}", place(path, *line))]
    Wrong {
        /// The file.
        path: String,
        /// The line, from 1; `None` for what stands nowhere in the file.
        line: Option<usize>,
        /// The key and what is wrong with it.
        message: String,
    },
}

/// An offset into the file and what is wrong there.
pub type Wrong = (usize, String);

impl ConfigError {
    /// What is wrong with `text`, that of the file called `name`.
    pub fn of(text: &str, name: &str, (offset, message): Wrong) -> Self {
        Self::Wrong {
            path: name.to_owned(),
            line: Some(line_at(text, offset)),
            message,
        }
    }
}

/// Reads any TOML file, mistakes named by file, line and key.
pub fn from_toml<T: DeserializeOwned>(text: &str, name: &str) -> Result<T, ConfigError> {
    toml::from_str(text).map_err(|error| {
        let span = error.span().unwrap_or(0..0);
        let message = error.message().trim_end();
        match missing(message) {
            // The parser finds what a whole file lacks in its first line.
            Some(key) if span.start == 0 && !text.starts_with('[') => ConfigError::Wrong {
                path: name.to_owned(),
                line: None,
                message: said_missing(key),
            },
            _ => ConfigError::of(text, name, (span.start, explain(text, &span, message))),
        }
    })
}

/// A line of a file, as compilers name it.
pub fn place(file: &str, line: Option<usize>) -> String {
    match line {
        Some(line) => format!("{file}:{line}"),
        None => file.to_owned(),
    }
}

/// The line, from 1, in which this octet of the text stands.
pub fn line_at(text: &str, offset: usize) -> usize {
    text.get(..offset).unwrap_or(text).matches('\n').count() + 1
}

/// What the parser says of values in the words of this language, and in those of whoever wrote the file.
const IN_PLAIN_WORDS: [(&str, &str); 10] = [
    (
        "invalid socket address syntax",
        "an IP address and a port are wanted, such as 127.0.0.1:25 or [::1]:25",
    ),
    (
        "expected socket address",
        "expected an IP address and a port in quotes, such as \"127.0.0.1:25\"",
    ),
    ("wanted string or table", "expected a word in quotes"),
    ("expected path string", "expected a path in quotes"),
    ("expected a string", "expected a text in quotes"),
    (
        "expected a sequence",
        "expected a list, such as [\"one\", \"two\"]",
    ),
    (
        "expected a nonzero u32",
        "expected a whole number, 1 or more",
    ),
    ("expected u32", "expected a whole number, 0 or more"),
    ("expected usize", "expected a whole number, 0 or more"),
    ("expected i64", "expected a whole number"),
];

/// The parser's message behind the key it is about, and the line, so that the value is seen.
fn explain(text: &str, span: &Range<usize>, message: &str) -> String {
    let before = text.get(..span.start).unwrap_or_default();
    let start = before.rfind('\n').map_or(0, |at| at + 1);
    let line = text
        .get(start..)
        .and_then(|t| t.lines().next())
        .unwrap_or_default();
    let mut words = message.replace('\n', "; ");
    for (theirs, ours) in IN_PLAIN_WORDS {
        words = words.replace(theirs, ours);
    }
    if let Some(key) = missing(message) {
        words = said_missing(key);
    } else if let Some(key) = key_before(line, span.start - start) {
        words = format!("{key}: {words}");
    }
    match line.trim() {
        "" => words,
        shown => format!("{words} (at: {shown})"),
    }
}

/// The key that the parser misses.
fn missing(message: &str) -> Option<&str> {
    message.strip_prefix("missing field `")?.strip_suffix('`')
}

fn said_missing(key: &str) -> String {
    format!("{key}: missing, and it has no default; examples/ shows every key")
}

/// The key of a line, if this place in it is behind the equal sign.
fn key_before(line: &str, place: usize) -> Option<&str> {
    let (key, _) = line.get(..place)?.split_once('=')?;
    let key = key.trim();
    let bare = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
    (!key.is_empty() && key.bytes().all(bare)).then_some(key)
}
