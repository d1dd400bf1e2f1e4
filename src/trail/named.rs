//! Which message others name that nothing proves to be on it. Nobody without the key joins anything into what is proved; but
//! what names a proved message is no second one, and is not told like that.

use std::collections::HashMap;

use super::message::{Message, Truth};
use crate::track::{HopReport, TrackingId};

/// Tells each message of which nothing is proved which proved one it names, if all its reports name the same.
pub fn note(messages: &mut [Message]) {
    let is_proved = |message: &&Message| message.truth == Truth::Verified;
    // Mostly all are proved, or none.
    if messages.iter().all(|m| is_proved(&m)) || !messages.iter().any(|m| is_proved(&m)) {
        return;
    }
    let proved = messages.iter().filter(is_proved);
    let ids = |m: &Message| Some((named_by(m)?, m.ids().cloned().collect()));
    let proved: HashMap<_, Vec<TrackingId>> = proved.filter_map(ids).collect();
    for message in messages.iter_mut().filter(|m| !is_proved(&&**m)) {
        let ids = named_by(message).and_then(|named| proved.get(&named));
        message.names = ids.cloned().unwrap_or_default();
    }
}

/// The Message-ID and the time stamp, ms, that all reports on a message name.
fn named_by(message: &Message) -> Option<(String, u64)> {
    let mut steps = message.stays.iter().flat_map(|stay| &stay.steps);
    let named = |step: &HopReport| Some((step.message_id.clone()?, step.sent_ms?));
    let first = named(steps.next()?)?;
    let is_same = |step: &HopReport| {
        (step.message_id.as_ref(), step.sent_ms) == (Some(&first.0), Some(first.1))
    };
    steps.all(is_same).then_some(first)
}
