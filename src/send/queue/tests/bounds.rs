//! Which frames the queue refuses or evicts, and how much memory it takes.

use super::*;
use crate::send::queue::Terms;

#[test]
fn the_queue_keeps_its_bounds_in_frames_and_bytes_and_frames_in_flight_count() {
    let queue = queue(limits());
    for _ in 0..4 {
        push(&queue, b"x", 0).unwrap();
    }
    assert_eq!(push(&queue, b"x", 0), Err(FULL));
    let mut batch = take(&queue, 0);
    assert_eq!(push(&queue, b"x", 0), Err(FULL), "a frame in flight counts");
    batch.advance(9);
    assert_eq!(push(&queue, b"x", 0), Ok(()));
    assert_eq!(push(&queue, b"x", 0), Err(FULL));

    let bytes = self::queue(Limits {
        bytes: 20,
        ..limits()
    });
    push(&bytes, b"0123456789", 0).unwrap();
    assert_eq!(push(&bytes, b"", 0), Err(Refusal::Full(QueueLimit::Bytes)));
    let stats = balanced(&bytes);
    assert_eq!(stats.rejected.full_bytes, Count::one(8));
}

#[test]
fn the_reserved_group_is_refused() {
    let queue = queue(limits());
    let refused = queue.push((), GroupId::RESERVED, b"x", at(0));
    let refused = refused.map(drop);
    assert_eq!(refused, Err((Refusal::ReservedGroup, b"x")));
    assert_eq!(balanced(&queue).rejected.invalid, Count::one(9));
}

#[test]
fn what_the_crate_sends_to_the_reserved_group_keeps_the_bounds() {
    let queue = queue(Limits {
        bytes: HEADER + 10,
        frame: HEADER + 10,
        ..limits()
    });
    let pushed = queue.push_reserved((), [0; 11], at(0), WhenFull::Refuse);
    let (refusal, _) = pushed.expect_err("too long");
    assert_eq!(refusal, Refusal::TooLarge { len: 11, max: 10 });
    let pushed = queue.push_reserved((), [0; 10], at(0), WhenFull::Refuse);
    drop(pushed.expect("just short enough"));
    let pushed = queue.push_reserved((), [], at(0), WhenFull::Refuse);
    let (refusal, _) = pushed.expect_err("no room");
    assert_eq!(refusal, Refusal::Full(QueueLimit::Bytes));
    assert_eq!(balanced(&queue).queued, Count::one(HEADER + 10));
}

#[test]
fn a_frame_above_the_limit_is_refused_and_the_refusal_names_the_limit() {
    let queue = queue(Limits {
        frame: 10,
        ..limits()
    });
    assert_eq!(push(&queue, b"ab", 0), Ok(()));
    let refusal = Refusal::TooLarge { len: 3, max: 2 };
    assert_eq!(push(&queue, b"abc", 0), Err(refusal));
    assert_eq!(balanced(&queue).rejected.too_large, Count::one(11));
}

#[test]
fn drop_oldest_evicts_single_frames_even_from_the_middle_of_a_chunk() {
    let limits = Limits {
        overflow: Overflow::DropOldest,
        ..limits()
    };
    let queue = queue(limits);
    for payload in [b"a", b"b", b"c", b"d", b"e"] {
        push(&queue, payload, 0).unwrap();
    }
    let taken = queue.take(at(0));
    assert_eq!(taken.dropped.overflow, Count::one(9));
    let batch = taken.batch.expect("four frames");
    assert_eq!(wire(&batch), frames(&[b"b", b"c", b"d", b"e"]));
    assert_eq!(balanced(&queue).dropped.overflow, Count::one(9));
    assert_eq!(
        push(&queue, b"f", 0),
        Err(FULL),
        "frames in flight cannot be evicted"
    );
}

#[test]
#[cfg_attr(miri, ignore = "counts allocations, and takes minutes")]
fn queued_frames_take_little_more_memory_than_their_bytes() {
    const BYTES: usize = 16 << 20;
    // The worst case: a buffer doubles from 32 such frames to 64 for the 33rd, and then the tick ends.
    const FRAMES_PER_TICK: usize = 33;

    let queue = queue(Limits {
        frames: usize::MAX,
        bytes: BYTES,
        stale_after: Duration::from_secs(3600),
        ..limits()
    });
    let payload = [0; 1_000];
    let taken = allocation_counter::measure(|| {
        let full =
            (0..).find(|number| push(&queue, &payload, number / FRAMES_PER_TICK as u64).is_err());
        assert!(full.is_some());
    });
    let bound = BYTES / 7 * 8 + (2 << 20);
    assert!(
        taken.bytes_current as usize <= bound,
        "{} for {BYTES}",
        taken.bytes_current
    );
}

