//! A Maildir and the Maildir++ folders in it, only looked at: `new` and `cur` are read, `tmp` is not, and nothing
//! is renamed, deleted, made or marked. Of a file's name only the part behind `:2,` has a meaning: flags, which
//! may change.

use std::ffi::OsString;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirEntryExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Key, SourceError};

/// A mail that is there.
#[derive(Clone, Debug)]
pub struct Listed {
    /// What names it for as long as it lies in this Maildir, whatever folder it is moved to: its file's number and
    /// the part of its name that stays, so that neither a number nor a name that is used again deceives.
    pub key: Key,
    directory: Arc<Path>,
    name: OsString,
}

impl Listed {
    /// Where it lies now.
    pub fn path(&self) -> PathBuf {
        self.directory.join(&self.name)
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
pub fn list(maildir: &Path, mut found: impl FnMut(Listed)) -> Result<(), SourceError> {
    for place in places(maildir).map_err(SourceError::unreadable(maildir))? {
        list_place(&place, &mut found).map_err(SourceError::unreadable(&place))?;
    }
    Ok(())
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

/// Hidden files and what is no file are no mails.
fn list_place(place: &Path, found: &mut impl FnMut(Listed)) -> io::Result<()> {
    let entries = match fs::read_dir(place) {
        Err(why) if why.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    let directory: Arc<Path> = place.into();
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        // Opening a pipe would wait for ever.
        let is_file = entry
            .file_type()
            .is_ok_and(|kind| kind.is_file() || kind.is_symlink() && entry.path().is_file());
        if is_file && !name.as_bytes().starts_with(b".") {
            let mut key = DefaultHasher::new();
            (entry.ino(), unique(name.as_bytes())).hash(&mut key);
            found(Listed {
                key: Key(key.finish()),
                directory: Arc::clone(&directory),
                name,
            });
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
}
