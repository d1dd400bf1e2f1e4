//! The way of a message drawn as a tree: a hop is a dot on a rail, a single way on keeps its column,
//! several branch. Times of later hops are shown on the first hop's clock where the offset is known.

use std::collections::BTreeMap;

use anstyle::Style;

use super::View;
use super::format::{bounded, clock, duration, fill, fill_all, plain, put, unsure};
use super::terminal::{BOLD, DIM, event_style, paint};
use super::verdict::corrected_us;
use crate::report::Trace;
use crate::track::{Event, HopReport, RecipientStatus, Security};
use crate::trail::clock::{Bounds, Offset};
use crate::trail::spent::is_greylisting;
use crate::trail::way::transit;
use crate::trail::{Message, Stay};

/// Columns of a time and the blanks behind it: `17:05:09.120  `.
const TIME_WIDTH: usize = 14;

/// How much of a peer's reply is shown where columns count, characters; JSON has it all.
const REPLY_CHARS: usize = 240;

/// The stays of a message.
pub fn draw(message: &Message, view: &View) -> String {
    let mut tree = Tree {
        message,
        view,
        out: String::new(),
    };
    for root in tree.children(None) {
        tree.stay(root, "", "");
    }
    tree.out
}

struct Tree<'a> {
    message: &'a Message,
    view: &'a View,
    out: String,
}

