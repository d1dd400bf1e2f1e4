//! Where mails are read from: told by what a word names, read and never changed. A source yields octets and
//! knows nothing of reports.

pub mod directory;
pub mod imap;
pub mod maildir;
pub mod mbox;
pub mod packed;

use std::ffi::OsStr;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use thiserror::Error;

use imap::Folder;

/// How much of a mail is read before it is judged whether the rest is wanted, octets.
pub const HEAD_OCTETS: usize = 64 * 1024;

/// The word for standard input.
const STDIN: &str = "-";

/// Mails in one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A Maildir and its Maildir++ folders.
    Maildir(PathBuf),
    /// A directory of `.eml` files.
    Directory(PathBuf),
    /// An mbox, or one mail; also a pipe of a shell's own that yields either.
    File(PathBuf),
    /// The same from standard input.
    Stdin,
    /// A folder on an IMAP server.
    Imap(Folder),
}

/// Why there is nothing to read from.
#[derive(Debug, Error)]
#[allow(missing_docs)]
pub enum SourceError {
    #[error("{0}: no such Maildir yet? reports arrive as mail; give the Maildir your mail goes to")]
    Missing(PathBuf),
    #[error("{path}: cannot be read: {why}")]
    Unreadable { path: PathBuf, why: io::Error },
    #[error("{path} holds neither `new` nor `cur`, so it is no Maildir, and no .eml file{}", meant(maildir.as_deref()))]
    Plain {
        path: PathBuf,
        maildir: Option<PathBuf>,
    },
    #[error(
        "{0} is a pipe, which nobody may ever write to; for what a command prints give - and standard input"
    )]
    Pipe(PathBuf),
    #[error(
        "{name} is {kind}, and no mailbox; unpack it and name what was in it (evidence archives are for `hoptrail verify`)"
    )]
    Packed { name: String, kind: &'static str },
    #[error("{name}: {why}; a mailbox on a server is named imaps://USER@HOST/FOLDER")]
    Name { name: String, why: &'static str },
    #[error("{folder}: {why}")]
    Server { folder: String, why: String },
}

impl SourceError {
    pub(super) fn unreadable(path: &Path) -> impl Fn(io::Error) -> Self + '_ {
        |why| Self::Unreadable {
            path: path.to_owned(),
            why,
        }
    }
}

/// The Maildir that may be meant by a directory that is none: the one in it, or the one that it is a part of.
fn maildir_beside(path: &Path) -> Option<PathBuf> {
    let within = Some(path.join("Maildir")).filter(|inner| maildir::is_maildir(inner));
    let around = || {
        let whole = path.canonicalize().ok()?;
        Some(whole.parent()?.to_owned()).filter(|outer| maildir::is_maildir(outer))
    };
    within.or_else(around)
}

fn meant(maildir: Option<&Path>) -> String {
    maildir.map_or_else(String::new, |path| {
        format!("; did you mean {}?", path.display())
    })
}

/// What names a mail in its source, from one reading to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(pub u64);

/// Where a mail lies, for people.
#[derive(Clone, Copy, Debug)]
pub enum Place<'a> {
    /// In a file of its own.
    File(&'a Path),
    /// Among others: the source, and the number of the mail in it.
    Within(&'a Source, usize),
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Within(source, n) => write!(f, "{source}, mail {n}"),
        }
    }
}

/// What was found in a place: the octets of a mail that is wanted, at most one more than was asked for; `None` of
/// another; or why it cannot be read.
pub type Found<'a> = io::Result<Option<&'a [u8]>>;

impl Source {
    /// What a word on the command line names.
    pub fn named(word: &OsStr) -> Result<Self, SourceError> {
        if word == STDIN {
            return Ok(Self::Stdin);
        }
        match word.to_str().filter(|text| text.contains("://")) {
            Some(url) => Ok(Self::Imap(Folder::named(url)?)),
            None => Self::at(Path::new(word)),
        }
    }

