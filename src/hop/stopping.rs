//! The word that hoptrail is to stop, as a session hears it: asked for at every command, so the asking costs
//! no more than a look, and the call that wakes a waiting session is ordered once.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::sync::futures::OwnedNotified;

use super::Hop;

/// One session's ear. It belongs to one task, which is the one that is woken.
#[derive(Default)]
pub struct Stopping {
    call: Option<Pin<Box<OwnedNotified>>>,
}

impl Stopping {
    /// Ready when `hop` is to stop.
    pub fn poll(&mut self, hop: &Hop, context: &mut Context<'_>) -> Poll<()> {
        if self.call.is_none() {
            let bell = Arc::clone(&hop.bell).notified_owned();
            let call = self.call.insert(Box::pin(bell));
            if call.as_mut().poll(context).is_ready() {
                return Poll::Ready(());
            }
        }
        // Asked behind the order, or a bell that rang in between would not be heard.
        if *hop.stopping.borrow() {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }
}
