//! The send queue under loom: every order in which threads can take its lock and wake each other, up
//! to a number of preemptions. A lost wake-up is a deadlock, which loom finds.
//!
//! ```sh
//! cargo run --bin loom           # 2 preemptions, seconds
//! cargo run --bin loom -- long   # 3
//! cargo run --bin loom -- gate wakes
//! ```

#![allow(dead_code, reason = "the queue needs only a part of these sources")]
#![allow(
    unused_imports,
    unexpected_cfgs,
    reason = "the sources are those of another crate"
)]

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Waker},
    time::{Duration, Instant},
};

use loom::{
    future::block_on,
    thread::{self, JoinHandle},
};

use bytes::Bytes;

use crate::{
    call_error::CallError,
    calls::{
        deadlines::LATEST,
        pending::{CallLane, CallPeer, PendingCalls, Ticket},
        queued_call::QueuedCall,
    },
    check::{GROUP, STALE_AFTER, at, bytes_of, limits, payloads, snapshot},
    config::Overflow,
    ids::{Incarnation, NodeId},
    send::queue::{SendQueue, Terms},
    wire::call::CallFrame,
};

include!("mechanism.rs");

pub use loom::sync::MutexGuard;

/// The lock that the queue takes.
pub struct Mutex<T>(loom::sync::Mutex<T>);

impl<T> Mutex<T> {
    pub fn new(value: T) -> Self {
        Mutex(loom::sync::Mutex::new(value))
    }

    pub fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().expect("nobody panics with it")
    }
}

const MODELS: &[(&str, fn())] = &[
    ("wakes", two_push_and_one_writes),
    ("drains", two_push_one_writes_and_one_waits_for_the_end),
    ("closes", two_push_one_loses_its_links_and_one_closes),
    ("evicts", two_push_the_others_out_while_one_writes),
    ("waits", two_wait_for_room_and_one_writes),
    ("ends", two_wait_for_room_that_only_the_end_makes),
    ("expires", one_waits_for_room_that_only_time_makes),
    ("unpolled", one_of_two_who_wait_is_never_polled_again),
    (
        "gives-up",
        one_of_two_who_wait_gives_up_its_place_or_its_room,
    ),
    (
        "granted",
        two_wait_and_one_is_refused_though_it_was_granted_room,
    ),
    ("replaces", two_replace_the_same_frame_while_one_writes),
    ("calls", one_gives_a_call_up_while_one_writes_it),
    ("answers", one_waits_for_an_answer_while_its_link_ends),
    (
        "rehangs",
        a_sender_writes_its_own_frame_and_rehangs_the_doorbell,
    ),
];

fn main() {
    let words: Vec<_> = std::env::args().skip(1).collect();
    let long = words.iter().any(|word| word == "long");
    let named = |name: &str| words.iter().any(|word| word == name);
    let all = !MODELS.iter().any(|(name, _)| named(name));
    for (name, model) in MODELS.iter().filter(|(name, _)| all || named(name)) {
        let executions = Arc::new(AtomicUsize::new(0));
        let began = Instant::now();
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(if long { 3 } else { 2 });
        builder.max_branches = 10_000;
        let count = executions.clone();
        builder.check(move || {
            count.fetch_add(1, Relaxed);
            model();
        });
        let (executions, took) = (executions.load(Relaxed), began.elapsed());
        println!("ok  {name:<8} {executions:>8} executions  {took:.1?}");
    }
}

fn queue(frames: usize, overflow: Overflow) -> Arc<SendQueue> {
    Arc::new(SendQueue::new(limits(frames, overflow)))
}

fn push(queue: &SendQueue, payload: &[u8]) -> bool {
    // The doorbell rings here, with the lock released.
    let pushed = queue.push((), GROUP, payload, at(0)).map(drop).is_ok();
    snapshot(queue);
    pushed
}

/// Waits for room; returns whether the frame was accepted.
fn push_wait(queue: &SendQueue, payload: &'static [u8]) -> bool {
    let pushed = block_on(queue.push_wait((), GROUP, payload, || at(0)));
    pushed.map(drop).is_ok()
}

async fn ready(queue: &SendQueue) {
    poll_fn(|cx| queue.poll_ready(cx)).await;
}

/// Takes what there is and writes it in two parts. Returns what was written.
fn write(queue: &Arc<SendQueue>) -> Vec<Vec<u8>> {
    let Some(mut batch) = queue.take(at(0)).batch else {
        return Vec::new();
    };
    let wire = bytes_of(&batch);
    batch.advance(1);
    snapshot(queue);
    batch.advance(wire.len() - 1);
    payloads(&wire)
}

