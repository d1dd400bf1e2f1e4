//! The start of a message, held back for a look before it goes on.

use std::ops::Range;

use memchr::memmem;

use super::header::message_id;
use crate::smtp::data::header_fields;

/// The start of a message, held back.
pub struct Head {
    /// The header block, or the start of it, and whatever of the body came with it.
    pub text: Vec<u8>,
    /// How much of it is known to be header block.
    block: usize,
    whole: bool,
    goes_on: bool,
    /// Octets of the text that have gone on, and stay as they are.
    gone: usize,
}

impl Head {
    /// A text whose header block ends, with its empty line, at `end`, or goes on behind it. One of more than
    /// `octets_max` is not taken for whole.
    pub fn new(text: Vec<u8>, end: Option<usize>, octets_max: usize) -> Self {
        // The last field may go on, too.
        let fields = || header_fields(&text).last().map_or(0, |last| last.start);
        Self {
            block: end.unwrap_or_else(fields),
            whole: end.is_some_and(|end| end <= octets_max),
            goes_on: end.is_none() && text.len() <= octets_max,
            gone: 0,
            text,
        }
    }

    /// The header block; if it is not [whole](Self::is_whole), those fields at its start that are.
    pub fn block(&self) -> &[u8] {
        self.text.get(..self.block).unwrap_or_default()
    }

    /// Whether all of the header block is here, and no longer than the limit.
    pub fn is_whole(&self) -> bool {
        self.whole
    }

    /// The same, of which so many octets have gone on already, all of them in its first field.
    pub fn behind(self, gone: usize) -> Self {
        Self { gone, ..self }
    }

    /// Where a field can be put, if that is known: on top once the first line is here, or else behind the first field.
    pub fn place(&self) -> Option<usize> {
        if self.gone == 0 {
            let has_begun = self.whole || memmem::find(&self.text, b"\r\n").is_some();
            return has_begun.then_some(0);
        }
        let first = self.block().get(header_fields(self.block()).next()?)?;
        // A lone LF ends it for some and not for others.
        let place = first.len();
        (place >= self.gone && first.ends_with(b"\r\n")).then_some(place)
    }

    /// Whether the header block goes on behind what is here, which is within the limit.
    pub fn goes_on(&self) -> bool {
        self.goes_on
    }

    /// What of the body came with a header block that is whole.
    pub fn body(&self) -> &[u8] {
        let body = self.text.get(self.block..).filter(|_| self.whole);
        body.unwrap_or_default()
    }

    /// Takes `field`, a part of the header block, out.
    pub fn remove(&mut self, field: Range<usize>) {
        self.replace(field, &[]);
    }

    /// Puts `text`, whole lines, in the place of `field`, a part of the header block; not where that has gone on.
    pub fn replace(&mut self, field: Range<usize>, text: &[u8]) {
        if field.start < self.gone {
            return;
        }
        self.block = self.block - field.len() + text.len();
        self.text.splice(field, text.iter().copied());
    }

    /// Puts `field`, whole lines, at this [place](Self::place).
    pub fn put(&mut self, place: usize, field: &[u8]) {
        let len = self.text.len();
        self.text.extend_from_slice(field);
        self.text.copy_within(place..len, place + field.len());
        self.text[place..place + field.len()].copy_from_slice(field);
        self.block += field.len();
    }

    /// The message's own id, for reports; of a block that is not whole, none.
    pub fn message_id(&self) -> Option<String> {
        let block = self.whole.then(|| self.block())?;
        message_id(block).map(|id| String::from_utf8_lossy(id).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_put_on_top_of_what_is_there() {
        for text in ["From: a\r\n\r\nbody", "\r\n", ""] {
            let mut head = Head::new(text.into(), Some(text.len().min(11)), 64);
            let place = head.place();
            assert_eq!(place, Some(0), "{text:?}");
            head.put(0, b"X-Longer-Than-Some: than the text\r\n");
            let whole = ["X-Longer-Than-Some: than the text\r\n", text].concat();
            assert_eq!(head.text, whole.as_bytes());
            assert_eq!(head.block(), &whole.as_bytes()[..35 + text.len().min(11)]);
        }
    }

    #[test]
    fn behind_what_has_gone_on_there_is_a_place_once_the_first_field_is_whole() {
        let end = |text: &str| text.find("\r\n\r\n").map(|end| end + 4);
        for (text, gone, place) in [
            ("A: b\r\nC: d\r\n\r\n", 3, Some(6)),
            ("A: b\r\nC", 5, Some(6)),
            ("A: b\r\n\r\nbody", 6, Some(6)),
            ("A: b\r\n\r\nbody", 7, None),
            ("A: b\r\n c\r\nD: e\r\n", 6, Some(10)),
            ("A: b\r\n c\r\n", 6, None),
            ("A: b\r\n", 2, None),
            ("A: b\nC: d\r\n\r\n", 2, None),
            ("\r\nbody", 1, None),
            ("A: b\r\n", 0, Some(0)),
            ("A: b\r", 0, None),
            ("", 0, None),
        ] {
            let mut head = Head::new(text.into(), end(text), 64).behind(gone);
            assert_eq!(head.place(), place, "{text:?} {gone}");
            let first = header_fields(head.block()).next();
            if let Some(first) = first {
                head.remove(first);
                assert_eq!(head.text.len() == text.len(), gone > 0, "{text:?} {gone}");
            }
        }
        let mut head = Head::new(b"A: b\r\nC: d\r\n\r\n".into(), Some(14), 64).behind(2);
        head.put(6, b"X: y\r\n");
        assert_eq!(head.block(), b"A: b\r\nX: y\r\nC: d\r\n\r\n");
    }

    #[test]
    fn of_a_block_that_goes_on_the_fields_count_that_cannot() {
        let block = |text: &str, end| {
            let head = Head::new(text.into(), end, 12);
            let block = String::from_utf8_lossy(head.block()).into_owned();
            (block, head.is_whole())
        };
        for (text, end, known) in [
            ("A: b\r\n\r\nbody", Some(8), ("A: b\r\n\r\n", true)),
            (
                "A: b\r\nC: d\r\n\r\nx",
                Some(14),
                ("A: b\r\nC: d\r\n\r\n", false),
            ),
            ("A: b\r\nC: d\r\n", None, ("A: b\r\n", false)),
            ("A: b\r\nC: d\r\n e", None, ("A: b\r\n", false)),
            ("A: b\r\n", None, ("", false)),
            ("", None, ("", false)),
        ] {
            let (shown, whole) = known;
            assert_eq!(block(text, end), (shown.to_owned(), whole), "{text:?}");
        }
    }
}
