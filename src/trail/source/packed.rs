//! Files that are no mailbox and no mail, though one may be packed in them: told by how they begin.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// So many octets tell.
pub const HEAD_OCTETS: u64 = 512;

/// What stands in such a file, where, and what that makes it.
const KINDS: [(usize, &[u8], &str); 7] = [
    (257, b"ustar\0", "a tar archive"),
    (257, b"ustar  \0", "a tar archive"),
    (0, b"PK\x03\x04", "a zip archive"),
    (0, b"\x1f\x8b\x08", "compressed by gzip"),
    (0, b"\xfd7zXZ\0", "compressed by xz"),
    (0, b"\x28\xb5\x2f\xfd", "compressed by zstd"),
    (4, b"1AY&SY", "compressed by bzip2"),
];

/// What a file is, by its beginning.
pub fn kind_of(path: &Path) -> io::Result<Option<&'static str>> {
    let mut head = Vec::new();
    File::open(path)?.take(HEAD_OCTETS).read_to_end(&mut head)?;
    Ok(kind(&head))
}

/// What a file is that begins so, if it is one.
pub fn kind(head: &[u8]) -> Option<&'static str> {
    let begins = |at: usize, sign: &[u8]| head.get(at..).is_some_and(|rest| rest.starts_with(sign));
    let kind = KINDS.iter().find(|(at, sign, _)| begins(*at, sign));
    kind.map(|(_, _, kind)| *kind)
}
