//! Reports to messages: judged, grouped by tracking id, each step once, linked to a tree of stays.
//!
//! A stay is a message at a hop: the steps one host reported of it (a delay, then the departure; two
//! transactions for two recipients). Order comes from parent links, then hop numbers, then clocks.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use hashbrown::HashSet;

use super::forest::Forest;
use super::ghosts;
use super::message::{Message, Truth, last_us};
use super::verify::{Judged, Known, contradicted};
use super::{NotOurs, Why, pairs, starts, state};
use crate::report::{Origin, Received, Trace};
use crate::track::{HopReport, Role, Secret, StepId, TrackingId};

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
            // Whoever proves that he knew the request need not sign, so a signature that does not fit takes nothing off.
            (truth, Origin::Altered { .. }) if truth != Truth::Verified => {
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
    let not_ours: Vec<NotOurs> = apart.into_iter().map(name_altered).collect();
    let mut messages = set_unproved_aside(groups, without_proof);
    messages.sort_by_key(|m| (m.sent_or_arrived_us(), m.id.clone()));
    note_left_out(&mut messages, &not_ours);
    (messages, not_ours)
}

/// Notes with each message in whose names reports on it are set apart: nobody can say that such a host told nothing.
pub fn note_left_out(messages: &mut [Message], not_ours: &[NotOurs]) {
    let mut hosts: HashMap<&TrackingId, BTreeSet<String>> = HashMap::new();
    for report in not_ours {
        let of_message = hosts.entry(&report.id).or_default();
        of_message.insert(report.host.to_lowercase());
    }
    for message in messages {
        if let Some(hosts) = hosts.get(&message.id) {
            message.left_out.extend(hosts.iter().cloned());
        }
    }
}

/// A step as a host tells of it.
type Claim = (TrackingId, StepId, String);

fn claim(report: &HopReport) -> Claim {
    let host = report.reporting_mta.clone();
    (report.id.clone(), report.step, host)
}

/// What hosts tell under the signature of their own domain.
fn vouched(received: &[(Judged, Origin)]) -> HashMap<Claim, HopReport> {
    let signed = received.iter().filter(|(_, origin)| origin.is_shown());
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
        let signed = origin.is_shown();
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
    starts::lead(&mut stays, sent_ms);
    ghosts::place(&mut stays, group.traces);
    pairs::hand_over(&mut stays);
    Message {
        id,
        originator: group.originator,
        client: group.client,
        message_id,
        sent_ms,
        truth,
        recipients: state::recipients(&stays, &group.origins),
        stays,
        words: Vec::new(),
        unproved,
        left_out: BTreeSet::new(),
        origins: group.origins,
        contradicted,
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
