//! What was read of one mailbox: of each mail its key, and what is to be kept of it, packed.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, LazyLock, Mutex};
use std::thread;

use hashbrown::HashTable;

use super::entry::{Entry, Kind};
use super::reader::words_at;
use super::scratch::Scratch;
use super::segment::Segment;
use super::source::imap::Folder;
use super::source::maildir::{self, Batch};
use super::source::{Key, Room, Source, SourceError, directory};
use super::tray::{
    self, {NO_KEY, Tray},
};
use super::unpack::{notice as notice_at, unpack};
use crate::report::read;
use crate::track::Secret;

/// How many threads read mails, and put messages together. Most of the work of reading is the system's.
pub const THREADS: usize = 2;

/// How often a Maildir is read at most, in which mails are moved all the time. Only what is unknown is opened again.
const READINGS_MAX: usize = 10;

/// How many batches of mails are listed before somebody looks at them.
const LISTED: usize = 128;

/// The mails of a source.
#[derive(Default)]
pub struct Stock {
    /// The mails, by what their messages are known by.
    pub entries: Vec<Entry>,
    /// What is kept of them.
    pub segments: Vec<Segment>,
    /// Where the broken ones lie, and what is wrong with them.
    pub skipped: Vec<(String, String)>,
    /// What the source was like when its mails were these, if that can be told.
    pub state: Option<u64>,
    /// One of them may still be being written.
    pub is_growing: bool,
}

impl Stock {
    /// What is kept of a mail: a place in these octets.
    pub fn octets(&self, entry: &Entry) -> &[u8] {
        let segment = self.segments.get(usize::from(entry.segment));
        segment.map_or(&[], Segment::octets)
    }

    /// Lets go of records that can be read again.
    pub fn release(&mut self) {
        self.segments.iter_mut().for_each(Segment::release);
    }

    /// Reads what came into the source and forgets what is gone. Whether anything did. The scratch is for records that are
    /// too many to be held.
    pub fn update(
        &mut self,
        source: &Source,
        secret: Option<&Secret>,
        looked_at: &Arc<AtomicUsize>,
        scratch: Option<&Scratch>,
    ) -> Result<bool, SourceError> {
        let mut tray = Tray::new(secret, looked_at, scratch);
        match source {
            Source::Maildir(path) => {
                let state = maildir::state(path);
                // Where the broken ones lie is not kept.
                let whole = self.entries.iter().all(|e| e.kind != Kind::Broken);
                if whole && state.is_some() && state == self.state {
                    return Ok(false);
                }
                self.state = None;
                let changed = self.follow(path, &tray, looked_at)?;
                // What is still being written changes no directory.
                self.state = state.filter(|_| !self.is_growing);
                return Ok(changed);
            }
            Source::Imap(folder) => {
                return self.renew(looked_at, |unknown| {
                    read_folder(folder, source, tray, unknown)
                });
            }
            // What it gave before is gone.
            Source::Stdin if !self.entries.is_empty() => return Ok(false),
            Source::Directory(path) => read_directory(path, &mut tray)?,
            Source::Stdin | Source::File(_) => {
                let (limit, wanted) = (read::REPORT_OCTETS_MAX, tray::is_told_of);
                source.visit(limit, wanted, |place, found| {
                    tray.among_others(found, || place.to_string());
                })?;
            }
        }
        *self = Self::default();
        self.take(tray);
        self.order();
        Ok(true)
    }

    /// Reads a Maildir until nothing was moved in it meanwhile: what goes from `new` to `cur` is seen in neither by whoever
    /// looks there in the wrong order.
    fn follow(
        &mut self,
        maildir: &Path,
        tray: &Tray,
        looked_at: &AtomicUsize,
    ) -> Result<bool, SourceError> {
        let mut changed = false;
        for _ in 0..READINGS_MAX {
            let before = maildir::stamp(maildir);
            changed |= self.renew(looked_at, |unknown| read_maildir(maildir, tray, unknown))?;
            if before == maildir::stamp(maildir) {
                break;
            }
        }
        Ok(changed)
    }

