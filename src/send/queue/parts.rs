//! What became of the parts of one long message: how many left the queue, and whether its link ended before them.
//!
//! A part is written on the link that its message is for, or not at all: so either one receiver gets all parts, or
//! none does, and the sender knows which.

use std::{
    future::poll_fn,
    sync::Arc,
    task::{Poll, Waker},
};

use parking_lot::Mutex;

/// The parts of one message, as its sender sees them. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Parts(Arc<Mutex<Inner>>);

struct Inner {
    state: PartsState,
    /// Wakes the sender when a part has left the queue.
    sender: Option<Waker>,
}

/// What is known of the parts.
#[derive(Debug, Copy, Clone, Default, Eq, PartialEq)]
pub(crate) struct PartsState {
    pub(crate) queued: usize,
    /// Whether one was dropped.
    pub(crate) dropped: bool,
    /// The link that they are for.
    pub(crate) link: u64,
    /// Whether the link ended before one was written, so that the receiver does not get all of them.
    pub(crate) torn: bool,
}

/// One part in the queue. Tells what became of it when it leaves.
pub(crate) struct QueuedPart {
    parts: Parts,
    /// Whether it is known what becomes of it. Otherwise it was dropped.
    is_settled: bool,
}

impl Parts {
    /// The parts of a message for this link.
    pub(crate) fn on(link: u64) -> Self {
        let state = PartsState {
            link,
            ..PartsState::default()
        };
        let sender = None;
        Parts(Arc::new(Mutex::new(Inner { state, sender })))
    }

    /// Returns what goes into the queue with a part.
    pub(crate) fn part(&self) -> QueuedPart {
        self.0.lock().state.queued += 1;
        QueuedPart {
            parts: self.clone(),
            is_settled: false,
        }
    }

    /// Waits until this holds. It is looked at when a part leaves the queue. Only one may wait at a time.
    pub(crate) async fn until(&self, holds: impl Fn(PartsState) -> bool) -> PartsState {
        poll_fn(|cx| {
            // Wakers are foreign code: cloned before the lock is taken, and dropped after it is released.
            let mut waker = Some(cx.waker().clone());
            let mut inner = self.0.lock();
            let state = inner.state;
            if holds(state) {
                return Poll::Ready(state);
            }
            std::mem::swap(&mut inner.sender, &mut waker);
            drop(inner);
            Poll::Pending
        })
        .await
    }
}

impl QueuedPart {
    /// Notes that it was written whole.
    pub(super) fn written(&mut self) {
        self.is_settled = true;
    }

    /// Returns whether it may be written on this link. If not, notes that its own has ended.
    pub(super) fn is_for(&mut self, link: u64) -> bool {
        let state = &mut self.parts.0.lock().state;
        let is_for = state.link == link;
        state.torn |= !is_for;
        self.is_settled |= !is_for;
        is_for
    }
}

impl Drop for QueuedPart {
    fn drop(&mut self) {
        let mut inner = self.parts.0.lock();
        inner.state.queued -= 1;
        inner.state.dropped |= !self.is_settled;
        let sender = inner.sender.take();
        drop(inner);
        // The queue drops parts when its lock is released.
        if let Some(sender) = sender {
            sender.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    impl Parts {
        fn now(&self) -> PartsState {
            self.0.lock().state
        }
    }

    #[test]
    fn a_part_for_another_link_is_torn_and_one_that_is_not_written_is_dropped() {
        let parts = Parts::on(4);
        let [mut first, mut second, third] = [parts.part(), parts.part(), parts.part()];
        let all_gone = parts.until(|state| state.queued == 0);
        let mut all_gone = std::pin::pin!(all_gone);
        assert!(all_gone.as_mut().now_or_never().is_none());
        assert!(first.is_for(4));
        first.written();
        assert!(!parts.now().torn);
        assert!(!second.is_for(5));
        drop((first, second));
        assert!(parts.now().torn && !parts.now().dropped);
        assert!(all_gone.as_mut().now_or_never().is_none());
        drop(third);
        assert!(all_gone.now_or_never().expect("all have left").dropped);
    }
}
