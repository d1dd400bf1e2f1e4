//! The steps under way to the journal, and the wait for one: an MTA may pass a message on before the ingress has
//! answered for it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hashbrown::HashMap;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::track::StepId;

/// The steps whose message the MTA, or the next hop, may have, but which are not on record yet.
#[derive(Clone, Default)]
pub struct Arriving(Arc<Mutex<HashMap<StepId, Arc<Coming>>>>);

/// What those hear who ask for a step that is on its way to the journal.
struct Coming {
    /// Closed when it is there, which is all it is for.
    done: Semaphore,
    /// Somebody who has its message could not wait.
    missed: AtomicBool,
}

/// A step on its way; it is there, or comes to nothing, when this is dropped.
pub struct Arrival {
    of: Arriving,
    step: StepId,
    coming: Arc<Coming>,
}

impl Arriving {
    /// From now on this step is on its way to the journal.
    pub fn begin(&self, step: StepId) -> Arrival {
        let coming = Arc::new(Coming {
            done: Semaphore::new(0),
            missed: AtomicBool::new(false),
        });
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(step, Arc::clone(&coming));
        Arrival {
            of: self.clone(),
            step,
            coming,
        }
    }

    /// Waits until this step is on its way no more, but no longer than this.
    pub async fn settled(&self, step: StepId, limit: Duration) {
        if let Some(coming) = self.of(step)
            && timeout(limit, coming.done.acquire()).await.is_err()
        {
            coming.missed.store(true, Ordering::Relaxed);
        }
    }

    /// Whether the message of this step was seen, by somebody who could not wait until it is on record.
    pub fn is_missed(&self, step: StepId) -> bool {
        let missed = |coming: Arc<Coming>| coming.missed.load(Ordering::Relaxed);
        self.of(step).is_some_and(missed)
    }

    fn of(&self, step: StepId) -> Option<Arc<Coming>> {
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
        self.coming.done.close();
    }
}
