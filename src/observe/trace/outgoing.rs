//! [`OutgoingTrace`]: the trace that a call of this node belongs to.

use std::{fmt::Display, sync::Arc};

use tracing::{
    Span,
    field::{Empty, display},
    level_filters::LevelFilter,
};

use super::{
    TARGET,
    call_span::{Id, record},
    open_telemetry, scope,
};
use crate::{ids::GroupId, net::random, wire::trace_context::TraceContext};

/// The targets of this crate's own spans begin with this. Functions that serve calls run in that of the connection.
const OWN: &str = "actix_transport::";

/// What a call says about its trace, and its span while it waits for its answer.
#[derive(Debug)]
pub(crate) struct OutgoingTrace {
    pub(crate) context: TraceContext,
    /// Disabled if nobody collects it.
    span: Span,
}

impl OutgoingTrace {
    /// For a call whose user says which trace it belongs to. It has no span: the user has one.
    pub(crate) fn by_hand(context: TraceContext) -> Arc<Self> {
        let span = Span::none();
        Arc::new(OutgoingTrace { context, span })
    }

    /// Returns the trace of a call that begins now. `None` if no span is active here and no handler of a call with a
    /// trace runs here.
    #[inline]
    pub(crate) fn begin(group: GroupId, peer: &dyn Display) -> Option<Arc<Self>> {
        // Nearly always nobody collects anything, and then this is all.
        let handling = scope::current();
        match LevelFilter::current() == LevelFilter::OFF && handling.is_none() {
            true => None,
            false => OutgoingTrace::inside(&Span::current(), handling, group, peer),
        }
    }

    #[cold]
    fn inside(
        current: &Span,
        handling: Option<TraceContext>,
        group: GroupId,
        peer: &dyn Display,
    ) -> Option<Arc<Self>> {
        if !is_active(current) {
            return handling.map(OutgoingTrace::by_hand);
        }
        let span = tracing::info_span!(
            target: TARGET,
            "call",
            otel.kind = "client",
            trace_id = Empty,
            parent_id = Empty,
            span_id = Empty,
            %group,
            %peer,
            error = Empty,
        );
        let known = match (span.is_disabled(), handling) {
            // A filter leaves out the spans of calls. So that of the call that is served, which would be the parent of
            // this one, is not known either.
            (true, Some(handling)) => return Some(OutgoingTrace::by_hand(handling)),
            (true, None) => open_telemetry::context_of(current),
            (false, _) => open_telemetry::context_of(&span),
        };
        let context = known.unwrap_or_else(|| match handling {
            Some(handling) => handling.of_span(random::span_id()),
            None => random_context(),
        });
        record(&span, context);
        if let (None, Some(parent)) = (known, handling) {
            span.record("parent_id", display(Id(parent.parent_id())));
        }
        Some(Arc::new(OutgoingTrace { context, span }))
    }

    /// Notes why the call got no answer.
    pub(crate) fn fail(&self, why: &dyn Display) {
        if !self.span.is_disabled() {
            self.span.record("error", display(why));
            open_telemetry::set_error(&self.span, why);
        }
    }
}

/// Returns whether calls that are made in this span belong to a trace.
fn is_active(span: &Span) -> bool {
    let own = |target: &str| target.starts_with(OWN) && target != TARGET;
    let target = span.metadata().map(|metadata| metadata.target());
    target.is_some_and(|target| !own(target)) && !span.is_disabled()
}

/// Begins a trace. It says that it is sampled, so that nodes with an exporter record their part of it.
fn random_context() -> TraceContext {
    TraceContext::begin(random::trace_id(), random::span_id())
}
