//! Records that are too many for the memory: they go straight into the file that is to become the index, and are
//! written but once. Must not know what a record is, nor whether the file ever becomes one.

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::draft::Draft;
use super::part;
use super::segment::Segment;

/// Room for records, in a file that is begun when the first come.
pub struct Scratch {
    directory: PathBuf,
    head: Vec<u8>,
    state: Mutex<State>,
}

enum State {
    Empty,
    Begun(Draft),
    /// It cannot be written to the end.
    Failed,
}

impl Scratch {
    /// Room in a directory, for a file with this head.
    pub fn within(directory: PathBuf, head: Vec<u8>) -> Self {
        Self {
            directory,
            head,
            state: Mutex::new(State::Empty),
        }
    }

    /// Whether there are records in it.
    pub fn is_begun(&self) -> bool {
        matches!(*self.lock(), State::Begun(_))
    }

    /// Puts records there; `None` where they find no room.
    pub fn put(&self, octets: &[u8]) -> Option<Segment> {
        let mut state = self.lock();
        if matches!(*state, State::Empty) {
            *state = self.begin().map_or(State::Failed, State::Begun);
        }
        let State::Begun(draft) = &*state else {
            return None;
        };
        let segment = part::write_segment(draft.depot(), octets);
        if segment.is_err() {
            *state = State::Failed;
        }
        segment.ok()
    }

    /// The file with all that was put there; an empty one if nothing was, or not all.
    pub fn into_draft(self) -> io::Result<Draft> {
        let state = std::mem::replace(&mut *self.lock(), State::Empty);
        match state {
            State::Begun(draft) => Ok(draft),
            State::Empty | State::Failed => self.begin(),
        }
    }

    fn begin(&self) -> io::Result<Draft> {
        let draft = Draft::begin(&self.directory)?;
        draft.depot().file().write_all(&self.head)?;
        Ok(draft)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
