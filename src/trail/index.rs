//! What was read of a mailbox, kept beside the user's other caches, so that a mail is opened once and not in every
//! run. It holds nothing that the mailbox does not: it may be deleted at any time, and one that is damaged, of
//! another version or another secret is made anew.
//!
//! One file (0600, in a directory that is the user's alone) for each mailbox and secret, since what is kept of a
//! report has been judged by it. Numbers are little endian:
//!
//! ```text
//! file    = "hoptrail index 1\n", length of the owner u32, owner, segment...
//! owner   = path or URL of the mailbox, NUL, certificate that the secret makes for it (none: nothing)
//! segment = entries u32, octets of records u32, CRC-32 of what follows u32, entry..., records
//! entry   = key u64, kind octet (0 other mail, 1 report, 2 broken, 3 notice), place u32
//! ```
//!
//! Records are as in `pack`; a place counts from the beginning of its segment's. New mails come as a segment at the
//! end, under a lock and only if nobody else wrote meanwhile. When the file holds much that is gone, or many
//! segments, a new one takes its place in one step. Whoever reads waits for a writer; nobody waits for a reader.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::source::{Key, Source};
use super::stock::{Entry, Kind, Stock};
use crate::track::Secret;

const MAGIC: &[u8] = b"hoptrail index 1\n";

/// Fewer mails than this are read again sooner than they are looked up.
const MAILS_MIN: usize = 500;

/// More segments than this become one.
const SEGMENTS_MAX: usize = 64;

/// Octets of an entry.
const ENTRY_OCTETS: usize = 13;

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
    entries: usize,
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

    /// What it holds; nothing if it is not there or cannot be used.
    pub fn load(&mut self) -> Stock {
        match self.read() {
            Ok(stock) => stock,
            Err(why) => {
                if why.kind() != io::ErrorKind::NotFound {
                    let path = self.path.display();
                    tracing::warn!(%path, %why, "the index is of no use and will be made anew");
                }
                Stock::default()
            }
        }
    }

    fn read(&mut self) -> io::Result<Stock> {
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
        let mut stock = Stock::default();
        let mut rest = meta.len().saturating_sub(head.len() as u64);
        while rest > 0 {
            rest = rest
                .checked_sub(read_segment(&mut file, rest, &mut stock)?)
                .ok_or_else(damage)?;
        }
        self.known = Some(Known {
            inode: meta.ino(),
            octets: meta.len(),
            segments: stock.segments.len(),
            entries: stock.entries.len(),
        });
        Ok(stock)
    }

    /// Keeps what is worth it. Failing is no error: the next run reads the mails again.
    pub fn save(&mut self, stock: &mut Stock) {
        if let Err(why) = self.write(stock) {
            let path = self.path.display();
            tracing::warn!(%path, %why, "the index cannot be written");
        }
    }

    fn write(&mut self, stock: &mut Stock) -> io::Result<()> {
        let Some(known) = &self.known else {
            if stock.entries.len() < MAILS_MIN {
                return Ok(());
            }
            return self.replace(stock);
        };
        let is_new = |e: &&Entry| usize::from(e.segment) >= known.segments;
        let new = stock.entries.iter().filter(is_new).count();
        let gone = known.entries - (stock.entries.len() - new);
        if gone > MAILS_MIN.max(stock.entries.len()) || stock.segments.len() > SEGMENTS_MAX {
            stock.repack();
            self.replace(stock)
        } else if new >= MAILS_MIN {
            self.append(stock)
        } else {
            Ok(())
        }
    }

    /// Puts a new file in the place of what is there, in one step.
    fn replace(&mut self, stock: &Stock) -> io::Result<()> {
        let directory = self.path.parent().unwrap_or(Path::new("."));
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)?;
        let draft = directory.join(format!(".{:016x}.draft", getrandom::u64()?));
        let mut options = OpenOptions::new();
        let file = options
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&draft)?;
        let mut out = BufWriter::new(&file);
        let written = out.write_all(&self.head());
        let written = written.and_then(|()| write_segments(&mut out, stock, 0));
        drop(out);
        if let Err(why) = written.and_then(|()| fs::rename(&draft, &self.path)) {
            // It is of no use to anybody.
            let _ = fs::remove_file(&draft);
            return Err(why);
        }
        self.remember(&file, stock)
    }

    /// Adds the segments that are not in the file, unless it has changed under our hands.
    fn append(&mut self, stock: &Stock) -> io::Result<()> {
        let Some(known) = &self.known else {
            return Ok(());
        };
        let mut file = OpenOptions::new().write(true).open(&self.path)?;
        if file.try_lock().is_err() {
            return Ok(());
        }
        let meta = file.metadata()?;
        if (meta.ino(), meta.len()) != (known.inode, known.octets) {
            return Ok(());
        }
        file.seek(SeekFrom::End(0))?;
        let mut out = BufWriter::new(&file);
        write_segments(&mut out, stock, known.segments)?;
        drop(out);
        self.remember(&file, stock)
    }

    fn remember(&mut self, file: &File, stock: &Stock) -> io::Result<()> {
        let meta = file.metadata()?;
        self.known = Some(Known {
            inode: meta.ino(),
            octets: meta.len(),
            segments: stock.segments.len(),
            entries: stock.entries.len(),
        });
        Ok(())
    }

    fn head(&self) -> Vec<u8> {
        let length = u32::try_from(self.owner.len()).unwrap_or_default();
        [MAGIC, &length.to_le_bytes(), &self.owner].concat()
    }
}

