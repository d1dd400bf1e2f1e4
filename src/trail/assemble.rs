//! Reports to messages: judged, grouped by tracking id, each step once, linked to a tree of stays.
//!
//! A stay is a message at a hop: the steps one host reported of it (a delay, then the departure; two
//! transactions for two recipients). Order comes from parent links, then hop numbers, then clocks.

use std::collections::{BTreeMap, HashMap};

use hashbrown::HashSet;

use super::clock::{Bounds, Offset};
use super::forest::Forest;
use super::ghosts;
use super::notices::Word;
use super::pairs::{self, Handover, Jump};
use super::state::{self, Recipient};
use super::verify::{Judged, Known, Truth, contradicted};
use super::{NotOurs, Why};
use crate::report::{Origin, Received, Trace};
use crate::track::{HopReport, Role, Secret, StepId, TrackingId};

/// A message and its way.
#[derive(Clone, Debug)]
pub struct Message {
    /// Its tracking id.
    pub id: TrackingId,
    /// Its Message-ID without angle brackets.
    pub message_id: Option<String>,
    /// Whom its reports go to.
    pub originator: Option<String>,
    /// Who gave it to the MTA of the first hop, where that shows it.
    pub client: Option<String>,
    /// When it was sent, ms of the originator's clock.
    pub sent_ms: Option<u64>,
    /// Whether its reports are proved; never `NotOurs`.
    pub truth: Truth,
    /// Where it was; a stay comes after its parent, and right after it comes its own way on.
    pub stays: Vec<Stay>,
    /// What became of it for each recipient.
    pub recipients: Vec<Recipient>,
    /// What other mail systems say of it, in the order of their time; nothing proves it.
    pub words: Vec<Word>,
    /// Reports on this id that were set aside because they lack the proof the others have.
    pub unproved: usize,
    /// Who wrote each step, where that was looked at.
    pub origins: HashMap<StepId, Origin>,
    /// Steps of which other reports say something else.
    pub contradicted: HashSet<StepId>,
}

/// A message at a hop.
#[derive(Clone, Debug)]
pub struct Stay {
    /// The hop's number.
    pub hop: u8,
    /// The hop's name; of a hop that did not report, the name its neighbour knows, if any.
    pub host: Option<String>,
    /// The stay it came from, by its place in [`Message::stays`].
    pub parent: Option<usize>,
    /// What the hop reported, in the order of its clock; empty if another hop refers to a report that never came.
    pub steps: Vec<HopReport>,
    /// How the message came here from its parent, once for each time it did.
    pub handovers: Vec<Handover>,
    /// The hop's clock against its parent's, when the message came.
    pub link: Offset,
    /// The hop's clock against the first hop's, when the message came.
    pub offset: Offset,
    /// That moment, µs of the hop's clock; `None` at the first hop, whose clock is the measure of the others.
    pub offset_at_us: Option<i64>,
    /// What Received fields that later hops saw claim: of a hop without reports, that it had the message; of another,
    /// which hosts had it between its parent and it, the oldest first. Nothing proves it.
    pub claims: Vec<Trace>,
    /// The hop's clock was set while the message was here, as far as other messages show.
    pub jump: Option<Jump>,
}

impl Stay {
    /// No report came from here.
    pub fn is_missing(&self) -> bool {
        self.steps.is_empty()
    }

    /// The least and the greatest moment told of here, µs of the hop's clock.
    pub fn lasted(&self) -> Option<(i64, i64)> {
        let first = self.steps.iter().map(HopReport::arrived_us).min()?;
        let last = self.steps.iter().map(last_us);
        Some((last.clone().min()?.min(first), last.max()?.max(first)))
    }

    /// The hop's clock against the first hop's at a moment of its own, µs: the longer after the message came, the
    /// wider the bounds.
    pub fn offset_at(&self, us: i64) -> Offset {
        match (self.offset, self.offset_at_us) {
            (Offset::Known(bounds), Some(at_us)) => {
                Offset::Known(bounds.aged(us.saturating_sub(at_us)))
            }
            (offset, _) => offset,
        }
    }

    /// Where a moment of this hop's clock, µs, lies on the first hop's clock, if that is known.
    pub fn on_first_clock(&self, us: i64) -> Option<Bounds> {
        Some(self.offset_at(us).bounds()?.taken_from(us))
    }

    /// How far the times told of here may be off on the first hop's clock at most, µs, if that is known.
    pub fn margin_us(&self) -> Option<i64> {
        let (from_us, to_us) = self.lasted()?;
        let margin_us = |us| Some(self.on_first_clock(us)?.margin_us());
        margin_us(from_us).max(margin_us(to_us))
    }
}

