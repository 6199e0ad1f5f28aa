use allocation_counter::measure;
use bytes::Bytes;

use super::*;
use crate::ids::GroupId;

const LARGE: usize = 8 << 20;
const MAX_FRAME: usize = 10 << 20;

/// Reads as a connection does, from a socket that has `available` bytes. Returns how many of them
/// one read took.
fn read(buffer: &mut ReadBuffer, available: usize) -> usize {
    let mut room = buffer.room();
    let n = available.min(room.remaining_mut());
    room.put_bytes(7, n);
    buffer.received(n);
    n
}

fn read_all(buffer: &mut ReadBuffer, mut available: usize) {
    while available > 0 {
        available -= read(buffer, available);
    }
}

/// Reads these bytes and delivers each whole frame as soon as it is there. Returns the frames.
fn receive(buffer: &mut ReadBuffer, mut bytes: &[u8]) -> Vec<Bytes> {
    let mut frames = Vec::new();
    while !bytes.is_empty() {
        let needs = buffer.needs();
        buffer.room();
        assert!(buffer.held() <= needs, "more than was asked for");
        let mut room = buffer.room();
        let n = bytes.len().min(room.remaining_mut());
        room.put_slice(&bytes[..n]);
        bytes = &bytes[n..];
        buffer.received(n);
        if let Some(bytes) = buffer.deliverable() {
            while let Ok(Some(head)) = frame::peek(bytes, MAX_FRAME) {
                frames.push(bytes.split_to(head.len).freeze());
            }
            buffer.settle(MAX_FRAME);
        }
    }
    frames
}

/// A frame of `len` bytes.
fn frame_of(len: usize) -> Vec<u8> {
    let mut frame = vec![7; len];
    frame[..HEADER].copy_from_slice(&frame::header(GroupId::new(1), len - HEADER));
    frame
}

/// Takes the first `n` bytes, as a delivery of whole frames does. Their memory is free again.
fn deliver(buffer: &mut ReadBuffer, n: usize) {
    drop(buffer.bytes.split_to(n).freeze());
}

fn deliver_all(buffer: &mut ReadBuffer) {
    deliver(buffer, buffer.len());
}

#[test]
fn the_room_doubles_with_each_read_that_fills_it_up_to_its_maximum() {
    let mut buffer = ReadBuffer::new();
    let mut expected = MIN_ROOM;
    for _ in 0..12 {
        assert_eq!(read(&mut buffer, usize::MAX), expected);
        deliver_all(&mut buffer);
        expected = MAX_ROOM.min(expected * 2);
    }
    assert_eq!(expected, MAX_ROOM);
}

#[test]
fn the_room_halves_with_each_small_read_down_to_its_minimum() {
    let mut buffer = ReadBuffer::new();
    read_all(&mut buffer, 4 * MAX_ROOM);
    for _ in 0..12 {
        read(&mut buffer, 10);
        deliver_all(&mut buffer);
    }
    assert_eq!(read(&mut buffer, usize::MAX), MIN_ROOM);
}

#[test]
fn a_read_of_a_quarter_of_the_room_leaves_it_as_it_is() {
    let mut buffer = ReadBuffer::new();
    for _ in 0..4 {
        assert_eq!(read(&mut buffer, MIN_ROOM / 4), MIN_ROOM / 4);
        deliver_all(&mut buffer);
    }
    assert_eq!(read(&mut buffer, usize::MAX), MIN_ROOM);
}

#[test]
fn only_a_read_that_fills_the_room_says_so() {
    let mut buffer = ReadBuffer::new();
    buffer.room().put_bytes(7, MIN_ROOM - 1);
    assert!(!buffer.received(MIN_ROOM - 1));
    buffer.room().put_bytes(7, MIN_ROOM);
    assert!(buffer.received(MIN_ROOM));
}

#[test]
fn memory_is_reserved_for_one_read_and_not_for_an_announced_frame() {
    let mut buffer = ReadBuffer::new();
    receive(&mut buffer, &frame_of(MAX_FRAME)[..1000]);
    assert_eq!(buffer.held(), MIN_ROOM + 1000 + (16 << 10));
}

#[test]
fn an_idle_connection_without_received_bytes_holds_no_memory() {
    let mut buffer = ReadBuffer::new();
    read_all(&mut buffer, MAX_ROOM);
    deliver_all(&mut buffer);
    assert_eq!(buffer.review(), Activity::Active);
    assert!(buffer.held() > 0, "kept for the next read");
    assert_eq!(buffer.review(), Activity::Idle);
    assert_eq!(buffer.held(), 0);
    assert_eq!(read(&mut buffer, usize::MAX), MIN_ROOM);
}

