//! The bare queue, without actor, socket or clock.

use std::{
    io::IoSlice,
    pin::pin,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    task::Wake,
};

use bytes::Bytes;

use super::*;
use crate::wire::frame;

const GROUP: GroupId = GroupId::new(1);

fn limits() -> Limits {
    Limits {
        frames: 4,
        bytes: 100_000,
        frame: 50_000,
        stale_after: Duration::from_millis(100),
        overflow: Overflow::RejectNewest,
        chain_from: CHAIN_FROM,
    }
}

fn queue(limits: Limits) -> Arc<SendQueue> {
    Arc::new(SendQueue::new(limits))
}

fn at(millis: u64) -> CoarseInstant {
    CoarseInstant::from_millis(millis)
}

fn push(queue: &SendQueue, payload: &[u8], millis: u64) -> Result<(), Refusal> {
    queue
        .push((), GROUP, payload, at(millis))
        .map_err(|(refusal, back)| {
            assert_eq!(back, payload);
            refusal
        })
}

/// What the batch would put on the wire.
fn wire(batch: &Batch) -> Vec<u8> {
    let mut slices = [IoSlice::new(&[]); 2 * BATCH_RUNS];
    let filled = batch.slices(&mut slices);
    let mut bytes = Vec::new();
    // Slice by slice: Miri takes minutes for as many bytes one by one.
    slices[..filled]
        .iter()
        .for_each(|slice| bytes.extend_from_slice(slice));
    bytes
}

fn frames(payloads: &[&[u8]]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for payload in payloads {
        bytes.extend_from_slice(&frame::header(GROUP, payload.len()));
        bytes.extend_from_slice(payload);
    }
    bytes
}

fn balanced<To: Copy + Eq>(queue: &SendQueue<To>) -> SendStats {
    let tcp = queue.stats();
    let stats = crate::Stats {
        tcp,
        ..Default::default()
    };
    stats.balance().expect("every frame in one place");
    tcp
}

/// Counts how often it is rung.
#[derive(Default)]
struct Bell(AtomicUsize);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Relaxed);
    }
}

#[test]
fn frames_come_out_in_order_and_in_wire_form_whatever_their_size_and_age() {
    let queue = queue(limits());
    let large = vec![7; CHAIN_FROM];
    push(&queue, b"a", 0).unwrap();
    push(&queue, b"", 0).unwrap();
    push(&queue, &large, 1).unwrap();
    push(&queue, b"d", 2).unwrap();
    let batch = queue.take(at(3)).expect("four frames");
    assert_eq!(wire(&batch), frames(&[b"a", b"", &large, b"d"]));
}

#[test]
fn never_holds_one_frame_or_byte_more_than_its_bounds_with_what_is_in_flight() {
    let queue = queue(limits());
    for _ in 0..4 {
        push(&queue, b"x", 0).unwrap();
    }
    let full = Err(Refusal::Full(QueueLimit::Frames));
    assert_eq!(push(&queue, b"x", 0), full);
    let mut batch = queue.take(at(0)).expect("four frames");
    assert_eq!(push(&queue, b"x", 0), full, "in flight is not gone");
    batch.advance(9);
    assert_eq!(push(&queue, b"x", 0), Ok(()));
    assert_eq!(push(&queue, b"x", 0), full);

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
    assert_eq!(refused, Err((Refusal::ReservedGroup, b"x")));
    assert_eq!(balanced(&queue).rejected.invalid, Count::one(9));
}

