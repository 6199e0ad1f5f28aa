//! [`CallSpan`]: the span in which a call is served.

use std::{fmt, sync::Arc};

use futures::future::Either;
use tracing::{
    Instrument, Span, dispatcher,
    field::{Empty, display},
    subscriber::NoSubscriber,
};

use super::{TARGET, open_telemetry, scope};
use crate::{
    ids::{GroupId, NodeId},
    net::random,
    wire::trace_context::TraceContext,
};

/// The span in which a call is served: `call`, with the target `actix_transport::call`, the level INFO and the fields
/// `trace_id`, `parent_id`, `span_id`, `group` and `sender` (the caller's node). A call has one if its caller gave it a
/// [`TraceContext`]. Otherwise all of this does nothing.
///
/// The crate runs the functions of [`Transport::serve_fn`](crate::Transport::serve_fn) in it. An actor runs its handler
/// by itself, so it enters the span by itself, with [`in_scope`](CallSpan::in_scope) or
/// [`wrap`](CallSpan::wrap). Both also let calls that are made meanwhile belong to the same trace.
///
/// ```
/// use actix::prelude::*;
/// use actix_transport::{Call, GroupId, Peer};
///
/// struct Front {
///     next: Peer,
/// }
///
/// impl Actor for Front {
///     type Context = Context<Self>;
/// }
///
/// impl Handler<Call> for Front {
///     type Result = ();
///
///     fn handle(&mut self, call: Call, ctx: &mut Context<Self>) {
///         let (next, span) = (self.next.clone(), call.span().clone());
///         let asks = async move {
///             match next.call(call.group(), call.payload().clone()).await {
///                 Ok(answer) => call.reply(answer),
///                 Err(why) => call.fail(1, why.to_string()),
///             }
///         };
///         ctx.spawn(span.wrap(asks).into_actor(self));
///     }
/// }
/// ```
///
/// It ends when the call is answered and no clone is left. Cheap to clone, and usable on any thread.
#[derive(Clone)]
pub struct CallSpan(Option<Arc<Inner>>);

struct Inner {
    span: Span,
    /// What calls of the handler pass on.
    own: TraceContext,
    received: TraceContext,
}

impl CallSpan {
    /// The span of a call without a trace.
    pub(crate) const NONE: CallSpan = CallSpan(None);

    /// Opens the span of a call that carries this context. Kept out of the code that serves calls without one.
    #[cold]
    pub(crate) fn open(received: TraceContext, group: GroupId, sender: NodeId) -> Self {
        // Its parent is on the other node, and not the span of the connection, in which this runs.
        let span = tracing::info_span!(
            target: TARGET,
            parent: None,
            "call",
            otel.kind = "server",
            trace_id = Empty,
            parent_id = Empty,
            span_id = Empty,
            %group,
            %sender,
        );
        let own = match is_collected(&span) {
            true => name(&span, received),
            false => received,
        };
        CallSpan(Some(Arc::new(Inner {
            span,
            own,
            received,
        })))
    }

    /// Returns whether the call belongs to no trace.
    pub fn is_none(&self) -> bool {
        self.0.is_none()
    }

    /// Returns the span. [Disabled](Span::is_disabled) if the call belongs to no trace, or nobody collects the span.
    ///
    /// To enter it so that calls of the handler belong to the trace, use [`in_scope`](CallSpan::in_scope) or
    /// [`wrap`](CallSpan::wrap).
    pub fn tracing(&self) -> Span {
        self.0
            .as_ref()
            .map_or_else(Span::none, |inner| inner.span.clone())
    }

    /// Returns the context that calls of the handler pass on: of the same trace, with this span as the parent. Give it to
    /// what is made out of reach of [`in_scope`](CallSpan::in_scope) and [`wrap`](CallSpan::wrap), and to
    /// other systems. If nobody collects this span, it is what the call brought.
    pub fn context(&self) -> Option<TraceContext> {
        self.0.as_ref().map(|inner| inner.own)
    }

    /// Returns the context that the call brought.
    pub(crate) fn received(&self) -> Option<TraceContext> {
        self.0.as_ref().map(|inner| inner.received)
    }

    /// Runs `work` in the span. Calls that are polled for the first time meanwhile belong to the trace.
    pub fn in_scope<R>(&self, work: impl FnOnce() -> R) -> R {
        match &self.0 {
            None => work(),
            Some(inner) => inner.span.in_scope(|| scope::run(inner.own, work)),
        }
    }

    /// Returns a future that runs `work` in the span, wherever it is polled. Tasks that `work` spawns are not in it.
    /// Dropping the future drops `work`.
    pub fn wrap<F: Future>(&self, work: F) -> impl Future<Output = F::Output> + use<F> {
        match &self.0 {
            None => Either::Left(work),
            Some(inner) => {
                let span = inner.span.clone();
                Either::Right(scope::drive(inner.own, work).instrument(span))
            }
        }
    }
}

/// Returns whether a subscriber of this thread has the span. If only other threads have subscribers, `tracing` may open a
/// span that goes nowhere.
fn is_collected(span: &Span) -> bool {
    !span.is_disabled() && !dispatcher::get_default(|to| to.is::<NoSubscriber>())
}

/// Gives the span its ids. Returns the context of its children.
fn name(span: &Span, received: TraceContext) -> TraceContext {
    open_telemetry::set_parent(span, received);
    let own = open_telemetry::context_of(span);
    let own = own.unwrap_or_else(|| received.of_span(random::span_id()));
    record(span, own);
    span.record("parent_id", display(Id(received.parent_id())));
    own
}

/// Writes the ids into the fields of the span that has them.
pub(super) fn record(span: &Span, own: TraceContext) {
    span.record("trace_id", display(TraceId(own.trace_id())));
    span.record("span_id", display(Id(own.parent_id())));
}

struct TraceId(u128);

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

pub(super) struct Id(pub(super) u64);

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for CallSpan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CallSpan").field(&self.context()).finish()
    }
}
