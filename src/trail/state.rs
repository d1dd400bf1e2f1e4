//! What became of a message for each recipient, and the outcome of it all.

use std::borrow::Cow;

use hashbrown::{HashMap, HashSet};

use super::message::{Elsewhere, Message, Outcome, Recipient, State, Stay, Truth};
use super::refusal::Refusal;
use super::starts::{is_apart, starts};
use crate::report::Origin;
use crate::track::address::key;
use crate::track::{Event, HopReport, RecipientStatus, StepId};

impl Message {
    /// The answer over all recipients.
    pub fn outcome(&self) -> Outcome {
        let outcomes = self.recipients.iter().map(|r| self.outcome_for(r));
        let untold = (self.untold() > 0).then_some(Outcome::Open);
        outcomes.chain(untold).min().unwrap_or(Outcome::Open)
    }

    /// No more news can come of it: every recipient has it or will not get it, or the trail ends.
    pub fn is_settled(&self) -> bool {
        let proved = self.truth != Truth::Unproved;
        self.untold() == 0 && self.recipients.iter().all(|r| proved && r.state.is_last())
    }

    /// How many recipients came with this message to the first hop that tells of it, and nobody has told of since.
    pub fn untold(&self) -> usize {
        let mut steps = self.stays.iter().flat_map(|stay| &stay.steps);
        // Most messages leave for all at once.
        if steps.all(|step| step.came_for.is_none()) {
            return 0;
        }
        let stays = self.stays.iter();
        let first = stays.filter(|stay| !self.is_told_before(stay));
        let mut arrivals: HashMap<_, (usize, HashSet<Cow<str>>)> = HashMap::new();
        for step in first.flat_map(|stay| &stay.steps) {
            let arrival = (step.reporting_mta.as_str(), step.arrival_us);
            let (came_for, told) = arrivals.entry(arrival).or_default();
            *came_for = step.came_for.unwrap_or(0).max(*came_for);
            told.extend(step.recipients.iter().map(|r| key(&r.original)));
        }
        let untold =
            |(came_for, told): &(usize, HashSet<Cow<str>>)| came_for.saturating_sub(told.len());
        arrivals.values().map(untold).sum()
    }

    /// A hop before this one has told of the message.
    fn is_told_before(&self, stay: &Stay) -> bool {
        let parent = |n: usize| self.stays.get(n);
        let mut before = stay.parent.and_then(parent);
        // A parent stands before its children, so this ends.
        while let Some(stay) = before {
            if !stay.is_missing() {
                return true;
            }
            before = stay.parent.and_then(parent);
        }
        false
    }

    /// The answer for one of its recipients. What stands unproved beside a secret settles nothing: else
    /// whoever knows a tracking id could end the wait for it.
    pub fn outcome_for(&self, recipient: &Recipient) -> Outcome {
        match self.truth {
            Truth::Unproved => Outcome::Open,
            _ => recipient.state.outcome(),
        }
    }
}

/// One group of one step, and where it stands.
#[derive(Clone, Copy)]
struct Told<'a> {
    stay: usize,
    step: &'a HopReport,
    group: &'a RecipientStatus,
    /// Its host is shown to have written it.
    is_shown: bool,
    /// Nobody is known to have handed the message on to there.
    is_apart: bool,
}

impl Told<'_> {
    fn at_us(&self) -> i64 {
        let ended = self.step.ended_us(self.group);
        ended.unwrap_or_else(|| self.step.arrived_us())
    }

    /// The order in which a message meets them: a delivery is the end of every story, else what is
    /// farther along the way, and at one hop what ends its part in it. No report of which nobody knows who wrote it
    /// undoes an end that a host tells under its signature.
    fn rank(&self) -> (bool, bool, u8, bool, bool, i64) {
        let event = self.group.event;
        let waits = event == Event::Delayed || event == Event::Held;
        let ends = event == Event::Delivered || event == Event::Failed;
        (
            ends && self.is_shown,
            event == Event::Delivered,
            self.step.hop,
            event.is_final(),
            waits,
            // Of several deliveries the first one is when it arrived.
            if event == Event::Delivered {
                self.at_us().saturating_neg()
            } else {
                self.at_us()
            },
        )
    }

    /// Whether it takes back that its host told before that this was the end: by its own clock it tried once more later, as
    /// some keep what was refused for good (`soft_bounce`). Nothing that nobody is shown to have written takes back what
    /// a host tells under its signature.
    fn undoes(&self, refused: &Self) -> bool {
        let tried = match self.group.event {
            Event::Delayed
            | Event::Transferred
            | Event::Relayed
            | Event::Expanded
            | Event::Delivered => true,
            // Of two copies both may fail.
            Event::Failed => self.step.arrived_us() == refused.step.arrived_us(),
            Event::Accepted | Event::Held | Event::Looped => false,
        };
        let is_before = refused.step.is_of_earlier(refused.group);
        let is_other = self.step.step != refused.step.step || is_before;
        let may = self.is_shown || !refused.is_shown;
        let is_here = self.stay == refused.stay && is_other;
        tried && refused.is_failure() && is_here && may && self.at_us() > refused.at_us()
    }

    fn elsewhere(&self) -> Elsewhere {
        Elsewhere {
            state: State::of(self.group.event),
            stay: self.stay,
            host: self.step.reporting_mta.clone(),
            at_us: self.at_us(),
        }
    }

    fn refusal(&self) -> Refusal {
        Refusal {
            stay: self.stay,
            step: self.step.step,
            at_us: self.at_us(),
        }
    }

    fn is_failure(&self) -> bool {
        self.group.event == Event::Failed
    }

    /// Whether it says where the message is, and not merely that it went on.
    fn tells_where(&self) -> bool {
        match self.group.event {
            Event::Delayed | Event::Held | Event::Looped | Event::Failed | Event::Delivered => true,
            Event::Accepted | Event::Transferred | Event::Relayed | Event::Expanded => false,
        }
    }
}