impl Tree<'_> {
    fn children(&self, parent: Option<usize>) -> Vec<usize> {
        let stays = self.message.stays.iter().enumerate();
        let behind = stays.filter(|(_, stay)| stay.parent == parent);
        behind.map(|(n, _)| n).collect()
    }

    /// A stay and everything behind it. `head` stands in front of its dot, `rail` of what follows.
    fn stay(&mut self, n: usize, head: &str, rail: &str) {
        let Some(stay) = self.message.stays.get(n) else {
            return;
        };
        let children = self.children(Some(n));
        let dot = if stay.is_missing() { "○" } else { "●" };
        let host = stay.host.as_deref().unwrap_or("(name unknown)");
        let host = paint(BOLD, &plain(host));
        put(
            &mut self.out,
            format_args!("{head}{dot} {}  {host}\n", stay.hop),
        );
        let line = if children.is_empty() { " " } else { "│" };
        self.body(n, stay, &format!("{rail}{line}    "));
        let branches = children.len() > 1;
        for (k, child) in children.iter().enumerate() {
            let (corner, below) = match (branches, k + 1 == children.len()) {
                (false, _) => ("", ""),
                (true, false) => ("├─", "│ "),
                (true, true) => ("└─", "  "),
            };
            self.stay(
                *child,
                &format!("{rail}{corner}"),
                &format!("{rail}{below}"),
            );
        }
    }

    fn body(&mut self, n: usize, stay: &Stay, rail: &str) {
        if let Some(remark) = remark(stay) {
            let lines = fill(&remark, self.room(rail, 0));
            self.lines(rail, lines, None, DIM);
        }
        if let Some(again) = self.again(n) {
            let lines = fill(&again, self.room(rail, 0));
            self.lines(rail, lines, None, event_style(Event::Held));
        }
        for claim in &stay.claims {
            let lines = fill(&self.claim(stay, claim), self.room(rail, 2));
            let marked = lines.iter().enumerate().map(|(n, line)| match n {
                0 => format!("◌ {line}"),
                _ => format!("  {line}"),
            });
            self.lines(rail, marked.collect(), None, DIM);
        }
        if let Some(set) = set(stay, self.view) {
            let lines = fill(&set, self.room(rail, 0));
            self.lines(rail, lines, None, Style::new());
        }
        if let Some(protection) = protection(stay) {
            let lines = fill(&protection, self.room(rail, 0));
            self.lines(rail, lines, None, DIM);
        }
        for (_, moment) in moments(stay) {
            match moment {
                Moment::Arrival(steps) => self.arrival(n, &steps, rail),
                Moment::Fate(step, group) => self.fate(n, step, &group, rail),
            }
        }
    }

    /// That the message was here before, and the ring in which it came back.
    fn again(&self, n: usize) -> Option<String> {
        let visits = self.message.earlier_visits(n);
        let last = visits.last()?;
        let before = |n: &usize| self.message.stays.get(*n).and_then(|s| s.parent);
        let ring = std::iter::successors(Some(n), before).take_while(|n| n != last);
        let mut ring: Vec<usize> = ring.chain([*last]).collect();
        ring.reverse();
        let stays = ring.iter().filter_map(|n| self.message.stays.get(*n));
        let names = stays.map(|s| plain(s.host.as_deref().unwrap_or("?")));
        let ring = names.collect::<Vec<_>>().join(" → ");
        let times = visits.len() + 1;
        Some(format!("↺ here again, time {times}: {ring}"))
    }

    /// What a Received field claims, in whole seconds.
    fn claim(&self, stay: &Stay, claim: &Trace) -> String {
        let from_us = self.message.sent_or_arrived_us();
        let by = plain(&claim.by);
        let at = claim.at_us.map_or_else(String::new, |us| {
            let time = self.view.second(us, from_us);
            format!("{time} by its own clock, ")
        });
        if stay.is_missing() {
            format!("{at}claims the Received field of {by} (unproved)")
        } else {
            format!("by way of {by}: {at}claims its Received field (unproved)")
        }
    }

    fn time(&self, stay: usize, us: i64) -> String {
        let from_us = self.message.sent_or_arrived_us();
        self.view
            .time(corrected_us(self.message, stay, us), from_us)
    }

    /// One arrival, as the steps that go back to it tell of it.
    fn arrival(&mut self, n: usize, steps: &[&HopReport], rail: &str) {
        let Some(first) = steps.first() else { return };
        let mut text = String::from("arrived");
        if let Some(transit) = steps.iter().find_map(|s| transit(self.message, n, s)) {
            put(
                &mut text,
                format_args!(", {} on the wire", bounded(transit)),
            );
        }
        if let Some(queue_id) = steps.iter().find_map(|s| s.queue_id.as_ref()) {
            put(&mut text, format_args!(", queue id {}", plain(queue_id)));
        }
        if let Some(size) = steps.iter().find_map(|s| s.size) {
            put(&mut text, format_args!(", {size} octets"));
        }
        if let Some(pause) = steps.iter().find_map(|s| told_pause(s.pause_in_us())) {
            put(&mut text, format_args!(", accepted {pause} later"));
        }
        let time = self.time(n, first.arrived_us());
        self.timed(rail, &time, &text, Style::new());
    }

    /// What a step did with recipients who fared alike.
    fn fate(&mut self, n: usize, step: &HopReport, group: &[&RecipientStatus], rail: &str) {
        let Some(first) = group.first() else { return };
        let at_us = fate_us(step, first);
        let mut text = sentence(first);
        let mut style = event_style(first.event);
        let stay = self.message.stays.get(n);
        let sure = stay.is_some_and(|stay| stay.jump.is_none());
        if let Some(over_us) = stay.and_then(|stay| over_us(stay, group, at_us)) {
            put(&mut text, format_args!(" until {}", self.time(n, over_us)));
            // What still waits stands out; this is history.
            style = DIM;
        } else if let Some(dwell) = step.dwell_us(first).filter(|_| sure) {
            put(&mut text, format_args!(" after {}", duration(dwell)));
        }
        if let Some(pause) = told_pause(step.pause_out_us()).filter(|_| leaves(first.event)) {
            put(&mut text, format_args!(", which took it {pause} later"));
        }
        let time = self.time(n, at_us);
        self.timed(rail, &time, &text, style);
        // Who is meant needs no word where there is but one.
        if self.message.recipients.len() > 1 {
            let names: Vec<String> = group.iter().map(|r| plain(&r.original)).collect();
            let names = fill(&names.join(", "), self.room(rail, TIME_WIDTH));
            self.lines(rail, names, Some(""), Style::new());
        }
        if let Some(reply) = &first.reply {
            let reply = format!("“{}”", self.view.cut(reply, REPLY_CHARS));
            self.timed(rail, "", &reply, DIM);
        }
    }

    /// Prose beside a time.
    fn timed(&mut self, rail: &str, time: &str, text: &str, style: Style) {
        let lines = fill_all(text, self.room(rail, TIME_WIDTH));
        self.lines(rail, lines, Some(time), style);
    }

    /// Lines beside a time or across its column.
    fn lines(&mut self, rail: &str, lines: Vec<String>, time: Option<&str>, style: Style) {
        let indent = time.map_or(0, |_| TIME_WIDTH);
        let mut time = time.unwrap_or_default();
        for line in lines {
            let line = paint(style, &line);
            put(&mut self.out, format_args!("{rail}{time:indent$}{line}\n"));
            time = "";
        }
    }

    /// The columns left beside a rail and an indent.
    fn room(&self, rail: &str, indent: usize) -> usize {
        self.view.room(rail.chars().count() + indent).max(20)
    }
}

