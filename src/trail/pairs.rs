//! The clocks of two neighbours over all the messages that went from one to the other, by the rule of
//! [`super::clock`]: what one message shows sharpens what is known at the next; where two have nothing in common a
//! clock was set between them, of which [`super::doubt`] knows. Then the offsets along the way of each message.
//!
//! A host is its name here. Only who proves to know a message's key (or everybody, where there is no key to tell by)
//! says something about other messages.

use std::hash::{BuildHasher, DefaultHasher, Hash, Hasher};

use hashbrown::hash_table::Entry;
use hashbrown::{DefaultHashBuilder, HashMap, HashTable};

use super::clock::{self, Bounds, Offset, SET_BY_US, apart_us};
use super::doubt::Doubts;
use super::message::{Handover, Message, Stay, Truth};
use super::tears::is_torn;

/// What one message shows of a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sight {
    /// Which handover it is, of all.
    pub of: u64,
    /// When its last octet left, and when that came, as in [`Handover`].
    pub left_us: i64,
    #[allow(missing_docs)]
    pub arrived_us: i64,
    /// What it shows by itself.
    pub bounds: Bounds,
}

/// What messages show of clocks.
#[derive(Default)]
pub struct Sights {
    pairs: HashTable<Pair>,
    hasher: DefaultHashBuilder,
}

/// Two neighbours by name.
pub struct Pair {
    /// Who gives.
    pub parent: String,
    /// Who takes.
    pub child: String,
    /// What is seen of them.
    pub sights: Vec<Sight>,
}

/// What all messages together show of clocks.
#[derive(Default)]
pub struct Clocks {
    /// The child's clock against the parent's, of handovers of which others tell more than they do themselves.
    links: HashMap<u64, Bounds>,
    doubts: Doubts,
}

/// Finds all that is known of the clocks.
pub fn set_clocks(messages: &mut [Message]) {
    let mut sights = Sights::default();
    for message in messages.iter() {
        sights.see(message);
    }
    let clocks = sights.settle();
    for message in messages {
        clocks.tell(message);
    }
}

/// Tells a message what it shows by itself, its own sights.
pub fn tell_alone(message: &mut Message, own: &[Sight]) {
    let mut of_pairs: Vec<_> = shown_by(message)
        .zip(own)
        .map(|((n, parent, stay, ..), sight)| ((parent.map_or("", name), name(stay)), sight, n))
        .collect();
    of_pairs.sort_unstable_by_key(|(pair, sight, n)| (*pair, sight.left_us, *n));
    let first = of_pairs
        .first()
        .map_or(0, |(_, sight, n)| sight.of.wrapping_sub(*n));
    let alike = |a: &(_, _, _), b: &(_, _, _)| a.0 == b.0;
    let mut links = Vec::new();
    // Those of one pair sharpen each other, and mostly there is just one of each.
    for pair in of_pairs.chunk_by(alike).filter(|pair| pair.len() > 1) {
        let sights = pair.iter().map(|(_, sight, _)| *sight);
        if is_torn(sights.clone()) {
            let mut all = Sights::default();
            all.see(message);
            return all.settle().tell(message);
        }
        sharpen(sights, |of, bounds| links.push((of, bounds)));
    }
    links.sort_unstable_by_key(|(of, _)| *of);
    let known = |of| links.binary_search_by_key(&of, |(known, _)| *known).ok();
    link(message, first, |of| {
        links.get(known(of)?).map(|(_, bounds)| *bounds)
    });
    carry(message);
}

impl Sights {
    /// Takes in what a message shows, and tells it.
    pub fn see(&mut self, message: &Message) -> Vec<Sight> {
        let own = sights_of(message).map(|(parent, stay, sight)| {
            let (parent, child) = (parent.map_or("", name), name(stay));
            self.of(parent, child).push(sight);
            sight
        });
        own.collect()
    }

