//! Structured logs on standard error: text on a terminal, JSON lines elsewhere. `HOPTRAIL_LOG` chooses
//! what is shown (`info` by default; `hoptrail=debug`). Message text, AUTH lines and keys are never logged.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::JsonFields;

use super::json::JsonLine;

/// Starts logging for the whole process.
pub fn start() {
    let filter = EnvFilter::try_from_env("HOPTRAIL_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    if std::io::stderr().is_terminal() {
        log.with_target(false).init();
    } else {
        log.fmt_fields(JsonFields::new())
            .event_format(JsonLine)
            .init();
    }
}