/// A pause between a message and the answer to it that is worth telling, µs.
const PAUSE_TOLD_US: i64 = 1_000_000;

/// What a stay tells of one moment.
enum Moment<'a> {
    /// The message came in; the steps that go back to this arrival.
    Arrival(Vec<&'a HopReport>),
    /// A step did this with these recipients.
    Fate(&'a HopReport, Vec<&'a RecipientStatus>),
}

/// Everything a stay tells in the order of its clock, µs; nothing stands before its own arrival, whatever
/// the clock did meanwhile.
fn moments(stay: &Stay) -> Vec<(i64, Moment<'_>)> {
    let mut arrivals: BTreeMap<i64, Vec<&HopReport>> = BTreeMap::new();
    for step in &stay.steps {
        arrivals.entry(step.arrived_us()).or_default().push(step);
    }
    let fates = stay.steps.iter().flat_map(|step| {
        let at_us = |group: &[&RecipientStatus]| group.first().map(|first| fate_us(step, first));
        groups(step).into_iter().filter_map(move |group| {
            let at_us = at_us(&group)?.max(step.arrived_us());
            Some((at_us, Moment::Fate(step, group)))
        })
    });
    let fates: Vec<_> = fates.collect();
    let arrivals = arrivals.into_iter();
    let mut moments: Vec<_> = arrivals
        .map(|(at_us, steps)| (at_us, Moment::Arrival(steps)))
        .chain(fates)
        .collect();
    // Stable: an arrival goes before what happened at the same time.
    moments.sort_by_key(|(at_us, _)| *at_us);
    moments
}

/// The recipients of a step, those who fared alike together.
fn groups(step: &HopReport) -> Vec<Vec<&RecipientStatus>> {
    let mut groups: Vec<Vec<&RecipientStatus>> = Vec::new();
    for recipient in &step.recipients {
        let same = groups
            .iter_mut()
            .find(|g| g.first().is_some_and(|f| alike(step, f, recipient)));
        match same {
            Some(group) => group.push(recipient),
            None => groups.push(vec![recipient]),
        }
    }
    groups
}

/// When a step was over for a recipient, µs of its hop's clock.
fn fate_us(step: &HopReport, recipient: &RecipientStatus) -> i64 {
    step.ended_us(recipient)
        .unwrap_or_else(|| step.arrived_us())
}

/// When the wait of all these recipients was over at this stay, µs of its clock; `None` if one of them
/// waits still, or none ever did.
fn over_us(stay: &Stay, waiting: &[&RecipientStatus], from_us: i64) -> Option<i64> {
    let over = |waiting: &&RecipientStatus| {
        if !matches!(waiting.event, Event::Delayed | Event::Held) {
            return None;
        }
        let address = waiting.original.to_lowercase();
        let fates = stay
            .steps
            .iter()
            .flat_map(|step| step.recipients.iter().map(move |r| (fate_us(step, r), r)));
        let ends = fates.filter(|(at_us, r)| {
            *at_us >= from_us && r.event.is_final() && r.original.to_lowercase() == address
        });
        ends.map(|(at_us, _)| at_us).min()
    };
    let all: Option<Vec<i64>> = waiting.iter().map(over).collect();
    all?.into_iter().max()
}

/// What to know of a hop's clock before reading its times.
fn remark(stay: &Stay) -> Option<String> {
    if stay.is_missing() {
        return Some("no report came from here, but a later hop had it from here".to_owned());
    }
    stay.parent?;
    Some(match (stay.offset, stay.link) {
        // The first hop that reported: all times are told by its clock.
        (_, Offset::Unknown) if stay.offset_at_us.is_none() && stay.offset != Offset::Unknown => {
            return None;
        }
        (Offset::Known(offset), _) => format!("clock {}, corrected{}", clock(offset), later(stay)),
        (_, Offset::Known(link)) => format!("clock {} of the hop above", clock(link)),
        (_, Offset::Contradiction) => {
            "no clock offset fits its stamps: a clock was set meanwhile, or a \
             stamp is made up; not comparable with the times above"
                .to_owned()
        }
        (_, Offset::Unknown) => {
            "times of its own clock, not comparable with those above".to_owned()
        }
    })
}

