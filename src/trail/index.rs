//! What was read of a mailbox, kept beside the user's other caches, so that a mail is opened once and not in every
//! run. It holds nothing that the mailbox does not: it may be deleted at any time, and one that is damaged, of
//! another version or another secret is made anew.
//!
//! One file (0600, in a directory that is the user's alone) for each mailbox and secret, since what is kept of a
//! report has been judged by it. Numbers are little endian:
//!
//! ```text
//! file    = "hoptrail index 5 of VERSION\n", length of the owner u32, owner, part...
//! owner   = path or URL of the mailbox, NUL, certificate that the secret makes for it (none: nothing)
//! part    = entries u32, kind u32, octets of records u32, CRC-32 of what follows u32, entry..., records
//! kind    = 0 a segment | 1 a block of gists | 2 a state
//! entry   = of mails: key u64, kind octet (0 other mail, 1 report, 2 broken, 3 notice), hash of the tracking id u64,
//!           place u32
//!         | of gists: hash of the tracking id u64, sum of keys u64, reports u32, place u32
//! ```
//!
//! A state has no entries, and one record of eight octets: what the Maildir was like when its mails were those of all
//! segments before it. As long as it is that, no mail needs to be looked for.
//!
//! Records are as in `pack` and `gist`; a place counts from the beginning of its part's. What is new comes as a part at
//! the end, under a lock and only if nobody else wrote meanwhile. When the file holds much that is gone, or many
//! segments, a new one takes its place in one step. Whoever reads waits for a writer; nobody waits for a reader.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::gist::{Block, Gists, Kept, Of};
use super::segment::Segment;
use super::source::{Key, Source};
use super::stock::{Entry, Kind, Stock};
use crate::track::Secret;

/// With the version of the program, since what is kept of messages is worded by it.
const MAGIC: &[u8] = concat!("hoptrail index 5 of ", env!("CARGO_PKG_VERSION"), "\n").as_bytes();

/// Fewer mails than this are read again sooner than they are looked up.
const MAILS_MIN: usize = 500;

/// More segments than this become one.
const SEGMENTS_MAX: usize = 64;

/// Octets of an entry: of a mail, and of a gist.
const ENTRY_OCTETS: usize = 21;
const GIST_OCTETS: usize = 24;

