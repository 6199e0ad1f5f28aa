//! The handle to send to one peer.

use std::{fmt, net::SocketAddr, sync::Arc};

use crate::{
    error::SendError, ids::GroupId, net::clock::CoarseInstant, observe::stats::PeerStats,
    send::peer_state::PeerState, wire::payload::Payload,
};

/// A handle to one peer of a [`Transport`](crate::Transport): looked up once, to send many times.
///
/// Cheap to clone, and usable from any thread. While a handle lives, the transport does not forget the
/// peer. A handle does not keep the transport from stopping.
#[derive(Clone)]
pub struct Peer {
    pub(crate) state: Arc<PeerState>,
    /// Counts the handles. The table of peers holds one itself.
    handles: Arc<()>,
}

impl Peer {
    pub(super) fn new(state: Arc<PeerState>) -> Self {
        Peer {
            state,
            handles: Arc::new(()),
        }
    }

    /// Returns whether this is the only handle.
    pub(super) fn is_only_handle(&self) -> bool {
        Arc::strong_count(&self.handles) == 1
    }

    /// Returns where the peer listens.
    pub fn addr(&self) -> SocketAddr {
        self.state.addr
    }

    /// Queues a frame if there is room for it now.
    ///
    /// `Ok` means accepted, not received. The queued frames are written in order. A frame is dropped, and
    /// counted, if it goes stale ([`Config::stale_after`](crate::Config::stale_after)), if newer frames
    /// push it out ([`Overflow::DropOldest`](crate::Overflow::DropOldest)), or if the transport stops.
    ///
    /// May be called from any thread and never blocks. If frames have been coming one at a time, and the
    /// connection is idle, this call also writes the frame: one system call that does not block, instead
    /// of the one that would wake the writer.
    ///
    /// # Errors
    ///
    /// Gives the payload back if the queue is full, the payload is too large, the group is reserved, or
    /// the transport is stopping or has stopped. Frames that others wait to send with [`send`](Peer::send) count as if
    /// they were in the queue.
    #[inline]
    pub fn try_send<P: Payload>(&self, group: GroupId, payload: P) -> Result<(), SendError<P>> {
        let now = CoarseInstant::now();
        match self.state.queue.push((), group, payload, now) {
            Ok(doorbell) => {
                self.state.ring(doorbell);
                Ok(())
            }
            Err((refusal, payload)) => Err(refusal.with(payload)),
        }
    }

    /// Queues a frame, waiting for room if the queue is full.
    ///
    /// Waiting senders get room in the order in which they began to wait. A sender whose future is not
    /// polled holds back nothing but the room for its own frame. Cancelling (dropping the future) sends
    /// nothing, drops the payload, and gives the sender's place to the next one. May be awaited on any
    /// thread and any runtime.
    ///
    /// # Errors
    ///
    /// As for [`try_send`](Peer::try_send), except that a full queue is waited for.
    pub async fn send<P: Payload>(&self, group: GroupId, payload: P) -> Result<(), SendError<P>> {
        let queue = &self.state.queue;
        let pushed = queue
            .push_wait((), group, payload, CoarseInstant::now)
            .await;
        match pushed {
            Ok(doorbell) => {
                self.state.ring(doorbell);
                Ok(())
            }
            Err((refusal, payload)) => Err(refusal.with(payload)),
        }
    }

    /// Returns a snapshot of the counters of this peer.
    pub fn stats(&self) -> PeerStats {
        self.state.stats()
    }
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Peer").field(&self.state.addr).finish()
    }
}
