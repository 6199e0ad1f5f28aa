//! A call gets one answer, or an error that says what is known, and leaves nothing behind.

use std::{
    future::{Future, poll_fn},
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::Poll,
    time::{Duration, Instant},
};

use actix::prelude::*;
use actix_transport::{
    Call, CallError, CallFuture, CallPart, Config, GroupId, Lane, Placement, Sessions, Shutdown,
    Transport,
};
use bytes::Bytes;
use futures::{FutureExt, future::join_all};
use tokio::{net::TcpListener, sync::mpsc};

use crate::support::*;

const MS: Duration = Duration::from_millis(1);
const CALLS: u32 = 77;

fn node_of(config: Config, node: u64) -> Transport {
    let builder = Transport::builder().config(config).identity(identity(node));
    builder.bind("127.0.0.1:0").expect("free port")
}

fn pair(config: &Config) -> [Transport; 2] {
    [1, 2].map(|node| node_of(config.clone(), node))
}

/// Hands each call to the test.
struct Desk(mpsc::UnboundedSender<Call>);

impl Actor for Desk {
    type Context = Context<Self>;
}

impl Handler<Call> for Desk {
    type Result = ();

    fn handle(&mut self, call: Call, _: &mut Context<Self>) {
        let _ = self.0.send(call);
    }
}

fn desk(transport: &Transport) -> mpsc::UnboundedReceiver<Call> {
    let (calls, at_desk) = mpsc::unbounded_channel();
    let actor = Desk(calls).start().recipient();
    transport.serve_calls(group(CALLS), actor).expect("free");
    at_desk
}

/// Answers each call with what it says.
fn echo(transport: &Transport) {
    transport
        .serve_fn(group(CALLS), 1_000, |call: Call| async move {
            let payload = call.payload().clone();
            call.reply(payload);
        })
        .expect("free");
}

/// Waits until nothing is pending or served, and checks the sums.
async fn settled(transports: &[Transport]) {
    until("all calls have ended", || {
        transports.iter().all(|transport| {
            let stats = transport.stats();
            stats.balance().expect("balances");
            stats.calls.pending == 0 && stats.served.serving == 0
        })
    })
    .await;
}

#[test]
fn a_call_is_answered_by_the_actor_that_serves_the_group() {
    for config in placements() {
        run(async {
            let [a, b] = pair(&config);
            let mut at_b = desk(&b);
            let peer = a.peer(b.local_addr()).expect("usable");
            let asked = actix::spawn(peer.call(group(CALLS), "question"));
            let call = at_b.recv().await.expect("comes");
            assert_eq!(call.payload(), "question");
            assert_eq!((call.group(), call.lane()), (group(CALLS), Lane::NORMAL));
            assert_eq!(call.sender().node().get(), 1);
            assert!(!call.is_cancelled() && call.left() > Duration::from_secs(3));
            assert_eq!(a.stats().calls.pending, 1);
            call.reply("answer");
            assert_eq!(asked.await.expect("no panic"), Ok(Bytes::from("answer")));
            settled(&[a.clone(), b.clone()]).await;
            let (calls, served) = (a.stats().calls, b.stats().served);
            assert_eq!((calls.called, calls.answered), (1, 1));
            assert_eq!((served.received, served.answered), (1, 1));
            assert_eq!(b.stats().inbound.received.frames, 0, "no frame of a group");
            end([a, b]).await;
        });
    }
}

#[test]
fn many_calls_in_both_directions_get_each_its_own_answer() {
    for config in placements() {
        run(async {
            let [a, b] = pair(&config);
            echo(&a);
            echo(&b);
            let to_b = a.peer(b.local_addr()).expect("usable");
            let to_a = b.peer(a.local_addr()).expect("usable");
            let calls = (0..2_000_usize).map(|index| {
                let payload = Bytes::from(index.to_string().repeat(index % 300 * index % 7 + 1));
                let peer = [&to_b, &to_a][index % 2];
                let call = peer.call(group(CALLS), payload.clone());
                async move { (call.await, payload) }
            });
            for (answer, asked) in join_all(calls).await {
                assert_eq!(answer, Ok(asked));
            }
            settled(&[a.clone(), b.clone()]).await;
            end([a, b]).await;
        });
    }
}

#[test]
fn of_calls_that_come_together_the_first_are_answered_before_the_last_are_served() {
    run(async {
        // One read brings that many.
        const TOGETHER: u32 = 48;
        const LIMIT: Duration = Duration::from_secs(10);
        let here = Config::default().placement(Placement::Current);
        // Nobody else writes while a call is being served.
        let there = Config::default().placement(Placement::Shared { arbiters: 1 });
        let (a, b) = (node_of(here, 1), node_of(there, 2));
        let (first_is_answered, is_answered) = std::sync::mpsc::channel();
        let is_answered = Mutex::new(is_answered);
        b.serve_fn(group(CALLS), 1_000, move |call: Call| {
            if call.payload()[..] == TOGETHER.to_be_bytes() {
                let told = is_answered.lock().expect("no panic").recv_timeout(LIMIT);
                call.reply(if told.is_ok() { "after" } else { "before" });
            } else {
                call.reply("");
            }
            async {}
        })
        .expect("free");
        let peer = a.peer(b.local_addr()).expect("usable");
        let ask = |number: u32| {
            let (peer, answered) = (peer.clone(), first_is_answered.clone());
            async move {
                let call = peer.call(group(CALLS), number.to_be_bytes().to_vec());
                let answer = call.deadline(2 * LIMIT).await;
                if number == 1 {
                    answered.send(()).expect("is waited for");
                }
                answer
            }
        };
        assert_eq!(ask(0).await, Ok(Bytes::new()), "there is a link");
        // All are in the queue before this arbiter writes.
        let answers = join_all((1..=TOGETHER).map(ask)).await;
        assert_eq!(answers.last(), Some(&Ok(Bytes::from("after"))));
        end([a, b]).await;
    });
}

