//! What stands in the fields of a report, read: numbers, exchanges, what protected a connection. Must not know in
//! which field a value stands.

use super::field::{PLAIN, UNVERIFIED, VERIFIED};
use crate::track::clean::EXCHANGES_MAX;
use crate::track::{Exchange, Role, Security, Stage};

/// The name in `dns; name`.
pub fn typed(value: &str) -> &str {
    halves(value, b';').map_or(value, |(_, name)| name.trim_ascii())
}

/// A value up to a trailing `(comment)`.
pub fn uncommented(value: &str) -> &str {
    halves(value, b'(')
        .map_or(value, |(value, _)| value)
        .trim_ascii()
}

/// What stands in front of an ASCII octet and behind it.
pub fn halves(value: &str, octet: u8) -> Option<(&str, &str)> {
    let at = memchr::memchr(octet, value.as_bytes())?;
    Some((value.get(..at)?, value.get(at + 1..)?))
}

/// A decimal number: digits, one minus sign at most, and what fits the type.
pub fn number<T: TryFrom<i128>>(text: &str) -> Option<T> {
    let (sign, size, rest) = leading(text.as_bytes())?;
    let number = i128::from(sign) * i128::from(size);
    rest.is_empty().then(|| number.try_into().ok())?
}

/// The moment that a text begins with, and what stands behind it.
fn moment(text: &[u8]) -> Option<(i64, &[u8])> {
    // One of these centuries has sixteen digits, and a report two dozen of them.
    if let Some(([high, low], rest)) = eights(text)
        && let (Some(high), Some(low)) = (eight_digits(*high), eight_digits(*low))
        && !rest.first().is_some_and(u8::is_ascii_digit)
    {
        return Some((i64::try_from(high * 100_000_000 + low).ok()?, rest));
    }
    let (sign, size, rest) = leading(text)?;
    let us = 0_i64.checked_add_unsigned(size).map(|us| sign * us);
    // The least of all is farther than the greatest.
    let us = us.or_else(|| 0_i64.checked_sub_unsigned(size).filter(|_| sign < 0));
    Some((us?, rest))
}

/// Sign and size of the number that a text begins with, and what stands behind it.
fn leading(text: &[u8]) -> Option<(i64, u64, &[u8])> {
    let unsigned = text.strip_prefix(b"-");
    let digits = unsigned.unwrap_or(text);
    let (mut size, mut rest) = (0_u64, digits);
    while rest.first().is_some_and(u8::is_ascii_digit)
        && let Some((eight, behind)) = rest.split_first_chunk()
        && let Some(number) = eight_digits(*eight)
    {
        size = size.checked_mul(100_000_000)?.checked_add(number)?;
        rest = behind;
    }
    while let Some((octet @ b'0'..=b'9', behind)) = rest.split_first() {
        size = size.checked_mul(10)?.checked_add((octet - b'0').into())?;
        rest = behind;
    }
    let sign = if unsigned.is_some() { -1 } else { 1 };
    (rest.len() < digits.len()).then_some((sign, size, rest))
}

/// The first two times eight octets, and what stands behind them.
fn eights(text: &[u8]) -> Option<([&[u8; 8]; 2], &[u8])> {
    let (high, rest) = text.split_first_chunk()?;
    let (low, rest) = rest.split_first_chunk()?;
    Some(([high, low], rest))
}

