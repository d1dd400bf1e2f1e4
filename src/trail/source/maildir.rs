//! A Maildir and the Maildir++ folders in it, only looked at: `new` and `cur` are read, `tmp` is not, and nothing
//! is renamed, deleted, made or marked. Of a file's name only the part behind `:2,` has a meaning: flags, which
//! may change.

use std::ffi::{CStr, OsStr};
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::{FileType, Mode, OFlags, RawDir, openat};

use super::{Key, SourceError};

/// Room for the names that the system tells at a time, octets.
const NAMES_OCTETS: usize = 64 * 1024;

/// Mails that a thread takes at a time.
const BATCH: usize = 256;

/// A mail that is there.
#[derive(Clone, Copy)]
pub struct Seen<'a> {
    /// What names it for as long as it lies in this Maildir, whatever folder it is moved to: its file's number and
    /// the part of its name that stays, so that neither a number nor a name that is used again deceives.
    pub key: Key,
    directory: &'a Arc<Directory>,
    name: &'a CStr,
}

/// Some of the same directory, for later: their names stand one behind the other.
#[derive(Default)]
pub struct Batch {
    directory: Option<Arc<Directory>>,
    names: Vec<u8>,
    mails: Vec<(Key, usize)>,
}

/// A `new` or `cur`, held open so that the way to it is not gone again for each mail.
struct Directory {
    path: PathBuf,
    handle: OwnedFd,
}

impl Seen<'_> {
    /// Where it lies now.
    pub fn path(&self) -> PathBuf {
        self.directory
            .path
            .join(OsStr::from_bytes(self.name.to_bytes()))
    }

    /// Opens it.
    pub fn open(&self) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let file = openat(&self.directory.handle, self.name, flags, Mode::empty())?;
        Ok(file.into())
    }
}

impl Batch {
    /// Takes one more. What was taken before is given back if it is enough, or if this one lies elsewhere.
    #[must_use]
    pub fn push(&mut self, mail: Seen) -> Option<Self> {
        let is_here = |directory| Arc::ptr_eq(directory, mail.directory);
        let goes_on = self.directory.as_ref().is_some_and(is_here) && self.mails.len() < BATCH;
        let full = (!goes_on).then(|| {
            let next = Self {
                directory: Some(Arc::clone(mail.directory)),
                names: Vec::with_capacity(self.names.len()),
                mails: Vec::with_capacity(self.mails.len()),
            };
            std::mem::replace(self, next)
        });
        self.mails.push((mail.key, self.names.len()));
        self.names.extend_from_slice(mail.name.to_bytes_with_nul());
        full.filter(|full| !full.mails.is_empty())
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.mails.len()
    }

    /// Those that were taken.
    pub fn mails(&self) -> impl Iterator<Item = Seen<'_>> {
        let directory = self.directory.iter();
        directory.flat_map(move |directory| {
            self.mails.iter().filter_map(move |(key, from)| {
                let name = self.names.get(*from..)?;
                Some(Seen {
                    key: *key,
                    directory,
                    name: CStr::from_bytes_until_nul(name).ok()?,
                })
            })
        })
    }
}

/// Whether a directory is one.
pub fn is_maildir(path: &Path) -> bool {
    ["new", "cur"].iter().any(|name| path.join(name).is_dir())
}

/// Shows each mail to `found`.
///
/// A folder's `new` is listed before its `cur`: a mail that its reader moves meanwhile is seen twice at most,
/// never missed.
pub fn list(maildir: &Path, mut found: impl FnMut(Seen)) -> Result<(), SourceError> {
    for place in places(maildir).map_err(SourceError::unreadable(maildir))? {
        list_place(&place, &mut found).map_err(SourceError::unreadable(&place))?;
    }
    Ok(())
}

/// What is another one when a mail came, went or was moved; `None` as long as more of that could happen in what the
/// system takes for the same moment.
pub fn state(maildir: &Path) -> Option<u64> {
    state_at(maildir, SystemTime::now())
}

