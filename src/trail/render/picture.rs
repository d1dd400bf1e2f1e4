//! What a picture of the way shows: a lane for each stay, in it a track for the recipients who fared alike,
//! legs between them, all on the first hop's clock. Knows times, not how they are drawn.
//!
//! A lane whose clock is unknown is put where causality allows it first: right behind what it came from.

use std::collections::{HashMap, HashSet};

use super::moments::fate_us;
use super::verdict::corrected_us;
use super::words::{lack, whose};
use crate::track::address::key;
use crate::track::{Event, HopReport, RecipientStatus, StepId};
use crate::trail::custody::{Silence, aside, beyond};
use crate::trail::refusal::TriedAgain;
use crate::trail::spent;
use crate::trail::{Message, Stay};
use compact_str::CompactString;

/// Tracks drawn in a lane; the recipients beyond are in the table.
const TRACKS_MAX: usize = 8;

/// The way of a message in time.
pub struct Picture {
    /// The lanes from top to bottom; a lane comes after the one it came from.
    pub lanes: Vec<Lane>,
    /// The ways between them.
    pub legs: Vec<Leg>,
    /// The first moment, µs of the first hop's clock.
    pub from_us: i64,
    /// The last moment that is known of; later than the first.
    pub to_us: i64,
    /// How long it has been going on after that, nobody can say.
    pub open: bool,
}

/// A hop, or what is known of a hop that does not report.
pub struct Lane {
    /// The hop's number, if it reports.
    pub hop: Option<u8>,
    /// Its name, if it is known.
    pub name: Option<CompactString>,
    /// How well its times are known.
    pub placed: Placed,
    /// Whose clock was set meanwhile, if one was.
    pub whose: Option<String>,
    /// Why there is no report from here, of a hop that the message was known to leave.
    pub lack: Option<&'static str>,
    /// What happened in it, for whom.
    pub tracks: Vec<Track>,
    /// Recipients that have no track for want of room.
    pub left_out: usize,
}

/// How well the times of a lane are known on the first hop's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placed {
    /// Each time may be off by so much in either direction, µs.
    Within(i64),
    /// Its clock cannot be compared; nothing in it was earlier than drawn.
    NotBefore,
    /// A clock was set meanwhile; how long anything took is not known.
    Set,
    /// Nothing that counts came from here.
    NoReport,
}

/// What happened in a lane to recipients who fared alike.
#[derive(Default)]
pub struct Track {
    /// Who they are; empty in a lane that did not report.
    pub whom: Vec<CompactString>,
    /// When the message came in, µs.
    pub from_us: i64,
    /// When attempts were put off, or refused and then made again, µs; from the first of them on it was not this hop that
    /// took the time.
    pub delays_us: Vec<i64>,
    /// One of these was refused.
    pub refused: bool,
    /// From when to when the hop waited for answers of the next one, µs, as far as that is known.
    pub answers_us: Vec<(i64, i64)>,
    /// The last moment told of, µs.
    pub to_us: i64,
    /// What happened then.
    pub end: End,
    /// The steps that tell it.
    steps: Vec<StepId>,
    /// The step that handed it over.
    giver: Option<StepId>,
}

impl Track {
    /// How long the message is known to have been here, µs.
    pub fn lasted_us(&self) -> i64 {
        self.to_us.saturating_sub(self.from_us)
    }
}

/// How a track ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum End {
    /// It went on, or nothing is known.
    #[default]
    Left,
    /// It is in the mailbox.
    Delivered,
    /// It was refused for good.
    Failed,
    /// It went on to others who are not shown.
    Expanded,
    /// It is still here and will be tried again.
    Waits,
    /// It came in, or was seen staying, and nothing else is known.
    Stays,
    /// It came back to a hop that had it before.
    Looped,
    /// It is here, and nothing that counts tells more of it, for this reason.
    Unheard(Silence),
}

impl End {
    fn of(event: Event) -> Self {
        match event {
            Event::Delivered => Self::Delivered,
            Event::Failed => Self::Failed,
            Event::Expanded => Self::Expanded,
            Event::Delayed => Self::Waits,
            Event::Held | Event::Accepted => Self::Stays,
            Event::Looped => Self::Looped,
            Event::Transferred | Event::Relayed => Self::Left,
        }
    }

    /// Whether the story goes on behind it, unknown.
    pub fn is_open(self) -> bool {
        self == Self::Waits || self.is_dark()
    }

