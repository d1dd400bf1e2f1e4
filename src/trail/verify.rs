//! How far a report can be trusted. Three questions, none of which answers another: is it about mail this user
//! sent (its Auth is keyed with B, and only who has the secret, or saw the request on its way, can make B), who
//! wrote it (`report::origin`), and does it agree with the others.

use std::borrow::Cow;
use std::collections::HashMap;

use hashbrown::HashSet;
use serde::Serialize;

use super::clock::Offset;
use super::message::{Message, Stay, Truth};
use crate::report::{Received, Trace, read};
use crate::track::address::key;
use crate::track::{Certificate, Event, HopReport, RecipientStatus, Secret, StepId};

/// A of one message: what shows, without the secret, that its reports were asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// Its Message-ID without angle brackets.
    pub message_id: String,
    /// When it was sent, ms of the originator's clock.
    pub sent_ms: u64,
    /// A.
    pub proof: [u8; 32],
}

/// By what it is judged whether a report was asked for.
#[derive(Clone, Copy)]
pub enum Known<'a> {
    /// The user's own secret: of every message.
    Secret(&'a Secret),
    /// A of some messages, of which all reports have to be.
    Proofs(&'a [Proof]),
    /// Nothing.
    Nothing,
}

impl<'a> From<Option<&'a Secret>> for Known<'a> {
    fn from(secret: Option<&'a Secret>) -> Self {
        secret.map_or(Self::Nothing, Self::Secret)
    }
}

impl Known<'_> {
    /// B of a message.
    fn certificate(self, message_id: &str, sent_ms: u64) -> Option<Certificate> {
        match self {
            Self::Secret(secret) => Some(secret.certificate(message_id, sent_ms)),
            Self::Proofs(proofs) => {
                let is = |p: &&Proof| p.message_id == message_id && p.sent_ms == sent_ms;
                let proof = proofs.iter().find(is)?;
                Some(Certificate::of_proof(&proof.proof))
            }
            Self::Nothing => None,
        }
    }
}

/// Judges whether a report was asked for.
pub fn truth(received: &Received, known: Known) -> Truth {
    judged(received, known).0
}

/// Whether a report was asked for, and B of the message that it names, if that is known, whether the report is proved to
/// be on that or not.
pub fn judged(received: &Received, known: Known) -> (Truth, Option<Certificate>) {
    let report = &received.report;
    if matches!(known, Known::Nothing) {
        return (Truth::Unverifiable, None);
    }
    let named = report.message_id.as_ref().zip(report.sent_ms);
    let named = named.map(|(message_id, sent_ms)| known.certificate(message_id, sent_ms));
    let (Some(auth), Some(certificate)) = (&received.auth, &named) else {
        return (Truth::Unproved, named.flatten());
    };
    let fits = |b: &Certificate| b.verifies(received.canonical.as_bytes(), auth);
    let truth = if certificate.as_ref().is_some_and(fits) {
        Truth::Verified
    } else {
        Truth::NotOurs
    };
    (truth, named.flatten())
}

/// Whether what a hop tells agrees with what the others tell; the worst last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Agreement {
    /// The hop before handed the message to it, and no clock contradicts another.
    Agrees,
    /// It was handed the message by a hop whose report never came, so there is nobody to agree with.
    Unlinked,
    /// The step that it names as the one that handed it the message handed it to a host of another name, by another queue id.
    OtherHost,
    /// It says that nobody reported in front of it, and another hop did: nobody is known to have handed it on to there.
    Apart,
    /// No offset between its clock and that of the hop before fits all stamps, or a clock was set meanwhile.
    Clocks,
    /// By its own clock something was over before it began.
    Backwards,
    /// The step it names as the one that handed it the message says nothing of that.
    NotHandedOver,
    /// Another report says something else of the same step, or of how it ended for a recipient.
    Contradicted,
}

/// Steps of which another report says something else: a double of one of these steps, or a step behind the same one that
/// says of a recipient that it went on where this one says that it failed, or the other way about. That a host tried again and
/// it went on is none.
pub fn contradicted(steps: &[Box<HopReport>], doubles: &[Box<HopReport>]) -> HashSet<StepId> {
    let differs = |double: &HopReport| {
        let kept = steps.iter().find(|step| step.step == double.step);
        kept.is_none_or(|kept| **kept != *double)
    };
    let differing = doubles.iter().filter(|double| differs(double));
    let mut contradicted: HashSet<StepId> = differing.map(|double| double.step).collect();
    // Mostly nothing fails.
    let fates = steps.iter().flat_map(|step| &step.recipients);
    if fates.clone().any(|group| group.event == Event::Failed) {
        contradicted.extend(torn(steps));
    }
    contradicted
}

/// Of the steps behind one step, those that tell opposite ends for a recipient.
fn torn(steps: &[Box<HopReport>]) -> impl Iterator<Item = StepId> {
    let mut ends: HashMap<_, [Vec<End>; 2]> = HashMap::new();
    for step in steps {
        // One that was handed over by nobody is behind its arrival.
        let behind = (
            step.parent,
            step.parent.is_none().then_some(step.arrival_us),
        );
        for group in &step.recipients {
            let went_on = match group.event {
                Event::Failed => 0,
                Event::Transferred | Event::Relayed | Event::Expanded | Event::Delivered => 1,
                _ => continue,
            };
            let told = ends.entry((behind, key(&group.original))).or_default();
            if let Some(ends) = told.get_mut(went_on) {
                ends.push(End::of(step, group));
            }
        }
    }
    let torn = ends.into_values().filter(|[failed, went_on]| {
        let other = |end: &End| went_on.iter().any(|other| other.contradicts(end));
        failed.iter().any(other)
    });
    torn.flat_map(|[failed, went_on]| failed.into_iter().chain(went_on))
        .map(|end| end.step)
}

