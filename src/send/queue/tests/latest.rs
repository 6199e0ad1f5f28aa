//! Frames with terms of their own: the newest replaces those before it, and each may have an age limit.

use futures::FutureExt;

use super::*;
use crate::send::queue::{Parts, Terms};

const KEY: (GroupId, u64) = (GROUP, 7);

fn keyed(key: (GroupId, u64)) -> Terms {
    Terms {
        key: Some(key),
        ..Terms::default()
    }
}

fn ttl(millis: u64) -> Terms {
    Terms {
        ttl: Some(Duration::from_millis(millis)),
        ..Terms::default()
    }
}

fn push_own(
    queue: &SendQueue,
    payload: &'static [u8],
    terms: Terms,
    millis: u64,
) -> Result<(), Refusal> {
    let pushed = queue.push_apart((), (GROUP, payload), terms, at(millis));
    pushed.map(drop).map_err(|(refusal, _)| refusal)
}

fn keys(queue: &SendQueue) -> usize {
    queue.locked(|state| state.apart.by_key.len())
}

#[test]
fn a_newer_frame_takes_the_place_of_the_older_with_the_same_key() {
    let queue = queue(limits());
    push(&queue, b"a", 0).expect("room");
    push_own(&queue, b"old", keyed(KEY), 0).expect("room");
    push(&queue, b"b", 0).expect("room");
    push_own(&queue, b"newest", keyed(KEY), 0).expect("room");
    let stats = balanced(&queue);
    assert_eq!(stats.accepted.frames, 4);
    assert_eq!(stats.dropped.replaced, Count::one(HEADER + 3));
    let batch = take(&queue, 0);
    assert_eq!(wire(&batch), frames(&[b"a", b"newest", b"b"]));
    drop(batch);
    assert_eq!(queue.next_number(), 3, "it has the number of the older");
    push(&queue, b"c", 0).expect("room");
    let batch = take(&queue, 0);
    // No number is left out, so all of it is written at once.
    assert_eq!(wire(&batch), frames(&[b"a", b"newest", b"b", b"c"]));
}

#[test]
fn frames_with_other_keys_or_of_other_groups_stay() {
    let queue = queue(limits());
    let other_key = keyed((GROUP, 8));
    let other_group = keyed((GroupId::new(99), 7));
    push_own(&queue, b"1", keyed(KEY), 0).expect("room");
    push_own(&queue, b"2", other_key, 0).expect("room");
    push_own(&queue, b"3", other_group, 0).expect("room");
    push(&queue, b"4", 0).expect("room");
    assert_eq!(balanced(&queue).queued.frames, 4);
    assert_eq!(keys(&queue), 3);
}

#[test]
fn however_often_it_is_replaced_one_frame_waits() {
    const TIMES: u64 = if cfg!(miri) { 100 } else { 1_000_000 };

    let queue = queue(limits());
    for _ in 0..TIMES {
        push_own(&queue, b"beat", keyed(KEY), 0).expect("room");
    }
    let stats = balanced(&queue);
    assert_eq!(
        (stats.queued.frames, stats.dropped.replaced.frames),
        (1, TIMES - 1)
    );
    write(&queue);
    assert_eq!(balanced(&queue).written.frames, 1);
    assert_eq!(queue.next_number(), 1);
}

#[test]
fn a_key_is_forgotten_when_its_frame_leaves_in_whatever_way() {
    type Leave = fn(&Arc<SendQueue>);
    let ways: [(&str, Leave); 5] = [
        ("written", write),
        ("stale", |queue| {
            let _ = queue.expire(at(200));
        }),
        ("closed", |queue| queue.close()),
        ("abandoned", |queue| drop(queue.abandon())),
        ("evicted", |queue| {
            (0..4).for_each(|_| push(queue, b"x", 0).expect("evicts"));
        }),
    ];
    for (way, leave) in ways {
        let queue = queue(Limits {
            overflow: Overflow::DropOldest,
            ..limits()
        });
        push_own(&queue, b"beat", keyed(KEY), 0).expect("room");
        assert_eq!(keys(&queue), 1);
        leave(&queue);
        assert_eq!(keys(&queue), 0, "{way}");
        queue.locked(|state| assert!(state.apart.is_empty(), "{way}"));
        balanced(&queue);
    }
}

