//! How frames lie together: which are stored in one buffer, how large it is, and how much a batch takes.

use bytes::Bytes;

use super::*;
use crate::send::queue::{Chunk, Terms, state::CHUNK_BYTES};

/// With its header, as long as the 64th part of a chunk.
const PART: [u8; CHUNK_BYTES / 64 - HEADER] = [0; CHUNK_BYTES / 64 - HEADER];

type Push = fn(&SendQueue, &[&[u8]], u64);

fn wide() -> Limits {
    Limits {
        frames: usize::MAX,
        bytes: 1 << 30,
        stale_after: Duration::from_secs(3600),
        ..limits()
    }
}

/// Groups have shares, as large as the queue.
fn shared() -> Limits {
    Limits {
        share: Some(GroupShare {
            frames: usize::MAX,
            bytes: 1 << 30,
        }),
        ..wide()
    }
}

fn push_each(queue: &SendQueue, payloads: &[&[u8]], millis: u64) {
    for payload in payloads {
        push(queue, payload, millis).unwrap();
    }
}

fn push_together(queue: &SendQueue, payloads: &[&[u8]], millis: u64) {
    let mut staged = Staged::new();
    let mut frames = payloads.iter().map(|payload| (GROUP, *payload));
    while staged.refill(&mut frames) {
        let (_, pushed) = queue.push_staged((), &mut staged, at(millis), WhenFull::Refuse);
        pushed.unwrap();
    }
}

/// All ways in which frames without terms of their own come into the queue.
fn ways() -> [(Limits, Push); 4] {
    [
        (wide(), push_each),
        (wide(), push_together),
        (shared(), push_each),
        (shared(), push_together),
    ]
}

/// Returns how many frames each queued chunk has.
fn chunks(queue: &SendQueue) -> Vec<usize> {
    queue.locked(|state| state.chunks.iter().map(|chunk| chunk.frames).collect())
}

#[test]
fn frames_of_one_tick_fill_a_chunk_to_its_last_byte() {
    for (limits, push) in ways() {
        let queue = queue(limits);
        push(&queue, &[&PART], 0);
        push(&queue, &[&PART[..]; 64], 0);
        assert_eq!(chunks(&queue), [64, 1]);

        let queue = self::queue(limits);
        push(&queue, &[&PART[..]; 63], 0);
        push(&queue, &[&[&PART[..], b"x"].concat(), b"y"], 0);
        assert_eq!(chunks(&queue), [63, 2], "one byte too many");
    }
}

#[test]
fn frames_of_another_tick_begin_a_chunk_and_keep_their_age() {
    for (limits, push) in ways() {
        let queue = queue(Limits {
            stale_after: Duration::from_millis(100),
            ..limits
        });
        push(&queue, &[b"a", b"b"], 0);
        push(&queue, &[b"c", b"d"], 60);
        assert_eq!(chunks(&queue), [2, 2]);
        assert_eq!(queue.expire(at(100)).stale.frames, 2);
        assert_eq!(wire(&take(&queue, 100)), frames(&[b"c", b"d"]));
    }
}

/// What is between them was dropped while the frames before it were in flight.
#[test]
fn a_hole_in_the_numbers_begins_a_chunk() {
    for (limits, push) in ways() {
        let queue = queue(limits);
        push(&queue, &[b"1"], 0);
        let batch = take(&queue, 0);
        let terms = Terms {
            ttl: Some(Duration::from_millis(1)),
            ..Terms::default()
        };
        let pushed = queue.push_apart((), (GROUP, b"2"), terms, at(0));
        drop(pushed.expect("room"));
        assert_eq!(queue.expire(at(1)).stale.frames, 1);
        drop(batch);
        push(&queue, &[b"3", b"4"], 0);
        assert_eq!(chunks(&queue), [1, 2]);
        let mut batch = take(&queue, 1);
        batch.advance(HEADER + 1);
        assert_eq!(batch.begins_with(), Some(2));
    }
}