    /// What is seen of a pair.
    pub fn of(&mut self, parent: &str, child: &str) -> &mut Vec<Sight> {
        let Self { pairs, hasher } = self;
        let is = |pair: &Pair| pair.parent == parent && pair.child == child;
        let again = |pair: &Pair| hasher.hash_one((pair.parent.as_str(), pair.child.as_str()));
        let pair = match pairs.entry(hasher.hash_one((parent, child)), is, again) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => new
                .insert(Pair {
                    parent: parent.to_owned(),
                    child: child.to_owned(),
                    sights: Vec::new(),
                })
                .into_mut(),
        };
        &mut pair.sights
    }

    /// Takes in what others show.
    pub fn join(&mut self, others: Self) {
        for mut pair in others.pairs {
            self.of(&pair.parent, &pair.child).append(&mut pair.sights);
        }
    }

    /// What all of it comes to.
    pub fn settle(mut self) -> Clocks {
        for pair in &mut self.pairs {
            // They are many: no room beside them is taken to sort them, nor kept for more.
            pair.sights.sort_unstable_by_key(|s| (s.left_us, s.of));
            pair.sights.shrink_to_fit();
        }
        let doubts = Doubts::of(self.pairs.iter());
        // Mostly others tell more of each.
        let sights = self.pairs.iter().map(|pair| pair.sights.len()).sum();
        let mut links = HashMap::with_capacity(sights);
        for pair in self.pairs {
            sharpen(pair.sights.iter(), |of, bounds| {
                links.insert(of, bounds);
            });
        }
        Clocks { links, doubts }
    }
}

impl Clocks {
    /// Tells a message what is known of the clocks on its way.
    pub fn tell(&self, message: &mut Message) {
        if message.truth != Truth::Unproved && !self.links.is_empty() {
            let first = name_of(message);
            link(message, first, |of| self.links.get(&of).copied());
        }
        let jump = |n| self.doubts.about(message, n).cloned().map(Box::new);
        let jumps: Vec<_> = (0..message.stays.len()).map(jump).collect();
        for (stay, jump) in message.stays.iter_mut().zip(jumps) {
            stay.jump = jump;
        }
        carry(message);
    }

    /// What is known of the pair when this was seen.
    pub fn known_at(&self, sight: &Sight) -> Bounds {
        self.links.get(&sight.of).copied().unwrap_or(sight.bounds)
    }

    /// Whether a host's clock may have been set in a span of it, µs.
    pub fn doubt(&self, host: &str, span_us: (i64, i64)) -> bool {
        self.doubts.reach(host, span_us)
    }
}

/// What a message shows of clocks, with the stay at the parent, if there is one, and that at the child.
pub fn sights_of(message: &Message) -> impl Iterator<Item = (Option<&Stay>, &Stay, Sight)> {
    let first = name_of(message);
    shown_by(message).map(move |(n, parent, stay, handover, bounds)| {
        let sight = Sight {
            of: first.wrapping_add(n),
            left_us: handover.left_us,
            arrived_us: handover.arrived_us,
            bounds,
        };
        (parent, stay, sight)
    })
}

/// The same, with the number of each handover in the message, and what is known by it.
pub fn shown_by(
    message: &Message,
) -> impl Iterator<Item = (u64, Option<&Stay>, &Stay, &Handover, Bounds)> {
    let stays = message.stays.iter();
    let proved = stays.filter(|_| message.truth != Truth::Unproved);
    let handovers = proved.flat_map(|stay| stay.handovers.iter().map(move |h| (stay, h)));
    (0..).zip(handovers).filter_map(|(n, (stay, handover))| {
        let parent = stay.parent.and_then(|p| message.stays.get(p));
        Some((n, parent, stay, handover, handover.link.bounds()?))
    })
}

fn name(stay: &Stay) -> &str {
    stay.host.as_deref().unwrap_or_default()
}

/// What tells the first handover of a message from all others; of the next one it is one more.
fn name_of(message: &Message) -> u64 {
    let mut name = DefaultHasher::new();
    let proof = message.message_id.as_ref().zip(message.sent_ms);
    (&message.id, proof).hash(&mut name);
    name.finish()
}

