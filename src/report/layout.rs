//! The tracking part of a mail that is laid out as hops lay it out, found without the work of reading any MIME:
//! that is what most of the time of a large mailbox went into. Of every other mail it says nothing, which is then
//! read the long way; where it says something, it says the same.

use std::sync::LazyLock;

use memchr::memmem::Finder;

use crate::track::clean::all;

/// What a report is read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout<'a> {
    /// The tracking part.
    pub tracking: &'a [u8],
    /// The address in From.
    pub from: &'a str,
    /// The address in To, if there is one.
    pub to: Option<&'a str>,
    /// The header that the hop saw, if it shows it.
    pub header: Option<&'a [u8]>,
}

/// The parts of a mail of the usual layout.
pub fn of(mail: &[u8]) -> Option<Layout<'_>> {
    let mut limit = None;
    let mut from = None;
    let mut to = None;
    let mut fields = Header(mail);
    while let Some((name, value)) = fields.next()? {
        let seen = if is(name, b"Content-Type") {
            limit.replace(boundary(value)?)
        } else if is(name, b"From") {
            from.replace(value)
        } else if is(name, b"To") {
            to.replace(value)
        } else if is(name, b"Content-Transfer-Encoding") {
            return None;
        } else {
            None
        };
        if seen.is_some() {
            return None;
        }
    }
    let (tracking, header) = parts(fields.0, limit?)?;
    Some(Layout {
        tracking,
        from: address(from?)?,
        to: match to {
            Some(to) => Some(address(to)?),
            None => None,
        },
        header,
    })
}

/// Whether a word is this one in any case; mostly it stands there as hops write it.
fn is(word: &[u8], usual: &[u8]) -> bool {
    word == usual || word.eq_ignore_ascii_case(usual)
}

/// A header block, and in the end what stands behind the empty line that ends it.
struct Header<'a>(&'a [u8]);

impl<'a> Header<'a> {
    /// Name and value of the next field, the value with its folds and blanks; the inner `None` at the end of the block,
    /// the outer one where a line begins no field, or the block has no end.
    #[allow(clippy::option_option)]
    #[inline]
    fn next(&mut self) -> Option<Option<(&'a [u8], &'a [u8])>> {
        let text = self.0;
        let empty = text.strip_prefix(b"\r\n");
        if let Some(behind) = empty.or_else(|| text.strip_prefix(b"\n")) {
            self.0 = behind;
            return Some(None);
        }
        let end = memchr::memchr_iter(b'\n', text)
            .find(|at| !matches!(text.get(at + 1), Some(b' ' | b'\t')))?;
        let (field, behind) = text.split_at_checked(end + 1)?;
        self.0 = behind;
        name_and_value(field).map(Some)
    }
}

/// A name with a blank in it, or in front of the colon, is for the long way.
fn name_and_value(field: &[u8]) -> Option<(&[u8], &[u8])> {
    // Of what is in a name, nearly all stands behind the colon in ASCII: one look at each is enough.
    let ends = |octet: &u8| *octet <= b':' && (*octet == b':' || *octet <= b' ');
    let colon = field.iter().position(ends)?;
    let (name, value) = (field.get(..colon)?, field.get(colon..)?);
    let value = value.strip_prefix(b":")?;
    (!name.is_empty()).then_some((name, value))
}

/// The boundary of a report's Content-Type.
fn boundary(content_type: &[u8]) -> Option<&[u8]> {
    let mut words = words(content_type);
    if !is(words.next()?, b"multipart/report") {
        return None;
    }
    let mut boundary = None;
    let mut is_tracking = false;
    for word in words {
        let (name, value) = word.split_at_checked(memchr::memchr(b'=', word)?)?;
        let value = value.get(1..)?;
        let value = value
            .strip_prefix(b"\"")
            .map_or(Some(value), |quoted| quoted.strip_suffix(b"\""))?;
        if is(name, b"report-type") {
            if is_tracking || !is(value, b"tracking-status") {
                return None;
            }
            is_tracking = true;
        } else if is(name, b"boundary") {
            let plain = !value.is_empty() && all(value, u8::is_ascii_alphanumeric);
            if !plain || boundary.replace(value).is_some() {
                return None;
            }
        } else {
            return None;
        }
    }
    boundary.filter(|_| is_tracking)
}

