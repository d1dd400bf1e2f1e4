//! The colours of a terminal, and what each stands for.

use anstyle::{AnsiColor, Style};

use super::View;
use super::format::put_wide;
use crate::track::Event;
use crate::trail::{Outcome, Truth};

/// Beside the point.
pub const DIM: Style = Style::new().dimmed();
/// A hop's name.
pub const BOLD: Style = Style::new().bold();
/// As it should be.
pub const GREEN: Style = Style::new().fg_color(Some(anstyle::Color::Ansi(AnsiColor::Green)));
/// Not settled.
pub const YELLOW: Style = Style::new().fg_color(Some(anstyle::Color::Ansi(AnsiColor::Yellow)));
/// Wrong.
pub const RED: Style = Style::new().fg_color(Some(anstyle::Color::Ansi(AnsiColor::Red)));

/// The text between a style's sequences.
pub fn paint(style: Style, text: &str) -> String {
    Brush::of(style).paint(text)
}

/// A style's sequences, for many texts.
#[derive(Default)]
pub struct Brush {
    on: String,
    off: String,
}

impl Brush {
    /// Those of this style.
    pub fn of(style: Style) -> Self {
        Self {
            on: style.render().to_string(),
            off: style.render_reset().to_string(),
        }
    }

    /// The same where colours show, else none.
    pub fn within(view: &View, style: Style) -> Self {
        if view.colours {
            Self::of(style)
        } else {
            Self::default()
        }
    }

    /// The text between them.
    pub fn paint(&self, text: &str) -> String {
        [&self.on, text, &self.off].concat()
    }

    /// Appends a text between them, which has so many columns at least.
    pub fn put(&self, out: &mut String, text: &str, width: usize) {
        out.push_str(&self.on);
        put_wide(out, text, width);
        out.push_str(&self.off);
    }
}

/// The colour of an answer.
pub fn outcome_style(outcome: Outcome) -> Style {
    match outcome {
        Outcome::Failed => RED,
        Outcome::Open => YELLOW,
        Outcome::Delivered => GREEN,
    }
}

/// The colour of what a step did.
pub fn event_style(event: Event) -> Style {
    match event {
        Event::Delivered => GREEN,
        Event::Failed => RED,
        Event::Delayed | Event::Held | Event::Looped => YELLOW,
        _ => Style::new(),
    }
}

/// The colours of a verdict: that of the worst, and another for who is not part of that.
pub struct Parts<'a> {
    brush: &'a Brush,
    of_delivered: Option<&'a Brush>,
}

impl<'a> Parts<'a> {
    /// Those of a verdict on a message: where it is known who has it, they are not of the colour of the others.
    pub fn of(truth: Truth, outcome: Outcome, brush: &'a Brush, outcomes: &'a [Brush; 3]) -> Self {
        let is_mixed = truth != Truth::Unproved && outcome != Outcome::Delivered;
        let of_delivered = outcomes.get(Outcome::Delivered as usize);
        Self {
            brush,
            of_delivered: of_delivered.filter(|_| is_mixed),
        }
    }

    /// Appends a verdict, or a line of it.
    pub fn put(&self, out: &mut String, line: &str) {
        let Some(of_delivered) = self.of_delivered.filter(|_| line.contains(DELIVERED)) else {
            return self.brush.put(out, line, 0);
        };
        for part in line.split_inclusive(", ") {
            let count = part.split_once(DELIVERED).map(|(count, _)| count);
            let is_count = |count: &str| count.bytes().all(|octet| octet.is_ascii_digit());
            let is_delivered = count.is_some_and(is_count);
            let brush = if is_delivered {
                of_delivered
            } else {
                self.brush
            };
            brush.put(out, part, 0);
        }
    }
}

/// Stands in a verdict behind how many have the message.
const DELIVERED: &str = " delivered";
