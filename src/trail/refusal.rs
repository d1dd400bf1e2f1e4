//! Refusals for good that were not the end, since the hop tried again. Which those are [`super::state`] says.

use std::borrow::Cow;

use hashbrown::HashSet;

use super::message::{Message, Recipient};
use crate::track::address::key;
use crate::track::{Event, HopReport, RecipientStatus, StepId};

/// A refusal that was undone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The stay that told it.
    pub stay: usize,
    /// The step that did.
    pub step: StepId,
}

/// Who was refused in a step, and then tried again by its hop.
pub struct TriedAgain<'a>(HashSet<Cow<'a, str>>);

impl<'a> TriedAgain<'a> {
    /// Those of a step of a message.
    pub fn after(step: &HopReport, message: &'a Message) -> Self {
        // Mostly nothing fails.
        if step.recipients.iter().all(|g| g.event != Event::Failed) {
            return Self(HashSet::new());
        }
        let is_here =
            |recipient: &&Recipient| recipient.refusals.iter().any(|r| r.step == step.step);
        let refused = message.recipients.iter().filter(is_here);
        Self(refused.map(|r| key(&r.address)).collect())
    }

    /// Whether this group of the step tells that.
    pub fn has(&self, group: &RecipientStatus) -> bool {
        group.event == Event::Failed && self.0.contains(&key(&group.original))
    }
}