#[test]
fn a_handler_that_fails_or_drops_a_call_is_told_at_once() {
    for config in placements() {
        run(async {
            let [a, b] = pair(&config);
            let mut at_b = desk(&b);
            let peer = a.peer(b.local_addr()).expect("usable");
            let ask = || actix::spawn(peer.call(group(CALLS), ""));
            let (failed, dropped) = (ask(), ask());
            let long = "ä".repeat(1_000);
            at_b.recv().await.expect("comes").fail(7, long.clone());
            drop(at_b.recv().await.expect("comes"));
            let text = long[..1_024].to_owned();
            let expected = CallError::Failed { code: 7, text };
            assert_eq!(failed.await.expect("no panic"), Err(expected));
            let dropped = dropped.await.expect("no panic");
            assert_eq!(dropped, Err(CallError::Unanswered));
            let served = b.stats().served;
            assert_eq!((served.failed, served.unanswered), (1, 1));
            settled(&[a.clone(), b.clone()]).await;
            end([a, b]).await;
        });
    }
}

/// Answers, and panics when it is dropped after that.
struct PanicsOnDrop(Option<Call>);

impl Future for PanicsOnDrop {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, _: &mut std::task::Context<'_>) -> Poll<()> {
        self.0.take().expect("polled once").reply("answered");
        Poll::Ready(())
    }
}

impl Drop for PanicsOnDrop {
    fn drop(&mut self) {
        panic!("caused by this test");
    }
}

#[test]
fn a_panic_of_what_a_function_leaves_costs_nobody_anything() {
    for config in placements() {
        run(async {
            let [a, b] = pair(&config);
            b.serve_fn(group(CALLS), 1, |call: Call| PanicsOnDrop(Some(call)))
                .expect("free");
            let peer = a.peer(b.local_addr()).expect("usable");
            for _ in 0..5 {
                let answer = peer.call(group(CALLS), "").await;
                assert_eq!(answer, Ok("answered".into()));
            }
            assert_eq!(peer.stats().epoch, 1, "all on one connection");
            settled(&[a.clone(), b.clone()]).await;
            end([a, b]).await;
        });
    }
}

#[test]
fn a_panic_of_a_function_costs_its_call_only() {
    run(async {
        let [a, b] = pair(&Config::default());
        b.serve_fn(group(CALLS), 10, |call: Call| async move {
            match &call.payload()[..] {
                b"panic" => panic!("caused by this test"),
                _ => call.reply("fine"),
            }
        })
        .expect("free");
        let peer = a.peer(b.local_addr()).expect("usable");
        let panics = peer.call(group(CALLS), "panic").await;
        assert_eq!(panics, Err(CallError::Unanswered));
        assert_eq!(peer.call(group(CALLS), "go on").await, Ok("fine".into()));
        end([a, b]).await;
    });
}

#[test]
fn calls_that_nobody_serves_are_refused_at_once() {
    run(async {
        let [a, b] = pair(&Config::default());
        let peer = a.peer(b.local_addr()).expect("usable");
        let call = |index| peer.call(group(index), "");
        assert_eq!(call(1).await, Err(CallError::NoHandler));
        assert_eq!(
            peer.call(GroupId::RESERVED, "").await,
            Err(CallError::NoHandler)
        );
        echo(&b);
        assert_eq!(call(CALLS).await, Ok(Bytes::new()));
        assert!(b.unserve_calls(group(CALLS)) && !b.unserve_calls(group(CALLS)));
        assert_eq!(call(CALLS).await, Err(CallError::NoHandler));
        assert_eq!(b.stats().served.no_handler, 2);
        assert_eq!(a.stats().calls.failed.no_handler, 3);
        end([a, b]).await;
    });
}

#[test]
fn an_actor_that_ends_reports_its_calls_and_another_may_serve_them() {
    run(async {
        let [a, b] = pair(&Config::default());
        let (calls, mut at_b) = mpsc::unbounded_channel();
        let arbiter = Arbiter::new();
        let actor = Desk::start_in_arbiter(&arbiter.handle(), |_| Desk(calls)).recipient();
        b.serve_calls(group(CALLS), actor).expect("free");
        let peer = a.peer(b.local_addr()).expect("usable");
        let asked = actix::spawn(peer.call(group(CALLS), ""));
        let call = at_b.recv().await.expect("comes");
        arbiter.stop();
        until("the actor has ended", || at_b.is_closed()).await;
        drop(call);
        assert_eq!(asked.await.expect("no panic"), Err(CallError::Unanswered));
        let refused = peer.call(group(CALLS), "").await;
        assert_eq!(refused, Err(CallError::NoHandler));
        echo(&b);
        assert_eq!(peer.call(group(CALLS), "").await, Ok(Bytes::new()));
        arbiter.join().expect("no panic");
        end([a, b]).await;
    });
}

