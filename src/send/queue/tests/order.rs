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