    /// Whether more was to be heard of it, and nothing was.
    pub fn is_dark(self) -> bool {
        match self {
            Self::Stays => true,
            Self::Unheard(silence) => silence != Silence::NotEquipped,
            _ => false,
        }
    }
}

/// The way from one track to another.
pub struct Leg {
    /// Where it left.
    pub from: Place,
    /// When, µs.
    pub from_us: i64,
    /// Where it came.
    pub to: Place,
    /// When, µs.
    pub to_us: i64,
}

/// A track by its lane and its place therein.
type Place = (usize, usize);

/// The picture of a message; `None` if nothing is known of it.
pub fn picture(message: &Message, now_us: i64) -> Option<Picture> {
    let mut drawing = Drawing {
        message,
        now_us,
        lanes: Vec::new(),
        legs: Vec::new(),
        lane_of: Vec::new(),
        left: HashMap::new(),
    };
    for (n, stay) in message.stays.iter().enumerate() {
        drawing.lane_of.push(drawing.lanes.len());
        if stay.is_missing() {
            drawing.missing(n, stay);
        } else {
            drawing.stay(n, stay);
            drawing.beyond(n);
        }
    }
    let tracks = || drawing.lanes.iter().flat_map(|lane| &lane.tracks);
    let from_us = tracks().map(|t| t.from_us).min()?;
    let to_us = tracks().map(|t| t.to_us).max()?;
    Some(Picture {
        from_us,
        // A moment alone has a second behind it.
        to_us: to_us.max(from_us.saturating_add(if to_us > from_us { 1 } else { 1_000_000 })),
        open: tracks().any(|t| t.end.is_open()),
        lanes: drawing.lanes,
        legs: drawing.legs,
    })
}

/// When a message left a track, µs.
#[derive(Clone, Copy, PartialEq)]
struct Left {
    from: Place,
    at_us: i64,
}

/// A picture in the making.
struct Drawing<'a> {
    message: &'a Message,
    now_us: i64,
    lanes: Vec<Lane>,
    legs: Vec<Leg>,
    /// The lane of each stay.
    lane_of: Vec<usize>,
    /// Where a step is told, and when the message left there.
    left: HashMap<StepId, Left>,
}

