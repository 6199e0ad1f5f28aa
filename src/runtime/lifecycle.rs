//! The end of a transport, in its two steps, and what must have ended before `stop` returns.

use tokio_util::{
    sync::{CancellationToken, WaitForCancellationFuture},
    task::{TaskTracker, task_tracker::TaskTrackerToken},
};

/// A handle to the end of one transport. Cheap to clone.
///
/// Receiving ends first, so that a transport that drains can deliver what it has read. Then everything
/// ends.
#[derive(Debug, Clone, Default)]
pub(crate) struct Lifecycle {
    receiving_ends: CancellationToken,
    all_ends: CancellationToken,
    /// Counts those who take frames from a socket. When they have ended, every frame that was read is
    /// in the receive accounts.
    receivers: TaskTracker,
    tasks: TaskTracker,
}

impl Lifecycle {
    // ---- for those who must end --------------------------------------------------------------------

    /// Resolves when nothing may be accepted or read any more.
    pub(crate) fn receiving_ends(&self) -> WaitForCancellationFuture<'_> {
        self.receiving_ends.cancelled()
    }

    /// Resolves when everything must end.
    pub(crate) fn all_ends(&self) -> WaitForCancellationFuture<'_> {
        self.all_ends.cancelled()
    }

    /// Returns whether the transport receives nothing more, because it stops.
    pub(crate) fn stops(&self) -> bool {
        self.receiving_ends.is_cancelled()
    }

    /// Runs `work` until everything must end. Returns `None` if that came first.
    pub(crate) async fn run<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        self.all_ends.run_until_cancelled(work).await
    }

    /// Makes `stop` wait for this task.
    pub(crate) fn track<F: Future>(&self, task: F) -> impl Future<Output = F::Output> + use<F> {
        self.tasks.track_future(task)
    }

    /// Returns a token; a drain waits until it is dropped. Each task that reads a socket holds one.
    pub(crate) fn receiver(&self) -> TaskTrackerToken {
        self.receivers.token()
    }

    // ---- for `stop` --------------------------------------------------------------------------------

    /// Ends receiving, and waits until all tasks that read sockets have delivered what they had read.
    pub(crate) async fn end_receiving(&self) {
        self.receiving_ends.cancel();
        self.receivers.close();
        self.receivers.wait().await;
    }

    /// Tells everything to end, without waiting for it.
    pub(crate) fn end_all(&self) {
        self.receiving_ends.cancel();
        self.all_ends.cancel();
        self.tasks.close();
    }

    /// Waits until all tasks have ended.
    pub(crate) async fn ended(&self) {
        self.tasks.wait().await;
    }
}
