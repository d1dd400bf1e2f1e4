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

    /// The message's own id, for reports.
    pub fn message_id(&self) -> Option<String> {
        message_id(self.block()).map(|id| String::from_utf8_lossy(id).into_owned())
    }
}
