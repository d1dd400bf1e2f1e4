//! Buffers for octets in flight, a few of which each thread keeps: an idle session holds none, and a busy
//! one does not ask the allocator at every read.

use std::cell::RefCell;

/// The size of a buffer, octets.
const OCTETS: usize = 64 * 1024;

/// The size of one for the start of a message, octets: it may be held for as long as a next hop is not there.
const START_OCTETS: usize = 4096;

/// A read with less room than this, octets, would be one of too many.
const ROOM_MIN: usize = 4096;

/// Spare buffers of a thread. More than a few are in use at a time only while peers are slow.
const SPARE_MAX: usize = 16;

thread_local! {
    static SPARE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
    static SPARE_STARTS: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
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

/// A buffer for a start of a message of so many octets.
pub fn for_start(octets: usize) -> Vec<u8> {
    if octets > START_OCTETS {
        return Vec::with_capacity(octets);
    }
    let spare = SPARE_STARTS.with_borrow_mut(Vec::pop);
    spare.unwrap_or_else(|| Vec::with_capacity(START_OCTETS))
}

/// Gives a buffer back. One of another size is let go.
pub fn give(mut buffer: Vec<u8>) {
    let spare = match buffer.capacity() {
        OCTETS => &SPARE,
        START_OCTETS => &SPARE_STARTS,
        _ => return,
    };
    buffer.clear();
    spare.with_borrow_mut(|spare| {
        if spare.len() < SPARE_MAX {
            spare.push(buffer);
        }
    });
}
