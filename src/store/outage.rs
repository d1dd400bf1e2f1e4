//! What goes on failing: told when it begins and when it is over, and not each time it is tried again meanwhile.

use std::sync::atomic::{AtomicBool, Ordering};

/// Of one thing, whether it failed the last time.
#[derive(Debug, Default)]
pub(super) struct Outage(AtomicBool);

impl Outage {
    /// It has failed; `tell` unless it had failed before.
    pub(super) fn goes_on(&self, tell: impl FnOnce()) {
        if !self.0.swap(true, Ordering::Relaxed) {
            tell();
        }
    }

    /// It went well; `tell` if it had failed before.
    pub(super) fn is_over(&self, tell: impl FnOnce()) {
        if self.0.load(Ordering::Relaxed) && self.0.swap(false, Ordering::Relaxed) {
            tell();
        }
    }
}
