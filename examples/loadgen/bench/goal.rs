//! Waits for a number of frames, and measures the time from the first to the last.

use std::{
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

/// A handle to the goal; all tasks that receive share it.
#[derive(Clone)]
pub(super) struct Goal(Arc<State>);

struct State {
    left: AtomicU64,
    begun: OnceLock<Instant>,
    /// Taken when the goal is reached.
    reached: Mutex<Option<oneshot::Sender<Duration>>>,
}

impl Goal {
    /// Returns the goal, and a receiver of the time it took to reach it.
    pub(super) fn new(frames: u64) -> (Self, oneshot::Receiver<Duration>) {
        let (reached_tx, reached) = oneshot::channel();
        let state = State {
            left: AtomicU64::new(frames),
            begun: OnceLock::new(),
            reached: Mutex::new(Some(reached_tx)),
        };
        (Goal(Arc::new(state)), reached)
    }

    /// Starts the clock. Only the first call does; each receiver calls it when bytes arrive.
    #[inline]
    pub(super) fn begin(&self) {
        self.0.begun.get_or_init(Instant::now);
    }

    /// Subtracts frames that were handled. Called after `begin`, once for many frames.
    #[inline]
    pub(super) fn add(&self, frames: u64) {
        if frames > 0 && self.0.left.fetch_sub(frames, Relaxed) == frames {
            self.reach();
        }
    }

    fn reach(&self) {
        let time = self.0.begun.get().map_or(Duration::ZERO, Instant::elapsed);
        let reached = self.0.reached.lock();
        if let Some(reached_tx) = reached.unwrap_or_else(PoisonError::into_inner).take() {
            // Fails if the receiver is already ending.
            let _ = reached_tx.send(time);
        }
    }
}
