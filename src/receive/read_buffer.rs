//! What a connection has received and not delivered, and how much memory that may take.
//!
//! Owns the sizes: how much the next read may bring, which frames share a buffer, and when memory is
//! given back. Received bytes are copied only after an eighth as many new ones have arrived, so the
//! work for each byte is the same however few of them a read brings. Knows no socket and no clock: the
//! connection reads into [`room`](ReadBuffer::room), and calls [`review`](ReadBuffer::review) in
//! intervals of [`REVIEW_INTERVAL`].

use std::time::Duration;

use bytes::{BufMut, BytesMut, buf::Limit};

use crate::{
    receive::large_frame::{LargeFrame, Spare},
    wire::frame::{self, HEADER, Malformed},
};

/// Room for the first read of a connection, and of a connection that was idle.
const MIN_ROOM: usize = 2 << 10;

/// The most room for a read. The room grows to this while reads fill it. It is some thousands of small
/// frames, or a few large ones, for one wake-up of the group's actor, and still fits into the cache of
/// a core. With half of it, frames of 256 KiB woke the actor one by one and took twice the time. With
/// twice of it, they took longer, and small frames gained nothing.
const MAX_ROOM: usize = 512 << 10;

/// The longest frame that shares a buffer with others. Longer ones get a buffer of their own. A frame
/// longer than this cannot be complete after one read into an empty buffer.
pub(super) const MAX_SHARED: usize = MAX_ROOM + HEADER;

/// The most room for the read that follows a large frame. It brings the header of the next one, and
/// its few bytes are all that is copied if that one is large, too.
const ROOM_AFTER_LARGE: usize = 16 << 10;

/// How much unused memory an active connection may keep beside what its reads need.
const SLACK: usize = 32 << 10;

/// The time between two reviews. The memory of a connection that has become idle is kept for this
/// long at least, and for twice as long at most.
pub(crate) const REVIEW_INTERVAL: Duration = Duration::from_millis(100);

/// The buffer of one connection. After a delivery it holds the beginning of a frame, or nothing.
#[derive(Debug)]
pub(crate) struct ReadBuffer {
    /// Whole frames, and the beginning of a frame. Empty while a large frame arrives.
    bytes: BytesMut,
    /// How many bytes are allocated for `bytes`. Delivered payloads may share them.
    held: usize,
    /// A large frame that has begun to arrive.
    large: Option<LargeFrame>,
    /// The memory of the last large frame, for the next one.
    spare: Option<Spare>,
    /// How much the next read may bring.
    room: usize,
    /// How much the read may bring for which room was made.
    limit: usize,
    /// Bytes received since those in `bytes` were copied last.
    since_copy: usize,
    since_review: SinceReview,
}

/// What was needed since the last review.
#[derive(Debug, Default)]
struct SinceReview {
    /// Whether anything was received.
    active: bool,
    /// The most bytes that were in the shared buffer.
    used: usize,
    /// The most room that a read could have.
    room: usize,
    /// Whether a large frame was complete.
    large: bool,
}

impl ReadBuffer {
    pub(crate) fn new() -> Self {
        ReadBuffer {
            bytes: BytesMut::new(),
            held: 0,
            large: None,
            spare: None,
            room: MIN_ROOM,
            limit: 0,
            since_copy: 0,
            since_review: SinceReview::default(),
        }
    }

    /// Returns how many bytes have been received and not delivered.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len() + self.large.as_ref().map_or(0, LargeFrame::received)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the length of the frame that the buffer begins with, complete or not. `None` if its
    /// length field is not complete.
    pub(crate) fn announced(&self, max_frame: usize) -> Result<Option<usize>, Malformed> {
        match &self.large {
            Some(large) => Ok(Some(large.len())),
            None => frame::announced(&self.bytes, max_frame),
        }
    }

    /// Makes room behind the received bytes. The next read fills it, or a part of it.
    pub(crate) fn room(&mut self) -> Limit<&mut BytesMut> {
        if self.large.is_none() {
            self.limit = self.make_shared_room();
        }
        let Some(large) = &mut self.large else {
            return (&mut self.bytes).limit(self.limit);
        };
        let room = large.room(MAX_ROOM);
        self.limit = room.remaining_mut();
        room
    }

    /// Notes that a read put `n` bytes, at least one, into the room. Returns whether it filled the
    /// room: then there may be more to read.
    pub(crate) fn received(&mut self, n: usize) -> bool {
        self.since_review.active = true;
        if let Some(large) = &mut self.large {
            large.filled(n);
            return n == self.limit;
        }
        self.since_copy += n;
        self.since_review.used = self.since_review.used.max(self.bytes.len());
        self.since_review.room = self.since_review.room.max(self.room);
        if n == self.room {
            self.room = (self.room * 2).min(MAX_ROOM);
        } else if n < self.limit / 4 {
            self.room = (self.room / 2).max(MIN_ROOM);
        }
        n == self.limit
    }

