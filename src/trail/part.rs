//! The parts that the file of an [index](super::index) is made of, each with a sum that shows whether it is whole.
//! Numbers are little endian:
//!
//! ```text
//! part    = entries u32, kind u32, octets of records u32, CRC-32 of what follows u32, entry..., records
//! kind    = 0 a segment | 1 a block of gists | 2 a state | 3 mails
//! entry   = of mails: key u64, kind octet (0 other mail, 1 report, 2 broken, 3 notice, 4 proved report), what its
//!           message is known by u64, hash of the tracking id u64, segment u16, place u32
//!         | of gists: what the message is known by u64, sum of keys u64, reports u32, place u32
//! ```
//!
//! A segment is nothing but records, and mails are nothing but entries, of which each says where in all segments of the
//! file its record is. A state has one record of eight octets. Records are as in `pack` and `gist`; a place counts from
//! the beginning of its part's.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::sync::Arc;

use super::entry::{Entry, Kind};
use super::gist::{Block, Kept, Of};
use super::segment::{Depot, Segment};
use super::source::Key;
use super::stock::Stock;

/// Octets of an entry: of a mail, and of a gist.
const ENTRY_OCTETS: usize = 31;
const GIST_OCTETS: usize = 24;

/// What a part is.
const SEGMENT: u32 = 0;
const BLOCK: u32 = 1;
const STATE: u32 = 2;
const MAILS: u32 = 3;

/// Octets that are read at a time where nobody keeps them.
const ROOM_OCTETS: usize = 128 * 1024;

