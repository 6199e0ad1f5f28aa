//! Groups the frames at the front of a buffer.
//!
//! [`Grouping`] notes where each group's frames are in the buffer, and `group_frames` walks them. The length
//! of every frame is checked once, when it is grouped, so walking cannot fail. `deliver` decides which
//! actor gets the frames of a group.
//!
//! Where the frames of all groups that only the catch-all actor serves are to keep their order, they are grouped as if
//! they were of one group.
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

use std::{collections::HashMap, sync::Arc, vec};

use bytes::{Bytes, BytesMut};

use crate::{
    ids::GroupId,
    receive::{
        group_frames::{GroupFrames, GroupSpans, Span},
        secret_hasher::SecretHasher,
    },
    wire::count::Count,
    wire::frame::{self, Malformed},
    wire::is_own,
};

/// The most groups in one round. It bounds the messages that exist at the same time, even if a sender
/// addresses each of its frames to another group.
const ROUND_GROUPS: usize = 1024;

/// The most spans in one round. A span takes 12 bytes, which is more than the shortest frame (8), so
/// without a bound alternating groups could take more memory than was received. This many spans take
/// 96 KiB. That is enough for the frames of 64 B in one read, so that a read gives each group one batch:
/// with half of it, a thousand groups got two thousand batches.
const ROUND_SPANS: usize = 8192;

/// Initial room for the spans that are not a group's first. If it is not enough, the next step is
/// room for all the spans of a round.
const FEW_SPANS: usize = 64;

/// Groups the frames of one connection, or of one UDP socket. Kept from read to read so that its
/// memory is used again.
#[derive(Debug, Default)]
pub(crate) struct Grouping {
    groups: Vec<GroupSpans>,
    /// Positions in `groups`.
    by_group: HashMap<GroupId, usize, SecretHasher>,
    /// The position of the frames that only the catch-all actor serves, if it gets them together.
    rest: Option<usize>,
    /// The position of the group whose span was added last.
    last: usize,
    /// All spans that are not the first of their group, in the order of their bytes.
    spans: Vec<Span>,
    /// The spans of the round before. Their memory is reused if no `GroupFrames` needs them any more.
    shared_spans: Option<Arc<Vec<Span>>>,
}

impl Grouping {
    /// Takes whole frames off the front of `buffer`, up to the bounds of a round, and returns those of
    /// each group.
    ///
    /// A frame with a bad length ends the round, as do a control frame and a part of a message. The frames before it are returned,
    /// and it stays at the front of the buffer.
    ///
    /// The frames of the groups that are `rest` are not told from each other.
    pub(crate) fn round(
        &mut self,
        buffer: &mut BytesMut,
        limits: RoundLimits,
        is_rest: impl Fn(GroupId) -> bool,
    ) -> (RoundGroups<'_>, Result<Round, Malformed>) {
        self.reclaim_spans();
        let (total, round) = self.gather(buffer, limits, is_rest);
        self.by_group.clear();
        self.rest = None;
        let bytes = match total.frames {
            0 => Bytes::new(),
            // The length of the buffer at most.
            _ => buffer.split_to(total.bytes as usize).freeze(),
        };
        let groups = RoundGroups {
            total,
            bytes,
            spans: self.share_spans(),
            groups: self.groups.drain(..),
        };
        (groups, round)
    }

