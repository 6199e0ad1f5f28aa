//! The bytes that a connection has received and not delivered, and the memory for them.
//!
//! Decides how much the next read may bring, which frames share a buffer, and when memory is given
//! back. Received bytes are copied only after an eighth as many new ones have arrived, so the work for
//! each byte is the same however few of them a read brings. Uses no socket and no clock: the connection
//! reads into [`room`](ReadBuffer::room), and calls [`review`](ReadBuffer::review) in
//! intervals of [`REVIEW_INTERVAL`].

use std::time::Duration;

use bytes::{Buf, BufMut, BytesMut, buf::Limit};

use crate::{
    receive::large_frame::{LargeFrame, Spare},
    wire::frame::{self, HEADER, Malformed},
};

/// Room for the first read of a connection, and of a connection that was idle.
const MIN_ROOM: usize = 2 << 10;

/// The most room for a read. The room grows to this while reads fill it. With 256 KiB, each frame of 256 KiB
/// woke the group's actor, which took twice the time. With 1 MiB, which does not fit into the cache of a
/// core, such frames took longer and small ones gained nothing.
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
/// long at least, and for about twice as long at most.
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

    /// Returns what has been received and not delivered, if it shares a buffer. It does before the first
    /// delivery.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Takes `n` bytes off the front, which are there.
    pub(crate) fn skip(&mut self, n: usize) {
        self.bytes.advance(n);
    }

    /// Returns the length of the frame that the buffer begins with, complete or not. `None` if its
    /// length field is not complete.
    pub(crate) fn announced(&self, max_frame: usize) -> Result<Option<usize>, Malformed> {
        match &self.large {
            Some(large) => Ok(Some(large.len())),
            None => frame::announced(&self.bytes, max_frame),
        }
    }

    /// Returns how many bytes are allocated.
    pub(crate) fn held(&self) -> usize {
        let large = self.large.as_ref().map_or(0, LargeFrame::held);
        self.held + large + self.spare.as_ref().map_or(0, Spare::held)
    }

    /// Returns how many bytes may be allocated after the next call of [`room`](ReadBuffer::room).
    pub(crate) fn needs(&self) -> usize {
        let held = match &self.large {
            Some(large) => self.held + large.needs(),
            None if self.has_room() => self.held,
            None => self.held.max(self.bytes.len() + self.new_room()),
        };
        held + self.spare.as_ref().map_or(0, Spare::held)
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
        if self.has_room() {
            return self.room.min(self.spare_room());
        }
        let room = self.new_room();
        self.since_copy = 0;
        // Memory whose payloads have been dropped is used again.
        if !self.bytes.try_reclaim(room) {
            self.copy_to(self.bytes.len() + room);
        }
        self.room
    }

    /// Returns whether the next read uses the room that there is. A copy makes room for a quarter of
    /// what it copies, so there is some left until an eighth has been received.
    fn has_room(&self) -> bool {
        let spare = self.spare_room();
        spare >= self.room || (spare > 0 && self.since_copy < self.bytes.len() / 8)
    }

    fn spare_room(&self) -> usize {
        self.bytes.capacity() - self.bytes.len()
    }

    /// Returns the room that a copy makes: for the next read, and for a quarter of the received bytes.
    fn new_room(&self) -> usize {
        self.room.max(self.bytes.len() / 4)
    }

    /// Gives back memory because other connections need it: that of the last large frame, and what is
    /// unused of the shared buffer. Reads into the shared buffer are short for a while.
    ///
    /// The shared buffer may keep unused memory for a quarter of its bytes and for 2 KiB more. It keeps all
    /// of it unless an eighth of its bytes has arrived since they were copied last. A large frame that is
    /// arriving keeps its memory, and its reads do not become shorter.
    ///
    /// All delivered frames must have been handled: while handlers read them, their memory is not free.
    pub(crate) fn squeeze(&mut self) {
        self.spare = None;
        self.room = MIN_ROOM;
        let len = self.bytes.len();
        if self.held > len + len / 4 + MIN_ROOM && self.since_copy >= len / 8 {
            self.shrink();
        }
    }

    /// Gives up the incomplete frame, and all memory but that of delivered frames. Returns how much
    /// that is.
    pub(crate) fn abandon(&mut self) -> usize {
        (self.large, self.spare) = (None, None);
        self.bytes.clear();
        self.held
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
mod tests;
