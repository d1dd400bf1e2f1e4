//! Lines of the log that have not left yet: few as long as they are taken; many, but no more than a bound, while they
//! are not. Beyond it they are lost, and counted, until all before them have left and that has been told: so what tells
//! of a gap stands where it is. Knows nothing of where they go.

use std::io::{ErrorKind, Write};
use std::mem;

/// So many octets go out at once at the latest, where they are taken.
const GATHERED_OCTETS: usize = 8192;

/// So many wait at most for a reader that does not keep up: what it may miss while the machine is busy with others.
const BACKLOG_OCTETS_MAX: usize = 1 << 20;

/// What waits, in its order.
pub struct Backlog {
    /// Whole lines, but for the first, of which a part may have left.
    octets: Vec<u8>,
    /// Whether the last write did not take all.
    behind: bool,
    /// Whether it took none of the rest for another reason than that there is no room now.
    unread: bool,
    /// Lines since the last that could still wait.
    lost: u64,
}

impl Backlog {
    /// Nothing waits.
    pub const fn new() -> Self {
        Self {
            octets: Vec::new(),
            behind: false,
            unread: false,
            lost: 0,
        }
    }

    /// Takes a line, and writes it with all before it unless it `waits` for others.
    pub fn add(&mut self, line: &[u8], waits: bool, to: &mut impl Write) {
        let full = self.behind && self.octets.len() + line.len() > BACKLOG_OCTETS_MAX;
        if full || self.lost > 0 {
            self.lost += 1;
            return;
        }
        self.octets.extend_from_slice(line);
        if !waits || (self.octets.len() > GATHERED_OCTETS && !self.behind) {
            self.write_out(to);
        }
    }

