//! What is under the queue's lock: what waits, what is counted, and who is to be woken.
//!
//! Owns admission (the gate, the bounds, the eviction of the oldest) and the place where a frame is
//! put. When frames are taken, expire or come back is for the queue and its batches to say.

use std::{collections::VecDeque, task::Waker};

use super::{BATCH_BYTES, BATCH_RUNS, Limits, run::Run};
use crate::{
    config::Overflow,
    error::{QueueLimit, Refusal},
    ids::GroupId,
    net::clock::CoarseInstant,
    observe::stats::{Dropped, SendStats},
    wire::count::Count,
    wire::frame::HEADER,
    wire::payload::Payload,
};

/// A run takes no more frames once it is this long: a buffer worth a system call of its own, small
/// enough that the writer starts on it while the next one fills.
const RUN_BYTES: usize = 64 << 10;

/// Emptied buffers kept for the next runs, at most.
const SPARE_BUFFERS: usize = BATCH_BYTES / RUN_BYTES;

pub(super) struct State<To> {
    pub(super) gate: Gate,
    pub(super) counters: SendStats,
    pub(super) runs: VecDeque<Run<To>>,
    /// What goes when the lock is released: a payload's owner may have a `Drop` of the user's, which
    /// may ask this queue for something.
    pub(super) trash: Vec<Run<To>>,
    /// Emptied buffers, to be filled again.
    pub(super) spare: Vec<Vec<u8>>,
    /// What the senders at the turnstile have in their hands. Those who do not wait may only have the
    /// room that all of these together do not need, or room would never reach the head of the line.
    pub(super) waiting: Count,
    /// Drops that nobody has been told of yet.
    pub(super) untold: Dropped,
    pub(super) doorbell: Option<Waker>,
    pub(super) room: Option<Waker>,
    pub(super) empty: Option<Waker>,
}

/// What may pass.
#[derive(Debug, Copy, Clone, Eq, PartialEq)]
pub(super) enum Gate {
    /// Frames in and out.
    Open,
    /// Frames out only: the queue drains.
    Sealed,
    /// Nothing: what was left has been dropped.
    Closed,
}

impl<To> Default for State<To> {
    fn default() -> Self {
        State {
            gate: Gate::Open,
            counters: SendStats::default(),
            runs: VecDeque::new(),
            trash: Vec::new(),
            spare: Vec::new(),
            waiting: Count::ZERO,
            untold: Dropped::default(),
            doorbell: None,
            room: None,
            empty: None,
        }
    }
}

impl<To: Copy + Eq> State<To> {
    pub(super) fn used(&self) -> Count {
        self.counters.queued + self.counters.in_flight
    }

    /// Says whether a frame of `len` bytes may come in now, after making room for it if the oldest
    /// are to go.
    #[inline]
    pub(super) fn admit(
        &mut self,
        limits: &Limits,
        group: GroupId,
        len: usize,
    ) -> Result<(), Refusal> {
        self.check(limits, group, len)?;
        let Some(missing) = self.missing(limits, len) else {
            return Ok(());
        };
        if limits.overflow == Overflow::RejectNewest {
            return Err(Refusal::Full(missing));
        }
        self.evict_for(limits, len)
    }

    /// Says whether a frame that does not wait may come in while others do: there must be room for
    /// theirs, too. Were it refused whenever somebody waits, then with several senders and a full
    /// queue all of them would wait from then on, and each frame would cost a change of threads.
    #[cold]
    pub(super) fn admit_beside(
        &self,
        limits: &Limits,
        group: GroupId,
        len: usize,
    ) -> Result<(), Refusal> {
        self.check(limits, group, len)?;
        match limits.missing(self.used() + self.waiting, len) {
            Some(missing) => Err(Refusal::Full(missing)),
            None => Ok(()),
        }
    }

    /// Refuses what no amount of room would let in.
    #[inline]
    pub(super) fn check(&self, limits: &Limits, group: GroupId, len: usize) -> Result<(), Refusal> {
        if self.gate != Gate::Open {
            return Err(Refusal::Stopped);
        }
        if group == GroupId::RESERVED {
            return Err(Refusal::ReservedGroup);
        }
        if len > limits.frame {
            return Err(Refusal::TooLarge {
                len: len - HEADER,
                max: limits.frame - HEADER,
            });
        }
        Ok(())
    }