#[test]
fn a_call_that_is_too_late_in_the_queue_is_not_sent() {
    run(async {
        let a = node_of(Config::default(), 1);
        // Accepts, and says nothing.
        let mute = TcpListener::bind("127.0.0.1:0").await.expect("free port");
        let peer = a.peer(mute.local_addr().expect("bound")).expect("usable");
        let begun = Instant::now();
        let late = peer.call(group(CALLS), "").deadline(50 * MS).await;
        assert_eq!(late, Err(CallError::Deadline { sent: false }));
        assert!(begun.elapsed() >= 50 * MS);
        let zero = peer.call(group(CALLS), "").deadline(Duration::ZERO);
        assert_eq!(zero.await, Err(CallError::Deadline { sent: false }));
        assert_eq!(a.stats().calls.failed.deadline, 2);
        settled(std::slice::from_ref(&a)).await;
        end([a]).await;
    });
}

#[test]
fn a_call_that_is_too_late_at_the_other_node_is_seen_by_no_handler() {
    for config in placements() {
        run(async {
            let [a, b] = pair(&config);
            let handled = Arc::new(AtomicUsize::new(0));
            let (gate, handler) = Busy::start_with(handled.clone());
            b.serve_calls(group(CALLS), handler).expect("free");
            let peer = a.peer(b.local_addr()).expect("usable");
            // The actor is at work on the first, and does not come to the second in time.
            let first = actix::spawn(peer.call(group(CALLS), "first"));
            until("the first is with the handler", || {
                handled.load(SeqCst) == 1
            })
            .await;
            let late = peer.call(group(CALLS), "late").deadline(50 * MS).await;
            assert_eq!(late, Err(CallError::Deadline { sent: true }));
            until("its node knows", || b.stats().served.expired == 1).await;
            gate.send(()).expect("waits");
            assert_eq!(first.await.expect("no panic"), Ok("done".into()));
            assert_eq!(peer.call(group(CALLS), "last").await, Ok("done".into()));
            assert_eq!(handled.load(SeqCst), 2, "the late one was skipped");
            settled(&[a.clone(), b.clone()]).await;
            end([a, b]).await;
        });
    }
}

/// Blocks its own thread at the first call until the gate opens.
struct Busy {
    handled: Arc<AtomicUsize>,
    gate: std::sync::mpsc::Receiver<()>,
}

impl Busy {
    fn start_with(handled: Arc<AtomicUsize>) -> (std::sync::mpsc::Sender<()>, Recipient<Call>) {
        let (open, gate) = std::sync::mpsc::channel();
        let arbiter = Arbiter::new().handle();
        let actor = Busy::start_in_arbiter(&arbiter, |_| Busy { handled, gate });
        (open, actor.recipient())
    }
}

impl Actor for Busy {
    type Context = Context<Self>;
}

impl Handler<Call> for Busy {
    type Result = ();

    fn handle(&mut self, call: Call, _: &mut Context<Self>) {
        if self.handled.fetch_add(1, SeqCst) == 0 {
            self.gate.recv().expect("the test goes on");
        }
        call.reply("done");
    }
}

#[test]
fn dropping_the_future_tells_the_handler() {
    for config in placements() {
        run(async {
            let [a, b] = pair(&config);
            let mut at_b = desk(&b);
            let peer = a.peer(b.local_addr()).expect("usable");
            let asked = actix::spawn(peer.call(group(CALLS), ""));
            let call = at_b.recv().await.expect("comes");
            asked.abort();
            call.cancelled().await;
            assert!(call.is_cancelled());
            call.reply("nobody hears this");
            settled(&[a.clone(), b.clone()]).await;
            let (calls, served) = (a.stats().calls, b.stats().served);
            assert_eq!((calls.failed.cancelled, calls.stray), (1, 0));
            assert_eq!((served.cancelled, served.answered), (1, 0));
            end([a, b]).await;
        });
    }
}

#[test]
fn a_call_that_is_dropped_in_the_queue_is_not_sent_and_leaves_no_gap() {
    run(async {
        let [a, b] = pair(&Config::default());
        let mut at_b = serve(&b, [1]);
        let mut calls = desk(&b);
        // Known, and listens nowhere yet.
        let free = TcpListener::bind("127.0.0.1:0").await.expect("free port");
        let peer = a.peer(free.local_addr().expect("bound")).expect("usable");
        peer.try_send(group(1), "before").expect("room");
        for len in [10, 100_000] {
            let mut call = Box::pin(peer.call(group(CALLS), vec![0; len]));
            assert!(!is_ready(call.as_mut()).await);
            assert!(peer.stats().frames.queued.bytes > len as u64);
            drop(call);
            assert!(peer.stats().frames.queued.bytes < 1_000);
        }
        peer.try_send(group(1), "behind").expect("room");
        forward(free, b.local_addr());
        for expected in ["before", "behind"] {
            assert_eq!(at_b.next().await.payload, expected);
        }
        assert_eq!(b.stats().inbound.missing, 0);
        assert!(calls.try_recv().is_err());
        let frames = peer.stats().frames;
        assert_eq!(frames.dropped.withdrawn.frames, 2);
        assert_eq!(b.stats().served.received, 0);
        settled(&[a.clone(), b.clone()]).await;
        end([a, b]).await;
    });
}

