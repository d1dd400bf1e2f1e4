//! Where a clock was set: between handovers of a pair whose bounds have nothing in common.
//!
//! That shows that one of the two clocks was set, not which. So each is supposed to be it in turn, and the other one to
//! have run on: by that one handovers stand in their order. What the clock that was set showed before and behind, and what
//! it was set by, bounds what it can have shown between one time it was set and the next. And one that another
//! neighbour's agrees with as well before as behind was not set by so much.
//!
//! This supposes that no clock is set twice between two handovers that follow each other.

use std::collections::HashMap;

use super::clock::Bounds;
use super::pairs::{Joined, Pair, Sight, join};

/// An end of a handover.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Parent,
    Child,
}

impl End {
    /// The other one.
    pub fn other(self) -> Self {
        match self {
            Self::Parent => Self::Child,
            Self::Child => Self::Parent,
        }
    }

    /// When a handover was, by the clock of this end, µs.
    pub fn at_us(self, sight: &Sight) -> i64 {
        match self {
            Self::Parent => sight.left_us,
            Self::Child => sight.arrived_us,
        }
    }

    /// The name of the host at this end.
    pub fn host(self, pair: &Pair) -> &str {
        match self {
            Self::Parent => &pair.parent,
            Self::Child => &pair.child,
        }
    }

    /// The clock of this end against the other's, out of the child's against the parent's.
    fn own(self, bounds: Bounds) -> Bounds {
        match self {
            Self::Parent => bounds.taken_from(0),
            Self::Child => bounds,
        }
    }
}

/// Two handovers between which a clock was set, in their order by the clock that was not.
#[derive(Clone, Copy)]
pub struct Tear<'a> {
    /// The last one before.
    pub before: &'a Sight,
    /// The first one behind.
    pub behind: &'a Sight,
    /// By how much, the child's clock against the parent's.
    pub by: Bounds,
}

/// A tear as the clock shows it that is supposed to be set in it, µs.
#[derive(Clone, Copy)]
pub struct Torn<'a> {
    /// Between which handovers.
    pub tear: Tear<'a>,
    /// What it was set by.
    pub set: Bounds,
    /// What it showed at these handovers.
    pub own_us: (i64, i64),
    /// The least it can have shown once it was set.
    pub from_us: i64,
    /// The most it can have shown until it was set.
    pub to_us: i64,
    /// The least it can have shown once it was set here or behind.
    pub all_from_us: i64,
    /// The most it can have shown until it was set here or before.
    pub all_to_us: i64,
}

impl Torn<'_> {
    /// What the clock showed just before and just behind it was set lies within this, µs.
    pub fn span_us(&self) -> (i64, i64) {
        (
            self.own_us.0.min(self.from_us),
            self.own_us.1.max(self.to_us),
        )
    }
}

/// What the neighbours of each host in doubt say of its clock.
pub struct Witnesses<'a>(HashMap<&'a str, Vec<Witness<'a>>>);

struct Witness<'a> {
    neighbour: &'a str,
    /// In the order of the host's clock.
    seen: Vec<Agreed>,
}

/// A handover between a host and a neighbour: when, by the clocks of both, and the host's against the neighbour's.
struct Agreed {
    own_us: i64,
    other_us: i64,
    bounds: Bounds,
}

impl<'a> Witnesses<'a> {
    /// Of the hosts of pairs that are torn, out of all pairs.
    pub fn of(pairs: impl Iterator<Item = &'a Pair>, torn: &[&'a Pair]) -> Self {
        let in_doubt = torn
            .iter()
            .flat_map(|p| [p.parent.as_str(), p.child.as_str()]);
        let mut all: HashMap<&str, Vec<Witness>> = in_doubt.map(|h| (h, Vec::new())).collect();
        for pair in pairs {
            for end in [End::Parent, End::Child] {
                if let Some(of) = all.get_mut(end.host(pair)) {
                    of.push(Witness::of(pair, end));
                }
            }
        }
        Self(all)
    }

    /// Where the clock of this end of a pair may have been set, in order, and whether another neighbour's shows that it
    /// was not.
    pub fn torn<'p>(&self, pair: &'p Pair, end: End) -> Vec<(Torn<'p>, bool)> {
        let neighbour = end.other().host(pair);
        let witnesses = self.0.get(end.host(pair)).into_iter().flatten();
        let others = witnesses.filter(|witness| witness.neighbour != neighbour);
        let torn = torn(pair, end);
        let mut all: Vec<_> = torn.iter().map(|here| (*here, false)).collect();
        for other in others {
            for ((_, is_clear), clears) in all.iter_mut().zip(other.clears(&torn)) {
                *is_clear |= clears;
            }
        }
        all
    }
}

