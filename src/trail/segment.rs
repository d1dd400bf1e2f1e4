//! Packed records that stand one behind the other: in memory, or in a file until somebody looks at one of them. Must
//! not know what a record is.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, OnceLock};

/// Records, found by their places.
pub enum Segment {
    /// They are here.
    Here(Vec<u8>),
    /// They are in a file.
    Stored(Stored),
}

/// Where they are in a file that only grows.
pub struct Stored {
    file: Arc<File>,
    from: u64,
    octets: usize,
    here: OnceLock<Vec<u8>>,
}

impl Segment {
    /// So many octets of a file.
    pub fn stored(file: &Arc<File>, from: u64, octets: usize) -> Self {
        Self::Stored(Stored {
            file: Arc::clone(file),
            from,
            octets,
            here: OnceLock::new(),
        })
    }

    /// All records. None where the file cannot be read any more.
    pub fn octets(&self) -> &[u8] {
        match self {
            Self::Here(octets) => octets,
            Self::Stored(stored) => stored.here.get_or_init(|| {
                stored.read().unwrap_or_else(|why| {
                    tracing::warn!(%why, "the index cannot be read any more");
                    Vec::new()
                })
            }),
        }
    }
}

impl Stored {
    fn read(&self) -> io::Result<Vec<u8>> {
        let mut octets = vec![0; self.octets];
        self.file.read_exact_at(&mut octets, self.from)?;
        Ok(octets)
    }
}
