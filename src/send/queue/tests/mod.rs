//! Tests of the queue alone, without actors, sockets and clocks. Each file tests one behaviour.

mod ageing;
mod bounds;
mod bursts;
mod chunks;
mod cutting;
mod ending;
mod foreign_code;
mod group_share;
mod latest;
mod order;
mod receipts;
mod staged;
mod waiting;
mod waking;
mod written_share;

use std::{
    io::IoSlice,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    task::{Wake, Waker},
};

use super::*;
use crate::{config::Overflow, error::QueueLimit, wire::frame};

const GROUP: GroupId = GroupId::new(1);

const FULL: Refusal = Refusal::Full(QueueLimit::Frames);

fn limits() -> Limits {
    Limits {
        frames: 4,
        bytes: 100_000,
        frame: 50_000,
        stale_after: Duration::from_millis(100),
        overflow: Overflow::RejectNewest,
        large_from: LARGE_FROM,
        share: None,
    }
}

fn queue(limits: Limits) -> Arc<SendQueue> {
    Arc::new(SendQueue::new(limits))
}

fn at(millis: u64) -> CoarseInstant {
    CoarseInstant::from_millis(millis)
}

/// Pushes a frame and drops the doorbell, which wakes the writer.
fn push(queue: &SendQueue, payload: &[u8], millis: u64) -> Result<(), Refusal> {
    let pushed = queue.push((), GROUP, payload, at(millis));
    pushed.map(drop).map_err(|(refusal, back)| {
        assert_eq!(back, payload);
        refusal
    })
}

fn take(queue: &Arc<SendQueue>, millis: u64) -> Batch {
    let taken = queue.take(at(millis));
    taken.batch.expect("frames are queued")
}

/// Takes a batch and writes all of it.
fn write(queue: &Arc<SendQueue>) {
    let mut batch = take(queue, 0);
    batch.advance(wire(&batch).len());
}

/// Returns the bytes of the batch that are not written yet, in wire form.
fn wire(batch: &Batch) -> Vec<u8> {
    let mut slices = [IoSlice::new(&[]); 3 * BATCH_SLICES];
    let filled = batch.slices(&mut slices, usize::MAX);
    let mut bytes = Vec::new();
    // Slice by slice: Miri would take minutes to copy the bytes one by one.
    slices[..filled]
        .iter()
        .for_each(|slice| bytes.extend_from_slice(slice));
    bytes
}

/// Returns frames with these payloads in wire form.
fn frames(payloads: &[&[u8]]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for payload in payloads {
        bytes.extend_from_slice(&frame::header(GROUP, payload.len()));
        bytes.extend_from_slice(payload);
    }
    bytes
}

/// Returns the counters, after checking that they balance.
fn balanced<To: Copy + Eq>(queue: &SendQueue<To>) -> SendStats {
    let udp = queue.stats();
    let stats = crate::Stats {
        udp,
        ..Default::default()
    };
    stats.balance().expect("every frame is in one place");
    udp
}

/// Counts how often it is woken.
#[derive(Default)]
struct Woken(AtomicUsize);

impl Woken {
    fn new() -> (Arc<Woken>, Waker) {
        let woken = Arc::new(Woken::default());
        (woken.clone(), woken.into())
    }

    fn times(&self) -> usize {
        self.0.load(Relaxed)
    }
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Relaxed);
    }
}
