//! What was read of one mailbox: of each mail its key, and what is to be kept of it, packed.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use hashbrown::HashTable;

use super::pack::Packer;
use super::reader::words_at;
use super::segment::Segment;
use super::source::imap::Folder;
use super::source::maildir::{self, Batch, Seen};
use super::source::{Found, Key, Room, Source, SourceError};
use super::unpack::{notice as notice_at, unpack};
use super::verify::Judged;
use crate::report::notice::{self, Notice};
use crate::report::{self, Received, read};
use crate::track::{Secret, TrackingId};

/// How many threads read mails, and put messages together. Most of the work of reading is the system's.
pub const THREADS: usize = 2;

/// Mails that a thread takes at a time.
const BATCH_MAILS: usize = 256;

/// Where a segment ends, octets: what has to be read of an index to see one of its records, and what its texts are
/// told once in.
const SEGMENT_OCTETS: usize = 64 << 20;

/// A mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What names it in its Maildir.
    pub key: Key,
    /// What it is.
    pub kind: Kind,
    /// Of a report, the hash of its tracking id: equal for all reports on a message, in every run.
    pub id: u64,
    /// Where what is kept of it stands.
    pub segment: u16,
    /// The place in the segment.
    pub place: u32,
}

/// What a mail is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Something else.
    Other,
    /// A report; its record is kept.
    Report,
    /// No report, though it says so, or unreadable; the reason is kept.
    Broken,
    /// What another mail system says of a message; its record is kept.
    Notice,
}

/// The mails of a source.
#[derive(Default)]
pub struct Stock {
    /// The mails.
    pub entries: Vec<Entry>,
    /// What is kept of them.
    pub segments: Vec<Segment>,
    /// Where the broken ones lie, and what is wrong with them.
    pub skipped: Vec<(String, String)>,
    /// What the source was like when its mails were these, if that can be told.
    pub state: Option<u64>,
}

impl Stock {
    /// What is kept of a mail: a place in these octets.
    pub fn octets(&self, entry: &Entry) -> &[u8] {
        let segment = self.segments.get(usize::from(entry.segment));
        segment.map_or(&[], Segment::octets)
    }

    /// Reads what came into the source and forgets what is gone. Whether anything did.
    pub fn update(
        &mut self,
        source: &Source,
        secret: Option<&Secret>,
        looked_at: &Arc<AtomicUsize>,
    ) -> Result<bool, SourceError> {
        let mut tray = Tray::new(secret, looked_at);
        match source {
            Source::Maildir(path) => {
                let state = maildir::state(path);
                // Where the broken ones lie is not kept.
                let whole = self.entries.iter().all(|e| e.kind != Kind::Broken);
                if whole && state.is_some() && state == self.state {
                    return Ok(false);
                }
                self.state = None;
                let changed = self.renew(looked_at, |unknown| read_maildir(path, &tray, unknown));
                self.state = state.filter(|_| changed.is_ok());
                return changed;
            }
            Source::Imap(folder) => {
                return self.renew(looked_at, |unknown| {
                    read_folder(folder, source, tray, unknown)
                });
            }
            // What it gave before is gone.
            Source::Stdin if !self.entries.is_empty() => return Ok(false),
            Source::Stdin | Source::File(_) | Source::Directory(_) => {
                let (limit, wanted) = (read::REPORT_OCTETS_MAX, read::may_be_report);
                source.visit(limit, wanted, |place, found| {
                    tray.mail(NO_KEY, found, || place.to_string());
                })?;
            }
        }
        *self = Self::default();
        self.take(tray);
        Ok(true)
    }

    /// Forgets the mails that `read` does not ask about, and adds those that it reads since they are unknown.
    fn renew(
        &mut self,
        looked_at: &AtomicUsize,
        read: impl FnOnce(Unknown) -> Result<Vec<Tray>, SourceError>,
    ) -> Result<bool, SourceError> {
        let known = self.table();
        let mut seen = vec![false; self.entries.len()];
        let mut skipped = Vec::new();
        let trays = read(&mut |key, place| {
            let entry = known.find(key.0, |n| self.key(*n) == Some(key));
            let Some(n) = entry.and_then(|n| usize::try_from(*n).ok()) else {
                return true;
            };
            looked_at.fetch_add(1, Ordering::Relaxed);
            if let Some(seen) = seen.get_mut(n) {
                *seen = true;
            }
            if let Some(broken) = self.entries.get(n).filter(|e| e.kind == Kind::Broken) {
                let why = words_at(self.octets(broken), broken.place).to_owned();
                skipped.push((place(), why));
            }
            false
        })?;
        let before = self.entries.len();
        let mut seen = seen.into_iter();
        self.entries.retain(|_| seen.next() == Some(true));
        let mut changed = self.entries.len() < before;
        self.skipped = skipped;
        for tray in trays {
            changed |= !tray.entries.is_empty();
            self.take(tray);
        }
        self.skipped.sort();
        Ok(changed)
    }

