//! Where what is looked for stands among the steps and handovers of a stay: looked for one by one where there are few, and
//! found at once where there are many, so that of ten thousand recipients each takes no longer than one of ten.
//!
//! Must not know what is told of it.

use std::hash::{BuildHasher, RandomState};
use std::ptr;
use std::sync::OnceLock;

use hashbrown::HashMap;

use super::message::{Handover, Stay};
use crate::track::address::{is_same, key};
use crate::track::{HopReport, RecipientStatus, StepId};

/// As many are looked at one by one.
const FEW: usize = 32;

/// The places, made when they are first asked for; the steps and handovers of the stay stay as they are from then on.
#[derive(Debug, Default)]
pub struct Places(OnceLock<Box<Made>>);

impl Clone for Places {
    /// A copy of a stay may become another one.
    fn clone(&self) -> Self {
        Self::default()
    }
}

#[derive(Debug, Default)]
struct Made {
    hasher: RandomState,
    /// By the hashes of addresses: the numbers of steps, and of the groups in these.
    groups: HashMap<u64, Vec<(usize, usize)>>,
    steps: HashMap<StepId, usize>,
    handovers: HashMap<(StepId, i64), usize>,
    came_us: Option<(i64, i64)>,
}

impl Made {
    fn of(stay: &Stay) -> Box<Self> {
        let mut made = Self::default();
        for (n, step) in stay.steps.iter().enumerate() {
            made.steps.entry(step.step).or_insert(n);
            for (k, group) in step.recipients.iter().enumerate() {
                let hash = made.hasher.hash_one(&*key(&group.original));
                made.groups.entry(hash).or_default().push((n, k));
            }
        }
        for (n, handover) in stay.handovers.iter().enumerate() {
            let came = (handover.from, handover.arrived_us);
            made.handovers.entry(came).or_insert(n);
        }
        made.came_us = came_us(&stay.steps);
        Box::new(made)
    }
}

/// What is told of an address, and where.
pub type Told<'a> = (&'a HopReport, &'a RecipientStatus);

impl Stay {
    fn places(&self) -> &Made {
        self.places.0.get_or_init(|| Made::of(self))
    }

    /// The groups about an address, and their steps, in their order.
    pub fn told_of<'a>(&'a self, address: &'a str) -> impl Iterator<Item = Told<'a>> {
        let is_many = self.steps.len() > FEW || self.steps.iter().any(has_many);
        let many = is_many.then(|| self.found(address));
        let few = (!is_many).then(|| {
            let steps = self.steps.iter();
            steps.flat_map(move |step| about(step, address).map(move |group| (step, group)))
        });
        few.into_iter().flatten().chain(many.into_iter().flatten())
    }

    fn found<'a>(&'a self, address: &'a str) -> impl Iterator<Item = Told<'a>> {
        let made = self.places();
        let hash = made.hasher.hash_one(&*key(address));
        let places = made.groups.get(&hash).into_iter().flatten();
        places.filter_map(move |(n, k)| {
            let step = self.steps.get(*n)?;
            let group = step.recipients.get(*k)?;
            is_same(&group.original, address).then_some((step, group))
        })
    }

    /// The groups of one of its steps that tell of an address.
    pub fn told_in<'a>(
        &'a self,
        step: &'a HopReport,
        address: &'a str,
    ) -> impl Iterator<Item = &'a RecipientStatus> {
        let many = has_many(step).then(|| {
            let found = self.found(address);
            found.filter(|(other, _)| ptr::eq(*other, step))
        });
        let few = (!has_many(step)).then(|| about(step, address));
        let many = many.into_iter().flatten().map(|(_, group)| group);
        few.into_iter().flatten().chain(many)
    }

    /// The step of this id.
    pub fn step(&self, id: StepId) -> Option<&HopReport> {
        if self.steps.len() <= FEW {
            return self.steps.iter().find(|step| step.step == id);
        }
        self.steps.get(*self.places().steps.get(&id)?)
    }

    /// When the message first came here, and when the last time, µs of the hop's clock.
    pub fn came_us(&self) -> Option<(i64, i64)> {
        if self.steps.len() <= FEW {
            return came_us(&self.steps);
        }
        self.places().came_us
    }

    /// How the message came here from a step at a moment, µs of this hop's clock.
    pub fn handover(&self, from: StepId, arrived_us: i64) -> Option<&Handover> {
        if self.handovers.len() <= FEW {
            let is = |h: &&Handover| (h.from, h.arrived_us) == (from, arrived_us);
            return self.handovers.iter().find(is);
        }
        let place = self.places().handovers.get(&(from, arrived_us))?;
        self.handovers.get(*place)
    }
}

fn came_us(steps: &[HopReport]) -> Option<(i64, i64)> {
    let came = || steps.iter().map(HopReport::arrived_us);
    came().min().zip(came().max())
}

fn has_many(step: &HopReport) -> bool {
    step.recipients.len() > FEW
}

fn about<'a>(step: &'a HopReport, address: &'a str) -> impl Iterator<Item = &'a RecipientStatus> {
    let groups = step.recipients.iter();
    groups.filter(move |group| is_same(&group.original, address))
}
