//! The ring in which a message came back to a hop it had left: as the reports of its hops show it, else as far as
//! that hop knew it.

use super::Message;
use crate::track::{Event, HopReport, UNSEEN};

/// The names of the hops in the ring of a step at this stay, the hop itself first and last; a hop without a name is
/// [`UNSEEN`]. Empty if it tells of no ring, or nobody knows which.
pub fn ring(message: &Message, stay: usize, step: &HopReport) -> Vec<String> {
    if !step.recipients.iter().any(|to| to.event == Event::Looped) {
        return Vec::new();
    }
    let mut names = vec![step.reporting_mta.to_string()];
    let mut before = message.stays.get(stay).and_then(|stay| stay.parent);
    // A parent stands before its children, so this ends.
    while let Some(stay) = before.and_then(|n| message.stays.get(n)) {
        let name = stay.host.as_deref().unwrap_or(UNSEEN);
        names.push(name.to_owned());
        if name == step.reporting_mta {
            names.reverse();
            return names;
        }
        before = stay.parent;
    }
    step.ring.clone()
}
