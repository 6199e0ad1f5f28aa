//! Senders that wait for room in a full queue.

use std::{future::Future, pin::Pin};

use super::*;
use crate::send::queue::Terms;

type Pushing<'q> = Pin<Box<dyn Future<Output = Result<(), Refusal>> + Send + 'q>>;

const PUSHED: Poll<Result<(), Refusal>> = Poll::Ready(Ok(()));

fn push_wait<'q>(queue: &'q SendQueue, payload: &'q [u8]) -> Pushing<'q> {
    Box::pin(async move {
        let pushed = queue.push_wait((), GROUP, payload, || at(0)).await;
        pushed.map(drop).map_err(|(refusal, back)| {
            assert_eq!(back, payload);
            refusal
        })
    })
}

fn poll(pushing: &mut Pushing<'_>) -> Poll<Result<(), Refusal>> {
    poll_with(pushing, Waker::noop())
}

fn poll_with(pushing: &mut Pushing<'_>, waker: &Waker) -> Poll<Result<(), Refusal>> {
    pushing.as_mut().poll(&mut Context::from_waker(waker))
}

/// Starts a sender that finds no room and waits.
fn waiting<'q>(queue: &'q SendQueue, payload: &'q [u8], waker: &Waker) -> Pushing<'q> {
    let mut pushing = push_wait(queue, payload);
    assert!(poll_with(&mut pushing, waker).is_pending());
    pushing
}

/// Returns a queue that has room for `frames` frames and already holds them.
fn full(frames: usize, overflow: Overflow) -> Arc<SendQueue> {
    let queue = queue(Limits {
        frames,
        overflow,
        ..limits()
    });
    for _ in 0..frames {
        push(&queue, b"x", 0).unwrap();
    }
    queue
}

#[test]
fn a_sender_that_finds_room_does_not_wait() {
    let queue = queue(limits());
    assert_eq!(poll(&mut push_wait(&queue, b"x")), PUSHED);
    assert_eq!(balanced(&queue).queued.frames, 1);
}

#[test]
fn a_waiting_sender_needs_room_for_its_payload_and_a_header() {
    let limits = Limits {
        bytes: 2 * (HEADER + 10),
        ..limits()
    };
    let queue = queue(limits);
    push(&queue, &[0; HEADER + 20], 0).unwrap();
    let mut pushing = waiting(&queue, &[1; HEADER + 20], Waker::noop());
    write(&queue);
    assert_eq!(poll(&mut pushing), PUSHED);
    assert_eq!(balanced(&queue).queued, Count::one(limits.bytes));
}

/// Neither less, or the queue would hold more than its bound, nor more, or it could wait for ever.
#[test]
fn whatever_waits_is_granted_as_much_room_as_its_frame_takes() {
    type PushWait = for<'q> fn(&'q SendQueue, &'q [u8]) -> Pushing<'q>;
    let push_apart: PushWait = |queue, payload| {
        Box::pin(async move {
            let terms = Terms {
                key: Some((GROUP, 1)),
                ..Terms::default()
            };
            let pushed = queue.push_apart_wait((), (GROUP, payload), terms, || at(0));
            pushed.await.map(drop).map_err(|(refusal, _)| refusal)
        })
    };
    let push_reserved: PushWait = |queue, payload| {
        Box::pin(async move {
            let pushed = queue.push_reserved_wait((), payload, || at(0)).await;
            pushed.map(drop).map_err(|(refusal, _)| refusal)
        })
    };
    let push_wait: PushWait = push_wait;
    for push_in_some_way in [push_wait, push_apart, push_reserved] {
        // Beside a frame in flight there is room for a payload of ten bytes, and not for one of eleven.
        for (len, is_granted) in [(10, true), (11, false)] {
            let queue = queue(Limits {
                bytes: 9 + (HEADER + 10),
                ..limits()
            });
            push(&queue, b"x", 0).unwrap();
            let batch = take(&queue, 0);
            push(&queue, &[0; 10], 0).unwrap();
            let payload = vec![1; len];
            let mut pushing = push_in_some_way(&queue, &payload);
            assert!(poll(&mut pushing).is_pending());
            let _ = queue.expire(at(100));
            assert_eq!(poll(&mut pushing) == PUSHED, is_granted, "{len}");
            drop(batch);
        }
    }
}

#[test]
fn room_is_granted_to_waiting_senders_in_their_order_and_to_nobody_else() {
    let queue = full(1, Overflow::RejectNewest);
    let (woken, waker) = Woken::new();
    let mut first = waiting(&queue, b"1", &waker);
    let third = waiting(&queue, b"3", &waker);
    let mut second = waiting(&queue, b"2", &waker);
    // A sender that is dropped leaves the line. The others keep their order.
    drop(third);
    write(&queue);
    assert_eq!(woken.times(), 1, "there is room for one");
    assert_eq!(push(&queue, b"y", 0), Err(FULL));
    assert!(poll(&mut push_wait(&queue, b"4")).is_pending());
    assert!(poll_with(&mut second, &waker).is_pending());
    assert_eq!(poll(&mut first), PUSHED);
    write(&queue);
    assert_eq!(woken.times(), 2);
    assert_eq!(poll(&mut second), PUSHED);
    let offered = balanced(&queue).offered.frames;
    assert_eq!(offered, 4, "x, y, 1 and 2, but not 3 and 4");
}

