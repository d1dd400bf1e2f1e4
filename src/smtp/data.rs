//! Message text between DATA's 354 and the end of data (RFC 5321, 4.1.1.4 and 4.5.2), passing from a
//! client to the next hop with its stuffed dots as they are.
//!
//! Only CRLF.CRLF ends data here, and what goes out leaves no other reading: every line end is CRLF, and
//! no line is, or could be taken for, a single dot. So a next hop that is laxer than we are finds the same
//! end, and no command can hide in a message (SMTP smuggling).
//!
//! Must not know what the text says, beyond where its header ends.

pub mod stuff;

use std::iter;
use std::ops::Range;

use memchr::{memchr, memchr_iter, memchr2, memmem};
use serde::Deserialize;

/// Octets of text that are looked at together, each with the two behind it.
const BLOCK: usize = 256;

/// What is done with a lone CR or LF in message text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BareNewline {
    /// It becomes CRLF.
    #[default]
    Normalize,
    /// The message is refused.
    Reject,
}

/// What the scanner says about the octets it consumed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece {
    /// The first so many octets of the input pass as they are.
    Text(usize),
    /// These octets are to be written.
    Insert(&'static [u8]),
    /// Nothing is to be written now.
    Nothing,
    /// The end of data came; what is to be written for it is `.CRLF`.
    End,
    /// A lone CR or LF came, and the policy is to reject. The scanner goes on looking for the end.
    Bare,
}

/// What the last octets were: all that has to be remembered between two inputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// At the start of the text or behind CRLF.
    LineStart,
    /// At what others might take for the start of a line though the client did not mean one: behind a
    /// line end that we made, or behind NULs at a line's start, which some receivers drop.
    OtherLineStart,
    /// Within a line.
    Within,
    /// Behind a CR that was held back.
    Cr,
    /// Behind a dot at `LineStart` that was held back.
    Dot,
    /// Behind a dot at `LineStart` and a CR that were held back.
    DotCr,
    /// Behind the end of data.
    Ended,
}

/// Finds the end of data in a stream, however it is split, and makes the text safe to pass on.
///
/// Call [`next`](Self::next) with what has come and again with what it left, until nothing is left or the
/// [end](Piece::End) came. The pieces in order, then `.CRLF`, are the text to send on; for text whose line
/// ends are all CRLF that is what came, octet by octet.
#[derive(Clone, Debug)]
pub struct Scanner {
    policy: BareNewline,
    state: State,
}

impl Scanner {
    /// A scanner for one message, at the start of its text.
    pub fn new(policy: BareNewline) -> Self {
        Self {
            policy,
            state: State::LineStart,
        }
    }

    /// Looks at `input`; the first part of the result is how many of its octets were consumed.
    ///
    /// `(0, Insert)` and `(0, Bare)` are about octets held back before. Behind the end of data the answer
    /// is always `(0, End)`.
    pub fn next(&mut self, input: &[u8]) -> (usize, Piece) {
        let text = self.pass(input);
        if text > 0 {
            return (text, Piece::Text(text));
        }
        match input.first() {
            Some(octet) => self.step(*octet),
            None => (0, Piece::Nothing),
        }
    }

    /// How many octets at the start of `input` pass as they are. Searches with vector instructions,
    /// block by block and line by line where a block has something odd.
    fn pass(&mut self, input: &[u8]) -> usize {
        let mut at = 0;
        loop {
            match (self.state, &input[at..]) {
                (State::LineStart | State::OtherLineStart, [0, ..]) => {
                    self.state = State::OtherLineStart;
                    at += 1;
                }
                (State::LineStart, [b'.'] | [b'.', b'\r' | b'\n' | 0, ..])
                | (State::OtherLineStart, [b'.', ..])
                | (_, []) => return at,
                (State::LineStart | State::OtherLineStart | State::Within, rest) => {
                    self.state = State::Within;
                    if let Some(last) = plain_len(rest).checked_sub(1) {
                        at += last + 1;
                        if rest[last] == b'\n' {
                            self.state = State::LineStart;
                        }
                        continue;
                    }
                    let Some(len) = memchr2(b'\r', b'\n', rest) else {
                        return input.len();
                    };
                    at += len;
                    if !rest[len..].starts_with(b"\r\n") {
                        return at;
                    }
                    at += 2;
                    self.state = State::LineStart;
                }
                _ => return at,
            }
        }
    }