    /// Writes all that waits, as far as there is room. A log that can never be written has nobody to be told of it.
    pub fn write_out(&mut self, to: &mut impl Write) {
        let mut written = 0;
        self.unread = false;
        while written < self.octets.len() {
            match to.write(&self.octets[written..]) {
                Ok(0) => break,
                Ok(octets) => written += octets,
                Err(why) => match why.kind() {
                    ErrorKind::Interrupted => {}
                    ErrorKind::WouldBlock => break,
                    // Another reader of a named pipe finds there what the one before left, and so it goes on.
                    ErrorKind::BrokenPipe | ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
                        self.unread = true;
                        break;
                    }
                    _ => written = self.octets.len(),
                },
            }
        }
        self.octets.drain(..written);
        self.behind = !self.octets.is_empty();
        if !self.behind && self.octets.capacity() > 2 * GATHERED_OCTETS {
            self.octets = Vec::new();
        }
    }

    /// Whether some of it found no room, or was lost and that has not been told.
    pub fn is_behind(&self) -> bool {
        self.behind || self.lost > 0
    }

    /// Whether that is because there is no reader, or no space, which may last.
    pub fn is_unread(&self) -> bool {
        self.unread
    }

    /// How many lines were lost, as soon as that can be told. It is asked once: from now on lines are taken again.
    pub fn take_lost(&mut self) -> Option<u64> {
        (self.lost > 0 && !self.behind).then(|| mem::take(&mut self.lost))
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    /// What reached the other side, write by write.
    struct Reader {
        writes: Vec<Vec<u8>>,
        room: usize,
        /// What is wrong when there is none.
        full: ErrorKind,
    }

    impl Reader {
        fn with_room(room: usize) -> Self {
            Self {
                writes: Vec::new(),
                room,
                full: ErrorKind::WouldBlock,
            }
        }

        fn lines(&self) -> Vec<String> {
            let text = String::from_utf8(self.writes.concat()).unwrap_or_default();
            text.lines().map(str::to_owned).collect()
        }
    }

    impl Write for Reader {
        fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
            if self.room == 0 {
                return Err(self.full.into());
            }
            let taken = octets.len().min(self.room);
            self.room -= taken;
            self.writes.push(octets[..taken].to_vec());
            Ok(taken)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_that_wait_leave_in_their_order_with_the_first_that_does_not() {
        let (mut backlog, mut to) = (Backlog::new(), Reader::with_room(usize::MAX));
        for (line, waits) in [("a\n", true), ("b\n", true), ("c\n", false), ("d\n", false)] {
            backlog.add(line.as_bytes(), waits, &mut to);
        }
        assert_eq!(to.writes, [&b"a\nb\nc\n"[..], b"d\n"]);
        backlog.write_out(&mut to);
        assert_eq!(to.writes.len(), 2, "nothing is left");
    }

    #[test]
    fn a_long_turn_holds_little() {
        let (mut backlog, mut to) = (Backlog::new(), Reader::with_room(usize::MAX));
        for line in [vec![b'x'; 100], vec![b'y'; 5 * GATHERED_OCTETS]] {
            for _ in 0..200 {
                backlog.add(&line, true, &mut to);
                let (waiting, room) = (backlog.octets.len(), backlog.octets.capacity());
                assert!(waiting <= GATHERED_OCTETS && room <= 2 * GATHERED_OCTETS);
            }
        }
        backlog.write_out(&mut to);
        let octets: usize = to.writes.iter().map(Vec::len).sum();
        assert_eq!(octets, 200 * (100 + 5 * GATHERED_OCTETS));
    }

    #[test]
    fn a_reader_that_is_late_misses_nothing_and_sees_no_line_torn() {
        let (mut backlog, mut to) = (Backlog::new(), Reader::with_room(0));
        let lines: Vec<_> = (0..10_000).map(|n| format!("line {n}")).collect();
        for (n, line) in lines.iter().enumerate() {
            backlog.add(format!("{line}\n").as_bytes(), n % 3 > 0, &mut to);
            to.room += 7;
        }
        assert!(backlog.is_behind());
        to.room = usize::MAX;
        backlog.write_out(&mut to);
        assert_eq!(to.lines(), lines);
        assert!(!backlog.is_behind() && backlog.take_lost().is_none());
        assert!(backlog.octets.capacity() <= 2 * GATHERED_OCTETS);
    }

    #[test]
    fn a_reader_or_a_disk_that_is_gone_for_a_while_misses_nothing_either() {
        for why in [
            ErrorKind::BrokenPipe,
            ErrorKind::StorageFull,
            ErrorKind::QuotaExceeded,
        ] {
            let (mut backlog, mut to) = (Backlog::new(), Reader::with_room(4));
            to.full = why;
            for line in ["torn\n", "next\n"] {
                backlog.add(line.as_bytes(), false, &mut to);
            }
            assert!(backlog.is_behind() && backlog.is_unread(), "{why}");
            to.room = usize::MAX;
            backlog.write_out(&mut to);
            assert_eq!(to.lines(), ["torn", "next"], "{why}");
            assert!(!backlog.is_behind() && !backlog.is_unread(), "{why}");
        }
    }

    #[test]
    fn what_can_never_be_written_is_not_kept() {
        let (mut backlog, mut to) = (Backlog::new(), Reader::with_room(0));
        to.full = ErrorKind::InvalidInput;
        backlog.add(b"line\n", false, &mut to);
        assert!(!backlog.is_behind());
    }

    #[test]
    fn what_nobody_reads_is_held_within_a_bound_and_the_rest_counted_where_it_is_missing() {
        let (mut backlog, mut to) = (Backlog::new(), Reader::with_room(0));
        let line = [&[b'x'; 99][..], b"\n"].concat();
        for n in 0..20_000 {
            backlog.add(&line, n % 2 > 0, &mut to);
        }
        let held = BACKLOG_OCTETS_MAX / 100;
        assert_eq!(backlog.octets.len(), held * 100);
        assert_eq!(backlog.take_lost(), None, "it could not be told yet");
        // Room for some; what is logged now would stand before the gap.
        to.room = 150;
        backlog.write_out(&mut to);
        backlog.add(b"early\n", false, &mut to);
        to.room = usize::MAX;
        backlog.write_out(&mut to);
        assert!(backlog.is_behind(), "that is still to be told");
        backlog.add(b"early\n", false, &mut to);
        let lost = u64::try_from(20_000 - held + 2).ok();
        assert_eq!(backlog.take_lost(), lost);
        assert!(!backlog.is_behind() && backlog.take_lost().is_none());
        backlog.add(b"behind the gap\n", false, &mut to);
        let lines = to.lines();
        assert_eq!(lines.len(), held + 1);
        assert_eq!(lines.last().map(String::as_str), Some("behind the gap"));
    }
}
