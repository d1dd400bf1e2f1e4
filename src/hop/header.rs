//! What a header block says of its message, as far as a hop wants to know. Takes any octets, and changes none.

use crate::smtp::data::header_fields;

/// Octets of Received fields in one report.
const RECEIVED_OCTETS_MAX: usize = 16 * 1024;
/// RFC 5322, 2.1.1.
const LINE_OCTETS_MAX: usize = 998;

/// The Message-ID in a header block, without its angle brackets and what stands around them, if it can stand in a report.
pub fn message_id(header: &[u8]) -> Option<&[u8]> {
    let value =
        header_fields(header).find_map(|field| field_value(&header[field], "Message-ID"))?;
    let mut parts = value.splitn(2, |octet| *octet == b'<');
    let outside = parts.next();
    let inside = parts
        .next()
        .and_then(|rest| rest.split(|octet| *octet == b'>').next());
    let value = inside.or(outside)?.trim_ascii();
    let sane =
        !value.is_empty() && value.len() <= 250 && value.iter().all(|b| (b'!'..=b'~').contains(b));
    (sane && !value.contains(&b'<') && !value.contains(&b'>')).then_some(value)
}

/// What a message says it is, if that is an answer to something: to a report, it may be. By the standard's field, and
/// by those that answering machines set before it and still do. What a machine sends of itself (RFC 3834, 5:
/// `auto-generated`) was caused by none, and no more was mail to many (`Precedence: bulk`, `list`).
pub fn is_caused(header: &[u8]) -> Option<&'static str> {
    let mut automatic = None;
    // All in one go: a header can be long.
    for field in header_fields(header).map(|field| &header[field]) {
        if is_report(field) {
            return Some("a tracking report itself");
        }
        if is_automatic(field) {
            automatic = Some("an automatic reply");
        }
    }
    automatic
}

fn is_automatic(field: &[u8]) -> bool {
    let says = |name: &str, judge: fn(&[u8]) -> bool| {
        field_value(field, name).is_some_and(|value| judge(first_word(value)))
    };
    says("Auto-Submitted", |word| {
        !word.eq_ignore_ascii_case(b"no") && !word.eq_ignore_ascii_case(b"auto-generated")
    }) || says("Precedence", |word| {
        word.eq_ignore_ascii_case(b"auto_reply")
    }) || says("X-Autoreply", |word| !word.eq_ignore_ascii_case(b"no"))
        || says("X-Autorespond", |word| !word.eq_ignore_ascii_case(b"no"))
}

fn first_word(value: &[u8]) -> &[u8] {
    let mut words = value.split(|b| b" \t\r\n;(".contains(b));
    words.find(|word| !word.is_empty()).unwrap_or_default()
}

fn is_report(field: &[u8]) -> bool {
    field_value(field, "Content-Type").is_some_and(|value| {
        let value = value.to_ascii_lowercase();
        let holds = |word: &[u8]| memchr::memmem::find(&value, word).is_some();
        holds(b"multipart/report") && holds(b"tracking-status")
    })
}

/// The Received fields of a header block as they stand there, the newest first, as far as a report takes them: in
/// ASCII, no line or all of them too long.
pub fn received(header: &[u8]) -> String {
    let mut text = String::new();
    for field in header_fields(header) {
        let field = &header[field];
        if field_value(field, "Received").is_none()
            || text.len() + field.len() > RECEIVED_OCTETS_MAX
        {
            continue;
        }
        let lines = field.split(|b| *b == b'\n');
        for line in lines.map(<[u8]>::trim_ascii_end).filter(|l| !l.is_empty()) {
            let printable = |b: &u8| matches!(b, b'\t' | b' '..=b'~');
            let shown = |b: &u8| if printable(b) { char::from(*b) } else { '?' };
            text.extend(line.iter().take(LINE_OCTETS_MAX).map(shown));
            text.push_str("\r\n");
        }
    }
    text
}

/// What stands behind the colon of a field called `name`.
pub fn field_value<'a>(field: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let (head, rest) = field.split_at_checked(name.len())?;
    if !head.eq_ignore_ascii_case(name.as_bytes()) {
        return None;
    }
    rest.trim_ascii_start().strip_prefix(b":")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_of_machines_are_known_by_the_fields_they_set() {
        let judged = |field: &str| is_caused(format!("From: a@b\r\n{field}\r\n\r\n").as_bytes());
        for answer in [
            "Auto-Submitted: auto-replied",
            "auto-submitted:\r\n (vacation) auto-replied; x=y",
            "X-Autoreply: yes",
            "X-AutoReply:",
            "X-Autorespond: Re: your mail",
            "Precedence: auto_reply",
            "PRECEDENCE : Auto_Reply",
        ] {
            assert_eq!(judged(answer), Some("an automatic reply"), "{answer}");
        }
        for other in [
            "Auto-Submitted: no",
            "Auto-Submitted: auto-generated (rejected)",
            "X-Autoreply: no",
            "X-Autoreply-Until: x",
            "Precedence: bulk",
            "Precedence: list",
            "Precedence: junk",
            "Subject: Precedence: auto_reply",
            "\r\nX-Autoreply: in the body",
        ] {
            assert_eq!(judged(other), None, "{other}");
        }
    }

    #[test]
    fn received_fields_are_told_as_they_stand_and_nothing_else() {
        let header = b"Received: by a;\r\n\tSun\r\nSubject: Received: no\r\nX-Received: by x\r\n\
            RECEIVED : by \xc3\xa4\x00 \r\n \r\nFrom: b@c\r\n\r\nReceived: in the body\r\n";
        assert_eq!(
            received(header),
            "Received: by a;\r\n\tSun\r\nRECEIVED : by ???\r\n"
        );
        let long = [b"Received: ".as_slice(), &[b'x'; 2000], b"\r\n"].concat();
        assert_eq!(received(&long).len(), LINE_OCTETS_MAX + 2);
        let many = b"Received: by somebody\r\n".repeat(1000);
        assert!((16_000..=RECEIVED_OCTETS_MAX).contains(&received(&many).len()));
    }
}