impl<'a> Witness<'a> {
    fn of(pair: &'a Pair, end: End) -> Self {
        let agreed = |sight| Agreed {
            own_us: end.at_us(sight),
            other_us: end.other().at_us(sight),
            bounds: end.own(sight.bounds),
        };
        let mut seen: Vec<Agreed> = pair.sights.iter().map(agreed).collect();
        seen.sort_by_key(|agreed| agreed.own_us);
        Self {
            neighbour: end.other().host(pair),
            seen,
        }
    }

    /// For each tear, whether this shows that the host's clock was not set in it: between the nearest handovers that
    /// surely were before and behind it the two clocks agree, and would not if it had been set in all tears between them.
    fn clears(&self, torn: &[Torn]) -> Vec<bool> {
        let mut last = None;
        let before = (0..torn.len()).map(|n| {
            last = self.between(torn, n).last().map(|a| (n, a)).or(last);
            last
        });
        let before: Vec<_> = before.collect();
        let mut next = None;
        let behind = (1..=torn.len()).rev().map(|n| {
            next = self.between(torn, n).first().map(|a| (n, a)).or(next);
            next
        });
        let mut behind: Vec<_> = behind.collect();
        behind.reverse();
        let clears = before.into_iter().zip(behind).map(|ends| match ends {
            (Some((from, last)), Some((to, next))) => {
                let sets = torn.get(from..to).unwrap_or_default().iter();
                let set = sets.fold(Bounds::ZERO, |sum, torn| sum.plus(torn.set));
                last.agrees(next, set)
            }
            _ => false,
        });
        clears.collect()
    }

    /// The handovers that surely were when the clock had been set so many times, in the order of that clock.
    fn between(&self, torn: &[Torn], times: usize) -> &[Agreed] {
        let last = times.checked_sub(1).and_then(|n| torn.get(n));
        let next = torn.get(times);
        let from = last.map_or(0, |last| {
            self.seen.partition_point(|a| a.own_us <= last.all_to_us)
        });
        let to = next.map_or(self.seen.len(), |next| {
            self.seen.partition_point(|a| a.own_us < next.all_from_us)
        });
        self.seen.get(from..to).unwrap_or_default()
    }
}

impl Agreed {
    /// Whether the clocks agree at a later handover as they did at this one, and would not if the host's had been set by
    /// this meanwhile.
    fn agrees(&self, later: &Self, set: Bounds) -> bool {
        let gap_us = later.other_us.saturating_sub(self.other_us);
        let changed = later.bounds.less(self.bounds.aged(gap_us));
        changed.and(Bounds::ZERO).is_some() && changed.and(set).is_none()
    }
}

/// Whether a clock of a pair was set, the sights of which are in the order in which they left the parent.
pub fn is_torn<'a>(sights: impl Iterator<Item = &'a Sight>) -> bool {
    !tears(sights, End::Parent).is_empty()
}

/// Where the clock of this end may have been set, in order.
fn torn(pair: &Pair, end: End) -> Vec<Torn<'_>> {
    let steady = end.other();
    let mut sights: Vec<&Sight> = pair.sights.iter().collect();
    sights.sort_by_key(|sight| (steady.at_us(sight), sight.of));
    let torn = tears(sights.into_iter(), steady).into_iter().map(|tear| {
        let set = end.own(tear.by);
        let own_us = (end.at_us(tear.before), end.at_us(tear.behind));
        let from_us = own_us.0.saturating_add(set.low_us);
        let to_us = own_us.1.saturating_sub(set.low_us);
        Torn {
            tear,
            set,
            own_us,
            from_us,
            to_us,
            all_from_us: from_us,
            all_to_us: to_us,
        }
    });
    let mut torn: Vec<Torn> = torn.collect();
    let mut all_to_us = i64::MIN;
    for here in &mut torn {
        all_to_us = all_to_us.max(here.to_us);
        here.all_to_us = all_to_us;
    }
    let mut all_from_us = i64::MAX;
    for here in torn.iter_mut().rev() {
        all_from_us = all_from_us.min(here.from_us);
        here.all_from_us = all_from_us;
    }
    torn
}

/// Where sights, in the order of one end's clock, have nothing in common.
fn tears<'a>(sights: impl Iterator<Item = &'a Sight>, end: End) -> Vec<Tear<'a>> {
    let mut tears = Vec::new();
    let mut last: Option<(&Sight, Bounds)> = None;
    for sight in sights {
        let own = (sight, sight.bounds);
        last = Some(last.map_or(own, |(before, known)| {
            let gap_us = end.at_us(sight).saturating_sub(end.at_us(before));
            match join(known, gap_us, sight.bounds) {
                Joined::Both(bounds) => (sight, bounds),
                // What tells less must not hide what was known.
                Joined::Unsure if known.aged(gap_us).width_us() < sight.bounds.width_us() => {
                    (before, known)
                }
                Joined::Unsure => own,
                Joined::Apart => {
                    tears.push(Tear {
                        before,
                        behind: sight,
                        by: sight.bounds.less(known.aged(gap_us)),
                    });
                    own
                }
            }
        }));
    }
    tears
}
