//! A file in the making, of the user alone: it gets its name when it is whole, and is gone if it never is. Must not
//! know what stands in it.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::segment::Depot;

/// How its name ends until then.
const EXTENSION: &str = "draft";

/// A new file. Gone when dropped without having got a name.
pub struct Draft {
    path: PathBuf,
    depot: Arc<Depot>,
    has_name: bool,
}

impl Draft {
    /// An empty one in a directory, which is made if it is not there.
    pub fn begin(directory: &Path) -> io::Result<Self> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)?;
        sweep(directory)?;
        let path = directory.join(format!(".{:016x}.{EXTENSION}", getrandom::u64()?));
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).create_new(true).mode(0o600);
        let file = options.open(&path)?;
        file.lock()?;
        Ok(Self {
            path,
            depot: Arc::new(Depot::from(file)),
            has_name: false,
        })
    }

    /// What is in it; stays even if the file never gets a name.
    pub fn depot(&self) -> &Arc<Depot> {
        &self.depot
    }

    /// Gives it its name, in the place of what has that now.
    pub fn name(mut self, path: &Path) -> io::Result<()> {
        fs::rename(&self.path, path)?;
        self.has_name = true;
        self.depot.file().unlock()
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.has_name {
            // What cannot be removed now is swept away by the next one.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Removes the drafts of those who were killed: whoever is still at one holds its lock.
fn sweep(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let is_draft = path.extension().is_some_and(|end| end == EXTENSION);
        if is_draft && File::open(&path).is_ok_and(|file| file.try_lock().is_ok()) {
            // Somebody else may have done it meanwhile.
            let _ = fs::remove_file(&path);
        }
    }
    Ok(())
}