    /// What lies at a path.
    pub fn at(path: &Path) -> Result<Self, SourceError> {
        let meta = fs::metadata(path).map_err(|why| match why.kind() {
            io::ErrorKind::NotFound => SourceError::Missing(path.to_owned()),
            _ => SourceError::unreadable(path)(why),
        })?;
        let path = path.to_owned();
        // Those of a shell's own are written to; opening another would wait for ever.
        let is_of_shell = path.starts_with("/dev") || path.starts_with("/proc");
        if meta.file_type().is_fifo() && !is_of_shell {
            return Err(SourceError::Pipe(path));
        }
        if !meta.is_dir() {
            return Ok(Self::File(path));
        }
        if maildir::is_maildir(&path) {
            return Ok(Self::Maildir(path));
        }
        let mails = directory::mails(&path).map_err(SourceError::unreadable(&path))?;
        if mails.is_empty() {
            let maildir = maildir_beside(&path);
            return Err(SourceError::Plain { path, maildir });
        }
        Ok(Self::Directory(path))
    }

    /// Shows each mail to `found`, where it lies and what of it is wanted, of standard input once.
    pub fn visit(
        &self,
        octets_max: usize,
        wanted: impl Fn(&[u8]) -> bool + Send + Sync,
        mut found: impl FnMut(Place, Found) + Send,
    ) -> Result<(), SourceError> {
        let mut room = Room::default();
        let mut in_file = |path: &Path| {
            if let Some(mail) = room.open(path, octets_max, &wanted) {
                found(Place::File(path), mail);
            }
        };
        match self {
            Self::Maildir(path) => return maildir::list(path, |mail| in_file(&mail.path())),
            Self::Directory(path) => {
                let mails = directory::mails(path).map_err(SourceError::unreadable(path))?;
                for path in mails {
                    in_file(&path);
                }
            }
            Self::File(path) => {
                let file = File::open(path).map_err(SourceError::unreadable(path))?;
                return self.visit_stream(file, octets_max, wanted, found);
            }
            Self::Stdin => {
                return self.visit_stream(io::stdin().lock(), octets_max, wanted, found);
            }
            Self::Imap(folder) => {
                let all = |_, _| true;
                return folder.visit(octets_max, wanted, all, |_, uid, mail| {
                    found(self.nth(uid), mail);
                });
            }
        }
        Ok(())
    }

    /// A mail by its number in a folder on a server.
    pub fn nth(&self, uid: u32) -> Place<'_> {
        Place::Within(self, usize::try_from(uid).unwrap_or_default())
    }

    fn visit_stream(
        &self,
        mut stream: impl Read,
        octets_max: usize,
        wanted: impl Fn(&[u8]) -> bool,
        mut found: impl FnMut(Place, Found),
    ) -> Result<(), SourceError> {
        let mut head = Vec::new();
        let mut begun = stream.by_ref().take(packed::HEAD_OCTETS);
        if let Err(why) = begun.read_to_end(&mut head) {
            found(Place::Within(self, 1), Err(why));
            return Ok(());
        }
        if let Some(kind) = packed::kind(&head) {
            let name = self.to_string();
            return Err(SourceError::Packed { name, kind });
        }
        let mut n = 0;
        mbox::visit(head.chain(stream), octets_max, wanted, |mail| {
            n += 1;
            found(Place::Within(self, n), mail);
        });
        Ok(())
    }

    /// Where it lies on this machine.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Maildir(path) | Self::Directory(path) | Self::File(path) => Some(path),
            Self::Stdin | Self::Imap(_) => None,
        }
    }

    /// Whether each of its mails has a [`Key`].
    pub fn has_keys(&self) -> bool {
        matches!(self, Self::Maildir(_) | Self::Imap(_))
    }

    /// How many mails there are, where one can tell without opening any.
    pub fn count(&self) -> Option<usize> {
        match self {
            Self::Maildir(path) => {
                let mut count = 0;
                maildir::list(path, |_| count += 1).ok()?;
                Some(count)
            }
            Self::Directory(path) => Some(directory::mails(path).ok()?.len()),
            Self::File(_) | Self::Stdin | Self::Imap(_) => None,
        }
    }

    /// What is left unread in it, and why: folders that nobody may look into, and what no mail is read from.
    pub fn unread(&self) -> Vec<(String, String)> {
        let unread = match self {
            Self::Maildir(path) => maildir::closed_folders(path),
            Self::Directory(path) => directory::below(path),
            Self::File(_) | Self::Stdin | Self::Imap(_) => Ok(Vec::new()),
        };
        let unread = unread.unwrap_or_default().into_iter();
        unread
            .map(|(path, why)| (path.display().to_string(), why))
            .collect()
    }

    /// The files and directories whose time changes when a mail comes.
    pub fn places(&self) -> Vec<PathBuf> {
        match self {
            Self::Maildir(path) => maildir::places(path).unwrap_or_else(|_| vec![path.clone()]),
            Self::Directory(path) | Self::File(path) => vec![path.clone()],
            Self::Stdin | Self::Imap(_) => Vec::new(),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Maildir(path) | Self::Directory(path) | Self::File(path) => {
                write!(f, "{}", path.display())
            }
            Self::Stdin => f.write_str("standard input"),
            Self::Imap(folder) => write!(f, "{folder}"),
        }
    }
}

