//! The colours of a terminal, and what each stands for.

use anstyle::{AnsiColor, Style};

use super::View;
use super::format::put_wide;
use crate::track::Event;
use crate::trail::Outcome;

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
