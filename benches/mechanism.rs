//! The pure mechanism: grouping received frames, and the send queue.
//!
//! ```text
//! cargo bench --features test-internals --bench mechanism
//! ```
//!
//! The baseline of each group is what one would write instead: tokio-util's codec, or a bounded
//! channel of frames.

use std::{
    array::from_fn,
    hint::black_box,
    sync::mpsc::sync_channel,
    thread,
    time::{Duration, Instant},
};

use actix_transport::{
    Config, GroupId,
    test_internals::{Decoder, Queue, encode},
};
use bytes::{Bytes, BytesMut};
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use tokio_util::codec::{Decoder as _, LengthDelimitedCodec};

const SIZE: usize = 64;
const BURST: usize = 32;
const LIMIT: usize = 10 << 20;

fn frames(n: usize) -> Vec<u8> {
    (0..n)
        .flat_map(|_| encode(GroupId::new(1), &[7; SIZE]))
        .collect()
}

fn decode(c: &mut Criterion) {
    let mut group = c.benchmark_group("decode 64 B");
    for chunk in [1usize, 16, 256, 4096] {
        let bytes = frames(chunk);
        group.throughput(Throughput::Elements(chunk as u64));
        // Both take a buffer that has just been filled; filling it is not measured.
        let filled = || BytesMut::from(&bytes[..]);
        group.bench_function(BenchmarkId::new("split", chunk), |b| {
            let mut decoder = Decoder::default();
            let split = |buffer: &mut BytesMut| {
                decoder.groups(buffer, LIMIT, |_, payloads| {
                    black_box(payloads);
                })
            };
            b.iter_batched_ref(filled, split, BatchSize::SmallInput);
        });
        group.bench_function(BenchmarkId::new("codec", chunk), |b| {
            let mut codec = LengthDelimitedCodec::builder()
                .length_adjustment(-4)
                .new_codec();
            let decode = |buffer: &mut BytesMut| {
                while let Ok(Some(frame)) = codec.decode(buffer) {
                    black_box(frame);
                }
            };
            b.iter_batched_ref(filled, decode, BatchSize::SmallInput);
        });
    }
    group.finish();
}

fn push_and_take(c: &mut Criterion) {
    let mut group = c.benchmark_group("push and take 64 B");
    group.throughput(Throughput::Elements(1));
    for producers in [1, 4] {
        group.bench_function(BenchmarkId::new("queue", producers), |b| {
            let queue = Queue::new(&Config::default());
            let push = |payload: &[u8]| queue.push(GroupId::new(1), payload).is_ok();
            b.iter_custom(|frames| race(frames, producers, &push, &|| queue.write()));
        });
        group.bench_function(
            BenchmarkId::new("queue, groups have shares", producers),
            |b| {
                let queue = Queue::new(&Config::default().group_share(0.5));
                let push = |payload: &[u8]| queue.push(GroupId::new(1), payload).is_ok();
                b.iter_custom(|frames| race(frames, producers, &push, &|| queue.write()));
            },
        );
        group.bench_function(BenchmarkId::new("queue, bursts of 32", producers), |b| {
            let queue = Queue::new(&Config::default());
            let push = |payloads: &[[u8; SIZE]]| {
                let frames = payloads.iter().map(|payload| (GroupId::new(1), payload));
                queue.push_all(frames)
            };
            b.iter_custom(|frames| race_bursts(frames, producers, &push, &|| queue.write()));
        });
        group.bench_function(BenchmarkId::new("channel of Bytes", producers), |b| {
            let (send, receive) = sync_channel(Config::default().queue_frames);
            let push = |payload: &[u8]| send.try_send(Bytes::copy_from_slice(payload)).is_ok();
            let take = || receive.try_iter().map(|payload| payload.len() + 8).sum();
            b.iter_custom(|frames| race(frames, producers, &push, &take));
        });
    }
    group.finish();
}

/// The time until `producers` threads have pushed all frames and this thread has taken them.
fn race(
    frames: u64,
    producers: u64,
    push: &(impl Fn(&[u8]) -> bool + Sync),
    take: &dyn Fn() -> usize,
) -> Duration {
    let each = frames.div_ceil(producers);
    let mut left = (each * producers) as usize * (SIZE + 8);
    thread::scope(|scope| {
        let begun = Instant::now();
        for _ in 0..producers {
            scope.spawn(|| {
                for number in 0..each {
                    let payload = [number as u8; SIZE];
                    while !push(&payload) {
                        thread::yield_now();
                    }
                }
            });
        }
        while left > 0 {
            match take() {
                0 => thread::yield_now(),
                taken => left -= taken,
            }
        }
        begun.elapsed()
    })
}

/// As [`race`], with bursts. `push` returns how many frames it has pushed.
fn race_bursts(
    frames: u64,
    producers: u64,
    push: &(impl Fn(&[[u8; SIZE]]) -> usize + Sync),
    take: &dyn Fn() -> usize,
) -> Duration {
    let each = frames.div_ceil(producers);
    let mut left = (each * producers) as usize * (SIZE + 8);
    thread::scope(|scope| {
        let begun = Instant::now();
        for _ in 0..producers {
            scope.spawn(|| {
                for first in (0..each).step_by(BURST) {
                    let burst = BURST.min((each - first) as usize);
                    let payloads: [_; BURST] = from_fn(|n| [(first as usize + n) as u8; SIZE]);
                    let mut rest = &payloads[..burst];
                    while !rest.is_empty() {
                        match push(rest) {
                            0 => thread::yield_now(),
                            pushed => rest = &rest[pushed..],
                        }
                    }
                }
            });
        }
        while left > 0 {
            match take() {
                0 => thread::yield_now(),
                taken => left -= taken,
            }
        }
        begun.elapsed()
    })
}

criterion_group!(benches, decode, push_and_take);
criterion_main!(benches);
