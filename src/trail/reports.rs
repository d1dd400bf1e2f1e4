//! The reports in some sources, read again as often as one likes: a mail in a Maildir is opened once.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::path::Path;

use super::source::{Found, Place, Room, Source, SourceError, directory, maildir, mbox};
use super::{Trails, assemble, notices};
use crate::report::notice::{self, Notice};
use crate::report::{self, Received, read};
use crate::track::Secret;

/// What was read so far.
pub struct Reports {
    secret: Option<Secret>,
    shelves: Vec<(Source, Shelf)>,
}

impl Reports {
    /// Nothing yet of these sources. Reports will be proved with this secret.
    pub fn of(sources: impl IntoIterator<Item = Source>, secret: Option<&Secret>) -> Self {
        let shelves = sources.into_iter().map(|source| (source, Shelf::default()));
        Self {
            secret: secret.cloned(),
            shelves: shelves.collect(),
        }
    }

    /// Reads what came since the last time and forgets what is gone. Whether anything did.
    pub fn update(&mut self) -> Result<bool, SourceError> {
        let mut changed = false;
        for (source, shelf) in &mut self.shelves {
            changed |= shelf.update(source)?;
        }
        Ok(changed)
    }

    /// What all of it tells.
    pub fn trails(&self) -> Trails {
        let mut trails = Trails::default();
        let (mut received, mut said) = (Vec::new(), Vec::new());
        for mail in self.shelves.iter().flat_map(|(_, shelf)| shelf.mails()) {
            trails.counts.mails += 1;
            match mail {
                Mail::Other => {}
                Mail::Report(report) => received.push((**report).clone()),
                Mail::Notice(notice) => said.push((**notice).clone()),
                Mail::Broken { place, why } => trails.skipped.push((place.clone(), why.clone())),
            }
        }
        trails.skipped.sort();
        trails.counts.reports = received.len();
        (trails.messages, trails.not_ours) = assemble::assemble(received, self.secret.as_ref());
        notices::join(&mut trails.messages, &said);
        trails
    }
}

/// What was read out of one source.
#[derive(Default)]
struct Shelf {
    /// By the keys of a Maildir.
    kept: HashMap<maildir::Key, Mail>,
    /// Those that are read anew each time.
    loose: Vec<Mail>,
}

/// What a mail turned out to be.
enum Mail {
    Report(Box<Received>),
    Notice(Box<Notice>),
    Broken { place: String, why: String },
    Other,
}

impl Shelf {
    fn mails(&self) -> impl Iterator<Item = &Mail> {
        self.kept.values().chain(&self.loose)
    }

    fn update(&mut self, source: &Source) -> Result<bool, SourceError> {
        match source {
            Source::Maildir(path) => self.update_maildir(path),
            Source::Directory(path) => {
                self.loose.clear();
                let mut room = Room::default();
                for path in directory::mails(path).map_err(SourceError::unreadable(path))? {
                    self.loose.extend(mail_in(&path, &mut room));
                }
                Ok(true)
            }
            Source::File(path) => {
                let file = File::open(path).map_err(SourceError::unreadable(path))?;
                self.read_stream(source, file);
                Ok(true)
            }
            // What it gave before is gone.
            Source::Stdin if !self.loose.is_empty() => Ok(false),
            Source::Stdin => {
                self.read_stream(source, io::stdin().lock());
                Ok(true)
            }
        }
    }

    fn update_maildir(&mut self, path: &Path) -> Result<bool, SourceError> {
        let mut room = Room::default();
        let mut before = std::mem::take(&mut self.kept);
        let mut changed = false;
        maildir::list(path, |key, path| {
            if self.kept.contains_key(&key) {
                return;
            }
            let known = before.remove(&key);
            changed |= known.is_none();
            if let Some(mail) = known.or_else(|| mail_in(&path, &mut room)) {
                self.kept.insert(key, mail);
            }
        })?;
        Ok(changed || !before.is_empty())
    }

    fn read_stream(&mut self, source: &Source, stream: impl io::Read) {
        self.loose.clear();
        let wanted = read::may_be_report;
        mbox::visit(stream, read::REPORT_OCTETS_MAX, wanted, |found| {
            let place = Place::Within(source, self.loose.len() + 1);
            self.loose.push(Mail::of(found, place));
        });
    }
}

/// The mail in a file; `None` if it was moved or deleted since it was listed.
fn mail_in(path: &Path, room: &mut Room) -> Option<Mail> {
    let found = match File::open(path) {
        Err(why) if why.kind() == io::ErrorKind::NotFound => return None,
        Err(why) => Err(why),
        Ok(file) => room.read(file, read::REPORT_OCTETS_MAX, read::may_be_report),
    };
    Some(Mail::of(found, Place::File(path)))
}

impl Mail {
    fn of(found: Found, place: Place) -> Self {
        let broken = |why: &dyn std::fmt::Display| Self::Broken {
            place: place.to_string(),
            why: why.to_string(),
        };
        let mail = match found {
            Ok(Some(mail)) => mail,
            Ok(None) => return Self::Other,
            Err(why) => return broken(&why),
        };
        match report::read(mail) {
            Ok(Some(report)) => Self::Report(Box::new(report)),
            Ok(None) => notice::read(mail).map_or(Self::Other, |said| Self::Notice(Box::new(said))),
            Err(why) => broken(&why),
        }
    }
}
