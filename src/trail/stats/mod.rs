//! Many messages in figures: a fold, which sees each message once and keeps counts and times of it, nothing else.
//!
//! Must not know where messages come from, nor how figures are shown.

mod compare;
mod left_out;
mod sample;

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use super::clock::Bounds;
use super::refusal::TriedAgain;
use super::spent::own_us;
use super::way::{total, way};
use super::{Message, Outcome, Recipient, State, Stay, Truth};
use crate::track::address::key;
use crate::track::{Event, HopReport, StepId};
pub use compare::{Change, News, compare};
pub use left_out::LeftOut;
pub use sample::{Percentiles, Sample};

/// What figures are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Table {
    /// A hop.
    Hop,
    /// A hop and the one it hands messages to.
    Pair,
    /// Who sent the messages: the address their reports go to.
    Originator,
    /// The host that gave a message to its first hop, as that one's Received field has it.
    Client,
    /// The domain of the recipients.
    Destination,
    /// The hosts on the way to a domain.
    Route,
    /// A day.
    Day,
}

/// What a line of figures is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// In which table it stands.
    pub table: Table,
    /// The day the messages were sent; `None` where days are not told apart, or of one without a date.
    pub day: Option<Date>,
    /// The hop, the pair's first, the originator, the domain.
    pub name: String,
    /// The pair's second hop, the route's hosts.
    pub peer: Option<String>,
}

/// Counts and times.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Steps told of.
    pub reports: u64,
    /// Messages, each once, however often a hop saw it; of a pair, transactions.
    pub messages: u64,
    /// Recipients of these messages.
    pub recipients: u64,
    /// Octets of these messages.
    pub octets: u64,
    /// Recipients whose message was delivered; of a hop or a pair: there.
    pub delivered: u64,
    /// For whom it failed. What was refused and tried again is none of it.
    pub failed: u64,
    /// Refusals for good after which it was tried again, as far as told of.
    pub refused: u64,
    /// Attempts that put it off, as far as told of.
    pub delayed: u64,
    /// Messages that left the hop; one that came back may have left it more than once.
    pub left: u64,
    /// Next hops they left for; more than `left` where messages part.
    pub departures: u64,
    /// Messages that came to the hop again.
    pub loops: u64,
    /// Times the next hop was given a message and asked to report, so that its report is to be expected.
    pub handed: u64,
    /// Times that report came.
    pub heard: u64,
    /// Times the next hop was given a message and not asked to report.
    pub relayed: u64,
    /// At a hop the time inside without the wait for the next hop's replies, of a pair the time on the wire, else the whole way.
    pub time: Sample,
    /// Of a hop: times inside that do not count, since a clock may have been set meanwhile.
    pub unsure: u64,
    /// Of a pair: from MAIL to the last reply.
    pub attempt: Sample,
}

impl Tally {
    /// What became of the recipients of a step at its hop, and how long that took.
    fn add_fates(&mut self, message: &Message, stay: &Stay, step: &HopReport) {
        let tried_again = TriedAgain::after(step, message);
        for group in &step.recipients {
            let refused = tried_again.has(group);
            self.delivered += u64::from(group.event == Event::Delivered);
            self.failed += u64::from(group.event == Event::Failed && !refused);
            self.refused += u64::from(refused);
            self.delayed += u64::from(group.event == Event::Delayed);
            if !group.event.is_final() || refused {
                continue;
            }
            match own_us(stay, step, group) {
                Some(us) => self.time.add(us),
                None => self.unsure += u64::from(stay.jump.is_some()),
            }
        }
    }

    fn join(&mut self, other: Self) {
        self.reports += other.reports;
        self.messages += other.messages;
        self.recipients += other.recipients;
        self.octets = self.octets.saturating_add(other.octets);
        self.delivered += other.delivered;
        self.failed += other.failed;
        self.refused += other.refused;
        self.delayed += other.delayed;
        self.left += other.left;
        self.departures += other.departures;
        self.loops += other.loops;
        self.handed += other.handed;
        self.heard += other.heard;
        self.relayed += other.relayed;
        self.time.join(other.time);
        self.unsure += other.unsure;
        self.attempt.join(other.attempt);
    }
}