    #[inline]
    fn missing(&self, limits: &Limits, len: usize) -> Option<QueueLimit> {
        limits.missing(self.used(), len)
    }

    /// Drops the oldest that wait until there is room; none, if not even that would make it.
    #[cold]
    fn evict_for(&mut self, limits: &Limits, len: usize) -> Result<(), Refusal> {
        if let Some(missing) = limits.missing(self.counters.in_flight, len) {
            return Err(Refusal::Full(missing));
        }
        while let Some(missing) = self.missing(limits, len) {
            let Some(oldest) = self.runs.front_mut() else {
                return Err(Refusal::Full(missing));
            };
            let evicted = oldest.pop_frame();
            if oldest.frames == 0 {
                self.trash.extend(self.runs.pop_front());
            }
            self.counters.queued -= evicted;
            self.counters.dropped.overflow += evicted;
            self.untold.overflow += evicted;
        }
        Ok(())
    }

    /// Counts a send that has come to its end, one way or the other.
    #[inline]
    pub(super) fn decide(
        &mut self,
        admitted: Result<(), Refusal>,
        len: usize,
    ) -> Result<(), Refusal> {
        let frame = Count::one(len);
        self.counters.offered += frame;
        match admitted {
            Ok(()) => self.counters.accepted += frame,
            Err(refusal) => self.counters.rejected.count(refusal, frame),
        }
        admitted
    }

    /// Appends an admitted frame. Gives the payload back if it was copied, to be dropped later.
    #[inline]
    pub(super) fn put<P: Payload>(
        &mut self,
        limits: &Limits,
        to: To,
        group: GroupId,
        payload: P,
        now: CoarseInstant,
    ) -> Option<P> {
        let bytes = payload.as_ref();
        let len = HEADER + bytes.len();
        self.counters.queued += Count::one(len);
        if let Some(open) = self.runs.back_mut()
            && bytes.len() < limits.chain_from
            && open.takes(to, now, len, RUN_BYTES)
        {
            open.append(group, bytes, RUN_BYTES);
            return Some(payload);
        }
        self.put_apart(limits, to, group, payload, now)
    }

    /// Begins a run with the frame. Apart, so that what most frames need is inlined into a push.
    #[inline(never)]
    fn put_apart<P: Payload>(
        &mut self,
        limits: &Limits,
        to: To,
        group: GroupId,
        payload: P,
        now: CoarseInstant,
    ) -> Option<P> {
        // While the writer keeps up, a run is not here for long. Where it does not, the runs are what
        // the memory goes for.
        if self.runs.len() >= BATCH_RUNS
            && let Some(full) = self.runs.back_mut()
        {
            full.fit();
        }
        let bytes = payload.as_ref();
        if bytes.len() >= limits.chain_from {
            let payload = payload.into_bytes();
            self.runs.push_back(Run::chained(to, now, group, payload));
            return None;
        }
        let mut run = Run::packed(to, now, self.spare.pop().unwrap_or_default());
        run.append(group, bytes, RUN_BYTES);
        self.runs.push_back(run);
        Some(payload)
    }

    pub(super) fn drop_stale(&mut self, stale: Count) {
        self.counters.dropped.stale += stale;
        self.untold.stale += stale;
    }

    /// Keeps the buffer of a run that is done with.
    pub(super) fn recycle(&mut self, run: Run<To>) {
        match run.into_buffer() {
            Ok(buffer) if self.spare.len() < SPARE_BUFFERS => self.spare.push(buffer),
            Ok(_) => {}
            Err(chained) => self.trash.push(chained),
        }
    }

    /// The bells of those who wait for frames to go.
    pub(super) fn room_bells(&mut self) -> [Option<Waker>; 2] {
        let empty = match self.used().is_zero() {
            true => self.empty.take(),
            false => None,
        };
        [self.room.take(), empty]
    }
}
