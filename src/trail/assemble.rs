//! Reports to messages: judged, grouped by tracking id, each step once, linked to a tree of stays.
//!
//! A stay is a message at a hop: the steps one host reported of it (a delay, then the departure; two
//! transactions for two recipients). Order comes from parent links, then hop numbers, then clocks.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::NotOurs;
use super::clock::{self, Bounds, Offset};
use super::state::{self, Recipient};
use super::verify::{Judged, Truth};
use crate::report::Received;
use crate::track::{Event, HopReport, Role, Secret, StepId, TrackingId};

/// A message and its way.
#[derive(Clone, Debug)]
pub struct Message {
    /// Its tracking id.
    pub id: TrackingId,
    /// Its Message-ID without angle brackets.
    pub message_id: Option<String>,
    /// When it was sent, ms of the originator's clock.
    pub sent_ms: Option<u64>,
    /// Whether its reports are proved; never `NotOurs`.
    pub truth: Truth,
    /// Where it was; a stay comes after its parent, and right after it comes its own way on.
    pub stays: Vec<Stay>,
    /// What became of it for each recipient.
    pub recipients: Vec<Recipient>,
    /// Reports on this id that were set aside because they lack the proof the others have.
    pub unproved: usize,
}

/// A message at a hop.
#[derive(Clone, Debug)]
pub struct Stay {
    /// The hop's number.
    pub hop: u8,
    /// The hop's name; of a hop that did not report, the name its neighbour knows, if any.
    pub host: Option<String>,
    /// The stay it came from, by its place in [`Message::stays`].
    pub parent: Option<usize>,
    /// What the hop reported, in the order of its clock; empty if another hop refers to a report that never came.
    pub steps: Vec<HopReport>,
    /// The hop's clock against its parent's.
    pub link: Offset,
    /// The hop's clock against the first hop's.
    pub offset: Offset,
}

impl Stay {
    /// No report came from here.
    pub fn is_missing(&self) -> bool {
        self.steps.is_empty()
    }
}

/// What makes reports one message. A proof covers Message-ID and time stamp, not the tracking id; so a
/// report proved for another message cannot slip in under this one's id.
type Key = (TrackingId, Option<(String, u64)>);

/// Judges reports and puts them together. Messages come in the order of their sending.
pub fn assemble(received: Vec<Received>, secret: Option<&Secret>) -> (Vec<Message>, Vec<NotOurs>) {
    put_together(received.into_iter().map(|one| Judged::by(one, secret)))
}

/// Puts reports together that were all judged by the same secret.
pub fn put_together(judged: impl IntoIterator<Item = Judged>) -> (Vec<Message>, Vec<NotOurs>) {
    let mut groups: BTreeMap<Key, Vec<HopReport>> = BTreeMap::new();
    let mut not_ours = Vec::new();
    let mut without_proof = Truth::Unproved;
    for one in judged {
        let report = one.report;
        let proof = match one.truth {
            Truth::NotOurs => {
                not_ours.push(NotOurs {
                    id: report.id,
                    host: report.reporting_mta,
                    from: one.from,
                });
                continue;
            }
            Truth::Verified => report.message_id.clone().zip(report.sent_ms),
            Truth::Unproved | Truth::Unverifiable => {
                without_proof = one.truth;
                None
            }
        };
        let reports = groups.entry((report.id.clone(), proof)).or_default();
        reports.push(report);
        reports.extend(one.others);
    }
    let mut messages = set_unproved_aside(groups, without_proof);
    messages.sort_by_key(|m| (m.sent_or_arrived_us(), m.id.clone()));
    (messages, not_ours)
}

/// Reports without proof tell nothing of a message that has proved ones.
fn set_unproved_aside(
    mut groups: BTreeMap<Key, Vec<HopReport>>,
    without_proof: Truth,
) -> Vec<Message> {
    let proved: HashSet<_> = groups
        .keys()
        .filter(|k| k.1.is_some())
        .map(|k| k.0.clone())
        .collect();
    let mut aside = HashMap::new();
    groups.retain(|(id, proof), reports| {
        let keep = proof.is_some() || !proved.contains(id);
        if !keep {
            aside.insert(id.clone(), reports.len());
        }
        keep
    });
    groups
        .into_iter()
        .map(|((id, proof), reports)| {
            let unproved = aside.get(&id).copied().unwrap_or(0);
            let truth = if proof.is_some() {
                Truth::Verified
            } else {
                without_proof
            };
            message(id, truth, reports, unproved)
        })
        .collect()
}

fn message(id: TrackingId, truth: Truth, reports: Vec<HopReport>, unproved: usize) -> Message {
    let steps = in_order(reports);
    let message_id = steps.iter().find_map(|s| s.message_id.clone());
    let sent_ms = steps.iter().find_map(|s| s.sent_ms);
    let stays = Forest::grow(steps).into_stays();
    Message {
        id,
        message_id,
        sent_ms,
        truth,
        recipients: state::recipients(&stays),
        stays,
        unproved,
    }
}