/// The figures so far.
#[derive(Debug)]
pub struct Stats {
    zone: TimeZone,
    by_day: bool,
    tallies: HashMap<Key, Tally>,
    names: Names,
    /// All of it.
    pub all: Tally,
    /// Messages in it that nothing proves to be this user's.
    pub unproved: u64,
    /// The first and the last moment at which a message was sent, µs.
    pub sent_us: Option<(i64, i64)>,
}

impl Stats {
    /// None yet. A day is one of this zone; `by_day` tells every line apart by days.
    pub fn new(zone: TimeZone, by_day: bool) -> Self {
        Self {
            zone,
            by_day,
            tallies: HashMap::new(),
            names: HashMap::new(),
            all: Tally::default(),
            unproved: 0,
            sent_us: None,
        }
    }

    /// Takes a message in.
    pub fn add(&mut self, message: &Message) {
        let sent_us = message.sent_or_arrived_us();
        let (first, last) = self.sent_us.unwrap_or((sent_us, sent_us));
        self.sent_us = Some((first.min(sent_us), last.max(sent_us)));
        self.unproved += u64::from(message.truth != Truth::Verified);
        let day = self.day(sent_us);
        let children = children(message);
        let mut visits: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (n, stay) in message.stays.iter().enumerate() {
            if !stay.is_missing() {
                let host = stay.host.as_deref().unwrap_or_default();
                visits.entry(host).or_default().push(n);
            }
            self.add_departures(message, n, &children, day);
        }
        for (host, visits) in visits {
            self.add_visits(message, host, &visits, day);
        }
        self.add_recipients(message, day);
    }

    fn day(&self, us: i64) -> Option<Date> {
        let time = Timestamp::from_microsecond(us).ok()?;
        Some(time.to_zoned_datetime(self.zone.clone()).date())
    }

    fn tally(
        &mut self,
        table: Table,
        day: Option<Date>,
        name: &str,
        peer: Option<&str>,
    ) -> &mut Tally {
        let days = self.by_day || table == Table::Day;
        let key = Key {
            table,
            day: day.filter(|_| days),
            name: name.to_owned(),
            peer: peer.map(str::to_owned),
        };
        self.tallies.entry(key).or_default()
    }

    /// What a host did with a message at these stays, more than one where it came back.
    fn add_visits(&mut self, message: &Message, host: &str, visits: &[usize], day: Option<Date>) {
        let stays = || visits.iter().filter_map(|n| message.stays.get(*n));
        let steps = || stays().flat_map(|stay| &stay.steps);
        let groups = steps().flat_map(|step| &step.recipients);
        let recipients: HashSet<_> = groups.map(|r| key(&r.original)).collect();
        let left = |stay: &&Stay| stay.steps.iter().any(leaves);
        let is_again = |n: &&usize| loops(message, **n);
        let tally = self.tally(Table::Hop, day, host, None);
        tally.reports += count(steps().count());
        tally.messages += 1;
        tally.recipients += count(recipients.len());
        let octets = steps().find_map(|step| step.size).unwrap_or(0);
        tally.octets = tally.octets.saturating_add(octets);
        tally.loops += count(visits.iter().filter(is_again).count());
        tally.left += count(stays().filter(left).count());
        tally.departures += count(steps().filter(|step| leaves(step)).count());
        for stay in stays() {
            for step in &stay.steps {
                tally.add_fates(message, stay, step);
            }
        }
    }

