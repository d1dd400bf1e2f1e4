//! What an answer of `timeline` or `watch` comes to: its exit code, and whether there is more to wait for.

use crate::trail::render::line::Line;
use crate::trail::{NotOurs, Outcome, Trails, Truth};

/// What the answer says, in short.
#[derive(Default)]
pub struct Told {
    /// Of the messages that are proved to be this user's, and of the others.
    proved: Tally,
    others: Tally,
    /// The reports that are part of no message.
    pub not_ours: Vec<NotOurs>,
}

/// What some messages come to.
#[derive(Default)]
struct Tally {
    /// The worst of them; `None` without a message.
    outcome: Option<Outcome>,
    /// More news may come of one of them.
    unsettled: bool,
}

impl Tally {
    fn add(&mut self, outcome: Option<Outcome>, unsettled: bool) {
        self.outcome = self.outcome.into_iter().chain(outcome).min();
        self.unsettled |= unsettled;
    }
}

impl Told {
    /// What an answer that shows all of these says.
    pub fn of(trails: &Trails) -> Self {
        let messages = trails.messages.iter();
        let messages = messages.map(|m| (m.truth, m.outcome(), m.is_settled()));
        Self::of_all(messages, trails.not_ours.clone())
    }

    /// The same of their lines.
    pub fn of_lines(lines: &[Line], not_ours: Vec<NotOurs>) -> Self {
        let lines = lines.iter();
        let lines = lines.map(|line| (line.truth, line.outcome, line.is_settled));
        Self::of_all(lines, not_ours)
    }

    fn of_all(
        messages: impl Iterator<Item = (Truth, Outcome, bool)>,
        not_ours: Vec<NotOurs>,
    ) -> Self {
        let mut told = Self {
            not_ours,
            ..Self::default()
        };
        for (truth, outcome, is_settled) in messages {
            let tally = match truth {
                Truth::Verified => &mut told.proved,
                _ => &mut told.others,
            };
            tally.add(Some(outcome), !is_settled);
        }
        told
    }

    /// Takes in what another part of the answer says.
    pub fn add(&mut self, more: Self) {
        self.proved.add(more.proved.outcome, more.proved.unsettled);
        self.others.add(more.others.outcome, more.others.unsettled);
        self.not_ours.extend(more.not_ours);
    }

    /// Whether not all of them are proved.
    pub fn has_unproved(&self) -> bool {
        self.others.outcome.is_some()
    }

    /// What counts: anybody can mail a report on a message that was never sent, so beside messages that are proved to be this
    /// user's no other does.
    fn counts(&self) -> &Tally {
        if self.proved.outcome.is_some() {
            &self.proved
        } else {
            &self.others
        }
    }

    /// The worst of the messages that count; `None` without a message.
    pub fn outcome(&self) -> Option<Outcome> {
        self.counts().outcome
    }

    /// Whether there is a message, and nothing is left to wait for.
    pub fn is_done(&self) -> bool {
        self.outcome().is_some() && !self.counts().unsettled
    }
}
