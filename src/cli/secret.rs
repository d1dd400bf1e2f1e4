//! The file of the per-user secret behind every certificate: 64 hex digits, for its owner's eyes only.
//!
//! `$HOPTRAIL_HOME/secret`, else `$XDG_CONFIG_HOME/hoptrail/secret`, else `~/.config/hoptrail/secret`.
//!
//! Must not know what the secret is good for.

use std::env;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::track::Secret;

const FILE_NAME: &str = "secret";

/// What the file may hold at the most: the digits, a line end, and a little more to say that it is wrong.
const FILE_OCTETS_MAX: u64 = 128;

/// The user's secret, if there is one yet.
pub fn load() -> Result<Option<Secret>> {
    load_from(&directory()?)
}

/// The user's secret; made at the first use.
pub fn load_or_create() -> Result<Secret> {
    load_or_create_in(&directory()?)
}

/// The directory of the user's own files.
pub fn directory() -> Result<PathBuf> {
    let set = |name| env::var_os(name).filter(|value| !value.is_empty());
    if let Some(own) = set("HOPTRAIL_HOME") {
        return Ok(own.into());
    }
    if let Some(config) = set("XDG_CONFIG_HOME") {
        return Ok(Path::new(&config).join("hoptrail"));
    }
    let home = set("HOME").context("none of HOPTRAIL_HOME, XDG_CONFIG_HOME and HOME is set")?;
    Ok(Path::new(&home).join(".config/hoptrail"))
}

/// As [`load`], out of this directory.
pub fn load_from(directory: &Path) -> Result<Option<Secret>> {
    let path = directory.join(FILE_NAME);
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(cause) if cause.kind() == ErrorKind::NotFound => return Ok(None),
        Err(cause) => return Err(cause).with_context(|| path.display().to_string()),
    };
    let place = path.display();
    let mode = file.metadata()?.mode() & 0o777;
    if mode & 0o077 != 0 {
        bail!(
            "{place} may be read by others (mode {mode:03o}): run `chmod 600 {place}`; if someone may \
             have read it, delete it instead, and a new one is made"
        );
    }
    let mut text = String::new();
    file.take(FILE_OCTETS_MAX)
        .read_to_string(&mut text)
        .with_context(|| place.to_string())?;
    let octets = from_hex(text.trim_end()).with_context(|| {
        format!("{place} does not hold 64 hex digits: delete it, and a new one is made")
    })?;
    Ok(Some(Secret::new(octets)))
}

/// As [`load_or_create`], in this directory.
pub fn load_or_create_in(directory: &Path) -> Result<Secret> {
    if let Some(secret) = load_from(directory)? {
        return Ok(secret);
    }
    create(directory)
        .with_context(|| format!("no secret can be made in {}", directory.display()))?;
    load_from(directory)?.context("the secret is gone as soon as it was made")
}

/// Written aside and linked into place, so that no reader sees half of it and the first of two wins.
fn create(directory: &Path) -> Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)?;
    let mut random = [0; 40];
    getrandom::fill(&mut random)?;
    let (octets, name) = random.split_at(32);
    let aside = directory.join(format!(".{FILE_NAME}.{}", to_hex(name)));
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&aside)?;
    let written = file
        .write_all(format!("{}\n", to_hex(octets)).as_bytes())
        .and_then(|()| file.sync_all())
        .and_then(|()| fs::hard_link(&aside, directory.join(FILE_NAME)));
    fs::remove_file(&aside)?;
    match written {
        Err(cause) if cause.kind() != ErrorKind::AlreadyExists => Err(cause.into()),
        _ => Ok(File::open(directory)?.sync_all()?),
    }
}

fn to_hex(octets: &[u8]) -> String {
    let digit = |value: u8| char::from_digit(u32::from(value), 16).unwrap_or_default();
    octets
        .iter()
        .flat_map(|octet| [digit(octet >> 4), digit(octet & 15)])
        .collect()
}

fn from_hex(text: &str) -> Option<[u8; 32]> {
    let digits = text.as_bytes();
    if digits.len() != 64 {
        return None;
    }
    let mut octets = [0; 32];
    for (octet, pair) in octets.iter_mut().zip(digits.chunks_exact(2)) {
        for &digit in pair {
            let value = char::from(digit).to_digit(16)?;
            *octet = *octet << 4 | u8::try_from(value).ok()?;
        }
    }
    Some(octets)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::PermissionsExt;

    use tempfile::TempDir;

    use super::*;

    #[test]
    fn it_is_made_once_for_the_owner_only() {
        let dir = TempDir::new().unwrap();
        let home = dir.path().join("a/b");
        assert!(load_from(&home).unwrap().is_none());
        let first = load_or_create_in(&home).unwrap();
        let again = load_or_create_in(&home).unwrap();
        assert_eq!(first.octets(), again.octets());
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
        assert_eq!(mode(&home), 0o700);
        assert_eq!(mode(&home.join("secret")), 0o600);
        let text = fs::read_to_string(home.join("secret")).unwrap();
        assert_eq!(text.trim_end(), to_hex(first.octets()));
        assert_eq!(
            fs::read_dir(&home).unwrap().count(),
            1,
            "nothing is left aside"
        );
    }

    #[test]
    fn all_who_make_it_at_once_get_the_same() {
        let dir = TempDir::new().unwrap();
        let make = || *load_or_create_in(dir.path()).unwrap().octets();
        let all = std::thread::scope(|scope| {
            let makers: Vec<_> = (0..8).map(|_| scope.spawn(make)).collect();
            let each = makers.into_iter().map(|m| m.join().unwrap());
            each.collect::<std::collections::HashSet<_>>()
        });
        assert_eq!(all.len(), 1);
    }

    #[test]
    fn one_that_others_may_read_is_refused_with_the_cure() {
        let dir = TempDir::new().unwrap();
        load_or_create_in(dir.path()).unwrap();
        let path = dir.path().join("secret");
        for mode in [0o640, 0o604, 0o620] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let told = load_or_create_in(dir.path()).unwrap_err().to_string();
            assert!(told.contains("chmod 600"), "{told}");
        }
    }

    #[test]
    fn one_that_is_damaged_is_not_replaced() {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("secret");
        for text in [
            String::new(),
            "zz".repeat(32),
            "00".repeat(33),
            "00".repeat(100),
        ] {
            fs::write(&path, &text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            assert!(load_or_create_in(dir.path()).is_err(), "{text}");
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
    }
}