/// The same at this time.
fn state_at(maildir: &Path, now: SystemTime) -> Option<u64> {
    /// Longer than any file system's moment, s.
    const MOMENT_S: i64 = 2;
    let now_s = now.duration_since(UNIX_EPOCH).ok()?.as_secs();
    let settled_s = i64::try_from(now_s).ok()? - MOMENT_S;
    let stamp = stamp(maildir)?;
    (stamp.newest_s <= settled_s).then_some(stamp.state)
}

/// What tells that mails came, went or were moved, but for what is done within a moment of the file system.
#[derive(PartialEq, Eq)]
pub struct Stamp {
    state: u64,
    newest_s: i64,
}

/// The one of now.
pub fn stamp(maildir: &Path) -> Option<Stamp> {
    let (mut state, mut newest_s) = (DefaultHasher::new(), i64::MIN);
    for place in places(maildir).ok()? {
        let meta = match fs::metadata(&place) {
            Err(why) if why.kind() == io::ErrorKind::NotFound => continue,
            other => other.ok()?,
        };
        newest_s = newest_s.max(meta.ctime());
        (place, meta.ino(), meta.ctime(), meta.ctime_nsec()).hash(&mut state);
    }
    Some(Stamp {
        state: state.finish(),
        newest_s,
    })
}

/// The `new` and `cur` of every folder.
pub fn places(maildir: &Path) -> io::Result<Vec<PathBuf>> {
    let folders = folders(maildir)?.into_iter();
    let places = folders.flat_map(|folder| ["new", "cur"].map(|name| folder.join(name)));
    Ok(places.collect())
}

/// The Maildir itself, and the folders of Maildir++, which stand in it side by side: `.Name`, `.Name.Below`.
fn folders(maildir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut folders = vec![maildir.to_owned()];
    for entry in fs::read_dir(maildir)? {
        let entry = entry?;
        if entry.file_name().as_bytes().starts_with(b".") && is_maildir(&entry.path()) {
            folders.push(entry.path());
        }
    }
    folders.sort();
    Ok(folders)
}

/// Folders of Maildir++ that nobody may look into, and why.
pub fn closed_folders(maildir: &Path) -> io::Result<Vec<(PathBuf, String)>> {
    let mut closed = Vec::new();
    for entry in fs::read_dir(maildir)? {
        let path = entry?.path();
        let is_hidden = path
            .file_name()
            .is_some_and(|name| name.as_bytes().starts_with(b"."));
        if is_hidden && path.is_dir() {
            let refused = |why: &io::Error| why.kind() == io::ErrorKind::PermissionDenied;
            let why = fs::metadata(path.join("cur")).err().filter(refused);
            closed.extend(why.map(|why| (path, format!("this folder cannot be read: {why}"))));
        }
    }
    closed.sort();
    Ok(closed)
}

/// Hidden files and what is no file are no mails.
fn list_place(place: &Path, found: &mut impl FnMut(Seen)) -> io::Result<()> {
    let handle = match File::open(place) {
        Err(why) if why.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => OwnedFd::from(other?),
    };
    let directory = &Arc::new(Directory {
        path: place.to_owned(),
        handle,
    });
    let mut names = Vec::with_capacity(NAMES_OCTETS);
    let mut entries = RawDir::new(&directory.handle, names.spare_capacity_mut());
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = entry.file_name();
        if name.to_bytes().starts_with(b".") {
            continue;
        }
        let mut key = DefaultHasher::new();
        (entry.ino(), unique(name.to_bytes())).hash(&mut key);
        let seen = Seen {
            key: Key(key.finish()),
            directory,
            name,
        };
        // Opening a pipe would wait for ever.
        let is_file = match entry.file_type() {
            FileType::RegularFile => true,
            FileType::Symlink | FileType::Unknown => seen.path().is_file(),
            _ => false,
        };
        if is_file {
            found(seen);
        }
    }
    Ok(())
}

