//! Reports to messages: judged, grouped by what they are proved to be on or else by tracking id, each step once, linked to a
//! tree of stays.
//!
//! A stay is a message at a hop: the steps one host reported of it (a delay, then the departure; two
//! transactions for two recipients). Order comes from parent links, then hop numbers, then clocks.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};

use compact_str::CompactString;
use hashbrown::HashSet;

use super::forest::Forest;
use super::ghosts;
use super::message::{Message, Truth, last_us};
use super::ties::Ties;
use super::verify::{Judged, Known, contradicted};
use super::{NotOurs, Why, named, pairs, starts, state};
use crate::report::{Origin, Received, Trace};
use crate::track::{HopReport, Role, Secret, StepId, TrackingId};

/// What makes reports one message. A proof covers Message-ID and time stamp, not the tracking id: a report proved for
/// another message cannot slip in under this one's id, and one proved for this message is on it whatever its id, which a hop
/// made up that got none from the hop before it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Key<'a> {
    /// Message-ID, and time stamp in ms.
    Proved(&'a str, u64),
    /// The tracking id.
    Claimed(&'a TrackingId),
}

fn key(report: &HopReport, is_proved: bool) -> Key<'_> {
    let proof = report.message_id.as_deref().zip(report.sent_ms);
    match proof.filter(|_| is_proved) {
        Some((message_id, sent_ms)) => Key::Proved(message_id, sent_ms),
        None => Key::Claimed(&report.id),
    }
}

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
pub fn put_together<'a>(
    judged: impl Iterator<Item = (Judged<'a>, Origin)>,
) -> (Vec<Message>, Vec<NotOurs>) {
    let mut judged: Vec<(Judged, Origin)> = judged.collect();
    let is_unverifiable = |(one, _): &(Judged, _)| one.truth == Truth::Unverifiable;
    let without_proof = if judged.iter().any(is_unverifiable) {
        Truth::Unverifiable
    } else {
        Truth::Unproved
    };
    let vouched = vouched(&judged);
    let is_apart = |(one, origin): &mut _| why_apart(one, origin, &vouched).is_some();
    let apart: Vec<(Judged, Origin)> = judged.extract_if(.., is_apart).collect();
    let groups = grouped(judged);
    let not_ours = said_why(apart, &groups, &vouched);
    let mut messages = set_unproved_aside(groups, without_proof);
    messages.sort_by_key(|m| (m.sent_or_arrived_us(), m.id.clone()));
    note_left_out(&mut messages, &not_ours);
    (messages, not_ours)
}

/// Says of each report that is set apart why, and by which message of this user's: others proved that.
fn said_why(
    apart: Vec<(Judged, Origin)>,
    groups: &[Group],
    vouched: &HashMap<Claim, HopReport>,
) -> Vec<NotOurs> {
    let mut ties: HashMap<&TrackingId, Ties> = HashMap::new();
    let said = apart.into_iter().filter_map(|(mut one, origin)| {
        let why = why_apart(&one, &origin, vouched)?;
        let of = proved(key(&one.report, true), groups).filter(|_| why == Why::WrongProof);
        let Some(group) = of else {
            return Some(set_apart(one, why));
        };
        if group.ids().all(|id| *id != one.report.id) {
            one.report.id.clone_from(&group.id);
        }
        let ties = ties.entry(&group.id);
        let ties = ties.or_insert_with(|| Ties::of(&group.reports));
        let known_as = ties.other_names_of(&one.report).min();
        Some(NotOurs {
            known_as,
            ..set_apart(one, Why::Altered)
        })
    });
    said.collect()
}

/// Why a report is part of no message, if it is not.
fn why_apart(one: &Judged, origin: &Origin, vouched: &HashMap<Claim, HopReport>) -> Option<Why> {
    match (one.truth, origin) {
        (Truth::NotOurs, _) => Some(Why::WrongProof),
        // Whoever proves that he knew the request need not sign, so a signature that does not fit takes nothing off.
        (truth, Origin::Altered { .. }) if truth != Truth::Verified => Some(Why::BrokenSignature),
        _ => contradicts(&one.report, vouched).then_some(Why::Contradicted),
    }
}

/// Puts those on one message side by side, in the order of their keys.
fn grouped(mut judged: Vec<(Judged, Origin)>) -> Vec<Group> {
    fn of<'a>(one: &'a Judged) -> Key<'a> {
        key(&one.report, one.truth == Truth::Verified)
    }
    judged.sort_by(|(a, _), (b, _)| of(a).cmp(&of(b)));
    // Mostly there is just one.
    let mut groups: Vec<Group> = Vec::with_capacity(1);
    for (one, origin) in judged {
        if groups.last().is_none_or(|group| group.key() != of(&one)) {
            groups.push(Group::of(of(&one), &one.report.id));
        }
        if let Some(group) = groups.last_mut() {
            group.take(one, &origin);
        }
    }
    groups
}