    /// Packs what is left anew, in one segment.
    pub fn repack(&mut self) {
        let mut tray = Tray::default();
        for entry in &self.entries {
            let octets = self.octets(entry);
            tray.make_room();
            let kept = match entry.kind {
                Kind::Other => Some(0),
                Kind::Report => unpack(octets, entry.place).and_then(|one| tray.packer.push(&one)),
                Kind::Broken => tray.packer.push_words(words_at(octets, entry.place)),
                Kind::Notice => {
                    notice_at(octets, entry.place).and_then(|one| tray.packer.push_notice(&one))
                }
            };
            tray.enter(entry.key, entry.kind, entry.id, kept);
        }
        tray.skipped = std::mem::take(&mut self.skipped);
        *self = Self {
            state: self.state,
            ..Self::default()
        };
        self.take(tray);
    }

    fn key(&self, n: u32) -> Option<Key> {
        Some(self.entries.get(usize::try_from(n).ok()?)?.key)
    }

    /// The numbers of the entries by their keys.
    fn table(&self) -> HashTable<u32> {
        let mut table = HashTable::with_capacity(self.entries.len());
        for (n, entry) in (0..).zip(&self.entries) {
            table.insert_unique(entry.key.0, n, |n| self.key(*n).map_or(0, |key| key.0));
        }
        table
    }

    /// Adds what was read.
    fn take(&mut self, tray: Tray) {
        if tray.entries.is_empty() {
            return;
        }
        let first = self.segments.len();
        for packer in tray.full.into_iter().chain([tray.packer]) {
            self.segments.push(Segment::Here(packer.into_octets()));
        }
        self.entries
            .extend(tray.entries.into_iter().filter_map(|entry| {
                let segment = first + usize::from(entry.segment);
                Some(Entry {
                    segment: u16::try_from(segment).ok()?,
                    ..entry
                })
            }));
        self.skipped.extend(tray.skipped);
    }
}

/// Whether the mail of this key is unknown; if it turns out to be a broken one, where it lies.
type Unknown<'a> = &'a mut (dyn FnMut(Key, &dyn Fn() -> String) -> bool + Send);

/// Reads the mails of a Maildir that are unknown, several at a time.
fn read_maildir(maildir: &Path, tray: &Tray, unknown: Unknown) -> Result<Vec<Tray>, SourceError> {
    let (give, take) = sync_channel::<Batch>(THREADS);
    let take = Mutex::new(take);
    thread::scope(|scope| {
        let work = || tray.another().fill(&take);
        let trays: Vec<_> = (0..THREADS).map(|_| scope.spawn(work)).collect();
        let mut batch = Batch::default();
        let listed = maildir::list(maildir, |mail| {
            if unknown(mail.key, &|| mail.path().display().to_string())
                && (batch.count() == BATCH_MAILS || !batch.take(&mail))
            {
                // It fails where no thread is left, which joining tells.
                let _ = give.send(std::mem::take(&mut batch));
                batch.take(&mail);
            }
        });
        let _ = give.send(batch);
        drop(give);
        let trays = trays.into_iter().map(|tray| {
            let panicked = |_| io::Error::other("a thread that read it failed");
            let tray = tray.join().map_err(panicked);
            tray.map_err(SourceError::unreadable(maildir))
        });
        let trays = trays.collect::<Result<Vec<_>, _>>()?;
        listed.map(|()| trays)
    })
}

