//! The word that hoptrail is to stop, as a session hears it: asked for at every command, so the asking costs
//! no more than a look, and the call that wakes a waiting session is ordered once.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::sync::watch;

/// One session's ear. It belongs to one task, which is the one that is woken.
pub struct Stopping {
    told: watch::Receiver<bool>,
    call: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl Stopping {
    /// Listens for `told` to become true.
    pub fn new(told: watch::Receiver<bool>) -> Self {
        Self { told, call: None }
    }

    /// Ready when hoptrail is to stop.
    pub fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if *self.told.borrow() {
            return Poll::Ready(());
        }
        if self.call.is_some() {
            return Poll::Pending;
        }
        let mut told = self.told.clone();
        let call = self.call.insert(Box::pin(async move {
            // An error means that nobody is left to tell, which is the end too.
            let _ = told.wait_for(|stop| *stop).await;
        }));
        call.as_mut().poll(context)
    }
}
