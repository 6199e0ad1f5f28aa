//! The send queue under loom: every order in which threads can take its lock and wake each other,
//! up to a number of preemptions. A lost wake-up shows as a deadlock, which loom reports.
//!
//! ```sh
//! cargo run --bin loom           # 2 preemptions, seconds
//! cargo run --bin loom -- long   # 3
//! cargo run --bin loom -- gate wakes
//! ```

#![allow(dead_code, reason = "of what the queue rests on it needs only a part")]
#![allow(
    unused_imports,
    unexpected_cfgs,
    reason = "the sources are those of another crate"
)]

use std::{
    future::poll_fn,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Instant,
};

use loom::{
    future::block_on,
    thread::{self, JoinHandle},
};

use crate::{
    check::{GROUP, STALE_AFTER, at, bytes_of, limits, payloads, snapshot},
    config::Overflow,
    send::queue::SendQueue,
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
    let pushed = queue.push((), GROUP, payload, at(0)).is_ok();
    snapshot(queue);
    pushed
}

async fn ready(queue: &SendQueue) {
    poll_fn(|cx| queue.poll_ready(cx)).await;
}

/// Takes a batch and writes it in two parts. Returns the payloads that were written.
fn write(queue: &Arc<SendQueue>) -> Vec<Vec<u8>> {
    let Some(mut batch) = queue.take(at(0)) else {
        return Vec::new();
    };
    let wire = bytes_of(&batch);
    batch.advance(1);
    snapshot(queue);
    batch.advance(wire.len() - 1);
    payloads(&wire)
}

/// Writes until the queue is done.
fn write_all(queue: &Arc<SendQueue>) -> Vec<Vec<u8>> {
    let mut written = Vec::new();
    while !queue.is_done() {
        block_on(ready(queue));
        written.append(&mut write(queue));
    }
    written
}

/// Starts a thread that pushes these payloads and returns how many were accepted.
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
                // The kernel takes at most 12 bytes, one frame and a part of the next, and then the
                // link is lost.
                if let Some(mut batch) = queue.take(at(0)) {
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
    // Takes a batch and gives it back unwritten, then takes again and writes.
    block_on(ready(&queue));
    drop(queue.take(at(0)));
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

fn two_wait_for_room_and_one_writes() {
    let queue = queue(1, Overflow::RejectNewest);
    let producers = [b"a", b"b"].map(|payload| {
        let queue = queue.clone();
        thread::spawn(move || {
            let pushed = block_on(queue.push_wait((), GROUP, payload, || at(0)));
            pushed.expect("room in the end");
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
        thread::spawn(move || block_on(queue.push_wait((), GROUP, payload, || at(0))).is_err())
    });
    queue.close();
    assert_eq!(waiting.map(joined), [true, true]);
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
        move || block_on(queue.push_wait((), GROUP, b"new", || at(STALE_AFTER)))
    });
    queue.expire(at(STALE_AFTER));
    joined(waiting).expect("room");
    let stats = snapshot(&queue);
    assert_eq!((stats.dropped.stale.frames, stats.queued.frames), (1, 1));
}
