//! The handle to send to one peer.
//!
//! Owns nothing: what waits for the peer is in its [`Outbox`], who writes it is the `PeerWriter`, and
//! who is known at all is in the table of `peers`.

use std::{fmt, net::SocketAddr, sync::Arc};

use crate::{
    error::SendError, ids::GroupId, net::clock::CoarseInstant, observe::stats::PeerStats,
    send::outbox::Outbox, wire::payload::Payload,
};

/// A handle to one peer of a [`Transport`](crate::Transport): looked up once, to send many times.
///
/// Cheap to clone and to move to other threads. While one lives, the peer is not forgotten; it does
/// not keep the transport from stopping.
#[derive(Clone)]
pub struct Peer {
    pub(crate) outbox: Arc<Outbox>,
    /// Counts the handles: the table of peers holds one itself.
    handle: Arc<()>,
}

impl Peer {
    pub(crate) fn new(outbox: Arc<Outbox>) -> Self {
        Peer {
            outbox,
            handle: Arc::new(()),
        }
    }

    /// Whether nobody holds another handle.
    pub(crate) fn is_last(&self) -> bool {
        Arc::strong_count(&self.handle) == 1
    }

    /// Returns where the peer listens.
    pub fn addr(&self) -> SocketAddr {
        self.outbox.addr
    }

    /// Sends a frame if there is room for it now.
    ///
    /// `Ok` means accepted, not received: the frame is in the queue, within its bounds, and will be
    /// written in order as long as links can be had and it does not go stale
    /// ([`Config::stale_after`](crate::Config::stale_after)). It may be called from any thread and never blocks.
    /// A frame that comes alone, while the link rests, it writes itself: one system call that does
    /// not block, instead of the one that would wake the writer.
    ///
    /// # Errors
    ///
    /// Gives the payload back when the queue is full, the payload too large, the group reserved, or
    /// the transport stopped. What others wait with in [`send`](Peer::send) counts as if it were in the
    /// queue.
    #[inline]
    pub fn try_send<P: Payload>(&self, group: GroupId, payload: P) -> Result<(), SendError<P>> {
        let pushed = self
            .outbox
            .queue
            .push((), group, payload, CoarseInstant::now());
        pushed
            .map(drop)
            .map_err(|(refusal, payload)| refusal.with(payload))
    }

    /// Sends a frame as soon as there is room for it.
    ///
    /// Those who wait are given room in the order in which they asked. Cancelling (dropping the future)
    /// sends nothing, drops the payload and costs nobody else their place. A future that is not polled
    /// any more holds room for its own frame and does not keep the others waiting. It may be awaited on
    /// any thread or runtime.
    ///
    /// # Errors
    ///
    /// As for [`try_send`](Peer::try_send), save that a full queue is waited for.
    pub async fn send<P: Payload>(&self, group: GroupId, payload: P) -> Result<(), SendError<P>> {
        let pushed = self
            .outbox
            .queue
            .push_wait((), group, payload, CoarseInstant::now)
            .await;
        pushed
            .map(drop)
            .map_err(|(refusal, payload)| refusal.with(payload))
    }

    /// Returns a snapshot of what became of the frames for this peer.
    pub fn stats(&self) -> PeerStats {
        self.outbox.stats()
    }
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Peer").field(&self.outbox.addr).finish()
    }
}
