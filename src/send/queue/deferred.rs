//! What must wait until the lock is released.

use std::{
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
    task::Waker,
};

use super::chunk::Chunk;

/// Wakers to wake and chunks to drop. Both run foreign code, which may use the queue, so both happen
/// when this is dropped, with the lock released.
///
/// Foreign code may panic. Each waker is woken and each chunk dropped on its own, and its panic is caught:
/// whoever drops this is not at fault, the others still run, and no second panic can abort the process.
/// The process's panic hook has reported the panic by then.
pub(super) struct Deferred<To> {
    wakes: Vec<Waker>,
    chunks: Vec<Chunk<To>>,
}

impl<To> Deferred<To> {
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.wakes.is_empty() && self.chunks.is_empty()
    }

    pub(super) fn wake(&mut self, wakers: impl IntoIterator<Item = Waker>) {
        self.wakes.extend(wakers);
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

impl<To> Drop for Deferred<To> {
    #[inline]
    fn drop(&mut self) {
        if !self.is_empty() {
            self.run();
        }
    }
}

impl<To> Deferred<To> {
    fn run(&mut self) {
        for waker in self.wakes.drain(..) {
            contain(|| waker.wake());
        }
        for chunk in self.chunks.drain(..) {
            contain(|| drop(chunk));
        }
    }
}

/// Runs foreign code. If it panics, nobody else notices.
fn contain(foreign: impl FnOnce()) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(foreign))
        // What it panicked with is foreign, too.
        && let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(panic)))
    {
        mem::forget(again);
    }
}
