//! The bytes that a connection has received and not delivered, and the memory for them.
//!
//! Decides how much the next read may bring, and when memory is given back. Uses no socket and no clock:
//! the connection reads into [`room`](ReadBuffer::room), and calls
//! [`review`](ReadBuffer::review) in intervals of [`REVIEW_INTERVAL`].

use std::time::Duration;

use bytes::{BufMut, BytesMut, buf::Limit};

/// Room for the first read of a connection, and of a connection that was idle.
const MIN_ROOM: usize = 2 << 10;

/// The most room for a read. The room grows to this while reads fill it. With 256 KiB, each frame of 256 KiB
/// woke the group's actor, which took twice the time. With 1 MiB, which does not fit into the cache of a
/// core, such frames took longer and small ones gained nothing.
const MAX_ROOM: usize = 512 << 10;

/// Below this many bytes, a copy costs so little that it may happen each time a peer pauses.
const SMALL: usize = 16 << 10;

/// The time between two reviews. The memory of a connection that has become idle is kept for this
/// long at least, and for about twice as long at most.
pub(crate) const REVIEW_INTERVAL: Duration = Duration::from_millis(100);

/// The buffer of one connection. After a delivery it holds the beginning of a frame, or nothing.
#[derive(Debug)]
pub(crate) struct ReadBuffer {
    bytes: BytesMut,
    /// How much the next read may bring.
    room: usize,
    /// The most bytes that were in the buffer since the last review; 0 if nothing was read.
    most_used: usize,
    /// The largest capacity of the buffer since the last review.
    most_held: usize,
}

impl ReadBuffer {
    pub(crate) fn new() -> Self {
        ReadBuffer {
            bytes: BytesMut::new(),
            room: MIN_ROOM,
            most_used: 0,
            most_held: 0,
        }
    }

    /// Returns the received bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns the received bytes, for a delivery to take the whole frames off their front.
    pub(crate) fn bytes_mut(&mut self) -> &mut BytesMut {
        &mut self.bytes
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Makes room behind the received bytes. The next read fills it, or a part of it.
    pub(crate) fn room(&mut self) -> Limit<&mut BytesMut> {
        self.bytes.reserve(self.room);
        self.most_held = self.most_held.max(self.bytes.capacity());
        (&mut self.bytes).limit(self.room)
    }

    /// Notes that a read put `n` bytes, at least one, into the room. Returns whether it filled the
    /// room: then there may be more to read.
    pub(crate) fn received(&mut self, n: usize) -> bool {
        self.most_used = self.most_used.max(self.bytes.len());
        let filled = n == self.room;
        if filled {
            self.room = (self.room * 2).min(MAX_ROOM);
        } else if n < self.room / 4 {
            self.room = (self.room / 2).max(MIN_ROOM);
        }
        filled
    }

    /// Gives back memory that was not needed since the last review. After a large frame, a connection
    /// that goes on with small ones keeps only what they need.
    pub(crate) fn review(&mut self) -> Activity {
        if self.most_used == 0 {
            self.shrink();
            self.room = MIN_ROOM;
            return Activity::Idle;
        }
        if self.most_held > 2 * (self.most_used + MAX_ROOM) {
            self.shrink();
        }
        (self.most_used, self.most_held) = (0, 0);
        Activity::Active
    }

    /// Moves the received bytes into a buffer that is not much longer than they are, unless they are
    /// in such a buffer already.
    ///
    /// A peer that sends a large frame byte by byte, with pauses, must not cause a copy of it in each
    /// pause. So a buffer that is mostly full is not copied. And the copy of a large frame has a quarter of
    /// its length to spare: otherwise the next read would double it, and the next pause shrink it again.
    fn shrink(&mut self) {
        let len = self.len();
        if len > 0 && self.bytes.capacity() <= len * 3 / 2 {
            return;
        }
        let spare = match len {
            SMALL.. => len / 4,
            _ => 0,
        };
        // Allocates nothing if there are no bytes.
        let mut bytes = BytesMut::with_capacity(len + spare);
        bytes.extend_from_slice(&self.bytes);
        self.bytes = bytes;
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

    use super::*;

    const LARGE: usize = 8 << 20;

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

    /// Takes the first `n` bytes, as a delivery of whole frames does. Their memory is free again.
    fn deliver(buffer: &mut ReadBuffer, n: usize) {
        drop(buffer.bytes_mut().split_to(n).freeze());
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
        read_all(&mut buffer, LARGE);
        assert!(buffer.bytes.capacity() <= 2 * LARGE + MAX_ROOM);
    }

    #[test]
    fn an_idle_connection_without_received_bytes_holds_no_memory() {
        let mut buffer = ReadBuffer::new();
        read_all(&mut buffer, MAX_ROOM);
        deliver_all(&mut buffer);
        assert_eq!(buffer.review(), Activity::Active);
        assert!(buffer.bytes.capacity() > 0, "kept for the next read");
        assert_eq!(buffer.review(), Activity::Idle);
        assert_eq!(buffer.bytes.capacity(), 0);
        assert_eq!(read(&mut buffer, usize::MAX), MIN_ROOM);
    }

    #[test]
    fn an_idle_connection_keeps_the_beginning_of_a_frame_and_little_more_memory() {
        let mut buffer = ReadBuffer::new();
        read_all(&mut buffer, LARGE);
        deliver(&mut buffer, LARGE - 5000);
        let arrived = buffer.bytes().to_vec();
        buffer.review();
        assert_eq!(buffer.review(), Activity::Idle);
        assert_eq!(buffer.bytes(), arrived);
        assert!(buffer.bytes.capacity() <= arrived.len() * 3 / 2);
    }

    #[test]
    fn a_large_frame_leaves_no_memory_to_the_small_ones_behind_it() {
        let mut buffer = ReadBuffer::new();
        read_all(&mut buffer, LARGE);
        deliver_all(&mut buffer);
        // The large frame was read before the first review, so only the second sees it unneeded.
        for _ in 0..2 {
            read(&mut buffer, 100);
            deliver_all(&mut buffer);
            assert_eq!(buffer.review(), Activity::Active);
        }
        let small = measure(|| {
            read(&mut buffer, 100);
        });
        assert!(small.bytes_total > 0, "the large allocation is gone");
        assert!(buffer.bytes.capacity() <= 2 * MAX_ROOM);
    }

    #[test]
    fn a_frame_that_arrives_byte_by_byte_is_copied_only_when_its_buffer_grows() {
        const BYTES: usize = 1000;

        let mut buffer = ReadBuffer::new();
        read_all(&mut buffer, LARGE);
        let copies = measure(|| {
            for _ in 0..BYTES {
                read(&mut buffer, 1);
                assert_eq!(buffer.review(), Activity::Active);
            }
        });
        assert!(copies.bytes_total as usize <= 2 * LARGE + MAX_ROOM);
    }

    #[test]
    fn a_frame_that_arrives_byte_by_byte_is_not_copied_in_each_pause() {
        const BYTES: usize = 100;

        let mut buffer = ReadBuffer::new();
        read_all(&mut buffer, LARGE);
        // Half as long again, so that the buffer is not mostly full.
        read_all(&mut buffer, LARGE / 2);
        let copies = measure(|| {
            for _ in 0..BYTES {
                read(&mut buffer, 1);
                assert_eq!(buffer.review(), Activity::Active);
                assert_eq!(buffer.review(), Activity::Idle);
            }
        });
        // One copy by the first pause, where each pause made two before there was spare room.
        assert!(copies.bytes_total as usize <= 2 * LARGE, "{copies:?}");
    }
}