#[test]
fn the_time_that_a_call_waits_in_the_queue_is_taken_off() {
    run(async {
        let [a, b] = pair(&Config::default());
        let mut at_b = desk(&b);
        let free = TcpListener::bind("127.0.0.1:0").await.expect("free port");
        let peer = a.peer(free.local_addr().expect("bound")).expect("usable");
        let (waits, deadline) = (200 * MS, Duration::from_secs(60));
        let asked = actix::spawn(peer.call(group(CALLS), "").deadline(deadline));
        // The node at the other end answers the `Hello` only then.
        let queued = Instant::now();
        until("it is queued", || peer.stats().frames.queued.frames == 1).await;
        while queued.elapsed() < waits {
            tokio::time::sleep(MS).await;
        }
        forward(free, b.local_addr());
        let call = at_b.recv().await.expect("comes");
        // The clock of the queue has steps of up to 10 ms.
        assert!(
            call.left() < deadline - waits + 20 * MS,
            "{:?}",
            call.left()
        );
        call.reply("");
        asked.await.expect("no panic").expect("answered");
        end([a, b]).await;
    });
}

/// Polls once.
async fn is_ready(mut call: Pin<&mut CallFuture>) -> bool {
    poll_fn(|cx| Poll::Ready(call.as_mut().poll(cx).is_ready())).await
}

/// Forwards the first connection.
fn forward(from: TcpListener, to: SocketAddr) {
    actix::spawn(async move {
        let (mut near, _) = from.accept().await.expect("comes");
        let mut far = tokio::net::TcpStream::connect(to).await.expect("listens");
        let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
    });
}

#[test]
fn a_peer_that_cannot_be_reached_is_told_when_a_dial_fails() {
    run(async {
        let a = node_of(Config::default(), 1);
        let nobody = TcpListener::bind("127.0.0.1:0").await.expect("free port");
        let addr = nobody.local_addr().expect("bound");
        drop(nobody);
        let peer = a.peer(addr).expect("usable");
        let err = peer.call(group(CALLS), "").await.expect_err("no answer");
        assert!(matches!(err, CallError::Unreachable { .. }), "{err}");
        until("it is withdrawn", || {
            peer.stats().frames.dropped.withdrawn.frames == 1
        })
        .await;
        settled(std::slice::from_ref(&a)).await;
        end([a]).await;
    });
}

#[test]
fn a_peer_that_is_killed_between_call_and_answer_loses_the_call() {
    for config in placements() {
        run(async {
            let [a, b] = pair(&config);
            let mut at_b = desk(&b);
            let peer = a.peer(b.local_addr()).expect("usable");
            let asked = actix::spawn(peer.call(group(CALLS), ""));
            let call = at_b.recv().await.expect("comes");
            b.stop(Shutdown::Now).await;
            let lost = asked.await.expect("no panic");
            assert_eq!(lost, Err(CallError::Lost { sent: true }));
            // Its node knows that nobody can be answered any more.
            call.cancelled().await;
            call.reply("too late");
            assert_eq!(b.stats().served.cancelled, 1);
            a.stop(Shutdown::Now).await;
            settled(&[a, b]).await;
        });
    }
}

#[test]
fn a_transport_that_stops_ends_its_calls() {
    for config in placements() {
        run(async {
            let [a, b] = pair(&config);
            let mut at_b = desk(&b);
            let peer = a.peer(b.local_addr()).expect("usable");
            let asked = actix::spawn(peer.call(group(CALLS), ""));
            let call = at_b.recv().await.expect("comes");
            a.stop(Shutdown::Now).await;
            let ended = asked.await.expect("no panic");
            let fits = [CallError::Stopped, CallError::Lost { sent: true }];
            assert!(fits.map(Err).contains(&ended), "{ended:?}");
            assert_eq!(peer.call(group(CALLS), "").await, Err(CallError::Stopped));
            drop(call);
            settled(&[a, b.clone()]).await;
            end([b]).await;
        });
    }
}

#[test]
fn a_forgotten_peer_ends_its_calls() {
    run(async {
        let [a, b] = pair(&Config::default());
        let mut at_b = desk(&b);
        let peer = a.peer(b.local_addr()).expect("usable");
        let asked = actix::spawn(peer.call(group(CALLS), ""));
        let call = at_b.recv().await.expect("comes");
        peer.forget();
        asked.await.expect("no panic").expect_err("forgotten");
        assert_eq!(peer.call(group(CALLS), "").await, Err(CallError::Stopped));
        drop(call);
        settled(&[a.clone(), b.clone()]).await;
        end([a, b]).await;
    });
}

#[test]
fn a_peer_without_sessions_is_a_clear_error() {
    run(async {
        let config = Config::default();
        let off = node(config.clone());
        let with = node_of(config.sessions(Sessions::Optional), 1);
        for (from, to) in [(&off, &with), (&with, &off)] {
            let peer = from.peer(to.local_addr()).expect("usable");
            let err = peer.call(group(CALLS), "").await;
            assert_eq!(err, Err(CallError::Unsupported));
        }
        assert_eq!(with.stats().calls.failed.unsupported, 1);
        settled(&[off.clone(), with.clone()]).await;
        end([off, with]).await;
    });
}

