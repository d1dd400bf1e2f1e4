//! The reports in some sources, read again as often as one likes, and put together one message at a time, so that
//! a million of them need no more memory than their packed records; and what is kept of messages, so that most of
//! them need not be put together again.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, PoisonError};

use super::Trails;
use super::gist::{Gists, Of};
use super::groups::{Group, Groups, Member, Together};
use super::index::Index;
use super::source::{Source, SourceError};
use super::stock::{Entry, Kind, Stock};
use super::unpack;
pub use super::unpack::About;
use crate::report::notice::Notice;
use crate::track::Secret;

/// What was read so far.
pub struct Reports {
    secret: Option<Secret>,
    stocks: Vec<(Source, Stock)>,
    /// Of each source, if its mails have keys.
    indexes: Vec<Option<Index>>,
    looking: Arc<AtomicUsize>,
    /// What is kept of messages.
    pub(super) gists: Gists,
    /// What all of it tells of each message.
    pub(super) together: OnceLock<Together>,
}

impl Reports {
    /// Nothing yet of these sources. Reports will be proved with this secret.
    pub fn of(sources: impl IntoIterator<Item = Source>, secret: Option<&Secret>) -> Self {
        let stocks = sources.into_iter().map(|source| (source, Stock::default()));
        Self {
            secret: secret.cloned(),
            stocks: stocks.collect(),
            indexes: Vec::new(),
            looking: Arc::default(),
            gists: Gists::default(),
            together: OnceLock::new(),
        }
    }

    /// Starts with what is known of these sources in a directory of [indexes](super::index), and keeps it there.
    #[must_use]
    pub fn indexed_in(mut self, directory: &Path) -> Self {
        let (secret, gists) = (self.secret.as_ref(), &mut self.gists);
        let load = |(source, stock): &mut (Source, Stock)| {
            source.has_keys().then(|| {
                let mut index = Index::of(directory, source, secret);
                let (known, blocks) = index.load();
                *stock = known;
                for block in blocks {
                    gists.add(block);
                }
                index
            })
        };
        self.indexes = self.stocks.iter_mut().map(load).collect();
        self
    }

