//! MAIL and RCPT: the path and the parameters as spans of the line that came, so that one parameter can
//! be taken out or put in while every other octet stays as written (RFC 5321, 4.1.2; RFC 6531).
//!
//! Knows the shape of paths and parameters, not what any parameter means.

use std::ops::Range;

use super::refusal::Refusal;

const NO_FROM: Refusal = Refusal::new(501, "5.5.4", "Syntax: MAIL FROM:<address>");
const NO_TO: Refusal = Refusal::new(501, "5.5.4", "Syntax: RCPT TO:<address>");
const BAD_SENDER: Refusal = Refusal::new(501, "5.1.7", "Bad sender address syntax");
const BAD_RECIPIENT: Refusal = Refusal::new(501, "5.1.3", "Bad recipient address syntax");
const BAD_PARAMETER: Refusal = Refusal::new(501, "5.5.4", "Malformed parameter");

/// A MAIL or RCPT command: a view into the line that came.
#[derive(Clone, Debug)]
pub struct EnvelopeCommand<'a> {
    line: &'a [u8],
    path: Range<usize>,
    /// Where the mailbox starts in `line`, behind any source route.
    mailbox: usize,
    params: Vec<Param>,
}

/// One parameter as spans of the line.
#[derive(Clone, Debug)]
struct Param {
    keyword: Range<usize>,
    value: Option<Range<usize>>,
}

impl<'a> EnvelopeCommand<'a> {
    /// Reads MAIL; `argument` is where the argument starts in `line`.
    pub(super) fn mail(line: &'a [u8], argument: usize) -> Result<Self, Refusal> {
        let at = behind(line, argument, b"FROM:").ok_or(NO_FROM)?;
        let command = Self::read(line, at, BAD_SENDER)?;
        let null = line.get(command.path.end) == Some(&b'>') && command.path.is_empty();
        (null || !command.mailbox().is_empty())
            .then_some(command)
            .ok_or(BAD_SENDER)
    }

    /// Reads RCPT, where the empty path has no meaning.
    pub(super) fn rcpt(line: &'a [u8], argument: usize) -> Result<Self, Refusal> {
        let at = behind(line, argument, b"TO:").ok_or(NO_TO)?;
        let command = Self::read(line, at, BAD_RECIPIENT)?;
        (!command.mailbox().is_empty())
            .then_some(command)
            .ok_or(BAD_RECIPIENT)
    }

    /// Reads from the octet behind the colon on. A blank there is tolerated, many clients send one.
    fn read(line: &'a [u8], at: usize, bad_path: Refusal) -> Result<Self, Refusal> {
        let start = line.len() - line[at..].trim_ascii_start().len();
        let (path, route_len) = path_span(line, start).ok_or(bad_path)?;
        let behind = path.end + usize::from(line.get(path.end) == Some(&b'>'));
        Ok(Self {
            line,
            mailbox: path.start + route_len,
            path,
            params: params(line, behind).ok_or(BAD_PARAMETER)?,
        })
    }

    /// What stands between the angle brackets, as written; empty for `<>`.
    pub fn path(&self) -> &'a [u8] {
        &self.line[self.path.clone()]
    }

    /// The path without its source route, which RFC 5321 (appendix C) has receivers ignore.
    pub fn mailbox(&self) -> &'a [u8] {
        &self.line[self.mailbox..self.path.end]
    }

    /// Every parameter in order: keyword and value, as written.
    pub fn params(&self) -> impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)> + '_ {
        let line = self.line;
        self.params.iter().map(move |param| {
            let value = param.value.clone().map(|span| &line[span]);
            (&line[param.keyword.clone()], value)
        })
    }

    /// The value of the first such parameter: `None` if there is none, `Some(None)` if it has no value.
    pub fn param(&self, keyword: &str) -> Option<Option<&'a [u8]>> {
        self.params()
            .find(|(name, _)| name.eq_ignore_ascii_case(keyword.as_bytes()))
            .map(|(_, value)| value)
    }

    /// How many such parameters there are.
    pub fn count(&self, keyword: &str) -> usize {
        self.named(keyword).count()
    }

    /// The line with every such parameter and the one blank before it taken out. With room for a line end.
    pub fn without(&self, keyword: &str) -> Vec<u8> {
        let mut line = Vec::with_capacity(self.line.len() + 2);
        let mut copied = 0;
        for param in self.named(keyword) {
            line.extend_from_slice(&self.line[copied..param.keyword.start - 1]);
            copied = param.end();
        }
        line.extend_from_slice(&self.line[copied..]);
        line
    }

    /// The line with the value of every such parameter replaced, or with the parameter put at its end.
    /// `value` must be an esmtp-value of our own making. With room for a line end.
    pub fn with_value(&self, keyword: &str, value: &str) -> Vec<u8> {
        let mut line = Vec::with_capacity(self.line.len() + keyword.len() + value.len() + 4);
        let mut copied = 0;
        for param in self.named(keyword) {
            line.extend_from_slice(&self.line[copied..param.keyword.end]);
            line.extend_from_slice(b"=");
            line.extend_from_slice(value.as_bytes());
            copied = param.end();
        }
        line.extend_from_slice(&self.line[copied..]);
        if copied == 0 {
            for part in [" ", keyword, "=", value] {
                line.extend_from_slice(part.as_bytes());
            }
        }
        line
    }

    fn named(&self, keyword: &str) -> impl Iterator<Item = &Param> {
        self.params.iter().filter(move |param| {
            self.line[param.keyword.clone()].eq_ignore_ascii_case(keyword.as_bytes())
        })
    }
}

