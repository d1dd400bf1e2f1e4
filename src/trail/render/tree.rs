//! The way of a message drawn as a tree: a hop is a dot on a rail, a single way on keeps its column,
//! several branch. Times of later hops are shown on the first hop's clock where the offset is known.

use anstyle::Style;

use super::View;
use super::format::{bounded, clock, cut, duration, fill, fill_all, plain, put};
use super::terminal::{BOLD, DIM, WIDTH, event_style, paint};
use super::verdict::corrected_us;
use crate::track::{Event, HopReport, RecipientStatus};
use crate::trail::clock::{Bounds, Offset};
use crate::trail::way::transit;
use crate::trail::{Message, Stay};

/// Columns of a time and the blanks behind it: `17:05:09.120  `.
const TIME_WIDTH: usize = 14;

/// How much of a peer's reply is shown, characters; JSON has it all.
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
            self.lines(rail, fill(&remark, room(rail, 0)), None, DIM);
        }
        let mut shown = None;
        for step in &stay.steps {
            let arrival = (step.arrived_us(), &step.queue_id);
            if shown != Some(arrival) {
                self.arrival(n, step, rail);
                shown = Some(arrival);
            }
            self.step(n, step, rail);
        }
    }

    fn time(&self, stay: usize, us: i64) -> String {
        let from_us = self.message.sent_or_arrived_us();
        self.view
            .time(corrected_us(self.message, stay, us), from_us)
    }

    fn arrival(&mut self, n: usize, step: &HopReport, rail: &str) {
        let mut text = String::from("arrived");
        if let Some(transit) = transit(self.message, n, step) {
            put(
                &mut text,
                format_args!(", {} on the wire", bounded(transit)),
            );
        }
        if let Some(queue_id) = &step.queue_id {
            put(&mut text, format_args!(", queue id {}", plain(queue_id)));
        }
        if let Some(size) = step.size {
            put(&mut text, format_args!(", {size} octets"));
        }
        let time = self.time(n, step.arrived_us());
        self.timed(rail, &time, &text, Style::new());
    }

    /// What a step did with its recipients; those with the same fate together.
    fn step(&mut self, n: usize, step: &HopReport, rail: &str) {
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
        for group in groups {
            let Some(first) = group.first() else { continue };
            let at = step.ended_us(first).unwrap_or_else(|| step.arrived_us());
            let mut text = sentence(first);
            if let Some(dwell) = step.dwell_us(first) {
                put(&mut text, format_args!(" after {}", duration(dwell)));
            }
            let time = self.time(n, at);
            self.timed(rail, &time, &text, event_style(first.event));
            let names: Vec<String> = group.iter().map(|r| plain(&r.original)).collect();
            let names = fill(&names.join(", "), room(rail, TIME_WIDTH));
            self.lines(rail, names, Some(""), Style::new());
            if let Some(reply) = &first.reply {
                let reply = format!("“{}”", cut(reply, REPLY_CHARS));
                self.timed(rail, "", &reply, DIM);
            }
        }
    }

    /// Prose beside a time.
    fn timed(&mut self, rail: &str, time: &str, text: &str, style: Style) {
        let lines = fill_all(text, room(rail, TIME_WIDTH));
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
}

/// What to know of a hop's clock before reading its times.
fn remark(stay: &Stay) -> Option<String> {
    if stay.is_missing() {
        return Some("no report came from here, but a later hop had it from here".to_owned());
    }
    stay.parent?;
    Some(match stay.link {
        // The first hop that reported: all times are told by its clock.
        Offset::Unknown if stay.offset == Offset::Known(Bounds::ZERO) => return None,
        Offset::Unknown => "times of its own clock, not comparable with those above".to_owned(),
        Offset::Contradiction => {
            "no clock offset fits its stamps: a clock was set meanwhile, or a \
             stamp is made up; not comparable with the times above"
                .to_owned()
        }
        Offset::Known(link) => match stay.offset {
            Offset::Known(offset) => format!("clock {}, corrected", clock(offset)?),
            _ => format!("clock {} of the hop above", clock(link)?),
        },
    })
}

/// The columns left beside a rail and an indent.
fn room(rail: &str, indent: usize) -> usize {
    let used = rail.chars().count() + indent;
    WIDTH.saturating_sub(used).max(20)
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
        Event::Relayed => format!("relayed to {next} (not equipped, the trail ends)"),
        Event::Expanded => "expanded to addresses not shown (the trail ends)".to_owned(),
        Event::Delayed => format!("delayed by {next}"),
        Event::Held => "held, not seen leaving".to_owned(),
        Event::Failed => format!("failed: refused by {next}"),
        Event::Delivered => "delivered".to_owned(),
    }
}
