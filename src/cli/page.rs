//! Where a web page is put: whole or not at all, and in the place of nothing but an older page.
//!
//! Must not know what is on it but how it begins.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use maud::DOCTYPE;

use crate::trail::Source;
use crate::trail::render::format::plain;

/// A file that a page may be written to.
pub struct Page {
    /// As the user wrote it.
    named: String,
    path: PathBuf,
}

impl Page {
    /// The file of this name, unless something would be lost there: a mailbox that is read, or a file that is no page.
    pub fn at(file: &Path, sources: &[Source]) -> anyhow::Result<Self> {
        let named = plain(&file.display().to_string());
        if file.as_os_str() == "-" {
            bail!("--html needs the name of a file; the page is not printed");
        }
        let path = behind_links(file);
        let within = |source: &&Source| {
            let place = source.path().and_then(|place| place.canonicalize().ok());
            place.is_some_and(|place| path.starts_with(place))
        };
        if let Some(source) = sources.iter().find(within) {
            bail!(
                "{named} belongs to {}, which is read and never changed; name a file elsewhere for the page",
                plain(&source.to_string())
            );
        }
        let failed = || format!("cannot write {named}");
        if !may_be_replaced(&path).with_context(failed)? {
            bail!(
                "{named}: there is such a file, and it is no web page, so it is not overwritten; name another one, or move \
                 that away"
            );
        }
        Ok(Self { named, path })
    }

    /// Writes it.
    pub fn write(&self, text: &str) -> anyhow::Result<()> {
        let failed = || format!("cannot write {}", self.named);
        write_whole(&self.path, text).with_context(failed)
    }
}

/// The file that is meant: that behind a link, not the link; and for one that is not there yet, where it would be.
fn behind_links(file: &Path) -> PathBuf {
    let not_yet = || {
        let directory = match file.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        };
        Some(directory.canonicalize().ok()?.join(file.file_name()?))
    };
    let there = file.canonicalize().ok();
    there.or_else(not_yet).unwrap_or_else(|| file.to_owned())
}

/// Whether nothing is lost when a page takes its place. What is no file takes what is written to it, and keeps it or not.
fn may_be_replaced(path: &Path) -> io::Result<bool> {
    if !fs::metadata(path).is_ok_and(|place| place.is_file()) {
        return Ok(true);
    }
    let mut start = Vec::new();
    let octets = u64::try_from(DOCTYPE.0.len()).unwrap_or(u64::MAX);
    File::open(path)?.take(octets).read_to_end(&mut start)?;
    Ok(start.is_empty() || start == DOCTYPE.0.as_bytes())
}

/// Writes a file whole or not at all, if it is one.
fn write_whole(path: &Path, text: &str) -> io::Result<()> {
    if fs::metadata(path).is_ok_and(|place| !place.is_file()) {
        return fs::write(path, text);
    }
    // A name that nothing else has.
    let draft = path.with_added_extension(format!("{:016x}.part", getrandom::u64()?));
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&draft)?;
    let written = file.write_all(text.as_bytes());
    let placed = written.and_then(|()| fs::rename(&draft, path));
    placed.inspect_err(|_| drop(fs::remove_file(&draft)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::os::unix::fs::symlink;

    use super::*;

    /// A Maildir, an mbox and a directory of mails, each with a mail, and a place for pages.
    struct Disk {
        dir: tempfile::TempDir,
        sources: Vec<Source>,
    }

    impl Disk {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let at = |name: &str| dir.path().join(name);
            for folder in ["Maildir/new", "Maildir/cur", "mails", "pages"] {
                fs::create_dir_all(at(folder)).unwrap();
            }
            for mail in ["Maildir/new/1", "mails/1.eml", "mbox", "other"] {
                fs::write(at(mail), "From: a@example.org\n\n").unwrap();
            }
            fs::write(at("pages/old.html"), "<!DOCTYPE html><p>of yesterday").unwrap();
            fs::write(at("pages/empty"), "").unwrap();
            symlink(at("Maildir"), at("pages/box")).unwrap();
            symlink(at("other"), at("pages/link")).unwrap();
            let source = |name| Source::at(&at(name)).unwrap();
            let sources = ["pages/box", "mbox", "mails"].map(source);
            Self {
                sources: sources.into(),
                dir,
            }
        }

        fn write(&self, name: &str) -> anyhow::Result<()> {
            let page = Page::at(&self.dir.path().join(name), &self.sources)?;
            page.write("<!DOCTYPE html>new")
        }
    }

    #[test]
    fn nothing_but_a_page_is_overwritten() {
        let disk = Disk::new();
        for (name, why) in [
            ("mbox", "never changed"),
            ("Maildir/new/1", "never changed"),
            ("Maildir/new/2", "never changed"),
            ("Maildir/page.html", "never changed"),
            ("pages/box/new/1", "never changed"),
            ("pages/box/page.html", "never changed"),
            ("mails/page.html", "never changed"),
            ("other", "no web page"),
            ("pages/link", "no web page"),
            ("nowhere/page.html", "cannot write"),
            ("pages", "cannot write"),
        ] {
            let said = disk.write(name).unwrap_err().to_string();
            assert!(said.contains(why), "{name}: {said}");
        }
        for mail in ["mbox", "other", "Maildir/new/1"] {
            let text = fs::read_to_string(disk.dir.path().join(mail)).unwrap();
            assert_eq!(text, "From: a@example.org\n\n", "{mail}");
        }
        for page in [
            "pages/old.html",
            "pages/empty",
            "pages/new.html",
            "new.html",
        ] {
            disk.write(page).unwrap();
            let text = fs::read_to_string(disk.dir.path().join(page)).unwrap();
            assert_eq!(text, "<!DOCTYPE html>new", "{page}");
        }
        let left = fs::read_dir(disk.dir.path().join("pages")).unwrap();
        assert_eq!(left.count(), 5, "no draft stays behind");
    }

    #[test]
    fn a_device_takes_it() {
        let page = Page::at(Path::new("/dev/null"), &[]).unwrap();
        page.write("<!DOCTYPE html>").unwrap();
    }
}