    /// What a stay did with the hops behind it.
    fn add_departures(
        &mut self,
        message: &Message,
        n: usize,
        children: &Children,
        day: Option<Date>,
    ) {
        let Some(stay) = message.stays.get(n) else {
            return;
        };
        let host = stay.host.clone().unwrap_or_default();
        for step in &stay.steps {
            let mut onward = step.recipients.iter().filter(|r| !is_with_own_mta(r.event));
            let Some(remote) = onward.find_map(|r| r.remote_mta.clone()) else {
                continue;
            };
            let child = children.get(&(n, step.step)).copied();
            if let Some((child, _)) = child
                && let Some(name) = &message.stays.get(child).and_then(|s| s.host.clone())
            {
                self.names
                    .entry((host.to_string(), remote.to_string()))
                    .or_insert_with(|| name.to_string());
            }
            let wire = child.and_then(|(child, entrance)| message.transit(child, entrance));
            let tally = self.tally(Table::Pair, day, &host, Some(&remote));
            let of = |event| count(step.recipients.iter().filter(|r| r.event == event).count());
            tally.messages += 1;
            tally.recipients += count(step.recipients.len());
            tally.octets = tally.octets.saturating_add(step.size.unwrap_or(0));
            tally.delivered += of(Event::Delivered);
            let tried_again = TriedAgain::after(step, message);
            let refused = step
                .recipients
                .iter()
                .filter(|group| tried_again.has(group));
            let refused = count(refused.count());
            tally.failed += of(Event::Failed) - refused;
            tally.refused += refused;
            tally.delayed += of(Event::Delayed);
            tally.handed += u64::from(of(Event::Transferred) > 0);
            tally.heard += u64::from(of(Event::Transferred) > 0 && child.is_some());
            tally.relayed += u64::from(of(Event::Relayed) > 0);
            if let Some(wire) = wire {
                tally.time.add_within(wire);
            }
            if let Some(us) = step.attempt_us() {
                tally.attempt.add(us);
            }
        }
    }

    fn add_recipients(&mut self, message: &Message, day: Option<Date>) {
        let steps = || message.stays.iter().flat_map(|stay| &stay.steps);
        let originator = message.originator.as_deref().unwrap_or_default();
        let client = message.client.as_deref().unwrap_or_default();
        let mut seen = HashSet::new();
        let delays = delays(message);
        let reports = count(steps().count());
        let octets = steps().find_map(|step| step.size).unwrap_or(0);
        for recipient in &message.recipients {
            let domain = domain(&recipient.address);
            let (hosts, whole) = route(message, recipient);
            let mut share = Share {
                new: true,
                reports,
                octets,
                outcome: message.outcome_for(recipient),
                delays: delays.get(&key(&recipient.address)).copied().unwrap_or(0),
                refusals: count(recipient.refusals.len()),
                whole: None,
            };
            // A message counts once in each line, however many of its recipients do.
            share.new = seen.is_empty();
            share.add_to(&mut self.all);
            share.whole = whole;
            for (table, name, peer) in [
                (Table::Originator, originator, None),
                (Table::Client, client, None),
                (Table::Destination, &*domain, None),
                (Table::Route, &*domain, Some(hosts.as_str())),
                (Table::Day, "", None),
            ] {
                share.new = seen.insert((table, name.to_owned(), peer.map(str::to_owned)));
                share.add_to(self.tally(table, day, name, peer));
            }
        }
    }

    /// Every line of figures, table by table, days in order, the busiest first.
    pub fn lines(self) -> Vec<(Key, Tally)> {
        let mut lines: BTreeMap<Key, Tally> = BTreeMap::new();
        for (mut key, tally) in self.tallies {
            key.peer = key.peer.map(|peer| match key.table {
                Table::Pair => own_name(&self.names, &key.name, &peer),
                Table::Route => with_own_name(&self.names, &peer),
                _ => peer,
            });
            lines.entry(key).or_default().join(tally);
        }
        let mut lines: Vec<_> = lines.into_iter().collect();
        // Stable: those that are alike stay in the order of their names.
        lines.sort_by_key(|(key, tally)| (key.table, key.day, std::cmp::Reverse(tally.messages)));
        lines
    }
}

/// By which name a hop that is called so by the one before it calls itself.
type Names = HashMap<(String, String), String>;

fn own_name(names: &Names, before: &str, called: &str) -> String {
    let own = names.get(&(before.to_owned(), called.to_owned()));
    own.map_or(called, String::as_str).to_owned()
}

/// The hosts of a route, the last of which may be called as the one before it does.
fn with_own_name(names: &Names, hosts: &str) -> String {
    let Some((way, last)) = hosts.rsplit_once(ONWARD) else {
        return hosts.to_owned();
    };
    let before = way.rsplit(ONWARD).next().unwrap_or_default();
    [way, &own_name(names, before, last)].join(ONWARD)
}

