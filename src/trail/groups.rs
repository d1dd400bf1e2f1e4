//! Reports by the message they are on, put together some messages at a time on several threads, and told what only all of
//! them tell of each message. Must not know where they were read from, nor how what is kept of a message is packed.

use std::ops::Range;
use std::sync::PoisonError;
use std::sync::mpsc::sync_channel;
use std::thread;

use super::assemble::put_together;
use super::gist::{self, Drawn, Place};
use super::pairs::{Sight, sights_of};
use super::render::View;
use super::render::line::Line;
use super::reports::Reports;
use super::stock::THREADS;
use super::unpack;
use super::{NotOurs, Trails};
use crate::report::Origin;

/// A report among all.
#[derive(Clone, Copy)]
pub struct Member {
    /// The same for all reports on a message.
    pub message: u64,
    /// The mail.
    pub entry: u32,
    /// Its source.
    pub stock: u16,
}

/// The reports on a message.
#[derive(Clone)]
pub struct Group {
    /// Which of the members they are.
    pub of: Range<u32>,
    /// When their message was first seen, µs; not if they cannot be read.
    pub when_us: Option<i64>,
    /// What is kept of it.
    pub gist: Option<Place>,
}

/// Reports, those on one message side by side, the oldest message first.
pub struct Groups<'a> {
    pub(super) reports: &'a Reports,
    pub(super) by_message: Vec<Group>,
}

impl<'a> Groups<'a> {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.by_message.is_empty()
    }

    /// The tracking ids of messages, in any order.
    pub fn ids(&self) -> Vec<&'a str> {
        let mut groups: Vec<&Group> = self.by_message.iter().collect();
        // Mostly as they stand in memory: at random each of them would be waited for.
        groups.sort_unstable_by_key(|group| group.of.start);
        let ids = groups
            .into_iter()
            .flat_map(|group| self.reports.ids_of(group));
        ids.collect()
    }

    /// What they tell, all at once.
    pub fn trails(&self) -> Trails {
        let together = &self.reports.together;
        let mut trails = self.reports.looked_at();
        for group in &self.by_message {
            assemble(self.reports, group, &mut trails);
        }
        trails.messages.iter_mut().for_each(|m| together.tell(m));
        let messages = &mut trails.messages;
        messages.sort_by_cached_key(|m| (m.sent_or_arrived_us(), m.id.clone()));
        trails.not_ours.sort();
        trails
    }

    /// What they tell, in parts of so many messages: made by `work` on several threads, and shown in their order.
    pub fn in_parts<T: Send, E>(
        &self,
        messages: usize,
        work: impl Fn(Trails) -> T + Sync,
        show: impl FnMut(T) -> Result<(), E>,
    ) -> Result<(), E> {
        let together = &self.reports.together;
        let work = |part: &[Group]| {
            let mut trails = Trails::default();
            for group in part {
                assemble(self.reports, group, &mut trails);
            }
            trails.messages.iter_mut().for_each(|m| together.tell(m));
            work(trails)
        };
        in_turn(&self.by_message, messages, work, show)
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
        let together = &self.reports.together;
        let draw = |part: &[Group]| {
            let (mut trails, mut lines) = (Trails::default(), Vec::with_capacity(part.len()));
            let mut anew = gist::Maker::default();
            for group in part {
                self.draw(group, view, &mut lines, &mut trails, &mut anew);
            }
            (work(lines, trails.not_ours), anew.block())
        };
        in_turn(&self.by_message, messages, draw, |(drawn, block)| {
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
        let together = &self.reports.together;
        let gist = group.gist.and_then(|place| self.reports.gists.read(place));
        let drawn = gist.map_or(Drawn::Not, |g| g.line(&together.clocks, &together.heard));
        let is_old = match drawn {
            Drawn::Holds(line) => return lines.push(line),
            Drawn::Old => true,
            Drawn::Not => false,
        };
        assemble(self.reports, group, trails);
        for message in &mut trails.messages {
            let own: Vec<Sight> = sights_of(message).map(|(_, _, sight)| sight).collect();
            together.tell(message);
            lines.push(Line::of(message, view));
            if let (true, Some(when_us)) = (is_old, group.when_us) {
                anew.keep(self.reports.reports_of(group), when_us, message, &own);
            }
        }
        trails.messages.clear();
    }
}

/// Puts together what the reports of a group tell, and tells when their message was first seen, µs.
pub fn assemble(reports: &Reports, group: &Group, into: &mut Trails) -> Option<i64> {
    let members = reports.members(group).iter();
    let kept = members.filter_map(|member| reports.kept(member));
    let trusting = reports.are_on_trust();
    let (mut when_us, mut last_id) = (None, None);
    let judged = kept.filter_map(|(octets, place)| {
        let judged = unpack::unpack_next(octets, place, &mut last_id)?;
        let seen_us = judged.report.sent_or_came_us();
        when_us = Some(when_us.map_or(seen_us, |us: i64| us.min(seen_us)));
        Some(if trusting { judged.on_trust() } else { judged })
    });
    let (messages, mut not_ours) = put_together(judged.map(|one| (one, Origin::Unchecked)));
    // Reports come in the order in which threads read them.
    not_ours.sort();
    into.messages.extend(messages);
    into.not_ours.extend(not_ours);
    when_us
}

/// Parts of so many groups, worked on by several threads, and shown in their order.
pub fn in_turn<T: Send, E>(
    groups: &[Group],
    messages: usize,
    work: impl Fn(&[Group]) -> T + Sync,
    mut show: impl FnMut(T) -> Result<(), E>,
) -> Result<(), E> {
    let parts: Vec<&[Group]> = groups.chunks(messages).collect();
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
