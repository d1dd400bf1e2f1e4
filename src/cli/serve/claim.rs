//! Whose a state directory is: one process's at a time, because two that mail from one outbox mail each report
//! twice. The system forgets the claim with the process, however that ends.
//!
//! Must not know what lies in the directory.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use thiserror::Error;

/// The file that is locked; it stays empty, and stays.
const FILE: &str = "lock";

/// The directory is ours until this is dropped.
pub struct Claim {
    _locked: File,
}

/// Why the directory is not ours.
#[derive(Debug, Error)]
pub enum ClaimError {
    /// Another process has it.
    #[error(
        "another hoptrail uses {0}: stop it, or give each a directory of its own; with one for both, every report \
         would be mailed twice"
    )]
    Taken(PathBuf),
    /// Something else has its name.
    #[error("{0} is a file: name a directory")]
    NoDirectory(PathBuf),
    /// The directory cannot be made, or the file in it not opened or locked.
    #[error("{path}: {cause}; hoptrail's own user has to be able to write there")]
    Unusable {
        /// What was touched.
        path: PathBuf,
        /// What went wrong.
        cause: io::Error,
    },
}

impl Claim {
    /// Claims the directory, which is made (0700) if need be.
    pub fn on(directory: &Path) -> Result<Self, ClaimError> {
        make(directory)?;
        let path = directory.join(FILE);
        let unusable = |cause| ClaimError::Unusable {
            path: path.clone(),
            cause,
        };
        let file = open(&path).map_err(unusable)?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _locked: file }),
            Err(TryLockError::WouldBlock) => Err(ClaimError::Taken(directory.to_owned())),
            Err(TryLockError::Error(cause)) => Err(unusable(cause)),
        }
    }
}

/// Whether users other than its owner may look into the directory or change it.
pub fn is_open_to_others(directory: &Path) -> bool {
    fs::metadata(directory).is_ok_and(|found| found.permissions().mode() & 0o077 != 0)
}

fn make(directory: &Path) -> Result<(), ClaimError> {
    if directory.is_dir() {
        return Ok(());
    }
    if let Some(file) = directory.ancestors().find(|path| path.is_file()) {
        return Err(ClaimError::NoDirectory(file.to_owned()));
    }
    let made = DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory);
    made.map_err(|cause| ClaimError::Unusable {
        path: directory.to_owned(),
        cause,
    })
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
}
