//! The parameters of MAIL and RCPT where hoptrail answers for these itself: values that no next hop would take are
//! refused at once, whatever the next hop offers. Must not know what they ask for.

use crate::smtp::envelope::EnvelopeCommand;
use crate::smtp::refusal::Refusal;

/// Which values are sound; `None` is none.
type IsSound = fn(Option<&[u8]>) -> bool;

/// Each with what is said of one that is not sound, or stands twice (RFC 5321, 4.1.1.11).
const VALUES: [(&str, IsSound, &str); 7] = [
    (
        "SIZE",
        is_size,
        "SIZE is a number of octets, and stands once",
    ),
    (
        "BODY",
        is_body,
        "BODY is 7BIT, 8BITMIME or BINARYMIME, and stands once",
    ),
    (
        "SMTPUTF8",
        |value| value.is_none(),
        "SMTPUTF8 has no value, and stands once",
    ),
    ("RET", is_ret, "RET is FULL or HDRS, and stands once"),
    ("ENVID", is_envid, "ENVID is xtext, and stands once"),
    (
        "NOTIFY",
        is_notify,
        "NOTIFY is NEVER, or some of SUCCESS, FAILURE and DELAY, and stands once",
    ),
    (
        "ORCPT",
        is_orcpt,
        "ORCPT is a type of address, a semicolon and the address in xtext, and stands once",
    ),
];

/// What is wrong with those of a MAIL or a RCPT.
pub fn check(command: &EnvelopeCommand<'_>) -> Result<(), Refusal> {
    let is_wrong = |(keyword, is_sound, _): &&(&str, IsSound, _)| {
        let value = command.param(keyword);
        command.count(keyword) > 1 || value.is_some_and(|value| !is_sound(value))
    };
    match VALUES.iter().find(is_wrong) {
        Some((.., text)) => Err(Refusal::new(501, "5.5.4", text)),
        None => Ok(()),
    }
}

/// RFC 1870, 3.
fn is_size(value: Option<&[u8]>) -> bool {
    let digits = value.filter(|value| value.iter().all(u8::is_ascii_digit));
    let text = digits.and_then(|digits| std::str::from_utf8(digits).ok());
    text.is_some_and(|text| text.parse::<u64>().is_ok())
}

/// RFC 6152, 2, and RFC 3030, 3.
fn is_body(value: Option<&[u8]>) -> bool {
    is_one_of(value, &["7BIT", "8BITMIME", "BINARYMIME"])
}

/// RFC 3461, 4.3.
fn is_ret(value: Option<&[u8]>) -> bool {
    is_one_of(value, &["FULL", "HDRS"])
}

/// RFC 3461, 4.4.
fn is_envid(value: Option<&[u8]>) -> bool {
    value.is_some_and(|value| !value.is_empty() && is_xtext(value))
}

/// RFC 3461, 4.1.
fn is_notify(value: Option<&[u8]>) -> bool {
    let event = |word: &[u8]| is_one_of(Some(word), &["SUCCESS", "FAILURE", "DELAY"]);
    is_one_of(value, &["NEVER"])
        || value.is_some_and(|value| value.split(|b| *b == b',').all(event))
}

/// RFC 3461, 4.2; what the address means is for whoever knows the type. That of `utf-8` is written otherwise (RFC 6533, 3).
fn is_orcpt(value: Option<&[u8]>) -> bool {
    let Some(value) = value else {
        return false;
    };
    let kind = value.split(|b| *b == b';').next().unwrap_or_default();
    let written = kind.eq_ignore_ascii_case(b"utf-8") || is_xtext(value);
    !kind.is_empty() && kind.len() < value.len() && written
}

/// Whether a plus is followed by two hex digits everywhere (RFC 3461, 4). Their case is no reason to refuse mail.
fn is_xtext(value: &[u8]) -> bool {
    let mut behind = value.split(|b| *b == b'+').skip(1);
    behind.all(|text| {
        text.get(..2)
            .is_some_and(|pair| pair.iter().all(u8::is_ascii_hexdigit))
    })
}

fn is_one_of(word: Option<&[u8]>, words: &[&str]) -> bool {
    let is = |known: &&str| word.is_some_and(|word| word.eq_ignore_ascii_case(known.as_bytes()));
    words.iter().any(is)
}