#[test]
fn calls_and_answers_may_be_longer_than_a_frame() {
    for config in placements() {
        run(async {
            let config = config.served_call_bytes(100 << 20);
            let [a, b] = pair(&config);
            echo(&b);
            let peer = a.peer(b.local_addr()).expect("usable");
            for len in [100, 64 << 10, (10 << 20) - 32, 10 << 20, 24 << 20] {
                let asked = Bytes::from_iter((0..len).map(|at| (at % 251) as u8));
                let answer = peer.call(group(CALLS), asked.clone()).await;
                assert!(answer == Ok(asked), "{len}: {:?}", answer.err());
            }
            let endless = peer.call(group(CALLS), vec![0; 300 << 20]).await;
            let what = CallPart::Call;
            assert_eq!(endless, Err(CallError::TooLarge { what }));
            settled(&[a.clone(), b.clone()]).await;
            end([a, b]).await;
        });
    }
}

#[test]
fn an_answer_that_is_too_large_is_told() {
    run(async {
        let a = node_of(Config::default().max_message(11 << 20), 1);
        let b = node_of(Config::default(), 2);
        b.serve_fn(group(CALLS), 1, |call: Call| async move {
            call.reply(vec![0; 12 << 20]);
        })
        .expect("free");
        let peer = a.peer(b.local_addr()).expect("usable");
        let what = CallPart::Answer;
        let answer = peer.call(group(CALLS), "").await;
        assert_eq!(answer, Err(CallError::TooLarge { what }));
        end([a, b]).await;
    });
}

#[test]
fn calls_in_flight_are_bounded_and_the_next_waits_or_is_refused() {
    for config in placements() {
        run(async {
            let [a, b] = pair(&config.peer_calls(2));
            let mut at_b = desk(&b);
            let peer = a.peer(b.local_addr()).expect("usable");
            let first = actix::spawn(peer.call(group(CALLS), "1"));
            let second = actix::spawn(peer.call(group(CALLS), "2"));
            let one = at_b.recv().await.expect("comes");
            let two = at_b.recv().await.expect("comes");
            let refused = peer.try_call(group(CALLS), "").await;
            assert_eq!(refused, Err(CallError::Full));
            let third = actix::spawn(peer.call(group(CALLS), "3"));
            until("it waits", || a.stats().calls.pending == 3).await;
            one.reply("");
            first.await.expect("no panic").expect("answered");
            let three = at_b.recv().await.expect("comes");
            assert_eq!(three.payload(), "3");
            for call in [two, three] {
                call.reply("");
            }
            for asked in [second, third] {
                asked.await.expect("no panic").expect("answered");
            }
            // Other lanes have rooms of their own.
            assert_eq!(a.stats().calls.failed.full, 1);
            settled(&[a.clone(), b.clone()]).await;
            end([a, b]).await;
        });
    }
}

#[test]
fn of_a_million_calls_as_many_as_may_are_in_flight_and_all_are_answered_or_refused() {
    const CALLS_MADE: u64 = 1_000_000;
    const IN_FLIGHT: u64 = 1_024;

    run(async {
        let [a, b] = pair(&Config::default());
        let mut at_b = desk(&b);
        let peer = a.peer(b.local_addr()).expect("usable");
        let mut in_flight = Vec::new();
        for _ in 0..CALLS_MADE {
            let mut call = peer.try_call(group(CALLS), "");
            match (&mut call).now_or_never() {
                None => in_flight.push(call),
                Some(ended) => assert_eq!(ended, Err(CallError::Full)),
            }
        }
        assert_eq!(in_flight.len() as u64, IN_FLIGHT);
        assert_eq!(a.stats().calls.failed.full, CALLS_MADE - IN_FLIGHT);
        for _ in 0..IN_FLIGHT {
            at_b.recv().await.expect("comes").reply("");
        }
        assert!(join_all(in_flight).await.iter().all(Result::is_ok));
        settled(&[a.clone(), b.clone()]).await;
        assert_eq!(a.stats().calls.called, CALLS_MADE);
        end([a, b]).await;
    });
}

#[test]
fn a_call_has_a_deadline_although_its_caller_sets_none() {
    run(async {
        let a = node_of(Config::default().call_deadline(50 * MS), 1);
        let mute = TcpListener::bind("127.0.0.1:0").await.expect("free port");
        let peer = a.peer(mute.local_addr().expect("bound")).expect("usable");
        let begun = Instant::now();
        let late = peer.call(group(CALLS), "").await;
        assert_eq!(late, Err(CallError::Deadline { sent: false }));
        assert!(begun.elapsed() >= 50 * MS);
        end([a]).await;
    });
}