/// Only where groups evict their own frames, each chunk has frames of one group.
#[test]
fn groups_are_apart_only_where_they_evict_their_own() {
    for (overflow, expected) in [
        (Overflow::RejectNewest, &[5][..]),
        (Overflow::DropOldest, &[1, 2, 2]),
    ] {
        let queue = queue(Limits {
            overflow,
            ..shared()
        });
        for group in [1, 2, 2, 1, 1] {
            let pushed = queue.push((), GroupId::new(group), b"x", at(0));
            drop(pushed.expect("room"));
        }
        assert_eq!(chunks(&queue), expected);
    }
}

#[test]
fn a_batch_takes_no_more_slices_than_one_write_carries_and_no_more_bytes_than_its_bound() {
    let queue = queue(wide());
    for millis in 0..100 {
        push(&queue, b"x", millis).unwrap();
    }
    assert_eq!(take(&queue, 0).chunks.len(), BATCH_SLICES);

    // With one piece it takes two slices, and with two it takes three.
    for (second, expected) in [("", BATCH_SLICES / 2), ("x", BATCH_SLICES.div_ceil(3))] {
        let queue = self::queue(Limits {
            large_from: 1,
            ..wide()
        });
        for _ in 0..100 {
            let pushed = queue.push((), GROUP, ("x", second), at(0));
            drop(pushed.expect("room"));
        }
        assert_eq!(take(&queue, 0).chunks.len(), expected);
    }

    let queue = self::queue(Limits {
        frame: BATCH_BYTES,
        ..wide()
    });
    for _ in 0..4 {
        push(&queue, &[0; BATCH_BYTES / 2 - HEADER], 0).unwrap();
    }
    assert_eq!(take(&queue, 0).chunks.len(), 2);
}

#[test]
fn a_batch_fills_as_many_slices_as_it_is_given() {
    let queue = queue(wide());
    for millis in 0..3 {
        push(&queue, b"x", millis).unwrap();
    }
    let batch = take(&queue, 0);
    let mut slices = [IoSlice::new(&[]); 2];
    assert_eq!(batch.slices(&mut slices, usize::MAX), 2);
    let mut slices = [IoSlice::new(&[]); 3];
    assert_eq!(batch.slices(&mut slices, HEADER + 1), 1, "none is empty");
}

#[test]
fn a_payload_is_kept_from_a_length_on_and_copied_below_it() {
    type PushBytes = fn(&SendQueue, Bytes);
    let push_alone: PushBytes = |queue, payload| {
        let pushed = queue.push((), GROUP, payload, at(0));
        drop(pushed.expect("room"));
    };
    let push_staged: PushBytes = |queue, payload| {
        let mut staged = Staged::new();
        staged.refill(&mut [(GROUP, payload)].into_iter());
        let (_, pushed) = queue.push_staged((), &mut staged, at(0), WhenFull::Refuse);
        pushed.expect("room");
    };
    let push_apart: PushBytes = |queue, payload| {
        let terms = Terms {
            key: Some((GROUP, 1)),
            ..Terms::default()
        };
        let pushed = queue.push_apart((), (GROUP, payload), terms, at(0));
        drop(pushed.expect("room"));
    };
    for limits in [wide(), shared()] {
        for push_bytes in [push_alone, push_staged, push_apart] {
            for (len, is_kept) in [(LARGE_FROM - 1, false), (LARGE_FROM, true)] {
                let queue = queue(limits);
                // A chunk that is open for more.
                push(&queue, b"x", 0).unwrap();
                let payload = Bytes::from(vec![0; len]);
                push_bytes(&queue, payload.clone());
                // Otherwise it is the only handle.
                assert_eq!(!payload.is_unique(), is_kept, "{len}");
            }
        }
    }
}

#[test]
fn a_buffer_doubles_up_to_the_limit_and_grows_beyond_it_only_for_a_frame_that_needs_it() {
    const LIMIT: usize = 10_000;

    let capacity = |frames: usize, len: usize| {
        let mut chunk = Chunk::encoded((), 0, at(0), Vec::new());
        for _ in 0..frames {
            chunk.append(GROUP, [&vec![0; len - 100], &[0; 100 - HEADER]], LIMIT);
        }
        let buffer = chunk.into_buffer().ok();
        buffer.expect("short frames share one").capacity()
    };
    let capacities: Vec<_> = (1..=10).map(|frames| capacity(frames, 1000)).collect();
    let doubled = [1000, 2000, 4000, 4000, 8000, 8000, 8000, 8000];
    assert_eq!(capacities, [&doubled[..], &[LIMIT; 2]].concat());
    assert_eq!(capacity(1, 20_000), 20_000);
}

