//! A call belongs to the trace of its caller. Whoever collects spans sees which, on both sides.

#[cfg(feature = "opentelemetry")]
mod exported;
#[cfg(feature = "remote")]
mod typed;

use actix::prelude::*;
use actix_transport::{
    Call, CallError, CallSpan, Config, Peer, Placement, TraceContext, Transport,
};
use tokio::sync::mpsc;
use tracing::{Instrument, Span, info_span};
use tracing_subscriber::{Registry, filter::filter_fn, layer::SubscriberExt};

use crate::support::*;

const CALLS: u32 = 77;
const TEXT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// All of it runs on the thread of the test, whose spans are collected.
fn nodes<const N: usize>() -> [Transport; N] {
    let config = Config::default().placement(Placement::Current);
    std::array::from_fn(|at| node_of(config.clone(), at as u64 + 1))
}

fn node_of(config: Config, node: u64) -> Transport {
    let builder = Transport::builder().config(config).identity(identity(node));
    builder.bind("127.0.0.1:0").expect("free port")
}

fn peer(from: &Transport, to: &Transport) -> Peer {
    from.peer(to.local_addr()).expect("usable")
}

/// What a handler sees.
#[derive(Debug)]
struct Seen {
    brought: Option<TraceContext>,
    own: Option<TraceContext>,
    /// The name of the span that it runs in.
    inside: Option<&'static str>,
}

impl Seen {
    fn of(call: &Call) -> Self {
        Seen {
            brought: call.trace(),
            own: call.span().context(),
            inside: Span::current().metadata().map(|it| it.name()),
        }
    }
}

/// Tells what the function that serves the calls sees, and answers them.
fn witness(transport: &Transport) -> mpsc::UnboundedReceiver<Seen> {
    let (tell, seen) = mpsc::unbounded_channel();
    let serve = move |call: Call| {
        let tell = tell.clone();
        async move {
            // Not only when it is polled first.
            tokio::task::yield_now().await;
            let _ = tell.send(Seen::of(&call));
            call.reply("");
        }
    };
    let served = transport.serve_fn(group(CALLS), 100, serve);
    served.expect("free");
    seen
}

fn hex(context: TraceContext) -> [String; 2] {
    let (trace, span) = (context.trace_id(), context.parent_id());
    [format!("{trace:032x}"), format!("{span:016x}")]
}

fn by_hand() -> TraceContext {
    TEXT.parse().expect("valid")
}

#[test]
fn a_call_in_a_span_brings_the_callers_context_and_both_logs_have_the_ids() {
    run(async {
        let spans = Spans::collect();
        let [a, b] = nodes();
        let mut at_b = witness(&b);
        let call = peer(&a, &b).call(group(CALLS), "");
        call.instrument(info_span!("user")).await.expect("answered");
        let seen = at_b.recv().await.expect("served");
        let (brought, own) = (seen.brought.expect("brought"), seen.own.expect("has one"));
        assert_eq!(seen.inside, Some("call"));
        assert_eq!(own.trace_id(), brought.trace_id());
        assert_ne!(own.parent_id(), brought.parent_id());

        let [caller] = &spans.of_calls("client")[..] else {
            panic!("one call");
        };
        let fields = ["trace_id", "span_id"].map(|name| caller.field(name).to_owned());
        assert_eq!(fields, hex(brought));
        assert_eq!(caller.inside, Some("user"));
        assert_eq!(caller.field("peer"), b.local_addr().to_string());
        let [server] = &spans.of_calls("server")[..] else {
            panic!("one call");
        };
        let fields = ["trace_id", "span_id"].map(|name| server.field(name).to_owned());
        assert_eq!(fields, hex(own));
        assert_eq!(server.field("parent_id"), hex(brought)[1]);
        assert_eq!((server.field("group"), server.field("sender")), ("77", "1"));
        // The span of the connection is not of the trace.
        assert_eq!(server.inside, None);
        until("both spans end", || {
            ["client", "server"]
                .iter()
                .all(|side| spans.of_calls(side)[0].is_closed)
        })
        .await;
        end([a, b]).await;
    });
}

