//! Reports that share a mail: an MTA that sends a message out in parts makes a step of each, and they are news of
//! one message from one hop. So the report of a part waits a moment for those of the others. One transaction may be of
//! several parts as well, by where it goes on.
//!
//! Each stays in the outbox by itself; what shared a mail that was not taken is put together anew.

use std::collections::HashMap;

use super::Due;
use crate::track::{Step, StepId, TrackingId};

/// How long a part waits for others, ms.
const GATHER_MS: i64 = 1000;

/// What goes into one mail; never empty, and more than one only if all of them can be read.
pub(super) type Bundle = Vec<Due>;

/// Puts what is due together. Also tells in how many ms the first of those that still wait for others will not.
pub(super) fn bundles(due: Vec<Due>, now_ms: i64) -> (Vec<Bundle>, Option<i64>) {
    let mut all: Vec<Bundle> = Vec::new();
    let mut parts: HashMap<(TrackingId, Option<StepId>), Vec<usize>> = HashMap::new();
    for one in due {
        let Some(step) = part(&one) else {
            all.push(vec![one]);
            continue;
        };
        let of_message = parts
            .entry((step.report.id.clone(), step.report.parent))
            .or_default();
        let joins = |at: &&usize| {
            let first = all[**at].first().and_then(part);
            first.is_some_and(|first| first.joins(step))
        };
        if let Some(at) = of_message.iter().find(joins) {
            all[*at].push(one);
        } else {
            of_message.push(all.len());
            all.push(vec![one]);
        }
    }
    let mut next_ms: Option<i64> = None;
    all.retain(|bundle| {
        let wait_ms = still_gathers_ms(bundle, now_ms);
        next_ms = next_ms.into_iter().chain(wait_ms).min();
        wait_ms.is_none()
    });
    (all, next_ms)
}

/// The step, if it is a part that others may join.
fn part(due: &Due) -> Option<&Step> {
    due.content.as_ref().ok().filter(|step| step.partial)
}

/// How long the bundle waits for more, if it does: from its first report on, and not after an attempt.
fn still_gathers_ms(bundle: &Bundle, now_ms: i64) -> Option<i64> {
    let waits = |due: &Due| due.failures == 0 && part(due).is_some();
    let first_ms = bundle
        .iter()
        .filter(|due| waits(due))
        .map(|due| due.first_ms);
    let age_ms = now_ms.saturating_sub(first_ms.min()?);
    // A clock set back must not hold a report.
    (0..GATHER_MS)
        .contains(&age_ms)
        .then_some(GATHER_MS - age_ms)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::super::tests::step_at;
    use super::*;
    use crate::track::{Event, Security};

    const AT_MS: i64 = 1_795_478_400_000;

    fn part_of(number: u64, event: Event, after_ms: i64) -> Due {
        let address = format!("user{number}@example.org");
        let mut step = step_at(number, &[(&address, event)], AT_MS * 1000);
        step.partial = true;
        Due {
            step: StepId(number),
            first_ms: AT_MS + after_ms,
            failures: 0,
            content: Ok(step),
        }
    }

    fn changed(number: u64, change: impl Fn(&mut Step)) -> Due {
        let mut due = part_of(number, Event::Relayed, 0);
        due.content.iter_mut().for_each(change);
        due
    }

    /// The steps of each mail at this time, and the wait for more.
    fn mails(due: Vec<Due>, at_ms: i64) -> (Vec<Vec<u64>>, Option<i64>) {
        let (bundles, next_ms) = bundles(due, AT_MS + at_ms);
        let steps = |bundle: Bundle| bundle.iter().map(|due| due.step.0).collect();
        (bundles.into_iter().map(steps).collect(), next_ms)
    }

    #[test]
    fn parts_of_a_message_with_the_same_news_are_one_mail() {
        let due = || {
            vec![
                part_of(1, Event::Relayed, 0),
                part_of(2, Event::Delayed, 10),
                part_of(3, Event::Relayed, 400),
                part_of(4, Event::Relayed, 990),
            ]
        };
        assert_eq!(mails(due(), 400), (vec![], Some(600)));
        assert_eq!(mails(due(), 1000), (vec![vec![1, 3, 4]], Some(10)));
        assert_eq!(mails(due(), 1010), (vec![vec![1, 3, 4], vec![2]], None));
    }

    #[test]
    fn parts_that_were_known_together_are_one_mail_whatever_their_news() {
        let told = |number, event, first: Option<u64>| {
            let mut due = part_of(number, event, 0);
            let together = first.map(StepId);
            due.content
                .iter_mut()
                .for_each(|step| step.together = together);
            due
        };
        let due = vec![
            told(1, Event::Relayed, Some(1)),
            told(2, Event::Delayed, Some(1)),
            told(3, Event::Delayed, Some(3)),
            told(4, Event::Failed, None),
        ];
        assert_eq!(mails(due, 1000).0, [vec![1, 2], vec![3], vec![4]]);
    }

    #[test]
    fn what_is_no_part_waits_for_nobody() {
        let whole = changed(1, |step| step.partial = false);
        let unreadable = Due {
            content: Err("damaged".to_owned()),
            ..part_of(2, Event::Relayed, 0)
        };
        let tried = Due {
            failures: 1,
            ..part_of(3, Event::Relayed, 0)
        };
        let from_the_future = part_of(4, Event::Failed, 5000);
        let due = vec![whole, unreadable, tried, from_the_future];
        assert_eq!(
            mails(due, 0),
            (vec![vec![1], vec![2], vec![3], vec![4]], None)
        );
    }

    #[test]
    fn other_messages_originators_ways_and_terms_are_other_mails() {
        let id = TrackingId::new("other").unwrap();
        let due = vec![
            changed(1, |_| {}),
            changed(2, |step| step.report.id = id.clone()),
            changed(3, |step| step.report.parent = None),
            changed(4, |step| step.originator = "carol@example.com".to_owned()),
            changed(5, |step| step.organisation = Some("example.net".to_owned())),
            changed(6, |step| step.report.arrival_us += 1),
            changed(7, |step| step.report.tls_out = Some(Security::Plain)),
            changed(8, |step| step.received = Some("Received: x\r\n".to_owned())),
        ];
        let (mails, _) = mails(due, 1000);
        assert_eq!(
            mails[0],
            [1, 7, 8],
            "the same but for the dialogue with the next hop"
        );
        assert_eq!(mails.len(), 6);
    }
}
