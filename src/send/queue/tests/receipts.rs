//! What the queue knows of its link: which written frames are confirmed when it ends, and whom calls are put to.

use super::*;
use crate::{
    calls::pending::CallPeer,
    ids::{Incarnation, NodeId},
    observe::stats::Receipt,
};

/// Where the connection was when its link began.
const BEGIN: u64 = 1000;

/// Begins a link on which what is acknowledged is known.
fn linked(limits: Limits) -> Arc<SendQueue> {
    let queue = queue(limits);
    queue.link_begins(Some(BEGIN), None);
    queue
}

/// Whatever the kernel takes in one write, and whatever the peer's kernel has acknowledged of it: a frame that
/// was written whole is confirmed with its last byte, and until then in doubt.
#[test]
#[cfg_attr(miri, ignore = "takes minutes")]
fn a_written_frame_is_confirmed_once_all_of_it_is_acknowledged() {
    // Equal and unequal lengths, in several chunks. The last one begins with a frame that is shorter than the
    // part of the frame before it that a write may leave.
    let large = vec![7; 100];
    let chunks: [&[&[u8]]; 4] = [
        &[b"one", b"two", b"", b"a longer one"],
        &[&large],
        &[b"three", b"a frame of some length"],
        &[b"", b"", b"four"],
    ];
    let limits = Limits {
        frames: 100,
        large_from: 100,
        stale_after: Duration::from_secs(9),
        ..limits()
    };
    let all: Vec<&[u8]> = chunks.concat();
    let ends: Vec<usize> = all
        .iter()
        .scan(0, |end, payload| {
            *end += HEADER + payload.len();
            Some(*end)
        })
        .collect();
    let len = ends[ends.len() - 1];
    let written_by = |bytes: usize| ends.iter().filter(|end| **end <= bytes).count() as u64;
    for written in 0..=len {
        for acknowledged in [0, written / 2, written.saturating_sub(1), written] {
            let queue = linked(limits);
            for (millis, chunk) in (0..).zip(chunks) {
                for payload in chunk {
                    push(&queue, payload, millis).unwrap();
                }
            }
            let mut batch = take(&queue, 9);
            // In two writes, of which the second may begin in the middle of a frame.
            batch.advance(written / 3);
            batch.advance(written - written / 3);
            let receipt = queue.link_ended(Some(BEGIN + acknowledged as u64));
            let receipt = receipt.expect("the system tells what is acknowledged");
            let confirmed = written_by(acknowledged);
            assert_eq!(receipt.confirmed.frames, confirmed, "{written}");
            let in_doubt = written_by(written) - confirmed;
            assert_eq!(receipt.in_doubt.frames, in_doubt, "{written}");
            let stats = queue.stats();
            assert_eq!(stats.written, receipt.confirmed + receipt.in_doubt);
            assert_eq!(stats.confirmed, receipt.confirmed);
            assert_eq!(stats.in_doubt, receipt.in_doubt);
        }
    }
}

#[test]
fn the_receipts_of_all_links_are_counted_together() {
    let queue = linked(limits());
    for _ in 0..2 {
        push(&queue, b"x", 0).unwrap();
    }
    write(&queue);
    let receipt = Some(Receipt {
        confirmed: Count::one(9),
        in_doubt: Count::one(9),
    });
    assert_eq!(queue.link_ended(Some(BEGIN + 9)), receipt);
    queue.link_begins(Some(0), None);
    for _ in 0..2 {
        push(&queue, b"x", 0).unwrap();
    }
    write(&queue);
    assert_eq!(queue.link_ended(Some(9)), receipt);
    let stats = queue.stats();
    assert_eq!(stats.confirmed, Count::new(2, 18));
    assert_eq!(stats.in_doubt, Count::new(2, 18));
}

#[test]
fn control_frames_are_acknowledged_and_not_counted() {
    let queue = linked(limits());
    queue.said(30);
    push(&queue, b"x", 0).unwrap();
    write(&queue);
    let receipt = queue.link_ended(Some(BEGIN + 30 + 8)).expect("known");
    assert_eq!(receipt.in_doubt, Count::one(9), "its last byte is missing");
    queue.link_begins(None, None);
    push(&queue, b"x", 0).unwrap();
    write(&queue);
    assert_eq!(
        queue.link_ended(Some(100)),
        None,
        "not known from the beginning"
    );
    assert_eq!(queue.stats().confirmed, Count::ZERO);
}

#[test]
fn the_link_is_asked_to_ask_once_much_is_not_acknowledged_and_not_after_an_answer() {
    let queue = linked(Limits {
        frames: 10_000,
        stale_after: Duration::from_secs(9),
        ..limits()
    });
    // Of alternating lengths, or they would be counted together.
    let mut written = 0;
    let mut asked = || {
        for len in [0, 1] {
            push(&queue, &[0][..len], 0).unwrap();
        }
        let taken = queue.take(at(0));
        let mut batch = taken.batch.expect("two frames");
        written += 17;
        batch.advance(17);
        (taken.ask, written)
    };
    assert!(!asked().0);
    let (_, written) = (0..2000)
        .map(|_| asked())
        .find(|(ask, _)| *ask)
        .expect("much");
    queue.acknowledged(None);
    assert!(asked().0, "the system did not tell");
    queue.acknowledged(Some(BEGIN + written));
    assert!(!asked().0);
}

#[test]
fn a_call_is_put_to_the_node_at_the_far_end_of_its_link() {
    let far = CallPeer {
        node: NodeId::new(2),
        incarnation: Incarnation::new(1),
    };
    let queue = queue(limits());
    queue.link_begins(None, None);
    let link = queue.link();
    assert_eq!(queue.asked_on(link), Some(None), "takes no calls");
    queue.link_begins(None, Some(far));
    assert_eq!(queue.asked_on(link), None, "has ended");
    assert_eq!(queue.asked_on(link + 1), Some(Some(far.on(link + 1))));
}
