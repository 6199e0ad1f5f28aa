//! What became of the parts of one long message: how many left the queue, and on which link they were written.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

/// The parts of one message, as its sender sees them. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Parts(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    state: Mutex<PartsState>,
    /// Notified when a part has left the queue.
    changed: Notify,
}

/// What is known of the parts.
#[derive(Debug, Copy, Clone, Default, Eq, PartialEq)]
pub(crate) struct PartsState {
    pub(crate) queued: usize,
    /// Whether one was dropped.
    pub(crate) dropped: bool,
    /// The link that they were written on.
    pub(crate) link: Option<u64>,
    /// Whether they were written on several links, so that no receiver gets all of them.
    pub(crate) torn: bool,
}

/// One part in the queue. Tells what became of it when it leaves.
#[derive(Debug)]
pub(crate) struct QueuedPart {
    parts: Parts,
    written: bool,
}

impl Parts {
    /// Returns what goes into the queue with a part.
    pub(crate) fn part(&self) -> QueuedPart {
        self.0.state.lock().queued += 1;
        QueuedPart {
            parts: self.clone(),
            written: false,
        }
    }

    pub(crate) fn state(&self) -> PartsState {
        *self.0.state.lock()
    }

    /// Waits until this holds. It is looked at when a part leaves the queue.
    pub(crate) async fn until(&self, holds: impl Fn(PartsState) -> bool) -> PartsState {
        loop {
            // Created before the check, so that a notification between the two is not missed.
            let changed = self.0.changed.notified();
            let state = self.state();
            if holds(state) {
                return state;
            }
            changed.await;
        }
    }
}

impl QueuedPart {
    /// Notes that it was written whole on this link.
    pub(super) fn written_on(&mut self, link: u64) {
        self.written = true;
        let mut state = self.parts.0.state.lock();
        state.torn |= *state.link.get_or_insert(link) != link;
    }
}

impl Drop for QueuedPart {
    fn drop(&mut self) {
        let mut state = self.parts.0.state.lock();
        state.queued -= 1;
        state.dropped |= !self.written;
        drop(state);
        self.parts.0.changed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[test]
    fn parts_on_two_links_are_torn_and_one_that_is_not_written_is_dropped() {
        let parts = Parts::default();
        let [mut first, mut second, third] = [parts.part(), parts.part(), parts.part()];
        let all_gone = parts.until(|state| state.queued == 0);
        let mut all_gone = std::pin::pin!(all_gone);
        assert!(all_gone.as_mut().now_or_never().is_none());
        first.written_on(4);
        assert_eq!((parts.state().link, parts.state().torn), (Some(4), false));
        second.written_on(5);
        drop((first, second));
        assert!(parts.state().torn && !parts.state().dropped);
        assert!(all_gone.as_mut().now_or_never().is_none());
        drop(third);
        assert!(all_gone.now_or_never().expect("all have left").dropped);
    }
}
