//! A chunk: frames of one age and one destination, in the form in which they are written.
//!
//! Owns the layout of its frames in memory and finds single frames in it. When a chunk is made, moved
//! or dropped is left to the queue.

use std::iter;

use bytes::Bytes;

use crate::{
    ids::GroupId,
    net::clock::CoarseInstant,
    wire::count::Count,
    wire::frame::{self, HEADER, PREFIX},
};

/// One or more frames that were pushed within one tick of the clock and go to the same place.
pub(super) struct Chunk<To> {
    pub(super) to: To,
    /// When its frames were pushed.
    pub(super) at: CoarseInstant,
    pub(super) frames: usize,
    body: Body,
}

enum Body {
    /// Frames encoded behind one another, from `start` on. The bytes before `start` are frames that
    /// have been removed.
    Encoded { buffer: Vec<u8>, start: usize },
    /// One frame with a large payload, which stays where the sender put it.
    Large {
        header: [u8; HEADER],
        payload: Bytes,
    },
}

impl<To: Copy + Eq> Chunk<To> {
    /// Makes an empty chunk that fills `buffer`.
    pub(super) fn encoded(to: To, at: CoarseInstant, buffer: Vec<u8>) -> Self {
        debug_assert!(buffer.is_empty());
        Chunk {
            to,
            at,
            frames: 0,
            body: Body::Encoded { buffer, start: 0 },
        }
    }

    pub(super) fn large(to: To, at: CoarseInstant, group: GroupId, payload: Bytes) -> Self {
        Chunk {
            to,
            at,
            frames: 1,
            body: Body::Large {
                header: frame::header(group, payload.len()),
                payload,
            },
        }
    }

    /// Returns whether a frame of `len` bytes may be appended, so that the buffer stays within
    /// `limit`.
    #[inline]
    pub(super) fn takes(&self, to: To, at: CoarseInstant, len: usize, limit: usize) -> bool {
        match &self.body {
            Body::Encoded { buffer, .. } => {
                self.at == at && self.to == to && buffer.len() + len <= limit
            }
            Body::Large { .. } => false,
        }
    }

    /// Appends a frame. The buffer doubles when it is full, but grows beyond `limit` only for a frame
    /// that needs it.
    #[inline]
    pub(super) fn append(&mut self, group: GroupId, payload: &[u8], limit: usize) {
        let Body::Encoded { buffer, .. } = &mut self.body else {
            unreachable!("`takes` refuses large chunks");
        };
        let needed = buffer.len() + HEADER + payload.len();
        if needed > buffer.capacity() {
            let doubled = (2 * buffer.capacity()).min(limit);
            buffer.reserve_exact(needed.max(doubled) - buffer.len());
        }
        buffer.extend_from_slice(&frame::header(group, payload.len()));
        buffer.extend_from_slice(payload);
        self.frames += 1;
    }

    /// Shrinks the buffer if more than an eighth of it is unused. For less, the copy is not worth it.
    pub(super) fn shrink(&mut self) {
        if let Body::Encoded { buffer, .. } = &mut self.body
            && buffer.len() < buffer.capacity() / 8 * 7
        {
            buffer.shrink_to_fit();
        }
    }

    pub(super) fn count(&self) -> Count {
        Count::new(self.frames, self.parts().map(<[u8]>::len).iter().sum())
    }

    /// Returns its bytes in the order of the wire.
    pub(super) fn parts(&self) -> [&[u8]; 2] {
        match &self.body {
            Body::Encoded { buffer, start } => [&buffer[*start..], &[]],
            Body::Large { header, payload } => [header, payload],
        }
    }

    fn first_len(&self) -> usize {
        match &self.body {
            Body::Encoded { buffer, start } => frame::len_at(buffer, *start),
            Body::Large { payload, .. } => HEADER + payload.len(),
        }
    }

    /// Returns its frames as datagrams carry them, which is without their lengths.
    pub(super) fn datagrams(&self) -> impl Iterator<Item = &[u8]> {
        let Body::Encoded { buffer, start } = &self.body else {
            unreachable!("payloads of datagrams are always copied");
        };
        let mut at = *start;
        iter::from_fn(move || {
            let frame = at..at + frame::len_at(buffer, at);
            at = frame.end;
            Some(&buffer[frame.start + PREFIX..frame.end])
        })
        .take(self.frames)
    }

    /// Removes the first frame. If it was the only one, the caller discards the chunk. Does not drop the
    /// payload: the queue may be locked.
    pub(super) fn pop_frame(&mut self) -> Count {
        let len = self.first_len();
        if let Body::Encoded { start, .. } = &mut self.body {
            *start += len;
        }
        self.frames -= 1;
        Count::one(len)
    }

    /// Removes the frames that end within the first `cursor` bytes, and subtracts them from `cursor`.
    pub(super) fn pop_frames(&mut self, cursor: &mut usize) -> Count {
        let mut popped = Count::ZERO;
        while self.frames > 0 && *cursor >= self.first_len() {
            let frame = self.pop_frame();
            *cursor -= frame.bytes as usize;
            popped += frame;
        }
        popped
    }

    /// Removes all frames but the first. Returns what was removed.
    pub(super) fn keep_first_frame(&mut self) -> Count {
        let whole = self.count();
        let len = self.first_len();
        if let Body::Encoded { buffer, start } = &mut self.body {
            buffer.truncate(*start + len);
        }
        self.frames = 1;
        Count::new(whole.frames as usize - 1, whole.bytes as usize - len)
    }

    /// Returns the buffer, emptied, or the chunk itself if it has none.
    pub(super) fn into_buffer(self) -> Result<Vec<u8>, Self> {
        match self.body {
            Body::Encoded { mut buffer, .. } => {
                buffer.clear();
                Ok(buffer)
            }
            Body::Large { .. } => Err(self),
        }
    }
}
