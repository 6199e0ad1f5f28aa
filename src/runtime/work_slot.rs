//! [`WorkSlot`]: where a future is between its polls, until it is ready or cancelled.

use std::{
    future::Future,
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
};

use parking_lot::Mutex;

pub(crate) type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The place of a future that others may cancel. With the feature `remote`, whoever wakes its owner polls it
/// (`self_driven`).
pub(crate) struct WorkSlot(Mutex<State>);

enum State {
    Waiting(
        #[cfg_attr(
            not(feature = "remote"),
            expect(dead_code, reason = "released on drop")
        )]
        Work,
    ),
    /// A thread polls it, without the lock. Also what it is before that, and when it is ready.
    Polled {
        /// Whether it was woken meanwhile, and must be polled again.
        again: bool,
    },
    /// It was cancelled.
    Over,
}

impl WorkSlot {
    pub(crate) const fn new() -> Self {
        WorkSlot(Mutex::new(State::Polled { again: false }))
    }

    /// Drops the future, unless it is ready. If a thread polls it now, that thread drops it.
    pub(crate) fn cancel(&self) {
        let state = mem::replace(&mut *self.0.lock(), State::Over);
        drop_caught(state);
    }

    /// Notes that the future waits. Returns it if it was woken meanwhile, and must be polled again; drops it if it was
    /// cancelled.
    pub(crate) fn waits(&self, work: Work) -> Option<Work> {
        let mut state = self.0.lock();
        match &*state {
            State::Polled { again: false } => *state = State::Waiting(work),
            State::Polled { again: true } => {
                *state = State::Polled { again: false };
                return Some(work);
            }
            State::Waiting(_) | State::Over => {
                drop(state);
                drop_caught(work);
            }
        }
        None
    }

    /// Notes that the future was woken. Returns it if it is to be polled by this thread.
    #[cfg(feature = "remote")]
    pub(super) fn woken(&self) -> Option<Work> {
        let mut state = self.0.lock();
        match mem::replace(&mut *state, State::Polled { again: false }) {
            State::Waiting(work) => return Some(work),
            State::Polled { .. } => *state = State::Polled { again: true },
            State::Over => *state = State::Over,
        }
        None
    }
}

/// Drops what may hold values of users, whose `Drop` may panic.
pub(super) fn drop_caught(value: impl Sized) {
    let _ = catch_unwind(AssertUnwindSafe(|| drop(value)));
}
