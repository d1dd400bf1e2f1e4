//! Many mails in one stream (mbox), or one mail that has it for itself; empty lines in front of it are none of either.
//! A line `From ` at the beginning or behind an empty line begins a mail; such a line of a mail itself stands with a `>` in front (mboxo), or with one more
//! than it had (mboxrd), which is taken off. However long mails and lines are, no more is held than one mail that
//! is wanted, up to the limit.

use std::io::{self, BufRead, BufReader, Read};

use super::{Found, HEAD_OCTETS};

const FROM: &[u8] = b"From ";

/// What some programs put in front of a text (Unicode, 23.8).
const MARK: &[u8] = b"\xef\xbb\xbf";

/// What is read at a time, octets.
const CHUNK_OCTETS: usize = 256 * 1024;

/// What is taken for one line, octets; a longer one comes in pieces.
const PIECE_OCTETS: u64 = 64 * 1024;

/// Shows each mail in turn to `found`: its octets, at most `octets_max` and one more, if `wanted` says so of its
/// beginning. Nothing comes behind an error.
pub fn visit(
    stream: impl Read,
    octets_max: usize,
    wanted: impl Fn(&[u8]) -> bool,
    mut found: impl FnMut(Found),
) {
    let mut stream = BufReader::with_capacity(CHUNK_OCTETS, stream);
    let mut mail = Mail::new(octets_max, wanted);
    let mut piece = Vec::new();
    // At the start of a line; behind an empty one.
    let (mut fresh, mut gap) = (true, true);
    let mut is_mbox = None;
    loop {
        match next(&mut stream, &mut piece) {
            Err(why) => return found(Err(why)),
            Ok(0) => break,
            Ok(_) => {}
        }
        let first = is_mbox.is_none();
        if first && piece.starts_with(MARK) {
            piece.drain(..MARK.len());
        }
        if first && is_empty(&piece) {
            continue;
        }
        let begins = fresh && gap && piece.starts_with(FROM);
        let is_mbox = *is_mbox.get_or_insert(begins);
        if begins && is_mbox {
            if !first {
                found(Ok(mail.end(is_mbox)));
            }
            mail.begin();
        } else {
            mail.push(if fresh && is_mbox {
                unquoted(&piece)
            } else {
                &piece
            });
        }
        gap = fresh && is_empty(&piece);
        fresh = piece.ends_with(b"\n");
    }
    if let Some(is_mbox) = is_mbox {
        found(Ok(mail.end(is_mbox)));
    }
}

/// The next line, or a piece of one that is long.
fn next(stream: &mut impl BufRead, piece: &mut Vec<u8>) -> io::Result<usize> {
    piece.clear();
    stream.take(PIECE_OCTETS).read_until(b'\n', piece)
}

fn is_empty(line: &[u8]) -> bool {
    matches!(line, b"\n" | b"\r\n")
}

/// A line as it was before it was put into an mbox.
fn unquoted(line: &[u8]) -> &[u8] {
    let marks = line.iter().take_while(|octet| **octet == b'>').count();
    match line.split_at_checked(marks) {
        Some((_, rest)) if marks > 0 && rest.starts_with(FROM) => line.get(1..).unwrap_or_default(),
        _ => line,
    }
}

/// The mail at hand.
struct Mail<W> {
    octets: Vec<u8>,
    octets_max: usize,
    wanted: W,
    /// What `wanted` said; `None` as long as its header goes on.
    verdict: Option<bool>,
}

impl<W: Fn(&[u8]) -> bool> Mail<W> {
    fn new(octets_max: usize, wanted: W) -> Self {
        Self {
            octets: Vec::new(),
            octets_max,
            wanted,
            verdict: None,
        }
    }

    fn begin(&mut self) {
        self.octets.clear();
        self.verdict = None;
    }

    fn push(&mut self, piece: &[u8]) {
        if self.verdict == Some(false) {
            return;
        }
        let room = (self.octets_max + 1).saturating_sub(self.octets.len());
        let piece = piece.get(..room).unwrap_or(piece);
        self.octets.extend_from_slice(piece);
        let header_ends = is_empty(piece);
        if self.verdict.is_none() && (header_ends || self.octets.len() >= HEAD_OCTETS) {
            self.judge();
        }
    }

