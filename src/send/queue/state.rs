//! What the queue's lock protects.
//!
//! Holds the queued chunks and the buffers for the next ones, the account, the waiting senders, and the
//! wakers of the writer and of those who wait for the queue to drain. Everything here happens under the
//! lock. What must not happen under the lock is put into [`Deferred`].

use std::{collections::VecDeque, mem, task::Waker};

use super::{
    BATCH_BYTES, BATCH_SLICES, Entered, LONG_QUEUE, WhenFull,
    account::{Account, Place, SendDrop},
    admission::{self, Entry, Gate, Limits, Occupancy, Together},
    apart::Apart,
    chunk::{Chunk, Offered},
    deferred::Deferred,
    doorbell::Doorbell,
    may_go::{MayGo, Now},
    shares::Shares,
    spare_buffers::SpareBuffers,
    terms::Terms,
    unacked::Unacked,
    waiters::Waiters,
};
use crate::{
    calls::pending::CallPeer, error::Refusal, ids::GroupId, net::clock::CoarseInstant,
    wire::count::Count, wire::frame::HEADER, wire::payload::Payload,
};

/// The longest chunk of copied frames. This is worth a system call of its own, and small enough that the
/// writer can start on it while the next chunk fills.
pub(super) const CHUNK_BYTES: usize = 64 << 10;

pub(super) struct State<To> {
    pub(super) gate: Gate,
    pub(super) account: Account,
    pub(super) waiters: Waiters,
    /// The queued frames. The last chunk is open for more frames of its age and destination.
    pub(super) chunks: VecDeque<Chunk<To>>,
    spare: SpareBuffers,
    /// Wakes the writer, or the task that stands in for it, when a frame comes or the queue ends.
    doorbell: Option<Waker>,
    /// Wakes whoever waits until nothing is queued or in flight.
    drained: Option<Waker>,
    pub(super) deferred: Deferred<To>,
    /// What was written on the link.
    pub(super) unacked: Unacked,
    pub(super) apart: Apart,
    /// What each group has. `None` if a group may have all of the queue, or if the queue has ended.
    pub(super) shares: Option<Box<Shares>>,
    /// How many links there have been.
    pub(super) links: u64,
    /// Who is at the far end of the link, if it takes calls.
    pub(super) call_peer: Option<CallPeer>,
    /// Whether a frame with an age limit of its own has come, and whom to wake when one comes.
    pub(super) has_sooner: bool,
    pub(super) sooner: Option<Waker>,
}

impl<To> Default for State<To> {
    fn default() -> Self {
        State {
            gate: Gate::Open,
            account: Account::default(),
            waiters: Waiters::default(),
            chunks: VecDeque::new(),
            spare: SpareBuffers::default(),
            doorbell: None,
            drained: None,
            deferred: Deferred::default(),
            unacked: Unacked::default(),
            apart: Apart::default(),
            shares: None,
            links: 0,
            call_peer: None,
            has_sooner: false,
            sooner: None,
        }
    }
}

