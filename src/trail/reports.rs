//! The reports in some sources, read again as often as one likes, and put together one message at a time, so that
//! a million of them need no more memory than their packed records; and what is kept of messages, so that most of
//! them need not be put together again.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError};
use std::thread;

use super::Trails;
use super::entry::{Entry, Kind, share_of};
use super::gist::{Gists, Of};
use super::groups::{Group, Groups, Member};
use super::index::Index;
use super::kin::Kin;
use super::source::{Source, SourceError};
use super::stock::Stock;
use super::together::{Seeing, Together};
use super::unpack;
pub use super::unpack::About;
use crate::report::notice::Notice;
use crate::track::Secret;

/// So few messages are seen without letting go of records meanwhile. Tests have fewer.
const FEW: usize = if cfg!(test) { 64 } else { 4 << 10 };

/// What was read so far.
pub struct Reports {
    secret: Option<Secret>,
    stocks: Vec<(Source, Stock)>,
    /// What the secret does not prove counts, too.
    on_trust: bool,
    /// Of each source, if its mails have keys.
    indexes: Vec<Option<Index>>,
    looking: Arc<AtomicUsize>,
    /// All reports, those on one message side by side.
    members: Vec<Member>,
    /// Those on each message, the oldest first.
    groups: Vec<Group>,
    /// What is kept of messages.
    pub(super) gists: Gists,
    /// What all of it tells of each message.
    pub(super) together: Together,
}

impl Reports {
    /// Nothing yet of these sources. Reports will be proved with this secret.
    pub fn of(sources: impl IntoIterator<Item = Source>, secret: Option<&Secret>) -> Self {
        let stocks = sources.into_iter().map(|source| (source, Stock::default()));
        Self {
            secret: secret.cloned(),
            stocks: stocks.collect(),
            on_trust: false,
            indexes: Vec::new(),
            looking: Arc::default(),
            members: Vec::new(),
            groups: Vec::new(),
            gists: Gists::default(),
            together: Together::default(),
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

    /// Takes in what the secret does not prove, as if there were none to prove it by: in a mailbox of many people. What is
    /// kept of messages was made without, and none is kept.
    #[must_use]
    pub fn on_trust(self) -> Self {
        Self {
            on_trust: true,
            gists: Gists::default(),
            ..self
        }
    }

    /// Whether what the secret does not prove counts.
    pub(super) fn are_on_trust(&self) -> bool {
        self.on_trust
    }

    /// How many mails the last update has looked at, known ones among them: rises while it runs.
    pub fn looking(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.looking)
    }

    /// Reads what came since the last time and forgets what is gone. Whether anything did.
    pub fn update(&mut self) -> Result<bool, SourceError> {
        self.keep();
        (self.members, self.groups) = (Vec::new(), Vec::new());
        self.together = Together::default();
        let changed = self.read()?;
        self.group();
        self.see();
        Ok(changed)
    }

    fn read(&mut self) -> Result<bool, SourceError> {
        self.looking.store(0, Ordering::Relaxed);
        let mut changed = false;
        for (n, (source, stock)) in self.stocks.iter_mut().enumerate() {
            let mut index = self.indexes.get_mut(n).and_then(Option::as_mut);
            let scratch = index.as_deref().map(Index::scratch);
            let secret = self.secret.as_ref();
            let is_other = stock.update(source, secret, &self.looking, scratch.as_ref())?;
            changed |= is_other;
            let kept = index.as_mut().zip(scratch);
            let is_new_file = kept.is_some_and(|(index, scratch)| index.save(stock, scratch));
            // What has no key cannot be told from what was there before.
            if is_new_file || is_other && !source.has_keys() {
                self.gists = Gists::default();
            }
        }
        Ok(changed)
    }

    /// Puts the reports on each message side by side.
    fn group(&mut self) {
        let entries = || self.stocks.iter().flat_map(|(_, stock)| &stock.entries);
        let mut kin = Kin::among(entries);
        for (stock, (_, of)) in (0..).zip(&self.stocks) {
            let entries = (0..).zip(&of.entries);
            let reports = entries.filter(|(_, entry)| entry.is_report());
            let member = |(entry, of): (u32, &Entry)| Member {
                message: kin.of(of),
                entry,
                stock,
            };
            self.members.reserve(of.entries.len());
            self.members.extend(reports.map(member));
        }
        self.members.sort_by_key(|member| member.message);
        let mut start = 0;
        let alike = |a: &Member, b: &Member| a.message == b.message;
        let groups = self.members.chunk_by(alike).map(|of| {
            let from = start;
            start += u32::try_from(of.len()).unwrap_or(u32::MAX);
            Group {
                of: from..start,
                when_us: None,
                gist: None,
            }
        });
        self.groups = groups.collect();
    }

    /// Sees every message once, so that each can be told what all of them show.
    fn see(&mut self) {
        let mut groups = std::mem::take(&mut self.groups);
        let mut seeing = Seeing::among(self.notices());
        let mut rest = &mut *groups;
        while let Some(first) = rest.first() {
            let share = share_of(self.message_of(first));
            let end = match rest.len() {
                few @ ..=FEW => few,
                _ => rest.partition_point(|group| share_of(self.message_of(group)) <= share),
            };
            let (some, more) = rest.split_at_mut(end);
            let blocks = seeing.see(self, some);
            for (_, stock) in &mut self.stocks {
                stock.release();
            }
            for block in blocks {
                self.gists.add(block);
            }
            rest = more;
        }
        self.together = thread::scope(|scope| {
            scope.spawn(|| self.sort(&mut groups));
            seeing.settle()
        });
        self.groups = groups;
    }

    /// Puts the oldest message first.
    fn sort(&self, groups: &mut [Group]) {
        groups.sort_by(|a, b| {
            let by_time = a.when_us.cmp(&b.when_us);
            by_time.then_with(|| self.id_of(a).cmp(&self.id_of(b)))
        });
    }

    /// Keeps what is new of messages, in the index too if there is just one source.
    pub fn keep(&mut self) {
        if self.on_trust {
            return;
        }
        let anew = self.together.anew.get_mut();
        let anew = std::mem::take(anew.unwrap_or_else(PoisonError::into_inner));
        for block in anew {
            self.gists.add(block);
        }
        let ([Some(index)], [(_, stock)]) = (&mut *self.indexes, &mut *self.stocks) else {
            return;
        };
        if self.gists.are_mostly_old() {
            self.gists = Gists::default();
            self.groups.iter_mut().for_each(|group| group.gist = None);
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
        self.groups_where(|_| true)
    }

    /// The reports on the messages of which at least one says what is `wanted`.
    pub fn groups(&self, wanted: impl Fn(&About) -> bool) -> Groups<'_> {
        self.groups_where(|group| {
            let members = self.members(group).iter();
            let mut about = members.filter_map(|member| self.about(member));
            about.any(|about| wanted(&about))
        })
    }

    fn groups_where(&self, wanted: impl Fn(&Group) -> bool) -> Groups<'_> {
        let groups = self.groups.iter();
        let wanted = groups.filter(|group| group.when_us.is_some() && wanted(group));
        Groups {
            reports: self,
            by_message: wanted.cloned().collect(),
        }
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
        for (source, stock) in &self.stocks {
            let reports = stock.entries.iter().filter(|e| e.is_report());
            trails.counts.mails += stock.entries.len();
            trails.counts.reports += reports.count();
            trails.skipped.extend(stock.skipped.iter().cloned());
            trails.skipped.extend(source.unread());
        }
        trails
    }

