//! Replies (RFC 5321, 4.2): found in a stream of octets, kept as they came, and read for what a report
//! needs. Decisions go by the code only; the text is a stranger's.

use std::fmt::Write;
use std::mem;

use compact_str::CompactString;
use memchr::{memchr, memrchr};

use super::queue_id;

/// Most octets of a reply that a report quotes.
pub const TEXT_OCTETS_MAX: usize = 500;

/// Octets of a line with nothing but a code, CRLF included.
const CODE_OCTETS: usize = 5;

/// One reply with all its lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The three digits of the last line: the one that counts, where lines differ.
    pub code: u16,
    /// Every line as it came, but with a CRLF.
    raw: Vec<u8>,
}

/// What stands at the start of a buffer of replies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReplyParse {
    /// A whole reply.
    Complete {
        /// The reply.
        reply: Reply,
        /// The octets it took.
        len: usize,
    },
    /// The reply's last line has not come yet.
    Partial,
    /// This is no reply: what follows cannot be trusted either.
    Malformed,
    /// The reply cannot end within the octets allowed.
    TooLong,
}

/// Finds replies in a growing buffer and looks at every octet once, however slowly they come.
///
/// A line ends with LF, with or without a CR before it, and may bear another code than the one before (RFC 5321, 4.2.1
/// has them equal): whoever forgets that has still said what the last code says, and not to believe a 250 means the same
/// mail again. Where a reply ends is said by the separator alone, for which a tab does as well as a blank.
#[derive(Clone, Debug, Default)]
pub struct ReplyReader {
    /// Lines without a code are taken for text behind one that has one.
    forgiving: bool,
    /// There was such a line.
    torn: bool,
    /// The code of the last line that had one; 0 before that.
    code: u16,
    /// Octets of whole lines of the reply that have been looked at.
    scanned: usize,
    /// Octets behind which the next line ends.
    seen: usize,
    /// A line is not to go on as it came: a CR or LF stands alone in it, or a tab behind the code.
    odd: bool,
}

impl ReplyReader {
    /// One for which lines without a code are text of the reply they stand in, as Postfix and Sendmail have it. All that
    /// have one must have the same then: the last could be of another reply. Only for where one is awaited, and no more.
    pub fn forgiving() -> Self {
        Self {
            forgiving: true,
            ..Self::default()
        }
    }

    /// Looks at the reply that starts `buf`; it may have `octets_max` octets. After
    /// [`ReplyParse::Partial`] the next call must bring the same octets and more.
    pub fn next(&mut self, buf: &[u8], octets_max: usize) -> ReplyParse {
        let parse = self.scan(buf, octets_max);
        if parse != ReplyParse::Partial {
            *self = Self {
                forgiving: self.forgiving,
                ..Self::default()
            };
        }
        parse
    }

    fn scan(&mut self, buf: &[u8], octets_max: usize) -> ReplyParse {
        let allowed = buf.get(..octets_max).unwrap_or(buf);
        loop {
            let Some(end) = memchr(b'\n', allowed.get(self.seen..).unwrap_or_default()) else {
                self.seen = allowed.len();
                return if buf.len() < octets_max {
                    ReplyParse::Partial
                } else {
                    ReplyParse::TooLong
                };
            };
            let end = self.seen + end;
            let line = &allowed[self.scanned..end];
            let text = line.strip_suffix(b"\r");
            self.odd |= text.is_none_or(|text| memchr(b'\r', text).is_some());
            let text = text.unwrap_or(line);
            (self.scanned, self.seen) = (end + 1, end + 1);
            let Some(separator) = self.separator(text) else {
                return ReplyParse::Malformed;
            };
            if separator != b'-' {
                return self.complete(&buf[..=end]);
            }
        }
    }

    /// What stands behind the code of a line, a blank if nothing does; `None` if it cannot be a line of the reply.
    fn separator(&mut self, line: &[u8]) -> Option<u8> {
        let Some((code, separator)) = code_and_separator(line) else {
            self.torn = true;
            return (self.forgiving && self.code > 0).then_some(b'-');
        };
        let agrees = code == mem::replace(&mut self.code, code);
        self.odd |= separator == b'\t';
        (agrees || !self.torn).then_some(separator)
    }

    fn complete(&self, came: &[u8]) -> ReplyParse {
        let code = self.code;
        let raw = if self.odd || self.torn {
            as_lines(came, code)
        } else {
            came.to_vec()
        };
        let (reply, len) = (Reply { code, raw }, came.len());
        ReplyParse::Complete { reply, len }
    }
}

