//! Packed records that stand one behind the other: in memory, or in a depot until somebody looks at one of them. Must
//! not know what a record is.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// Room for records, mostly more than there will be. What nobody writes to takes no memory, and what is so large the system
/// makes larger or smaller without a copy, beside all other memory, and has back as soon as it is let go.
pub fn room() -> Vec<u8> {
    Vec::with_capacity(40 << 20)
}

/// Records, found by their places.
pub enum Segment {
    /// They are here.
    Here(Vec<u8>),
    /// They are in a depot.
    Stored(Stored),
}

/// Where they are in their depot.
pub struct Stored {
    depot: Arc<Depot>,
    from: u64,
    octets: usize,
    here: OnceLock<Vec<u8>>,
}

/// A file that only grows, and the room for what is looked at of it.
pub struct Depot {
    file: File,
    /// What was let go of: to read into what is there already costs less than to have it made.
    rooms: Mutex<Vec<Vec<u8>>>,
}

impl Segment {
    /// So many octets in a depot.
    pub fn stored(depot: &Arc<Depot>, from: u64, octets: usize) -> Self {
        Self::Stored(Stored {
            depot: Arc::clone(depot),
            from,
            octets,
            here: OnceLock::new(),
        })
    }

    /// All records. None where the file cannot be read any more.
    pub fn octets(&self) -> &[u8] {
        match self {
            Self::Here(octets) => octets,
            Self::Stored(stored) => stored.octets(),
        }
    }

    /// How much they are, octets.
    pub fn len(&self) -> usize {
        match self {
            Self::Here(octets) => octets.len(),
            Self::Stored(stored) => stored.octets,
        }
    }

    /// Where they begin in this depot, if they are there.
    pub fn place_in(&self, depot: &Arc<Depot>) -> Option<u64> {
        match self {
            Self::Stored(stored) => Arc::ptr_eq(&stored.depot, depot).then_some(stored.from),
            Self::Here(_) => None,
        }
    }

    /// Lets go of what can be read again.
    pub fn release(&mut self) {
        if let Self::Stored(stored) = self {
            stored.depot.rooms().extend(stored.here.take());
        }
    }
}

impl Stored {
    fn octets(&self) -> &[u8] {
        let room = self.here.get_or_init(|| {
            self.read().unwrap_or_else(|why| {
                tracing::warn!(%why, "the index cannot be read any more");
                Vec::new()
            })
        });
        room.get(..self.octets).unwrap_or_default()
    }

    fn read(&self) -> io::Result<Vec<u8>> {
        // A new one is not among what stays when they are released: that would leave holes.
        let mut octets = self.depot.rooms().pop().unwrap_or_else(room);
        if octets.len() < self.octets {
            octets.resize(self.octets, 0);
        }
        let (records, _) = octets.split_at_mut(self.octets);
        self.depot.file.read_exact_at(records, self.from)?;
        Ok(octets)
    }
}

impl From<File> for Depot {
    fn from(file: File) -> Self {
        Self {
            file,
            rooms: Mutex::default(),
        }
    }
}

impl Depot {
    /// The file.
    pub fn file(&self) -> &File {
        &self.file
    }

    fn rooms(&self) -> std::sync::MutexGuard<'_, Vec<Vec<u8>>> {
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
