//! What came of orders, on its way back to who waits for it. To wake an event loop from another thread costs a call
//! to the system each time, so the answers to one thread travel together: the first is sent with the others in its
//! bag, and where it arrives, or is dropped, they are handed on.

use std::thread::{self, ThreadId};

use tokio::sync::oneshot;

use super::{Put, StoreError};

/// What came of an order. Only a put has something to say.
pub(super) type Outcome = Result<Option<Put>, StoreError>;

/// Who waits for an answer.
#[derive(Debug)]
pub(super) struct Asker {
    to: oneshot::Sender<Answer>,
    /// Where answers to others can be handed on: whoever asked here takes his own as soon as it is there.
    at: Option<ThreadId>,
}

/// What one of them gets.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) outcome: Outcome,
    _others: Bag,
}

/// Answers to be handed on.
#[derive(Debug, Default)]
struct Bag(Vec<(Asker, Outcome)>);

impl Asker {
    /// Who will take the answer at some time, and where it comes.
    pub(super) fn new() -> (Self, oneshot::Receiver<Answer>) {
        let (to, answered) = oneshot::channel();
        (Self { to, at: None }, answered)
    }

    /// The same for one who takes it as soon as it is there, or drops the receiver.
    pub(super) fn waiting() -> (Self, oneshot::Receiver<Answer>) {
        let (asker, answered) = Self::new();
        let at = Some(thread::current().id());
        (Self { at, ..asker }, answered)
    }

    fn tell(self, outcome: Outcome, others: Bag) {
        let answer = Answer {
            outcome,
            _others: others,
        };
        // Who stopped waiting has no use for it; the work is done all the same.
        let _ = self.to.send(answer);
    }
}

impl Drop for Bag {
    fn drop(&mut self) {
        for (asker, outcome) in self.0.drain(..) {
            asker.tell(outcome, Self::default());
        }
    }
}

/// Sends these answers, with one wake for each thread that waits.
pub(super) fn send(answers: impl Iterator<Item = (Asker, Outcome)>) {
    // As few as there are threads that carry mail.
    let mut firsts: Vec<(ThreadId, Asker, Outcome, Bag)> = Vec::new();
    for (asker, outcome) in answers {
        let Some(at) = asker.at else {
            asker.tell(outcome, Bag::default());
            continue;
        };
        match firsts.iter_mut().find(|(thread, ..)| *thread == at) {
            Some((.., others)) => others.0.push((asker, outcome)),
            None => firsts.push((at, asker, outcome, Bag::default())),
        }
    }
    for (_, first, outcome, others) in firsts {
        first.tell(outcome, others);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    type Waiting = oneshot::Receiver<Answer>;

    fn three() -> ([Waiting; 3], Vec<(Asker, Outcome)>) {
        let (mut waiting, mut answers) = (Vec::new(), Vec::new());
        for outcome in [Put::Queued, Put::Remembered, Put::Quiet] {
            let (asker, answered) = Asker::waiting();
            waiting.push(answered);
            answers.push((asker, Ok(Some(outcome))));
        }
        (waiting.try_into().unwrap(), answers)
    }

    #[test]
    fn the_first_of_a_thread_hands_on_what_the_others_get() {
        let ([mut first, mut second, mut third], answers) = three();
        send(answers.into_iter());
        assert!(second.try_recv().is_err() && third.try_recv().is_err());
        assert_eq!(
            first.try_recv().unwrap().outcome.unwrap(),
            Some(Put::Queued)
        );
        let outcome = second.try_recv().unwrap().outcome;
        assert_eq!(outcome.unwrap(), Some(Put::Remembered));
        assert_eq!(third.try_recv().unwrap().outcome.unwrap(), Some(Put::Quiet));
    }

    #[test]
    fn nobody_waits_for_one_who_has_stopped_waiting() {
        let ([first, mut second, third], answers) = three();
        drop(first);
        send(answers.into_iter());
        assert!(second.try_recv().is_ok());
        drop(third);

        let ([first, mut second, mut third], answers) = three();
        send(answers.into_iter());
        drop(first);
        assert!(second.try_recv().is_ok() && third.try_recv().is_ok());
    }

    #[test]
    fn who_asked_elsewhere_or_may_never_look_has_nothing_to_do_with_it() {
        let ([first, _second, _third], mut answers) = three();
        let (asker, mut elsewhere) = thread::spawn(Asker::waiting).join().unwrap();
        answers.push((asker, Ok(None)));
        let (asker, mut at_some_time) = Asker::new();
        answers.push((asker, Ok(None)));
        send(answers.into_iter());
        assert!(elsewhere.try_recv().is_ok() && at_some_time.try_recv().is_ok());
        drop(first);
    }
}