impl Message {
    /// When it set out, for sorting: the originator's stamp, else the first arrival, µs.
    pub fn sent_or_arrived_us(&self) -> i64 {
        if let Some(ms) = self.sent_ms.and_then(|ms| i64::try_from(ms).ok()) {
            return ms.saturating_mul(1000);
        }
        let steps = self.stays.iter().flat_map(|s| &s.steps);
        steps.map(HopReport::arrived_us).min().unwrap_or_default()
    }
}

/// Each step once, parents in front of children: by hop, then entrance before exit, then time.
fn in_order(mut reports: Vec<HopReport>) -> Vec<HopReport> {
    reports.sort_by_key(|r| (r.hop, r.role != Role::Ingress, last_us(r), r.step));
    let mut seen = HashSet::new();
    reports.retain(|r| seen.insert(r.step));
    reports
}

/// The latest moment a step tells of, µs of its hop's clock.
fn last_us(report: &HopReport) -> i64 {
    let attempts = report.recipients.iter().filter_map(|r| r.attempted_us);
    attempts.max().unwrap_or_else(|| report.arrived_us())
}

/// The stays while they are being linked.
#[derive(Default)]
struct Forest {
    stays: Vec<Stay>,
    /// The stay of each step.
    home: HashMap<StepId, usize>,
    /// What was put in the place of a step that is referred to and never came.
    stand_in: HashMap<StepId, Option<usize>>,
    /// Steps that have a child.
    followed: HashSet<StepId>,
    /// A known step that handed the message to this hop of this name.
    givers: HashMap<(u8, String), StepId>,
}

impl Forest {
    /// Links steps that come in order.
    fn grow(steps: Vec<HopReport>) -> Self {
        let mut forest = Self::default();
        let known: HashSet<_> = steps.iter().map(|s| s.step).collect();
        let parents = steps.iter().filter_map(|s| s.parent);
        forest.followed = parents.filter(|p| known.contains(p)).collect();
        for step in &steps {
            if let Some(giver) = step.parent.filter(|p| known.contains(p)) {
                let place = (step.hop, step.reporting_mta.clone());
                forest.givers.entry(place).or_insert(giver);
            }
        }
        for step in steps {
            forest.add(step);
        }
        forest
    }

    fn add(&mut self, step: HopReport) {
        let before = match step.parent {
            None => None,
            Some(id) => match self.home.get(&id) {
                Some(home) => Some(*home),
                None => self.stand_in(id, &step),
            },
        };
        let place = self.place(&step, before);
        self.home.insert(step.step, place);
        if let Some(stay) = self.stays.get_mut(place) {
            stay.steps.push(step);
        }
    }

    /// The stay a step belongs to, given the one it came from.
    fn place(&mut self, step: &HopReport, before: Option<usize>) -> usize {
        let name = Some(&step.reporting_mta);
        let here = |stay: &Stay| stay.hop == step.hop && stay.host.as_ref() == name;
        let mut parent = before;
        if let Some((n, stay)) = before.and_then(|n| Some((n, self.stays.get(n)?))) {
            if here(stay) {
                return n;
            }
            // Every link leads to a higher number; so the tree is at most 255 deep.
            if stay.hop >= step.hop {
                parent = stay.parent;
            }
        }
        let same = |stay: &Stay| stay.parent == parent && here(stay);
        match self.stays.iter().position(same) {
            Some(known) => known,
            None => self.found(step.hop, name.cloned(), parent),
        }
    }

    fn found(&mut self, hop: u8, host: Option<String>, parent: Option<usize>) -> usize {
        self.stays.push(Stay {
            hop,
            host,
            parent,
            steps: Vec::new(),
            link: Offset::Unknown,
            offset: Offset::Unknown,
        });
        self.stays.len() - 1
    }

    /// Where a step hangs whose parent never reported. Right behind a neighbour by number that waits
    /// for news of it; else behind a stay that stands for the missing report.
    fn stand_in(&mut self, missing: StepId, child: &HopReport) -> Option<usize> {
        if let Some(known) = self.stand_in.get(&missing) {
            return *known;
        }
        // The hop has told of it before, with a link that leads somewhere.
        let place = (child.hop, child.reporting_mta.clone());
        if let Some(home) = self.givers.get(&place).and_then(|g| self.home.get(g)) {
            let before = self.stays.get(*home).filter(|stay| stay.hop < child.hop);
            if before.is_some() {
                return Some(*home);
            }
        }
        let waiting = self.waiting(child);
        let near = waiting.filter(|(_, _, hop)| hop.saturating_add(1) == child.hop);
        let place = if child.hop <= 1 {
            None
        } else if let Some((stay, step, _)) = near {
            self.followed.insert(step);
            Some(stay)
        } else {
            let (host, parent) = match waiting {
                Some((stay, step, hop)) => {
                    self.followed.insert(step);
                    let next = hop.saturating_add(2) == child.hop;
                    (next.then(|| self.next_host(step)).flatten(), Some(stay))
                }
                None => (None, None),
            };
            Some(self.found(child.hop - 1, host, parent))
        };
        self.stand_in.insert(missing, place);
        place
    }

