//! Which stays a clock that was set puts in doubt.
//!
//! A stay has seen a clock set that came before it was, by the order of handovers where that tells it, else by what the
//! clock can have shown until then, and left behind it. One that would have lasted less than nothing, or longer than
//! anything is kept, has not: [`PROMPT_MAX_US`] where no attempt put the message off, else [`KEPT_MAX_US`].

use std::collections::HashMap;

use super::blame::{Suspected, by_handover, clear_neighbours, is_beside};
use super::message::{Jump, Message, Stay, last_us};
use super::pairs::Pair;
use super::tears::{End, Torn, Witnesses, is_torn};
use crate::track::{Event, HopReport};

/// Nothing keeps a message longer; an MTA gives up after days (RFC 5321, 4.5.4.1). µs.
const KEPT_MAX_US: i64 = 366 * 86_400_000_000;

/// Nor one that no attempt put off: an MTA comes round to its queue that often (RFC 5321, 4.5.4.1). µs.
const PROMPT_MAX_US: i64 = 1_800_000_000;

/// So many doubts of a host are looked at for one stay; if there are more about it, it is in doubt.
const LOOKED_AT_MAX: usize = 1000;

/// A clock that may have been set.
struct Doubt {
    jump: Jump,
    /// Which end of the pair it is.
    end: End,
    /// What it showed at the handovers before and behind, µs.
    own_us: (i64, i64),
    /// What it can have shown since it was set before, and until it was set now, µs.
    pre_us: (i64, i64),
    /// What it can have shown since, and until it was set again.
    post_us: (i64, i64),
    /// Of a stay that was over before this, or began after that, it cannot be true.
    reach_us: (i64, i64),
}

/// The doubts about each host.
#[derive(Default)]
pub struct Doubts(HashMap<String, Vec<Reach>>);

/// A doubt, in the order in which they end to reach, and where the first of it and those behind begins to.
struct Reach {
    doubt: Doubt,
    begins_us: i64,
}

impl Doubts {
    /// Out of all pairs, the sights of each in the order in which they left the parent.
    pub fn of<'a>(pairs: impl Iterator<Item = &'a Pair> + Clone) -> Self {
        let torn: Vec<&Pair> = pairs
            .clone()
            .filter(|pair| is_torn(pair.sights.iter()))
            .collect();
        let mut doubts: HashMap<String, Vec<Doubt>> = HashMap::new();
        if !torn.is_empty() {
            let witnesses = Witnesses::of(pairs, &torn);
            let suspected = |pair| Suspected {
                pair,
                parent: witnesses.torn(pair, End::Parent),
                child: witnesses.torn(pair, End::Child),
            };
            let mut all: Vec<Suspected> = torn.into_iter().map(suspected).collect();
            clear_neighbours(&mut all);
            for suspected in &all {
                let pair = suspected.pair;
                for end in [End::Parent, End::Child] {
                    let (mine, theirs) = (suspected.of(end), suspected.of(end.other()));
                    let of = doubts.entry(end.host(pair).to_owned()).or_default();
                    of.extend(about_end(pair, end, mine, theirs));
                }
            }
        }
        let sorted = doubts.into_iter().map(|(host, of)| (host, by_end(of)));
        Self(sorted.collect())
    }

    /// Whether any doubt about a host may reach into a span of its clock, µs.
    pub fn reach(&self, host: &str, span_us: (i64, i64)) -> bool {
        self.touching(host, span_us).next().is_some()
    }

    /// How the clock of a stay may have been set while the message was there.
    pub fn about(&self, message: &Message, n: usize) -> Option<&Jump> {
        let stay = message.stays.get(n)?;
        let lasted = stay.lasted()?;
        let touching = self.touching(stay.host.as_deref()?, lasted).enumerate();
        let seen = |doubt: &Doubt| {
            let mut steps = stay.steps.iter();
            steps.any(|step| doubt.lies_in(message, n, step))
        };
        let mut about = touching.filter(|(k, doubt)| *k >= LOOKED_AT_MAX || seen(doubt));
        about.next().map(|(_, doubt)| &doubt.jump)
    }

    fn touching(&self, host: &str, (from_us, to_us): (i64, i64)) -> impl Iterator<Item = &Doubt> {
        let doubts = self.0.get(host).map_or(&[][..], Vec::as_slice);
        let first = doubts.partition_point(|reach| reach.doubt.reach_us.1 < from_us);
        let rest = doubts.get(first..).unwrap_or_default().iter();
        rest.take_while(move |reach| reach.begins_us <= to_us)
            .map(|reach| &reach.doubt)
            .filter(move |doubt| doubt.reach_us.0 <= to_us)
    }
}

