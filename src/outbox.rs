//! Everything about one peer that outlives its writer and its links.

use std::{
    future::{Future, poll_fn},
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
};

use tokio::time::sleep;

use crate::{
    clock::{EXPIRY_SLACK, Tick},
    queue::{Limits, SendQueue},
    shared::Shared,
    stats::PeerStats,
};

/// Everything about one peer that outlives its writer.
#[derive(Debug)]
pub(crate) struct Outbox {
    pub(crate) addr: SocketAddr,
    pub(crate) queue: Arc<SendQueue>,
    /// Links made so far.
    pub(crate) epoch: AtomicU64,
    pub(crate) connected: AtomicBool,
}

impl Outbox {
    pub(crate) fn new(addr: SocketAddr, limits: Limits) -> Self {
        Outbox {
            addr,
            queue: Arc::new(SendQueue::new(limits)),
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

    /// Waits for something to write, or for the end.
    pub(crate) async fn ready(&self) {
        poll_fn(|cx| self.queue.poll_ready(cx)).await;
    }

    /// Runs `until` to its end and drops what goes stale meanwhile, with a word to the subscribers.
    pub(crate) async fn expiring<F: Future>(&self, shared: &Shared, until: F) -> F::Output {
        // Here, too: whoever waits for short times only would never come to the timer.
        self.expire(shared);
        let expire = async {
            loop {
                match self.queue.next_expiry(Tick::now()) {
                    Some(expiry) => sleep(expiry + EXPIRY_SLACK).await,
                    None => self.ready().await,
                }
                self.expire(shared);
                // A queue that is done with is always ready, and nothing in it expires.
                if self.queue.is_done() {
                    std::future::pending::<()>().await;
                }
            }
        };
        tokio::select! {
            biased;
            output = until => output,
            never = expire => never,
        }
    }

    /// Drops what has gone stale, with a word to the subscribers.
    pub(crate) fn expire(&self, shared: &Shared) {
        self.queue.expire(Tick::now());
        self.tell_dropped(shared);
    }

    /// Tells the subscribers what was dropped since the last time.
    pub(crate) fn tell_dropped(&self, shared: &Shared) {
        let dropped = self.queue.take_untold();
        shared.events.tell_dropped(Some(self.addr), &dropped);
    }
}