#[test]
fn the_bytes_of_calls_in_flight_are_bounded_but_for_a_single_one() {
    run(async {
        let [a, b] = pair(&Config::default().peer_call_bytes(1_000));
        let mut at_b = desk(&b);
        let peer = a.peer(b.local_addr()).expect("usable");
        let asked = actix::spawn(peer.call(group(CALLS), vec![0; 600]));
        let call = at_b.recv().await.expect("comes");
        let full = peer.try_call(group(CALLS), vec![0; 401]).await;
        assert_eq!(full, Err(CallError::Full));
        call.reply("");
        asked.await.expect("no panic").expect("answered");
        let long = actix::spawn(peer.try_call(group(CALLS), vec![0; 5_000]));
        at_b.recv().await.expect("comes").reply("");
        long.await.expect("no panic").expect("answered");
        end([a, b]).await;
    });
}

#[test]
fn calls_in_flight_to_all_peers_together_are_bounded() {
    let [one, two] = [
        Config::default().max_calls(2),
        Config::default().max_call_bytes(20),
    ];
    for config in [one, two] {
        run(async {
            let [a, b] = pair(&config);
            let mut at_b = desk(&b);
            let peer = a.peer(b.local_addr()).expect("usable");
            let on = |lane| peer.try_call(group(CALLS), "ten bytes!").lane(lane);
            let asked = [Lane::NORMAL, Lane::CONTROL].map(|lane| actix::spawn(on(lane)));
            let mut calls = Vec::new();
            for _ in 0..2 {
                calls.push(at_b.recv().await.expect("comes"));
            }
            assert_eq!(on(Lane::BULK).await, Err(CallError::Full));
            calls.drain(..).for_each(|call| call.reply(""));
            for asked in asked {
                asked.await.expect("no panic").expect("answered");
            }
            let again = actix::spawn(on(Lane::BULK));
            at_b.recv().await.expect("comes").reply("");
            again.await.expect("no panic").expect("answered");
            end([a, b]).await;
        });
    }
}

#[test]
fn calls_being_served_are_bounded_and_others_are_refused() {
    run(async {
        let [a, b] = pair(&Config::default().served_call_bytes(10 << 10));
        let mut at_b = desk(&b);
        let peer = a.peer(b.local_addr()).expect("usable");
        let asked: Vec<_> = (0..20)
            .map(|_| actix::spawn(peer.call(group(CALLS), "")))
            .collect();
        until("all came", || b.stats().served.received == 20).await;
        let served = b.stats().served;
        assert_eq!((served.serving, served.refused), (8, 12), "four fifths");
        for _ in 0..8 {
            at_b.recv().await.expect("comes").reply("");
        }
        let mut refused = 0;
        for asked in asked {
            match asked.await.expect("no panic") {
                Ok(_) => {}
                Err(CallError::Refused) => refused += 1,
                Err(err) => panic!("{err}"),
            }
        }
        assert_eq!(refused, 12);
        settled(&[a.clone(), b.clone()]).await;
        end([a, b]).await;
    });
}

#[test]
fn a_function_serves_as_many_at_a_time_as_its_limit() {
    run(async {
        let [a, b] = pair(&Config::default());
        let most = Arc::new(AtomicUsize::new(0));
        let now = Arc::new(AtomicUsize::new(0));
        let counts = (most.clone(), now.clone());
        b.serve_fn(group(CALLS), 3, move |call: Call| {
            let (most, now) = counts.clone();
            async move {
                most.fetch_max(now.fetch_add(1, SeqCst) + 1, SeqCst);
                tokio::time::sleep(MS).await;
                now.fetch_sub(1, SeqCst);
                call.reply("");
            }
        })
        .expect("free");
        let peer = a.peer(b.local_addr()).expect("usable");
        let calls = (0..10).map(|_| peer.call(group(CALLS), ""));
        let answers = join_all(calls).await;
        let refused = answers
            .iter()
            .filter(|answer| **answer == Err(CallError::Refused));
        assert_eq!((refused.count(), most.load(SeqCst)), (7, 3));
        end([a, b]).await;
    });
}

#[test]
fn a_caller_may_be_on_any_runtime_or_none() {
    run(async {
        let [a, b] = pair(&Config::default());
        echo(&b);
        let runtime = tokio::runtime::Runtime::new().expect("threads");
        a.serve_fn_on(runtime.handle().clone(), group(CALLS), 10, |call: Call| {
            tokio::spawn(async move { call.reply("from a runtime of many threads") });
            std::future::ready(())
        })
        .expect("free");
        let to_b = a.peer(b.local_addr()).expect("usable");
        let to_a = b.peer(a.local_addr()).expect("usable");
        let plain = std::thread::spawn({
            let call = to_b.call(group(CALLS), "from a thread");
            move || futures::executor::block_on(call)
        });
        let on_runtime = runtime.spawn(to_a.call(group(CALLS), "?"));
        let never = runtime.spawn(to_b.call(group(1), "").deadline(Duration::MAX));
        until("the thread is done", || plain.is_finished()).await;
        assert_eq!(plain.join().expect("no panic"), Ok("from a thread".into()));
        let answer = on_runtime.await.expect("no panic");
        assert_eq!(answer, Ok("from a runtime of many threads".into()));
        let never = never.await.expect("no panic");
        assert_eq!(never, Err(CallError::NoHandler));
        runtime.shutdown_background();
        end([a, b]).await;
    });
}

