//! Whether the words in an archive are those that its reports and keys give. The hoptrail that wrote them writes them
//! again, octet for octet; another one may word or judge otherwise, and holds to the reports what is told of each step.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::super::format::{cut, plain};
use super::{Finding, Holds, finding, picture, verdict};
use crate::report;
use crate::track::HopReport;
use crate::trail::Trails;
use crate::trail::bundle::{ABOUT, Bundle, MADE_BY, PICTURE, README, VERDICT};

/// So many differences are told.
const TOLD_MAX: usize = 3;

/// What is found of the words in an archive whose reports were judged anew.
pub fn hold(bundle: &Bundle, trails: &Trails) -> Vec<Finding> {
    let made_us = bundle.contents.made_us;
    let anew = verdict(trails, made_us);
    let files = [
        (README, bundle.about == ABOUT),
        (PICTURE, bundle.picture == picture(trails, made_us)),
        (VERDICT, bundle.verdict == anew),
    ];
    let others = files.iter().filter(|(_, is_same)| !is_same);
    let others: Vec<&str> = others.map(|(name, _)| *name).collect();
    let names = others.join(", ");
    if others.is_empty() {
        let text = "the verdict in it is what its reports and keys give";
        return vec![finding(Holds::All, text)];
    }
    if bundle.contents.made_by == MADE_BY {
        let text = format!("not what its reports and keys give: {names}: altered");
        return vec![finding(Holds::Not, text)];
    }
    let by = cut(&bundle.contents.made_by, 40);
    let text = format!(
        "in the words of another hoptrail ({by}), of which this one cannot say whether they were altered: {names}; go by \
         what is judged anew below"
    );
    let mut findings = vec![finding(Holds::Partly, text)];
    findings.extend(facts(bundle, &anew));
    findings
}

/// What a verdict tells, as far as that has a meaning of its own in each version of its schema.
#[derive(Deserialize)]
struct Told {
    messages: Vec<ToldMessage>,
}

#[derive(Deserialize)]
struct ToldMessage {
    id: String,
    outcome: String,
    recipients: Vec<ToldRecipient>,
    hops: Vec<ToldHop>,
}

#[derive(Deserialize)]
struct ToldRecipient {
    address: String,
    state: String,
}

#[derive(Deserialize)]
struct ToldHop {
    steps: Vec<ToldStep>,
}

#[derive(Deserialize)]
struct ToldStep {
    step: String,
    recipients: Vec<ToldFate>,
}

#[derive(Deserialize)]
struct ToldFate {
    original: String,
    event: String,
    status: String,
}

/// What became of a recipient in a step: the step, address, event and status code. No judgement is in it.
type Fate = (String, String, String, String);

/// Holds what the verdict in an archive tells to its reports, and to the verdict of today.
fn facts(bundle: &Bundle, anew: &str) -> Vec<Finding> {
    let read = |text| serde_json::from_str::<Told>(text).ok();
    let (Some(told), Some(anew)) = (read(&bundle.verdict), read(anew)) else {
        let text = format!("not understood, so not held to its reports: {VERDICT}");
        return vec![finding(Holds::Partly, text)];
    };
    let reported = reported(bundle);
    let invented = told.fates().filter(|fate| !reported.contains(fate));
    let invented = invented
        .take(TOLD_MAX)
        .map(|(step, address, event, status)| {
            let fate = plain(&format!("{address} {event}, {status} (step {step})"));
            let text = format!("{VERDICT} tells what no report in it does: {fate}: altered");
            finding(Holds::Not, text)
        });
    let (then, now) = (told.states(), anew.states());
    let all: BTreeSet<_> = then.keys().chain(now.keys()).collect();
    let differing = all.into_iter().filter(|of| then.get(*of) != now.get(*of));
    let differing = differing.take(TOLD_MAX).map(|of| {
        let [then, now] = [&then, &now].map(|states| states.get(of).unwrap_or(&"nothing"));
        let text = format!(
            "judged otherwise in {VERDICT}: {}: {then} there, {now} anew",
            of.1
        );
        finding(Holds::Partly, plain(&text))
    });
    let findings: Vec<Finding> = invented.chain(differing).collect();
    if findings.is_empty() {
        let text =
            format!("{VERDICT} tells of each step and recipient what its reports and keys give");
        return vec![finding(Holds::All, text)];
    }
    findings
}

impl Told {
    fn fates(&self) -> impl Iterator<Item = Fate> {
        let steps = self
            .messages
            .iter()
            .flat_map(|m| &m.hops)
            .flat_map(|hop| &hop.steps);
        steps.flat_map(|step| {
            let fate = |f: &ToldFate| {
                (
                    step.step.clone(),
                    f.original.clone(),
                    f.event.clone(),
                    f.status.clone(),
                )
            };
            step.recipients.iter().map(fate)
        })
    }

    /// The outcome of each message, and what became of each recipient.
    fn states(&self) -> BTreeMap<(&str, &str), &str> {
        let mut states = BTreeMap::new();
        for message in &self.messages {
            states.insert((&*message.id, "outcome"), &*message.outcome);
            for one in &message.recipients {
                states.insert((&message.id, &one.address), &one.state);
            }
        }
        states
    }
}

/// What all reports in an archive tell, whatever they are worth.
fn reported(bundle: &Bundle) -> BTreeSet<Fate> {
    let read = |mail: &Vec<u8>| report::read(mail).ok().flatten();
    let steps = bundle.mails.iter().filter_map(read);
    let steps = steps.flat_map(|one| std::iter::once(*one.report).chain(one.others));
    steps.flat_map(|step| fates(&step)).collect()
}

fn fates(step: &HopReport) -> Vec<Fate> {
    let id = step.step.to_string();
    let groups = step.recipients.iter();
    groups
        .map(|g| {
            (
                id.clone(),
                g.original.to_string(),
                g.event.to_string(),
                g.status.to_string(),
            )
        })
        .collect()
}
