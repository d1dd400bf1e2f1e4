//! The tracking part of a mail that is laid out as hops lay it out, found without the work of reading any MIME:
//! that is what most of the time of a large mailbox went into. Of every other mail it says nothing, which is then
//! read the long way; where it says something, it says the same.

use memchr::memmem;

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
    let (header, body) = block(mail)?;
    let mut content_type = None;
    let mut from = None;
    let mut to = None;
    for field in fields(header) {
        let (name, value) = field?;
        let seen = if name.eq_ignore_ascii_case(b"content-type") {
            content_type.replace(value)
        } else if name.eq_ignore_ascii_case(b"from") {
            from.replace(value)
        } else if name.eq_ignore_ascii_case(b"to") {
            to.replace(value)
        } else if name.eq_ignore_ascii_case(b"content-transfer-encoding") {
            return None;
        } else {
            None
        };
        if seen.is_some() {
            return None;
        }
    }
    let (tracking, header) = parts(body, boundary(content_type?)?)?;
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

/// The lines in front of an empty one, and what stands behind it.
fn block(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut start = 0;
    for end in memchr::memchr_iter(b'\n', text) {
        let line = text.get(start..end)?;
        if matches!(line, b"" | b"\r") {
            return Some((text.get(..start)?, text.get(end + 1..)?));
        }
        start = end + 1;
    }
    None
}

/// Name and value of each field of a header, the value with its folds; `None` for a line that begins none.
fn fields(header: &[u8]) -> impl Iterator<Item = Option<(&[u8], &[u8])>> {
    let mut rest = header;
    std::iter::from_fn(move || {
        let end = memchr::memchr_iter(b'\n', rest)
            .find(|at| !matches!(rest.get(at + 1), Some(b' ' | b'\t')))?;
        let (field, behind) = rest.split_at_checked(end + 1)?;
        rest = behind;
        Some(name_and_value(field))
    })
}

fn name_and_value(field: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = memchr::memchr(b':', field)?;
    let (name, value) = (field.get(..colon)?, field.get(colon + 1..)?);
    let token = |octet: &u8| octet.is_ascii_alphanumeric() || *octet == b'-';
    (!name.is_empty() && name.iter().all(token)).then(|| (name, value.trim_ascii()))
}

/// The boundary of a report's Content-Type.
fn boundary(content_type: &[u8]) -> Option<&[u8]> {
    let mut words = content_type
        .split(|octet| *octet == b';')
        .map(<[u8]>::trim_ascii);
    let is =
        |word: Option<&[u8]>, wanted: &[u8]| word.is_some_and(|w| w.eq_ignore_ascii_case(wanted));
    if !is(words.next(), b"multipart/report") {
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
        if name.eq_ignore_ascii_case(b"report-type") {
            if is_tracking || !value.eq_ignore_ascii_case(b"tracking-status") {
                return None;
            }
            is_tracking = true;
        } else if name.eq_ignore_ascii_case(b"boundary") {
            let plain = !value.is_empty() && value.iter().all(u8::is_ascii_alphanumeric);
            if !plain || boundary.replace(value).is_some() {
                return None;
            }
        } else {
            return None;
        }
    }
    boundary.filter(|_| is_tracking)
}

/// The first tracking part and the first header that a hop saw, if only these and plain text stand there.
fn parts<'a>(body: &'a [u8], boundary: &[u8]) -> Option<(&'a [u8], Option<&'a [u8]>)> {
    let mark = [b"--", boundary].concat();
    let mut marks = memmem::find_iter(body, &mark);
    let mut start = marks.next()? + mark.len();
    let (mut tracking, mut header) = (None, None);
    loop {
        if body.get(start..)?.starts_with(b"--") {
            return Some((tracking?, header));
        }
        let end = marks.next()?;
        let part = body.get(start..end)?;
        let part = part
            .strip_prefix(b"\r\n")
            .or_else(|| part.strip_prefix(b"\n"))?;
        let part = part.strip_suffix(b"\n")?;
        let part = part.strip_suffix(b"\r").unwrap_or(part);
        let (head, content) = block(part)?;
        match kind(head)? {
            Kind::Text => None,
            Kind::Tracking => tracking.is_none().then(|| tracking.insert(content)),
            Kind::Header if content.is_ascii() => header.is_none().then(|| header.insert(content)),
            Kind::Header => return None,
        };
        start = end + mark.len();
    }
}

/// What a part is.
#[derive(Clone, Copy)]
enum Kind {
    Text,
    Tracking,
    Header,
}

/// What a part is; `None` for anything else, and if it is encoded.
fn kind(header: &[u8]) -> Option<Kind> {
    let mut kind = None;
    for field in fields(header) {
        let (name, value) = field?;
        if name.eq_ignore_ascii_case(b"content-type") {
            let word = value.split(|octet| *octet == b';').next()?.trim_ascii();
            let is = |value: &[u8], wanted: &[u8]| value.eq_ignore_ascii_case(wanted);
            let here = if is(value, b"message/tracking-status") {
                Kind::Tracking
            } else if is(value, b"text/rfc822-headers") {
                Kind::Header
            } else if is(word, b"text/plain") {
                Kind::Text
            } else {
                return None;
            };
            if kind.replace(here).is_some() {
                return None;
            }
        } else if name.eq_ignore_ascii_case(b"content-transfer-encoding")
            && !value.eq_ignore_ascii_case(b"7bit")
            && !value.eq_ignore_ascii_case(b"8bit")
        {
            return None;
        }
    }
    Some(kind.unwrap_or(Kind::Text))
}

/// The address of a From like `"Somebody" <address>`.
fn address(from: &[u8]) -> Option<&str> {
    let from = std::str::from_utf8(from).ok()?.strip_suffix('>')?;
    let (name, address) = from.rsplit_once('<')?;
    let name = name.trim_ascii_end();
    let inner = name.strip_prefix('"').and_then(|n| n.strip_suffix('"'));
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, ' ' | '.' | '-' | '_');
    let addr = |c: char| c.is_ascii_alphanumeric() || matches!(c, '@' | '.' | '-' | '_' | '+');
    let named = name.is_empty() || inner.is_some_and(|n| !n.is_empty() && n.chars().all(plain));
    let halves = address.split_once('@')?;
    let whole = !halves.0.is_empty() && !halves.1.is_empty() && !halves.1.contains('@');
    (named && whole && address.chars().all(addr)).then_some(address)
}
