//! The watch over what has come into this hop and is not seen leaving: told once as `held`. Whatever an egress or a
//! delivery sees of a message, a failed attempt included, ends it. No sockets.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;
use tracing::error;

use super::deadline::Timer;
use super::{Hop, Site, log_step};
use crate::track::{Asked, Event, Form, HopReport, RecipientStatus, Role, Status, Stay, Step};

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
    for arrival in overdue(hop).await {
        let asked = arrival.asked;
        let Some(step) = held(hop, arrival) else {
            return;
        };
        if let Some(site) = spokesman(ways_out, asked) {
            log_step(hop, &step);
            site.record(step, &mut Timer::default()).await;
        }
    }
}

/// The arrivals of what should have left.
async fn overdue(hop: &Hop) -> Vec<Step> {
    let (Some(tracking), Some(after)) = (&hop.tracking, hop.held_after) else {
        return Vec::new();
    };
    let after_ms = i64::try_from(after.as_millis()).unwrap_or(i64::MAX);
    let before_ms = hop.clock.now_ms().saturating_sub(after_ms);
    let staying = tracking.store.staying(before_ms, STEPS_MAX).await;
    let staying = staying.unwrap_or_else(|cause| {
        error!(hop = %hop.hostname, %cause, "what is held here cannot be told");
        Vec::new()
    });
    let mut arrivals = Vec::new();
    for step in staying {
        // One that cannot be read tells of nobody.
        arrivals.extend(tracking.store.step(step).await.ok().flatten());
    }
    arrivals
}

/// By which of its ways out a message will leave is not known, so the one speaks that tells its asker least.
fn spokesman(ways_out: &[Arc<Site>], asked: Option<Asked>) -> Option<&Arc<Site>> {
    let told = |site: &&Arc<Site>| asked.map(|asked| site.listener.policy.disclose.to(asked.by));
    ways_out.iter().max_by_key(told)
}

/// Remembers of an arrival that its message is here no more, or goes on untracked: there is nothing to tell.
pub(super) async fn is_gone(site: &Site, arrival: Step) {
    if let Some(mut step) = held(&site.hop, arrival) {
        step.report.recipients.clear();
        step.told = None;
        site.record(step, &mut Timer::default()).await;
    }
}

/// The step that tells of an arrival that nothing has come of it; `None` if the system has no randomness to give.
fn held(hop: &Hop, arrival: Step) -> Option<Step> {
    let still_here = |recipient: RecipientStatus| RecipientStatus {
        event: Event::Held,
        status: Status::of_class(4),
        remote_mta: None,
        attempted_us: None,
        reply: None,
        remote_queue_id: None,
        ..recipient
    };
    let (parent, ended) = (arrival.next_parent(), arrival.report.step);
    let recipients = arrival.report.recipients.into_iter().map(still_here);
    Some(Step {
        report: HopReport {
            step: hop.step_id()?,
            parent,
            recipients: recipients.collect(),
            ..arrival.report
        },
        told: Some(Form::Report),
        received: None,
        stay: Some(Stay::Ends(ended)),
        ..arrival
    })
}
