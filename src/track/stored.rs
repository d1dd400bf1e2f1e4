//! What is a word in text, and in a stored step the number or the octets that it means: to spell out words for every tracked
//! message takes time, and twice the room. Up to layout 6 of the store it was the word there, too.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, Error, Unexpected, Visitor};
use serde::ser::{SerializeSeq, Serializer};

use super::{Exchange, Stage};

/// A value of two forms. A form that it does not have is none of its values.
pub(super) trait Stored: Sized {
    /// What it is, for who reads something else.
    const EXPECTED: &'static str;

    fn of_word(word: &str) -> Option<Self>;

    fn of_number(_: u64) -> Option<Self> {
        None
    }

    fn of_octets(_: &[u8]) -> Option<Self> {
        None
    }
}

/// Reads either form.
pub(super) fn read<'de, T: Stored, D: Deserializer<'de>>(from: D) -> Result<T, D::Error> {
    if from.is_human_readable() {
        from.deserialize_str(Reader(PhantomData))
    } else {
        from.deserialize_any(Reader(PhantomData))
    }
}

struct Reader<T>(PhantomData<T>);

impl<T: Stored> Visitor<'_> for Reader<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(T::EXPECTED)
    }

    fn visit_str<E: Error>(self, word: &str) -> Result<T, E> {
        T::of_word(word).ok_or_else(|| E::invalid_value(Unexpected::Str(word), &self))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<T, E> {
        T::of_number(number).ok_or_else(|| E::invalid_value(Unexpected::Unsigned(number), &self))
    }

    fn visit_bytes<E: Error>(self, octets: &[u8]) -> Result<T, E> {
        T::of_octets(octets).ok_or_else(|| E::invalid_value(Unexpected::Bytes(octets), &self))
    }
}

/// Exchanges: of each the number of its stage, the time from the one before to its command, and from there to its reply.
pub(super) mod exchanges {
    use super::{Deserialize, Deserializer, Error, Exchange, SerializeSeq, Serializer, Stage};

    pub(in super::super) fn serialize<S: Serializer>(
        exchanges: &[Exchange],
        to: S,
    ) -> Result<S::Ok, S::Error> {
        let mut numbers = to.serialize_seq(Some(3 * exchanges.len()))?;
        let mut before_us = 0;
        for exchange in exchanges {
            numbers.serialize_element(&(exchange.stage as u8))?;
            for us in [exchange.command_us, exchange.reply_us] {
                numbers.serialize_element(&us.wrapping_sub(before_us))?;
                before_us = us;
            }
        }
        numbers.end()
    }

    /// As they were written up to layout 6, each by itself, or as they are written now.
    #[derive(serde::Deserialize)]
    #[serde(untagged)]
    enum Piece {
        Number(i64),
        Whole(Exchange),
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Vec<Exchange>, D::Error> {
        let (mut exchanges, mut before_us) = (Vec::new(), 0_i64);
        let mut pieces = Vec::<Piece>::deserialize(from)?.into_iter();
        while let Some(piece) = pieces.next() {
            let stage = match piece {
                Piece::Whole(exchange) => {
                    exchanges.push(exchange);
                    continue;
                }
                Piece::Number(number) => usize::try_from(number).ok(),
            };
            let stage = stage.and_then(|number| Stage::ALL.get(number));
            let mut time = || match pieces.next() {
                Some(Piece::Number(us)) => {
                    before_us = before_us.wrapping_add(us);
                    Some(before_us)
                }
                _ => None,
            };
            let (Some(stage), Some(command_us), Some(reply_us)) = (stage, time(), time()) else {
                return Err(D::Error::custom("no exchange of SMTP"));
            };
            exchanges.push(Exchange {
                stage: *stage,
                command_us,
                reply_us,
            });
        }
        Ok(exchanges)
    }
}
