//! What stands in the fields of a report, read: numbers, exchanges, what protected a connection. Must not know in
//! which field a value stands.

use super::field::{PLAIN, UNVERIFIED, VERIFIED};
use crate::track::clean::EXCHANGES_MAX;
use crate::track::{Exchange, Role, Security, Stage};

/// The name in `dns; name`.
pub fn typed(value: &str) -> &str {
    halves(value, b';').map_or(value, |(_, name)| name.trim())
}

/// A value up to a trailing `(comment)`.
pub fn uncommented(value: &str) -> &str {
    halves(value, b'(')
        .map_or(value, |(value, _)| value)
        .trim_ascii()
}

/// What stands in front of an ASCII octet and behind it. For values, which are short.
pub fn halves(value: &str, octet: u8) -> Option<(&str, &str)> {
    let at = value.bytes().position(|other| other == octet)?;
    Some((value.get(..at)?, value.get(at + 1..)?))
}

/// A decimal number: digits, one minus sign at most, and what fits the type.
pub fn number<T: TryFrom<i128>>(text: &str) -> Option<T> {
    let digits = text.strip_prefix('-');
    let size = i128::from(decimal(digits.unwrap_or(text))?);
    T::try_from(if digits.is_some() { -size } else { size }).ok()
}

fn decimal(digits: &str) -> Option<u64> {
    /// So many digits are never too large.
    const FIT: usize = 19;
    let mut number = 0_u64;
    for (n, octet) in digits.bytes().enumerate() {
        let digit = octet.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        number = if n < FIT {
            number.wrapping_mul(10).wrapping_add(digit.into())
        } else {
            number.checked_mul(10)?.checked_add(digit.into())?
        };
    }
    (!digits.is_empty()).then_some(number)
}

/// Where in the hop a report was made.
pub fn role(value: &str) -> Option<Role> {
    let word = uncommented(value);
    [Role::Ingress, Role::Egress, Role::Delivery]
        .into_iter()
        .find(|role| role.as_str().eq_ignore_ascii_case(word))
}

/// The hops of a ring.
pub fn ring(value: &str) -> Vec<String> {
    value.split_ascii_whitespace().map(str::to_owned).collect()
}

/// The exchanges of one leg; a stage that a later version may add is passed over.
pub fn exchanges(value: &str) -> Option<Vec<Exchange>> {
    let mut exchanges = Vec::with_capacity(Stage::ALL.len());
    for word in value.split_ascii_whitespace() {
        let (stage, stamps) = halves(word, b'=')?;
        let (command, reply) = halves(stamps, b'/')?;
        let known = Stage::ALL.into_iter().find(|s| s.as_str() == stage);
        if let Some(stage) = known {
            exchanges.push(Exchange {
                stage,
                command_us: number(command)?,
                reply_us: number(reply)?,
            });
        }
        if exchanges.len() > EXCHANGES_MAX {
            return None;
        }
    }
    Some(exchanges)
}

/// What protected one leg.
pub fn security(value: &str) -> Option<Security> {
    let value = uncommented(value);
    if value.eq_ignore_ascii_case(PLAIN) {
        return Some(Security::Plain);
    }
    let (version, rest) = halves(value, b';')?;
    let (cipher, word) = halves(rest, b';')?;
    let (version, cipher, word) = (version.trim(), cipher.trim(), word.trim());
    let is = |known: &str| word.eq_ignore_ascii_case(known);
    let verified = is(VERIFIED);
    (verified || is(UNVERIFIED)).then(|| Security::tls(version, cipher, verified))
}
