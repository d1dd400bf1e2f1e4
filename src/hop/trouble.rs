//! What happens again and again, told once and then counted: a log that grows with every mail is one more trouble. Must
//! not know what it is.

use std::time::Duration;

use tokio::time::Instant;

/// It is told once in this time.
const PAUSE: Duration = Duration::from_secs(10);

/// What happens again and again, told together.
#[derive(Debug, Default)]
pub struct Trouble {
    told: Option<Instant>,
    times: u32,
}

impl Trouble {
    /// It has happened; `tell` says how many times since it was told.
    pub fn count(&mut self, tell: impl FnOnce(u32)) {
        self.times += 1;
        if self.told.is_none_or(|told| told.elapsed() >= PAUSE) {
            tell(self.times);
            *self = Self {
                told: Some(Instant::now()),
                times: 0,
            };
        }
    }
}
