//! How far a long read is: a line on standard error where somebody looks at a terminal, and nothing anywhere else.

use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use crate::trail::{Reports, Source};

/// What is read sooner needs no line.
const AFTER: Duration = Duration::from_millis(500);

/// How often the line is drawn anew.
const EVERY: Duration = Duration::from_millis(100);

/// A line that is drawn while it lives, and gone when it is dropped.
pub struct Progress(Arc<Mutex<Line>>);

#[derive(Default)]
struct Line {
    /// Nothing is drawn any more.
    done: bool,
    /// Columns in use.
    drawn: usize,
}

impl Progress {
    /// The line for reading these sources; `None` where it would be in somebody's way: programs, files, pagers.
    pub fn of(reports: &Reports, sources: &[Source]) -> Option<Self> {
        let seen = io::stdout().is_terminal() && io::stderr().is_terminal();
        seen.then(|| {
            let line = Arc::new(Mutex::new(Line::default()));
            let (looked_at, sources) = (reports.looking(), sources.to_vec());
            let drawn = Arc::clone(&line);
            thread::spawn(move || keep_drawing(&drawn, &looked_at, &sources));
            Self(line)
        })
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        let mut line = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        line.draw("");
        line.done = true;
    }
}

/// Draws until it is done. To count what there is takes time as well, so nobody waits for this thread.
fn keep_drawing(line: &Mutex<Line>, looked_at: &AtomicUsize, sources: &[Source]) {
    thread::sleep(AFTER);
    let is_done = || line.lock().unwrap_or_else(PoisonError::into_inner).done;
    if is_done() {
        return;
    }
    let total: Option<usize> = sources.iter().map(Source::count).sum();
    loop {
        let mut line = line.lock().unwrap_or_else(PoisonError::into_inner);
        if line.done {
            return;
        }
        line.draw(&words(looked_at.load(Ordering::Relaxed), total));
        drop(line);
        thread::sleep(EVERY);
    }
}

fn words(read: usize, total: Option<usize>) -> String {
    match total {
        Some(total) if total >= read => format!("reading mail: {read} of {total}"),
        // More came meanwhile, or nobody knows.
        _ => format!("reading mail: {read}"),
    }
}

impl Line {
    /// Draws over what is there, with blanks where that was longer; without a sequence that a terminal may not know.
    fn draw(&mut self, text: &str) {
        if text.is_empty() && self.drawn == 0 {
            return;
        }
        let width = self.drawn;
        let end = if text.is_empty() { "\r" } else { "" };
        // Who cannot be told goes without.
        let _ = io::stderr().write_all(format!("\r{text:width$}{end}").as_bytes());
        self.drawn = text.len();
    }
}
