//! With the feature `opentelemetry`, the spans of calls have the ids that exporters show.

use std::sync::Arc;

use actix_transport::TraceContext;
use opentelemetry::trace::{SpanId, SpanKind, Status, TracerProvider};
use opentelemetry_sdk::{
    error::OTelSdkResult,
    trace::{Sampler, SdkTracerProvider, SpanData, SpanExporter},
};
use parking_lot::Mutex;
use tracing::{Instrument, info_span};
use tracing_subscriber::{Registry, layer::SubscriberExt};

use super::{CALLS, ask_next, by_hand, nodes, peer, witness};
use crate::support::*;

/// Keeps what is exported.
#[derive(Debug, Clone, Default)]
struct Exported(Arc<Mutex<Vec<SpanData>>>);

impl SpanExporter for Exported {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        // Those of links and connections belong to no trace.
        let of_trace = |span: &SpanData| ["call", "user"].contains(&&*span.name);
        self.0.lock().extend(batch.into_iter().filter(of_trace));
        Ok(())
    }
}

impl Exported {
    /// Collects what this thread would export.
    fn collect(sampler: Sampler) -> (Self, Spans) {
        let exported = Exported::default();
        let provider = SdkTracerProvider::builder()
            .with_sampler(sampler)
            .with_simple_exporter(exported.clone())
            .build();
        let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
        let spans = Spans::collect_with(Registry::default().with(layer));
        (exported, spans)
    }

    /// Waits until there are so many spans. Returns them in the order in which they began.
    async fn all(&self, count: usize) -> Vec<SpanData> {
        until("all spans are exported", || self.0.lock().len() == count).await;
        let mut all = self.0.lock().clone();
        all.sort_by_key(|span| span.start_time);
        all
    }
}

fn is_of(span: &SpanData, context: TraceContext) -> bool {
    let span = &span.span_context;
    span.trace_id().to_string() == format!("{:032x}", context.trace_id())
        && span.span_id().to_string() == format!("{:016x}", context.parent_id())
}

#[test]
fn exporters_see_one_trace_of_a_chain_of_calls() {
    run(async {
        let (exported, _spans) = Exported::collect(Sampler::AlwaysOn);
        let [a, b, c] = nodes();
        let mut at_c = witness(&c);
        let next = peer(&b, &c);
        let serve = move |call| ask_next(call, next.clone());
        b.serve_fn(group(CALLS), 100, serve).expect("free");
        let call = peer(&a, &b).call(group(CALLS), "");
        call.instrument(info_span!("user")).await.expect("answered");
        let seen = at_c.recv().await.expect("served");
        end([a, b, c]).await;
        let trace = exported.all(5).await;
        use SpanKind::{Client, Internal, Server};
        let kinds: Vec<_> = trace.iter().map(|span| span.span_kind.clone()).collect();
        assert_eq!(kinds, [Internal, Client, Server, Client, Server]);
        assert_eq!(trace[0].parent_span_id, SpanId::INVALID);
        for pair in trace.windows(2) {
            let (parent, child) = (&pair[0].span_context, &pair[1]);
            assert_eq!(child.span_context.trace_id(), parent.trace_id());
            assert_eq!(child.parent_span_id, parent.span_id());
            let is_remote = child.span_kind == Server;
            assert_eq!(child.parent_span_is_remote, is_remote);
        }
        assert!(is_of(&trace[3], seen.brought.expect("brought")));
        assert!(is_of(&trace[4], seen.own.expect("has one")));
    });
}

#[test]
fn a_context_of_another_system_is_the_parent_and_failures_are_exported() {
    run(async {
        let (exported, _spans) = Exported::collect(Sampler::AlwaysOn);
        let [a, b] = nodes();
        let _at_b = witness(&b);
        let to_b = peer(&a, &b);
        let call = to_b.call(group(CALLS), "").trace(by_hand());
        call.await.expect("answered");
        let user = info_span!("user");
        let failed = to_b.call(group(1), "").instrument(user).await;
        let why = failed.expect_err("nobody serves it").to_string();
        end([a, b]).await;
        let all = exported.all(3).await;
        let of_kind = |kind| all.iter().find(|span| span.span_kind == kind);
        let server = of_kind(SpanKind::Server).expect("exported");
        let parent = format!("{:016x}", by_hand().parent_id());
        assert_eq!(server.parent_span_id.to_string(), parent);
        let trace = format!("{:032x}", by_hand().trace_id());
        assert_eq!(server.span_context.trace_id().to_string(), trace);
        let client = of_kind(SpanKind::Client).expect("exported");
        assert_eq!(client.status, Status::error(why));
    });
}

#[test]
fn a_trace_that_is_not_sampled_says_so_to_the_other_node() {
    run(async {
        let (exported, _spans) = Exported::collect(Sampler::AlwaysOff);
        let [a, b] = nodes();
        let mut at_b = witness(&b);
        let call = peer(&a, &b).call(group(CALLS), "");
        call.instrument(info_span!("user")).await.expect("answered");
        let seen = at_b.recv().await.expect("served");
        let (brought, own) = (seen.brought.expect("brought"), seen.own.expect("has one"));
        assert!(!brought.is_sampled() && !own.is_sampled());
        assert_eq!(brought.trace_id(), own.trace_id());
        end([a, b]).await;
        assert!(exported.0.lock().is_empty());
    });
}
