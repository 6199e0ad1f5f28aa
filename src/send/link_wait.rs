//! [`LinkWait`]: those who wait for a link to a peer although nothing of theirs is queued.
//!
//! Owns how they are counted and woken, and what they want to know of the link. When they give up is decided in
//! `peer_state`; making the link is left to the writer.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::atomic::{
        AtomicBool, AtomicUsize,
        Ordering::{Acquire, Relaxed, Release},
    },
};

use parking_lot::Mutex;
use tokio::sync::{Notify, futures::Notified};

use crate::session::open_link::Takes;

/// Who waits for a link, and what is known of the last one.
#[derive(Debug, Default)]
pub(super) struct LinkWait {
    /// The number of the last link, and what its far end takes that is longer than a frame.
    last: Mutex<(u64, Option<Takes>)>,
    /// The longest frame that the far end of the last link takes. Zero if that is not known.
    far_frame: AtomicUsize,
    /// Notified when there is a link, when a dial or a link has ended, and when there will be no link.
    stirred: Notify,
    waiting: AtomicUsize,
    /// Whether the writer looks for a link. As long as it does, nobody needs to ask it.
    dialling: AtomicBool,
}

impl LinkWait {
    // ---- for those who wait ------------------------------------------------------------------------

    /// Counts somebody who waits, until the guard is dropped.
    pub(super) fn waits(&self) -> Waiting<'_> {
        self.waiting.fetch_add(1, Relaxed);
        Waiting(self)
    }

    /// Returns what is ready at the next [`stir`](LinkWait::stir) after this call, even if it is not polled before.
    pub(super) fn stirred(&self) -> Notified<'_> {
        self.stirred.notified()
    }

    pub(super) fn last(&self) -> (u64, Option<Takes>) {
        *self.last.lock()
    }

    /// Returns the longest frame that the far end of the last link takes, as far as it is known. Asked for each call.
    pub(super) fn far_frame(&self) -> Option<usize> {
        Some(self.far_frame.load(Relaxed)).filter(|far| *far > 0)
    }

    pub(super) fn is_dialling(&self) -> bool {
        self.dialling.load(Acquire)
    }

    // ---- for the writer ----------------------------------------------------------------------------

    pub(super) fn is_waited_for(&self) -> bool {
        self.waiting.load(Relaxed) > 0
    }

    pub(super) fn set_last(&self, link: u64, takes: Option<Takes>) {
        let mut last = self.last.lock();
        *last = (link, takes);
        let far_frame = takes.map_or(0, |takes| takes.frame.max(1) as usize);
        self.far_frame.store(far_frame, Relaxed);
    }

    /// Notes that the writer looks for a link, until the guard is dropped. Those who wait look again then.
    pub(super) fn dials(&self) -> Dialling<'_> {
        self.dialling.store(true, Release);
        Dialling(self)
    }

    /// Lets those who wait look again. Runs their wakers, which are foreign code: no lock may be held.
    pub(super) fn stir(&self) {
        // Whoever calls this is not at fault for a waker that panics.
        let _ = catch_unwind(AssertUnwindSafe(|| self.stirred.notify_waiters()));
    }
}

/// Somebody waits.
pub(super) struct Waiting<'w>(&'w LinkWait);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Relaxed);
    }
}

/// The writer looks for a link.
pub(super) struct Dialling<'w>(&'w LinkWait);

impl Drop for Dialling<'_> {
    fn drop(&mut self) {
        self.0.dialling.store(false, Release);
        self.0.stir();
    }
}
