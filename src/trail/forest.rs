//! The steps of one message linked to a tree of stays, by their parents where these are known; where a report never
//! came, by what its neighbours tell.

use compact_str::CompactString;
use hashbrown::{HashMap, HashSet};

use super::Stay;
use super::assemble::Steps;
use super::clock::Offset;
use super::message::last_us;
use super::places::Places;
use crate::track::{Event, HopReport, Role, StepId};

/// The stays while they are being linked.
#[derive(Default)]
pub struct Forest {
    stays: Vec<Stay>,
    /// The stay of each step.
    home: HashMap<StepId, usize>,
    /// What was put in the place of a step that is referred to and never came.
    stand_in: HashMap<StepId, Option<usize>>,
    /// Steps that have a child.
    followed: HashSet<StepId>,
    /// A known step that handed the message to this hop of this name.
    givers: HashMap<(u8, CompactString), StepId>,
}

impl Forest {
    /// Links steps that come in order. Mostly every parent is in front of its children (`are_linked`), and nobody asks who
    /// else it may be.
    pub fn grow(steps: Steps, are_linked: bool) -> Self {
        let mut forest = Self {
            home: HashMap::with_capacity(steps.len()),
            ..Self::default()
        };
        if !are_linked {
            forest.know_givers(&steps);
        }
        for step in steps {
            forest.add(*step);
        }
        forest
    }

    fn know_givers(&mut self, steps: &[Box<HopReport>]) {
        let known: HashSet<StepId> = steps.iter().map(|step| step.step).collect();
        for step in steps {
            if let Some(giver) = step.parent.filter(|p| known.contains(p)) {
                self.followed.insert(giver);
                let place = (step.hop, step.reporting_mta.clone());
                self.givers.entry(place).or_insert(giver);
            }
        }
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
            if stay.steps.len() == stay.steps.capacity() {
                // A step is large, and mostly one or two are all.
                stay.steps.reserve_exact(stay.steps.len().max(1));
            }
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

    fn found(&mut self, hop: u8, host: Option<CompactString>, parent: Option<usize>) -> usize {
        self.stays.push(Stay {
            hop,
            host,
            parent,
            steps: Vec::new(),
            handovers: Vec::new(),
            link: Offset::Unknown,
            offset: Offset::Unknown,
            offset_at_us: None,
            claims: Vec::new(),
            jump: None,
            places: Places::default(),
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
    fn next_host(&self, step: StepId) -> Option<CompactString> {
        let stay = self.stays.get(*self.home.get(&step)?)?;
        let report = stay.steps.iter().find(|s| s.step == step)?;
        report.recipients.iter().find_map(|r| r.remote_mta.clone())
    }

    /// The stays in the order of the way.
    pub fn into_stays(mut self) -> Vec<Stay> {
        for stay in &mut self.stays {
            stay.steps
                .sort_by_key(|s| (last_us(s), s.role != Role::Ingress, s.step));
        }
        let mut stays = self.stays.iter().enumerate();
        // Mostly the way is a line.
        if stays.all(|(n, stay)| stay.parent == n.checked_sub(1)) {
            return self.stays;
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
}
