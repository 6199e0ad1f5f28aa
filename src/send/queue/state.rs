//! What the queue's lock protects.
//!
//! Holds the queued chunks and the buffers for the next ones, the account, the waiting senders, and the
//! wakers of the writer and of those who wait for the queue to drain. Everything here happens under the
//! lock. What must not happen under the lock is put into [`Deferred`].

use std::{collections::VecDeque, mem, task::Waker};

use super::{
    BATCH_BYTES, BATCH_CHUNKS,
    account::{Account, Place, SendDrop},
    admission::{self, Entry, Gate, Limits, Occupancy},
    chunk::Chunk,
    deferred::Deferred,
    doorbell::Doorbell,
    waiters::Waiters,
};
use crate::{
    error::Refusal, ids::GroupId, net::clock::CoarseInstant, wire::count::Count,
    wire::frame::HEADER, wire::payload::Payload,
};

/// The longest chunk of copied frames. This is worth a system call of its own, and small enough that the
/// writer can start on it while the next chunk fills.
const CHUNK_BYTES: usize = 64 << 10;

/// How many emptied buffers are kept for the next chunks.
const SPARE_BUFFERS: usize = BATCH_BYTES / CHUNK_BYTES;

pub(super) struct State<To> {
    pub(super) gate: Gate,
    pub(super) account: Account,
    pub(super) waiters: Waiters,
    /// The queued frames. The last chunk is open for more frames of its age and destination.
    pub(super) chunks: VecDeque<Chunk<To>>,
    /// Emptied buffers, to be filled again.
    spare: Vec<Vec<u8>>,
    /// Wakes the writer when a frame comes or the queue ends.
    doorbell: Option<Waker>,
    /// Wakes whoever waits until nothing is queued or in flight.
    drained: Option<Waker>,
    pub(super) deferred: Deferred<To>,
}

impl<To> Default for State<To> {
    fn default() -> Self {
        State {
            gate: Gate::Open,
            account: Account::default(),
            waiters: Waiters::default(),
            chunks: VecDeque::new(),
            spare: Vec::new(),
            doorbell: None,
            drained: None,
            deferred: Deferred::default(),
        }
    }
}

impl<To: Copy + Eq> State<To> {
    // ---- frames come --------------------------------------------------------------------------

    /// Decides whether a frame of `len` bytes may enter now. Evicts the oldest if they have to make
    /// way for it.
    #[inline]
    pub(super) fn admit(
        &mut self,
        limits: &Limits,
        group: GroupId,
        len: usize,
    ) -> Result<(), Refusal> {
        match admission::admit(limits, self.gate, self.occupancy(), group, len)? {
            Entry::Free => {}
            Entry::Evicting => self.evict_for(limits, len),
        }
        Ok(())
    }

    /// Appends an admitted frame. Returns the doorbell to ring, and the payload if it was copied, to
    /// be dropped when the lock is released.
    #[inline]
    pub(super) fn put<P: Payload>(
        &mut self,
        limits: &Limits,
        to: To,
        group: GroupId,
        payload: P,
        now: CoarseInstant,
    ) -> (Doorbell, Option<P>) {
        let bytes = payload.as_ref();
        let len = HEADER + bytes.len();
        self.account.offer(Ok(()), Count::one(len));
        if let Some(open) = self.chunks.back_mut()
            && bytes.len() < limits.large_from
            && open.takes(to, now, len, CHUNK_BYTES)
        {
            open.append(group, bytes, CHUNK_BYTES);
            return (self.take_doorbell(), Some(payload));
        }
        let copied = self.put_apart(limits, to, group, payload, now);
        (self.take_doorbell(), copied)
    }

    /// Begins a chunk with the frame. Not inlined, so that only what most frames need is inlined into
    /// a push.
    #[inline(never)]
    fn put_apart<P: Payload>(
        &mut self,
        limits: &Limits,
        to: To,
        group: GroupId,
        payload: P,
        now: CoarseInstant,
    ) -> Option<P> {
        // If the writer is slow, many chunks wait. Then the full ones are shrunk to what they need.
        if self.chunks.len() >= BATCH_CHUNKS
            && let Some(full) = self.chunks.back_mut()
        {
            full.shrink();
        }
        let bytes = payload.as_ref();
        if bytes.len() >= limits.large_from {
            let payload = payload.into_bytes();
            self.chunks.push_back(Chunk::large(to, now, group, payload));
            return None;
        }
        let mut chunk = Chunk::encoded(to, now, self.spare.pop().unwrap_or_default());
        chunk.append(group, bytes, CHUNK_BYTES);
        self.chunks.push_back(chunk);
        Some(payload)
    }

    /// Returns the doorbell if the writer has left one. Usually it is awake and has left none. Checking
    /// first is faster than taking: taking took a third of the time of a push.
    #[inline]
    fn take_doorbell(&mut self) -> Doorbell {
        match self.doorbell.is_some() {
            false => Doorbell::SILENT,
            true => self.doorbell.take().map_or(Doorbell::SILENT, Doorbell::new),
        }
    }

    // ---- frames go ----------------------------------------------------------------------------

    /// Takes the chunks of the next batch. Their frames are in flight then.
    pub(super) fn take_batch(&mut self) -> VecDeque<Chunk<To>> {
        let mut taken = VecDeque::new();
        let mut count = Count::ZERO;
        while let Some(chunk) = self.chunks.pop_front() {
            count += chunk.count();
            taken.push_back(chunk);
            if count.bytes >= BATCH_BYTES as u64 || taken.len() == BATCH_CHUNKS {
                break;
            }
        }
        self.account.transfer(Place::Queued, Place::InFlight, count);
        taken
    }