/// What came as lines that end with CRLF and hold no other CR, which is what a client is owed (RFC 5321, 2.3.8), each
/// with a code, and a blank or hyphen behind that (4.2).
fn as_lines(came: &[u8], code: u16) -> Vec<u8> {
    let mut raw = Vec::with_capacity(came.len() + 2);
    for line in came.split_inclusive(|b| *b == b'\n') {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let text = line.strip_suffix(b"\r").unwrap_or(line);
        let start = raw.len();
        let separator = code_and_separator(text);
        if separator.is_none() {
            raw.extend_from_slice(format!("{code}-").as_bytes());
        }
        raw.extend(text.iter().map(|b| if *b == b'\r' { b'?' } else { *b }));
        if let Some((_, b'\t')) = separator {
            raw[start + 3] = b' ';
        }
        raw.extend_from_slice(b"\r\n");
    }
    raw
}

/// Where the last line begins, whether it has its end or not.
fn last_line(raw: &[u8]) -> usize {
    let text = raw.strip_suffix(b"\n").unwrap_or(raw);
    memrchr(b'\n', text).map_or(0, |end| end + 1)
}

/// The code at the start of a line.
///
/// RFC 5321 wants the second digit to be 0 to 5; real servers also say 571 and the like.
fn code_of(line: &[u8]) -> Option<u16> {
    match line {
        [class @ b'2'..=b'5', second, third, ..]
            if second.is_ascii_digit() && third.is_ascii_digit() =>
        {
            Some(
                [class, second, third]
                    .iter()
                    .fold(0, |code, digit| code * 10 + u16::from(*digit - b'0')),
            )
        }
        _ => None,
    }
}

/// The code of a line and what stands behind it, a blank if nothing does.
fn code_and_separator(line: &[u8]) -> Option<(u16, u8)> {
    let separator = line.get(3).copied().unwrap_or(b' ');
    let code = code_of(line).filter(|_| matches!(separator, b' ' | b'-' | b'\t'));
    Some((code?, separator))
}

impl Reply {
    /// Looks at the reply that starts `buf`; it may have `octets_max` octets, all lines together.
    ///
    /// A bare code is accepted. For a reply that comes in many pieces [`ReplyReader`] remembers what it has seen.
    pub fn next(buf: &[u8], octets_max: usize) -> ReplyParse {
        ReplyReader::default().next(buf, octets_max)
    }

    /// The last code in `buf`, with a text of ours for the one that does not end.
    pub fn begun(buf: &[u8]) -> Option<Self> {
        let code = |line: &[u8]| code_of(line).filter(|_| matches!(line.get(3), Some(b' ' | b'-')));
        let code = buf.rsplit(|b| *b == b'\n').find_map(code)?;
        Some(Self::new(code, "", "(the rest was too long)"))
    }

    /// The same with the code that counts on each line: of lines that differ others take the first.
    #[must_use]
    pub fn in_one_code(mut self) -> Self {
        let last = last_line(&self.raw);
        let (before, last) = self.raw.split_at_mut(last);
        for line in before.split_inclusive_mut(|b| *b == b'\n') {
            let code = last.iter().take(3);
            line.iter_mut()
                .zip(code)
                .for_each(|(octet, is)| *octet = *is);
        }
        self
    }

    /// The same with no more text than fits into so many octets: whole lines, or the start of the first.
    #[must_use]
    pub fn cut(mut self, octets_max: usize) -> Self {
        let octets_max = octets_max.max(CODE_OCTETS);
        if self.raw.len() <= octets_max {
            return self;
        }
        // The line that told the code may be cut off.
        self = self.in_one_code();
        let whole = memrchr(b'\n', &self.raw[..octets_max]).map(|end| end - 1);
        self.raw.truncate(whole.unwrap_or(octets_max - 2));
        let last = last_line(&self.raw);
        if let Some(separator) = self.raw.get_mut(last + 3) {
            *separator = b' ';
        }
        self.raw.extend_from_slice(b"\r\n");
        self
    }

    /// A reply of our own: one line. What is not printable ASCII in `text` becomes `?`.
    pub fn new(code: u16, status: &str, text: &str) -> Self {
        let line = [code.to_string().as_str(), status, text]
            .into_iter()
            .filter(|part| !part.is_empty())
            .collect::<Vec<_>>()
            .join(" ");
        let raw = format!("{}\r\n", printable(line.as_bytes())).into_bytes();
        Self { code, raw }
    }

    /// A reply of these lines, which hold no CR or LF; at least one.
    pub(super) fn of_lines(code: u16, lines: &[&[u8]]) -> Self {
        let mut raw = Vec::with_capacity(lines.iter().map(|line| line.len() + 6).sum());
        for (at, line) in lines.iter().enumerate() {
            let separator = if at + 1 < lines.len() { '-' } else { ' ' };
            raw.extend_from_slice(format!("{code}{separator}").as_bytes());
            raw.extend_from_slice(line);
            raw.extend_from_slice(b"\r\n");
        }
        Self { code, raw }
    }

