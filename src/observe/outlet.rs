//! A way out on which nobody waits for the reader at its end: what finds no room there is refused. Whoever else writes
//! to it notices nothing: whether writes wait belongs to the open file, which others share, so that is left as it is.

use std::io::{self, ErrorKind, Write};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, Mode, OFlags, fstat, open};
use rustix::io::write;
use rustix::net::{SendFlags, send};
use rustix::termios::tcgetsid;

/// So much a pipe takes at once if it takes anything (`PIPE_BUF` of pipe(7), Linux).
const ASKED_OCTETS: usize = 4096;

/// How octets leave.
pub enum Outlet<'a> {
    /// Into a file: it has no reader.
    File(BorrowedFd<'a>),
    /// To a socket, as systemd's journal gives one: told with each write that it is not to wait.
    Socket(BorrowedFd<'a>),
    /// Into a pipe or to a terminal, opened once more, as a file of ours that does not wait.
    Reopened(OwnedFd),
    /// Into what may not be opened again, as another user's pipe: asked before each write. (Another session's terminal
    /// may still take less than it says, and then waits.)
    Asked(BorrowedFd<'a>),
}

impl<'a> Outlet<'a> {
    /// By what is `there`.
    pub fn to(there: BorrowedFd<'a>) -> Self {
        let kind = fstat(there).map(|about| FileType::from_raw_mode(about.st_mode));
        match kind {
            Ok(FileType::RegularFile) => Self::File(there),
            Ok(FileType::Socket) => Self::Socket(there),
            _ => reopened(there).map_or(Self::Asked(there), Self::Reopened),
        }
    }
}

/// By its place; or as the terminal of this session, which may be opened whoever owns it.
fn reopened(there: BorrowedFd<'_>) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let reopen = |path: &str| open(path, flags, Mode::empty());
    reopen(&format!("/proc/self/fd/{}", there.as_raw_fd()))
        .or_else(|_| tcgetsid(there).and_then(|_| reopen("/dev/tty")))
}

/// As much as is taken at once.
fn write_asking(there: BorrowedFd<'_>, octets: &[u8]) -> io::Result<usize> {
    let mut asked = [PollFd::from_borrowed_fd(there, PollFlags::OUT)];
    // Where nobody reads any more the write says so.
    if poll(&mut asked, Some(&Timespec::default()))? == 0 {
        return Err(ErrorKind::WouldBlock.into());
    }
    Ok(write(there, &octets[..octets.len().min(ASKED_OCTETS)])?)
}

impl Write for &Outlet<'_> {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        match self {
            Outlet::File(there) => Ok(write(there, octets)?),
            Outlet::Reopened(ours) => Ok(write(ours, octets)?),
            Outlet::Socket(there) => {
                let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
                Ok(send(there, octets, flags)?)
            }
            Outlet::Asked(there) => write_asking(*there, octets),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::fs::File;
    use std::io::Read;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    use super::*;

    /// Writes to what nobody reads until nothing is taken any more; gives what was.
    fn fill(mut to: &Outlet<'_>) -> Vec<u8> {
        let mut taken = Vec::new();
        loop {
            let octets = format!("{:07000}", taken.len());
            match to.write(octets.as_bytes()) {
                Ok(count) => taken.extend_from_slice(&octets.as_bytes()[..count]),
                Err(why) => {
                    assert_eq!(why.kind(), ErrorKind::WouldBlock);
                    return taken;
                }
            }
        }
    }

    fn assert_refuses_what_finds_no_room(to: &Outlet<'_>, from: &mut impl Read) {
        let taken = fill(to);
        assert!(taken.len() >= 4096, "{}", taken.len());
        let mut read = vec![0; taken.len()];
        from.read_exact(&mut read).unwrap();
        assert!(read == taken, "something else came out");
        assert!(!fill(to).is_empty(), "there is room again");
    }

    #[test]
    fn nobody_waits_for_the_reader_of_a_pipe() {
        let (mut from, to) = io::pipe().unwrap();
        let reopened = Outlet::to(to.as_fd());
        assert!(matches!(reopened, Outlet::Reopened(_)));
        assert_refuses_what_finds_no_room(&reopened, &mut from);
        let flags = rustix::fs::fcntl_getfl(&to).unwrap();
        assert!(!flags.contains(OFlags::NONBLOCK), "others share it");

        let (mut from, to) = io::pipe().unwrap();
        assert_refuses_what_finds_no_room(&Outlet::Asked(to.as_fd()), &mut from);
    }

    #[test]
    fn nobody_waits_for_the_reader_of_a_socket() {
        let (mut from, to) = UnixStream::pair().unwrap();
        let socket = Outlet::to(to.as_fd());
        assert!(matches!(socket, Outlet::Socket(_)));
        assert_refuses_what_finds_no_room(&socket, &mut from);
    }

    #[test]
    fn a_reader_that_is_gone_is_an_error_and_no_wait() {
        let (from, to) = io::pipe().unwrap();
        let outlets = [Outlet::to(to.as_fd()), Outlet::Asked(to.as_fd())];
        drop(from);
        for mut outlet in &outlets {
            let why = outlet.write(b"x").unwrap_err();
            assert_eq!(why.kind(), ErrorKind::BrokenPipe);
        }
    }

    #[test]
    fn a_file_takes_all() {
        let mut path = tempfile::NamedTempFile::new().unwrap();
        let file = File::options().append(true).open(path.path()).unwrap();
        let mut outlet = &Outlet::to(file.as_fd());
        assert!(matches!(outlet, Outlet::File(_)));
        outlet.write_all(&vec![b'x'; 100_000]).unwrap();
        let mut read = Vec::new();
        path.read_to_end(&mut read).unwrap();
        assert_eq!(read.len(), 100_000);
    }
}
