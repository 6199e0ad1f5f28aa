//! The send queue and its writer under shuttle: very many orders of a larger program, chosen at
//! random. Four threads push, one frame or several together, wait for room, or give up waiting; some frames replace
//! the one with the same key, and some have an age limit of their own. One writes to a kernel that takes any
//! part of what it is given, loses links, and is replaced by another thread midway. Every snapshot must
//! balance, and each frame arrives once, in order.
//!
//! ```sh
//! cargo run --release --bin shuttle                 # 10,000 schedules
//! cargo run --release --bin shuttle -- 1000000
//! ```
//!
//! A failure is printed with its schedule, which `shuttle::replay` plays again.

#![allow(dead_code, reason = "the queue needs only a part of these sources")]
#![allow(
    unused_imports,
    unexpected_cfgs,
    reason = "the sources are those of another crate"
)]

use std::{
    collections::HashMap,
    future::{Future, poll_fn},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use ::shuttle::{
    Config as Shuttle, Runner,
    future::block_on,
    rand::{Rng, thread_rng},
    scheduler::{PctScheduler, RandomScheduler},
    thread,
};

use crate::{
    check::{GROUP, STALE_AFTER, at, bytes_of, limits, payloads, snapshot},
    config::Overflow,
    net::clock::CoarseInstant,
    send::queue::{LARGE_FROM, SendQueue, Staged, Terms, WhenFull},
};

include!("mechanism.rs");

pub use ::shuttle::sync::MutexGuard;

/// The lock that the queue takes.
pub struct Mutex<T>(::shuttle::sync::Mutex<T>);

impl<T> Mutex<T> {
    pub fn new(value: T) -> Self {
        Mutex(::shuttle::sync::Mutex::new(value))
    }

    pub fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().expect("nobody panics with it")
    }
}

const PRODUCERS: u8 = 4;

/// Frames that the queue may hold.
const ROOM: usize = 5;

/// Added to the producer in frames that replace each other.
const KEYED: u8 = 100;

/// Frames of each producer.
const FRAMES: u8 = 6;

fn main() {
    let schedules = std::env::args().nth(1);
    let schedules = schedules.map_or(10_000, |number| number.parse().expect("how many schedules"));
    let began = Instant::now();
    let totals = Arc::new(Totals::default());
    let model = |overflow| {
        let totals = totals.clone();
        move || one_execution(overflow, &totals)
    };
    let config = || {
        let mut config = Shuttle::new();
        config.stack_size = 1 << 18;
        config
    };
    // Half of the schedules are random at every step, half change priorities at a few random points.
    for overflow in [Overflow::RejectNewest, Overflow::DropOldest] {
        let random = RandomScheduler::new(schedules / 4);
        Runner::new(random, config()).run(model(overflow));
        let few_changes = PctScheduler::new(3, schedules / 4);
        Runner::new(few_changes, config()).run(model(overflow));
    }
    let took = began.elapsed();
    println!("ok  {schedules} schedules  {totals}  {took:.1?}");
    assert!(
        totals.are_all(),
        "something never happened, so it was not tested"
    );
}

/// What all executions did together. It shows that each thing happened at all.
#[derive(Default)]
struct Totals {
    written: AtomicU64,
    stale: AtomicU64,
    overflow: AtomicU64,
    replaced: AtomicU64,
    rejected: AtomicU64,
    given_up: AtomicU64,
    bursts_cut: AtomicU64,
    links: AtomicU64,
    snapshots: AtomicU64,
}

impl Totals {
    fn are_all(&self) -> bool {
        let all = [
            &self.written,
            &self.stale,
            &self.overflow,
            &self.replaced,
            &self.rejected,
            &self.given_up,
            &self.bursts_cut,
            &self.links,
            &self.snapshots,
        ];
        all.iter().all(|number| number.load(Relaxed) > 0)
    }
}

impl std::fmt::Display for Totals {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let read = |number: &AtomicU64| number.load(Relaxed);
        write!(
            f,
            "{} written, {} stale, {} evicted, {} replaced, {} refused, {} given up, {} bursts cut, {} links, {} snapshots",
            read(&self.written),
            read(&self.stale),
            read(&self.overflow),
            read(&self.replaced),
            read(&self.rejected),
            read(&self.given_up),
            read(&self.bursts_cut),
            read(&self.links),
            read(&self.snapshots),
        )
    }
}

