//! How frames enter a queue in which each group has a share, and which of their own group make way for them.
//!
//! Nothing here runs where a group may have all of the queue. What each group has is counted by
//! [`Shares`](super::shares::Shares).
//!
//! A sender that waits passes two gates. As long as its group has no room in its share, it is held back, behind those
//! of its group that came before. Then it stands in line with all others, at the place of its ticket, so it
//! does not lose by having been held back. Those who are held back need no room yet: they keep nobody else waiting.
//!
//! Where frames are evicted, a sender only waits for frames in flight. So evicting lets nobody on.

use std::task::Waker;

use super::{
    Doorbell, Entered, WhenFull,
    account::{Place, SendDrop},
    admission::{self, Entry, Limits},
    chunk::Chunk,
    shares::Leaving,
    state::{CHUNK_BYTES, State},
    waiters::Ticket,
};
use crate::{
    error::Refusal, ids::GroupId, net::clock::CoarseInstant, wire::count::Count,
    wire::frame::HEADER, wire::payload::Payload,
};
/// How a frame may enter the queue, and the share of its group.
#[derive(Debug, Copy, Clone)]
pub(super) struct Entries {
    queue: Entry,
    share: Entry,
}

impl Entries {
    /// There is room.
    pub(super) const FREE: Entries = Entries {
        queue: Entry::Free,
        share: Entry::Free,
    };

    /// Returns whether queued frames must make way.
    pub(super) fn evict(self) -> bool {
        self.queue == Entry::Evicting || self.share == Entry::Evicting
    }
}

impl<To: Copy + Eq> State<To> {
    // ---- frames come --------------------------------------------------------------------------

    /// As [`enter`](State::enter), where groups have shares.
    #[cold]
    #[inline(never)]
    pub(super) fn enter_share<P: Payload>(
        &mut self,
        limits: &Limits,
        to: To,
        (group, payload): (GroupId, P),
        now: CoarseInstant,
        when_full: WhenFull,
    ) -> Entered<P> {
        let len = HEADER + payload.byte_len();
        let admitted = self.admit_to_share(limits, group, len);
        if when_full == WhenFull::Refuse || !matches!(admitted, Err(Refusal::Full(_))) {
            self.account.offer(admitted, Count::one(len));
        }
        match admitted {
            Ok(()) => {
                let copied = self.store(limits, to, group, payload, now);
                Ok((self.take_doorbell(), copied))
            }
            Err(refusal) => Err((refusal, payload)),
        }
    }

    /// As [`admit`](State::admit), where groups have shares.
    #[cold]
    pub(super) fn admit_to_share(
        &mut self,
        limits: &Limits,
        group: GroupId,
        len: usize,
    ) -> Result<(), Refusal> {
        let entries = self.decide(limits, [group; 2], len, Count::ZERO)?;
        self.make_room(limits, group, len, entries);
        Ok(())
    }

    /// Decides whether a frame that replaces `older` may enter now. `asked` is what stands for its group where it is
    /// checked who may send, and `group` is whose share it needs.
    pub(super) fn decide(
        &self,
        limits: &Limits,
        [asked, group]: [GroupId; 2],
        len: usize,
        older: Count,
    ) -> Result<Entries, Refusal> {
        let mut occupancy = self.occupancy();
        occupancy.held -= older;
        let queue = admission::admit(limits, self.gate, occupancy, asked, len);
        // Where both are full, the share is named: it is what the sender can do something about.
        let share = match &self.shares {
            Some(shares) if matches!(queue, Ok(_) | Err(Refusal::Full(_))) => {
                shares.admit(group, len, older)?
            }
            _ => Entry::Free,
        };
        let queue = queue?;
        Ok(Entries { queue, share })
    }

    /// Evicts what has to make way for a frame that may enter.
    pub(super) fn make_room(
        &mut self,
        limits: &Limits,
        group: GroupId,
        len: usize,
        entries: Entries,
    ) {
        if entries.share == Entry::Evicting {
            self.evict_own(group, len);
        }
        // What the group evicted may have been enough.
        if entries.queue == Entry::Evicting {
            self.evict_for(limits, len);
        }
    }

    /// Appends the frame of a sender that has waited, and was granted room.
    pub(super) fn put_granted<P: Payload>(
        &mut self,
        limits: &Limits,
        to: To,
        group: GroupId,
        payload: P,
        now: CoarseInstant,
    ) -> (Doorbell, Option<P>) {
        if self.shares.is_none() {
            return self.put(limits, to, group, payload, now);
        }
        let frame = Count::one(HEADER + payload.byte_len());
        self.account.offer(Ok(()), frame);
        let copied = self.store(limits, to, group, payload, now);
        (self.take_doorbell(), copied)
    }

