//! A small file system, to be filled.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

/// It, mounted over a directory. Dropped, it is gone.
pub struct Disk {
    place: PathBuf,
}

impl Disk {
    /// With room for so many octets, and nothing on it.
    pub fn over(place: &Path, octets: u32) -> Self {
        mount(
            place,
            &[
                "-t",
                "tmpfs",
                "-o",
                &format!("size={octets}"),
                "hoptrail-test",
            ],
        );
        Self {
            place: place.to_owned(),
        }
    }

    /// Takes all the room that is left, to the last octet.
    pub fn fill(&self) {
        let mut file = File::options()
            .create(true)
            .append(true)
            .open(self.filler())
            .expect("a file can be made");
        for octets in [4096, 1] {
            let full = loop {
                if let Err(why) = file.write_all(&vec![b'x'; octets]) {
                    break why;
                }
            };
            assert_eq!(full.kind(), ErrorKind::StorageFull, "{full}");
        }
    }

    /// Gives it back.
    pub fn free(&self) {
        fs::remove_file(self.filler()).expect("it was filled");
    }

    fn filler(&self) -> PathBuf {
        self.place.join("filler")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Whoever still has a file open there keeps it, unseen.
        let _ = Command::new("umount")
            .arg("--lazy")
            .arg(&self.place)
            .status();
    }
}

fn mount(place: &Path, how: &[&str]) {
    let status = Command::new("mount").args(how).arg(place).status();
    assert!(status.is_ok_and(|status| status.success()), "{how:?}");
}
