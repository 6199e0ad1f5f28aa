//! Frames that are offered together.

use super::*;

/// Pushes these payloads together and rings the doorbell. Returns how many were accepted.
fn push_all(queue: &SendQueue, payloads: &[&[u8]], millis: u64) -> (usize, Result<(), Refusal>) {
    let mut staged = staged(payloads);
    let (_, pushed) = queue.push_staged((), &mut staged, at(millis), WhenFull::Refuse);
    let left: Vec<_> = staged.into_frames().map(|(_, payload)| payload).collect();
    let accepted = payloads.len() - left.len();
    assert_eq!(left, payloads[accepted..], "the rest comes back, in order");
    (accepted, pushed)
}

fn staged<'p>(payloads: &[&'p [u8]]) -> Staged<&'p [u8]> {
    let mut staged = Staged::new();
    let mut frames = payloads.iter().map(|payload| (GROUP, *payload));
    staged.refill(&mut frames);
    assert!(frames.next().is_none(), "short enough for one part");
    staged
}

/// Whatever a burst meets, it must leave what single pushes leave that stop at the first refusal.
#[test]
fn a_burst_ends_as_if_its_frames_were_pushed_one_by_one() {
    const TOO_LONG: usize = 2 * LARGE_FROM - HEADER;

    let (short, long, too_long) = (vec![1; 30], vec![2; LARGE_FROM], vec![3; TOO_LONG]);
    let frames_of = |choices: u32| {
        let kind = |n: u32| match choices >> (2 * n) & 3 {
            0 => &[][..],
            1 => &short[..],
            2 => &long[..],
            _ => &too_long[..],
        };
        (0..4).map(kind).collect::<Vec<_>>()
    };
    for overflow in [Overflow::RejectNewest, Overflow::DropOldest] {
        for (frames, bytes) in [(100, 100_000), (3, 100_000), (100, 2 * LARGE_FROM)] {
            for choices in 0..256 {
                let limits = Limits {
                    frames,
                    bytes,
                    frame: TOO_LONG,
                    overflow,
                    ..limits()
                };
                let payloads = frames_of(choices);
                let (one_by_one, together) = (queue(limits), queue(limits));
                // One frame is queued already, and one is in flight.
                let [_in_flight, _too] = [&one_by_one, &together].map(|queue| {
                    push(queue, b"in flight", 0).unwrap();
                    let batch = take(queue, 0);
                    push(queue, b"queued", 1).unwrap();
                    batch
                });
                let refused = payloads
                    .iter()
                    .map(|payload| push(&one_by_one, payload, 1))
                    .position(|pushed| pushed.is_err());
                let (accepted, pushed) = push_all(&together, &payloads, 1);
                assert_eq!(accepted, refused.unwrap_or(4));
                assert_eq!(pushed.is_err(), refused.is_some());
                assert_eq!(balanced(&together), balanced(&one_by_one), "{payloads:?}");
            }
        }
    }
}

#[test]
fn a_burst_is_on_the_wire_in_its_order_behind_what_was_queued() {
    let large = vec![7; LARGE_FROM];
    let queue = queue(Limits {
        frames: 100,
        ..limits()
    });
    push(&queue, b"first", 0).unwrap();
    let payloads: [&[u8]; 5] = [b"a", b"", &large, b"b", &large];
    assert_eq!(push_all(&queue, &payloads, 0), (5, Ok(())));
    let all: [&[u8]; 6] = [b"first", b"a", b"", &large, b"b", &large];
    assert_eq!(wire(&take(&queue, 0)), frames(&all));
}

#[test]
fn what_is_behind_a_refused_frame_is_not_offered() {
    let queue = queue(limits());
    let too_long = vec![0; 50_000];
    let (accepted, pushed) = push_all(&queue, &[b"a", &too_long, b"b"], 0);
    assert_eq!(accepted, 1);
    assert!(matches!(pushed, Err(Refusal::TooLarge { .. })));
    let stats = balanced(&queue);
    assert_eq!((stats.offered.frames, stats.accepted.frames), (2, 1));
    assert_eq!(stats.rejected.total().frames, 1);

    let reserved = [(GROUP, b"c"), (GroupId::RESERVED, b"d"), (GROUP, b"e")];
    for (first, left) in [(0, 2), (1, 2)] {
        let mut staged = Staged::new();
        staged.refill(&mut reserved[first..].iter().copied());
        let (_, pushed) = queue.push_staged((), &mut staged, at(0), WhenFull::Refuse);
        assert_eq!(pushed, Err(Refusal::ReservedGroup));
        assert_eq!(staged.into_frames().count(), left);
    }
    let only_reserved = [(GroupId::RESERVED, b"f")];
    let mut staged = Staged::new();
    staged.refill(&mut only_reserved.into_iter());
    let (_, pushed) = queue.push_staged((), &mut staged, at(0), WhenFull::Refuse);
    assert_eq!(pushed, Err(Refusal::ReservedGroup));
}

