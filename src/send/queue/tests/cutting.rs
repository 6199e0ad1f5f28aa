//! Frames in the middle of which links end.

use std::{future::Future, pin::pin};

use super::*;

/// Writes so many bytes of what is next on a link, which then ends.
fn cut(queue: &Arc<SendQueue>, written: usize) {
    let mut batch = take(queue, 0);
    batch.advance(written);
    batch.link_ended();
}

fn left(queue: &Arc<SendQueue>) -> Vec<u8> {
    let taken = queue.take(at(0));
    taken.batch.map_or(Vec::new(), |batch| wire(&batch))
}

#[test]
fn the_third_link_that_ends_in_the_middle_of_a_frame_drops_it_and_no_other() {
    let large = [3; LARGE_FROM];
    // In a chunk with others, and alone in a chunk.
    let payloads: [&[u8]; 4] = [b"one", b"two", &large, b"four"];
    for first in 0..payloads.len() {
        let queue = queue(limits());
        for payload in payloads {
            push(&queue, payload, 0).unwrap();
        }
        let whole = frames(&payloads[..first]).len();
        let mut behind = whole;
        for _ in 0..2 {
            cut(&queue, behind + 4);
            // The frames before it were written on the first link.
            behind = 0;
            assert_eq!(left(&queue), frames(&payloads[first..]), "goes back whole");
        }
        cut(&queue, 4);
        let dropped = Count::one(HEADER + payloads[first].len());
        assert_eq!(queue.take_untold().cut_off, dropped);
        assert_eq!(left(&queue), frames(&payloads[first + 1..]));
        let stats = balanced(&queue);
        assert_eq!(stats.dropped.cut_off, dropped);
        assert_eq!(stats.written.frames, first as u64);
    }
}

#[test]
fn a_link_that_ends_between_two_frames_cuts_none() {
    let queue = queue(limits());
    for payload in [b"one", b"two"] {
        push(&queue, payload, 0).unwrap();
    }
    cut(&queue, HEADER + 3);
    for _ in 0..5 {
        cut(&queue, 0);
    }
    assert_eq!(left(&queue), frames(&[b"two"]));
    assert_eq!(balanced(&queue).dropped, Dropped::default());
}

#[test]
fn how_often_a_frame_was_cut_says_nothing_of_the_one_behind_it() {
    let queue = queue(limits());
    for payload in [b"one", b"two"] {
        push(&queue, payload, 0).unwrap();
    }
    cut(&queue, 4);
    cut(&queue, 4);
    for _ in 0..2 {
        cut(&queue, if left(&queue).len() > 11 { 11 + 4 } else { 4 });
    }
    assert_eq!(left(&queue), frames(&[b"two"]));
    assert_eq!(balanced(&queue).dropped, Dropped::default());
}

#[test]
fn dropping_a_frame_that_was_cut_makes_room() {
    let queue = queue(Limits {
        frames: 1,
        ..limits()
    });
    push(&queue, b"one", 0).unwrap();
    let (woken, waker) = Woken::new();
    let mut cx = Context::from_waker(&waker);
    let mut waiting = pin!(queue.push_wait((), GROUP, b"two", || at(0)));
    assert!(waiting.as_mut().poll(&mut cx).is_pending());
    cut(&queue, 4);
    cut(&queue, 4);
    assert_eq!(woken.times(), 0);
    cut(&queue, 4);
    assert_eq!(woken.times(), 1);
    assert!(waiting.as_mut().poll(&mut cx).is_ready());
    assert_eq!(left(&queue), frames(&[b"two"]));
}
