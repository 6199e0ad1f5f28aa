//! A chunk: frames of one age and one destination, in the form in which they are written.
//!
//! Owns the layout of its frames in memory and finds single frames in it. When a chunk is made, moved
//! or dropped is left to the queue.

use std::{
    iter, mem,
    panic::{self, AssertUnwindSafe},
    time::Duration,
};

use bytes::{Bytes, BytesMut};

use super::{
    admission::Limits,
    parts::QueuedPart,
    terms::{Key, Terms},
    unacked::{Finished, Run},
};
use crate::{
    calls::queued_call::QueuedCall,
    ids::GroupId,
    net::clock::CoarseInstant,
    wire::count::Count,
    wire::frame::{self, HEADER, PREFIX},
    wire::payload::Payload,
};

/// One or more frames that were pushed within one tick of the clock and go to the same place.
pub(super) struct Chunk<To> {
    pub(super) to: To,
    /// The number of its first frame: how many frames the queue had accepted before it. The others follow
    /// without a gap.
    pub(super) first: u64,
    /// When its frames were pushed.
    pub(super) at: CoarseInstant,
    pub(super) frames: usize,
    /// What holds for its only frame and not for all of the queue. Boxed, because few have such terms.
    pub(super) terms: Option<Box<Terms>>,
    /// How many links have ended while the writer was in the middle of its first frame.
    pub(super) cuts: u8,
    body: Body,
}

/// A frame that is offered to a chunk. Its payload is `None` once a chunk has taken the payload over
/// without copying it.
pub(super) type Offered<P> = (GroupId, Option<P>);

enum Body {
    /// Frames encoded behind one another, from `start` on. The bytes before `start` are frames that
    /// have been removed.
    Encoded { buffer: Vec<u8>, start: usize },
    /// One frame with terms of its own, in one piece.
    Single(Vec<u8>),
    /// One frame with a large payload, which is not copied into a shared buffer.
    Large { header: [u8; HEADER], payload: Kept },
}

/// The pieces of a payload. The second is empty if there is only one.
struct Kept([Bytes; 2]);

impl<To: Copy + Eq> Chunk<To> {
    /// Makes an empty chunk that will be filled into `buffer`.
    pub(super) fn encoded(to: To, first: u64, at: CoarseInstant, buffer: Vec<u8>) -> Self {
        debug_assert!(buffer.is_empty());
        Chunk {
            to,
            first,
            at,
            frames: 0,
            terms: None,
            cuts: 0,
            body: Body::Encoded { buffer, start: 0 },
        }
    }

    pub(super) fn large(
        to: To,
        first: u64,
        at: CoarseInstant,
        terms: Terms,
        group: GroupId,
        pieces: [Bytes; 2],
    ) -> Self {
        Chunk {
            to,
            first,
            at,
            frames: 1,
            terms: terms.are_own().then(|| Box::new(terms)),
            cuts: 0,
            body: Body::Large {
                header: frame::header(group, pieces.iter().map(Bytes::len).sum()),
                payload: Kept(pieces),
            },
        }
    }

    /// Makes one of a short frame with terms of its own.
    pub(super) fn single(
        to: To,
        first: u64,
        at: CoarseInstant,
        terms: Terms,
        group: GroupId,
        payload: [&[u8]; 2],
    ) -> Self {
        let mut bytes = Vec::with_capacity(HEADER + payload[0].len() + payload[1].len());
        encode(&mut bytes, group, payload, 0);
        Chunk {
            to,
            first,
            at,
            frames: 1,
            terms: terms.are_own().then(|| Box::new(terms)),
            cuts: 0,
            body: Body::Single(bytes),
        }
    }

    /// Returns whether the chunk has this age and destination, its frames are those before `number`, and a
    /// frame of `len` bytes can be appended so that the buffer stays within `limit`.
    #[inline]
    pub(super) fn takes(
        &self,
        to: To,
        number: u64,
        at: CoarseInstant,
        len: usize,
        limit: usize,
    ) -> bool {
        match &self.body {
            Body::Encoded { buffer, .. } => {
                self.at == at
                    && self.to == to
                    && self.behind() == number
                    && buffer.len() + len <= limit
            }
            Body::Single(_) | Body::Large { .. } => false,
        }
    }

    /// Appends a frame. The buffer grows beyond `limit` only for a frame that needs it.
    #[expect(clippy::inline_always, reason = "see `State::enter`")]
    #[inline(always)]
    pub(super) fn append(&mut self, group: GroupId, payload: [&[u8]; 2], limit: usize) {
        let Body::Encoded { buffer, .. } = &mut self.body else {
            unreachable!("`takes` refuses large chunks");
        };
        encode(buffer, group, payload, limit);
        self.frames += 1;
    }