/// Asks the next node, and answers what that answers.
struct Between(Peer);

impl Actor for Between {
    type Context = Context<Self>;
}

impl Handler<Call> for Between {
    type Result = ();

    fn handle(&mut self, call: Call, ctx: &mut Context<Self>) {
        let span = call.span().clone();
        let asks = ask_next(call, self.0.clone());
        ctx.spawn(span.wrap(asks).into_actor(self));
    }
}

async fn ask_next(call: Call, next: Peer) {
    match next.call(call.group(), call.payload().clone()).await {
        Ok(answer) => call.reply(answer),
        Err(why) => call.fail(1, why.to_string()),
    }
}

#[test]
fn a_chain_of_calls_has_one_trace_in_which_each_span_is_the_child_of_the_one_before() {
    run(async {
        let spans = Spans::collect();
        let [a, b, c, d] = nodes();
        let mut at_d = witness(&d);
        let actor = Between(peer(&c, &d)).start().recipient();
        c.serve_calls(group(CALLS), actor).expect("free");
        let next = peer(&b, &c);
        let serve = move |call| ask_next(call, next.clone());
        b.serve_fn(group(CALLS), 100, serve).expect("free");
        let call = peer(&a, &b).call(group(CALLS), "");
        call.instrument(info_span!("user")).await.expect("answered");
        let last = at_d.recv().await.expect("served").own.expect("has one");
        let (callers, servers) = (spans.of_calls("client"), spans.of_calls("server"));
        assert_eq!((callers.len(), servers.len()), (3, 3));
        let chain: Vec<_> = callers
            .iter()
            .zip(&servers)
            .flat_map(|(caller, server)| [caller, server])
            .collect();
        for (parent, child) in chain.iter().zip(&chain[1..]) {
            assert_eq!(child.field("trace_id"), parent.field("trace_id"));
            assert_eq!(child.field("parent_id"), parent.field("span_id"));
        }
        assert_eq!(chain[0].field("parent_id"), "", "the first of its trace");
        assert_eq!(chain[5].field("span_id"), hex(last)[1]);
        end([a, b, c, d]).await;
    });
}

#[test]
fn a_node_where_nobody_collects_spans_passes_the_context_on() {
    for (config, is_on_runtime) in placements().into_iter().zip([true, false, false]) {
        run(async {
            let [a, b, c] = [1, 2, 3].map(|node| node_of(config.clone(), node));
            let mut at_c = witness(&c);
            let next = peer(&b, &c);
            let serve = move |call| ask_next(call, next.clone());
            let runtime = tokio::runtime::Handle::current();
            let served = match is_on_runtime {
                true => b.serve_fn_on(runtime, group(CALLS), 100, serve),
                false => b.serve_fn(group(CALLS), 100, serve),
            };
            served.expect("free");
            let call = peer(&a, &b).call(group(CALLS), "").trace(by_hand());
            call.await.expect("answered");
            let seen = at_c.recv().await.expect("served");
            assert_eq!(seen.brought, Some(by_hand()));
            assert_eq!(seen.own, Some(by_hand()));
            end([a, b, c]).await;
        });
    }
}

#[test]
fn a_filter_that_leaves_out_the_spans_of_calls_does_not_break_the_trace() {
    run(async {
        let filter = filter_fn(|metadata| metadata.target() != "actix_transport::call");
        let _spans = Spans::collect_with(Registry::default().with(filter));
        let [a, b, c] = nodes();
        let mut at_c = witness(&c);
        let next = peer(&b, &c);
        let serve = move |call| ask_next(call, next.clone()).instrument(info_span!("cook"));
        b.serve_fn(group(CALLS), 100, serve).expect("free");
        let call = peer(&a, &b).call(group(CALLS), "").trace(by_hand());
        call.await.expect("answered");
        let seen = at_c.recv().await.expect("served");
        assert_eq!(seen.brought, Some(by_hand()));
        end([a, b, c]).await;
    });
}

