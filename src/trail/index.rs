//! What was read of a mailbox, kept beside the user's other caches, so that a mail is opened once and not in every
//! run. It holds nothing that the mailbox does not: it may be deleted at any time, and one that is damaged, of
//! another build or another secret is made anew.
//!
//! One file (0600, in a directory that is the user's alone) for each mailbox and secret, since what is kept of a
//! report has been judged by it. Numbers are little endian:
//!
//! ```text
//! file    = "hoptrail index 8 of BUILD\n", length of the owner u32, owner, part...
//! owner   = path or URL of the mailbox, NUL, certificate that the secret makes for it (none: nothing)
//! ```
//!
//! Parts are as in `part`. A state says what the Maildir was like when its mails were all those that stand before it.
//! As long as it is that, no mail needs to be looked for.
//!
//! What is new comes as parts at the end, under a lock and only if nobody else wrote meanwhile. When the file holds
//! much that is gone, or many small segments, a new one takes its place in one step. Whoever reads waits for a writer;
//! nobody waits for a reader.

use std::fs::{self, File, OpenOptions};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write as _};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::entry::Entry;
use super::gist::{Block, Gists};
use super::part::{self, damage};
use super::scratch::Scratch;
use super::segment::{Depot, Segment};
use super::source::Source;
use super::stock::Stock;
use crate::track::Secret;

/// With the build of the program, since what is kept of messages is worded by it.
const MAGIC: &[u8] = concat!("hoptrail index 8 of ", env!("HOPTRAIL_WORDS"), "\n").as_bytes();

/// Fewer mails than this are read again sooner than they are looked up.
const MAILS_MIN: usize = 500;

/// More segments than this become fewer, if they are smaller than so many octets each.
const SEGMENTS_MAX: usize = 64;
const SEGMENT_OCTETS_MIN: usize = 64 * 1024;

/// The file of one mailbox and secret.
pub struct Index {
    path: PathBuf,
    owner: Vec<u8>,
    /// What it held when we last read or wrote it.
    known: Option<Known>,
}

/// A state of the file.
struct Known {
    inode: u64,
    octets: u64,
    segments: usize,
    /// Those that are gone by now included.
    entries: usize,
    blocks: usize,
    state: Option<u64>,
}

impl Index {
    /// The index in this directory for a mailbox; whether there is one shows when it is loaded.
    pub fn of(directory: &Path, mailbox: &Source, secret: Option<&Secret>) -> Self {
        let mut owner = match mailbox {
            Source::Maildir(path) => fs::canonicalize(path).unwrap_or_else(|_| path.clone()),
            other => other.to_string().into(),
        }
        .into_os_string()
        .into_vec();
        owner.push(0);
        let mark = secret.map(|secret| secret.certificate("index", 0).to_string());
        owner.extend_from_slice(mark.unwrap_or_default().as_bytes());
        let mut name = DefaultHasher::new();
        owner.hash(&mut name);
        Self {
            path: directory.join(format!("{:016x}.index", name.finish())),
            owner,
            known: None,
        }
    }

    /// Room for what is read for it.
    pub fn scratch(&self) -> Scratch {
        let directory = self.path.parent().unwrap_or(Path::new("."));
        Scratch::within(directory.to_owned(), self.head())
    }

    /// What it holds; nothing if it is not there or cannot be used.
    pub fn load(&mut self) -> (Stock, Vec<Block>) {
        match self.read() {
            Ok(loaded) => loaded,
            Err(why) => {
                if why.kind() != io::ErrorKind::NotFound {
                    let path = self.path.display();
                    tracing::warn!(%path, %why, "the index is of no use and will be made anew");
                }
                (Stock::default(), Vec::new())
            }
        }
    }

    fn read(&mut self) -> io::Result<(Stock, Vec<Block>)> {
        // Opening a pipe would wait for ever.
        if !fs::metadata(&self.path)?.is_file() {
            return Err(io::Error::other("it is no file"));
        }
        let mut file = File::open(&self.path)?;
        file.lock_shared()?;
        let meta = file.metadata()?;
        if meta.mode() & 0o077 != 0 {
            return Err(io::Error::other("others may read or change it"));
        }
        let mut head = vec![0; MAGIC.len() + 4 + self.owner.len()];
        file.read_exact(&mut head)?;
        if head != self.head() {
            return Err(damage());
        }
        let depot = Arc::new(Depot::from(file));
        let (stock, blocks) = part::read_all(&depot, meta.len())?;
        self.known = Some(Known {
            inode: meta.ino(),
            octets: meta.len(),
            segments: stock.segments.len(),
            entries: stock.entries.len(),
            blocks: blocks.len(),
            state: stock.state,
        });
        depot.file().unlock()?;
        Ok((stock, blocks))
    }

    /// Keeps what is worth it, some of which may be in its scratch already, and tells whether it did so in a new file,
    /// which holds no gists yet. Failing is no error: the next run reads the mails again.
    pub fn save(&mut self, stock: &mut Stock, scratch: Scratch) -> bool {
        let written = self.write(stock, scratch);
        let stated = self.append_state(stock);
        self.remark(stated);
        self.remark(written).unwrap_or_default()
    }