/// Writes until nothing is queued and nothing can come.
fn write_all(queue: &Arc<SendQueue>) -> Vec<Vec<u8>> {
    let mut written = Vec::new();
    while !queue.is_done() {
        block_on(ready(queue));
        written.append(&mut write(queue));
    }
    written
}

/// Starts a thread that pushes these and returns how many were accepted.
fn pushes(queue: &Arc<SendQueue>, payloads: &'static [&'static [u8]]) -> JoinHandle<u64> {
    let queue = queue.clone();
    thread::spawn(move || {
        let taken = payloads.iter().filter(|payload| push(&queue, payload));
        taken.count() as u64
    })
}

fn joined<T>(thread: JoinHandle<T>) -> T {
    thread.join().expect("no panic")
}

fn two_push_and_one_writes() {
    let queue = queue(8, Overflow::RejectNewest);
    let producers = [pushes(&queue, &[b"a1", b"a2"]), pushes(&queue, &[b"b"])];
    let mut written = Vec::new();
    while written.len() < 3 {
        block_on(ready(&queue));
        written.append(&mut write(&queue));
    }
    let place = |payload: &[u8]| written.iter().position(|written| written == payload);
    assert!(place(b"a1").expect("written") < place(b"a2").expect("written"));
    assert!(place(b"b").is_some());
    assert_eq!(producers.map(joined), [2, 1]);
    assert_eq!(snapshot(&queue).written.frames, 3);
}

fn two_push_one_writes_and_one_waits_for_the_end() {
    let queue = queue(8, Overflow::RejectNewest);
    let producers = [pushes(&queue, &[b"a1", b"a2"]), pushes(&queue, &[b"b"])];
    let writer = thread::spawn({
        let queue = queue.clone();
        move || write_all(&queue).len() as u64
    });
    queue.seal();
    block_on(queue.drained());
    let pushed: u64 = producers.map(joined).iter().sum();
    assert_eq!(joined(writer), pushed);
    let stats = snapshot(&queue);
    assert_eq!(stats.written, stats.accepted);
    assert_eq!(stats.rejected.stopped.frames, 3 - pushed);
}

fn two_push_one_loses_its_links_and_one_closes() {
    let queue = queue(8, Overflow::RejectNewest);
    let producers = [pushes(&queue, &[b"a1", b"a2"]), pushes(&queue, &[b"b"])];
    let writer = thread::spawn({
        let queue = queue.clone();
        move || {
            while !queue.is_done() {
                block_on(ready(&queue));
                // The kernel takes one frame and a part of the next, and then the link is lost.
                if let Some(mut batch) = queue.take(at(0)).batch {
                    batch.advance(bytes_of(&batch).len().min(12));
                    snapshot(&queue);
                }
            }
        }
    });
    queue.close();
    let pushed: u64 = producers.map(joined).iter().sum();
    joined(writer);
    let stats = snapshot(&queue);
    assert_eq!(stats.accepted.frames, pushed);
    assert_eq!(stats.written + stats.dropped.stopped, stats.accepted);
}

fn two_push_the_others_out_while_one_writes() {
    let queue = queue(2, Overflow::DropOldest);
    let producers = [
        pushes(&queue, &[b"a1", b"a2"]),
        pushes(&queue, &[b"b1", b"b2"]),
    ];
    // Takes and gives back, then takes and writes.
    block_on(ready(&queue));
    drop(queue.take(at(0)).batch);
    let written = write(&queue).len() as u64;
    let pushed: u64 = producers.map(joined).iter().sum();
    let stats = snapshot(&queue);
    assert_eq!((stats.offered.frames, stats.accepted.frames), (4, pushed));
    assert_eq!(stats.written.frames, written);
    assert_eq!(
        stats.written + stats.dropped.overflow + stats.queued,
        stats.accepted
    );
}

fn two_replace_the_same_frame_while_one_writes() {
    let queue = queue(2, Overflow::RejectNewest);
    let producers = [[b"a1", b"a2"], [b"b1", b"b2"]].map(|payloads| {
        let queue = queue.clone();
        thread::spawn(move || {
            for payload in payloads {
                let terms = Terms {
                    key: Some((GROUP, 7)),
                    ..Terms::default()
                };
                let pushed = queue.push_apart((), (GROUP, payload), terms, at(0));
                assert!(pushed.map(drop).is_ok(), "the older one gives its room");
                snapshot(&queue);
            }
        })
    });
    // Takes and gives back, then takes and writes.
    block_on(ready(&queue));
    drop(queue.take(at(0)).batch);
    snapshot(&queue);
    let mut written = write(&queue);
    producers.into_iter().for_each(joined);
    written.append(&mut write(&queue));
    let stats = snapshot(&queue);
    assert_eq!(stats.accepted.frames, 4);
    assert_eq!(stats.written + stats.dropped.replaced, stats.accepted);
    assert_eq!(stats.written.frames as usize, written.len());
    for producer in [b'a', b'b'] {
        let mut last = 0;
        for payload in written.iter().filter(|payload| payload[0] == producer) {
            assert!(payload[1] > last, "{written:?}");
            last = payload[1];
        }
    }
}

