//! Groups the frames at the front of a buffer, and walks the frames of each group.
//!
//! [`Grouping`] notes where each group's frames are in the buffer, and [`GroupFrames`] walks them. The length
//! of every frame is checked once, when it is grouped, so walking cannot fail. `deliver` decides which
//! actor gets the frames of a group.
//!
//! Neighbouring frames of one group are one [`Span`] of bytes, however many they are. A buffer with
//! frames of a single group is therefore a single span, and needs no list. Where groups alternate, the
//! spans of one group form a linked list:
//!
//! ```text
//! buffer   │ A A A │ B │ A │ C │ B │ A A │
//!
//! A        first ──────► spans[0] ─────► spans[2]      `first` is kept with the group,
//! B        first ──────────────► spans[1]              all further spans in one vector that
//! C        first                                       the groups share
//! ```

use std::{collections::HashMap, ops::Range, sync::Arc};

use bytes::{Bytes, BytesMut};

use crate::{
    ids::GroupId,
    receive::group_hasher::GroupHasher,
    wire::count::Count,
    wire::frame::{self, HEADER, Malformed},
};

/// The most groups in one round. It bounds the messages that exist at the same time, even if a sender
/// addresses each of its frames to another group.
const ROUND_GROUPS: usize = 1024;

/// The most spans in one round. A span takes 12 bytes, which is more than the shortest frame (8), so
/// without a bound alternating groups could take more memory than was received. This many spans take
/// less than 64 KiB.
const ROUND_SPANS: usize = 3700;

/// Initial room for the spans that are not a group's first. If it is not enough, the next step is
/// room for all the spans of a round.
const FEW_SPANS: usize = 64;

/// Groups the frames of one connection, or of one UDP socket. Kept from read to read so that its
/// memory is used again.
#[derive(Debug, Default)]
pub(crate) struct Grouping {
    groups: Vec<GroupSpans>,
    /// Positions in `groups`.
    by_group: HashMap<GroupId, usize, GroupHasher>,
    /// All spans that are not the first of their group, in the order of their bytes.
    spans: Vec<Span>,
    /// The spans of the round before. Their memory is reused if no `GroupFrames` needs them any more.
    shared_spans: Option<Arc<Vec<Span>>>,
}

impl Grouping {
    /// Takes whole frames off the front of `buffer`, up to the bounds of a round, and calls `each`
    /// once for each group with the frames of that group.
    ///
    /// A frame with a bad length ends the round. The frames before it are handed to `each`, and it
    /// stays at the front of the buffer.
    pub(crate) fn round(
        &mut self,
        buffer: &mut BytesMut,
        max_frame: usize,
        mut each: impl FnMut(GroupFrames),
    ) -> Result<Round, Malformed> {
        self.reclaim_spans();
        let (whole, round) = self.gather(buffer, max_frame);
        if whole > 0 {
            let bytes = buffer.split_to(whole).freeze();
            let spans = self.share_spans();
            self.by_group.clear();
            for group in self.groups.drain(..) {
                each(GroupFrames::new(&group, bytes.clone(), spans.as_ref()));
            }
        }
        round
    }

    /// Notes the spans of the frames at the front of `bytes`. Returns how many bytes they take.
    fn gather(&mut self, bytes: &[u8], max_frame: usize) -> (usize, Result<Round, Malformed>) {
        let (mut whole, mut spans) = (0, 0);
        let mut next = frame::peek(bytes, max_frame);
        loop {
            let group = match next {
                Ok(Some(head)) => head.group,
                Ok(None) => return (whole, Ok(Round::Complete)),
                Err(malformed) => return (whole, Err(malformed)),
            };
            let full = self.groups.len() == ROUND_GROUPS && !self.by_group.contains_key(&group);
            if full || spans == ROUND_SPANS {
                return (whole, Ok(Round::Bounded));
            }
            spans += 1;
            let (start, mut frames) = (whole, 0);
            while let Ok(Some(head)) = next
                && head.group == group
            {
                frames += 1;
                whole += head.len;
                next = frame::peek(&bytes[whole..], max_frame);
            }
            let count = Count::new(frames, whole - start);
            self.add(group, Span::new(start, whole), count);
        }
    }

    /// Adds a span to its group.
    fn add(&mut self, group: GroupId, span: Span, count: Count) {
        let new = self.groups.len();
        let index = *self.by_group.entry(group).or_insert(new);
        if index == new {
            return self.groups.push(GroupSpans {
                group,
                count,
                first: span,
                last: None,
            });
        }
        let next = self.spans.len();
        if next == self.spans.capacity() {
            self.spans.reserve_exact(match next {
                0 => FEW_SPANS,
                _ => ROUND_SPANS - next,
            });
        }
        self.spans.push(span);
        let group = &mut self.groups[index];
        group.count += count;
        // At most `ROUND_SPANS`.
        let next = next as u32;
        match group.last.replace(next) {
            None => group.first.next = next,
            Some(last) => self.spans[last as usize].next = next,
        }
    }

    /// Makes the spans of this round readable by all its groups. `None` if each group has only one
    /// span, which it keeps itself.
    fn share_spans(&mut self) -> Option<Arc<Vec<Span>>> {
        if self.spans.is_empty() {
            return None;
        }
        let spans = Arc::new(std::mem::take(&mut self.spans));
        self.shared_spans = Some(spans.clone());
        Some(spans)
    }

