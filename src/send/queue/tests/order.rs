//! The order of frames, and what is sent again after a link was lost.

use super::*;

#[test]
fn frames_are_taken_in_order_and_in_wire_form_whatever_their_size_and_age() {
    let queue = queue(limits());
    let large = vec![7; LARGE_FROM];
    push(&queue, b"a", 0).unwrap();
    push(&queue, b"", 0).unwrap();
    push(&queue, &large, 1).unwrap();
    push(&queue, b"d", 2).unwrap();
    let batch = take(&queue, 3);
    assert_eq!(wire(&batch), frames(&[b"a", b"", &large, b"d"]));
}

/// So that a long frame does not keep the writer from other links.
#[test]
fn a_batch_is_written_in_parts_as_short_as_its_link_wants_them() {
    let queue = queue(limits());
    let payloads: [&[u8]; 3] = [b"one", &[2; LARGE_FROM], b"three"];
    for payload in payloads {
        push(&queue, payload, 0).unwrap();
    }
    let (mut batch, mut bytes) = (take(&queue, 0), Vec::new());
    while !batch.is_empty() {
        let mut slices = [IoSlice::new(&[]); 8];
        let filled = batch.slices(&mut slices, 1000);
        let before = bytes.len();
        slices[..filled]
            .iter()
            .for_each(|slice| bytes.extend_from_slice(slice));
        let part = bytes.len() - before;
        assert!((1..=1000).contains(&part), "{part}");
        batch.advance(part);
    }
    assert_eq!(bytes, frames(&payloads));
    assert_eq!(balanced(&queue).written.frames, 3);
}

#[test]
fn a_lost_link_sends_the_cut_frame_again_whole_and_no_whole_frame_twice() {
    let payloads: [&[u8]; 4] = [b"one", b"two", &[3; LARGE_FROM], b"four"];
    let all = frames(&payloads);
    // Miri takes half a second for each cut, and runs this test with many seeds.
    let step = if cfg!(miri) { 7 } else { 1 };
    for cut in (0..35).chain(all.len() - 20..=all.len()).step_by(step) {
        let queue = queue(limits());
        for payload in payloads {
            push(&queue, payload, 0).unwrap();
        }
        let mut batch = take(&queue, 0);
        // In two steps, because the kernel may take the bytes in several.
        batch.advance(cut / 2);
        batch.advance(cut - cut / 2);
        drop(batch);
        let ends = [11, 22, 22 + 8 + LARGE_FROM, all.len()];
        let whole = ends.iter().filter(|end| **end <= cut).count();
        assert_eq!(balanced(&queue).written.frames, whole as u64);
        let again = queue.take(at(0)).batch;
        let again = again.map_or(Vec::new(), |batch| wire(&batch));
        assert_eq!(again, frames(&payloads[whole..]), "cut at {cut}");
    }
}

#[test]
fn a_payload_of_two_pieces_is_one_frame_whatever_its_size_and_wherever_the_link_breaks() {
    let large = vec![7; LARGE_FROM];
    let queue = queue(limits());
    for body in [&b"body"[..], &large] {
        let pushed = queue.push((), GROUP, (b"head", body.to_vec()), at(0));
        drop(pushed.expect("room"));
    }
    let expected = frames(&[b"headbody", &[b"head", &large[..]].concat()]);
    let short = HEADER + b"headbody".len();
    // Into the header, the first piece and the second piece of the large one.
    for written in [3, HEADER + 2, HEADER + 4 + 100] {
        let mut batch = take(&queue, 0);
        assert_eq!(wire(&batch), expected);
        batch.advance(short + written);
        assert_eq!(wire(&batch), expected[short + written..]);
        drop(batch);
        let batch = take(&queue, 0);
        assert_eq!(wire(&batch), expected[short..], "the cut frame, whole");
        drop(batch);
        // The short one again in front, for the next round.
        write(&queue);
        for body in [&b"body"[..], &large] {
            let pushed = queue.push((), GROUP, (b"head", body.to_vec()), at(0));
            drop(pushed.expect("room"));
        }
    }
    balanced(&queue);
}

/// A link that ends gives frames back that are older than a hole behind them. The next link begins with the
/// oldest, and no chunk has a hole in its middle.
#[test]
fn the_first_number_is_that_of_the_oldest_frame_wherever_frames_are_missing() {
    let queue = queue(Limits {
        overflow: Overflow::DropOldest,
        ..limits()
    });
    for _ in 0..2 {
        push(&queue, b"in flight", 0).unwrap();
    }
    let batch = take(&queue, 0);
    for _ in 0..4 {
        push(&queue, b"queued, some evicted", 0).unwrap();
    }
    assert_eq!(queue.first_queued(), 4);
    drop(batch);
    assert_eq!(queue.first_queued(), 0);
    let mut batch = take(&queue, 0);
    assert_eq!(batch.begins_with(), Some(0));
    batch.advance(wire(&batch).len());
    assert_eq!((batch.reached(), batch.begins_with()), (2, Some(4)));
    // What comes behind a hole begins a chunk of its own, also if nothing else tells them apart.
    drop(batch);
    let mut batch = take(&queue, 0);
    push(&queue, b"evicts nothing yet", 0).unwrap();
    let rest = wire(&batch).len();
    batch.advance(rest - 1);
    for _ in 0..3 {
        push(&queue, b"evicting", 0).unwrap();
    }
    drop(batch);
    push(&queue, b"behind", 0).unwrap();
    let mut batch = take(&queue, 0);
    while let Some(number) = batch.begins_with() {
        let (before, len) = (batch.count().frames, wire(&batch).len());
        batch.advance(len);
        let written = before - batch.count().frames;
        assert_eq!(batch.reached(), number + written);
    }
    assert_eq!(batch.reached(), queue.first_queued());
    assert_eq!(queue.stats().accepted.frames, batch.reached());
}
