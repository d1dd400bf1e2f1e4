//! Files that hold a secret, for their owner alone (0600): read only if nobody else may read them, put in
//! place whole or not at all. Must not know what they hold.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use thiserror::Error;

/// Why a secret cannot be had or kept.
#[derive(Debug, Error)]
pub enum PrivateError {
    /// The file cannot be made or read.
    #[error("{path}: {cause}{}", cure(cause))]
    File {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        cause: io::Error,
    },
    /// It is a directory or a device.
    #[error("{path}: it is no file; name the file that holds the secret")]
    NoFile {
        /// What it is that was named.
        path: PathBuf,
    },
    /// Others may read it, and so may have its secret.
    #[error("{path}: others may read or change it; if that was never so before: chmod 600 {path}")]
    Open {
        /// The file.
        path: PathBuf,
    },
}

impl PrivateError {
    /// Whether it is the system that says no, and not the file that is wrong: that may pass.
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::File { .. }) && !self.is(io::ErrorKind::InvalidData)
    }

    /// Whether there was no such file.
    pub fn is_missing(&self) -> bool {
        self.is(io::ErrorKind::NotFound)
    }

    /// Whether there was such a file already.
    pub fn is_taken(&self) -> bool {
        self.is(io::ErrorKind::AlreadyExists)
    }

    fn is(&self, kind: io::ErrorKind) -> bool {
        matches!(self, Self::File { cause, .. } if cause.kind() == kind)
    }
}

/// What the file holds, unless others may read it too.
pub fn read(path: &Path) -> Result<String, PrivateError> {
    let meta = fs::metadata(path).map_err(failed(path))?;
    // A pipe may be a shell's own, from what a command prints.
    if !meta.is_file() && !meta.file_type().is_fifo() {
        return Err(PrivateError::NoFile {
            path: path.to_owned(),
        });
    }
    if meta.permissions().mode() & 0o077 != 0 {
        return Err(PrivateError::Open {
            path: path.to_owned(),
        });
    }
    fs::read_to_string(path).map_err(failed(path))
}

/// Makes the file; an error if there is one already.
pub fn create(path: &Path, text: &str) -> Result<(), PrivateError> {
    // A link is made only where nothing is yet.
    put(path, text, |draft| fs::hard_link(draft, path)).map_err(failed(path))
}

/// Puts this in the place of the file, which stays its owner's, whoever we are.
pub fn replace(path: &Path, text: &str) -> Result<(), PrivateError> {
    let old = fs::metadata(path).map_err(failed(path))?;
    put(path, text, |draft| {
        chown(draft, Some(old.uid()), Some(old.gid()))?;
        fs::rename(draft, path)
    })
    .map_err(failed(path))
}

/// Writes a draft beside the file, which `place` puts in place, so that a crash leaves the old or the new.
fn put(path: &Path, text: &str, place: impl Fn(&Path) -> io::Result<()>) -> io::Result<()> {
    let directory = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let draft = directory.join(format!(".hoptrail-{:016x}", getrandom::u64()?));
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&draft)?;
    let written = file
        .write_all(text.as_bytes())
        .and_then(|()| file.sync_all());
    let placed = written.and_then(|()| place(&draft));
    // Gone already where it was moved.
    let _ = fs::remove_file(&draft);
    placed?;
    File::open(directory)?.sync_all()
}

/// What to do about it, where that is not plain.
fn cure(cause: &io::Error) -> &'static str {
    match cause.kind() {
        io::ErrorKind::PermissionDenied => "; the user that hoptrail runs as needs access to it",
        _ => "",
    }
}

fn failed(path: &Path) -> impl Fn(io::Error) -> PrivateError {
    let path = path.to_owned();
    move |cause| PrivateError::File {
        path: path.clone(),
        cause,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn made_once_replaced_whole_and_for_nobody_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        let missing = read(&path).unwrap_err();
        assert!(missing.is_missing() && missing.may_pass());
        create(&path, "one").unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(create(&path, "two").unwrap_err().is_taken());
        assert_eq!(read(&path).unwrap(), "one");
        chown(&path, Some(65_534), Some(65_534)).unwrap();
        replace(&path, "three").unwrap();
        assert_eq!(read(&path).unwrap(), "three");
        let owner = fs::metadata(&path).unwrap();
        assert_eq!((owner.uid(), owner.gid()), (65_534, 65_534));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "no draft");
        fs::write(&path, [0xff]).unwrap();
        assert!(!read(&path).unwrap_err().may_pass(), "no text");
        let denied = failed(&path)(io::ErrorKind::PermissionDenied.into()).to_string();
        assert!(denied.ends_with("needs access to it"), "{denied}");
        for mode in [0o640, 0o604, 0o620] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let error = read(&path).unwrap_err().to_string();
            assert!(error.contains("chmod 600"), "{error}");
        }
        for other in [dir.path(), Path::new("/dev/null")] {
            let error = read(other).unwrap_err().to_string();
            assert!(error.contains("it is no file"), "{error}");
        }
    }
}