#[test]
fn a_frame_that_is_being_written_is_not_replaced_and_does_not_come_back_before_a_newer_one() {
    let queue = queue(limits());
    push(&queue, b"a", 0).expect("room");
    push_own(&queue, b"old", keyed(KEY), 0).expect("room");
    push(&queue, b"b", 0).expect("room");
    let batch = take(&queue, 0);
    push_own(&queue, b"new", keyed(KEY), 0).expect("room");
    assert_eq!(balanced(&queue).dropped.replaced, Count::ZERO);
    assert_eq!(wire(&batch), frames(&[b"a", b"old", b"b"]));
    // The link ends.
    drop(batch);
    assert_eq!(balanced(&queue).dropped.replaced, Count::one(HEADER + 3));
    let mut batch = take(&queue, 0);
    assert_eq!(wire(&batch), frames(&[b"a"]), "then number 1 is missing");
    batch.advance(wire(&batch).len());
    assert_eq!(batch.begins_with(), Some(2));
    assert_eq!(wire(&batch), frames(&[b"b", b"new"]));
}

#[test]
fn one_that_comes_back_is_replaced_by_the_next() {
    let queue = queue(limits());
    push_own(&queue, b"old", keyed(KEY), 0).expect("room");
    drop(take(&queue, 0));
    assert_eq!(keys(&queue), 1);
    push_own(&queue, b"new", keyed(KEY), 0).expect("room");
    let batch = take(&queue, 0);
    assert_eq!(wire(&batch), frames(&[b"new"]));
}

#[test]
fn the_older_frame_makes_room_for_the_newer() {
    let queue = queue(limits());
    for payload in [b"a", b"b", b"c"] {
        push(&queue, payload, 0).expect("room");
    }
    push_own(&queue, b"d", keyed(KEY), 0).expect("room");
    assert_eq!(
        push(&queue, b"e", 0),
        Err(Refusal::Full(QueueLimit::Frames))
    );
    push_own(&queue, b"D", keyed(KEY), 0).expect("in the place of the older");
    let other = keyed((GROUP, 8));
    let refused = push_own(&queue, b"e", other, 0);
    assert_eq!(refused, Err(Refusal::Full(QueueLimit::Frames)));
    assert_eq!(balanced(&queue).rejected.full_frames.frames, 2);
    let batch = take(&queue, 0);
    assert_eq!(wire(&batch), frames(&[b"a", b"b", b"c", b"D"]));
}

#[test]
fn one_that_is_no_longer_takes_no_room_from_those_who_wait() {
    let queue = queue(limits());
    push_own(&queue, b"old", keyed(KEY), 0).expect("room");
    for payload in [b"a", b"b", b"c"] {
        push(&queue, payload, 0).expect("room");
    }
    let mut waiting = std::pin::pin!(queue.push_wait((), GROUP, &b"waits"[..], || at(0)));
    assert!(waiting.as_mut().now_or_never().is_none());
    push_own(&queue, b"new", keyed(KEY), 0).expect("in the place of the older");
    let longer = push_own(&queue, b"longer", keyed(KEY), 0);
    assert_eq!(longer, Err(Refusal::Full(QueueLimit::Frames)));
    assert!(waiting.as_mut().now_or_never().is_none());
    let batch = take(&queue, 0);
    assert_eq!(wire(&batch), frames(&[b"new", b"a", b"b", b"c"]));
    drop(batch);
    queue.seal();
    let late = push_own(&queue, b"NEW", keyed(KEY), 0);
    assert_eq!(late, Err(Refusal::Stopped));
}

static LONG: [u8; 49_000] = [1; 49_000];

