//! The reports in some sources, read again as often as one likes, and put together one message at a time, so that
//! a million of them need no more memory than their packed records.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::convert::Infallible;
use std::hash::{BuildHasher, RandomState};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering as Atomic};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, OnceLock};
use std::thread;

use super::assemble::put_together;
use super::index::Index;
use super::notices::{Found, Heard};
use super::pairs::{Clocks, Sights};
use super::source::{Source, SourceError};
use super::stock::{Kind, Stock, THREADS};
use super::unpack;
pub use super::unpack::About;
use super::{Message, NotOurs, Trails};
use crate::report::Origin;
use crate::report::notice::Notice;
use crate::track::Secret;

/// What was read so far.
pub struct Reports {
    secret: Option<Secret>,
    stocks: Vec<(Source, Stock)>,
    /// Of the sources whose mails have keys, by their places.
    indexes: HashMap<usize, Index>,
    looking: Arc<AtomicUsize>,
    /// What all of it tells of each message.
    together: OnceLock<Together>,
}

/// What only all reports together tell of a message: the clocks on its way, and which words of others are about it.
#[derive(Default)]
struct Together {
    clocks: Clocks,
    heard: Heard,
    found: Found,
}

impl Reports {
    /// Nothing yet of these sources. Reports will be proved with this secret.
    pub fn of(sources: impl IntoIterator<Item = Source>, secret: Option<&Secret>) -> Self {
        let stocks = sources.into_iter().map(|source| (source, Stock::default()));
        Self {
            secret: secret.cloned(),
            stocks: stocks.collect(),
            indexes: HashMap::new(),
            looking: Arc::default(),
            together: OnceLock::new(),
        }
    }

    /// Starts with what is known of these sources in a directory of [indexes](super::index), and keeps it there.
    #[must_use]
    pub fn indexed_in(mut self, directory: &Path) -> Self {
        for (n, (source, stock)) in self.stocks.iter_mut().enumerate() {
            if matches!(source, Source::Maildir(_) | Source::Imap(_)) {
                let mut index = Index::of(directory, source, self.secret.as_ref());
                *stock = index.load();
                self.indexes.insert(n, index);
            }
        }
        self
    }

    /// How many mails the last update has looked at, known ones among them: rises while it runs.
    pub fn looking(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.looking)
    }

    /// Reads what came since the last time and forgets what is gone. Whether anything did.
    pub fn update(&mut self) -> Result<bool, SourceError> {
        let mut changed = false;
        self.together = OnceLock::new();
        self.looking.store(0, Atomic::Relaxed);
        for (n, (source, stock)) in self.stocks.iter_mut().enumerate() {
            changed |= stock.update(source, self.secret.as_ref(), &self.looking)?;
            if let Some(index) = self.indexes.get_mut(&n) {
                index.save(stock);
            }
        }
        Ok(changed)
    }

    /// What all of it tells.
    pub fn trails(&self) -> Trails {
        self.groups(|_| true).trails()
    }

    /// The reports on the messages of which at least one says what is `wanted`.
    pub fn groups(&self, wanted: impl Fn(&About) -> bool) -> Groups<'_> {
        let hasher = RandomState::new();
        let mut members = Vec::new();
        for (n_of_stock, (_, stock)) in (0..).zip(&self.stocks) {
            for (n, entry) in (0..).zip(&stock.entries) {
                let is_report = entry.kind == Kind::Report;
                let about = is_report.then(|| unpack::about(stock.octets(entry), entry.place));
                members.extend(about.flatten().map(|about| Member {
                    when_us: about.when_us,
                    id_hash: hasher.hash_one(about.id),
                    entry: n,
                    stock: n_of_stock,
                    wanted: wanted(&about),
                }));
            }
        }
        members.sort_unstable_by_key(|m| (m.id_hash, m.when_us));
        for group in members.chunk_by_mut(Member::is_with) {
            let first_us = group.first().map_or(0, |m| m.when_us);
            let wanted = group.iter().any(|m| m.wanted);
            for member in group {
                (member.when_us, member.wanted) = (first_us, wanted);
            }
        }
        members.retain(|m| m.wanted);
        members.sort_unstable_by(|a, b| {
            let by_time = a.when_us.cmp(&b.when_us);
            by_time.then_with(|| {
                if a.is_with(b) {
                    Ordering::Equal
                } else {
                    self.id(a).cmp(&self.id(b))
                }
            })
        });
        Groups {
            reports: self,
            members,
        }
    }

    /// Sees every message once, so that each can be told what all of them show.
    fn together(&self) -> &Together {
        self.together.get_or_init(|| {
            let heard = Heard::new(self.notices());
            let see = |trails: Trails| {
                let (mut sights, mut found) = (Sights::default(), Found::default());
                for message in &trails.messages {
                    sights.see(message);
                    heard.see(message, &mut found);
                }
                (sights, found)
            };
            let (mut sights, mut found) = (Sights::default(), Found::default());
            let all = self.groups(|_| true);
            let seen = all.in_parts_untold(PART, see, |(more_sights, more_found)| {
                sights.join(more_sights);
                found.join(more_found);
                Ok::<(), Infallible>(())
            });
            let Ok(()) = seen;
            Together {
                clocks: sights.settle(),
                heard,
                found,
            }
        })
    }

    fn notices(&self) -> Vec<Notice> {
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

    fn id(&self, member: &Member) -> Option<&str> {
        let (octets, place) = self.kept(member)?;
        Some(unpack::about(octets, place)?.id)
    }

    fn kept(&self, member: &Member) -> Option<(&[u8], u32)> {
        let (_, stock) = self.stocks.get(usize::from(member.stock))?;
        let entry = stock.entries.get(usize::try_from(member.entry).ok()?)?;
        Some((stock.octets(entry), entry.place))
    }
}