/// What each handover of a message shows by itself.
pub fn hand_over(stays: &mut [Stay]) {
    for n in 0..stays.len() {
        let (before, rest) = stays.split_at_mut(n);
        let Some(stay) = rest.first_mut() else { break };
        let Some(parent) = stay.parent.and_then(|p| before.get(p)) else {
            continue;
        };
        for taker in &stay.steps {
            let giver = parent.steps.iter().find(|p| Some(p.step) == taker.parent);
            let Some(giver) = giver else { continue };
            let arrived_us = taker.arrived_us();
            // One arrival is told in every step that goes back to it.
            let known = |h: &Handover| (h.from, h.arrived_us) == (giver.step, arrived_us);
            if stay.handovers.iter().any(known) {
                continue;
            }
            let (at_us, link) = clock::offset(&giver.times_out, &taker.times_in);
            stay.handovers.push(Handover {
                from: giver.step,
                left_us: giver.left_us().unwrap_or(at_us),
                arrived_us,
                link,
            });
        }
    }
}

/// Tells the handovers of a message, the first of which is known by this, what others tell more of them.
fn link(message: &mut Message, first: u64, known: impl Fn(u64) -> Option<Bounds>) {
    let stays = message.stays.iter_mut();
    let handovers = stays.flat_map(|stay| &mut stay.handovers);
    for (n, handover) in (0..).zip(handovers) {
        if let Some(bounds) = known(first.wrapping_add(n)) {
            handover.link = Offset::Known(bounds);
        }
    }
}

/// Carries what each sight of a pair shows to those before and behind it, and tells of which they tell more.
fn sharpen<'a>(
    sights: impl DoubleEndedIterator<Item = &'a Sight> + Clone,
    mut tell: impl FnMut(u64, Bounds),
) {
    let forward: Vec<Bounds> = run(sights.clone()).collect();
    let backward = run(sights.clone().rev());
    let both = forward.into_iter().rev().zip(backward);
    for (sight, (known, back)) in sights.rev().zip(both) {
        // Stamps that are made up may fit to either side and not to both; then one side has to do.
        let bounds = known.and(back).unwrap_or(known);
        if bounds != sight.bounds {
            tell(sight.of, bounds);
        }
    }
}

/// The bounds at each sight, out of it and those on one side of it.
fn run<'a>(sights: impl Iterator<Item = &'a Sight>) -> impl Iterator<Item = Bounds> {
    let mut last: Option<(i64, Bounds)> = None;
    sights.map(move |sight| {
        let joined = last.map(|(at_us, bounds)| {
            let gap_us = sight.left_us.saturating_sub(at_us);
            join(bounds, gap_us, sight.bounds)
        });
        let bounds = match joined {
            Some(Joined::Both(bounds)) => bounds,
            _ => sight.bounds,
        };
        last = Some((sight.left_us, bounds));
        bounds
    })
}

/// What the bounds of two sights come to.
pub enum Joined {
    /// No clock was set between them: it lies within this.
    Both(Bounds),
    /// They have nothing in common: one was.
    Apart,
    /// One may have been, by what would not show.
    Unsure,
}

/// Puts what is known and what is seen so long after it, or before, together.
pub fn join(known: Bounds, gap_us: i64, seen: Bounds) -> Joined {
    let Some(both) = known.aged(gap_us).and(seen) else {
        return Joined::Apart;
    };
    let widths = known.width_us().saturating_add(seen.width_us());
    if widths.saturating_add(apart_us(gap_us).saturating_mul(2)) < SET_BY_US {
        Joined::Both(both)
    } else {
        Joined::Unsure
    }
}

/// Carries the clock of the first hop that reported along the links. A parent stands before its children, so one pass
/// is enough.
fn carry(message: &mut Message) {
    let first = message.measure();
    for n in 0..message.stays.len() {
        let (before, rest) = message.stays.split_at_mut(n);
        let Some(stay) = rest.first_mut() else { break };
        if Some(n) == first {
            stay.offset = Offset::Known(Bounds::ZERO);
            continue;
        }
        let came = stay.handovers.iter().find(|h| h.link.bounds().is_some());
        let came = came.or_else(|| stay.handovers.first()).copied();
        let (Some(parent), Some(came)) = (stay.parent.and_then(|p| before.get(p)), came) else {
            continue;
        };
        stay.link = came.link;
        stay.offset_at_us = Some(came.arrived_us);
        stay.offset = match (parent.offset_at(came.left_us), came.link) {
            (Offset::Known(so_far), Offset::Known(link)) => Offset::Known(so_far.plus(link)),
            (_, Offset::Contradiction) => Offset::Contradiction,
            _ => Offset::Unknown,
        };
    }
}
