//! Where a user's secret lies: the file `secret` in the user's hoptrail directory, 64 hex digits, for
//! its owner alone. Sending keys certificates with it, reading proves reports by it.

use std::ffi::OsString;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::store::private;
use crate::track::Secret;

const FILE: &str = "secret";

/// The user's hoptrail directory: `$HOPTRAIL_HOME`, else `$XDG_CONFIG_HOME/hoptrail`, else
/// `~/.config/hoptrail`.
pub fn directory() -> anyhow::Result<PathBuf> {
    directory_by(|name| std::env::var_os(name).filter(|value| !value.is_empty()))
}

fn directory_by(variable: impl Fn(&str) -> Option<OsString>) -> anyhow::Result<PathBuf> {
    if let Some(own) = variable("HOPTRAIL_HOME") {
        return Ok(own.into());
    }
    let config = variable("XDG_CONFIG_HOME").map(PathBuf::from);
    let config = config.or_else(|| Some(PathBuf::from(variable("HOME")?).join(".config")));
    let config = config
        .context("neither HOPTRAIL_HOME nor HOME is set, so there is no place for the secret")?;
    Ok(config.join("hoptrail"))
}

/// The user's secret; `None` if there is none yet.
pub fn load() -> anyhow::Result<Option<Secret>> {
    load_from(&directory()?.join(FILE))
}

/// The secret in the file named, which must be there; else the user's, if there is one.
pub fn load_or_named(file: Option<&Path>) -> anyhow::Result<Option<Secret>> {
    let Some(path) = file else { return load() };
    let missing = || format!("{}: no such file", path.display());
    load_from(path)?.with_context(missing).map(Some)
}

/// The user's secret, made at random if there is none yet.
pub fn load_or_create() -> anyhow::Result<Secret> {
    load_or_create_in(&directory()?)
}

/// The secret in a file; `None` if there is no such file.
pub fn load_from(path: &Path) -> anyhow::Result<Option<Secret>> {
    let text = match private::read(path) {
        Err(error) if error.is_missing() => return Ok(None),
        other => other?,
    };
    let octets = from_hex(text.trim_end())
        .with_context(|| format!("{} does not hold 64 hex digits", path.display()))?;
    Ok(Some(Secret::new(octets)))
}

/// The secret in this directory, which is made (0700) if need be; made at random if there is none yet.
pub fn load_or_create_in(directory: &Path) -> anyhow::Result<Secret> {
    let path = directory.join(FILE);
    if let Some(secret) = load_from(&path)? {
        return Ok(secret);
    }
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .with_context(|| format!("{}", directory.display()))?;
    let mut octets = [0; 32];
    getrandom::fill(&mut octets).map_err(|why| anyhow::anyhow!("no random numbers: {why}"))?;
    match private::create(&path, &format!("{}\n", to_hex(&octets))) {
        // If another process was faster, its secret stays.
        Err(error) if !error.is_taken() => return Err(error.into()),
        _ => {}
    }
    load_from(&path)?.with_context(|| format!("{} has vanished", path.display()))
}

fn to_hex(octets: &[u8]) -> String {
    let digits = octets.iter().flat_map(|octet| [octet >> 4, octet & 15]);
    digits
        .filter_map(|digit| char::from_digit(digit.into(), 16))
        .collect()
}

fn from_hex(text: &str) -> Option<[u8; 32]> {
    let digits: Vec<u8> = text
        .chars()
        .map(|c| c.to_digit(16).and_then(|d| u8::try_from(d).ok()))
        .collect::<Option<_>>()?;
    let octets: Vec<u8> = digits
        .chunks_exact(2)
        .map(|pair| pair.iter().fold(0, |n, d| n << 4 | d))
        .collect();
    (digits.len() == 64).then(|| octets.try_into().ok())?
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn made_once_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().join("a/hoptrail");
        let made = load_or_create_in(&home).unwrap();
        let path = home.join(FILE);
        let bits = |p: &Path| fs::metadata(p).unwrap().permissions().mode() & 0o777;
        assert_eq!((bits(&home), bits(&path)), (0o700, 0o600));
        assert_eq!(fs::read_to_string(&path).unwrap().trim().len(), 64);
        assert_eq!(load_or_create_in(&home).unwrap().octets(), made.octets());
        assert_eq!(load_from(&path).unwrap().unwrap().octets(), made.octets());
        assert_eq!(
            fs::read_dir(&home).unwrap().count(),
            1,
            "no draft stays behind"
        );
        assert_ne!(
            load_or_create_in(dir.path()).unwrap().octets(),
            made.octets()
        );
    }

    #[test]
    fn two_makers_agree() {
        let dir = tempfile::tempdir().unwrap();
        let makers: Vec<_> = (0..8)
            .map(|_| {
                let home = dir.path().to_owned();
                std::thread::spawn(move || *load_or_create_in(&home).unwrap().octets())
            })
            .collect();
        let made: std::collections::HashSet<_> =
            makers.into_iter().map(|m| m.join().unwrap()).collect();
        assert_eq!(made.len(), 1);
    }

    #[test]
    fn what_others_can_read_is_refused_with_advice() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        assert!(load_from(&path).unwrap().is_none());
        fs::write(&path, "00".repeat(32)).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let error = load_from(&path).unwrap_err().to_string();
        assert!(error.contains("chmod 600"), "{error}");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(load_from(&path).unwrap().unwrap().octets(), &[0; 32]);
        for wrong in [
            "",
            "00",
            &"0g".repeat(32),
            &"00".repeat(33),
            &"é".repeat(64),
        ] {
            fs::write(&path, wrong).unwrap();
            let error = format!("{:#}", load_from(&path).unwrap_err());
            assert!(error.contains("64 hex digits"), "{error}");
        }
    }

    #[test]
    fn the_directory_follows_the_environment() {
        let with = |pairs: &'static [(&str, &str)]| {
            directory_by(|name| {
                pairs
                    .iter()
                    .find(|(n, _)| *n == name)
                    .map(|(_, v)| v.into())
            })
            .ok()
        };
        let all = &[
            ("HOPTRAIL_HOME", "/h"),
            ("XDG_CONFIG_HOME", "/x"),
            ("HOME", "/u"),
        ];
        assert_eq!(with(all), Some("/h".into()));
        assert_eq!(with(&all[1..]), Some("/x/hoptrail".into()));
        assert_eq!(with(&all[2..]), Some("/u/.config/hoptrail".into()));
        assert_eq!(with(&[]), None);
    }
}
