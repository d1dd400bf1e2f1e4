//! The way from counted octets (BDAT, RFC 3030) to the text behind DATA: dots are stuffed, every line end is
//! CRLF, the last line has one, and the end of data stands once, at the end. As safe from a laxer reading as
//! what the [`Scanner`](super::Scanner) lets pass.

use memchr::memchr2;
use thiserror::Error;

use super::BareNewline;

/// A lone CR or LF came, and the policy is to reject.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("lone CR or LF in the message")]
pub struct Bare;

/// What the last octets were.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// At the start of the message or behind a line end.
    LineStart,
    /// Behind NULs at a line's start, which some receivers drop.
    Null,
    /// Within a line.
    Within,
    /// Behind a CR that was held back.
    Cr,
}

/// Stuffs one message, however it is split.
#[derive(Clone, Debug)]
pub struct Stuffer {
    policy: BareNewline,
    state: State,
}

impl Stuffer {
    /// A stuffer at the start of a message.
    pub fn new(policy: BareNewline) -> Self {
        Self {
            policy,
            state: State::LineStart,
        }
    }

    /// Writes what `octets` are behind DATA to `out`. After an error the message must not be completed.
    pub fn stuff(&mut self, octets: &[u8], out: &mut Vec<u8>) -> Result<(), Bare> {
        let mut rest = octets;
        while let Some(octet) = rest.first() {
            let (state, consumed) = match (self.state, octet) {
                (State::Cr, b'\n') => (line_end(out), 1),
                (State::Cr, _) => (self.bare(out)?, 0),
                (_, b'\n') => (self.bare(out)?, 1),
                (_, b'\r') => (State::Cr, 1),
                (State::LineStart | State::Null, 0) => {
                    out.push(0);
                    (State::Null, 1)
                }
                (at, _) => {
                    if at != State::Within && *octet == b'.' {
                        out.push(b'.');
                    }
                    let len = memchr2(b'\r', b'\n', rest).unwrap_or(rest.len());
                    out.extend_from_slice(&rest[..len]);
                    (State::Within, len)
                }
            };
            self.state = state;
            rest = &rest[consumed..];
        }
        Ok(())
    }

    /// Ends the last line, if it has not ended, and the data.
    pub fn end(&mut self, out: &mut Vec<u8>) -> Result<(), Bare> {
        self.state = match self.state {
            State::LineStart => State::LineStart,
            State::Cr => self.bare(out)?,
            State::Null | State::Within => line_end(out),
        };
        out.extend_from_slice(b".\r\n");
        Ok(())
    }

    /// What a lone CR or LF comes to.
    fn bare(&self, out: &mut Vec<u8>) -> Result<State, Bare> {
        match self.policy {
            BareNewline::Normalize => Ok(line_end(out)),
            BareNewline::Reject => Err(Bare),
        }
    }
}

fn line_end(out: &mut Vec<u8>) -> State {
    out.extend_from_slice(b"\r\n");
    State::LineStart
}

#[cfg(test)]
mod tests;