#[test]
fn a_longer_one_that_has_no_room_is_refused_and_the_older_stays() {
    let queue = queue(limits());
    push(&queue, &LONG, 0).expect("room");
    push_own(&queue, b"old", keyed(KEY), 0).expect("room");
    push(&queue, &LONG, 0).expect("room");
    let refused = push_own(&queue, &LONG, keyed(KEY), 0);
    assert_eq!(refused, Err(Refusal::Full(QueueLimit::Bytes)));
    let stats = balanced(&queue);
    assert_eq!((stats.queued.frames, stats.dropped.replaced.frames), (3, 0));
    assert_eq!(keys(&queue), 1);
}

#[test]
fn where_the_oldest_make_way_a_longer_one_goes_to_the_end() {
    let queue = queue(Limits {
        overflow: Overflow::DropOldest,
        ..limits()
    });
    push_own(&queue, b"old", keyed(KEY), 0).expect("room");
    push(&queue, &LONG, 0).expect("room");
    push(&queue, &LONG, 0).expect("room");
    push_own(&queue, &LONG, keyed(KEY), 0).expect("evicts");
    let dropped = balanced(&queue).dropped;
    assert_eq!((dropped.replaced.frames, dropped.overflow.frames), (1, 1));
    let mut batch = take(&queue, 0);
    assert_eq!(batch.count().frames, 2);
    assert_eq!(batch.begins_with(), Some(2), "0 and 1 are missing");
    batch.advance(2 * (HEADER + LONG.len()));
    assert_eq!(batch.reached(), 4);
}

#[test]
fn a_shorter_one_gives_room_to_who_waits() {
    let queue = queue(limits());
    push(&queue, &LONG, 0).expect("room");
    push_own(&queue, &LONG, keyed(KEY), 0).expect("room");
    let waiting = queue.push_wait((), GROUP, &LONG[..], || at(0));
    let mut waiting = std::pin::pin!(waiting);
    assert!(waiting.as_mut().now_or_never().is_none());
    push_own(&queue, b"short", keyed(KEY), 0).expect("room");
    let sent = waiting.now_or_never().expect("there is room now");
    assert!(sent.is_ok());
    assert_eq!(balanced(&queue).queued.frames, 3);
}

#[test]
fn a_frame_with_an_age_limit_of_its_own_goes_stale_by_that() {
    let queue = queue(limits());
    push_own(&queue, b"long", ttl(500), 0).expect("room");
    push(&queue, b"usual", 0).expect("room");
    push_own(&queue, b"short", ttl(20), 0).expect("room");
    let next = |millis| queue.next_expiry(at(millis)).map(|it| it.as_millis());
    assert_eq!(next(5), Some(15));
    assert_eq!(queue.expire(at(19)), Dropped::default());
    assert_eq!(queue.expire(at(20)).stale, Count::one(HEADER + 5));
    assert_eq!(next(20), Some(80));
    assert_eq!(queue.expire(at(100)).stale, Count::one(HEADER + 5));
    assert_eq!(next(100), Some(400));
    let batch = take(&queue, 499);
    assert_eq!(wire(&batch), frames(&[b"long"]));
    drop(batch);
    assert_eq!(queue.expire(at(500)).stale, Count::one(HEADER + 4));
    assert!(balanced(&queue).queued.is_zero());
}

#[test]
fn while_a_batch_is_written_each_of_its_frames_has_its_own_limit() {
    let queue = queue(limits());
    push_own(&queue, b"long", ttl(500), 0).expect("room");
    push_own(&queue, b"short", ttl(20), 0).expect("room");
    push(&queue, b"usual", 0).expect("room");
    let mut batch = take(&queue, 0);
    let next = batch.next_expiry(at(5)).expect("frames wait");
    assert_eq!(next.as_millis(), 15);
    batch.expire(at(20));
    assert_eq!(batch.count().frames, 2);
    batch.expire(at(100));
    assert_eq!(wire(&batch), frames(&[b"long"]));
    assert_eq!(balanced(&queue).dropped.stale.frames, 2);
}