/// What makes reports one message. A proof covers Message-ID and time stamp, not the tracking id; so a
/// report proved for another message cannot slip in under this one's id.
type Key = (TrackingId, Option<(String, u64)>);

/// Judges reports and puts them together. Messages come in the order of their sending.
pub fn assemble(received: Vec<Received>, secret: Option<&Secret>) -> (Vec<Message>, Vec<NotOurs>) {
    let known = Known::from(secret);
    let judged = received.into_iter().map(|one| Judged::by(one, known));
    let (mut messages, not_ours) = put_together(judged.map(|one| (one, Origin::Unchecked)));
    pairs::set_clocks(&mut messages);
    (messages, not_ours)
}

/// Puts reports together that were all judged by the same secret, each with who wrote it, as far as anybody looked.
/// Clocks are still to be compared over all messages.
pub fn put_together(
    judged: impl Iterator<Item = (Judged, Origin)>,
) -> (Vec<Message>, Vec<NotOurs>) {
    let judged: Vec<(Judged, Origin)> = judged.collect();
    let vouched = vouched(&judged);
    let mut groups: BTreeMap<Key, Group> = BTreeMap::new();
    let mut apart = Vec::new();
    let mut without_proof = Truth::Unproved;
    for (one, origin) in judged {
        let report = &one.report;
        let key = (
            report.id.clone(),
            report.message_id.clone().zip(report.sent_ms),
        );
        if one.truth == Truth::Unverifiable {
            without_proof = one.truth;
        }
        match (one.truth, &origin) {
            (Truth::NotOurs, _) => apart.push((key, set_apart(one, Why::WrongProof))),
            (_, Origin::Altered { .. }) => {
                apart.push((key, set_apart(one, Why::BrokenSignature)));
            }
            _ if contradicts(&one.report, &vouched) => {
                apart.push((key, set_apart(one, Why::Contradicted)));
            }
            (Truth::Verified, _) => groups.entry(key).or_default().take(one, &origin),
            _ => groups.entry((key.0, None)).or_default().take(one, &origin),
        }
    }
    let name_altered = |(key, report): (Key, NotOurs)| match report.why {
        // The message is this user's: others proved it.
        Why::WrongProof if groups.contains_key(&key) && key.1.is_some() => NotOurs {
            why: Why::Altered,
            ..report
        },
        _ => report,
    };
    let not_ours = apart.into_iter().map(name_altered).collect();
    let mut messages = set_unproved_aside(groups, without_proof);
    messages.sort_by_key(|m| (m.sent_or_arrived_us(), m.id.clone()));
    (messages, not_ours)
}

/// A step as a host tells of it.
type Claim = (TrackingId, StepId, String);

fn claim(report: &HopReport) -> Claim {
    let host = report.reporting_mta.clone();
    (report.id.clone(), report.step, host)
}

/// What hosts tell under the signature of their own domain.
fn vouched(received: &[(Judged, Origin)]) -> HashMap<Claim, HopReport> {
    let signed = received
        .iter()
        .filter(|(_, origin)| matches!(origin, Origin::Signed { vouches: true, .. }));
    signed
        .map(|(one, _)| (claim(&one.report), one.report.clone()))
        .collect()
}

/// Whether a report says something else of a step than its host does under its signature: every hop behind it knows
/// the step's id and B.
fn contradicts(report: &HopReport, vouched: &HashMap<Claim, HopReport>) -> bool {
    // Mostly nobody looked who signed.
    !vouched.is_empty()
        && vouched
            .get(&claim(report))
            .is_some_and(|signed| signed != report)
}

fn set_apart(one: Judged, why: Why) -> NotOurs {
    NotOurs {
        id: one.report.id,
        host: one.report.reporting_mta,
        from: one.from,
        why,
    }
}

/// What is told of one message.
#[derive(Default)]
struct Group {
    originator: Option<String>,
    client: Option<String>,
    reports: Vec<HopReport>,
    origins: HashMap<StepId, Origin>,
    /// The Received fields that each step shows.
    traces: HashMap<StepId, Vec<Trace>>,
}