impl Drawing<'_> {
    fn stay(&mut self, n: usize, stay: &Stay) {
        let lane = self.lanes.len();
        let mut tracks = tracks(self.message, n, stay);
        let left_out = tracks.iter().skip(TRACKS_MAX).map(|t| t.whom.len()).sum();
        tracks.truncate(TRACKS_MAX);
        let placed = self.place(stay, &mut tracks);
        for (k, track) in tracks.iter().enumerate() {
            let before = self.before(stay, track.giver);
            self.leg(before, (lane, k), track.from_us);
            for step in &track.steps {
                let (from, at_us) = ((lane, k), track.to_us);
                self.left.insert(*step, Left { from, at_us });
            }
        }
        self.lanes.push(Lane {
            hop: Some(stay.hop),
            name: stay.host.clone(),
            placed,
            whose: stay.jump.as_deref().map(whose),
            lack: None,
            tracks,
            left_out,
        });
    }

    /// A hop that must have been there: a moment where the message left the one before.
    fn missing(&mut self, n: usize, stay: &Stay) {
        let before = self.before(stay, None);
        let at_us = before.map(|left| left.at_us);
        let at_us = at_us.or_else(|| came_behind_us(self.message, n));
        let at_us = at_us.unwrap_or_else(|| self.message.sent_or_arrived_us());
        self.unknown(Some(stay.hop), stay.host.clone(), before, at_us, End::Left);
        if let Some(lane) = self.lanes.last_mut() {
            lane.lack = Some(lack(self.message, stay.host.as_deref()));
        }
    }

    /// The hops behind a stay that nothing is known of: a lane for each name. Of what names a proved message that one tells.
    fn beyond(&mut self, n: usize) {
        if !self.message.names.is_empty() {
            return;
        }
        let mut ghosts: Vec<(End, Option<&CompactString>, Option<Left>)> = Vec::new();
        for recipient in self.message.recipients.iter().filter(|r| r.stay == n) {
            let Some(silence) = beyond(self.message, recipient, self.now_us) else {
                continue;
            };
            let left = self.left.get(&recipient.step).copied();
            let ghost = (End::Unheard(silence), recipient.remote.as_ref(), left);
            if left.is_some() && !ghosts.contains(&ghost) {
                ghosts.push(ghost);
            }
        }
        for (end, name, left) in ghosts.into_iter().take(TRACKS_MAX) {
            let at_us = left.map_or(0, |left| left.at_us);
            self.unknown(None, name.cloned(), left, at_us, end);
        }
    }

    /// A lane of a hop that told nothing.
    fn unknown(
        &mut self,
        hop: Option<u8>,
        name: Option<CompactString>,
        before: Option<Left>,
        at_us: i64,
        end: End,
    ) {
        self.leg(before, (self.lanes.len(), 0), at_us);
        let track = Track {
            from_us: at_us,
            to_us: at_us,
            end,
            ..Track::default()
        };
        self.lanes.push(Lane {
            hop,
            name,
            placed: Placed::NoReport,
            whose: None,
            lack: None,
            tracks: vec![track],
            left_out: 0,
        });
    }

    /// Brings tracks to the first hop's clock, or to where they can have begun.
    fn place(&self, stay: &Stay, tracks: &mut [Track]) -> Placed {
        let (ahead_us, placed) = match (stay.offset.bounds(), stay.margin_us()) {
            (Some(bounds), _) if stay.jump.is_some() => (bounds.middle_us(), Placed::Set),
            (Some(bounds), Some(margin_us)) => (bounds.middle_us(), Placed::Within(margin_us)),
            _ => {
                let arrived_us = tracks.iter().map(|t| t.from_us).min().unwrap_or_default();
                let giver = tracks.iter().find_map(|t| t.giver);
                let before_us = self.before(stay, giver).map(|left| left.at_us);
                let first = self.lanes.first().and_then(|lane| lane.tracks.first());
                let began_us = before_us.or(first.map(|t| t.from_us));
                let began_us = began_us.unwrap_or(arrived_us);
                (arrived_us.saturating_sub(began_us), Placed::NotBefore)
            }
        };
        for track in tracks {
            let times = [&mut track.from_us, &mut track.to_us].into_iter();
            let times = times.chain(&mut track.delays_us);
            let times = times.chain(
                track
                    .answers_us
                    .iter_mut()
                    .flat_map(|(from, to)| [from, to]),
            );
            times.for_each(|us| *us = us.saturating_sub(ahead_us));
        }
        placed
    }

    /// The track a stay came from.
    fn before(&self, stay: &Stay, giver: Option<StepId>) -> Option<Left> {
        if let Some(known) = giver.and_then(|step| self.left.get(&step)) {
            return Some(*known);
        }
        let lane = *self.lane_of.get(stay.parent?)?;
        let tracks = self.lanes.get(lane)?.tracks.iter().enumerate();
        let (k, track) = tracks.rev().find(|(_, track)| track.end == End::Left)?;
        Some(Left {
            from: (lane, k),
            at_us: track.to_us,
        })
    }

    fn leg(&mut self, before: Option<Left>, to: Place, to_us: i64) {
        if let Some(left) = before {
            self.legs.push(Leg {
                from: left.from,
                from_us: left.at_us,
                to,
                to_us,
            });
        }
    }
}

/// When a message first came to a stay behind this one, µs of the first hop's clock.
fn came_behind_us(message: &Message, parent: usize) -> Option<i64> {
    let stays = message.stays.iter().enumerate();
    let behind = stays.filter(|(_, stay)| stay.parent == Some(parent));
    let arrivals = behind.flat_map(|(n, stay)| {
        let arrivals = stay.steps.iter().map(HopReport::arrived_us);
        arrivals.map(move |us| corrected_us(message, n, us))
    });
    arrivals.min()
}

