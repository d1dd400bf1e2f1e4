//! What is kept of a message that was put together: what compares its clocks with those of others, and the line of it
//! in a list. As long as the same reports are there, it stands for them, so that a list of many messages puts
//! together only those that are new or still on their way.
//!
//! ```text
//! block = kept..., gist...
//! gist  = moment it set out, id text, number of names by which others may speak of it, 8 octets...,
//!         number of hosts, text..., first moment, last moment, number of sights, sight..., 0 | 1, line
//! sight = number: parent among the hosts, number: child, which handover 8 octets, left moment, arrived moment,
//!         that it left and least and most of its own bounds, of those that the line is drawn by: moment...
//! line  = id text, moment it set out, truth octet, outcome octet, verdict words, number of recipients, text...
//! ```
//!
//! Numbers, moments and texts are as in [`pack`](super::pack). Must not know disk, nor how a list is laid out.

use compact_str::CompactString;
use hashbrown::HashTable;
use jiff::tz::TimeZone;

use super::clock::Bounds;
use super::codes::TRUTHS;
use super::notices::Heard;
use super::pack::Packer;
use super::pairs::{Clocks, Sight, Sights, shown_by};
use super::reader::Reader;
use super::render::View;
use super::render::line::Line;
use super::{Message, Outcome, State, Stay};

/// Most of the room that a block takes.
const BLOCK_OCTETS: usize = 64 * 1024;

/// Which reports a gist stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Of {
    /// What their message is known by.
    pub message: u64,
    /// The sum of the keys of their mails.
    pub keys: u64,
    /// How many they are.
    pub reports: u32,
}

/// A gist's place in its block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// What it stands for.
    pub of: Of,
    /// Where it begins.
    pub place: u32,
}

/// Gists that were made together.
#[derive(Clone)]
pub struct Block {
    /// Their places.
    pub kept: Vec<Kept>,
    /// What stands there.
    pub octets: Vec<u8>,
}

/// Where a gist stands: in which block, and where it begins there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    block: u32,
    at: u32,
}

impl Place {
    /// In this block of all.
    pub fn within(block: u32, at: u32) -> Self {
        Self { block, at }
    }
}

/// Gists by the reports they stand for.
#[derive(Default)]
pub struct Gists {
    blocks: Vec<Block>,
    /// By what the message is known by: in which block, and as which there.
    places: HashTable<(u32, u32)>,
}

impl Gists {
    /// Takes more of them in; a later one goes before an earlier one. Tells which block it is, which every block is
    /// as long as there are not billions.
    pub fn add(&mut self, block: Block) -> u32 {
        let Ok(n_of_block) = u32::try_from(self.blocks.len()) else {
            return u32::MAX;
        };
        self.blocks.push(block);
        let Self { blocks, places } = self;
        let kept =
            |(block, n): &(u32, u32)| at(blocks, *block, *n).map_or(0, |kept| kept.of.message);
        let last = blocks.last().map_or(&[][..], |block| &block.kept);
        for (n, new) in (0..).zip(last) {
            let same = |place: &(u32, u32)| kept(place) == new.of.message;
            match places.find_mut(new.of.message, same) {
                Some(place) => *place = (n_of_block, n),
                None => {
                    places.insert_unique(new.of.message, (n_of_block, n), kept);
                }
            }
        }
        n_of_block
    }

    /// Where the gist of these reports is.
    pub fn find(&self, of: Of) -> Option<Place> {
        let same = |(block, n): &(u32, u32)| {
            at(&self.blocks, *block, *n).is_some_and(|kept| kept.of.message == of.message)
        };
        let (block, n) = *self.places.find(of.message, same)?;
        let kept = at(&self.blocks, block, n).filter(|kept| kept.of == of)?;
        let at = kept.place;
        Some(Place { block, at })
    }

    /// What stands there.
    pub fn read(&self, place: Place) -> Option<Gist<'_>> {
        let block = self.blocks.get(usize::try_from(place.block).ok()?)?;
        Gist::read(&block.octets, place.at)
    }

    /// Later ones go before most of them.
    pub fn are_mostly_old(&self) -> bool {
        /// So few are no burden.
        const FEW: usize = 1_000;
        let all: usize = self.blocks.iter().map(|block| block.kept.len()).sum();
        all > 2 * self.places.len() + FEW
    }

    /// What was added, in that order.
    pub fn blocks(&self) -> &[Block] {
        &self.blocks
    }
}

