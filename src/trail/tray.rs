//! What one thread reads of a source: of each mail its key, and what is to be kept of it, packed. A mail that may
//! still be being written gets no key, so that it is unknown the next time.

use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use super::Truth;
use super::entry::{Entry, Kind, SHARES_BITS, share_of};
use super::pack::Packer;
use super::scratch::Scratch;
use super::segment::Segment;
use super::source::maildir::Batch;
use super::source::{Found, HEAD_OCTETS, Key, Room, packed};
use super::verify::{Judged, judged};
use crate::report::notice::{self, Notice};
use crate::report::{self, Received, extent, read};
use crate::track::{Secret, TrackingId};

/// How many records a thread holds, octets, until they become segments. Tests have fewer.
const HELD_OCTETS: usize = if cfg!(test) { 32 << 10 } else { 1 << 20 };

/// Reports are told apart by their messages, so that those on one lie near each other, if a thread reads more than
/// this, octets.
const FEW_OCTETS: usize = HELD_OCTETS / 16;

/// A mail that lacks its end, in a file that was changed within this, is taken to be still being written, s.
const WRITTEN_WITHIN_S: i64 = 60;

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

/// Whether there is something to tell of a mail that begins so.
pub fn is_told_of(head: &[u8]) -> bool {
    read::may_be_report(head) || packed::kind(head).is_some()
}

/// Whether more of a mail may follow; one that is cut off since it is too large has more.
fn lacks_its_end(mail: &[u8]) -> bool {
    let is_cut = mail.len() > read::REPORT_OCTETS_MAX;
    !is_cut && packed::kind(mail).is_none() && !extent::is_whole(mail)
}

/// By the time of the last change that nobody can set; one that is still to come shows that a clock is wrong.
fn was_just_changed(file: &File) -> bool {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok();
    let now_s = now.and_then(|now| i64::try_from(now.as_secs()).ok());
    let changed_s = file.metadata().map(|meta| meta.ctime()).ok();
    let passed_s = now_s
        .zip(changed_s)
        .map(|(now, changed)| now.saturating_sub(changed));
    passed_s.is_some_and(|passed| passed < WRITTEN_WITHIN_S)
}

/// The key of what has none, or is to be looked at again.
pub const NO_KEY: Key = Key(0);

/// A segment that is written at.
#[derive(Default)]
struct Open {
    /// Its place among the segments, once something was written.
    segment: Option<usize>,
    packer: Option<Packer>,
}

/// What one thread reads.
#[derive(Default)]
pub struct Tray<'a> {
    secret: Option<Secret>,
    /// How many mails were looked at so far, by all threads.
    looked_at: Arc<AtomicUsize>,
    /// Where there is room for more than can be held.
    scratch: Option<&'a Scratch>,
    /// Those that are written at.
    open: [Open; 1 + (1 << SHARES_BITS)],
    held_octets: usize,
    /// Room for the canonical form of one report after the other.
    canonical: String,
    /// There are enough reports to tell them apart.
    are_many: bool,
    pub segments: Vec<Segment>,
    pub entries: Vec<Entry>,
    /// Where the broken ones lie, and what is wrong with them.
    pub skipped: Vec<(String, String)>,
    /// One of them may still be being written.
    pub is_growing: bool,
}

impl<'a> Tray<'a> {
    /// An empty one.
    pub fn new(
        secret: Option<&Secret>,
        looked_at: &Arc<AtomicUsize>,
        scratch: Option<&'a Scratch>,
    ) -> Self {
        Self {
            secret: secret.cloned(),
            looked_at: Arc::clone(looked_at),
            scratch,
            ..Self::default()
        }
    }

    /// An empty one for another thread.
    pub fn another(&self) -> Self {
        Self::new(self.secret.as_ref(), &self.looked_at, self.scratch)
    }

    /// Reads files as long as there are any.
    pub fn fill(mut self, batches: &Mutex<Receiver<Batch>>) -> Self {
        let mut room = Room::default();
        let next = || {
            let batches = batches.lock().unwrap_or_else(PoisonError::into_inner);
            batches.recv()
        };
        while let Ok(batch) = next() {
            for mail in batch.mails() {
                let place = || mail.path().display().to_string();
                self.file(&mut room, mail.key, mail.open(), place);
            }
            // All at once: the threads take this number from each other.
            self.looked_at(batch.count());
        }
        self.close();
        // Two that are in order are soon in one; of one message, threads read them in any order.
        self.entries.sort_unstable_by_key(|entry| entry.message);
        self
    }

    /// So many mails more were looked at.
    pub fn looked_at(&self, mails: usize) {
        self.looked_at.fetch_add(mails, Ordering::Relaxed);
    }

    /// Reads the mail in a file, if that was not moved or deleted since it was listed.
    pub fn file(
        &mut self,
        room: &mut Room,
        key: Key,
        file: io::Result<File>,
        place: impl FnOnce() -> String,
    ) {
        let file = match file {
            Err(why) if why.kind() == io::ErrorKind::NotFound => return,
            Err(why) => return self.broken(NO_KEY, why.to_string(), place),
            Ok(file) => file,
        };
        let head = match room.begin(&file) {
            Err(why) => return self.broken(NO_KEY, why.to_string(), place),
            Ok(head) => head,
        };
        let is_all = head.len() < HEAD_OCTETS;
        // Most mails here are those, and have come whole.
        if is_all && let Some(report) = read::read_usual(head, &mut self.canonical) {
            return match report {
                Ok(report) => self.report(key, report),
                Err(why) => self.broken(key, why.to_string(), place),
            };
        }
        // What has no end of its header yet may become one.
        if !is_told_of(head) && extent::has_header(head) {
            return self.keep(key, Ok(None), place);
        }
        let found = if is_all {
            Ok(head)
        } else {
            room.go_on(&file, read::REPORT_OCTETS_MAX)
        };
        match found {
            Ok(mail) if lacks_its_end(mail) => self.unfinished(key, mail, &file, place),
            found => self.keep(key, found.map(Some), place),
        }
    }

