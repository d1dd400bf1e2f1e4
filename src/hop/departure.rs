//! A tracked message on its way to one next hop: the name by which that knows where it comes from, which a step must
//! bear. No sockets.

use super::Site;
use super::arriving::Arrival;
use super::transaction::Times;
use crate::track::StepId;

/// The way of a message to one next hop.
pub struct Departure {
    step: StepId,
    /// A step bears it.
    borne: bool,
    /// That is on its way to the journal: the next hop may be faster in sending the message back.
    _arrival: Arrival,
}

/// What there is to tell of one way.
pub struct Part<'a> {
    /// The step that tells it.
    pub step: StepId,
    /// Of whom: places in the client's order, at least one.
    pub places: &'a [usize],
    /// The exchanges with the next hop so far.
    pub times_out: Times,
}

impl Departure {
    /// One that its next hop is told by this name.
    pub fn under(site: &Site, step: StepId) -> Option<Self> {
        Some(Self {
            step,
            borne: false,
            _arrival: site.hop.tracking.get()?.arriving.begin(step),
        })
    }

    /// What the next hop is told.
    pub fn step_id(&self) -> StepId {
        self.step
    }

    /// The id of the step that tells of some recipients. The name is borne by one step only: the first that tells of
    /// `all`, or of somebody to whom the message `went_on`.
    pub fn next_step(&mut self, site: &Site, all: bool, went_on: bool) -> Option<StepId> {
        if !self.borne && (all || went_on) {
            self.borne = true;
            return Some(self.step);
        }
        site.hop.step_id()
    }
}