impl<To: Copy + Eq> State<To> {
    pub(super) fn new(limits: &Limits) -> Self {
        State {
            shares: Shares::new(limits),
            ..State::default()
        }
    }

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
        if self.shares.is_some() {
            return self.admit_to_share(limits, group, len);
        }
        match admission::admit(limits, self.gate, self.occupancy(), group, len)? {
            Entry::Free => {}
            Entry::Evicting => self.evict_for(limits, len),
        }
        Ok(())
    }

    /// Returns whether all these frames may enter now, without evicting anything.
    pub(super) fn admits_all(&self, limits: &Limits, together: &Together) -> bool {
        // Shares are looked at frame by frame.
        self.shares.is_none()
            && admission::admits_all(limits, self.gate, self.occupancy(), together)
    }

    /// Takes the frame if it may enter now. The caller drops what this returns when the lock is released.
    ///
    /// Always inlined, with what it calls for most frames: otherwise the payload, too, is written to memory
    /// and read back while the lock is held (see `SendQueue::locked`), and sending 64 B frames took a fifth
    /// longer.
    #[expect(clippy::inline_always, reason = "measured")]
    #[inline(always)]
    pub(super) fn enter<P: Payload>(
        &mut self,
        limits: &Limits,
        to: To,
        group: GroupId,
        payload: P,
        now: CoarseInstant,
        when_full: WhenFull,
    ) -> Entered<P> {
        if self.shares.is_some() {
            return self.enter_share(limits, to, (group, payload), now, when_full);
        }
        let len = HEADER + payload.byte_len();
        let Err(refusal) = self.admit(limits, group, len) else {
            return Ok(self.put(limits, to, group, payload, now));
        };
        if when_full == WhenFull::Refuse || !matches!(refusal, Refusal::Full(_)) {
            self.account.offer(Err(refusal), Count::one(len));
        }
        Err((refusal, payload))
    }

    /// Appends an admitted frame. Returns the doorbell to ring, and the payload if it was copied, to
    /// be dropped when the lock is released.
    #[expect(clippy::inline_always, reason = "see `enter`")]
    #[inline(always)]
    pub(super) fn put<P: Payload>(
        &mut self,
        limits: &Limits,
        to: To,
        group: GroupId,
        payload: P,
        now: CoarseInstant,
    ) -> (Doorbell, Option<P>) {
        let bytes = payload.byte_len();
        self.account.offer(Ok(()), Count::one(HEADER + bytes));
        let number = self.account.next_number() - 1;
        if let Some(open) = self.chunks.back_mut()
            && bytes < limits.large_from
            && open.takes(to, number, now, HEADER + bytes, CHUNK_BYTES)
        {
            open.append(group, payload.pieces(), CHUNK_BYTES);
            return (self.take_doorbell(), Some(payload));
        }
        let copied = self.put_apart(limits, to, number, group, payload, now);
        (self.take_doorbell(), copied)
    }

    /// Appends admitted frames that are counted already. Payloads that were copied stay in their slots.
    /// The caller takes the doorbell.
    pub(super) fn put_all<P: Payload>(
        &mut self,
        limits: &Limits,
        to: To,
        mut frames: &mut [Offered<P>],
        now: CoarseInstant,
    ) {
        loop {
            let number = self.account.next_number() - frames.len() as u64;
            let appended = match self.chunks.back_mut() {
                Some(open) if open.behind() == number => {
                    open.append_all(to, now, frames, limits.large_from, CHUNK_BYTES)
                }
                _ => 0,
            };
            let rest = &mut frames[appended..];
            let Some(((group, slot), behind)) = rest.split_first_mut() else {
                return;
            };
            if let Some(payload) = slot.take() {
                let number = self.account.next_number() - 1 - behind.len() as u64;
                *slot = self.put_apart(limits, to, number, *group, payload, now);
            }
            frames = behind;
        }
    }

    /// Begins a chunk with the frame. Not inlined, so that only what most frames need is inlined into
    /// a push.
    #[inline(never)]
    pub(super) fn put_apart<P: Payload>(
        &mut self,
        limits: &Limits,
        to: To,
        number: u64,
        group: GroupId,
        payload: P,
        now: CoarseInstant,
    ) -> Option<P> {
        // If the writer is slow, many chunks wait. Then the last chunk, which takes no more frames, is
        // shrunk to what it needs.
        if self.chunks.len() >= LONG_QUEUE
            && let Some(full) = self.chunks.back_mut()
        {
            full.shrink();
        }
        if payload.byte_len() >= limits.large_from {
            let pieces = payload.into_pieces();
            self.chunks.push_back(Chunk::large(
                to,
                number,
                now,
                Terms::default(),
                group,
                pieces,
            ));
            return None;
        }
        // Probably as long as the chunk before it, so it gets that room and an eighth more at once. Growing
        // in steps would copy it repeatedly and, with a thousand peers, keep the allocator busy.
        let expected = self.chunks.back().map_or(0, Chunk::buffer_len) / 8 * 9;
        let mut chunk = Chunk::encoded(to, number, now, self.spare.take(expected));
        chunk.append(group, payload.pieces(), CHUNK_BYTES);
        self.chunks.push_back(chunk);
        Some(payload)
    }

    /// Returns the doorbell if the writer has left one. Usually it is awake and has left none. Checking
    /// first is faster than taking: taking took a third of the time of a push.
    #[inline]
    pub(super) fn take_doorbell(&mut self) -> Doorbell {
        match self.doorbell.is_some() {
            false => Doorbell::SILENT,
            true => self.doorbell.take().map_or(Doorbell::SILENT, Doorbell::new),
        }
    }

    // ---- frames go ----------------------------------------------------------------------------

    /// Takes the chunks of the next batch. Their frames are in flight then. Those that may not be written on this link
    /// are dropped.
    pub(super) fn take_batch(&mut self, limits: &Limits) -> VecDeque<Chunk<To>> {
        let mut taken = VecDeque::with_capacity(self.chunks.len().min(BATCH_SLICES));
        let (mut count, mut slices) = (Count::ZERO, 0);
        let mut for_former_links = Count::ZERO;
        let mut unsupported = Count::ZERO;
        let mut now = Now::default();
        while let Some(mut chunk) = self.chunks.pop_front() {
            self.apart.goes(&chunk);
            match chunk.may_go(self.links, self.call_peer, &mut now) {
                MayGo::Yes => {}
                MayGo::GivenUp(id) => {
                    let nothing = Chunk::nothing(&chunk, id);
                    let call = mem::replace(&mut chunk, nothing);
                    self.give_up(call, chunk.count());
                }
                may_not => {
                    *match may_not {
                        MayGo::ForFormerLink => &mut for_former_links,
                        _ => &mut unsupported,
                    } += chunk.count();
                    self.leaves_share(&chunk);
                    self.deferred.discard([chunk]);
                    continue;
                }
            }
            count += chunk.count();
            slices += chunk.slices();
            self.lends_of_share(&chunk);
            taken.push_back(chunk);
            if count.bytes >= BATCH_BYTES as u64 || slices >= BATCH_SLICES {
                break;
            }
        }
        self.account.transfer(Place::Queued, Place::InFlight, count);
        if !(for_former_links + unsupported).is_zero() {
            for (why, count) in [
                (SendDrop::Incomplete, for_former_links),
                (SendDrop::Withdrawn, unsupported),
            ] {
                let dropped = Place::Dropped(why);
                self.account.transfer(Place::Queued, dropped, count);
            }
            self.frames_left(limits);
        }
        taken
    }

    /// Returns the number of the first queued frame, or of the next that is accepted.
    pub(super) fn first_queued(&self) -> u64 {
        let first = self.chunks.front().map(|chunk| chunk.first);
        first.unwrap_or(self.account.next_number())
    }

    /// Puts back chunks of a batch that are not written, or drops them if the queue is closed.
    pub(super) fn give_back(&mut self, limits: &Limits, mut chunks: VecDeque<Chunk<To>>) {
        self.drop_replaced(&mut chunks);
        let count = chunks.iter().map(Chunk::count).sum();
        let place = self.gate.drops().map_or(Place::Queued, Place::Dropped);
        self.account.transfer(Place::InFlight, place, count);
        if place == Place::Queued {
            while let Some(mut chunk) = chunks.pop_back() {
                if let Some(call) = chunk.call() {
                    call.is_back();
                }
                self.apart.comes(&chunk);
                self.returns_to_share(&chunk);
                self.chunks.push_front(chunk);
            }
        }
        self.deferred.discard(chunks);
        self.frames_left(limits);
    }

    /// Drops the queued frames that have gone stale.
    pub(super) fn expire(&mut self, limits: &Limits, now: CoarseInstant) {
        if !self.apart.is_empty() {
            return self.expire_each(limits, now);
        }
        // They are in the order of their ages.
        let stale = |chunk: &Chunk<To>| chunk.is_stale(limits, now);
        if !self.chunks.front().is_some_and(stale) {
            return;
        }
        let fresh = self.chunks.iter().position(|chunk| !stale(chunk));
        self.drop_queued(fresh.unwrap_or(self.chunks.len()), SendDrop::Stale);
        self.frames_left(limits);
    }

    /// Drops the oldest queued frames until there is room for one of `len` bytes.
    #[cold]
    pub(super) fn evict_for(&mut self, limits: &Limits, len: usize) {
        while limits
            .missing(self.account.held() + self.waiters.reserved(), len)
            .is_some()
        {
            let oldest = self.chunks.front_mut();
            // Admission has checked that evicting queued frames makes enough room.
            let oldest = oldest.expect("queued frames take the room");
            let group = oldest.group();
            let evicted = oldest.pop_frame();
            if let Some(shares) = &mut self.shares {
                shares.leave(group, evicted);
            }
            if self.chunks[0].frames == 0 {
                let emptied = self.chunks.pop_front();
                emptied.iter().for_each(|chunk| self.apart.goes(chunk));
                self.deferred.discard(emptied);
            }
            let overflow = Place::Dropped(SendDrop::Overflow);
            self.account.transfer(Place::Queued, overflow, evicted);
        }
    }

    /// Drops the first `number` chunks.
    fn drop_queued(&mut self, number: usize, reason: SendDrop) {
        if !self.apart.is_empty() {
            let dropped = self.chunks.iter().take(number);
            dropped.for_each(|chunk| self.apart.goes(chunk));
        }
        self.first_leave_shares(number);
        let dropped = self.chunks.iter().take(number).map(Chunk::count).sum();
        self.account
            .transfer(Place::Queued, Place::Dropped(reason), dropped);
        self.deferred.discard(self.chunks.drain(..number));
    }

    /// Keeps the buffer of a chunk whose frames have all been written.
    pub(super) fn recycle(&mut self, chunk: Chunk<To>) {
        match chunk.into_buffer() {
            Ok(buffer) => self.spare.keep(buffer),
            Err(mut large) => {
                large.written();
                self.deferred.discard([large]);
            }
        }
    }

    /// Gives back the memory that is kept for speed.
    pub(super) fn trim(&mut self) {
        self.spare = SpareBuffers::default();
        self.chunks.shrink_to_fit();
        self.unacked.trim();
        self.apart.trim();
        self.shares.iter_mut().for_each(|shares| shares.trim());
    }

    // ---- those who wait -----------------------------------------------------------------------

    /// Wakes those who wait for frames to leave the queue. Called after frames were written, dropped or
    /// put back (then `DropOldest` may evict them).
    pub(super) fn frames_left(&mut self, limits: &Limits) {
        self.grant_room(limits);
        if self.account.held().is_zero() {
            self.deferred.wake(self.drained.take());
        }
    }

    /// Grants room to the senders in line, in their order, until there is none for the first of them.
    pub(super) fn grant_room(&mut self, limits: &Limits) {
        if self.shares.is_some() {
            self.let_on();
        }
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

    /// Drops what is queued, because the peer is forgotten, and lets nothing in or out any more.
    pub(super) fn abandon(&mut self) {
        self.shut(Gate::Forgotten);
    }

    /// Lets no frame in any more; once closed or forgotten, none out either. Wakes the writer and all senders, and
    /// whoever waits for the drain if nothing is left.
    pub(super) fn shut(&mut self, gate: Gate) {
        if self.gate.drops().is_none() {
            self.gate = gate;
        }
        // No frame can come any more, so nobody has to leave room for others.
        self.shares = None;
        if let Some(reason) = self.gate.drops() {
            self.drop_queued(self.chunks.len(), reason);
        }
        self.deferred.wake(self.doorbell.take());
        self.deferred.wake(self.waiters.end());
        if self.account.held().is_zero() {
            self.deferred.wake(self.drained.take());
        }
    }

    #[inline]
    pub(super) fn occupancy(&self) -> Occupancy {
        Occupancy {
            held: self.account.held(),
            in_flight: self.account.in_flight(),
            reserved: self.waiters.reserved(),
            requested: self.waiters.requested(),
        }
    }
}