/// The buffer of a chunk is made as long as the chunk before it, so it seldom grows, and is not copied when it is full.
#[test]
#[cfg_attr(miri, ignore = "counts allocations")]
fn a_chunk_that_is_as_long_as_the_one_before_it_is_allocated_once() {
    const TICKS: u64 = 500;

    let queue = queue(wide());
    let fill = |ticks: std::ops::Range<u64>| {
        for millis in ticks {
            for _ in 0..33 {
                push(&queue, &[0; 100], millis).unwrap();
            }
        }
    };
    fill(0..1);
    let taken = allocation_counter::measure(|| fill(1..TICKS));
    // The list of chunks grows, too.
    assert!(taken.count_total < TICKS + 20, "{}", taken.count_total);
}

#[test]
#[cfg_attr(miri, ignore = "counts allocations")]
fn short_chunks_behind_long_ones_take_no_more_than_their_bytes_where_many_wait() {
    for short in [1, 32] {
        let queue = queue(wide());
        let taken = allocation_counter::measure(|| {
            for millis in 0..1000 {
                for _ in 0..[short, 64][millis as usize % 2] {
                    push(&queue, &[0; 1000], millis).unwrap();
                }
            }
        });
        let queued = queue.left().bytes as i64;
        let bound = queued / 7 * 8 + (2 << 20);
        assert!(
            taken.bytes_current < bound,
            "{} for {queued}",
            taken.bytes_current
        );
    }
}

#[test]
#[cfg_attr(miri, ignore = "counts allocations")]
fn the_memory_that_is_kept_for_speed_is_given_back() {
    const FRAMES: u64 = 5000;

    let push_keyed: Push = |queue, payloads, number| {
        let terms = Terms {
            key: Some((GROUP, number)),
            ..Terms::default()
        };
        let pushed = queue.push_apart((), (GROUP, payloads[0]), terms, at(0));
        drop(pushed.expect("room"));
    };
    let push_to_groups: Push = |queue, payloads, number| {
        let group = GroupId::new(number as u32);
        drop(queue.push((), group, payloads[0], at(0)).expect("room"));
    };
    for (limits, push) in [
        (wide(), push_each as Push),
        (wide(), push_keyed),
        (shared(), push_to_groups),
    ] {
        let queue = queue(limits);
        queue.link_begins(Some(0), None);
        let kept = allocation_counter::measure(|| {
            for number in 0..FRAMES {
                // Of alternating lengths, so that each counts alone until it is acknowledged.
                push(&queue, &[&[0; 2][..number as usize % 2]], number);
            }
            while queue.has_frames() {
                write(&queue);
            }
            queue.acknowledged(Some(1 << 30));
            queue.trim();
        });
        assert!(kept.bytes_current < 4096, "{}", kept.bytes_current);
    }
}

#[test]
fn frames_in_a_row_of_one_group_are_counted_together() {
    let queue = queue(wide());
    for group in [1, 1, 2, 1] {
        let pushed = queue.push((), GroupId::new(group), b"x", at(0));
        drop(pushed.expect("room"));
    }
    let batch = take(&queue, 0);
    let mut rows = Vec::new();
    let counted = batch.chunks[0].each_group(usize::MAX, |group, count| {
        rows.push((group.get(), count.frames));
    });
    assert_eq!(rows, [(1, 2), (2, 1), (1, 1)]);
    assert_eq!(counted, 4 * 9);
}

#[test]
fn more_bytes_than_a_chunk_has_are_all_of_its_frames() {
    let chunk = || {
        let mut chunk = Chunk::encoded((), 0, at(0), Vec::new());
        (0..3).for_each(|_| chunk.append(GROUP, [b"x", b""], 100));
        chunk
    };
    let mut cursor = 3 * 9 + 5;
    assert_eq!(chunk().pop_frames(&mut cursor), Count::new(3, 3 * 9));
    assert_eq!(cursor, 5);
    assert_eq!(chunk().keep_frames_of(3 * 9 + 5), Count::ZERO);
}