#[test]
fn a_frame_above_the_limit_is_refused_with_the_limit() {
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
fn oldest_go_first_where_that_is_asked_for_even_from_the_middle_of_a_run() {
    let limits = Limits {
        overflow: Overflow::DropOldest,
        ..limits()
    };
    let queue = queue(limits);
    for payload in [b"a", b"b", b"c", b"d", b"e"] {
        push(&queue, payload, 0).unwrap();
    }
    let batch = queue.take(at(0)).expect("four frames");
    assert_eq!(wire(&batch), frames(&[b"b", b"c", b"d", b"e"]));
    assert_eq!(balanced(&queue).dropped.overflow, Count::one(9));
    assert_eq!(
        push(&queue, b"f", 0),
        Err(Refusal::Full(QueueLimit::Frames)),
        "what is being written cannot be dropped"
    );
}

#[test]
fn stale_frames_go_by_the_timer_and_at_taking_and_free_their_room() {
    let queue = queue(limits());
    push(&queue, b"old", 0).unwrap();
    push(&queue, b"older than limit at 150", 40).unwrap();
    push(&queue, b"new", 90).unwrap();
    assert_eq!(queue.next_expiry(at(30)), Some(Duration::from_millis(70)));
    queue.expire(at(99));
    assert_eq!(balanced(&queue).dropped.stale, Count::ZERO);
    queue.expire(at(100));
    assert_eq!(balanced(&queue).dropped.stale, Count::one(11));
    let batch = queue.take(at(150)).expect("one is young enough");
    assert_eq!(wire(&batch), frames(&[b"new"]));
    assert_eq!(balanced(&queue).dropped.stale.frames, 2);
    assert_eq!(queue.take_untold().stale.frames, 2);
    assert_eq!(queue.take_untold().stale.frames, 0, "told once");
}

#[test]
fn a_batch_that_stalls_drops_what_goes_stale_but_finishes_the_frame_it_began() {
    let queue = queue(limits());
    push(&queue, b"begun", 0).unwrap();
    push(&queue, b"not begun", 0).unwrap();
    push(&queue, b"young", 60).unwrap();
    let mut batch = queue.take(at(60)).expect("three frames");
    batch.advance(4);
    assert_eq!(batch.next_expiry(at(60)), Some(Duration::from_millis(40)));
    batch.expire(at(110));
    assert_eq!(wire(&batch), frames(&[b"begun", b"young"])[4..]);
    assert_eq!(batch.next_expiry(at(110)), Some(Duration::from_millis(50)));
    batch.advance(9 + 13);
    let stats = balanced(&queue);
    assert_eq!((stats.written.frames, stats.dropped.stale.frames), (2, 1));
}

#[test]
fn a_lost_link_sends_the_cut_frame_again_whole_and_no_whole_frame_twice() {
    let payloads: [&[u8]; 4] = [b"one", b"two", &[3; CHAIN_FROM], b"four"];
    let all = frames(&payloads);
    // Every cut takes Miri half a second, which is to come round with many seeds.
    let step = if cfg!(miri) { 7 } else { 1 };
    for cut in (0..35).chain(all.len() - 20..=all.len()).step_by(step) {
        let queue = queue(limits());
        for payload in payloads {
            push(&queue, payload, 0).unwrap();
        }
        let mut batch = queue.take(at(0)).expect("four frames");
        // In two steps, as a kernel may take it.
        batch.advance(cut / 2);
        batch.advance(cut - cut / 2);
        drop(batch);
        let ends = [11, 22, 22 + 8 + CHAIN_FROM, all.len()];
        let whole = ends.iter().filter(|end| **end <= cut).count();
        assert_eq!(balanced(&queue).written.frames, whole as u64);
        let again = queue.take(at(0)).map_or(Vec::new(), |batch| wire(&batch));
        assert_eq!(again, frames(&payloads[whole..]), "cut at {cut}");
    }
}

#[test]
fn the_doorbell_rings_once_for_a_writer_that_sleeps() {
    let queue = queue(limits());
    let bell = Arc::new(Bell::default());
    let waker = bell.clone().into();
    assert!(
        queue
            .poll_ready(&mut Context::from_waker(&waker))
            .is_pending()
    );
    push(&queue, b"a", 0).unwrap();
    push(&queue, b"b", 0).unwrap();
    assert_eq!(bell.0.load(Relaxed), 1, "it is awake after the first");
    assert!(
        queue
            .poll_ready(&mut Context::from_waker(&waker))
            .is_ready()
    );
}

#[test]
fn those_who_wait_get_room_in_order_and_nobody_pushes_in_before_them() {
    let queue = queue(Limits {
        frames: 1,
        ..limits()
    });
    push(&queue, b"0", 0).unwrap();
    let wait = |payload: &'static [u8]| {
        let queue = &queue;
        async move { queue.push_wait((), GROUP, payload, || at(0)).await }
    };
    let bell = Arc::new(Bell::default());
    let waker = bell.clone().into();
    let mut cx = Context::from_waker(&waker);
    let (mut first, mut second) = (pin!(wait(b"1")), pin!(wait(b"2")));
    let mut third = Box::pin(wait(b"3"));
    assert!(first.as_mut().poll(&mut cx).is_pending());
    assert!(third.as_mut().poll(&mut cx).is_pending());
    assert!(second.as_mut().poll(&mut cx).is_pending());
    // Cancelled in line: it leaves no trace, and the line goes on.
    drop(third);
    queue.take(at(0)).expect("one").advance(9);
    assert!(bell.0.load(Relaxed) > 0, "room was told");
    let pushed_in = push(&queue, b"x", 0);
    assert_eq!(pushed_in, Err(Refusal::Full(QueueLimit::Frames)));
    assert!(second.as_mut().poll(&mut cx).is_pending());
    assert_eq!(first.as_mut().poll(&mut cx), Poll::Ready(Ok(())));
    queue.take(at(0)).expect("one").advance(9);
    assert_eq!(second.as_mut().poll(&mut cx), Poll::Ready(Ok(())));
    assert_eq!(
        balanced(&queue).offered.frames,
        4,
        "0, x, 1 and 2, but not 3"
    );
}