/// Who wrote each step, where that was looked at.
type Origins = std::collections::HashMap<StepId, Origin>;

/// The recipients in the order they were first named.
pub fn recipients(stays: &[Stay], origins: &Origins) -> Vec<Recipient> {
    let starts = starts(stays);
    let mut told: Vec<Vec<Told>> = Vec::new();
    let mut places: HashMap<Cow<str>, usize> = HashMap::new();
    for (stay, step) in stays
        .iter()
        .enumerate()
        .flat_map(|(n, s)| s.steps.iter().map(move |t| (n, t)))
    {
        let is_apart = starts
            .get(stay)
            .is_some_and(|start| is_apart(stays, *start));
        let is_shown = origins.get(&step.step).is_some_and(Origin::is_shown);
        for group in &step.recipients {
            let place = *places.entry(key(&group.original)).or_insert(told.len());
            if place == told.len() {
                told.push(Vec::new());
            }
            if let Some(all) = told.get_mut(place) {
                all.push(Told {
                    stay,
                    step,
                    group,
                    is_shown,
                    is_apart,
                });
            }
        }
    }
    let mut recipients = Vec::with_capacity(told.len());
    recipients.extend(told.into_iter().filter_map(recipient));
    recipients
}

/// Takes out the failures that were undone.
fn undone<'a>(told: &mut Vec<Told<'a>>) -> Vec<Told<'a>> {
    // Mostly nothing fails.
    if !told.iter().any(Told::is_failure) {
        return Vec::new();
    }
    let all = told.clone();
    let is_undone = |refused: &mut Told| all.iter().any(|later| later.undoes(refused));
    told.extract_if(.., is_undone).collect()
}

/// What counts of all that is told of a recipient, and what else is told by a hop that had it from nobody known.
fn choose<'t, 'a>(told: &'t [Told<'a>]) -> Option<(&'t Told<'a>, Option<&'t Told<'a>>)> {
    let last = |apart: bool| {
        let told = told.iter().filter(|told| told.is_apart == apart);
        told.max_by_key(|told| told.rank())
    };
    match (last(false), last(true)) {
        // Where it is known to be, what is told elsewhere does not undo.
        (Some(last), apart) if last.tells_where() => Some((last, apart)),
        (Some(last), Some(apart)) if apart.rank() > last.rank() => Some((apart, None)),
        (Some(last), apart) => Some((last, apart)),
        (None, apart) => Some((apart?, None)),
    }
}

fn recipient(mut told: Vec<Told>) -> Option<Recipient> {
    let address = &told.first()?.group.original;
    let undone = undone(&mut told);
    let (last, apart) = choose(&told)?;
    // One that was named twice has not got what was refused to either.
    let refused = |t: &&Told| t.step.step == last.step.step && t.is_failure();
    let last = told.iter().find(refused).unwrap_or(last);
    let deliveries = told
        .iter()
        .filter(|t| t.group.event == Event::Delivered && t.is_apart == last.is_apart);
    let ends = |told: &&Told| matches!(told.group.event, Event::Delivered | Event::Failed);
    let is_beside = |t: &&Told| t.is_failure() && t.is_apart == last.is_apart;
    let beside = told.iter().filter(|_| !last.is_failure());
    let delays = told.iter().filter(|t| t.group.event == Event::Delayed);
    let delays = delays.filter(|t| t.stay == last.stay && t.at_us() <= last.at_us());
    Some(Recipient {
        address: address.clone(),
        state: State::of(last.group.event),
        stay: last.stay,
        step: last.step.step,
        host: last.step.reporting_mta.clone(),
        remote: last.group.remote_mta.clone(),
        at_us: last.at_us(),
        arrived_us: last.step.arrived_us(),
        status: last.group.status,
        reply: last.group.reply.clone(),
        delays: delays.count(),
        refusals: undone.iter().map(Told::refusal).collect(),
        deliveries: deliveries.count(),
        apart: apart.filter(ends).map(Told::elsewhere),
        also_failed: beside
            .filter(is_beside)
            .max_by_key(|t| t.rank())
            .map(Told::elsewhere),
        word: None,
    })
}
