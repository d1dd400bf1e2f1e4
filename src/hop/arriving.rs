//! The steps under way to the journal, and the wait for one: an MTA may pass a message on before the ingress has
//! answered for it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Semaphore;

use crate::track::StepId;

/// The steps whose message the MTA, or the next hop, may have, but which are not on record yet.
#[derive(Clone, Default)]
pub struct Arriving(Arc<Mutex<HashMap<StepId, Arc<Semaphore>>>>);

/// One of them; it is over when this is dropped.
pub struct Arrival {
    of: Arriving,
    step: StepId,
    /// Closed when it is over, which is all it is for.
    done: Arc<Semaphore>,
}

impl Arriving {
    /// From now on this step is on its way to the journal.
    pub fn begin(&self, step: StepId) -> Arrival {
        let done = Arc::new(Semaphore::new(0));
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(step, Arc::clone(&done));
        Arrival {
            of: self.clone(),
            step,
            done,
        }
    }

    /// Closed when this step is under way no more; `None` if it is not now.
    pub fn of(&self, step: StepId) -> Option<Arc<Semaphore>> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&step)
            .cloned()
    }
}

impl Drop for Arrival {
    fn drop(&mut self) {
        self.of
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&self.step);
        self.done.close();
    }
}