#[test]
fn who_does_not_wait_may_have_what_those_who_wait_do_not_need() {
    let queue = queue(limits());
    for payload in [b"0", b"1", b"2", b"3"] {
        push(&queue, payload, 0).unwrap();
    }
    let mut cx = Context::from_waker(Waker::noop());
    let wait = |payload: &'static [u8]| queue.push_wait((), GROUP, payload, || at(0));
    let (mut first, mut second) = (pin!(wait(b"4")), pin!(wait(b"5")));
    assert!(first.as_mut().poll(&mut cx).is_pending());
    assert!(second.as_mut().poll(&mut cx).is_pending());
    let mut batch = queue.take(at(0)).expect("four");
    batch.advance(2 * 9);
    let full = Err(Refusal::Full(QueueLimit::Frames));
    assert_eq!(push(&queue, b"x", 0), full, "room for the two who wait");
    batch.advance(9);
    assert_eq!(push(&queue, b"x", 0), Ok(()), "room for one more");
    assert_eq!(push(&queue, b"y", 0), full, "and for no other");
    assert_eq!(first.as_mut().poll(&mut cx), Poll::Ready(Ok(())));
    assert_eq!(second.as_mut().poll(&mut cx), Poll::Ready(Ok(())));
    drop(batch);
    assert_eq!(balanced(&queue).queued.frames, 4);
}

#[test]
fn closing_drops_what_is_left_and_wakes_everybody_who_waits() {
    let queue = queue(Limits {
        frames: 2,
        ..limits()
    });
    push(&queue, b"lent", 0).unwrap();
    let batch = queue.take(at(0)).expect("one");
    push(&queue, b"queued", 0).unwrap();
    let bell = Arc::new(Bell::default());
    let waker = bell.clone().into();
    let mut cx = Context::from_waker(&waker);
    let mut waits = pin!(queue.push_wait((), GROUP, b"late", || at(0)));
    assert!(waits.as_mut().poll(&mut cx).is_pending());
    let mut drained = pin!(queue.drained());
    assert!(drained.as_mut().poll(&mut cx).is_pending());
    queue.seal();
    assert_eq!(
        waits.as_mut().poll(&mut cx),
        Poll::Ready(Err((Refusal::Stopped, b"late")))
    );
    assert!(!queue.is_done(), "sealed, but one is queued");
    queue.close();
    assert!(queue.is_done());
    assert!(drained.as_mut().poll(&mut cx).is_pending(), "one is lent");
    drop(batch);
    assert!(drained.as_mut().poll(&mut cx).is_ready());
    let stats = balanced(&queue);
    assert_eq!(
        (stats.dropped.stopped.frames, stats.rejected.stopped.frames),
        (2, 1)
    );
    assert!(bell.0.load(Relaxed) >= 2);
}

#[test]
fn datagrams_leave_one_by_one_without_their_length_and_failures_are_counted() {
    let queue = Arc::new(SendQueue::<u8>::new(limits()));
    queue.push(1, GROUP, b"a", at(0)).unwrap();
    queue.push(1, GROUP, b"b", at(0)).unwrap();
    queue.push(2, GROUP, b"c", at(0)).unwrap();
    let mut batch = queue.take(at(0)).expect("three");
    assert_eq!(next_datagrams(&batch, 1), (1, 1, b"\x01\0\0\0a".to_vec()));
    batch.finish_datagrams(1, true);
    assert_eq!(next_datagrams(&batch, 1), (1, 1, b"\x01\0\0\0b".to_vec()));
    batch.finish_datagrams(1, false);
    assert_eq!(next_datagrams(&batch, 9), (2, 1, b"\x01\0\0\0c".to_vec()));
    batch.finish_datagrams(1, true);
    assert!(batch.is_empty());
    let stats = balanced(&queue);
    assert_eq!((stats.written.frames, stats.dropped.failed.frames), (2, 1));
}

