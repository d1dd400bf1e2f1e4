//! Hashes of a body that streams by, as DKIM signatures want them (RFC 6376, 3.7). Knows neither signatures nor keys.

use mail_auth::common::crypto::{HashAlgorithm, HashContext, HashImpl, Sha256};
use mail_auth::dkim::Canonicalization;
use mail_auth::dkim::canonicalize::BodyHasher;
use memchr::memmem;

type Hasher = BodyHasher<<Sha256 as HashImpl>::Context>;

/// Hashes of a body that streams by, as its signatures want them.
pub struct Digest {
    hashers: Vec<(Canonicalization, Hasher)>,
    stuffing: Stuffing,
}

impl Digest {
    /// For signatures that canonicalise the body in these ways.
    pub fn of(wanted: impl Iterator<Item = Canonicalization>, stuffing: Stuffing) -> Self {
        let mut hashers = Vec::new();
        for how in wanted {
            if hashers.iter().all(|(known, _)| *known != how) {
                hashers.push((how, BodyHasher::new(Sha256::hasher(), how, 0)));
            }
        }
        Self { hashers, stuffing }
    }

    /// The next octets of the body, as they go over the wire.
    pub fn take(&mut self, octets: &[u8]) {
        let hashers = &mut self.hashers;
        self.stuffing.undo(octets, |text| {
            for (_, hasher) in hashers.iter_mut() {
                hasher.write(text);
            }
        });
    }

    /// The hashes of the whole body.
    pub fn finish(self) -> Vec<(Canonicalization, HashAlgorithm, u64, Vec<u8>)> {
        let hash = |(how, hasher): (Canonicalization, Hasher)| {
            let hash = hasher.finish().0.complete().as_ref().to_vec();
            (how, HashAlgorithm::Sha256, 0, hash)
        };
        self.hashers.into_iter().map(hash).collect()
    }
}

/// The dots that DATA puts before dots at the start of a line (RFC 5321, 4.5.2). Chunks have none.
pub struct Stuffing {
    dotted: bool,
    at_line_start: bool,
}

impl Stuffing {
    /// Of a message that came in chunks, or behind DATA.
    pub fn of(chunked: bool) -> Self {
        Self {
            dotted: !chunked,
            at_line_start: true,
        }
    }

    /// Gives `text` what is meant by the next octets, piece by piece.
    pub fn undo(&mut self, octets: &[u8], mut text: impl FnMut(&[u8])) {
        let mut rest = octets;
        if self.dotted {
            if self.at_line_start {
                rest = rest.strip_prefix(b".").unwrap_or(rest);
            }
            while let Some(at) = memmem::find(rest, b"\n.") {
                text(&rest[..=at]);
                rest = &rest[at + 2..];
            }
            if let Some(last) = octets.last() {
                self.at_line_start = *last == b'\n';
            }
        }
        text(rest);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// However the octets come, the text is what RFC 5321, 4.5.2 says.
        #[test]
        fn dots_are_undone_at_any_split(
            lines in proptest::collection::vec("[.a\r]{0,4}", 0..8),
            cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..6),
            dotted in any::<bool>(),
        ) {
            let text: String = lines.iter().flat_map(|line| [line.as_str(), "\n"]).collect();
            let stuff = |line: &String| {
                let dot = if dotted && line.starts_with('.') { "." } else { "" };
                format!("{dot}{line}\n")
            };
            let wire: String = lines.iter().map(stuff).collect();
            let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(wire.len() + 1)).collect();
            places.extend([0, wire.len()]);
            places.sort_unstable();
            let mut stuffing = Stuffing { dotted, at_line_start: true };
            let mut undone = Vec::new();
            for piece in places.windows(2) {
                stuffing.undo(&wire.as_bytes()[piece[0]..piece[1]], |text| undone.extend_from_slice(text));
            }
            prop_assert_eq!(undone, text.into_bytes());
        }

        /// A body that streams by has the hash it would have in one piece.
        #[test]
        fn any_body_is_hashed_at_any_split(
            body in "[ \t\r\na]{0,60}",
            at in any::<prop::sample::Index>(),
        ) {
            let at = at.index(body.len() + 1);
            for how in [Canonicalization::Relaxed, Canonicalization::Simple] {
                let stuffing = Stuffing { dotted: false, at_line_start: true };
                let mut digest = Digest::of([how].into_iter(), stuffing);
                digest.take(&body.as_bytes()[..at]);
                digest.take(&body.as_bytes()[at..]);
                let whole = HashAlgorithm::Sha256.hash(how.canonical_body(body.as_bytes(), 0));
                prop_assert_eq!(&digest.finish()[0].3, whole.as_ref());
            }
        }
    }
}