#[test]
fn a_call_that_comes_twice_has_one_span() {
    run(async {
        let spans = Spans::collect();
        let [b] = nodes();
        let serve = |call| async move {
            std::future::pending::<()>().await;
            drop::<Call>(call);
        };
        b.serve_fn(group(CALLS), 100, serve).expect("free");
        let mut raw = Raw::welcomed(&b, 9, 4).await;
        let call = call_with(5, &[&[1, 26, 0][..], &[5; 25]].concat());
        write(&mut raw.0, &[start_at(0, 0), call.clone(), call].concat()).await;
        until("both came", || b.stats().served.refused == 1).await;
        assert_eq!(spans.of_calls("server").len(), 1);
        end([b]).await;
    });
}

#[test]
fn calls_of_a_handler_without_a_trace_have_none_although_a_connection_has_a_span() {
    run(async {
        let spans = Spans::collect();
        let [a, b, c] = nodes();
        let mut at_c = witness(&c);
        let next = peer(&b, &c);
        let serve = move |call| ask_next(call, next.clone());
        b.serve_fn(group(CALLS), 100, serve).expect("free");
        let call = peer(&a, &b).call(group(CALLS), "");
        call.await.expect("answered");
        let seen = at_c.recv().await.expect("served");
        assert_eq!((seen.brought, seen.own), (None, None));
        assert!(spans.of_calls("client").is_empty() && spans.of_calls("server").is_empty());
        end([a, b, c]).await;
    });
}

#[test]
fn a_context_that_is_set_by_hand_arrives_as_it_is_also_with_a_large_call() {
    run(async {
        let spans = Spans::collect();
        let [a, b] = nodes();
        let mut at_b = witness(&b);
        let large = vec![7; 11 << 20];
        for payload in [vec![], large] {
            let call = peer(&a, &b).call(group(CALLS), payload).trace(by_hand());
            call.instrument(info_span!("user")).await.expect("answered");
            let seen = at_b.recv().await.expect("served");
            assert_eq!(seen.brought, Some(by_hand()));
        }
        assert!(spans.of_calls("client").is_empty(), "the user has one");
        // As if it was not set.
        let call = peer(&a, &b).call(group(CALLS), "").trace(None);
        call.await.expect("answered");
        assert_eq!(at_b.recv().await.expect("served").brought, None);
        end([a, b]).await;
    });
}

#[test]
fn a_call_that_fails_says_so_in_its_span() {
    run(async {
        let spans = Spans::collect();
        let [a, b] = nodes();
        let call = peer(&a, &b).call(group(CALLS), "");
        let failed = call.instrument(info_span!("user")).await;
        assert_eq!(failed, Err(CallError::NoHandler));
        let caller = &spans.of_calls("client")[0];
        assert_eq!(caller.field("error"), CallError::NoHandler.to_string());
        assert!(caller.is_closed);
        end([a, b]).await;
    });
}

#[test]
fn a_call_without_a_trace_has_no_field_for_it() {
    run(async {
        let _spans = Spans::collect();
        let [a] = nodes();
        for is_traced in [false, true] {
            let (listener, to) = listener();
            let call = a.peer(to).expect("usable").call(group(CALLS), "hello");
            let call = match is_traced {
                true => actix::spawn(call.instrument(info_span!("user"))),
                false => actix::spawn(call),
            };
            let mut tap = Tap::accept(&listener).await;
            tap.frame().await.expect("a Hello");
            let mut about = about(2, 7, "kv", to.port());
            about.push(all_features());
            tap.write(&control(WELCOME, &about)).await;
            tap.frame().await.expect("a Start");
            let (_, frame) = tap.frame().await.expect("the call");
            assert_eq!(frame[..6], *b"atpc\x01\0");
            match is_traced {
                true => {
                    assert_eq!(frame[6..8], [0, 28], "bytes of fields");
                    assert_eq!(frame[28..31], [1, 26, 0], "tag, length and version");
                    assert_eq!(frame[56..], *b"hello");
                }
                false => {
                    assert_eq!(frame[6..8], [0, 0], "bytes of fields");
                    assert_eq!(frame[28..], *b"hello");
                }
            }
            call.abort();
        }
        end([a]).await;
    });
}

