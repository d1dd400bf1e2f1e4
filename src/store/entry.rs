//! A step on its way into the store, from the put to the books: as it is stored, with what the writer has to know of it.
//! Made by the caller of a put, so that the writer's thread has less to do and frees nothing that another thread has made.
//!
//! A step is stored as `MessagePack`, where each field is known by its place: later versions add fields at the end, with a
//! default for the rows that were there before. Up to layout 4 it was JSON, up to layout 6 ids, times and the like were text
//! (`track::stored`); both are still read.

use std::error::Error;
use std::io::{self, Write};
use std::sync::Arc;
use std::time::Instant;

use super::{Put, once};
use crate::track::{Event, Stay, Step, StepId};

/// Room for most steps.
const BODY_OCTETS_USUAL: usize = 512;

/// Why a step cannot be written, or read.
pub(super) type BodyError = Box<dyn Error + Send + Sync>;

/// A step to be written.
#[derive(Debug)]
pub(super) struct Entry {
    /// It asks for a report.
    pub(super) asks: bool,
    /// A report of all that it tells is to be mailed, if `delayed` says nothing else.
    pub(super) told: bool,
    /// The step, where what is told depends on what was told before.
    pub(super) delayed: Option<Box<Step>>,
    pub(super) kept: Arc<Kept>,
}

/// A step as the store has it, from its put until the books have it.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) id: StepId,
    /// When it happened, ms.
    pub(super) at_ms: i64,
    /// What the books note of it.
    pub(super) marks: Marks,
    /// As stored.
    pub(super) body: Vec<u8>,
}

/// What the books note of a step beside the way to it.
#[derive(Debug, Default)]
pub(super) struct Marks {
    /// The good news that it tells (`once`).
    pub(super) news: Vec<i64>,
    /// When its message came to this hop, µs.
    pub(super) arrival_us: i64,
    /// What it is to the stay of its message (`stays`).
    pub(super) stay: Option<Stay>,
}

/// A step that is on disk, as it is in memory until the books have it (`fresh`).
#[derive(Clone, Debug)]
pub(super) struct Fact {
    pub(super) row: i64,
    /// Its report is still to be mailed.
    pub(super) waits: bool,
    /// What its put came to.
    pub(super) outcome: Put,
    pub(super) kept: Arc<Kept>,
    pub(super) since: Instant,
}

/// A journal row that the books do not have yet.
#[derive(Debug)]
pub(super) struct Unbooked {
    pub(super) row: i64,
    /// Its report is still to be mailed.
    pub(super) waits: bool,
    /// What is mailed, as stored, where that is not the step.
    pub(super) own_body: Option<Vec<u8>>,
    pub(super) kept: Arc<Kept>,
}

impl Marks {
    fn of(step: &Step) -> Self {
        Self {
            news: once::news(step),
            arrival_us: step.report.arrival_us,
            stay: step.stay.clone(),
        }
    }

    /// Those of a stored step. One that cannot be read has none; it is found out when it is to be mailed.
    pub(super) fn in_body(body: &[u8]) -> Self {
        read(body).map_or_else(|_| Self::default(), |step| Self::of(&step))
    }
}

impl Entry {
    pub(super) fn of(step: Step) -> Result<Self, BodyError> {
        let groups = &step.report.recipients;
        let asks = step.told.is_some();
        let delayed = asks && groups.iter().any(|group| group.event == Event::Delayed);
        Ok(Self {
            asks,
            told: asks && !groups.is_empty(),
            kept: Arc::new(Kept {
                id: step.report.step,
                at_ms: happened_ms(&step),
                marks: Marks::of(&step),
                body: write(&step)?,
            }),
            delayed: delayed.then(|| Box::new(step)),
        })
    }

    /// What the put comes to if a report is mailed, or not.
    pub(super) fn outcome(&self, queued: bool) -> Put {
        match (self.asks, queued) {
            (false, _) => Put::Remembered,
            (true, true) => Put::Queued,
            (true, false) => Put::Quiet,
        }
    }
}

/// When the step happened: its last attempt, or else the arrival, ms.
fn happened_ms(step: &Step) -> i64 {
    let attempts = step.report.recipients.iter().filter_map(|g| g.attempted_us);
    attempts
        .max()
        .unwrap_or(step.report.arrival_us)
        .div_euclid(1000)
}

/// A step as it is stored.
pub(super) fn write(step: &Step) -> Result<Vec<u8>, BodyError> {
    let mut body = Body(Vec::with_capacity(BODY_OCTETS_USUAL));
    rmp_serde::encode::write(&mut body, step)?;
    Ok(body.0)
}

/// A step as far as it is written. Every other piece is one octet, which needs no copying.
struct Body(Vec<u8>);

impl Write for Body {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        match octets {
            [octet] => self.0.push(*octet),
            _ => self.0.extend_from_slice(octets),
        }
        Ok(octets.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The step that was stored so, by this version or an earlier one.
pub(super) fn read(body: &[u8]) -> Result<Step, BodyError> {
    // No MessagePack of a struct begins so: it is an array.
    if body.starts_with(b"{") {
        return Ok(serde_json::from_slice(body)?);
    }
    Ok(rmp_serde::from_slice(body)?)
}
