//! Refusals for good that were not the end, since the hop tried again. Which those are [`super::state`] says.

use std::borrow::Cow;

use hashbrown::HashSet;

use super::message::Message;
use crate::track::address::key;
use crate::track::{Event, HopReport, RecipientStatus, StepId};

/// A refusal that was undone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The stay that told it.
    pub stay: usize,
    /// The step that did.
    pub step: StepId,
    /// When, µs of its hop's clock.
    pub at_us: i64,
}

/// Who was refused in a step, when, and then tried again by its hop.
pub struct TriedAgain<'a> {
    step: &'a HopReport,
    refused: HashSet<(Cow<'a, str>, i64)>,
}

impl<'a> TriedAgain<'a> {
    /// Those of a step of a message.
    pub fn after(step: &'a HopReport, message: &'a Message) -> Self {
        // Mostly nothing fails.
        let fails = step.recipients.iter().any(|g| g.event == Event::Failed);
        let recipients = message.recipients.iter().filter(|_| fails);
        let refused = recipients.flat_map(|recipient| {
            let here = recipient.refusals.iter().filter(|r| r.step == step.step);
            here.map(|refusal| (key(&recipient.address), refusal.at_us))
        });
        Self {
            refused: refused.collect(),
            step,
        }
    }

    /// Whether this group of the step tells that.
    pub fn has(&self, group: &RecipientStatus) -> bool {
        let at_us = || self.step.ended_us(group).unwrap_or(self.step.arrived_us());
        group.event == Event::Failed && self.refused.contains(&(key(&group.original), at_us()))
    }
}
