//! [`SendAllError`]: what is left of a burst that was not accepted whole.

use std::{error::Error, fmt, vec};

use crate::{
    error::{Refusal, SendError},
    ids::GroupId,
    send::queue::Staged,
    wire::payload::Payload,
};

/// The error of `try_send_all` and `send_all`: why a frame was refused, with that frame and all after it.
///
/// It is the iterator over these frames, in their order, the refused one first, so it can be sent again
/// as it is: `peer.send_all(error).await`. The frames that the transport has not looked at yet are still
/// taken from the iterator that was given.
pub struct SendAllError<I: Iterator> {
    refusal: Refusal,
    accepted: usize,
    /// The refused frame, and those that were taken from the iterator with it.
    taken: vec::IntoIter<I::Item>,
    /// `None` if it has ended.
    rest: Option<I>,
}

impl<I: Iterator> SendAllError<I> {
    /// Returns how many frames were accepted before one was refused.
    pub fn accepted(&self) -> usize {
        self.accepted
    }

    /// Returns why the first of the remaining frames was refused. Its payload is not in there, but is
    /// the first that the iteration returns.
    pub fn reason(&self) -> SendError<()> {
        self.refusal.with(())
    }

    /// Returns whether the send queue was full. The rest may be sent later.
    pub fn is_full(&self) -> bool {
        self.reason().is_full()
    }

    /// Returns whether the transport has stopped.
    pub fn is_stopped(&self) -> bool {
        self.reason().is_stopped()
    }
}

impl<P: Payload, I: Iterator<Item = (GroupId, P)>> SendAllError<I> {
    pub(super) fn new(refusal: Refusal, staged: Staged<P>, rest: I) -> Self {
        SendAllError {
            refusal,
            accepted: staged.accepted(),
            rest: (!staged.is_exhausted()).then_some(rest),
            taken: staged.into_frames(),
        }
    }
}

impl<I: Iterator> Iterator for SendAllError<I> {
    type Item = I::Item;

    fn next(&mut self) -> Option<I::Item> {
        if let Some(frame) = self.taken.next() {
            return Some(frame);
        }
        let next = self.rest.as_mut()?.next();
        if next.is_none() {
            self.rest = None;
        }
        next
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let taken = self.taken.len();
        let (least, most) = self.rest.as_ref().map_or((0, Some(0)), I::size_hint);
        let most = most.and_then(|most| most.checked_add(taken));
        (least.saturating_add(taken), most)
    }
}

impl<I: Iterator> fmt::Display for SendAllError<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (accepted, reason) = (self.accepted, self.reason());
        write!(f, "accepted {accepted} frames of the burst, then: {reason}")
    }
}

// Written by hand: frames and iterator need not be `Debug`, and are not printed.
impl<I: Iterator> fmt::Debug for SendAllError<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SendAllError({self})")
    }
}

impl<I: Iterator> Error for SendAllError<I> {}

#[cfg(test)]
mod tests {
    use super::*;

    /// What it does then is not defined for all iterators.
    #[test]
    fn an_iterator_that_has_ended_is_not_asked_again() {
        let group = GroupId::new(1);
        let mut left = vec![None, Some((group, "b")), Some((group, "a"))];
        let mut frames = std::iter::from_fn(|| left.pop().expect("it has ended"));
        let mut staged = Staged::new();
        assert!(staged.refill(&mut frames));
        let err = SendAllError::new(Refusal::Stopped, staged, frames);
        assert_eq!(err.size_hint(), (2, Some(2)));
        let payloads: Vec<_> = err.map(|(_, payload)| payload).collect();
        assert_eq!(payloads, ["a", "b"]);
    }
}