/// The message of this key, if it is among those that were proved.
fn proved<'a>(key: Key, groups: &'a [Group]) -> Option<&'a Group> {
    let known = groups.binary_search_by(|group| group.key().cmp(&key));
    groups
        .get(known.ok()?)
        .filter(|group| group.proof.is_some())
}

/// Notes with each message in whose names reports on it are set apart: nobody can say that such a host told nothing.
pub fn note_left_out(messages: &mut [Message], not_ours: &[NotOurs]) {
    let mut all: HashMap<&TrackingId, Vec<&NotOurs>> = HashMap::new();
    for report in not_ours {
        all.entry(&report.id).or_default().push(report);
    }
    for message in messages {
        let of_it = message.ids().filter_map(|id| all.get(id)).flatten();
        let of_it: Vec<&NotOurs> = of_it.copied().collect();
        for report in of_it {
            message.left_out.insert(report.host.to_lowercase());
            message.unproved_next.extend(report.known_as.clone());
        }
    }
}

/// A step as a host tells of it.
type Claim = (TrackingId, StepId, CompactString);

fn claim(report: &HopReport) -> Claim {
    let host = report.reporting_mta.clone();
    (report.id.clone(), report.step, host)
}

/// What hosts tell under the signature of their own domain.
fn vouched(received: &[(Judged, Origin)]) -> HashMap<Claim, HopReport> {
    let signed = received.iter().filter(|(_, origin)| origin.is_shown());
    signed
        .map(|(one, _)| (claim(&one.report), (*one.report).clone()))
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
        host: one.report.reporting_mta.into(),
        known_as: None,
        from: one.from.map(Cow::into_owned),
        why,
    }
}

/// Steps, which are moved about until they find their stay.
#[allow(clippy::vec_box)]
pub type Steps = Vec<Box<HopReport>>;

/// What is told of one message.
struct Group {
    id: TrackingId,
    /// The others that its reports bear.
    other_ids: BTreeSet<TrackingId>,
    /// What the proof of its reports covers; of those that have none, nothing.
    proof: Option<(String, u64)>,
    originator: Option<String>,
    client: Option<String>,
    /// As in [`Message::unproved_hosts`].
    unproved_hosts: BTreeSet<String>,
    /// As in [`Message::unproved_next`].
    unproved_next: BTreeSet<String>,
    reports: Steps,
    origins: HashMap<StepId, Origin>,
    /// The Received fields that each step shows.
    traces: HashMap<StepId, Vec<Trace>>,
}

impl Group {
    fn of(key: Key, id: &TrackingId) -> Self {
        let proof = match key {
            Key::Proved(message_id, sent_ms) => Some((message_id.to_owned(), sent_ms)),
            Key::Claimed(_) => None,
        };
        Self {
            id: id.clone(),
            other_ids: BTreeSet::new(),
            proof,
            originator: None,
            client: None,
            unproved_hosts: BTreeSet::new(),
            unproved_next: BTreeSet::new(),
            reports: Vec::new(),
            origins: HashMap::new(),
            traces: HashMap::new(),
        }
    }

    fn key(&self) -> Key<'_> {
        match &self.proof {
            Some((message_id, sent_ms)) => Key::Proved(message_id, *sent_ms),
            None => Key::Claimed(&self.id),
        }
    }

    fn ids(&self) -> impl Iterator<Item = &TrackingId> {
        std::iter::once(&self.id).chain(&self.other_ids)
    }

    /// Takes a mail's steps in; of several copies of a step, the origin of a signed one counts.
    fn take(&mut self, one: Judged, origin: &Origin) {
        let signed = origin.is_shown();
        if one.report.hop == 1 && self.client.is_none() {
            self.client = one.client().map(str::to_owned);
        }
        if self.originator.is_none() {
            self.originator = one.to.map(Cow::into_owned);
        }
        if !one.trace.is_empty() {
            self.traces.insert(one.report.step, one.trace);
        }
        let others = one.others.into_iter().map(Box::new);
        for step in std::iter::once(one.report).chain(others) {
            if step.id != self.id {
                self.other_ids.insert(step.id.clone());
            }
            if *origin != Origin::Unchecked && (signed || !self.origins.contains_key(&step.step)) {
                self.origins.insert(step.step, origin.clone());
            }
            self.reports.push(step);
        }
    }
}

