//! Structured logs on standard error: text on a terminal, JSON lines elsewhere. `HOPTRAIL_LOG` chooses
//! what is shown (`info` by default; `hoptrail=debug`). Message text, AUTH lines and keys are never logged.
//!
//! Commands that log nothing say there what they have to say, on the same terms: nobody waits for who reads it.

use std::fmt;
use std::io::{IsTerminal, Write};
use std::thread;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tracing::level_filters::LevelFilter;
use tracing::{Event, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

use super::json;
use super::session::Session;
use super::turn;

/// Room for a line as most are.
const LINE_OCTETS_USUAL: usize = 512;

/// How long the end of a process waits for whoever reads its log to take the last lines.
const LAST_LINES: Duration = Duration::from_secs(1);

/// Writes what was logged while whoever reads the log did not keep up, as soon as that can be. Never ends.
pub async fn catch_up() {
    turn::catch_up().await;
}

/// Writes words that are no line of the log, behind all that was logged.
pub fn say(words: &str) {
    turn::write(format!("{words}\n").as_bytes(), false);
}

/// Where the same is written piece by piece. It takes all of it, read or not.
pub fn aside() -> impl Write {
    turn::Way { waits: false }
}

/// Dropped, at the end of a process, all that was logged and said is written, if that was read.
pub struct Ending;

impl Drop for Ending {
    fn drop(&mut self) {
        let start = Instant::now();
        while let Some(pause) = turn::try_again()
            && start.elapsed() + pause < LAST_LINES
        {
            thread::sleep(pause);
        }
    }
}

/// Starts logging for the whole process.
pub fn start() {
    let wanted = std::env::var("HOPTRAIL_LOG").ok();
    let wanted = wanted.and_then(|words| words.parse().ok());
    let shown = wanted.unwrap_or_else(|| Targets::new().with_default(LevelFilter::INFO));
    // What tells of lost lines is never left out.
    let shown = shown.with_target(turn::TARGET, LevelFilter::WARN);
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(turn::Ways)
        .event_format(Lines {
            for_people: std::io::stderr().is_terminal(),
        });
    tracing_subscriber::registry()
        .with(lines)
        .with(shown)
        .init();
}

/// One line for each event, with the session it happened in.
pub(super) struct Lines {
    pub(super) for_people: bool,
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let (level, session) = (event.metadata().level(), Session::current());
        if !self.for_people {
            let mut line = String::with_capacity(LINE_OCTETS_USUAL);
            json::write(&mut line, event, session);
            return writer.write_str(&line);
        }
        write!(writer, "{:.3} {level:>5} ", Timestamp::now())?;
        if let Some(session) = session {
            write!(writer, "[{session}] ")?;
        }
        context.format_fields(writer.by_ref(), event)?;
        writeln!(writer)
    }
}