impl Param {
    /// Reads `esmtp-keyword ["=" esmtp-value]`; `start` is where `word` stands in the line.
    ///
    /// Controls and blanks are gone already, and octets from 0x80 on may stand in a value (RFC 6531, 3.3).
    fn read(word: &[u8], start: usize) -> Option<Self> {
        let equals = word.iter().position(|b| *b == b'=');
        let (keyword, value) = word.split_at(equals.unwrap_or(word.len()));
        let keyword_sound = keyword.first().is_some_and(u8::is_ascii_alphanumeric)
            && keyword
                .iter()
                .all(|b| b.is_ascii_alphanumeric() || *b == b'-');
        let value_sound = match value {
            [] => true,
            [_equals, rest @ ..] => !rest.is_empty() && !rest.contains(&b'='),
        };
        let keyword_end = start + keyword.len();
        (keyword_sound && value_sound).then(|| Self {
            keyword: start..keyword_end,
            value: equals.map(|_| keyword_end + 1..start + word.len()),
        })
    }

    fn end(&self) -> usize {
        self.value
            .as_ref()
            .map_or(self.keyword.end, |value| value.end)
    }
}

/// The offset behind `word` if it stands at `at`, in any case.
fn behind(line: &[u8], at: usize, word: &[u8]) -> Option<usize> {
    let end = at + word.len();
    line.get(at..end)?.eq_ignore_ascii_case(word).then_some(end)
}

/// Every parameter from `from` on, where the path has ended: a blank or the line's end must stand there.
fn params(line: &[u8], from: usize) -> Option<Vec<Param>> {
    let rest = &line[from..];
    if rest.first().is_some_and(|b| *b != b' ') {
        return None;
    }
    let mut at = from;
    let mut params = Vec::new();
    for word in rest.split(|b| *b == b' ') {
        if !word.is_empty() {
            params.push(Param::read(word, at)?);
        }
        at += word.len() + 1;
    }
    Some(params)
}

/// The span of the path that starts at `start`, and the length of its source route.
///
/// Old clients leave the angle brackets out. This is where that is let pass: only if the path has no
/// blank, so that its end cannot be mistaken.
fn path_span(line: &[u8], start: usize) -> Option<(Range<usize>, usize)> {
    let bracketed = line.get(start) == Some(&b'<');
    let start = start + usize::from(bracketed);
    let route_len = route_len(&line[start..])?;
    let end = start + route_len + mailbox_len(&line[start + route_len..])?;
    let ended = match line.get(end) {
        Some(b'>') => bracketed,
        Some(b' ') | None => !bracketed && !line[start..end].contains(&b' '),
        Some(_) => false,
    };
    ended.then_some((start..end, route_len))
}

/// The length of a source route `@a,@b:`; 0 if there is none, `None` if it does not end.
fn route_len(path: &[u8]) -> Option<usize> {
    if path.first() != Some(&b'@') {
        return Some(0);
    }
    let end = path.iter().position(|b| *b == b':' || is_delimiter(*b))?;
    (path[end] == b':').then_some(end + 1)
}

/// The length of the mailbox at the start of `text`, 0 if there is none. Only its shape is looked at:
/// a quoted local part may hold anything (RFC 5321, 4.1.2), everything else ends at a delimiter.
fn mailbox_len(text: &[u8]) -> Option<usize> {
    let quoted = quoted_len(text)?;
    let plain = text[quoted..]
        .iter()
        .position(|b| is_delimiter(*b))
        .unwrap_or(text.len() - quoted);
    let mailbox = &text[..quoted + plain];
    let local_ends = quoted == 0 || plain == 0 || text[quoted] == b'@';
    let whole = !mailbox.starts_with(b"@") && !mailbox.ends_with(b"@");
    (local_ends && whole).then_some(mailbox.len())
}

/// The length of the quoted string at the start of `text`, quotes included; 0 if there is none, `None`
/// if it does not end.
fn quoted_len(text: &[u8]) -> Option<usize> {
    if text.first() != Some(&b'"') {
        return Some(0);
    }
    let mut at = 1;
    loop {
        match text.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

/// Octets that cannot stand in a path outside of quotes.
fn is_delimiter(octet: u8) -> bool {
    matches!(octet, b'<' | b'>' | b' ' | b'"' | b'\\')
}

#[cfg(test)]
mod tests;
