//! The parameters of RFC 3461 where hoptrail answers for MAIL and RCPT itself: what no next hop would take is refused
//! at once. Must not know what they ask for.

use crate::smtp::envelope::EnvelopeCommand;
use crate::smtp::refusal::Refusal;

/// What is wrong with those of a MAIL or a RCPT; each may stand once (RFC 3461, 4).
pub fn check(command: &EnvelopeCommand<'_>) -> Result<(), Refusal> {
    let wrong = |text| Err(Refusal::new(501, "5.5.4", text));
    let is_wrong = |keyword: &str, is_sound: fn(&[u8]) -> bool| {
        let value = command.param(keyword);
        command.count(keyword) > 1 || value.is_some_and(|value| !value.is_some_and(is_sound))
    };
    if is_wrong("RET", is_ret) {
        return wrong("RET is FULL or HDRS, and stands once");
    }
    if is_wrong("ENVID", |value| !value.is_empty()) {
        return wrong("ENVID has a value, and stands once");
    }
    if is_wrong("NOTIFY", is_notify) {
        return wrong("NOTIFY is NEVER, or some of SUCCESS, FAILURE and DELAY, and stands once");
    }
    if is_wrong("ORCPT", is_orcpt) {
        return wrong("ORCPT is a type of address, a semicolon and the address, and stands once");
    }
    Ok(())
}

/// RFC 3461, 4.3.
fn is_ret(value: &[u8]) -> bool {
    is_one_of(value, &["FULL", "HDRS"])
}

/// RFC 3461, 4.1.
fn is_notify(value: &[u8]) -> bool {
    let event = |word: &[u8]| is_one_of(word, &["SUCCESS", "FAILURE", "DELAY"]);
    is_one_of(value, &["NEVER"]) || value.split(|b| *b == b',').all(event)
}

/// RFC 3461, 4.2; the address is for whoever knows the type.
fn is_orcpt(value: &[u8]) -> bool {
    let kind = value.split(|b| *b == b';').next().unwrap_or_default();
    !kind.is_empty() && kind.len() < value.len()
}

fn is_one_of(word: &[u8], words: &[&str]) -> bool {
    let is = |known: &&str| word.eq_ignore_ascii_case(known.as_bytes());
    words.iter().any(is)
}
