//! What must wait until the lock is released.

use std::task::Waker;

use super::chunk::Chunk;

/// Wakers to wake and chunks to drop. Both run foreign code, which may use the queue, so both happen
/// when this is dropped, with the lock released.
pub(super) struct Deferred<To> {
    // Dropped first, so that a payload that panics in its `Drop` does not prevent a wake-up.
    wakes: Vec<WakeOnDrop>,
    chunks: Vec<Chunk<To>>,
}

/// Wakes when it is dropped, so that a waker that panics does not prevent the other wake-ups.
struct WakeOnDrop(Waker);

impl<To> Deferred<To> {
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.wakes.is_empty() && self.chunks.is_empty()
    }

    pub(super) fn wake(&mut self, wakers: impl IntoIterator<Item = Waker>) {
        self.wakes.extend(wakers.into_iter().map(WakeOnDrop));
    }

    pub(super) fn discard(&mut self, chunks: impl IntoIterator<Item = Chunk<To>>) {
        self.chunks.extend(chunks);
    }
}

impl<To> Default for Deferred<To> {
    fn default() -> Self {
        Deferred {
            wakes: Vec::new(),
            chunks: Vec::new(),
        }
    }
}

impl Drop for WakeOnDrop {
    fn drop(&mut self) {
        self.0.wake_by_ref();
    }
}
