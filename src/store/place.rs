//! Whether the database still is the file of its name. One that was removed, or replaced by a copy, is written to all the
//! same, unseen: it is gone with the process, and what was promised with it.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::outage::Outage;

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Where the file was opened, and which it was.
pub(super) struct Place {
    path: PathBuf,
    file: (u64, u64),
    next_look: Instant,
    lost: Outage,
}

impl Place {
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        Ok(Self {
            file: which(path)?,
            path: path.to_owned(),
            next_look: Instant::now() + LOOK_EVERY,
            lost: Outage::default(),
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Looks now and then, and says when it is another file, or none.
    pub(super) fn look(&mut self, now: Instant) {
        if now < self.next_look {
            return;
        }
        self.next_look = now + LOOK_EVERY;
        let path = self.path.display();
        if which(&self.path).is_ok_and(|file| file == self.file) {
            let back = || tracing::info!(%path, "the store's file is in its place again");
            return self.lost.is_over(back);
        }
        self.lost.goes_on(|| {
            tracing::error!(
                %path,
                "THE STORE'S FILE WAS REMOVED OR REPLACED: reports are mailed as before, but those that wait when hoptrail \
                 ends are lost; put it back, or restart hoptrail for a new one"
            );
        });
    }
}

/// A file by its numbers.
fn which(path: &Path) -> io::Result<(u64, u64)> {
    fs::metadata(path).map(|about| (about.dev(), about.ino()))
}