#[test]
fn a_queue_that_has_ended_takes_none_of_them() {
    for end in [SendQueue::<()>::seal, SendQueue::close] {
        let queue = queue(limits());
        end(&queue);
        assert_eq!(
            push_all(&queue, &[b"a", b"b"], 0),
            (0, Err(Refusal::Stopped))
        );
        assert!(!queue.has_frames());
    }
}

#[test]
fn a_burst_wakes_the_writer_once_and_not_at_all_if_nothing_was_accepted() {
    let queue = queue(limits());
    let (woken, waker) = Woken::new();
    let sleep = || {
        let ready = queue.poll_ready(&mut Context::from_waker(&waker));
        assert!(ready.is_pending());
    };
    sleep();
    let too_long = vec![0; 50_000];
    assert_eq!(push_all(&queue, &[&too_long, b"a"], 0).0, 0);
    assert_eq!(woken.times(), 0);
    assert_eq!(push_all(&queue, &[b"a", b"b", b"c"], 0).0, 3);
    assert_eq!(woken.times(), 1);
    write(&queue);
    sleep();
    assert_eq!(push_all(&queue, &[b"a", &too_long], 0).0, 1);
    assert_eq!(woken.times(), 2);
}

#[test]
fn a_full_queue_is_not_counted_as_a_refusal_of_a_sender_that_will_wait() {
    let queue = queue(limits());
    let payloads: [&[u8]; 6] = [b"1", b"2", b"3", b"4", b"5", b"6"];
    let mut staged = staged(&payloads);
    let (_, pushed) = queue.push_staged((), &mut staged, at(0), WhenFull::Wait);
    assert_eq!(pushed, Err(FULL));
    assert_eq!(balanced(&queue).offered.frames, 4);
    assert_eq!(staged.accepted(), 4);
    write(&queue);
    let (_, pushed) = queue.push_staged((), &mut staged, at(0), WhenFull::Wait);
    assert_eq!((pushed, staged.accepted()), (Ok(()), 6));
    assert_eq!(wire(&take(&queue, 0)), frames(&[b"5", b"6"]));
}

#[test]
fn a_burst_uses_only_room_that_those_who_wait_do_not_need() {
    use std::future::Future;

    let queue = queue(limits());
    for _ in 0..4 {
        push(&queue, b"x", 0).unwrap();
    }
    let mut waiting = Box::pin(queue.push_wait((), GROUP, b"w", || at(0)));
    let mut cx = Context::from_waker(Waker::noop());
    assert!(waiting.as_mut().poll(&mut cx).is_pending());
    write(&queue);
    // Three, of which one is for the sender that waits.
    assert_eq!(
        push_all(&queue, &[b"1", b"2", b"3", b"4"], 0),
        (3, Err(FULL))
    );
    assert!(waiting.as_mut().poll(&mut cx).is_ready());
    assert_eq!(balanced(&queue).queued.frames, 4);
}

#[test]
fn a_part_is_bounded_in_frames_and_bytes_however_long_the_iterator_is() {
    let parts = [
        (0, 1024),
        (56, 1024),
        (92, 656),
        (1016, 64),
        (8 << 10, 8),
        (1 << 20, 1),
    ];
    for (len, expected) in parts {
        let payload = vec![0; len];
        let mut staged = Staged::new();
        let mut endless = std::iter::repeat_with(|| (GROUP, &payload[..]));
        assert!(staged.refill(&mut endless));
        assert!(staged.refill(&mut endless), "and nothing is added to it");
        assert_eq!(staged.into_frames().count(), expected, "{len}");
    }
}

/// Then the bounds are looked at once for all of them.
#[test]
fn frames_that_fit_together_are_admitted_together_unless_groups_have_shares() {
    use crate::send::queue::admission::Together;

    let share = GroupShare {
        frames: 4,
        bytes: 100_000,
    };
    for (share, frames, expected) in [(None, 4, true), (None, 5, false), (Some(share), 4, false)] {
        let limits = Limits { share, ..limits() };
        let mut together = Together::default();
        (0..frames).for_each(|_| together.add(GROUP, 9));
        let queue = queue(limits);
        let admitted = queue.locked(|state| state.admits_all(&limits, &together));
        assert_eq!(admitted, expected);
    }
}

/// The iterator may promise more than it gives, and its items may be long themselves.
#[test]
#[cfg_attr(miri, ignore = "counts allocations")]
fn little_is_reserved_for_what_an_iterator_promises() {
    const LEN: usize = 2000;

    let taken = allocation_counter::measure(|| {
        let mut staged = Staged::new();
        let mut frames = std::iter::repeat_n((GROUP, [0_u8; LEN]), 1000);
        assert!(staged.refill(&mut frames));
        assert_eq!(staged.into_frames().count(), 33, "as many as a part has");
    });
    // Once when they are taken from the iterator, and once when they are given back.
    assert!(taken.bytes_max < 40 * 2 * LEN as u64, "{}", taken.bytes_max);
}