    /// Appends frames up to the first that is large or would make the buffer longer than `limit`. Returns
    /// how many: none if the chunk has another age or destination, or a large payload.
    pub(super) fn append_all<P: Payload>(
        &mut self,
        to: To,
        at: CoarseInstant,
        frames: &[Offered<P>],
        large_from: usize,
        limit: usize,
    ) -> usize {
        let Body::Encoded { buffer, .. } = &mut self.body else {
            return 0;
        };
        if self.at != at || self.to != to {
            return 0;
        }
        let before = self.frames;
        for (group, payload) in frames {
            let Some(payload) = payload else { break };
            let len = payload.byte_len();
            if len >= large_from || buffer.len() + HEADER + len > limit {
                break;
            }
            encode(buffer, *group, payload.pieces(), limit);
            self.frames += 1;
        }
        self.frames - before
    }

    /// Returns how much of the buffer is used, or 0 if there is none.
    pub(super) fn buffer_len(&self) -> usize {
        match &self.body {
            Body::Encoded { buffer, .. } => buffer.len(),
            Body::Single(_) | Body::Large { .. } => 0,
        }
    }

    /// Shrinks the buffer if more than an eighth of it is unused. For less, the copy is not worth it.
    pub(super) fn shrink(&mut self) {
        if let Body::Encoded { buffer, .. } = &mut self.body
            && buffer.len() < buffer.capacity() / 8 * 7
        {
            buffer.shrink_to_fit();
        }
    }

    /// Returns the key by which a newer frame replaces it.
    pub(super) fn key(&self) -> Option<Key> {
        self.terms.as_ref()?.key
    }

    /// Notes that its frame was written.
    pub(super) fn written(&mut self) {
        if let Some(part) = self.part() {
            part.written();
        }
        if let Some(call) = self.call() {
            call.written();
        }
    }

    pub(super) fn part(&mut self) -> Option<&mut QueuedPart> {
        self.terms.as_mut()?.part.as_mut()
    }

    pub(super) fn call(&mut self) -> Option<&mut QueuedCall> {
        self.terms.as_mut()?.call.as_mut()
    }

    /// Changes the bytes behind its header, at least those of its payload's first piece.
    pub(super) fn change_head(&mut self, change: impl FnOnce(&mut [u8])) {
        match &mut self.body {
            Body::Encoded { .. } => unreachable!("has frames without terms of their own"),
            Body::Single(bytes) => change(&mut bytes[HEADER..]),
            Body::Large { payload, .. } => {
                let mut head = BytesMut::from(&payload.0[0][..]);
                change(&mut head);
                payload.0[0] = head.freeze();
            }
        }
    }

    /// Returns how many slices it takes to write it.
    pub(super) fn slices(&self) -> usize {
        match &self.body {
            Body::Encoded { .. } | Body::Single(_) => 1,
            Body::Large { payload, .. } if payload.0[1].is_empty() => 2,
            Body::Large { .. } => 3,
        }
    }

    /// Returns how old its frames may become.
    pub(super) fn age_limit(&self, limits: &Limits) -> Duration {
        let own = self.terms.as_ref().and_then(|terms| terms.ttl);
        own.unwrap_or(limits.stale_after)
    }

    pub(super) fn is_stale(&self, limits: &Limits, now: CoarseInstant) -> bool {
        now.since(self.at) >= self.age_limit(limits)
    }

    /// Returns the number of the frame behind its last.
    pub(super) fn behind(&self) -> u64 {
        self.first + self.frames as u64
    }

    pub(super) fn count(&self) -> Count {
        Count::new(self.frames, self.parts().map(<[u8]>::len).iter().sum())
    }

    /// Returns its bytes in the order of the wire.
    pub(super) fn parts(&self) -> [&[u8]; 3] {
        match &self.body {
            Body::Encoded { buffer, start } => [&buffer[*start..], &[], &[]],
            Body::Single(bytes) => [bytes, &[], &[]],
            Body::Large { header, payload } => [header, &payload.0[0], &payload.0[1]],
        }
    }

    /// Returns the group of its first frame. A part of a message, and a call, is of the group that it is for.
    pub(super) fn group(&self) -> GroupId {
        let (buffer, start) = self.head();
        self.group_at(buffer, start)
    }