fn at(blocks: &[Block], block: u32, n: u32) -> Option<&Kept> {
    let block = blocks.get(usize::try_from(block).ok()?)?;
    block.kept.get(usize::try_from(n).ok()?)
}

/// What is kept of a message.
pub struct Gist<'a> {
    /// When it set out, µs.
    pub when_us: i64,
    /// Its tracking id.
    pub id: &'a str,
    /// At the names by which others may speak of it.
    rest: Reader<'a>,
}

/// What there is to compare with what is known by now.
struct Body<'a> {
    hosts: Vec<&'a str>,
    /// The span of all their clocks that it tells of, µs.
    lasted: (i64, i64),
    sights: Vec<Seen>,
    /// At the line.
    rest: Reader<'a>,
}

/// A sight between two of the hosts, and by what the line was drawn.
struct Seen {
    parent: usize,
    child: usize,
    sight: Sight,
    drawn_by: Bounds,
}

impl Gist<'_> {
    /// Takes in what the message shows of clocks.
    pub fn see(&self, sights: &mut Sights) -> Option<()> {
        let body = self.body()?;
        let host = |n: usize| body.hosts.get(n).copied().unwrap_or_default();
        for seen in &body.sights {
            let (parent, child) = (host(seen.parent), host(seen.child));
            sights.of(parent, child).push(seen.sight);
        }
        Some(())
    }

    /// Whether others may have said something of it.
    pub fn is_named_in(&self, heard: &Heard) -> bool {
        let names = || self.rest.clone().list(Reader::eight).unwrap_or_default();
        !heard.is_empty() && names().iter().any(|name| heard.knows(*name))
    }

    /// The line, if it is drawn by what is known now.
    pub fn line(&self, clocks: &Clocks, heard: &Heard) -> Drawn {
        let Some(mut body) = self.body().filter(|_| !self.is_named_in(heard)) else {
            return Drawn::Not;
        };
        let jumped = |host: &&str| clocks.doubt(host, body.lasted);
        if body.rest.octet() != Some(1) || body.hosts.iter().any(jumped) {
            return Drawn::Not;
        }
        let holds = |seen: &Seen| clocks.known_at(&seen.sight) == seen.drawn_by;
        if !body.sights.iter().all(holds) {
            return Drawn::Old;
        }
        read_line(&mut body.rest).map_or(Drawn::Not, Drawn::Holds)
    }
}

/// Whether the line of a message is drawn already.
pub enum Drawn {
    /// As it is to be.
    Holds(Line),
    /// By what was known of clocks before.
    Old,
    /// It is not, or what it takes to draw it is not known from the gist.
    Not,
}

/// Makes a block, gist by gist.
pub struct Maker {
    kept: Vec<Kept>,
    packer: Packer,
}

impl Default for Maker {
    fn default() -> Self {
        Self {
            kept: Vec::new(),
            packer: Packer::within(Vec::with_capacity(BLOCK_OCTETS)),
        }
    }
}

impl Maker {
    /// Keeps what there is to keep of a message that has been told all that is known; by itself it showed these sights.
    /// Tells its place; `None` if there is no room for more.
    pub fn keep(&mut self, of: Of, when_us: i64, message: &Message, own: &[Sight]) -> Option<u32> {
        let packer = &mut self.packer;
        let place = packer.begin()?;
        self.kept.push(Kept { of, place });
        packer.moment(when_us);
        packer.text(message.id.as_str());
        let names = Heard::hashes_of(message);
        packer.count(names.len());
        names.for_each(|name| packer.eight(name));
        let mut hosts: Vec<&str> = message
            .stays
            .iter()
            .filter_map(|s| s.host.as_deref())
            .collect();
        hosts.sort_unstable();
        hosts.dedup();
        packer.count(hosts.len());
        for host in &hosts {
            packer.text(host);
        }
        let (from_us, to_us) = lasted(message);
        packer.moment(from_us);
        packer.moment(to_us);
        packer.count(own.len());
        let number = |stay: Option<&Stay>| {
            let host = stay.and_then(|stay| stay.host.as_deref());
            host.and_then(|host| hosts.binary_search(&host).ok())
                .unwrap_or(hosts.len())
        };
        for ((_, parent, child, _, told), own) in shown_by(message).zip(own) {
            packer.count(number(parent));
            packer.count(number(Some(child)));
            sight(packer, own, told);
        }
        let line = is_final(message).then(|| Line::of(message, &ANY_VIEW));
        packer.octet(u8::from(line.is_some()));
        if let Some(line) = line {
            self.line(&line);
        }
        Some(place)
    }