#[test]
fn an_idle_connection_keeps_the_beginning_of_a_frame_and_little_more_memory() {
    let mut buffer = ReadBuffer::new();
    let arrived = &frame_of(100_000)[..5000];
    let bytes = [frame_of(300_000), arrived.to_vec()].concat();
    assert_eq!(receive(&mut buffer, &bytes).len(), 1);
    buffer.review();
    assert_eq!(buffer.review(), Activity::Idle);
    assert_eq!(buffer.bytes, arrived);
    assert!(buffer.held() <= arrived.len() * 5 / 4 + MIN_ROOM);
}

#[test]
fn a_large_frame_leaves_no_memory_to_the_small_ones_behind_it() {
    let mut buffer = ReadBuffer::new();
    assert_eq!(receive(&mut buffer, &frame_of(LARGE)).len(), 1);
    // The large frame was read before the first review, so only the second sees it unneeded.
    for _ in 0..2 {
        receive(&mut buffer, &frame_of(100));
        assert_eq!(buffer.review(), Activity::Active);
    }
    assert!(buffer.held() <= SLACK + 2 * MAX_ROOM);
}

#[test]
fn small_frames_do_not_share_the_buffer_of_a_large_one() {
    let mut buffer = ReadBuffer::new();
    let sent = [frame_of(9), frame_of(LARGE), frame_of(9)].concat();
    let kept = measure(|| {
        let mut frames = receive(&mut buffer, &sent);
        assert_eq!(frames.len(), 3);
        frames.remove(1);
        buffer = ReadBuffer::new();
        // Counted as not freed.
        std::mem::forget(frames);
    });
    // Two buffers of one read each at most.
    assert!(
        kept.bytes_current <= 2 * (MAX_ROOM as i64 + 1000),
        "{kept:?}"
    );
}

#[test]
fn a_stream_of_large_frames_allocates_once() {
    let mut buffer = ReadBuffer::new();
    let sent = frame_of(LARGE);
    receive(&mut buffer, &sent);
    let next = measure(|| {
        for _ in 0..10 {
            assert_eq!(receive(&mut buffer, &sent).len(), 1);
        }
    });
    assert!(next.bytes_total < MAX_ROOM as u64, "{next:?}");
}

#[test]
fn a_squeezed_buffer_holds_what_was_received_and_little_more() {
    let mut buffer = ReadBuffer::new();
    let large = frame_of(LARGE);
    receive(
        &mut buffer,
        &[&large[..], &frame_of(100_000)[..5_000]].concat(),
    );
    buffer.squeeze();
    assert_eq!(buffer.len(), 5_000);
    assert!(
        buffer.held() <= 5_000 * 5 / 4 + MIN_ROOM,
        "{}",
        buffer.held()
    );
    assert!(buffer.needs() <= 5_000 * 5 / 4 + MIN_ROOM);
}

/// One byte every now and then must not cause a copy of what is there. `reviews` of the buffer
/// follow each byte.
fn trickle(frame: usize, first: usize, reviews: usize) {
    const BYTES: usize = 1000;

    let mut buffer = ReadBuffer::new();
    receive(&mut buffer, &frame_of(frame)[..first]);
    for _ in 0..9 {
        receive(&mut buffer, &[7]);
        buffer.review();
    }
    let copies = measure(|| {
        for _ in 0..BYTES {
            receive(&mut buffer, &[7]);
            for _ in 0..reviews {
                buffer.review();
            }
            let len = buffer.len();
            let most = len + len / 4 + (64 << 10);
            assert!(buffer.held() <= most, "{} for {len}", buffer.held());
        }
    });
    assert_eq!(buffer.len(), first + 9 + BYTES);
    // One copy when the memory that was there before is used up, and what small copies need.
    let most = (first + first / 4 + BYTES * 8 + (64 << 10)) as u64;
    assert!(copies.bytes_total <= most, "{copies:?}");
}

#[test]
fn a_frame_that_arrives_byte_by_byte_is_not_copied_for_each_byte_or_pause() {
    for reviews in 0..=2 {
        for first in [100, 5_000, 60_000, 300_000, 500_000] {
            trickle(MAX_SHARED, first, reviews);
        }
        for first in [5_000, 600_000, 5_300_000, 9_000_000] {
            trickle(MAX_FRAME, first, reviews);
        }
    }
}