fn two_wait_for_room_and_one_writes() {
    let queue = queue(1, Overflow::RejectNewest);
    let producers = [b"a", b"b"].map(|payload| {
        let queue = queue.clone();
        thread::spawn(move || {
            assert!(push_wait(&queue, payload));
            snapshot(&queue);
        })
    });
    let mut written = Vec::new();
    while written.len() < 2 {
        block_on(ready(&queue));
        written.append(&mut write(&queue));
    }
    producers.into_iter().for_each(joined);
    let stats = snapshot(&queue);
    assert_eq!((stats.written.frames, stats.offered.frames), (2, 2));
}

fn two_wait_for_room_that_only_the_end_makes() {
    let queue = queue(1, Overflow::RejectNewest);
    assert!(push(&queue, b"stuck"));
    let waiting = [b"a", b"b"].map(|payload| {
        let queue = queue.clone();
        thread::spawn(move || push_wait(&queue, payload))
    });
    queue.close();
    assert_eq!(waiting.map(joined), [false, false]);
    let stats = snapshot(&queue);
    assert_eq!(
        (stats.dropped.stopped.frames, stats.rejected.stopped.frames),
        (1, 2)
    );
}

fn one_waits_for_room_that_only_time_makes() {
    let queue = queue(1, Overflow::RejectNewest);
    assert!(push(&queue, b"old"));
    let waiting = thread::spawn({
        let queue = queue.clone();
        move || push_wait(&queue, b"new")
    });
    assert_eq!(queue.expire(at(STALE_AFTER)).stale.frames, 1);
    assert!(joined(waiting), "there is room");
    let stats = snapshot(&queue);
    assert_eq!((stats.dropped.stale.frames, stats.queued.frames), (1, 1));
}

type Unpolled = Pin<Box<dyn Future<Output = bool>>>;

/// Starts a send that finds the queue full and is not polled again.
fn unpolled(queue: &Arc<SendQueue>, payload: &'static [u8]) -> Unpolled {
    let queue = queue.clone();
    let mut waiting: Unpolled = Box::pin(async move {
        let pushed = queue.push_wait((), GROUP, payload, || at(0)).await;
        pushed.map(drop).is_ok()
    });
    let mut cx = Context::from_waker(Waker::noop());
    assert!(waiting.as_mut().poll(&mut cx).is_pending());
    waiting
}

fn one_of_two_who_wait_is_never_polled_again() {
    let queue = queue(2, Overflow::RejectNewest);
    assert!(push(&queue, b"1") && push(&queue, b"2"));
    let first = unpolled(&queue, b"never");
    let second = thread::spawn({
        let queue = queue.clone();
        move || push_wait(&queue, b"3")
    });
    assert_eq!(write(&queue).len(), 2);
    assert!(joined(second), "the first holds the room of one frame");
    assert!(!push(&queue, b"4"), "which is reserved for it");
    drop(first);
    assert!(push(&queue, b"4"));
    assert_eq!(snapshot(&queue).queued.frames, 2);
}

fn one_of_two_who_wait_gives_up_its_place_or_its_room() {
    let queue = queue(1, Overflow::RejectNewest);
    assert!(push(&queue, b"1"));
    let first = unpolled(&queue, b"never");
    let second = thread::spawn({
        let queue = queue.clone();
        move || push_wait(&queue, b"2")
    });
    let writer = thread::spawn({
        let queue = queue.clone();
        move || assert_eq!(write(&queue).len(), 1)
    });
    // Before the writer has made room, or after that room was granted to the first.
    drop(first);
    joined(writer);
    assert!(joined(second), "the room comes to the second");
    let stats = snapshot(&queue);
    assert_eq!((stats.offered.frames, stats.queued.frames), (2, 1));
}

fn two_wait_and_one_is_refused_though_it_was_granted_room() {
    let queue = queue(1, Overflow::RejectNewest);
    assert!(push(&queue, b"1"));
    let waiting = [b"a", b"b"].map(|payload| {
        let queue = queue.clone();
        thread::spawn(move || push_wait(&queue, payload))
    });
    assert_eq!(write(&queue).len(), 1);
    queue.seal();
    let pushed = waiting.map(joined);
    let pushed = pushed.into_iter().filter(|pushed| *pushed).count() as u64;
    let stats = snapshot(&queue);
    assert_eq!((stats.queued.frames, pushed), (pushed, pushed.min(1)));
    assert_eq!(stats.rejected.stopped.frames, 2 - pushed);
}