/// How unsure its last times are, where the message stayed so long that the clocks may have run apart.
fn later(stay: &Stay) -> String {
    const TOLD_FROM_US: i64 = 50_000;
    let last = stay.lasted().and_then(|(_, us)| stay.on_first_clock(us));
    let margin = last.map(Bounds::margin_us).filter(|us| *us >= TOLD_FROM_US);
    margin.map_or_else(String::new, |us| format!(" to{} in the end", unsure(us)))
}

/// That a clock was set while the message was here.
fn set(stay: &Stay, view: &View) -> Option<String> {
    let jump = stay.jump.as_ref()?;
    let by_us = jump.by.middle_us().unsigned_abs();
    let by = duration(i64::try_from(by_us).unwrap_or(i64::MAX));
    let [from, to] = [jump.from_us, jump.to_us].map(|us| view.time(us, jump.from_us));
    Some(format!(
        "its clock or that of {} was set by {by}{} between {from} and {to} of its time, or a stamp is made up; \
         how long it was here is not known",
        plain(&jump.against),
        unsure(jump.by.margin_us())
    ))
}

/// What protected the connections of a stay, as far as it is known.
fn protection(stay: &Stay) -> Option<String> {
    let came = stay.steps.iter().find_map(|step| step.tls_in.as_ref());
    let mut ways: Vec<String> = came
        .iter()
        .map(|way| format!("in: {}", name(way)))
        .collect();
    for way in stay.steps.iter().filter_map(|step| step.tls_out.as_ref()) {
        let verified = match way {
            Security::Tls { verified: true, .. } => ", verified",
            Security::Tls { .. } => ", not verified",
            Security::Plain => "",
        };
        let way = format!("out: {}{verified}", name(way));
        if !ways.contains(&way) {
            ways.push(way);
        }
    }
    (!ways.is_empty()).then(|| ways.join("; "))
}

fn name(security: &Security) -> String {
    match security {
        Security::Plain => "plaintext".to_owned(),
        Security::Tls { version, .. } => format!("TLS {}", plain(version)),
    }
}

/// How long a server thought about a message, if that is worth a word.
fn told_pause(pause_us: Option<i64>) -> Option<String> {
    pause_us.filter(|us| *us >= PAUSE_TOLD_US).map(duration)
}

/// Whether the next hop was given the message.
fn leaves(event: Event) -> bool {
    matches!(event, Event::Transferred | Event::Relayed)
}

/// Whether two recipients of a step make one entry: the same happened to both, at a time.
fn alike(step: &HopReport, a: &RecipientStatus, b: &RecipientStatus) -> bool {
    /// The replies after the dot come one after the other (RFC 2033, 4.2).
    const TOGETHER_US: u64 = 10_000;
    let together = match (step.ended_us(a), step.ended_us(b)) {
        (Some(a), Some(b)) => a.abs_diff(b) <= TOGETHER_US,
        (a, b) => a == b,
    };
    together && a.event == b.event && a.remote_mta == b.remote_mta && a.reply == b.reply
}

fn sentence(recipient: &RecipientStatus) -> String {
    let next = recipient
        .remote_mta
        .as_deref()
        .map_or_else(|| "the next hop".to_owned(), plain);
    match recipient.event {
        Event::Accepted => "accepted".to_owned(),
        Event::Transferred => format!("transferred to {next}"),
        Event::Relayed => format!("relayed to {next} (not equipped)"),
        Event::Expanded => "expanded to addresses not shown (the trail ends)".to_owned(),
        Event::Delayed if is_greylisting(recipient) => format!("greylisted by {next}"),
        Event::Delayed => format!("delayed by {next}"),
        Event::Held => "held, not seen leaving".to_owned(),
        Event::Failed => format!("failed: refused by {next}"),
        Event::Delivered => "delivered".to_owned(),
    }
}
