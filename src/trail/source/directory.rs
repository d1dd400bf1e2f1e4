//! A directory of mails that were saved as files: those whose names end in `.eml`. Nothing below it is read.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The files, in the order of their names.
pub fn mails(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let is_mail = |end: &OsStr| end.eq_ignore_ascii_case("eml");
        // Opening a pipe would wait for ever.
        if path.extension().is_some_and(is_mail) && path.is_file() {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

/// The directories below it, which are not read.
pub fn below(directory: &Path) -> io::Result<Vec<(PathBuf, String)>> {
    let mut below = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            below.push((path, "a directory in it, not read; name it too".to_owned()));
        }
    }
    below.sort();
    Ok(below)
}