impl Together {
    fn tell(&self, message: &mut Message) {
        self.clocks.tell(message);
        self.heard.tell(message, &self.found);
    }
}

/// Messages that are put together at a time where none is shown.
const PART: usize = 256;

/// A report among all.
#[derive(Clone, Copy)]
struct Member {
    /// When its message was first seen, µs.
    when_us: i64,
    /// The same for all reports on a message.
    id_hash: u64,
    entry: u32,
    stock: u16,
    wanted: bool,
}

impl Member {
    fn is_with(&self, other: &Self) -> bool {
        self.id_hash == other.id_hash
    }
}

/// Reports, those on one message side by side, the oldest message first.
pub struct Groups<'a> {
    reports: &'a Reports,
    members: Vec<Member>,
}

impl<'a> Groups<'a> {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// The tracking ids, each once.
    pub fn ids(&self) -> Vec<&'a str> {
        let groups = self.members.chunk_by(Member::is_with);
        groups
            .filter_map(|group| self.reports.id(group.first()?))
            .collect()
    }

    /// What they tell, all at once.
    pub fn trails(&self) -> Trails {
        let together = self.reports.together();
        let mut trails = self.reports.looked_at();
        assemble(self.reports, &self.members, &mut trails);
        trails.messages.iter_mut().for_each(|m| together.tell(m));
        let messages = &mut trails.messages;
        messages.sort_by_cached_key(|m| (m.sent_or_arrived_us(), m.id.clone()));
        let key = |n: &NotOurs| (n.id.clone(), n.host.clone(), n.from.clone());
        trails.not_ours.sort_by_cached_key(key);
        trails
    }

    /// What they tell, in parts of so many messages: made by `work` on several threads, and shown in their order.
    pub fn in_parts<T: Send, E>(
        &self,
        messages: usize,
        work: impl Fn(Trails) -> T + Sync,
        show: impl FnMut(T) -> Result<(), E>,
    ) -> Result<(), E> {
        let together = self.reports.together();
        let tell = |mut trails: Trails| {
            trails.messages.iter_mut().for_each(|m| together.tell(m));
            work(trails)
        };
        self.in_parts_untold(messages, tell, show)
    }

    /// The same of messages that know nothing of each other.
    fn in_parts_untold<T: Send, E>(
        &self,
        messages: usize,
        work: impl Fn(Trails) -> T + Sync,
        mut show: impl FnMut(T) -> Result<(), E>,
    ) -> Result<(), E> {
        let groups: Vec<&[Member]> = self.members.chunk_by(Member::is_with).collect();
        let parts: Vec<&[&[Member]]> = groups.chunks(messages).collect();
        let work = |part: &[&[Member]]| {
            let mut trails = Trails::default();
            for group in part {
                assemble(self.reports, group, &mut trails);
            }
            work(trails)
        };
        thread::scope(|scope| {
            let (parts, work) = (&parts, &work);
            let workers: Vec<_> = (0..THREADS)
                .map(|first| {
                    let (give, take) = sync_channel(THREADS);
                    scope.spawn(move || {
                        let mut mine = parts.iter().skip(first).step_by(THREADS);
                        // Nobody takes it where showing failed.
                        mine.try_for_each(|part| give.send(work(part)))
                    });
                    take
                })
                .collect();
            let in_turn = workers
                .iter()
                .cycle()
                .map_while(|worker| worker.recv().ok());
            in_turn.take(parts.len()).try_for_each(&mut show)
        })
    }
}

fn assemble(reports: &Reports, group: &[Member], into: &mut Trails) {
    let kept = group.iter().filter_map(|member| reports.kept(member));
    let judged = kept.filter_map(|(octets, place)| unpack::unpack(octets, place));
    let (messages, not_ours) = put_together(judged.map(|one| (one, Origin::Unchecked)));
    into.messages.extend(messages);
    into.not_ours.extend(not_ours);
}