    fn group_at(&self, buffer: &[u8], at: usize) -> GroupId {
        let of = self.terms.as_ref().and_then(|terms| terms.of);
        of.unwrap_or_else(|| frame::group_at(buffer, at))
    }

    /// Returns what its frames' headers are in, and where its first one begins there.
    fn head(&self) -> (&[u8], usize) {
        match &self.body {
            Body::Encoded { buffer, start } => (buffer, *start),
            Body::Single(bytes) => (bytes, 0),
            Body::Large { header, .. } => (header, 0),
        }
    }

    /// Calls `each` for its frames that end within its first `bytes`, once for those in a row that have the same
    /// group. Returns how many bytes these frames have.
    pub(super) fn each_group(&self, bytes: usize, mut each: impl FnMut(GroupId, Count)) -> usize {
        let (buffer, start) = self.head();
        let (mut at, end) = (start, start.saturating_add(bytes));
        let mut row: Option<(GroupId, Count)> = None;
        for _ in 0..self.frames {
            let len = frame::len_at(buffer, at);
            if at + len > end {
                break;
            }
            let group = self.group_at(buffer, at);
            at += len;
            match &mut row {
                Some((of, count)) if *of == group => *count += Count::one(len),
                _ => {
                    let former = row.replace((group, Count::one(len)));
                    former.into_iter().for_each(|(of, count)| each(of, count));
                }
            }
        }
        row.into_iter().for_each(|(of, count)| each(of, count));
        at - start
    }

    pub(super) fn first_len(&self) -> usize {
        let (buffer, start) = self.head();
        frame::len_at(buffer, start)
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
        self.first += 1;
        self.cuts = 0;
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

    /// Notes the frames that end within its first `bytes`. Returns how many bytes these frames have.
    pub(super) fn note_finished(&self, bytes: usize, finished: &mut Finished) -> usize {
        let (buffer, start) = self.head();
        let (mut at, end) = (start, start.saturating_add(bytes));
        let mut left = self.frames;
        while left > 0 {
            let len = frame::len_at(buffer, at);
            let begin = at;
            // While the lengths are equal, the next one is looked for where the processor can know it
            // before it has read this one.
            while left > 0 && at + len <= end && frame::len_at(buffer, at) == len {
                at += len;
                left -= 1;
            }
            if at == begin {
                break;
            }
            finished.push(Run::new(len, (at - begin) / len));
        }
        at - start
    }

    /// Removes the frames that begin behind its first `bytes`, of which there is at least one. Returns what
    /// was removed.
    pub(super) fn keep_frames_of(&mut self, bytes: usize) -> Count {
        let whole = self.count();
        let (mut kept, mut len) = (1, self.first_len());
        if let Body::Encoded { buffer, start } = &mut self.body {
            while kept < self.frames && len < bytes {
                len += frame::len_at(buffer, *start + len);
                kept += 1;
            }
            buffer.truncate(*start + len);
        }
        self.frames = kept;
        Count::new(whole.frames as usize - kept, whole.bytes as usize - len)
    }

    /// Returns the buffer, emptied, or the chunk itself if it has none.
    pub(super) fn into_buffer(self) -> Result<Vec<u8>, Self> {
        match self.body {
            Body::Encoded { mut buffer, .. } => {
                buffer.clear();
                Ok(buffer)
            }
            Body::Single(_) | Body::Large { .. } => Err(self),
        }
    }
}

/// Appends a frame to the buffer, which doubles when it is full, but grows beyond `limit` only for a
/// frame that needs it.
#[expect(clippy::inline_always, reason = "see `State::enter`")]
#[inline(always)]
fn encode(buffer: &mut Vec<u8>, group: GroupId, payload: [&[u8]; 2], limit: usize) {
    let [first, second] = payload;
    let len = first.len() + second.len();
    let needed = buffer.len() + HEADER + len;
    if needed > buffer.capacity() {
        let doubled = (2 * buffer.capacity()).min(limit);
        buffer.reserve_exact(needed.max(doubled) - buffer.len());
    }
    buffer.extend_from_slice(&frame::header(group, len));
    buffer.extend_from_slice(first);
    buffer.extend_from_slice(second);
}

impl Drop for Kept {
    /// Drops each piece, even if the drop of another panics. Two panics at once would end the process.
    fn drop(&mut self) {
        let [first, second] = mem::take(&mut self.0)
            .map(|piece| panic::catch_unwind(AssertUnwindSafe(|| drop(piece))));
        if let Err(panic) = first.and(second) {
            panic::resume_unwind(panic);
        }
    }
}
