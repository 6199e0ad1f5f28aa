//! Calls on a thread that ends, or in `exit`.

use std::{
    cell::Cell,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    ptr, thread,
};

use actix_rt::{Arbiter, System};
use tokio::{runtime::Handle, task::LocalSet};

use crate::{code::axt_code::*, error::Failure};

/// Whether the variables that libraries keep for this thread can be used.
#[derive(Copy, Clone)]
enum State {
    Unknown,
    Living,
    Ended,
}

thread_local! {
    /// Has no destructor, and can always be read.
    static STATE: Cell<State> = const { Cell::new(State::Unknown) };
    /// Ends before the variables that were made before it.
    static FIRST_TO_END: End = const { End };
}

struct End;

impl Drop for End {
    fn drop(&mut self) {
        STATE.set(State::Ended);
    }
}

/// Runs `call`: here, or on a new thread if the variables of this one have ended, which is waited for. What is called
/// needs some, and C may call when a thread ends or in `exit`: destructors and functions of `atexit` do.
pub(crate) fn on_living_thread(call: impl FnOnce() -> Result<(), Failure>) -> Result<(), Failure> {
    match is_living() {
        true => call(),
        false => on_new_thread(call),
    }
}

/// Returns whether the variables of this thread can be used.
#[inline]
pub(crate) fn is_living() -> bool {
    matches!(STATE.get(), State::Living) || begin()
}

/// Returns a number that this thread has. Others may have the same, but few do.
#[inline]
pub(crate) fn number_of_thread() -> usize {
    // From the address of a variable that each thread has for itself.
    let at = STATE.with(|state| ptr::from_ref(state).addr());
    (at >> 6).wrapping_mul(0x9E37_79B9_7F4A_7C15_u64 as usize) >> (usize::BITS - 16)
}

/// Makes the variables that panic when they are used after their end, unless they have ended. Destructors of C++ run
/// between theirs, the last made first.
#[cold]
pub(crate) fn begin() -> bool {
    if matches!(STATE.get(), State::Ended) {
        return false;
    }
    let made = catch_unwind(|| {
        let _ = thread::current();
        let _ = Handle::try_current();
        drop(LocalSet::new().enter());
        let _ = (System::try_current(), Arbiter::try_current());
        FIRST_TO_END.with(|_| ());
    });
    if let Err(panic) = made {
        // They ended before this library was called here.
        std::mem::forget(panic);
        STATE.set(State::Ended);
        return false;
    }
    STATE.set(State::Living);
    true
}

#[cold]
pub(crate) fn on_new_thread<R>(call: impl FnOnce() -> Result<R, Failure>) -> Result<R, Failure> {
    let lent = Lent(call);
    let called = thread::scope(|scope| {
        let run = move || Lent(catch_unwind(AssertUnwindSafe(lent.take())));
        let thread = thread::Builder::new().name("axt-call".to_owned());
        // Joined here: the scope would wait by a handle of this thread, which has ended, too.
        match thread.spawn_scoped(scope, run) {
            Ok(thread) => thread.join(),
            Err(err) => Ok(Lent(Ok(Err(Failure::new(
                AXT_SYSTEM,
                format_args!("cannot start a thread for the call: {err}"),
            ))))),
        }
    });
    match called {
        Ok(Lent(Ok(result))) => result,
        Ok(Lent(Err(panic))) | Err(panic) => resume_unwind(panic),
    }
}

/// What one thread lends to another.
struct Lent<T>(T);

impl<T> Lent<T> {
    fn take(self) -> T {
        self.0
    }
}

// SAFETY: the thread that lends does nothing until the other one has ended. The pointers of C in it may be used by
// any thread, and the caller waits.
unsafe impl<T> Send for Lent<T> {}
