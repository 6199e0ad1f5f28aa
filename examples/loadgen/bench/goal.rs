//! What a receiver waits for: so many frames, and the time from the first to the last.

use std::{
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

/// Shared by all who receive.
#[derive(Clone)]
pub(super) struct Goal(Arc<State>);

struct State {
    left: AtomicU64,
    begun: OnceLock<Instant>,
    /// Taken when the goal is reached.
    reached: Mutex<Option<oneshot::Sender<Duration>>>,
}

impl Goal {
    /// Returns the goal, and who is told the time when it is reached.
    pub(super) fn new(frames: u64) -> (Self, oneshot::Receiver<Duration>) {
        let (tell, reached) = oneshot::channel();
        let state = State {
            left: AtomicU64::new(frames),
            begun: OnceLock::new(),
            reached: Mutex::new(Some(tell)),
        };
        (Goal(Arc::new(state)), reached)
    }

    /// Notes that something has come; the time runs from the first such moment.
    #[inline]
    pub(super) fn begin(&self) {
        self.0.begun.get_or_init(Instant::now);
    }

    /// Takes off what has been dealt with. To be called after `begin`, once for many frames.
    #[inline]
    pub(super) fn add(&self, frames: u64) {
        if frames > 0 && self.0.left.fetch_sub(frames, Relaxed) == frames {
            self.reach();
        }
    }

    fn reach(&self) {
        let time = self.0.begun.get().map_or(Duration::ZERO, Instant::elapsed);
        let reached = self.0.reached.lock();
        if let Some(tell) = reached.unwrap_or_else(PoisonError::into_inner).take() {
            // Nobody listens any more when the receiver is about to end anyway.
            let _ = tell.send(time);
        }
    }
}
