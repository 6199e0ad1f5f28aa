//! Typed messages belong to traces, too.

use actix::prelude::*;
use actix_transport::{RemoteMessage, RemoteRecipient, Traced, Transport};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tracing::{Instrument, Span, Subscriber, info_span, span, subscriber};
use tracing_subscriber::{
    Layer, Registry,
    layer::{self, SubscriberExt},
    registry::LookupSpan,
};

use super::{by_hand, hex, nodes, peer};
use crate::support::*;

/// Is answered with the trace id that the handler runs in.
#[derive(Message, RemoteMessage, Serialize, Deserialize)]
#[rtype(result = "Option<String>")]
#[remote(id = 1)]
struct Which;

/// May ask another one.
struct Knows(Option<RemoteRecipient<Which>>);

impl Actor for Knows {
    type Context = Context<Self>;
}

impl Handler<Traced<Which>> for Knows {
    type Result = ResponseFuture<Option<String>>;

    fn handle(&mut self, traced: Traced<Which>, _: &mut Context<Self>) -> Self::Result {
        let (which, span) = traced.into_parts();
        let (own, next) = (span.context(), self.0.clone());
        let works = async move {
            match next {
                Some(next) => next.send(which).await.expect("answered"),
                None => own.map(|own| hex(own)[0].clone()),
            }
        };
        Box::pin(span.wrap(works))
    }
}

fn serve(transport: &Transport, next: Option<RemoteRecipient<Which>>) {
    let actor = Knows(next).start();
    transport
        .serve_traced::<Which>(group(78), actor)
        .expect("free");
}

#[test]
fn a_chain_of_typed_messages_has_one_trace() {
    run(async {
        let spans = Spans::collect();
        let [a, b, c] = nodes();
        serve(&c, None);
        serve(&b, Some(peer(&b, &c).recipient(group(78))));
        let at_b = peer(&a, &b).recipient::<Which>(group(78));
        let answer = at_b.send(Which).instrument(info_span!("user")).await;
        let trace = answer.expect("answered").expect("in a trace");
        let (callers, servers) = (spans.of_calls("client"), spans.of_calls("server"));
        assert_eq!((callers.len(), servers.len()), (2, 2));
        for span in callers.iter().chain(&servers) {
            assert_eq!(span.field("trace_id"), trace);
        }
        assert_eq!(callers[1].field("parent_id"), servers[0].field("span_id"));
        assert_eq!(servers[1].field("parent_id"), callers[1].field("span_id"));

        let answer = at_b.send(Which).trace(by_hand()).await;
        let trace = hex(by_hand())[0].clone();
        assert_eq!(answer, Ok(Some(trace)));
        assert_eq!(at_b.send(Which).await, Ok(None));
        end([a, b, c]).await;
    });
}

/// Tells in which span its handler runs.
struct Tells(mpsc::UnboundedSender<Option<&'static str>>);

impl Actor for Tells {
    type Context = Context<Self>;
}

impl Handler<Which> for Tells {
    type Result = Option<String>;

    fn handle(&mut self, _: Which, _: &mut Context<Self>) -> Self::Result {
        let name = Span::current().metadata().map(|it| it.name());
        let _ = self.0.send(name);
        None
    }
}

impl Handler<Traced<Which>> for Tells {
    type Result = Option<String>;

    fn handle(&mut self, traced: Traced<Which>, ctx: &mut Context<Self>) -> Self::Result {
        traced.in_scope(|which| self.handle(which, ctx))
    }
}

#[test]
fn a_traced_message_is_handled_in_its_span_and_a_plain_one_is_not() {
    run(async {
        let spans = Spans::collect();
        let [a, b] = nodes();
        let (tell, mut names) = mpsc::unbounded_channel();
        let actor = Tells(tell).start();
        b.serve::<Which>(group(1), actor.clone()).expect("free");
        b.serve_traced::<Which>(group(2), actor).expect("free");
        b.serve_traced::<Which>(group(2), Knows(None).start())
            .expect_err("served already");
        for (at, expected) in [(1, None), (2, Some("call"))] {
            let at_b = peer(&a, &b).recipient::<Which>(group(at));
            let sent = at_b.send(Which).instrument(info_span!("user"));
            assert_eq!(sent.await, Ok(None));
            assert_eq!(names.recv().await, Some(expected));
        }
        // Either way the log has the call.
        assert_eq!(spans.of_calls("server").len(), 2);
        // The span of a message without a result ends, too.
        let at_b = peer(&a, &b).recipient::<Which>(group(2));
        info_span!("user").in_scope(|| at_b.do_send(Which));
        assert_eq!(names.recv().await, Some(Some("call")));
        until("the answer comes", || spans.of_calls("client")[2].is_closed).await;
        end([a, b]).await;
    });
}

/// Panics at the end of the span of each call that is served.
struct PanicsAtTheEnd;

impl<S: Subscriber + for<'s> LookupSpan<'s>> Layer<S> for PanicsAtTheEnd {
    fn on_close(&self, id: span::Id, context: layer::Context<'_, S>) {
        let fields = context.span(&id).map(|span| span.metadata().fields());
        let is_served = fields.is_some_and(|fields| fields.field("sender").is_some());
        assert!(!is_served, "caused by this test");
    }
}

#[test]
fn a_collector_that_panics_at_the_end_of_spans_costs_no_actor() {
    run(async {
        let _collects = subscriber::set_default(Registry::default().with(PanicsAtTheEnd));
        let [a, b] = nodes();
        let actor = Tells(mpsc::unbounded_channel().0).start();
        b.serve::<Which>(group(78), actor.clone()).expect("free");
        let at_b = peer(&a, &b).recipient::<Which>(group(78));
        for _ in 0..3 {
            assert_eq!(at_b.send(Which).trace(by_hand()).await, Ok(None));
        }
        assert!(actor.connected());
        end([a, b]).await;
    });
}