/// The tracks of a stay on its own clock: recipients of whom the same steps tell the same.
fn tracks(message: &Message, n: usize, stay: &Stay) -> Vec<Track> {
    let mut stories: Vec<Vec<(&HopReport, &RecipientStatus)>> = Vec::new();
    let mut places: HashMap<_, usize> = HashMap::new();
    for step in &stay.steps {
        for group in &step.recipients {
            let place = places.entry(key(&group.original));
            let place = *place.or_insert(stories.len());
            if place == stories.len() {
                stories.push(Vec::new());
            }
            if let Some(story) = stories.get_mut(place) {
                // What it tells of an earlier attempt goes before the rest of the step.
                let before = story.iter().rposition(|(s, _)| s.step != step.step);
                let place = match before {
                    before if step.is_of_earlier(group) => before.map_or(0, |n| n + 1),
                    _ => story.len(),
                };
                story.insert(place, (step, group));
            }
        }
    }
    let own: HashSet<StepId> = stay.steps.iter().map(|step| step.step).collect();
    let children = message.stays.iter().filter(|s| s.parent == Some(n));
    let followed = children.flat_map(|s| s.steps.iter().filter_map(|step| step.parent));
    let followed: HashSet<StepId> = followed.collect();
    let aside = aside(message, stay.host.as_deref());
    let tried_again = stay.steps.iter();
    let tried_again = tried_again.map(|step| (step.step, TriedAgain::after(step, message)));
    let tried_again: HashMap<StepId, TriedAgain> = tried_again.collect();
    let mut tracks: Vec<Track> = Vec::new();
    let mut alike: HashMap<Vec<(StepId, Event)>, usize> = HashMap::new();
    for story in stories {
        let key = story.iter().map(|(s, g)| (s.step, g.event)).collect();
        let whom = story.first().map(|(_, g)| g.original.clone());
        let place = *alike.entry(key).or_insert(tracks.len());
        if place == tracks.len() {
            tracks.push(Track {
                answers_us: answers_us(message, n, &story),
                ..track(&story, &tried_again, &own, &followed, aside)
            });
        }
        if let Some(track) = tracks.get_mut(place) {
            track.whom.extend(whom);
            track.to_us = track.to_us.max(ended_us(&story));
        }
    }
    tracks
}

/// What the steps tell of one recipient.
fn track(
    story: &[(&HopReport, &RecipientStatus)],
    tried_again: &HashMap<StepId, TriedAgain>,
    own: &HashSet<StepId>,
    followed: &HashSet<StepId>,
    aside: Option<Silence>,
) -> Track {
    let steps = || story.iter().map(|(step, _)| *step);
    let from_us = steps().map(HopReport::arrived_us).min().unwrap_or_default();
    let refused = |(step, group): &(&HopReport, &RecipientStatus)| {
        let tried_again = tried_again.get(&step.step);
        tried_again.is_some_and(|tried_again| tried_again.has(group))
    };
    let put_off = story
        .iter()
        .filter(|told| told.1.event == Event::Delayed || refused(told));
    let delays = put_off.map(|(step, g)| fate_us(step, g).max(from_us));
    let last = story.last().map_or(End::Left, |(_, g)| End::of(g.event));
    let went_on = steps().any(|step| followed.contains(&step.step));
    let is_accepted = story
        .last()
        .is_some_and(|(_, g)| g.event == Event::Accepted);
    Track {
        whom: Vec::new(),
        from_us,
        delays_us: delays.collect(),
        refused: story.iter().any(refused),
        answers_us: Vec::new(),
        to_us: ended_us(story).max(from_us),
        end: match (last, aside) {
            (End::Stays, _) if went_on => End::Left,
            (End::Stays, Some(aside)) if is_accepted => End::Unheard(aside),
            (last, _) => last,
        },
        giver: steps().filter_map(|s| s.parent).find(|p| !own.contains(p)),
        steps: steps().map(|step| step.step).collect(),
    }
}

/// When answers of the next hop were waited for on the way to what is told last: at the end of each part of the time.
fn answers_us(
    message: &Message,
    n: usize,
    story: &[(&HopReport, &RecipientStatus)],
) -> Vec<(i64, i64)> {
    let leg = story
        .last()
        .map(|(step, group)| (step.arrived_us(), spent::leg(message, n, step, group)));
    let (mut at_us, parts) = leg
        .map(|(at_us, leg)| (at_us, leg.parts))
        .unwrap_or_default();
    let answers = parts.iter().filter_map(|part| {
        at_us = at_us.saturating_add(part.us);
        (part.awaited_us > 0).then(|| (at_us.saturating_sub(part.awaited_us), at_us))
    });
    answers.collect()
}

/// When the last that is told of a recipient happened, µs.
fn ended_us(story: &[(&HopReport, &RecipientStatus)]) -> i64 {
    let ends = story.iter().map(|(step, group)| fate_us(step, group));
    ends.max().unwrap_or_default()
}
