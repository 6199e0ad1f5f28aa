//! The ids that OpenTelemetry gives to spans.
//!
//! The layer of `tracing-opentelemetry`, which the user installs, keeps them. Without it, spans have none.

use std::fmt::Display;

use opentelemetry::{
    Context, SpanId, TraceFlags, TraceId,
    trace::{SpanContext, Status, TraceContextExt, TraceState},
};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

use crate::wire::trace_context::TraceContext;

/// Returns the context that the children of a span have, if the layer knows the span. From now on its parent is fixed.
pub(super) fn context_of(span: &Span) -> Option<TraceContext> {
    let context = span.context();
    let span = context.span();
    let known = span.span_context();
    TraceContext::with_flags(
        u128::from_be_bytes(known.trace_id().to_bytes()),
        u64::from_be_bytes(known.span_id().to_bytes()),
        known.trace_flags().to_u8(),
    )
}

/// Makes a span of another process the parent of a new one. Does nothing if the layer is not installed.
pub(super) fn set_parent(span: &Span, parent: TraceContext) {
    let parent = SpanContext::new(
        TraceId::from_bytes(parent.trace_id().to_be_bytes()),
        SpanId::from_bytes(parent.parent_id().to_be_bytes()),
        TraceFlags::new(parent.flags()),
        true,
        TraceState::NONE,
    );
    // It fails if there is no layer, and then there is nothing to do.
    let _ = span.set_parent(Context::new().with_remote_span_context(parent));
}

/// Notes that the work of a span has failed.
pub(super) fn set_error(span: &Span, why: &dyn Display) {
    span.set_status(Status::error(why.to_string()));
}
