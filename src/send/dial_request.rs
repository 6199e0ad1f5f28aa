//! [`DialRequest`]: somebody wants a link to a peer although nothing is queued for it.

use std::sync::atomic::{
    AtomicBool,
    Ordering::{Acquire, Release},
};

use tokio::sync::Notify;

/// Set by [`Peer::connect`](super::peer::Peer::connect) and [`Peer::send_large`](super::peer::Peer::send_large), and
/// taken back by the peer's writer when the dial
/// has ended, in whatever way.
#[derive(Debug, Default)]
pub(super) struct DialRequest {
    asked: AtomicBool,
    /// Notified when it is set. Only one task waits for it at a time: the peer's writer, or whoever starts
    /// it.
    set: Notify,
}

impl DialRequest {
    pub(super) fn ask(&self) {
        self.asked.store(true, Release);
        self.set.notify_one();
    }

    pub(super) fn is_asked(&self) -> bool {
        self.asked.load(Acquire)
    }

    /// Waits until it is set.
    pub(super) async fn asked(&self) {
        while !self.is_asked() {
            self.set.notified().await;
        }
    }

    /// Takes it back.
    pub(super) fn done(&self) {
        self.asked.store(false, Release);
    }
}