/// What a part is.
const SEGMENT: u32 = 0;
const BLOCK: u32 = 1;
const STATE: u32 = 2;

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
        let stored = Arc::new(File::open(&self.path)?);
        stored.lock_shared()?;
        let meta = stored.metadata()?;
        if meta.mode() & 0o077 != 0 {
            return Err(io::Error::other("others may read or change it"));
        }
        let mut head = vec![0; MAGIC.len() + 4 + self.owner.len()];
        let mut file = &*stored;
        file.read_exact(&mut head)?;
        if head != self.head() {
            return Err(damage());
        }
        let (mut stock, mut blocks) = (Stock::default(), Vec::new());
        while file.stream_position()? < meta.len() {
            let part = Part::read(&mut file, meta.len())?;
            match part.kind {
                SEGMENT => {
                    part.into_segment(&stored, &mut stock)?;
                    stock.state = None;
                }
                BLOCK => blocks.push(part.into_block()),
                STATE => stock.state = part.state(),
                _ => return Err(damage()),
            }
        }
        self.known = Some(Known {
            inode: meta.ino(),
            octets: meta.len(),
            segments: stock.segments.len(),
            entries: stock.entries.len(),
            blocks: blocks.len(),
            state: stock.state,
        });
        stored.unlock()?;
        Ok((stock, blocks))
    }

    /// Keeps what is worth it, and tells whether it did so in a new file, which holds no gists yet. Failing is no
    /// error: the next run reads the mails again.
    pub fn save(&mut self, stock: &mut Stock) -> bool {
        let written = self.write(stock);
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
    pub fn renew(&mut self, stock: &Stock) {
        let written = self.replace(stock);
        self.remark(written);
    }

    fn remark<T>(&self, written: io::Result<T>) -> Option<T> {
        let failed = |why: &io::Error| {
            let path = self.path.display();
            tracing::warn!(%path, %why, "the index cannot be written");
        };
        written.inspect_err(failed).ok()
    }

    fn write(&mut self, stock: &mut Stock) -> io::Result<bool> {
        let Some(known) = &self.known else {
            if stock.entries.len() < MAILS_MIN {
                return Ok(false);
            }
            return self.replace(stock).map(|()| true);
        };
        let is_new = |e: &&Entry| usize::from(e.segment) >= known.segments;
        let new = stock.entries.iter().filter(is_new).count();
        let gone = known.entries - (stock.entries.len() - new);
        if gone > MAILS_MIN.max(stock.entries.len()) || stock.segments.len() > SEGMENTS_MAX {
            stock.repack();
            self.replace(stock).map(|()| true)
        } else if new >= MAILS_MIN {
            self.append_segments(stock).map(|()| false)
        } else {
            Ok(false)
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
        let meta = file.metadata()?;
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
    fn append_segments(&mut self, stock: &Stock) -> io::Result<()> {
        let first = self.known.as_ref().map_or(0, |known| known.segments);
        let is_new = |e: &&Entry| usize::from(e.segment) >= first;
        let new = stock.entries.iter().filter(is_new).count();
        self.append(
            |out| write_segments(out, stock, first),
            |known| {
                known.segments = stock.segments.len();
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
                |out| write_part(out, STATE, &[], &state.to_le_bytes()),
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
            |out| write_blocks(out, new),
            |known| known.blocks = gists.blocks().len(),
        )
    }

    /// Adds what `write` writes to what is there, unless it has changed under our hands.
    fn append(
        &mut self,
        write: impl FnOnce(&mut BufWriter<&File>) -> io::Result<()>,
        remember: impl FnOnce(&mut Known),
    ) -> io::Result<()> {
        let Some(known) = &mut self.known else {
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
        write(&mut out)?;
        out.flush()?;
        drop(out);
        known.octets = file.metadata()?.len();
        remember(known);
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

/// A part of the file: entries, and where the records are that they point into.
struct Part {
    kind: u32,
    entries: Vec<u8>,
    /// Of a segment they stay in the file.
    records: Vec<u8>,
    from: u64,
    octets: usize,
}

impl Part {
    /// Reads the next one of a file, which goes on to an end.
    fn read(file: &mut &File, end: u64) -> io::Result<Self> {
        let mut numbers = [[0; 4]; 4];
        file.read_exact(numbers.as_flattened_mut())?;
        let [count, kind, octets, sum] = numbers.map(u32::from_le_bytes);
        let entries = u64::from(count) * entry_octets(kind) as u64;
        let from = file.stream_position()? + entries;
        if from + u64::from(octets) > end {
            return Err(damage());
        }
        let mut part = Self {
            kind,
            entries: Vec::with_capacity(usize::try_from(entries).unwrap_or_default()),
            records: Vec::new(),
            from,
            octets: usize::try_from(octets).unwrap_or_default(),
        };
        file.take(entries).read_to_end(&mut part.entries)?;
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&part.entries);
        if kind == SEGMENT {
            io::copy(&mut file.take(octets.into()), &mut Summed(&mut hasher))?;
        } else {
            part.records.reserve_exact(part.octets);
            file.take(octets.into()).read_to_end(&mut part.records)?;
            hasher.update(&part.records);
        }
        if hasher.finalize() != sum {
            return Err(damage());
        }
        Ok(part)
    }

    fn into_segment(self, file: &Arc<File>, stock: &mut Stock) -> io::Result<()> {
        let segment = u16::try_from(stock.segments.len()).map_err(|_| damage())?;
        let entries = self.entries.as_chunks::<ENTRY_OCTETS>().0.iter();
        stock.entries.reserve(entries.len());
        for entry in entries {
            let entry = entry_of(entry, segment).ok_or_else(damage)?;
            stock.entries.push(entry);
        }
        let records = Segment::stored(file, self.from, self.octets);
        stock.segments.push(records);
        Ok(())
    }

    fn state(&self) -> Option<u64> {
        self.records.first_chunk().copied().map(u64::from_le_bytes)
    }

    fn into_block(self) -> Block {
        let entries = self.entries.as_chunks::<GIST_OCTETS>().0.iter();
        Block {
            kept: entries.filter_map(kept_of).collect(),
            octets: self.records,
        }
    }
}

/// Octets that nobody needs but for their sum.
struct Summed<'a>(&'a mut crc32fast::Hasher);

impl Write for Summed<'_> {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        self.0.update(octets);
        Ok(octets.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Octets of an entry of such a part.
fn entry_octets(kind: u32) -> usize {
    if kind == BLOCK {
        GIST_OCTETS
    } else {
        ENTRY_OCTETS
    }
}

fn sum_of(entries: &[u8], records: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(entries);
    hasher.update(records);
    hasher.finalize()
}

fn entry_of(octets: &[u8; ENTRY_OCTETS], segment: u16) -> Option<Entry> {
    let (key, rest) = octets.split_first_chunk()?;
    let (kind, rest) = rest.split_first()?;
    let (id, place) = rest.split_first_chunk()?;
    Some(Entry {
        key: Key(u64::from_le_bytes(*key)),
        kind: match kind {
            0 => Kind::Other,
            1 => Kind::Report,
            2 => Kind::Broken,
            3 => Kind::Notice,
            _ => return None,
        },
        id: u64::from_le_bytes(*id),
        segment,
        place: u32::from_le_bytes(place.try_into().ok()?),
    })
}

fn kept_of(octets: &[u8; GIST_OCTETS]) -> Option<Kept> {
    let (id, rest) = octets.split_first_chunk()?;
    let (keys, rest) = rest.split_first_chunk()?;
    let (reports, place) = rest.split_first_chunk()?;
    Some(Kept {
        of: Of {
            id: u64::from_le_bytes(*id),
            keys: u64::from_le_bytes(*keys),
            reports: u32::from_le_bytes(*reports),
        },
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
            entries.extend_from_slice(&entry.id.to_le_bytes());
            entries.extend_from_slice(&entry.place.to_le_bytes());
        }
        write_part(out, SEGMENT, &entries, records.octets())?;
    }
    out.flush()
}

/// Writes blocks of gists.
fn write_blocks(out: &mut impl Write, blocks: &[Block]) -> io::Result<()> {
    for block in blocks {
        let mut entries = Vec::new();
        for kept in &block.kept {
            entries.extend_from_slice(&kept.of.id.to_le_bytes());
            entries.extend_from_slice(&kept.of.keys.to_le_bytes());
            entries.extend_from_slice(&kept.of.reports.to_le_bytes());
            entries.extend_from_slice(&kept.place.to_le_bytes());
        }
        write_part(out, BLOCK, &entries, &block.octets)?;
    }
    Ok(())
}

fn write_part(out: &mut impl Write, kind: u32, entries: &[u8], records: &[u8]) -> io::Result<()> {
    let too_long = |_| io::Error::other("too long");
    let count = u32::try_from(entries.len() / entry_octets(kind)).map_err(too_long)?;
    let octets = u32::try_from(records.len()).map_err(too_long)?;
    for number in [count, kind, octets, sum_of(entries, records)] {
        out.write_all(&number.to_le_bytes())?;
    }
    out.write_all(entries)?;
    out.write_all(records)
}
