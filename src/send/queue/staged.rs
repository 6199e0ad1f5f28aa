//! Frames that one call offers together.
//!
//! Owns the frames that were taken from the caller's iterator and are not accepted yet. The iterator is
//! foreign code, so it runs here, before the queue is locked. The frames are taken in parts: the
//! iterator may be endless, and a part decides how long the queue stays locked.
//!
//! Room for them, and where they are kept, is left to the queue's state.

use std::{collections::VecDeque, vec};

use super::{Doorbell, SendQueue, WhenFull, admission::Together};
use crate::{
    error::Refusal,
    ids::GroupId,
    net::clock::CoarseInstant,
    wire::{count::Count, frame::HEADER, payload::Payload},
};

/// A part ends with the frame that makes it this long. Copying so much takes some ten microseconds,
/// during which the other senders and the writer wait for the lock.
const PART_BYTES: usize = 64 << 10;

/// Frames of a part at most, for frames that are so short that each costs more than its bytes.
const PART_FRAMES: usize = 1024;

/// The frames of one call that are not accepted yet, in order, up to one part of them.
pub(crate) struct Staged<P> {
    frames: VecDeque<(GroupId, Slot<P>)>,
    /// The frames that were taken from the iterator.
    taken: usize,
    /// The iterator has ended.
    exhausted: bool,
}

/// A payload, or `None` once the queue keeps it as it is.
type Slot<P> = Option<P>;

impl<To: Copy + Eq> SendQueue<To> {
    /// Takes the staged frames as if they were pushed one by one, but with one lock, up to the first
    /// that is refused. Returns the doorbell, and why that frame was refused. It stays the first of the
    /// staged frames, and those behind it are not offered.
    pub(crate) fn push_staged<P: Payload>(
        &self,
        to: To,
        staged: &mut Staged<P>,
        now: CoarseInstant,
        when_full: WhenFull,
    ) -> (Doorbell, Result<(), Refusal>) {
        let mut together = Together::default();
        for (group, len, _) in staged.frames() {
            together.add(group, len);
        }
        let mut accepted = 0;
        let pushed = self.locked(|state| {
            let all = state.admits_all(&self.limits, &together);
            if all {
                state.account.offer(Ok(()), together.count);
            }
            let mut admitted = Ok(());
            for (group, len, slot) in staged.frames() {
                if !all {
                    admitted = state.admit(&self.limits, group, len);
                    if when_full == WhenFull::Refuse || !matches!(admitted, Err(Refusal::Full(_))) {
                        state.account.offer(admitted, Count::one(len));
                    }
                }
                if admitted.is_err() {
                    break;
                }
                state.put_counted(&self.limits, to, group, slot, now);
                accepted += 1;
            }
            let doorbell = match accepted {
                0 => Doorbell::SILENT,
                _ => state.take_doorbell(),
            };
            (doorbell, admitted)
        });
        // Copied payloads are dropped here, with the lock released.
        staged.frames.drain(..accepted);
        pushed
    }
}

impl<P: Payload> Staged<P> {
    pub(crate) fn new() -> Self {
        Staged {
            frames: VecDeque::new(),
            taken: 0,
            exhausted: false,
        }
    }

    /// Takes the next part from the iterator, unless some of the last one is left. Returns whether
    /// there are frames now.
    pub(crate) fn refill(&mut self, frames: &mut impl Iterator<Item = (GroupId, P)>) -> bool {
        if !self.frames.is_empty() {
            return true;
        }
        // What the iterator says about itself may be wrong, and payloads may be long arrays.
        let each = size_of::<(GroupId, Slot<P>)>();
        let expected = frames.size_hint().0.min(PART_FRAMES);
        self.frames.reserve(expected.min(1 + PART_BYTES / each));
        let mut bytes = 0;
        while !self.exhausted && bytes < PART_BYTES && self.frames.len() < PART_FRAMES {
            match frames.next() {
                Some((group, payload)) => {
                    bytes += HEADER + payload.byte_len();
                    self.frames.push_back((group, Some(payload)));
                    self.taken += 1;
                }
                None => self.exhausted = true,
            }
        }
        !self.frames.is_empty()
    }

    /// Takes out the first frame, to be sent alone.
    pub(crate) fn take_first(&mut self) -> Option<(GroupId, P)> {
        let (group, slot) = self.frames.pop_front()?;
        Some((group, slot?))
    }

    /// Puts back the first frame, which was not accepted.
    pub(crate) fn put_back_first(&mut self, group: GroupId, payload: P) {
        self.frames.push_front((group, Some(payload)));
    }

    /// Returns how many frames were accepted so far.
    pub(crate) fn accepted(&self) -> usize {
        self.taken - self.frames.len()
    }

    /// Returns the frames that were not accepted.
    pub(crate) fn into_frames(self) -> vec::IntoIter<(GroupId, P)> {
        let frames = self.frames.into_iter();
        let frames = frames.filter_map(|(group, slot)| Some((group, slot?)));
        frames.collect::<Vec<_>>().into_iter()
    }

    /// Returns whether the iterator has ended.
    pub(crate) fn is_exhausted(&self) -> bool {
        self.exhausted
    }

    /// Returns the frames with their lengths.
    fn frames(&mut self) -> impl Iterator<Item = (GroupId, usize, &mut Slot<P>)> {
        self.frames.iter_mut().map(|(group, slot)| {
            let len = slot.as_ref().map_or(0, |payload| payload.byte_len());
            (*group, HEADER + len, slot)
        })
    }
}