impl Doubt {
    /// Out of where a clock may have been set, and where it was set before and behind; `None` if it was set back by more
    /// than any stay lasts, so that none has seen it.
    fn new(
        pair: &Pair,
        end: End,
        here: &Torn,
        [last, next]: [Option<&Torn>; 2],
        is_own: bool,
    ) -> Option<Self> {
        let steady = end.other();
        let jump = Jump {
            against: steady.host(pair).to_owned(),
            is_own,
            set: here.set,
            by: here.tear.by,
            from_us: here.span_us().0,
            to_us: here.span_us().1,
            seen_us: (
                steady.at_us(here.tear.before),
                steady.at_us(here.tear.behind),
            ),
        };
        (here.set.high_us >= -KEPT_MAX_US).then(|| Self {
            jump,
            end,
            own_us: here.own_us,
            pre_us: (last.map_or(i64::MIN, |last| last.from_us), here.to_us),
            post_us: (here.from_us, next.map_or(i64::MAX, |next| next.to_us)),
            reach_us: (here.all_from_us, here.all_to_us),
        })
    }

    /// Whether it can have been after a message came to a stay, and before a step of it was over.
    fn lies_in(&self, message: &Message, n: usize, step: &HopReport) -> bool {
        let holds = |(low, high): (i64, i64), us: i64| low <= us && us <= high;
        let (came_us, over_us) = (step.arrived_us(), last_us(step));
        let came = holds(self.pre_us, came_us);
        let over = holds(self.post_us, over_us);
        if !came && !over {
            return false;
        }
        // If the order tells one of them, the clock need not.
        let (is_in, shown_us) = match (self.order(message, n, step), self.end) {
            (Some(false), _) => return false,
            (Some(true), End::Child) => (over, over_us.saturating_sub(self.own_us.0)),
            (Some(true), End::Parent) => (came, self.own_us.1.saturating_sub(came_us)),
            (None, _) => (came && over, over_us.saturating_sub(came_us)),
        };
        let lasted = self.jump.set.taken_from(shown_us);
        is_in && lasted.high_us >= 0 && lasted.low_us <= kept_max_us(message, n)
    }

    /// Whether the order of handovers shows that a message came before the clock was set, or at the parent that it left in
    /// this step behind that; `None` if it does not tell.
    fn order(&self, message: &Message, n: usize, step: &HopReport) -> Option<bool> {
        let stay = message.stays.get(n)?;
        let is_theirs = |stay: &&Stay| stay.host.as_deref() == Some(&self.jump.against);
        let (before_us, behind_us) = self.jump.seen_us;
        if self.end == End::Child {
            message.stays.get(stay.parent?).filter(is_theirs)?;
            let mut came = stay.handovers.iter();
            let came = came.find(|h| h.arrived_us == step.arrived_us())?;
            return Some(came.left_us < behind_us);
        }
        let children = message.stays.iter().filter(|s| s.parent == Some(n));
        let mut left = children.filter(is_theirs).flat_map(|s| &s.handovers);
        let left = left.find(|h| h.from == step.step)?;
        Some(left.arrived_us > before_us)
    }
}

/// The longest that a message was kept at a stay, as far as is known, µs.
fn kept_max_us(message: &Message, n: usize) -> i64 {
    let steps = message.stays.get(n).into_iter().flat_map(|s| &s.steps);
    let mut events = steps.flat_map(|s| &s.recipients).map(|r| r.event);
    if events.any(|event| matches!(event, Event::Delayed | Event::Held)) {
        KEPT_MAX_US
    } else {
        PROMPT_MAX_US
    }
}

/// The doubts about one end of a pair: of each time its clock may have been set, and was not clearly not, given the same
/// about the other end.
fn about_end<'a>(
    pair: &'a Pair,
    end: End,
    mine: &'a [(Torn<'a>, bool)],
    theirs: &'a [(Torn<'a>, bool)],
) -> impl Iterator<Item = Doubt> + 'a {
    let torn = |n: Option<usize>| n.and_then(|n| mine.get(n)).map(|(torn, _)| torn);
    let clear = by_handover(theirs.iter().map(|(torn, is_clear)| (torn, *is_clear)));
    let open = mine
        .iter()
        .enumerate()
        .filter(|(_, (_, is_clear))| !is_clear);
    open.filter_map(move |(n, (here, _))| {
        let is_own = is_beside(here, &clear);
        let (last, next) = (n.checked_sub(1), n.checked_add(1));
        Doubt::new(pair, end, here, [torn(last), torn(next)], is_own)
    })
}

/// In the order in which they end to reach.
fn by_end(mut doubts: Vec<Doubt>) -> Vec<Reach> {
    doubts.sort_by_key(|doubt| (doubt.reach_us.1, doubt.reach_us.0));
    let mut begins_us = i64::MAX;
    let reaches = doubts.into_iter().rev().map(|doubt| {
        begins_us = begins_us.min(doubt.reach_us.0);
        Reach { doubt, begins_us }
    });
    let mut reaches: Vec<Reach> = reaches.collect();
    reaches.reverse();
    reaches
}
