//! A Maildir, only looked at: `new` and `cur` are read, `tmp` is not, and nothing is renamed, deleted,
//! made or marked. File names are opaque.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use thiserror::Error;

/// How much of a mail is read before it is judged whether the rest is wanted, octets.
const HEAD_OCTETS: u64 = 64 * 1024;

/// The path given is no Maildir.
#[derive(Debug, Error)]
#[allow(missing_docs)]
pub enum NotAMaildir {
    #[error("{0}: no such Maildir yet? reports arrive as mail; give the Maildir your mail goes to")]
    Missing(PathBuf),
    #[error("{path}: cannot be read: {why}")]
    Unreadable { path: PathBuf, why: io::Error },
    #[error("{0} is a file; a Maildir is a directory that holds `new` and `cur`")]
    File(PathBuf),
    #[error("{0} holds neither `new` nor `cur`, so it is no Maildir; did you mean {0}/Maildir?")]
    Plain(PathBuf),
}

/// Shows each mail to `found`: its octets if `wanted` says so of its beginning (at most `octets_max`
/// and one more), `None` if not, or why it cannot be read.
///
/// `new` is read before `cur` is listed: a mail that its reader moves meanwhile is seen twice at most,
/// never missed.
pub fn visit(
    maildir: &Path,
    octets_max: usize,
    wanted: impl Fn(&[u8]) -> bool,
    mut found: impl FnMut(&Path, io::Result<Option<Vec<u8>>>),
) -> Result<(), NotAMaildir> {
    let unreadable = |path: &Path, why| NotAMaildir::Unreadable {
        path: path.to_owned(),
        why,
    };
    let meta = fs::metadata(maildir).map_err(|why| match why.kind() {
        io::ErrorKind::NotFound => NotAMaildir::Missing(maildir.to_owned()),
        _ => unreadable(maildir, why),
    })?;
    if !meta.is_dir() {
        return Err(NotAMaildir::File(maildir.to_owned()));
    }
    let folders = ["new", "cur"].map(|name| maildir.join(name));
    let folders: Vec<_> = folders.iter().filter(|folder| folder.is_dir()).collect();
    if folders.is_empty() {
        return Err(NotAMaildir::Plain(maildir.to_owned()));
    }
    for folder in folders {
        for path in mails(folder).map_err(|why| unreadable(folder, why))? {
            match read(&path, octets_max, &wanted) {
                // Moved or deleted since it was listed.
                Err(gone) if gone.kind() == io::ErrorKind::NotFound => {}
                result => found(&path, result),
            }
        }
    }
    Ok(())
}

/// The files of a folder in the order of their names; hidden ones and what is no file are no mails.
fn mails(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
        // Opening a pipe would wait for ever.
        let file = fs::metadata(entry.path()).is_ok_and(|meta| meta.is_file());
        if !hidden && file {
            paths.push(entry.path());
        }
    }
    paths.sort();
    Ok(paths)
}

fn read(
    path: &Path,
    octets_max: usize,
    wanted: impl Fn(&[u8]) -> bool,
) -> io::Result<Option<Vec<u8>>> {
    let mut file = File::open(path)?;
    let mut mail = Vec::new();
    file.by_ref().take(HEAD_OCTETS).read_to_end(&mut mail)?;
    if !wanted(&mail) {
        return Ok(None);
    }
    let room = (octets_max + 1).saturating_sub(mail.len());
    file.take(u64::try_from(room).unwrap_or(u64::MAX))
        .read_to_end(&mut mail)?;
    Ok(Some(mail))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use std::collections::BTreeMap;

    use super::*;

    fn seen(maildir: &Path) -> BTreeMap<String, Option<usize>> {
        let mut seen = BTreeMap::new();
        let keep = |head: &[u8]| head.starts_with(b"keep");
        visit(maildir, 100_000, keep, |path, mail| {
            let name = path.strip_prefix(maildir).unwrap();
            seen.insert(name.display().to_string(), mail.unwrap().map(|m| m.len()));
        })
        .unwrap();
        seen
    }

    #[test]
    fn only_mails_in_new_and_cur_are_seen_and_nothing_changes() {
        let dir = tempfile::tempdir().unwrap();
        for folder in ["new", "cur", "tmp", "new/sub"] {
            fs::create_dir(dir.path().join(folder)).unwrap();
        }
        for (name, text) in [
            ("new/1", "keep".to_owned()),
            ("cur/2:2,S", "other".to_owned()),
            ("cur/3:2,", format!("keep{}", "x".repeat(200_000))),
            ("cur/.hidden", "keep".to_owned()),
            ("tmp/4", "keep".to_owned()),
        ] {
            fs::write(dir.path().join(name), text).unwrap();
        }
        let expected = [
            ("new/1", Some(4)),
            ("cur/2:2,S", None),
            // One octet more than the limit tells the reader that it is too big.
            ("cur/3:2,", Some(100_001)),
        ];
        let expected: BTreeMap<_, _> = expected.map(|(n, l)| (n.to_owned(), l)).into();
        assert_eq!(seen(dir.path()), expected);
        assert!(dir.path().join("new/1").exists(), "stays unread");
    }

    #[test]
    fn one_folder_is_enough() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("new")).unwrap();
        fs::write(dir.path().join("new/1"), "keep").unwrap();
        assert_eq!(seen(dir.path()).len(), 1);
        assert!(!dir.path().join("cur").exists(), "nothing is made");
    }

    #[test]
    fn what_is_no_maildir_is_explained() {
        let dir = tempfile::tempdir().unwrap();
        let error = |path: &Path| visit(path, 1, |_| true, |_, _| {}).unwrap_err().to_string();
        assert!(error(dir.path()).contains("neither `new` nor `cur`"));
        let file = dir.path().join("mbox");
        fs::write(&file, "From x").unwrap();
        assert!(error(&file).contains("is a file"));
        assert!(error(&dir.path().join("none")).contains("the Maildir your mail goes to"));
        assert!(error(&file.join("below")).contains("cannot be read"));
    }
}