    /// Whether a mail may still be being written, which changes none of the [places](Source::places).
    pub fn are_growing(&self) -> bool {
        self.stocks.iter().any(|(_, stock)| stock.is_growing)
    }

    /// How many mails and places could not be read.
    pub fn unread(&self) -> usize {
        self.looked_at().skipped.len()
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

    /// The tracking id of the message of a group.
    pub(super) fn id_of(&self, group: &Group) -> Option<&str> {
        if let Some(gist) = group.gist.and_then(|place| self.gists.read(place)) {
            return Some(gist.id);
        }
        let (octets, place) = self.kept(self.members(group).first()?)?;
        unpack::id(octets, place)
    }

    /// The tracking ids of the messages that a group may be: where something is not proved, that may be one of its own.
    pub(super) fn ids_of(&self, group: &Group) -> impl Iterator<Item = &str> {
        let members = self.members(group);
        let entry = |member: &Member| self.entry(member).map(|(_, entry)| entry);
        let first = members.first().and_then(entry).map(|entry| entry.id);
        let is_loose = |member: &Member| entry(member).is_some_and(|e| e.kind == Kind::Report);
        let several = Some(members).filter(|members| members.iter().any(is_loose));
        let others = several.into_iter().flatten();
        let others = others.filter(move |member| entry(member).map(|e| e.id) != first);
        let others = others.filter_map(|member| Some(self.about(member)?.id));
        self.id_of(group).into_iter().chain(others)
    }

    fn about(&self, member: &Member) -> Option<About<'_>> {
        let (octets, place) = self.kept(member)?;
        unpack::about(octets, place)
    }

    pub(super) fn members(&self, group: &Group) -> &[Member] {
        let place = |n: u32| usize::try_from(n).unwrap_or(usize::MAX);
        let of = place(group.of.start)..place(group.of.end);
        self.members.get(of).unwrap_or_default()
    }

    /// What the message of a group is known by.
    fn message_of(&self, group: &Group) -> u64 {
        self.members(group).first().map_or(0, |first| first.message)
    }

    /// What a gist of a group is of.
    pub(super) fn reports_of(&self, group: &Group) -> Of {
        let members = self.members(group);
        let entries = members.iter().filter_map(|member| self.entry(member));
        Of {
            message: self.message_of(group),
            keys: entries.fold(0, |sum, (_, entry)| entry.key.0.wrapping_add(sum)),
            reports: u32::try_from(members.len()).unwrap_or(u32::MAX),
        }
    }
}
