//! What a step is to the stay of a message at a hop. The stay of each recipient begins with the message's arrival and is
//! over with the first thing that is seen of him at a way out. Recipients are known by their places in the arrival's step:
//! behind the MTA they may have other addresses.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use super::address::key;
use super::{HopReport, RecipientStatus, StepId};

/// What a step is to the stay of a message at a hop.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stay {
    /// The message has come, and something at this hop will see it leave.
    Begins,
    /// Of the message that came with this step something is seen, and it may be about any of its recipients.
    Ends(StepId),
    /// Something is seen of some of its recipients.
    Part(Part),
    /// That some of its recipients are not seen leaving is told, or is never to be.
    Quiet(StepId),
}

/// Some recipients of a message that came to a hop.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// The arrival's step.
    pub arrival: StepId,
    /// How many recipients stand in it.
    pub came_for: usize,
    /// Their places among those.
    pub seen: Vec<usize>,
}

impl Stay {
    /// What it is to the stay of what came with `arrival` that something is seen of these recipients, by the addresses
    /// that the hop accepted. Where one is `None` or not among them, it is not known who is left.
    pub fn seen<'a>(arrival: &HopReport, addresses: impl Iterator<Item = Option<&'a str>>) -> Self {
        let (of, came_for) = (arrival.step, arrival.recipients.len());
        if came_for == 1 {
            return Self::Ends(of);
        }
        let Some(addresses) = addresses
            .map(|address| address.map(key))
            .collect::<Option<HashSet<_>>>()
        else {
            return Self::Ends(of);
        };
        let mut found = HashSet::new();
        let mut seen = Vec::new();
        for (place, recipient) in arrival.recipients.iter().enumerate() {
            if let Some(address) = addresses.get(&key(&recipient.recipient)) {
                found.insert(address);
                seen.push(place);
            }
        }
        if found.len() < addresses.len() || seen.len() == came_for {
            return Self::Ends(of);
        }
        Self::Part(Part {
            arrival: of,
            came_for,
            seen,
        })
    }

    /// The arrival to whose message something has happened since.
    pub fn arrival(&self) -> Option<StepId> {
        match self {
            Self::Begins => None,
            Self::Ends(arrival) | Self::Quiet(arrival) => Some(*arrival),
            Self::Part(part) => Some(part.arrival),
        }
    }
}

/// How many the originator named; one that he named twice is one.
pub fn distinct(recipients: &[RecipientStatus]) -> usize {
    recipients
        .iter()
        .map(|r| key(&r.original))
        .collect::<HashSet<_>>()
        .len()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn arrival(addresses: &[&str]) -> HopReport {
        let recipients: Vec<_> = addresses
            .iter()
            .map(|address| {
                serde_json::json!({ "original": "x@origin", "recipient": address,
                    "event": "accepted", "status": "2.0.0" })
            })
            .collect();
        let json = serde_json::json!({ "id": "E1", "step": "00000000000000aa", "hop": 1,
            "role": "ingress", "reporting_mta": "a", "arrival_us": 0, "recipients": recipients });
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn who_is_left_is_known_only_where_everybody_seen_is_known() {
        let three = arrival(&["bob@x", "Carol@x", "bob@X"]);
        let part = |seen: &[usize]| {
            Stay::Part(Part {
                arrival: StepId(0xaa),
                came_for: 3,
                seen: seen.to_vec(),
            })
        };
        let all = Stay::Ends(StepId(0xaa));
        for (addresses, stay) in [
            (vec![Some("Carol@X")], part(&[1])),
            (vec![Some("bob@x")], part(&[0, 2])),
            (vec![Some("bob@x"), Some("bob@X")], part(&[0, 2])),
            (vec![Some("bob@x"), Some("Carol@X")], all.clone()),
            (vec![Some("carol@x")], all.clone()),
            (vec![Some("bob@x"), None], all.clone()),
            (vec![Some("bob@x"), Some("eve@x")], all.clone()),
        ] {
            assert_eq!(
                Stay::seen(&three, addresses.iter().copied()),
                stay,
                "{addresses:?}"
            );
        }
        let one = arrival(&["bob@x"]);
        assert_eq!(Stay::seen(&one, [Some("x1@y")].into_iter()), all);
    }

    /// As the third layout of the store had it.
    #[test]
    fn the_end_of_all_is_stored_as_ever() {
        let ends: Stay = serde_json::from_str(r#"{"ends":"00000000000000aa"}"#).unwrap();
        assert_eq!(ends, Stay::Ends(StepId(0xaa)));
    }
}
