//! The way of a message drawn as a tree: a hop is a dot on a rail, a single way on keeps its column,
//! several branch. What is said there is in [`words`].

use anstyle::Style;

use super::View;
use super::format::{fill, fill_all, fill_short, plain, put};
use super::moments::{Moment, fate_us, moments};
use super::paint::{BOLD, DIM, event_style, paint};
use super::words::{self, Said, time};
use crate::track::{Event, HopReport, RecipientStatus};
use crate::trail::{Message, Stay};

/// Columns of a time and the blanks behind it: `17:05:09.120  `.
const TIME_WIDTH: usize = 14;

/// How much of what was said is shown where columns count, lines; JSON and the page have it all.
const SAID_LINES: usize = 3;

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
        let host = self.view.cut(host, self.room(head, 6));
        let host = paint(BOLD, &host);
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
        if let Some(remark) = words::remark(self.message, n) {
            let lines = fill_all(&remark, self.room(rail, 0));
            self.lines(rail, lines, None, DIM);
        }
        if let Some(again) = words::again(self.message, n) {
            let lines = fill_all(&again, self.room(rail, 0));
            self.lines(rail, lines, None, event_style(Event::Held));
        }
        for claim in &stay.claims {
            let lines = words::claim(self.message, stay, claim, self.view);
            let lines = fill_all(&lines, self.room(rail, 2));
            let marked = lines.iter().enumerate().map(|(n, line)| match n {
                0 => format!("◌ {line}"),
                _ => format!("  {line}"),
            });
            self.lines(rail, marked.collect(), None, DIM);
        }
        if let Some(set) = words::set(stay, self.view) {
            let lines = fill_all(&set, self.room(rail, 0));
            self.lines(rail, lines, None, Style::new());
        }
        if let Some(protection) = words::protection(stay) {
            let lines = fill_all(&protection, self.room(rail, 0));
            self.lines(rail, lines, None, DIM);
        }
        for (_, moment) in moments(self.message, stay) {
            match moment {
                Moment::Arrival(steps) => self.arrival(n, &steps, rail),
                Moment::Filtered(step) => self.filtered(n, step, rail),
                Moment::Fate(step, group) => self.fate(n, step, &group, rail),
            }
        }
    }

    fn arrival(&mut self, n: usize, steps: &[&HopReport], rail: &str) {
        let Some(first) = steps.first() else { return };
        let text = words::arrival(self.message, n, steps);
        let time = time(self.message, n, first.arrived_us(), self.view);
        self.timed(rail, &time, &text, Style::new());
    }

    fn filtered(&mut self, n: usize, step: &HopReport, rail: &str) {
        let Some(at_us) = step.filtered_us else {
            return;
        };
        let time = time(self.message, n, at_us, self.view);
        self.timed(rail, &time, &words::filtered(step), Style::new());
    }

    /// What a step did with recipients who fared alike.
    fn fate(&mut self, n: usize, step: &HopReport, group: &[&RecipientStatus], rail: &str) {
        let Some(first) = group.first() else { return };
        let (text, over) = words::fate(self.message, n, step, group, self.view);
        // What still waits stands out; this is history.
        let style = if over { DIM } else { event_style(first.event) };
        let time = time(self.message, n, fate_us(step, first), self.view);
        self.timed(rail, &time, &text, style);
        // Who is meant needs no word where there is but one.
        if self.message.recipients.len() > 1 {
            let room = self.room(rail, TIME_WIDTH);
            let names = group.iter().map(|r| self.view.cut(&r.original, room - 1));
            let names = fill(&names.collect::<Vec<_>>().join(", "), room);
            self.lines(rail, names, Some(""), Style::new());
        }
        let (text, end) = match words::said(group) {
            Some(Said::Server(reply)) => (format!("“{}”", plain(reply)), "…”"),
            Some(Said::Hop(text)) => (plain(text), "…"),
            None => return,
        };
        let lines = fill_short(&text, self.room(rail, TIME_WIDTH), SAID_LINES, end);
        self.lines(rail, lines, Some(""), DIM);
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
        // A date far away has a line for itself.
        if time.chars().count() + 1 > TIME_WIDTH {
            put(&mut self.out, format_args!("{rail}{time}\n"));
            time = "";
        }
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
