//! What a list says of a message: one line's worth of it, before anybody knows how wide it may be.

use compact_str::CompactString;

use super::View;
use super::verdict::{addresses, verdict};
use crate::trail::{Message, Outcome, Truth};

/// A message in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Its tracking id.
    pub id: String,
    /// When it set out, µs.
    pub when_us: i64,
    /// Whether its reports are proved.
    pub truth: Truth,
    /// Whether it arrived.
    pub outcome: Outcome,
    /// No more news can come of it.
    pub is_settled: bool,
    /// What became of it, in short.
    pub verdict: String,
    /// Its recipients, in the order in which the verdict speaks of them.
    pub addresses: Vec<CompactString>,
}

impl Line {
    /// What it says of a message.
    pub fn of(message: &Message, view: &View) -> Self {
        Self {
            id: message.id.as_str().to_owned(),
            when_us: message.sent_or_arrived_us(),
            truth: message.truth,
            outcome: message.outcome(),
            is_settled: message.is_settled(),
            verdict: verdict(message, view, true),
            addresses: addresses(message),
        }
    }

    /// Whether its mark is explained below the list.
    pub fn is_unproved(&self) -> bool {
        self.truth != Truth::Verified
    }
}