#[test]
fn a_call_uses_the_lane_that_it_is_sent_on_and_so_does_its_answer() {
    run(async {
        let [a, b] = pair(&Config::default());
        let mut at_b = desk(&b);
        let peer = a.peer(b.local_addr()).expect("usable");
        let asked = actix::spawn(peer.call(group(CALLS), "").lane(Lane::CONTROL));
        let call = at_b.recv().await.expect("comes");
        assert_eq!(call.lane(), Lane::CONTROL);
        call.reply("");
        asked.await.expect("no panic").expect("answered");
        for transport in [&a, &b] {
            let written = |lane: Lane| {
                let lanes = transport.stats().lanes;
                lanes[usize::from(lane.get())].written.frames
            };
            // What was written may have come before it is counted.
            until("it is counted", || written(Lane::CONTROL) == 1).await;
            assert_eq!(written(Lane::NORMAL), 0);
        }
        end([a, b]).await;
    });
}

/// The frame of an answer.
fn answer(id: u64, payload: &[u8]) -> Vec<u8> {
    about_call(2, id, 0, 0, payload)
}

fn about_call(kind: u8, id: u64, target: u32, left: u64, payload: &[u8]) -> Vec<u8> {
    let head = [
        [b"atpc".as_slice(), &[kind, 0, 0, 0]].concat(),
        id.to_be_bytes().to_vec(),
        target.to_be_bytes().to_vec(),
        left.to_be_bytes().to_vec(),
        payload.to_vec(),
    ];
    wire(RESERVED, &head.concat())
}

/// A connection of a node that is made by hand, whose frames are numbered from 0 on.
async fn begun(to: &Transport, node: u64, incarnation: u64) -> Raw {
    let mut raw = Raw::welcomed(to, node, incarnation).await;
    write(&mut raw.0, &start_at(0, 0)).await;
    raw
}

#[test]
fn an_answer_counts_only_once_and_from_the_node_that_was_asked() {
    run(async {
        let [a, b] = pair(&Config::default());
        let mut at_b = desk(&b);
        let peer = a.peer(b.local_addr()).expect("usable");
        let asked = actix::spawn(peer.call(group(CALLS), ""));
        let call = at_b.recv().await.expect("comes");
        let mut stranger = begun(&a, 9, 4).await;
        write(&mut stranger.0, &answer(1, b"forged")).await;
        write(&mut stranger.0, &answer(0, b"")).await;
        write(&mut stranger.0, &answer(u64::MAX, b"")).await;
        until("they are stray", || a.stats().calls.stray == 3).await;
        assert_eq!(a.stats().calls.pending, 1);
        call.reply("true");
        assert_eq!(asked.await.expect("no panic"), Ok("true".into()));
        settled(&[a.clone(), b.clone()]).await;
        end([a, b]).await;
    });
}

#[test]
fn a_call_that_comes_twice_or_without_time_is_served_once_or_not_at_all() {
    run(async {
        let b = node_of(Config::default(), 2);
        let mut at_b = desk(&b);
        let mut raw = begun(&b, 1, 4).await;
        let second = 1_000_000;
        for (id, left) in [(5, second), (5, second), (6, 0), (7, u64::MAX)] {
            let frame = about_call(1, id, CALLS, left, b"?");
            write(&mut raw.0, &frame).await;
        }
        let (one, two) = (at_b.recv().await.expect("comes"), at_b.recv().await);
        let two = two.expect("a call of a very long time");
        assert!(two.left() > Duration::from_secs(1 << 30));
        until("all came", || b.stats().served.received == 4).await;
        let served = b.stats().served;
        assert_eq!((served.refused, served.expired, served.serving), (1, 1, 2));
        // Nobody else can cancel it, and its own node can.
        let mut stranger = begun(&b, 9, 4).await;
        write(&mut stranger.0, &about_call(5, 7, 0, 0, b"")).await;
        write(&mut stranger.0, &about_call(99, 7, 0, 0, b"")).await;
        write(&mut stranger.0, &wire(RESERVED, b"atpc\x01")).await;
        write(&mut stranger.0, &about_call(1, 1, CALLS, second, b"!")).await;
        assert_eq!(at_b.recv().await.expect("comes").payload(), "!");
        assert!(!two.is_cancelled());
        write(&mut raw.0, &about_call(5, 7, 0, 0, b"")).await;
        two.cancelled().await;
        one.reply("");
        until("all have ended", || b.stats().served.serving == 0).await;
        b.stats().balance().expect("balances");
        end([b]).await;
    });
}

#[test]
fn a_call_before_the_start_of_the_frames_ends_the_connection() {
    run(async {
        let b = node_of(Config::default(), 2);
        let mut raw = Raw::welcomed(&b, 1, 4).await;
        write(&mut raw.0, &about_call(1, 1, CALLS, 1_000, b"")).await;
        expect_close(raw.0).await;
        end([b]).await;
    });
}

#[test]
fn a_caller_that_restarts_gets_no_answer_to_a_call_of_its_former_life() {
    for config in placements() {
        run(async {
            let b = node_of(config.clone(), 2);
            let mut at_b = desk(&b);
            let life = |incarnation| {
                let builder = Transport::builder().config(config.clone());
                let identity = identity(1).incarnation(incarnation);
                builder
                    .identity(identity)
                    .bind("127.0.0.1:0")
                    .expect("free")
            };
            let before = life(1);
            let ask = |from: &Transport| {
                let peer = from.peer(b.local_addr()).expect("usable");
                actix::spawn(peer.call(group(CALLS), ""))
            };
            let lost = ask(&before);
            let of_former_life = at_b.recv().await.expect("comes");
            before.stop(Shutdown::Now).await;
            lost.await.expect("no panic").expect_err("stopped");
            let after = life(2);
            let asked = ask(&after);
            let call = at_b.recv().await.expect("comes");
            of_former_life.reply("to the former life");
            call.reply("to this one");
            assert_eq!(asked.await.expect("no panic"), Ok("to this one".into()));
            settled(&[after.clone(), b.clone()]).await;
            end([after, b]).await;
        });
    }
}

