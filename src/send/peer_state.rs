//! The lasting state of one peer. Writers and links come and go; this stays.

use std::{
    future::{Future, poll_fn},
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
};

use crate::{
    observe::{
        reporter::Reporter,
        stats::{Dropped, PeerStats},
    },
    send::{
        direct_write::DirectWrite,
        expiry::expire_while,
        queue::{Doorbell, Limits, SendQueue},
    },
};

/// One peer: where it listens, what waits for it, and whether there is a link to it.
#[derive(Debug)]
pub(crate) struct PeerState {
    pub(crate) addr: SocketAddr,
    pub(crate) queue: Arc<SendQueue>,
    pub(super) direct_write: DirectWrite,
    reporter: Reporter,
    /// The number of links made so far.
    epoch: AtomicU64,
    connected: AtomicBool,
}

impl PeerState {
    pub(crate) fn new(
        addr: SocketAddr,
        limits: Limits,
        direct_write: DirectWrite,
        reporter: Reporter,
    ) -> Self {
        PeerState {
            addr,
            queue: Arc::new(SendQueue::new(limits)),
            direct_write,
            reporter,
            epoch: AtomicU64::new(0),
            connected: AtomicBool::new(false),
        }
    }

    pub(crate) fn stats(&self) -> PeerStats {
        PeerStats {
            addr: self.addr,
            frames: self.queue.stats(),
            connected: self.connected.load(Relaxed),
            epoch: self.epoch.load(Relaxed),
        }
    }

    /// Notes that a link is up. Returns its number.
    pub(super) fn connected(&self) -> u64 {
        self.connected.store(true, Relaxed);
        self.epoch.fetch_add(1, Relaxed) + 1
    }

    /// Notes that the link is down.
    pub(super) fn disconnected(&self) {
        self.connected.store(false, Relaxed);
    }

    /// Waits until there is something to write, or the queue has ended.
    pub(super) async fn until_ready(&self) {
        poll_fn(|cx| self.queue.poll_ready(cx)).await;
    }

    /// Makes sure that what was pushed will be written, given the doorbell of that push: does nothing if
    /// the writer is awake.
    #[inline]
    pub(crate) fn ring(&self, doorbell: Doorbell) {
        if !doorbell.is_silent() {
            let dropped = self.direct_write.write_or_ring(&self.queue, doorbell);
            self.report_dropped(&dropped);
        }
    }

    /// Runs `work` to its end. Meanwhile drops and reports the frames that go stale.
    pub(super) async fn expire_while<F: Future>(&self, work: F) -> F::Output {
        expire_while(&self.queue, |dropped| self.report_dropped(&dropped), work).await
    }

    /// Reports frames that the queue has dropped.
    pub(super) fn report_dropped(&self, dropped: &Dropped) {
        self.reporter.dropped(Some(self.addr), dropped);
    }
}
