//! A message and its way, as the reader knows it: stays, recipients, what others say. Data, and what can be said by
//! looking at it alone.
//!
//! Must not know how it is made out of reports: [`super::assemble`], [`super::state`], [`super::pairs`] and
//! [`super::notices`] do that.

use std::collections::{BTreeSet, HashMap};

use compact_str::CompactString;
use hashbrown::HashSet;
use serde::Serialize;

use super::clock::{Bounds, Offset};
use super::places::Places;
use super::refusal::Refusal;
use super::starts::is_apart;
use crate::report::notice::Fate;
use crate::report::{Origin, Trace};
use crate::track::{Event, HopReport, Status, StepId, TrackingId};

/// A message and its way.
#[derive(Clone, Debug)]
pub struct Message {
    /// Its tracking id: that of the first hop.
    pub id: TrackingId,
    /// Others under which hops tell of it, proved as they are: one that gets no id makes up its own.
    pub other_ids: BTreeSet<TrackingId>,
    /// Its Message-ID without angle brackets.
    pub message_id: Option<String>,
    /// Whom its reports go to.
    pub originator: Option<String>,
    /// Who gave it to the MTA of the first hop, where that shows it.
    pub client: Option<String>,
    /// When it was sent, ms of the originator's clock.
    pub sent_ms: Option<u64>,
    /// Whether its reports are proved; never `NotOurs`.
    pub truth: Truth,
    /// Where nothing proves its reports and all name a message of which others are proved: the tracking ids of that one,
    /// the first hop's first. Most likely they are on that one, and nobody can say so.
    pub names: Vec<TrackingId>,
    /// Where it was; a stay comes after its parent, and right after it comes its own way on.
    pub stays: Vec<Stay>,
    /// What became of it for each recipient.
    pub recipients: Vec<Recipient>,
    /// What other mail systems say of it, in the order of their time; nothing proves it.
    pub words: Vec<Word>,
    /// Reports on this id that were set aside because they lack the proof the others have.
    pub unproved: usize,
    /// The hosts, in lower case, in whose names reports on this id are set apart as altered or forged.
    pub left_out: BTreeSet<String>,
    /// The hosts, in lower case, in whose names reports bear this id or name this message, and nothing proves them.
    pub unproved_hosts: BTreeSet<String>,
    /// The hosts, in lower case and as the hop before each names it, of which a report under another name is set apart or
    /// not proved.
    pub unproved_next: BTreeSet<String>,
    /// Who wrote each step, where that was looked at.
    pub origins: HashMap<StepId, Origin>,
    /// Steps of which other reports say something else.
    pub contradicted: HashSet<StepId>,
}

/// A message at a hop.
#[derive(Clone, Debug)]
pub struct Stay {
    /// The hop's number.
    pub hop: u8,
    /// The hop's name; of a hop that did not report, the name its neighbour knows, if any.
    pub host: Option<CompactString>,
    /// The stay it came from, by its place in [`Message::stays`].
    pub parent: Option<usize>,
    /// What the hop reported, in the order of its clock; empty if another hop refers to a report that never came.
    pub steps: Vec<HopReport>,
    /// How the message came here from its parent, once for each time it did.
    pub handovers: Vec<Handover>,
    /// The hop's clock against its parent's, when the message came.
    pub link: Offset,
    /// The hop's clock against the first hop's, when the message came.
    pub offset: Offset,
    /// That moment, µs of the hop's clock; `None` at the first hop, whose clock is the measure of the others.
    pub offset_at_us: Option<i64>,
    /// What Received fields that later hops saw claim: of a hop without reports, that it had the message; of another,
    /// which hosts had it between its parent and it, the oldest first. Nothing proves it.
    pub claims: Vec<Trace>,
    /// The hop's clock may have been set while the message was here, as other messages show.
    pub jump: Option<Box<Jump>>,
    /// What is looked for in it, where it has many steps or recipients.
    pub(super) places: Places,
}

impl Stay {
    /// No report came from here.
    pub fn is_missing(&self) -> bool {
        self.steps.is_empty()
    }

    /// The step by which the message came here: this one, or the entrance it goes back to.
    pub fn entrance<'a>(&'a self, step: &'a HopReport) -> &'a HopReport {
        let find = |id| self.step(id);
        let mut first = step;
        // Links of hostile reports may run in a circle.
        for _ in &self.steps {
            match first.parent.and_then(find) {
                Some(before) => first = before,
                None => break,
            }
        }
        first
    }

