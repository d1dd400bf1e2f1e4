//! The lines of the log on their way to standard error. Those of a thread with an event loop leave in one write with the
//! others of its turn: they wait until it has nothing else to do, or until an answer is due that must not come before
//! them. What tells of trouble leaves at once, and so does what other threads log, behind all that waits.

use std::cell::Cell;
use std::io::{self, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;

/// No more octets wait than this and a line.
const OCTETS_MAX: usize = 8192;

/// What waits. Of all threads, so that the lines keep their order and the end of the process finds them.
static WAITING: Mutex<Vec<u8>> = Mutex::new(Vec::new());

thread_local! {
    static STATE: Cell<State> = const { Cell::new(State::WritesAtOnce) };
}

/// What a thread does about its lines.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    WritesAtOnce,
    HasNone,
    HasSome,
}

/// From now on the lines of this thread wait for [`end`], which is called whenever it has nothing else to do.
pub fn begin() {
    STATE.set(State::HasNone);
}

/// Writes what this thread has left to wait.
pub fn end() {
    if STATE.get() == State::HasSome {
        STATE.set(State::HasNone);
        flush();
    }
}

/// Writes all that waits.
pub(super) fn flush() {
    write_out(&mut waiting(), &mut io::stderr());
}

fn waiting() -> MutexGuard<'static, Vec<u8>> {
    WAITING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Gives lines their way.
pub(super) struct Ways;

impl MakeWriter<'_> for Ways {
    type Writer = Way;

    fn make_writer(&self) -> Way {
        Way { waits: false }
    }

    fn make_writer_for(&self, about: &Metadata<'_>) -> Way {
        let waits = *about.level() > Level::WARN && STATE.get() != State::WritesAtOnce;
        Way { waits }
    }
}

/// Where a line is written to, whole.
pub(super) struct Way {
    waits: bool,
}

impl Write for Way {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.waits {
            STATE.set(State::HasSome);
        }
        add(&mut waiting(), line, self.waits, &mut io::stderr());
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        flush();
        Ok(())
    }
}

fn add(waiting: &mut Vec<u8>, line: &[u8], waits: bool, to: &mut impl Write) {
    waiting.extend_from_slice(line);
    if !waits || waiting.len() > OCTETS_MAX {
        write_out(waiting, to);
    }
}

/// A log that cannot be written has nobody to be told of it.
fn write_out(waiting: &mut Vec<u8>, to: &mut impl Write) {
    if !waiting.is_empty() {
        let _ = to.write_all(waiting);
        waiting.clear();
    }
    if waiting.capacity() > 2 * OCTETS_MAX {
        *waiting = Vec::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What reached the other side, write by write.
    #[derive(Default)]
    struct Writes(Vec<Vec<u8>>);

    impl Write for Writes {
        fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
            self.0.push(octets.to_vec());
            Ok(octets.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_that_wait_leave_in_their_order_with_the_first_that_does_not() {
        let (mut waiting, mut to) = (Vec::new(), Writes::default());
        for (line, waits) in [("a\n", true), ("b\n", true), ("c\n", false), ("d\n", false)] {
            add(&mut waiting, line.as_bytes(), waits, &mut to);
        }
        assert_eq!(to.0, [&b"a\nb\nc\n"[..], b"d\n"]);
        write_out(&mut waiting, &mut to);
        assert_eq!(to.0.len(), 2, "nothing is left");
    }

    #[test]
    fn a_long_turn_holds_little() {
        let (mut waiting, mut to) = (Vec::new(), Writes::default());
        for line in [vec![b'x'; 100], vec![b'y'; 5 * OCTETS_MAX]] {
            for _ in 0..200 {
                add(&mut waiting, &line, true, &mut to);
                assert!(waiting.len() <= OCTETS_MAX && waiting.capacity() <= 2 * OCTETS_MAX);
            }
        }
        write_out(&mut waiting, &mut to);
        let octets: usize = to.0.iter().map(Vec::len).sum();
        assert_eq!(octets, 200 * (100 + 5 * OCTETS_MAX));
    }
}