fn one_execution(overflow: Overflow, totals: &Arc<Totals>) {
    let queue = Arc::new(SendQueue::new(limits(ROOM, overflow)));
    let clock = Arc::new(AtomicU64::new(0));
    let producers: Vec<_> = (0..PRODUCERS)
        .map(|producer| {
            let (queue, clock, totals) = (queue.clone(), clock.clone(), totals.clone());
            thread::spawn(move || produce(producer, &queue, &clock, &totals))
        })
        .collect();
    let watcher = thread::spawn({
        let (queue, totals) = (queue.clone(), totals.clone());
        move || {
            for _ in 0..10 {
                let stats = snapshot(&queue);
                let held = stats.queued + stats.in_flight;
                assert!(held.frames <= ROOM as u64, "{held} are held");
                totals.snapshots.fetch_add(1, Relaxed);
                thread::yield_now();
            }
        }
    });
    let writer = thread::spawn({
        let (queue, clock, totals) = (queue.clone(), clock.clone(), totals.clone());
        move || {
            let first_life = thread_rng().gen_range(0..8);
            let mut kernel = Kernel::default();
            kernel.write(&queue, &clock, Some(first_life));
            // Its batch went back to the queue, and another thread goes on.
            let next = thread::spawn(move || {
                kernel.write(&queue, &clock, None);
                kernel
            });
            let kernel = next.join().expect("no panic");
            totals.links.fetch_add(kernel.links, Relaxed);
            kernel
        }
    });
    let pushed: u64 = producers
        .into_iter()
        .map(|producer| producer.join().expect("no panic"))
        .sum();
    queue.seal();
    block_on(queue.drained());
    let kernel = writer.join().expect("no panic");
    watcher.join().expect("no panic");
    queue.close();
    let stats = snapshot(&queue);
    assert_eq!(stats.accepted.frames, pushed);
    assert_eq!(stats.written.frames, kernel.received);
    assert_eq!(
        stats.written + stats.dropped.stale + stats.dropped.overflow + stats.dropped.replaced,
        stats.accepted
    );
    for (total, frames) in [
        (&totals.written, stats.written),
        (&totals.stale, stats.dropped.stale),
        (&totals.overflow, stats.dropped.overflow),
        (&totals.replaced, stats.dropped.replaced),
        (&totals.rejected, stats.rejected.total()),
    ] {
        total.fetch_add(frames.frames, Relaxed);
    }
}

/// Pushes frames, alone and together, with and without waiting for room. Returns how many were accepted.
fn produce(producer: u8, queue: &SendQueue, clock: &AtomicU64, totals: &Totals) -> u64 {
    let mut pushed = 0;
    // A send that waits, and is not polled again before the end.
    let mut unpolled = None;
    let mut number = 0;
    while number < FRAMES {
        let now = || at(clock.load(Relaxed));
        let mut next = || {
            number += 1;
            payload(producer, number)
        };
        match thread_rng().gen_range(0..11) {
            0..3 => {
                let accepted = queue.push((), GROUP, next(), now()).map(drop).is_ok();
                pushed += u64::from(accepted);
            }
            3..5 => {
                let waiting = queue.push_wait((), GROUP, next(), now);
                pushed += u64::from(block_on(waiting).map(drop).is_ok());
            }
            5..7 => pushed += push_burst([next(), next(), next()], queue, now, totals),
            7 => {
                let mut waiting = Box::pin(queue.push_wait((), GROUP, next(), now));
                let mut cx = Context::from_waker(Waker::noop());
                match waiting.as_mut().poll(&mut cx) {
                    Poll::Ready(accepted) => pushed += u64::from(accepted.map(drop).is_ok()),
                    Poll::Pending => {
                        totals.given_up.fetch_add(1, Relaxed);
                        // Gives up the one before.
                        unpolled = Some(waiting);
                    }
                }
            }
            _ => {
                pushed += u64::from(push_apart(producer, next(), queue, now()));
            }
        }
        snapshot(queue);
    }
    drop(unpolled);
    pushed
}

