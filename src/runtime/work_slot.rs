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
    /// The future waits here.
    In(
        #[cfg_attr(
            not(feature = "remote"),
            expect(dead_code, reason = "released on drop")
        )]
        Work,
    ),
    /// It is not here: it was not put in yet, or a thread has taken it out to poll it, or it is ready.
    Out {
        /// Whether it was woken meanwhile, and must be polled again.
        woken: bool,
    },
    Cancelled,
}

impl WorkSlot {
    pub(crate) const fn new() -> Self {
        WorkSlot(Mutex::new(State::Out { woken: false }))
    }

    /// Drops the future, unless it is ready. If a thread polls it now, that thread drops it.
    pub(crate) fn cancel(&self) {
        let state = mem::replace(&mut *self.0.lock(), State::Cancelled);
        drop_caught(state);
    }

    /// Puts the future in, until it is woken or cancelled. Returns it if it was woken while it was out, and must be polled
    /// again; drops it if it was cancelled.
    pub(crate) fn put(&self, work: Work) -> Option<Work> {
        let mut state = self.0.lock();
        match &*state {
            State::Out { woken: false } => *state = State::In(work),
            State::Out { woken: true } => {
                *state = State::Out { woken: false };
                return Some(work);
            }
            State::In(_) | State::Cancelled => {
                drop(state);
                drop_caught(work);
            }
        }
        None
    }

    /// Takes the future out to be polled, because it was woken. `None` if it is not here; whoever polls it learns of it.
    #[cfg(feature = "remote")]
    pub(super) fn take(&self) -> Option<Work> {
        let mut state = self.0.lock();
        match mem::replace(&mut *state, State::Out { woken: false }) {
            State::In(work) => return Some(work),
            State::Out { .. } => *state = State::Out { woken: true },
            State::Cancelled => *state = State::Cancelled,
        }
        None
    }
}

/// Drops what may hold values of users, whose `Drop` may panic.
pub(super) fn drop_caught(value: impl Sized) {
    let _ = catch_unwind(AssertUnwindSafe(|| drop(value)));
}