    /// Takes back the memory of the last round's spans, unless some of its frames are still unread.
    fn reclaim_spans(&mut self) {
        if let Some(Ok(spans)) = self.shared_spans.take().map(Arc::try_unwrap) {
            self.spans = spans;
            self.spans.clear();
        }
    }
}

/// Whether a round took all whole frames there were.
#[derive(Debug, Copy, Clone, Eq, PartialEq)]
pub(crate) enum Round {
    /// It did: what is left in the buffer is the beginning of a frame, or nothing.
    Complete,
    /// It reached one of its bounds: the buffer may begin with more whole frames.
    Bounded,
}

/// The frames of one group out of one buffer, in the order of their arrival. Iterates over their
/// payloads, which are slices of the buffer and are cut only when asked for.
#[derive(Debug, Clone)]
pub(crate) struct GroupFrames {
    group: GroupId,
    total: Count,
    buffer: Bytes,
    /// Where the next frame begins.
    at: usize,
    /// Where the current span ends.
    end: usize,
    /// The position of the next span in `spans`, or `NO_SPAN`.
    next: u32,
    /// `None` if this group has a single span.
    spans: Option<Arc<Vec<Span>>>,
}

impl GroupFrames {
    fn new(group: &GroupSpans, buffer: Bytes, spans: Option<&Arc<Vec<Span>>>) -> Self {
        let GroupSpans { first, .. } = group;
        GroupFrames {
            group: group.group,
            total: group.count,
            buffer,
            at: first.start as usize,
            end: first.end as usize,
            next: first.next,
            spans: spans.filter(|_| first.next != NO_SPAN).cloned(),
        }
    }

    pub(crate) fn group(&self) -> GroupId {
        self.group
    }

    /// Returns the number and size of the frames as they were grouped, whether or not some have been
    /// taken since.
    pub(crate) fn total(&self) -> Count {
        self.total
    }

    /// Takes the next payload without sharing ownership of the buffer.
    #[inline]
    pub(crate) fn next_slice(&mut self) -> Option<&[u8]> {
        let payload = self.next_range()?;
        Some(&self.buffer[payload])
    }

    /// Returns how many of the first frames fit together into `room` bytes. Call this before
    /// taking any frame.
    pub(crate) fn fitting(&self, room: usize) -> Count {
        if self.total.bytes <= room as u64 {
            return self.total;
        }
        let mut fitting = Count::ZERO;
        let mut frames = self.clone();
        while let Some(payload) = frames.next_slice()
            && fitting.bytes as usize + HEADER + payload.len() <= room
        {
            fitting += Count::one(HEADER + payload.len());
        }
        fitting
    }

    /// Copies the first frames, which are `first` of them, into a buffer of their own. No frame has
    /// been taken yet when this is called.
    pub(crate) fn copied(mut self, first: Count) -> Self {
        let len = first.bytes as usize;
        let mut own = Vec::with_capacity(len);
        loop {
            let span = &self.buffer[self.at..self.end];
            own.extend_from_slice(&span[..span.len().min(len - own.len())]);
            if own.len() == len || !self.enter_next_span() {
                break;
            }
        }
        GroupFrames {
            group: self.group,
            total: first,
            at: 0,
            end: own.len(),
            buffer: own.into(),
            next: NO_SPAN,
            spans: None,
        }
    }

    /// Takes the next frame and returns where its payload is.
    #[inline]
    fn next_range(&mut self) -> Option<Range<usize>> {
        if self.at == self.end && !self.enter_next_span() {
            return None;
        }
        let start = self.at;
        self.at += frame::len_at(&self.buffer, start);
        Some(start + HEADER..self.at)
    }

    /// Goes on to the next span. Returns false if there is none.
    fn enter_next_span(&mut self) -> bool {
        let next = self.next as usize;
        let Some(&span) = self.spans.as_ref().and_then(|spans| spans.get(next)) else {
            return false;
        };
        (self.at, self.end) = (span.start as usize, span.end as usize);
        self.next = span.next;
        true
    }
}

impl Iterator for GroupFrames {
    type Item = Bytes;

    #[inline]
    fn next(&mut self) -> Option<Bytes> {
        let payload = self.next_range()?;
        Some(self.buffer.slice(payload))
    }
}

/// The spans of one group, while frames are being grouped.
#[derive(Debug)]
struct GroupSpans {
    group: GroupId,
    count: Count,
    first: Span,
    /// The position of the last span in `Grouping::spans`; `None` while there is only the first.
    last: Option<u32>,
}

/// Neighbouring frames of one group in the buffer.
#[derive(Debug, Copy, Clone)]
struct Span {
    start: u32,
    end: u32,
    /// The position of the group's next span, or `NO_SPAN`.
    next: u32,
}

const NO_SPAN: u32 = u32::MAX;

impl Span {
    fn new(start: usize, end: usize) -> Self {
        Span {
            start: to_offset(start),
            end: to_offset(end),
            next: NO_SPAN,
        }
    }
}

/// A buffer holds at most one incomplete frame and one read, and the frame limit is 2³⁰, so every
/// offset is below 2³².
fn to_offset(at: usize) -> u32 {
    u32::try_from(at).expect("buffers are shorter than 4 GiB")
}

#[cfg(test)]
mod tests;