    /// How many mails the last update has looked at, known ones among them: rises while it runs.
    pub fn looking(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.looking)
    }

    /// Reads what came since the last time and forgets what is gone. Whether anything did.
    pub fn update(&mut self) -> Result<bool, SourceError> {
        self.keep();
        self.together = OnceLock::new();
        self.looking.store(0, Ordering::Relaxed);
        let mut changed = false;
        for (n, (source, stock)) in self.stocks.iter_mut().enumerate() {
            let is_other = stock.update(source, self.secret.as_ref(), &self.looking)?;
            changed |= is_other;
            let index = self.indexes.get_mut(n).and_then(Option::as_mut);
            let is_new_file = index.is_some_and(|index| index.save(stock));
            // What has no key cannot be told from what was there before.
            if is_new_file || is_other && !source.has_keys() {
                self.gists = Gists::default();
            }
        }
        Ok(changed)
    }

    /// Keeps what is new of messages, in the index too if there is just one source.
    pub fn keep(&mut self) {
        let Some(together) = self.together.get_mut() else {
            return;
        };
        let anew = together.anew.get_mut();
        let anew = std::mem::take(anew.unwrap_or_else(PoisonError::into_inner));
        let new = std::mem::take(&mut together.new).into_blocks();
        for block in new.into_iter().chain(anew) {
            self.gists.add(block);
        }
        let ([Some(index)], [(_, stock)]) = (&mut *self.indexes, &*self.stocks) else {
            return;
        };
        if self.gists.are_mostly_old() {
            self.gists = Gists::default();
            index.renew(stock);
        } else {
            index.keep(&self.gists);
        }
    }

    /// What all of it tells.
    pub fn trails(&self) -> Trails {
        self.all().trails()
    }

    /// The reports on all messages.
    pub fn all(&self) -> Groups<'_> {
        let when = |members: &[Member]| {
            if let Some(gist) = self.gists.find(self.of_members(members)) {
                return Some((gist.when_us, true));
            }
            let kept = members.iter().filter_map(|member| self.kept(member));
            let when = kept.filter_map(|(octets, place)| unpack::when_us(octets, place));
            Some((when.min()?, false))
        };
        self.groups_where(when).that_are_all()
    }

    /// The reports on the messages of which at least one says what is `wanted`.
    pub fn groups(&self, wanted: impl Fn(&About) -> bool) -> Groups<'_> {
        let when = |members: &[Member]| {
            let about = || members.iter().filter_map(|member| self.about(member));
            about().any(|about| wanted(&about)).then_some(())?;
            Some((about().map(|about| about.when_us).min()?, false))
        };
        self.groups_where(when)
    }

    /// The reports on messages, where `when` tells when one set out, and whether there is a gist of it.
    fn groups_where(&self, when: impl Fn(&[Member]) -> Option<(i64, bool)>) -> Groups<'_> {
        let mut members = Vec::new();
        for (stock, (_, of)) in (0..).zip(&self.stocks) {
            let entries = (0..).zip(&of.entries);
            let reports = entries.filter(|(_, entry)| entry.kind == Kind::Report);
            let member = |(entry, of): (u32, &Entry)| Member {
                id: of.id,
                entry,
                stock,
            };
            members.extend(reports.map(member));
        }
        members.sort_unstable_by_key(|m| (m.id, m.stock, m.entry));
        let mut start = 0;
        let groups = members.chunk_by(|a, b| a.id == b.id).filter_map(|of| {
            let from = start;
            start += of.len();
            let (when_us, known) = when(of)?;
            Some(Group {
                when_us,
                from,
                to: start,
                known,
            })
        });
        let groups = groups.collect();
        Groups::new(self, members, groups)
    }

    pub(super) fn notices(&self) -> Vec<Notice> {
        let notices = self.stocks.iter().flat_map(|(_, stock)| {
            let notices = stock.entries.iter().filter(|e| e.kind == Kind::Notice);
            notices.filter_map(|entry| unpack::notice(stock.octets(entry), entry.place))
        });
        notices.collect()
    }

    /// What was looked at, no message among it.
    pub fn looked_at(&self) -> Trails {
        let mut trails = Trails::default();
        for (_, stock) in &self.stocks {
            let reports = stock.entries.iter().filter(|e| e.kind == Kind::Report);
            trails.counts.mails += stock.entries.len();
            trails.counts.reports += reports.count();
            trails.skipped.extend(stock.skipped.iter().cloned());
        }
        trails
    }

    fn entry(&self, member: &Member) -> Option<(&Stock, &Entry)> {
        let (_, stock) = self.stocks.get(usize::from(member.stock))?;
        let entry = stock.entries.get(usize::try_from(member.entry).ok()?)?;
        Some((stock, entry))
    }

    pub(super) fn kept(&self, member: &Member) -> Option<(&[u8], u32)> {
        let (stock, entry) = self.entry(member)?;
        Some((stock.octets(entry), entry.place))
    }

    /// The tracking id that a report claims.
    pub(super) fn id(&self, member: &Member) -> Option<&str> {
        let (octets, place) = self.kept(member)?;
        unpack::id(octets, place)
    }

    fn about(&self, member: &Member) -> Option<About<'_>> {
        let (octets, place) = self.kept(member)?;
        unpack::about(octets, place)
    }

    /// What a gist of these reports is of.
    pub(super) fn of_members(&self, members: &[Member]) -> Of {
        let keys = members
            .iter()
            .filter_map(|member| Some(self.entry(member)?.1.key.0));
        Of {
            id: members.first().map_or(0, |first| first.id),
            keys: keys.fold(0, u64::wrapping_add),
            reports: u32::try_from(members.len()).unwrap_or(u32::MAX),
        }
    }
}
