//! Reports by the message they are on, put together some messages at a time on several threads; with what only all of
//! them tell of each message. Must not know where they were read from, nor how what is kept of a message is packed.

use std::convert::Infallible;
use std::sync::mpsc::sync_channel;
use std::sync::{Mutex, PoisonError};
use std::thread;

use super::assemble::put_together;
use super::gist::{self, Block, Drawn, Gist, Gists, Of};
use super::notices::{Found, Heard};
use super::pairs::{self, Clocks, Sight, Sights, sights_of};
use super::render::View;
use super::render::line::Line;
use super::reports::Reports;
use super::stock::THREADS;
use super::unpack;
use super::{Message, NotOurs, Trails};
use crate::report::Origin;

/// What only all reports together tell of a message: the clocks on its way, and which words of others are about it.
#[derive(Default)]
pub struct Together {
    clocks: Clocks,
    heard: Heard,
    found: Found,
    /// What is new to be kept of messages: by what they tell themselves, and below by what all tell.
    pub new: Gists,
    /// The latter.
    pub anew: Mutex<Vec<Block>>,
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
pub struct Member {
    /// The same for all reports on a message.
    pub id: u64,
    /// The mail.
    pub entry: u32,
    /// Its source.
    pub stock: u16,
}

/// The reports on a message.
#[derive(Clone, Copy)]
pub struct Group {
    /// When its message was first seen, µs.
    pub when_us: i64,
    /// Its part of the members: from one on.
    pub from: usize,
    /// To in front of one.
    pub to: usize,
    /// There is a gist of them from an earlier run.
    pub known: bool,
}

/// Reports, those on one message side by side, the oldest message first.
pub struct Groups<'a> {
    reports: &'a Reports,
    members: Vec<Member>,
    by_message: Vec<Group>,
    /// There are no others.
    are_all: bool,
}

impl<'a> Groups<'a> {
    /// Groups of these members, whatever the order.
    pub fn new(reports: &'a Reports, members: Vec<Member>, groups: Vec<Group>) -> Self {
        let mut groups = Self {
            reports,
            members,
            by_message: groups,
            are_all: false,
        };
        groups.sort();
        groups
    }

    /// The same, and there are no others.
    #[must_use]
    pub fn that_are_all(self) -> Self {
        Self {
            are_all: true,
            ..self
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.by_message.is_empty()
    }

    /// The tracking ids, each once.
    pub fn ids(&self) -> Vec<&'a str> {
        self.by_message
            .iter()
            .filter_map(|group| self.id(group))
            .collect()
    }

    fn sort(&mut self) {
        let mut groups = std::mem::take(&mut self.by_message);
        groups.sort_by(|a, b| {
            let by_time = a.when_us.cmp(&b.when_us);
            by_time.then_with(|| self.id(a).cmp(&self.id(b)))
        });
        self.by_message = groups;
    }

    fn members(&self, group: &Group) -> &[Member] {
        self.members.get(group.from..group.to).unwrap_or_default()
    }