impl Group {
    /// Takes a mail's steps in; of several copies of a step, the origin of a signed one counts.
    fn take(&mut self, one: Judged, origin: &Origin) {
        let signed = matches!(origin, Origin::Signed { vouches: true, .. });
        if one.report.hop == 1 && self.client.is_none() {
            self.client = one.client().map(str::to_owned);
        }
        self.originator = self.originator.take().or(one.to);
        if !one.trace.is_empty() {
            self.traces.insert(one.report.step, one.trace);
        }
        for step in std::iter::once(one.report).chain(one.others) {
            if *origin != Origin::Unchecked && (signed || !self.origins.contains_key(&step.step)) {
                self.origins.insert(step.step, origin.clone());
            }
            self.reports.push(step);
        }
    }
}

/// Reports without proof tell nothing of a message that has proved ones.
fn set_unproved_aside(mut groups: BTreeMap<Key, Group>, without_proof: Truth) -> Vec<Message> {
    let mut aside = HashMap::new();
    let is_proved = |key: &Key| key.1.is_some();
    if groups.keys().any(is_proved) && !groups.keys().all(is_proved) {
        let proved = groups.keys().filter(|key| is_proved(key));
        let proved: HashSet<_> = proved.map(|key| key.0.clone()).collect();
        groups.retain(|(id, proof), group| {
            let keep = proof.is_some() || !proved.contains(id);
            if !keep {
                aside.insert(id.clone(), group.reports.len());
            }
            keep
        });
    }
    groups
        .into_iter()
        .map(|((id, proof), group)| {
            let unproved = aside.get(&id).copied().unwrap_or(0);
            let truth = if proof.is_some() {
                Truth::Verified
            } else {
                without_proof
            };
            message(id, truth, group, unproved)
        })
        .collect()
}

fn message(id: TrackingId, truth: Truth, group: Group, unproved: usize) -> Message {
    let (steps, doubles) = in_order(group.reports);
    let contradicted = contradicted(&steps, &doubles);
    let message_id = steps.iter().find_map(|s| s.message_id.clone());
    let sent_ms = steps.iter().find_map(|s| s.sent_ms);
    let mut stays = Forest::grow(steps).into_stays();
    ghosts::place(&mut stays, group.traces);
    pairs::hand_over(&mut stays);
    Message {
        id,
        originator: group.originator,
        client: group.client,
        message_id,
        sent_ms,
        truth,
        recipients: state::recipients(&stays),
        stays,
        words: Vec::new(),
        unproved,
        origins: group.origins,
        contradicted,
    }
}

impl Message {
    /// Who wrote a step, as far as anybody looked.
    pub fn origin(&self, step: StepId) -> &Origin {
        self.origins.get(&step).unwrap_or(&Origin::Unchecked)
    }

    /// The stays at the same host that this one goes back to, the first of them first: more than one or two are a
    /// loop, and the hops between two of them its ring.
    pub fn earlier_visits(&self, stay: usize) -> Vec<usize> {
        let host = |n: usize| self.stays.get(n).and_then(|s| s.host.as_deref());
        let Some(here) = host(stay) else {
            return Vec::new();
        };
        let before = |n: &usize| self.stays.get(*n).and_then(|s| s.parent);
        let ancestors = std::iter::successors(before(&stay), before);
        let same = |n: &usize| host(*n).is_some_and(|host| host.eq_ignore_ascii_case(here));
        let mut visits: Vec<usize> = ancestors.filter(same).collect();
        visits.reverse();
        visits
    }

    /// When it set out, for sorting: the originator's stamp, else the first arrival, µs.
    pub fn sent_or_arrived_us(&self) -> i64 {
        if let Some(ms) = self.sent_ms.and_then(|ms| i64::try_from(ms).ok()) {
            return ms.saturating_mul(1000);
        }
        let steps = self.stays.iter().flat_map(|s| &s.steps);
        steps.map(HopReport::arrived_us).min().unwrap_or_default()
    }
}

/// Each step once, parents in front of children: by hop, then entrance before exit, then time. And its doubles.
fn in_order(mut reports: Vec<HopReport>) -> (Vec<HopReport>, Vec<HopReport>) {
    let place = |r: &HopReport| (r.hop, r.role != Role::Ingress, last_us(r), r.step);
    // Of those that tell different things of a step, the same one counts in whatever order they were read.
    reports.sort_by(|a, b| place(a).cmp(&place(b)).then_with(|| a.cmp(b)));
    let mut seen = HashSet::new();
    let doubles = reports.extract_if(.., |r| !seen.insert(r.step)).collect();
    (reports, doubles)
}

/// The latest moment a step tells of, µs of its hop's clock.
pub(super) fn last_us(report: &HopReport) -> i64 {
    let attempts = report.recipients.iter().filter_map(|r| r.attempted_us);
    attempts.max().unwrap_or_else(|| report.arrived_us())
}
