//! Reports that count for nothing where a secret proves which do.

use crate::trail::{Trails, Truth, Why};

/// How many were left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// On messages of which nothing is proved, or of others: they count where unproved ones are taken in.
    pub unproved: usize,
    /// On messages of which other reports are proved: they count nowhere.
    pub beside_proved: usize,
}

impl LeftOut {
    /// Counts those of some more messages.
    pub fn add(&mut self, trails: &Trails) {
        let apart = trails.not_ours.iter();
        let altered = apart.filter(|one| one.why == Why::Altered).count();
        let unproved = trails
            .messages
            .iter()
            .filter(|m| m.truth == Truth::Unproved);
        let steps = unproved.flat_map(|m| &m.stays).map(|stay| stay.steps.len());
        self.unproved += trails.not_ours.len() - altered + steps.sum::<usize>();
        let aside = trails.messages.iter().map(|m| m.unproved);
        self.beside_proved += altered + aside.sum::<usize>();
    }

    /// All of them.
    pub fn count(self) -> usize {
        self.unproved + self.beside_proved
    }
}