    fn id(&self, group: &Group) -> Option<&'a str> {
        match self.known(group) {
            Some(gist) => Some(gist.id),
            None => self.reports.id(self.members(group).first()?),
        }
    }

    /// What an earlier run kept of a message.
    fn known(&self, group: &Group) -> Option<Gist<'a>> {
        let of = group.known.then(|| self.of(group))?;
        self.reports.gists.find(of)
    }

    fn of(&self, group: &Group) -> Of {
        self.reports.of_members(self.members(group))
    }

    /// What only all reports tell of each message.
    fn together(&self) -> &'a Together {
        self.reports.together.get_or_init(|| {
            if self.are_all {
                self.seen()
            } else {
                self.reports.all().seen()
            }
        })
    }

    /// Sees every message once, so that each can be told what all of them show.
    fn seen(&self) -> Together {
        let mut together = Together {
            heard: Heard::new(self.reports.notices()),
            ..Together::default()
        };
        let mut sights = Sights::default();
        let Together {
            heard, found, new, ..
        } = &mut together;
        let see = |part: &[Group]| self.see(part, heard);
        let seen = self.in_turn(PART, see, |(more_sights, more_found, block)| {
            sights.join(more_sights);
            found.join(more_found);
            if let Some(block) = block {
                new.add(block);
            }
            Ok::<(), Infallible>(())
        });
        let Ok(()) = seen;
        together.clocks = sights.settle();
        together
    }

    /// What they tell, all at once.
    pub fn trails(&self) -> Trails {
        let together = self.together();
        let mut trails = self.reports.looked_at();
        for group in &self.by_message {
            self.assemble(group, &mut trails);
        }
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
        let together = self.together();
        let work = |part: &[Group]| {
            let mut trails = Trails::default();
            for group in part {
                self.assemble(group, &mut trails);
            }
            trails.messages.iter_mut().for_each(|m| together.tell(m));
            work(trails)
        };
        self.in_turn(messages, work, show)
    }

    /// A line of each message, in parts of so many, and with each part what is part of no message: drawn by `work` on
    /// several threads, and shown in their order.
    pub fn lines<T: Send, E>(
        &self,
        messages: usize,
        view: &View,
        work: impl Fn(Vec<Line>, Vec<NotOurs>) -> T + Sync,
        mut show: impl FnMut(T) -> Result<(), E>,
    ) -> Result<(), E> {
        let together = self.together();
        let draw = |part: &[Group]| {
            let (mut trails, mut lines) = (Trails::default(), Vec::with_capacity(part.len()));
            let mut anew = gist::Maker::default();
            for group in part {
                self.draw(group, view, &mut lines, &mut trails, &mut anew);
            }
            (work(lines, trails.not_ours), anew.block())
        };
        self.in_turn(messages, draw, |(drawn, block)| {
            let anew = together.anew.lock();
            anew.unwrap_or_else(PoisonError::into_inner).extend(block);
            show(drawn)
        })
    }

    /// Draws the lines of a group: as they were before, if that still holds.
    fn draw(
        &self,
        group: &Group,
        view: &View,
        lines: &mut Vec<Line>,
        trails: &mut Trails,
        anew: &mut gist::Maker,
    ) {
        let together = self.together();
        let of = self.of(group);
        let gist = together.new.find(of).or_else(|| self.known(group));
        let drawn = gist.map_or(Drawn::Not, |g| g.line(&together.clocks, &together.heard));
        let is_old = match drawn {
            Drawn::Holds(line) => return lines.push(line),
            Drawn::Old => true,
            Drawn::Not => false,
        };
        self.assemble(group, trails);
        for message in &mut trails.messages {
            let own: Vec<Sight> = sights_of(message).map(|(_, _, sight)| sight).collect();
            together.tell(message);
            lines.push(Line::of(message, view));
            if is_old {
                anew.keep(of, group.when_us, message, &own);
            }
        }
        trails.messages.clear();
    }

    /// What messages show of clocks, which of the words of others may be about them, and what there is to keep of
    /// those of which nothing is known.
    fn see(&self, part: &[Group], heard: &Heard) -> (Sights, Found, Option<Block>) {
        let (mut sights, mut found) = (Sights::default(), Found::default());
        let mut new = gist::Maker::default();
        for group in part {
            let known = self.known(group);
            let told = known.as_ref().filter(|gist| !gist.is_named_in(heard));
            if told.and_then(|gist| gist.see(&mut sights)).is_some() {
                continue;
            }
            let mut trails = Trails::default();
            self.assemble(group, &mut trails);
            for message in &trails.messages {
                sights.see(message);
                heard.see(message, &mut found);
            }
            if let (None, [message], []) = (known, &mut *trails.messages, &*trails.not_ours) {
                let own: Vec<Sight> = sights_of(message).map(|(_, _, sight)| sight).collect();
                // Mostly the others have nothing to add.
                pairs::tell_alone(message);
                new.keep(self.of(group), group.when_us, message, &own);
            }
        }
        (sights, found, new.block())
    }

    fn assemble(&self, group: &Group, into: &mut Trails) {
        let members = self.members(group).iter();
        let kept = members.filter_map(|member| self.reports.kept(member));
        let judged = kept.filter_map(|(octets, place)| unpack::unpack(octets, place));
        let (messages, not_ours) = put_together(judged.map(|one| (one, Origin::Unchecked)));
        into.messages.extend(messages);
        into.not_ours.extend(not_ours);
    }

    /// Parts of so many messages, worked on by several threads, and shown in their order.
    fn in_turn<T: Send, E>(
        &self,
        messages: usize,
        work: impl Fn(&[Group]) -> T + Sync,
        mut show: impl FnMut(T) -> Result<(), E>,
    ) -> Result<(), E> {
        let parts: Vec<&[Group]> = self.by_message.chunks(messages).collect();
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