/// Stands between the hosts of a route.
const ONWARD: &str = " > ";

/// What a recipient adds to a line.
struct Share {
    /// Its message is not in the line yet.
    new: bool,
    reports: u64,
    octets: u64,
    outcome: Outcome,
    delays: u64,
    refusals: u64,
    /// How long its whole way took.
    whole: Option<Bounds>,
}

impl Share {
    fn add_to(&self, tally: &mut Tally) {
        if self.new {
            tally.messages += 1;
            tally.reports += self.reports;
            tally.octets = tally.octets.saturating_add(self.octets);
        }
        tally.recipients += 1;
        tally.delivered += u64::from(self.outcome == Outcome::Delivered);
        tally.failed += u64::from(self.outcome == Outcome::Failed);
        tally.delayed += self.delays;
        tally.refused += self.refusals;
        if let Some(whole) = self.whole {
            tally.time.add_within(whole);
        }
    }
}

/// Whether the message was at the host of this stay before: an earlier one or the host itself tells of it.
fn loops(message: &Message, n: usize) -> bool {
    let back = |step: &HopReport| step.recipients.iter().any(|r| r.event == Event::Looped);
    let told = message
        .stays
        .get(n)
        .is_some_and(|stay| stay.steps.iter().any(back));
    told || !message.earlier_visits(n).is_empty()
}

/// Whether that happened between a hop and its own MTA: no other hop was asked.
fn is_with_own_mta(event: Event) -> bool {
    matches!(event, Event::Accepted | Event::Held | Event::Looped)
}

/// Whether a next hop was given the message in this step.
fn leaves(step: &HopReport) -> bool {
    let left = |event| matches!(event, Event::Transferred | Event::Relayed | Event::Expanded);
    step.recipients.iter().any(|r| left(r.event))
}

/// The stay and the step by which the message of a step of a stay came to the next hop, of those that reported the first.
type Children<'a> = HashMap<(usize, StepId), (usize, &'a HopReport)>;

fn children(message: &Message) -> Children<'_> {
    let mut children = Children::new();
    for (n, stay) in message.stays.iter().enumerate() {
        let Some(parent) = stay.parent else {
            continue;
        };
        for step in &stay.steps {
            let Some(given) = step.parent else {
                continue;
            };
            let first = children.entry((parent, given)).or_insert((n, step));
            if step.arrived_us() < first.1.arrived_us() {
                *first = (n, step);
            }
        }
    }
    children
}

/// The hosts of the way to a recipient, the one it was handed to last included, and how long it took if it was delivered and all of it is known.
fn route(message: &Message, recipient: &Recipient) -> (String, Option<Bounds>) {
    let parts = way(message, recipient);
    let stays: Vec<&Stay> = parts
        .iter()
        .filter_map(|part| message.stays.get(part.stay))
        .collect();
    let host = |stay: &&Stay| stay.host.as_deref().unwrap_or("?").to_owned();
    let mut hosts: Vec<String> = stays.iter().map(host).collect();
    let from_start = stays
        .first()
        .is_some_and(|stay| stay.hop == 1 && !stay.is_missing());
    if matches!(recipient.state, State::Relayed | State::OnItsWay) {
        hosts.extend(recipient.remote.as_ref().map(ToString::to_string));
    }
    let delivered = message.outcome_for(recipient) == Outcome::Delivered;
    let whole = total(&parts).filter(|_| from_start && delivered);
    (hosts.join(ONWARD), whole)
}

/// How often each recipient was put off at any hop, as far as told of.
fn delays(message: &Message) -> HashMap<Cow<'_, str>, u64> {
    let steps = message.stays.iter().flat_map(|stay| &stay.steps);
    let groups = steps.flat_map(|step| &step.recipients);
    let mut delays = HashMap::new();
    for group in groups.filter(|group| group.event == Event::Delayed) {
        *delays.entry(key(&group.original)).or_default() += 1;
    }
    delays
}

/// The domain of an address, in lower case.
fn domain(address: &str) -> String {
    let domain = address.rsplit_once('@').map_or("", |(_, domain)| domain);
    domain.to_lowercase()
}

fn count(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}
