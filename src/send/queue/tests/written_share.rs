//! The share of a group while its frames are written, and which of its frames are evicted.

use super::{
    group_share::{NOISY, QUIET, SHARE_FULL, contents, push_to, shared},
    *,
};

/// Wherever a write ends. That no chunk is counted twice is checked by the queue itself in this build.
#[test]
#[cfg_attr(miri, ignore = "takes minutes")]
fn a_frame_leaves_the_share_of_its_group_with_its_last_byte() {
    // The second chunk begins with a frame that is shorter than the part of the one before it that a write
    // may leave.
    let chunks: [&[(GroupId, &[u8])]; 3] = [
        &[(NOISY, b"1"), (QUIET, b"a longer one")],
        &[(QUIET, b""), (NOISY, b"2"), (NOISY, b"")],
        &[(NOISY, b"three"), (QUIET, b"4")],
    ];
    let ends = |of: GroupId| {
        let mut end = 0;
        let ends = chunks
            .concat()
            .into_iter()
            .filter_map(move |(group, payload)| {
                end += HEADER + payload.len();
                (group == of).then_some(end)
            });
        ends.collect::<Vec<_>>()
    };
    let limits = Limits {
        frames: 100,
        share: Some(GroupShare {
            frames: 6,
            bytes: 100_000,
        }),
        ..limits()
    };
    let len = *ends(QUIET).last().expect("it has the last frame");
    for written in 0..=len {
        let queue = queue(limits);
        for (millis, chunk) in (0..).zip(chunks) {
            for (group, payload) in chunk {
                let pushed = queue.push((), *group, *payload, at(millis));
                drop(pushed.expect("room"));
            }
        }
        let mut batch = take(&queue, 3);
        batch.advance(written / 3);
        batch.advance(written - written / 3);
        for group in [NOISY, QUIET] {
            let held = ends(group).iter().filter(|end| **end > written).count();
            let more = (0..10).take_while(|_| push_to(&queue, group, b"x").is_ok());
            assert_eq!(held + more.count(), 6, "{written}");
        }
        balanced(&queue);
    }
}

#[test]
fn what_was_written_is_in_flight_no_more() {
    let queue = shared(Overflow::DropOldest);
    for payload in [b"1", b"2", b"3"] {
        push_to(&queue, NOISY, payload).unwrap();
    }
    let mut batch = take(&queue, 0);
    assert_eq!(push_to(&queue, NOISY, b"4"), Err(SHARE_FULL));
    batch.advance(2 * 9);
    for payload in [b"4", b"5", b"6"] {
        assert_eq!(
            push_to(&queue, NOISY, payload),
            Ok(()),
            "evicts from the queued"
        );
    }
    drop(batch);
    assert_eq!(push_to(&queue, NOISY, b"7"), Ok(()));
    let kept = contents(&take(&queue, 0));
    let kept: Vec<_> = kept.iter().map(|(_, payload)| payload[0]).collect();
    assert_eq!(kept, b"567");
}

/// So that each frame that evicts another is not looked for among all that are queued.
#[test]
fn the_oldest_frame_of_a_group_is_looked_for_behind_those_that_were_evicted() {
    let queue = shared(Overflow::DropOldest);
    for payload in [b"0", b"1", b"2", b"3", b"4"] {
        push_to(&queue, NOISY, payload).unwrap();
    }
    let oldest = queue.locked(|state| {
        let shares = state.shares.as_ref();
        shares.map(|shares| shares.oldest(NOISY))
    });
    assert_eq!(oldest, Some(2));
}
