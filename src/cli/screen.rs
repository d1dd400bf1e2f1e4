//! A text drawn over the one before it, where that is possible.

use std::io::IsTerminal;

use anstream::adapter::strip_str;

/// What was drawn last.
#[derive(Default)]
pub struct Screen {
    rows: usize,
}

impl Screen {
    /// What to print so that `text`, and an empty line, take the place of what was drawn last. That needs
    /// a terminal that still shows all of it; else the text comes below.
    pub fn next(&mut self, text: &str) -> String {
        let size = size().filter(|_| std::io::stdout().is_terminal());
        self.over(text, size)
    }

    /// The text without the lines behind the first `kept` for which the terminal has no rows, so that `next` can
    /// draw over it.
    pub fn fit(text: &str, kept: usize) -> String {
        let size = size().filter(|_| std::io::stdout().is_terminal());
        size.map_or_else(|| text.to_owned(), |size| fitted(text, kept, size))
    }

    fn over(&mut self, text: &str, size: Option<(usize, usize)>) -> String {
        let Some((height, width)) = size else {
            return text.to_owned();
        };
        let drawn = std::mem::replace(&mut self.rows, rows(text, width) + 1);
        // The cursor stands in the row below.
        if drawn == 0 || drawn >= height {
            return text.to_owned();
        }
        format!("\x1b[{drawn}A\x1b[J{text}")
    }
}

/// The text, and a line that says how much of it is left out, in all rows but two: an empty one and the cursor's own.
fn fitted(text: &str, kept: usize, (height, width): (usize, usize)) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let room = height.saturating_sub(3);
    if rows(text, width) <= room {
        return text.to_owned();
    }
    let (head, rest) = lines.split_at(kept.min(lines.len()).min(room / 2));
    let mut left = room.saturating_sub(rows(&head.join("\n"), width));
    let fits = |line: &&&str| {
        let needed = rows(line, width).max(1);
        let fits = needed <= left;
        left = left.saturating_sub(needed);
        fits
    };
    let shown = rest.iter().rev().take_while(fits).count();
    let (left_out, tail) = rest.split_at(rest.len() - shown);
    let mark = format!("… {} lines are left out", left_out.len());
    [head, &[&mark], tail].concat().join("\n") + "\n"
}

/// The rows a text takes on a terminal so wide.
fn rows(text: &str, width: usize) -> usize {
    let plain = strip_str(text).to_string();
    let lines = plain.lines().map(|line| line.chars().count());
    lines.map(|chars| chars.div_ceil(width).max(1)).sum()
}

/// Rows and columns of the terminal, if it is one and tells.
fn size() -> Option<(usize, usize)> {
    let (columns, rows) = terminal_size::terminal_size()?;
    let size = (usize::from(rows.0), usize::from(columns.0));
    (size.0 > 0 && size.1 > 0).then_some(size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_draws_over_what_is_still_to_be_seen() {
        let mut screen = Screen::default();
        let size = Some((6, 10));
        assert_eq!(screen.over("one\ntwo\n", size), "one\ntwo\n");
        // Two rows, and the empty one.
        assert_eq!(screen.over("a\n\nb\n", size), "\x1b[3A\x1b[Ja\n\nb\n");
        // A wide line takes two rows, colour none: six rows with the empty one, more than can be reached.
        let tall = "\x1b[1m0123456789x\x1b[0m\n2\n3\n4\n";
        assert_eq!(screen.over(tall, size), format!("\x1b[4A\x1b[J{tall}"));
        assert_eq!(screen.over("after\n", size), "after\n");
        assert_eq!(screen.over("again\n", size), "\x1b[2A\x1b[Jagain\n");
    }

    #[test]
    fn what_is_too_high_loses_its_middle() {
        let text = "1\n2\n3\n4\n5\n6\n7\n8\n";
        assert_eq!(fitted(text, 0, (11, 10)), text);
        assert_eq!(
            fitted(text, 0, (7, 10)),
            "… 4 lines are left out\n5\n6\n7\n8\n"
        );
        assert_eq!(
            fitted(text, 2, (7, 10)),
            "1\n2\n… 4 lines are left out\n7\n8\n"
        );
        // A wide line takes two rows.
        let wide = "1\n2\n3\n0123456789x\n5\n";
        assert_eq!(
            fitted(wide, 0, (7, 10)),
            "… 2 lines are left out\n3\n0123456789x\n5\n"
        );
        for height in 0..12 {
            assert!(
                rows(&fitted(text, 2, (height, 30)), 30) <= height.max(3),
                "{height}"
            );
        }
    }

    #[test]
    fn without_a_terminal_each_text_stands_below_the_other() {
        let mut screen = Screen::default();
        assert_eq!(screen.over("one\n", None), "one\n");
        assert_eq!(screen.over("two\n", None), "two\n");
    }
}
