//! Which addresses are one: the domain has no case, the local part is whatever its host takes it for, octet by octet
//! (RFC 5321, 2.4).

use std::borrow::Cow;

/// An address as others are compared with it: its domain in lower case.
pub fn key(address: &str) -> Cow<'_, str> {
    let at = memchr::memrchr(b'@', address.as_bytes()).unwrap_or(0);
    let (local_part, domain) = address.split_at(at);
    let may_change = |octet: u8| octet.is_ascii_uppercase() || !octet.is_ascii();
    // Without a domain it is a local part.
    if at == 0 || !domain.bytes().any(may_change) {
        return Cow::Borrowed(address);
    }
    Cow::Owned(format!("{local_part}{}", domain.to_lowercase()))
}

/// Whether two addresses are one.
pub fn is_same(a: &str, b: &str) -> bool {
    // Most are one, or told apart, by this: one is looked for among thousands.
    let may_be = || a.eq_ignore_ascii_case(b) || !a.is_ascii();
    a == b || may_be() && key(a) == key(b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_domain_has_no_case_and_a_local_part_has() {
        for (a, b) in [
            ("bob@x.example", "bob@X.Example"),
            ("\"a@B\"@x", "\"a@B\"@X"),
            ("bob@BÜCHER.example", "bob@bücher.example"),
            ("bob", "bob"),
            ("", ""),
        ] {
            assert!(is_same(a, b), "{a} is {b}");
        }
        for (a, b) in [
            ("NOBODY@x.example", "nobody@x.example"),
            ("\"a@B\"@x", "\"a@b\"@x"),
            ("Bob", "bob"),
            ("@x", "@X"),
            ("bob@x", "bob@y"),
        ] {
            assert!(!is_same(a, b), "{a} is not {b}");
        }
    }
}