    /// Forgets the mails that `read` does not ask about, and adds those that it reads since they are unknown.
    fn renew<'a>(
        &mut self,
        looked_at: &AtomicUsize,
        read: impl FnOnce(Unknown) -> Result<Vec<Tray<'a>>, SourceError>,
    ) -> Result<bool, SourceError> {
        // Made while the first ones are listed.
        let known = LazyLock::new(|| self.table());
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
        drop(known);
        let before = self.entries.len();
        let mut seen = seen.into_iter();
        self.entries.retain(|_| seen.next() == Some(true));
        let mut changed = self.entries.len() < before;
        self.skipped = skipped;
        self.is_growing = false;
        for tray in trays {
            changed |= !tray.entries.is_empty();
            self.take(tray);
        }
        self.order();
        self.skipped.sort();
        Ok(changed)
    }

    /// Packs what is left anew, in as few segments as can be.
    pub fn repack(&mut self) {
        let mut tray = Tray::default();
        for entry in &self.entries {
            let octets = self.octets(entry);
            let place = entry.place;
            tray.enter(*entry, |packer| match entry.kind {
                Kind::Other => Some(0),
                Kind::Report | Kind::Proved => packer.push(&unpack(octets, place)?),
                Kind::Broken => packer.push_words(words_at(octets, place)),
                Kind::Notice => packer.push_notice(&notice_at(octets, place)?),
            });
        }
        tray.skipped = std::mem::take(&mut self.skipped);
        *self = Self {
            state: self.state,
            is_growing: self.is_growing,
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
        let entries = (0..).zip(&self.entries);
        for (n, entry) in entries.filter(|(_, entry)| entry.key != NO_KEY) {
            table.insert_unique(entry.key.0, n, |n| self.key(*n).map_or(0, |key| key.0));
        }
        table
    }

    /// Puts the mails in their order.
    pub fn order(&mut self) {
        self.entries.sort_by_key(|entry| entry.message);
    }

    /// Adds what was read, in any order.
    fn take(&mut self, mut tray: Tray) {
        tray.close();
        let first = self.segments.len();
        self.segments.append(&mut tray.segments);
        self.entries
            .extend(tray.entries.into_iter().filter_map(|entry| {
                let segment = first + usize::from(entry.segment);
                Some(Entry {
                    segment: u16::try_from(segment).ok()?,
                    ..entry
                })
            }));
        self.skipped.extend(tray.skipped);
        self.is_growing |= tray.is_growing;
    }
}

/// Whether the mail of this key is unknown; if it turns out to be a broken one, where it lies.
type Unknown<'a> = &'a mut (dyn FnMut(Key, &dyn Fn() -> String) -> bool + Send);

/// Reads the mails of a Maildir that are unknown, several at a time, while others are looked up and listed.
fn read_maildir<'a>(
    maildir: &Path,
    tray: &Tray<'a>,
    unknown: Unknown,
) -> Result<Vec<Tray<'a>>, SourceError> {
    let (give, take) = sync_channel::<Batch>(THREADS);
    let take = Mutex::new(take);
    let (list, listed) = sync_channel::<Batch>(LISTED);
    thread::scope(|scope| {
        let work = || tray.another().fill(&take);
        let trays: Vec<_> = (0..THREADS).map(|_| scope.spawn(work)).collect();
        let listing = scope.spawn(move || {
            let mut batch = Batch::default();
            let listed = maildir::list(maildir, |mail| send(&list, batch.push(mail)));
            send(&list, Some(batch));
            listed
        });
        let mut batch = Batch::default();
        for mails in listed {
            for mail in mails.mails() {
                if unknown(mail.key, &|| mail.path().display().to_string()) {
                    send(&give, batch.push(mail));
                }
            }
        }
        send(&give, Some(batch));
        drop(give);
        let panicked = |_| io::Error::other("a thread that read it failed");
        let failed = |why| SourceError::unreadable(maildir)(panicked(why));
        let trays = trays.into_iter().map(|tray| tray.join().map_err(failed));
        let trays = trays.collect::<Result<Vec<_>, _>>()?;
        listing.join().map_err(failed)?.map(|()| trays)
    })
}

/// Reads the mails that were saved in a directory.
fn read_directory(path: &Path, tray: &mut Tray) -> Result<(), SourceError> {
    let mails = directory::mails(path).map_err(SourceError::unreadable(path))?;
    let mut room = Room::default();
    for path in mails {
        tray.file(&mut room, NO_KEY, File::open(&path), || {
            path.display().to_string()
        });
        tray.looked_at(1);
    }
    Ok(())
}

/// It fails where no thread is left to take it, which joining tells.
fn send(to: &SyncSender<Batch>, batch: Option<Batch>) {
    let _ = batch.map(|batch| to.send(batch));
}

/// Reads the mails of a folder on a server that are unknown.
fn read_folder<'a>(
    folder: &Folder,
    source: &Source,
    mut tray: Tray<'a>,
    unknown: Unknown,
) -> Result<Vec<Tray<'a>>, SourceError> {
    folder.visit(
        read::REPORT_OCTETS_MAX,
        read::may_be_report,
        |key, uid| unknown(key, &|| source.nth(uid).to_string()),
        |key, uid, found| tray.mail(key, found, || source.nth(uid).to_string()),
    )?;
    Ok(vec![tray])
}
