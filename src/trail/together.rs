//! What only all messages together tell of each of them: every message is seen once, some at a time, by what is kept of
//! it or else by its reports; and of those of which nothing is kept, what there is to keep is made.

use std::convert::Infallible;
use std::sync::Mutex;

use super::gist::{self, Block, Place};
use super::groups::{Group, assemble, in_turn};
use super::notices::{Found, Heard};
use super::pairs::{self, Clocks, Sights};
use super::reports::Reports;
use super::{Message, Trails};
use crate::report::notice::Notice;

/// Messages that are seen at a time by a thread: few, so that none waits long for another at the end.
const PART: usize = 128;

/// What only all reports together tell of a message: the clocks on its way, and which words of others are about it.
#[derive(Default)]
pub struct Together {
    /// What is known of clocks.
    pub clocks: Clocks,
    /// What others say.
    pub heard: Heard,
    found: Found,
    /// What is to be kept of messages instead of what was kept of them before.
    pub anew: Mutex<Vec<Block>>,
}

impl Together {
    /// Tells a message.
    pub fn tell(&self, message: &mut Message) {
        self.clocks.tell(message);
        self.heard.tell(message, &self.found);
    }
}

/// Sees messages until there are no more.
pub struct Seeing {
    together: Together,
    sights: Sights,
}

/// What a thread saw.
#[derive(Default)]
struct Seen {
    sights: Sights,
    found: Found,
    told: Vec<Told>,
    new: Option<Block>,
}

/// What it saw of one message.
struct Told {
    /// When it was first seen, µs; not if its reports cannot be read.
    when_us: Option<i64>,
    known: Option<Place>,
    /// The place in the new block.
    new: Option<u32>,
}

impl Seeing {
    /// Others say this of messages.
    pub fn among(notices: Vec<Notice>) -> Self {
        Self {
            together: Together {
                heard: Heard::new(notices),
                ..Together::default()
            },
            sights: Sights::default(),
        }
    }

    /// Sees some, and tells each group when its message was first seen, and what is kept of it. What is new of that comes
    /// behind the blocks that are there.
    pub fn see(&mut self, reports: &Reports, groups: &mut [Group]) -> Vec<Block> {
        let Together { heard, found, .. } = &mut self.together;
        let sights = &mut self.sights;
        let (mut told, mut blocks) = (Vec::with_capacity(groups.len()), Vec::new());
        let before = reports.gists.blocks().len();
        let see = |part: &[Group]| see(reports, part, heard);
        let Ok(()) = in_turn(groups, PART, see, |seen| {
            sights.join(seen.sights);
            found.join(seen.found);
            let n_of_block = before + blocks.len();
            let new = |at| Some(Place::within(u32::try_from(n_of_block).ok()?, at));
            let gist = |told: &Told| told.known.or_else(|| new(told.new?));
            told.extend(seen.told.iter().map(|told| (told.when_us, gist(told))));
            blocks.extend(seen.new);
            Ok::<(), Infallible>(())
        });
        for (group, told) in groups.iter_mut().zip(told) {
            (group.when_us, group.gist) = told;
        }
        blocks
    }

    /// What all of them tell.
    pub fn settle(self) -> Together {
        Together {
            clocks: self.sights.settle(),
            ..self.together
        }
    }
}

fn see(reports: &Reports, part: &[Group], heard: &Heard) -> Seen {
    let mut seen = Seen::default();
    let (mut new, mut trails) = (gist::Maker::default(), Trails::default());
    for group in part {
        let told = see_one(reports, group, heard, &mut seen, &mut new, &mut trails);
        seen.told.push(told);
        trails.messages.clear();
        trails.not_ours.clear();
    }
    seen.new = new.block();
    seen
}

fn see_one(
    reports: &Reports,
    group: &Group,
    heard: &Heard,
    seen: &mut Seen,
    new: &mut gist::Maker,
    trails: &mut Trails,
) -> Told {
    let of = reports.reports_of(group);
    let known = reports.gists.find(of);
    let gist = known.and_then(|place| reports.gists.read(place));
    let known = known.filter(|_| gist.is_some());
    let mut when_us = gist.as_ref().map(|gist| gist.when_us);
    let told = gist.filter(|gist| !gist.is_named_in(heard));
    if told.and_then(|gist| gist.see(&mut seen.sights)).is_some() {
        let new = None;
        return Told {
            when_us,
            known,
            new,
        };
    }
    when_us = when_us.or(assemble(reports, group, trails));
    let mut own = Vec::new();
    for message in &trails.messages {
        own = seen.sights.see(message);
        heard.see(message, &mut seen.found);
    }
    let mut kept = None;
    if let (None, Some(when_us), [message], []) =
        (known, when_us, &mut *trails.messages, &*trails.not_ours)
    {
        // Mostly the others have nothing to add.
        pairs::tell_alone(message, &own);
        kept = new.keep(of, when_us, message, &own);
    }
    Told {
        when_us,
        known,
        new: kept,
    }
}
