//! Bursts: datagrams that are sent together.

use super::*;

/// Returns the next burst of up to `number` datagrams: its destination, its number of datagrams, and
/// their bytes.
fn next_burst(batch: &Batch<u8>, number: usize) -> (u8, usize, Vec<u8>) {
    let limits = BurstLimits {
        number,
        each: 6,
        bytes: 20,
    };
    let mut contents = Vec::new();
    let burst = batch.next_burst(&mut contents, &limits);
    let burst = burst.expect("the batch is not empty");
    (burst.to, burst.number, contents)
}

fn push(queue: &SendQueue<u8>, to: u8, payload: &[u8]) {
    let pushed = queue.push(to, GROUP, payload, at(0));
    drop(pushed.expect("there is room"));
}

fn take(queue: &Arc<SendQueue<u8>>) -> Batch<u8> {
    queue.take(at(0)).batch.expect("frames are queued")
}

#[test]
fn single_datagrams_are_sent_without_the_length_field_and_failures_are_counted() {
    let queue = Arc::new(SendQueue::<u8>::new(limits()));
    push(&queue, 1, b"a");
    push(&queue, 1, b"b");
    push(&queue, 2, b"c");
    let mut batch = take(&queue);
    assert_eq!(next_burst(&batch, 1), (1, 1, b"\x01\0\0\0a".to_vec()));
    batch.finish_datagrams(1, true);
    assert_eq!(next_burst(&batch, 1), (1, 1, b"\x01\0\0\0b".to_vec()));
    batch.finish_datagrams(1, false);
    assert_eq!(next_burst(&batch, 9), (2, 1, b"\x01\0\0\0c".to_vec()));
    batch.finish_datagrams(1, true);
    assert!(batch.is_empty());
    let stats = balanced(&queue);
    assert_eq!((stats.written.frames, stats.dropped.failed.frames), (2, 1));
    assert_eq!(queue.take_untold().failed.frames, 1);
}

#[test]
fn datagrams_of_one_length_are_sent_together_and_a_shorter_one_ends_the_burst() {
    let wide = Limits {
        frames: 100,
        ..limits()
    };
    let queue = Arc::new(SendQueue::<u8>::new(wide));
    // With the group's four bytes, the bursts are of 5, 5, 4 | 5 | 6, 6, 6 (with a fourth they would
    // exceed 20 bytes) | 6 | 7 (too long to be sent with others) | 7 | 4, 4 | 5, 5, 5, 5 bytes, which are 20.
    let bursts: [&[usize]; 8] = [
        &[1, 1, 0],
        &[1],
        &[2, 2, 2],
        &[2],
        &[3],
        &[3],
        &[0, 0],
        &[1, 1, 1, 1],
    ];
    let payload = [b'x'; 3];
    for len in bursts.into_iter().flatten() {
        push(&queue, 1, &payload[..*len]);
    }
    push(&queue, 2, b"");
    let mut batch = take(&queue);
    for burst in bursts {
        let (to, number, contents) = next_burst(&batch, 9);
        let expected: usize = burst.iter().map(|len| 4 + len).sum();
        assert_eq!((to, number, contents.len()), (1, burst.len(), expected));
        batch.finish_datagrams(number, true);
    }
    assert_eq!(next_burst(&batch, 9).0, 2, "another destination");
    drop(batch);
    assert_eq!(balanced(&queue).queued.frames, 1);
}