#[test]
fn a_sender_that_is_not_polled_does_not_hold_up_the_others() {
    let queue = full(2, Overflow::RejectNewest);
    let (woken, waker) = Woken::new();
    let not_polled = waiting(&queue, b"1", Waker::noop());
    let mut second = waiting(&queue, b"2", &waker);
    write(&queue);
    assert_eq!(woken.times(), 1);
    assert_eq!(poll(&mut second), PUSHED);
    // The first sender keeps the room of one frame. The others use the rest.
    for _ in 0..3 {
        let mut next = waiting(&queue, b"3", &waker);
        write(&queue);
        assert_eq!(poll(&mut next), PUSHED);
    }
    drop(not_polled);
    assert_eq!(push(&queue, b"4", 0), Ok(()), "its room was given back");
    assert_eq!(push(&queue, b"5", 0), Err(FULL));
    balanced(&queue);
}

#[test]
fn a_dropped_sender_passes_its_granted_room_to_the_next() {
    let queue = full(1, Overflow::RejectNewest);
    let (woken, waker) = Woken::new();
    let granted = waiting(&queue, b"1", Waker::noop());
    let mut next = waiting(&queue, b"2", &waker);
    write(&queue);
    assert_eq!(woken.times(), 0);
    drop(granted);
    assert_eq!(woken.times(), 1);
    assert_eq!(poll(&mut next), PUSHED);
    assert_eq!(balanced(&queue).offered.frames, 2, "x and 2");
}

#[test]
fn smaller_frames_do_not_overtake_a_waiting_large_one_unless_its_sender_gives_up() {
    let queue = queue(Limits {
        bytes: 40,
        ..limits()
    });
    push(&queue, &[0; 12], 0).unwrap();
    push(&queue, &[0; 12], 0).unwrap();
    let (woken, waker) = Woken::new();
    let large = waiting(&queue, &[0; 30], Waker::noop());
    let mut small = waiting(&queue, b"", &waker);
    let mut batch = take(&queue, 0);
    batch.advance(20);
    assert!(poll_with(&mut small, &waker).is_pending());
    let hasty = push(&queue, b"", 0);
    assert_eq!(hasty, Err(Refusal::Full(QueueLimit::Bytes)));
    drop(large);
    assert_eq!(woken.times(), 1);
    assert_eq!(poll(&mut small), PUSHED);
}

#[test]
fn a_try_send_may_use_room_that_the_waiting_senders_do_not_need() {
    let queue = full(4, Overflow::RejectNewest);
    let mut first = waiting(&queue, b"4", Waker::noop());
    let mut second = waiting(&queue, b"5", Waker::noop());
    let mut batch = take(&queue, 0);
    batch.advance(2 * 9);
    assert_eq!(
        push(&queue, b"y", 0),
        Err(FULL),
        "the two senders need this room"
    );
    batch.advance(9);
    assert_eq!(push(&queue, b"y", 0), Ok(()), "there is room for one more");
    assert_eq!(push(&queue, b"z", 0), Err(FULL), "and for no second one");
    assert_eq!(poll(&mut first), PUSHED);
    assert_eq!(poll(&mut second), PUSHED);
    drop(batch);
    assert_eq!(balanced(&queue).queued.frames, 4);
}

#[test]
fn dropping_stale_frames_makes_room_for_waiting_senders() {
    let queue = full(1, Overflow::RejectNewest);
    let (woken, waker) = Woken::new();
    let mut pushing = waiting(&queue, b"1", &waker);
    assert_eq!(queue.expire(at(100)).stale.frames, 1);
    assert_eq!(woken.times(), 1);
    assert_eq!(poll(&mut pushing), PUSHED);
}

#[test]
fn with_drop_oldest_a_sender_waits_only_while_frames_in_flight_fill_the_queue() {
    let queue = full(1, Overflow::DropOldest);
    assert_eq!(poll(&mut push_wait(&queue, b"a")), PUSHED, "x was evicted");
    let batch = take(&queue, 0);
    let (woken, waker) = Woken::new();
    let mut pushing = waiting(&queue, b"b", &waker);
    assert_eq!(push(&queue, b"y", 0), Err(FULL));
    // The frame in flight goes back into the queue, where it can be evicted.
    drop(batch);
    assert_eq!(woken.times(), 1);
    assert_eq!(poll(&mut pushing), PUSHED);
    assert_eq!(wire(&take(&queue, 0)), frames(&[b"b"]));
    assert_eq!(balanced(&queue).dropped.overflow.frames, 2);
}

#[test]
fn sealing_or_closing_refuses_all_waiting_senders_even_those_with_granted_room() {
    for end in [SendQueue::<()>::seal, SendQueue::close] {
        let queue = full(1, Overflow::RejectNewest);
        let (woken, waker) = Woken::new();
        let mut granted = waiting(&queue, b"1", Waker::noop());
        let mut second = waiting(&queue, b"2", &waker);
        let dropped = waiting(&queue, b"3", &waker);
        write(&queue);
        end(&queue);
        assert_eq!(woken.times(), 2);
        let stopped = Poll::Ready(Err(Refusal::Stopped));
        assert_eq!(poll(&mut granted), stopped);
        assert_eq!(poll(&mut second), stopped);
        assert_eq!(poll(&mut push_wait(&queue, b"4")), stopped);
        drop(dropped);
        assert_eq!(balanced(&queue).rejected.stopped.frames, 3);
    }
}
