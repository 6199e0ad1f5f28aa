//! [`KeepWriting`]: the task of one peer, which keeps its writer alive while there is something to write.
//!
//! It waits for frames while no writer lives, and the `PeerWriter` waits for frames otherwise. Each leaves
//! its waker in the queue as the doorbell; they never wait at the same time.

use std::sync::{Arc, Weak};

use tokio_util::task::AbortOnDropHandle;

use crate::{
    net::time::{sleep, timeout},
    observe::event::Component,
    runtime::supervision::Supervisor,
    send::{
        peer_state::{KnownIn, PeerState},
        writer::PeerWriter,
        writer_context::WriterContext,
    },
};

/// The task of one peer, from when it is made to when it is forgotten.
pub(super) struct KeepWriting {
    pub(super) peers: Weak<dyn KnownIn>,
    pub(super) context: WriterContext,
    pub(super) supervisor: Supervisor,
    pub(super) peer: Arc<PeerState>,
}

impl KeepWriting {
    /// Keeps a writer alive whenever there is something to write, until the peer is forgotten or the
    /// transport ends.
    pub(super) async fn run(self) {
        let KeepWriting { context, peer, .. } = &self;
        let component = || Component::PeerWriter {
            peer: peer.addr().clone(),
            lane: peer.to.lane,
        };
        let start = |lifeline| PeerWriter::start(context.clone(), peer.clone(), lifeline);
        // Frames also go stale between two lives of the writer. Dropping them runs foreign code, hence
        // the task of its own.
        let pause = |wait| {
            let peer = peer.clone();
            let expiring = async move { peer.expire_while(sleep(wait)).await };
            let expiring = AbortOnDropHandle::new(actix_rt::spawn(expiring));
            async move { expiring.await.unwrap_or_default() }
        };
        let writing = async {
            loop {
                self.supervisor.keep_alive(component(), start, pause).await;
                // A peer whose queue has ended stays known, for the report of the stop.
                if peer.queue.is_done() || self.forgotten().await {
                    return;
                }
            }
        };
        let writing = peer.forgotten.run_until_cancelled(writing);
        context.lifecycle.run(writing).await;
        if peer.queue.is_done() {
            // If the peer was forgotten, its writer may still hold a batch, and gives it back.
            context.lifecycle.run(peer.queue.drained()).await;
        }
        peer.report_dropped(&peer.queue.take_untold());
        if let Some(peers) = self.peers.upgrade() {
            peers.settle();
        }
    }

    /// The writer has been idle and ended. Waits until there is something to write again. Returns true
    /// if the peer was forgotten instead, because nobody holds a handle to it.
    async fn forgotten(&self) -> bool {
        let idle_timeout = self.context.config.idle_timeout;
        loop {
            let Some(peers) = self.peers.upgrade() else {
                return true;
            };
            if peers.forget_unused(&self.peer) {
                return true;
            }
            drop(peers);
            self.peer.queue.trim();
            if timeout(idle_timeout, self.peer.until_work()).await.is_ok() {
                return false;
            }
        }
    }
}

impl Drop for KeepWriting {
    /// No frame waits for a writer that is gone. The arbiter may end before the task has started.
    fn drop(&mut self) {
        self.peer.queue.close();
        self.peer.link_wait.stir();
    }
}
