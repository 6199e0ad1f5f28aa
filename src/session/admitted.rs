//! [`Session`]: what a link holds of the node at its far end.

use tokio_util::{
    sync::CancellationToken,
    task::{TaskTracker, task_tracker::TaskTrackerToken},
};

/// What a link holds for as long as it is open: it counts as a link with that incarnation of the node.
#[derive(Debug)]
pub(crate) struct Session {
    /// Cancelled when a later incarnation of the node has come. The link must end then.
    pub(crate) superseded: CancellationToken,
    pub(super) former: TaskTracker,
    pub(super) _link: TaskTrackerToken,
}

impl Session {
    /// Waits until the links with the former incarnation have ended.
    pub(crate) async fn former_ended(&self) {
        self.former.wait().await;
    }
}
