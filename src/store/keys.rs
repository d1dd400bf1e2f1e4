//! The carry keys' file `carry.keys` in the state directory: made at the first start, read at every one.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::track::carry::{Key, Keyring};

/// The file's name.
const FILE_NAME: &str = "carry.keys";

/// Why there are no keys.
#[derive(Debug, Error)]
pub enum KeysError {
    /// The file cannot be made or read.
    #[error("{path}: {cause}")]
    File {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        cause: io::Error,
    },
    /// Others may read it, and so could forge requests.
    #[error("{path}: others may read it; make it yours alone: chmod 600 {path}")]
    Open {
        /// The file.
        path: PathBuf,
    },
    /// It holds something else than keys.
    #[error("{path}: {why}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The line and what is wrong with it.
        why: String,
    },
}

/// The keys in `state_dir`, which must exist; a new one (0600) if there are none.
pub fn load_or_create(state_dir: &Path) -> Result<Keyring, KeysError> {
    let path = state_dir.join(FILE_NAME);
    let failed = |cause| KeysError::File {
        path: path.clone(),
        cause,
    };
    match fs::read_to_string(&path) {
        Ok(text) => {
            let mode = fs::metadata(&path).map_err(failed)?.permissions().mode();
            if mode & 0o077 != 0 {
                return Err(KeysError::Open { path });
            }
            Keyring::parse(&text).map_err(|why| KeysError::Malformed { path, why })
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            create(state_dir, &path).map_err(failed)
        }
        Err(error) => Err(failed(error)),
    }
}

/// Writes a fresh key beside the file and moves it into place, so that a crash leaves none or a whole one.
fn create(state_dir: &Path, path: &Path) -> io::Result<Keyring> {
    let (mut name, mut octets) = ([0; 4], [0; 32]);
    getrandom::fill(&mut name)?;
    getrandom::fill(&mut octets)?;
    let keys = Keyring::of(Key::new(name, octets));
    let new = path.with_extension("new");
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&new)?;
    file.write_all(keys.to_text().as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    fs::File::open(state_dir)?.sync_all()?;
    Ok(keys)
}
