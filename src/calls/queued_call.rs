//! [`QueuedCall`]: a call in a send queue.

use std::sync::Arc;

use crate::{
    calls::pending::{Asked, PendingCalls},
    net::time::Instant,
    wire::call::CallId,
};

/// A call in a send queue. Whether it is still wanted is asked at the last moment, when its frame is taken to be
/// written. If it leaves the queue in another way, the caller is told.
pub(crate) struct QueuedCall {
    calls: Arc<PendingCalls>,
    id: CallId,
    deadline: Instant,
    /// Whether the frame was never queued, or was written, or is not wanted any more. Otherwise the queue drops it.
    is_settled: bool,
}

impl QueuedCall {
    pub(crate) fn new(calls: Arc<PendingCalls>, id: CallId, deadline: Instant) -> Self {
        QueuedCall {
            calls,
            id,
            deadline,
            is_settled: true,
        }
    }

    /// Notes that it is in the queue. From now on it is told if the queue drops it.
    pub(crate) fn is_queued(&mut self) {
        self.is_settled = false;
    }

    pub(crate) fn id(&self) -> CallId {
        self.id
    }

    pub(crate) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Notes that the call is about to be written on a link. `None`: the far end takes no calls. Returns whether it may
    /// be written. Called under the lock of the queue.
    pub(crate) fn is_taken(&mut self, asked: Option<Asked>) -> bool {
        let may_go = match asked {
            Some(asked) => self.calls.ask(self.id, asked),
            None => {
                self.calls.mark_unsupported(self.id);
                false
            }
        };
        self.is_settled |= !may_go && asked.is_some();
        may_go
    }

    /// Notes that it was not written, and is in the queue again. Called under the lock of the queue.
    pub(crate) fn is_back(&mut self) {
        self.calls.take_back(self.id);
    }

    /// Notes that it was written whole.
    pub(crate) fn written(&mut self) {
        self.is_settled = true;
    }
}

impl Drop for QueuedCall {
    /// The queue drops frames when its lock is released.
    fn drop(&mut self) {
        if !self.is_settled {
            self.calls.dropped(self.id);
        }
    }
}