/// The number of eight digits, computed side by side: of two each, then of four, then of all.
fn eight_digits(octets: [u8; 8]) -> Option<u64> {
    let digits = u64::from_le_bytes(octets) ^ u64::from_le_bytes([b'0'; 8]);
    // The highest bit of an octet gets set where that is more than 9.
    let more = digits.wrapping_add(u64::from_le_bytes([0x7f - 9; 8])) | digits;
    if more & u64::from_le_bytes([0x80; 8]) != 0 {
        return None;
    }
    let twos = (digits * 10 + (digits >> 8)) & 0x00ff_00ff_00ff_00ff;
    let fours = (twos * 100 + (twos >> 16)) & 0x0000_ffff_0000_ffff;
    Some((fours * 10_000 + (fours >> 32)) & 0xffff_ffff)
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

/// The exchanges of one leg, `STAGE=COMMAND/REPLY` each; a stage that a later version may add is passed over.
pub fn exchanges(value: &str) -> Option<Vec<Exchange>> {
    let mut exchanges = Vec::with_capacity(Stage::ALL.len());
    let mut rest = value.as_bytes().trim_ascii_start();
    while !rest.is_empty() {
        let stamps_of = |stage: &Stage| {
            let stamps = rest.strip_prefix(stage.as_str().as_bytes())?;
            Some((*stage, stamps.strip_prefix(b"=")?))
        };
        // Mostly they stand in order.
        let next = Stage::ALL.get(exchanges.len()).and_then(stamps_of);
        let known = next.or_else(|| Stage::ALL.iter().find_map(stamps_of));
        let behind = if let Some((stage, stamps)) = known {
            let (command_us, behind) = moment(stamps)?;
            let (reply_us, behind) = moment(behind.strip_prefix(b"/")?)?;
            exchanges.push(Exchange {
                stage,
                command_us,
                reply_us,
            });
            behind
        } else {
            let end = rest.iter().position(u8::is_ascii_whitespace);
            let (word, behind) = rest.split_at_checked(end.unwrap_or(rest.len()))?;
            let is_one = rest.contains(&b'=') && word.contains(&b'/');
            is_one.then_some(behind)?
        };
        rest = behind.trim_ascii_start();
        let is_apart = rest.len() < behind.len() || rest.is_empty();
        if !is_apart || exchanges.len() > EXCHANGES_MAX {
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
    let (version, cipher, word) = (version.trim_ascii(), cipher.trim_ascii(), word.trim_ascii());
    let is = |known: &str| word.eq_ignore_ascii_case(known);
    let verified = is(VERIFIED);
    (verified || is(UNVERIFIED)).then(|| Security::tls(version, cipher, verified))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn numbers_are_read_as_they_are_written(signed: i64, unsigned: u64, digits in "-?[0-9]{0,24}") {
            prop_assert_eq!(number(&signed.to_string()), Some(signed));
            prop_assert_eq!(number(&unsigned.to_string()), Some(unsigned));
            prop_assert_eq!(number(&digits), digits.parse::<i64>().ok());
        }

        #[test]
        fn any_value_is_survived(value in any::<String>()) {
            let _ = (number::<u8>(&value), exchanges(&value), security(&value), role(&value));
        }

        #[test]
        fn exchanges_are_read_as_they_are_written(stamps in proptest::collection::vec(any::<(i64, i64)>(), 5)) {
            let known = Stage::ALL.into_iter().zip(stamps);
            let made: Vec<Exchange> = known
                .map(|(stage, (command_us, reply_us))| Exchange { stage, command_us, reply_us })
                .collect();
            let word = |e: &Exchange| format!("{}={}/{}", e.stage.as_str(), e.command_us, e.reply_us);
            let words: Vec<String> = made.iter().map(word).collect();
            prop_assert_eq!(exchanges(&words.join(" \t")), Some(made));
        }
    }

    #[test]
    fn no_other_number_is_one() {
        for text in [
            "", "-", "+1", "--1", "1-1", "1 ", " 1", "1a", "0x1", "\u{661}",
        ] {
            assert_eq!(number::<i64>(text), None, "{text}");
        }
        assert_eq!(number::<u8>("256"), None);
        assert_eq!(number::<u64>("-1"), None);
        assert_eq!(number::<u64>("18446744073709551616"), None);
    }

    #[test]
    fn a_stage_of_later_versions_is_passed_over_and_what_is_none_is_refused() {
        let stages = |value| Some(exchanges(value)?.iter().map(|e| e.stage).collect());
        let both = Some(vec![Stage::Mail, Stage::Dot]);
        assert_eq!(stages("mail=1/2 bdat=3/4 dot=5/6"), both);
        assert_eq!(stages(" mail=1/2 bdat=some/more=/ dot=5/6 "), both);
        assert_eq!(stages(""), Some(vec![]));
        for wrong in [
            "mail",
            "mail=1",
            "mail=1/",
            "mail=1/2x",
            "mail=1/2/3",
            "mail=1/2dot=5/6",
            "mail=1 /2",
            "bdat=1",
            "bdat mail=1/2",
            "mail=9223372036854775808/1",
        ] {
            assert_eq!(stages(wrong), None, "{wrong}");
        }
    }
}