    /// The least and the greatest moment told of here, µs of the hop's clock.
    pub fn lasted(&self) -> Option<(i64, i64)> {
        let first = self.steps.iter().map(HopReport::arrived_us).min()?;
        let last = self.steps.iter().map(last_us);
        Some((last.clone().min()?.min(first), last.max()?.max(first)))
    }

    /// The hop's clock against the first hop's at a moment of its own, µs: the longer after the message came, the
    /// wider the bounds. If it may have been set since, nobody knows.
    pub fn offset_at(&self, us: i64) -> Offset {
        match (self.offset, self.offset_at_us) {
            (Offset::Known(_), Some(at_us)) if self.jump.is_some() && us != at_us => {
                Offset::Unknown
            }
            (Offset::Known(bounds), Some(at_us)) => {
                Offset::Known(bounds.aged(us.saturating_sub(at_us)))
            }
            (offset, _) => offset,
        }
    }

    /// Where a moment of this hop's clock, µs, lies on the first hop's clock, if that is known.
    pub fn on_first_clock(&self, us: i64) -> Option<Bounds> {
        Some(self.offset_at(us).bounds()?.taken_from(us))
    }

    /// How far the times told of here may be off on the first hop's clock at most, µs, if that is known.
    pub fn margin_us(&self) -> Option<i64> {
        let (from_us, to_us) = self.lasted()?;
        let margin_us = |us| Some(self.on_first_clock(us)?.margin_us());
        margin_us(from_us).max(margin_us(to_us))
    }
}

fn has_host(names: &BTreeSet<String>, host: Option<&str>) -> bool {
    let is = |name: &String| host.is_none_or(|host| host.eq_ignore_ascii_case(name));
    names.iter().any(is)
}

impl Message {
    /// Every tracking id that hops tell of it under, the first hop's first.
    pub fn ids(&self) -> impl Iterator<Item = &TrackingId> {
        std::iter::once(&self.id).chain(&self.other_ids)
    }

    /// Who wrote a step, as far as anybody looked.
    pub fn origin(&self, step: StepId) -> &Origin {
        self.origins.get(&step).unwrap_or(&Origin::Unchecked)
    }

    /// Somebody looked who wrote the report that tells what became of a recipient, and its host is not shown to have.
    pub fn is_of_doubtful_origin(&self, recipient: &Recipient) -> bool {
        let origin = self.origin(recipient.step);
        *origin != Origin::Unchecked && !origin.is_shown()
    }

    /// The stay at which the way to this one begins, as far as it is known.
    pub fn start_of(&self, stay: usize) -> usize {
        let before = |n: &usize| self.stays.get(*n).and_then(|s| s.parent);
        // A parent stands before its children, so this ends.
        std::iter::successors(Some(stay), before)
            .last()
            .unwrap_or(stay)
    }

    /// Whether the way to a stay begins at a second start: at a hop that names nobody who handed it the message, beside
    /// the first one.
    pub fn is_apart(&self, stay: usize) -> bool {
        is_apart(&self.stays, self.start_of(stay))
    }

    /// How much later than the message first came to the first hop its copy for a recipient came there, µs of that hop's
    /// clock, where that is worth telling: it was sent apart, or somebody sent it again.
    pub fn came_later_us(&self, recipient: &Recipient) -> Option<i64> {
        const TOLD_FROM_US: i64 = 1_000_000;
        let stay = self.stays.get(self.measure()?)?;
        let (first_us, last_us) = stay.came_us()?;
        let later_us = |us: i64| us.checked_sub(first_us);
        // Mostly all came at once, for however many.
        later_us(last_us).filter(|us| *us >= TOLD_FROM_US)?;
        let of_it = stay.told_of(&recipient.address);
        let came_us = of_it.map(|(step, _)| step.arrived_us()).min()?;
        later_us(came_us).filter(|us| *us >= TOLD_FROM_US)
    }

    /// Whether a report in the name of this host was set apart, or may have been where it has none.
    pub fn leaves_out(&self, host: Option<&str>) -> bool {
        has_host(&self.left_out, host)
    }

    /// Whether a report in the name of this host is not proved, or may be its where it has none; or one under another name
    /// that seems to be its.
    pub fn has_unproved(&self, host: Option<&str>) -> bool {
        has_host(&self.unproved_hosts, host) || self.has_under_another_name(host)
    }

    /// Whether a report that does not count seems to be of this host, and bears another name.
    pub fn has_under_another_name(&self, host: Option<&str>) -> bool {
        has_host(&self.unproved_next, host)
    }