    /// Notes the spans of the frames at the front of `bytes`. Returns how many frames these are.
    fn gather(
        &mut self,
        bytes: &[u8],
        limits: RoundLimits,
        is_rest: impl Fn(GroupId) -> bool,
    ) -> (Count, Result<Round, Malformed>) {
        let (mut total, mut spans, mut whole) = (Count::ZERO, 0, 0);
        let mut next = frame::peek(bytes, limits.max_frame);
        loop {
            let head = match next {
                Ok(Some(head)) => head,
                Ok(None) => return (total, Ok(Round::Complete)),
                Err(malformed) => return (total, Err(malformed)),
            };
            let group = head.group;
            let mut left = limits.max_frames.saturating_sub(total.frames as usize);
            if limits.control && group == GroupId::RESERVED {
                let frame = &bytes[whole..whole + head.len];
                if is_own(frame) {
                    return (total, Ok(Round::Control));
                }
                // A control frame may follow.
                left = left.min(1);
            }
            let of = (!is_rest(group)).then_some(group);
            let full = self.groups.len() == ROUND_GROUPS && !self.has(of);
            if full || spans == ROUND_SPANS || left == 0 {
                return (total, Ok(Round::Bounded));
            }
            spans += 1;
            let (start, mut frames) = (whole, 0);
            while let Ok(Some(head)) = next
                && (head.group == group || of.is_none() && is_rest(head.group))
                && frames < left
            {
                frames += 1;
                whole += head.len;
                next = frame::peek(&bytes[whole..], limits.max_frame);
            }
            let count = Count::new(frames, whole - start);
            total += count;
            self.add(of, Span::new(start, whole), count);
        }
    }

    /// Returns whether there are frames of this group.
    fn has(&self, group: Option<GroupId>) -> bool {
        match group {
            Some(group) => self.by_group.contains_key(&group),
            None => self.rest.is_some(),
        }
    }

    /// Adds a span to its group.
    fn add(&mut self, group: Option<GroupId>, span: Span, count: Count) {
        let new = self.groups.len();
        let index = self.index_of(group);
        self.last = index;
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

    /// Returns the position of a group, which is the next free one if the group is new.
    fn index_of(&mut self, group: Option<GroupId>) -> usize {
        // Senders often address their groups in the same order again and again. A look at the group
        // that came next before is a fifth of the work of a look into the table.
        let next = match self.last + 1 {
            behind if behind >= self.groups.len() => 0,
            next => next,
        };
        if self.groups.get(next).is_some_and(|row| row.group == group) {
            return next;
        }
        let new = self.groups.len();
        match group {
            Some(group) => *self.by_group.entry(group).or_insert(new),
            None => *self.rest.get_or_insert(new),
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

/// What a round may take, beside the bounds that never change.
#[derive(Debug, Copy, Clone)]
pub(crate) struct RoundLimits {
    /// The longest frame, in bytes.
    pub(crate) max_frame: usize,
    /// The most frames in one round.
    pub(crate) max_frames: usize,
    /// Whether a control frame, or a part of a message, ends the round.
    pub(crate) control: bool,
}

#[cfg(any(test, feature = "test-internals"))]
impl RoundLimits {
    /// Bounds the length of frames, but not their number.
    pub(crate) fn frames_of(max_frame: usize) -> Self {
        RoundLimits {
            max_frame,
            max_frames: usize::MAX,
            control: false,
        }
    }
}

/// The frames of one round, by group: the groups in the order of their first frames.
#[derive(Debug)]
pub(crate) struct RoundGroups<'g> {
    total: Count,
    bytes: Bytes,
    spans: Option<Arc<Vec<Span>>>,
    groups: vec::Drain<'g, GroupSpans>,
}

impl RoundGroups<'_> {
    /// Returns the number and size of all frames of the round.
    pub(crate) fn total(&self) -> Count {
        self.total
    }
}

impl Iterator for RoundGroups<'_> {
    type Item = GroupFrames;

    fn next(&mut self) -> Option<GroupFrames> {
        let group = self.groups.next()?;
        let bytes = match self.groups.len() {
            // The last group takes the buffer over.
            0 => std::mem::take(&mut self.bytes),
            _ => self.bytes.clone(),
        };
        Some(GroupFrames::new(&group, bytes, self.spans.as_ref()))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.groups.size_hint()
    }
}

impl ExactSizeIterator for RoundGroups<'_> {}

/// Whether a round took all whole frames there were.
#[derive(Debug, Copy, Clone, Eq, PartialEq)]
pub(crate) enum Round {
    /// It did: what is left in the buffer is the beginning of a frame, or nothing.
    Complete,
    /// It reached one of its bounds: the buffer may begin with more whole frames.
    Bounded,
    /// The buffer begins with a whole control frame, or a whole part of a message.
    Control,
}

#[cfg(test)]
mod tests;
