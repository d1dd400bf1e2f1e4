//! What ties a report that counts for nothing to a hop that a message was handed to: the step that it names as the one
//! which gave it the message, or the queue id that its host answered with. So it is known for that hop's where it bears another
//! name than the hop before knows it by. Nothing of it proves anything: it is good for not blaming a hop alone.

use compact_str::CompactString;
use hashbrown::{HashMap, HashSet};

use crate::track::{Event, HopReport, StepId};

/// To whom the steps of a message handed it on.
pub struct Ties<'a> {
    by_step: HashMap<StepId, HashSet<&'a CompactString>>,
    by_queue_id: HashMap<&'a CompactString, HashSet<&'a CompactString>>,
}

impl<'a> Ties<'a> {
    /// Of these steps.
    pub fn of(steps: &'a [Box<HopReport>]) -> Self {
        let mut ties = Self {
            by_step: HashMap::new(),
            by_queue_id: HashMap::new(),
        };
        for step in steps {
            let handed = step.recipients.iter();
            for group in handed.filter(|group| group.event == Event::Transferred) {
                let Some(next) = &group.remote_mta else {
                    continue;
                };
                ties.by_step.entry(step.step).or_default().insert(next);
                if let Some(queue_id) = &group.remote_queue_id {
                    ties.by_queue_id.entry(queue_id).or_default().insert(next);
                }
            }
        }
        ties
    }

    /// The names, in lower case, by which the hop before knows the one that a report seems to be of, where it bears
    /// another.
    pub fn other_names_of(&self, report: &HopReport) -> impl Iterator<Item = String> {
        let by_step = report.parent.and_then(|step| self.by_step.get(&step));
        let by_queue_id = report.queue_id.as_ref();
        let by_queue_id = by_queue_id.and_then(|id| self.by_queue_id.get(id));
        let names = by_step.into_iter().chain(by_queue_id).flatten();
        let own = &report.reporting_mta;
        let others = names.filter(|name| !name.eq_ignore_ascii_case(own));
        others.map(|name| name.to_lowercase().into())
    }
}
