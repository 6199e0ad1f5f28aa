//! Frames of one age and one destination, encoded behind one another.

use std::iter;

use bytes::Bytes;

use crate::{
    ids::GroupId,
    net::clock::CoarseInstant,
    wire::count::Count,
    wire::frame::{self, HEADER, PREFIX},
};

/// One or more frames that were pushed within one tick to the same place.
pub(super) struct Run<To> {
    pub(super) to: To,
    /// When its frames were pushed.
    pub(super) at: CoarseInstant,
    pub(super) frames: usize,
    body: Body,
}

enum Body {
    /// Whole frames from `start` on; what was before it has been dropped or written.
    Packed { buffer: Vec<u8>, start: usize },
    /// One frame, with its payload where the sender left it.
    Chained {
        header: [u8; HEADER],
        payload: Bytes,
    },
}

impl<To: Copy + Eq> Run<To> {
    /// An empty run that fills `buffer`.
    pub(super) fn packed(to: To, at: CoarseInstant, buffer: Vec<u8>) -> Self {
        debug_assert!(buffer.is_empty());
        Run {
            to,
            at,
            frames: 0,
            body: Body::Packed { buffer, start: 0 },
        }
    }

    pub(super) fn chained(to: To, at: CoarseInstant, group: GroupId, payload: Bytes) -> Self {
        Run {
            to,
            at,
            frames: 1,
            body: Body::Chained {
                header: frame::header(group, payload.len()),
                payload,
            },
        }
    }

    /// Whether a frame of `len` bytes may go into this run.
    #[inline]
    pub(super) fn takes(&self, to: To, at: CoarseInstant, len: usize, limit: usize) -> bool {
        match &self.body {
            Body::Packed { buffer, .. } => {
                self.at == at && self.to == to && buffer.len() + len <= limit
            }
            Body::Chained { .. } => false,
        }
    }

    /// Appends a frame; the buffer doubles as it must, but to no more than `limit` if it can.
    #[inline]
    pub(super) fn append(&mut self, group: GroupId, payload: &[u8], limit: usize) {
        let Body::Packed { buffer, .. } = &mut self.body else {
            unreachable!("`takes` refuses chained runs");
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

    /// Gives back what its buffer has more than it needs, where that is worth the copy.
    pub(super) fn fit(&mut self) {
        if let Body::Packed { buffer, .. } = &mut self.body
            && buffer.len() < buffer.capacity() / 8 * 7
        {
            buffer.shrink_to_fit();
        }
    }

    pub(super) fn count(&self) -> Count {
        Count::new(self.frames, self.parts().map(<[u8]>::len).iter().sum())
    }

    /// Its bytes, in the order of the wire.
    pub(super) fn parts(&self) -> [&[u8]; 2] {
        match &self.body {
            Body::Packed { buffer, start } => [&buffer[*start..], &[]],
            Body::Chained { header, payload } => [header, payload],
        }
    }

    fn first_len(&self) -> usize {
        match &self.body {
            Body::Packed { buffer, start } => frame::len_at(buffer, *start),
            Body::Chained { payload, .. } => HEADER + payload.len(),
        }
    }

    /// Its frames as datagrams carry them: without their lengths. Datagrams are never chained.
    pub(super) fn datagrams(&self) -> impl Iterator<Item = &[u8]> {
        let Body::Packed { buffer, start } = &self.body else {
            unreachable!("datagrams are pushed to be copied");
        };
        let mut at = *start;
        iter::from_fn(move || {
            let frame = at..at + frame::len_at(buffer, at);
            at = frame.end;
            Some(&buffer[frame.start + PREFIX..frame.end])
        })
        .take(self.frames)
    }

    /// Removes the first frame. A run that has no other is to be thrown away then; what it holds is
    /// let go there and not here, where the queue may be locked.
    pub(super) fn pop_frame(&mut self) -> Count {
        let len = self.first_len();
        if let Body::Packed { start, .. } = &mut self.body {
            *start += len;
        }
        self.frames -= 1;
        Count::one(len)
    }

    /// Removes the frames that end within the first `cursor` bytes, and takes them off `cursor`.
    pub(super) fn pop_frames(&mut self, cursor: &mut usize) -> Count {
        let mut popped = Count::ZERO;
        while self.frames > 0 && *cursor >= self.first_len() {
            let frame = self.pop_frame();
            *cursor -= frame.bytes as usize;
            popped += frame;
        }
        popped
    }

    /// Removes all but the first frame.
    pub(super) fn keep_first_frame(&mut self) -> Count {
        let whole = self.count();
        let len = self.first_len();
        if let Body::Packed { buffer, start } = &mut self.body {
            buffer.truncate(*start + len);
        }
        self.frames = 1;
        Count::new(whole.frames as usize - 1, whole.bytes as usize - len)
    }

    /// The buffer, emptied, or the run itself if it has none.
    pub(super) fn into_buffer(self) -> Result<Vec<u8>, Self> {
        match self.body {
            Body::Packed { mut buffer, .. } => {
                buffer.clear();
                Ok(buffer)
            }
            Body::Chained { .. } => Err(self),
        }
    }
}
