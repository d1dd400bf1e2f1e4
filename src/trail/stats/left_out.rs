//! Reports that count for nothing where a secret proves which do.

use crate::trail::{Trails, Truth, Why};

/// How many were left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// On messages of which nothing is proved, or of others: they count where unproved ones are taken in.
    pub unproved: usize,
    /// On messages of which other reports are proved, or naming one of those: they count nowhere.
    pub beside_proved: usize,
}

impl LeftOut {
    /// Counts those of some more messages.
    pub fn add(&mut self, trails: &Trails) {
        let apart = trails.not_ours.iter();
        let altered = apart.filter(|one| one.why == Why::Altered).count();
        self.unproved += trails.not_ours.len() - altered;
        self.beside_proved += altered;
        for message in &trails.messages {
            self.beside_proved += message.unproved;
            let steps = || {
                message
                    .stays
                    .iter()
                    .map(|stay| stay.steps.len())
                    .sum::<usize>()
            };
            if !message.names.is_empty() {
                self.beside_proved += steps();
            } else if message.truth == Truth::Unproved {
                self.unproved += steps();
            }
        }
    }

    /// All of them.
    pub fn count(self) -> usize {
        self.unproved + self.beside_proved
    }
}