fn damage() -> io::Error {
    io::Error::other("damaged, or of another version")
}

/// Reads a segment out of a file of which so much is left, and tells its length.
fn read_segment(file: &mut File, rest: u64, stock: &mut Stock) -> io::Result<u64> {
    let mut numbers = [[0; 4]; 3];
    file.read_exact(numbers.as_flattened_mut())?;
    let [entries, octets, sum] = numbers.map(u32::from_le_bytes);
    let entries_octets = u64::from(entries) * ENTRY_OCTETS as u64;
    let length = 12 + entries_octets + u64::from(octets);
    if length > rest {
        return Err(damage());
    }
    let mut read = |octets: u64| {
        let mut part = Vec::with_capacity(usize::try_from(octets).unwrap_or_default());
        file.take(octets).read_to_end(&mut part).map(|_| part)
    };
    let (entries, records) = (read(entries_octets)?, read(octets.into())?);
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&entries);
    hasher.update(&records);
    let segment = u16::try_from(stock.segments.len()).map_err(|_| damage())?;
    if hasher.finalize() != sum {
        return Err(damage());
    }
    for entry in entries.as_chunks::<ENTRY_OCTETS>().0 {
        stock
            .entries
            .push(entry_of(entry, segment).ok_or_else(damage)?);
    }
    stock.segments.push(records);
    Ok(length)
}

fn entry_of(octets: &[u8; ENTRY_OCTETS], segment: u16) -> Option<Entry> {
    let (key, rest) = octets.split_first_chunk()?;
    let (kind, place) = rest.split_first()?;
    Some(Entry {
        key: Key(u64::from_le_bytes(*key)),
        kind: match kind {
            0 => Kind::Other,
            1 => Kind::Report,
            2 => Kind::Broken,
            3 => Kind::Notice,
            _ => return None,
        },
        segment,
        place: u32::from_le_bytes(place.try_into().ok()?),
    })
}

/// Writes the segments from this one on.
fn write_segments(out: &mut impl Write, stock: &Stock, first: usize) -> io::Result<()> {
    for (n, records) in stock.segments.iter().enumerate().skip(first) {
        let mut entries = Vec::new();
        for entry in stock.entries.iter().filter(|e| usize::from(e.segment) == n) {
            entries.extend_from_slice(&entry.key.0.to_le_bytes());
            entries.push(entry.kind as u8);
            entries.extend_from_slice(&entry.place.to_le_bytes());
        }
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&entries);
        hasher.update(records);
        let too_long = |_| io::Error::other("too long");
        let count = u32::try_from(entries.len() / ENTRY_OCTETS).map_err(too_long)?;
        let octets = u32::try_from(records.len()).map_err(too_long)?;
        for number in [count, octets, hasher.finalize()] {
            out.write_all(&number.to_le_bytes())?;
        }
        out.write_all(&entries)?;
        out.write_all(records)?;
    }
    out.flush()
}
