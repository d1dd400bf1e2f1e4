//! A directory of mails that were saved as files: those whose names end in `.eml`. Nothing below it is read.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::packed;

/// The files, in the order of their names.
pub fn mails(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        // Opening a pipe would wait for ever.
        if is_mail(&path) && path.is_file() {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

fn is_mail(path: &Path) -> bool {
    let is = |end: &OsStr| end.eq_ignore_ascii_case("eml");
    path.extension().is_some_and(is)
}

/// What is not read in it, though mail may lie there: the directories below it, and what is packed.
pub fn below(directory: &Path) -> io::Result<Vec<(PathBuf, String)>> {
    let mut below = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            below.push((path, "a directory in it, not read; name it too".to_owned()));
        } else if !is_mail(&path) && path.is_file() {
            match packed::kind_of(&path) {
                Ok(None) => {}
                Ok(Some(kind)) => {
                    let why = format!("{kind}, not read; unpack it, and name what was in it");
                    below.push((path, why));
                }
                Err(why) => below.push((path, why.to_string())),
            }
        }
    }
    below.sort();
    Ok(below)
}