/// Reads the mails of a folder on a server that are unknown.
fn read_folder(
    folder: &Folder,
    source: &Source,
    mut tray: Tray,
    unknown: Unknown,
) -> Result<Vec<Tray>, SourceError> {
    folder.visit(
        read::REPORT_OCTETS_MAX,
        read::may_be_report,
        |key, uid| unknown(key, &|| source.nth(uid).to_string()),
        |key, uid, found| tray.mail(key, found, || source.nth(uid).to_string()),
    )?;
    Ok(vec![tray])
}

/// What a mail tells.
enum Read {
    Report(Box<Received>),
    Notice(Box<Notice>),
}

impl Read {
    fn of(mail: &[u8]) -> Result<Option<Self>, String> {
        let report = report::read(mail).map_err(|why| why.to_string())?;
        let report = report.map(|report| Self::Report(Box::new(report)));
        Ok(report.or_else(|| Some(Self::Notice(Box::new(notice::read(mail)?)))))
    }
}

fn hash_of(id: &TrackingId) -> u64 {
    let mut hash = DefaultHasher::new();
    id.hash(&mut hash);
    hash.finish()
}

/// The key of what has none.
const NO_KEY: Key = Key(0);

/// What one thread reads.
#[derive(Default)]
struct Tray {
    secret: Option<Secret>,
    /// How many mails were looked at so far, by all threads.
    looked_at: Arc<AtomicUsize>,
    full: Vec<Packer>,
    packer: Packer,
    entries: Vec<Entry>,
    skipped: Vec<(String, String)>,
}

impl Tray {
    fn new(secret: Option<&Secret>, looked_at: &Arc<AtomicUsize>) -> Self {
        Self {
            secret: secret.cloned(),
            looked_at: Arc::clone(looked_at),
            ..Self::default()
        }
    }

    /// An empty one for another thread.
    fn another(&self) -> Self {
        Self::new(self.secret.as_ref(), &self.looked_at)
    }

    /// Reads files as long as there are any.
    fn fill(mut self, batches: &Mutex<Receiver<Batch>>) -> Self {
        let mut room = Room::default();
        let next = || {
            let batches = batches.lock().unwrap_or_else(PoisonError::into_inner);
            batches.recv()
        };
        while let Ok(batch) = next() {
            for mail in batch.mails() {
                self.file(&mut room, &mail);
            }
            // All at once: the threads take this number from each other.
            self.looked_at.fetch_add(batch.count(), Ordering::Relaxed);
        }
        self
    }

    fn file(&mut self, room: &mut Room, mail: &Seen) {
        let found = room.opened(mail.open(), read::REPORT_OCTETS_MAX, read::may_be_report);
        if let Some(found) = found {
            self.keep(mail.key, found, || mail.path().display().to_string());
        }
    }

    fn mail(&mut self, key: Key, found: Found, place: impl FnOnce() -> String) {
        self.looked_at.fetch_add(1, Ordering::Relaxed);
        self.keep(key, found, place);
    }

    fn keep(&mut self, key: Key, found: Found, place: impl FnOnce() -> String) {
        self.make_room();
        let read = match found {
            Ok(None) => Ok(None),
            Ok(Some(octets)) => Read::of(octets),
            Err(why) => Err(why.to_string()),
        };
        let mut id = 0;
        let (kind, kept) = match read {
            Ok(None) => (Kind::Other, Some(0)),
            Ok(Some(Read::Report(received))) => {
                let judged = Judged::by(*received, self.secret.as_ref().into());
                id = hash_of(&judged.report.id);
                (Kind::Report, self.packer.push(&judged))
            }
            Ok(Some(Read::Notice(notice))) => (Kind::Notice, self.packer.push_notice(&notice)),
            Err(why) => {
                let kept = self.packer.push_words(&why);
                self.skipped.push((place(), why));
                (Kind::Broken, kept)
            }
        };
        self.enter(key, kind, id, kept);
    }

    fn make_room(&mut self) {
        if self.packer.len() > SEGMENT_OCTETS {
            self.full.push(std::mem::take(&mut self.packer));
        }
    }

    /// A place is always there: a record is far smaller than what a segment may hold beyond its limit.
    fn enter(&mut self, key: Key, kind: Kind, id: u64, kept: Option<u32>) {
        let segment = u16::try_from(self.full.len()).unwrap_or(u16::MAX);
        self.entries.extend(kept.map(|place| Entry {
            key,
            kind,
            id,
            segment,
            place,
        }));
    }
}