    /// The stays at the same host that this one goes back to, the first of them first: more than one or two are a
    /// loop, and the hops between two of them its ring.
    pub fn earlier_visits(&self, stay: usize) -> Vec<usize> {
        let host = |n: usize| self.stays.get(n).and_then(|s| s.host.as_deref());
        let Some(here) = host(stay) else {
            return Vec::new();
        };
        let before = |n: &usize| self.stays.get(*n).and_then(|s| s.parent);
        let ancestors = std::iter::successors(before(&stay), before);
        let same = |n: &usize| host(*n).is_some_and(|host| host.eq_ignore_ascii_case(here));
        let mut visits: Vec<usize> = ancestors.filter(same).collect();
        visits.reverse();
        visits
    }

    /// The time from the last octet's leaving the hop before to its coming to this stay in this step; never negative.
    pub fn transit(&self, stay: usize, step: &HopReport) -> Option<Bounds> {
        let stay = self.stays.get(stay)?;
        let handover = stay.handover(step.parent?, step.arrived_us())?;
        let raw_us = handover.arrived_us.checked_sub(handover.left_us)?;
        let took = handover.link.bounds()?.taken_from(raw_us);
        let at_least = Bounds {
            low_us: 0,
            high_us: i64::MAX,
        };
        took.and(at_least)
    }

    /// The stay whose clock is the measure of the others: the first that reported.
    pub fn measure(&self) -> Option<usize> {
        self.stays.iter().position(|stay| !stay.is_missing())
    }

    /// From when it was sent, by the originator's own proved stamp, to its coming to a stay, µs. Nobody compares these two
    /// clocks; less than nothing shows that the hop's is behind.
    pub fn came_after_us(&self, stay: usize) -> Option<i64> {
        let sent_us = i64::try_from(self.sent_ms?).ok()?.checked_mul(1000)?;
        let (came_us, _) = self.stays.get(stay)?.lasted()?;
        let is_own = self.truth == Truth::Verified;
        came_us.checked_sub(sent_us).filter(|_| is_own)
    }

    /// When it set out, for sorting: the originator's stamp, else the first arrival, µs.
    pub fn sent_or_arrived_us(&self) -> i64 {
        if let Some(ms) = self.sent_ms.and_then(|ms| i64::try_from(ms).ok()) {
            return ms.saturating_mul(1000);
        }
        let steps = self.stays.iter().flat_map(|s| &s.steps);
        steps.map(HopReport::arrived_us).min().unwrap_or_default()
    }

    /// The last word of others on one of its recipients.
    pub fn last_word(&self, recipient: &Recipient) -> Option<&Word> {
        self.words.get(recipient.word?)
    }
}

/// A message's coming from one stay to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handover {
    /// The step that gave it.
    pub from: StepId,
    /// When its last octet left there, µs of the giver's clock.
    pub left_us: i64,
    /// When that came, µs of the taker's clock.
    pub arrived_us: i64,
    /// The taker's clock against the giver's when it left.
    pub link: Offset,
}

/// A clock may have been set: the offset of two neighbours changed by more than clocks do that run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Jump {
    /// The neighbour against which it shows.
    pub against: String,
    /// It was this hop's clock, since that neighbour's ran on; else it may be either, or stamps are made up.
    pub is_own: bool,
    /// By how much this hop's clock was set, if it was this one.
    pub set: Bounds,
    /// By how much the offset changed, the child's clock against the parent's.
    pub by: Bounds,
    /// Not before that, µs of the hop's own clock.
    pub from_us: i64,
    /// Not after that.
    pub to_us: i64,
    /// The handovers between which it shows, µs of the neighbour's clock.
    pub seen_us: (i64, i64),
}

/// How far the message is known to have come for a recipient; the worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// A hop refused it for good.
    Failed,
    /// It came back to a hop that had it before.
    Looped,
    /// A hop has it and is not seen to pass it on.
    Held,
    /// A hop has it and will try again.
    Delayed,
    /// Handed to a hop that reports, and nothing heard since.
    OnItsWay,
    /// A hop took it in, and nothing heard since.
    Accepted,
    /// Handed to a hop that was not asked to report: the trail ends.
    Relayed,
    /// Sent on to addresses that are not shown: the trail ends.
    Expanded,
    /// In the mailbox.
    Delivered,
}