/// Pushes a frame that replaces the one before of the same producer, or one with an age limit of its own. Returns
/// whether it was accepted.
fn push_apart(producer: u8, mut payload: Vec<u8>, queue: &SendQueue, now: CoarseInstant) -> bool {
    let mut terms = Terms::default();
    match thread_rng().gen_bool(0.7) {
        true => {
            // It may go out before frames that were pushed earlier, so it is in an order of its own.
            payload[0] += KEYED;
            terms.key = Some((GROUP, producer.into()));
        }
        false => terms.ttl = Some(Duration::from_millis(STALE_AFTER * 3)),
    }
    let pushed = match thread_rng().gen_bool(0.5) {
        true => queue.push_apart((), (GROUP, payload), terms, now),
        false => block_on(queue.push_apart_wait((), (GROUP, payload), terms, || now)),
    };
    pushed.map(drop).is_ok()
}

/// Pushes frames together, and maybe waits for room where there is none, as a peer does. Returns how
/// many were accepted.
fn push_burst(
    payloads: [Vec<u8>; 3],
    queue: &SendQueue,
    now: impl Fn() -> CoarseInstant + Copy,
    totals: &Totals,
) -> u64 {
    let mut frames = payloads.into_iter().map(|payload| (GROUP, payload));
    let mut staged = Staged::new();
    let when_full = match thread_rng().gen_bool(0.5) {
        true => WhenFull::Refuse,
        false => WhenFull::Wait,
    };
    while staged.refill(&mut frames) {
        let before = staged.accepted();
        let (_, refused) = queue.push_staged((), &mut staged, now(), when_full);
        if refused.is_err() && staged.accepted() > before {
            totals.bursts_cut.fetch_add(1, Relaxed);
        }
        if refused.is_err() && when_full == WhenFull::Refuse {
            break;
        }
        if refused.is_err() {
            let (group, payload) = staged.take_first().expect("it was refused");
            let waited = block_on(queue.push_wait((), group, payload, now));
            drop(waited.map_err(|(refusal, _)| refusal).expect("open"));
        }
    }
    staged.accepted() as u64
}

/// Returns a payload that begins with the producer and the number.
fn payload(producer: u8, number: u8) -> Vec<u8> {
    let len = match thread_rng().gen_range(0..8) {
        0 => LARGE_FROM,
        len => 2 + len,
    };
    let mut payload = vec![0; len];
    payload[..2].copy_from_slice(&[producer, number]);
    payload
}

/// Takes any part of what it is given, and checks what has arrived.
#[derive(Default)]
struct Kernel {
    /// Whole frames that arrived, on all links.
    received: u64,
    links: u64,
    /// The number of the last frame of each producer.
    last: HashMap<u8, u8>,
}

impl Kernel {
    /// Writes until the queue is done, or for so many links.
    fn write(&mut self, queue: &Arc<SendQueue>, clock: &AtomicU64, links: Option<u64>) {
        for link in 1.. {
            self.links += 1;
            let mut wire = Vec::new();
            let ended = link_until_lost(queue, clock, &mut wire);
            self.arrived(&wire);
            if ended || Some(link) == links {
                return;
            }
        }
    }

    /// Checks what arrived on one link. The last frame may be cut.
    fn arrived(&mut self, wire: &[u8]) {
        for payload in payloads(wire) {
            let (producer, number) = (payload[0], payload[1]);
            let before = self.last.insert(producer, number);
            assert!(
                before < Some(number),
                "{producer}: {number} after {before:?}"
            );
            self.received += 1;
        }
    }
}

/// Writes until the link is lost. Returns whether it ended because there is nothing more to write.
fn link_until_lost(queue: &Arc<SendQueue>, clock: &AtomicU64, wire: &mut Vec<u8>) -> bool {
    loop {
        if queue.is_done() {
            return true;
        }
        block_on(poll_fn(|cx| queue.poll_ready(cx)));
        let Some(mut batch) = queue.take(at(clock.load(Relaxed))).batch else {
            continue;
        };
        while !batch.is_empty() {
            let bytes = bytes_of(&batch);
            match thread_rng().gen_range(0..10) {
                0 => return false,
                1 => {
                    let step = STALE_AFTER / 2;
                    let now = clock.fetch_add(step, Relaxed) + step;
                    batch.expire(at(now));
                    let _told = queue.expire(at(now));
                }
                2..5 => {
                    let part = thread_rng().gen_range(0..=bytes.len());
                    wire.extend_from_slice(&bytes[..part]);
                    batch.advance(part);
                }
                _ => {
                    wire.extend_from_slice(&bytes);
                    batch.advance(bytes.len());
                }
            }
            snapshot(queue);
        }
        if thread_rng().gen_bool(0.2) {
            return false;
        }
    }
}
