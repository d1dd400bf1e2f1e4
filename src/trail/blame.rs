//! Whose clock was set, where a third host shows it.
//!
//! Of two neighbours whose bounds tear either may be it. But if the clock of one of them is torn from another neighbour
//! by as much and at the same times of its own, it was that one: else both neighbours' clocks would have been set at once,
//! by the same.

use std::collections::HashMap;

use super::pairs::Pair;
use super::tears::{End, Torn};

/// So many tears of a host are looked at for one; more tell no more.
const LOOKED_AT_MAX: usize = 1000;

/// A pair, and where the clock of its parent and that of its child may have been set, in order; and whether another host
/// shows that it was not.
pub struct Suspected<'a> {
    pub pair: &'a Pair,
    pub parent: Vec<(Torn<'a>, bool)>,
    pub child: Vec<(Torn<'a>, bool)>,
}

impl<'a> Suspected<'a> {
    /// The tears of an end.
    pub fn of(&self, end: End) -> &[(Torn<'a>, bool)] {
        match end {
            End::Parent => &self.parent,
            End::Child => &self.child,
        }
    }
}

/// Clears the neighbours of those whose clock another neighbour shows to have been set.
pub fn clear_neighbours(all: &mut [Suspected]) {
    let shown = Shown::of(all);
    for suspected in all {
        let is_shown = |end, (torn, is_clear): &(Torn, bool)| {
            !is_clear && shown.of_others(suspected.pair, end, torn)
        };
        let of = |end| {
            let torn = suspected.of(end).iter();
            torn.map(move |of_one| (&of_one.0, is_shown(end, of_one)))
        };
        let [parent, child] = [End::Parent, End::Child].map(|end| {
            let theirs = by_handover(of(end.other()));
            let clear = of(end).map(|(torn, is_shown)| !is_shown && is_beside(torn, &theirs));
            clear.collect::<Vec<bool>>()
        });
        for (torn, clear) in [
            (&mut suspected.parent, parent),
            (&mut suspected.child, child),
        ] {
            for ((_, is_clear), is_cleared) in torn.iter_mut().zip(clear) {
                *is_clear |= is_cleared;
            }
        }
    }
}

/// What holds of every tear beside a handover.
pub fn by_handover<'a>(torn: impl Iterator<Item = (&'a Torn<'a>, bool)>) -> HashMap<u64, bool> {
    let mut all: HashMap<u64, bool> = HashMap::new();
    for (torn, holds) in torn {
        for sight in [torn.tear.before, torn.tear.behind] {
            *all.entry(sight.of).or_insert(true) &= holds;
        }
    }
    all
}

/// Whether it holds of the other end's tears before or behind the same handovers.
pub fn is_beside(torn: &Torn, theirs: &HashMap<u64, bool>) -> bool {
    let same = [torn.tear.before, torn.tear.behind].map(|sight| theirs.get(&sight.of));
    same.contains(&Some(&true)) && !same.contains(&Some(&false))
}

/// Where the clock of each host may have been set, and against which neighbour that shows, in the order of the first of
/// the moments between which it was.
struct Shown<'a>(HashMap<&'a str, Vec<(i64, &'a str, Torn<'a>)>>);

impl<'a> Shown<'a> {
    fn of(all: &[Suspected<'a>]) -> Self {
        let mut shown: HashMap<&str, Vec<_>> = HashMap::new();
        for suspected in all {
            let pair = suspected.pair;
            for end in [End::Parent, End::Child] {
                let open = suspected.of(end).iter().filter(|(_, is_clear)| !is_clear);
                let torn = open.map(|(torn, _)| (torn.span_us().0, end.other().host(pair), *torn));
                shown.entry(end.host(pair)).or_default().extend(torn);
            }
        }
        for of_host in shown.values_mut() {
            of_host.sort_by_key(|(from_us, ..)| *from_us);
        }
        Self(shown)
    }

    /// Whether the clock of this end is torn from another neighbour by as much, at the same times.
    fn of_others(&self, pair: &Pair, end: End, torn: &Torn) -> bool {
        let neighbour = end.other().host(pair);
        let (from_us, to_us) = torn.span_us();
        let all = self.0.get(end.host(pair)).map_or(&[][..], Vec::as_slice);
        let begun = all.partition_point(|(from_us, ..)| *from_us <= to_us);
        let begun = all.get(..begun).unwrap_or_default().iter().rev();
        begun.take(LOOKED_AT_MAX).any(|(_, other, theirs)| {
            *other != neighbour
                && theirs.span_us().1 >= from_us
                && theirs.set.and(torn.set).is_some()
        })
    }
}