    /// Returns the bytes that may begin with whole frames, for a delivery to take those off their
    /// front. `None` if there are no whole frames. [`settle`](ReadBuffer::settle) must follow.
    pub(crate) fn deliverable(&mut self) -> Option<&mut BytesMut> {
        match &mut self.large {
            Some(large) if large.is_complete() => Some(large.whole()),
            Some(_) => None,
            None => Some(&mut self.bytes),
        }
    }

    /// Goes on after a delivery. If a large frame has begun, it gets a buffer of its own.
    pub(crate) fn settle(&mut self, max_frame: usize) {
        if let Some(large) = self.large.take_if(|large| large.is_complete()) {
            self.spare = Some(large.into_spare());
            self.since_review.large = true;
            self.room = self.room.min(ROOM_AFTER_LARGE);
        } else if self.large.is_none()
            && let Ok(Some(len)) = frame::announced(&self.bytes, max_frame)
            && len > MAX_SHARED
        {
            let spare = self.spare.take();
            self.large = Some(LargeFrame::begin(len, &self.bytes, spare));
            self.bytes.clear();
        }
    }

    /// Gives back memory that was not needed since the last review. After a large frame, a connection
    /// that goes on with small ones keeps only what they need.
    pub(crate) fn review(&mut self) -> Activity {
        let since = std::mem::take(&mut self.since_review);
        if !since.large {
            self.spare = None;
        }
        if let Some(large) = &mut self.large {
            large.trim();
        }
        let (used, unused) = match since.active {
            true => (since.used, 2 * since.room + SLACK),
            false => (self.bytes.len(), MIN_ROOM),
        };
        if self.held > used + used / 4 + unused || used == 0 {
            self.shrink();
        }
        match since.active {
            true => Activity::Active,
            false => {
                self.room = MIN_ROOM;
                Activity::Idle
            }
        }
    }

    /// Makes room for frames that share a buffer. Returns how much the next read may use.
    fn make_shared_room(&mut self) -> usize {
        let spare = self.bytes.capacity() - self.bytes.len();
        if spare < self.room {
            // A copy makes room for a quarter of what it copies, so there is some left until an eighth
            // has been received.
            if spare > 0 && self.since_copy < self.bytes.len() / 8 {
                return spare;
            }
            self.copy_and_grow();
        }
        self.room
    }

    /// Makes room for the next read and for a quarter of the received bytes.
    fn copy_and_grow(&mut self) {
        let len = self.bytes.len();
        let room = self.room.max(len / 4);
        self.since_copy = 0;
        // Memory whose payloads have been dropped is used again.
        if !self.bytes.try_reclaim(room) {
            self.copy_to(len + room);
        }
    }

    /// Moves the received bytes into a buffer that is not much longer than they are.
    fn shrink(&mut self) {
        let len = self.bytes.len();
        // Allocates nothing if there are no bytes.
        self.copy_to(len + len / 8);
        self.since_copy = 0;
    }

    fn copy_to(&mut self, capacity: usize) {
        let mut bytes = BytesMut::with_capacity(capacity);
        bytes.extend_from_slice(&self.bytes);
        (self.bytes, self.held) = (bytes, capacity);
    }
}

/// Whether a connection received anything between two reviews.
#[derive(Debug, Copy, Clone, Eq, PartialEq)]
pub(crate) enum Activity {
    /// It did. There will be another review.
    Active,
    /// It did not. No review is needed until the next read.
    Idle,
}

#[cfg(test)]
mod tests {
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

    fn held(buffer: &ReadBuffer) -> usize {
        let large = buffer.large.as_ref().map_or(0, LargeFrame::held);
        buffer.held + large + buffer.spare.as_ref().map_or(0, Spare::held)
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
        assert_eq!(held(&buffer), MIN_ROOM + 1000 + (16 << 10));
    }

    #[test]
    fn an_idle_connection_without_received_bytes_holds_no_memory() {
        let mut buffer = ReadBuffer::new();
        read_all(&mut buffer, MAX_ROOM);
        deliver_all(&mut buffer);
        assert_eq!(buffer.review(), Activity::Active);
        assert!(held(&buffer) > 0, "kept for the next read");
        assert_eq!(buffer.review(), Activity::Idle);
        assert_eq!(held(&buffer), 0);
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
        assert!(held(&buffer) <= arrived.len() * 5 / 4 + MIN_ROOM);
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
        assert!(held(&buffer) <= SLACK + 2 * MAX_ROOM);
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
                assert!(held(&buffer) <= most, "{} for {len}", held(&buffer));
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
}