/// What stands between semicolons, without blanks at its ends.
fn words(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let end = memchr::memchr(b';', text);
        rest = end.and_then(|end| text.get(end + 1..));
        Some(text.get(..end.unwrap_or(text.len()))?.trim_ascii())
    })
}

/// The first tracking part and the first header that a hop saw, if only these and plain text stand there.
fn parts<'a>(body: &'a [u8], boundary: &[u8]) -> Option<(&'a [u8], Option<&'a [u8]>)> {
    let mut marks = marks(body, boundary);
    let (_, mut start) = marks.next()?;
    let (mut tracking, mut header) = (None, None);
    loop {
        if body.get(start..)?.starts_with(DASHES) {
            return Some((tracking?, header));
        }
        let (end, behind) = marks.next()?;
        let part = body.get(start..end)?;
        let part = part
            .strip_prefix(b"\r\n")
            .or_else(|| part.strip_prefix(b"\n"))?;
        let part = part.strip_suffix(b"\n")?;
        let part = part.strip_suffix(b"\r").unwrap_or(part);
        let mut head = Header(part);
        let kind = kind(&mut head)?;
        let content = head.0;
        match kind {
            Kind::Text => None,
            Kind::Tracking => tracking.is_none().then(|| tracking.insert(content)),
            Kind::Header if content.is_ascii() => header.is_none().then(|| header.insert(content)),
            Kind::Header => return None,
        };
        start = behind;
    }
}

/// Stands in front of a boundary, and behind the last.
const DASHES: &[u8] = b"--";

/// Where each boundary begins, its dashes included, and what is behind it: readers find it even within a line.
fn marks(body: &[u8], boundary: &[u8]) -> impl Iterator<Item = (usize, usize)> {
    static FINDER: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(DASHES));
    let mut from = 0;
    std::iter::from_fn(move || {
        loop {
            let rest = body.get(from..)?;
            let dashes = rest.get(FINDER.find(rest)?..)?;
            let behind = dashes.iter().position(|octet| *octet != b'-')?;
            let after = dashes.get(behind..)?;
            let start = body.len() - after.len();
            from = start;
            if after.starts_with(boundary) {
                from += boundary.len();
                return Some((start - DASHES.len(), from));
            }
        }
    })
}

/// What a part is.
#[derive(Clone, Copy)]
enum Kind {
    Text,
    Tracking,
    Header,
}

/// What a part is, by the fields of its header; `None` for anything else, and if it is encoded.
fn kind(header: &mut Header) -> Option<Kind> {
    let mut kind = None;
    while let Some((name, value)) = header.next()? {
        let value = value.trim_ascii();
        if is(name, b"Content-Type") {
            let is_text = || {
                let word = words(value).next();
                word.is_some_and(|word| is(word, b"text/plain"))
            };
            let here = if is(value, b"message/tracking-status") {
                Kind::Tracking
            } else if is(value, b"text/rfc822-headers") {
                Kind::Header
            } else if is_text() {
                Kind::Text
            } else {
                return None;
            };
            if kind.replace(here).is_some() {
                return None;
            }
        } else if is(name, b"Content-Transfer-Encoding")
            && !is(value, b"7bit")
            && !is(value, b"8bit")
        {
            return None;
        }
    }
    Some(kind.unwrap_or(Kind::Text))
}

/// The address of a From like `"Somebody" <address>`.
fn address(from: &[u8]) -> Option<&str> {
    let from = from.trim_ascii_end().strip_suffix(b">")?;
    let open = memchr::memrchr(b'<', from)?;
    let (name, address) = (from.get(..open)?.trim_ascii(), from.get(open + 1..)?);
    let plain = |o: &u8| o.is_ascii_alphanumeric() || matches!(o, b' ' | b'.' | b'-' | b'_');
    let inner = name.strip_prefix(b"\"").and_then(|n| n.strip_suffix(b"\""));
    let named = name.is_empty() || inner.is_some_and(|n| !n.is_empty() && all(n, plain));
    let atom = |half: &[u8]| {
        let addr = |o: &u8| o.is_ascii_alphanumeric() || matches!(o, b'.' | b'-' | b'_' | b'+');
        !half.is_empty() && all(half, addr)
    };
    let at = address.iter().position(|octet| *octet == b'@')?;
    let whole = atom(address.get(..at)?) && atom(address.get(at + 1..)?);
    std::str::from_utf8(address).ok().filter(|_| named && whole)
}
