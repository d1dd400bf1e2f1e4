//! The normal form of what strangers put into a report: peers' replies, queue ids, names, addresses.
//! A report in normal form can stand in a mail without making a new field, header or MIME part, and
//! comes back from it unchanged: `read(write(r)) == r.clean()`.
//!
//! Must not know how a report is written; only what no line of it may hold.

use std::borrow::Cow;

use super::{HopReport, RecipientStatus, Security, Status, UNSEEN};

/// Longest free text (a reply, a name, an id) in a report, octets. With its field's name it stays under
/// the 998 octets of a line (RFC 5322, 2.1.1) even when it offers no blank to fold at.
pub const TEXT_OCTETS_MAX: usize = 900;

/// Longest address, octets. The path limit of RFC 5321 is 256; this leaves room for UTF-8, whose
/// escaped form (RFC 6533) takes up to six times as much.
pub const ADDRESS_OCTETS_MAX: usize = 150;

/// Longest address that is plain ASCII, octets.
pub const ASCII_ADDRESS_OCTETS_MAX: usize = TEXT_OCTETS_MAX;

/// Most exchanges told of one leg. A session has five; a client may try a few RCPTs again.
pub const EXCHANGES_MAX: usize = 16;

/// Longest name of a TLS version or cipher suite, octets.
const TOKEN_OCTETS_MAX: usize = 64;

/// Longest name in a ring, octets (RFC 1035, 2.3.4), and most names in one.
const RING_NAME_OCTETS_MAX: usize = 255;
const RING_HOPS_MAX: usize = 32;

/// What stands for a name that is empty.
const UNKNOWN: &str = "unknown";

/// A text, however it is held.
pub trait Text: AsRef<str> + From<String> + for<'a> From<&'a str> {}

impl<T: AsRef<str> + From<String> + for<'a> From<&'a str>> Text for T {}

/// One line of printable ASCII: controls become blanks, other characters `?`, runs of blanks one
/// blank, none at the ends, at most [`TEXT_OCTETS_MAX`] octets.
pub fn line(text: &str) -> String {
    if is_line(text) {
        return text.to_owned();
    }
    let printable: String = text
        .chars()
        .map(|c| match c {
            '!'..='~' => c,
            c if c.is_whitespace() || c.is_control() => ' ',
            _ => '?',
        })
        .collect();
    let words: Vec<&str> = printable.split(' ').filter(|w| !w.is_empty()).collect();
    let mut line = words.join(" ");
    line.truncate(TEXT_OCTETS_MAX);
    line.truncate(line.trim_end().len());
    line
}

/// Whether [`line`] has nothing to do.
fn is_line(text: &str) -> bool {
    let octets = text.as_bytes();
    let pairs = octets.iter().zip(octets.get(1..).unwrap_or_default());
    let is_blank = |octet: &u8| *octet == b' ';
    let printable = |octet: &u8| matches!(octet, b' '..=b'~');
    let goes_on = |a: &u8, b: &u8| printable(a) & !(is_blank(a) & is_blank(b));
    // As in `all`.
    let goes_on = pairs.fold(true, |all, (a, b)| all & goes_on(a, b));
    let ends = octets.last().is_none_or(u8::is_ascii_graphic);
    text.len() <= TEXT_OCTETS_MAX && !text.starts_with(' ') && ends && goes_on
}

/// Whether all octets are like that. Without a way out in between, many are looked at together.
pub fn all(octets: &[u8], like_that: impl Fn(&u8) -> bool) -> bool {
    octets
        .iter()
        .fold(true, |all, octet| all & like_that(octet))
}

/// An address without anything that could end its line: controls become `?`, blanks at the ends go.
/// ASCII stays exact, blanks inside a quoted local part included; UTF-8 stays readable.
pub fn address<T: Text>(text: &str) -> T {
    if is_plain_address(text) {
        return text.into();
    }
    let printable: String = text
        .chars()
        .map(|c| if is_hidden(c) { '?' } else { c })
        .collect();
    let octets_max = if printable.is_ascii() {
        ASCII_ADDRESS_OCTETS_MAX
    } else {
        ADDRESS_OCTETS_MAX
    };
    let mut end = octets_max.min(printable.len());
    while !printable.is_char_boundary(end) {
        end -= 1;
    }
    or_unknown(printable.get(..end).unwrap_or_default().trim().into())
}

/// Whether [`address`] has nothing to do; it may have nothing to do with others too.
fn is_plain_address(text: &str) -> bool {
    (1..=ASCII_ADDRESS_OCTETS_MAX).contains(&text.len())
        && all(text.as_bytes(), u8::is_ascii_graphic)
}

/// Whether a character steers a terminal or a reader's eye instead of showing: controls, line and paragraph separators,
/// and what shows nothing, so that two texts look the same and are not: zero-width and bidirectional marks, fillers,
/// variation selectors, tags (Unicode's `Default_Ignorable_Code_Point`).
pub fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}'
            | '\u{fff0}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e0fff}')
}