/// The frame of a call with these fields.
fn call_with(id: u64, fields: &[u8]) -> Vec<u8> {
    let len = u16::try_from(fields.len()).expect("short");
    let head = [
        &b"atpc\x01\0"[..],
        &len.to_be_bytes(),
        &id.to_be_bytes(),
        &CALLS.to_be_bytes(),
        &1_000_000_u64.to_be_bytes(),
        fields,
        b"hello",
    ];
    wire(RESERVED, &head.concat())
}

#[test]
fn a_call_with_fields_that_are_no_context_is_served_without_one() {
    run(async {
        let [b] = nodes();
        let mut at_b = witness(&b);
        let mut raw = Raw::welcomed(&b, 9, 4).await;
        write(&mut raw.0, &start_at(0, 0)).await;
        let good = [&[1, 26, 0][..], &[5; 25]].concat();
        let wrong = [
            vec![],
            [&[1, 26][..], &[0; 26]].concat(),
            [&[1, 27, 0][..], &[5; 26]].concat(),
            [&[1, 25, 0][..], &[5; 24]].concat(),
            [&[1, 26, 9][..], &[5; 25]].concat(),
            vec![1],
            vec![1, 255, 0],
            vec![1, 0, 1, 26],
            [&[9, 200][..], &good].concat(),
        ];
        for (id, fields) in wrong.iter().enumerate() {
            write(&mut raw.0, &call_with(id as u64, fields)).await;
            let seen = at_b.recv().await.expect("served");
            assert_eq!(seen.brought, None, "{fields:?}");
        }
        let behind_another = [&[9, 1, 0][..], &good].concat();
        write(&mut raw.0, &call_with(100, &behind_another)).await;
        let brought = at_b.recv().await.expect("served").brought;
        assert_eq!(
            hex(brought.expect("good")),
            ["05".repeat(16), "05".repeat(8)]
        );
        end([b]).await;
    });
}

#[test]
fn an_actor_enters_the_span_by_itself() {
    struct Entering(mpsc::UnboundedSender<[Option<&'static str>; 2]>);

    impl Actor for Entering {
        type Context = Context<Self>;
    }

    impl Handler<Call> for Entering {
        type Result = ();

        fn handle(&mut self, call: Call, _: &mut Context<Self>) {
            let name = || Span::current().metadata().map(|it| it.name());
            let _ = self.0.send([name(), call.span().in_scope(name)]);
            call.reply("");
        }
    }

    run(async {
        let _spans = Spans::collect();
        let [a, b] = nodes();
        let (tell, mut names) = mpsc::unbounded_channel();
        let actor = Entering(tell).start().recipient();
        b.serve_calls(group(CALLS), actor).expect("free");
        let call = peer(&a, &b).call(group(CALLS), "").trace(by_hand());
        call.await.expect("answered");
        assert_eq!(names.recv().await, Some([None, Some("call")]));
        let call = peer(&a, &b).call(group(CALLS), "");
        call.await.expect("answered");
        assert_eq!(names.recv().await, Some([None, None]));
        end([a, b]).await;
    });
}

#[test]
fn contexts_and_spans_can_be_sent_to_other_threads() {
    fn can_be_sent<T: Send + Sync + 'static>() {}
    can_be_sent::<TraceContext>();
    can_be_sent::<CallSpan>();
}