#[test]
fn a_payload_of_two_pieces_counts_as_long_as_both_and_comes_back_as_it_was_given() {
    let limits = Limits {
        frame: HEADER + 4,
        ..limits()
    };
    let queue = queue(limits);
    let pushed = queue.push((), GROUP, (b"ab", "cd"), at(0));
    drop(pushed.expect("just short enough"));
    let (refusal, back) = queue.push((), GROUP, (b"ab", "cde"), at(0)).unwrap_err();
    assert_eq!(refusal, Refusal::TooLarge { len: 5, max: 4 });
    assert_eq!(back, (b"ab", "cde"));
    assert_eq!(balanced(&queue).queued, Count::one(HEADER + 4));
}

#[test]
fn a_frame_that_was_refused_before_it_came_here_counts_with_its_header() {
    let queue = queue(limits());
    queue.refuse(Refusal::Stopped, 10);
    let sent = balanced(&queue);
    assert_eq!(sent.offered, Count::one(HEADER + 10));
    assert_eq!(sent.rejected.stopped, Count::one(HEADER + 10));
}

#[test]
fn the_bounds_are_those_of_the_limits() {
    let limits = Limits {
        frames: 100,
        ..limits()
    };
    let queue = queue(limits);
    assert_eq!(queue.longest_frame(), limits.frame);
    assert_eq!(queue.stale_after(), limits.stale_after);
    assert_eq!(queue.half_of_frames(10_000), 5, "half of the bytes");
    assert_eq!(queue.half_of_frames(8), 50, "half of the frames");
}

#[test]
fn what_is_queued_or_in_flight_is_left() {
    let queue = queue(limits());
    assert_eq!((queue.has_frames(), queue.left()), (false, Count::ZERO));
    push(&queue, b"x", 0).unwrap();
    assert_eq!((queue.has_frames(), queue.left()), (true, Count::one(9)));
    let batch = take(&queue, 0);
    push(&queue, b"", 0).unwrap();
    assert_eq!(queue.left(), Count::new(2, 17));
    drop(batch);
    write(&queue);
    assert_eq!((queue.has_frames(), queue.left()), (false, Count::ZERO));
}

/// A full queue refuses nobody who will wait. What no waiting helps against is refused at once.
#[test]
fn a_sender_that_will_wait_is_counted_as_refused_only_if_waiting_does_not_help() {
    use WhenFull::{Refuse, Wait};

    type Push = fn(&SendQueue, Vec<u8>, WhenFull) -> Result<(), Refusal>;
    let push_apart: Push = |queue, payload, when_full| {
        let terms = Terms {
            key: Some((GROUP, 1)),
            ..Terms::default()
        };
        let pushed = queue.push_apart_if((), (GROUP, payload), terms, at(0), when_full);
        pushed.map(drop).map_err(|(refusal, _)| refusal)
    };
    let push_reserved: Push = |queue, payload, when_full| {
        let pushed = queue.push_reserved((), payload, at(0), when_full);
        pushed.map(drop).map_err(|(refusal, _)| refusal)
    };
    let push_staged: Push = |queue, payload, when_full| {
        let mut staged = Staged::new();
        staged.refill(&mut [(GROUP, payload)].into_iter());
        queue.push_staged((), &mut staged, at(0), when_full).1
    };
    let push_or_wait: Push = |queue, payload, when_full| match when_full {
        Refuse => push(queue, &payload, 0),
        Wait => {
            use futures::FutureExt;

            let pushed = queue.push_wait((), GROUP, payload, || at(0));
            let pushed = pushed.now_or_never();
            pushed.map_or(Err(FULL), |pushed| {
                pushed.map(drop).map_err(|(refusal, _)| refusal)
            })
        }
    };
    let share = GroupShare {
        frames: 1,
        bytes: 100_000,
    };
    for share in [None, Some(share)] {
        for push_in_some_way in [push_apart, push_reserved, push_staged, push_or_wait] {
            let queue = queue(Limits {
                frames: 1,
                share,
                ..limits()
            });
            push(&queue, b"x", 0).unwrap();
            let refused = |when_full, payload, counted: u64| {
                let before = balanced(&queue).rejected.total().frames;
                let pushed = push_in_some_way(&queue, payload, when_full);
                let refusal = pushed.expect_err("no room");
                let after = balanced(&queue).rejected.total().frames;
                assert_eq!(after - before, counted, "{refusal:?}");
            };
            refused(Refuse, vec![0; 9], 1);
            refused(Wait, vec![0; 9], 0);
            refused(Refuse, vec![0; 50_000], 1);
            refused(Wait, vec![0; 50_000], 1);
            queue.seal();
            assert_eq!(queue.refusal(), Some(Refusal::Stopped));
            refused(Wait, vec![0; 9], 1);
        }
    }
}

#[test]
fn an_open_queue_refuses_nobody_and_a_forgotten_one_says_so() {
    let queue = queue(limits());
    assert_eq!(queue.refusal(), None);
    drop(queue.abandon());
    assert_eq!(queue.refusal(), Some(Refusal::Forgotten));
    assert_eq!(push(&queue, b"x", 0), Err(Refusal::Forgotten));
}
