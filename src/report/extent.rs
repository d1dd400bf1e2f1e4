//! How far a mail goes by its own account: to the closing boundary of its multipart (RFC 2046, 5.1.1). Its writer may
//! not be done when it is read, and what stands behind may be another mail.
//!
//! Takes any bytes without panicking.

use std::borrow::Cow;

use memchr::memmem;

use super::read::{boundary, header_block};

/// Whether the header block has its end.
pub fn has_header(mail: &[u8]) -> bool {
    header_block(mail).len() < mail.len()
}

/// Whether nothing is missing at its end, as far as it tells: one that has no parts does not.
pub fn is_whole(mail: &[u8]) -> bool {
    let tells = || boundary(mail).is_some();
    last_line(mail).is_some() || has_header(mail) && (end(mail).is_some() || !tells())
}

/// Where another mail begins behind it.
pub fn next_mail(mail: &[u8]) -> Option<usize> {
    let end = end(mail)?;
    let behind = mail.get(end..)?;
    begins_mail(behind.trim_ascii_start()).then_some(end)
}

/// What is behind the line of the closing boundary.
fn end(mail: &[u8]) -> Option<usize> {
    let boundary = match last_line(mail) {
        Some(boundary) => Cow::Borrowed(boundary),
        None => Cow::Owned(boundary(mail)?.into_bytes()),
    };
    let closing = [b"\n--", &*boundary, b"--"].concat();
    let from = header_block(mail).len();
    let at = from + memmem::find(mail.get(from..)?, &closing)? + closing.len();
    let line = memchr::memchr(b'\n', mail.get(at..)?);
    Some(line.map_or(mail.len(), |line| at + line + 1))
}

/// The boundary of which the last line is the closing one, if the first line behind the header is one, too: so it is
/// with reports, and costs no reading of the header.
fn last_line(mail: &[u8]) -> Option<&[u8]> {
    let text = mail.trim_ascii_end();
    let line = text.get(memchr::memrchr(b'\n', text)? + 1..)?;
    let boundary = line.strip_prefix(b"--")?.strip_suffix(b"--")?;
    let body = mail.get(header_block(mail).len()..)?.trim_ascii_start();
    let behind = body.strip_prefix(b"--")?.strip_prefix(boundary)?;
    matches!(behind.first(), Some(b'\r' | b'\n')).then_some(boundary)
}

/// Whether a text begins as a mail does, or what tells mails apart in a file: a line `From ` (mbox), or of four control
/// characters (MMDF).
fn begins_mail(text: &[u8]) -> bool {
    /// Of these a mail has more than one.
    const FIELDS: [&[u8]; 7] = [
        b"return-path",
        b"delivered-to",
        b"received",
        b"date",
        b"from",
        b"message-id",
        b"subject",
    ];
    let is_field = |line: &&[u8]| {
        let name = line.split(|octet| *octet == b':').next();
        name.is_some_and(|name| FIELDS.iter().any(|field| field.eq_ignore_ascii_case(name)))
    };
    let lines = header_block(text).split(|octet| *octet == b'\n');
    let marks = [&b"From "[..], b"\x01\x01\x01\x01"];
    marks.iter().any(|mark| text.starts_with(mark)) || lines.filter(is_field).count() > 1
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const MAIL: &str = "Date: today\nFrom: a@x\nContent-Type: multipart/report; report-type=tracking-status;\n\
                        \tboundary=\"b 1\"\n\n--b 1\n\ntext\n--b 1--\n";

    #[test]
    fn a_mail_is_whole_with_its_last_octet_and_not_before() {
        let footer = format!("{MAIL}\n-- \nThis list: of them\n");
        let lone = "Subject: x\n\n";
        for text in [MAIL, &MAIL.replace('\n', "\r\n"), &footer, lone] {
            let text = text.as_bytes();
            assert!(is_whole(text) && next_mail(text).is_none());
        }
        let needed = MAIL.trim_end().len();
        for octets in 0..needed {
            assert!(!is_whole(&MAIL.as_bytes()[..octets]), "{octets}");
        }
        assert!(!is_whole(b"Subject: x\n"), "its header may go on");
    }

    #[test]
    fn another_mail_is_found_behind_the_end() {
        let lone = "Received: by x\nFrom: b@x\n\ntext\n";
        let between = [
            "",
            "\n",
            "From b@x Mon Nov 23 16:05:09 2026\n",
            "\x01\x01\x01\x01\n",
        ];
        for (between, next) in between.iter().flat_map(|b| [(b, MAIL), (b, lone)]) {
            let both = format!("{MAIL}{between}{next}");
            assert_eq!(next_mail(both.as_bytes()), Some(MAIL.len()), "{both}");
        }
        // A single field may be a word of a footer.
        let notice = format!("{MAIL}\nNOTICE: this mail is from\n\nDate: it is of today\n");
        assert_eq!(next_mail(notice.as_bytes()), None);
        let inside = MAIL.replace("text\n", "Received: by x\nFrom: b@x\n\n--b--\n");
        assert_eq!(next_mail(inside.as_bytes()), None, "it is its own");
    }
}
