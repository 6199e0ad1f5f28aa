//! Frames that one call offers together.
//!
//! Owns the frames that were taken from the caller's iterator and are not accepted yet. The iterator is
//! foreign code, so it runs here, before the queue is locked. The frames are taken in parts: the
//! iterator may be endless, and a part decides how long the queue stays locked.
//!
//! Room for them, and where they are kept, is left to the queue's state.

use std::vec;

use super::{Doorbell, SendQueue, WhenFull, admission::Together, chunk::Offered, state::State};
use crate::{
    error::Refusal,
    ids::GroupId,
    net::clock::CoarseInstant,
    wire::{count::Count, frame::HEADER, payload::Payload},
};

/// A part ends with the frame that makes it this long. Copying so much takes some ten microseconds,
/// during which the other senders and the writer wait for the lock.
const PART_BYTES: usize = 64 << 10;

/// The most frames in a part, for frames so short that the cost of each matters more than its bytes.
const PART_FRAMES: usize = 1024;

/// The frames of one call that are not accepted yet, in order, up to one part of them.
pub(crate) struct Staged<P> {
    frames: Vec<Offered<P>>,
    /// What the frames need together; `None` once they have been offered: those that are left then are
    /// tried one by one.
    together: Option<Together>,
    /// How many frames were taken from the iterator.
    taken: usize,
    /// The iterator has ended.
    exhausted: bool,
}

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
        let Staged {
            frames, together, ..
        } = staged;
        let mut accepted = 0;
        let pushed = self.locked(|state| {
            let admitted = match together.take() {
                Some(part) if state.admits_all(&self.limits, &part) => {
                    state.account.offer(Ok(()), part.count);
                    state.put_all(&self.limits, to, frames, now);
                    accepted = frames.len();
                    Ok(())
                }
                _ => frames.chunks_mut(1).try_for_each(|frame| {
                    self.push_one(state, to, frame, now, when_full)?;
                    accepted += 1;
                    Ok(())
                }),
            };
            let doorbell = match accepted {
                0 => Doorbell::SILENT,
                _ => state.take_doorbell(),
            };
            (doorbell, admitted)
        });
        // Copied payloads are dropped here, with the lock released.
        frames.drain(..accepted);
        pushed
    }

    /// Takes one staged frame, given as a slice of one.
    fn push_one<P: Payload>(
        &self,
        state: &mut State<To>,
        to: To,
        frame: &mut [Offered<P>],
        now: CoarseInstant,
        when_full: WhenFull,
    ) -> Result<(), Refusal> {
        let [(group, Some(payload))] = frame else {
            return Ok(());
        };
        let len = HEADER + payload.byte_len();
        let admitted = state.admit(&self.limits, *group, len);
        if when_full == WhenFull::Refuse || !matches!(admitted, Err(Refusal::Full(_))) {
            state.account.offer(admitted, Count::one(len));
        }
        admitted?;
        if state.shares.is_none() {
            state.put_all(&self.limits, to, frame, now);
        } else if let [(group, slot)] = frame
            && let Some(payload) = slot.take()
        {
            *slot = state.store(&self.limits, to, *group, payload, now);
        }
        Ok(())
    }
}

impl<P: Payload> Staged<P> {
    pub(crate) fn new() -> Self {
        Staged {
            frames: Vec::new(),
            together: None,
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
        // The size hint may be wrong, and an array held by value may be large, so this reserves little.
        let expected = frames.size_hint().0.min(PART_FRAMES);
        self.frames
            .reserve(expected.min(1 + PART_BYTES / size_of::<Offered<P>>()));
        let mut together = Together::default();
        while !self.exhausted
            && self.frames.len() < PART_FRAMES
            && together.count.bytes < PART_BYTES as u64
        {
            match frames.next() {
                Some((group, payload)) => {
                    together.add(group, HEADER + payload.byte_len());
                    self.frames.push((group, Some(payload)));
                }
                None => self.exhausted = true,
            }
        }
        self.taken += self.frames.len();
        self.together = Some(together);
        !self.frames.is_empty()
    }

    /// Takes out the first frame, to be sent alone.
    pub(crate) fn take_first(&mut self) -> Option<(GroupId, P)> {
        self.together = None;
        let (group, payload) = match self.frames.is_empty() {
            true => return None,
            false => self.frames.remove(0),
        };
        Some((group, payload?))
    }

    /// Puts back the first frame, which was not accepted.
    pub(crate) fn put_back_first(&mut self, group: GroupId, payload: P) {
        self.frames.insert(0, (group, Some(payload)));
    }

    /// Returns how many frames were accepted so far.
    pub(crate) fn accepted(&self) -> usize {
        self.taken - self.frames.len()
    }

    /// Returns the frames that were not accepted.
    pub(crate) fn into_frames(self) -> vec::IntoIter<(GroupId, P)> {
        let frames = self.frames.into_iter();
        let frames = frames.filter_map(|(group, payload)| Some((group, payload?)));
        frames.collect::<Vec<_>>().into_iter()
    }

    /// Returns whether the iterator has ended.
    pub(crate) fn is_exhausted(&self) -> bool {
        self.exhausted
    }
}