#[test]
fn a_node_that_stops_ends_the_calls_that_it_serves() {
    for config in placements() {
        run(async {
            let [a, b] = pair(&config);
            let mut at_b = desk(&b);
            let peer = a.peer(b.local_addr()).expect("usable");
            let asked = actix::spawn(peer.call(group(CALLS), "").deadline(Duration::MAX));
            let call = at_b.recv().await.expect("comes");
            b.stop(Shutdown::Now).await;
            call.cancelled().await;
            drop(call);
            asked.await.expect("no panic").expect_err("stopped");
            let served = b.stats().served;
            assert_eq!((served.cancelled, served.serving), (1, 0));
            end([a]).await;
        });
    }
}

#[test]
fn answers_that_wait_for_room_are_bounded() {
    run(async {
        let config = Config::default()
            .queue_frames(1)
            .served_call_bytes(20 << 20);
        let b = node_of(config, 2);
        let mut at_b = desk(&b);
        // Reads nothing that comes later.
        let mut raw = begun(&b, 1, 4).await;
        let mut calls = Vec::new();
        for id in 0..3 {
            let frame = about_call(1, id, CALLS, 60_000_000, b"");
            write(&mut raw.0, &frame).await;
            calls.push(at_b.recv().await.expect("comes"));
        }
        // More than the systems of both ends hold. The first fills the queue, the second may wait, and the third has
        // no room to wait in.
        for (call, lost) in calls.into_iter().zip([0, 0, 1]) {
            call.reply(vec![0; 9 << 20]);
            assert_eq!(b.stats().served.lost_answers, lost);
        }
        assert_eq!(b.stats().served.answered, 3);
        b.stats().balance().expect("balances");
        end([b]).await;
    });
}

#[test]
fn nothing_is_said_of_a_long_answer_that_is_too_late() {
    run(async {
        let b = node_of(Config::default().max_frame(64 << 10), 2);
        let mut at_b = desk(&b);
        // Answers wait for a connection that nobody makes.
        let mut raw = begun(&b, 1, 4).await;
        write(&mut raw.0, &about_call(1, 1, CALLS, 500_000, b"")).await;
        let call = at_b.recv().await.expect("comes");
        call.reply(vec![0; 1 << 20]);
        until("it is lost", || b.stats().served.lost_answers == 1).await;
        // The caller knows that the time is over.
        assert_eq!(b.stats().tcp.queued.frames, 0);
        end([b]).await;
    });
}

#[test]
fn an_answer_that_waits_when_its_node_stops_counts_as_lost() {
    for config in placements() {
        run(async {
            let b = node_of(config.max_frame(64 << 10), 2);
            let mut at_b = desk(&b);
            // Answers wait for a connection that nobody makes.
            let mut raw = begun(&b, 1, 4).await;
            write(&mut raw.0, &about_call(1, 1, CALLS, 60_000_000, b"")).await;
            let call = at_b.recv().await.expect("comes");
            call.reply(vec![0; 1 << 20]);
            b.stop(Shutdown::Now).await;
            let served = b.stats().served;
            assert_eq!((served.answered, served.lost_answers), (1, 1));
        });
    }
}

#[test]
fn a_node_may_call_itself() {
    for config in placements() {
        run(async {
            for _ in 0..20 {
                let a = node_of(config.clone(), 1);
                echo(&a);
                let me = a.peer(a.local_addr()).expect("usable");
                for _ in 0..5 {
                    let answer = me.call(group(CALLS), "mirror").await;
                    assert_eq!(answer, Ok("mirror".into()));
                }
                end([a]).await;
            }
        });
    }
}

#[test]
fn a_caller_that_goes_away_at_any_moment_leaves_nothing_behind() {
    for config in placements() {
        run(async {
            let [a, b] = pair(&config.peer_calls(3));
            echo(&b);
            let peer = a.peer(b.local_addr()).expect("usable");
            peer.call(group(CALLS), "").await.expect("a link");
            for polls in 0..40_u32 {
                let calls = (0..5).map(|_| {
                    let mut call = Box::pin(peer.call(group(CALLS), "?"));
                    async move {
                        for _ in 0..polls {
                            if is_ready(call.as_mut()).await {
                                break;
                            }
                            tokio::task::yield_now().await;
                        }
                    }
                });
                join_all(calls).await;
            }
            settled(&[a.clone(), b.clone()]).await;
            assert_eq!(peer.call(group(CALLS), "!").await, Ok("!".into()));
            let (calls, served) = (a.stats().calls, b.stats().served);
            assert_eq!(calls.answered + calls.failed.cancelled, calls.called);
            assert!(served.received <= calls.called);
            end([a, b]).await;
        });
    }
}
