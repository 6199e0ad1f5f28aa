//! Everything about one peer that outlives its writer and its links; and how a queue ages while nobody
//! takes from it.

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
    net::clock::{CoarseInstant, EXPIRY_SLACK},
    observe::stats::{Dropped, PeerStats},
    runtime::shared::Shared,
    send::queue::{Limits, SendQueue},
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
        expiring(&self.queue, |dropped| self.tell(shared, dropped), until).await
    }

    /// Tells the subscribers what was dropped since the last time.
    pub(crate) fn tell_dropped(&self, shared: &Shared) {
        self.tell(shared, &self.queue.take_untold());
    }

    /// Tells the subscribers of these drops.
    pub(crate) fn tell(&self, shared: &Shared, dropped: &Dropped) {
        shared.events.tell_dropped(Some(self.addr), dropped);
    }
}

/// Runs `until` to its end and drops what goes stale in the queue meanwhile; `tell` is called with
/// what was dropped.
pub(crate) async fn expiring<To: Copy + Eq, F: Future>(
    queue: &SendQueue<To>,
    tell: impl Fn(&Dropped),
    until: F,
) -> F::Output {
    let expire = || tell(&queue.expire(CoarseInstant::now()));
    // Here, too: whoever waits for short times only would never come to the timer.
    expire();
    let expiring = async {
        loop {
            match queue.next_expiry(CoarseInstant::now()) {
                Some(expiry) => sleep(expiry + EXPIRY_SLACK).await,
                None => poll_fn(|cx| queue.poll_ready(cx)).await,
            }
            expire();
            // A queue that is done with is always ready, and nothing in it expires.
            if queue.is_done() {
                std::future::pending::<()>().await;
            }
        }
    };
    tokio::select! {
        biased;
        output = until => output,
        never = expiring => never,
    }
}
