//! Sealing and closing a queue.

use std::{future::Future, pin::pin};

use super::*;

#[test]
fn a_sealed_queue_refuses_frames_and_the_writer_can_still_write_the_queued_ones() {
    let queue = queue(limits());
    let (woken, waker) = Woken::new();
    let ready = queue.poll_ready(&mut Context::from_waker(&waker));
    assert!(ready.is_pending());
    push(&queue, b"a", 0).unwrap();
    queue.seal();
    assert_eq!(push(&queue, b"b", 0), Err(Refusal::Stopped));
    assert_eq!(woken.times(), 1);
    assert!(!queue.is_done(), "a frame is queued");
    write(&queue);
    assert!(queue.is_done());
}

#[test]
fn closing_drops_queued_frames_at_once_and_frames_in_flight_when_their_batch_is_dropped() {
    let queue = queue(limits());
    push(&queue, b"in flight", 0).unwrap();
    let batch = take(&queue, 0);
    push(&queue, b"queued", 0).unwrap();
    let (woken, waker) = Woken::new();
    let mut cx = Context::from_waker(&waker);
    let mut drained = pin!(queue.drained());
    assert!(drained.as_mut().poll(&mut cx).is_pending());
    queue.close();
    assert!(queue.is_done());
    assert_eq!(queue.take_untold().stopped.frames, 1);
    assert!(drained.as_mut().poll(&mut cx).is_pending());
    drop(batch);
    assert_eq!(woken.times(), 1);
    assert!(drained.as_mut().poll(&mut cx).is_ready());
    assert_eq!(balanced(&queue).dropped.stopped.frames, 2);
    assert_eq!(queue.take_untold().stopped.frames, 1);
}

#[test]
fn a_closed_queue_stays_closed_when_it_is_sealed() {
    let queue = queue(limits());
    push(&queue, b"in flight", 0).unwrap();
    let batch = take(&queue, 0);
    queue.close();
    queue.seal();
    drop(batch);
    assert_eq!(balanced(&queue).dropped.stopped.frames, 1);
}

#[test]
fn a_queue_is_closed_when_its_guard_is_dropped() {
    let queue = queue(limits());
    let guard = CloseOnDrop::new(queue.clone());
    push(&queue, b"a", 0).unwrap();
    drop(guard);
    assert_eq!(push(&queue, b"b", 0), Err(Refusal::Stopped));
    assert_eq!(balanced(&queue).dropped.stopped.frames, 1);
}