/// The part of a file's name that stays.
fn unique(name: &[u8]) -> &[u8] {
    let flags = memchr::memmem::rfind(name, b":2,");
    name.get(..flags.unwrap_or(name.len())).unwrap_or(name)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use std::collections::BTreeMap;
    use std::time::Duration;

    use super::*;

    fn seen(maildir: &Path) -> BTreeMap<String, Key> {
        let mut seen = BTreeMap::new();
        list(maildir, |mail| {
            let path = mail.path();
            let name = path.strip_prefix(maildir).unwrap();
            seen.insert(name.display().to_string(), mail.key);
        })
        .unwrap();
        seen
    }

    fn made(files: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for name in files {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "x").unwrap();
        }
        dir
    }

    #[test]
    fn mails_in_new_and_cur_are_seen_in_every_folder() {
        let dir = made(&[
            "new/1",
            "cur/2:2,S",
            "cur/.hidden",
            "tmp/4",
            "new/sub/5",
            ".Sent.2026/cur/6:2,",
            ".Sent.2026/maildirfolder",
            ".Queue/new/7",
            ".hidden/8",
            "Other/new/9",
        ]);
        let expected = [".Queue/new/7", ".Sent.2026/cur/6:2,", "cur/2:2,S", "new/1"];
        let seen: Vec<_> = seen(dir.path()).into_keys().collect();
        assert_eq!(seen, expected);
    }

    #[test]
    fn a_batch_opens_what_was_seen_of_one_directory() {
        let dir = made(&["cur/1:2,S", "cur/2", "new/3"]);
        let (mut batch, mut batches) = (Batch::default(), Vec::new());
        list(dir.path(), |mail| batches.extend(batch.push(mail))).unwrap();
        batches.push(batch);
        let counts: Vec<usize> = batches.iter().map(Batch::count).collect();
        assert_eq!(counts, [1, 2]);
        let known = seen(dir.path());
        for mail in batches.iter().flat_map(Batch::mails) {
            let path = mail.path();
            let name = path.strip_prefix(dir.path()).unwrap();
            assert_eq!(known[&name.display().to_string()], mail.key);
            assert_eq!(io::read_to_string(mail.open().unwrap()).unwrap(), "x");
        }
    }

    #[test]
    fn one_folder_is_enough() {
        let dir = made(&["new/1"]);
        assert_eq!(seen(dir.path()).len(), 1);
        assert!(!dir.path().join("cur").exists(), "nothing is made");
    }

    #[test]
    fn a_mail_keeps_its_key_when_it_is_seen_flagged_and_moved_and_no_other_gets_it() {
        let dir = made(&["new/1.a:b", ".Old/new/1.a:b", "cur/2"]);
        let path = |name| dir.path().join(name);
        let before = seen(dir.path());
        fs::rename(path("new/1.a:b"), path("cur/1.a:b:2,RS")).unwrap();
        fs::rename(path("cur/2"), path(".Old/new/2")).unwrap();
        let after = seen(dir.path());
        assert_eq!(before["new/1.a:b"], after["cur/1.a:b:2,RS"]);
        assert_eq!(before["cur/2"], after[".Old/new/2"]);
        let all: std::collections::BTreeSet<_> = before.values().collect();
        assert_eq!(all.len(), 3, "{before:?}");
        fs::write(path("cur/2:2,"), "another").unwrap();
        assert_ne!(seen(dir.path())["cur/2:2,"], after[".Old/new/2"]);
    }

    #[test]
    fn a_state_is_another_one_after_whatever_happens_and_none_until_that_can_be_told() {
        let mut before = SystemTime::now();
        let dir = made(&["new/1", "cur/2", ".Old/cur/3"]);
        let path = |name: &str| dir.path().join(name);
        let changes: [&dyn Fn() -> io::Result<()>; 5] = [
            &|| Ok(()),
            &|| fs::write(path("new/4"), "x"),
            &|| fs::rename(path("new/4"), path("cur/4:2,S")),
            &|| fs::remove_file(path(".Old/cur/3")),
            &|| fs::create_dir_all(path(".New/new")),
        ];
        let states = changes.map(|change| {
            change().unwrap();
            assert_eq!(state_at(dir.path(), before), None, "it has just changed");
            let later = SystemTime::now() + Duration::from_secs(4);
            let settled = state_at(dir.path(), later);
            assert!(settled.is_some() && settled == state_at(dir.path(), later));
            // In another moment of the file system's clock, which that of the system does not wait for.
            std::thread::sleep(Duration::from_millis(50));
            before = SystemTime::now();
            settled
        });
        let different: std::collections::BTreeSet<_> = states.iter().collect();
        assert_eq!(different.len(), states.len(), "{states:?}");
    }
}
