//! [`OpenLink`]: a connection with a node that has introduced itself, as both of its halves see it.
//!
//! One task reads it. Whoever has frames for the node claims the half that writes, no matter which end
//! dialled; then the link carries frames both ways. The two halves may live on different threads. They end
//! together: each learns here that the other has ended.

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
};

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::{
    ids::{Incarnation, NodeId},
    net::halves::WriteHalf,
    observe::event::DownReason,
    session::admitted::Session,
};

/// Which of several links with the same node is written to: the greatest. Both ends see the same order.
#[derive(Debug, Copy, Clone, Eq, PartialEq, Ord, PartialOrd)]
pub(super) struct Rank {
    /// When two nodes dial each other at the same time, the link that the node with the lower number dialled
    /// remains.
    pub(super) dialled_by_lower: bool,
    /// Which of the links of the same node came last.
    pub(super) number: u64,
}

/// A link whose ends know each other.
#[derive(Debug)]
pub(crate) struct OpenLink {
    pub(crate) node: NodeId,
    pub(crate) incarnation: Incarnation,
    /// Where the far end is.
    pub(crate) addr: SocketAddr,
    pub(super) rank: Rank,
    /// Whether this end dialled.
    pub(crate) dialled: bool,
    pub(super) session: Session,
    /// The half that writes, until somebody claims it. `None` from the start if the far end takes no frames
    /// on this link.
    unclaimed: Mutex<Option<WriteHalf>>,
    /// Cancelled when there is a better link to write to.
    pub(crate) replaced: CancellationToken,
    /// Cancelled when nothing more will be read, and why.
    read_to_end: CancellationToken,
    reason: Mutex<Option<DownReason>>,
    /// Cancelled when nothing more will be written.
    written_to_end: CancellationToken,
    /// Whether something was read since the writing half asked last.
    active: AtomicBool,
}

impl OpenLink {
    pub(super) fn new(
        (node, incarnation): (NodeId, Incarnation),
        addr: SocketAddr,
        rank: Rank,
        dialled: bool,
        session: Session,
        writing: Option<WriteHalf>,
    ) -> Self {
        OpenLink {
            node,
            incarnation,
            addr,
            rank,
            dialled,
            session,
            unclaimed: Mutex::new(writing),
            replaced: CancellationToken::new(),
            read_to_end: CancellationToken::new(),
            reason: Mutex::new(None),
            written_to_end: CancellationToken::new(),
            active: AtomicBool::new(false),
        }
    }

    /// Returns what is cancelled when a later incarnation of the node has come. The link must end then.
    pub(crate) fn superseded(&self) -> &CancellationToken {
        &self.session.superseded
    }

    // ---- for the half that reads -------------------------------------------------------------------

    /// Notes that something was read.
    pub(crate) fn note_read(&self) {
        self.active.store(true, Relaxed);
    }

    /// Notes why the link is about to end. The first reason counts: who said goodbye closes the link then.
    pub(crate) fn ends_because(&self, reason: DownReason) {
        self.reason.lock().get_or_insert(reason);
    }

    /// Notes that nothing more will be read. Returns the half that writes if nobody has claimed it.
    pub(crate) fn end_reading(&self) -> Option<WriteHalf> {
        self.read_to_end.cancel();
        self.unclaimed.lock().take()
    }

    /// Waits until nothing more will be written.
    pub(crate) async fn until_written(&self) {
        self.written_to_end.cancelled().await;
    }

    // ---- for the half that writes ------------------------------------------------------------------

    pub(super) fn is_free(&self) -> bool {
        self.unclaimed.lock().is_some() && !self.read_to_end.is_cancelled()
    }

    /// Takes the half that writes, unless somebody has it.
    pub(super) fn claim(&self) -> Option<WriteHalf> {
        self.unclaimed.lock().take()
    }

    /// Returns why nothing more will be read. `None` if the link goes on.
    pub(crate) fn over(&self) -> Option<DownReason> {
        let over = self.read_to_end.is_cancelled();
        over.then(|| self.reason())
    }

    fn reason(&self) -> DownReason {
        self.reason.lock().unwrap_or(DownReason::Closed)
    }

    /// Waits until nothing more will be read. Returns why.
    pub(crate) async fn until_over(&self) -> DownReason {
        self.read_to_end.cancelled().await;
        self.reason()
    }

    /// Notes that nothing more will be written.
    pub(crate) fn end_writing(&self) {
        self.written_to_end.cancel();
    }

    /// Returns whether something was read since this was asked last.
    pub(crate) fn was_active(&self) -> bool {
        self.active.swap(false, Relaxed)
    }
}
