//! The reports in some sources, read again as often as one likes: a mail in a Maildir is opened once.

use std::collections::HashMap;
use std::path::Path;

use super::source::{Found, Place, Room, Source, SourceError, maildir};
use super::{Message, Trails, assemble, notices};
use crate::report::notice::{self, Notice};
use crate::report::read::{REPORT_OCTETS_MAX, may_be_report};
use crate::report::{self, Received};
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

    /// Gives messages that were put together elsewhere the words of others about them.
    pub fn join_words(&self, messages: &mut [Message]) {
        let mails = self.shelves.iter().flat_map(|(_, shelf)| shelf.mails());
        let said = mails.filter_map(|mail| match mail {
            Mail::Notice(notice) => Some((**notice).clone()),
            _ => None,
        });
        notices::join(messages, &said.collect::<Vec<_>>());
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
            Source::Maildir(path) => return self.update_maildir(path),
            // What it gave before is gone.
            Source::Stdin if !self.loose.is_empty() => return Ok(false),
            _ => {}
        }
        self.loose.clear();
        source.visit(REPORT_OCTETS_MAX, may_be_report, |place, found| {
            self.loose.push(Mail::of(found, place));
        })?;
        Ok(true)
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
            let read = || {
                let found = room.open(&path, REPORT_OCTETS_MAX, may_be_report)?;
                Some(Mail::of(found, Place::File(&path)))
            };
            if let Some(mail) = known.or_else(read) {
                self.kept.insert(key, mail);
            }
        })?;
        Ok(changed || !before.is_empty())
    }
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