    /// Keeps gists that are not in the file.
    pub fn keep(&mut self, gists: &Gists) {
        let written = self.append_gists(gists);
        self.remark(written);
    }

    /// Begins a new file, with these mails and no gists.
    pub fn renew(&mut self, stock: &mut Stock) {
        let written = self.replace(stock, self.scratch());
        self.remark(written);
    }

    fn remark<T>(&self, written: io::Result<T>) -> Option<T> {
        let failed = |why: &io::Error| {
            let path = self.path.display();
            tracing::warn!(%path, %why, "the index cannot be written");
        };
        written.inspect_err(failed).ok()
    }

    fn write(&mut self, stock: &mut Stock, scratch: Scratch) -> io::Result<bool> {
        let Some(known) = &self.known else {
            if stock.entries.len() < MAILS_MIN {
                return Ok(false);
            }
            return self.replace(stock, scratch).map(|()| true);
        };
        let is_new = |e: &&Entry| usize::from(e.segment) >= known.segments;
        let new = stock.entries.iter().filter(is_new).count();
        let gone = known.entries - (stock.entries.len() - new);
        let octets: usize = stock.segments.iter().map(Segment::len).sum();
        let segments_max = SEGMENTS_MAX.max(octets / SEGMENT_OCTETS_MIN);
        if gone > MAILS_MIN.max(stock.entries.len()) || stock.segments.len() > segments_max {
            stock.repack();
            self.replace(stock, self.scratch()).map(|()| true)
        } else if new >= MAILS_MIN {
            self.append_segments(stock).map(|()| false)
        } else {
            Ok(false)
        }
    }

    /// Puts a new file in the place of what is there, in one step.
    fn replace(&mut self, stock: &mut Stock, scratch: Scratch) -> io::Result<()> {
        let draft = scratch.into_draft()?;
        let depot = Arc::clone(draft.depot());
        part::write_mails(&depot, stock, 0)?;
        draft.name(&self.path)?;
        let meta = depot.file().metadata()?;
        self.known = Some(Known {
            inode: meta.ino(),
            octets: meta.len(),
            segments: stock.segments.len(),
            entries: stock.entries.len(),
            blocks: 0,
            state: None,
        });
        Ok(())
    }

    /// Adds the segments that are not in the file.
    fn append_segments(&mut self, stock: &mut Stock) -> io::Result<()> {
        let first = self.known.as_ref().map_or(0, |known| known.segments);
        let is_new = |e: &&Entry| usize::from(e.segment) >= first;
        let new = stock.entries.iter().filter(is_new).count();
        let segments = stock.segments.len();
        self.append(
            |depot| part::write_mails(depot, stock, first),
            |known| {
                known.segments = segments;
                known.entries += new;
                known.state = None;
            },
        )
    }

    /// Adds what the source is like, if its mails are those in the file.
    fn append_state(&mut self, stock: &Stock) -> io::Result<()> {
        let Some(known) = &self.known else {
            return Ok(());
        };
        let in_file = |e: &Entry| usize::from(e.segment) < known.segments;
        let whole = known.entries == stock.entries.len() && stock.entries.iter().all(in_file);
        match stock.state {
            Some(state) if whole && known.state != stock.state => self.append(
                |depot| part::write_state(&mut depot.file(), state),
                |known| known.state = Some(state),
            ),
            _ => Ok(()),
        }
    }

    /// Adds the gists that are not in the file.
    fn append_gists(&mut self, gists: &Gists) -> io::Result<()> {
        let first = self.known.as_ref().map_or(0, |known| known.blocks);
        let Some(new @ [_, ..]) = gists.blocks().get(first..) else {
            return Ok(());
        };
        self.append(
            |depot| {
                let mut out = BufWriter::new(depot.file());
                part::write_blocks(&mut out, new)?;
                out.flush()
            },
            |known| known.blocks = gists.blocks().len(),
        )
    }

    /// Adds what `write` writes to what is there, unless it has changed under our hands.
    fn append(
        &mut self,
        write: impl FnOnce(&Arc<Depot>) -> io::Result<()>,
        remember: impl FnOnce(&mut Known),
    ) -> io::Result<()> {
        let Some(known) = &mut self.known else {
            return Ok(());
        };
        let mut options = OpenOptions::new();
        let mut file = options.read(true).write(true).open(&self.path)?;
        if file.try_lock().is_err() {
            return Ok(());
        }
        let meta = file.metadata()?;
        if (meta.ino(), meta.len()) != (known.inode, known.octets) {
            return Ok(());
        }
        file.seek(SeekFrom::End(0))?;
        let depot = Arc::new(Depot::from(file));
        let written = write(&depot);
        // What was written may stay open for long.
        depot.file().unlock()?;
        written?;
        known.octets = depot.file().metadata()?.len();
        remember(known);
        Ok(())
    }

    fn head(&self) -> Vec<u8> {
        let length = u32::try_from(self.owner.len()).unwrap_or_default();
        [MAGIC, &length.to_le_bytes(), &self.owner].concat()
    }
}