    /// Reads a mail that lacks its end: as long as that may still come, it is none.
    fn unfinished(&mut self, key: Key, mail: &[u8], file: &File, place: impl FnOnce() -> String) {
        let is_fresh = was_just_changed(file);
        self.is_growing |= is_fresh;
        if mail.is_empty() {
            self.broken(NO_KEY, "is empty".to_owned(), place);
        } else if is_fresh {
            let why =
                "its end is missing; it may still be being written, so look again in a minute";
            self.broken(NO_KEY, why.to_owned(), place);
        } else if let Err(why) = Read::of(mail) {
            // Whoever wrote it may go on yet.
            self.broken(NO_KEY, why, place);
        } else {
            self.keep(key, Ok(Some(mail)), place);
        }
    }

    /// Reads a mail out of a file that may hold more of them, and says so where others stand behind it that nothing tells
    /// apart: what is read must not be taken for all.
    pub fn among_others(&mut self, found: Found, place: impl Fn() -> String) {
        const MORE: &str = "more mail follows behind this one, and is not read; name the Maildir it is from, or give an \
                            mbox, with an empty line in front of each From line";
        let mut own = found;
        if let Ok(Some(mail)) = &mut own
            && let Some((alone, _)) =
                extent::next_mail(mail).and_then(|at| mail.split_at_checked(at))
        {
            *mail = alone;
            self.skipped.push((place(), MORE.to_owned()));
        }
        self.mail(NO_KEY, own, place);
    }

    /// Reads a mail that was found whole.
    pub fn mail(&mut self, key: Key, found: Found, place: impl FnOnce() -> String) {
        self.looked_at(1);
        self.keep(key, found, place);
    }

    fn keep(&mut self, key: Key, found: Found, place: impl FnOnce() -> String) {
        let read = match found {
            Ok(None) => Ok(None),
            Ok(Some(octets)) => match packed::kind(octets) {
                Some(kind) => Err(format!(
                    "{kind}, as some servers keep mail, and not read; name the mailbox on its server (imaps://USER@HOST), \
                     which unpacks it, or an unpacked copy"
                )),
                None => Read::of(octets),
            },
            Err(why) => return self.broken(NO_KEY, why.to_string(), place),
        };
        match read {
            Ok(None) => self.enter(Entry::new(key, Kind::Other), |_| Some(0)),
            Ok(Some(Read::Report(received))) => self.report(key, *received),
            Ok(Some(Read::Notice(notice))) => {
                let entry = Entry::new(key, Kind::Notice);
                self.enter(entry, |packer| packer.push_notice(&notice));
            }
            Err(why) => self.broken(key, why, place),
        }
    }

    /// Enters a report as what it is proved to be.
    fn report(&mut self, key: Key, mut received: Received) {
        let (truth, named) = judged(&received, self.secret.as_ref().into());
        self.canonical = std::mem::take(&mut received.canonical);
        let judged = Judged::of(received, truth);
        let id = hash_of(&judged.report.id);
        let kind = match judged.truth {
            Truth::Verified => Kind::Proved,
            _ => Kind::Report,
        };
        let entry = Entry {
            message: named.map_or(id, |named| named.number()),
            id,
            ..Entry::new(key, kind)
        };
        self.enter(entry, |packer| packer.push(&judged));
    }

    fn broken(&mut self, key: Key, why: String, place: impl FnOnce() -> String) {
        let entry = Entry::new(key, Kind::Broken);
        self.enter(entry, |packer| packer.push_words(&why));
        self.skipped.push((place(), why));
    }

    /// Enters a mail, of which `pack` keeps what there is to keep, wherever that was. A place is always there: a segment
    /// ends long before there is no room for more.
    pub fn enter(&mut self, entry: Entry, pack: impl FnOnce(&mut Packer) -> Option<u32>) {
        if self.held_octets > HELD_OCTETS {
            self.close();
        }
        let share = if self.are_many && entry.is_report() {
            1 + share_of(entry.message)
        } else {
            0
        };
        let Some(open) = self.open.get_mut(share) else {
            return;
        };
        let segments = &mut self.segments;
        let segment = *open.segment.get_or_insert_with(|| {
            segments.push(Segment::Here(Vec::new()));
            segments.len() - 1
        });
        let packer = open.packer.get_or_insert_default();
        let before = packer.octets().len();
        let kept = pack(packer);
        self.held_octets += packer.octets().len() - before;
        self.are_many |= self.held_octets > FEW_OCTETS;
        let segment = u16::try_from(segment).unwrap_or(u16::MAX);
        self.entries.extend(kept.map(|place| Entry {
            segment,
            place,
            ..entry
        }));
    }

    /// Makes segments of what is held: out of memory if there are many, else here.
    pub fn close(&mut self) {
        let are_many = |s: &&Scratch| self.held_octets > HELD_OCTETS || s.is_begun();
        let scratch = self.scratch.filter(are_many);
        for open in &mut self.open {
            let place = open.segment.take().and_then(|n| self.segments.get_mut(n));
            let (Some(segment), Some(mut packer)) = (place, open.packer.take()) else {
                continue;
            };
            let stored = scratch.and_then(|scratch| scratch.put(packer.octets()));
            if let Some(stored) = stored {
                *segment = stored;
                packer.clear();
                open.packer = Some(packer);
            } else {
                *segment = Segment::Here(packer.into_octets());
            }
        }
        self.held_octets = 0;
    }
}
