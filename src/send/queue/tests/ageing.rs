//! Stale frames, in the queue and in a batch.

use super::*;

#[test]
fn expire_and_take_drop_stale_frames_and_report_each_drop_once() {
    let queue = queue(limits());
    push(&queue, b"old", 0).unwrap();
    push(&queue, b"older than limit at 150", 40).unwrap();
    push(&queue, b"new", 90).unwrap();
    assert_eq!(queue.next_expiry(at(30)), Some(Duration::from_millis(70)));
    assert_eq!(queue.expire(at(99)), Dropped::default());
    assert_eq!(queue.expire(at(100)).stale, Count::one(11));
    assert_eq!(balanced(&queue).dropped.stale, Count::one(11));
    let taken = queue.take(at(150));
    let batch = taken.batch.expect("one frame is not stale");
    assert_eq!(wire(&batch), frames(&[b"new"]));
    assert_eq!(
        taken.dropped.stale,
        Count::one(31),
        "the first was reported"
    );
    assert_eq!(balanced(&queue).dropped.stale.frames, 2);
    assert_eq!(
        queue.take_untold(),
        Dropped::default(),
        "both were reported"
    );
}

#[test]
fn dropping_stale_frames_makes_room() {
    let queue = queue(limits());
    for _ in 0..4 {
        push(&queue, b"x", 0).unwrap();
    }
    assert_eq!(push(&queue, b"y", 100), Err(FULL));
    assert_eq!(queue.expire(at(100)).stale.frames, 4);
    assert_eq!(push(&queue, b"y", 100), Ok(()));
}

/// The link sends them next in any case, so they must not be counted as dropped.
#[test]
fn frames_that_are_encrypted_are_not_dropped_as_stale() {
    let queue = queue(limits());
    for (payload, millis) in [(&b"one"[..], 0), (b"two", 0), (b"three", 0), (b"four", 5)] {
        push(&queue, payload, millis).unwrap();
    }
    let mut batch = take(&queue, 60);
    batch.advance(4);
    // The rest of the first frame, and the beginning of the second.
    batch.encrypted(8);
    batch.expire(at(110));
    assert_eq!(wire(&batch), frames(&[b"one", b"two"])[4..]);
    assert_eq!(balanced(&queue).dropped.stale.frames, 2);
    batch.advance(8);
    batch.encrypted(0);
    assert_eq!(batch.reached(), 1);
    batch.expire(at(110));
    assert_eq!(wire(&batch), frames(&[b"two"])[1..]);
}

#[test]
fn a_batch_that_stalls_drops_what_goes_stale_but_finishes_the_frame_it_began() {
    let queue = queue(limits());
    push(&queue, b"begun", 0).unwrap();
    push(&queue, b"not begun", 0).unwrap();
    push(&queue, b"young", 60).unwrap();
    let mut batch = take(&queue, 60);
    batch.advance(4);
    assert_eq!(batch.next_expiry(at(60)), Some(Duration::from_millis(40)));
    batch.expire(at(110));
    // Up to where a frame is missing: somebody may have to be told before the next goes out.
    assert_eq!(wire(&batch), frames(&[b"begun"])[4..]);
    assert_eq!(batch.begins_with(), None);
    assert_eq!(batch.next_expiry(at(110)), Some(Duration::from_millis(50)));
    batch.advance(9);
    assert_eq!((batch.reached(), batch.begins_with()), (1, Some(2)));
    assert_eq!(wire(&batch), frames(&[b"young"]));
    batch.advance(13);
    assert_eq!(batch.reached(), 3);
    let stats = balanced(&queue);
    assert_eq!((stats.written.frames, stats.dropped.stale.frames), (2, 1));
    assert_eq!(queue.take_untold().stale.frames, 1);
}

/// Those that begin behind them are dropped.
#[test]
fn frames_are_kept_up_to_the_last_one_of_which_a_part_is_encrypted() {
    let payloads: [&[u8]; 4] = [b"1", b"two", b"three", b"the fourth"];
    let ends = [9, 20, 33, 51];
    for begun in 10..=51 {
        let queue = queue(limits());
        for payload in payloads {
            push(&queue, payload, 0).unwrap();
        }
        let mut batch = take(&queue, 0);
        // The first frame is written, and a byte of the second.
        batch.advance(10);
        batch.encrypted(begun - 10);
        batch.expire(at(100));
        let kept = ends.iter().position(|end| *end >= begun).expect("the last");
        assert_eq!(wire(&batch), frames(&payloads[..=kept])[10..], "{begun}");
        assert_eq!(balanced(&queue).dropped.stale.frames, 3 - kept as u64);
    }
}
