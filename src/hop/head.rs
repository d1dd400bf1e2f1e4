//! The start of a message, held back for a look before it goes on.

use std::ops::Range;

use super::header::message_id;

/// The start of a message, held back.
pub struct Head {
    /// The header block and whatever of the body came with it.
    pub text: Vec<u8>,
    /// How much of it is the header block with its empty line; `None` if that is longer than the limit.
    pub header: Option<usize>,
}

impl Head {
    /// The header block, as far as it is known.
    pub fn block(&self) -> &[u8] {
        self.header
            .and_then(|header| self.text.get(..header))
            .unwrap_or_default()
    }

    /// Takes `field`, a part of the header block, out.
    pub fn remove(&mut self, field: Range<usize>) {
        self.header = self.header.map(|header| header - field.len());
        self.text.drain(field);
    }

    /// Puts `text`, whole lines, in the place of `field`, a part of the header block.
    pub fn replace(&mut self, field: Range<usize>, text: &[u8]) {
        self.header = self.header.map(|header| header - field.len() + text.len());
        self.text.splice(field, text.iter().copied());
    }

    /// Puts `field`, whole lines, on top.
    pub fn put_on_top(&mut self, field: &[u8]) {
        let len = self.text.len();
        self.text.extend_from_slice(field);
        self.text.copy_within(..len, field.len());
        self.text[..field.len()].copy_from_slice(field);
        self.header = self.header.map(|header| header + field.len());
    }

    /// The message's own id, for reports.
    pub fn message_id(&self) -> Option<String> {
        message_id(self.block()).map(|id| String::from_utf8_lossy(id).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_put_on_top_of_what_is_there() {
        for text in ["From: a\r\n\r\nbody", "\r\n", ""] {
            let mut head = Head {
                text: text.into(),
                header: Some(text.len().min(11)),
            };
            head.put_on_top(b"X-Longer-Than-Some: than the text\r\n");
            let whole = ["X-Longer-Than-Some: than the text\r\n", text].concat();
            assert_eq!(head.text, whole.as_bytes());
            assert_eq!(head.block(), &whole.as_bytes()[..35 + text.len().min(11)]);
        }
    }
}