    fn line(&mut self, line: &Line) {
        let packer = &mut self.packer;
        packer.text(&line.id);
        packer.moment(line.when_us);
        packer.one_of(&TRUTHS, line.truth);
        packer.one_of(&Outcome::ALL, line.outcome);
        packer.words(&line.verdict);
        packer.count(line.addresses.len());
        line.addresses
            .iter()
            .for_each(|address| packer.text(address));
    }

    /// All of them.
    pub fn block(self) -> Option<Block> {
        let octets = self.packer.into_octets();
        let kept = self.kept;
        (!kept.is_empty()).then_some(Block { kept, octets })
    }
}

/// Where nothing is by the reader's clock, any will do.
const ANY_VIEW: View = View {
    now_us: 0,
    zone: TimeZone::UTC,
    width: None,
    colours: false,
};

/// Whether the line of a message stays as it is, whatever the time; but for clocks and what others say.
fn is_final(message: &Message) -> bool {
    let is_looped = message.recipients.iter().any(|r| r.state == State::Looped);
    let jumped = message.stays.iter().any(|stay| stay.jump.is_some());
    message.is_settled() && message.words.is_empty() && !is_looped && !jumped
}

/// The least and the greatest moment that any hop tells of, each by its own clock.
fn lasted(message: &Message) -> (i64, i64) {
    let spans = message.stays.iter().filter_map(Stay::lasted);
    let span = spans.reduce(|(a, b), (from, to)| (a.min(from), b.max(to)));
    span.unwrap_or_default()
}

fn sight(packer: &mut Packer, own: &Sight, drawn_by: Bounds) {
    packer.eight(own.of);
    packer.moment(own.left_us);
    packer.moment(own.arrived_us);
    let mut bounds = |bounds: Bounds| {
        // Near a moment, and so are the others.
        packer.moment(own.left_us.wrapping_add(bounds.low_us));
        packer.moment(own.left_us.wrapping_add(bounds.high_us));
    };
    bounds(own.bounds);
    bounds(drawn_by);
}

impl<'a> Gist<'a> {
    /// The gist at a place, if there is one.
    fn read(octets: &'a [u8], place: u32) -> Option<Self> {
        let mut rest = Reader::at(octets, place)?;
        Some(Self {
            when_us: rest.moment()?,
            id: rest.text()?,
            rest,
        })
    }

    fn body(&self) -> Option<Body<'a>> {
        let mut rest = self.rest.clone();
        for _ in 0..rest.count()? {
            rest.eight()?;
        }
        Some(Body {
            hosts: rest.list(Reader::text)?,
            lasted: (rest.moment()?, rest.moment()?),
            sights: rest.list(Seen::read)?,
            rest,
        })
    }
}

fn read_line(reader: &mut Reader) -> Option<Line> {
    Some(Line {
        id: reader.text()?.to_owned(),
        when_us: reader.moment()?,
        truth: reader.one_of(&TRUTHS)?,
        outcome: reader.one_of(&Outcome::ALL)?,
        // None of any other is kept.
        is_settled: true,
        verdict: reader.words()?.to_owned(),
        addresses: reader.list(|r| r.text().map(CompactString::from))?,
    })
}

impl Seen {
    fn read(reader: &mut Reader) -> Option<Self> {
        let (parent, child) = (reader.count()?, reader.count()?);
        let of = reader.eight()?;
        let (left_us, arrived_us) = (reader.moment()?, reader.moment()?);
        let mut bounds = || {
            Some(Bounds {
                low_us: reader.moment()?.wrapping_sub(left_us),
                high_us: reader.moment()?.wrapping_sub(left_us),
            })
        };
        Some(Self {
            parent,
            child,
            sight: Sight {
                of,
                left_us,
                arrived_us,
                bounds: bounds()?,
            },
            drawn_by: bounds()?,
        })
    }
}
