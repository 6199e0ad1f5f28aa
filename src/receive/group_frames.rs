//! [`GroupFrames`]: the frames out of one buffer that one actor gets, mostly those of one group.
//!
//! Owns how they are walked, from span to span, and where the spans are noted. Which frames these are was
//! found by `grouping`, which also checked their lengths.

use std::{ops::Range, sync::Arc};

use bytes::Bytes;

use crate::{
    ids::GroupId,
    wire::count::Count,
    wire::frame::{self, HEADER, PREFIX},
};

/// The frames of one group out of one buffer, or of all groups that only the catch-all actor serves, in the order of
/// their arrival. Iterates over their payloads, which are slices of the buffer and are cut only when asked for.
#[derive(Debug, Clone)]
pub(crate) struct GroupFrames {
    /// `None`: each frame may be of another.
    group: Option<GroupId>,
    total: Count,
    buffer: Bytes,
    /// Where the frame begins that was taken last, or the first one.
    last: usize,
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
    pub(super) fn new(group: &GroupSpans, buffer: Bytes, spans: Option<&Arc<Vec<Span>>>) -> Self {
        let GroupSpans { first, .. } = group;
        GroupFrames {
            group: group.group,
            total: group.count,
            buffer,
            last: first.start as usize,
            at: first.start as usize,
            end: first.end as usize,
            next: first.next,
            spans: spans.filter(|_| first.next != NO_SPAN).cloned(),
        }
    }

    /// Returns the group of the next frame, or of the last one if all are taken.
    pub(crate) fn group(&self) -> GroupId {
        self.group.unwrap_or_else(|| {
            let next = match self.at < self.end {
                true => Some(self.at),
                false => self.next_span().map(|span| span.start as usize),
            };
            frame::group_at(&self.buffer, next.unwrap_or(self.last))
        })
    }

    /// Returns the group of all frames. `None` if each may be of another.
    pub(crate) fn group_of_all(&self) -> Option<GroupId> {
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

    /// Takes the next frame's group and payload, which lie one behind the other in the buffer.
    #[inline]
    pub(crate) fn next_with_group(&mut self) -> Option<&[u8]> {
        let payload = self.next_range()?;
        Some(&self.buffer[payload.start - (HEADER - PREFIX)..payload.end])
    }

    /// Returns how many of the first frames fit together into `room` bytes. No frame has been taken
    /// yet when this is called.
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
            last: 0,
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
        self.last = start;
        self.at += frame::len_at(&self.buffer, start);
        Some(start + HEADER..self.at)
    }

    /// Goes on to the next span. Returns false if there is none.
    fn enter_next_span(&mut self) -> bool {
        let Some(span) = self.next_span() else {
            return false;
        };
        (self.at, self.end) = (span.start as usize, span.end as usize);
        self.next = span.next;
        true
    }

    fn next_span(&self) -> Option<Span> {
        let spans = self.spans.as_ref()?;
        spans.get(self.next as usize).copied()
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
pub(super) struct GroupSpans {
    /// `None`: all groups that only the catch-all actor serves.
    pub(super) group: Option<GroupId>,
    pub(super) count: Count,
    pub(super) first: Span,
    /// The position of the last span in `Grouping::spans`; `None` while there is only the first.
    pub(super) last: Option<u32>,
}

/// Neighbouring frames of one group in the buffer.
#[derive(Debug, Copy, Clone)]
pub(super) struct Span {
    start: u32,
    end: u32,
    /// The position of the group's next span, or `NO_SPAN`.
    pub(super) next: u32,
}

const NO_SPAN: u32 = u32::MAX;

impl Span {
    pub(super) fn new(start: usize, end: usize) -> Self {
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