    /// Puts one more line behind the last. What is not printable ASCII becomes `?`.
    pub(super) fn add_line(&mut self, line: &[u8]) {
        let last = last_line(&self.raw);
        let code = last..last + 3;
        // A bare code is a whole line, too.
        match self.raw.get_mut(code.end) {
            Some(separator @ b' ') => *separator = b'-',
            _ => self.raw.insert(code.end, b'-'),
        }
        self.raw.extend_from_within(code);
        self.raw.push(b' ');
        self.raw.extend(line.iter().copied().map(show));
        self.raw.extend_from_slice(b"\r\n");
    }

    /// Every line as it came, but with a CRLF.
    pub fn raw(&self) -> &[u8] {
        &self.raw
    }

    /// The same, for who needs nothing else of it.
    pub fn into_raw(self) -> Vec<u8> {
        self.raw
    }

    /// The first digit.
    pub fn class(&self) -> u8 {
        u8::try_from(self.code / 100).unwrap_or(u8::MAX)
    }

    /// Whether it is 2xx.
    pub fn is_positive(&self) -> bool {
        self.class() == 2
    }

    /// Whether it is 4xx.
    pub fn is_transient(&self) -> bool {
        self.class() == 4
    }

    /// Whether it is 5xx.
    pub fn is_permanent(&self) -> bool {
        self.class() == 5
    }

    /// The text of each line, behind code and separator.
    pub fn lines(&self) -> impl Iterator<Item = &[u8]> {
        self.raw
            .split_inclusive(|b| *b == b'\n')
            .map(|line| line.strip_suffix(b"\r\n").unwrap_or(line))
            .map(|line| line.get(4..).unwrap_or_default())
    }

    /// The enhanced status code at the start of the first line (RFC 2034, RFC 3463), if its class is
    /// the reply's own.
    pub fn enhanced(&self) -> Option<(u8, u16, u16)> {
        let word = self.lines().next()?.split(|b| *b == b' ').next()?;
        let (class, subject, detail) = status(word)?;
        (class == self.class()).then_some((class, subject, detail))
    }

    /// The reply for a report: code and lines joined by blanks, `?` for all that is not printable ASCII,
    /// at most [`TEXT_OCTETS_MAX`] octets.
    pub fn text(&self) -> String {
        let mut text = String::with_capacity(self.raw.len().min(2 * TEXT_OCTETS_MAX));
        // Writing to a String cannot fail.
        let _ = write!(text, "{}", self.code);
        for line in self.lines().filter(|line| !line.is_empty()) {
            text.push(' ');
            text.extend(line.iter().copied().map(shown));
            if text.len() >= TEXT_OCTETS_MAX {
                break;
            }
        }
        text.truncate(TEXT_OCTETS_MAX);
        text
    }

    /// The queue id in a final 2xx reply, in the words of the MTAs we know.
    pub fn queue_id(&self) -> Option<CompactString> {
        if !self.is_positive() {
            return None;
        }
        self.lines()
            .filter_map(|line| std::str::from_utf8(line).ok())
            .find_map(|line| queue_id::find(without_status(line)))
            .map(CompactString::from)
    }
}

/// Reads `class.subject.detail` without leading zeros (RFC 3463, 2).
fn status(word: &[u8]) -> Option<(u8, u16, u16)> {
    let number = |part: &[u8]| {
        let digits = matches!(part.len(), 1..=3) && part.iter().all(u8::is_ascii_digit);
        let canonical = digits && (part == b"0" || !part.starts_with(b"0"));
        let and = |number, digit: &u8| number * 10 + u16::from(digit - b'0');
        canonical.then(|| part.iter().fold(0, and))
    };
    let mut parts = word.split(|b| *b == b'.');
    let class = match parts.next()? {
        b"2" => 2,
        b"4" => 4,
        b"5" => 5,
        _ => return None,
    };
    let (subject, detail) = (number(parts.next()?)?, number(parts.next()?)?);
    parts.next().is_none().then_some((class, subject, detail))
}

fn without_status(line: &str) -> &str {
    match line.split_once(' ') {
        Some((word, rest)) if status(word.as_bytes()).is_some() => rest,
        _ => line,
    }
}

/// `?` for every octet that is not printable ASCII.
fn printable(octets: &[u8]) -> String {
    octets.iter().copied().map(shown).collect()
}

fn shown(octet: u8) -> char {
    char::from(show(octet))
}

fn show(octet: u8) -> u8 {
    match octet {
        b' '..=b'~' => octet,
        _ => b'?',
    }
}

#[cfg(test)]
mod tests;
