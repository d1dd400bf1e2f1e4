//! Structured logs on standard error: text on a terminal, JSON lines elsewhere. `HOPTRAIL_LOG` chooses
//! what is shown (`info` by default; `hoptrail=debug`). Message text, AUTH lines and keys are never logged.

use std::fmt;
use std::io::IsTerminal;

use jiff::Timestamp;
use serde::{Serialize, Serializer};
use serde_json::{Value, json};
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

use super::session::Session;

/// Starts logging for the whole process.
pub fn start() {
    let wanted = std::env::var("HOPTRAIL_LOG").ok();
    let wanted = wanted.and_then(|words| words.parse().ok());
    let shown = wanted.unwrap_or_else(|| Targets::new().with_default(LevelFilter::INFO));
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .event_format(Lines {
            for_people: std::io::stderr().is_terminal(),
        });
    tracing_subscriber::registry()
        .with(lines)
        .with(shown)
        .init();
}

/// One line for each event, with the session it happened in.
struct Lines {
    for_people: bool,
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
            return writeln!(writer, "{}", for_programs(event, session)?);
        }
        write!(writer, "{:.3} {level:>5} ", Timestamp::now())?;
        if let Some(session) = session {
            write!(writer, "[{session}] ")?;
        }
        context.format_fields(writer.by_ref(), event)?;
        writeln!(writer)
    }
}

/// The event as JSON, the time first.
fn for_programs(event: &Event<'_>, session: Option<Session>) -> Result<String, fmt::Error> {
    let mut fields = Fields::default();
    fields.put("timestamp", format!("{:.6}", Timestamp::now()));
    fields.put("level", event.metadata().level().as_str());
    event.record(&mut fields);
    if let Some(Session {
        role,
        number,
        client,
    }) = session
    {
        fields.put(
            "session",
            json!({ "role": role, "n": number, "client": client }),
        );
    }
    fields.put("target", event.metadata().target());
    serde_json::to_string(&fields).map_err(|_| fmt::Error)
}

/// The fields of an event in order, numbers as numbers.
#[derive(Default)]
struct Fields(Vec<(&'static str, Value)>);

impl Fields {
    fn put(&mut self, name: &'static str, value: impl Into<Value>) {
        self.0.push((name, value.into()));
    }
}

impl Serialize for Fields {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field.name(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field.name(), value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field.name(), value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field.name(), value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field.name(), value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field.name(), value);
    }
}