/// How a step ended for a recipient.
struct End<'a> {
    step: StepId,
    host: &'a str,
    at_us: i64,
}

impl<'a> End<'a> {
    fn of(step: &'a HopReport, group: &RecipientStatus) -> Self {
        let ended_us = step.ended_us(group);
        Self {
            step: step.step,
            host: &step.reporting_mta,
            at_us: ended_us.unwrap_or_else(|| step.arrived_us()),
        }
    }

    /// Whether one that went on cannot be true beside a failure.
    fn contradicts(&self, failed: &Self) -> bool {
        let tried_again = self.host == failed.host && self.at_us > failed.at_us;
        self.step != failed.step && !tried_again
    }
}

/// Compares what a stay tells with the stays around it.
pub fn agreement(message: &Message, stay: &Stay) -> Agreement {
    let before = stay.parent.and_then(|parent| message.stays.get(parent));
    let judge = |step: &HopReport| step_agreement(message, step, stay, before);
    let worst = stay.steps.iter().map(judge).max();
    let worst = worst.unwrap_or(Agreement::Unlinked);
    let worst = if starts_apart(message, stay) {
        worst.max(Agreement::Apart)
    } else {
        worst
    };
    if stay.link == Offset::Contradiction || stay.jump.is_some() {
        worst.max(Agreement::Clocks)
    } else {
        worst
    }
}

/// Whether a stay is a start beside the first one.
fn starts_apart(message: &Message, stay: &Stay) -> bool {
    let is = |other: &Stay| std::ptr::eq(other, stay);
    let place = message.stays.iter().position(is);
    stay.parent.is_none() && place.is_some_and(|n| message.is_apart(n))
}

fn step_agreement(
    message: &Message,
    step: &HopReport,
    stay: &Stay,
    before: Option<&Stay>,
) -> Agreement {
    if message.contradicted.contains(&step.step) {
        return Agreement::Contradicted;
    }
    let goes_back = |group| {
        step.ended_us(group)
            .is_some_and(|us| us < step.arrived_us())
    };
    if step.recipients.iter().any(goes_back) {
        return Agreement::Backwards;
    }
    let Some(parent) = step.parent else {
        return Agreement::Agrees;
    };
    let own = stay.steps.iter().any(|other| other.step == parent);
    let giver = before.and_then(|stay| stay.steps.iter().find(|s| s.step == parent));
    match giver {
        _ if own => Agreement::Agrees,
        None => Agreement::Unlinked,
        Some(giver) if names_another(giver, step) => Agreement::OtherHost,
        Some(giver) if hands_over(giver) => Agreement::Agrees,
        Some(_) => Agreement::NotHandedOver,
    }
}

/// Whether a step gave the message to somebody, or may have done so: what went to a host that seemed not to
/// report, or to members that are not named, can come by a hop all the same; and a reply may be lost.
fn hands_over(step: &HopReport) -> bool {
    let refused = |event| matches!(event, Event::Failed | Event::Held);
    step.recipients.iter().any(|r| !refused(r.event))
}

/// Whether a step handed the message to none but hosts that go by other names than the one that came behind it, and took it
/// under other queue ids. Either alone tells nothing: an MTA may greet by another name than its hop has, and a filter that
/// hands the message back gives it another queue id.
fn names_another(giver: &HopReport, step: &HopReport) -> bool {
    // Between two that are farther apart a hop may keep silent.
    let is_next = giver.hop.checked_add(1) == Some(step.hop);
    let (own, Some(queue_id)) = (&step.reporting_mta, &step.queue_id) else {
        return false;
    };
    let is_other = |group: &RecipientStatus| {
        let (host, id) = (&group.remote_mta, &group.remote_queue_id);
        host.as_ref()
            .is_some_and(|host| !host.eq_ignore_ascii_case(own))
            && id.as_ref().is_some_and(|id| id != queue_id)
    };
    is_next && !giver.recipients.is_empty() && giver.recipients.iter().all(is_other)
}

/// A report and whether to believe it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judged<'a> {
    /// Whether it is about mail of this user.
    pub truth: Truth,
    /// What it says.
    pub report: Box<HopReport>,
    /// What else it says, as in [`Received::others`].
    pub others: Vec<HopReport>,
    /// The address in its From.
    pub from: Option<Cow<'a, str>>,
    /// The address it is to.
    pub to: Option<Cow<'a, str>>,
    /// The Received fields it shows, as in [`Received::trace`].
    pub trace: Vec<Trace>,
}

impl Judged<'_> {
    /// Judges a report.
    pub fn by(received: Received, known: Known) -> Self {
        let truth = truth(&received, known);
        Self::of(received, truth)
    }

    /// A report that was judged.
    pub fn of(received: Received, truth: Truth) -> Self {
        Self {
            truth,
            report: received.report,
            others: received.others,
            from: received.from.map(Cow::Owned),
            to: received.to.map(Cow::Owned),
            trace: received.trace,
        }
    }

    /// The same, but what no proof shows to be on this user's mail is taken as what there is no secret for to judge.
    #[must_use]
    pub fn on_trust(mut self) -> Self {
        if self.truth != Truth::Verified {
            self.truth = Truth::Unverifiable;
        }
        self
    }

    /// Who gave the message to the hop's MTA, as that one's Received field says, if the report shows it.
    pub fn client(&self) -> Option<&str> {
        read::client(self.report.role, &self.trace)
    }
}
