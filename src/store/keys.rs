//! The carry keys' file `carry.keys` in the state directory: made at the first start, read at every one, and
//! changed by whoever rotates or shares keys. A running hop sees a change at its next reload.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::private::{self, PrivateError};
use crate::track::carry::{Key, Keyring};

/// Why there are no keys, or why they stay as they are.
#[derive(Debug, Error)]
pub enum KeysError {
    /// The file cannot be had or kept, or others may read it and so could forge requests.
    #[error(transparent)]
    File(#[from] PrivateError),
    /// It holds something else than keys.
    #[error(
        "{path}: {why}; put it right, or remove the file: `serve` makes a new key at its next start or reload"
    )]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The line and what is wrong with it.
        why: String,
    },
    /// The key that is to be added or removed.
    #[error("{0}")]
    Refused(String),
    /// The system has no randomness to give.
    #[error("no random numbers for a key: {0}")]
    NoRandomness(io::Error),
}

impl KeysError {
    /// Whether there may be keys again without anybody doing anything to the file.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::File(error) => error.may_pass(),
            Self::NoRandomness(_) => true,
            Self::Malformed { .. } | Self::Refused(_) => false,
        }
    }

    /// Whether there is no file yet.
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::File(error) if error.is_missing())
    }
}

/// The file in `state_dir`.
pub fn path(state_dir: &Path) -> PathBuf {
    state_dir.join("carry.keys")
}

/// The keys in `state_dir`.
pub fn load(state_dir: &Path) -> Result<Keyring, KeysError> {
    read(state_dir).map(|(_, keys)| keys)
}

/// The keys in `state_dir`, which must exist; a new one if there are none.
pub fn load_or_create(state_dir: &Path) -> Result<Keyring, KeysError> {
    match load(state_dir) {
        Err(error) if error.is_missing() => {
            let key = fresh()?;
            private::create(&path(state_dir), &key.to_line())?;
            Ok(Keyring::of(key))
        }
        other => other,
    }
}

/// A new key signs from now on; the others are still recognised.
pub fn rotate(state_dir: &Path) -> Result<Keyring, KeysError> {
    let (text, _) = read(state_dir)?;
    write(state_dir, &(fresh()?.to_line() + &text))
}

/// A key of another hop, as a line of its file, is recognised from now on.
pub fn add(state_dir: &Path, line: &str) -> Result<Keyring, KeysError> {
    let (mut text, keys) = read(state_dir)?;
    let refused = |why: String| Err(KeysError::Refused(why));
    let given = Keyring::parse(line).map_err(KeysError::Refused)?;
    let key = given.signing();
    if given.ids().count() > 1 {
        return refused("more than one key".to_owned());
    }
    if keys.ids().any(|known| known == key.id()) {
        return refused(format!("{} is here already", key.id()));
    }
    if !text.ends_with('\n') {
        text.push('\n');
    }
    write(state_dir, &(text + &key.to_line()))
}

/// A key is recognised no more.
pub fn remove(state_dir: &Path, id: &str) -> Result<Keyring, KeysError> {
    let (text, keys) = read(state_dir)?;
    let refused = |why: &str| Err(KeysError::Refused(format!("{id} {why}")));
    if !keys.ids().any(|known| known == id) {
        return refused("is not here");
    }
    if keys.signing().id() == id {
        return refused("is the key that signs: rotate first");
    }
    let is_it = |line: &&str| line.split_whitespace().next() == Some(id);
    let rest = text.split_inclusive('\n').filter(|line| !is_it(line));
    write(state_dir, &rest.collect::<String>())
}

fn read(state_dir: &Path) -> Result<(String, Keyring), KeysError> {
    let path = path(state_dir);
    let text = private::read(&path)?;
    match Keyring::parse(&text) {
        Ok(keys) => Ok((text, keys)),
        Err(why) => Err(KeysError::Malformed { path, why }),
    }
}

fn write(state_dir: &Path, text: &str) -> Result<Keyring, KeysError> {
    private::replace(&path(state_dir), text)?;
    load(state_dir)
}

fn fresh() -> Result<Key, KeysError> {
    let (mut name, mut octets) = ([0; 4], [0; 32]);
    let random = getrandom::fill(&mut name).and_then(|()| getrandom::fill(&mut octets));
    random.map_err(|why| KeysError::NoRandomness(why.into()))?;
    Ok(Key::new(name, octets))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn ids(keys: &Keyring) -> Vec<String> {
        keys.ids().map(str::to_owned).collect()
    }

    #[test]
    fn a_rotated_key_is_recognised_until_it_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        assert!(load(dir.path()).is_err_and(|error| error.is_missing()));
        let first = ids(&load_or_create(dir.path()).unwrap());
        assert_eq!(ids(&load_or_create(dir.path()).unwrap()), first);
        let both = ids(&rotate(dir.path()).unwrap());
        assert_eq!(both[1..], first);
        let refused = remove(dir.path(), &both[0]).unwrap_err().to_string();
        assert!(refused.contains("rotate first"), "{refused}");
        let text = format!("# kept\n{}", private::read(&path(dir.path())).unwrap());
        private::replace(&path(dir.path()), &text).unwrap();
        assert_eq!(ids(&remove(dir.path(), &both[1]).unwrap()), both[..1]);
        assert!(remove(dir.path(), &both[1]).is_err());
        let left = private::read(&path(dir.path())).unwrap();
        assert!(left.starts_with("# kept\n"), "{left}");
    }

    #[test]
    fn another_hops_key_is_recognised_and_never_signs() {
        let [one, two] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let theirs = load_or_create(one.path()).unwrap();
        let own = ids(&load_or_create(two.path()).unwrap());
        let line = theirs.signing().to_line();
        let keys = add(two.path(), &line).unwrap();
        assert_eq!(ids(&keys), [own[0].clone(), ids(&theirs)[0].clone()]);
        let again = add(two.path(), &line).unwrap_err().to_string();
        assert!(again.contains("here already"), "{again}");
        for wrong in ["", "0123", "zz 00"] {
            assert!(matches!(add(two.path(), wrong), Err(KeysError::Refused(_))));
        }
        assert_eq!(ids(&load(two.path()).unwrap()), ids(&keys));
    }
}
