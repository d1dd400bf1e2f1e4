//! Recipient addresses in status fields: `rfc822; a@b` for ASCII, and for the rest the escaped form of
//! RFC 6533 (`utf-8; j\x{F6}rg@example.net`), which keeps the part 7-bit.

use std::fmt::Write;

use super::value::halves;
use crate::track::clean;

/// The value of an Original- or Final-Recipient field.
pub fn write(address: &str) -> String {
    if address.is_ascii() {
        return format!("rfc822; {address}");
    }
    let mut value = String::from("utf-8; ");
    for c in address.chars() {
        // The QCHAR of RFC 6533, 3: printable ASCII but `+`, `=` and `\`.
        if c.is_ascii_graphic() && !matches!(c, '+' | '=' | '\\') {
            value.push(c);
        } else {
            // Writing to a String has no way to fail.
            let _ = write!(value, "\\x{{{:02X}}}", u32::from(c));
        }
    }
    value
}

/// The address in such a value, in normal form; `None` if there is no address type in front.
pub fn read<T: clean::Text>(value: &str) -> Option<T> {
    let (kind, address) = halves(value, b';')?;
    let address = address.trim_ascii();
    let text = if kind.trim_ascii().eq_ignore_ascii_case("utf-8") {
        clean::address(&unescape(address))
    } else {
        clean::address(address)
    };
    Some(text)
}

/// Undoes `\x{HEX}`; what is no proper escape stays as it is.
fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("\\x{") {
        out.push_str(before);
        let escaped = after.split_once('}').and_then(|(hex, tail)| {
            let point = u32::from_str_radix(hex, 16).ok()?;
            char::from_u32(point).map(|c| (c, tail))
        });
        if let Some((c, tail)) = escaped {
            out.push(c);
            rest = tail;
        } else {
            out.push_str("\\x{");
            rest = after;
        }
    }
    out.push_str(rest);
    out
}