/// Replacing renews the age, so those behind it are older.
#[test]
fn a_frame_that_was_replaced_is_young_and_those_behind_it_still_go_stale() {
    let queue = queue(limits());
    push_own(&queue, b"beat", keyed(KEY), 0).expect("room");
    push(&queue, b"a", 10).expect("room");
    push_own(&queue, b"BEAT", keyed(KEY), 90).expect("room");
    push(&queue, b"b", 95).expect("room");
    assert_eq!(queue.expire(at(110)).stale, Count::one(HEADER + 1));
    let mut batch = take(&queue, 110);
    assert_eq!(wire(&batch), frames(&[b"BEAT"]));
    batch.advance(wire(&batch).len());
    assert_eq!(batch.begins_with(), Some(2));
    assert_eq!(wire(&batch), frames(&[b"b"]));
}

/// A writer that waits for the first frame to go stale learns that another may be the first.
#[test]
fn a_frame_with_an_age_limit_of_its_own_wakes_whoever_waits_for_one() {
    let queue = queue(limits());
    let (woken, waker) = Woken::new();
    let mut cx = Context::from_waker(&waker);
    assert!(queue.poll_sooner(&mut cx).is_pending());
    push(&queue, b"a", 0).expect("room");
    push_own(&queue, b"beat", keyed(KEY), 0).expect("room");
    assert_eq!(woken.times(), 0);
    assert!(queue.poll_sooner(&mut cx).is_pending());
    push_own(&queue, b"short-lived", ttl(10), 0).expect("room");
    assert_eq!(woken.times(), 1);
    assert!(queue.poll_sooner(&mut cx).is_ready());
    assert!(queue.poll_sooner(&mut cx).is_pending(), "told once");
}

#[test]
fn a_long_frame_without_terms_is_not_taken_for_one_that_has_some() {
    let queue = queue(limits());
    push(&queue, &[0; LARGE_FROM], 0).expect("room");
    push_own(&queue, b"beat", keyed(KEY), 0).expect("room");
    write(&queue);
    assert_eq!(keys(&queue), 0, "both were written");
}

#[test]
fn what_waits_for_room_keeps_its_terms() {
    let queue = queue(limits());
    for _ in 0..4 {
        push(&queue, b"a", 0).expect("room");
    }
    let frame = (GROUP, &b"beat"[..]);
    let mut waiting = std::pin::pin!(queue.push_apart_wait((), frame, keyed(KEY), || at(0)));
    assert!(waiting.as_mut().now_or_never().is_none());
    write(&queue);
    assert!(waiting.now_or_never().expect("room").is_ok());
    assert_eq!(keys(&queue), 1);
    assert_eq!(balanced(&queue).queued.frames, 1);
}

/// Otherwise a message could arrive on a link that its sender believes to have ended before, and then once more.
#[test]
fn a_part_for_a_link_that_has_ended_is_not_written_on_the_next() {
    let queue = queue(limits());
    queue.link_begins(None, None);
    let parts = Parts::on(queue.link());
    let push_part = || {
        let terms = Terms {
            part: Some(parts.part()),
            ..Terms::default()
        };
        let pushed = queue.push_apart((), (GROUP, &b"part"[..]), terms, at(0));
        drop(pushed.map_err(|(refusal, _)| refusal).expect("room"));
    };
    push_part();
    write(&queue);
    push_part();
    push(&queue, b"frame", 0).expect("room");
    // It was taken, and goes back.
    drop(take(&queue, 0));
    queue.link_begins(None, None);
    let batch = take(&queue, 0);
    assert_eq!(wire(&batch), frames(&[b"frame"]));
    assert_eq!(batch.begins_with(), Some(2), "and 1 is missing");
    let stats = balanced(&queue);
    assert_eq!(stats.dropped.incomplete, Count::one(HEADER + 4));
    let known = parts.until(|known| known.queued == 0).now_or_never();
    let known = known.expect("both have left");
    assert!(known.torn && !known.dropped);
}
