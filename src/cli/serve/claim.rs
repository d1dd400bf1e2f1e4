//! Whose a state directory is: one process's at a time, because two that mail from one outbox mail each report
//! twice. The system forgets the claim with the process, however that ends.
//!
//! Must not know what lies in the directory.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
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
        "state_dir: another hoptrail uses {0}: stop it, or give each a directory of its own; \
         with one for both, every report would be mailed twice"
    )]
    Taken(PathBuf),
    /// The directory cannot be made, or the file in it not opened or locked.
    #[error("{path}: {cause}")]
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
        let path = directory.join(FILE);
        let file = open(directory, &path).map_err(|cause| ClaimError::Unusable {
            path: path.clone(),
            cause,
        })?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _locked: file }),
            Err(TryLockError::WouldBlock) => Err(ClaimError::Taken(directory.to_owned())),
            Err(TryLockError::Error(cause)) => Err(ClaimError::Unusable { path, cause }),
        }
    }
}

fn open(directory: &Path, path: &Path) -> io::Result<File> {
    if !directory.is_dir() {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)?;
    }
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
}
