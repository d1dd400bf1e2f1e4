//! Packed records that stand one behind the other: in memory, or in a file until somebody looks at one of them. Must
//! not know what a record is.

use std::fs::{self, File};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use super::draft;

/// Room for records, mostly more than there will be. What nobody writes to takes no memory, and what is so large the system
/// makes larger or smaller without a copy, beside all other memory, and has back as soon as it is let go.
pub fn room() -> Vec<u8> {
    Vec::with_capacity(40 << 20)
}

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

    /// How much they are, octets.
    pub fn len(&self) -> usize {
        match self {
            Self::Here(octets) => octets.len(),
            Self::Stored(stored) => stored.octets,
        }
    }

    /// Lets go of what can be read again.
    pub fn release(&mut self) {
        if let Self::Stored(stored) = self {
            stored.here = OnceLock::new();
        }
    }
}

impl Stored {
    fn read(&self) -> io::Result<Vec<u8>> {
        // Not among what stays when they are released: that would leave holes.
        let mut octets = room();
        octets.resize(self.octets, 0);
        self.file.read_exact_at(&mut octets, self.from)?;
        octets.shrink_to_fit();
        Ok(octets)
    }
}

/// A file without a name, for records that are too many for the memory. It is gone with the last of them.
pub struct Scratch(Arc<File>);

impl Scratch {
    /// One in a directory, which is made if it is not there.
    pub fn within(directory: &Path) -> io::Result<Self> {
        let (path, file) = draft::create(directory)?;
        fs::remove_file(path)?;
        Ok(Self(Arc::new(file)))
    }

    /// Puts records there.
    pub fn put(&self, octets: &[u8]) -> io::Result<Segment> {
        let mut file = &*self.0;
        let from = file.seek(SeekFrom::End(0))?;
        file.write_all(octets)?;
        Ok(Segment::stored(&self.0, from, octets.len()))
    }
}