    /// Puts back chunks of a batch that are not written, or drops them if the queue is closed.
    pub(super) fn give_back(&mut self, limits: &Limits, mut chunks: VecDeque<Chunk<To>>) {
        let count = chunks.iter().map(Chunk::count).sum();
        let place = match self.gate {
            Gate::Open | Gate::Sealed => Place::Queued,
            Gate::Closed => Place::Dropped(SendDrop::Stopped),
        };
        self.account.transfer(Place::InFlight, place, count);
        if place == Place::Queued {
            while let Some(chunk) = chunks.pop_back() {
                self.chunks.push_front(chunk);
            }
        }
        self.deferred.discard(chunks);
        self.frames_left(limits);
    }

    /// Drops the queued frames that have gone stale.
    pub(super) fn expire(&mut self, limits: &Limits, now: CoarseInstant) {
        let stale = |chunk: &Chunk<To>| now.since(chunk.at) >= limits.stale_after;
        if !self.chunks.front().is_some_and(stale) {
            return;
        }
        let fresh = self.chunks.iter().position(|chunk| !stale(chunk));
        self.drop_queued(fresh.unwrap_or(self.chunks.len()), SendDrop::Stale);
        self.frames_left(limits);
    }

    /// Drops the oldest queued frames until there is room for one of `len` bytes.
    #[cold]
    fn evict_for(&mut self, limits: &Limits, len: usize) {
        while limits
            .missing(self.account.held() + self.waiters.reserved(), len)
            .is_some()
        {
            let oldest = self.chunks.front_mut();
            // Admission has checked that evicting queued frames makes enough room.
            let evicted = oldest.expect("queued frames take the room").pop_frame();
            if self.chunks[0].frames == 0 {
                self.deferred.discard(self.chunks.pop_front());
            }
            let overflow = Place::Dropped(SendDrop::Overflow);
            self.account.transfer(Place::Queued, overflow, evicted);
        }
    }

    /// Drops the first `number` chunks.
    fn drop_queued(&mut self, number: usize, reason: SendDrop) {
        let dropped = self.chunks.iter().take(number).map(Chunk::count).sum();
        self.account
            .transfer(Place::Queued, Place::Dropped(reason), dropped);
        self.deferred.discard(self.chunks.drain(..number));
    }

    /// Keeps the buffer of a chunk whose frames are all gone.
    pub(super) fn recycle(&mut self, chunk: Chunk<To>) {
        match chunk.into_buffer() {
            Ok(buffer) if self.spare.len() < SPARE_BUFFERS => self.spare.push(buffer),
            Ok(_) => {}
            Err(large) => self.deferred.discard([large]),
        }
    }

    /// Gives back the memory that is kept for speed.
    pub(super) fn trim(&mut self) {
        self.spare = Vec::new();
        self.chunks.shrink_to_fit();
    }

    // ---- those who wait -----------------------------------------------------------------------

    /// Wakes those who wait for frames to leave the queue. Called after frames were written, dropped or
    /// put back.
    pub(super) fn frames_left(&mut self, limits: &Limits) {
        self.grant_room(limits);
        if self.account.held().is_zero() {
            self.deferred.wake(self.drained.take());
        }
    }

    /// Grants room to the senders in line, in their order, until there is none for the first of them.
    pub(super) fn grant_room(&mut self, limits: &Limits) {
        while let Some(len) = self.waiters.first() {
            match admission::grant(limits, self.occupancy(), len) {
                None => return,
                Some(Entry::Free) => {}
                Some(Entry::Evicting) => self.evict_for(limits, len),
            }
            self.deferred.wake(self.waiters.grant_first());
        }
    }

    /// Returns whether the writer has nothing to do but wait.
    pub(super) fn is_idle(&self) -> bool {
        self.chunks.is_empty() && self.gate == Gate::Open
    }

    /// Leaves the writer's waker as the doorbell. The one that it replaces stays in `waker`.
    pub(super) fn hang_doorbell(&mut self, waker: &mut Option<Waker>) {
        mem::swap(&mut self.doorbell, waker);
    }

    /// Puts a doorbell back, unless the writer has left a newer one.
    pub(super) fn rehang_doorbell(&mut self, waker: &mut Option<Waker>) {
        if self.doorbell.is_none() {
            self.hang_doorbell(waker);
        }
    }

    /// Leaves the waker of whoever waits for the queue to drain. The one that it replaces stays in
    /// `waker`.
    pub(super) fn hang_drained(&mut self, waker: &mut Option<Waker>) {
        mem::swap(&mut self.drained, waker);
    }

    // ---- the end ------------------------------------------------------------------------------

    /// Lets no frame in any more; once closed, none out either. Wakes everybody.
    pub(super) fn shut(&mut self, gate: Gate) {
        if self.gate != Gate::Closed {
            self.gate = gate;
        }
        if self.gate == Gate::Closed {
            self.drop_queued(self.chunks.len(), SendDrop::Stopped);
        }
        self.deferred.wake(self.doorbell.take());
        self.deferred.wake(self.waiters.end());
        if self.account.held().is_zero() {
            self.deferred.wake(self.drained.take());
        }
    }

    #[inline]
    fn occupancy(&self) -> Occupancy {
        Occupancy {
            held: self.account.held(),
            in_flight: self.account.in_flight(),
            reserved: self.waiters.reserved(),
            requested: self.waiters.requested(),
        }
    }
}
