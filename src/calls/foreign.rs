//! Wakers are foreign code. Whoever runs them is not at fault if one panics.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    task::Waker,
};

/// Wakes, and catches a panic of the waker. The process's panic hook has reported it by then.
pub(crate) fn wake(waker: Waker) {
    let _ = catch_unwind(AssertUnwindSafe(|| waker.wake()));
}

/// Runs what wakes others, and catches a panic.
pub(crate) fn contain(wakes: impl FnOnce()) {
    let _ = catch_unwind(AssertUnwindSafe(wakes));
}