/// Whom up to `number` datagrams are for that go together, how many there are, and their bytes.
fn next_datagrams(batch: &Batch<u8>, number: usize) -> (u8, usize, Vec<u8>) {
    let limits = Together {
        number,
        each: 6,
        bytes: 20,
    };
    let mut contents = Vec::new();
    let found = batch.datagrams(&mut contents, &limits).expect("in hand");
    (found.to, found.number, contents)
}

#[test]
fn datagrams_of_one_length_go_together_and_a_shorter_one_ends_them() {
    let wide = Limits {
        frames: 100,
        ..limits()
    };
    let queue = Arc::new(SendQueue::<u8>::new(wide));
    // With four bytes of header: of 5, 5, 4 | 5 | 6, 6, 6 (20 bytes) | 6 | 7 (too long to go with others)
    // | 7 | 4, 4 bytes.
    let lens: [&[usize]; 6] = [&[1, 1, 0], &[1], &[2, 2, 2], &[2], &[3], &[3]];
    let last: &[usize] = &[0, 0];
    let groups = lens.into_iter().chain([last]);
    let payload = [b'x'; 3];
    for len in groups.clone().flatten() {
        queue.push(1, GROUP, &payload[..*len], at(0)).unwrap();
    }
    queue.push(2, GROUP, b"", at(0)).unwrap();
    let mut batch = queue.take(at(0)).expect("all");
    for group in groups {
        let (to, number, contents) = next_datagrams(&batch, 9);
        let expected: usize = group.iter().map(|len| 4 + len).sum();
        assert_eq!((to, number, contents.len()), (1, group.len(), expected));
        batch.finish_datagrams(number, true);
    }
    assert_eq!(
        next_datagrams(&batch, 9).0,
        2,
        "another place, another time"
    );
    drop(batch);
    assert_eq!(balanced(&queue).queued.frames, 1);
}

/// A payload that asks its queue something when it goes.
struct Asking {
    bytes: Vec<u8>,
    queue: Arc<SendQueue>,
}

impl AsRef<[u8]> for Asking {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        balanced(&self.queue);
    }
}

#[test]
fn a_payload_that_asks_its_queue_something_when_it_goes_is_answered() {
    let limits = Limits {
        overflow: Overflow::DropOldest,
        ..limits()
    };
    let queue = queue(limits);
    // With the lock held in any of these the test would never end.
    let push = |len: usize, millis: u64| {
        let (bytes, queue) = (vec![1; len], queue.clone());
        let asking = Bytes::from_owner(Asking {
            bytes,
            queue: queue.clone(),
        });
        queue.push((), GROUP, asking, at(millis)).expect("room");
    };
    push(1, 0);
    for _ in 0..6 {
        push(CHAIN_FROM, 0);
    }
    assert_eq!(balanced(&queue).dropped.overflow.frames, 3, "evicted");
    let mut batch = queue.take(at(0)).expect("four frames");
    batch.advance(2 * (HEADER + CHAIN_FROM));
    batch.expire(at(1000));
    push(CHAIN_FROM, 1000);
    queue.expire(at(2000));
    push(CHAIN_FROM, 2000);
    queue.close();
    let stats = balanced(&queue);
    assert_eq!((stats.written.frames, stats.dropped.stale.frames), (2, 3));
    assert_eq!(stats.dropped.stopped.frames, 1);
}

#[test]
#[cfg_attr(miri, ignore = "it is about allocations, and takes minutes")]
fn frames_that_wait_take_little_more_memory_than_they_are_long() {
    const BYTES: usize = 16 << 20;
    // A buffer that has just doubled when the frames of its tick end.
    const EACH: usize = 33;

    let queue = queue(Limits {
        frames: usize::MAX,
        bytes: BYTES,
        stale_after: Duration::from_secs(3600),
        ..limits()
    });
    let payload = [0; 1_000];
    let taken = allocation_counter::measure(|| {
        let full = (0..).find(|number| push(&queue, &payload, number / EACH as u64).is_err());
        assert!(full.is_some());
    });
    let bound = BYTES / 7 * 8 + (2 << 20);
    assert!(
        taken.bytes_current as usize <= bound,
        "{} for {BYTES}",
        taken.bytes_current
    );
}