/// Room for one mail after the other.
pub struct Room {
    head: Box<[u8]>,
    whole: Vec<u8>,
}

impl Default for Room {
    fn default() -> Self {
        Self {
            head: vec![0; HEAD_OCTETS].into(),
            whole: Vec::new(),
        }
    }
}

impl Room {
    /// Reads the mail in a file; `None` if it was moved or deleted since it was listed.
    fn open(
        &mut self,
        path: &Path,
        octets_max: usize,
        wanted: impl Fn(&[u8]) -> bool,
    ) -> Option<Found<'_>> {
        match File::open(path) {
            Err(why) if why.kind() == io::ErrorKind::NotFound => None,
            Err(why) => Some(Err(why)),
            Ok(file) => Some(self.read(&file, octets_max, wanted)),
        }
    }

    /// Reads a mail that has a file of its own: whole if `wanted` says so of its beginning, but no more than
    /// `octets_max` and one octet.
    fn read(
        &mut self,
        file: &File,
        octets_max: usize,
        wanted: impl Fn(&[u8]) -> bool,
    ) -> Found<'_> {
        let head = self.begin(file)?;
        let filled = head.len();
        if !wanted(head) {
            return Ok(None);
        }
        if filled < HEAD_OCTETS {
            return Ok(self.head.get(..filled));
        }
        self.go_on(file, octets_max).map(Some)
    }

    /// Reads the beginning of a mail that has a file of its own; what is shorter than [`HEAD_OCTETS`] is all of it.
    pub fn begin(&mut self, mut file: &File) -> io::Result<&[u8]> {
        let mut filled = 0;
        loop {
            let room = self.head.get_mut(filled..).unwrap_or_default();
            let asked = room.len();
            let got = match file.read(room) {
                Err(why) if why.kind() == io::ErrorKind::Interrupted => continue,
                other => other?,
            };
            filled += got;
            // A file that gives less than there is room for is at its end.
            if got < asked || filled == HEAD_OCTETS {
                return Ok(self.head.get(..filled).unwrap_or_default());
            }
        }
    }

    /// Reads on behind a beginning that was not all, and gives both, but no more than `octets_max` and one octet.
    pub fn go_on(&mut self, file: &File, octets_max: usize) -> io::Result<&[u8]> {
        self.whole.clear();
        self.whole.extend_from_slice(&self.head);
        let rest = (octets_max + 1).saturating_sub(HEAD_OCTETS);
        file.take(u64::try_from(rest).unwrap_or(u64::MAX))
            .read_to_end(&mut self.whole)?;
        Ok(&self.whole)
    }
}