    /// Decides about one octet that does not simply pass, or that follows octets held back.
    fn step(&mut self, octet: u8) -> (usize, Piece) {
        let (state, result) = match (self.state, octet) {
            (State::Ended, _) => (State::Ended, (0, Piece::End)),
            (State::DotCr, b'\n') => (State::Ended, (1, Piece::End)),
            (State::Dot, b'\r') => (State::DotCr, (1, Piece::Nothing)),
            (State::LineStart, b'.') => (State::Dot, (1, Piece::Nothing)),
            // Un-stuffed, so that the NUL cannot turn the line into a single dot.
            (State::Dot, 0) => (State::OtherLineStart, (1, Piece::Insert(b"\0"))),
            (State::Cr, b'\n') => (State::LineStart, (1, Piece::Insert(b"\r\n"))),
            // A dot held back here goes as un-stuffing would take it: it was no text.
            (State::Cr | State::DotCr, _) => (State::OtherLineStart, (0, self.bare())),
            (_, b'\n') => (State::OtherLineStart, (1, self.bare())),
            (State::Dot, _) => (State::Within, (0, Piece::Insert(b"."))),
            (_, b'\r') => (State::Cr, (1, Piece::Nothing)),
            (State::OtherLineStart, b'.') => (State::Within, (1, Piece::Insert(b".."))),
            (State::LineStart | State::OtherLineStart | State::Within, _) => {
                (State::Within, (1, Piece::Text(1)))
            }
        };
        self.state = state;
        result
    }

    /// What a lone CR or LF comes to.
    fn bare(&self) -> Piece {
        match self.policy {
            BareNewline::Normalize => Piece::Insert(b"\r\n"),
            BareNewline::Reject => Piece::Bare,
        }
    }
}

/// How much of `text`, whose first octet may stand where it does unless it is an LF, passes by a look at whole
/// blocks. Ends within a line or behind its CRLF.
fn plain_len(text: &[u8]) -> usize {
    let mut len = 0;
    while let Some(block) = text[len..].first_chunk()
        && text[0] != b'\n'
        && is_plain(block)
    {
        len += BLOCK;
    }
    match text[..len].last() {
        Some(b'\r') => len - 1,
        _ => len,
    }
}

/// Whether every CR is followed by LF and only LF follows it, and no line begins with a dot or NUL. Without a
/// branch for each octet, so that the compiler makes vector instructions of it.
fn is_plain(block: &[u8; BLOCK + 2]) -> bool {
    let is = |octet: &u8, wanted: u8| u8::from(*octet == wanted);
    let triples = block[..BLOCK].iter().zip(&block[1..]).zip(&block[2..]);
    let odd = triples.map(|((a, b), c)| {
        (is(a, b'\r') ^ is(b, b'\n')) | (is(b, b'\n') & (is(c, b'.') | is(c, 0)))
    });
    odd.fold(0, |all, odd| all | odd) == 0
}

/// The offset just behind the empty line that ends a header block, in scanned text.
pub fn header_end(buf: &[u8]) -> Option<usize> {
    if buf.starts_with(b"\r\n") {
        return Some(2);
    }
    memchr_iter(b'\n', buf)
        .map(|at| at + 1)
        .find(|at| buf[*at..].starts_with(b"\r\n"))
        .map(|at| at + 2)
}

/// Whether a header field can be put before this text so that everything else reads as it did.
///
/// Not before a folded line, which would become a part of that field. Nor before a line that is no field:
/// as the first of a message a relay may make something of it (the `From ` line of an mbox), behind a field
/// it ends the header.
pub fn takes_field_before(text: &[u8]) -> bool {
    let end = memmem::find(text, b"\r\n").unwrap_or(text.len());
    let line = &text[..end];
    let name = memchr(b':', line).map(|colon| line[..colon].trim_ascii_end());
    line.is_empty()
        || name.is_some_and(|name| !name.is_empty() && name.iter().all(u8::is_ascii_graphic))
}

/// The fields of a header block in scanned text: each with its folded lines and CRLFs, up to an empty
/// line. Together they cover every octet; a line that is no field is told like one.
pub fn header_fields(block: &[u8]) -> impl Iterator<Item = Range<usize>> {
    let mut at = 0;
    iter::from_fn(move || {
        let start = at;
        if block[start..].is_empty() || block[start..].starts_with(b"\r\n") {
            return None;
        }
        loop {
            let line = &block[at..];
            at += memchr(b'\n', line).map_or(line.len(), |len| len + 1);
            if !matches!(block.get(at), Some(b' ' | b'\t')) {
                return Some(start..at);
            }
        }
    })
}

#[cfg(test)]
mod tests;