impl State {
    /// What an event comes to.
    pub(super) fn of(event: Event) -> Self {
        match event {
            Event::Accepted => Self::Accepted,
            Event::Transferred => Self::OnItsWay,
            Event::Relayed => Self::Relayed,
            Event::Expanded => Self::Expanded,
            Event::Delayed => Self::Delayed,
            Event::Held => Self::Held,
            Event::Looped => Self::Looped,
            Event::Failed => Self::Failed,
            Event::Delivered => Self::Delivered,
        }
    }

    /// No report follows on it.
    pub(super) fn is_last(self) -> bool {
        match self {
            Self::Failed | Self::Looped | Self::Relayed | Self::Expanded | Self::Delivered => true,
            Self::Held | Self::Delayed | Self::OnItsWay | Self::Accepted => false,
        }
    }

    /// What that means for whoever asks whether the message arrived.
    pub fn outcome(self) -> Outcome {
        match self {
            Self::Failed => Outcome::Failed,
            Self::Delivered => Outcome::Delivered,
            _ => Outcome::Open,
        }
    }
}

/// The answer to "did it arrive?"; the worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Not, for at least one recipient, and it will not.
    Failed,
    /// Not yet, or nobody can say.
    Open,
    /// For every recipient.
    Delivered,
}

/// A recipient as the originator named it, and what is the last known of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipient {
    /// The address.
    pub address: CompactString,
    /// How far.
    pub state: State,
    /// The stay that told, by its place in the message's stays.
    pub stay: usize,
    /// The step that told.
    pub step: StepId,
    /// The host that told.
    pub host: CompactString,
    /// The next hop or mail store it spoke of.
    pub remote: Option<CompactString>,
    /// When that happened, µs of that host's clock.
    pub at_us: i64,
    /// When the message came to that host, µs of its clock.
    pub arrived_us: i64,
    /// The status code.
    pub status: Status,
    /// The peer's words.
    pub reply: Option<String>,
    /// How many attempts that put it off this host told of; there may have been more.
    pub delays: usize,
    /// Where a hop told that it was refused for good, and then tried again.
    pub refusals: Vec<Refusal>,
    /// How often hops told that they delivered it: more than once, if a copy was.
    pub deliveries: usize,
    /// What else a hop tells that nobody is known to have handed the message to, where `state` is what the others tell.
    pub apart: Option<Elsewhere>,
    /// That a hop which was handed it told that it failed, and did not try again, where `state` says that it did not: of a
    /// copy, or one hop contradicts another.
    pub also_failed: Option<Elsewhere>,
    /// The last word of others on it, by its place in [`Message::words`]; it proves nothing.
    pub word: Option<usize>,
}

/// What a hop tells of the end for a recipient beside what counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Elsewhere {
    /// That it was delivered there, or failed.
    pub state: State,
    /// The stay that tells.
    pub stay: usize,
    /// Its host.
    pub host: CompactString,
    /// When, µs of that host's clock.
    pub at_us: i64,
}

impl Outcome {
    /// Every answer.
    pub const ALL: [Self; 3] = [Self::Failed, Self::Open, Self::Delivered];
}

/// What somebody says of a recipient of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word {
    /// Whom it names: the originator's recipient, where it says so.
    pub address: String,
    /// That recipient's place in [`Message::recipients`]; `None` if no hop has told of it.
    pub recipient: Option<usize>,
    /// The host or mail program that says it, by its own account.
    pub host: Option<String>,
    /// The address its mail says it is from.
    pub from: Option<String>,
    /// What it says.
    pub fate: Fate,
    /// When, µs of its own clock: the attempt, or else the date of the mail.
    pub at_us: Option<i64>,
    /// What it was joined by.
    pub joined: Joined,
}

impl Word {
    /// Who says it: the host, or else the address its mail is from.
    pub fn speaker(&self) -> Option<&str> {
        self.host.as_deref().or(self.from.as_deref())
    }
}

/// What a word and a message have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Joined {
    /// The ENVID, which is the tracking id.
    Envid,
    /// The Message-ID.
    MessageId,
    /// The address alone: just one message that may still be on its way has it, and the word names no other.
    Recipient,
}

/// What is known of whether a report was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Truth {
    /// Its maker knew the request of this user's message.
    Verified,
    /// It claims a proof that is wrong.
    NotOurs,
    /// There is a secret, and the report brings no proof: anybody can have made it.
    Unproved,
    /// There is no secret to judge it by.
    Unverifiable,
}

/// The latest moment a step tells of, µs of its hop's clock.
pub(super) fn last_us(report: &HopReport) -> i64 {
    let attempts = report.recipients.iter().filter_map(|r| r.attempted_us);
    attempts.max().unwrap_or_else(|| report.arrived_us())
}