    /// The step nearest in front of `child` that handed the message to a hop which has not reported.
    fn waiting(&self, child: &HopReport) -> Option<(usize, StepId, u8)> {
        let steps = self
            .stays
            .iter()
            .enumerate()
            .flat_map(|(n, s)| s.steps.iter().map(move |t| (n, t)));
        steps
            .filter(|(_, step)| step.hop < child.hop && !self.followed.contains(&step.step))
            .filter_map(|(stay, step)| {
                let handed = step
                    .recipients
                    .iter()
                    .find(|r| r.event == Event::Transferred)?;
                let named = handed.remote_mta.as_ref() == Some(&child.reporting_mta);
                Some(((step.hop, named), (stay, step.step, step.hop)))
            })
            .max_by_key(|(rank, _)| *rank)
            .map(|(_, found)| found)
    }

    /// The name of the hop a step handed the message to.
    fn next_host(&self, step: StepId) -> Option<String> {
        let stay = self.stays.get(*self.home.get(&step)?)?;
        let report = stay.steps.iter().find(|s| s.step == step)?;
        report.recipients.iter().find_map(|r| r.remote_mta.clone())
    }

    /// The stays in the order of the way, with their clocks.
    fn into_stays(mut self) -> Vec<Stay> {
        self.set_clocks();
        for stay in &mut self.stays {
            stay.steps
                .sort_by_key(|s| (last_us(s), s.role != Role::Ingress, s.step));
        }
        let mut order = Vec::new();
        let mut stack: Vec<usize> = self.children(None);
        while let Some(next) = stack.pop() {
            order.push(next);
            stack.extend(self.children(Some(next)));
        }
        let place: HashMap<usize, usize> =
            order.iter().enumerate().map(|(n, old)| (*old, n)).collect();
        let mut stays: Vec<(usize, Stay)> = self
            .stays
            .into_iter()
            .enumerate()
            .filter_map(|(old, stay)| Some((*place.get(&old)?, stay)))
            .collect();
        stays.sort_by_key(|(n, _)| *n);
        let moved = |stay: Stay| Stay {
            parent: stay.parent.and_then(|p| place.get(&p).copied()),
            ..stay
        };
        stays.into_iter().map(|(_, stay)| moved(stay)).collect()
    }

    /// The stays behind one, the last first.
    fn children(&self, parent: Option<usize>) -> Vec<usize> {
        let mut children: Vec<usize> = (0..self.stays.len())
            .filter(|n| self.stays.get(*n).is_some_and(|s| s.parent == parent))
            .collect();
        children.reverse();
        children
    }

    /// Carries the clock of the first hop that reported along the links. A parent is always made
    /// before its children, so one pass is enough.
    fn set_clocks(&mut self) {
        let first = self.stays.iter().position(|s| !s.is_missing());
        for n in 0..self.stays.len() {
            let Some(stay) = self.stays.get(n) else {
                continue;
            };
            let (link, offset) = match stay.parent.and_then(|p| self.stays.get(p)) {
                _ if Some(n) == first => (Offset::Unknown, Offset::Known(Bounds::ZERO)),
                None => (Offset::Unknown, Offset::Unknown),
                Some(parent) => {
                    let link = clock::offset(
                        handovers(parent, stay).map(|(p, c)| (&*p.times_out, &*c.times_in)),
                    );
                    let offset = match (parent.offset, link) {
                        (Offset::Known(so_far), Offset::Known(bounds)) => {
                            Offset::Known(so_far.plus(bounds))
                        }
                        (_, Offset::Contradiction) => Offset::Contradiction,
                        _ => Offset::Unknown,
                    };
                    (link, offset)
                }
            };
            if let Some(stay) = self.stays.get_mut(n) {
                (stay.link, stay.offset) = (link, offset);
            }
        }
    }
}

/// The pairs of steps by which a message went from one stay to the next.
pub fn handovers<'a>(
    parent: &'a Stay,
    child: &'a Stay,
) -> impl Iterator<Item = (&'a HopReport, &'a HopReport)> {
    child.steps.iter().filter_map(|step| {
        let before = parent.steps.iter().find(|p| Some(p.step) == step.parent)?;
        Some((before, step))
    })
}