/// Reports without proof tell nothing of a message that has proved ones.
fn set_unproved_aside(mut groups: Vec<Group>, without_proof: Truth) -> Vec<Message> {
    let mut aside = HashMap::new();
    let is_proved = |group: &Group| group.proof.is_some();
    if groups.iter().any(is_proved) && !groups.iter().all(is_proved) {
        note_unproved(&mut groups);
        let proved = groups.iter().filter(|group| is_proved(group));
        let proved: HashSet<_> = proved.flat_map(Group::ids).cloned().collect();
        groups.retain(|group| {
            let keep = is_proved(group) || !proved.contains(&group.id);
            if !keep {
                aside.insert(group.id.clone(), group.reports.len());
            }
            keep
        });
    }
    let message = |group: Group| {
        let unproved = group.ids().filter_map(|id| aside.get(id)).sum();
        let truth = if is_proved(&group) {
            Truth::Verified
        } else {
            without_proof
        };
        message(truth, group, unproved)
    };
    let mut messages: Vec<Message> = groups.into_iter().map(message).collect();
    named::note(&mut messages);
    messages
}

/// Notes with each proved message in whose names reports that nothing proves bear its id or name it, and whose else they
/// may be.
fn note_unproved(groups: &mut [Group]) {
    for (n, host, others) in unproved_hosts(groups) {
        if let Some(group) = groups.get_mut(n) {
            group.unproved_hosts.insert(host);
            group.unproved_next.extend(others);
        }
    }
}

/// Of each of these reports the place of the message, its host, and by which other names that may be known.
fn unproved_hosts(groups: &[Group]) -> Vec<(usize, String, Vec<String>)> {
    let (mut by_id, mut by_key) = (HashMap::new(), HashMap::new());
    for (n, group) in groups.iter().enumerate().filter(|(_, g)| g.proof.is_some()) {
        by_id.extend(group.ids().map(|id| (id, group.key())));
        by_key.insert(group.key(), (n, Ties::of(&group.reports)));
    }
    let mut hosts = Vec::new();
    for group in groups.iter().filter(|group| group.proof.is_none()) {
        let of_id = by_id.get(&group.id);
        for report in &group.reports {
            let named = key(report, true);
            if let Some((n, ties)) = by_key.get(of_id.unwrap_or(&named)) {
                let host = report.reporting_mta.to_lowercase().into();
                hosts.push((*n, host, ties.other_names_of(report).collect()));
            }
        }
    }
    hosts
}

fn message(truth: Truth, group: Group, unproved: usize) -> Message {
    let (mut id, mut other_ids) = (group.id, group.other_ids);
    let Ordered {
        steps,
        doubles,
        are_linked,
    } = in_order(group.reports);
    if let Some(first) = steps.first().filter(|first| first.id != id) {
        // The others are those that hops farther on made up.
        other_ids.remove(&first.id);
        other_ids.insert(std::mem::replace(&mut id, first.id.clone()));
    }
    let contradicted = contradicted(&steps, &doubles);
    let message_id = steps.iter().find_map(|s| s.message_id.clone());
    let sent_ms = steps.iter().find_map(|s| s.sent_ms);
    let mut stays = Forest::grow(steps, are_linked).into_stays();
    starts::lead(&mut stays, sent_ms);
    ghosts::place(&mut stays, group.traces);
    pairs::hand_over(&mut stays);
    Message {
        id,
        other_ids,
        originator: group.originator,
        client: group.client,
        message_id,
        sent_ms,
        truth,
        names: Vec::new(),
        recipients: state::recipients(&stays, &group.origins),
        stays,
        words: Vec::new(),
        unproved,
        left_out: BTreeSet::new(),
        unproved_hosts: group.unproved_hosts,
        unproved_next: group.unproved_next,
        origins: group.origins,
        contradicted,
    }
}

/// Steps, each once.
struct Ordered {
    /// Parents in front of children: by hop, then entrance before exit, then time.
    steps: Steps,
    /// Those of which there is one already.
    doubles: Steps,
    /// Every parent is there, in front of its children.
    are_linked: bool,
}

/// Puts steps in order, and takes their doubles out.
fn in_order(mut reports: Steps) -> Ordered {
    let place = |r: &HopReport| (r.hop, r.role != Role::Ingress, last_us(r), r.step);
    // Of those that tell different things of a step, the same one counts in whatever order they were read.
    reports.sort_by(|a, b| place(a).cmp(&place(b)).then_with(|| a.cmp(b)));
    let mut seen = HashSet::with_capacity(reports.len());
    let mut are_linked = true;
    let is_double = |report: &mut Box<HopReport>| {
        are_linked &= report.parent.is_none_or(|parent| seen.contains(&parent));
        !seen.insert(report.step)
    };
    let doubles = reports.extract_if(.., is_double).collect();
    Ordered {
        steps: reports,
        doubles,
        are_linked,
    }
}