/// Makes a text a [`line`].
fn set_line<T: Text>(text: &mut T) {
    if !is_line(text.as_ref()) {
        *text = line(text.as_ref()).into();
    }
}

/// Makes a text an [`address`].
fn set_address<T: Text>(text: &mut T) {
    if !is_plain_address(text.as_ref()) {
        *text = address(text.as_ref());
    }
}

/// Makes a text a [`line`], if there is one and something is left of it.
fn set_optional<T: Text>(text: &mut Option<T>) {
    text.iter_mut().for_each(set_line);
    if text.as_ref().is_some_and(|text| text.as_ref().is_empty()) {
        *text = None;
    }
}

fn or_unknown<T: Text>(text: T) -> T {
    if text.as_ref().is_empty() {
        UNKNOWN.into()
    } else {
        text
    }
}

/// A technical name: letters, digits and what joins them.
fn token(text: Cow<'static, str>) -> Cow<'static, str> {
    // What is not its own stands in this program.
    if matches!(text, Cow::Borrowed(_)) {
        return text;
    }
    let known = |octet: &u8| octet.is_ascii_alphanumeric() || matches!(octet, b'.' | b'-' | b'_');
    if (1..=TOKEN_OCTETS_MAX).contains(&text.len()) && all(text.as_bytes(), known) {
        return text;
    }
    let known = |c: &char| u8::try_from(*c).is_ok_and(|octet| known(&octet));
    let known: String = text.chars().filter(known).take(TOKEN_OCTETS_MAX).collect();
    or_unknown(known).into()
}

/// A hop in a ring: printable ASCII without blanks.
fn ring_name(name: &str) -> String {
    let graphic = name.chars().filter(char::is_ascii_graphic);
    let name: String = graphic.take(RING_NAME_OCTETS_MAX).collect();
    if name.is_empty() {
        UNSEEN.to_owned()
    } else {
        name
    }
}

impl HopReport {
    /// The report in normal form. Idempotent.
    #[must_use]
    pub fn clean(mut self) -> Self {
        self.hop = self.hop.max(1);
        set_line(&mut self.reporting_mta);
        if self.reporting_mta.is_empty() {
            self.reporting_mta = UNKNOWN.into();
        }
        // It is an input of the certificate: one that cannot stand exactly is left out, not bent.
        self.message_id.take_if(|id| id.is_empty() || !is_line(id));
        set_optional(&mut self.queue_id);
        self.ring.truncate(RING_HOPS_MAX);
        for name in &mut self.ring {
            *name = ring_name(name);
        }
        self.times_in.truncate(EXCHANGES_MAX);
        self.times_out.truncate(EXCHANGES_MAX);
        self.tls_in = self.tls_in.map(Security::clean);
        self.tls_out = self.tls_out.map(Security::clean);
        self.recipients.iter_mut().for_each(RecipientStatus::clean);
        self
    }
}

impl Security {
    /// The facts in normal form. Idempotent.
    #[must_use]
    pub fn clean(self) -> Self {
        match self {
            Self::Plain => Self::Plain,
            Self::Tls {
                version,
                cipher,
                verified,
            } => Self::Tls {
                version: token(version),
                cipher: token(cipher),
                verified,
            },
        }
    }
}

impl RecipientStatus {
    /// Brings the group into normal form. Idempotent.
    pub fn clean(&mut self) {
        set_address(&mut self.original);
        set_address(&mut self.recipient);
        if !self.status.is_writable() {
            self.status = Status::of_class(match self.event.action() {
                "failed" => 5,
                "delayed" => 4,
                _ => 2,
            });
        }
        set_optional(&mut self.remote_mta);
        set_optional(&mut self.reply);
        set_optional(&mut self.remote_queue_id);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{is_hidden, line};

    proptest! {
        #[test]
        fn a_line_is_of_printable_words_with_one_blank_between(text in "[ ~a\u{e9}\t\u{7f}]{0,8}") {
            let line = line(&text);
            let is_word = |word: &str| !word.is_empty() && word.bytes().all(|o| o.is_ascii_graphic());
            prop_assert!(line.is_empty() || line.split(' ').all(is_word), "{line:?}");
            let is_kept = text.split(' ').all(is_word);
            prop_assert!(!is_kept || line == text);
        }
    }

    #[test]
    fn what_shows_nothing_is_hidden() {
        for c in "\u{1b}\u{ad}\u{200b}\u{202e}\u{3164}\u{fe0f}\u{feff}\u{e0001}\u{e0041}\u{e0100}"
            .chars()
        {
            assert!(is_hidden(c), "{}", c.escape_unicode());
        }
        for c in " aé\u{301}葛❤\u{1f600}".chars() {
            assert!(!is_hidden(c), "{}", c.escape_unicode());
        }
    }
}
