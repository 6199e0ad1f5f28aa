//! Functions that serve calls: how many at a time, and for how long.

use std::{panic::AssertUnwindSafe, pin::Pin, sync::Arc};

use futures::FutureExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{observe::trace::call_span::CallSpan, receive::call::Call};

/// A call with its place among those that are served at the same time.
pub(crate) struct Placed {
    call: Call,
    place: OwnedSemaphorePermit,
}

impl Placed {
    /// Returns the span in which the call is served.
    pub(crate) fn span(&self) -> CallSpan {
        self.call.span().clone()
    }
}

/// Returns what takes calls for `begin`, at most `limit` at a time, and refuses those beyond.
pub(crate) fn serving(
    limit: usize,
    begin: impl Fn(Placed) + Send + Sync + 'static,
) -> impl Fn(Call) + Send + Sync + 'static {
    let places = Arc::new(Semaphore::new(limit.min(Semaphore::MAX_PERMITS)));
    move |call| match places.clone().try_acquire_owned() {
        Ok(place) => begin(Placed { call, place }),
        Err(_) => call.refuse(),
    }
}

/// Returns a future that serves a call until nobody waits for the answer any more. A panic of the function costs the
/// call only. Inlined, because otherwise the future of each call is copied once more.
#[inline(always)]
pub(crate) fn until_over<S, F>(
    Placed { call, place }: Placed,
    serve: &S,
) -> impl Future<Output = ()> + use<S, F>
where
    S: Fn(Call) -> F,
    F: Future<Output = ()>,
{
    let over = call.cancelled();
    // The function is foreign code, and this runs in the task that reads the connection.
    let serving = std::panic::catch_unwind(AssertUnwindSafe(|| serve(call)));
    async move {
        if let Ok(serving) = serving {
            let serving = AssertUnwindSafe(serving).catch_unwind();
            tokio::select! {
                biased;
                _ = serving => {}
                () = over => {}
            }
        }
        drop(place);
    }
}

/// Polls a future in the task that reads the connection, and returns it if it is not ready: most calls are answered at
/// once, and a task takes longer to make. A panic, also of what the future drops, ends the future only.
pub(crate) fn poll_once<F: Future<Output = ()>>(serving: F) -> Option<Pin<Box<F>>> {
    let polled = std::panic::catch_unwind(AssertUnwindSafe(|| {
        let mut serving = Box::pin(serving);
        let is_ready = serving.as_mut().now_or_never().is_some();
        (!is_ready).then_some(serving)
    }));
    polled.ok().flatten()
}
