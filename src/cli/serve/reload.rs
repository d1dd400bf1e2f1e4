//! What a reload takes over of a configuration, and what waits for a restart. The keys named here are marked in
//! `examples/hoptrail.toml`.

use crate::config::{Config, Reports};

/// The new configuration, with what only a restart changes as it was; and the keys of that which are other now.
pub fn taken_over(running: &Config, new: Config) -> (Config, Vec<&'static str>) {
    let (was, is) = (&running.reports, &new.reports);
    let waiting = [
        ("state_dir", running.state_dir != new.state_dir),
        ("resolver", running.resolver != new.resolver),
        ("reports.via", was.via != is.via),
        ("reports.accepted", was.accepted != is.accepted),
        (
            "reports.retention_days",
            was.retention_days != is.retention_days,
        ),
    ];
    let keys = waiting.into_iter().filter(|(_, other)| *other);
    let keys = keys.map(|(key, _)| key).collect();
    let config = Config {
        state_dir: running.state_dir.clone(),
        resolver: running.resolver,
        reports: Reports {
            via: was.via.clone(),
            accepted: was.accepted,
            retention_days: was.retention_days,
            ..new.reports
        },
        ..new
    };
    (config, keys)
}
