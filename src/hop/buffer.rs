//! Buffers for octets in flight, a few of which each thread keeps: an idle session holds none, and a busy
//! one does not ask the allocator at every read.

use std::cell::RefCell;

/// The size of a buffer, octets.
const OCTETS: usize = 64 * 1024;

/// A read with less room than this, octets, would be one of too many.
const ROOM_MIN: usize = 4096;

/// Spare buffers of a thread. More than a few are in use at a time only while peers are slow.
const SPARE_MAX: usize = 16;

thread_local! {
    static SPARE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// Makes room for a read: a buffer for one that holds nothing, more of it for one that is nearly full.
pub fn make_room(buffer: &mut Vec<u8>) {
    if buffer.capacity() - buffer.len() >= ROOM_MIN {
        return;
    }
    if buffer.is_empty() {
        *buffer = SPARE
            .with_borrow_mut(Vec::pop)
            .unwrap_or_else(|| Vec::with_capacity(OCTETS));
    } else {
        buffer.reserve(OCTETS);
    }
}

/// Gives a buffer back. One of another size is let go.
pub fn give(mut buffer: Vec<u8>) {
    if buffer.capacity() == OCTETS {
        buffer.clear();
        SPARE.with_borrow_mut(|spare| {
            if spare.len() < SPARE_MAX {
                spare.push(buffer);
            }
        });
    }
}