/// What is at the far end of the link.
const FAR: CallPeer = CallPeer {
    node: NodeId::new(2),
    incarnation: Incarnation::new(1),
};

/// Queues a call.
fn call(queue: &SendQueue, calls: &Arc<PendingCalls>) -> Ticket {
    let now = net::time::now();
    let ticket = calls.begin(CallLane(1), now, now + LATEST, Waker::noop());
    let ticket = ticket.expect("not stopped");
    let left = LATEST;
    let head = CallFrame::Call { group: GROUP, left }.encode(ticket.id);
    let terms = Terms {
        call: Some(QueuedCall::new(calls.clone(), ticket.id, now + LATEST)),
        ..Terms::default()
    };
    let pushed = queue.push_apart((), (GROUP, (head, Bytes::new())), terms, at(0));
    assert!(pushed.map(drop).is_ok(), "there is room");
    ticket
}

/// Takes a frame and writes it. Returns whether it was a call.
fn write_call(queue: &Arc<SendQueue>) -> bool {
    let Some(mut batch) = queue.take(at(0)).batch else {
        panic!("a call or what took its place");
    };
    let wire = bytes_of(&batch);
    batch.advance(wire.len());
    snapshot(queue);
    let says = wire::call::read(&wire).expect("about a call").says;
    matches!(says, CallFrame::Call { .. })
}

fn queue_and_calls() -> (Arc<SendQueue>, Arc<PendingCalls>) {
    let queue = queue(2, Overflow::RejectNewest);
    queue.link_begins(None, Some(FAR));
    (queue, PendingCalls::new(100, 0))
}

fn one_gives_a_call_up_while_one_writes_it() {
    let (queue, calls) = queue_and_calls();
    let mut ticket = call(&queue, &calls);
    let writer = thread::spawn({
        let queue = queue.clone();
        move || {
            // The first link takes nothing.
            drop(queue.take(at(0)).batch);
            snapshot(&queue);
            write_call(&queue)
        }
    });
    let id = ticket.id;
    let was_sent = ticket.give_up();
    if !was_sent {
        queue.withdraw(id);
        snapshot(&queue);
    }
    let written = joined(writer);
    assert!(was_sent || !written, "given up before it was sent");
    let stats = snapshot(&queue);
    assert_eq!(stats.written.frames, 1);
    assert_eq!(stats.dropped.withdrawn.frames, u64::from(!written));
    let calls = calls.stats();
    assert_eq!((calls.pending, calls.failed.cancelled), (0, 1));
}

fn one_waits_for_an_answer_while_its_link_ends() {
    let (queue, calls) = queue_and_calls();
    let mut ticket = call(&queue, &calls);
    let id = ticket.id;
    let writer = thread::spawn({
        let (queue, calls) = (queue.clone(), calls.clone());
        move || {
            let written = write_call(&queue);
            if written {
                calls.answer(id, FAR, Ok(Bytes::from_static(b"yes")));
            }
            written
        }
    });
    let link = thread::spawn({
        let calls = calls.clone();
        move || {
            calls.link_ended(CallLane(1), 1);
            calls.unreachable(CallLane(1), Duration::ZERO);
        }
    });
    let ended = block_on(poll_fn(|cx| ticket.poll_ended(cx)));
    let written = joined(writer);
    joined(link);
    match ended {
        Ok(_) | Err(CallError::Lost { sent: true }) => assert!(written),
        Err(CallError::Unreachable { .. }) => assert!(!written, "said that it was not sent"),
        Err(err) => panic!("{err}"),
    }
    let stats = calls.stats();
    assert_eq!((stats.pending, stats.called), (0, 1));
    assert_eq!(stats.answered + stats.failed.total(), 1);
}

fn a_sender_writes_its_own_frame_and_rehangs_the_doorbell() {
    let queue = queue(8, Overflow::RejectNewest);
    let sender = thread::spawn({
        let queue = queue.clone();
        move || {
            let pushed = queue.push((), GROUP, b"a", at(0));
            let Ok(doorbell) = pushed else {
                panic!("there is room");
            };
            if doorbell.is_silent() {
                return 0;
            }
            let written = write(&queue).len();
            // Wakes the writer if the other sender has left something.
            drop(queue.rehang(doorbell));
            written
        }
    });
    let other = pushes(&queue, &[b"b"]);
    // If it is not woken for what is left, loom finds a deadlock: the end, which would wake it too,
    // comes only when nothing is left.
    let writer = thread::spawn({
        let queue = queue.clone();
        move || write_all(&queue).len()
    });
    assert_eq!(joined(other), 1);
    let written = joined(sender);
    block_on(queue.drained());
    queue.seal();
    assert_eq!(written + joined(writer), 2);
    assert_eq!(snapshot(&queue).written.frames, 2);
}
