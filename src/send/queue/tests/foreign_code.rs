//! The queue runs foreign code: the `Drop` of payloads, and wakers. It does so with its lock released, so
//! this code may use the queue. If the lock were held, these tests would never end.

use std::{future::Future, pin::pin};

use bytes::Bytes;

use super::*;

/// Payload or waker. Reads the counters of its queue when it is dropped, and when it is woken.
struct UsesQueue {
    bytes: Vec<u8>,
    queue: Arc<SendQueue>,
}

impl AsRef<[u8]> for UsesQueue {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for UsesQueue {
    fn drop(&mut self) {
        balanced(&self.queue);
    }
}

impl Wake for UsesQueue {
    fn wake(self: Arc<Self>) {
        balanced(&self.queue);
    }
}

#[test]
fn a_payload_may_use_the_queue_when_it_is_dropped() {
    let limits = Limits {
        overflow: Overflow::DropOldest,
        ..limits()
    };
    let queue = queue(limits);
    let push = |len: usize, millis: u64| {
        let (bytes, queue) = (vec![1; len], queue.clone());
        let payload = Bytes::from_owner(UsesQueue {
            bytes,
            queue: queue.clone(),
        });
        drop(queue.push((), GROUP, payload, at(millis)).expect("room"));
    };
    push(1, 0);
    for _ in 0..6 {
        push(LARGE_FROM, 0);
    }
    assert_eq!(balanced(&queue).dropped.overflow.frames, 3, "evicted");
    let mut batch = take(&queue, 0);
    batch.advance(2 * (HEADER + LARGE_FROM));
    batch.expire(at(1000));
    push(LARGE_FROM, 1000);
    assert_eq!(queue.expire(at(2000)).stale.frames, 3);
    push(LARGE_FROM, 2000);
    queue.close();
    let stats = balanced(&queue);
    assert_eq!((stats.written.frames, stats.dropped.stale.frames), (2, 3));
    assert_eq!(stats.dropped.stopped.frames, 1);
}

#[test]
fn a_waker_may_use_the_queue_when_it_is_woken_or_dropped() {
    let queue = queue(Limits {
        frames: 1,
        ..limits()
    });
    let waker = || {
        let (bytes, queue) = (Vec::new(), queue.clone());
        Waker::from(Arc::new(UsesQueue { bytes, queue }))
    };
    let ready = |waker: &Waker| queue.poll_ready(&mut Context::from_waker(waker));
    assert!(ready(&waker()).is_pending());
    assert!(ready(&waker()).is_pending(), "the first is replaced");
    push(&queue, b"x", 0).unwrap();
    let mut drained = pin!(queue.drained());
    let mut wait = |waker: &Waker| drained.as_mut().poll(&mut Context::from_waker(waker));
    assert!(wait(&waker()).is_pending());
    assert!(wait(&waker()).is_pending());
    {
        let mut pushing = pin!(queue.push_wait((), GROUP, b"1", || at(0)));
        let mut poll = |waker: &Waker| pushing.as_mut().poll(&mut Context::from_waker(waker));
        assert!(poll(&waker()).is_pending());
        assert!(poll(&waker()).is_pending());
        write(&queue);
        // Dropped after room was granted to it. The next sender is dropped while it waits.
    }
    push(&queue, b"x", 0).unwrap();
    let mut pushing = Box::pin(queue.push_wait((), GROUP, b"2", || at(0)));
    let pending = pushing.as_mut().poll(&mut Context::from_waker(&waker()));
    assert!(pending.is_pending());
    drop(pushing);
    queue.close();
    assert!(wait(Waker::noop()).is_ready());
}

/// Panics when it is dropped.
struct Panicking([u8; LARGE_FROM]);

impl AsRef<[u8]> for Panicking {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Panicking {
    fn drop(&mut self) {
        panic!("as the test wants");
    }
}

#[test]
fn two_pieces_that_panic_when_they_are_dropped_do_no_harm() {
    let queue = queue(limits());
    let [head, body] = [(); 2].map(|()| Bytes::from_owner(Panicking([1; LARGE_FROM])));
    drop(queue.push((), GROUP, (head, body), at(0)).expect("room"));
    // Two panics at the same time would end the process.
    queue.close();
    assert_eq!(balanced(&queue).dropped.stopped.frames, 1);
}

#[test]
fn the_frames_of_a_burst_and_its_iterator_may_use_the_queue() {
    let queue = queue(Limits {
        frames: 2,
        ..limits()
    });
    let mut frames = [1, LARGE_FROM, 1].into_iter().map(|len| {
        balanced(&queue);
        let (bytes, queue) = (vec![1; len], queue.clone());
        (GROUP, Bytes::from_owner(UsesQueue { bytes, queue }))
    });
    let mut staged = Staged::new();
    assert!(staged.refill(&mut frames));
    let (_, pushed) = queue.push_staged((), &mut staged, at(0), WhenFull::Refuse);
    assert_eq!((pushed, staged.accepted()), (Err(FULL), 2));
    drop(staged);
    queue.close();
    assert_eq!(balanced(&queue).dropped.stopped.frames, 2);
}