    /// Appends an admitted frame that is counted as accepted already.
    pub(super) fn store<P: Payload>(
        &mut self,
        limits: &Limits,
        to: To,
        group: GroupId,
        payload: P,
        now: CoarseInstant,
    ) -> Option<P> {
        let bytes = payload.byte_len();
        let number = self.account.next_number() - 1;
        let mut alone = false;
        if let Some(shares) = &mut self.shares {
            shares.comes(group, Count::one(HEADER + bytes), number);
            alone = shares.evict();
        }
        match self.chunks.back_mut() {
            Some(open)
                if bytes < limits.large_from
                    && open.takes(to, number, now, HEADER + bytes, CHUNK_BYTES)
                    && (!alone || open.group() == group) =>
            {
                open.append(group, payload.pieces(), CHUNK_BYTES);
                Some(payload)
            }
            _ => self.put_apart(limits, to, number, group, payload, now),
        }
    }

    // ---- frames go ----------------------------------------------------------------------------

    /// Drops the oldest queued frames of the group until it has room for one of `len` bytes.
    fn evict_own(&mut self, group: GroupId, len: usize) {
        while let Some(shares) = &mut self.shares
            && shares.lacks(group, len)
        {
            let oldest = shares.oldest(group);
            let from = self.chunks.partition_point(|chunk| chunk.first < oldest);
            let mut behind = self.chunks.range(from..);
            let found = behind.position(|chunk| chunk.group() == group);
            // Admission has checked that evicting queued frames of the group makes enough room.
            let index = from + found.expect("queued frames of the group take its share");
            let chunk = &mut self.chunks[index];
            let number = chunk.first;
            let evicted = chunk.pop_frame();
            shares.evicted(group, evicted, number);
            if chunk.frames == 0 {
                let emptied = self.chunks.remove(index);
                emptied.iter().for_each(|chunk| self.apart.goes(chunk));
                self.deferred.discard(emptied);
            }
            let overflow = Place::Dropped(SendDrop::Overflow);
            self.account.transfer(Place::Queued, overflow, evicted);
        }
    }

    /// Notes that a queued chunk is in flight now.
    pub(super) fn lends_of_share(&mut self, chunk: &Chunk<To>) {
        if let Some(shares) = &mut self.shares {
            shares.lent(chunk);
        }
    }

    /// Notes that a chunk was in flight and is queued again.
    pub(super) fn returns_to_share(&mut self, chunk: &Chunk<To>) {
        if let Some(shares) = &mut self.shares {
            shares.returns(chunk);
        }
    }

    /// Notes that the first `number` chunks are dropped.
    pub(super) fn first_leave_shares(&mut self, number: usize) {
        if let Some(shares) = &mut self.shares {
            let first = self.chunks.iter().take(number);
            first.for_each(|chunk| shares.goes(chunk));
        }
    }

    /// Notes that a queued chunk is dropped.
    pub(super) fn leaves_share(&mut self, chunk: &Chunk<To>) {
        if let Some(shares) = &mut self.shares {
            shares.goes(chunk);
        }
    }

    /// Notes that frames were in flight, and are written or dropped.
    pub(super) fn end_in_shares(&mut self, leaving: Option<Leaving>) {
        if let (Some(shares), Some(leaving)) = (&mut self.shares, leaving) {
            shares.end(leaving);
        }
    }

    // ---- those who wait -----------------------------------------------------------------------

    /// Puts a sender that waits behind the others, or holds it back. The caller grants what room there is.
    pub(super) fn join(&mut self, group: GroupId, len: usize) -> Ticket {
        match &mut self.shares {
            None => self.waiters.join(len),
            Some(shares) => {
                shares.wait(group, len);
                self.waiters.hold_back(group, len)
            }
        }
    }

    /// Gives back the place of a sender that waits, or the room that it was granted. Returns its waker if it was
    /// still waiting, to be dropped when no lock is held.
    pub(super) fn leave(&mut self, group: GroupId, ticket: Ticket, len: usize) -> Option<Waker> {
        let Some(shares) = &mut self.shares else {
            return self.waiters.leave(ticket, len);
        };
        let held_back = self.waiters.leave_held_back(group, ticket);
        shares.stop_waiting(group, len, held_back.is_some());
        match held_back {
            Some(waiter) => waiter.waker,
            None => self.waiters.leave(ticket, len),
        }
    }

    /// Lets on the senders that were held back and whose groups have room now. They stand in line then.
    #[cold]
    pub(super) fn let_on(&mut self) {
        debug_assert!(
            self.shares.as_ref().map(|shares| shares.held()) == Some(self.account.held()),
            "the groups have together what the queue holds"
        );
        while let Some(group) = self.shares.as_mut().and_then(|shares| shares.next_freed()) {
            while let Some(len) = self.waiters.first_held_back(group) {
                let granted = self.shares.as_ref().map(|shares| shares.grant(group, len));
                match granted.flatten() {
                    None => break,
                    Some(Entry::Free) => {}
                    Some(Entry::Evicting) => self.evict_own(group, len),
                }
                self.waiters.let_on(group);
                if let Some(shares) = &mut self.shares {
                    shares.let_on(group, len);
                }
            }
        }
    }
}
