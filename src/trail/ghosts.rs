//! Hosts that did not report and yet left a trace: the Received fields that later hops saw. Whoever wrote one claims to
//! have had the message then, by a clock nobody knows; nothing proves it, and it changes nothing but what is shown.

use std::collections::HashMap;

use super::message::Stay;
use crate::report::Trace;
use crate::track::StepId;

/// Sorts the fields that each step shows to the stays they tell of: to a stay without a report its own, to one with
/// reports those of the hosts between it and the stay it came from, the oldest first.
pub fn place(stays: &mut [Stay], mut traces: HashMap<StepId, Vec<Trace>>) {
    if traces.is_empty() {
        return;
    }
    for n in 0..stays.len() {
        let Some(stay) = stays.get(n) else { break };
        let of_step = stay
            .steps
            .iter()
            .filter_map(|step| traces.remove(&step.step));
        let Some(fields) = of_step.max_by_key(Vec::len) else {
            continue;
        };
        let others = |field: &Trace| {
            let mut others = stays.iter().enumerate().filter(|(k, _)| *k != n);
            others.any(|(_, other)| !other.is_missing() && is_of(other, field))
        };
        let news = fields.iter().skip_while(|field| is_of(stay, field));
        let mut between: Vec<Trace> = news.take_while(|f| !others(f)).cloned().collect();
        between.retain(|field| !is_of(stay, field));
        between.reverse();
        let parent = stay.parent;
        if let Some(missing) = parent
            .and_then(|p| stays.get_mut(p))
            .filter(|p| p.is_missing())
        {
            missing.claims = taken(&mut between, missing.host.as_deref());
        }
        if let Some(stay) = stays.get_mut(n) {
            stay.claims = between;
        }
    }
}

/// Whether the MTA of a stay wrote a field: by its name, or by the queue id it gave the message.
fn is_of(stay: &Stay, field: &Trace) -> bool {
    let named = |host: &str| host.eq_ignore_ascii_case(&field.by);
    let queued = |id: &str| stay.steps.iter().any(|s| s.queue_id.as_deref() == Some(id));
    stay.host.as_deref().is_some_and(named) || field.id.as_deref().is_some_and(queued)
}

/// The fields of the host that is missing: those that bear its name, or the only one where it has none.
fn taken(between: &mut Vec<Trace>, host: Option<&str>) -> Vec<Trace> {
    match host {
        None if between.len() == 1 => std::mem::take(between),
        None => Vec::new(),
        Some(host) => {
            let (own, others) = std::mem::take(between)
                .into_iter()
                .partition(|field| field.by.eq_ignore_ascii_case(host));
            *between = others;
            own
        }
    }
}