    fn judge(&mut self) -> bool {
        let verdict = (self.wanted)(&self.octets);
        self.verdict = Some(verdict);
        verdict
    }

    /// The whole mail. In an mbox the empty line in front of the next one is not its own.
    fn end(&mut self, is_mbox: bool) -> Option<&[u8]> {
        let wanted = self.verdict.unwrap_or_else(|| self.judge());
        let gaps = [&b"\n\r\n"[..], b"\n\n"].into_iter();
        let gap = gaps.filter(|gap| is_mbox && self.octets.ends_with(gap));
        let taken = gap.map(|gap| gap.len() - 1).next().unwrap_or(0);
        let end = self.octets.len() - taken;
        self.octets.get(..end).filter(|_| wanted)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;

    /// What is found in pieces of so many octets, which `keep` in the header makes wanted.
    fn seen(text: &str, step: usize) -> Vec<Option<String>> {
        struct Slow<'a>(&'a [u8], usize);
        impl Read for Slow<'_> {
            fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
                let n = self.1.min(to.len()).min(self.0.len());
                to[..n].copy_from_slice(&self.0[..n]);
                self.0 = &self.0[n..];
                Ok(n)
            }
        }
        let mut seen = Vec::new();
        let keep = |head: &[u8]| memchr::memmem::find(head, b"keep").is_some();
        visit(Slow(text.as_bytes(), step), 1000, keep, |mail| {
            let mail = mail.unwrap().map(<[u8]>::to_vec);
            seen.push(mail.map(|m| String::from_utf8(m).unwrap()));
        });
        seen
    }

    #[test]
    fn mails_are_told_apart_and_unquoted() {
        let mbox = "From a@x Mon Nov 23 16:05:09 2026\nSubject: keep\n\nHi\nFrom here on it is text,\n\n\
                    >From here too\n>>From b\n>Fro\n\nFrom b@x\nSubject: other\n\nkeep\n\nFrom c\n\nkeep: no\n\
                    \nFrom d\nX: keep\n\n";
        let first =
            "Subject: keep\n\nHi\nFrom here on it is text,\n\nFrom here too\n>From b\n>Fro\n";
        let expected = vec![
            Some(first.to_owned()),
            None,
            None,
            Some("X: keep\n".to_owned()),
        ];
        for step in 1..40 {
            assert_eq!(seen(mbox, step), expected, "{step}");
        }
        for front in ["\u{feff}", "\n\r\n\n", "\u{feff}\n"] {
            assert_eq!(seen(&format!("{front}{mbox}"), 7), expected, "{front:?}");
        }
        let crlf = mbox.replace('\n', "\r\n");
        let expected: Vec<_> = expected
            .into_iter()
            .map(|m| m.map(|m| m.replace('\n', "\r\n")))
            .collect();
        assert_eq!(seen(&crlf, 7), expected);
    }

    #[test]
    fn a_mail_alone_stays_as_it_is() {
        let mail = "Subject: keep\n\nFrom here\n\nFrom there\n>From\n\n";
        assert_eq!(seen(mail, 5), [Some(mail.to_owned())]);
        assert_eq!(seen("", 5), Vec::<Option<String>>::new());
        assert_eq!(seen("no keeping", 5), [Some("no keeping".to_owned())]);
    }

    #[test]
    fn no_mail_and_no_line_is_held_beyond_the_limit() {
        let lines = 100 * 1024 * 1024 / 64;
        let line = [b'x'; 64];
        let endless = || io::repeat(b'y').take(100 * 1024 * 1024);
        let many = (0..lines).fold(Vec::new(), |mut all, _| {
            all.extend_from_slice(&line);
            all
        });
        for body in [Box::new(endless()) as Box<dyn Read>, Box::new(&many[..])] {
            let stream = b"From x\nSubject: a\n\n".chain(body);
            let mut sizes = Vec::new();
            visit(
                stream,
                1000,
                |_| true,
                |mail| {
                    sizes.push(mail.unwrap().map(<[u8]>::len));
                },
            );
            assert_eq!(sizes, [Some(1001)]);
        }
        // A header without an end.
        let mut judged = Vec::new();
        visit(
            endless(),
            usize::MAX - 1,
            |_| false,
            |mail| {
                judged.push(mail.unwrap().map(<[u8]>::len));
            },
        );
        assert_eq!(judged, [None]);
    }
}
