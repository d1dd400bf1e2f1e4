//! The watch over what has come into this hop and is not seen leaving: told once as `held`, of exactly those recipients of
//! whom nothing was seen. What an egress or a delivery sees of one, a failed attempt included, ends it for him alone; for
//! all where it cannot be told who he was, since then it is not known of anybody that he is still here. No sockets.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;
use tracing::error;

use super::deadline::Timer;
use super::{Hop, Site, log_step};
use crate::store::Staying;
use crate::track::stay::distinct;
use crate::track::{
    Asked, Event, Form, HopReport, RecipientStatus, Role, Status, Stay, Step, StepId,
};

/// Between two looks; `held` is late by so much at the most.
const LOOK_SECONDS: u64 = 15;
/// Messages told of in one look.
const STEPS_MAX: usize = 500;

/// Looks again and again for what came too long ago, until `stopping` holds true. `sites` are the listeners.
pub async fn run(sites: watch::Receiver<Vec<Arc<Site>>>, mut stopping: watch::Receiver<bool>) {
    loop {
        let ways_out = ways_out(&sites.borrow());
        look(&ways_out).await;
        tokio::select! {
            () = sleep(Duration::from_secs(LOOK_SECONDS)) => {}
            _ = stopping.wait_for(|stop| *stop) => return,
        }
    }
}

fn ways_out(sites: &[Arc<Site>]) -> Vec<Arc<Site>> {
    let leaves = |site: &&Arc<Site>| site.listener.role != Role::Ingress;
    sites.iter().filter(leaves).cloned().collect()
}

async fn look(ways_out: &[Arc<Site>]) {
    let Some(hop) = ways_out.first().map(|site| &*site.hop) else {
        return;
    };
    for (arrival, staying) in overdue(hop).await {
        let asked = arrival.asked;
        let Some(id) = hop.step_id() else {
            return;
        };
        if let Some(site) = spokesman(ways_out, asked) {
            let step = held(arrival, &staying, id);
            log_step(hop, &step);
            site.record(step, &mut Timer::default()).await;
        }
    }
}

/// The arrivals of what should have left, and who has not.
async fn overdue(hop: &Hop) -> Vec<(Step, Staying)> {
    let (Some(tracking), Some(after)) = (hop.tracking.get(), hop.held_after) else {
        return Vec::new();
    };
    let after_ms = i64::try_from(after.as_millis()).unwrap_or(i64::MAX);
    let before_ms = hop.clock.now_ms().saturating_sub(after_ms);
    let found = tracking.store.staying(before_ms, STEPS_MAX).await;
    let found = found.unwrap_or_else(|cause| {
        error!(hop = %hop.hostname, %cause, "what is held here cannot be told");
        Vec::new()
    });
    let mut overdue = Vec::new();
    for staying in found {
        // One that cannot be read tells of nobody.
        let arrival = tracking.store.step(staying.arrival).await.ok().flatten();
        overdue.extend(arrival.map(|arrival| (arrival, staying)));
    }
    overdue
}

/// By which of its ways out a message will leave is not known, so the one speaks that tells its asker least.
fn spokesman(ways_out: &[Arc<Site>], asked: Option<Asked>) -> Option<&Arc<Site>> {
    let told = |site: &&Arc<Site>| asked.map(|asked| site.listener.policy.disclose.to(asked.by));
    ways_out.iter().max_by_key(told)
}

/// Remembers of an arrival what is seen of it where nothing is told, if that changes anything. Returns its stay as it was,
/// if it is not over.
pub(super) async fn see(site: &Site, arrival: &Step, seen: Stay) -> Option<Staying> {
    let staying = site.hop.stay_of(arrival.report.step).await?;
    if staying.heeds(&seen)
        && let Some(id) = site.hop.step_id()
    {
        let step = about(arrival.clone(), id, seen);
        site.record(step, &mut Timer::default()).await;
    }
    Some(staying)
}

/// The step that tells of an arrival that nothing was seen of those who stay.
fn held(arrival: Step, staying: &Staying, id: StepId) -> Step {
    let came_for = distinct(&arrival.report.recipients);
    let all = arrival.report.recipients.iter().enumerate();
    let left = all.filter(|(place, _)| staying.keeps(*place));
    let recipients: Vec<_> = left.map(|(_, recipient)| still_here(recipient)).collect();
    let told_of = distinct(&recipients);
    let mut step = about(arrival, id, Stay::Quiet(staying.arrival));
    step.report.came_for = Some(came_for).filter(|count| *count > told_of);
    step.report.recipients = recipients;
    step.told = Some(Form::Report);
    step
}

fn still_here(recipient: &RecipientStatus) -> RecipientStatus {
    RecipientStatus {
        original: recipient.original.clone(),
        recipient: recipient.recipient.clone(),
        event: Event::Held,
        status: Status::of_class(4),
        remote_mta: None,
        attempted_us: None,
        reply: None,
        remote_queue_id: None,
    }
}

/// A step about what came with `arrival`, which has nothing to tell.
fn about(arrival: Step, id: StepId, stay: Stay) -> Step {
    Step {
        report: HopReport {
            step: id,
            parent: arrival.next_parent(),
            recipients: Vec::new(),
            ..arrival.report
        },
        told: None,
        received: None,
        stay: Some(stay),
        ..arrival
    }
}
