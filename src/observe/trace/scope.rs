//! The context that calls of the running handler pass on.

use tokio::task::futures::TaskLocalFuture;

use crate::wire::trace_context::TraceContext;

tokio::task_local! {
    /// Set while a handler of a call with a trace runs. Works on every runtime, although its name says tokio.
    static HANDLING: TraceContext;
}

/// Returns the context of the handler that runs on this thread.
#[inline]
pub(super) fn current() -> Option<TraceContext> {
    HANDLING.try_with(|context| *context).ok()
}

/// Runs `work` as a part of the handler with this context.
pub(super) fn run<R>(context: TraceContext, work: impl FnOnce() -> R) -> R {
    HANDLING.sync_scope(context, work)
}

/// Returns a future that runs as a part of the handler with this context.
pub(super) fn drive<F: Future>(context: TraceContext, work: F) -> TaskLocalFuture<TraceContext, F> {
    HANDLING.scope(context, work)
}
