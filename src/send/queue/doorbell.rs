//! The doorbell: the waker of a sleeping writer, which a push returns to the sender.

use std::task::Waker;

/// The waker of a writer that sleeps because it found the queue empty.
///
/// A push that made the queue non-empty returns it to the sender, who rings it by dropping it, so
/// that forgetting it cannot lose the wake-up. If the writer was awake already, the doorbell is
/// silent and dropping it does nothing.
#[must_use = "dropping it wakes the writer"]
#[derive(Debug)]
pub(crate) struct Doorbell(Option<Waker>);

impl Doorbell {
    pub(super) const SILENT: Doorbell = Doorbell(None);

    pub(super) fn new(waker: Waker) -> Self {
        Doorbell(Some(waker))
    }

    /// Returns whether there is nobody to wake.
    pub(crate) fn is_silent(&self) -> bool {
        self.0.is_none()
    }

    /// Returns the waker, which is then not woken.
    pub(super) fn into_waker(mut self) -> Option<Waker> {
        self.0.take()
    }
}

impl Drop for Doorbell {
    #[inline]
    fn drop(&mut self) {
        if let Some(waker) = self.0.take() {
            waker.wake();
        }
    }
}