/// Why a file is of no use.
pub fn damage() -> io::Error {
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

/// Reads the parts from here to the end.
pub fn read_all(depot: &Arc<Depot>, end: u64) -> io::Result<(Stock, Vec<Block>)> {
    let mut file = BufReader::with_capacity(ROOM_OCTETS, depot.file());
    let (mut stock, mut blocks) = (Stock::default(), Vec::new());
    let mut at = file.stream_position()?;
    while at < end {
        let part = Part::read(&mut file, at, end)?;
        at = part.from + part.octets as u64;
        match part.kind {
            SEGMENT => {
                let segment = Segment::stored(depot, part.from, part.octets);
                stock.segments.push(segment);
            }
            MAILS => {
                part.into_mails(&mut stock)?;
                stock.state = None;
            }
            BLOCK => blocks.push(part.into_block()),
            STATE => stock.state = part.state(),
            _ => return Err(damage()),
        }
    }
    stock.order();
    Ok((stock, blocks))
}

impl Part {
    /// Reads the next one of a file, which goes on to an end.
    fn read(file: &mut BufReader<&File>, at: u64, end: u64) -> io::Result<Self> {
        let mut numbers = [[0; 4]; 4];
        file.read_exact(numbers.as_flattened_mut())?;
        let from_entries = at + numbers.as_flattened().len() as u64;
        let [count, kind, octets, sum] = numbers.map(u32::from_le_bytes);
        let entries = u64::from(count) * entry_octets(kind) as u64;
        let from = from_entries + entries;
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
        file.by_ref().take(entries).read_to_end(&mut part.entries)?;
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&part.entries);
        if kind == SEGMENT {
            add_up(file, part.octets, &mut hasher)?;
        } else {
            part.records.reserve_exact(part.octets);
            file.by_ref()
                .take(octets.into())
                .read_to_end(&mut part.records)?;
            hasher.update(&part.records);
        }
        if hasher.finalize() != sum {
            return Err(damage());
        }
        Ok(part)
    }

    fn into_mails(self, stock: &mut Stock) -> io::Result<()> {
        let entries = self.entries.as_chunks::<ENTRY_OCTETS>().0.iter();
        stock.entries.reserve_exact(entries.len());
        for entry in entries {
            let entry = entry_of(entry).ok_or_else(damage)?;
            if usize::from(entry.segment) >= stock.segments.len() {
                return Err(damage());
            }
            stock.entries.push(entry);
        }
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

/// Sums octets that nobody needs but for that.
fn add_up(
    file: &mut BufReader<&File>,
    octets: usize,
    hasher: &mut crc32fast::Hasher,
) -> io::Result<()> {
    let mut rest = octets;
    while rest > 0 {
        let room = file.fill_buf()?;
        let some = room.get(..rest.min(room.len())).unwrap_or_default();
        if some.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        hasher.update(some);
        let count = some.len();
        file.consume(count);
        rest -= count;
    }
    Ok(())
}

/// Octets of an entry of such a part.
fn entry_octets(kind: u32) -> usize {
    if kind == BLOCK {
        GIST_OCTETS
    } else {
        ENTRY_OCTETS
    }
}

fn entry_of(octets: &[u8; ENTRY_OCTETS]) -> Option<Entry> {
    let (key, rest) = octets.split_first_chunk()?;
    let (kind, rest) = rest.split_first()?;
    let (message, rest) = rest.split_first_chunk()?;
    let (id, rest) = rest.split_first_chunk()?;
    let (segment, place) = rest.split_first_chunk()?;
    Some(Entry {
        key: Key(u64::from_le_bytes(*key)),
        kind: match kind {
            0 => Kind::Other,
            1 => Kind::Report,
            2 => Kind::Broken,
            3 => Kind::Notice,
            4 => Kind::Proved,
            _ => return None,
        },
        message: u64::from_le_bytes(*message),
        id: u64::from_le_bytes(*id),
        segment: u16::from_le_bytes(*segment),
        place: u32::from_le_bytes(place.try_into().ok()?),
    })
}

fn kept_of(octets: &[u8; GIST_OCTETS]) -> Option<Kept> {
    let (message, rest) = octets.split_first_chunk()?;
    let (keys, rest) = rest.split_first_chunk()?;
    let (reports, place) = rest.split_first_chunk()?;
    Some(Kept {
        of: Of {
            message: u64::from_le_bytes(*message),
            keys: u64::from_le_bytes(*keys),
            reports: u32::from_le_bytes(*reports),
        },
        place: u32::from_le_bytes(place.try_into().ok()?),
    })
}

/// Writes the segments from this one on at the end of a depot, but for those that are in it, and the mails that are in
/// them.
pub fn write_mails(depot: &Arc<Depot>, stock: &mut Stock, first: usize) -> io::Result<()> {
    for segment in stock.segments.iter_mut().skip(first) {
        if segment.place_in(depot).is_none() {
            *segment = write_segment(depot, segment.octets())?;
        }
    }
    let numbers = numbers_in(depot, stock);
    let mut entries = Vec::with_capacity(stock.entries.len() * ENTRY_OCTETS);
    for entry in &stock.entries {
        let segment = usize::from(entry.segment);
        if segment < first {
            continue;
        }
        entries.extend_from_slice(&entry.key.0.to_le_bytes());
        entries.push(entry.kind as u8);
        entries.extend_from_slice(&entry.message.to_le_bytes());
        entries.extend_from_slice(&entry.id.to_le_bytes());
        let number = numbers.get(segment).copied().unwrap_or_default();
        entries.extend_from_slice(&number.to_le_bytes());
        entries.extend_from_slice(&entry.place.to_le_bytes());
    }
    write_part(&mut depot.file(), MAILS, &entries, &[])?;
    Ok(())
}

/// Writes a segment at the end of a depot.
pub fn write_segment(depot: &Arc<Depot>, octets: &[u8]) -> io::Result<Segment> {
    let mut file = depot.file();
    let from = file.seek(SeekFrom::End(0))?;
    let written = write_part(&mut file, SEGMENT, &[], octets)?;
    let records = from + written - octets.len() as u64;
    Ok(Segment::stored(depot, records, octets.len()))
}

/// The number of each segment in the order in which they stand in their depot.
fn numbers_in(depot: &Arc<Depot>, stock: &Stock) -> Vec<u16> {
    let mut order: Vec<usize> = (0..stock.segments.len()).collect();
    order.sort_by_key(|n| stock.segments.get(*n).and_then(|s| s.place_in(depot)));
    let mut numbers = vec![0; order.len()];
    for (number, n) in (0..).zip(order) {
        if let Some(place) = numbers.get_mut(n) {
            *place = number;
        }
    }
    numbers
}

/// Writes blocks of gists.
pub fn write_blocks(out: &mut impl Write, blocks: &[Block]) -> io::Result<()> {
    for block in blocks {
        let mut entries = Vec::with_capacity(block.kept.len() * GIST_OCTETS);
        for kept in &block.kept {
            entries.extend_from_slice(&kept.of.message.to_le_bytes());
            entries.extend_from_slice(&kept.of.keys.to_le_bytes());
            entries.extend_from_slice(&kept.of.reports.to_le_bytes());
            entries.extend_from_slice(&kept.place.to_le_bytes());
        }
        write_part(out, BLOCK, &entries, &block.octets)?;
    }
    Ok(())
}

/// Writes what the source is like.
pub fn write_state(out: &mut impl Write, state: u64) -> io::Result<()> {
    write_part(out, STATE, &[], &state.to_le_bytes())?;
    Ok(())
}

/// Writes a part, and tells how long it is.
fn write_part(out: &mut impl Write, kind: u32, entries: &[u8], records: &[u8]) -> io::Result<u64> {
    let too_long = |_| io::Error::other("too long");
    let count = u32::try_from(entries.len() / entry_octets(kind)).map_err(too_long)?;
    let octets = u32::try_from(records.len()).map_err(too_long)?;
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(entries);
    hasher.update(records);
    let numbers = [count, kind, octets, hasher.finalize()].map(u32::to_le_bytes);
    let numbers = numbers.as_flattened();
    for octets in [numbers, entries, records] {
        out.write_all(octets)?;
    }
    Ok((numbers.len() + entries.len() + records.len()) as u64)
}
